/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sums and products of float16 and the 8-bit formats by the CPU's conversions between float16 and
 * float32, a vector at a time. The including file defines VECTOR_BYTES, then widen() and narrow().
 *
 * The 8-bit formats pass through float16: E5M2 is its upper half, E4M3 times 2^-8 the upper half of
 * its bits shifted by one. So their rounding is float16's with fewer bits, subnormal numbers
 * included, and rounding to float16 first is innocuous: 11 >= 2 * 4 + 2 for sums, and for products,
 * which have 2p bits, the tests try all pairs.
 */
#ifndef MT_CORE_REDUCE_HALVES_H
#define MT_CORE_REDUCE_HALVES_H

#include <stdint.h>
#include <string.h>

#include "core/float.h"
#include "core/reduce_kernels.h"

typedef uint16_t halves __attribute__((vector_size(VECTOR_BYTES)));
typedef int16_t signed_halves __attribute__((vector_size(VECTOR_BYTES)));
typedef int8_t bytes __attribute__((vector_size(VECTOR_BYTES)));
typedef float floats __attribute__((vector_size(VECTOR_BYTES)));

/* The halves of `from` as float32, in two vectors, and back, rounded to nearest even. */
static inline void widen(halves from, floats to[2]);
static inline halves narrow(const floats from[2]);

typedef halves combine_fn(halves a, halves b);

#define SELECT(mask, yes, no) (((yes) & (halves)(mask)) | ((no) & ~(halves)(mask)))

static inline halves add(halves a, halves b)
{
    floats left[2], right[2];
    widen(a, left);
    widen(b, right);
    const floats sum[2] = {left[0] + right[0], left[1] + right[1]};
    return narrow(sum);
}

static inline halves multiply(halves a, halves b, float scale)
{
    floats left[2], right[2];
    widen(a, left);
    widen(b, right);
    const floats product[2] = {left[0] * right[0] * scale, left[1] * right[1] * scale};
    return narrow(product);
}

static inline signed_halves is_nan(halves a)
{
    return (signed_halves)(a & 0x7fff) > MT_TOP_FLOAT16;
}

static inline halves canonical(halves a)
{
    const halves nan = a - a + MT_NAN_FLOAT16;
    return SELECT(is_nan(a), nan, a);
}

static inline halves float16_add(halves a, halves b)
{
    return canonical(add(a, b));
}

static inline halves float16_multiply(halves a, halves b)
{
    return canonical(multiply(a, b, 1));
}

/* Round float16 to E5M2, kept as the upper half; infinity saturates. */
static inline halves round_e5m2(halves a)
{
    const signed_halves limit = (signed_halves)(a - a) + (MT_LIMIT_E5M2 << 8);
    const halves nan = a - a + (MT_NAN_E5M2 << 8);
    signed_halves rounded = (signed_halves)((a & 0x7fff) + 0x7f + (a >> 8 & 1));
    halves magnitude = SELECT(rounded > limit, (halves)limit, (halves)rounded & 0x7f00);
    return SELECT(is_nan(a), nan, magnitude | (a & 0x8000));
}

/* Each half holds two E5M2 numbers. */
static inline halves e5m2_add(halves a, halves b)
{
    halves low = round_e5m2(add(a << 8, b << 8));
    halves high = round_e5m2(add(a & 0xff00, b & 0xff00));
    return high | low >> 8;
}

static inline halves e5m2_multiply(halves a, halves b)
{
    halves low = round_e5m2(multiply(a << 8, b << 8, 1));
    halves high = round_e5m2(multiply(a & 0xff00, b & 0xff00, 1));
    return high | low >> 8;
}

/* The E4M3 number in the upper half of `a`, times 2^-8, as float16. */
static inline halves scaled_e4m3(halves a)
{
    return (halves)((signed_halves)a >> 1) & 0xbf80;
}

