/* SPDX-License-Identifier: Apache-2.0 */
/* The stream kernel: at tick c of the operation the publishers publish chunk c, the consumers take
 * it. A publisher that also consumes stays one chunk ahead; a root runs ahead as far as there is
 * room. */
#include "transport/shm/combine.h"
#include "transport/shm/copy.h"
#include "transport/shm/fused.h"

static uint64_t payload_bytes(const struct mt_shm_op *op, const struct mt_shm_team *team,
                              uint32_t chunk)
{
    uint64_t bytes = mt_shm_chunk_length(op, chunk) * op->size;
    return op->collective == MANTA_REDUCE_SCATTER ? bytes * team->count : bytes;
}

static uint64_t ring_bytes(uint64_t payload)
{
    return payload > MT_SHM_INLINE ? payload : 0;
}

/* What this rank contributes to the chunk. For reduce_scatter: the chunk of each member's part, one
 * after the other; the own one stays where it is. */
static void pack(struct mt_shm_endpoint *endpoint, const struct mt_shm_team *team,
                 const struct mt_shm_op *op, uint32_t chunk, uint8_t *payload)
{
    uint64_t first = mt_shm_chunk_first(op, chunk) * op->size;
    uint64_t bytes = mt_shm_chunk_length(op, chunk) * op->size;
    if (op->collective != MANTA_REDUCE_SCATTER) {
        const uint8_t *from = op->src;
        if (op->collective == MANTA_ALLGATHER) {
            from += mt_shm_part(op, team->me);
            bytes = mt_shm_part_chunk(op, team->me, chunk) * op->size;
        }
        mt_shm_copy_in(&team->distance, payload, from + first, bytes);
        mt_count(&endpoint->copied_bytes, bytes);
        return;
    }
    for (uint32_t i = 0; i < team->count; i++)
        if (i != team->me)
            mt_shm_copy_in(&team->distance, payload + i * bytes,
                           op->src + mt_shm_part(op, i) + first,
                           mt_shm_part_chunk(op, i, chunk) * op->size);
    mt_count(&endpoint->copied_bytes, (team->count - 1) * bytes);
}

/* This rank's own part of an allgather. */
static void keep(const struct mt_shm_team *team, const struct mt_shm_op *op, uint32_t chunk)
{
    uint64_t at = mt_shm_part(op, team->me) + mt_shm_chunk_first(op, chunk) * op->size;
    if (op->dst != op->src)
        mt_shm_copy_own(op, op->dst + at, op->src + at,
                        mt_shm_part_chunk(op, team->me, chunk) * op->size);
}

/* The payload, in place or copied. */
static int put(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, struct mt_shm_op *op,
               uint32_t chunk, uint8_t **payload_out, uint32_t *peer_out)
{
    uint64_t tick = team->tick + chunk;
    uint64_t bytes = payload_bytes(op, team, chunk);
    if (ring_bytes(bytes) != 0 && op->lent_src.segment != 0) {
        mt_shm_op_place(team, op, tick, &op->lent_src, mt_shm_chunk_first(op, chunk) * op->size);
        *payload_out = NULL;
        return 0;
    }
    *payload_out = mt_shm_team_inline(team, tick);
    if (ring_bytes(bytes) != 0) {
        int code = mt_shm_team_ring(endpoint, team, bytes, payload_out, peer_out);
        if (code != 0)
            return code;
        mt_shm_team_mark(team, tick, team->ring_head);
        if (op->collective == MANTA_REDUCE_SCATTER && team->me == 0)
            team->ring_claimed = bytes / team->count; /* nothing is written there */
    }
    pack(endpoint, team, op, chunk, *payload_out);
    return 0;
}

static int publish(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, struct mt_shm_op *op,
                   uint32_t chunk, uint32_t *peer_out)
{
    uint64_t tick = team->tick + chunk;
    uint64_t bytes = payload_bytes(op, team, chunk);
    uint8_t *payload;
    int code = mt_shm_team_room(endpoint, team, tick, peer_out);
    if (code == 0)
        code = put(endpoint, team, op, chunk, &payload, peer_out);
    if (code != 0)
        return code;
    mt_shm_team_publish(endpoint, team, tick, op->hash, payload);
    mt_count(&endpoint->fused_sent, 1);
    mt_count(&endpoint->fused_sent_bytes, bytes);
    /* While the others take it and it is in the cache. The line kernel may have published what is
     * short, so that comes last. */
    if (op->collective == MANTA_ALLGATHER && !op->line)
        keep(team, op, chunk);
    return 0;
}

/* A member's payload is there: copy it, or keep its place until all are there. */
static void take(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                 const struct mt_shm_op *op, uint32_t member, const uint8_t *payload)
{
    uint64_t first = mt_shm_chunk_first(op, op->chunk) * op->size;
    uint64_t bytes = mt_shm_chunk_length(op, op->chunk) * op->size;
    mt_count(&endpoint->fused_received, 1);
    mt_count(&endpoint->fused_received_bytes, bytes);
    switch (op->collective) {
    case MANTA_BROADCAST:
        mt_shm_copy_out(op, op->dst + first, payload, bytes);
        break;
    case MANTA_ALLGATHER:
        mt_shm_copy_out(op, op->dst + mt_shm_part(op, member) + first, payload,
                        mt_shm_part_chunk(op, member, op->chunk) * op->size);
        break;
    default:
        team->sources[member] = payload;
        return;
    }
    mt_count(&endpoint->copied_bytes, bytes);
}

