/* SPDX-License-Identifier: Apache-2.0 */
/* Reduce_scatter over nodes, allgather/hierarchical.c the other way round. Rails: the ranks of a
 * node share out the sums of what they have for every node, and each rank reduces and scatters its
 * share with those who stand where it stands in the other nodes. Leaders: a node's sums go to its
 * leader, who exchanges them with the others' and hands each rank its block.
 * Traeff: Efficient allgather for regular SMP-clusters, 2006. */
#include "collectives/algorithms.h"
#include "collectives/hierarchy.h"

static void rails_ring(struct mt_plan_builder *p)
{
    struct mt_order order;
    plan_blocks(p, plan_ranks(p), MANTA_PLAN_RANKS);
    if (mt_order_open(&order, p)) {
        for (uint32_t node = 0; node < order.nodes; node++)
            mt_order_on_node(p, &order, node, &mt_reduce_scatter_fused, &mt_reduce_scatter_ring);
        plan_lane(p, 1);
        mt_order_on_rail(p, &order, &mt_reduce_scatter_ring);
    }
    mt_order_close(&order);
}

static void sum_on_node(struct mt_plan_builder *p, struct mt_order *order)
{
    struct plan_view view = mt_order_node(order);
    for (uint32_t node = 0; node < order->nodes; node++) {
        view.blocks = mt_order_blocks(order, node);
        plan_within(p, &view, plan_fuses(p) ? &mt_reduce_fused : &mt_reduce_binomial);
    }
}

static void hand_out(struct mt_plan_builder *p, struct mt_order *order)
{
    const struct plan_view node = mt_order_node(order);
    for (uint32_t i = 1; i < node.count; i++) {
        struct plan_interval block = plan_range(node.ranks[i], 1);
        if (order->me == 0)
            plan_send(p, node.ranks[i], block);
        else if (order->me == i)
            plan_recv(p, node.ranks[0], block);
    }
}

static void leaders_ring(struct mt_plan_builder *p)
{
    struct mt_order order;
    plan_blocks(p, plan_ranks(p), MANTA_PLAN_RANKS);
    plan_as_one(p); /* of a node's blocks in one message */
    if (mt_order_open(&order, p)) {
        sum_on_node(p, &order);
        plan_lane(p, 1);
        mt_order_on_leaders(p, &order, &mt_reduce_scatter_ring);
        plan_lane(p, 2);
        hand_out(p, &order);
    }
    mt_order_close(&order);
}

const struct mt_algorithm mt_reduce_scatter_rails_ring = {
    .name = "rails_ring",
    .collective = MANTA_REDUCE_SCATTER,
    .one_way = 1,
    .source = "Traeff 2006",
    .build = rails_ring,
    .unfit = mt_unfit_even_rails,
};

const struct mt_algorithm mt_reduce_scatter_leaders_ring = {
    .name = "leaders_ring",
    .collective = MANTA_REDUCE_SCATTER,
    .one_way = 1,
    .source = "Traeff 2006",
    .build = leaders_ring,
    .unfit = mt_unfit_adjoining,
};
