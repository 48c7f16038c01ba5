/* SPDX-License-Identifier: Apache-2.0 */
/* Circulant allgather, ceil(log2 n) rounds: a rank that has the blocks of `skip` ranks, its own and
 * the following, gets the next ones from the rank that far ahead.
 * Träff: Optimal, Non-pipelined Reduce-scatter and Allreduce Algorithms, arXiv 2410.14234. */
#include "collectives/algorithms.h"
#include "collectives/circulant.h"
#include "plan/algorithm.h"

static void build(struct mt_plan_builder *p)
{
    plan_blocks(p, plan_ranks(p), MANTA_PLAN_RANKS);
    mt_circulant_allgather(p);
}

const struct mt_algorithm mt_allgather_circulant = {
    .name = "circulant",
    .collective = MANTA_ALLGATHER,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Träff 2024",
    .build = build,
};
