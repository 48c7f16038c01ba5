/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the reduction kernels share. */
#ifndef MT_TESTS_UNIT_CORE_REDUCE_VARIANTS_H
#define MT_TESTS_UNIT_CORE_REDUCE_VARIANTS_H

#include <stdint.h>

#include "core/dtype.h"

static const char *const variants[] = {"portable", "avx2", "avx512", "avx512_fp16"};
enum { VARIANTS = sizeof variants / sizeof *variants };

static uint64_t random_state = 88172645463325252u;

static inline uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static inline int is_combining(int op, int dtype)
{
    return op != MANTA_AVG && mt_op_allowed(op, dtype);
}

#endif
