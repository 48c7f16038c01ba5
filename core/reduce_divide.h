/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quotients of the narrow formats, a vector at a time, whatever its width. The including file has
 * included core/reduce_narrow.h and has defined struct table, table_of() and look_up(): of 128
 * bytes, by the lower 7 bits of each byte.
 */
#ifndef MT_CORE_REDUCE_DIVIDE_H
#define MT_CORE_REDUCE_DIVIDE_H

#include "core/reduce_narrow.h"

struct divisor {
    uint32_t number;
    floats value, reciprocal;
};

/* The including file's: correctly rounded, or so nearly that it does not matter, see
 * MT_NARROW_DIVISOR. */
static inline floats quotient(floats value, const struct divisor *n);

static inline halves bfloat16_quotient(halves a, const struct divisor *n)
{
    floats high = quotient(high_bfloat16s(a), n), low = quotient(low_bfloat16s(a), n);
    halves result = bfloat16_halves(high, low);

    if (__builtin_expect(is_any_above16(result & 0x7fff, every(MT_TOP_BFLOAT16 - 1)) ||
                             is_any_subnormal(high, low),
                         0)) {
        uint16_t quotients[VECTOR_BYTES / 2];
        store(quotients, a);
        bfloat16_divide(quotients, VECTOR_BYTES / 2, n->number);
        return load(quotients);
    }
    return result;
}

typedef halves divide_fn(halves a, const struct divisor *n);

static inline __attribute__((always_inline)) void divide_all(char *to, uint64_t bytes,
                                                             uint32_t divisor, divide_fn *divide)
{
    const floats value = (floats){0} + (float)divisor;
    const struct divisor n = {divisor, value, 1 / value};
    uint64_t at = 0;

    for (; bytes - at >= VECTOR_BYTES; at += VECTOR_BYTES)
        store(to + at, divide(load(to + at), &n));
    if (at < bytes)
        store_part(to + at, divide(load_part(to + at, bytes - at), &n), bytes - at);
}

static void bfloat16_divide_by_vectors(void *dst, uint64_t count, uint32_t divisor)
{
    if (divisor <= MT_NARROW_DIVISOR)
        divide_all(dst, 2 * count, divisor, bfloat16_quotient);
    else
        bfloat16_divide(dst, count, divisor);
}

/* 8 bits have so few quotients that many elements are best looked up. NaN has no sign. */
static inline __attribute__((always_inline)) void
divide_by_look_up(char *to, uint64_t count, uint32_t divisor, mt_divide_fn *divide, uint16_t nan)
{
    enum { MAGNITUDES = 128, WORTHWHILE = 8 * MAGNITUDES };
    uint8_t quotients[MAGNITUDES];
    uint64_t at = 0;

    if (count >= WORTHWHILE) {
        for (int i = 0; i < MAGNITUDES; i++)
            quotients[i] = (uint8_t)i;
        divide(quotients, MAGNITUDES, divisor);
        const struct table table = table_of(quotients);
        for (; count - at >= VECTOR_BYTES; at += VECTOR_BYTES) {
            halves a = load(to + at), magnitude = look_up(&table, a & 0x7f7f);
            store(to + at, where_equal8(magnitude, every(nan * 0x0101), magnitude,
                                        magnitude | (a & 0x8080)));
        }
    }
    divide(to + at, count - at, divisor);
}

/* The including file's: a vector of float16. */
static inline halves float16_quotient(halves a, const struct divisor *n);

static void float16_divide_by_vectors(void *dst, uint64_t count, uint32_t divisor)
{
    if (divisor <= MT_NARROW_DIVISOR)
        divide_all(dst, 2 * count, divisor, float16_quotient);
    else
        float16_divide(dst, count, divisor);
}

static void float8_e4m3_divide_by_vectors(void *dst, uint64_t count, uint32_t divisor)
{
    divide_by_look_up(dst, count, divisor, float8_e4m3_divide, MT_NAN_E4M3);
}

static void float8_e5m2_divide_by_vectors(void *dst, uint64_t count, uint32_t divisor)
{
    divide_by_look_up(dst, count, divisor, float8_e5m2_divide, MT_NAN_E5M2);
}

#define VECTOR_DIVIDE                                                                              \
    {                                                                                              \
        [MANTA_FLOAT16] = float16_divide_by_vectors,                                               \
        [MANTA_BFLOAT16] = bfloat16_divide_by_vectors,                                             \
        [MANTA_FLOAT8_E4M3] = float8_e4m3_divide_by_vectors,                                       \
        [MANTA_FLOAT8_E5M2] = float8_e5m2_divide_by_vectors                                        \
    }

#endif
