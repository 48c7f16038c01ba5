/* SPDX-License-Identifier: Apache-2.0 */
/* The ring over the ranks in the order of their places: see allreduce/ordered_ring.c. */
#include "collectives/algorithms.h"
#include "collectives/hierarchy.h"

static void build(struct mt_plan_builder *p)
{
    struct mt_order order;
    plan_blocks(p, plan_ranks(p), MANTA_PLAN_RANKS);
    if (mt_order_open(&order, p))
        mt_order_all(p, &order, &mt_allgather_ring);
    mt_order_close(&order);
}

const struct mt_algorithm mt_allgather_ordered_ring = {
    .name = "ordered_ring",
    .collective = MANTA_ALLGATHER,
    .one_way = 1,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Thakur, Rabenseifner, Gropp 2005",
    .build = build,
    .unfit = mt_unfit_order,
};
