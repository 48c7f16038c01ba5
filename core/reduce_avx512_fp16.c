/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels that are better with AVX-512's arithmetic of float16 (AVX512_FP16). It knows
 * subnormal numbers whatever the environment says. */
#include "core/reduce_lanes512.h"
#include "core/reduce_narrow.h"

static inline halves float16_add(halves a, halves b)
{
    return (halves)_mm512_add_ph((__m512h)a, (__m512h)b);
}

static inline halves float16_multiply(halves a, halves b, float scale)
{
    const __m512h factor = (__m512h)_mm512_set1_epi16(0x5c00); /* 256 */
    __m512h scaled = scale == 256 ? _mm512_mul_ph((__m512h)a, factor) : (__m512h)a;
    return (halves)_mm512_mul_ph(scaled, (__m512h)b);
}

/* As to_eight_bits(): a sum that is subnormal here has no more bits than E4M3. */
static inline halves to_four_bits(halves value)
{
    const __m512h x = (__m512h)value, power = (__m512h)every(0x5800); /* 128 */
    return (halves)_mm512_fmsub_ph(x, power, _mm512_fmsub_ph(x, power, x));
}

static inline halves round_e4m3_sum(halves high, halves low)
{
    halves rounded_high = to_four_bits(high), rounded_low = to_four_bits(low);
    halves magnitude = bits_of(every(0xff00), rounded_high + rounded_high, rounded_low >> 7);
    return limited_e4m3(magnitude, rounded_high, rounded_low);
}

static inline halves nan_if(__mmask32 where, halves otherwise)
{
    return (halves)_mm512_mask_mov_epi16((__m512i)otherwise, where, (__m512i)every(MT_NAN_FLOAT16));
}

static inline halves canonical(halves a)
{
    return nan_if(_mm512_cmp_ph_mask((__m512h)a, (__m512h)a, _CMP_UNORD_Q), a);
}

static inline halves float16_sum_vector(const void *left, const void *right)
{
    return canonical(float16_add(load(left), load(right)));
}

static inline halves float16_prod_vector(const void *left, const void *right)
{
    return canonical(float16_multiply(load(left), load(right), 1));
}

/* Of two zeros the CPU takes the second for the smaller and the larger: in both orders, the bits
 * that either result has make -0, those that both have +0. */
static inline halves float16_min_vector(const void *left, const void *right)
{
    const __m512h a = (__m512h)load(left), b = (__m512h)load(right);
    halves least = (halves)_mm512_min_ph(a, b) | (halves)_mm512_min_ph(b, a);
    return nan_if(_mm512_cmp_ph_mask(a, b, _CMP_UNORD_Q), least);
}

static inline halves float16_max_vector(const void *left, const void *right)
{
    const __m512h a = (__m512h)load(left), b = (__m512h)load(right);
    halves most = (halves)_mm512_max_ph(a, b) & (halves)_mm512_max_ph(b, a);
    return nan_if(_mm512_cmp_ph_mask(a, b, _CMP_UNORD_Q), most);
}

#define VECTOR_KERNELS(X)                                                                          \
    X(FLOAT16, SUM, float16, sum, 2)                                                               \
    X(FLOAT16, PROD, float16, prod, 2)                                                             \
    X(FLOAT16, MIN, float16, min, 2)                                                               \
    X(FLOAT16, MAX, float16, max, 2)                                                               \
    X(FLOAT8_E4M3, SUM, float8_e4m3, sum, 1)                                                       \
    X(FLOAT8_E4M3, PROD, float8_e4m3, prod, 1)                                                     \
    X(FLOAT8_E5M2, SUM, float8_e5m2, sum, 1)                                                       \
    X(FLOAT8_E5M2, PROD, float8_e5m2, prod, 1)
VECTOR_KERNELS(VECTOR_KERNEL)

/* Those that wait for memory, not for their arithmetic. */
#define MEMORY_KERNELS(X) X(FLOAT16, SUM, float16, sum, 2)
MEMORY_KERNELS(STREAM_KERNEL)
MEMORY_KERNELS(FRESH_KERNEL)

const struct mt_kernels mt_kernels_avx512_fp16 = {.name = "avx512_fp16",
                                                  .rest = &mt_kernels_avx512,
                                                  .combine = {VECTOR_KERNELS(VECTOR_ENTRY)},
                                                  .stream = {MEMORY_KERNELS(STREAM_ENTRY)},
                                                  .fresh = {MEMORY_KERNELS(FRESH_ENTRY)},
                                                  .copy = copy_streaming,
                                                  .copy_fresh = copy_fresh};
