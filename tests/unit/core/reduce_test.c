/* SPDX-License-Identifier: Apache-2.0 */
/* Every kernel of every variant that this CPU has, against exact arithmetic: what the results are,
 * and how a variant is chosen. Where they go is reduce_places_test.c's. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <cmocka.h>

#include "core/dtype.h"
#include "core/log.h"
#include "core/reduce.h"
#include "tests/support/exact.h"
#include "tests/unit/core/reduce_variants.h"

typedef void reduce_fn(int dtype, int op, void *dst, const void *left, const void *right,
                       uint64_t count);
static reduce_fn *const ways[] = {mt_reduce, mt_reduce_stream};
enum { WAYS = 2 };

struct pairs {
    int dtype;
    size_t count, room;
    char *left, *right, *expected, *result;
};

static struct pairs make_pairs(int dtype, size_t room)
{
    size_t bytes = room * manta_dtype_size(dtype);
    struct pairs pairs = {.dtype = dtype, .room = room};
    pairs.left = malloc(bytes);
    pairs.right = malloc(bytes);
    pairs.expected = malloc(bytes);
    pairs.result = malloc(bytes);
    assert_true(pairs.left && pairs.right && pairs.expected && pairs.result);
    return pairs;
}

static void free_pairs(struct pairs *pairs)
{
    free(pairs->left);
    free(pairs->right);
    free(pairs->expected);
    free(pairs->result);
}

static void add_pair(struct pairs *pairs, uint64_t left, uint64_t right)
{
    assert_true(pairs->count < pairs->room);
    exact_put(pairs->dtype, pairs->left, pairs->count, left);
    exact_put(pairs->dtype, pairs->right, pairs->count, right);
    pairs->count++;
}

static void compare(const struct pairs *pairs, const char *variant, const char *what)
{
    if (memcmp(pairs->result, pairs->expected, pairs->count * manta_dtype_size(pairs->dtype)) == 0)
        return;
    for (size_t i = 0; i < pairs->count; i++) {
        uint64_t result = exact_get(pairs->dtype, pairs->result, i);
        uint64_t expected = exact_get(pairs->dtype, pairs->expected, i);
        if (result != expected)
            fail_msg("%s %s %s: %#llx, %#llx gives %#llx, not %#llx", variant,
                     mt_dtype_name(pairs->dtype), what,
                     (unsigned long long)exact_get(pairs->dtype, pairs->left, i),
                     (unsigned long long)exact_get(pairs->dtype, pairs->right, i),
                     (unsigned long long)result, (unsigned long long)expected);
    }
}

typedef void further_check_fn(const struct pairs *pairs, int op);

/* All ops on these pairs, by all variants; further, if not NULL, finds what is expected there. */
static void check_pairs(struct pairs *pairs, further_check_fn *further)
{
    for (int op = 0; op < MANTA_OP_COUNT; op++) {
        if (!is_combining(op, pairs->dtype))
            continue;
        for (size_t i = 0; i < pairs->count; i++)
            exact_put(pairs->dtype, pairs->expected, i,
                      exact_combine(pairs->dtype, op, exact_get(pairs->dtype, pairs->left, i),
                                    exact_get(pairs->dtype, pairs->right, i)));
        for (int run = 0; run < VARIANTS * WAYS; run++) {
            const char *variant = variants[run / WAYS];
            if (mt_reduce_select(variant) != 0)
                continue;
            ways[run % WAYS](pairs->dtype, op, pairs->result, pairs->left, pairs->right,
                             pairs->count);
            compare(pairs, variant, mt_op_name(op));
        }
        if (further)
            further(pairs, op);
    }
}

static void check_vector_of(const struct pairs *pairs, int op, size_t at)
{
    enum { VECTOR = 64 };
    char left[VECTOR], right[VECTOR], expected[VECTOR], result[VECTOR];

    memset(left, pairs->left[at], VECTOR);
    memset(right, pairs->right[at], VECTOR);
    memset(expected, pairs->expected[at], VECTOR);
    mt_reduce(pairs->dtype, op, result, left, right, VECTOR);
    if (memcmp(result, expected, VECTOR) != 0)
        fail_msg("%s %s %s: a vector of %#x, %#x gives %#x, not %#x", mt_reduce_variant(),
                 mt_dtype_name(pairs->dtype), mt_op_name(op), (uint8_t)pairs->left[at],
                 (uint8_t)pairs->right[at], (uint8_t)result[0], (uint8_t)expected[0]);
}

/* Vectors without a NaN or a result beyond the limit may go another way than those with one. */
static void check_vectors_of_one_pair(const struct pairs *pairs, int op)
{
    for (int v = 0; v < VARIANTS; v++) {
        if (mt_reduce_select(variants[v]) != 0)
            continue;
        for (size_t at = 0; at < pairs->count; at++)
            check_vector_of(pairs, op, at);
    }
}