/* All payloads of the chunk are there. */
static void finish(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                   const struct mt_shm_op *op)
{
    uint64_t first = mt_shm_chunk_first(op, op->chunk) * op->size;
    uint64_t length = mt_shm_chunk_length(op, op->chunk);
    uint64_t own = 0;
    switch (op->collective) {
    case MANTA_ALLGATHER:
        if (op->line)
            keep(team, op, op->chunk);
        return;
    case MANTA_REDUCE_SCATTER:
        own = mt_shm_part(op, team->me);
        length = mt_shm_part_chunk(op, team->me, op->chunk);
        break;
    case MANTA_ALLREDUCE:
    case MANTA_REDUCE:
        break;
    default:
        return;
    }
    if (length == 0)
        return;
    team->sources[team->me] = op->src + own + first;
    const struct mt_shm_combination how = mt_shm_how(op, length * op->size, 1);
    mt_shm_combine(&how, op->dst + own + first, team->sources, team->count, length,
                   endpoint->scratch);
}

/* What this rank takes of a member's payload. */
static struct mt_shm_want wanted(const struct mt_shm_team *team, const struct mt_shm_op *op,
                                 uint32_t member)
{
    struct mt_shm_want want = {.bytes = mt_shm_chunk_length(op, op->chunk) * op->size};
    if (op->collective == MANTA_REDUCE_SCATTER) {
        want.staged_at = team->me * want.bytes;
        want.in_place_at = mt_shm_part(op, team->me) - mt_shm_part(op, 0);
        want.bytes = mt_shm_part_chunk(op, team->me, op->chunk) * op->size;
    } else if (op->collective == MANTA_ALLGATHER) {
        want.bytes = mt_shm_part_chunk(op, member, op->chunk) * op->size;
    }
    return want;
}

/* The member's payload of the chunk: 0, MANTA_INPROGRESS or an error. */
static int find(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                const struct mt_shm_op *op, uint32_t member, const uint8_t **payload_out)
{
    uint64_t tick = team->tick + op->chunk;
    const struct mt_shm_want want = wanted(team, op, member);
    const uint8_t *entry;
    int code = mt_shm_team_look(endpoint, team, member, tick, op->hash, &entry);
    if (code != 0)
        return code;
    *payload_out = entry + want.staged_at;
    if (ring_bytes(payload_bytes(op, team, op->chunk)) == 0)
        return 0;
    return mt_shm_team_locate(endpoint, team, member, entry, &want, payload_out);
}

/* Look at the publishers in turn, from where the last look ended. */
static int gather(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, struct mt_shm_op *op,
                  uint32_t *peer_out)
{
    for (; op->member < team->count; op->member++) {
        const uint8_t *payload;
        if (op->member == team->me || !mt_shm_publishes(op, op->member))
            continue;
        int code = find(endpoint, team, op, op->member, &payload);
        *peer_out = team->members[op->member].rank;
        if (code != 0)
            return code == MANTA_INPROGRESS ? MANTA_EAGAIN : code;
        take(endpoint, team, op, op->member, payload);
    }
    return 0;
}

static int consume(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, struct mt_shm_op *op,
                   uint32_t *peer_out)
{
    int code = gather(endpoint, team, op, peer_out);
    if (code != 0)
        return code;
    finish(endpoint, team, op);
    if (team->owes_report && mt_shm_team_withdrawn(team))
        return MANTA_EAGAIN;
    /* Who publishes chunk c is done with c - 2, and with all earlier operations. */
    if (op->root == MT_SHM_NOBODY)
        mt_shm_team_known(team, team->tick + (op->chunk < 2 ? 0 : op->chunk - 1));
    op->chunk++;
    op->member = 0;
    mt_shm_team_consumed(endpoint, team, team->tick + op->chunk,
                         ring_bytes(payload_bytes(op, team, op->chunk - 1)), op->hash);
    return 0;
}

int mt_shm_stream_step(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                       struct mt_shm_op *op, uint32_t *peer_out)
{
    uint32_t ahead = op->consumes ? op->chunk + 2 : op->published + MT_SHM_CHUNKS;
    int result = MANTA_EAGAIN;
    while (op->publishes && op->published < op->chunks && op->published < ahead) {
        int code = publish(endpoint, team, op, op->published, peer_out);
        if (code == MANTA_EAGAIN)
            break;
        if (code != 0)
            return code;
        op->published++;
        result = MANTA_INPROGRESS;
        if (!op->consumes)
            mt_shm_team_consumed(endpoint, team, team->tick + op->published,
                                 ring_bytes(payload_bytes(op, team, op->published - 1)), op->hash);
    }
    if (!op->consumes)
        return op->published == op->chunks ? 0 : result;
    if (op->publishes && op->published <= op->chunk)
        return result;
    int code = consume(endpoint, team, op, peer_out);
    if (code != 0)
        return code == MANTA_EAGAIN ? result : code;
    return op->chunk == op->chunks ? 0 : MANTA_INPROGRESS;
}
