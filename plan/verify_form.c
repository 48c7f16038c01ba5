/* SPDX-License-Identifier: Apache-2.0 */
/* Each plan by itself, before anything follows its indices; and that the ranks' heads agree. */
#include "plan/verifying.h"

#include <string.h>

#include <manta/manta.h>

#include "plan/builder.h"

/* Is `first .. first + count - 1` inside 0 .. limit - 1, and not empty? */
static int within(uint32_t first, uint32_t count, uint64_t limit)
{
    return count > 0 && (uint64_t)first + count <= limit;
}

/* What a rank owns is an interval: its ends decide. */
static int owns(const struct manta_plan *plan, uint32_t buffer, uint32_t first, uint32_t count)
{
    int (*owned)(const struct manta_plan *, uint32_t) =
        buffer == MANTA_PLAN_SRC ? mt_plan_owns_src : mt_plan_owns_dst;
    return owned(plan, first) && owned(plan, first + count - 1);
}

static void check_location(struct mt_verify *v, uint32_t rank, uint32_t step,
                           const struct manta_plan_location *at, int write)
{
    const struct manta_plan *plan = v->plans[rank];
    if (at->buffer > MANTA_PLAN_SCRATCH) {
        mt_verify_fault(v, rank, step, "unknown buffer %u", at->buffer);
    } else if (!within(at->first, at->count, plan->blocks)) {
        mt_verify_fault(v, rank, step, "blocks outside the vector of %u", plan->blocks);
    } else if (at->buffer != MANTA_PLAN_SCRATCH) {
        if (at->region != 0 || at->origin != at->first)
            mt_verify_fault(v, rank, step, "only scratch has regions and origins");
        else if (write && at->buffer == MANTA_PLAN_SRC)
            mt_verify_fault(v, rank, step, "writes the source buffer");
        else if (!owns(plan, at->buffer, at->first, at->count))
            mt_verify_fault(v, rank, step, "touches blocks that this rank does not own");
    } else if (at->region >= plan->region_count) {
        mt_verify_fault(v, rank, step, "no scratch region %u", at->region);
    } else if (at->origin > at->first ||
               !within(at->first - at->origin, at->count, plan->regions[at->region].block_count)) {
        mt_verify_fault(v, rank, step, "outside scratch region %u of %u blocks", at->region,
                        plan->regions[at->region].block_count);
    }
}

/* The first location that is written; of a local step that is the one. */
static uint32_t first_written(const struct manta_plan *plan, const struct manta_plan_step *step)
{
    if (step->kind == MANTA_PLAN_FUSED)
        return mt_verify_member(&plan->fused[step->number], plan->rank)->read_count > 0;
    return step->kind == MANTA_PLAN_SEND ? step->location_count : 0;
}

static void check_locations(struct mt_verify *v, uint32_t rank, uint32_t index)
{
    const struct manta_plan *plan = v->plans[rank];
    const struct manta_plan_step *step = &plan->steps[index];
    const struct manta_plan_location *at = plan->locations + step->location_first;
    int local = step->kind == MANTA_PLAN_COPY || step->kind == MANTA_PLAN_REDUCE;
    uint32_t reads = local ? 0 : first_written(plan, step);
    for (uint32_t i = 0; i < step->location_count && !v->code; i++) {
        check_location(v, rank, index, &at[i], local ? i == 0 : i >= reads);
        if (!v->code && local && (at[i].first != at[0].first || at[i].count != at[0].count))
            mt_verify_fault(v, rank, index, "combines or copies blocks of unequal numbers");
    }
}

static int location_count_fits(const struct manta_plan_step *step)
{
    static const uint32_t least[] = {1, 1, 2, 3, 0};
    static const uint32_t most[] = {MANTA_PLAN_LOCATIONS, MANTA_PLAN_LOCATIONS, 2, 3, 2};
    return step->location_count >= least[step->kind] && step->location_count <= most[step->kind];
}

/* What a member reads and writes is what the declaration says that it does. */
static void check_own_blocks(struct mt_verify *v, uint32_t rank, uint32_t index)
{
    const struct manta_plan *plan = v->plans[rank];
    const struct manta_plan_step *step = &plan->steps[index];
    const struct manta_plan_location *at = plan->locations + step->location_first;
    const struct manta_plan_fused_member *me = mt_verify_member(&plan->fused[step->number], rank);
    uint32_t reads = me->read_count > 0, writes = me->write_count > 0;
    if (step->location_count != reads + writes ||
        (reads && (at[0].first != me->read_first || at[0].count != me->read_count)) ||
        (writes && (at[reads].first != me->write_first || at[reads].count != me->write_count)))
        mt_verify_fault(v, rank, index, "its blocks are not those that it declares");
}

