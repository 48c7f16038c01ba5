/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/devices.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VENDOR_NVIDIA = 0x10de, VENDOR_AMD = 0x1002 };
enum { CLASS_VGA = 0x0300, CLASS_3D = 0x0302, CLASS_DISPLAY = 0x0380, CLASS_ACCELERATOR = 0x1200 };

static FILE *open_in(const char *folder, const char *file)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s", folder, file);
    return length > 0 && (size_t)length < sizeof path ? fopen(path, "re") : NULL;
}

/* A number in a file: decimal, or hexadecimal after 0x. fallback where there is none. */
static long read_number(const char *folder, const char *name, long fallback)
{
    long value = fallback;
    FILE *file = open_in(folder, name);
    if (file && fscanf(file, "%li", &value) != 1)
        value = fallback;
    if (file)
        fclose(file);
    return value;
}

/* "0000:3b:00.0" */
static int is_pci_address(const char *text, size_t length)
{
    static const char form[] = "hhhh:hh:hh.h";
    if (length != sizeof form - 1)
        return 0;
    for (size_t i = 0; i < length; i++)
        if (form[i] == 'h' ? !isxdigit((unsigned char)text[i]) : form[i] != text[i])
            return 0;
    return 1;
}

/* Of a folder in sysfs, or a link to one: cut behind the last PCI address in it. */
static void read_device(const char *folder, struct mt_device *device)
{
    char real[PATH_MAX];
    memset(device, 0, sizeof *device);
    device->numa = (int)read_number(folder, "numa_node", -1);
    const char *begin = realpath(folder, real) ? strstr(real, "/devices/") : NULL;
    if (!begin)
        return;
    begin += strlen("/devices/");
    size_t end = 0;
    for (const char *at = begin; *at; at += strspn(at, "/")) {
        size_t length = strcspn(at, "/");
        if (is_pci_address(at, length)) {
            snprintf(device->pci, sizeof device->pci, "%.*s", (int)length, at);
            end = (size_t)(at - begin) + length;
        }
        at += length;
    }
    snprintf(device->path, sizeof device->path, "%.*s", (int)end, begin);
}

/* The first name in a folder, "" if it has none. */
static void first_name(const char *folder, char *name, size_t name_bytes)
{
    name[0] = 0;
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    while (entries && !name[0] && (entry = readdir(entries)) != NULL)
        if (entry->d_name[0] != '.' && strlen(entry->d_name) < name_bytes)
            memcpy(name, entry->d_name, strlen(entry->d_name) + 1);
    if (entries)
        closedir(entries);
}

/* Call visit for each name in root/sys/which. */
static void each(const char *root, const char *which, struct mt_devices *devices,
                 void (*visit)(struct mt_devices *devices, const char *folder, const char *name))
{
    char folder[PATH_MAX], path[PATH_MAX];
    if (snprintf(folder, sizeof folder, "%s/sys/%s", root, which) >= (int)sizeof folder)
        return;
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    while (entries && (entry = readdir(entries)) != NULL)
        if (entry->d_name[0] != '.' &&
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < (int)sizeof path)
            visit(devices, path, entry->d_name);
    if (entries)
        closedir(entries);
}

static struct mt_nic *add_nic(struct mt_devices *devices, const char *folder, const char *device)
{
    char path[PATH_MAX];
    if (devices->nic_count == MT_NICS ||
        snprintf(path, sizeof path, "%s/%s", folder, device) >= (int)sizeof path)
        return NULL;
    struct mt_nic *nic = &devices->nics[devices->nic_count++];
    memset(nic, 0, sizeof *nic);
    read_device(path, &nic->device);
    return nic;
}

static uint32_t read_speed(const char *folder)
{
    long speed = read_number(folder, "speed", 0);
    return speed > 0 && speed < INT_MAX ? (uint32_t)speed : 0;
}

static void visit_card(struct mt_devices *devices, const char *folder, const char *name)
{
    char path[PATH_MAX];
    if (strlen(name) >= sizeof devices->nics[0].name ||
        snprintf(path, sizeof path, "%s/device", folder) >= (int)sizeof path ||
        !realpath(path, (char[PATH_MAX]){0}))
        return;
    struct mt_nic *nic = add_nic(devices, folder, "device");
    if (!nic)
        return;
    memcpy(nic->name, name, strlen(name) + 1);
    nic->mbits = read_speed(folder);
    if (snprintf(path, sizeof path, "%s/device/infiniband", folder) < (int)sizeof path)
        first_name(path, nic->rdma, sizeof nic->rdma);
}

