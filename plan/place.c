/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement: where the current value of each block of the working vector lives, and the records
 * that follow from it. Received values that are combined land in scratch regions, which are reused
 * once nothing reads their value again (found by a backward pass over the ops); at least two take
 * turns, so that the next message can be received while the last one is combined.
 */
#include "plan/building.h"

#include <stdlib.h>

#include <manta/manta.h>

struct home {
    uint32_t buffer; /* enum manta_plan_buffer, or MANTA_PLAN_NONE: no value */
    uint32_t region, origin;
};

struct placement {
    struct mt_plan_builder *b;
    struct home *homes; /* [blocks] */
    uint8_t *live;      /* per op and block of it: is the value read, or wanted, after the op? */
    const uint8_t *live_now;
    uint32_t op; /* index of the op that is lowered */
};

static const struct home nowhere = {MANTA_PLAN_NONE, 0, 0};
static const struct home in_dst = {MANTA_PLAN_DST, 0, 0};

static void fault(struct placement *p, const char *reason)
{
    if (mt_plan_going(p->b))
        mt_error_set(p->b->error, MANTA_EPLAN, "algorithm %s, rank %u of %u, verb %u: %s",
                     p->b->plan.algorithm, p->b->plan.rank, p->b->plan.ranks, p->op, reason);
}

static int same_home(struct home x, struct home y)
{
    return x.buffer == y.buffer && x.region == y.region && x.origin == y.origin;
}

static struct manta_plan_location locate(struct home home, uint32_t first, uint32_t count)
{
    uint32_t origin = home.buffer == MANTA_PLAN_SCRATCH ? home.origin : first;
    return (struct manta_plan_location){home.buffer, home.region, first, count, origin};
}

static void set_home(struct placement *p, uint32_t block, struct home home)
{
    struct home old = p->homes[block];
    if (old.buffer == MANTA_PLAN_SCRATCH) {
        p->b->regions[old.region].live--;
        p->b->regions[old.region].used_at = p->op; /* it may be read until here */
    }
    if (home.buffer == MANTA_PLAN_SCRATCH)
        p->b->regions[home.region].live++;
    p->homes[block] = home;
}

/* Blocks around the end of what the algorithm works on are two pieces; others are one. */
static uint32_t cut(const struct mt_plan_op *op, struct plan_interval pieces[2])
{
    uint32_t to_end = op->end - op->blocks.first;
    pieces[0] = op->blocks;
    if (op->blocks.count <= to_end)
        return 1;
    pieces[0].count = to_end;
    pieces[1] = (struct plan_interval){op->begin, op->blocks.count - to_end, 0};
    return 2;
}

/* Block `i` of its blocks. */
static uint32_t block_at(const struct mt_plan_op *op, uint32_t i)
{
    uint32_t to_end = op->end - op->blocks.first;
    return i < to_end ? op->blocks.first + i : op->begin + i - to_end;
}

static struct mt_plan_record *append_record(struct placement *p, uint16_t kind,
                                            const struct mt_plan_op *op)
{
    struct mt_plan_builder *b = p->b;
    struct mt_plan_record *record =
        mt_plan_append(b, &b->records, &b->record_count, &b->record_capacity, sizeof(*b->records));
    if (!record)
        return NULL;
    record->step.kind = kind;
    record->step.lane = op->lane;
    record->step.peer = MANTA_PLAN_NONE;
    if (kind == MANTA_PLAN_SEND || kind == MANTA_PLAN_RECV)
        record->step.peer = op->peer;
    return record;
}

/* A region of the builder's own for `count` blocks: the one unused for longest if two are free. */
static struct home choose_region(struct placement *p, uint32_t first, uint32_t count)
{
    struct mt_plan_builder *b = p->b;
    uint32_t oldest = MANTA_PLAN_NONE, free_regions = 0;
    for (uint32_t i = 0; i < b->region_count; i++) {
        const struct mt_plan_scratch *region = &b->regions[i];
        int taken = region->live || region->used_at == p->op; /* op 0 finds none */
        if (!region->pooled || taken || region->blocks < count)
            continue;
        free_regions++;
        if (oldest == MANTA_PLAN_NONE || region->used_at < b->regions[oldest].used_at)
            oldest = i;
    }
    if (free_regions < 2) {
        oldest = plan_scratch(b, count);
        if (!mt_plan_going(b))
            return nowhere;
        b->regions[oldest].pooled = 1;
    }
    b->regions[oldest].used_at = p->op;
    return (struct home){MANTA_PLAN_SCRATCH, oldest, first};
}

