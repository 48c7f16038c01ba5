/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels in plain C: what each op does to one element, and a loop for each dtype and op. Each
 * variant (reduce_portable.c, reduce_avx2.c, reduce_avx512.c) includes this file and so compiles
 * the same arithmetic for its instruction set; the compiler makes the vectors. What it does not
 * vectorise well, a variant writes itself and puts into its table instead.
 */
#ifndef MT_CORE_REDUCE_KERNELS_H
#define MT_CORE_REDUCE_KERNELS_H

#include <manta/manta.h>
#include <stddef.h>

#include "core/float.h"

typedef void mt_combine_fn(void *dst, const void *left, const void *right, uint64_t count);
typedef void mt_divide_fn(void *dst, uint64_t count, uint32_t divisor);

struct mt_kernels {
    const char *name;
    mt_combine_fn *combine[MANTA_DTYPE_COUNT][MANTA_OP_COUNT];
    mt_divide_fn *divide[MANTA_DTYPE_COUNT];
};

extern const struct mt_kernels mt_kernels_portable, mt_kernels_avx2, mt_kernels_avx512;

/* The iterations of the next loop are independent, though dst may equal left or right. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed" /* without optimization there are no vectors */
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* Elements in a caller's buffer: of no alignment and of whatever type the caller gave them. */
#define ELEMENT(type) type __attribute__((aligned(1), may_alias))

/* dtype, type, unsigned type to compute in, type whose division truncates to the right integer:
 * float32 and float64 hold the 8-, 16- and 32-bit integers exactly, and their quotient by n < 2^24
 * stays farther than half a unit below the next integer. */
#define INTEGERS(X)                                                                                \
    X(int8, int8_t, unsigned, float)                                                               \
    X(uint8, uint8_t, unsigned, float)                                                             \
    X(int16, int16_t, unsigned, float)                                                             \
    X(uint16, uint16_t, unsigned, float)                                                           \
    X(int32, int32_t, unsigned, double)                                                            \
    X(uint32, uint32_t, unsigned, double)                                                          \
    X(int64, int64_t, uint64_t, int64_t)                                                           \
    X(uint64, uint64_t, uint64_t, uint64_t)

/* dtype, bits as a signed integer, all bits but the sign, largest that is not a NaN, the NaN. */
#define ORDERED_FLOATS(X)                                                                          \
    X(float16, int16_t, INT16_MAX, MT_TOP_FLOAT16, MT_NAN_FLOAT16)                                 \
    X(bfloat16, int16_t, INT16_MAX, MT_TOP_BFLOAT16, MT_NAN_BFLOAT16)                              \
    X(float32, int32_t, INT32_MAX, MT_TOP_FLOAT32, MT_NAN_FLOAT32)                                 \
    X(float64, int64_t, INT64_MAX, MT_TOP_FLOAT64, (int64_t)MT_NAN_FLOAT64)                        \
    X(float8_e4m3, int8_t, INT8_MAX, MT_TOP_E4M3, MT_NAN_E4M3)                                     \
    X(float8_e5m2, int8_t, INT8_MAX, MT_TOP_E5M2, MT_NAN_E5M2)

/* dtype, type of its bits, to float32, from float32. */
#define NARROW_FLOATS(X)                                                                           \
    X(float16, uint16_t, float_of_float16, float16_of_float)                                       \
    X(bfloat16, uint16_t, mt_float_of_bfloat16, mt_bfloat16_of_float)                              \
    X(float8_e4m3, uint8_t, float_of_e4m3, e4m3_of_float)                                          \
    X(float8_e5m2, uint8_t, float_of_e5m2, e5m2_of_float)

/* dtype, type, the canonical NaN. */
#define WIDE_FLOATS(X)                                                                             \
    X(float32, float, __builtin_nanf(""))                                                          \
    X(float64, double, __builtin_nan(""))

