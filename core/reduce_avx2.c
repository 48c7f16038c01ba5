/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels for AVX2, FMA and F16C. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VECTOR_BYTES 32

#include "core/reduce_vector.h"

static inline halves load(const void *from)
{
    return (halves)_mm256_loadu_si256(from);
}

static inline void store(void *to, halves value)
{
    _mm256_storeu_si256(to, (__m256i)value);
}

static inline void stream(void *to, halves value)
{
    _mm256_stream_si256(to, (__m256i)value);
}

static inline halves load_part(const void *from, uint64_t bytes)
{
    halves value = {0};
    memcpy(&value, from, bytes);
    return value;
}

static inline void store_part(void *to, halves value, uint64_t bytes)
{
    memcpy(to, &value, bytes);
}

static inline halves bits_of(halves mask, halves yes, halves no)
{
    return (yes & mask) | (no & ~mask);
}

static inline halves upper_bytes(halves high, halves low)
{
    return (high & 0xff00) | low >> 8;
}

static inline halves lower_bytes(halves high, halves low)
{
    return high << 8 | (low & 0xff);
}

static inline halves upper_halves(halves high, halves low)
{
    return (halves)_mm256_blend_epi16((__m256i)high, _mm256_srli_epi32((__m256i)low, 16), 0x55);
}

static inline halves average8(halves a, halves b)
{
    return (halves)_mm256_avg_epu8((__m256i)a, (__m256i)b);
}

static inline halves least8(halves a, halves b)
{
    return (halves)_mm256_min_epu8((__m256i)a, (__m256i)b);
}

static inline halves greatest8(halves a, halves b)
{
    return (halves)_mm256_max_epu8((__m256i)a, (__m256i)b);
}

static inline halves add_top8(halves to, halves flags)
{
    __m256i minus_one_where = _mm256_cmpgt_epi8(_mm256_setzero_si256(), (__m256i)flags);
    return (halves)_mm256_sub_epi8((__m256i)to, minus_one_where);
}

static inline halves where_above8(halves value, halves limit, halves then, halves otherwise)
{
    __m256i where = _mm256_cmpgt_epi8((__m256i)value, (__m256i)limit);
    return (halves)_mm256_blendv_epi8((__m256i)otherwise, (__m256i)then, where);
}

static inline halves where_equal8(halves value, halves other, halves then, halves otherwise)
{
    __m256i where = _mm256_cmpeq_epi8((__m256i)value, (__m256i)other);
    return (halves)_mm256_blendv_epi8((__m256i)otherwise, (__m256i)then, where);
}

static inline int is_any_above8(halves value, halves limit)
{
    return _mm256_movemask_epi8(_mm256_cmpgt_epi8((__m256i)value, (__m256i)limit)) != 0;
}

static inline int is_any_above16(halves value, halves limit)
{
    return _mm256_movemask_epi8(_mm256_cmpgt_epi16((__m256i)value, (__m256i)limit)) != 0;
}

static inline __m256 subnormals(floats a)
{
    const __m256 smallest = _mm256_set1_ps(0x1p-126f), zero = _mm256_setzero_ps();
    __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), (__m256)a);
    return _mm256_and_ps(_mm256_cmp_ps(magnitude, smallest, _CMP_LT_OQ),
                         _mm256_cmp_ps(magnitude, zero, _CMP_NEQ_OQ));
}

static inline int is_any_subnormal(floats a, floats b)
{
    return _mm256_movemask_ps(_mm256_or_ps(subnormals(a), subnormals(b))) != 0;
}

static inline halves signed_low8(halves a)
{
    return (halves)_mm256_maddubs_epi16(_mm256_set1_epi16(128), (__m256i)a);
}

static inline floats times_minus(floats a, floats b, floats c)
{
    return (floats)_mm256_fmsub_ps((__m256)a, (__m256)b, (__m256)c);
}

enum { PARTS = 8, PART = 16 };

struct table {
    __m256i differences[PARTS];
};

/* Each part of 16 bytes, as it differs from the part before. */
static inline struct table table_of(const uint8_t values[PARTS * PART])
{
    struct table table;
    __m128i before = _mm_setzero_si128();
    for (int i = 0; i < PARTS; i++) {
        __m128i part = _mm_loadu_si128((const __m128i *)values + i);
        table.differences[i] = _mm256_broadcastsi128_si256(_mm_xor_si128(part, before));
        before = part;
    }
    return table;
}

/* In a part that begins above the index, which then becomes negative, nothing is found; the
 * differences found in the others add up to the last one's value. */
static inline halves look_up(const struct table *table, halves index)
{
    __m256i found = _mm256_setzero_si256(), rest = (__m256i)index;
    for (int i = 0; i < PARTS; i++) {
        found = _mm256_xor_si256(found, _mm256_shuffle_epi8(table->differences[i], rest));
        rest = _mm256_sub_epi8(rest, _mm256_set1_epi8(PART));
    }
    return (halves)found;
}

