/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/mutate.h"

#include <stdlib.h>
#include <string.h>

enum { EXTRA = 4 }; /* room for inserted steps, locations and dependencies */

struct draft {
    struct manta_plan *const *plans; /* as they were */
    uint32_t ranks;
    struct manta_plan **mutated;
    void (*judge)(const struct mutant *, struct manta_plan *const *, void *arg);
    void *arg;
};

/* A copy with arrays of its own that may be changed. */
struct copy {
    struct manta_plan plan;
    struct manta_plan_step *steps;
    struct manta_plan_location *locations;
    uint32_t *depends;
    struct manta_plan_region *regions;
};

const char *mutant_kind_name(uint32_t kind)
{
    static const char *const names[] = {
        "dropped step",       "dropped message",    "swapped peers",
        "shifted step",       "shifted message",    "doubled reduce",
        "removed dependency", "too little scratch", "merged scratch"};
    return kind < MUTANT_KINDS ? names[kind] : "?";
}

int mutant_executable(uint32_t kind)
{
    return kind != MUTANT_SMALLER_SCRATCH;
}

static void *duplicate(const void *items, size_t count, size_t bytes)
{
    void *copy = calloc(count + EXTRA, bytes);
    if (count)
        memcpy(copy, items, count * bytes);
    return copy;
}

static struct copy *open_copy(const struct manta_plan *plan)
{
    struct copy *copy = calloc(1, sizeof(*copy));
    copy->plan = *plan;
    copy->plan.steps = copy->steps = duplicate(plan->steps, plan->step_count, sizeof(*copy->steps));
    copy->plan.locations = copy->locations =
        duplicate(plan->locations, plan->location_count, sizeof(*copy->locations));
    copy->plan.depends = copy->depends =
        duplicate(plan->depends, plan->depend_count, sizeof(*copy->depends));
    copy->plan.regions = copy->regions =
        duplicate(plan->regions, plan->region_count, sizeof(*copy->regions));
    return copy;
}

static void close_copy(struct copy *copy)
{
    free(copy->steps);
    free(copy->locations);
    free(copy->depends);
    free(copy->regions);
    free(copy);
}

/* Messages keep their order but get running numbers again. */
static void renumber(struct copy *copy)
{
    uint32_t *numbers = calloc(copy->plan.ranks, 2 * sizeof(*numbers));
    for (uint32_t s = 0; s < copy->plan.step_count; s++) {
        struct manta_plan_step *step = &copy->steps[s];
        if (step->kind == MANTA_PLAN_SEND || step->kind == MANTA_PLAN_RECV)
            step->number = numbers[step->peer * 2 + step->kind]++;
    }
    free(numbers);
}

/* Write all dependencies anew: step s depends on those that `wanted` (a row of bytes) marks. */
static void set_depends(struct copy *copy, const uint8_t *wanted)
{
    uint32_t steps = copy->plan.step_count, used = 0, total = 0;
    for (uint32_t i = 0; i < steps * steps; i++)
        total += wanted[i];
    free(copy->depends);
    copy->plan.depends = copy->depends = calloc(total + 1, sizeof(*copy->depends));
    copy->plan.depend_count = total;
    for (uint32_t s = 0; s < steps; s++) {
        copy->steps[s].depend_first = used;
        for (uint32_t on = 0; on < steps; on++)
            if (wanted[s * steps + on])
                copy->depends[used++] = on;
        copy->steps[s].depend_count = used - copy->steps[s].depend_first;
    }
}

static uint8_t *get_depends(const struct manta_plan *plan)
{
    uint8_t *wanted = calloc((size_t)plan->step_count * plan->step_count + 1, 1);
    for (uint32_t s = 0; s < plan->step_count; s++)
        for (uint32_t i = 0; i < plan->steps[s].depend_count; i++)
            wanted[s * plan->step_count + plan->depends[plan->steps[s].depend_first + i]] = 1;
    return wanted;
}

static void drop(struct copy *copy, uint32_t dropped)
{
    uint32_t before = copy->plan.step_count, steps = before - 1;
    uint8_t *old = get_depends(&copy->plan), *wanted = calloc((size_t)before * before, 1);
    for (uint32_t s = 0; s < steps; s++) {
        const uint8_t *row = old + (s + (s >= dropped)) * before;
        for (uint32_t on = 0; on < steps; on++) {
            uint32_t was = on + (on >= dropped);
            wanted[s * steps + on] = row[was] | (row[dropped] & old[dropped * before + was]);
        }
    }
    memmove(copy->steps + dropped, copy->steps + dropped + 1,
            (steps - dropped) * sizeof(*copy->steps));
    copy->plan.step_count = steps;
    set_depends(copy, wanted);
    free(old);
    free(wanted);
}

