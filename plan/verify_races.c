/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Races: any two accesses of a rank to the same memory, one of them a write, must be ordered by
 * dependencies, directly or through other steps. Written independently of hazards.c, whose work it
 * checks. Scratch blocks of different origins overlap in ways that depend on block lengths, so an
 * access under a new origin must come after everything that touched the region before.
 */
#include "plan/verifying.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

struct cell {
    uint32_t writer; /* last write, or NONE */
    uint32_t reader; /* latest entry of the list of reads since, or NONE */
};
struct read {
    uint32_t step, next;
};

struct races {
    struct mt_verify *v;
    const struct manta_plan *plan;
    uint64_t *before; /* [step_count][words]: the steps that are complete before a step is issued */
    uint32_t words;
    struct cell *cells; /* DST, SRC, then the regions */
    uint64_t *region_first;
    uint32_t *origins;
    struct read *reads;
    uint64_t read_count, read_capacity;
};

static int ordered(const struct races *c, uint32_t earlier, uint32_t later)
{
    return c->before[(size_t)later * c->words + earlier / 64] >> (earlier % 64) & 1;
}

static void require_order(struct races *c, uint32_t earlier, uint32_t later)
{
    if (earlier == MANTA_PLAN_NONE || earlier == later || ordered(c, earlier, later))
        return;
    mt_verify_fault(c->v, c->plan->rank, later, "races with step %u: no dependency orders them",
                    earlier);
}

static void close_order(struct races *c, uint32_t step)
{
    const struct manta_plan_step *at = &c->plan->steps[step];
    uint64_t *mine = c->before + (size_t)step * c->words;
    for (uint32_t i = 0; i < at->depend_count; i++) {
        uint32_t on = c->plan->depends[at->depend_first + i];
        const uint64_t *theirs = c->before + (size_t)on * c->words;
        for (uint32_t w = 0; w <= on / 64; w++)
            mine[w] |= theirs[w];
        mine[on / 64] |= UINT64_C(1) << (on % 64);
    }
}

static void note_read(struct races *c, struct cell *cell, uint32_t step)
{
    if (c->read_count == c->read_capacity) {
        uint64_t larger = c->read_capacity ? c->read_capacity * 2 : 64;
        struct read *grown = realloc(c->reads, larger * sizeof(*grown));
        if (!grown || larger >= MANTA_PLAN_NONE) {
            c->reads = grown ? grown : c->reads;
            mt_verify_no_memory(c->v);
            return;
        }
        c->reads = grown;
        c->read_capacity = larger;
    }
    c->reads[c->read_count] = (struct read){step, cell->reader};
    cell->reader = (uint32_t)c->read_count++;
}

static void touch(struct races *c, struct cell *cell, uint32_t step, int write)
{
    require_order(c, cell->writer, step);
    if (!write) {
        note_read(c, cell, step);
        return;
    }
    if (cell->writer == step)
        mt_verify_fault(c->v, c->plan->rank, step, "writes a block twice");
    for (uint32_t i = cell->reader; i != MANTA_PLAN_NONE; i = c->reads[i].next)
        require_order(c, c->reads[i].step, step);
    *cell = (struct cell){step, MANTA_PLAN_NONE};
}

static void change_origin(struct races *c, const struct manta_plan_location *at, uint32_t step)
{
    struct cell *cells = c->cells + c->region_first[at->region];
    for (uint32_t i = 0; i < c->plan->regions[at->region].block_count; i++) {
        if (cells[i].writer == step)
            mt_verify_fault(c->v, c->plan->rank, step, "uses a scratch region with two origins");
        require_order(c, cells[i].writer, step);
        for (uint32_t k = cells[i].reader; k != MANTA_PLAN_NONE; k = c->reads[k].next) {
            if (c->reads[k].step == step)
                mt_verify_fault(c->v, c->plan->rank, step,
                                "uses a scratch region with two origins");
            require_order(c, c->reads[k].step, step);
        }
        /* Whoever comes later must follow this step, which follows all before it. */
        cells[i] = (struct cell){MANTA_PLAN_NONE, MANTA_PLAN_NONE};
        note_read(c, &cells[i], step);
    }
    c->origins[at->region] = at->origin;
}

static void touch_access(struct races *c, const struct mt_verify_access *access, uint32_t step)
{
    const struct manta_plan_location *at = &access->at;
    uint64_t first = at->first;
    if (at->buffer == MANTA_PLAN_SRC)
        first += c->plan->blocks;
    if (at->buffer == MANTA_PLAN_SCRATCH) {
        if (c->origins[at->region] == MANTA_PLAN_NONE)
            c->origins[at->region] = at->origin;
        if (c->origins[at->region] != at->origin)
            change_origin(c, at, step);
        first = c->region_first[at->region] + at->first - at->origin;
    }
    for (uint32_t i = 0; i < at->count && !c->v->code; i++)
        touch(c, &c->cells[first + i], step, access->write);
}

static int open_races(struct races *c)
{
    const struct manta_plan *plan = c->plan;
    uint64_t cells = (uint64_t)plan->blocks * 2;
    c->words = plan->step_count / 64 + 1;
    c->before = calloc((size_t)plan->step_count + 1, c->words * sizeof(*c->before));
    c->region_first = calloc((size_t)plan->region_count + 1, sizeof(*c->region_first));
    c->origins = malloc(((size_t)plan->region_count + 1) * sizeof(*c->origins));
    if (!c->before || !c->region_first || !c->origins)
        return MANTA_ENOMEM;
    for (uint32_t i = 0; i < plan->region_count; i++) {
        c->region_first[i] = cells;
        c->origins[i] = MANTA_PLAN_NONE;
        cells += plan->regions[i].block_count;
    }
    c->cells = malloc(cells * sizeof(*c->cells));
    if (!c->cells)
        return MANTA_ENOMEM;
    memset(c->cells, 0xff, cells * sizeof(*c->cells)); /* MANTA_PLAN_NONE everywhere */
    return 0;
}

static void check_plan(struct mt_verify *v, const struct manta_plan *plan)
{
    struct races c = {.v = v, .plan = plan};
    if (open_races(&c))
        mt_verify_no_memory(v);
    for (uint32_t s = 0; s < plan->step_count && !v->code; s++) {
        struct mt_verify_access accesses[MT_VERIFY_ACCESSES];
        uint32_t count = mt_verify_accesses(plan, &plan->steps[s], accesses);
        close_order(&c, s);
        for (uint32_t i = 0; i < count; i++)
            touch_access(&c, &accesses[i], s);
    }
    free(c.before);
    free(c.region_first);
    free(c.origins);
    free(c.cells);
    free(c.reads);
}

void mt_verify_races(struct mt_verify *v)
{
    for (uint32_t r = 0; r < v->ranks && !v->code; r++)
        if (v->plans[r])
            check_plan(v, v->plans[r]);
}
