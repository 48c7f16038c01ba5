/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Swing: reduce-scatter and allgather among 2^k ranks as by halving and doubling, but at distances
 * 1, -1, 3, -5, 11, ..., those of (1 - (-2)^(t+1)) / 3, alternately to one side and the other: a
 * third less far than 1, 2, 4, 8, 16, ..., so that less crosses the ends of groups of ranks.
 * De Sensi, Bonato, Saam, Hoefler: Swing: Short-cutting Rings for Higher Bandwidth Allreduce, 2024.
 *
 * Which blocks a rank halves down to is free in an allreduce, so that all shares can be intervals.
 * In step t even rank r meets r + d(t), odd r meets r - d(t). Let z be r / 2 of an even rank and
 * (1 - r) / 2 of an odd one: all steps turn z into (1 - d(t)) / 2 - z. So those that share an
 * interval from step t on are the even ranks with equal z modulo 2^t, and their odd partners.
 */
#include <stddef.h>

#include "collectives/algorithms.h"
#include "plan/algorithm.h"

static uint32_t log2_floor(uint32_t x)
{
    return 31 - (uint32_t)__builtin_clz(x);
}

/* d(t) = 1 - d(t - 1) * 2, as a number modulo 2^32. */
static uint32_t distance(uint32_t t)
{
    uint32_t distance = 1;
    while (t-- > 0)
        distance = 1 - 2 * distance;
    return distance;
}

static uint32_t peer_of(uint32_t n, uint32_t rank, uint32_t t)
{
    return (rank % 2 ? rank - distance(t) : rank + distance(t)) & (n - 1);
}

/* Which half a rank keeps in step t: bit t. In the last one z does not tell any more, the side
 * does.
 */
static uint32_t halves_of(uint32_t n, uint32_t rank)
{
    uint32_t last = log2_floor(n) - 1;
    uint32_t turned = last ? distance(last - 1) : 0; /* (1 - d(last)) / 2 */
    uint32_t z = rank % 2 ? turned + rank / 2 : rank / 2;
    return (z & ((1u << last) - 1)) | (rank % 2) << last;
}

static void build(struct mt_plan_builder *p)
{
    const uint32_t n = plan_ranks(p), me = plan_rank(p), steps = log2_floor(n);

    plan_blocks(p, n, MANTA_PLAN_VECTOR);
    for (uint32_t t = 0; t < steps; t++) {
        uint32_t peer = peer_of(n, me, t);
        plan_send(p, peer, plan_halved(p, halves_of(n, peer), t + 1));
        plan_recv_reduce(p, peer, plan_halved(p, halves_of(n, me), t + 1));
    }
    for (uint32_t t = steps; t-- > 0;) {
        uint32_t peer = peer_of(n, me, t);
        plan_send(p, peer, plan_halved(p, halves_of(n, me), t + 1));
        plan_recv(p, peer, plan_halved(p, halves_of(n, peer), t + 1));
    }
}

static const char *unfit(const struct mt_plan_request *request)
{
    return request->ranks & (request->ranks - 1) ? "it is for powers of two of ranks" : NULL;
}

const struct mt_algorithm mt_allreduce_swing = {
    .name = "swing",
    .collective = MANTA_ALLREDUCE,
    .source = "De Sensi, Bonato, Saam, Hoefler 2024",
    .build = build,
    .unfit = unfit,
};
