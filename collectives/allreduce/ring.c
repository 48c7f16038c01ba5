/* SPDX-License-Identifier: Apache-2.0 */
/* Ring allreduce: n-1 reducing hops, then n-1 copying hops, each with 1/n of the vector.
 * Patarasuk, Yuan: Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009. */
#include "collectives/algorithms.h"
#include "plan/algorithm.h"

static void build(struct mt_plan_builder *p)
{
    const int64_t n = plan_ranks(p), me = plan_rank(p);
    const uint32_t next = (uint32_t)((me + 1) % n), prev = (uint32_t)((me + n - 1) % n);

    plan_blocks(p, (uint32_t)n, MANTA_PLAN_VECTOR);
    for (int64_t s = 0; s < n - 1; s++) {
        plan_send(p, next, plan_block(p, me - s));
        plan_recv_reduce(p, prev, plan_block(p, me - s - 1));
    }
    for (int64_t s = 0; s < n - 1; s++) {
        plan_send(p, next, plan_block(p, me + 1 - s));
        plan_recv(p, prev, plan_block(p, me - s));
    }
}

const struct mt_algorithm mt_allreduce_ring = {
    .name = "ring",
    .collective = MANTA_ALLREDUCE,
    .one_way = 1,
    .source = "Patarasuk, Yuan 2009",
    .build = build,
};
