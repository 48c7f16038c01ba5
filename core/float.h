/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conversions between float32 and the narrow formats, and what rounding means in them. Without
 * branches, so that compilers turn loops over them into vector code. They need the default
 * floating-point environment (core/reduce.c sets it).
 *
 * A pairwise step in a narrow format is computed in float32 and rounded once more. That gives the
 * correctly rounded exact result:
 * - Sums: rounding first to p' bits and then to p is innocuous when p' >= 2p + 2 (Figueroa, "When
 *   is double rounding innocuous?", 1995); float32 has 24 >= 2 * 11 + 2. Sums that end below the
 *   narrow format's normal numbers are multiples of its quantum, hence exact.
 * - Products have 2p bits, hence are exact in float32, except for bfloat16's below 2^-126. There
 * the quantum of float32 is 2^-149, and a product of 16 bits that is not below 2^-134, the smallest
 *   point between two bfloat16 numbers, has no bit below 2^-149: exact again. One below 2^-134
 *   rounds to at most 2^-134, and that to zero, as it should.
 * - Quotients by n: x / n differs from the point between two neighbours of p bits, if it is not
 * that point, by at least 1 / (n * 2^(p+1)) of it; see MT_NARROW_DIVISOR.
 */
#ifndef MT_CORE_FLOAT_H
#define MT_CORE_FLOAT_H

#include <stdint.h>
#include <string.h>

/* The canonical quiet NaN of each format: sign 0, only the top bit of the mantissa set. */
enum {
    MT_NAN_FLOAT32 = 0x7fc00000,
    MT_NAN_FLOAT16 = 0x7e00,
    MT_NAN_BFLOAT16 = 0x7fc0,
    MT_NAN_E4M3 = 0x7f, /* the only one, but for its sign */
    MT_NAN_E5M2 = 0x7e
};

/* Up to this divisor a float32 quotient of a narrow number rounds like the exact one: it would
 * take n >= 2^13 for x / n to come within half a unit (2^-24) of a point between two float16
 * numbers, and more in the other formats. */
enum { MT_NARROW_DIVISOR = 4096 };

/* Largest magnitude that is not a NaN, as bits: infinity where there is one. */
enum { MT_TOP_FLOAT16 = 0x7c00, MT_TOP_BFLOAT16 = 0x7f80, MT_TOP_E4M3 = 0x7e, MT_TOP_E5M2 = 0x7c };

/* Largest result of a conversion: the 8-bit formats saturate at 448 and 57344, float16 goes to
 * infinity. */
enum { MT_LIMIT_FLOAT16 = 0x7c00, MT_LIMIT_E4M3 = 0x7e, MT_LIMIT_E5M2 = 0x7b };

/* A narrow format with an exponent shorter than float32's. */
struct mt_narrow {
    unsigned width;    /* bits in all */
    unsigned mantissa; /* bits of the mantissa */
    unsigned bias;
    unsigned infinity; /* bits from here on up are infinity and NaNs; 0: there is no infinity */
    unsigned limit;    /* bits of the largest result */
    unsigned nan;      /* bits of the canonical NaN */
};

#define MT_NARROW_FLOAT16 ((struct mt_narrow){16, 10, 15, 0x7c00, MT_LIMIT_FLOAT16, MT_NAN_FLOAT16})
#define MT_NARROW_E4M3 ((struct mt_narrow){8, 3, 7, 0, MT_LIMIT_E4M3, MT_NAN_E4M3})
#define MT_NARROW_E5M2 ((struct mt_narrow){8, 2, 15, 0x7c, MT_LIMIT_E5M2, MT_NAN_E5M2})

static inline float mt_float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t mt_bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Exact. No float32 below its normal numbers is touched, which some CPUs are slow at: below the
 * format's normal numbers, the mantissa is put under an implied one, and that is taken away. Above,
 * this gives more than the number. */
static inline float mt_float_of_narrow(struct mt_narrow format, uint32_t bits)
{
    const float one = mt_float_of_bits((128 - format.bias) << 23);
    uint32_t sign = bits >> (format.width - 1) << 31;
    uint32_t magnitude = bits & ((1u << (format.width - 1)) - 1);
    uint32_t shifted = magnitude << (23 - format.mantissa);
    float with_one = mt_float_of_bits(shifted + mt_bits_of_float(one));
    float normal = with_one * 0.5f, small = with_one - one;
    uint32_t result = mt_bits_of_float(normal < small ? normal : small);

    if (format.infinity) /* to the other's exponent for infinity */
        result += magnitude >= format.infinity ? (127 - format.bias) << 23 : 0;
    else
        result |= magnitude == format.nan ? (uint32_t)MT_NAN_FLOAT32 : 0;
    return mt_float_of_bits(result | sign);
}

/* Round to nearest even, up to the limit; any NaN becomes the canonical one. The adder rounds: the
 * sum with a power of two whose last bit is the last that stays, which below the normal numbers is
 * the format's quantum, has the mantissa in its lower bits. */
static inline uint32_t mt_narrow_of_float(struct mt_narrow format, float value)
{
    const unsigned dropped = 23 - format.mantissa;
    const float least = mt_float_of_bits((128 - format.bias + dropped) << 23);
    const float most = format.infinity == format.limit ? 0x1p16f /* becomes infinity */
                                                       : mt_float_of_narrow(format, format.limit);
    float magnitude = __builtin_fabsf(value);
    float limited = magnitude < most ? magnitude : most;
    float leading = mt_float_of_bits(mt_bits_of_float(limited) & 0x7f800000);
    float above = leading * (float)(1u << dropped);
    float power = above > least ? above : least;
    uint32_t power_bits = mt_bits_of_float(power);
    uint32_t mantissa = mt_bits_of_float(limited + power) - power_bits;
    uint32_t result = mantissa + ((power_bits - mt_bits_of_float(least)) >> dropped);
    uint32_t sign = mt_bits_of_float(value) >> 31 << (format.width - 1);

    return value == value ? result | sign : format.nan;
}

static inline float mt_float_of_bfloat16(uint32_t bits)
{
    return mt_float_of_bits(bits << 16);
}

/* Round to nearest even; any NaN becomes the canonical one. */
static inline uint32_t mt_bfloat16_of_float(float value)
{
    uint32_t bits = mt_bits_of_float(value);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (bits & 0x7fffffff) > 0x7f800000 ? (uint32_t)MT_NAN_BFLOAT16 : rounded;
}

/* Round to odd: what was inexact stays off the points between two narrow numbers, so that it can
 * be rounded again. */
static inline float mt_float_to_odd(double value)
{
    float nearest = (float)value;
    uint32_t bits = mt_bits_of_float(nearest);
    double magnitude = value < 0 ? -value : value;
    double rounded = nearest < 0 ? -(double)nearest : (double)nearest;

    bits -= rounded > magnitude; /* back towards zero */
    bits |= rounded > magnitude || rounded < magnitude;
    return mt_float_of_bits(bits);
}

#endif
