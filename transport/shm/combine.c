/* SPDX-License-Identifier: Apache-2.0 */
/* The canonical binary tree over members, evaluated tile by tile. */
#include <string.h>

#include <manta/manta.h>

#include "core/reduce.h"
#include "transport/shm/combine.h"

struct tile {
    const struct mt_shm_combination *how;
    const void *const *sources;
    uint64_t offset_bytes, elements;
    uint8_t *scratch;
};

/* Largest power of two below count; count >= 2. */
static uint32_t split(uint32_t count)
{
    return UINT32_C(1) << (31 - __builtin_clz(count - 1));
}

/* The combination of `count` members from `first` on: the member's own memory when it is one, else
 * the tile of scratch number `level`; the tiles after it are used on the way. */
static const void *combine(const struct tile *tile, uint32_t first, uint32_t count, uint32_t level)
{
    if (count == 1)
        return (const uint8_t *)tile->sources[first] + tile->offset_bytes;
    uint32_t half = split(count);
    const void *left = combine(tile, first, half, level);
    const void *right = combine(tile, first + half, count - half, level + 1);
    uint8_t *target = tile->scratch + (uint64_t)level * MT_SHM_TILE_BYTES;
    mt_reduce(tile->how->dtype, tile->how->op, target, left, right, tile->elements);
    return target;
}

/* The step that gives the result, from `done` bytes of it on. */
static void combine_last(const struct mt_shm_combination *how, uint64_t done, void *dst,
                         const void *left, const void *right, uint64_t elements)
{
    uint8_t *to = (uint8_t *)dst + done;
    if (how->past_caches) {
        mt_reduce_stream(how->dtype, how->op, to, left, right, elements);
    } else if (how->also == NULL && !how->is_long) {
        mt_reduce(how->dtype, how->op, to, left, right, elements);
    } else {
        uint8_t *also = how->also != NULL ? how->also + done : NULL;
        const struct mt_reduce_places at = {to, also, left, right};
        mt_reduce_fresh(how->dtype, how->op, &at, elements);
    }
}

void mt_shm_combine(const struct mt_shm_combination *how, void *dst, const void *const *sources,
                    uint32_t count, uint64_t elements, uint8_t *scratch)
{
    uint64_t size = manta_dtype_size(how->dtype);
    if (count == 1) {
        memmove(dst, sources[0], elements * size);
        if (how->also != NULL)
            memcpy(how->also, dst, elements * size);
        return;
    }
    if (count == 2) {
        combine_last(how, 0, dst, sources[0], sources[1], elements);
        return;
    }
    /* Everything of a tile is read before dst is written, which may be one of the sources. */
    uint64_t tile_elements = MT_SHM_TILE_BYTES / size;
    uint32_t half = split(count);
    for (uint64_t done = 0; done < elements; done += tile_elements) {
        uint64_t left_over = elements - done;
        struct tile tile = {.how = how,
                            .sources = sources,
                            .offset_bytes = done * size,
                            .elements = left_over < tile_elements ? left_over : tile_elements,
                            .scratch = scratch};
        const void *left = combine(&tile, 0, half, 0);
        const void *right = combine(&tile, half, count - half, 1);
        combine_last(how, done * size, dst, left, right, tile.elements);
    }
}
