/* SPDX-License-Identifier: Apache-2.0 */
/* In which way an operation is carried out: by which kernel, in which pieces, past the caches or
 * not. The same on all members. */
#include "transport/shm/fused.h"

enum {
    FLAT_BYTES = 16384,       /* of all members together: combined by everybody, in one phase */
    FLAT_BYTES_CHEAP = 65536, /* the same where a second phase costs another turn of all, and of two
                               * members, who have to read as much in two phases */
    PIECES = 8,               /* a broadcast is cut into about that many, within these bounds */
    PIECE_BYTES_MIN = 16 * 1024,
    PIECE_BYTES_MAX = 64 * 1024
};

/* The longest chunk of this operation. In a broadcast the root fills the ring while the others
 * empty it, if there are several chunks; elsewhere all do the same at the same time, and few chunks
 * are best. */
static uint64_t chunk_bytes(const struct mt_shm_team *team, const struct mt_shm_op *op,
                            uint64_t bytes)
{
    uint64_t most = bytes / PIECES;
    if (op->collective != MANTA_BROADCAST)
        return team->chunk_bytes;
    if (most < PIECE_BYTES_MIN)
        most = PIECE_BYTES_MIN;
    if (most > PIECE_BYTES_MAX)
        most = PIECE_BYTES_MAX;
    return most < team->chunk_bytes ? most : team->chunk_bytes;
}

/* As few chunks as there can be, of equal length, on cache lines. */
static void cut(const struct mt_shm_team *team, struct mt_shm_op *op)
{
    uint64_t parts = op->collective == MANTA_REDUCE_SCATTER ? team->count : 1;
    uint64_t bytes = op->elements * op->size * parts;
    op->chunks = 1;
    op->chunk_elements = op->elements;
    uint64_t limit = chunk_bytes(team, op, bytes);
    if (bytes <= MT_SHM_INLINE || bytes <= limit)
        return;
    uint64_t line = MT_SHM_LINE / op->size;
    uint64_t most = limit / op->size / parts;
    if (most >= line)
        most -= most % line;
    uint64_t chunks = (op->elements + most - 1) / most;
    uint64_t each = (op->elements + chunks - 1) / chunks;
    each = (each + line - 1) / line * line;
    op->chunk_elements = each < most ? each : most;
    op->chunks = (uint32_t)((op->elements + op->chunk_elements - 1) / op->chunk_elements);
}

void mt_shm_op_shape(const struct mt_shm_endpoint *endpoint, const struct mt_shm_team *team,
                     struct mt_shm_op *op)
{
    uint64_t bytes = op->elements * op->size;
    uint64_t parts = op->collective == MANTA_ALLGATHER ? team->count : 1;
    op->publishes = (uint8_t)mt_shm_publishes(op, team->me);
    op->consumes = op->root == MT_SHM_NOBODY || !op->publishes;
    uint64_t flat_bytes = op->crowded || team->count == 2 ? FLAT_BYTES_CHEAP : FLAT_BYTES;
    op->past_caches = bytes * parts > endpoint->past_caches_bytes;
    op->two_phase = (op->collective == MANTA_ALLREDUCE || op->collective == MANTA_REDUCE) &&
                    bytes > MT_SHM_INLINE &&
                    (bytes > flat_bytes / team->count || bytes > team->chunk_bytes);
    if (op->two_phase)
        op->publishes = 1;
    cut(team, op);
    op->line = op->chunks == 1 && bytes <= MT_SHM_INLINE &&
               op->collective != MANTA_REDUCE_SCATTER && !op->uneven;
}
