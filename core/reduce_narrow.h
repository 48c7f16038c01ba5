/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sums and products of bfloat16 and the 8-bit formats, a vector at a time, whatever its width. The
 * including file has defined what reduce_vector.h wants and
 *   load()                      a vector from any address
 *   bits_of(mask, yes, no)       bit by bit
 *   upper_bytes(high, low), lower_bytes(high, low)   those of each half of both, high's above low's
 *   upper_halves(high, low)     the same of each word
 *   average8(), least8(), greatest8()   of bytes; the average is rounded up
 *   add_top8(to, flags)         bytes of `to`, plus one where the top bit of the byte in `flags` is
 *   where_above8(value, limit, then, otherwise), where_equal8()   chosen for each byte, signed
 *   is_any_above8(value, limit), is_any_above16()   of the bytes, of the halves, signed
 *   is_any_subnormal(a, b)      of the float32 of both
 *   signed_low8(a)              the lower byte of each half, a signed number, times 128
 *   times_minus(a, b, c)        a * b - c of float32, rounded once
 */
#ifndef MT_CORE_REDUCE_NARROW_H
#define MT_CORE_REDUCE_NARROW_H

#include <stdint.h>

#include "core/float.h"
#include "core/reduce_floats.h"
#include "core/reduce_vector.h"

/* The including file's, or core/reduce_float16.h's: in each half; NaNs need not be canonical; scale
 * is a power of two and the product with it exact in float32. */
static inline halves float16_add(halves a, halves b);
static inline halves float16_multiply(halves a, halves b, float scale);

static inline halves every(uint16_t value)
{
    return (halves){0} + value;
}

/* Bytes of `kept`, plus one where what follows them, `dropped`, is more than half of one, or half
 * and the byte odd. */
static inline halves nearest8(halves kept, halves dropped)
{
    halves carries = average8(dropped, bits_of(every(0x0101), kept, every(0x7e7e)));
    return add_top8(kept, carries);
}

/* E5M2 is the upper half of float16. So its rounding is float16's with fewer bits, subnormal
 * numbers included, and rounding to float16 first is innocuous: 11 >= 2 * 3 + 2 for sums, and for
 * products, which have 2p bits, the tests try all pairs. */
static inline halves round_e5m2(halves high, halves low)
{
    halves rounded = nearest8(upper_bytes(high, low), lower_bytes(high, low));
    halves magnitude = rounded & 0x7f7f, limit = every(MT_LIMIT_E5M2 * 0x0101);

    if (__builtin_expect(is_any_above8(magnitude, limit), 0)) {
        halves limited = bits_of(every(0x7f7f), least8(magnitude, limit), rounded);
        return where_above8(magnitude, every(MT_TOP_E5M2 * 0x0101), every(MT_NAN_E5M2 * 0x0101),
                            limited);
    }
    return rounded;
}

static inline halves float8_e5m2_sum_vector(const void *left, const void *right)
{
    const halves a = load(left), b = load(right);
    return round_e5m2(float16_add(a & 0xff00, b & 0xff00), float16_add(a << 8, b << 8));
}

static inline halves float8_e5m2_prod_vector(const void *left, const void *right)
{
    const halves a = load(left), b = load(right);
    return round_e5m2(float16_multiply(a & 0xff00, b & 0xff00, 1),
                      float16_multiply(a << 8, b << 8, 1));
}

/* E4M3 times 2^-8 is float16's bits shifted by one, below the sign. Here 11 >= 2 * 4 + 2. */
static inline halves high_e4m3(halves a)
{
    return (halves)((signed_halves)a >> 1) & 0xbf80;
}

static inline halves low_e4m3(halves a)
{
    return signed_low8(a) & 0xbf80;
}

/* As float16, E4M3's NaN looks like a number: put it where an operand was one. */
static inline halves restore_nan_e4m3(halves result, halves a, halves b)
{
    halves larger = greatest8(a | 0x8080, b | 0x8080);
    return where_equal8(larger, every(0xffff), every(MT_NAN_E4M3 * 0x0101), result);
}

