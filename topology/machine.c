/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/machine.h"

#include <errno.h>
#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/wire.h"
#include "topology/host.h"

/* A walk over hwloc's objects. Levels are taken by their CPUs: hwloc nests them differently from
 * machine to machine, and memory beside them. */
struct walk {
    hwloc_topology_t topology;
    hwloc_const_bitmap_t usable; /* NULL: not known */
    int failed;                  /* no memory */
};

static const hwloc_obj_type_t types[MT_LEVEL_NODE] = {[MT_LEVEL_CORE] = HWLOC_OBJ_CORE,
                                                      [MT_LEVEL_L3] = HWLOC_OBJ_L3CACHE,
                                                      [MT_LEVEL_NUMA] = HWLOC_OBJ_NUMANODE,
                                                      [MT_LEVEL_PACKAGE] = HWLOC_OBJ_PACKAGE};

static void describe(const struct walk *walk, hwloc_obj_t object, hwloc_const_bitmap_t cpus,
                     struct mt_box *box)
{
    hwloc_obj_t l2;
    switch (box->level) {
    case MT_LEVEL_L3:
        box->bytes = object->attr->cache.size;
        break;
    case MT_LEVEL_NUMA:
        box->bytes = object->attr->numanode.local_memory;
        break;
    case MT_LEVEL_CORE:
        l2 = hwloc_get_ancestor_obj_by_type(walk->topology, HWLOC_OBJ_L2CACHE, object);
        box->bytes = l2 ? l2->attr->cache.size : 0;
        box->cpus = (uint32_t)hwloc_bitmap_weight(cpus);
        for (int cpu = hwloc_bitmap_first(cpus); walk->usable && cpu >= 0;
             cpu = hwloc_bitmap_next(cpus, cpu))
            box->usable += (uint32_t)hwloc_bitmap_isset(walk->usable, (unsigned)cpu);
        break;
    default:
        break;
    }
}

static void fill(struct walk *walk, struct mt_box *box, hwloc_const_bitmap_t cpus, int level);

/* The objects of a level that have some of these CPUs; those that no object has are in rest. */
static void fill_level(struct walk *walk, struct mt_box *box, hwloc_bitmap_t rest, int level)
{
    hwloc_bitmap_t inside = hwloc_bitmap_alloc();
    hwloc_obj_t object = NULL;
    walk->failed |= !inside;
    while (!walk->failed &&
           (object = hwloc_get_next_obj_by_type(walk->topology, types[level], object)) != NULL) {
        /* Memory of two kinds may have the same CPUs: the first stands for both. */
        hwloc_bitmap_and(inside, object->cpuset, rest);
        if (hwloc_bitmap_iszero(inside))
            continue;
        struct mt_box *child = mt_box_add(box, (enum mt_level)level);
        walk->failed |= !child;
        if (!child)
            break;
        describe(walk, object, inside, child);
        hwloc_bitmap_andnot(rest, rest, inside);
        fill(walk, child, inside, level - 1);
    }
    hwloc_bitmap_free(inside);
}

/* Everything from this level down that has these CPUs. */
static void fill(struct walk *walk, struct mt_box *box, hwloc_const_bitmap_t cpus, int level)
{
    hwloc_bitmap_t rest = hwloc_bitmap_dup(cpus);
    walk->failed |= !rest;
    for (; level >= 0 && !walk->failed && !hwloc_bitmap_iszero(rest); level--)
        fill_level(walk, box, rest, level);
    hwloc_bitmap_free(rest);
}

/* As sysfs writes it: "pci0000:00/0000:00:01.0/0000:02:00.0". */
static void describe_pci(hwloc_topology_t topology, hwloc_obj_t pci, struct mt_device *device)
{
    char way[sizeof device->path];
    const struct hwloc_pcidev_attr_s *at = &pci->attr->pcidev;
    hwloc_obj_t near = hwloc_get_non_io_ancestor_obj(topology, pci);
    snprintf(device->pci, sizeof device->pci, "%04x:%02x:%02x.%01x", at->domain & 0xffff, at->bus,
             at->dev, at->func & 7);
    device->numa = near && near->nodeset && hwloc_bitmap_weight(near->nodeset) == 1
                       ? hwloc_bitmap_first(near->nodeset)
                       : -1;
    memcpy(device->path, device->pci, sizeof device->pci);
    for (hwloc_obj_t up = pci->parent; up && up->type == HWLOC_OBJ_BRIDGE; up = up->parent) {
        const struct hwloc_bridge_attr_s *bridge = &up->attr->bridge;
        const struct hwloc_pcidev_attr_s *from = &bridge->upstream.pci;
        memcpy(way, device->path, sizeof way);
        if (bridge->upstream_type == HWLOC_OBJ_BRIDGE_PCI)
            snprintf(device->path, sizeof device->path, "%04x:%02x:%02x.%01x/%.200s",
                     from->domain & 0xffff, from->bus, from->dev, from->func & 7, way);
        else
            snprintf(device->path, sizeof device->path, "pci%04x:%02x/%.200s",
                     bridge->downstream.pci.domain & 0xffff, bridge->downstream.pci.secondary_bus,
                     way);
    }
}

/* The first OS device of the type below a PCI device; "" if there is none. */
static void os_name(hwloc_obj_t pci, hwloc_obj_osdev_type_t type, char *name, size_t name_bytes)
{
    for (hwloc_obj_t child = pci->io_first_child; child; child = child->next_sibling)
        if (child->type == HWLOC_OBJ_OS_DEVICE && child->attr->osdev.type == type && child->name &&
            !name[0])
            snprintf(name, name_bytes, "%s", child->name);
}

