/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recursive doubling for any number of ranks, in the canonical order (the binary tree over ranks
 * split at the largest power of two below the size). Aligned blocks of 2^k ranks are subtrees, so
 * within them it is the classic exchange with the rank at distance 2^t in round t. Otherwise the
 * left 2^k ranks and the e ranks right of them first do their own allreduce; then right rank j
 * gives the right total to left ranks j, j + e, j + 2e, ... by a binomial tree, while the left part
 * may still be doubling, left rank j gives the left total to right rank j, and all combine the two:
 * about k + 2 rounds. In a round a rank sends and receives at most one message of each kind.
 * Thakur, Rabenseifner, Gropp: Optimization of collective communication operations in MPICH, 2005.
 */
#include "collectives/algorithms.h"
#include "plan/algorithm.h"

/* Ranks first .. first + count - 1, of which the left 2^k and the rest are parts. */
struct part {
    uint32_t first, count;
    uint32_t left, doublings; /* left = 2^doublings, the largest power of two below count */
    uint32_t right_rounds;    /* rounds of the right part's own allreduce */
    uint32_t spread;          /* rounds of the binomial tree that spreads the right total */
};

static uint32_t log2_ceil(uint32_t x)
{
    uint32_t log = 0;
    while ((UINT64_C(1) << log) < x)
        log++;
    return log;
}

static uint32_t max(uint32_t x, uint32_t y)
{
    return x > y ? x : y;
}

static struct part split(uint32_t first, uint32_t count);

static uint32_t rounds(uint32_t count)
{
    if ((count & (count - 1)) == 0)
        return log2_ceil(count);
    struct part part = split(0, count);
    return max(part.right_rounds + part.spread, max(part.doublings, part.right_rounds) + 1);
}

static struct part split(uint32_t first, uint32_t count)
{
    uint32_t doublings = log2_ceil(count) - 1, left = 1u << doublings, e = count - left;
    uint32_t most_served = (left + e - 1) / e;
    return (struct part){first, count, left, doublings, rounds(e), log2_ceil(most_served + 1)};
}

static void exchange(struct mt_plan_builder *p, uint32_t first, uint32_t round)
{
    uint32_t me = plan_rank(p) - first, peer = me ^ (1u << round);
    plan_send(p, first + peer, plan_all(p));
    if (peer > me)
        plan_recv_reduce(p, first + peer, plan_all(p));
    else
        plan_recv_reduce_left(p, first + peer, plan_all(p));
}

/* My part of round `round` of the binomial tree over right rank j (its root) and the left ranks
 * j + q * e, which keep the right total in the scratch region `total`. */
static void spread(struct mt_plan_builder *p, const struct part *part, uint32_t round,
                   uint32_t total)
{
    uint32_t e = part->count - part->left, me = plan_rank(p) - part->first;
    uint32_t j = me < part->left ? me % e : me - part->left;
    uint32_t mine = me < part->left ? me / e + 1 : 0; /* 0 is the right rank */
    uint32_t members = 1 + (part->left - j + e - 1) / e;
    uint64_t have = UINT64_C(1) << round;
    uint32_t right = part->first + part->left + j;
    if (mine < have && mine + have < members)
        plan_send_scratch(p, part->first + j + (uint32_t)(mine + have - 1) * e, plan_all(p), total);
    else if (mine >= have && mine < 2 * have)
        plan_recv_scratch(p,
                          mine == have ? right : part->first + j + (uint32_t)(mine - have - 1) * e,
                          plan_all(p), total);
}

static void allreduce(struct mt_plan_builder *p, uint32_t first, uint32_t count)
{
    if ((count & (count - 1)) == 0) {
        for (uint32_t round = 0; round < log2_ceil(count); round++)
            exchange(p, first, round);
        return;
    }
    struct part part = split(first, count);
    uint32_t e = count - part.left, me = plan_rank(p) - first, is_left = me < part.left;
    uint32_t other = plan_scratch(p, 1); /* the other part's total */
    if (!is_left)
        allreduce(p, first + part.left, e);
    uint32_t hand_over = max(part.doublings, part.right_rounds);
    for (uint32_t round = 0; round < rounds(count); round++) {
        if (is_left && round < part.doublings)
            exchange(p, first, round);
        if (round == hand_over && is_left && me < e)
            plan_send(p, first + part.left + me, plan_all(p));
        if (round == hand_over && !is_left)
            plan_recv_scratch(p, first + me - part.left, plan_all(p), other);
        if (round >= part.right_rounds && round < part.right_rounds + part.spread)
            spread(p, &part, round - part.right_rounds, is_left ? other : PLAN_WORKING);
    }
    plan_reduce(p, PLAN_WORKING, is_left ? PLAN_WORKING : other, is_left ? other : PLAN_WORKING,
                plan_all(p));
}

static void build(struct mt_plan_builder *p)
{
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    allreduce(p, 0, plan_ranks(p));
}

const struct mt_algorithm mt_allreduce_recursive_doubling = {
    .name = "recursive_doubling",
    .collective = MANTA_ALLREDUCE,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Thakur, Rabenseifner, Gropp 2005",
    .build = build,
};