/* Magnitudes above the limit become it. */
static inline halves limited_e4m3(halves magnitude, halves high, halves low)
{
    halves limited = least8(magnitude, every(MT_LIMIT_E4M3 * 0x0101));
    return bits_of(every(0x7f7f), limited, upper_bytes(high, low));
}

/* Of such a float16 without its sign the upper byte is E4M3, with a bit more for its overflow. */
static inline halves round_e4m3(halves high, halves low)
{
    halves shifted_high = high + high, shifted_low = low + low;
    halves rounded =
        nearest8(upper_bytes(shifted_high, shifted_low), lower_bytes(shifted_high, shifted_low));
    return limited_e4m3(rounded, high, low);
}

/* The same of a sum, which may be rounded otherwise: where float16_add() is. */
static inline halves round_e4m3_sum(halves high, halves low);

static inline halves float8_e4m3_sum_vector(const void *left, const void *right)
{
    const halves a = load(left), b = load(right);
    halves high = float16_add(high_e4m3(a), high_e4m3(b));
    halves low = float16_add(low_e4m3(a), low_e4m3(b));
    return restore_nan_e4m3(round_e4m3_sum(high, low), a, b);
}

/* Both factors were scaled, the product is to be scaled once. */
static inline halves float8_e4m3_prod_vector(const void *left, const void *right)
{
    const halves a = load(left), b = load(right);
    halves high = float16_multiply(high_e4m3(a), high_e4m3(b), 256);
    halves low = float16_multiply(low_e4m3(a), low_e4m3(b), 256);
    return restore_nan_e4m3(round_e4m3(high, low), a, b);
}

/* Round to 8 bits by Dekker's splitting ("A floating-point technique for extending the available
 * precision", 1971): 65536 x - x loses the 16 bits below them, to nearest even, as multiples of
 * 2^16 stay what they are; and 65536 x less that is the rest. It keeps the sign of zero, and gives
 * no finite number for infinity, a NaN and what becomes infinite on the way. */
static inline floats to_eight_bits(floats value)
{
    const floats power = (floats){0} + 65536;
    return times_minus(value, power, times_minus(value, power, value));
}

/* A bfloat16 is the upper half of a float32. */
static inline floats high_bfloat16s(halves a)
{
    return (floats)((words)a & 0xffff0000);
}

static inline floats low_bfloat16s(halves a)
{
    return (floats)((words)a << 16);
}

static inline halves bfloat16_halves(floats high, floats low)
{
    return upper_halves((halves)to_eight_bits(high), (halves)to_eight_bits(low));
}

static inline halves bfloat16_sum_vector(const void *left, const void *right)
{
    const halves a = load(left), b = load(right);
    halves sum =
        bfloat16_halves(high_bfloat16s(a) + high_bfloat16s(b), low_bfloat16s(a) + low_bfloat16s(b));

    if (__builtin_expect(is_any_above16(sum & 0x7fff, every(MT_TOP_BFLOAT16 - 1)), 0)) {
        uint16_t sums[VECTOR_BYTES / 2];
        bfloat16_sum(sums, left, right, VECTOR_BYTES / 2);
        return load(sums);
    }
    return sum;
}

/* Below the normal numbers of float32, which are those of bfloat16, it is not eight bits that
 * stay. */
static inline halves bfloat16_prod_vector(const void *left, const void *right)
{
    const halves a = load(left), b = load(right);
    floats high = high_bfloat16s(a) * high_bfloat16s(b);
    floats low = low_bfloat16s(a) * low_bfloat16s(b);
    halves product = bfloat16_halves(high, low);

    if (__builtin_expect(is_any_above16(product & 0x7fff, every(MT_TOP_BFLOAT16 - 1)) ||
                             is_any_subnormal(high, low),
                         0)) {
        uint16_t products[VECTOR_BYTES / 2];
        bfloat16_prod(products, left, right, VECTOR_BYTES / 2);
        return load(products);
    }
    return product;
}

#endif
