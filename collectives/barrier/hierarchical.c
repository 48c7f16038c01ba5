/* SPDX-License-Identifier: Apache-2.0 */
/* Barrier in tiers: the token is reduced to the leaders, who disseminate it, and comes back.
 * Hensgen, Finkel, Manber: Two algorithms for barrier synchronization, 1988. */
#include "collectives/algorithms.h"
#include "collectives/hierarchy.h"

static void build(struct mt_plan_builder *p)
{
    mt_hierarchy_allreduce(p, MT_RAILS_ONE, &mt_barrier_dissemination);
}

const struct mt_algorithm mt_barrier_leaders_dissemination = {
    .name = "leaders_dissemination",
    .collective = MANTA_BARRIER,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Hensgen, Finkel, Manber 1988",
    .build = build,
    .unfit = mt_unfit_leaders,
};
