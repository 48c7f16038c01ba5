/* SPDX-License-Identifier: Apache-2.0 */
#include "core/reduce.h"

#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>
#include <string.h>

#include "core/config.h"
#include "core/log.h"
#include "core/reduce_kernels.h"

/* Round to nearest even, all exceptions masked, subnormal numbers as they are. */
enum { MXCSR_DEFAULT = 0x1f80, MXCSR_FLAGS = 0x3f };

static const struct mt_kernels *_Atomic current; /* NULL until first used */

static int cpu_has_avx2(void)
{
    unsigned eax, ebx, ecx, edx;
    /* Not every compiler's __builtin_cpu_supports() knows f16c. */
    int has_f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
    return has_f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int cpu_has_avx512(void)
{
    return cpu_has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
}

static int cpu_has_avx512_fp16(void)
{
    enum { LEAF = 7, EDX_AVX512_FP16 = 1 << 23 }; /* which not every compiler has a name for */
    unsigned eax, ebx, ecx, edx;
    return cpu_has_avx512() && __get_cpuid_count(LEAF, 0, &eax, &ebx, &ecx, &edx) &&
           (edx & EDX_AVX512_FP16);
}

/* Best first. */
static const struct {
    const struct mt_kernels *kernels;
    int (*is_there)(void);
} variants[] = {
    {&mt_kernels_avx512_fp16, cpu_has_avx512_fp16},
    {&mt_kernels_avx512, cpu_has_avx512},
    {&mt_kernels_avx2, cpu_has_avx2},
    {&mt_kernels_portable, NULL},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

/* The variant of that name, or the best if name is empty; NULL if this CPU has none. */
static const struct mt_kernels *find(const char *name)
{
    __builtin_cpu_init();
    for (int i = 0; i < VARIANTS; i++) {
        if (*name && strcmp(name, variants[i].kernels->name) != 0)
            continue;
        if (!variants[i].is_there || variants[i].is_there())
            return variants[i].kernels;
    }
    return NULL;
}

static const struct mt_kernels *choose(void)
{
    const struct mt_kernels *none = NULL;
    const char *name = mt_config_string(MT_VAR(SIMD));
    const struct mt_kernels *kernels = find(name);
    int found = kernels != NULL;

    if (!found)
        kernels = find("");
    /* Threads may get here together: one stores its choice, and only that one complains. */
    if (!atomic_compare_exchange_strong(&current, &none, kernels))
        return none;
    if (!found)
        mt_log(MT_LOG_WARN, -1,
               "MANTA_SIMD is '%s', which this CPU or library does not have; using %s", name,
               kernels->name);
    return kernels;
}

static const struct mt_kernels *kernels_in_use(void)
{
    const struct mt_kernels *kernels = atomic_load_explicit(&current, memory_order_relaxed);
    return kernels ? kernels : choose();
}

static unsigned enter_default_environment(void)
{
    unsigned callers = _mm_getcsr();
    if ((callers & ~(unsigned)MXCSR_FLAGS) != MXCSR_DEFAULT)
        _mm_setcsr(MXCSR_DEFAULT);
    return callers;
}

static void leave_default_environment(unsigned callers)
{
    if (_mm_getcsr() != callers)
        _mm_setcsr(callers);
}

/* The chain of variants ends with one that has every kernel. */
static mt_combine_fn *combine_kernel(int dtype, int op)
{
    const struct mt_kernels *kernels = kernels_in_use();
    while (!kernels->combine[dtype][op])
        kernels = kernels->rest;
    return kernels->combine[dtype][op];
}

static mt_combine_fn *stream_kernel(int dtype, int op)
{
    for (const struct mt_kernels *kernels = kernels_in_use(); kernels; kernels = kernels->rest)
        if (kernels->stream[dtype][op])
            return kernels->stream[dtype][op];
    return combine_kernel(dtype, op);
}

static mt_combine_fresh_fn *fresh_kernel(int dtype, int op)
{
    for (const struct mt_kernels *kernels = kernels_in_use(); kernels; kernels = kernels->rest)
        if (kernels->fresh[dtype][op])
            return kernels->fresh[dtype][op];
    return NULL;
}

static const struct mt_kernels *kernels_to_divide(int dtype)
{
    const struct mt_kernels *kernels = kernels_in_use();
    while (!kernels->divide[dtype])
        kernels = kernels->rest;
    return kernels;
}

static int is_integer(int dtype)
{
    return dtype < MANTA_FLOAT16;
}

static void combine_by(mt_combine_fn *combine, int dtype, void *dst, const void *left,
                       const void *right, uint64_t count)
{
    if (is_integer(dtype)) {
        combine(dst, left, right, count);
        return;
    }
    unsigned callers = enter_default_environment();
    combine(dst, left, right, count);
    leave_default_environment(callers);
}

void mt_reduce(int dtype, int op, void *dst, const void *left, const void *right, uint64_t count)
{
    combine_by(combine_kernel(dtype, op), dtype, dst, left, right, count);
}

void mt_reduce_stream(int dtype, int op, void *dst, const void *left, const void *right,
                      uint64_t count)
{
    combine_by(stream_kernel(dtype, op), dtype, dst, left, right, count);
}

void mt_reduce_fresh(int dtype, int op, const struct mt_reduce_places *at, uint64_t count)
{
    mt_combine_fresh_fn *combine = fresh_kernel(dtype, op);
    if (!combine) {
        mt_reduce(dtype, op, at->dst, at->left, at->right, count);
        if (at->also && count > 0)
            memcpy(at->also, at->dst, count * manta_dtype_size(dtype));
        return;
    }
    unsigned callers = enter_default_environment();
    combine(at->dst, at->also, at->left, at->right, count);
    leave_default_environment(callers);
}

void mt_copy_stream(void *dst, const void *src, uint64_t bytes)
{
    for (const struct mt_kernels *kernels = kernels_in_use(); kernels; kernels = kernels->rest) {
        if (kernels->copy) {
            kernels->copy(dst, src, bytes);
            return;
        }
    }
    if (bytes > 0)
        memcpy(dst, src, bytes);
}

void mt_copy_fresh(void *dst, const void *src, uint64_t bytes)
{
    for (const struct mt_kernels *kernels = kernels_in_use(); kernels; kernels = kernels->rest) {
        if (kernels->copy_fresh) {
            kernels->copy_fresh(dst, src, bytes);
            return;
        }
    }
    if (bytes > 0)
        memcpy(dst, src, bytes);
}

/* Integers too may be divided in floating point. */
void mt_reduce_divide(int dtype, void *dst, uint64_t count, uint32_t divisor)
{
    const struct mt_kernels *kernels = kernels_to_divide(dtype);

    if (is_integer(dtype) && divisor == 1)
        return;
    unsigned callers = enter_default_environment();
    kernels->divide[dtype](dst, count, divisor);
    leave_default_environment(callers);
}

const char *mt_reduce_variant(void)
{
    return kernels_in_use()->name;
}

const char *mt_reduce_variant_name(int index)
{
    return index >= 0 && index < VARIANTS ? variants[index].kernels->name : NULL;
}

int mt_reduce_select(const char *variant)
{
    const struct mt_kernels *kernels = *variant ? find(variant) : NULL;
    if (!kernels)
        return MANTA_ENOTSUP;
    atomic_store(&current, kernels);
    return 0;
}
