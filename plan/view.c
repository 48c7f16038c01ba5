/* SPDX-License-Identifier: Apache-2.0 */
/* Views: some of the ranks, and some of the blocks, stand for the whole while an algorithm is built
 * that knows nothing of the others. */
#include <manta/manta.h>

#include "plan/building.h"

const struct mt_topology *plan_topology(const struct mt_plan_builder *p)
{
    return p->topology;
}

uint32_t plan_fuses(const struct mt_plan_builder *p)
{
    return p->fuses;
}

void plan_as_one(struct mt_plan_builder *p)
{
    p->plan.whole = 1;
}

void plan_no_memory(struct mt_plan_builder *p)
{
    if (mt_plan_going(p))
        mt_error_set(p->error, MANTA_ENOMEM, "no memory for a plan of %u ranks; free some",
                     p->plan.ranks);
}

/* First of the plan's blocks that block `index` of the partition is cut from. */
static uint32_t cut(const struct mt_plan_frame *frame, uint32_t index)
{
    return frame->within.first + (uint32_t)((uint64_t)frame->within.count * index / frame->blocks);
}

/* Parts that lie side by side are as good as an interval. */
static struct plan_interval join_parts(struct mt_plan_builder *b, struct plan_interval blocks)
{
    struct plan_interval joined = b->frame.parts[blocks.first];
    for (uint32_t i = 1; i < blocks.count; i++) {
        const struct plan_interval *part = &b->frame.parts[(blocks.first + i) % b->frame.blocks];
        if (part->first != joined.first + joined.count)
            mt_plan_refuse(b, "a step names parts of a view that do not lie side by side");
        joined.count += part->count;
    }
    return joined;
}

struct plan_interval mt_plan_place_of(struct mt_plan_builder *b, struct plan_interval blocks)
{
    const struct mt_plan_frame *frame = &b->frame;
    const struct plan_interval *within = &frame->within;
    uint32_t to_end = frame->blocks - blocks.first;
    if (!frame->members)
        return blocks;
    if (frame->parts)
        return join_parts(b, blocks);
    uint32_t first = cut(frame, blocks.first), count;
    if (blocks.count <= to_end)
        count = cut(frame, blocks.first + blocks.count) - first;
    else
        count = within->first + within->count - first + cut(frame, blocks.count - to_end) -
                within->first;
    if (first == within->first + within->count) /* what is cut from there is empty */
        first = within->first;
    return (struct plan_interval){first, count, blocks.around};
}

uint32_t mt_plan_room_for(const struct mt_plan_builder *b, uint32_t blocks)
{
    const struct mt_plan_frame *frame = &b->frame;
    uint64_t room = 0;
    if (!frame->members)
        return blocks;
    if (!frame->parts) {
        room = ((uint64_t)frame->within.count * blocks + frame->blocks - 1) / frame->blocks;
        return (uint32_t)(room < frame->within.count ? room : frame->within.count);
    }
    for (uint32_t i = 0; i < frame->ranks; i++)
        room = frame->parts[i].count > room ? frame->parts[i].count : room;
    room *= blocks;
    return (uint32_t)(room < b->plan.blocks ? room : b->plan.blocks);
}

void plan_within(struct mt_plan_builder *p, const struct plan_view *view,
                 const struct mt_algorithm *algorithm)
{
    const struct mt_plan_frame outer = p->frame;
    uint32_t me = 0;
    while (me < view->count && view->ranks[me] != p->plan.rank)
        me++;
    if (!mt_plan_going(p) || me == view->count || view->count == 1)
        return;
    if (outer.members)
        mt_plan_refuse(p, "views do not nest");
    if (!view->parts && (view->blocks.first >= p->plan.blocks || !view->blocks.count ||
                         view->blocks.count > p->plan.blocks - view->blocks.first))
        mt_plan_refuse(p, "a view names blocks that do not exist");
    p->frame = (struct mt_plan_frame){
        .collective = algorithm->collective,
        .rank = me,
        .ranks = view->count,
        .root = mt_plan_takes_root(algorithm->collective) ? view->root : MANTA_PLAN_NONE,
        .parameter = view->parameter,
        .members = view->ranks,
        .within = view->blocks,
        .parts = view->parts};
    if (mt_plan_going(p))
        algorithm->build(p);
    p->frame = outer;
}

uint32_t plan_blocks_of(const struct mt_algorithm *algorithm, uint32_t ranks)
{
    struct mt_error error;
    error.code = 0;
    struct mt_plan_builder probe = {.plan = {.algorithm = algorithm->name, .ranks = ranks},
                                    .frame = {.collective = algorithm->collective, .ranks = ranks},
                                    .only_measures = 1,
                                    .error = &error};
    algorithm->build(&probe);
    return probe.frame.blocks;
}
