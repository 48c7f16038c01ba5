/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels for any CPU. */
#include "core/reduce_kernels.h"

const struct mt_kernels mt_kernels_portable = {
    .name = "portable",
    .combine =
        {
            INTEGER_ROWS,
            [MANTA_FLOAT16] = FLOAT_ROW(float16, float16_sum, float16_prod),
            [MANTA_BFLOAT16] = FLOAT_ROW(bfloat16, bfloat16_sum_by_pairs, bfloat16_prod_by_pairs),
            [MANTA_FLOAT32] = FLOAT_ROW(float32, float32_sum, float32_prod),
            [MANTA_FLOAT64] = FLOAT_ROW(float64, float64_sum, float64_prod),
            [MANTA_FLOAT8_E4M3] = FLOAT_ROW(float8_e4m3, float8_e4m3_sum, float8_e4m3_prod),
            [MANTA_FLOAT8_E5M2] = FLOAT_ROW(float8_e5m2, float8_e5m2_sum, float8_e5m2_prod),
        },
    .divide = DIVIDE_ROW(float16_divide),
};