/* Where the algorithm's own region holds these blocks. The first write fixes the origin. */
static struct home own_region(struct placement *p, uint32_t index, struct plan_interval blocks,
                              int write)
{
    struct mt_plan_scratch *region = &p->b->regions[index];
    if (region->origin == MANTA_PLAN_NONE && write)
        region->origin = blocks.first;
    if (region->origin == MANTA_PLAN_NONE)
        fault(p, "a scratch region is read before it is written");
    else if (blocks.first < region->origin ||
             blocks.first - region->origin + blocks.count > region->blocks)
        fault(p, "a scratch region is too small for these blocks");
    return (struct home){MANTA_PLAN_SCRATCH, index, region->origin};
}

/* Append the places of the working vector's blocks to a message, one location for each run. */
static void append_runs(struct placement *p, struct mt_plan_record *record,
                        struct plan_interval blocks)
{
    uint32_t end = blocks.first + blocks.count;
    for (uint32_t first = blocks.first, next; first < end; first = next) {
        struct home home = p->homes[first];
        for (next = first + 1; next < end && same_home(p->homes[next], home);)
            next++;
        if (home.buffer == MANTA_PLAN_NONE) {
            fault(p, "a block is sent that this rank has no value of");
            return;
        }
        if (record->step.location_count == MANTA_PLAN_LOCATIONS) {
            fault(p, "one message needs too many locations");
            return;
        }
        record->at[record->step.location_count++] = locate(home, first, next - first);
        if (home.buffer == MANTA_PLAN_SCRATCH) /* what is on its way had better stay */
            p->b->regions[home.region].used_at = p->op;
    }
}

static void lower_send(struct placement *p, const struct mt_plan_op *op)
{
    struct mt_plan_record *record = append_record(p, MANTA_PLAN_SEND, op);
    struct plan_interval pieces[2];
    if (!record)
        return;
    if (op->left == PLAN_WORKING) {
        uint32_t count = cut(op, pieces);
        for (uint32_t i = 0; i < count && mt_plan_going(p->b); i++)
            append_runs(p, record, pieces[i]);
        return;
    }
    struct home home = own_region(p, op->left, op->blocks, 0);
    record->at[record->step.location_count++] = locate(home, op->blocks.first, op->blocks.count);
}

/* Where a new value of a block goes; `spare` is the place to use if there is none yet. */
static struct home new_home(struct placement *p, uint32_t block, struct plan_interval blocks,
                            struct home *spare)
{
    if (mt_plan_owns_dst(&p->b->plan, block))
        return in_dst;
    if (p->homes[block].buffer == MANTA_PLAN_SCRATCH)
        return p->homes[block];
    if (spare->buffer == MANTA_PLAN_NONE)
        *spare = choose_region(p, blocks.first, blocks.count);
    return *spare;
}

static void lower_recv_piece(struct placement *p, struct mt_plan_record *record,
                             struct plan_interval piece)
{
    struct home spare = nowhere;
    for (uint32_t i = 0; i < piece.count && mt_plan_going(p->b); i++) {
        uint32_t block = piece.first + i;
        set_home(p, block, new_home(p, block, piece, &spare));
    }
    if (mt_plan_going(p->b))
        append_runs(p, record, piece);
}

static void lower_recv(struct placement *p, const struct mt_plan_op *op)
{
    struct mt_plan_record *record = append_record(p, MANTA_PLAN_RECV, op);
    struct plan_interval pieces[2];
    if (!record)
        return;
    if (op->target != PLAN_WORKING) {
        struct home home = own_region(p, op->target, op->blocks, 1);
        record->at[record->step.location_count++] =
            locate(home, op->blocks.first, op->blocks.count);
        return;
    }
    uint32_t count = cut(op, pieces);
    for (uint32_t i = 0; i < count && mt_plan_going(p->b); i++)
        lower_recv_piece(p, record, pieces[i]);
}

/* target, left, right of one block of a reduction. */
static void reduce_homes(struct placement *p, const struct mt_plan_op *op, uint32_t block,
                         struct home *spare, struct home homes[3])
{
    const uint32_t operands[3] = {op->target, op->left, op->right};
    for (int i = 2; i >= 0; i--) {
        if (operands[i] == MT_OPERAND_RECEIVED)
            homes[i] = *spare;
        else if (operands[i] != PLAN_WORKING)
            homes[i] = own_region(p, operands[i], op->blocks, i == 0);
        else if (i == 0)
            homes[i] = new_home(p, block, op->blocks, spare);
        else
            homes[i] = p->homes[block];
        if (homes[i].buffer == MANTA_PLAN_NONE)
            fault(p, "a block is combined that this rank has no value of");
    }
}

