/* SPDX-License-Identifier: Apache-2.0 */
/* Floating-point numbers in plain C. */
#ifndef MT_CORE_REDUCE_FLOATS_H
#define MT_CORE_REDUCE_FLOATS_H

#include <string.h>

#include "core/float.h"
#include "core/reduce_kernels.h"

/* dtype, bits as a signed integer, all bits but the sign, largest that is not a NaN, the NaN. */
#define SHORT_FLOATS(X)                                                                            \
    X(float16, int16_t, INT16_MAX, MT_TOP_FLOAT16, MT_NAN_FLOAT16)                                 \
    X(bfloat16, int16_t, INT16_MAX, MT_TOP_BFLOAT16, MT_NAN_BFLOAT16)                              \
    X(float8_e4m3, int8_t, INT8_MAX, MT_TOP_E4M3, MT_NAN_E4M3)                                     \
    X(float8_e5m2, int8_t, INT8_MAX, MT_TOP_E5M2, MT_NAN_E5M2)

/* dtype, type of its bits, to float32, from float32. */
#define NARROW_FLOATS(X)                                                                           \
    X(float16, uint16_t, float_of_float16, float16_of_float)                                       \
    X(bfloat16, uint16_t, mt_float_of_bfloat16, mt_bfloat16_of_float)                              \
    X(float8_e4m3, uint8_t, float_of_e4m3, e4m3_of_float)                                          \
    X(float8_e5m2, uint8_t, float_of_e5m2, e5m2_of_float)

/* dtype, type, type of its bits, the canonical NaN. */
#define WIDE_FLOATS(X)                                                                             \
    X(float32, float, uint32_t, __builtin_nanf(""))                                                \
    X(float64, double, uint64_t, __builtin_nan(""))

/* As signed integers floats are in order, -0 below +0, but negative ones among themselves, which
 * are in reverse order. */
