/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/contents.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "plan/builder.h"
#include "plan/contribution.h"
#include "plan/print.h"
#include "plan/runs.h"

/* The memory of one rank; in place, DST serves as SRC. */
struct memory {
    struct mt_runs dst;
    struct mt_runs *scratch; /* [regions] */
    uint32_t *origins;       /* of each region's present content */
    int open;
};

struct mt_contents {
    const struct manta_plan *const *plans;
    uint32_t ranks;
    const struct mt_plan_match *match;
    struct mt_contribution inputs;
    uint64_t full;
    struct memory *memories;        /* [ranks] */
    struct mt_runs **under_way;     /* [step of all ranks]: what a receive will get */
    struct mt_runs left, right, to; /* operands at hand */
    struct mt_error *error;         /* of the call at hand; the first one is kept */
};

static int fault(struct mt_contents *c, uint32_t rank, uint32_t step, const char *reason,
                 uint32_t number)
{
    char where[112] = "", what[96];
    if (c->error->code)
        return c->error->code;
    snprintf(what, sizeof(what), reason, number);
    if (step != MANTA_PLAN_NONE)
        mt_plan_describe(c->plans[rank], step, where, sizeof(where));
    return mt_error_set(c->error, MANTA_EPLAN, "rank %u%s%s: %s", rank, where[0] ? ", step" : "",
                        where, what);
}

static void no_memory(struct mt_contents *c)
{
    if (!c->error->code)
        mt_error_set(c->error, MANTA_ENOMEM,
                     "no memory to follow what the blocks of %u ranks hold; free some", c->ranks);
}

int mt_contents_open(const struct manta_plan *const *plans, uint32_t ranks,
                     const struct mt_plan_match *match, struct mt_contents **contents_out)
{
    struct mt_contents *c = calloc(1, sizeof(*c));
    const struct manta_plan *any = NULL;
    *contents_out = c;
    if (!c)
        return MANTA_ENOMEM;
    for (uint32_t r = 0; r < ranks && !any; r++)
        any = plans[r];
    c->plans = plans;
    c->ranks = ranks;
    c->match = match;
    c->inputs = mt_contribution_of(any ? any->collective : MANTA_ALLREDUCE, ranks);
    if (c->inputs.idempotent) /* a sample */
        c->inputs.stride = (ranks + 63) / 64;
    c->full = mt_contribution_full(&c->inputs);
    c->memories = calloc(ranks, sizeof(*c->memories));
    c->under_way = calloc(match->first[ranks] + 1, sizeof(struct mt_runs *));
    return c->memories && c->under_way ? 0 : MANTA_ENOMEM;
}

static void close_memory(struct mt_contents *c, uint32_t rank)
{
    struct memory *memory = &c->memories[rank];
    for (uint32_t i = 0; memory->scratch && i < c->plans[rank]->region_count; i++)
        free(memory->scratch[i].at);
    free(memory->scratch);
    free(memory->origins);
    free(memory->dst.at);
    *memory = (struct memory){0};
}

static void drop(struct mt_runs *runs)
{
    if (runs)
        free(runs->at);
    free(runs);
}

void mt_contents_close(struct mt_contents *c)
{
    if (!c)
        return;
    for (uint32_t r = 0; c->memories && r < c->ranks; r++)
        close_memory(c, r);
    for (uint64_t i = 0; c->under_way && i < c->match->first[c->ranks]; i++)
        drop(c->under_way[i]);
    free(c->memories);
    free(c->under_way);
    free(c->left.at);
    free(c->right.at);
    free(c->to.at);
    free(c);
}

/* What DST holds at first. */
static int fill(struct mt_contents *c, uint32_t rank)
{
    const struct manta_plan *plan = c->plans[rank];
    int root_holds = plan->collective == MANTA_BROADCAST && rank == plan->root;
    uint64_t input = mt_contribution_leaf(&c->inputs, rank);
    int rc = 0;
    /* Ownership changes at the borders of ranks' parts only. */
    uint32_t part = plan->layout == MANTA_PLAN_RANKS ? plan->blocks / plan->ranks : plan->blocks;
    for (uint32_t b = 0; b < plan->blocks && !rc; b += part) {
        uint32_t holds = root_holds || (plan->in_place && mt_plan_owns_src(plan, b));
        struct mt_run run = {part, holds, holds ? input : 0};
        rc = mt_runs_append(&c->memories[rank].dst, run);
    }
    return rc;
}