/* Round such a float16 to E4M3, in the upper half; NaNs are dealt with elsewhere. */
static inline halves round_e4m3(halves a)
{
    const signed_halves limit = (signed_halves)(a - a) + (MT_LIMIT_E4M3 << 7);
    signed_halves rounded = (signed_halves)((a & 0x7fff) + 0x3f + (a >> 7 & 1));
    halves magnitude = SELECT(rounded > limit, (halves)limit, (halves)rounded);
    return (magnitude << 1 & 0x7f00) | (a & 0x8000);
}

/* As float16 E4M3's NaN looks like a number: put it where an operand was one. */
static inline halves restore_nan_e4m3(halves result, halves a, halves b)
{
    const bytes nan = (bytes)(a - a) + MT_NAN_E4M3;
    bytes is = (((bytes)a & nan) == nan) | (((bytes)b & nan) == nan);
    return SELECT(is, (halves)nan, result);
}

static inline halves e4m3_add(halves a, halves b)
{
    halves low = round_e4m3(add(scaled_e4m3(a << 8), scaled_e4m3(b << 8)));
    halves high = round_e4m3(add(scaled_e4m3(a), scaled_e4m3(b)));
    return restore_nan_e4m3(high | low >> 8, a, b);
}

/* Both factors were scaled, the product is to be scaled once. */
static inline halves e4m3_multiply(halves a, halves b)
{
    halves low = round_e4m3(multiply(scaled_e4m3(a << 8), scaled_e4m3(b << 8), 256));
    halves high = round_e4m3(multiply(scaled_e4m3(a), scaled_e4m3(b), 256));
    return restore_nan_e4m3(high | low >> 8, a, b);
}

static inline void combine_part(char *to, const char *left, const char *right, uint64_t count,
                                combine_fn *combine)
{
    halves a = {0}, b = {0};
    memcpy(&a, left, count);
    memcpy(&b, right, count);
    a = combine(a, b);
    memcpy(to, &a, count);
}

/* The two calls differ in what the compiler knows: whole vectors need no loop over bytes. */
static inline __attribute__((always_inline)) void
combine_all(void *dst, const void *left, const void *right, uint64_t count, combine_fn *combine)
{
    uint64_t at = 0;
    for (; count - at >= VECTOR_BYTES; at += VECTOR_BYTES)
        combine_part((char *)dst + at, (const char *)left + at, (const char *)right + at,
                     VECTOR_BYTES, combine);
    if (at < count)
        combine_part((char *)dst + at, (const char *)left + at, (const char *)right + at,
                     count - at, combine);
}

/* dtype, op, size of an element, how to combine. */
#define HALVES_KERNELS(X)                                                                          \
    X(float16, sum, 2, float16_add)                                                                \
    X(float16, prod, 2, float16_multiply)                                                          \
    X(float8_e4m3, sum, 1, e4m3_add)                                                               \
    X(float8_e4m3, prod, 1, e4m3_multiply)                                                         \
    X(float8_e5m2, sum, 1, e5m2_add)                                                               \
    X(float8_e5m2, prod, 1, e5m2_multiply)

#define HALVES_KERNEL(dtype, op, size, combine)                                                    \
    static void dtype##_##op##_by_halves(void *dst, const void *left, const void *right,           \
                                         uint64_t count)                                           \
    {                                                                                              \
        combine_all(dst, left, right, count *size, combine);                                       \
    }
HALVES_KERNELS(HALVES_KERNEL)

static inline void float16_divide_part(char *to, uint64_t count, float divisor)
{
    halves a = {0};
    floats quotient[2];

    memcpy(&a, to, count);
    widen(a, quotient);
    quotient[0] /= divisor;
    quotient[1] /= divisor;
    a = canonical(narrow(quotient));
    memcpy(to, &a, count);
}

static void float16_divide_by_halves(void *dst, uint64_t count, uint32_t divisor)
{
    uint64_t at = 0, end = 2 * count;

    if (divisor > MT_NARROW_DIVISOR) {
        float16_divide(dst, count, divisor);
        return;
    }
    for (; end - at >= VECTOR_BYTES; at += VECTOR_BYTES)
        float16_divide_part((char *)dst + at, VECTOR_BYTES, (float)divisor);
    if (at < end)
        float16_divide_part((char *)dst + at, end - at, (float)divisor);
}

#endif