static void visit_interface(struct mt_devices *devices, const char *folder, const char *name)
{
    uint32_t mbits = read_speed(folder);
    struct mt_nic *nic =
        mbits && strlen(name) < sizeof nic->name ? add_nic(devices, folder, "device") : NULL;
    if (!nic)
        return;
    memcpy(nic->name, name, strlen(name) + 1);
    nic->mbits = mbits;
}

/* RDMA devices that have no interface. */
static void visit_rdma(struct mt_devices *devices, const char *folder, const char *name)
{
    for (uint32_t i = 0; i < devices->nic_count; i++)
        if (strcmp(devices->nics[i].rdma, name) == 0)
            return;
    struct mt_nic *nic =
        strlen(name) < sizeof nic->rdma ? add_nic(devices, folder, "device") : NULL;
    double gbits = 0;
    if (!nic)
        return;
    memcpy(nic->rdma, name, strlen(name) + 1);
    FILE *file = open_in(folder, "ports/1/rate"); /* "100 Gb/sec (4X EDR)" */
    if (file && fscanf(file, "%lf Gb/sec", &gbits) == 1 && gbits > 0 && gbits < 1e6)
        nic->mbits = (uint32_t)(gbits * 1000);
    if (file)
        fclose(file);
}

int mt_devices_is_gpu(uint32_t class_id, uint32_t vendor, char vendor_out[16])
{
    int is_known = vendor == VENDOR_NVIDIA || vendor == VENDOR_AMD;
    snprintf(vendor_out, 16, "%04x", vendor & 0xffff);
    if (is_known)
        snprintf(vendor_out, 16, "%s", vendor == VENDOR_AMD ? "AMD" : "NVIDIA");
    return class_id == CLASS_3D || class_id == CLASS_ACCELERATOR ||
           (is_known && (class_id == CLASS_VGA || class_id == CLASS_DISPLAY));
}

static void visit_pci(struct mt_devices *devices, const char *folder, const char *name)
{
    uint32_t class = (uint32_t)read_number(folder, "class", 0) >> 8;
    struct mt_gpu gpu;
    (void)name;
    if (!mt_devices_is_gpu(class, (uint32_t)read_number(folder, "vendor", 0), gpu.vendor) ||
        devices->gpu_count == MT_GPUS)
        return;
    read_device(folder, &gpu.device);
    devices->gpus[devices->gpu_count++] = gpu;
}

static int by_name(const void *a, const void *b)
{
    const struct mt_nic *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->rdma, y->rdma);
}

static int by_address(const void *a, const void *b)
{
    const struct mt_gpu *x = a, *y = b;
    return strcmp(x->device.pci, y->device.pci);
}

void mt_devices_read(const char *root, struct mt_devices *devices_out)
{
    memset(devices_out, 0, sizeof *devices_out);
    each(root, "class/net", devices_out, visit_card);
    each(root, "class/infiniband", devices_out, visit_rdma);
    if (devices_out->nic_count == 0)
        each(root, "class/net", devices_out, visit_interface);
    each(root, "bus/pci/devices", devices_out, visit_pci);
    qsort(devices_out->nics, devices_out->nic_count, sizeof devices_out->nics[0], by_name);
    qsort(devices_out->gpus, devices_out->gpu_count, sizeof devices_out->gpus[0], by_address);
}

uint32_t mt_devices_mbits(const struct mt_devices *devices)
{
    uint64_t cards = 0;
    uint32_t fastest = 0;
    for (uint32_t i = 0; i < devices->nic_count; i++) {
        const struct mt_nic *nic = &devices->nics[i];
        if (nic->device.pci[0])
            cards += nic->mbits;
        else if (nic->mbits > fastest)
            fastest = nic->mbits;
    }
    if (cards == 0)
        return fastest;
    return cards < UINT32_MAX ? (uint32_t)cards : UINT32_MAX;
}

enum mt_distance mt_devices_distance(const struct mt_device *a, const struct mt_device *b)
{
    /* The first part of the way is the root of the bus; with a second one they share a bridge. */
    size_t shared = 0, bridges = 0;
    while (a->path[shared] && a->path[shared] == b->path[shared]) {
        shared++;
        char x = a->path[shared], y = b->path[shared];
        bridges += (x == '/' || !x) && (y == '/' || !y);
    }
    if (bridges > 1)
        return MT_DISTANCE_SWITCH;
    return a->numa == b->numa ? MT_DISTANCE_NUMA : MT_DISTANCE_OTHER;
}
