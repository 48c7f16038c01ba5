/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/building.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

int mt_plan_going(const struct mt_plan_builder *b)
{
    return b->error->code == 0;
}

void *mt_plan_append(struct mt_plan_builder *b, void *array, uint32_t *count, uint32_t *capacity,
                     size_t item_bytes)
{
    char *items; /* `array` points to a pointer of any object type */
    memcpy(&items, array, sizeof(items));
    if (*count == *capacity) {
        uint32_t larger = *capacity ? *capacity * 2 : 32;
        items = larger > *capacity ? realloc(items, larger * item_bytes) : NULL;
        if (!items) {
            mt_error_set(b->error, MANTA_ENOMEM, "no memory for a plan of %u ranks; free some",
                         b->plan.ranks);
            return NULL;
        }
        memcpy(array, &items, sizeof(items));
        *capacity = larger;
    }
    return memset(items + item_bytes * (*count)++, 0, item_bytes);
}

void mt_plan_refuse(struct mt_plan_builder *b, const char *reason)
{
    if (mt_plan_going(b))
        mt_error_set(b->error, MANTA_EPLAN, "algorithm %s, rank %u of %u: %s", b->plan.algorithm,
                     b->plan.rank, b->plan.ranks, reason);
}

uint32_t plan_rank(const struct mt_plan_builder *p)
{
    return p->frame.rank;
}

uint32_t plan_ranks(const struct mt_plan_builder *p)
{
    return p->frame.ranks;
}

uint32_t plan_root(const struct mt_plan_builder *p)
{
    return p->frame.root;
}

uint32_t plan_from_root(const struct mt_plan_builder *p, uint32_t distance)
{
    return (uint32_t)((p->frame.root + (uint64_t)distance) % p->frame.ranks);
}

uint32_t plan_parameter(const struct mt_plan_builder *p, uint32_t fallback)
{
    return p->frame.parameter ? p->frame.parameter : fallback;
}

uint32_t plan_collective(const struct mt_plan_builder *p)
{
    return p->frame.collective;
}

void plan_blocks(struct mt_plan_builder *p, uint32_t blocks, uint32_t layout)
{
    struct mt_plan_frame *frame = &p->frame;
    if (frame->blocks || (p->op_count && !frame->members))
        mt_plan_refuse(p, "the partition is set once, before the first step");
    if (!blocks || blocks > MT_PLAN_BLOCKS_MAX)
        mt_plan_refuse(p, "the number of blocks is 0 or too large");
    else if (layout == MANTA_PLAN_RANKS && blocks % frame->ranks)
        mt_plan_refuse(p, "the number of blocks is not a multiple of the ranks");
    else if (frame->parts && blocks != frame->ranks)
        mt_plan_refuse(p, "the view's parts are no partition for this algorithm");
    /* After a refusal one block is as good as any, and soon gone through. */
    frame->blocks = mt_plan_going(p) ? blocks : 1;
    if (frame->members)
        return;
    p->plan.blocks = frame->blocks;
    p->plan.layout = layout;
    frame->within = plan_all(p);
}

void plan_lane(struct mt_plan_builder *p, uint32_t lane)
{
    if (lane >= MT_PLAN_LANES_MAX) {
        mt_plan_refuse(p, "too many lanes");
        return;
    }
    p->lane = lane;
    if (p->plan.lanes <= lane)
        p->plan.lanes = lane + 1;
}

struct plan_interval plan_block(const struct mt_plan_builder *p, int64_t index)
{
    int64_t blocks = p->frame.blocks ? p->frame.blocks : 1;
    int64_t wrapped = (index % blocks + blocks) % blocks;
    return (struct plan_interval){(uint32_t)wrapped, 1, 0};
}

struct plan_interval plan_around(const struct mt_plan_builder *p, int64_t index, uint32_t count)
{
    return (struct plan_interval){plan_block(p, index).first, count, 1};
}

struct plan_interval plan_range(uint32_t first, uint32_t count)
{
    return (struct plan_interval){first, count, 0};
}