#define ORDER(dtype, type, below_sign, top, nan)                                                   \
    static inline type dtype##_unless_nan(type result, type a, type b)                             \
    {                                                                                              \
        type magnitude_a = (type)(a & below_sign), magnitude_b = (type)(b & below_sign);           \
        type larger = magnitude_a > magnitude_b ? magnitude_a : magnitude_b;                       \
        return larger > top ? (type)nan : result;                                                  \
    }                                                                                              \
    static inline type dtype##_least(type a, type b)                                               \
    {                                                                                              \
        type below = a < b ? a : b, above = a < b ? b : a;                                         \
        return dtype##_unless_nan(above < 0 ? above : below, a, b);                                \
    }                                                                                              \
    static inline type dtype##_most(type a, type b)                                                \
    {                                                                                              \
        type below = a < b ? a : b, above = a < b ? b : a;                                         \
        return dtype##_unless_nan(above < 0 ? below : above, a, b);                                \
    }                                                                                              \
    COMBINE(dtype, min, type, dtype##_least(a, b))                                                 \
    COMBINE(dtype, max, type, dtype##_most(a, b))
SHORT_FLOATS(ORDER)

static inline float float_of_float16(uint32_t bits)
{
    return mt_float_of_narrow(MT_NARROW_FLOAT16, bits);
}

static inline uint32_t float16_of_float(float value)
{
    return mt_narrow_of_float(MT_NARROW_FLOAT16, value);
}

static inline float float_of_e4m3(uint32_t bits)
{
    return mt_float_of_narrow(MT_NARROW_E4M3, bits);
}

static inline uint32_t e4m3_of_float(float value)
{
    return mt_narrow_of_float(MT_NARROW_E4M3, value);
}

static inline float float_of_e5m2(uint32_t bits)
{
    return mt_float_of_narrow(MT_NARROW_E5M2, bits);
}

static inline uint32_t e5m2_of_float(float value)
{
    return mt_narrow_of_float(MT_NARROW_E5M2, value);
}

static inline float float_divisor(uint32_t divisor)
{
    return (float)divisor;
}

static inline double double_divisor(uint32_t divisor)
{
    return divisor;
}

#define NARROW_KERNELS(dtype, type, to_float, from_float)                                          \
    COMBINE(dtype, sum, type, from_float(to_float(a) + to_float(b)))                               \
    COMBINE(dtype, prod, type, from_float(to_float(a) * to_float(b)))                              \
    DIVIDE(dtype##_divide_by_few, type, float, float_divisor, from_float(to_float(a) / n))         \
    DIVIDE(dtype##_divide_by_many, type, double, double_divisor,                                   \
           from_float(mt_float_to_odd(to_float(a) / n)))                                           \
    static inline void dtype##_divide(void *dst, uint64_t count, uint32_t divisor)                 \
    {                                                                                              \
        if (divisor <= MT_NARROW_DIVISOR)                                                          \
            dtype##_divide_by_few(dst, count, divisor);                                            \
        else                                                                                       \
            dtype##_divide_by_many(dst, count, divisor);                                           \
    }
NARROW_FLOATS(NARROW_KERNELS)

/* 8 bits have 256 quotients: for many elements it is faster to look them up. */
static inline void divide_by_table(uint8_t *to, uint64_t count, uint32_t divisor,
                                   mt_divide_fn *divide)
{
    enum { VALUES = 256, WORTHWHILE = 4 * VALUES };
    uint8_t quotients[VALUES];

    if (count < WORTHWHILE) {
        divide(to, count, divisor);
        return;
    }
    for (int i = 0; i < VALUES; i++)
        quotients[i] = (uint8_t)i;
    divide(quotients, VALUES, divisor);
    for (uint64_t i = 0; i < count; i++)
        to[i] = quotients[to[i]];
}

static inline void float8_e4m3_divide_by_table(void *dst, uint64_t count, uint32_t divisor)
{
    divide_by_table(dst, count, divisor, float8_e4m3_divide);
}

static inline void float8_e5m2_divide_by_table(void *dst, uint64_t count, uint32_t divisor)
{
    divide_by_table(dst, count, divisor, float8_e5m2_divide);
}

/* Each bfloat16 of a pair is the upper half of a float. */
static inline float low_bfloat16(uint32_t pair)
{
    return mt_float_of_bits(pair << 16);
}

static inline float high_bfloat16(uint32_t pair)
{
    return mt_float_of_bits(pair & 0xffff0000);
}

static inline uint32_t bfloat16_pair(float low, float high)
{
    return mt_bfloat16_of_float(high) << 16 | mt_bfloat16_of_float(low);
}

COMBINE(bfloat16_pair, sum, uint32_t,
        bfloat16_pair(low_bfloat16(a) + low_bfloat16(b), high_bfloat16(a) + high_bfloat16(b)))
COMBINE(bfloat16_pair, prod, uint32_t,
        bfloat16_pair(low_bfloat16(a) * low_bfloat16(b), high_bfloat16(a) * high_bfloat16(b)))
COMBINE_BY_PAIRS(bfloat16, sum, 2)
COMBINE_BY_PAIRS(bfloat16, prod, 2)

static inline uint32_t float16_pair(float low, float high)
{
    return float16_of_float(high) << 16 | float16_of_float(low);
}

COMBINE(float16_pair, sum, uint32_t,
        float16_pair(float_of_float16(a & 0xffff) + float_of_float16(b & 0xffff),
                     float_of_float16(a >> 16) + float_of_float16(b >> 16)))
COMBINE(float16_pair, prod, uint32_t,
        float16_pair(float_of_float16(a & 0xffff) * float_of_float16(b & 0xffff),
                     float_of_float16(a >> 16) * float_of_float16(b >> 16)))
COMBINE_BY_PAIRS(float16, sum, 2)
COMBINE_BY_PAIRS(float16, prod, 2)

/* The smaller and the larger of two zeros are either of them to the CPU, which one depends on their
 * order: taken in both, the bits that either has make -0, those that both have +0. */
#define WIDE_KERNELS(dtype, type, bits, nan)                                                       \
    static inline type dtype##_quiet(type value)                                                   \
    {                                                                                              \
        return value == value ? value : nan;                                                       \
    }                                                                                              \
    static inline type dtype##_merge(type first, type second, int either)                          \
    {                                                                                              \
        bits x, y;                                                                                 \
        memcpy(&x, &first, sizeof x);                                                              \
        memcpy(&y, &second, sizeof y);                                                             \
        x = either ? x | y : x & y;                                                                \
        memcpy(&first, &x, sizeof x);                                                              \
        return first;                                                                              \
    }                                                                                              \
    static inline type dtype##_least(type a, type b)                                               \
    {                                                                                              \
        type least = dtype##_merge(a < b ? a : b, b < a ? b : a, 1);                               \
        return __builtin_isunordered(a, b) ? nan : least;                                          \
    }                                                                                              \
    static inline type dtype##_most(type a, type b)                                                \
    {                                                                                              \
        type most = dtype##_merge(a > b ? a : b, b > a ? b : a, 0);                                \
        return __builtin_isunordered(a, b) ? nan : most;                                           \
    }                                                                                              \
    COMBINE(dtype, sum, type, dtype##_quiet(a + b))                                                \
    COMBINE(dtype, prod, type, dtype##_quiet(a *b))                                                \
    COMBINE(dtype, min, type, dtype##_least(a, b))                                                 \
    COMBINE(dtype, max, type, dtype##_most(a, b))                                                  \
    DIVIDE(dtype##_divide, type, type, (type), dtype##_quiet(a / n))
WIDE_FLOATS(WIDE_KERNELS)

#endif
