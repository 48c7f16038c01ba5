/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of this process that peers can map: allocated here, or registered. Each piece is a
 * range of addresses; one that lies in a memfd which nobody can shrink is a *segment*, and peers
 * that were given its descriptor read it in place. Segments are named by a number that is never
 * used twice, with the slot of a small table in its low bits.
 *
 * Pieces come and go under a lock. The hot path looks segments up in a copy without one: while the
 * copy is being changed it finds nothing, and memory that is not found is staged.
 */
#ifndef MT_TRANSPORT_MEMORY_H
#define MT_TRANSPORT_MEMORY_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/error.h"

enum { MT_MEMORY_SLOT_BITS = 8, MT_MEMORY_SLOTS = 1 << MT_MEMORY_SLOT_BITS, MT_MEMORY_PAGE = 4096 };

static inline uintptr_t mt_memory_page_down(uintptr_t address)
{
    return address / MT_MEMORY_PAGE * MT_MEMORY_PAGE;
}

static inline uintptr_t mt_memory_page_up(uintptr_t address)
{
    return mt_memory_page_down(address + MT_MEMORY_PAGE - 1);
}

/* Where something lies for those who have mapped the segment. */
struct mt_memory_place {
    uint64_t segment; /* 0: in none */
    uint64_t offset;  /* from the start of what is mapped */
};

static inline uint32_t mt_memory_slot(uint64_t segment)
{
    return (uint32_t)(segment % MT_MEMORY_SLOTS);
}

/* What peers need to map a segment: whole pages. */
struct mt_memory_file {
    int fd;               /* the caller's to close with mt_fd_close() */
    uint64_t file_offset; /* where it begins in the file */
    uint64_t bytes;
};

struct mt_memory_view {
    void *start;
    uint64_t bytes;
    uint64_t segment; /* 0: not read in place */
    char reason[160];
};

extern _Atomic uint32_t mt_memory_count;   /* segments */
extern _Atomic uint64_t mt_memory_changes; /* segments that went, ever */

struct mt_memory_place mt_memory_search(const void *address, uint64_t bytes);
/* The segment that holds all of this memory, or none. */
static inline struct mt_memory_place mt_memory_find(const void *address, uint64_t bytes)
{
    const struct mt_memory_place none = {0, 0};
    /* Only a hint, so it pairs with nothing. */
    if (__builtin_expect(atomic_load_explicit(&mt_memory_count, memory_order_relaxed) == 0, 1))
        return none;
    return mt_memory_search(address, bytes);
}

/* The segment's file, for a peer: 0, or MANTA_EINVAL (the segment is gone) or MANTA_ESYSTEM. */
int mt_memory_file(uint64_t segment, struct mt_memory_file *file_out);
/* For a thread of this process: where the segment is, and how long; NULL: it is gone. */
const uint8_t *mt_memory_base(uint64_t segment, uint64_t *bytes_out);

/* Map whole pages of a file, as the kernel likes them best: huge pages can be used where it has
 * them for files. NULL with errno. A forked child gets it too. */
uint8_t *mt_memory_map(int fd, uint64_t file_offset, uint64_t bytes, int for_writing);

/* The public calls. Each fills `error` and returns its code. */
int mt_memory_alloc(uint64_t bytes, void **start_out, struct mt_error *error);
int mt_memory_free(void *start, struct mt_error *error);
int mt_memory_register(void *start, uint64_t bytes, int remap, struct mt_error *error);
int mt_memory_unregister(void *start, struct mt_error *error);
void mt_memory_describe(const void *address, struct mt_memory_view *view_out);

#endif