static void check_step(struct mt_verify *v, uint32_t rank, uint32_t index)
{
    const struct manta_plan *plan = v->plans[rank];
    const struct manta_plan_step *step = &plan->steps[index];
    int message = step->kind == MANTA_PLAN_SEND || step->kind == MANTA_PLAN_RECV;
    /* No description of the step until its indices are known to be sound. */
    if (step->kind > MANTA_PLAN_FUSED || step->lane >= plan->lanes || !location_count_fits(step) ||
        (uint64_t)step->location_first + step->location_count > plan->location_count ||
        (uint64_t)step->depend_first + step->depend_count > plan->depend_count ||
        (step->kind == MANTA_PLAN_FUSED && step->number >= plan->fused_count)) {
        mt_verify_fault(v, rank, MANTA_PLAN_NONE,
                        "step %u has an unknown kind or indices outside the plan", index);
        return;
    }
    if (message && (step->peer >= v->ranks || step->peer == rank))
        mt_verify_fault(v, rank, index, "the peer is no other rank");
    for (uint32_t i = 0; i < step->depend_count; i++)
        if (plan->depends[step->depend_first + i] >= index)
            mt_verify_fault(v, rank, index, "depends on itself or on a later step");
    if (step->kind == MANTA_PLAN_FUSED)
        check_own_blocks(v, rank, index);
    if (!v->code)
        check_locations(v, rank, index);
}

static void check_member(struct mt_verify *v, uint32_t rank,
                         const struct manta_plan_fused_member *member)
{
    uint32_t blocks = v->plans[rank]->blocks;
    if (member->rank >= v->ranks)
        mt_verify_fault(v, rank, MANTA_PLAN_NONE, "a fused step names no rank of the plan");
    else if ((member->read_count && !within(member->read_first, member->read_count, blocks)) ||
             (member->write_count && !within(member->write_first, member->write_count, blocks)))
        mt_verify_fault(v, rank, MANTA_PLAN_NONE,
                        "a fused step has member %u use blocks outside the vector", member->rank);
}

/* The parts of an allgather or a reduce_scatter, in the order of members. */
static int parts_fit(const struct manta_plan_fused *fused)
{
    const struct manta_plan_fused_member *head = &fused->members[0];
    int gathers = fused->collective == MANTA_ALLGATHER;
    uint32_t first = gathers ? head->read_first : head->write_first;
    uint32_t count = gathers ? head->read_count : head->write_count;
    for (uint32_t i = 0; i < fused->member_count; i++) {
        const struct manta_plan_fused_member *m = &fused->members[i];
        struct manta_plan_fused_member parts = {m->rank, m->write_first, m->write_count,
                                                m->read_first, m->read_count};
        if (gathers)
            parts = *m;
        if (parts.read_first != first + (uint64_t)i * count || parts.read_count != count ||
            parts.write_first != first ||
            parts.write_count != (uint64_t)fused->member_count * count)
            return 0;
    }
    return 1;
}

static void check_fused(struct mt_verify *v, uint32_t rank, const struct manta_plan_fused *fused)
{
    int in_parts =
        fused->collective == MANTA_ALLGATHER || fused->collective == MANTA_REDUCE_SCATTER;
    if (fused->collective > MANTA_BARRIER || !fused->member_count ||
        fused->member_count > v->ranks || fused->order != MANTA_PLAN_ORDER_BINARY) {
        mt_verify_fault(v, rank, MANTA_PLAN_NONE, "a fused step is not declared soundly");
        return;
    }
    for (uint32_t i = 0; i < fused->member_count && !v->code; i++) {
        if (i > 0 && fused->members[i].rank <= fused->members[i - 1].rank)
            mt_verify_fault(v, rank, MANTA_PLAN_NONE, "a fused step's members do not ascend");
        check_member(v, rank, &fused->members[i]);
    }
    if (!v->code && !mt_verify_member(fused, rank))
        mt_verify_fault(v, rank, MANTA_PLAN_NONE, "a fused step leaves out its own rank");
    if (!v->code && in_parts && !parts_fit(fused))
        mt_verify_fault(v, rank, MANTA_PLAN_NONE,
                        "a fused step's members have no equal parts side by side");
}

static int pair_of(uint32_t x, uint32_t y)
{
    return (x == MANTA_SEND && y == MANTA_RECV) || (x == MANTA_RECV && y == MANTA_SEND);
}

static int in_place_fits(const struct manta_plan *plan)
{
    int one_buffer = plan->collective == MANTA_BROADCAST || plan->collective == MANTA_SEND ||
                     plan->collective == MANTA_RECV ||
                     (plan->collective == MANTA_REDUCE && plan->rank != plan->root);
    return plan->in_place <= !one_buffer;
}

