/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two-phase kernel. The blocks of a chunk belong to the members in turn. A member
 *   stages chunk c + 1 but for its own block           (tick A(c + 1))
 *   combines its own block of chunk c from everybody's staging, into the hole it left
 *   publishes that result                              (tick B(c))
 *   copies the others' blocks of chunk c to the caller (allreduce: all; reduce: the root).
 * Ticks are numbered in the order A(0) A(1) B(0) A(2) B(1) ... A(C-1) B(C-2) B(C-1), so that a
 * member that has finished chunk c is done with all ticks before A(c + 2), but for B(c) itself: the
 * staging of chunk c, marked with B(c), comes free one chunk late. See team.h for the window.
 *
 * A member whose source is lent stages nothing: A(c) says where it lies. A member whose destination
 * is lent combines into it, and B(c) says where. Each does so for itself. In place (source and
 * destination are the same) nobody's contribution is overwritten before it was read: of member m's
 * block i only member i reads the source; m writes there the result of i, after B(c) of i, which i
 * publishes when it has combined the block. Its own block m reads and writes alone, and what others
 * read there after B(c) of m is the result.
 */
#include "transport/shm/combine.h"
#include "transport/shm/copy.h"
#include "transport/shm/fused.h"

enum state { STAGE, GATHER, COMBINE, PUBLISH, COLLECT };

static uint64_t stage_tick(uint32_t chunk)
{
    return chunk == 0 ? 0 : 2 * (uint64_t)chunk - 1;
}

static uint64_t result_tick(const struct mt_shm_op *op, uint32_t chunk)
{
    return chunk + 1 == op->chunks ? 2 * (uint64_t)chunk + 1 : 2 * (uint64_t)chunk + 2;
}

/* First element of a member's block, counted from the chunk's; on a cache line. */
static uint64_t block_first(const struct mt_shm_op *op, const struct mt_shm_team *team,
                            uint64_t length, uint32_t member)
{
    if (member == team->count)
        return length;
    uint64_t first = length * member / team->count;
    return first - first % (MT_SHM_LINE / op->size);
}

struct block {
    uint64_t at, bytes; /* from the start of the chunk */
};

static struct block block_of(const struct mt_shm_op *op, const struct mt_shm_team *team,
                             uint32_t chunk, uint32_t member)
{
    uint64_t length = mt_shm_chunk_length(op, chunk);
    uint64_t first = block_first(op, team, length, member);
    uint64_t end = block_first(op, team, length, member + 1);
    return (struct block){first * op->size, (end - first) * op->size};
}

/* A piece of the ring for this chunk: 0, MANTA_EAGAIN or an error. */
static int take_region(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                       struct mt_shm_op *op, uint32_t chunk, uint64_t bytes, uint32_t *peer_out)
{
    int code = mt_shm_team_ring(endpoint, team, bytes, &op->region[chunk % 2], peer_out);
    if (code == 0)
        op->region_end[chunk % 2] = team->ring_head;
    return code;
}

static void copy_region(struct mt_shm_endpoint *endpoint, const struct mt_shm_team *team,
                        const struct mt_shm_op *op, uint32_t chunk)
{
    uint64_t bytes = mt_shm_chunk_length(op, chunk) * op->size;
    struct block own = block_of(op, team, chunk, team->me);
    uint64_t own_end = own.at + own.bytes;
    const uint8_t *from = op->src + mt_shm_chunk_first(op, chunk) * op->size;
    uint8_t *region = op->region[chunk % 2];
    mt_shm_copy_in(&team->distance, region, from, own.at);
    mt_shm_copy_in(&team->distance, region + own_end, from + own_end, bytes - own_end);
    mt_count(&endpoint->copied_bytes, bytes - own.bytes);
}

