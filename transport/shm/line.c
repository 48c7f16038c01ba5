/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line kernel: an operation whose payload lies beside the flag and whose team has nothing else
 * to do. It does what the stream kernel does with one chunk, without chunks, in two halves: publish
 * when it is posted, look while somebody waits for it. It keeps the stream kernel's state, so that
 * that one can go on at any time.
 */
#include "transport/shm/combine.h"
#include "transport/shm/copy.h"
#include "transport/shm/fused.h"

/* Payload bytes in the flag's line, on which others wait: written last, so that the line is taken
 * from them once. */
enum { BESIDE = MT_SHM_LINE - sizeof(uint64_t) };

static void take(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                 const struct mt_shm_op *op, const uint8_t *payload, uint64_t bytes)
{
    mt_count(&endpoint->fused_received, 1);
    mt_count(&endpoint->fused_received_bytes, bytes);
    if (op->collective != MANTA_BROADCAST && op->collective != MANTA_ALLGATHER) {
        team->sources[op->member] = payload;
        return;
    }
    uint64_t at = op->collective == MANTA_ALLGATHER ? mt_shm_part(op, op->member) : 0;
    mt_shm_copy_short(op->dst + at, payload, bytes);
    mt_count(&endpoint->copied_bytes, bytes);
}

static void finish(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                   const struct mt_shm_op *op, uint64_t bytes)
{
    if (op->collective == MANTA_ALLREDUCE || op->collective == MANTA_REDUCE) {
        team->sources[team->me] = op->src;
        const struct mt_shm_combination how = {.dtype = op->dtype, .op = op->op};
        mt_shm_combine(&how, op->dst, team->sources, team->count, op->elements, endpoint->scratch);
    } else if (op->collective == MANTA_ALLGATHER) {
        uint64_t own = mt_shm_part(op, team->me);
        if (op->dst != op->src)
            mt_shm_copy_short(op->dst + own, op->src + own, bytes);
    }
}

/* Until all have published, or the looks are used up. */
static int gather(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, struct mt_shm_op *op,
                  uint64_t bytes, uint32_t looks, uint32_t *peer_out)
{
    for (; op->member < team->count; op->member++) {
        const uint8_t *payload;
        int code;
        if (op->member == team->me || !mt_shm_publishes(op, op->member))
            continue;
        do
            code = mt_shm_team_look(endpoint, team, op->member, team->tick, op->hash, &payload);
        while (code == MANTA_INPROGRESS && looks-- > 1);
        *peer_out = team->members[op->member].rank;
        if (code != 0)
            return code;
        take(endpoint, team, op, payload, bytes);
    }
    return 0;
}

int mt_shm_line_publish(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                        const struct mt_shm_op *op, const uint8_t *src, uint32_t hash)
{
    if (!op->publishes || team->tick >= team->known_done + MT_SHM_TICKS)
        return 0;
    uint64_t bytes = op->elements * op->size;
    uint8_t *payload = mt_shm_team_inline(team, team->tick);
    if (op->collective == MANTA_ALLGATHER)
        src += mt_shm_part(op, team->me);
    if (bytes > BESIDE)
        memcpy(payload + BESIDE, src + BESIDE, bytes - BESIDE);
    mt_shm_copy_short(payload, src, bytes < BESIDE ? bytes : BESIDE);
    mt_shm_team_publish(endpoint, team, team->tick, hash, payload);
    mt_count(&endpoint->copied_bytes, bytes);
    mt_count(&endpoint->fused_sent, 1);
    mt_count(&endpoint->fused_sent_bytes, bytes);
    return 1;
}

void mt_shm_line_end(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint32_t hash)
{
    team->tick++;
    mt_shm_team_consumed(endpoint, team, team->tick, 0, hash);
}

int mt_shm_line_look(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                     struct mt_shm_op *op, uint32_t looks, uint32_t *peer_out)
{
    uint64_t bytes = op->elements * op->size;
    int code = gather(endpoint, team, op, bytes, looks, peer_out);
    if (code != 0)
        return code;
    finish(endpoint, team, op, bytes);
    if (op->root == MT_SHM_NOBODY) /* who publishes is done with all earlier operations */
        mt_shm_team_known(team, team->tick);
    mt_shm_line_end(endpoint, team, op->hash);
    return 0;
}
