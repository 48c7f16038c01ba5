/* SPDX-License-Identifier: Apache-2.0 */
/* Broadcast in tiers: from the root to the leaders of the racks, of the nodes, of those to the
 * ranks of their nodes. With all ranks of the root's node as rails, each sends its share of the
 * vector to the same rail of the other nodes, whose ranks then gather the shares.
 * Karonis, de Supinski, Foster, Gropp, Lusk, Bresnahan: Exploiting hierarchy in parallel computer
 * networks to optimize collective operation performance, 2000. */
#include "collectives/algorithms.h"
#include "collectives/hierarchy.h"

/* What the ranks at the top have comes down through tier `t`. */
static void descend(const struct mt_hierarchy *h, uint32_t t, struct plan_interval blocks,
                    const struct mt_algorithm *top)
{
    const struct mt_tier *tier = &h->tier[t];
    if (t == h->tiers) {
        mt_hierarchy_at_top(h, blocks, top);
        return;
    }
    int holds_root = tier->holds_root != MANTA_PLAN_NONE;
    mt_hierarchy_phase(h, t, 0);
    if (holds_root && tier->rails > 1)
        mt_tier_broadcast(h->p, tier, blocks);
    if (tier->rail != MANTA_PLAN_NONE)
        descend(h, t + 1, mt_tier_share(tier, blocks, tier->rail), top);
    mt_hierarchy_phase(h, t, 1);
    if (!holds_root || tier->rails == 1)
        mt_tier_spread(h->p, tier, blocks);
}

static void broadcast(struct mt_plan_builder *p, enum mt_rails rails,
                      const struct mt_algorithm *top)
{
    struct mt_hierarchy h;
    if (mt_hierarchy_open(&h, p, rails, plan_root(p))) {
        plan_blocks(p, mt_hierarchy_blocks(&h, top), MANTA_PLAN_VECTOR);
        descend(&h, 0, plan_all(p), top);
    }
    mt_hierarchy_close(&h);
}

static void leaders_binomial(struct mt_plan_builder *p)
{
    broadcast(p, MT_RAILS_ONE, &mt_broadcast_binomial);
}

static void leaders_chain(struct mt_plan_builder *p)
{
    broadcast(p, MT_RAILS_ONE, &mt_broadcast_chain);
}

static void rails_binomial(struct mt_plan_builder *p)
{
    broadcast(p, MT_RAILS_ALL, &mt_broadcast_binomial);
}

static void rails_chain(struct mt_plan_builder *p)
{
    broadcast(p, MT_RAILS_ALL, &mt_broadcast_chain);
}

static void rails_double_tree(struct mt_plan_builder *p)
{
    broadcast(p, MT_RAILS_ALL, &mt_broadcast_double_tree);
}

const struct mt_algorithm mt_broadcast_leaders_binomial = {
    .name = "leaders_binomial",
    .collective = MANTA_BROADCAST,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Karonis, de Supinski, Foster, Gropp, Lusk, Bresnahan 2000",
    .build = leaders_binomial,
    .unfit = mt_unfit_leaders,
};

const struct mt_algorithm mt_broadcast_leaders_chain = {
    .name = "leaders_chain",
    .collective = MANTA_BROADCAST,
    .one_way = 1,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Karonis, de Supinski, Foster, Gropp, Lusk, Bresnahan 2000",
    .build = leaders_chain,
    .unfit = mt_unfit_leaders,
};

const struct mt_algorithm mt_broadcast_rails_binomial = {
    .name = "rails_binomial",
    .collective = MANTA_BROADCAST,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Karonis, de Supinski, Foster, Gropp, Lusk, Bresnahan 2000",
    .build = rails_binomial,
    .unfit = mt_unfit_rails,
};

const struct mt_algorithm mt_broadcast_rails_chain = {
    .name = "rails_chain",
    .collective = MANTA_BROADCAST,
    .one_way = 1,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Karonis, de Supinski, Foster, Gropp, Lusk, Bresnahan 2000",
    .build = rails_chain,
    .unfit = mt_unfit_rails,
};

const struct mt_algorithm mt_broadcast_rails_double_tree = {
    .name = "rails_double_tree",
    .collective = MANTA_BROADCAST,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Karonis, de Supinski, Foster, Gropp, Lusk, Bresnahan 2000",
    .build = rails_double_tree,
    .unfit = mt_unfit_rails,
};
