/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segment: one sealed memfd per endpoint that only its owner writes. Peers map it read-only.
 *
 *   header     who owns it, its geometry; the `sleeping` flag; the directory of teams
 *   teams      per team slot: one line `done` (what the owner has consumed of everybody) and
 *              MT_SHM_TICKS entries (flag + up to MT_SHM_INLINE bytes of payload)
 *   channels   per node peer: one credit line and the lines of frames
 *   slices     per node peer: where longer payloads of its channel lie
 *   rings      per team slot: the staging ring, where longer payloads of fused steps lie
 *
 * All ranks of a node compute the same geometry; a segment with another one is refused.
 */
#ifndef MT_TRANSPORT_SHM_SEGMENT_H
#define MT_TRANSPORT_SHM_SEGMENT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <manta/transport.h>

enum {
    MT_SHM_LINE = 64,
    MT_SHM_PAGE = 4096,
    MT_SHM_VERSION = 2,
    MT_SHM_TICKS = 32,                /* publications of one team in flight */
    MT_SHM_ENTRY = 17 * MT_SHM_LINE,  /* an odd number of lines: spreads over the cache's sets */
    MT_SHM_INLINE = MT_SHM_ENTRY - 8, /* payload beside the flag */
    MT_SHM_TEAMS = 9,                 /* at most; slot 0: all ranks of the node; others: subsets */
    MT_SHM_FRAMES = 32,               /* lines of a channel, at most */
    MT_SHM_CHUNKS = 8,                /* a staging ring holds this many of the longest chunks */
    MT_SHM_WINDOW = 5                 /* chunks that one kernel may have in flight, see team.h */
};

/* Slots of the two parts of a grouped team, see group.h; subsets that a plan names come after. */
enum { MT_SHM_SLOT_INNER = 1, MT_SHM_SLOT_RAIL = 2, MT_SHM_SLOT_SUBSETS = 3 };

/* Byte offsets from the start of the segment. */
struct mt_shm_geometry {
    uint32_t local_ranks;
    uint32_t teams;  /* slots */
    uint32_t frames; /* lines of a channel: a power of two */
    uint32_t reserved;
    uint64_t team_at, team_stride;
    uint64_t channel_at, channel_stride;
    uint64_t slice_at, slice_bytes;
    uint64_t ring_at; /* of slot 0 */
    uint64_t ring_bytes;
    uint64_t subset_ring_at; /* of slot 1; the others follow */
    uint64_t subset_ring_bytes;
    uint64_t segment_bytes;
};

struct mt_shm_identity {
    uint64_t magic;
    uint32_t version, epoch;
    uint8_t communicator[16];
    uint32_t rank, reserved;
    struct mt_shm_geometry geometry;
};

/* The first page of a segment. */
struct mt_shm_header {
    struct mt_shm_identity identity;
    /* Set by the owner before it sleeps, read by whoever publishes something for it. */
    _Alignas(4 * MT_SHM_LINE) _Atomic uint32_t sleeping;
    /* Set, once, by an owner that gives up a call while others may read its memory: see lend.h. */
    _Alignas(MT_SHM_LINE) _Atomic uint32_t withdrawn;
    /* Key of the team in each slot, 0: none. Written once, after the slot's memory is ready. */
    _Alignas(MT_SHM_LINE) _Atomic uint64_t team_key[MT_SHM_TEAMS];
};

/* The geometry for this many ranks on the node, of which each may use `budget_bytes`. 0, or
 * MANTA_ENOMEM if the budget is too small; then out->segment_bytes is the least that is enough. */
int mt_shm_geometry(uint32_t local_ranks, uint64_t budget_bytes, struct mt_shm_geometry *out);

/* A new segment, mapped for writing and sealed; what the team of all ranks needs is in memory, the
 * rest comes there when it is first used. Returns MANTA_ESYSTEM or MANTA_ENOMEM with errno, and the
 * call that failed in *call_out. */
int mt_shm_segment_create(const struct mt_shm_identity *identity, uint8_t **base_out, int *fd_out,
                          const char **call_out);
/* Map a peer's segment read-only, after checking seals, size and identity; `expected` is what its
 * identity must be. 0, MANTA_ETRANSPORT (it is not what it should be; *call_out says what), or
 * MANTA_ESYSTEM. */
int mt_shm_segment_map(int fd, const struct mt_shm_identity *expected, const uint8_t **base_out,
                       const char **call_out);
void mt_shm_segment_unmap(const uint8_t *base, uint64_t bytes);

static inline struct mt_shm_header *mt_shm_header_of(const uint8_t *base)
{
    return (struct mt_shm_header *)(uintptr_t)base;
}

static inline uint64_t mt_shm_ring_at(const struct mt_shm_geometry *geometry, uint32_t slot)
{
    return slot == 0 ? geometry->ring_at
                     : geometry->subset_ring_at + (slot - 1) * geometry->subset_ring_bytes;
}

static inline uint64_t mt_shm_ring_bytes(const struct mt_shm_geometry *geometry, uint32_t slot)
{
    return slot == 0 ? geometry->ring_bytes : geometry->subset_ring_bytes;
}

/* Bring pages into memory before the first use of them, for writing or reading. Best effort. */
void mt_shm_populate(const uint8_t *start, uint64_t bytes, int for_writing);

#endif
