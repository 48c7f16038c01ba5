/* SPDX-License-Identifier: Apache-2.0 */
/* Pairwise exchange: every rank receives all contributions to its own block and combines them in
 * the canonical order, the binary tree split at the largest power of two below the size.
 * Thakur, Rabenseifner, Gropp: Optimization of collective communication operations in MPICH, 2005.
 */
#include "collectives/algorithms.h"
#include "plan/algorithm.h"

/* Combine the contributions of these ranks; returns where the total is. Rank r's own is in scratch
 * region base + (r - me - 1) mod n, mine in the working vector. */
static uint32_t combine(struct mt_plan_builder *p, uint32_t base, uint32_t first, uint32_t count)
{
    uint32_t n = plan_ranks(p), me = plan_rank(p);
    if (count == 1)
        return first == me ? PLAN_WORKING : base + (first + n - me - 1) % n;
    uint32_t half = 1;
    while (half < count - half)
        half *= 2;
    uint32_t left = combine(p, base, first, half);
    uint32_t right = combine(p, base, first + half, count - half);
    uint32_t target = right == PLAN_WORKING ? right : left;
    plan_reduce(p, target, left, right, plan_block(p, me));
    return target;
}

static void build(struct mt_plan_builder *p)
{
    uint32_t n = plan_ranks(p), me = plan_rank(p), base = 0;

    plan_blocks(p, n, MANTA_PLAN_RANKS);
    for (uint32_t s = 1; s < n; s++) {
        uint32_t to = (me + n - s) % n, from = (me + s) % n;
        uint32_t region = plan_scratch(p, 1);
        if (s == 1)
            base = region;
        plan_send(p, to, plan_block(p, to));
        plan_recv_scratch(p, from, plan_block(p, me), region);
    }
    combine(p, base, 0, n);
}

const struct mt_algorithm mt_reduce_scatter_direct = {
    .name = "direct",
    .collective = MANTA_REDUCE_SCATTER,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Thakur, Rabenseifner, Gropp 2005",
    .build = build,
};
