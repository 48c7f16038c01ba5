/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/kernels/kernels.h"

#include <stdlib.h>
#include <string.h>

#include "core/float.h"

/* Operands one after the other at the same place in their pages would hinder each other in ways
 * that say nothing of the kernel: these distances spread them. */
enum { LINE = 64, GAP = 21 * LINE };

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* A number in (-2, 2), of all magnitudes down to 2^-6 or so, like a gradient that was scaled. Also
 * as float32, of which the reference is a sum: subnormal numbers would slow that down. */
static uint64_t number(int dtype, uint64_t bits)
{
    double fraction = (double)(bits >> 12) / (double)(UINT64_C(1) << 51) - 1; /* in [-1, 1) */
    double value = fraction * (1 + (double)(bits & 1023) / 1024);
    uint32_t single = mt_bits_of_float((float)value);
    uint64_t result;

    switch (dtype) {
    case MANTA_FLOAT64:
        memcpy(&result, &value, sizeof result);
        return (result & ~(uint64_t)UINT32_MAX) | single;
    case MANTA_FLOAT16:
        return mt_narrow_of_float(MT_NARROW_FLOAT16, (float)value);
    case MANTA_BFLOAT16:
        return mt_bfloat16_of_float((float)value);
    case MANTA_FLOAT8_E4M3:
        return mt_narrow_of_float(MT_NARROW_E4M3, (float)value);
    case MANTA_FLOAT8_E5M2:
        return mt_narrow_of_float(MT_NARROW_E5M2, (float)value);
    default: /* float32; any bits will do for integers */
        return single | (uint64_t)single << 32;
    }
}

static void fill(char *to, uint64_t bytes, int dtype, int any_bits, uint64_t state)
{
    size_t size = manta_dtype_size(dtype);
    for (uint64_t at = 0; at + size <= bytes; at += size) {
        uint64_t bits = next(&state);
        uint64_t element = any_bits ? bits : number(dtype, bits);
        memcpy(to + at, &element, size); /* little endian, like the kernels' CPUs */
    }
}

int kernels_operands_make(struct kernels_operands *operands, uint64_t bytes, int dtype,
                          const struct kernels_options *options)
{
    uint64_t stride = (bytes + LINE - 1) / LINE * LINE + GAP;

    operands->block = aligned_alloc(LINE, 3 * stride);
    if (operands->block == NULL)
        return -1;
    operands->left = operands->block;
    operands->right = operands->block + stride;
    operands->dst = operands->block + 2 * stride;
    operands->bytes = bytes;
    fill(operands->left, bytes, dtype, options->any_bits, UINT64_C(88172645463325252));
    fill(operands->right, bytes, dtype, options->any_bits, UINT64_C(6364136223846793005));
    memcpy(operands->dst, operands->left, bytes);
    return 0;
}

void kernels_operands_free(struct kernels_operands *operands)
{
    free(operands->block);
}
