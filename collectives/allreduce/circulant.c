/* SPDX-License-Identifier: Apache-2.0 */
/* Circulant allreduce, 2 ceil(log2 n) rounds and the least possible volume for any n: the circulant
 * reduce-scatter, then the same graph backwards.
 * Träff: Optimal, Non-pipelined Reduce-scatter and Allreduce Algorithms, arXiv 2410.14234. */
#include "collectives/algorithms.h"
#include "collectives/circulant.h"
#include "plan/algorithm.h"

static void build(struct mt_plan_builder *p)
{
    plan_blocks(p, plan_ranks(p), MANTA_PLAN_VECTOR);
    mt_circulant_reduce_scatter(p);
    mt_circulant_allgather(p);
}

const struct mt_algorithm mt_allreduce_circulant = {
    .name = "circulant",
    .collective = MANTA_ALLREDUCE,
    .source = "Träff 2024",
    .build = build,
};
