/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reduction kernels. All variants of a kernel (portable, AVX2, AVX-512) give the same bits,
 * whatever the caller's floating-point environment (FTZ, DAZ, rounding mode, traps), which is as
 * it was afterwards.
 *
 * The 8-bit formats follow the saturating mode of the OCP 8-bit floating point specification: a
 * sum, product or quotient beyond the largest finite value, infinity included (FLOAT8_E5M2 has
 * one), becomes that value with its sign; inf - inf and 0 * inf are NaN. MIN and MAX return one of
 * their operands, an infinity too.
 */
#ifndef MT_CORE_REDUCE_H
#define MT_CORE_REDUCE_H

#include <stdint.h>

/* dst[i] = left[i] op right[i]. dst may equal left or right, not overlap them otherwise. No
 * alignment is assumed. op is not AVG (reduce with SUM, then mt_reduce_divide). dtype and op were
 * checked. Any thread. */
void mt_reduce(int dtype, int op, void *dst, const void *left, const void *right, uint64_t count);

/* The same, for a dst that is larger than the caches and not read soon: where the variant can, it
 * is written past them, without being read first. Other threads see it as if written by ordinary
 * stores. dst should not be one of the operands: what was just read would be thrown out. */
void mt_reduce_stream(int dtype, int op, void *dst, const void *left, const void *right,
                      uint64_t count);

/* dst = src, written in the same way. They do not overlap; no alignment is assumed. Any thread. */
void mt_copy_stream(void *dst, const void *src, uint64_t bytes);

struct mt_reduce_places {
    void *dst;
    void *also; /* NULL, or a second place for the result, of which the same holds */
    const void *left, *right;
};

/* mt_reduce() and a copy, where another core has just written what is read. */
void mt_reduce_fresh(int dtype, int op, const struct mt_reduce_places *at, uint64_t count);
void mt_copy_fresh(void *dst, const void *src, uint64_t bytes);

/* dst[i] = dst[i] / divisor: the last step of AVG. Integers truncate towards zero. 1 <= divisor <
 * 2^24, more than a group can have ranks. Any thread. */
void mt_reduce_divide(int dtype, void *dst, uint64_t count, uint32_t divisor);

/* Name of the variant in use: "portable", "avx2", "avx512" or "avx512_fp16"; chosen at first use
 * (MANTA_SIMD). */
const char *mt_reduce_variant(void);
/* Name of the variant at `index`, the best one first, whether this CPU has it or not; NULL after
 * the last. */
const char *mt_reduce_variant_name(int index);
/* Choose a variant by name (tests, benchmarks). 0, or MANTA_ENOTSUP if this CPU lacks it. */
int mt_reduce_select(const char *variant);

#endif
