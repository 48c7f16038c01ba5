/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/exact.h"

#include <manta/manta.h>
#include <string.h>

__extension__ typedef __float128 quad;
__extension__ typedef __int128 wide;
__extension__ typedef unsigned __int128 unsigned_wide;

enum { QUAD_MANTISSA = 112, QUAD_BIAS = 16383, QUAD_TOP = 0x7fff };

/* Floating-point formats by their definition. `largest` is the largest finite number where results
 * saturate at it, else 0. */
struct format {
    int exponent_bits, mantissa_bits, bias;
    uint64_t nan, largest;
};

static const struct format formats[MANTA_DTYPE_COUNT] = {
    [MANTA_FLOAT16] = {5, 10, 15, 0x7e00, 0},
    [MANTA_BFLOAT16] = {8, 7, 127, 0x7fc0, 0},
    [MANTA_FLOAT32] = {8, 23, 127, 0x7fc00000, 0},
    [MANTA_FLOAT64] = {11, 52, 1023, UINT64_C(0x7ff8000000000000), 0},
    [MANTA_FLOAT8_E4M3] = {4, 3, 7, 0x7f, 0x7e},
    [MANTA_FLOAT8_E5M2] = {5, 2, 15, 0x7e, 0x7b},
};

static const int sizes[MANTA_DTYPE_COUNT] = {1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8, 1, 1};

static int is_signed(int dtype)
{
    return dtype == MANTA_INT8 || dtype == MANTA_INT16 || dtype == MANTA_INT32 ||
           dtype == MANTA_INT64;
}

static uint64_t sign_bit(const struct format *f)
{
    return UINT64_C(1) << (f->exponent_bits + f->mantissa_bits);
}

static int is_nan(const struct format *f, uint64_t bits)
{
    uint64_t magnitude = bits & (sign_bit(f) - 1);
    if (f->exponent_bits == 4) /* E4M3 */
        return magnitude == 0x7f;
    return magnitude > ((UINT64_C(1) << f->exponent_bits) - 1) << f->mantissa_bits;
}

static quad quad_of_bits(unsigned_wide bits)
{
    quad value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* 2^exponent */
static quad power(int exponent)
{
    return quad_of_bits((unsigned_wide)(exponent + QUAD_BIAS) << QUAD_MANTISSA);
}

/* The value of bits that are not a NaN. */
static quad decode(const struct format *f, uint64_t bits)
{
    uint64_t mantissa = bits & ((UINT64_C(1) << f->mantissa_bits) - 1);
    int top = (1 << f->exponent_bits) - 1;
    int exponent = (int)(bits >> f->mantissa_bits & (uint64_t)top);
    quad value;

    if (exponent == top && f->exponent_bits != 4)
        value = quad_of_bits((unsigned_wide)QUAD_TOP << QUAD_MANTISSA);
    else if (exponent == 0)
        value = (quad)mantissa * power(1 - f->bias - f->mantissa_bits);
    else
        value = (quad)(mantissa | UINT64_C(1) << f->mantissa_bits) *
                power(exponent - f->bias - f->mantissa_bits);
    return bits & sign_bit(f) ? -value : value;
}

/* value >> shift, to nearest, ties to even */
static uint64_t shift_rounded(unsigned_wide value, int shift)
{
    if (shift > 126)
        return 0;
    unsigned_wide half = (unsigned_wide)1 << (shift - 1);
    unsigned_wide rest = value & (2 * half - 1);
    uint64_t kept = (uint64_t)(value >> shift);
    return kept + (rest > half || (rest == half && (kept & 1)));
}

static uint64_t encode(const struct format *f, quad value)
{
    unsigned_wide bits;
    memcpy(&bits, &value, sizeof bits);
    uint64_t sign = bits >> 127 ? sign_bit(f) : 0;
    uint64_t infinity = ((UINT64_C(1) << f->exponent_bits) - 1) << f->mantissa_bits;
    uint64_t limit = f->largest ? f->largest : infinity;
    unsigned_wide mantissa = bits & (((unsigned_wide)1 << QUAD_MANTISSA) - 1);
    int exponent = (int)(bits >> QUAD_MANTISSA & QUAD_TOP);

    if (exponent == QUAD_TOP)
        return mantissa ? f->nan : sign | limit;
    if (exponent == 0) /* zero: nothing here is as small as a subnormal quad */
        return sign;
    mantissa |= (unsigned_wide)1 << QUAD_MANTISSA;
    int biased = exponent - QUAD_BIAS + f->bias;
    int shift = QUAD_MANTISSA - f->mantissa_bits;
    if (biased > 1 << f->exponent_bits)
        return sign | limit;
    uint64_t rounded;
    if (biased < 1)
        rounded = shift_rounded(mantissa, shift + 1 - biased);
    else /* the implied one adds 1 to the exponent */
        rounded = shift_rounded(mantissa, shift) + ((uint64_t)(biased - 1) << f->mantissa_bits);
    return sign | (rounded < limit ? rounded : limit);
}

static uint64_t combine_floats(const struct format *f, int op, uint64_t left, uint64_t right)
{
    if (is_nan(f, left) || is_nan(f, right))
        return f->nan;
    quad a = decode(f, left), b = decode(f, right);
    if (op == MANTA_SUM)
        return encode(f, a + b);
    if (op == MANTA_PROD)
        return encode(f, a * b);
    int left_is_less = a < b || (a == b && (left & sign_bit(f)));
    return left_is_less == (op == MANTA_MIN) ? left : right;
}

static wide integer(int dtype, uint64_t bits)
{
    int width = 8 * sizes[dtype];
    wide value = (wide)bits;
    if (is_signed(dtype) && bits >> (width - 1))
        value -= (wide)1 << width;
    return value;
}

static uint64_t wrapped(int dtype, wide value)
{
    return (uint64_t)(value & (((wide)1 << 8 * sizes[dtype]) - 1));
}

uint64_t exact_combine(int dtype, int op, uint64_t left, uint64_t right)
{
    if (formats[dtype].exponent_bits)
        return combine_floats(&formats[dtype], op, left, right);
    wide a = integer(dtype, left), b = integer(dtype, right);
    switch (op) {
    case MANTA_SUM:
        return wrapped(dtype, a + b);
    case MANTA_PROD:
        return wrapped(dtype, (wide)((unsigned_wide)a * (unsigned_wide)b));
    case MANTA_MIN:
        return a < b ? left : right;
    case MANTA_MAX:
        return a > b ? left : right;
    case MANTA_BAND:
        return left & right;
    case MANTA_BOR:
        return left | right;
    default:
        return left ^ right;
    }
}

uint64_t exact_divide(int dtype, uint64_t value, uint32_t divisor)
{
    const struct format *f = &formats[dtype];
    if (!f->exponent_bits)
        return wrapped(dtype, integer(dtype, value) / divisor);
    return is_nan(f, value) ? f->nan : encode(f, decode(f, value) / divisor);
}

static size_t integer_specials(int dtype, uint64_t *bits)
{
    uint64_t ones = sizes[dtype] == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * sizes[dtype]) - 1;
    uint64_t top = ones / 2 + 1, middle = UINT64_C(1) << 4 * sizes[dtype];
    const uint64_t list[] = {0,          1,           2,          3,       7,        10,
                             middle - 1, middle,      middle + 1, top - 2, top - 1,  top,
                             top + 1,    ones - 2,    ones - 1,   ones,    ones / 3, ones / 3 * 2,
                             ones / 7,   top - middle};
    memcpy(bits, list, sizeof list);
    return sizeof list / sizeof *list;
}

