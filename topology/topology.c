/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/topology.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

static const struct mt_topology_link on_node = {
    .alpha_ns = 400, .core_ns = 300, .beta_ps_per_byte = 100};
static const struct mt_topology_link on_network = {
    .alpha_ns = 1000, .core_ns = 2000, .beta_ps_per_byte = 200, .copy_ps_per_byte = 180};

/* Of 100 Gbit/s. */
static const struct mt_topology_link on_rdma = {
    .alpha_ns = 1500, .core_ns = 1000, .beta_ps_per_byte = 80};

const struct mt_topology_link *mt_topology_assumed(enum mt_level level)
{
    return level <= MT_LEVEL_NODE ? &on_node : &on_network;
}

const struct mt_topology_link *mt_topology_assumed_of_rdma(enum mt_level level)
{
    return level <= MT_LEVEL_NODE ? &on_node : &on_rdma;
}

void mt_topology_use_rdma(struct mt_topology *topology)
{
    topology->is_rdma = 1;
    for (int at = MT_LEVEL_NODE + 1; at < MT_LEVELS; at++) {
        enum mt_level level = (enum mt_level)at;
        struct mt_topology_link *link = &topology->links[level];
        if (memcmp(link, mt_topology_assumed(level), sizeof(*link)) == 0)
            *link = *mt_topology_assumed_of_rdma(level);
    }
}

static struct mt_topology *allocate(uint32_t ranks)
{
    size_t column = (size_t)ranks * sizeof(uint32_t);
    struct mt_topology *topology = calloc(1, sizeof(*topology) + MT_LEVELS * column);
    if (!topology)
        return NULL;
    uint32_t *groups = (uint32_t *)(topology + 1);
    topology->ranks = ranks;
    for (int level = 0; level < MT_LEVELS; level++) {
        topology->group[level] = groups + (size_t)level * ranks;
        topology->links[level] = *mt_topology_assumed((enum mt_level)level);
    }
    return topology;
}

struct keyed {
    uint32_t above, rank; /* the group that it is in, one level up */
    uint64_t key;
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    if (x->above != y->above)
        return x->above < y->above ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->rank < y->rank ? -1 : 1;
}

/* Number the groups by their lowest ranks. keyed: sorted. */
static uint32_t number(const struct keyed *keyed, uint32_t ranks, uint32_t *group)
{
    uint32_t count = 0;
    for (uint32_t i = 0, lowest = 0; i < ranks; i++) {
        if (i == 0 || keyed[i].above != keyed[i - 1].above || keyed[i].key != keyed[i - 1].key)
            lowest = keyed[i].rank;
        group[keyed[i].rank] = lowest;
    }
    for (uint32_t r = 0; r < ranks; r++)
        group[r] = group[r] == r ? count++ : group[group[r]];
    return count;
}

/* The groups of a level, when those of the level above are known. */
static void divide(struct mt_topology *topology, int level, const uint64_t *keys,
                   struct keyed *keyed)
{
    uint32_t ranks = topology->ranks, *group = topology->group[level];
    const uint32_t *above = topology->group[level + 1];
    if (!keys) {
        memcpy(group, above, ranks * sizeof(*group));
        topology->groups[level] = topology->groups[level + 1];
        return;
    }
    for (uint32_t r = 0; r < ranks; r++)
        keyed[r] = (struct keyed){above[r], r, keys[r]};
    qsort(keyed, ranks, sizeof(*keyed), by_key);
    topology->groups[level] = number(keyed, ranks, group);
}

int mt_topology_of_keys(uint32_t ranks, const uint64_t *const keys[MT_LEVELS],
                        struct mt_topology **topology_out)
{
    struct mt_topology *topology = allocate(ranks);
    struct keyed *keyed = calloc(ranks, sizeof(*keyed));
    *topology_out = NULL;
    if (!topology || !keyed) {
        mt_topology_free(topology);
        free(keyed);
        return MANTA_ENOMEM;
    }
    topology->groups[MT_LEVEL_CLUSTER] = 1;
    for (int level = MT_LEVEL_CLUSTER - 1; level >= 0; level--)
        divide(topology, level, keys[level], keyed);
    free(keyed);
    *topology_out = topology;
    return 0;
}

int mt_topology_of_nodes(uint32_t ranks, const uint64_t *nodes, struct mt_topology **topology_out)
{
    uint64_t *cores = calloc(ranks, sizeof(*cores));
    const uint64_t *const keys[MT_LEVELS] = {[MT_LEVEL_CORE] = cores, [MT_LEVEL_NODE] = nodes};
    *topology_out = NULL;
    if (!cores)
        return MANTA_ENOMEM;
    for (uint32_t r = 0; r < ranks; r++)
        cores[r] = r;
    int rc = mt_topology_of_keys(ranks, keys, topology_out);
    free(cores);
    return rc;
}

void mt_topology_free(struct mt_topology *topology)
{
    free(topology);
}

/* For qsort_r: from the top level down. */
static int by_groups(const void *a, const void *b, void *arg)
{
    const struct mt_topology *topology = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    for (int level = MT_LEVEL_ZONE; level >= 0; level--) {
        const uint32_t *group = topology->group[level];
        if (group[x] != group[y])
            return group[x] < group[y] ? -1 : 1;
    }
    return x < y ? -1 : x > y;
}

void mt_topology_order(const struct mt_topology *topology, uint32_t *order_out)
{
    for (uint32_t r = 0; r < topology->ranks; r++)
        order_out[r] = r;
    qsort_r(order_out, topology->ranks, sizeof(*order_out), by_groups, (void *)(uintptr_t)topology);
}

const char *mt_level_name(enum mt_level level)
{
    static const char *const names[MT_LEVELS] = {"core", "l3",   "numa", "package",
                                                 "node", "rack", "zone", "cluster"};
    return names[level];
}
