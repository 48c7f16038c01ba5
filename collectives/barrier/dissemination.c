/* SPDX-License-Identifier: Apache-2.0 */
/* Dissemination barrier: in round k each rank tells the one 2^k further what it knows of. The one
 * block is a token combined by BOR, so that hearing of a rank twice does no harm.
 * Hensgen, Finkel, Manber: Two algorithms for barrier synchronization, 1988. */
#include "collectives/algorithms.h"
#include "plan/algorithm.h"

static void build(struct mt_plan_builder *p)
{
    const uint64_t n = plan_ranks(p), me = plan_rank(p);

    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    for (uint64_t distance = 1; distance < n; distance *= 2) {
        plan_send(p, (uint32_t)((me + distance) % n), plan_all(p));
        plan_recv_reduce(p, (uint32_t)((me + n - distance) % n), plan_all(p));
    }
}

const struct mt_algorithm mt_barrier_dissemination = {
    .name = "dissemination",
    .collective = MANTA_BARRIER,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Hensgen, Finkel, Manber 1988",
    .build = build,
};
