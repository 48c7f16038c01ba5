/* SPDX-License-Identifier: Apache-2.0 */
/* The table of pieces of memory, for the files that make and end them. */
#ifndef MT_TRANSPORT_MEMORY_TABLE_H
#define MT_TRANSPORT_MEMORY_TABLE_H

#include "transport/memory.h"

#define MT_MEMORY_MOST (UINT64_C(1) << 62) /* bytes of a piece */

enum mt_memory_kind {
    MT_MEMORY_ALLOCATED,  /* mapped here, and unmapped here */
    MT_MEMORY_REGISTERED, /* the caller's */
    MT_MEMORY_REMAPPED,   /* the caller's, its pages moved into a memfd */
};

struct mt_memory_piece {
    uintptr_t start;
    uint64_t bytes;
    uint32_t kind;    /* enum mt_memory_kind */
    int fd;           /* the memfd, or -1 */
    uint64_t offset;  /* of the page in the file where the piece begins */
    uint64_t segment; /* given by mt_memory_enter(); 0: there is no memfd, or no slot was free */
    const char *why;  /* it is not read in place */
};

void mt_memory_lock(void);
void mt_memory_unlock(void);
/* Holding the lock. The piece that begins at this address, that holds it, or that has something in
 * common with the range; NULL: none. */
struct mt_memory_piece *mt_memory_at(uintptr_t start);
struct mt_memory_piece *mt_memory_overlap(uintptr_t start, uint64_t bytes);
/* Holding the lock: take a piece in, which owns its descriptor from now on. 0 or MANTA_ENOMEM. */
int mt_memory_enter(const struct mt_memory_piece *piece);
/* Holding the lock: take it out and close its descriptor; its memory is left as it is. */
void mt_memory_leave(struct mt_memory_piece *piece);

/* A new memfd of that many bytes (whole pages), sealed against another size. -1 with errno:
 * ENOMEM where the host has not that much available. */
int mt_memory_create_file(uint64_t bytes);
/* What peers get can be read only, if /proc is there; in place of fd, which is closed. */
int mt_memory_read_only(int fd);
/* Bring all of it in now: memory that is not there kills who touches it. 0 or MANTA_ENOMEM. */
int mt_memory_populate(void *start, uint64_t bytes);

#endif
