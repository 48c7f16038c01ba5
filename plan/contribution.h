/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose inputs a value holds, as one number. Up to 64 ranks a bit for each, so that an input that
 * is counted twice is seen at once. Above, the sum of random 64-bit numbers, one for each rank: a
 * wrong set, or a rank counted twice, passes with probability 2^-64. The token of a barrier may be
 * counted twice; there 64 of the ranks have bits, which ones is up to the caller.
 */
#ifndef MT_PLAN_CONTRIBUTION_H
#define MT_PLAN_CONTRIBUTION_H

#include <stdint.h>

#include <manta/manta.h>
#include <manta/plan.h>

struct mt_contribution {
    uint32_t ranks;
    int idempotent, exact;
    uint32_t first, stride; /* idempotent: ranks first + i * stride have bit i, i in 0 .. 63 */
};

static inline uint64_t mt_contribution_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static inline struct mt_contribution mt_contribution_of(uint32_t collective, uint32_t ranks)
{
    return (struct mt_contribution){ranks, collective == MANTA_BARRIER, ranks <= 64, 0, 1};
}

/* The input of one rank. */
static inline uint64_t mt_contribution_leaf(const struct mt_contribution *c, uint32_t rank)
{
    uint32_t bit = (rank - c->first) / c->stride;
    if (c->idempotent && (rank < c->first || (rank - c->first) % c->stride || bit >= 64))
        return 0;
    if (c->idempotent || c->exact)
        return UINT64_C(1) << (c->idempotent ? bit : rank);
    return mt_contribution_mix(~(uint64_t)rank);
}

static inline uint64_t mt_contribution_join(const struct mt_contribution *c, uint64_t x, uint64_t y)
{
    return c->idempotent || c->exact ? x | y : x + y;
}

/* The inputs that both hold, as far as they can be told: none may be. */
static inline uint64_t mt_contribution_twice(const struct mt_contribution *c, uint64_t x,
                                             uint64_t y)
{
    return c->exact && !c->idempotent ? x & y : 0;
}

/* The inputs of all ranks. */
static inline uint64_t mt_contribution_full(const struct mt_contribution *c)
{
    uint64_t full = 0;
    for (uint32_t r = 0; r < c->ranks; r++)
        full = mt_contribution_join(c, full, mt_contribution_leaf(c, r));
    return full;
}

/* The rank whose input a copying collective must deliver in a block; NONE for reducing ones. */
static inline uint32_t mt_contribution_giver(const struct manta_plan *plan, uint32_t block)
{
    switch (plan->collective) {
    case MANTA_BROADCAST:
    case MANTA_RECV:
        return plan->root;
    case MANTA_ALLGATHER:
        return block / (plan->blocks / plan->ranks);
    default:
        return MANTA_PLAN_NONE;
    }
}

#endif
