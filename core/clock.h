/* SPDX-License-Identifier: Apache-2.0 */
/* Time in nanoseconds on CLOCK_MONOTONIC. */
#ifndef MT_CORE_CLOCK_H
#define MT_CORE_CLOCK_H

#include <stdint.h>
#include <time.h>

enum { MT_MS = 1000000, MT_US = 1000 };
#define MT_SECOND UINT64_C(1000000000)

static inline uint64_t mt_clock_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * MT_SECOND + (uint64_t)t.tv_nsec;
}

#endif
