/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of VECTOR_BYTES, which the including file has defined, and loops over whole ones. */
#ifndef MT_CORE_REDUCE_VECTOR_H
#define MT_CORE_REDUCE_VECTOR_H

#include <immintrin.h>
#include <stdint.h>

typedef uint16_t halves __attribute__((vector_size(VECTOR_BYTES)));
typedef int16_t signed_halves __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t words __attribute__((vector_size(VECTOR_BYTES)));
typedef float floats __attribute__((vector_size(VECTOR_BYTES)));

/* The including file's: of a vector, and of the first bytes of one, 1 <= bytes <= VECTOR_BYTES,
 * which zeros follow. stream() bypasses the caches and wants an aligned address. */
static inline halves load(const void *from);
static inline void store(void *to, halves value);
static inline void stream(void *to, halves value);
static inline halves load_part(const void *from, uint64_t bytes);
static inline void store_part(void *to, halves value, uint64_t bytes);

/* VECTOR_BYTES of results from as many bytes of each operand, at any address. */
typedef halves combine_fn(const void *left, const void *right);

static inline __attribute__((always_inline)) void
combine_part(char *to, const char *left, const char *right, uint64_t bytes, combine_fn *combine)
{
    const halves a = load_part(left, bytes), b = load_part(right, bytes);
    store_part(to, combine(&a, &b), bytes);
}

static inline __attribute__((always_inline)) void
combine_all(char *to, const char *left, const char *right, uint64_t bytes, combine_fn *combine)
{
    uint64_t at = 0;
    for (; bytes - at >= 2 * VECTOR_BYTES; at += 2 * VECTOR_BYTES) {
        halves first = combine(left + at, right + at);
        halves second = combine(left + at + VECTOR_BYTES, right + at + VECTOR_BYTES);
        store(to + at, first);
        store(to + at + VECTOR_BYTES, second);
    }
    for (; at < bytes; at += VECTOR_BYTES) {
        uint64_t rest = bytes - at;
        combine_part(to + at, left + at, right + at, rest < VECTOR_BYTES ? rest : VECTOR_BYTES,
                     combine);
    }
}

/* Whole cache lines of dst past the caches, its ends as usual. Lines must begin with an element. */
static inline __attribute__((always_inline)) void stream_all(char *to, const char *left,
                                                             const char *right, uint64_t bytes,
                                                             uint64_t size, combine_fn *combine)
{
    enum { LINE = 64 };
    uint64_t head = (LINE - (uintptr_t)to % LINE) % LINE, at = head;

    if (head % size != 0 || bytes < head + LINE) {
        combine_all(to, left, right, bytes, combine);
        return;
    }
    combine_all(to, left, right, head, combine);
    for (; bytes - at >= LINE; at += LINE)
        for (uint64_t part = at; part < at + LINE; part += VECTOR_BYTES)
            stream(to + part, combine(left + part, right + part));
    combine_all(to + at, left + at, right + at, bytes - at, combine);
    /* What the caller tells others of dst is to be seen after it. */
    _mm_sfence();
}

/* Both operands are read before anything is written, which may be one of them. */
static inline __attribute__((always_inline)) void combine_twice(char *to, char *also,
                                                                const char *left, const char *right,
                                                                uint64_t bytes, combine_fn *combine)
{
    uint64_t at = 0;
    for (; bytes - at >= VECTOR_BYTES; at += VECTOR_BYTES) {
        const halves result = combine(left + at, right + at);
        store(to + at, result);
        store(also + at, result);
    }
    if (at == bytes)
        return;
    uint64_t rest = bytes - at;
    const halves a = load_part(left + at, rest), b = load_part(right + at, rest);
    const halves result = combine(&a, &b);
    store_part(to + at, result, rest);
    store_part(also + at, result, rest);
}

/* also: NULL, or the second place. */
static inline __attribute__((always_inline)) void combine_strip(char *to, char *also,
                                                                const char *left, const char *right,
                                                                uint64_t bytes, combine_fn *combine)
{
    if (also == NULL)
        combine_all(to, left, right, bytes, combine);
    else
        combine_twice(to, also, left, right, bytes, combine);
}

/* Lines that another core has just written take long to come, and a core fetches ahead within each
 * page on its own: it has more of them under way when it reads several pages in turn. */
static inline __attribute__((always_inline)) void combine_fresh(char *to, char *also,
                                                                const char *left, const char *right,
                                                                uint64_t bytes, combine_fn *combine)
{
    enum { PAGE = 4096, BLOCK = 4 * PAGE, STRIP = 256 };
    uint64_t done = 0;
    for (; bytes - done >= BLOCK; done += BLOCK) {
        for (uint64_t i = 0; i < BLOCK / STRIP; i++) {
            uint64_t at = done + i % (BLOCK / PAGE) * PAGE + i / (BLOCK / PAGE) * STRIP;
            combine_strip(to + at, also != NULL ? also + at : NULL, left + at, right + at, STRIP,
                          combine);
        }
    }
    combine_strip(to + done, also != NULL ? also + done : NULL, left + done, right + done,
                  bytes - done, combine);
}

static inline halves first_operand(const void *left, const void *right)
{
    (void)right;
    return load(left);
}

static void copy_streaming(void *dst, const void *src, uint64_t bytes)
{
    stream_all(dst, src, src, bytes, 1, first_operand);
}

static void copy_fresh(void *dst, const void *src, uint64_t bytes)
{
    combine_fresh(dst, NULL, src, src, bytes, first_operand);
}

/* For lists of kernels: names of dtype and op, dtype, op, size of an element. Such a kernel
 * combines by <dtype>_<op>_vector. */
#define VECTOR_KERNEL(DTYPE, OP, dtype, op, size)                                                  \
    static void dtype##_##op##_by_vectors(void *dst, const void *left, const void *right,          \
                                          uint64_t count)                                          \
    {                                                                                              \
        combine_all(dst, left, right, count *size, dtype##_##op##_vector);                         \
    }
#define VECTOR_ENTRY(DTYPE, OP, dtype, op, size)                                                   \
    [MANTA_##DTYPE][MANTA_##OP] = dtype##_##op##_by_vectors,

#define STREAM_KERNEL(DTYPE, OP, dtype, op, size)                                                  \
    static void dtype##_##op##_streaming(void *dst, const void *left, const void *right,           \
                                         uint64_t count)                                           \
    {                                                                                              \
        stream_all(dst, left, right, count *size, size, dtype##_##op##_vector);                    \
    }
#define STREAM_ENTRY(DTYPE, OP, dtype, op, size)                                                   \
    [MANTA_##DTYPE][MANTA_##OP] = dtype##_##op##_streaming,

#define FRESH_KERNEL(DTYPE, OP, dtype, op, size)                                                   \
    static void dtype##_##op##_fresh(void *dst, void *also, const void *left, const void *right,   \
                                     uint64_t count)                                               \
    {                                                                                              \
        if (also == NULL)                                                                          \
            combine_fresh(dst, NULL, left, right, count *size, dtype##_##op##_vector);             \
        else                                                                                       \
            combine_fresh(dst, also, left, right, count *size, dtype##_##op##_vector);             \
    }
#define FRESH_ENTRY(DTYPE, OP, dtype, op, size) [MANTA_##DTYPE][MANTA_##OP] = dtype##_##op##_fresh,

#endif
