/* SPDX-License-Identifier: Apache-2.0 */
/* Pipelined reduction up two binary trees and broadcast down again, every other piece in each. Up
 * and down are lanes of their own, so that a piece comes down while others go up. The parameter is
 * the number of pieces.
 * Sanders, Speck, Träff: Two-tree algorithms for full bandwidth broadcast, reduction and scan,
 * 2009.
 */
#include "collectives/algorithms.h"
#include "collectives/two_trees.h"
#include "plan/algorithm.h"

enum { PIECES = 8, UP = 0, DOWN = 2 };

static void build(struct mt_plan_builder *p)
{
    const uint32_t n = plan_ranks(p), me = plan_rank(p) + 1; /* nodes are 1 .. n */

    plan_blocks(p, plan_parameter(p, PIECES), MANTA_PLAN_VECTOR);
    for (uint32_t i = 0; i < plan_all(p).count; i++) {
        struct plan_interval piece = plan_block(p, i);
        struct mt_two_trees_node node = mt_two_trees_node(n, me, i % 2);
        plan_lane(p, UP + i % 2);
        if (node.lower)
            plan_recv_reduce_left(p, node.lower - 1, piece);
        if (node.upper)
            plan_recv_reduce(p, node.upper - 1, piece);
        if (node.parent)
            plan_send(p, node.parent - 1, piece);
        plan_lane(p, DOWN + i % 2);
        if (node.parent)
            plan_recv(p, node.parent - 1, piece);
        if (node.lower)
            plan_send(p, node.lower - 1, piece);
        if (node.upper)
            plan_send(p, node.upper - 1, piece);
    }
}

const struct mt_algorithm mt_allreduce_double_tree = {
    .name = "double_tree",
    .collective = MANTA_ALLREDUCE,
    .source = "Sanders, Speck, Träff 2009",
    .build = build,
};
