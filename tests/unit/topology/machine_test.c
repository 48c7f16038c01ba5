/* SPDX-License-Identifier: Apache-2.0 */
/* A node as hwloc describes it: machines that hwloc makes up, one with cards and a GPU in a file,
 * this host, and files that are none. */
#include "topology/machine.h"

#include <hwloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];

static void new_path(void)
{
    strcpy(path, "/tmp/manta-machine-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
}

/* Let hwloc write the machine that its own short form describes. */
static void write_machine(const char *description)
{
    hwloc_topology_t topology;
    new_path();
    assert_int_equal(hwloc_topology_init(&topology), 0);
    assert_int_equal(hwloc_topology_set_synthetic(topology, description), 0);
    assert_int_equal(hwloc_topology_load(topology), 0);
    assert_int_equal(hwloc_topology_export_xml(topology, path, 0), 0);
    hwloc_topology_destroy(topology);
}

static void assert_machine(const char *description, uint32_t packages, uint32_t numas, uint32_t l3s,
                           uint32_t cores, uint32_t cpus)
{
    struct mt_cluster cluster;
    struct mt_error error;
    write_machine(description);
    assert_int_equal(mt_cluster_of_xml(path, &cluster, &error), 0);
    assert_int_equal(mt_box_total(&cluster.root, MT_LEVEL_NODE), 1);
    assert_int_equal(mt_box_total(&cluster.root, MT_LEVEL_PACKAGE), packages);
    assert_int_equal(mt_box_total(&cluster.root, MT_LEVEL_NUMA), numas);
    assert_int_equal(mt_box_total(&cluster.root, MT_LEVEL_L3), l3s);
    assert_int_equal(mt_box_total(&cluster.root, MT_LEVEL_CORE), cores);
    const struct mt_box *box = &cluster.root;
    while (box->child_count > 0)
        box = &box->children[0];
    assert_int_equal(box->cpus, cpus);
    assert_int_equal(box->usable, 0);
    mt_cluster_close(&cluster);
    unlink(path);
}

static void made_up_machines_are_read(void **state)
{
    (void)state;
    assert_machine("pack:2 [numa] l3:4 core:8 pu:2", 2, 2, 8, 64, 2);
    assert_machine("pack:2 numa:4 l3:1 core:6 pu:1", 2, 8, 8, 48, 1);
    assert_machine("[numa] core:3 pu:1", 0, 1, 0, 3, 1);
    assert_machine("pack:1 l3:2 [numa] [numa] core:2 pu:1", 1, 2, 2, 4,
                   1);                                               /* two kinds of memory */
    assert_machine("pack:2 l3:1 numa:2 core:2 pu:1", 2, 4, 4, 8, 1); /* an L3 over two nodes */
}

#define CPUS(set)                                                                                  \
    " cpuset=\"" set "\" complete_cpuset=\"" set "\" nodeset=\"0x1\" complete_nodeset=\"0x1\""
static const char with_devices[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n"
    "<topology version=\"2.0\">\n"
    "<object type=\"Machine\" os_index=\"0\"" CPUS(
        "0x3") " allowed_cpuset=\"0x3\" "
               "allowed_nodeset=\"0x1\" gp_index=\"1\"><info name=\"HostName\" "
               "value=\"gpu&lt;17\"/>\n"
               "<object type=\"NUMANode\" os_index=\"0\"" CPUS(
                   "0x3") " gp_index=\"2\" "
                          "local_memory=\"4096\"/>\n"
                          "<object type=\"Core\" os_index=\"0\"" CPUS(
                              "0x3") " gp_index=\"3\">\n"
                                     "<object type=\"PU\" os_index=\"0\"" CPUS(
                                         "0x1") " gp_index=\"4\"/>\n"
                                                "<object type=\"PU\" os_index=\"1\"" CPUS(
                                                    "0x2") " gp_index=\"5\"/></object>\n"
                                                           "<object type=\"Bridge\" gp_index=\"6\" "
                                                           "bridge_type=\"0-1\" depth=\"0\" "
                                                           "bridge_pci=\"0000:[00-09]\">\n"
                                                           "<object type=\"Bridge\" gp_index=\"7\" "
                                                           "bridge_type=\"1-1\" depth=\"1\" "
                                                           "bridge_pci=\"0000:[01-04]\" "
                                                           "pci_busid=\"0000:00:01.0\" "
                                                           "pci_type=\"0604 [1000:c010] "
                                                           "[1000:c010] b0\" "
                                                           "pci_link_speed=\"0\">\n"
                                                           "<object type=\"PCIDev\" gp_index=\"8\" "
                                                           "pci_busid=\"0000:02:00.0\" "
                                                           "pci_type=\"0207 [15b3:1021] "
                                                           "[15b3:1021] 00\" "
                                                           "pci_link_speed=\"0\">\n"
                                                           "<object type=\"OSDev\" gp_index=\"9\" "
                                                           "name=\"ib0\" osdev_type=\"2\"/>\n"
                                                           "<object type=\"OSDev\" gp_index=\"10\" "
                                                           "name=\"mlx5_0\" "
                                                           "osdev_type=\"3\"/></object>\n"
                                                           "<object type=\"PCIDev\" "
                                                           "gp_index=\"11\" "
                                                           "pci_busid=\"0000:03:00.0\" "
                                                           "pci_type=\"0302 [10de:2330] "
                                                           "[10de:2330] a1\" "
                                                           "pci_link_speed=\"0\"/></object>\n"
                                                           "<object type=\"PCIDev\" "
                                                           "gp_index=\"12\" "
                                                           "pci_busid=\"0000:00:05.0\" "
                                                           "pci_type=\"0200 [8086:1593] "
                                                           "[8086:1593] 00\" "
                                                           "pci_link_speed=\"0\">\n"
                                                           "<object type=\"OSDev\" gp_index=\"13\" "
                                                           "name=\"eth0\" "
                                                           "osdev_type=\"2\"/></object>\n"
                                                           "<object type=\"PCIDev\" "
                                                           "gp_index=\"14\" "
                                                           "pci_busid=\"0000:00:06.0\" "
                                                           "pci_type=\"0300 [1a03:2000] "
                                                           "[1a03:2000] 00\" "
                                                           "pci_link_speed=\"0\"/></object>\n"
                                                           "</object></topology>\n";

static void write_file(const char *text, size_t bytes)
{
    new_path();
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void devices_are_read(void **state)
{
    (void)state;
    struct mt_cluster cluster;
    struct mt_error error;
    write_file(with_devices, sizeof with_devices - 1);
    assert_int_equal(mt_cluster_of_xml(path, &cluster, &error), 0);
    unlink(path);
    const struct mt_box *node = &cluster.root.children[0];
    const struct mt_devices *devices = node->devices;
    assert_string_equal(node->name, "gpu<17");
    assert_int_equal(node->nics, 2);
    assert_int_equal(node->gpus, 1);
    assert_string_equal(devices->nics[0].name, "ib0");
    assert_string_equal(devices->nics[0].rdma, "mlx5_0");
    assert_string_equal(devices->nics[0].device.pci, "0000:02:00.0");
    assert_string_equal(devices->nics[0].device.path, "pci0000:00/0000:00:01.0/0000:02:00.0");
    assert_string_equal(devices->gpus[0].vendor, "NVIDIA");
    assert_int_equal(mt_devices_distance(&devices->gpus[0].device, &devices->nics[0].device),
                     MT_DISTANCE_SWITCH);
    assert_int_equal(mt_devices_distance(&devices->gpus[0].device, &devices->nics[1].device),
                     MT_DISTANCE_NUMA);
    mt_cluster_close(&cluster);
}

static void other_files_are_refused(void **state)
{
    (void)state;
    struct mt_cluster cluster;
    struct mt_error error;
    assert_int_equal(mt_cluster_of_xml("/nowhere/x.xml", &cluster, &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "/nowhere/x.xml: No such file or directory"));
    const char *const files[] = {"", "{}", "<html></html>",
                                 "<topology version=\"2.0\"></topology>"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        write_file(files[i], strlen(files[i]));
        assert_int_equal(mt_cluster_of_xml(path, &cluster, &error), MANTA_EINVAL);
        unlink(path);
    }
    for (size_t cut = 40; cut < sizeof with_devices - 20; cut += 97) {
        write_file(with_devices, cut);
        assert_int_equal(mt_cluster_of_xml(path, &cluster, &error), MANTA_EINVAL);
        unlink(path);
    }
}

static void this_host_is_described(void **state)
{
    (void)state;
    struct mt_cluster cluster;
    struct mt_topology *topology;
    struct mt_error error;
    assert_int_equal(mt_cluster_of_host(&cluster, &error), 0);
    assert_int_equal(mt_box_total(&cluster.root, MT_LEVEL_NODE), 1);
    assert_true(mt_box_total(&cluster.root, MT_LEVEL_CORE) >= 1);
    assert_int_equal(mt_cluster_topology(&cluster, &topology, &error), 0);
    assert_int_equal(topology->groups[MT_LEVEL_NODE], 1);
    mt_topology_free(topology);
    mt_cluster_close(&cluster);
}

int main(void)
{
    setenv("HWLOC_HIDE_ERRORS", "2", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_up_machines_are_read),
        cmocka_unit_test(devices_are_read),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(this_host_is_described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
