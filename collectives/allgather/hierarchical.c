/* SPDX-License-Identifier: Apache-2.0 */
/* Allgather over nodes. Rails: each rank gathers the blocks of those who stand where it stands in
 * the other nodes, and then the ranks of a node gather what each of them has of every node.
 * Leaders: a node's blocks are gathered in it, its leader exchanges them with the others', and
 * passes on what it gets.
 * Traeff: Efficient allgather for regular SMP-clusters, 2006. */
#include "collectives/algorithms.h"
#include "collectives/hierarchy.h"

static void rails_ring(struct mt_plan_builder *p)
{
    struct mt_order order;
    plan_blocks(p, plan_ranks(p), MANTA_PLAN_RANKS);
    if (mt_order_open(&order, p)) {
        mt_order_on_rail(p, &order, &mt_allgather_ring);
        plan_lane(p, 1);
        for (uint32_t node = 0; node < order.nodes; node++)
            mt_order_on_node(p, &order, node, &mt_allgather_fused, &mt_allgather_ring);
    }
    mt_order_close(&order);
}

/* The leader has the blocks of all nodes. */
static void pass_on(struct mt_plan_builder *p, struct mt_order *order)
{
    struct plan_view view = mt_order_node(order);
    for (uint32_t node = 0; node < order->nodes; node++) {
        view.blocks = mt_order_blocks(order, node);
        if (node != order->node)
            plan_within(p, &view, plan_fuses(p) ? &mt_broadcast_fused : &mt_broadcast_binomial);
    }
}

static void leaders_ring(struct mt_plan_builder *p)
{
    struct mt_order order;
    plan_blocks(p, plan_ranks(p), MANTA_PLAN_RANKS);
    plan_as_one(p); /* of a node's blocks in one message */
    if (mt_order_open(&order, p)) {
        mt_order_on_node(p, &order, order.node, &mt_allgather_fused, &mt_allgather_ring);
        plan_lane(p, 1);
        mt_order_on_leaders(p, &order, &mt_allgather_ring);
        plan_lane(p, 2);
        pass_on(p, &order);
    }
    mt_order_close(&order);
}

const struct mt_algorithm mt_allgather_rails_ring = {
    .name = "rails_ring",
    .collective = MANTA_ALLGATHER,
    .one_way = 1,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Traeff 2006",
    .build = rails_ring,
    .unfit = mt_unfit_even_rails,
};

const struct mt_algorithm mt_allgather_leaders_ring = {
    .name = "leaders_ring",
    .collective = MANTA_ALLGATHER,
    .one_way = 1,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Traeff 2006",
    .build = leaders_ring,
    .unfit = mt_unfit_adjoining,
};
