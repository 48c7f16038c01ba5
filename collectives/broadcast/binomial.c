/* SPDX-License-Identifier: Apache-2.0 */
/* Binomial tree: in round k the 2^k ranks that have the vector send it to as many others.
 * Johnsson, Ho: Optimum broadcasting and personalized communication in hypercubes, 1989. */
#include "collectives/algorithms.h"
#include "plan/algorithm.h"

static void build(struct mt_plan_builder *p)
{
    const uint64_t n = plan_ranks(p), root = plan_root(p);
    const uint64_t me = (plan_rank(p) + n - root) % n; /* the root is 0 */

    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    for (uint64_t have = 1; have < n; have *= 2) {
        if (me < have && me + have < n)
            plan_send(p, (uint32_t)((me + have + root) % n), plan_all(p));
        else if (me >= have && me < 2 * have)
            plan_recv(p, (uint32_t)((me - have + root) % n), plan_all(p));
    }
}

const struct mt_algorithm mt_broadcast_binomial = {
    .name = "binomial",
    .collective = MANTA_BROADCAST,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Johnsson, Ho 1989",
    .build = build,
};
