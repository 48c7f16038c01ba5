/* SPDX-License-Identifier: Apache-2.0 */
/* Reduce in tiers: the ranks of a node reduce to its rails, each rail's share goes to the same rail
 * of the root's node, and from there to the root. With one rail it is the leader, which in the
 * root's node is the root.
 * Karonis, de Supinski, Foster, Gropp, Lusk, Bresnahan: Exploiting hierarchy in parallel computer
 * networks to optimize collective operation performance, 2000. */
#include "collectives/algorithms.h"
#include "collectives/hierarchy.h"

/* The rails of the root's group hand their shares to the root. */
static void hand_over(struct mt_plan_builder *p, const struct mt_tier *tier,
                      struct plan_interval blocks)
{
    uint32_t me = plan_rank(p), root = tier->group[tier->holds_root];
    for (uint32_t rail = 0; rail < tier->rails; rail++) {
        uint32_t from = tier->group[mt_tier_rail(tier, rail)];
        if (from == me && root != me)
            plan_send(p, root, mt_tier_share(tier, blocks, rail));
        else if (from != me && root == me)
            plan_recv(p, from, mt_tier_share(tier, blocks, rail));
    }
}

static void climb(const struct mt_hierarchy *h, uint32_t t, struct plan_interval blocks)
{
    const struct mt_tier *tier = &h->tier[t];
    if (t == h->tiers) {
        mt_hierarchy_at_top(h, blocks, &mt_reduce_binomial);
        return;
    }
    mt_hierarchy_phase(h, t, 0);
    mt_tier_reduce(h->p, tier, blocks);
    if (tier->rail != MANTA_PLAN_NONE)
        climb(h, t + 1, mt_tier_share(tier, blocks, tier->rail));
    mt_hierarchy_phase(h, t, 1);
    if (tier->holds_root != MANTA_PLAN_NONE)
        hand_over(h->p, tier, blocks);
}

static void reduce(struct mt_plan_builder *p, enum mt_rails rails)
{
    struct mt_hierarchy h;
    if (mt_hierarchy_open(&h, p, rails, plan_root(p))) {
        plan_blocks(p, mt_hierarchy_blocks(&h, &mt_reduce_binomial), MANTA_PLAN_VECTOR);
        climb(&h, 0, plan_all(p));
    }
    mt_hierarchy_close(&h);
}

static void leaders_binomial(struct mt_plan_builder *p)
{
    reduce(p, MT_RAILS_ONE);
}

static void rails_binomial(struct mt_plan_builder *p)
{
    reduce(p, MT_RAILS_ALL);
}

const struct mt_algorithm mt_reduce_leaders_binomial = {
    .name = "leaders_binomial",
    .collective = MANTA_REDUCE,
    .source = "Karonis, de Supinski, Foster, Gropp, Lusk, Bresnahan 2000",
    .build = leaders_binomial,
    .unfit = mt_unfit_leaders,
};

const struct mt_algorithm mt_reduce_rails_binomial = {
    .name = "rails_binomial",
    .collective = MANTA_REDUCE,
    .source = "Karonis, de Supinski, Foster, Gropp, Lusk, Bresnahan 2000",
    .build = rails_binomial,
    .unfit = mt_unfit_rails,
};
