/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels for any CPU. */
#include <float8_tables.h>

#include "core/reduce_plain.h"

#define TABLE_KERNEL(dtype, op, table)                                                             \
    COMBINE(dtype##_table, op, uint8_t, table[(unsigned)a << 8 | b])
TABLE_KERNEL(float8_e4m3, sum, float8_e4m3_sums)
TABLE_KERNEL(float8_e4m3, prod, float8_e4m3_products)
TABLE_KERNEL(float8_e5m2, sum, float8_e5m2_sums)
TABLE_KERNEL(float8_e5m2, prod, float8_e5m2_products)

#define NARROW_ROWS                                                                                \
    [MANTA_FLOAT16] = FLOAT_ROW(float16, float16_sum_by_pairs, float16_prod_by_pairs),             \
    [MANTA_BFLOAT16] = FLOAT_ROW(bfloat16, bfloat16_sum_by_pairs, bfloat16_prod_by_pairs),         \
    [MANTA_FLOAT8_E4M3] = FLOAT_ROW(float8_e4m3, float8_e4m3_table_sum, float8_e4m3_table_prod),   \
    [MANTA_FLOAT8_E5M2] = FLOAT_ROW(float8_e5m2, float8_e5m2_table_sum, float8_e5m2_table_prod)

const struct mt_kernels mt_kernels_portable = {
    .name = "portable", .combine = {PLAIN_ROWS, NARROW_ROWS}, .divide = PLAIN_DIVIDE};
