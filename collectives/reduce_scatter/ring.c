/* SPDX-License-Identifier: Apache-2.0 */
/* Ring reduce-scatter: block b starts at rank b+1 and collects every rank's part on its way to b.
 * Patarasuk, Yuan: Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009. */
#include "collectives/algorithms.h"
#include "plan/algorithm.h"

static void build(struct mt_plan_builder *p)
{
    const int64_t n = plan_ranks(p), me = plan_rank(p);
    const uint32_t next = (uint32_t)((me + 1) % n), prev = (uint32_t)((me + n - 1) % n);

    plan_blocks(p, (uint32_t)n, MANTA_PLAN_RANKS);
    for (int64_t s = 0; s < n - 1; s++) {
        plan_send(p, next, plan_block(p, me - s - 1));
        plan_recv_reduce(p, prev, plan_block(p, me - s - 2));
    }
}

const struct mt_algorithm mt_reduce_scatter_ring = {
    .name = "ring",
    .collective = MANTA_REDUCE_SCATTER,
    .one_way = 1,
    .source = "Patarasuk, Yuan 2009",
    .build = build,
};