static void all_pairs_of_8_bits(void **state)
{
    static const int dtypes[] = {MANTA_INT8, MANTA_UINT8, MANTA_FLOAT8_E4M3, MANTA_FLOAT8_E5M2};
    (void)state;
    for (int d = 0; d < 4; d++) {
        struct pairs pairs = make_pairs(dtypes[d], 65536);
        for (uint64_t i = 0; i < 65536; i++)
            add_pair(&pairs, i >> 8, i & 255);
        check_pairs(&pairs, check_vectors_of_one_pair);
        free_pairs(&pairs);
    }
}

static void all_pairs_of_special_values(void **state)
{
    uint64_t special[EXACT_SPECIALS];
    (void)state;
    for (int dtype = 0; dtype < MANTA_DTYPE_COUNT; dtype++) {
        size_t count = exact_specials(dtype, special, EXACT_SPECIALS);
        struct pairs pairs = make_pairs(dtype, count * count);
        for (size_t i = 0; i < count * count; i++)
            add_pair(&pairs, special[i / count], special[i % count]);
        check_pairs(&pairs, NULL);
        free_pairs(&pairs);
    }
}

/* Any bits; in every second pair the numbers are near each other, so that sums cancel. */
static void random_pairs(void **state)
{
    enum { INTEGERS = 20000, WIDE = 100000, NARROW = 300000 };
    (void)state;
    for (int dtype = 0; dtype < MANTA_DTYPE_COUNT; dtype++) {
        int is_narrow = dtype == MANTA_FLOAT16 || dtype == MANTA_BFLOAT16;
        int count = dtype < MANTA_FLOAT16 ? INTEGERS : is_narrow ? NARROW : WIDE;
        struct pairs pairs = make_pairs(dtype, (size_t)count);
        unsigned width = 8 * (unsigned)manta_dtype_size(dtype);
        for (int i = 0; i < count; i++) {
            uint64_t left = random_bits(), right = random_bits();
            if (i & 1)
                right = left ^ (right & UINT64_C(0x807fffffffffffff)) >> (64 - width);
            add_pair(&pairs, left, right);
        }
        check_pairs(&pairs, NULL);
        free_pairs(&pairs);
    }
}

/* Sums of all lengths of mantissa, and right at the ends of exponents. */
static void some_with_every_number_of_16_bits(void **state)
{
    static const int dtypes[] = {MANTA_FLOAT16, MANTA_BFLOAT16};
    /* 1, -1, the one after it, the largest and the smallest normal number */
    static const uint64_t some[][5] = {{0x3c00, 0xbc00, 0x3c01, 0x7bff, 0x0400},
                                       {0x3f80, 0xbf80, 0x3f81, 0x7f7f, 0x0080}};
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct pairs pairs = make_pairs(dtypes[d], 5 * 65536);
        for (uint64_t i = 0; i < 5 * 65536; i++)
            add_pair(&pairs, some[d][i >> 16], i & 0xffff);
        check_pairs(&pairs, NULL);
        free_pairs(&pairs);
    }
}

/* Flush to zero, denormals are zero, the four rounding modes, all traps on, all flags set. */
static const unsigned environments[] = {0x1f80, 0x9fc0, 0x3f80, 0x5f80,
                                        0x7f80, 0xffc0, 0x0000, 0x1fbf};

static void run_in(unsigned environment, struct pairs *pairs, int op)
{
    unsigned before = _mm_getcsr();

    memcpy(pairs->result, pairs->left, pairs->count * manta_dtype_size(pairs->dtype));
    _mm_setcsr(environment);
    if (op == MANTA_AVG)
        mt_reduce_divide(pairs->dtype, pairs->result, pairs->count, 7);
    else
        mt_reduce(pairs->dtype, op, pairs->result, pairs->left, pairs->right, pairs->count);
    unsigned after = _mm_getcsr();
    _mm_setcsr(before);
    assert_int_equal(after, environment);
}

static void check_environments(struct pairs *pairs, int op)
{
    for (size_t i = 0; i < pairs->count; i++) {
        uint64_t left = exact_get(pairs->dtype, pairs->left, i);
        uint64_t right = exact_get(pairs->dtype, pairs->right, i);
        exact_put(pairs->dtype, pairs->expected, i,
                  op == MANTA_AVG ? exact_divide(pairs->dtype, left, 7)
                                  : exact_combine(pairs->dtype, op, left, right));
    }
    for (int v = 0; v < VARIANTS; v++) {
        if (mt_reduce_select(variants[v]) != 0)
            continue;
        for (size_t e = 0; e < sizeof environments / sizeof *environments; e++) {
            run_in(environments[e], pairs, op);
            compare(pairs, variants[v], mt_op_name(op));
        }
    }
}

static void callers_environment_changes_nothing(void **state)
{
    uint64_t special[EXACT_SPECIALS];
    (void)state;
    for (int dtype = 0; dtype < MANTA_DTYPE_COUNT; dtype++) {
        size_t count = exact_specials(dtype, special, EXACT_SPECIALS);
        struct pairs pairs = make_pairs(dtype, 3 * count);
        for (size_t i = 0; i < 3 * count; i++)
            add_pair(&pairs, special[i % count], special[random_bits() % count]);
        for (int op = 0; op < MANTA_OP_COUNT; op++)
            if (mt_op_allowed(op, dtype))
                check_environments(&pairs, op);
        free_pairs(&pairs);
    }
}

