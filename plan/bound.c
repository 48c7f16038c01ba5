/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/bound.h"

#include <manta/manta.h>

#include "plan/links.h"

/* Do two ranks meet at this level? */
static int is_met(const struct mt_topology *topology, int level)
{
    return topology->groups[level] < (level > 0 ? topology->groups[level - 1] : topology->ranks);
}

/* The fastest way of a rank to others outside of its group of a level. */
static uint64_t least_beta(const struct mt_topology *topology, int level)
{
    uint64_t least = UINT64_MAX;
    for (int far = level + 1; far < MT_LEVELS; far++)
        if (is_met(topology, far) && topology->links[far].beta_ps_per_byte < least)
            least = topology->links[far].beta_ps_per_byte;
    return least == UINT64_MAX ? 0 : least;
}

/* What crosses the border of a group with `inside` of the ranks, one of `groups`. */
static uint64_t crossing_bytes(uint32_t collective, uint64_t bytes, uint32_t ranks, uint32_t groups,
                               uint32_t inside)
{
    uint64_t twice = mt_links_times(bytes, 2);
    switch (collective) {
    case MANTA_ALLREDUCE:
        return twice / groups * (groups - 1) + twice % groups * (groups - 1) / groups;
    case MANTA_ALLGATHER:
    case MANTA_REDUCE_SCATTER:
        return mt_links_times(bytes, ranks - inside);
    case MANTA_BARRIER:
        return 0;
    default:
        return bytes;
    }
}

/* What each rank reads and writes at least. */
static uint64_t touched_bytes(uint32_t collective, uint64_t bytes, uint32_t ranks)
{
    switch (collective) {
    case MANTA_ALLREDUCE:
        return mt_links_times(bytes, 2);
    case MANTA_ALLGATHER:
    case MANTA_REDUCE_SCATTER:
        return mt_links_times(bytes, ranks + UINT64_C(1));
    case MANTA_BARRIER:
        return 0;
    default:
        return bytes;
    }
}

/* How many ranks the largest group has. */
static uint32_t largest_group(const struct mt_topology *topology, int level)
{
    const uint32_t *group = topology->group[level];
    uint32_t largest = 0;
    for (uint32_t i = 0, alike = 0; i < topology->ranks; i++) {
        alike = i && group[i] == group[i - 1] ? alike + 1 : 1;
        largest = alike > largest ? alike : largest;
    }
    uint32_t share = (topology->ranks - 1) / topology->groups[level] + 1;
    return largest > share ? largest : share; /* groups whose ranks do not stand side by side */
}

static void keep_longer(struct mt_bound *bound, uint64_t ns, enum mt_bound_kind kind, int level)
{
    if (ns > bound->ns)
        *bound = (struct mt_bound){ns, kind, (enum mt_level)level};
}

static void bound_links(const struct mt_cost_model *model, uint32_t collective, uint64_t bytes,
                        struct mt_bound *bound)
{
    const struct mt_topology *topology = model->topology;
    for (int level = MT_LEVEL_NODE; level < MT_LEVEL_CLUSTER; level++) {
        uint32_t groups = topology->groups[level], inside = largest_group(topology, level);
        if (groups < 2)
            continue;
        uint64_t way = least_beta(topology, level) / inside;
        uint64_t ps = mt_links_later(topology->uplink_ps_per_byte[level], way);
        uint64_t crossing = crossing_bytes(collective, bytes, topology->ranks, groups, inside);
        keep_longer(bound, mt_links_duration(crossing, ps), MT_BOUND_LINKS, level);
    }
}

struct mt_bound mt_bound_of(const struct mt_cost_model *model, uint32_t collective, uint64_t bytes)
{
    const struct mt_topology *topology = model->topology;
    struct mt_bound bound = {0, MT_BOUND_LATENCY, MT_LEVEL_CORE};
    for (int level = MT_LEVELS - 1; level >= 0; level--) {
        const struct mt_topology_link *link = &topology->links[level];
        if (!is_met(topology, level))
            continue;
        uint64_t once =
            level > MT_LEVEL_NODE ? link->alpha_ns + 2 * link->core_ns : model->fused_alpha_ns;
        keep_longer(&bound, once, MT_BOUND_LATENCY, level);
        break;
    }
    if (collective == MANTA_SEND || collective == MANTA_RECV)
        return bound;
    uint64_t each = touched_bytes(collective, bytes, topology->ranks);
    uint64_t moved = mt_links_times(each, largest_group(topology, MT_LEVEL_NODE));
    if (topology->ranks > 1)
        keep_longer(&bound, mt_links_duration(moved, model->memory_ps_per_byte), MT_BOUND_MEMORY,
                    MT_LEVEL_NODE);
    bound_links(model, collective, bytes, &bound);
    return bound;
}
