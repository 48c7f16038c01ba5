/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Binomial tree towards any root, in the canonical order without renumbering: the ranks are halved
 * as the canonical binary tree does; the leader of a block is root if the block holds it, else its
 * lowest rank; the leader of one half sends its total to the leader of the other, which leads both.
 * Thakur, Rabenseifner, Gropp: Optimization of collective communication operations in MPICH, 2005.
 */
#include "collectives/algorithms.h"
#include "plan/algorithm.h"

static uint32_t leader(const struct mt_plan_builder *p, uint32_t first, uint32_t count)
{
    uint32_t root = plan_root(p);
    return root >= first && root - first < count ? root : first;
}

/* Combine ranks first .. first + count - 1 at their leader: my part of it. */
static void combine(struct mt_plan_builder *p, uint32_t first, uint32_t count)
{
    if (count == 1)
        return;
    uint32_t half = 1, me = plan_rank(p);
    while (half < count - half)
        half *= 2;
    uint32_t left = leader(p, first, half), right = leader(p, first + half, count - half);
    uint32_t leads = leader(p, first, count), gives = leads == left ? right : left;

    if (me < first + half)
        combine(p, first, half);
    else
        combine(p, first + half, count - half);
    if (me == gives)
        plan_send(p, leads, plan_all(p));
    else if (me == leads && me == left)
        plan_recv_reduce(p, gives, plan_all(p));
    else if (me == leads)
        plan_recv_reduce_left(p, gives, plan_all(p));
}

static void build(struct mt_plan_builder *p)
{
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    combine(p, 0, plan_ranks(p));
}

const struct mt_algorithm mt_reduce_binomial = {
    .name = "binomial",
    .collective = MANTA_REDUCE,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Thakur, Rabenseifner, Gropp 2005",
    .build = build,
};