/* One loop: dst[i] is `value`, an expression of a and b. */
#define COMBINE(dtype, op, type, value)                                                            \
    static inline void dtype##_##op(void *dst, const void *left, const void *right,                \
                                    uint64_t count)                                                \
    {                                                                                              \
        typedef ELEMENT(type) element;                                                             \
        element *to = dst;                                                                         \
        const element *from_left = left, *from_right = right;                                      \
        INDEPENDENT                                                                                \
        for (uint64_t i = 0; i < count; i++) {                                                     \
            const type a = from_left[i], b = from_right[i];                                        \
            to[i] = (type)(value);                                                                 \
        }                                                                                          \
    }

/* One loop: dst[i] is `value`, an expression of a and n, the divisor as `divisor_type`. */
#define DIVIDE(name, type, divisor_type, value)                                                    \
    static inline void name(void *dst, uint64_t count, uint32_t divisor)                           \
    {                                                                                              \
        typedef ELEMENT(type) element;                                                             \
        element *to = dst;                                                                         \
        const divisor_type n = (divisor_type)divisor;                                              \
        INDEPENDENT                                                                                \
        for (uint64_t i = 0; i < count; i++) {                                                     \
            const type a = to[i];                                                                  \
            to[i] = (type)(value);                                                                 \
        }                                                                                          \
    }