static struct memory *memory_of(struct mt_contents *c, uint32_t rank)
{
    struct memory *memory = &c->memories[rank];
    uint32_t regions = c->plans[rank]->region_count;
    if (memory->open)
        return memory;
    memory->open = 1;
    memory->scratch = calloc(regions + 1, sizeof(*memory->scratch));
    memory->origins = malloc((regions + 1) * sizeof(*memory->origins));
    if (!memory->scratch || !memory->origins || fill(c, rank)) {
        no_memory(c);
        return NULL;
    }
    memset(memory->origins, 0xff, (regions + 1) * sizeof(*memory->origins)); /* NONE */
    return memory;
}

/* Append what a location holds. */
static void load(struct mt_contents *c, uint32_t rank, uint32_t step,
                 const struct manta_plan_location *at, struct mt_runs *to)
{
    const struct manta_plan *plan = c->plans[rank];
    struct memory *memory = memory_of(c, rank);
    uint32_t before = to->count;
    int rc = 0;
    if (!memory)
        return;
    if (at->buffer == MANTA_PLAN_SRC && !plan->in_place)
        rc = mt_runs_append(to,
                            (struct mt_run){at->count, 1, mt_contribution_leaf(&c->inputs, rank)});
    else if (at->buffer != MANTA_PLAN_SCRATCH)
        rc = mt_runs_read(&memory->dst, at->first, at->count, to);
    else if (memory->origins[at->region] == at->origin)
        rc = mt_runs_read(&memory->scratch[at->region], at->first - at->origin, at->count, to);
    else
        fault(c, rank, step, "reads block %u where nothing was written", at->first);
    for (uint32_t i = before ? before - 1 : 0; i < to->count; i++)
        if (!to->at[i].written)
            fault(c, rank, step, "reads blocks from %u on, where nothing was written", at->first);
    if (rc)
        no_memory(c);
}

static void store(struct mt_contents *c, uint32_t rank, const struct manta_plan_location *at,
                  const struct mt_runs *values)
{
    struct memory *memory = memory_of(c, rank);
    if (!memory || c->error->code)
        return;
    if (at->buffer != MANTA_PLAN_SCRATCH) {
        if (mt_runs_write(&memory->dst, at->first, values))
            no_memory(c);
        return;
    }
    struct mt_runs *region = &memory->scratch[at->region];
    if (memory->origins[at->region] != at->origin) {
        mt_runs_clear(region);
        memory->origins[at->region] = at->origin;
        if (mt_runs_append(
                region, (struct mt_run){c->plans[rank]->regions[at->region].block_count, 0, 0})) {
            no_memory(c);
            return;
        }
    }
    if (mt_runs_write(region, at->first - at->origin, values))
        no_memory(c);
}

int mt_contents_send(struct mt_contents *c, uint32_t rank, uint32_t step, struct mt_error *error)
{
    const struct manta_plan *plan = c->plans[rank];
    const struct manta_plan_step *at = &plan->steps[step];
    uint32_t partner = c->match->partner[c->match->first[rank] + step];
    c->error = error;
    if (error->code || partner == MANTA_PLAN_NONE)
        return error->code;
    struct mt_runs *values = calloc(1, sizeof(*values));
    if (!values)
        no_memory(c);
    for (uint32_t i = 0; i < at->location_count && !error->code; i++)
        load(c, rank, step, &plan->locations[at->location_first + i], values);
    drop(c->under_way[c->match->first[at->peer] + partner]);
    c->under_way[c->match->first[at->peer] + partner] = values;
    return error->code;
}

