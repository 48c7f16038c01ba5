/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/topology.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

/* Within a node by shared memory, else by TCP. */
static const struct mt_topology_link on_node = {
    .alpha_ns = 400, .core_ns = 300, .beta_ps_per_byte = 100};
static const struct mt_topology_link on_network = {
    .alpha_ns = 14000, .core_ns = 3000, .beta_ps_per_byte = 800};

static struct mt_topology *allocate(uint32_t ranks)
{
    size_t column = ranks * sizeof(uint32_t);
    struct mt_topology *topology = calloc(1, sizeof(*topology) + MT_LEVELS * column);
    uint32_t *groups = (uint32_t *)(topology + 1);
    if (!topology)
        return NULL;
    topology->ranks = ranks;
    for (int level = 0; level < MT_LEVELS; level++) {
        topology->group[level] = groups + (size_t)level * ranks;
        topology->links[level] = level <= MT_LEVEL_NODE ? on_node : on_network;
    }
    return topology;
}

struct place {
    uint64_t node;
    uint32_t rank;
};

static int by_node(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return x->rank < y->rank ? -1 : 1;
}

/* Number the groups by their lowest ranks. places: sorted. */
static uint32_t number(const struct place *places, uint32_t ranks, uint32_t *group)
{
    uint32_t count = 0;
    for (uint32_t i = 0, lowest = 0; i < ranks; i++) {
        if (i == 0 || places[i].node != places[i - 1].node)
            lowest = places[i].rank;
        group[places[i].rank] = lowest;
    }
    for (uint32_t r = 0; r < ranks; r++)
        group[r] = group[r] == r ? count++ : group[group[r]];
    return count;
}

int mt_topology_of_nodes(uint32_t ranks, const uint64_t *nodes, struct mt_topology **topology_out)
{
    struct mt_topology *topology = allocate(ranks);
    struct place *places = calloc(ranks, sizeof(*places));
    *topology_out = topology;
    if (!topology || !places) {
        mt_topology_free(topology);
        free(places);
        *topology_out = NULL;
        return MANTA_ENOMEM;
    }
    for (uint32_t r = 0; r < ranks; r++)
        places[r] = (struct place){nodes ? nodes[r] : 0, r};
    qsort(places, ranks, sizeof(*places), by_node);
    uint32_t count = number(places, ranks, topology->group[MT_LEVEL_NODE]);
    for (uint32_t r = 0; r < ranks; r++)
        topology->group[MT_LEVEL_CORE][r] = r;
    for (int level = MT_LEVEL_L3; level < MT_LEVEL_NODE; level++)
        memcpy(topology->group[level], topology->group[MT_LEVEL_NODE], ranks * sizeof(uint32_t));
    for (int level = 0; level < MT_LEVELS; level++)
        topology->groups[level] = level > MT_LEVEL_NODE ? 1 : count;
    topology->groups[MT_LEVEL_CORE] = ranks;
    free(places);
    return 0;
}

void mt_topology_free(struct mt_topology *topology)
{
    free(topology);
}
