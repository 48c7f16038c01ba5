/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All plans run together under the weakest engine that plan.h allows: each lane of each segment
 * issues in order with MANTA_PLAN_WINDOW steps outstanding, a message completes when both ends are
 * issued, a fused step when all its members are, and segment k of a rank starts when its segment
 * k - MT_PLAN_DEPTH is complete. See verify.c for why one run suffices.
 */
#include "plan/verifying.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

enum { SEGMENTS = MT_PLAN_DEPTH + 2, WAITING = 0, ISSUED = 1, COMPLETE = 2 };

/* One segment of one rank. */
struct instance {
    uint32_t complete; /* steps */
    uint32_t queued;
};

struct run {
    struct mt_verify *v;
    uint64_t steps;             /* of one segment of all ranks */
    uint8_t *states;            /* [segment][step of all ranks] */
    uint32_t *next_in_lane;     /* [step of all ranks]: the lane's next step, or NONE */
    uint32_t *lane_head;        /* [instance][lane]: the lane's next step to issue */
    uint32_t *lane_outstanding; /* [instance][lane] */
    struct instance *instances; /* [segment][rank] */
    struct mt_plan_turn *turns; /* [rank] */
    uint64_t *queue;            /* instances to look at; each is in it at most once */
    uint64_t queue_first, queue_count, queue_size;
    uint32_t lanes;
};

static void enqueue(struct run *run, uint32_t segment, uint32_t rank)
{
    uint64_t index = (uint64_t)segment * run->v->ranks + rank;
    if (run->instances[index].queued)
        return;
    run->instances[index].queued = 1;
    run->queue[(run->queue_first + run->queue_count++) % run->queue_size] = index;
}

static uint8_t *state_of(struct run *run, uint32_t segment, uint32_t rank, uint32_t step)
{
    return &run->states[segment * run->steps + run->v->match.first[rank] + step];
}

static void complete(struct run *run, uint32_t segment, uint32_t rank, uint32_t step)
{
    const struct manta_plan *plan = run->v->plans[rank];
    uint64_t instance = (uint64_t)segment * run->v->ranks + rank;
    *state_of(run, segment, rank, step) = COMPLETE;
    run->lane_outstanding[instance * run->lanes + plan->steps[step].lane]--;
    run->instances[instance].complete++;
    enqueue(run, segment, rank);
    if (run->instances[instance].complete == plan->step_count && segment + MT_PLAN_DEPTH < SEGMENTS)
        enqueue(run, segment + MT_PLAN_DEPTH, rank);
}

static void note_event(struct run *run, uint32_t segment, uint32_t rank, uint32_t step)
{
    if (segment == 0)
        run->v->events[run->v->event_count++] = (struct mt_verify_event){rank, step};
}

static int same_fused(const struct manta_plan_fused *x, const struct manta_plan_fused *y)
{
    return x->collective == y->collective && x->root == y->root && x->order == y->order &&
           x->member_count == y->member_count &&
           memcmp(x->members, y->members, x->member_count * sizeof(*x->members)) == 0;
}

static void try_fused(struct run *run, uint32_t segment, uint32_t rank, uint32_t step)
{
    uint32_t number = run->v->plans[rank]->steps[step].number;
    const struct manta_plan_fused *fused = &run->v->plans[rank]->fused[number];
    for (uint32_t i = 0; i < fused->member_count; i++) {
        uint32_t member = fused->members[i].rank;
        uint32_t theirs = mt_plan_find_fused(run->v->plans[member], number);
        if (theirs == MANTA_PLAN_NONE || *state_of(run, segment, member, theirs) != ISSUED)
            return;
    }
    for (uint32_t i = 0; i < fused->member_count; i++) {
        uint32_t member = fused->members[i].rank;
        if (!same_fused(&run->v->plans[member]->fused[number], fused))
            mt_verify_fault(run->v, rank, step, "rank %u declares this fused step otherwise",
                            member);
        else if (run->v->plans[member]->fused_count != run->v->plans[rank]->fused_count)
            mt_verify_fault(run->v, rank, step, "rank %u has another number of fused steps",
                            member);
    }
    note_event(run, segment, rank, step);
    for (uint32_t i = 0; i < fused->member_count; i++)
        complete(run, segment, fused->members[i].rank,
                 mt_plan_find_fused(run->v->plans[fused->members[i].rank], number));
}

static void try_message(struct run *run, uint32_t segment, uint32_t rank, uint32_t step)
{
    const struct manta_plan_step *at = &run->v->plans[rank]->steps[step];
    uint32_t partner = run->v->match.partner[run->v->match.first[rank] + step];
    if (*state_of(run, segment, at->peer, partner) != ISSUED)
        return;
    if (at->kind == MANTA_PLAN_RECV)
        note_event(run, segment, rank, step);
    else
        note_event(run, segment, at->peer, partner);
    complete(run, segment, rank, step);
    complete(run, segment, at->peer, partner);
}

/* Another segment's fused step may be the next. */
static void pass_turn(struct run *run, uint32_t rank)
{
    struct mt_plan_turn *turn = &run->turns[rank];
    uint32_t fused = run->v->plans[rank]->fused_count;
    if (mt_plan_turn_next(turn, fused, SEGMENTS))
        enqueue(run, (uint32_t)mt_plan_turn_segment(turn, fused), rank);
}

static int has_turn(const struct run *run, uint32_t segment, uint32_t rank, uint32_t number)
{
    const struct mt_plan_turn *turn = &run->turns[rank];
    return turn->number == number &&
           mt_plan_turn_segment(turn, run->v->plans[rank]->fused_count) == segment;
}

