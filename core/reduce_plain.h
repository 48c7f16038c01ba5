/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All kernels in plain C, as a table. Each variant includes this file and so compiles the same
 * arithmetic for its instruction set; the compiler makes the vectors. What it does not vectorise
 * well, a variant writes itself, and has the table do the rest.
 */
#ifndef MT_CORE_REDUCE_PLAIN_H
#define MT_CORE_REDUCE_PLAIN_H

#include "core/reduce_floats.h"
#include "core/reduce_integers.h"
#include "core/reduce_kernels.h"

#define INTEGER_ROW(dtype, prod)                                                                   \
    {                                                                                              \
        [MANTA_SUM] = dtype##_sum, [MANTA_PROD] = prod, [MANTA_MIN] = dtype##_min,                 \
        [MANTA_MAX] = dtype##_max, [MANTA_BAND] = dtype##_band, [MANTA_BOR] = dtype##_bor,         \
        [MANTA_BXOR] = dtype##_bxor                                                                \
    }
#define FLOAT_ROW(dtype, sum, prod)                                                                \
    {                                                                                              \
        [MANTA_SUM] = sum, [MANTA_PROD] = prod, [MANTA_MIN] = dtype##_min,                         \
        [MANTA_MAX] = dtype##_max                                                                  \
    }

#define PLAIN_ROWS                                                                                 \
    [MANTA_INT8] = INTEGER_ROW(int8, int8_prod_by_pairs),                                          \
    [MANTA_UINT8] = INTEGER_ROW(uint8, int8_prod_by_pairs),                                        \
    [MANTA_INT16] = INTEGER_ROW(int16, int16_prod),                                                \
    [MANTA_UINT16] = INTEGER_ROW(uint16, uint16_prod),                                             \
    [MANTA_INT32] = INTEGER_ROW(int32, int32_prod),                                                \
    [MANTA_UINT32] = INTEGER_ROW(uint32, uint32_prod),                                             \
    [MANTA_INT64] = INTEGER_ROW(int64, int64_prod),                                                \
    [MANTA_UINT64] = INTEGER_ROW(uint64, uint64_prod),                                             \
    [MANTA_FLOAT32] = FLOAT_ROW(float32, float32_sum, float32_prod),                               \
    [MANTA_FLOAT64] = FLOAT_ROW(float64, float64_sum, float64_prod)

/* For variants that have sums and products of their own for these. */
#define PLAIN_NARROW_ROWS                                                                          \
    [MANTA_FLOAT16] = FLOAT_ROW(float16, NULL, NULL),                                              \
    [MANTA_BFLOAT16] = FLOAT_ROW(bfloat16, NULL, NULL),                                            \
    [MANTA_FLOAT8_E4M3] = FLOAT_ROW(float8_e4m3, NULL, NULL),                                      \
    [MANTA_FLOAT8_E5M2] = FLOAT_ROW(float8_e5m2, NULL, NULL)

#define PLAIN_DIVIDE                                                                               \
    {                                                                                              \
        [MANTA_INT8] = int8_divide_by_pairs, [MANTA_UINT8] = uint8_divide_by_pairs,                \
        [MANTA_INT16] = int16_divide, [MANTA_UINT16] = uint16_divide,                              \
        [MANTA_INT32] = int32_divide, [MANTA_UINT32] = uint32_divide,                              \
        [MANTA_INT64] = int64_divide, [MANTA_UINT64] = uint64_divide,                              \
        [MANTA_FLOAT16] = float16_divide, [MANTA_BFLOAT16] = bfloat16_divide,                      \
        [MANTA_FLOAT32] = float32_divide, [MANTA_FLOAT64] = float64_divide,                        \
        [MANTA_FLOAT8_E4M3] = float8_e4m3_divide_by_table,                                         \
        [MANTA_FLOAT8_E5M2] = float8_e5m2_divide_by_table                                          \
    }

#endif
