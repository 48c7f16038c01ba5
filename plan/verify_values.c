/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the blocks hold: the plans are executed on symbols. A symbol knows which ranks' inputs are
 * in it (`mask`) and how they were combined (`tree`).
 *
 * mask: see plan/contribution.h. For the token of a barrier, the plans are executed once for each
 * 64 ranks, with bits for those.
 *
 * tree: a hash of the expression with unordered children. Commuted operands are one class because
 * all operations are commutative, the built-in ones bit for bit (NaN results are canonical, -0 and
 * +0 ordered); how operands are grouped decides the rounding, and that is what the class tells.
 */
#include "plan/verifying.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "plan/builder.h"
#include "plan/contribution.h"

struct value {
    uint64_t mask, tree; /* tree 0: nothing has been written here */
};

/* The memory of one rank; in place, DST serves as SRC. */
struct memory {
    struct value *dst, *scratch;
    uint32_t *origins; /* of each region's present content */
    uint64_t *region_first;
};

struct values {
    struct mt_verify *v;
    struct memory *memories;
    struct value *storage;
    uint32_t *origins;
    uint64_t *regions;
    struct mt_contribution inputs;
    uint64_t canonical; /* tree of the canonical order over all ranks */
};

static uint64_t tree_leaf(uint32_t rank)
{
    return mt_contribution_mix(rank + UINT64_C(1)) | 1;
}

static uint64_t tree_join(uint64_t x, uint64_t y)
{
    uint64_t low = x < y ? x : y, high = x < y ? y : x;
    return mt_contribution_mix(high + mt_contribution_mix(low ^ UINT64_C(0x6a09e667f3bcc908))) | 1;
}

static struct value leaf(const struct values *s, uint32_t rank)
{
    return (struct value){mt_contribution_leaf(&s->inputs, rank), tree_leaf(rank)};
}

static uint32_t half_of(uint32_t count)
{
    uint32_t half = 1;
    while (half < count - half)
        half *= 2;
    return half;
}

static uint64_t canonical_tree(uint32_t first, uint32_t count)
{
    if (count == 1)
        return tree_leaf(first);
    uint32_t half = half_of(count);
    return tree_join(canonical_tree(first, half), canonical_tree(first + half, count - half));
}

static struct value join(struct values *s, uint32_t rank, uint32_t step, struct value x,
                         struct value y)
{
    if (!x.tree || !y.tree)
        mt_verify_fault(s->v, rank, step, "combines a block that holds nothing");
    uint64_t twice = mt_contribution_twice(&s->inputs, x.mask, y.mask);
    if (twice)
        mt_verify_fault(s->v, rank, step, "counts the input of rank %d twice",
                        __builtin_ctzll(twice));
    uint64_t mask = mt_contribution_join(&s->inputs, x.mask, y.mask);
    return (struct value){mask, tree_join(x.tree, y.tree)};
}

/* Where block `first + i` of a location lives; NULL for SRC that is not in place. */
static struct value *cell_of(struct values *s, uint32_t rank, const struct manta_plan_location *at,
                             uint32_t i)
{
    const struct manta_plan *plan = s->v->plans[rank];
    struct memory *memory = &s->memories[rank];
    if (at->buffer == MANTA_PLAN_SCRATCH)
        return &memory->scratch[memory->region_first[at->region] + at->first - at->origin + i];
    if (at->buffer == MANTA_PLAN_DST || plan->in_place)
        return &memory->dst[at->first + i];
    return NULL;
}

static struct value load(struct values *s, uint32_t rank, uint32_t step,
                         const struct manta_plan_location *at, uint32_t i)
{
    const struct value *cell = cell_of(s, rank, at, i);
    struct value value = cell ? *cell : leaf(s, rank);
    if (at->buffer == MANTA_PLAN_SCRATCH && s->memories[rank].origins[at->region] != at->origin)
        value.tree = 0;
    if (!value.tree)
        mt_verify_fault(s->v, rank, step, "reads block %u where nothing was written",
                        at->first + i);
    return value;
}

static void store(struct values *s, uint32_t rank, const struct manta_plan_location *at, uint32_t i,
                  struct value value)
{
    struct memory *memory = &s->memories[rank];
    if (at->buffer == MANTA_PLAN_SCRATCH && memory->origins[at->region] != at->origin) {
        uint32_t blocks = s->v->plans[rank]->regions[at->region].block_count;
        memset(memory->scratch + memory->region_first[at->region], 0,
               blocks * sizeof(*memory->scratch));
        memory->origins[at->region] = at->origin;
    }
    *cell_of(s, rank, at, i) = value;
}

/* A cursor over the blocks of a message. */
struct cursor {
    const struct manta_plan_location *at;
    uint32_t i;
};

static void advance(struct cursor *cursor)
{
    if (++cursor->i == cursor->at->count) {
        cursor->at++;
        cursor->i = 0;
    }
}