/* Exponents from 0 to top that matter: the ends, and around 1 as far as a sum or a product of
 * neighbours still rounds. */
static int is_special_exponent(const struct format *f, int exponent)
{
    int top = (1 << f->exponent_bits) - 1;
    int distance = exponent < f->bias ? f->bias - exponent : exponent - f->bias;
    int half = f->mantissa_bits / 2;
    return exponent <= 3 || exponent >= top - 2 || distance <= 3 || distance == half ||
           (distance >= f->mantissa_bits - 1 && distance <= f->mantissa_bits + 2) ||
           exponent == f->bias / 2 || exponent == f->bias / 2 + 1 || exponent == f->mantissa_bits ||
           exponent == f->mantissa_bits + 1;
}

size_t exact_specials(int dtype, uint64_t *bits, size_t room)
{
    const struct format *f = &formats[dtype];
    size_t count = 0;
    if (!f->exponent_bits)
        return integer_specials(dtype, bits);
    uint64_t ones = (UINT64_C(1) << f->mantissa_bits) - 1, half = (ones + 1) / 2;
    const uint64_t mantissas[] = {0, 1, half - 1, half, half + 1, ones - 1, ones, ones / 3};

    for (int exponent = 0; exponent < 1 << f->exponent_bits; exponent++) {
        if (!is_special_exponent(f, exponent))
            continue;
        for (size_t m = 0; m < 8 && count + 2 <= room; m++) {
            bits[count] = (uint64_t)exponent << f->mantissa_bits | mantissas[m];
            bits[count + 1] = bits[count] | sign_bit(f);
            count += 2;
        }
    }
    return count;
}

uint64_t exact_get(int dtype, const void *buffer, size_t index)
{
    uint64_t bits = 0;
    memcpy(&bits, (const char *)buffer + index * (size_t)sizes[dtype], (size_t)sizes[dtype]);
    return bits;
}

void exact_put(int dtype, void *buffer, size_t index, uint64_t bits)
{
    memcpy((char *)buffer + index * (size_t)sizes[dtype], &bits, (size_t)sizes[dtype]);
}
