/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels for AVX-512 (F, BW, VL, DQ). */
#include <immintrin.h>

#include "core/reduce_kernels.h"

#define VECTOR_BYTES 64
#include "core/reduce_halves.h"

static inline void widen(halves from, floats to[2])
{
    to[0] = (floats)_mm512_cvtph_ps(_mm512_castsi512_si256((__m512i)from));
    to[1] = (floats)_mm512_cvtph_ps(_mm512_extracti64x4_epi64((__m512i)from, 1));
}

static inline halves narrow(const floats from[2])
{
    __m256i low = _mm512_cvtps_ph((__m512)from[0], _MM_FROUND_TO_NEAREST_INT);
    __m256i high = _mm512_cvtps_ph((__m512)from[1], _MM_FROUND_TO_NEAREST_INT);
    return (halves)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

const struct mt_kernels mt_kernels_avx512 = {
    .name = "avx512",
    .combine =
        {
            INTEGER_ROWS,
            [MANTA_FLOAT16] = FLOAT_ROW(float16, float16_sum_by_halves, float16_prod_by_halves),
            [MANTA_BFLOAT16] = FLOAT_ROW(bfloat16, bfloat16_sum_by_pairs, bfloat16_prod_by_pairs),
            [MANTA_FLOAT32] = FLOAT_ROW(float32, float32_sum, float32_prod),
            [MANTA_FLOAT64] = FLOAT_ROW(float64, float64_sum, float64_prod),
            [MANTA_FLOAT8_E4M3] =
                FLOAT_ROW(float8_e4m3, float8_e4m3_sum_by_halves, float8_e4m3_prod_by_halves),
            [MANTA_FLOAT8_E5M2] =
                FLOAT_ROW(float8_e5m2, float8_e5m2_sum_by_halves, float8_e5m2_prod_by_halves),
        },
    .divide = DIVIDE_ROW(float16_divide_by_halves),
};