/* The step is done once before: step + 1 is the old one and depends on its double. */
static void repeat(struct copy *copy, uint32_t step)
{
    uint32_t before = copy->plan.step_count, steps = before + 1;
    uint8_t *old = get_depends(&copy->plan), *wanted = calloc((size_t)steps * steps + 1, 1);
    for (uint32_t s = 0; s < steps; s++) {
        const uint8_t *row = old + (s - (s > step)) * before;
        for (uint32_t on = 0; on < before; on++)
            wanted[s * steps + on + (on >= step)] = row[on];
    }
    wanted[(step + 1) * steps + step] = 1;
    memmove(copy->steps + step + 1, copy->steps + step, (before - step) * sizeof(*copy->steps));
    copy->plan.step_count = steps;
    set_depends(copy, wanted);
    free(old);
    free(wanted);
}

static void shift(struct copy *copy, uint32_t step)
{
    const struct manta_plan_step *at = &copy->steps[step];
    for (uint32_t i = 0; i < at->location_count; i++) {
        struct manta_plan_location *location = &copy->locations[at->location_first + i];
        uint32_t last = copy->plan.blocks - location->count;
        uint32_t by = location->first < last ? 1 : (uint32_t) - (int32_t)last;
        location->first += by;
        location->origin += by; /* scratch moves with it and keeps its size */
    }
}

static void merge(struct copy *copy, uint32_t kept, uint32_t gone)
{
    for (uint32_t i = 0; i < copy->plan.location_count; i++) {
        struct manta_plan_location *location = &copy->locations[i];
        if (location->buffer == MANTA_PLAN_SCRATCH && location->region == gone)
            location->region = kept;
    }
}

static int is_message(const struct manta_plan_step *step)
{
    return step->kind == MANTA_PLAN_SEND || step->kind == MANTA_PLAN_RECV;
}

static uint32_t counterpart(const struct manta_plan *mine, uint32_t step,
                            const struct manta_plan *theirs)
{
    const struct manta_plan_step *at = &mine->steps[step];
    for (uint32_t s = 0; s < theirs->step_count; s++)
        if (is_message(&theirs->steps[s]) && theirs->steps[s].kind != at->kind &&
            theirs->steps[s].peer == mine->rank && theirs->steps[s].number == at->number)
            return s;
    return MANTA_PLAN_NONE;
}

static int both_ends(uint32_t kind)
{
    return kind == MUTANT_DROPPED_MESSAGE || kind == MUTANT_SHIFTED_MESSAGE;
}

static void change(struct copy *copy, const struct mutant *m, uint32_t step)
{
    switch (m->kind) {
    case MUTANT_DROPPED_STEP:
        drop(copy, step);
        break;
    case MUTANT_DROPPED_MESSAGE:
        drop(copy, step);
        renumber(copy);
        break;
    case MUTANT_SWAPPED_PEERS: {
        uint32_t peer = copy->steps[step].peer;
        copy->steps[step].peer = copy->steps[m->other].peer;
        copy->steps[m->other].peer = peer;
        renumber(copy);
        break;
    }
    case MUTANT_SHIFTED_STEP:
    case MUTANT_SHIFTED_MESSAGE:
        shift(copy, step);
        break;
    case MUTANT_DOUBLED_REDUCE:
        repeat(copy, step);
        break;
    case MUTANT_REMOVED_DEPENDENCY: {
        struct manta_plan_step *at = &copy->steps[step];
        copy->depends[at->depend_first + m->other] =
            copy->depends[at->depend_first + --at->depend_count];
        break;
    }
    case MUTANT_SMALLER_SCRATCH:
        copy->regions[m->other].block_count--;
        break;
    default:
        merge(copy, m->other - 1, m->other);
    }
}

static void present(struct draft *d, struct mutant m)
{
    struct copy *mine = open_copy(d->plans[m.rank]), *theirs = NULL;
    uint32_t peer = MANTA_PLAN_NONE;
    change(mine, &m, m.step);
    d->mutated[m.rank] = &mine->plan;
    if (both_ends(m.kind)) {
        peer = d->plans[m.rank]->steps[m.step].peer;
        theirs = open_copy(d->plans[peer]);
        change(theirs, &m, counterpart(d->plans[m.rank], m.step, d->plans[peer]));
        d->mutated[peer] = &theirs->plan;
    }
    d->judge(&m, d->mutated, d->arg);
    d->mutated[m.rank] = d->plans[m.rank];
    close_copy(mine);
    if (theirs) {
        d->mutated[peer] = d->plans[peer];
        close_copy(theirs);
    }
}