static void run_message(struct values *s, uint32_t rank, uint32_t step)
{
    const struct manta_plan *plan = s->v->plans[rank];
    const struct manta_plan_step *recv = &plan->steps[step];
    const struct manta_plan *from = s->v->plans[recv->peer];
    uint32_t send = s->v->match.partner[s->v->match.first[rank] + step];
    struct cursor source = {from->locations + from->steps[send].location_first, 0};
    struct cursor target = {plan->locations + recv->location_first, 0};
    const struct manta_plan_location *end = target.at + recv->location_count;
    while (target.at < end && !s->v->code) {
        store(s, rank, target.at, target.i, load(s, recv->peer, send, source.at, source.i));
        advance(&source);
        advance(&target);
    }
}

static void run_local(struct values *s, uint32_t rank, uint32_t step)
{
    const struct manta_plan *plan = s->v->plans[rank];
    const struct manta_plan_location *at = plan->locations + plan->steps[step].location_first;
    for (uint32_t i = 0; i < at->count && !s->v->code; i++) {
        struct value value = load(s, rank, step, &at[1], i);
        if (plan->steps[step].kind == MANTA_PLAN_REDUCE)
            value = join(s, rank, step, value, load(s, rank, step, &at[2], i));
        store(s, rank, &at[0], i, value);
    }
}

/* Combine present[0 .. count - 1] in the canonical order. */
static struct value combine(struct values *s, uint32_t rank, uint32_t step,
                            const struct value *present, uint32_t count)
{
    if (count == 1)
        return present[0];
    uint32_t half = half_of(count);
    struct value left = combine(s, rank, step, present, half);
    return join(s, rank, step, left, combine(s, rank, step, present + half, count - half));
}

static int covers(const struct manta_plan_location *at, uint32_t block)
{
    return at && block >= at->first && block - at->first < at->count;
}

/* A member of a fused step, and where it has what it reads and writes, or NULL. */
struct party {
    uint32_t rank, step;
    const struct manta_plan_location *read, *write;
};

static void run_fused_block(struct values *s, const struct manta_plan_fused *fused,
                            const struct party *parties, uint32_t block, struct value *present)
{
    int copies = fused->collective == MANTA_BROADCAST || fused->collective == MANTA_ALLGATHER;
    uint32_t readers = 0, writers = 0;
    for (uint32_t i = 0; i < fused->member_count; i++) {
        const struct party *party = &parties[i];
        writers += (uint32_t)covers(party->write, block);
        if (covers(party->read, block))
            present[readers++] =
                load(s, party->rank, party->step, party->read, block - party->read->first);
    }
    if (!writers)
        return;
    if (!readers || (copies && readers > 1)) {
        mt_verify_fault(s->v, parties->rank, parties->step, "%u members give block %u", readers,
                        block);
        return;
    }
    struct value value = combine(s, parties->rank, parties->step, present, readers);
    for (uint32_t i = 0; i < fused->member_count; i++)
        if (covers(parties[i].write, block))
            store(s, parties[i].rank, parties[i].write, block - parties[i].write->first, value);
}

static void run_fused(struct values *s, uint32_t rank, uint32_t step)
{
    const struct manta_plan *plan = s->v->plans[rank];
    uint32_t number = plan->steps[step].number;
    const struct manta_plan_fused *fused = &plan->fused[number];
    struct value *present = malloc(fused->member_count * sizeof(*present));
    struct party *parties = malloc(fused->member_count * sizeof(*parties));
    if (!present || !parties)
        mt_verify_no_memory(s->v);
    for (uint32_t i = 0; i < fused->member_count && !s->v->code; i++) {
        uint32_t member = fused->members[i].rank;
        const struct manta_plan *theirs = s->v->plans[member];
        uint32_t at = mt_plan_find_fused(theirs, number);
        parties[i] = (struct party){member, at, mt_plan_fused_place(theirs, at, 0),
                                    mt_plan_fused_place(theirs, at, 1)};
    }
    for (uint32_t block = 0; block < plan->blocks && !s->v->code; block++)
        run_fused_block(s, fused, parties, block, present);
    free(parties);
    free(present);
}

static void fill_inputs(struct values *s)
{
    for (uint32_t r = 0; r < s->v->ranks; r++) {
        const struct manta_plan *plan = s->v->plans[r];
        int root_holds = plan && plan->collective == MANTA_BROADCAST && r == plan->root;
        for (uint32_t b = 0; plan && b < plan->blocks; b++)
            if (root_holds || (plan->in_place && mt_plan_owns_src(plan, b)))
                s->memories[r].dst[b] = leaf(s, r);
    }
}