struct plan_interval plan_all(const struct mt_plan_builder *p)
{
    return (struct plan_interval){0, p->frame.blocks, 0};
}

struct plan_interval plan_halved(const struct mt_plan_builder *p, uint32_t halves,
                                 uint32_t halvings)
{
    uint32_t first = 0, count = plan_all(p).count;
    for (uint32_t t = 0; t < halvings; t++) {
        count /= 2;
        first += (halves >> t & 1) * count;
    }
    return plan_range(first, count);
}

static int is_region(const struct mt_plan_builder *b, uint32_t operand)
{
    return operand == PLAN_WORKING || operand == MT_OPERAND_RECEIVED || operand < b->region_count;
}

/* Blocks that lie around the end of the vector only work where they may lie in two places. */
static int are_blocks(const struct mt_plan_builder *b, const struct mt_plan_op *op)
{
    const struct plan_interval *blocks = &op->blocks;
    if (!blocks->count || blocks->first >= b->frame.blocks)
        return 0;
    if (blocks->count <= b->frame.blocks - blocks->first)
        return 1;
    return blocks->around && blocks->count <= b->frame.blocks && op->target >= b->region_count &&
           op->left >= b->region_count && op->right >= b->region_count;
}

static void append_op(struct mt_plan_builder *b, struct mt_plan_op op)
{
    if (!mt_plan_going(b) || b->only_measures)
        return;
    int message = op.verb <= MT_VERB_RECV_REDUCE;
    if (!are_blocks(b, &op))
        mt_plan_refuse(b, "a step names blocks that do not exist");
    else if (message && (op.peer >= b->frame.ranks || op.peer == b->frame.rank))
        mt_plan_refuse(b, "a message goes to or comes from no other rank");
    else if (!is_region(b, op.target) || !is_region(b, op.left) || !is_region(b, op.right))
        mt_plan_refuse(b, "a step names a scratch region that does not exist");
    if (!mt_plan_going(b))
        return;
    op.lane = (uint16_t)b->lane;
    op.blocks = mt_plan_place_of(b, op.blocks);
    op.begin = b->frame.parts ? 0 : b->frame.within.first;
    op.end = b->frame.parts ? b->plan.blocks : op.begin + b->frame.within.count;
    if (message)
        op.peer = mt_plan_member(b, op.peer);
    if (!op.blocks.count)
        return; /* for both ends */
    struct mt_plan_op *slot =
        mt_plan_append(b, &b->ops, &b->op_count, &b->op_capacity, sizeof(*b->ops));
    if (slot)
        *slot = op;
}

void plan_send(struct mt_plan_builder *p, uint32_t peer, struct plan_interval blocks)
{
    plan_send_scratch(p, peer, blocks, PLAN_WORKING);
}

void plan_recv(struct mt_plan_builder *p, uint32_t peer, struct plan_interval blocks)
{
    plan_recv_scratch(p, peer, blocks, PLAN_WORKING);
}

void plan_recv_reduce(struct mt_plan_builder *p, uint32_t peer, struct plan_interval blocks)
{
    append_op(p, (struct mt_plan_op){MT_VERB_RECV_REDUCE, 0, peer, blocks, PLAN_WORKING,
                                     PLAN_WORKING, MT_OPERAND_RECEIVED, 0, 0});
}

void plan_recv_reduce_left(struct mt_plan_builder *p, uint32_t peer, struct plan_interval blocks)
{
    append_op(p, (struct mt_plan_op){MT_VERB_RECV_REDUCE, 0, peer, blocks, PLAN_WORKING,
                                     MT_OPERAND_RECEIVED, PLAN_WORKING, 0, 0});
}

uint32_t plan_scratch(struct mt_plan_builder *p, uint32_t blocks)
{
    if (!mt_plan_going(p) || p->only_measures)
        return 0;
    uint32_t index = p->region_count;
    struct mt_plan_scratch *region =
        mt_plan_append(p, &p->regions, &p->region_count, &p->region_capacity, sizeof(*p->regions));
    if (!region)
        return 0;
    region->blocks = mt_plan_room_for(p, blocks);
    region->origin = MANTA_PLAN_NONE;
    return index;
}

