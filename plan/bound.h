/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least time that any algorithm needs for a call over a topology: the longest of
 *  - links: what must leave, or enter, a group of a level, over the way out of it: its uplink, and
 *    the ways of its ranks together. With G groups that is 2 n (G - 1) / G for an allreduce of n
 *    bytes, n for broadcast and reduce, and for allgather and reduce_scatter with parts of n bytes
 *    the parts of all ranks outside of it;
 *  - memory: a node's ranks read their inputs and write their results once;
 *  - latency: one message between the ranks that are farthest apart.
 */
#ifndef MT_PLAN_BOUND_H
#define MT_PLAN_BOUND_H

#include "plan/cost.h"

enum mt_bound_kind { MT_BOUND_LINKS, MT_BOUND_MEMORY, MT_BOUND_LATENCY };

struct mt_bound {
    uint64_t ns;
    enum mt_bound_kind kind; /* what takes so long */
    enum mt_level level;     /* of the groups, or where the farthest ranks meet */
};

/* For all ranks of the topology. collective: enum manta_collective. */
struct mt_bound mt_bound_of(const struct mt_cost_model *model, uint32_t collective, uint64_t bytes);

#endif
