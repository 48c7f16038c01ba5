/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far ranks are from each other: what a load takes of a cache line that the other has written
 * and keeps to itself. Credit lies in such lines: it is written after every chunk, and loaded by
 * those who run out of room only. After a long payload, now and then, a load of it is timed: nobody
 * has to answer, and a peer that is late delays nothing. Loads that meet with traffic take longer,
 * so the best of a few counts. A class changes when some more of those speak for the other one than
 * for it: the members of a team may be of both kinds, and a virtual CPU may move to another core
 * at any time.
 *
 * The class is this rank's own opinion. It decides how bytes are copied, never what is published.
 */
#ifndef MT_TRANSPORT_SHM_DISTANCE_H
#define MT_TRANSPORT_SHM_DISTANCE_H

#include <stdatomic.h>
#include <stdint.h>

#include <manta/transport.h>

#include "core/quick_clock.h"

/* A line that takes longer than one from memory does is far: what goes there had better go past the
 * caches, and come from memory. */
enum { MT_SHM_FAR_NS = 150 };

/* What an endpoint measures with. */
struct mt_shm_ruler {
    struct mt_quick_clock clock; /* for its rate */
    uint64_t overhead_ticks;     /* of timing a load that takes no time */
    int is_fixed, fixed_far;     /* MANTA_SHM_DISTANCE */
};

struct mt_shm_distance {
    int64_t due_bytes; /* of payload, until the next load is timed */
    uint32_t interval; /* from one to the next */
    uint32_t turn;     /* whose line it is */
    uint32_t loads;    /* timed of that one */
    uint32_t best_ns;  /* of them */
    int32_t votes;     /* of ranks: far ones less near ones */
    uint32_t is_far;   /* the class */
    uint32_t line_ns;  /* what the last vote was about; 0: there was none */
};

/* A call counts for so much at least and at most. */
enum { MT_SHM_MEASURE_LEAST = 1 << 14, MT_SHM_MEASURE_MOST = 1 << 20 };

/* 0, or MANTA_EINVAL if MANTA_SHM_DISTANCE is none. */
int mt_shm_ruler_open(const struct manta_transport_host *host, struct mt_shm_ruler *ruler_out);
void mt_shm_distance_open(const struct mt_shm_ruler *ruler, struct mt_shm_distance *distance_out);

/* Is a load to be timed after a payload of this length? Not so often that it is felt. */
static inline int mt_shm_distance_is_due(struct mt_shm_distance *distance, uint64_t bytes)
{
    if (bytes < MT_SHM_MEASURE_LEAST)
        bytes = MT_SHM_MEASURE_LEAST;
    distance->due_bytes -= bytes < MT_SHM_MEASURE_MOST ? (int64_t)bytes : MT_SHM_MEASURE_MOST;
    if (__builtin_expect(distance->due_bytes > 0, 1))
        return 0;
    distance->due_bytes = distance->interval;
    return 1;
}
/* Load a word, with acquire, and time it. */
uint64_t mt_shm_distance_load(const _Atomic uint64_t *word, uint64_t *ticks_out);
/* A load that took so long was the first one since another rank wrote the line. */
void mt_shm_distance_note(struct mt_shm_ruler *ruler, struct mt_shm_distance *distance,
                          uint64_t ticks);
/* The same in nanoseconds. */
void mt_shm_distance_note_ns(struct mt_shm_distance *distance, uint64_t line_ns);

#endif