/* Is there another place for its blocks? */
static int moves(const struct manta_plan *plan, const struct manta_plan_step *step)
{
    int any = 0;
    for (uint32_t i = 0; i < step->location_count; i++)
        any |= plan->locations[step->location_first + i].count < plan->blocks;
    return any;
}

static void mutate_step(struct draft *d, uint32_t rank, uint32_t index)
{
    const struct manta_plan *plan = d->plans[rank];
    const struct manta_plan_step *step = &plan->steps[index];
    struct mutant m = {MUTANT_DROPPED_STEP, rank, index, 0};
    present(d, m);
    if (step->kind == MANTA_PLAN_SEND) /* once for each message */
        present(d, (struct mutant){MUTANT_DROPPED_MESSAGE, rank, index, 0});
    if (moves(plan, step))
        present(d, (struct mutant){MUTANT_SHIFTED_STEP, rank, index, 0});
    if (step->kind == MANTA_PLAN_SEND && moves(plan, step))
        present(d, (struct mutant){MUTANT_SHIFTED_MESSAGE, rank, index, 0});
    if (step->kind == MANTA_PLAN_REDUCE)
        present(d, (struct mutant){MUTANT_DOUBLED_REDUCE, rank, index, 0});
    for (uint32_t i = 0; i < step->depend_count; i++)
        present(d, (struct mutant){MUTANT_REMOVED_DEPENDENCY, rank, index, i});
    for (uint32_t other = index + 1; is_message(step) && other < plan->step_count; other++) {
        if (plan->steps[other].kind != step->kind || plan->steps[other].peer == step->peer)
            continue;
        present(d, (struct mutant){MUTANT_SWAPPED_PEERS, rank, index, other});
        break;
    }
}

void mutate_all(struct manta_plan *const *plans, uint32_t ranks,
                void (*judge)(const struct mutant *, struct manta_plan *const *, void *arg),
                void *arg)
{
    struct draft d = {plans, ranks, calloc(ranks, sizeof(*d.mutated)), judge, arg};
    memcpy(d.mutated, plans, ranks * sizeof(*d.mutated));
    for (uint32_t r = 0; r < ranks; r++) {
        for (uint32_t s = 0; plans[r] && s < plans[r]->step_count; s++)
            mutate_step(&d, r, s);
        for (uint32_t i = 0; plans[r] && i < plans[r]->region_count; i++) {
            present(&d, (struct mutant){MUTANT_SMALLER_SCRATCH, r, MANTA_PLAN_NONE, i});
            if (i > 0)
                present(&d, (struct mutant){MUTANT_MERGED_SCRATCH, r, MANTA_PLAN_NONE, i});
        }
    }
    free(d.mutated);
}

int mutate_same_memory(const struct manta_plan *plan, const struct manta_plan_location *x,
                       const struct manta_plan_location *y)
{
    int aliased =
        plan->in_place && x->buffer != MANTA_PLAN_SCRATCH && y->buffer != MANTA_PLAN_SCRATCH;
    if ((x->buffer != y->buffer && !aliased) || x->region != y->region)
        return 0;
    return x->buffer == MANTA_PLAN_SCRATCH ||
           (x->first < y->first + y->count && y->first < x->first + x->count);
}

int mutate_same_locations(const struct manta_plan *plan, uint32_t x, uint32_t y)
{
    const struct manta_plan_step *a = &plan->steps[x], *b = &plan->steps[y];
    return a->location_count == b->location_count &&
           memcmp(plan->locations + a->location_first, plan->locations + b->location_first,
                  a->location_count * sizeof(*plan->locations)) == 0;
}

static int equal_locations(const struct manta_plan_location *x, const struct manta_plan_location *y)
{
    return memcmp(x, y, sizeof(*x)) == 0;
}

int mutate_operands_of_one(const struct manta_plan *plan, uint32_t x, uint32_t y)
{
    const struct manta_plan_location *a = plan->locations + plan->steps[x].location_first;
    const struct manta_plan_location *b = plan->locations + plan->steps[y].location_first;
    for (uint32_t s = 0; s < plan->step_count; s++) {
        const struct manta_plan_location *at = plan->locations + plan->steps[s].location_first;
        if (plan->steps[s].kind == MANTA_PLAN_REDUCE &&
            ((equal_locations(a, at + 1) && equal_locations(b, at + 2)) ||
             (equal_locations(a, at + 2) && equal_locations(b, at + 1))))
            return 1;
    }
    return 0;
}