static int stage(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, struct mt_shm_op *op,
                 uint32_t *peer_out)
{
    uint32_t chunk = op->published;
    uint64_t tick = team->tick + stage_tick(chunk);
    uint64_t bytes = mt_shm_chunk_length(op, chunk) * op->size;
    int code = mt_shm_team_room(endpoint, team, tick, peer_out);
    op->region[chunk % 2] = NULL;
    if (code == 0 && op->lent_src.segment == 0)
        code = take_region(endpoint, team, op, chunk, bytes, peer_out);
    if (code != 0)
        return code;
    if (op->region[chunk % 2] != NULL)
        copy_region(endpoint, team, op, chunk);
    else
        mt_shm_op_place(team, op, tick, &op->lent_src, mt_shm_chunk_first(op, chunk) * op->size);
    mt_count(&endpoint->fused_sent, 1);
    mt_count(&endpoint->fused_sent_bytes, bytes - block_of(op, team, chunk, team->me).bytes);
    mt_shm_team_publish(endpoint, team, tick, op->hash, op->region[chunk % 2]);
    op->published++;
    return 0;
}

/* Bytes that the member published at this tick: 0, MANTA_EAGAIN or an error. */
static int find(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                const struct mt_shm_op *op, uint32_t member, uint64_t tick,
                const struct mt_shm_want *want, const uint8_t **found_out)
{
    const uint8_t *entry;
    int code = mt_shm_team_look(endpoint, team, member, team->tick + tick, op->hash, &entry);
    if (code == 0)
        code = mt_shm_team_locate(endpoint, team, member, entry, want, found_out);
    return code == MANTA_INPROGRESS ? MANTA_EAGAIN : code;
}

static int gather(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, struct mt_shm_op *op,
                  uint32_t *peer_out)
{
    struct block own = block_of(op, team, op->chunk, team->me);
    const struct mt_shm_want want = {own.at, own.at, own.bytes};
    for (; op->member < team->count; op->member++) {
        const uint8_t *found;
        if (op->member == team->me)
            continue;
        *peer_out = team->members[op->member].rank;
        int code = find(endpoint, team, op, op->member, stage_tick(op->chunk), &want, &found);
        if (code != 0)
            return code;
        team->sources[op->member] = found;
    }
    mt_count(&endpoint->fused_received_bytes, own.bytes * (team->count - 1));
    return 0;
}

/* Where others read the result of the own block: in the ring, or in the caller's memory. NULL: they
 * do not, for a root combines for itself alone. */
static uint8_t *result_of(const struct mt_shm_op *op, const struct mt_shm_team *team,
                          struct block own)
{
    uint8_t *region = op->region[op->chunk % 2];
    if (op->root == team->me)
        return NULL;
    if (op->lent_dst.segment != 0)
        return op->dst + mt_shm_chunk_first(op, op->chunk) * op->size + own.at;
    return op->lent_src.segment == 0 ? region + own.at : region;
}

static int combine(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, struct mt_shm_op *op,
                   uint32_t *peer_out)
{
    struct block own = block_of(op, team, op->chunk, team->me);
    int is_alone = op->root == team->me;
    int is_staged = !is_alone && op->lent_dst.segment == 0;
    if (is_staged && op->region[op->chunk % 2] == NULL) {
        int code = take_region(endpoint, team, op, op->chunk, own.bytes, peer_out);
        if (code != 0)
            return code;
    }
    if (own.bytes == 0)
        return 0;
    uint64_t at = mt_shm_chunk_first(op, op->chunk) * op->size + own.at;
    uint8_t *result = result_of(op, team, own);
    team->sources[team->me] = op->src + at;
    /* What goes past the caches into staging had better not be read from there. */
    int is_first = op->consumes && (!is_staged || mt_shm_goes_far(&team->distance, own.bytes));
    struct mt_shm_combination how = mt_shm_how(op, own.bytes, is_alone);
    if (op->consumes && !is_first && !op->past_caches)
        how.also = op->dst + at;
    if (op->lent_dst.segment != 0) /* slow to write, which spoils it */
        how.is_long = 0;
    mt_shm_combine(&how, is_first ? op->dst + at : result, team->sources, team->count,
                   own.bytes / op->size, endpoint->scratch);
    if (!op->consumes || !is_staged)
        return 0;
    if (is_first)
        mt_shm_copy_in(&team->distance, result, op->dst + at, own.bytes);
    else if (how.also == NULL)
        mt_shm_copy_own(op, op->dst + at, result, own.bytes);
    mt_count(&endpoint->copied_bytes, own.bytes);
    return 0;
}

