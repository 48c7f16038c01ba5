/* SPDX-License-Identifier: Apache-2.0 */
/* The vectors of AVX-512 (F, BW, VL, DQ), as core/reduce_vector.h and core/reduce_narrow.h use
 * them. */
#ifndef MT_CORE_REDUCE_LANES512_H
#define MT_CORE_REDUCE_LANES512_H

#include <immintrin.h>
#include <stdint.h>

#define VECTOR_BYTES 64

#include "core/reduce_vector.h"

static inline halves load(const void *from)
{
    return (halves)_mm512_loadu_si512(from);
}

static inline void store(void *to, halves value)
{
    _mm512_storeu_si512(to, (__m512i)value);
}

static inline void stream(void *to, halves value)
{
    _mm512_stream_si512(to, (__m512i)value);
}

static inline __mmask64 first_bytes(uint64_t count)
{
    return UINT64_MAX >> (64 - count);
}

static inline halves load_part(const void *from, uint64_t bytes)
{
    return (halves)_mm512_maskz_loadu_epi8(first_bytes(bytes), from);
}

static inline void store_part(void *to, halves value, uint64_t bytes)
{
    _mm512_mask_storeu_epi8(to, first_bytes(bytes), (__m512i)value);
}

static inline halves bits_of(halves mask, halves yes, halves no)
{
    enum { YES_WHERE_MASK_ELSE_NO = 0xca };
    return (halves)_mm512_ternarylogic_epi32((__m512i)mask, (__m512i)yes, (__m512i)no,
                                             YES_WHERE_MASK_ELSE_NO);
}

/* Bytes of `low` move to where `high` does not count: one instruction does both. */
static inline halves upper_bytes(halves high, halves low)
{
    return (halves)_mm512_mask_alignr_epi8((__m512i)high, 0x5555555555555555, (__m512i)low,
                                           (__m512i)low, 1);
}

static inline halves lower_bytes(halves high, halves low)
{
    return (halves)_mm512_mask_alignr_epi8((__m512i)low, 0xaaaaaaaaaaaaaaaa, (__m512i)high,
                                           (__m512i)high, 15);
}

static inline halves upper_halves(halves high, halves low)
{
    return (halves)_mm512_mask_alignr_epi8((__m512i)high, 0x3333333333333333, (__m512i)low,
                                           (__m512i)low, 2);
}

static inline halves average8(halves a, halves b)
{
    return (halves)_mm512_avg_epu8((__m512i)a, (__m512i)b);
}

static inline halves least8(halves a, halves b)
{
    return (halves)_mm512_min_epu8((__m512i)a, (__m512i)b);
}

static inline halves greatest8(halves a, halves b)
{
    return (halves)_mm512_max_epu8((__m512i)a, (__m512i)b);
}

static inline halves add_top8(halves to, halves flags)
{
    const __m512i minus_one = _mm512_set1_epi8(-1);
    __mmask64 where = _mm512_movepi8_mask((__m512i)flags);
    return (halves)_mm512_mask_sub_epi8((__m512i)to, where, (__m512i)to, minus_one);
}

static inline halves where_above8(halves value, halves limit, halves then, halves otherwise)
{
    __mmask64 where = _mm512_cmpgt_epi8_mask((__m512i)value, (__m512i)limit);
    return (halves)_mm512_mask_mov_epi8((__m512i)otherwise, where, (__m512i)then);
}

static inline halves where_equal8(halves value, halves other, halves then, halves otherwise)
{
    __mmask64 where = _mm512_cmpeq_epi8_mask((__m512i)value, (__m512i)other);
    return (halves)_mm512_mask_mov_epi8((__m512i)otherwise, where, (__m512i)then);
}

static inline halves where_above16(halves value, halves limit, halves then, halves otherwise)
{
    __mmask32 where = _mm512_cmpgt_epi16_mask((__m512i)value, (__m512i)limit);
    return (halves)_mm512_mask_mov_epi16((__m512i)otherwise, where, (__m512i)then);
}

static inline int is_any_above8(halves value, halves limit)
{
    return _mm512_cmpgt_epi8_mask((__m512i)value, (__m512i)limit) != 0;
}

static inline int is_any_above16(halves value, halves limit)
{
    return _mm512_cmpgt_epi16_mask((__m512i)value, (__m512i)limit) != 0;
}

static inline int is_any_subnormal(floats a, floats b)
{
    enum { SUBNORMAL = 0x20 };
    return !_kortestz_mask16_u8(_mm512_fpclass_ps_mask((__m512)a, SUBNORMAL),
                                _mm512_fpclass_ps_mask((__m512)b, SUBNORMAL));
}

static inline halves signed_low8(halves a)
{
    return (halves)_mm512_maddubs_epi16(_mm512_set1_epi16(128), (__m512i)a);
}

static inline floats times_minus(floats a, floats b, floats c)
{
    return (floats)_mm512_fmsub_ps((__m512)a, (__m512)b, (__m512)c);
}

struct table {
    __m512i first, second;
};

static inline struct table table_of(const uint8_t values[128])
{
    return (struct table){_mm512_loadu_si512(values), _mm512_loadu_si512(values + VECTOR_BYTES)};
}

/* Two bytes at a time: one of them is shifted to the right place. */
static inline halves look_up(const struct table *table, halves index)
{
    const halves a_byte = (halves){0} + 8;
    __m512i low = _mm512_permutex2var_epi16(table->first, (__m512i)(index >> 1), table->second);
    __m512i high = _mm512_permutex2var_epi16(table->first, (__m512i)(index >> 9), table->second);
    low = _mm512_srlv_epi16(low, (__m512i)(index << 3 & a_byte));
    high = _mm512_srlv_epi16(high, (__m512i)(index >> 5 & a_byte));
    return (halves)high << 8 | ((halves)low & 0xff);
}

#endif
