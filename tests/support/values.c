/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/values.h"

#include <manta/manta.h>
#include <math.h>
#include <string.h>

/* Floating-point formats by their definition: sign, exponent and mantissa bits. */
struct format {
    int exponent_bits, mantissa_bits, bias;
};

static const struct format formats[MANTA_DTYPE_COUNT] = {
    [MANTA_FLOAT16] = {5, 10, 15},   [MANTA_BFLOAT16] = {8, 7, 127},
    [MANTA_FLOAT32] = {8, 23, 127},  [MANTA_FLOAT64] = {11, 52, 1023},
    [MANTA_FLOAT8_E4M3] = {4, 3, 7}, [MANTA_FLOAT8_E5M2] = {5, 2, 15},
};

static uint64_t float_bits(const struct format *f, int value)
{
    if (value == 0)
        return 0;
    uint64_t sign = value < 0;
    uint64_t magnitude = (uint64_t)(value < 0 ? -value : value);
    int exponent = 63 - __builtin_clzll(magnitude);
    uint64_t mantissa = magnitude - (UINT64_C(1) << exponent);
    if (exponent <= f->mantissa_bits)
        mantissa <<= f->mantissa_bits - exponent;
    else
        mantissa >>= exponent - f->mantissa_bits;
    return sign << (f->exponent_bits + f->mantissa_bits) |
           (uint64_t)(exponent + f->bias) << f->mantissa_bits | mantissa;
}

static double float_value(int dtype, const struct format *f, uint64_t bits)
{
    uint64_t mantissa = bits & ((UINT64_C(1) << f->mantissa_bits) - 1);
    uint64_t top = (UINT64_C(1) << f->exponent_bits) - 1;
    uint64_t exponent = bits >> f->mantissa_bits & top;
    double sign = bits >> (f->exponent_bits + f->mantissa_bits) & 1 ? -1 : 1;

    if (dtype == MANTA_FLOAT8_E4M3) {
        if (exponent == top && mantissa == 7)
            return (double)NAN;
    } else if (exponent == top) {
        return mantissa ? (double)NAN : sign * (double)INFINITY;
    }
    if (exponent == 0)
        return sign * ldexp((double)mantissa, 1 - f->bias - f->mantissa_bits);
    return sign * ldexp((double)(mantissa | UINT64_C(1) << f->mantissa_bits),
                        (int)exponent - f->bias - f->mantissa_bits);
}

void value_put(int dtype, void *buffer, uint64_t index, int value)
{
    size_t size = manta_dtype_size(dtype);
    uint64_t bits = formats[dtype].exponent_bits ? float_bits(&formats[dtype], value)
                                                 : (uint64_t)(int64_t)value;
    memcpy((char *)buffer + index * size, &bits, size); /* little endian */
}

double value_get(int dtype, const void *buffer, uint64_t index)
{
    size_t size = manta_dtype_size(dtype);
    uint64_t bits = 0;
    memcpy(&bits, (const char *)buffer + index * size, size);
    if (formats[dtype].exponent_bits)
        return float_value(dtype, &formats[dtype], bits);
    if (dtype == MANTA_UINT8 || dtype == MANTA_UINT16 || dtype == MANTA_UINT32 ||
        dtype == MANTA_UINT64)
        return (double)bits;
    unsigned shift = 64 - 8 * (unsigned)size;
    return (double)((int64_t)(bits << shift) >> shift);
}

double value_epsilon(int dtype)
{
    return formats[dtype].exponent_bits ? ldexp(1, -formats[dtype].mantissa_bits - 1) : 0;
}

int value_combine(int op, int left, int right)
{
    switch (op) {
    case MANTA_SUM:
        return left + right;
    case MANTA_PROD:
        return left * right;
    case MANTA_MIN:
        return left < right ? left : right;
    case MANTA_MAX:
        return left > right ? left : right;
    case MANTA_BAND:
        return left & right;
    case MANTA_BOR:
        return left | right;
    default:
        return left ^ right;
    }
}
