/* SPDX-License-Identifier: Apache-2.0 */
#include "collectives/hierarchy.h"

#include <stdlib.h>
#include <string.h>

#include "collectives/algorithms.h"

static const enum mt_level levels[MT_TIERS] = {MT_LEVEL_NODE, MT_LEVEL_RACK, MT_LEVEL_ZONE};

/* The ranks of one tier that this rank is among, or would be. */
struct population {
    const uint32_t *ranks;
    uint32_t count, root;
    const uint32_t *group; /* of each rank of the plan */
    uint32_t *sizes;       /* of the groups */
    uint32_t groups, smallest;
};

/* How the population falls into groups. */
static void count_groups(struct population *population)
{
    population->groups = 0;
    population->smallest = population->count;
    for (uint32_t i = 0; i < population->count; i++)
        population->sizes[population->group[population->ranks[i]]] = 0;
    for (uint32_t i = 0; i < population->count; i++)
        population->groups += population->sizes[population->group[population->ranks[i]]]++ == 0;
    for (uint32_t i = 0; i < population->count; i++) {
        uint32_t size = population->sizes[population->group[population->ranks[i]]];
        population->smallest = size < population->smallest ? size : population->smallest;
    }
}

/* The group of a rank; room_out: for its ranks. */
static void find_group(struct mt_tier *tier, const struct population *population, uint32_t rank,
                       uint32_t *room)
{
    uint32_t group = population->group[rank], me = 0;
    tier->group = room;
    tier->holds_root = MANTA_PLAN_NONE;
    for (uint32_t i = 0; i < population->count; i++) {
        uint32_t member = population->ranks[i];
        if (population->group[member] != group)
            continue;
        if (member == rank)
            me = tier->count;
        if (member == population->root)
            tier->holds_root = tier->count;
        room[tier->count++] = member;
    }
    tier->lead = tier->holds_root == MANTA_PLAN_NONE ? 0 : tier->holds_root;
    tier->rail = me < tier->rails ? me : MANTA_PLAN_NONE;
    if (tier->rails == 1)
        tier->rail = me == tier->lead ? 0 : MANTA_PLAN_NONE;
}

/* Those of all groups that go on as rail `rail`, in their order; the root leads its group. */
static uint32_t find_rail(const struct population *population, uint32_t rails, uint32_t rail,
                          uint32_t *room)
{
    uint32_t count = 0, root = population->root;
    uint32_t root_group = root == MANTA_PLAN_NONE ? root : population->group[root];
    for (uint32_t i = 0; i < population->count; i++)
        population->sizes[population->group[population->ranks[i]]] = 0;
    for (uint32_t i = 0; i < population->count; i++) {
        uint32_t rank = population->ranks[i], group = population->group[rank];
        if (population->sizes[group]++ != rail)
            continue;
        room[count++] = rails == 1 && group == root_group ? root : rank;
    }
    return count;
}

/* The rail's rank in the root's group. */
static uint32_t root_of_rail(const struct population *population, uint32_t rail)
{
    uint32_t group = population->group[population->root];
    for (uint32_t i = 0; i < population->count; i++)
        if (population->group[population->ranks[i]] == group && rail-- == 0)
            return population->ranks[i];
    return MANTA_PLAN_NONE;
}

/* The tier above this population, if its ranks fall into groups there; room for its ranks. Returns
 * what is left of the room. Who stays behind follows rail 0, which looks like its own would. */
static uint32_t *climb(struct mt_hierarchy *h, struct population *population, int level,
                       enum mt_rails policy, uint32_t *room)
{
    uint32_t rank = plan_rank(h->p);
    int is_among = h->top != NULL;
    population->group = plan_topology(h->p)->group[level];
    count_groups(population);
    if (population->groups == 1 || population->groups == population->count)
        return room;
    struct mt_tier *tier = &h->tier[h->tiers++];
    tier->is_node = level == MT_LEVEL_NODE;
    tier->rails = policy == MT_RAILS_ONE ? 1 : population->smallest;
    tier->rail = MANTA_PLAN_NONE;
    if (is_among) {
        find_group(tier, population, rank, room);
        room += tier->count;
    }
    uint32_t rail = tier->rail == MANTA_PLAN_NONE ? 0 : tier->rail;
    uint32_t count = find_rail(population, tier->rails, rail, room);
    if (population->root != MANTA_PLAN_NONE && tier->rails > 1)
        population->root = root_of_rail(population, rail);
    population->ranks = room;
    population->count = count;
    h->shares *= tier->rails;
    h->top = tier->rail == MANTA_PLAN_NONE ? NULL : room;
    return room + count;
}

int mt_hierarchy_open(struct mt_hierarchy *h, struct mt_plan_builder *p, enum mt_rails policy,
                      uint32_t root)
{
    uint32_t ranks = plan_ranks(p);
    /* All ranks, their groups' sizes, and a group and a population for each tier. */
    uint32_t *memory = calloc((size_t)ranks * (2 + 2 * MT_TIERS), sizeof(*memory));
    *h = (struct mt_hierarchy){.p = p, .shares = 1, .memory = memory, .top = memory};
    if (!memory) {
        plan_no_memory(p);
        return 0;
    }
    struct population population = {
        .ranks = memory, .count = ranks, .root = root, .sizes = memory + ranks};
    for (uint32_t r = 0; r < ranks; r++)
        memory[r] = r;
    uint32_t *room = memory + 2 * (size_t)ranks;
    for (int i = 0; i < MT_TIERS; i++)
        room = climb(h, &population, (int)levels[i], policy, room);
    h->top_count = population.count;
    for (uint32_t i = 0; i < population.count; i++)
        if (population.ranks[i] == population.root)
            h->top_root = i;
    return 1;
}