void plan_recv_scratch(struct mt_plan_builder *p, uint32_t peer, struct plan_interval blocks,
                       uint32_t region)
{
    append_op(p, (struct mt_plan_op){MT_VERB_RECV, 0, peer, blocks, region, PLAN_WORKING,
                                     PLAN_WORKING, 0, 0});
}

void plan_send_scratch(struct mt_plan_builder *p, uint32_t peer, struct plan_interval blocks,
                       uint32_t region)
{
    append_op(p, (struct mt_plan_op){MT_VERB_SEND, 0, peer, blocks, PLAN_WORKING, region,
                                     PLAN_WORKING, 0, 0});
}

void plan_reduce(struct mt_plan_builder *p, uint32_t target, uint32_t left, uint32_t right,
                 struct plan_interval blocks)
{
    append_op(p, (struct mt_plan_op){MT_VERB_REDUCE, 0, MANTA_PLAN_NONE, blocks, target, left,
                                     right, 0, 0});
}

/* Who reads and writes what when the collective is carried out by all ranks in one step. */
static struct manta_plan_fused_member declare_member(struct mt_plan_builder *b, uint32_t rank)
{
    const struct mt_plan_frame *frame = &b->frame;
    const struct manta_plan as_rank = {.collective = frame->collective,
                                       .rank = rank,
                                       .ranks = frame->ranks,
                                       .root = frame->root,
                                       .blocks = frame->blocks};
    struct plan_interval read = plan_range(0, 0), write = read;
    int copies_root = frame->collective == MANTA_BROADCAST && rank == frame->root;
    for (uint32_t block = frame->blocks; block-- > 0;) {
        if (mt_plan_owns_src(&as_rank, block) || copies_root)
            read = plan_range(block, read.count + 1);
        if (mt_plan_owns_dst(&as_rank, block) && !copies_root)
            write = plan_range(block, write.count + 1);
    }
    read = read.count ? mt_plan_place_of(b, read) : read;
    write = write.count ? mt_plan_place_of(b, write) : write;
    return (struct manta_plan_fused_member){mt_plan_member(b, rank), read.first, read.count,
                                            write.first, write.count};
}

/* The members' entries; 0 if there is no room for them. */
static int declare_members(struct mt_plan_builder *b)
{
    for (uint32_t rank = 0; rank < b->frame.ranks && mt_plan_going(b); rank++) {
        struct manta_plan_fused_member member = declare_member(b, rank);
        if (rank && member.rank <= b->members[b->member_count - 1].rank)
            mt_plan_refuse(b, "the members of a fused step do not ascend");
        struct manta_plan_fused_member *slot = mt_plan_append(
            b, &b->members, &b->member_count, &b->member_capacity, sizeof(*b->members));
        if (slot)
            *slot = member;
    }
    return mt_plan_going(b);
}

void plan_fused(struct mt_plan_builder *p)
{
    const struct mt_plan_frame *frame = &p->frame;
    if (!mt_plan_going(p) || p->only_measures)
        return;
    if (!frame->blocks) {
        mt_plan_refuse(p, "a fused step comes after the partition");
        return;
    }
    uint32_t index = p->plan.fused_count, first = p->member_count;
    uint32_t root = frame->root == MANTA_PLAN_NONE ? frame->root : mt_plan_member(p, frame->root);
    struct mt_plan_declared *declared =
        mt_plan_append(p, &p->fused, &p->plan.fused_count, &p->fused_capacity, sizeof(*p->fused));
    if (!declared || !declare_members(p))
        return;
    *declared = (struct mt_plan_declared){
        {frame->collective, root, frame->ranks, MANTA_PLAN_ORDER_BINARY, NULL},
        first,
        first + frame->rank};
    append_op(p, (struct mt_plan_op){MT_VERB_FUSED, 0, index, plan_all(p), PLAN_WORKING,
                                     PLAN_WORKING, PLAN_WORKING, 0, 0});
}