/* The blocks of `op` are one piece. */
static void lower_reduce_piece(struct placement *p, const struct mt_plan_op *op, struct home spare)
{
    uint32_t end = op->blocks.first + op->blocks.count;
    for (uint32_t first = op->blocks.first, next; first < end; first = next) {
        struct home homes[3], others[3];
        reduce_homes(p, op, first, &spare, homes);
        for (next = first + 1; next < end && mt_plan_going(p->b); next++) {
            reduce_homes(p, op, next, &spare, others);
            if (!same_home(homes[0], others[0]) || !same_home(homes[1], others[1]) ||
                !same_home(homes[2], others[2]))
                break;
        }
        struct mt_plan_record *record = append_record(p, MANTA_PLAN_REDUCE, op);
        if (!record || !mt_plan_going(p->b))
            return;
        record->step.location_count = 3;
        for (int i = 0; i < 3; i++)
            record->at[i] = locate(homes[i], first, next - first);
        for (uint32_t block = first; op->target == PLAN_WORKING && block < next; block++)
            set_home(p, block, homes[0]);
    }
}

/* received: where each piece was received, if it was. */
static void lower_reduce(struct placement *p, const struct mt_plan_op *op,
                         const struct home received[2])
{
    struct plan_interval pieces[2];
    uint32_t count = cut(op, pieces);
    for (uint32_t i = 0; i < count && mt_plan_going(p->b); i++) {
        struct mt_plan_op piece = *op;
        piece.blocks = pieces[i];
        lower_reduce_piece(p, &piece, received[i]);
    }
}

/* A region lies along ascending blocks, so each piece is received into one of its own. */
static void lower_recv_reduce(struct placement *p, const struct mt_plan_op *op)
{
    struct plan_interval pieces[2];
    struct home received[2];
    uint32_t count = cut(op, pieces);
    for (uint32_t i = 0; i < count; i++) {
        received[i] = choose_region(p, pieces[i].first, pieces[i].count);
        if (!mt_plan_going(p->b))
            return;
    }
    struct mt_plan_record *record = append_record(p, MANTA_PLAN_RECV, op);
    if (!record)
        return;
    for (uint32_t i = 0; i < count; i++)
        record->at[record->step.location_count++] =
            locate(received[i], pieces[i].first, pieces[i].count);
    lower_reduce(p, op, received);
}

/* What a fused step writes is one piece of memory: DST if all of it is owned. */
static struct home fused_home(struct placement *p, struct plan_interval write)
{
    for (uint32_t i = 0; i < write.count; i++)
        if (!mt_plan_owns_dst(&p->b->plan, write.first + i))
            return choose_region(p, write.first, write.count);
    return in_dst;
}

/* So is what it reads. */
static void lower_fused(struct placement *p, const struct mt_plan_op *op)
{
    const struct manta_plan_fused_member *me = mt_plan_own_member(p->b, op->peer);
    const struct plan_interval read = {me->read_first, me->read_count, 0};
    const struct plan_interval write = {me->write_first, me->write_count, 0};
    struct home target = fused_home(p, write);
    struct mt_plan_record *record = append_record(p, MANTA_PLAN_FUSED, op);
    if (!record)
        return;
    record->step.number = op->peer;
    append_runs(p, record, read);
    if (record->step.location_count != (uint32_t)(read.count > 0))
        fault(p, "a fused step reads in several places");
    if (!mt_plan_going(p->b) || !write.count)
        return;
    for (uint32_t i = 0; i < write.count; i++)
        set_home(p, write.first + i, target);
    record->at[record->step.location_count++] = locate(target, write.first, write.count);
}

static void lower(struct placement *p, const struct mt_plan_op *op)
{
    switch (op->verb) {
    case MT_VERB_SEND:
        lower_send(p, op);
        break;
    case MT_VERB_RECV:
        lower_recv(p, op);
        break;
    case MT_VERB_RECV_REDUCE:
        lower_recv_reduce(p, op);
        break;
    case MT_VERB_REDUCE:
        lower_reduce(p, op, (const struct home[2]){nowhere, nowhere});
        break;
    default:
        lower_fused(p, op);
    }
    for (uint32_t i = 0; i < op->blocks.count && mt_plan_going(p->b); i++) {
        uint32_t block = block_at(op, i);
        if (!p->live_now[i] && p->homes[block].buffer == MANTA_PLAN_SCRATCH)
            set_home(p, block, nowhere);
    }
    p->live_now += op->blocks.count;
}

