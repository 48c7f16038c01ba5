/* SPDX-License-Identifier: Apache-2.0 */
/* Combining the vectors of several members in the canonical order. */
#ifndef MT_TRANSPORT_SHM_COMBINE_H
#define MT_TRANSPORT_SHM_COMBINE_H

#include <stdint.h>

enum {
    MT_SHM_TILE_BYTES = 4096, /* worked on at once, so that partial results stay in the L1 cache */
    MT_SHM_LONG_BYTES = 32 * 1024,
    MT_SHM_TILES = 33, /* depth of the tree over 2^32 members, and one */
};

struct mt_shm_combination {
    int dtype, op;
    int past_caches; /* dst is part of more than they hold, and none of the sources */
    int is_long;     /* enough for the order to matter in which lines are fetched */
    uint8_t *also;   /* NULL, or a second place for the result, as dst; for one that is not longer
                      * than the caches */
};

/*
 * dst = sources[0] op ... op sources[count - 1], by the binary tree that is split at the largest
 * power of two below the count, rounded after each step (MANTA_PLAN_ORDER_BINARY). dst may equal
 * any one source, and must not overlap them otherwise. scratch: MT_SHM_TILES * MT_SHM_TILE_BYTES,
 * aligned to 8. count >= 1; op is not AVG.
 */
void mt_shm_combine(const struct mt_shm_combination *how, void *dst, const void *const *sources,
                    uint32_t count, uint64_t elements, uint8_t *scratch);

#endif
