/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integers in plain C. They wrap around: their arithmetic is that of unsigned numbers.
 *
 * Quotients are products with a reciprocal, as in Granlund, Montgomery, "Division by invariant
 * integers using multiplication" (1994), or for 32 bits in float64. No branches, which the signs
 * in a buffer would mislead. No kernel is called with the divisor 1, see core/reduce.c.
 */
#ifndef MT_CORE_REDUCE_INTEGERS_H
#define MT_CORE_REDUCE_INTEGERS_H

#include <math.h>
#include <stdint.h>

#include "core/reduce_kernels.h"

__extension__ typedef __int128 int128_t;
__extension__ typedef unsigned __int128 uint128_t;

/* dtype, type, unsigned type to compute in. */
#define INTEGERS(X)                                                                                \
    X(int8, int8_t, unsigned)                                                                      \
    X(uint8, uint8_t, unsigned)                                                                    \
    X(int16, int16_t, unsigned)                                                                    \
    X(uint16, uint16_t, unsigned)                                                                  \
    X(int32, int32_t, unsigned)                                                                    \
    X(uint32, uint32_t, unsigned)                                                                  \
    X(int64, int64_t, uint64_t)                                                                    \
    X(uint64, uint64_t, uint64_t)

#define INTEGER_KERNELS(dtype, type, wrap)                                                         \
    COMBINE(dtype, sum, type, (wrap)a + (wrap)b)                                                   \
    COMBINE(dtype, prod, type, (wrap)a *(wrap)b)                                                   \
    COMBINE(dtype, min, type, a < b ? a : b)                                                       \
    COMBINE(dtype, max, type, a > b ? a : b)                                                       \
    COMBINE(dtype, band, type, a &b)                                                               \
    COMBINE(dtype, bor, type, a | b)                                                               \
    COMBINE(dtype, bxor, type, a ^ b)
INTEGERS(INTEGER_KERNELS)

/* The lower bytes' product is the lower byte of the whole; the upper bytes' is computed apart. */
static inline uint16_t product_of_pairs(uint16_t a, uint16_t b)
{
    uint16_t low = (uint16_t)(a * (unsigned)b), high = (uint16_t)((a >> 8) * (b & 0xff00u));
    return (uint16_t)(high | (low & 0xff));
}

COMBINE(int8_pair, prod, uint16_t, product_of_pairs(a, b))
COMBINE_BY_PAIRS(int8, prod, 1)

/* Figure 4.1: for t, the upper half of the factor times x, the quotient is
 * ((x - t) / 2 + t) >> shift. A numerator has fewer bits than a divisor without reciprocal. */
