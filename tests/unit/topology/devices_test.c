/* SPDX-License-Identifier: Apache-2.0 */
/* Cards and GPUs in a copy of sysfs: two cards and four GPUs behind switches, things that are no
 * GPU, a container's interface, and nothing at all. */
#include "topology/devices.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static void make_root(void)
{
    strcpy(root, "/tmp/manta-sysfs-XXXXXX");
    assert_non_null(mkdtemp(root));
}

static void remove_root(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

/* A file below root, and the folders on its way. */
static void put(const char *path, const char *text)
{
    char full[1024];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = 0;
        mkdir(full, 0777);
        *at = '/';
    }
    FILE *file = fopen(full, "we");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void put_link(const char *path, const char *target)
{
    char full[1024], keep[1024];
    snprintf(keep, sizeof keep, "%s.keep", path);
    put(keep, ""); /* makes the folder */
    snprintf(full, sizeof full, "%s%s.keep", root, path);
    assert_int_equal(unlink(full), 0);
    full[strlen(full) - 5] = 0;
    snprintf(keep, sizeof keep, "%s%s", root, target);
    assert_int_equal(symlink(keep, full), 0);
}

static void put_in(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    put(path, text);
}

static void add_pci(const char *way, const char *class, const char *vendor, const char *numa)
{
    char device[300], link[300];
    snprintf(device, sizeof device, "/sys/devices/%s", way);
    put_in(device, "class", class);
    put_in(device, "vendor", vendor);
    put_in(device, "numa_node", numa);
    snprintf(link, sizeof link, "/sys/bus/pci/devices/%s", strrchr(way, '/') + 1);
    put_link(link, device);
}

static void add_card(const char *way, const char *name, const char *rdma, const char *speed)
{
    char path[360], device[300];
    snprintf(device, sizeof device, "/sys/devices/%s", way);
    add_pci(way, "0x020000", "0x15b3", "0\n");
    snprintf(path, sizeof path, "/sys/class/net/%s", name);
    put_in(path, "speed", speed);
    snprintf(path, sizeof path, "/sys/class/net/%s/device", name);
    put_link(path, device);
    if (!rdma)
        return;
    snprintf(path, sizeof path, "%s/infiniband/%s", device, rdma);
    put_in(path, "node_type", "1: CA");
    snprintf(path, sizeof path, "/sys/class/infiniband/%s", rdma);
    put_in(path, "ports/1/rate", "400 Gb/sec (4X NDR)\n");
    snprintf(path, sizeof path, "/sys/class/infiniband/%s/device", rdma);
    put_link(path, device);
}

static void cards_and_gpus_are_found(void **state)
{
    (void)state;
    struct mt_devices *devices = calloc(1, sizeof *devices);
    make_root();
    add_card("pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0", "ens1", "mlx5_0", "400000\n");
    add_card("pci0000:00/0000:00:02.0/0000:05:00.0/0000:06:00.0", "ens2", NULL, "-1\n");
    add_pci("pci0000:00/0000:00:01.0/0000:01:01.0/0000:03:00.0", "0x030200", "0x10de", "0\n");
    add_pci("pci0000:00/0000:00:03.0/0000:08:00.0", "0x030200", "0x10de", "0\n");
    add_pci("pci0000:80/0000:80:01.0/0000:81:00.0", "0x120000", "0x1e36", "1\n");
    add_pci("pci0000:80/0000:80:02.0/0000:82:00.0", "0x038000", "0x1002", "1\n");
    add_pci("pci0000:00/0000:00:04.0/0000:09:00.0", "0x030000", "0x1a03", "0\n"); /* a console */
    put("/sys/class/net/lo/speed", "");
    put("/sys/class/net/docker0/speed", "10000\n");
    put("/sys/class/infiniband/mlx5_9/ports/1/rate", "100 Gb/sec (4X EDR)\n");
    mt_devices_read(root, devices);
    assert_int_equal(devices->nic_count, 3);
    const struct mt_nic *bare = &devices->nics[0], *first = &devices->nics[1];
    assert_string_equal(bare->name, "");
    assert_string_equal(bare->rdma, "mlx5_9");
    assert_int_equal(bare->mbits, 100000);
    assert_string_equal(first->name, "ens1");
    assert_string_equal(first->rdma, "mlx5_0");
    assert_string_equal(first->device.pci, "0000:02:00.0");
    assert_int_equal(first->device.numa, 0);
    assert_int_equal(first->mbits, 400000);
    assert_int_equal(devices->nics[2].mbits, 0);
    assert_string_equal(devices->nics[2].rdma, "");
    assert_int_equal(mt_devices_mbits(devices), 400000);
    assert_int_equal(devices->gpu_count, 4);
    const struct mt_gpu *gpus = devices->gpus;
    assert_string_equal(gpus[0].vendor, "NVIDIA");
    assert_string_equal(gpus[0].device.pci, "0000:03:00.0");
    assert_string_equal(gpus[2].vendor, "1e36");
    assert_string_equal(gpus[3].vendor, "AMD");
    assert_int_equal(mt_devices_distance(&first->device, &gpus[0].device), MT_DISTANCE_SWITCH);
    assert_int_equal(mt_devices_distance(&first->device, &gpus[1].device), MT_DISTANCE_NUMA);
    assert_int_equal(mt_devices_distance(&first->device, &gpus[2].device), MT_DISTANCE_OTHER);
    assert_int_equal(mt_devices_distance(&gpus[2].device, &gpus[3].device), MT_DISTANCE_NUMA);
    remove_root();
    free(devices);
}

static void a_container_s_interfaces_stand_for_cards(void **state)
{
    (void)state;
    struct mt_devices *devices = calloc(1, sizeof *devices);
    make_root();
    put("/sys/class/net/lo/speed", "");
    put("/sys/class/net/eth0/speed", "10000\n");
    put("/sys/class/net/eth1/speed", "25000\n");
    put("/sys/class/net/eth2/speed", "nonsense\n");
    mt_devices_read(root, devices);
    assert_int_equal(devices->nic_count, 2);
    assert_string_equal(devices->nics[0].name, "eth0");
    assert_string_equal(devices->nics[0].device.pci, "");
    assert_int_equal(devices->nics[0].device.numa, -1);
    assert_int_equal(mt_devices_mbits(devices), 25000);
    remove_root();
    free(devices);
}

static void nothing_shown_is_nothing_there(void **state)
{
    (void)state;
    struct mt_devices *devices = calloc(1, sizeof *devices);
    mt_devices_read("/nowhere", devices);
    assert_int_equal(devices->nic_count, 0);
    assert_int_equal(devices->gpu_count, 0);
    assert_int_equal(mt_devices_mbits(devices), 0);
    mt_devices_read("", devices); /* whatever this host has */
    assert_true(devices->nic_count <= MT_NICS && devices->gpu_count <= MT_GPUS);
    free(devices);
}

static void bridges_are_compared_whole(void **state)
{
    (void)state;
    struct mt_device a = {.path = "pci0000:00/0000:00:01.0/0000:02:00.0"};
    struct mt_device b = {.path = "pci0000:00/0000:00:01.1/0000:03:00.0"};
    struct mt_device none = {.numa = 1};
    assert_int_equal(mt_devices_distance(&a, &b), MT_DISTANCE_NUMA);
    assert_int_equal(mt_devices_distance(&a, &none), MT_DISTANCE_OTHER);
    strcpy(b.path, "pci0000:00/0000:00:01.0");
    assert_int_equal(mt_devices_distance(&a, &b), MT_DISTANCE_SWITCH);
    strcpy(b.path, "pci0000:0");
    assert_int_equal(mt_devices_distance(&a, &b), MT_DISTANCE_NUMA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cards_and_gpus_are_found),
        cmocka_unit_test(a_container_s_interfaces_stand_for_cards),
        cmocka_unit_test(nothing_shown_is_nothing_there),
        cmocka_unit_test(bridges_are_compared_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