static int publish(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, struct mt_shm_op *op,
                   uint32_t *peer_out)
{
    uint64_t tick = team->tick + result_tick(op, op->chunk);
    struct block own = block_of(op, team, op->chunk, team->me);
    uint8_t *result = NULL;
    int code = mt_shm_team_room(endpoint, team, tick, peer_out);
    if (code == 0 && team->owes_report && mt_shm_team_withdrawn(team))
        code = MANTA_EAGAIN;
    if (code != 0)
        return code;
    if (op->region[op->chunk % 2] != NULL)
        mt_shm_team_mark(team, tick, op->region_end[op->chunk % 2]);
    if (op->root == team->me)
        return 0;
    if (op->lent_dst.segment != 0)
        mt_shm_op_place(team, op, tick, &op->lent_dst,
                        mt_shm_chunk_first(op, op->chunk) * op->size + own.at);
    else
        result = result_of(op, team, own);
    mt_shm_team_publish(endpoint, team, tick, op->hash, result);
    mt_count(&endpoint->fused_sent, 1);
    mt_count(&endpoint->fused_sent_bytes, own.bytes);
    return 0;
}

/* The others' results, beginning with the next member so that not all read from the same one. */
static int collect(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, struct mt_shm_op *op,
                   uint32_t *peer_out)
{
    uint8_t *to = op->dst + mt_shm_chunk_first(op, op->chunk) * op->size;
    while (op->consumes && op->member + 1 < team->count) {
        uint32_t member = (team->me + 1 + op->member) % team->count;
        struct block block = block_of(op, team, op->chunk, member);
        const struct mt_shm_want want = {0, 0, block.bytes};
        const uint8_t *result;
        *peer_out = team->members[member].rank;
        int code = find(endpoint, team, op, member, result_tick(op, op->chunk), &want, &result);
        if (code != 0)
            return code;
        mt_shm_copy_out(op, to + block.at, result, block.bytes);
        mt_count(&endpoint->copied_bytes, block.bytes);
        mt_count(&endpoint->fused_received_bytes, block.bytes);
        op->member++;
    }
    return team->owes_report && mt_shm_team_withdrawn(team) ? MANTA_EAGAIN : 0;
}

static void end_chunk(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                      struct mt_shm_op *op)
{
    uint64_t bytes = mt_shm_chunk_length(op, op->chunk) * op->size;
    op->chunk++;
    /* Who has published B(c) has combined chunk c, and finished chunk c - 1. */
    if (op->root == MT_SHM_NOBODY)
        mt_shm_team_known(team, team->tick + stage_tick(op->chunk));
    uint64_t done = op->chunk == op->chunks ? mt_shm_op_ticks(op) : stage_tick(op->chunk);
    mt_shm_team_consumed(endpoint, team, team->tick + done, bytes, op->hash);
}

int mt_shm_two_phase_step(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                          struct mt_shm_op *op, uint32_t *peer_out)
{
    int code = 0;
    switch ((enum state)op->state) {
    case STAGE:
        while (code == 0 && op->published < op->chunks && op->published < op->chunk + 2)
            code = stage(endpoint, team, op, peer_out);
        break;
    case GATHER:
        code = gather(endpoint, team, op, peer_out);
        break;
    case COMBINE:
        code = combine(endpoint, team, op, peer_out);
        break;
    case PUBLISH:
        code = publish(endpoint, team, op, peer_out);
        break;
    case COLLECT:
        code = collect(endpoint, team, op, peer_out);
        break;
    }
    if (code != 0)
        return code;
    op->member = 0;
    if (op->state != COLLECT) {
        op->state++;
        return MANTA_INPROGRESS;
    }
    op->state = STAGE;
    end_chunk(endpoint, team, op);
    return op->chunk == op->chunks ? 0 : MANTA_INPROGRESS;
}
