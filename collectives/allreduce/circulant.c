/* SPDX-License-Identifier: Apache-2.0 */
/* Circulant allreduce, 2 ceil(log2 n) rounds and the least possible volume for any n: the circulant
 * reduce-scatter, then the same graph backwards.
 * Träff: Optimal, Non-pipelined Reduce-scatter and Allreduce Algorithms, arXiv 2410.14234. */
#include "collectives/algorithms.h"
#include "collectives/circulant.h"
#include "plan/algorithm.h"

static void build(struct mt_plan_builder *p)
{
    const uint32_t n = plan_ranks(p), me = plan_rank(p);
    uint32_t skip[MT_CIRCULANT_SKIPS], q = mt_circulant_skips(n, skip);

    plan_blocks(p, n, MANTA_PLAN_VECTOR);
    for (uint32_t k = q; k-- > 0;) {
        uint32_t ahead = (me + skip[k]) % n, behind = (me + n - skip[k]) % n;
        uint32_t count = skip[k + 1] - skip[k];
        plan_send(p, ahead, plan_around(p, ahead, count));
        plan_recv_reduce(p, behind, plan_around(p, me, count));
    }
    for (uint32_t k = 0; k < q; k++) {
        uint32_t ahead = (me + skip[k]) % n, behind = (me + n - skip[k]) % n;
        uint32_t count = skip[k + 1] - skip[k];
        plan_send(p, behind, plan_around(p, me, count));
        plan_recv(p, ahead, plan_around(p, ahead, count));
    }
}

const struct mt_algorithm mt_allreduce_circulant = {
    .name = "circulant",
    .collective = MANTA_ALLREDUCE,
    .source = "Träff 2024",
    .build = build,
};
