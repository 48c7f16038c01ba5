/* SPDX-License-Identifier: Apache-2.0 */
/* Circulant reduce-scatter, ceil(log2 n) rounds: a rank that has sums for `skip[k + 1]` ranks,
 * itself and the following, hands those of the farther half to the rank skip[k] ahead.
 * Träff: Optimal, Non-pipelined Reduce-scatter and Allreduce Algorithms, arXiv 2410.14234. */
#include "collectives/algorithms.h"
#include "collectives/circulant.h"
#include "plan/algorithm.h"

static void build(struct mt_plan_builder *p)
{
    plan_blocks(p, plan_ranks(p), MANTA_PLAN_RANKS);
    mt_circulant_reduce_scatter(p);
}

const struct mt_algorithm mt_reduce_scatter_circulant = {
    .name = "circulant",
    .collective = MANTA_REDUCE_SCATTER,
    .source = "Träff 2024",
    .build = build,
};
