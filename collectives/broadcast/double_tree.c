/* SPDX-License-Identifier: Apache-2.0 */
/* Pipelined broadcast down two binary trees, every other piece down each: the root sends to the
 * roots of both, the other ranks have children in one of them at most. The parameter is the number
 * of pieces.
 * Sanders, Speck, Träff: Two-tree algorithms for full bandwidth broadcast, reduction and scan,
 * 2009.
 */
#include "collectives/algorithms.h"
#include "collectives/two_trees.h"
#include "plan/algorithm.h"

enum { PIECES = 8 };

static void build(struct mt_plan_builder *p)
{
    const uint32_t n = plan_ranks(p), nodes = n - 1, me = (plan_rank(p) + n - plan_root(p)) % n;

    plan_blocks(p, plan_parameter(p, PIECES), MANTA_PLAN_VECTOR);
    for (uint32_t piece = 0; nodes && piece < plan_all(p).count; piece++) {
        uint32_t tree = piece % 2;
        plan_lane(p, tree);
        if (me == 0) {
            plan_send(p, plan_from_root(p, mt_two_trees_root(nodes, tree)), plan_block(p, piece));
            continue;
        }
        struct mt_two_trees_node node = mt_two_trees_node(nodes, me, tree);
        plan_recv(p, plan_from_root(p, node.parent), plan_block(p, piece));
        if (node.lower)
            plan_send(p, plan_from_root(p, node.lower), plan_block(p, piece));
        if (node.upper)
            plan_send(p, plan_from_root(p, node.upper), plan_block(p, piece));
    }
}

const struct mt_algorithm mt_broadcast_double_tree = {
    .name = "double_tree",
    .collective = MANTA_BROADCAST,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Sanders, Speck, Träff 2009",
    .build = build,
};