static int writes_working(const struct mt_plan_builder *b, const struct mt_plan_op *op,
                          uint32_t block)
{
    if (op->verb == MT_VERB_FUSED) {
        const struct manta_plan_fused_member *me = mt_plan_own_member(b, op->peer);
        return block >= me->write_first && block - me->write_first < me->write_count;
    }
    return op->verb != MT_VERB_SEND && op->target == PLAN_WORKING;
}

static int reads_working(const struct mt_plan_builder *b, const struct mt_plan_op *op,
                         uint32_t block)
{
    if (op->verb == MT_VERB_FUSED) {
        const struct manta_plan_fused_member *me = mt_plan_own_member(b, op->peer);
        return block >= me->read_first && block - me->read_first < me->read_count;
    }
    if (op->verb == MT_VERB_SEND)
        return op->left == PLAN_WORKING;
    return op->verb != MT_VERB_RECV && (op->left == PLAN_WORKING || op->right == PLAN_WORKING);
}

/* Backwards over the ops: which values are still needed after each. live ends at its end. */
static void find_live(const struct mt_plan_builder *b, uint8_t *needed, uint8_t *live_end)
{
    for (uint32_t block = 0; block < b->plan.blocks; block++)
        needed[block] = (uint8_t)mt_plan_owns_dst(&b->plan, block);
    for (uint32_t i = b->op_count; i-- > 0;) {
        const struct mt_plan_op *op = &b->ops[i];
        live_end -= op->blocks.count;
        for (uint32_t k = 0; k < op->blocks.count; k++) {
            uint32_t block = block_at(op, k);
            uint8_t *now = &needed[block];
            live_end[k] = *now;
            if (writes_working(b, op, block))
                *now = 0;
            if (reads_working(b, op, block))
                *now = 1;
        }
    }
}

/* Results that live elsewhere than in DST are copied; a wanted block without a value is the
 * algorithm's fault. */
static void finish(struct placement *p)
{
    const struct manta_plan *plan = &p->b->plan;
    const struct mt_plan_op op = {.lane = 0};
    for (uint32_t first = 0, next; first < plan->blocks && mt_plan_going(p->b); first = next) {
        struct home home = p->homes[first];
        for (next = first + 1; next < plan->blocks && same_home(p->homes[next], home) &&
                               mt_plan_owns_dst(plan, next) == mt_plan_owns_dst(plan, first);)
            next++;
        if (!mt_plan_owns_dst(plan, first))
            continue;
        if (home.buffer == MANTA_PLAN_NONE)
            fault(p, "a block of the result is never made");
        if (home.buffer == MANTA_PLAN_DST || (home.buffer == MANTA_PLAN_SRC && plan->in_place))
            continue;
        struct mt_plan_record *record = append_record(p, MANTA_PLAN_COPY, &op);
        if (!record)
            return;
        record->step.location_count = 2;
        record->at[0] = locate(in_dst, first, next - first);
        record->at[1] = locate(home, first, next - first);
    }
}

static int open_placement(struct placement *p)
{
    struct mt_plan_builder *b = p->b;
    size_t flags = b->plan.blocks;
    for (uint32_t i = 0; i < b->op_count; i++)
        flags += b->ops[i].blocks.count;
    p->homes = calloc(b->plan.blocks, sizeof(*p->homes));
    p->live = calloc(flags, 1);
    if (!p->homes || !p->live)
        return mt_error_set(b->error, MANTA_ENOMEM, "no memory for a plan of %u blocks; free some",
                            b->plan.blocks);
    find_live(b, p->live, p->live + flags);
    p->live_now = p->live + b->plan.blocks;
    int root_holds = b->plan.collective == MANTA_BROADCAST && b->plan.rank == b->plan.root;
    for (uint32_t block = 0; block < b->plan.blocks; block++) {
        p->homes[block] = root_holds ? in_dst : nowhere;
        if (mt_plan_owns_src(&b->plan, block))
            p->homes[block] = (struct home){MANTA_PLAN_SRC, 0, 0};
    }
    return 0;
}

void mt_plan_place(struct mt_plan_builder *b)
{
    struct placement p = {.b = b};
    if (!open_placement(&p)) {
        for (p.op = 0; p.op < b->op_count && mt_plan_going(b); p.op++)
            lower(&p, &b->ops[p.op]);
        finish(&p);
    }
    free(p.homes);
    free(p.live);
}