/* The numerators are in left, the divisor stands in right for the message. */
static void check_quotients(struct pairs *pairs, uint32_t divisor)
{
    size_t bytes = pairs->count * manta_dtype_size(pairs->dtype);
    for (size_t i = 0; i < pairs->count; i++) {
        uint64_t value = exact_get(pairs->dtype, pairs->left, i);
        exact_put(pairs->dtype, pairs->right, i, divisor);
        exact_put(pairs->dtype, pairs->expected, i, exact_divide(pairs->dtype, value, divisor));
    }
    for (int v = 0; v < VARIANTS; v++) {
        if (mt_reduce_select(variants[v]) != 0)
            continue;
        memcpy(pairs->result, pairs->left, bytes);
        mt_reduce_divide(pairs->dtype, pairs->result, pairs->count, divisor);
        compare(pairs, variants[v], "avg");
    }
}

/* All values of 8 bits, so often that a table is worthwhile, and all of 16; special and random ones
 * of the others. */
static struct pairs numerators(int dtype)
{
    uint64_t special[EXACT_SPECIALS];
    size_t width = 8 * manta_dtype_size(dtype);
    size_t all = width == 8 ? 8 * 256 : 65536;
    size_t count = exact_specials(dtype, special, EXACT_SPECIALS);
    struct pairs pairs = make_pairs(dtype, 65536);

    for (size_t i = 0; i < all && width <= 16; i++)
        add_pair(&pairs, i, 0);
    for (size_t i = 0; i < count && width > 16; i++)
        add_pair(&pairs, special[i], 0);
    for (int i = 0; i < 2000 && width > 16; i++)
        add_pair(&pairs, random_bits(), 0);
    return pairs;
}

static void quotients(void **state)
{
    static const uint32_t large[] = {127,   128,   255,   256,     1000,    4095,     4096,
                                     4097,  4099,  8191,  8193,    65535,   65537,    131071,
                                     99991, 77777, 65536, 1000003, 1048576, 16777213, 16777215};
    (void)state;
    for (int dtype = 0; dtype < MANTA_DTYPE_COUNT; dtype++) {
        struct pairs pairs = numerators(dtype);
        for (uint32_t divisor = 1; divisor <= 70; divisor++)
            check_quotients(&pairs, divisor);
        for (size_t i = 0; i < sizeof large / sizeof *large; i++)
            check_quotients(&pairs, large[i]);
        free_pairs(&pairs);
    }
}

/* Runs in a child, in which no variant was chosen before. */
static int variant_after(const char *simd, const char *expected)
{
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setenv("MANTA_SIMD", simd, 1);
        mt_log_set_level(MT_LOG_ERROR);
        _exit(strcmp(mt_reduce_variant(), expected) != 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The names come best first; one that the CPU lacks is not taken. */
static const char *best_variant(void)
{
    int best = 0;
    while (!variant_after(mt_reduce_variant_name(best), mt_reduce_variant_name(best)))
        best++;
    return mt_reduce_variant_name(best);
}

static void variant_comes_from_the_environment(void **state)
{
    (void)state;
    assert_true(variant_after("", best_variant()));
    assert_true(variant_after("portable", "portable"));
    assert_true(variant_after("neon", best_variant()));
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        assert_true(variant_after("avx2", "avx2"));
}

static void variant_can_be_chosen(void **state)
{
    (void)state;
    assert_int_equal(mt_reduce_select("portable"), 0);
    assert_string_equal(mt_reduce_variant(), "portable");
    assert_int_equal(mt_reduce_select("neon"), MANTA_ENOTSUP);
    assert_int_equal(mt_reduce_select(""), MANTA_ENOTSUP);
    assert_null(mt_reduce_variant_name(VARIANTS));
    assert_string_equal(mt_reduce_variant(), "portable");
}

static void *add_twos(void *arg)
{
    float *values = arg;
    const float twos[3] = {2, 2, 2};
    mt_reduce(MANTA_FLOAT32, MANTA_SUM, values, values, twos, 3);
    return NULL;
}

static void first_use_by_many_threads(void **state)
{
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    float values[THREADS][3] = {0};
    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_twos, values[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        for (int k = 0; k < 3; k++)
            assert_true(values[i][k] == 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variant_comes_from_the_environment), /* before the first use here */
        cmocka_unit_test(first_use_by_many_threads),
        cmocka_unit_test(variant_can_be_chosen),
        cmocka_unit_test(all_pairs_of_8_bits),
        cmocka_unit_test(all_pairs_of_special_values),
        cmocka_unit_test(random_pairs),
        cmocka_unit_test(some_with_every_number_of_16_bits),
        cmocka_unit_test(callers_environment_changes_nothing),
        cmocka_unit_test(quotients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
