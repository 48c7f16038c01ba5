/* SPDX-License-Identifier: Apache-2.0 */
/* Ring allgather: each rank passes on what it got last, n-1 hops.
 * Thakur, Rabenseifner, Gropp: Optimization of collective communication operations in MPICH, 2005.
 */
#include "collectives/algorithms.h"
#include "plan/algorithm.h"

static void build(struct mt_plan_builder *p)
{
    const int64_t n = plan_ranks(p), me = plan_rank(p);
    const uint32_t next = (uint32_t)((me + 1) % n), prev = (uint32_t)((me + n - 1) % n);

    plan_blocks(p, (uint32_t)n, MANTA_PLAN_RANKS);
    for (int64_t s = 0; s < n - 1; s++) {
        plan_send(p, next, plan_block(p, me - s));
        plan_recv(p, prev, plan_block(p, me - s - 1));
    }
}

const struct mt_algorithm mt_allgather_ring = {
    .name = "ring",
    .collective = MANTA_ALLGATHER,
    .one_way = 1,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Thakur, Rabenseifner, Gropp 2005",
    .build = build,
};
