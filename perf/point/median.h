/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PERF_POINT_MEDIAN_H
#define PERF_POINT_MEDIAN_H

#include <stdint.h>
#include <stdlib.h>

static inline int point_ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Sorts them. */
static inline uint64_t point_median(uint64_t *took_ns, int count)
{
    qsort(took_ns, (size_t)count, sizeof(took_ns[0]), point_ascending);
    return took_ns[count / 2];
}

#endif
