/* SPDX-License-Identifier: Apache-2.0 */
/* Circulant reduce-scatter, ceil(log2 n) rounds: a rank that has sums for `skip[k + 1]` ranks,
 * itself and the following, hands those of the farther half to the rank skip[k] ahead.
 * Träff: Optimal, Non-pipelined Reduce-scatter and Allreduce Algorithms, arXiv 2410.14234. */
#include "collectives/algorithms.h"
#include "collectives/circulant.h"
#include "plan/algorithm.h"

static void build(struct mt_plan_builder *p)
{
    const uint32_t n = plan_ranks(p), me = plan_rank(p);
    uint32_t skip[MT_CIRCULANT_SKIPS], q = mt_circulant_skips(n, skip);

    plan_blocks(p, n, MANTA_PLAN_RANKS);
    for (uint32_t k = q; k-- > 0;) {
        uint32_t ahead = (me + skip[k]) % n, behind = (me + n - skip[k]) % n;
        uint32_t count = skip[k + 1] - skip[k];
        plan_send(p, ahead, plan_around(p, ahead, count));
        plan_recv_reduce(p, behind, plan_around(p, me, count));
    }
}

const struct mt_algorithm mt_reduce_scatter_circulant = {
    .name = "circulant",
    .collective = MANTA_REDUCE_SCATTER,
    .source = "Träff 2024",
    .build = build,
};