static void issue(struct run *run, uint32_t segment, uint32_t rank, uint32_t step)
{
    *state_of(run, segment, rank, step) = ISSUED;
    switch (run->v->plans[rank]->steps[step].kind) {
    case MANTA_PLAN_SEND:
    case MANTA_PLAN_RECV:
        try_message(run, segment, rank, step);
        break;
    case MANTA_PLAN_FUSED:
        pass_turn(run, rank);
        try_fused(run, segment, rank, step);
        break;
    default:
        note_event(run, segment, rank, step);
        complete(run, segment, rank, step);
    }
}

static int ready(struct run *run, uint32_t segment, uint32_t rank, uint32_t step)
{
    const struct manta_plan *plan = run->v->plans[rank];
    const struct manta_plan_step *at = &plan->steps[step];
    for (uint32_t i = 0; i < at->depend_count; i++)
        if (*state_of(run, segment, rank, plan->depends[at->depend_first + i]) != COMPLETE)
            return 0;
    return at->kind != MANTA_PLAN_FUSED || has_turn(run, segment, rank, at->number);
}

static void advance(struct run *run, uint64_t instance)
{
    uint32_t segment = (uint32_t)(instance / run->v->ranks);
    uint32_t rank = (uint32_t)(instance % run->v->ranks);
    const struct manta_plan *plan = run->v->plans[rank];
    if (!plan || (segment >= MT_PLAN_DEPTH &&
                  run->instances[instance - (uint64_t)MT_PLAN_DEPTH * run->v->ranks].complete <
                      plan->step_count))
        return;
    for (uint32_t lane = 0; lane < plan->lanes && !run->v->code; lane++) {
        uint32_t *head = &run->lane_head[instance * run->lanes + lane];
        uint32_t *outstanding = &run->lane_outstanding[instance * run->lanes + lane];
        while (*head != MANTA_PLAN_NONE && *outstanding < MANTA_PLAN_WINDOW &&
               ready(run, segment, rank, *head) && !run->v->code) {
            uint32_t step = *head;
            *head = run->next_in_lane[run->v->match.first[rank] + step];
            ++*outstanding;
            issue(run, segment, rank, step);
        }
    }
}

static void find_lanes(struct run *run, uint32_t rank)
{
    const struct manta_plan *plan = run->v->plans[rank];
    uint32_t *heads = run->lane_head + (size_t)rank * run->lanes; /* of segment 0 */
    for (uint32_t lane = 0; lane < run->lanes; lane++)
        heads[lane] = MANTA_PLAN_NONE;
    for (uint32_t s = plan ? plan->step_count : 0; s-- > 0;) {
        uint32_t *head = &heads[plan->steps[s].lane];
        run->next_in_lane[run->v->match.first[rank] + s] = *head;
        *head = s;
    }
}

static int open_run(struct run *run)
{
    struct mt_verify *v = run->v;
    size_t instances = (size_t)SEGMENTS * v->ranks;
    run->steps = v->match.first[v->ranks];
    run->lanes = 1;
    for (uint32_t r = 0; r < v->ranks; r++)
        if (v->plans[r] && v->plans[r]->lanes > run->lanes)
            run->lanes = v->plans[r]->lanes;
    run->queue_size = instances;
    run->states = calloc(run->steps + 1, SEGMENTS);
    run->next_in_lane = malloc((run->steps + 1) * sizeof(*run->next_in_lane));
    run->lane_head = malloc(instances * run->lanes * sizeof(*run->lane_head));
    run->lane_outstanding = calloc(instances, run->lanes * sizeof(*run->lane_outstanding));
    run->instances = calloc(instances, sizeof(*run->instances));
    run->turns = calloc(v->ranks, sizeof(*run->turns));
    run->queue = malloc(instances * sizeof(*run->queue));
    v->events = malloc((run->steps + 1) * sizeof(*v->events));
    if (!run->states || !run->next_in_lane || !run->lane_head || !run->lane_outstanding ||
        !run->instances || !run->turns || !run->queue || !v->events)
        return MANTA_ENOMEM;
    for (uint32_t r = 0; r < v->ranks; r++)
        find_lanes(run, r);
    for (uint32_t segment = 1; segment < SEGMENTS; segment++)
        memcpy(run->lane_head + (size_t)segment * v->ranks * run->lanes, run->lane_head,
               (size_t)v->ranks * run->lanes * sizeof(*run->lane_head));
    return 0;
}

/* Name the first step that waits for ever. */
static void report_stuck(struct run *run)
{
    for (uint32_t segment = 0; segment < SEGMENTS; segment++) {
        for (uint32_t r = 0; r < run->v->ranks; r++) {
            const struct manta_plan *plan = run->v->plans[r];
            for (uint32_t s = 0; plan && s < plan->step_count; s++) {
                uint8_t state = *state_of(run, segment, r, s);
                if (state != COMPLETE)
                    mt_verify_fault(run->v, r, s, "deadlock: it is never %s (segment %u)",
                                    state == ISSUED ? "met by its counterpart" : "issued", segment);
            }
        }
    }
}

void mt_verify_run(struct mt_verify *v)
{
    struct run run = {.v = v};
    if (open_run(&run)) {
        mt_verify_no_memory(v);
    } else {
        for (uint32_t segment = 0; segment < SEGMENTS; segment++)
            for (uint32_t r = 0; r < v->ranks; r++)
                enqueue(&run, segment, r);
        while (run.queue_count && !v->code) {
            uint64_t instance = run.queue[run.queue_first];
            run.queue_first = (run.queue_first + 1) % run.queue_size;
            run.queue_count--;
            run.instances[instance].queued = 0;
            advance(&run, instance);
        }
        report_stuck(&run);
    }
    free(run.states);
    free(run.next_in_lane);
    free(run.lane_head);
    free(run.lane_outstanding);
    free(run.instances);
    free(run.turns);
    free(run.queue);
}