static void check_head(struct mt_verify *v, uint32_t rank)
{
    const struct manta_plan *plan = v->plans[rank], *any = v->any;
    int rooted = plan->collective == MANTA_BROADCAST || plan->collective == MANTA_REDUCE ||
                 plan->collective == MANTA_SEND || plan->collective == MANTA_RECV;
    int paired = pair_of(plan->collective, any->collective);
    if (plan->size != sizeof(*plan) || plan->rank != rank || plan->ranks != v->ranks)
        mt_verify_fault(v, rank, MANTA_PLAN_NONE, "not a plan for this rank of %u", v->ranks);
    else if (plan->collective >= MANTA_COLLECTIVE_COUNT ||
             (plan->collective != any->collective && !paired))
        mt_verify_fault(v, rank, MANTA_PLAN_NONE, "the ranks' plans are of several collectives");
    else if (plan->blocks != any->blocks || plan->layout != any->layout || !plan->blocks ||
             plan->blocks > MT_PLAN_BLOCKS_MAX || plan->layout > MANTA_PLAN_RANKS ||
             (plan->layout == MANTA_PLAN_RANKS && plan->blocks % v->ranks))
        mt_verify_fault(v, rank, MANTA_PLAN_NONE, "the ranks' partitions differ or are not sound");
    else if (plan->whole != any->whole || plan->whole > 1)
        mt_verify_fault(v, rank, MANTA_PLAN_NONE, "runs whole, or in segments, unlike others");
    else if ((plan->layout == MANTA_PLAN_RANKS) !=
             (plan->collective == MANTA_ALLGATHER || plan->collective == MANTA_REDUCE_SCATTER))
        mt_verify_fault(v, rank, MANTA_PLAN_NONE, "the layout does not suit the collective");
    else if (rooted ? plan->root >= v->ranks : plan->root != MANTA_PLAN_NONE)
        mt_verify_fault(v, rank, MANTA_PLAN_NONE, "the root is not valid");
    else if (plan->collective < MANTA_SEND && plan->root != any->root)
        mt_verify_fault(v, rank, MANTA_PLAN_NONE, "the ranks' roots differ");
    else if (!plan->lanes || plan->lanes > MT_PLAN_LANES_MAX || !in_place_fits(plan))
        mt_verify_fault(v, rank, MANTA_PLAN_NONE, "lanes or in_place are not valid");
}

void mt_verify_form(struct mt_verify *v)
{
    for (uint32_t r = 0; r < v->ranks && !v->any; r++)
        v->any = v->plans[r];
    if (!v->any) {
        mt_verify_fault(v, 0, MANTA_PLAN_NONE, "no rank has a plan");
        return;
    }
    for (uint32_t r = 0; r < v->ranks && !v->code; r++) {
        const struct manta_plan *plan = v->plans[r];
        if (!plan && v->any->collective != MANTA_SEND && v->any->collective != MANTA_RECV)
            mt_verify_fault(v, r, MANTA_PLAN_NONE, "has no plan");
        if (!plan)
            continue;
        check_head(v, r);
        for (uint32_t i = 0; i < plan->region_count && !v->code; i++)
            if (plan->regions[i].block_count > plan->blocks)
                mt_verify_fault(v, r, MANTA_PLAN_NONE,
                                "scratch region %u is larger than the vector", i);
        for (uint32_t i = 0; i < plan->fused_count && !v->code; i++)
            check_fused(v, r, &plan->fused[i]);
        for (uint32_t s = 0; s < plan->step_count && !v->code; s++)
            check_step(v, r, s);
        if (!v->code && !plan->whole && mt_plan_needs_whole(plan))
            mt_verify_fault(v, r, MANTA_PLAN_NONE, "cannot run in segments");
    }
}

/* Do both ends name the same blocks in the same order? */
static int blocks_agree(const struct manta_plan *from, const struct manta_plan_step *send,
                        const struct manta_plan *to, const struct manta_plan_step *recv)
{
    const struct manta_plan_location *x = from->locations + send->location_first;
    const struct manta_plan_location *y = to->locations + recv->location_first;
    const struct manta_plan_location *x_end = x + send->location_count;
    const struct manta_plan_location *y_end = y + recv->location_count;
    for (uint32_t in_x = 0, in_y = 0; x < x_end && y < y_end;) {
        uint32_t rest_x = x->count - in_x, rest_y = y->count - in_y;
        uint32_t rest = rest_x < rest_y ? rest_x : rest_y;
        if (x->first + in_x != y->first + in_y)
            return 0;
        in_x += rest;
        in_y += rest;
        if (in_x == x->count) {
            x++;
            in_x = 0;
        }
        if (in_y == y->count) {
            y++;
            in_y = 0;
        }
        if ((x == x_end) != (y == y_end))
            return 0;
    }
    return 1;
}

void mt_verify_messages(struct mt_verify *v)
{
    for (uint32_t r = 0; r < v->ranks && !v->code; r++) {
        const struct manta_plan *plan = v->plans[r];
        for (uint32_t s = 0; plan && s < plan->step_count && !v->code; s++) {
            const struct manta_plan_step *step = &plan->steps[s];
            if (step->kind != MANTA_PLAN_SEND && step->kind != MANTA_PLAN_RECV)
                continue;
            uint32_t partner = v->match.partner[v->match.first[r] + s];
            if (partner == MANTA_PLAN_NONE) {
                mt_verify_fault(v, r, s, "no step of rank %u meets it", step->peer);
                continue;
            }
            const struct manta_plan *peer = v->plans[step->peer];
            if (step->kind == MANTA_PLAN_SEND &&
                !blocks_agree(plan, step, peer, &peer->steps[partner]))
                mt_verify_fault(v, r, s, "rank %u receives other blocks (its step %u)", step->peer,
                                partner);
        }
    }
}
