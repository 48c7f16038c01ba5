/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CLOCK_MONOTONIC at the price of reading the CPU's time stamp counter, for the time stamp of each
 * call. Between two readings of the real clock, a second apart at most, the counter interpolates;
 * where it does not run at a constant rate each reading is one of the real clock. One thread at a
 * time.
 */
#ifndef MT_CORE_QUICK_CLOCK_H
#define MT_CORE_QUICK_CLOCK_H

#include <stdint.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

struct mt_quick_clock {
    uint64_t ticks, ns;             /* of the last reading of the real clock */
    uint64_t limit_ticks;           /* how long it may be interpolated; 0: not at all */
    uint64_t ns_per_tick;           /* in 2^-32 */
    uint64_t first_ticks, first_ns; /* of the first reading */
};

static inline uint64_t mt_ticks(void)
{
#if defined(__x86_64__)
    return __rdtsc();
#else
    return 0;
#endif
}

/* Now by the real clock, from which the clock learns. Zero the clock before its first use. */
uint64_t mt_quick_clock_read(struct mt_quick_clock *clock);

/* The counter and the real clock were read together. */
void mt_quick_clock_learn(struct mt_quick_clock *clock, uint64_t ticks, uint64_t now_ns);

static inline uint64_t mt_quick_now_ns(struct mt_quick_clock *clock)
{
    uint64_t ticks = mt_ticks(), passed = ticks - clock->ticks;
    if (__builtin_expect(passed < clock->limit_ticks, 1))
        return clock->ns + (passed * clock->ns_per_tick >> 32);
    return mt_quick_clock_read(clock);
}

#endif
