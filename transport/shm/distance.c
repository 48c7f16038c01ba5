/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/shm/distance.h"

#include <string.h>

#include <manta/manta.h>

enum {
    LOADS = 8,             /* of which the best counts */
    VOTES = 2,             /* by which a class wins */
    OWN_NS = 12,           /* in less nothing comes from another core: it had been fetched before */
    EARLY_BYTES = 1 << 16, /* interval until a class has won */
    TRIES = 64
};

/* The counter, after everything before it, stores too, and before everything after it. */
static uint64_t ordered_ticks(void)
{
#if defined(__x86_64__)
    _mm_mfence();
    _mm_lfence();
    uint64_t ticks = mt_ticks();
    _mm_lfence();
    return ticks;
#else
    return mt_ticks();
#endif
}

uint64_t mt_shm_distance_load(const _Atomic uint64_t *word, uint64_t *ticks_out)
{
    uint64_t begin = ordered_ticks();
    uint64_t value = atomic_load_explicit(word, memory_order_acquire);
    *ticks_out = ordered_ticks() - begin;
    return value;
}

int mt_shm_ruler_open(const struct manta_transport_host *host, struct mt_shm_ruler *ruler_out)
{
    const char *given = host->config("SHM_DISTANCE");
    const _Atomic uint64_t near = 0;
    memset(ruler_out, 0, sizeof(*ruler_out));
    ruler_out->overhead_ticks = UINT64_MAX;
    for (int i = 0; i < TRIES; i++) {
        uint64_t ticks;
        mt_shm_distance_load(&near, &ticks);
        if (ticks < ruler_out->overhead_ticks)
            ruler_out->overhead_ticks = ticks;
    }
    mt_quick_now_ns(&ruler_out->clock);
    if (given == NULL || strcmp(given, "auto") == 0)
        return 0;
    ruler_out->is_fixed = 1;
    ruler_out->fixed_far = strcmp(given, "far") == 0;
    return ruler_out->fixed_far || strcmp(given, "near") == 0 ? 0 : MANTA_EINVAL;
}

void mt_shm_distance_open(const struct mt_shm_ruler *ruler, struct mt_shm_distance *distance_out)
{
    memset(distance_out, 0, sizeof(*distance_out));
    distance_out->is_far = (uint32_t)ruler->fixed_far;
    distance_out->due_bytes = distance_out->interval = EARLY_BYTES;
}

static void vote(struct mt_shm_distance *distance, int for_far)
{
    if (for_far ? distance->votes < VOTES : distance->votes > -VOTES)
        distance->votes += for_far ? 1 : -1;
    if (distance->votes != VOTES && distance->votes != -VOTES)
        return;
    distance->is_far = distance->votes > 0;
    distance->interval = MT_SHM_MEASURE_MOST;
}

void mt_shm_distance_note_ns(struct mt_shm_distance *distance, uint64_t line_ns)
{
    uint32_t ns = line_ns < UINT32_MAX ? (uint32_t)line_ns : UINT32_MAX;
    if (distance->loads == 0)
        distance->best_ns = UINT32_MAX;
    if (ns >= OWN_NS && ns < distance->best_ns)
        distance->best_ns = ns;
    if (++distance->loads < LOADS)
        return;
    distance->loads = 0;
    distance->turn++;
    if (distance->best_ns == UINT32_MAX) /* they share a cache next to the core */
        distance->best_ns = OWN_NS;
    distance->line_ns = distance->best_ns;
    vote(distance, distance->best_ns > MT_SHM_FAR_NS);
}

void mt_shm_distance_note(struct mt_shm_ruler *ruler, struct mt_shm_distance *distance,
                          uint64_t ticks)
{
    uint32_t is_far = distance->is_far;
    mt_quick_now_ns(&ruler->clock);
    if (ruler->clock.limit_ticks == 0) /* its rate is not known yet */
        return;
    uint64_t passed = ticks > ruler->overhead_ticks ? ticks - ruler->overhead_ticks : 0;
    mt_shm_distance_note_ns(distance, passed * ruler->clock.ns_per_tick >> 32);
    if (ruler->is_fixed)
        distance->is_far = is_far;
}