void mt_hierarchy_close(struct mt_hierarchy *h)
{
    free(h->memory);
}

struct plan_interval mt_tier_share(const struct mt_tier *tier, struct plan_interval blocks,
                                   uint32_t rail)
{
    uint32_t each = blocks.count / tier->rails;
    return plan_range(blocks.first + rail * each, each);
}

/* Each rail's share is a part of its own in one step of the group. */
static int is_even(const struct mt_tier *tier)
{
    return tier->rails > 1 && tier->rails == tier->count;
}

static void among(struct mt_plan_builder *p, const struct mt_tier *tier, uint32_t root,
                  struct plan_interval blocks, const struct mt_algorithm *algorithm)
{
    plan_within(p,
                &(struct plan_view){
                    .ranks = tier->group, .count = tier->count, .root = root, .blocks = blocks},
                algorithm);
}

/* What is done within a node is one fused step, where there is a transport for it. */
static const struct mt_algorithm *fused_or(struct mt_plan_builder *p, const struct mt_tier *tier,
                                           const struct mt_algorithm *fused,
                                           const struct mt_algorithm *plain)
{
    return tier->is_node && plan_fuses(p) ? fused : plain;
}

void mt_tier_reduce(struct mt_plan_builder *p, const struct mt_tier *tier,
                    struct plan_interval blocks)
{
    if (is_even(tier)) {
        among(p, tier, 0, blocks,
              fused_or(p, tier, &mt_reduce_scatter_fused, &mt_reduce_scatter_ring));
        return;
    }
    for (uint32_t rail = 0; rail < tier->rails; rail++)
        among(p, tier, mt_tier_rail(tier, rail), mt_tier_share(tier, blocks, rail),
              fused_or(p, tier, &mt_reduce_fused, &mt_reduce_binomial));
}

void mt_tier_spread(struct mt_plan_builder *p, const struct mt_tier *tier,
                    struct plan_interval blocks)
{
    if (is_even(tier)) {
        among(p, tier, 0, blocks, fused_or(p, tier, &mt_allgather_fused, &mt_allgather_ring));
        return;
    }
    for (uint32_t rail = 0; rail < tier->rails; rail++)
        among(p, tier, mt_tier_rail(tier, rail), mt_tier_share(tier, blocks, rail),
              fused_or(p, tier, &mt_broadcast_fused, &mt_broadcast_binomial));
}

void mt_tier_broadcast(struct mt_plan_builder *p, const struct mt_tier *tier,
                       struct plan_interval blocks)
{
    among(p, tier, tier->holds_root, blocks,
          fused_or(p, tier, &mt_broadcast_fused, &mt_broadcast_binomial));
}

void mt_hierarchy_phase(const struct mt_hierarchy *h, uint32_t t, int is_down)
{
    plan_lane(h->p, is_down ? 2 * h->tiers - t : t);
}

/* From tier `t` up, and down again. */
static void allreduce(const struct mt_hierarchy *h, uint32_t t, struct plan_interval blocks,
                      const struct mt_algorithm *top)
{
    const struct mt_tier *tier = &h->tier[t];
    if (t == h->tiers) {
        mt_hierarchy_at_top(h, blocks, top);
        return;
    }
    mt_hierarchy_phase(h, t, 0);
    mt_tier_reduce(h->p, tier, blocks);
    if (tier->rail != MANTA_PLAN_NONE)
        allreduce(h, t + 1, mt_tier_share(tier, blocks, tier->rail), top);
    mt_hierarchy_phase(h, t, 1);
    mt_tier_spread(h->p, tier, blocks);
}

void mt_hierarchy_at_top(const struct mt_hierarchy *h, struct plan_interval blocks,
                         const struct mt_algorithm *algorithm)
{
    mt_hierarchy_phase(h, h->tiers, 0);
    plan_within(h->p,
                &(struct plan_view){
                    .ranks = h->top, .count = h->top_count, .root = h->top_root, .blocks = blocks},
                algorithm);
}

uint32_t mt_hierarchy_blocks(const struct mt_hierarchy *h, const struct mt_algorithm *top)
{
    return h->shares * plan_blocks_of(top, h->top_count);
}

void mt_hierarchy_allreduce(struct mt_plan_builder *p, enum mt_rails rails,
                            const struct mt_algorithm *top)
{
    struct mt_hierarchy h;
    if (mt_hierarchy_open(&h, p, rails, MANTA_PLAN_NONE)) {
        plan_blocks(p, mt_hierarchy_blocks(&h, top), MANTA_PLAN_VECTOR);
        allreduce(&h, 0, plan_all(p), top);
    }
    mt_hierarchy_close(&h);
}