#define RECIPROCAL(bits, type, wide)                                                               \
    struct reciprocal##bits {                                                                      \
        type factor;                                                                               \
        int shift;                                                                                 \
    };                                                                                             \
    static inline struct reciprocal##bits reciprocal##bits(uint32_t divisor)                       \
    {                                                                                              \
        int log = 32 - __builtin_clz(divisor - 1); /* rounded up */                                \
        wide rest = ((wide)1 << log) - divisor;                                                    \
        if (log > bits)                                                                            \
            return (struct reciprocal##bits){0, bits - 1};                                         \
        return (struct reciprocal##bits){(type)((rest << bits) / divisor + 1), log - 1};           \
    }                                                                                              \
    static inline type quotient##bits(type x, struct reciprocal##bits n)                           \
    {                                                                                              \
        type t = (type)((wide)n.factor * x >> bits);                                               \
        type half = (type)((type)(x - t) >> 1), sum = (type)(half + t);                            \
        return (type)(sum >> (n.shift & (bits - 1)));                                              \
    }
RECIPROCAL(16, uint16_t, uint64_t)
RECIPROCAL(64, uint64_t, uint128_t)

/* Figure 5.2: the factor is less than it should be by 2^bits, hence the sum with x. */
#define SIGNED_RECIPROCAL(bits, type, unsigned_type, wide)                                         \
    struct signed_reciprocal##bits {                                                               \
        type factor;                                                                               \
        int shift;                                                                                 \
    };                                                                                             \
    static inline struct signed_reciprocal##bits signed_reciprocal##bits(uint32_t divisor)         \
    {                                                                                              \
        int log = 32 - __builtin_clz(divisor - 1); /* rounded up */                                \
        if (log >= bits)                                                                           \
            return (struct signed_reciprocal##bits){0, bits - 1};                                  \
        wide factor = ((wide)1 << (bits - 1 + log)) / divisor + 1;                                 \
        return (struct signed_reciprocal##bits){(type)(unsigned_type)factor, log - 1};             \
    }                                                                                              \
    static inline type signed_quotient##bits(type x, struct signed_reciprocal##bits n)             \
    {                                                                                              \
        type t = (type)((wide)n.factor * x >> bits);                                               \
        type sum = (type)((unsigned_type)t + (unsigned_type)x);                                    \
        type below = (type)(sum >> (n.shift & (bits - 1)));                                        \
        unsigned_type one_if_negative = (unsigned_type)((unsigned_type)x >> (bits - 1));           \
        return (type)((unsigned_type)below + one_if_negative);                                     \
    }
SIGNED_RECIPROCAL(16, int16_t, uint16_t, int64_t)
SIGNED_RECIPROCAL(64, int64_t, uint64_t, int128_t)

DIVIDE(uint16_divide, uint16_t, struct reciprocal16, reciprocal16, quotient16(a, n))
DIVIDE(uint64_divide, uint64_t, struct reciprocal64, reciprocal64, quotient64(a, n))
DIVIDE(int16_divide, int16_t, struct signed_reciprocal16, signed_reciprocal16,
       signed_quotient16(a, n))
DIVIDE(int64_divide, int64_t, struct signed_reciprocal64, signed_reciprocal64,
       signed_quotient64(a, n))

static inline uint16_t upper_product(uint16_t a, uint16_t b)
{
    return (uint16_t)((uint32_t)a * b >> 16);
}

/* 2^16 / n, rounded up. It is less than 1 / 2^8 of itself too large, which is too little to reach
 * the next integer in a product with 8 bits. */
static inline uint16_t reciprocal8(uint32_t divisor)
{
    uint64_t rounding = divisor - 1; /* 64 bits, or compilers multiply 32 in the loop */
    return (uint16_t)((0x10000 + rounding) / divisor);
}

static inline uint16_t quotients_of_pair(uint16_t pair, uint16_t n)
{
    const uint16_t low = pair & 0xff, high = pair >> 8;
    const uint16_t low_quotient = upper_product(low, n), high_quotient = upper_product(high, n);
    return (uint16_t)(low_quotient | (uint16_t)(high_quotient << 8));
}

static inline uint16_t signed_quotients_of_pair(uint16_t pair, struct signed_reciprocal16 n)
{
    const int16_t low_above = (int16_t)(uint16_t)(pair << 8), high = (int16_t)((int16_t)pair >> 8);
    const uint16_t low_quotient = (uint16_t)signed_quotient16((int16_t)(low_above >> 8), n);
    const uint16_t high_quotient = (uint16_t)signed_quotient16(high, n);
    return (uint16_t)((low_quotient & 0xff) | (uint16_t)(high_quotient << 8));
}

DIVIDE(uint8_divide, uint8_t, uint16_t, reciprocal8, upper_product(a, n))
DIVIDE(uint8_pair_divide, uint16_t, uint16_t, reciprocal8, quotients_of_pair(a, n))
DIVIDE_BY_PAIRS(uint8, 1)
DIVIDE(int8_divide, int8_t, struct signed_reciprocal16, signed_reciprocal16,
       signed_quotient16(a, n))
DIVIDE(int8_pair_divide, uint16_t, struct signed_reciprocal16, signed_reciprocal16,
       signed_quotients_of_pair(a, n))
DIVIDE_BY_PAIRS(int8, 1)

/* (x + 1/2) / n is at least 1 / 2n away from any integer, and a product with 1 / n at most 2^-52 of
 * itself away from the quotient, which for x of 32 bits is less. */
static inline double reciprocal32(uint32_t divisor)
{
    return 1.0 / divisor;
}

/* By way of signed numbers, which every CPU can convert. */
static inline uint32_t quotient32(uint32_t value, double reciprocal)
{
    double and_half = (double)(int32_t)(value ^ 0x80000000) + 2147483648.5;
    return (uint32_t)(int32_t)(and_half * reciprocal);
}

DIVIDE(uint32_divide, uint32_t, double, reciprocal32, quotient32(a, n))
DIVIDE(int32_divide, int32_t, double, reciprocal32, (a + copysign(0.5, a)) * n)

#endif
