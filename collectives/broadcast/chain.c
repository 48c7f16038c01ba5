/* SPDX-License-Identifier: Apache-2.0 */
/* Pipelined chain: each rank passes piece after piece on to the next, so that every link carries
 * the vector once. The parameter is the number of pieces.
 * van de Geijn and others: Collective communication on architectures with wormhole routing, 1994.
 */
#include "collectives/algorithms.h"
#include "plan/algorithm.h"

enum { PIECES = 8 };

static void build(struct mt_plan_builder *p)
{
    const uint64_t n = plan_ranks(p), root = plan_root(p);
    const uint64_t me = (plan_rank(p) + n - root) % n; /* the root is 0 */

    plan_blocks(p, plan_parameter(p, PIECES), MANTA_PLAN_VECTOR);
    for (uint32_t piece = 0; piece < plan_all(p).count; piece++) {
        if (me > 0)
            plan_recv(p, (uint32_t)((me - 1 + root) % n), plan_block(p, piece));
        if (me + 1 < n)
            plan_send(p, (uint32_t)((me + 1 + root) % n), plan_block(p, piece));
    }
}

const struct mt_algorithm mt_broadcast_chain = {
    .name = "chain",
    .collective = MANTA_BROADCAST,
    .one_way = 1,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Barnett, Littlefield, Payne, van de Geijn 1994",
    .build = build,
};