static void run_recv(struct mt_contents *c, uint32_t rank, uint32_t step)
{
    const struct manta_plan *plan = c->plans[rank];
    const struct manta_plan_step *at = &plan->steps[step];
    struct mt_runs **values = &c->under_way[c->match->first[rank] + step];
    uint32_t blocks = *values ? mt_runs_blocks(*values) : 0, done = 0;
    for (uint32_t i = 0; i < at->location_count && !c->error->code; i++) {
        const struct manta_plan_location *to = &plan->locations[at->location_first + i];
        mt_runs_clear(&c->to);
        if (done + to->count > blocks)
            fault(c, rank, step, "its message has %u blocks, which are too few", blocks);
        else if (mt_runs_read(*values, done, to->count, &c->to))
            no_memory(c);
        else
            store(c, rank, to, &c->to);
        done += to->count;
    }
    if (done < blocks)
        fault(c, rank, step, "its message has %u blocks, which are too many", blocks);
    drop(*values);
    *values = NULL;
}

/* to = left and right, run by run. */
static void join(struct mt_contents *c, uint32_t rank, uint32_t step)
{
    struct mt_run x = {0}, y = {0};
    uint32_t i = 0, k = 0;
    mt_runs_clear(&c->to);
    while (!c->error->code) {
        if (!x.count && i < c->left.count)
            x = c->left.at[i++];
        if (!y.count && k < c->right.count)
            y = c->right.at[k++];
        if (!x.count || !y.count)
            break;
        uint64_t twice = mt_contribution_twice(&c->inputs, x.mask, y.mask);
        uint32_t count = x.count < y.count ? x.count : y.count;
        struct mt_run sum = {count, 1, mt_contribution_join(&c->inputs, x.mask, y.mask)};
        if (twice)
            fault(c, rank, step, "counts the input of rank %u twice",
                  (uint32_t)__builtin_ctzll(twice));
        if (mt_runs_append(&c->to, sum))
            no_memory(c);
        x.count -= count;
        y.count -= count;
    }
}

static void run_local(struct mt_contents *c, uint32_t rank, uint32_t step)
{
    const struct manta_plan *plan = c->plans[rank];
    const struct manta_plan_location *at = plan->locations + plan->steps[step].location_first;
    mt_runs_clear(&c->left);
    mt_runs_clear(&c->right);
    load(c, rank, step, &at[1], &c->left);
    if (plan->steps[step].kind == MANTA_PLAN_COPY) {
        store(c, rank, &at[0], &c->left);
        return;
    }
    load(c, rank, step, &at[2], &c->right);
    join(c, rank, step);
    store(c, rank, &at[0], &c->to);
}

static int covers(uint32_t first, uint32_t count, uint32_t block)
{
    return block >= first && block - first < count;
}

/* Blocks first .. first + count - 1 where a member of a fused step reads or writes them. */
static struct manta_plan_location fused_place(const struct mt_contents *c, uint32_t rank,
                                              uint32_t number, int write, uint32_t first,
                                              uint32_t count)
{
    const struct manta_plan *plan = c->plans[rank];
    uint32_t step = mt_plan_find_fused(plan, number);
    struct manta_plan_location at = *mt_plan_fused_place(plan, step, write);
    /* Of the caller's buffers, a place has no origin but its own. */
    at.origin = at.buffer == MANTA_PLAN_SCRATCH ? at.origin : first;
    at.first = first;
    at.count = count;
    return at;
}

/* The first place after `block` where some member's interval begins or ends. */
static uint32_t next_border(const struct manta_plan_fused *fused, uint32_t block, uint32_t blocks)
{
    uint32_t next = blocks;
    for (uint32_t i = 0; i < fused->member_count; i++) {
        const struct manta_plan_fused_member *m = &fused->members[i];
        const uint32_t borders[4] = {m->read_first, m->read_first + m->read_count, m->write_first,
                                     m->write_first + m->write_count};
        for (int k = 0; k < 4; k++)
            if (borders[k] > block && borders[k] < next)
                next = borders[k];
    }
    return next;
}

