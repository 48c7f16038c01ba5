/* SPDX-License-Identifier: Apache-2.0 */
/* kernel-perf: how fast the reduction kernels are, each beside the sum of float32. */
#ifndef PERF_KERNELS_KERNELS_H
#define PERF_KERNELS_KERNELS_H

#include <stdint.h>

#include <manta/manta.h>

enum { KERNELS_SIZES = 8, KERNELS_VARIANTS = 8, KERNELS_REPEATS = 99 };

struct kernels_options {
    int dtypes[MANTA_DTYPE_COUNT], dtype_count;
    int ops[MANTA_OP_COUNT], op_count;
    const char *variants[KERNELS_VARIANTS];
    int variant_count;
    uint64_t sizes[KERNELS_SIZES];
    int size_count;
    int repeats;
    int any_bits, stream;
};

/* Parse; exits with 2 (wrong usage) or 0 (--help). */
void kernels_options_parse(struct kernels_options *options, int argc, char **argv);

/* Operands of every dtype in one place: dst = left op right. */
struct kernels_operands {
    char *block;
    char *dst, *left, *right;
    uint64_t bytes;
};

/* 0, or -1 without memory. */
int kernels_operands_make(struct kernels_operands *operands, uint64_t bytes, int dtype,
                          const struct kernels_options *options);
void kernels_operands_free(struct kernels_operands *operands);

#endif
