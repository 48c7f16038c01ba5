/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers for many calls, some of them in memory that peers read in place: several in a segment, at
 * no particular places. */
#ifndef TESTS_UNIT_TRANSPORT_SHM_ARENA_H
#define TESTS_UNIT_TRANSPORT_SHM_ARENA_H

#include "tests/unit/transport/shm/world.h"
#include "transport/memory.h"

enum { ARENA_BYTES = 4 << 20, ARENA_SEGMENTS = 200 };

/* Which buffers lie in segments. */
enum arena_lends { ARENA_NONE, ARENA_SOME, ARENA_ALL };

static struct {
    enum arena_lends lends;
    void *segments[ARENA_SEGMENTS];
    uint32_t count;
    uint64_t used, bytes; /* of the last one */
} arena;

static inline uint8_t *arena_take(uint64_t bytes, uint64_t *random)
{
    struct mt_error error;
    if (arena.lends == ARENA_NONE || (arena.lends == ARENA_SOME && world_random(random) % 2))
        return malloc(bytes);
    uint64_t gap = world_random(random) % 64 * 8;
    if (arena.count == 0 || arena.used + gap + bytes > arena.bytes) {
        arena.bytes = bytes + gap > ARENA_BYTES ? bytes + gap : ARENA_BYTES;
        if (arena.count == ARENA_SEGMENTS ||
            mt_memory_alloc(arena.bytes, &arena.segments[arena.count], &error) != 0)
            return malloc(bytes);
        arena.count++;
        arena.used = 0;
    }
    uint8_t *taken = (uint8_t *)arena.segments[arena.count - 1] + arena.used + gap;
    arena.used += (gap + bytes + 7) / 8 * 8;
    return taken;
}

static inline void arena_give(uint8_t *taken)
{
    if (mt_memory_find(taken, 1).segment == 0)
        free(taken);
}

/* When none of its buffers is used any more. */
static inline void arena_clear(void)
{
    struct mt_error error;
    while (arena.count > 0)
        mt_memory_free(arena.segments[--arena.count], &error);
}

#endif