/* Blocks that all have the same readers and writers. */
static void run_fused_blocks(struct mt_contents *c, uint32_t rank, uint32_t step, uint32_t first,
                             uint32_t count)
{
    const struct manta_plan *plan = c->plans[rank];
    uint32_t number = plan->steps[step].number;
    const struct manta_plan_fused *fused = &plan->fused[number];
    int copies = fused->collective == MANTA_BROADCAST || fused->collective == MANTA_ALLGATHER;
    struct manta_plan_location at;
    uint32_t readers = 0, writers = 0;
    for (uint32_t i = 0; i < fused->member_count; i++) {
        const struct manta_plan_fused_member *m = &fused->members[i];
        writers += (uint32_t)covers(m->write_first, m->write_count, first);
        if (!covers(m->read_first, m->read_count, first))
            continue;
        struct mt_runs *operand = readers++ ? &c->right : &c->left;
        mt_runs_clear(operand);
        at = fused_place(c, m->rank, number, 0, first, count);
        load(c, m->rank, MANTA_PLAN_NONE, &at, operand);
        if (readers == 1)
            continue;
        join(c, rank, step);
        struct mt_runs sum = c->to;
        c->to = c->left;
        c->left = sum;
    }
    if (writers && (!readers || (copies && readers > 1)))
        fault(c, rank, step, "%u members give a block", readers);
    for (uint32_t i = 0; i < fused->member_count && writers; i++) {
        const struct manta_plan_fused_member *m = &fused->members[i];
        if (!covers(m->write_first, m->write_count, first))
            continue;
        at = fused_place(c, m->rank, number, 1, first, count);
        store(c, m->rank, &at, &c->left);
    }
}

int mt_contents_run(struct mt_contents *c, uint32_t rank, uint32_t step, struct mt_error *error)
{
    const struct manta_plan *plan = c->plans[rank];
    const struct manta_plan_step *at = &plan->steps[step];
    c->error = error;
    if (error->code)
        return error->code;
    if (at->kind == MANTA_PLAN_RECV) {
        run_recv(c, rank, step);
    } else if (at->kind != MANTA_PLAN_FUSED) {
        run_local(c, rank, step);
    } else {
        const struct manta_plan_fused *fused = &plan->fused[at->number];
        for (uint32_t first = 0, next; first < plan->blocks && !error->code; first = next) {
            next = next_border(fused, first, plan->blocks);
            run_fused_blocks(c, rank, step, first, next - first);
        }
    }
    return error->code;
}

static void check(struct mt_contents *c, uint32_t rank, uint32_t block, const struct mt_run *run)
{
    uint32_t from = mt_contribution_giver(c->plans[rank], block);
    if (!run->written)
        fault(c, rank, MANTA_PLAN_NONE, "block %u of the result is never written", block);
    else if (from == MANTA_PLAN_NONE && run->mask != c->full)
        fault(c, rank, MANTA_PLAN_NONE, "block %u does not count every rank once", block);
    else if (from != MANTA_PLAN_NONE && run->mask != mt_contribution_leaf(&c->inputs, from))
        fault(c, rank, MANTA_PLAN_NONE, "block %u holds the input of a wrong rank", block);
}

int mt_contents_finish(struct mt_contents *c, uint32_t rank, struct mt_error *error)
{
    const struct manta_plan *plan = c->plans[rank];
    uint32_t block = 0;
    c->error = error;
    struct memory *memory = error->code ? NULL : memory_of(c, rank);
    /* Within a run, ownership and giver change at the borders of ranks' parts only. */
    uint32_t part = plan->layout == MANTA_PLAN_RANKS ? plan->blocks / plan->ranks : plan->blocks;
    for (uint32_t i = 0; memory && i < memory->dst.count && !error->code; i++) {
        const struct mt_run *run = &memory->dst.at[i];
        for (uint32_t end = block + run->count; block < end && !error->code;) {
            uint32_t next = block - block % part + part;
            if (mt_plan_owns_dst(plan, block))
                check(c, rank, block, run);
            block = next < end ? next : end;
        }
    }
    close_memory(c, rank);
    return error->code;
}
