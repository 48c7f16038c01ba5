/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of the kernels is, and the loops in plain C that it is made of. */
#ifndef MT_CORE_REDUCE_KERNELS_H
#define MT_CORE_REDUCE_KERNELS_H

#include <manta/manta.h>
#include <stddef.h>
#include <stdint.h>

typedef void mt_combine_fn(void *dst, const void *left, const void *right, uint64_t count);
typedef void mt_combine_fresh_fn(void *dst, void *also, const void *left, const void *right,
                                 uint64_t count);
typedef void mt_divide_fn(void *dst, uint64_t count, uint32_t divisor);
typedef void mt_copy_fn(void *dst, const void *src, uint64_t bytes);

struct mt_kernels {
    const char *name;
    const struct mt_kernels *rest; /* what this one lacks is there; NULL: it lacks nothing */
    mt_combine_fn *combine[MANTA_DTYPE_COUNT][MANTA_OP_COUNT];
    mt_combine_fn *stream[MANTA_DTYPE_COUNT][MANTA_OP_COUNT];      /* few have any */
    mt_combine_fresh_fn *fresh[MANTA_DTYPE_COUNT][MANTA_OP_COUNT]; /* the same few */
    mt_divide_fn *divide[MANTA_DTYPE_COUNT];
    mt_copy_fn *copy; /* past the caches */
    mt_copy_fn *copy_fresh;
};

extern const struct mt_kernels mt_kernels_portable, mt_kernels_avx2, mt_kernels_avx512,
    mt_kernels_avx512_fp16;

/* The iterations of the next loop are independent, though dst may equal left or right. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed" /* without optimization there are no vectors */
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* Elements in a caller's buffer: of no alignment and of whatever type the caller gave them. */
#define ELEMENT(type) type __attribute__((aligned(1), may_alias))

/* One loop: dst[i] is `value`, an expression of a and b. */
#define COMBINE(dtype, op, type, value)                                                            \
    static inline void dtype##_##op(void *dst, const void *left, const void *right,                \
                                    uint64_t count)                                                \
    {                                                                                              \
        typedef ELEMENT(type) element;                                                             \
        element *to = dst;                                                                         \
        const element *from_left = left, *from_right = right;                                      \
        INDEPENDENT                                                                                \
        for (uint64_t i = 0; i < count; i++) {                                                     \
            const type a = from_left[i], b = from_right[i];                                        \
            to[i] = (type)(value);                                                                 \
        }                                                                                          \
    }

/* One loop: dst[i] is `value`, an expression of a and n, which is made of the divisor. */
#define DIVIDE(name, type, divisor_type, make, value)                                              \
    static inline void name(void *dst, uint64_t count, uint32_t divisor)                           \
    {                                                                                              \
        typedef ELEMENT(type) element;                                                             \
        element *to = dst;                                                                         \
        const divisor_type n = make(divisor);                                                      \
        INDEPENDENT                                                                                \
        for (uint64_t i = 0; i < count; i++) {                                                     \
            const type a = to[i];                                                                  \
            to[i] = (type)(value);                                                                 \
        }                                                                                          \
    }

/* Compilers would spread short elements to wider lanes and pack them again; two of them in one
 * lane need neither. <dtype>_pair_<op> combines those, <dtype>_<op> the last one if it has no
 * partner. */
#define COMBINE_BY_PAIRS(dtype, op, size)                                                          \
    static inline void dtype##_##op##_by_pairs(void *dst, const void *left, const void *right,     \
                                               uint64_t count)                                     \
    {                                                                                              \
        uint64_t even = count & ~UINT64_C(1);                                                      \
        dtype##_pair_##op(dst, left, right, even / 2);                                             \
        dtype##_##op((char *)dst + size * even, (const char *)left + size * even,                  \
                     (const char *)right + size * even, count & 1);                                \
    }

#define DIVIDE_BY_PAIRS(dtype, size)                                                               \
    static inline void dtype##_divide_by_pairs(void *dst, uint64_t count, uint32_t divisor)        \
    {                                                                                              \
        uint64_t even = count & ~UINT64_C(1);                                                      \
        dtype##_pair_divide(dst, even / 2, divisor);                                               \
        dtype##_divide((char *)dst + size * even, count & 1, divisor);                             \
    }

#endif
