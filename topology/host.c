/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/host.h"

#include <hwloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "topology/cgroup.h"

enum { CPUS = 64 * MT_CPUS_WORDS };

static struct mt_host host;
/* Of each CPU its core, L3, NUMA node and package: number of its first CPU, and 1; 0: unknown. */
static uint16_t unit_of[MT_LEVEL_NODE][CPUS];
static pthread_once_t host_once = PTHREAD_ONCE_INIT;

/* CPUs in the mask of the process, and the lowest of them. Masks grow with the kernel's limit. */
static uint32_t count_affinity(int *first_out)
{
    *first_out = 0;
    for (int room = 1024; room <= 1 << 20; room *= 2) {
        cpu_set_t *set = CPU_ALLOC(room);
        size_t bytes = CPU_ALLOC_SIZE(room);
        if (set == NULL)
            break;
        if (sched_getaffinity(getpid(), bytes, set) != 0) {
            CPU_FREE(set); /* EINVAL: the kernel's mask is larger */
            continue;
        }
        uint32_t count = (uint32_t)CPU_COUNT_S(bytes, set);
        while (*first_out < room - 1 && !CPU_ISSET_S(*first_out, bytes, set))
            (*first_out)++;
        CPU_FREE(set);
        return count > 0 ? count : 1;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

static uint64_t cache_bytes(hwloc_topology_t topology, hwloc_obj_t cpu, hwloc_obj_type_t type,
                            uint32_t *sharers_out)
{
    hwloc_obj_t cache = hwloc_get_ancestor_obj_by_type(topology, type, cpu);
    if (cache == NULL)
        return 0;
    if (sharers_out != NULL && hwloc_bitmap_weight(cache->cpuset) > 0)
        *sharers_out = (uint32_t)hwloc_bitmap_weight(cache->cpuset);
    return cache->attr->cache.size;
}

static hwloc_obj_t numa_of(hwloc_topology_t topology, hwloc_obj_t cpu)
{
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != NULL)
        if (hwloc_bitmap_isset(node->complete_cpuset, cpu->os_index))
            return node;
    return NULL;
}

/* Numbers are of all CPUs that there are: control groups may show other ones to other ranks. */
static void read_units(hwloc_topology_t topology)
{
    hwloc_obj_t cpu = NULL;
    while ((cpu = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, cpu)) != NULL) {
        const hwloc_obj_t units[MT_LEVEL_NODE] = {
            [MT_LEVEL_CORE] = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, cpu),
            [MT_LEVEL_L3] = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_L3CACHE, cpu),
            [MT_LEVEL_NUMA] = numa_of(topology, cpu),
            [MT_LEVEL_PACKAGE] = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_PACKAGE, cpu)};
        if (cpu->os_index >= CPUS)
            continue;
        uint16_t above = 1; /* the host */
        for (int level = MT_LEVEL_PACKAGE; level >= 0; level--) {
            int first = units[level] ? hwloc_bitmap_first(units[level]->complete_cpuset) : -1;
            if (first >= 0 && first < CPUS)
                above = (uint16_t)(first + 1);
            else if (level == MT_LEVEL_CORE)
                above = (uint16_t)(cpu->os_index + 1);
            unit_of[level][cpu->os_index] = above;
        }
    }
}

static void read_caches(int first_cpu)
{
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0)
        return;
    if (hwloc_topology_load(topology) == 0) {
        hwloc_obj_t cpu = hwloc_get_pu_obj_by_os_index(topology, (unsigned)first_cpu);
        int nodes = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
        read_units(topology);
        if (nodes > 0)
            host.numa_nodes = (uint32_t)nodes;
        if (cpu != NULL) {
            host.l1d_bytes = cache_bytes(topology, cpu, HWLOC_OBJ_L1CACHE, NULL);
            host.l2_bytes = cache_bytes(topology, cpu, HWLOC_OBJ_L2CACHE, NULL);
            host.l3_bytes = cache_bytes(topology, cpu, HWLOC_OBJ_L3CACHE, &host.l3_sharers);
        }
    }
    hwloc_topology_destroy(topology);
}

static void read_host(void)
{
    int first_cpu;
    host.numa_nodes = 1;
    host.l3_sharers = 1;
    host.affinity_cpus = count_affinity(&first_cpu);
    host.quota_millicpus = mt_cgroup_millicpus("");
    host.cpus = host.affinity_cpus;
    /* Half a CPU of quota cannot keep another rank spinning, so it does not count. */
    if (host.quota_millicpus > 0 && host.quota_millicpus / 1000 < host.cpus)
        host.cpus = host.quota_millicpus >= 1000 ? (uint32_t)(host.quota_millicpus / 1000) : 1;
    read_caches(first_cpu);
}

const struct mt_host *mt_host(void)
{
    pthread_once(&host_once, read_host);
    return &host;
}

uint32_t mt_host_unit(enum mt_level level, const struct mt_cpus *cpus)
{
    uint32_t found = 0;
    mt_host();
    for (uint32_t cpu = 0; cpu < CPUS; cpu++) {
        if (!(cpus->words[cpu / 64] >> cpu % 64 & 1))
            continue;
        uint32_t unit = unit_of[level][cpu];
        if (unit == 0 || (found != 0 && found != unit))
            return UINT32_MAX;
        found = unit;
    }
    return found != 0 ? found - 1 : UINT32_MAX;
}

/* 0: unknown. */
static uint64_t unused_bytes(void)
{
    unsigned long long kib = 0;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "re");
    while (file != NULL && kib == 0 && fgets(line, sizeof(line), file) != NULL)
        sscanf(line, "MemAvailable: %llu kB", &kib);
    if (file != NULL)
        fclose(file);
    return (uint64_t)kib * 1024;
}

static uint64_t room_bytes(uint64_t swap_bytes)
{
    uint64_t unused = unused_bytes(), granted = mt_cgroup_room_bytes("", swap_bytes);
    uint64_t room = unused + swap_bytes < granted ? unused + swap_bytes : granted;
    if (unused == 0)
        return 0;
    return room > 0 ? room : 1;
}

uint64_t mt_host_available_bytes(void)
{
    return room_bytes(0);
}

uint64_t mt_host_obtainable_bytes(void)
{
    struct sysinfo info;
    return sysinfo(&info) == 0 ? room_bytes((uint64_t)info.freeswap * info.mem_unit) : 0;
}