static int open_memories(struct values *s)
{
    uint64_t values = 0, regions = 0;
    for (uint32_t r = 0; r < s->v->ranks; r++) {
        const struct manta_plan *plan = s->v->plans[r];
        for (uint32_t i = 0; plan && i < plan->region_count; i++)
            values += plan->regions[i].block_count;
        values += plan ? plan->blocks : 0;
        regions += plan ? plan->region_count : 0;
    }
    s->memories = calloc(s->v->ranks, sizeof(*s->memories));
    s->storage = calloc(values + 1, sizeof(*s->storage));
    s->origins = malloc((regions + 1) * sizeof(*s->origins));
    s->regions = calloc(regions + 1, sizeof(*s->regions));
    if (!s->memories || !s->storage || !s->origins || !s->regions)
        return MANTA_ENOMEM;
    memset(s->origins, 0xff, (regions + 1) * sizeof(*s->origins)); /* MANTA_PLAN_NONE */
    values = regions = 0;
    for (uint32_t r = 0; r < s->v->ranks; r++) {
        const struct manta_plan *plan = s->v->plans[r];
        struct memory *memory = &s->memories[r];
        *memory = (struct memory){s->storage + values, s->storage + values, s->origins + regions,
                                  s->regions + regions};
        values += plan ? plan->blocks : 0;
        memory->scratch = s->storage + values;
        for (uint32_t i = 0; plan && i < plan->region_count; i++) {
            memory->region_first[i] =
                i ? memory->region_first[i - 1] + plan->regions[i - 1].block_count : 0;
            values += plan->regions[i].block_count;
        }
        regions += plan ? plan->region_count : 0;
    }
    return 0;
}

static void close_memories(struct values *s)
{
    free(s->memories);
    free(s->storage);
    free(s->origins);
    free(s->regions);
}

static void check_block(struct values *s, uint32_t rank, uint32_t block, uint64_t full)
{
    const struct manta_plan *plan = s->v->plans[rank];
    struct value value = s->memories[rank].dst[block];
    uint32_t from = mt_contribution_giver(plan, block);
    uint64_t tree = from == MANTA_PLAN_NONE ? s->canonical : tree_leaf(from);
    if (!value.tree)
        mt_verify_fault(s->v, rank, MANTA_PLAN_NONE, "block %u of the result is never written",
                        block);
    else if (from != MANTA_PLAN_NONE && value.tree != tree)
        mt_verify_fault(s->v, rank, MANTA_PLAN_NONE, "block %u is not the input of rank %u", block,
                        from);
    else if (from == MANTA_PLAN_NONE && value.mask != full)
        mt_verify_fault(s->v, rank, MANTA_PLAN_NONE, "block %u does not count every rank once",
                        block);
    else if (plan->collective == MANTA_ALLREDUCE && value.tree != s->memories[0].dst[block].tree)
        mt_verify_fault(s->v, rank, MANTA_PLAN_NONE,
                        "block %u is combined in another order than on rank 0", block);
    if (value.tree != tree && !s->inputs.idempotent)
        s->v->result->order = 0;
}

/* An order without a name: a number that equal trees of all blocks share. */
static uint64_t fingerprint(const struct values *s)
{
    uint64_t print = 0;
    for (uint32_t r = 0; r < s->v->ranks; r++) {
        const struct manta_plan *plan = s->v->plans[r];
        for (uint32_t b = 0; plan && b < plan->blocks; b++)
            if (mt_plan_owns_dst(plan, b))
                print = mt_contribution_mix(print ^ s->memories[r].dst[b].tree);
    }
    return print | UINT64_C(1) << 63;
}

static void check_result(struct values *s)
{
    uint64_t full = mt_contribution_full(&s->inputs);
    s->v->result->order = MANTA_PLAN_ORDER_BINARY;
    for (uint32_t r = 0; r < s->v->ranks; r++) {
        const struct manta_plan *plan = s->v->plans[r];
        for (uint32_t b = 0; plan && b < plan->blocks && !s->v->code; b++)
            if (mt_plan_owns_dst(plan, b))
                check_block(s, r, b, full);
    }
    if (!s->v->result->order)
        s->v->result->order = fingerprint(s);
}

static void execute(struct values *s)
{
    if (open_memories(s))
        mt_verify_no_memory(s->v);
    else
        fill_inputs(s);
    for (uint64_t i = 0; i < s->v->event_count && !s->v->code; i++) {
        struct mt_verify_event event = s->v->events[i];
        switch (s->v->plans[event.rank]->steps[event.step].kind) {
        case MANTA_PLAN_RECV:
            run_message(s, event.rank, event.step);
            break;
        case MANTA_PLAN_FUSED:
            run_fused(s, event.rank, event.step);
            break;
        default:
            run_local(s, event.rank, event.step);
        }
    }
    if (!s->v->code)
        check_result(s);
    close_memories(s);
}

void mt_verify_values(struct mt_verify *v)
{
    struct values s = {.v = v,
                       .inputs = mt_contribution_of(v->any->collective, v->ranks),
                       .canonical = canonical_tree(0, v->ranks)};
    uint32_t windows = s.inputs.idempotent ? (v->ranks + 63) / 64 : 1;
    for (uint32_t i = 0; i < windows && !v->code; i++) {
        s.inputs.first = 64 * i;
        execute(&s);
    }
}
