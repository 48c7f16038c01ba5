/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic of float16 for CPUs that only convert it: by way of float32, which is exact enough
 * (core/float.h). */
#ifndef MT_CORE_REDUCE_FLOAT16_H
#define MT_CORE_REDUCE_FLOAT16_H

#include "core/reduce_narrow.h"

/* The including file's: the first and the second half of the vector. */
static inline void widen(halves from, floats to[2]);
static inline halves narrow(floats first, floats second);

static inline halves float16_add(halves a, halves b)
{
    floats left[2], right[2];
    widen(a, left);
    widen(b, right);
    return narrow(left[0] + right[0], left[1] + right[1]);
}

static inline halves float16_multiply(halves a, halves b, float scale)
{
    floats left[2], right[2];
    widen(a, left);
    widen(b, right);
    return narrow(left[0] * right[0] * scale, left[1] * right[1] * scale);
}

static inline halves round_e4m3_sum(halves high, halves low)
{
    return round_e4m3(high, low);
}

#endif
