/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The circulant graph of Träff's algorithms: ranks r and r + skip are neighbours, for skips that
 * halve, rounded up, from the number of ranks down to 1. Included by algorithms only.
 */
#ifndef MT_COLLECTIVES_CIRCULANT_H
#define MT_COLLECTIVES_CIRCULANT_H

#include <stdint.h>

enum { MT_CIRCULANT_SKIPS = 33 };

/* 1 = skip[0] < ... < skip[q] = n, each half of the next, rounded up. Returns q = ceil(log2 n). */
static inline uint32_t mt_circulant_skips(uint32_t n, uint32_t skip[MT_CIRCULANT_SKIPS])
{
    uint32_t q = 0;
    while ((UINT64_C(1) << q) < n)
        q++;
    skip[q] = n;
    for (uint32_t k = q; k-- > 0;)
        skip[k] = skip[k + 1] - skip[k + 1] / 2;
    return q;
}

#endif