#include "core/reduce_divide.h"
#include "core/reduce_float16.h"
#include "core/reduce_plain.h"

static inline void widen(halves from, floats to[2])
{
    to[0] = (floats)_mm256_cvtph_ps(_mm256_castsi256_si128((__m256i)from));
    to[1] = (floats)_mm256_cvtph_ps(_mm256_extracti128_si256((__m256i)from, 1));
}

static inline halves narrow(floats first, floats second)
{
    __m128i low = _mm256_cvtps_ph((__m256)first, _MM_FROUND_TO_NEAREST_INT);
    __m128i high = _mm256_cvtps_ph((__m256)second, _MM_FROUND_TO_NEAREST_INT);
    return (halves)_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/* A conversion is cheaper from memory. */
static inline floats float16s(const void *from, int part)
{
    return (floats)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from + part));
}

static inline floats quiet_float32(floats value)
{
    const __m256 nan = _mm256_set1_ps(__builtin_nanf(""));
    __m256 where = _mm256_cmp_ps((__m256)value, (__m256)value, _CMP_UNORD_Q);
    return (floats)_mm256_blendv_ps((__m256)value, nan, where);
}

static inline halves float16_sum_vector(const void *left, const void *right)
{
    return narrow(quiet_float32(float16s(left, 0) + float16s(right, 0)),
                  quiet_float32(float16s(left, 1) + float16s(right, 1)));
}

static inline halves float16_prod_vector(const void *left, const void *right)
{
    return narrow(quiet_float32(float16s(left, 0) * float16s(right, 0)),
                  quiet_float32(float16s(left, 1) * float16s(right, 1)));
}

static inline floats quotient(floats value, const struct divisor *n)
{
    return value / n->value;
}

static inline halves float16_quotient(halves a, const struct divisor *n)
{
    floats parts[2];
    widen(a, parts);
    return narrow(quiet_float32(quotient(parts[0], n)), quiet_float32(quotient(parts[1], n)));
}

static inline halves float32_sum_vector(const void *left, const void *right)
{
    return (halves)quiet_float32((floats)load(left) + (floats)load(right));
}

static inline halves float64_sum_vector(const void *left, const void *right)
{
    const __m256d nan = _mm256_set1_pd(__builtin_nan(""));
    __m256d sum = _mm256_add_pd(_mm256_loadu_pd(left), _mm256_loadu_pd(right));
    return (halves)_mm256_blendv_pd(sum, nan, _mm256_cmp_pd(sum, sum, _CMP_UNORD_Q));
}

/* Of two zeros the CPU takes the second for the smaller and the larger: in both orders, the bits
 * that either result has make -0, those that both have +0. */
static inline halves float32_range(const void *left, const void *right, int is_greatest)
{
    const __m256 nan = _mm256_set1_ps(__builtin_nanf(""));
    __m256 a = _mm256_loadu_ps(left), b = _mm256_loadu_ps(right);
    __m256 least = _mm256_or_ps(_mm256_min_ps(a, b), _mm256_min_ps(b, a));
    __m256 most = _mm256_and_ps(_mm256_max_ps(a, b), _mm256_max_ps(b, a));
    return (halves)_mm256_blendv_ps(is_greatest ? most : least, nan,
                                    _mm256_cmp_ps(a, b, _CMP_UNORD_Q));
}

static inline halves float64_range(const void *left, const void *right, int is_greatest)
{
    const __m256d nan = _mm256_set1_pd(__builtin_nan(""));
    __m256d a = _mm256_loadu_pd(left), b = _mm256_loadu_pd(right);
    __m256d least = _mm256_or_pd(_mm256_min_pd(a, b), _mm256_min_pd(b, a));
    __m256d most = _mm256_and_pd(_mm256_max_pd(a, b), _mm256_max_pd(b, a));
    return (halves)_mm256_blendv_pd(is_greatest ? most : least, nan,
                                    _mm256_cmp_pd(a, b, _CMP_UNORD_Q));
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
    X(FLOAT32, MIN, float32, min, 4)                                                               \
    X(FLOAT32, MAX, float32, max, 4)                                                               \
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

const struct mt_kernels mt_kernels_avx2 = {.name = "avx2",
                                           .rest = &plain,
                                           .combine = {VECTOR_KERNELS(VECTOR_ENTRY)},
                                           .stream = {MEMORY_KERNELS(STREAM_ENTRY)},
                                           .fresh = {MEMORY_KERNELS(FRESH_ENTRY)},
                                           .divide = VECTOR_DIVIDE,
                                           .copy = copy_streaming,
                                           .copy_fresh = copy_fresh};