/* Integers wrap around: their arithmetic is that of unsigned numbers. */
#define INTEGER_KERNELS(dtype, type, wrap, quotient)                                               \
    COMBINE(dtype, sum, type, (wrap)a + (wrap)b)                                                   \
    COMBINE(dtype, prod, type, (wrap)a *(wrap)b)                                                   \
    COMBINE(dtype, min, type, a < b ? a : b)                                                       \
    COMBINE(dtype, max, type, a > b ? a : b)                                                       \
    COMBINE(dtype, band, type, a &b)                                                               \
    COMBINE(dtype, bor, type, a | b)                                                               \
    COMBINE(dtype, bxor, type, a ^ b)                                                              \
    DIVIDE(dtype##_divide, type, quotient, (quotient)a / n)
INTEGERS(INTEGER_KERNELS)

/* Floats compare like integers when negative ones have all bits but the sign inverted; -0 comes
 * just below +0. Doing that twice gives the float's bits again. */
#define ORDER(dtype, type, below_sign, top, nan)                                                   \
    static inline type dtype##_key(type bits)                                                      \
    {                                                                                              \
        return (type)(bits ^ (bits < 0 ? below_sign : 0));                                         \
    }                                                                                              \
    static inline int dtype##_is_nan(type bits)                                                    \
    {                                                                                              \
        return (bits & below_sign) > top;                                                          \
    }                                                                                              \
    static inline type dtype##_least(type a, type b)                                               \
    {                                                                                              \
        type key_a = dtype##_key(a), key_b = dtype##_key(b);                                       \
        type least = dtype##_key(key_a < key_b ? key_a : key_b);                                   \
        return dtype##_is_nan(a) || dtype##_is_nan(b) ? (type)nan : least;                         \
    }                                                                                              \
    static inline type dtype##_most(type a, type b)                                                \
    {                                                                                              \
        type key_a = dtype##_key(a), key_b = dtype##_key(b);                                       \
        type most = dtype##_key(key_a > key_b ? key_a : key_b);                                    \
        return dtype##_is_nan(a) || dtype##_is_nan(b) ? (type)nan : most;                          \
    }                                                                                              \
    COMBINE(dtype, min, type, dtype##_least(a, b))                                                 \
    COMBINE(dtype, max, type, dtype##_most(a, b))
ORDERED_FLOATS(ORDER)

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

#define NARROW_KERNELS(dtype, type, to_float, from_float)                                          \
    COMBINE(dtype, sum, type, from_float(to_float(a) + to_float(b)))                               \
    COMBINE(dtype, prod, type, from_float(to_float(a) * to_float(b)))                              \
    DIVIDE(dtype##_divide_by_few, type, float, from_float(to_float(a) / n))                        \
    DIVIDE(dtype##_divide_by_many, type, double, from_float(mt_float_to_odd(to_float(a) / n)))     \
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

/* The compiler would spread 16-bit lanes to 32 bits and pack them again. Two bfloat16 numbers in a
 * 32-bit lane need neither: each is the upper half of a float. */
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

/* The last one, if their number is odd, has no partner. */
#define BY_PAIRS(op)                                                                               \
    static inline void bfloat16_##op##_by_pairs(void *dst, const void *left, const void *right,    \
                                                uint64_t count)                                    \
    {                                                                                              \
        uint64_t even = count & ~UINT64_C(1);                                                      \
        bfloat16_pair_##op(dst, left, right, even / 2);                                            \
        bfloat16_##op((char *)dst + 2 * even, (const char *)left + 2 * even,                       \
                      (const char *)right + 2 * even, count & 1);                                  \
    }
BY_PAIRS(sum)
BY_PAIRS(prod)

#define WIDE_KERNELS(dtype, type, nan)                                                             \
    static inline type dtype##_quiet(type value)                                                   \
    {                                                                                              \
        return value == value ? value : nan;                                                       \
    }                                                                                              \
    COMBINE(dtype, sum, type, dtype##_quiet(a + b))                                                \
    COMBINE(dtype, prod, type, dtype##_quiet(a *b))                                                \
    DIVIDE(dtype##_divide, type, type, dtype##_quiet(a / n))
WIDE_FLOATS(WIDE_KERNELS)

/* Rows of a variant's table. */
#define INTEGER_ROW(dtype)                                                                         \
    {                                                                                              \
        [MANTA_SUM] = dtype##_sum, [MANTA_PROD] = dtype##_prod, [MANTA_MIN] = dtype##_min,         \
        [MANTA_MAX] = dtype##_max, [MANTA_BAND] = dtype##_band, [MANTA_BOR] = dtype##_bor,         \
        [MANTA_BXOR] = dtype##_bxor                                                                \
    }
/* sum and prod may be a variant's own. */
#define FLOAT_ROW(dtype, sum, prod)                                                                \
    {                                                                                              \
        [MANTA_SUM] = sum, [MANTA_PROD] = prod, [MANTA_MIN] = dtype##_min,                         \
        [MANTA_MAX] = dtype##_max                                                                  \
    }
#define INTEGER_ROWS                                                                               \
    [MANTA_INT8] = INTEGER_ROW(int8), [MANTA_UINT8] = INTEGER_ROW(uint8),                          \
    [MANTA_INT16] = INTEGER_ROW(int16), [MANTA_UINT16] = INTEGER_ROW(uint16),                      \
    [MANTA_INT32] = INTEGER_ROW(int32), [MANTA_UINT32] = INTEGER_ROW(uint32),                      \
    [MANTA_INT64] = INTEGER_ROW(int64), [MANTA_UINT64] = INTEGER_ROW(uint64)
/* That of float16 may be a variant's own. */
#define DIVIDE_ROW(divide_float16)                                                                 \
    {                                                                                              \
        [MANTA_INT8] = int8_divide, [MANTA_UINT8] = uint8_divide, [MANTA_INT16] = int16_divide,    \
        [MANTA_UINT16] = uint16_divide, [MANTA_INT32] = int32_divide,                              \
        [MANTA_UINT32] = uint32_divide, [MANTA_INT64] = int64_divide,                              \
        [MANTA_UINT64] = uint64_divide, [MANTA_FLOAT16] = divide_float16,                          \
        [MANTA_BFLOAT16] = bfloat16_divide, [MANTA_FLOAT32] = float32_divide,                      \
        [MANTA_FLOAT64] = float64_divide, [MANTA_FLOAT8_E4M3] = float8_e4m3_divide_by_table,       \
        [MANTA_FLOAT8_E5M2] = float8_e5m2_divide_by_table                                          \
    }

#endif
