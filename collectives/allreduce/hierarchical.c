/* SPDX-License-Identifier: Apache-2.0 */
/* Allreduce in tiers: the ranks of a node reduce to its rails, each rail allreduces its share with
 * the same rail of the other nodes (of the rack first, where there are racks), and gives what it
 * has to its node. With one rail, the node's leader does that for the whole vector.
 * Cho, Finkler, Serrano, Kung, Hunter: BlueConnect: decomposing all-reduce for deep learning on
 * heterogeneous network hierarchy, 2019. */
#include "collectives/algorithms.h"
#include "collectives/hierarchy.h"

static void leaders_doubling(struct mt_plan_builder *p)
{
    mt_hierarchy_allreduce(p, MT_RAILS_ONE, &mt_allreduce_recursive_doubling);
}

static void leaders_ring(struct mt_plan_builder *p)
{
    mt_hierarchy_allreduce(p, MT_RAILS_ONE, &mt_allreduce_ring);
}

static void rails_doubling(struct mt_plan_builder *p)
{
    mt_hierarchy_allreduce(p, MT_RAILS_ALL, &mt_allreduce_recursive_doubling);
}

static void rails_ring(struct mt_plan_builder *p)
{
    mt_hierarchy_allreduce(p, MT_RAILS_ALL, &mt_allreduce_ring);
}

static void rails_halving(struct mt_plan_builder *p)
{
    mt_hierarchy_allreduce(p, MT_RAILS_ALL, &mt_allreduce_halving_doubling);
}

const struct mt_algorithm mt_allreduce_leaders_doubling = {
    .name = "leaders_doubling",
    .collective = MANTA_ALLREDUCE,
    .source = "Cho, Finkler, Serrano, Kung, Hunter 2019",
    .build = leaders_doubling,
    .unfit = mt_unfit_leaders,
};

const struct mt_algorithm mt_allreduce_leaders_ring = {
    .name = "leaders_ring",
    .collective = MANTA_ALLREDUCE,
    .one_way = 1,
    .source = "Cho, Finkler, Serrano, Kung, Hunter 2019",
    .build = leaders_ring,
    .unfit = mt_unfit_leaders,
};

const struct mt_algorithm mt_allreduce_rails_doubling = {
    .name = "rails_doubling",
    .collective = MANTA_ALLREDUCE,
    .source = "Cho, Finkler, Serrano, Kung, Hunter 2019",
    .build = rails_doubling,
    .unfit = mt_unfit_rails,
};

const struct mt_algorithm mt_allreduce_rails_ring = {
    .name = "rails_ring",
    .collective = MANTA_ALLREDUCE,
    .one_way = 1,
    .source = "Cho, Finkler, Serrano, Kung, Hunter 2019",
    .build = rails_ring,
    .unfit = mt_unfit_rails,
};

const struct mt_algorithm mt_allreduce_rails_halving = {
    .name = "rails_halving",
    .collective = MANTA_ALLREDUCE,
    .source = "Cho, Finkler, Serrano, Kung, Hunter 2019",
    .build = rails_halving,
    .unfit = mt_unfit_rails,
};