static void read_devices(hwloc_topology_t topology, struct mt_devices *devices)
{
    hwloc_obj_t pci = NULL;
    memset(devices, 0, sizeof *devices);
    while ((pci = hwloc_get_next_pcidev(topology, pci)) != NULL) {
        struct mt_nic nic;
        struct mt_gpu gpu;
        memset(&nic, 0, sizeof nic);
        memset(&gpu, 0, sizeof gpu);
        os_name(pci, HWLOC_OBJ_OSDEV_NETWORK, nic.name, sizeof nic.name);
        os_name(pci, HWLOC_OBJ_OSDEV_OPENFABRICS, nic.rdma, sizeof nic.rdma);
        describe_pci(topology, pci, &nic.device);
        gpu.device = nic.device;
        if ((nic.name[0] || nic.rdma[0]) && devices->nic_count < MT_NICS)
            devices->nics[devices->nic_count++] = nic;
        if (mt_devices_is_gpu(pci->attr->pcidev.class_id, pci->attr->pcidev.vendor_id,
                              gpu.vendor) &&
            devices->gpu_count < MT_GPUS)
            devices->gpus[devices->gpu_count++] = gpu;
    }
}

/* The node; its devices are the caller's to fill in. */
static int make_node(struct walk *walk, struct mt_cluster *cluster, struct mt_box **node_out)
{
    hwloc_obj_t root = hwloc_get_root_obj(walk->topology);
    struct mt_box *node = mt_box_add(&cluster->root, MT_LEVEL_NODE);
    *node_out = node;
    if (!node)
        return MANTA_ENOMEM;
    node->devices = calloc(1, sizeof *node->devices);
    fill(walk, node, root->cpuset, MT_LEVEL_PACKAGE);
    mt_box_fold(node);
    return node->devices && !walk->failed ? 0 : MANTA_ENOMEM;
}

static int finish(struct mt_cluster *cluster, struct mt_box *node, int rc, struct mt_error *error)
{
    if (rc) {
        mt_cluster_close(cluster);
        return mt_error_set(error, rc, "no memory to describe a host");
    }
    node->nics = node->devices->nic_count;
    node->gpus = node->devices->gpu_count;
    uint32_t mbits = mt_devices_mbits(node->devices);
    if (mbits)
        cluster->uplink_ps_per_byte[MT_LEVEL_NODE] = (UINT64_C(8000000) + mbits - 1) / mbits;
    return 0;
}

int mt_cluster_of_host(struct mt_cluster *cluster_out, struct mt_error *error)
{
    struct mt_cpus cpus;
    struct walk walk = {.failed = 0};
    struct mt_box *node = NULL;
    mt_cluster_init(cluster_out);
    if (hwloc_topology_init(&walk.topology) != 0)
        return mt_error_set(error, MANTA_ENOMEM, "no memory to describe a host");
    hwloc_topology_set_flags(walk.topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
    if (hwloc_topology_load(walk.topology) != 0) {
        hwloc_topology_destroy(walk.topology);
        return mt_error_set(error, MANTA_ESYSTEM, "hwloc cannot read this host");
    }
    hwloc_bitmap_t usable = hwloc_bitmap_alloc();
    mt_cpus_of_thread(&cpus);
    for (unsigned c = 0; usable && c < 64 * MT_CPUS_WORDS; c++)
        if (cpus.words[c / 64] >> c % 64 & 1)
            hwloc_bitmap_set(usable, c);
    walk.usable = usable;
    int rc = make_node(&walk, cluster_out, &node);
    hwloc_bitmap_free(usable);
    hwloc_topology_destroy(walk.topology);
    if (rc == 0) {
        mt_devices_read("", node->devices);
        if (gethostname(node->name, sizeof node->name - 1) != 0)
            node->name[0] = 0;
    }
    return finish(cluster_out, node, rc, error);
}

int mt_cluster_of_xml(const char *path, struct mt_cluster *cluster_out, struct mt_error *error)
{
    struct walk walk = {.failed = 0};
    struct mt_box *node = NULL;
    mt_cluster_init(cluster_out);
    if (access(path, R_OK) != 0)
        return mt_error_set(error, MANTA_EINVAL, "cannot read %.300s: %s", path, strerror(errno));
    if (hwloc_topology_init(&walk.topology) != 0)
        return mt_error_set(error, MANTA_ENOMEM, "no memory to describe a host");
    hwloc_topology_set_io_types_filter(walk.topology, HWLOC_TYPE_FILTER_KEEP_ALL);
    if (hwloc_topology_set_xml(walk.topology, path) != 0 ||
        hwloc_topology_load(walk.topology) != 0) {
        hwloc_topology_destroy(walk.topology);
        return mt_error_set(error, MANTA_EINVAL,
                            "%.300s is no topology that hwloc can read; lstopo FILE.xml writes one",
                            path);
    }
    int rc = make_node(&walk, cluster_out, &node);
    if (rc == 0) {
        const char *name =
            hwloc_obj_get_info_by_name(hwloc_get_root_obj(walk.topology), "HostName");
        snprintf(node->name, sizeof node->name, "%.60s", name ? name : "");
        read_devices(walk.topology, node->devices);
    }
    hwloc_topology_destroy(walk.topology);
    return finish(cluster_out, node, rc, error);
}
