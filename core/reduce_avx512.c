/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels for AVX-512 (F, BW, VL, DQ). */
#include "core/reduce_lanes512.h"
#include "core/reduce_divide.h"
#include "core/reduce_float16.h"
#include "core/reduce_plain.h"

static inline void widen(halves from, floats to[2])
{
    to[0] = (floats)_mm512_cvtph_ps(_mm512_castsi512_si256((__m512i)from));
    to[1] = (floats)_mm512_cvtph_ps(_mm512_extracti64x4_epi64((__m512i)from, 1));
}

static inline halves narrow(floats first, floats second)
{
    __m256i low = _mm512_cvtps_ph((__m512)first, _MM_FROUND_TO_NEAREST_INT);
    __m256i high = _mm512_cvtps_ph((__m512)second, _MM_FROUND_TO_NEAREST_INT);
    return (halves)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* A conversion is cheaper from memory. */
static inline floats float16s(const void *from, int part)
{
    return (floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from + part));
}

static inline halves canonical_float16(halves a)
{
    return where_above16(a & 0x7fff, every(MT_TOP_FLOAT16), every(MT_NAN_FLOAT16), a);
}

static inline halves float16_sum_vector(const void *left, const void *right)
{
    return canonical_float16(
        narrow(float16s(left, 0) + float16s(right, 0), float16s(left, 1) + float16s(right, 1)));
}

static inline halves float16_prod_vector(const void *left, const void *right)
{
    return canonical_float16(
        narrow(float16s(left, 0) * float16s(right, 0), float16s(left, 1) * float16s(right, 1)));
}

/* The product with the reciprocal, less its error, which is computed exactly (Markstein,
 * "Computation of elementary functions on the IBM RISC System/6000 processor", 1990): before the
 * last rounding at most 2^-46 of the quotient off. Both differences keep the sign of zero; infinity
 * has no error to take off. */
static inline floats quotient(floats value, const struct divisor *n)
{
    __m512 estimate = (__m512)(value * n->reciprocal);
    __m512 error = (__m512)times_minus((floats)estimate, n->value, value);
    __mmask16 finite = _mm512_cmp_ps_mask(error, error, _CMP_ORD_Q);
    return (floats)_mm512_mask3_fnmadd_ps(error, (__m512)n->reciprocal, estimate, finite);
}

static inline halves float16_quotient(halves a, const struct divisor *n)
{
    floats parts[2];
    widen(a, parts);
    return canonical_float16(narrow(quotient(parts[0], n), quotient(parts[1], n)));
}

static inline halves float32_sum_vector(const void *left, const void *right)
{
    const __m512 nan = _mm512_set1_ps(__builtin_nanf(""));
    __m512 sum = _mm512_add_ps(_mm512_loadu_ps(left), _mm512_loadu_ps(right));
    return (halves)_mm512_mask_mov_ps(sum, _mm512_cmp_ps_mask(sum, sum, _CMP_UNORD_Q), nan);
}

static inline halves float64_sum_vector(const void *left, const void *right)
{
    const __m512d nan = _mm512_set1_pd(__builtin_nan(""));
    __m512d sum = _mm512_add_pd(_mm512_loadu_pd(left), _mm512_loadu_pd(right));
    return (halves)_mm512_mask_mov_pd(sum, _mm512_cmp_pd_mask(sum, sum, _CMP_UNORD_Q), nan);
}

/* VRANGE takes -0 to be less than +0, as we do. Its operation: 0 the least, 1 the greatest, with
 * the sign of the one that it is. */
enum { LEAST = 0x4, GREATEST = 0x5 };

static inline halves float32_range(const void *left, const void *right, int is_greatest)
{
    const __m512 nan = _mm512_set1_ps(__builtin_nanf(""));
    __m512 a = _mm512_loadu_ps(left), b = _mm512_loadu_ps(right);
    __m512 range = is_greatest ? _mm512_range_ps(a, b, GREATEST) : _mm512_range_ps(a, b, LEAST);
    return (halves)_mm512_mask_mov_ps(range, _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q), nan);
}

static inline halves float64_range(const void *left, const void *right, int is_greatest)
{
    const __m512d nan = _mm512_set1_pd(__builtin_nan(""));
    __m512d a = _mm512_loadu_pd(left), b = _mm512_loadu_pd(right);
    __m512d range = is_greatest ? _mm512_range_pd(a, b, GREATEST) : _mm512_range_pd(a, b, LEAST);
    return (halves)_mm512_mask_mov_pd(range, _mm512_cmp_pd_mask(a, b, _CMP_UNORD_Q), nan);
}

static inline halves float32_min_vector(const void *left, const void *right)
{
    return float32_range(left, right, 0);
}

static inline halves float32_max_vector(const void *left, const void *right)
{
    return float32_range(left, right, 1);
}

static inline halves float64_min_vector(const void *left, const void *right)
{
    return float64_range(left, right, 0);
}

static inline halves float64_max_vector(const void *left, const void *right)
{
    return float64_range(left, right, 1);
}

#define VECTOR_KERNELS(X)                                                                          \
    X(FLOAT16, SUM, float16, sum, 2)                                                               \
    X(FLOAT16, PROD, float16, prod, 2)                                                             \
    X(BFLOAT16, SUM, bfloat16, sum, 2)                                                             \
    X(BFLOAT16, PROD, bfloat16, prod, 2)                                                           \
    X(FLOAT32, SUM, float32, sum, 4)                                                               \
    X(FLOAT32, MIN, float32, min, 4)                                                               \
    X(FLOAT32, MAX, float32, max, 4)                                                               \
    X(FLOAT64, SUM, float64, sum, 8)                                                               \
    X(FLOAT64, MIN, float64, min, 8)                                                               \
    X(FLOAT64, MAX, float64, max, 8)                                                               \
    X(FLOAT8_E4M3, SUM, float8_e4m3, sum, 1)                                                       \
    X(FLOAT8_E4M3, PROD, float8_e4m3, prod, 1)                                                     \
    X(FLOAT8_E5M2, SUM, float8_e5m2, sum, 1)                                                       \
    X(FLOAT8_E5M2, PROD, float8_e5m2, prod, 1)
VECTOR_KERNELS(VECTOR_KERNEL)

/* Those that wait for memory, not for their arithmetic. */
#define MEMORY_KERNELS(X)                                                                          \
    X(FLOAT16, SUM, float16, sum, 2)                                                               \
    X(BFLOAT16, SUM, bfloat16, sum, 2)                                                             \
    X(FLOAT32, SUM, float32, sum, 4)                                                               \
    X(FLOAT64, SUM, float64, sum, 8)
MEMORY_KERNELS(STREAM_KERNEL)
MEMORY_KERNELS(FRESH_KERNEL)

static const struct mt_kernels plain = {.combine = {PLAIN_ROWS, PLAIN_NARROW_ROWS},
                                        .divide = PLAIN_DIVIDE};

const struct mt_kernels mt_kernels_avx512 = {.name = "avx512",
                                             .rest = &plain,
                                             .combine = {VECTOR_KERNELS(VECTOR_ENTRY)},
                                             .stream = {MEMORY_KERNELS(STREAM_ENTRY)},
                                             .fresh = {MEMORY_KERNELS(FRESH_ENTRY)},
                                             .divide = VECTOR_DIVIDE,
                                             .copy = copy_streaming,
                                             .copy_fresh = copy_fresh};
