/* SPDX-License-Identifier: Apache-2.0 */
/* Where the kernels of every variant that this CPU has read and write: any count, alignment and
 * place, past the caches and from another core's, and no byte beside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/dtype.h"
#include "core/reduce.h"
#include "tests/support/exact.h"
#include "tests/unit/core/reduce_variants.h"

enum { GUARD = 64, COUNTS = 131, OFFSETS = 3 };

struct layout {
    char left[GUARD + 8 * COUNTS + GUARD], right[GUARD + 8 * COUNTS + GUARD];
    char result[GUARD + 8 * COUNTS + GUARD], expected[GUARD + 8 * COUNTS + GUARD];
};

/* dst apart (0), equal to left (1) or to right (2). */
static void check_layout(struct layout *at, int dtype, int op, size_t count, size_t offset)
{
    struct layout copy;
    size_t bytes = count * manta_dtype_size(dtype);

    for (int where = 0; where < 3; where++) {
        copy = *at;
        char *left = copy.left + GUARD + offset, *right = copy.right + GUARD + 2 * offset;
        char *dst = where == 0 ? copy.result + GUARD + 3 * offset : where == 1 ? left : right;
        char *area = where == 0 ? copy.result : where == 1 ? copy.left : copy.right;
        const char *before = where == 0 ? at->result : where == 1 ? at->left : at->right;

        mt_reduce(dtype, op, dst, left, right, count);
        assert_memory_equal(dst, at->expected, bytes);
        assert_memory_equal(area, before, (size_t)(dst - area));
        size_t behind = (size_t)(dst - area) + bytes;
        assert_memory_equal(area + behind, before + behind, sizeof at->left - behind);
        if (where != 1)
            assert_memory_equal(copy.left, at->left, sizeof at->left);
        if (where != 2)
            assert_memory_equal(copy.right, at->right, sizeof at->right);
    }
}

static void check_layouts(int dtype, int op, const char *variant)
{
    struct layout at;
    for (size_t i = 0; i < sizeof at; i++)
        ((char *)&at)[i] = (char)random_bits();
    for (size_t offset = 0; offset < OFFSETS; offset++) {
        for (size_t i = 0; i < COUNTS; i++)
            exact_put(dtype, at.expected, i,
                      exact_combine(dtype, op, exact_get(dtype, at.left + GUARD + offset, i),
                                    exact_get(dtype, at.right + GUARD + 2 * offset, i)));
        assert_int_equal(mt_reduce_select(variant), 0);
        for (size_t count = 0; count < COUNTS; count++)
            check_layout(&at, dtype, op, count, offset);
    }
}

static void counts_offsets_and_places(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) {
        if (mt_reduce_select(variants[v]) != 0)
            continue;
        for (int dtype = 0; dtype < MANTA_DTYPE_COUNT; dtype++)
            for (int op = 0; op < MANTA_OP_COUNT; op++)
                if (is_combining(op, dtype))
                    check_layouts(dtype, op, variants[v]);
    }
}

/* Where the lines of dst begin decides what is written past the caches: any place, any count. */
static void check_streams(int dtype, int op, const char *variant)
{
    enum { LINE = 64 };
    struct layout at;
    char *const result = at.result + GUARD;
    size_t size = manta_dtype_size(dtype);

    for (size_t i = 0; i < sizeof at; i++)
        ((char *)&at)[i] = (char)random_bits();
    for (size_t i = 0; i < COUNTS; i++)
        exact_put(dtype, at.expected, i,
                  exact_combine(dtype, op, exact_get(dtype, at.left + 1, i),
                                exact_get(dtype, at.right + 5, i)));
    assert_int_equal(mt_reduce_select(variant), 0);
    for (size_t run = 0; run < LINE * COUNTS; run++) {
        size_t offset = run / COUNTS, count = run % COUNTS, bytes = count * size;
        char *const dst = result + offset;
        memset(at.result, 0x5a, sizeof at.result);
        mt_reduce_stream(dtype, op, dst, at.left + 1, at.right + 5, count);
        assert_memory_equal(dst, at.expected, bytes);
        for (char *byte = at.result; byte < at.result + sizeof at.result; byte++)
            assert_true(*byte == 0x5a || (byte >= dst && byte < dst + bytes));
    }
}

static void streams_of_any_place(void **state)
{
    static const int dtypes[] = {MANTA_FLOAT16, MANTA_BFLOAT16, MANTA_FLOAT32, MANTA_FLOAT64,
                                 MANTA_INT8};
    (void)state;
    for (int run = 0; run < 5 * VARIANTS; run++)
        if (mt_reduce_select(variants[run / 5]) == 0)
            check_streams(dtypes[run % 5], MANTA_SUM, variants[run / 5]);
}

/* The same of copies: any place of both, any length up to some lines. */
static void check_copies(const char *variant)
{
    enum { LINE = 64, LONGEST = 5 * LINE };
    static char from[LONGEST + LINE], to[GUARD + LINE + LONGEST + GUARD];

    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (char)random_bits();
    assert_int_equal(mt_reduce_select(variant), 0);
    for (size_t run = 0; run < (size_t)LINE * LONGEST; run++) {
        size_t offset = run / LONGEST, bytes = run % LONGEST;
        const char *const src = from + (size_t)random_bits() % LINE;
        char *const dst = to + GUARD + offset;
        memset(to, 0x5a, sizeof to);
        mt_copy_stream(dst, src, bytes);
        assert_memory_equal(dst, src, bytes);
        for (char *byte = to; byte < to + sizeof to; byte++)
            assert_true(*byte == 0x5a || (byte >= dst && byte < dst + bytes));
    }
}

static void copies_of_any_place(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++)
        if (mt_reduce_select(variants[v]) == 0)
            check_copies(variants[v]);
}

/* What is read four pages at a time: lengths about such blocks, both places in turn apart and equal
 * to an operand. mt_reduce() is the reference. */
enum { BLOCK = 16384, FRESH_BYTES = 3 * BLOCK, AREAS = 4 };

static char fresh_areas[AREAS][GUARD + FRESH_BYTES + GUARD],
    fresh_before[AREAS][sizeof *fresh_areas];

static void fill_fresh(void)
{
    for (size_t i = 0; i < sizeof fresh_before; i++)
        ((char *)fresh_before)[i] = (char)random_bits();
}

static void check_area(int area, size_t at, size_t bytes, const char *expected)
{
    const char *now = fresh_areas[area], *before = fresh_before[area];
    assert_memory_equal(now, before, at);
    assert_memory_equal(now + at, expected != NULL ? expected : before + at, bytes);
    assert_memory_equal(now + at + bytes, before + at + bytes, sizeof *fresh_areas - at - bytes);
}

/* Areas: 0 is left, 1 is right; also < 0: there is none. */
static void check_fresh(int dtype, size_t bytes, int dst, int also)
{
    static char expected[FRESH_BYTES];
    const size_t at[AREAS] = {GUARD, GUARD + 1, GUARD - 3, GUARD + 8};
    size_t count = bytes / manta_dtype_size(dtype);
    bytes = count * manta_dtype_size(dtype);

    mt_reduce(dtype, MANTA_SUM, expected, fresh_before[0] + at[0], fresh_before[1] + at[1], count);
    memcpy(fresh_areas, fresh_before, sizeof fresh_areas);
    const struct mt_reduce_places places = {fresh_areas[dst] + at[dst],
                                            also >= 0 ? fresh_areas[also] + at[also] : NULL,
                                            fresh_areas[0] + at[0], fresh_areas[1] + at[1]};
    mt_reduce_fresh(dtype, MANTA_SUM, &places, count);
    for (int area = 0; area < AREAS; area++)
        check_area(area, at[area], bytes, area == dst || area == also ? expected : NULL);
}

static void fresh_operands(void **state)
{
    static const int dtypes[] = {MANTA_FLOAT16, MANTA_BFLOAT16, MANTA_FLOAT32, MANTA_FLOAT64,
                                 MANTA_INT32};
    static const int places[][2] = {{2, -1}, {0, -1}, {1, -1}, {2, 3}, {2, 0}, {2, 1}, {0, 3}};
    static const size_t lengths[] = {0,
                                     8,
                                     64,
                                     200,
                                     BLOCK - 8,
                                     BLOCK,
                                     BLOCK + 8,
                                     BLOCK + 4096,
                                     2 * BLOCK - 8,
                                     2 * BLOCK,
                                     FRESH_BYTES - 24};
    enum { DTYPES = 5, PLACES = 7, LENGTHS = sizeof lengths / sizeof *lengths };
    (void)state;
    fill_fresh();
    for (int run = 0; run < VARIANTS * DTYPES * PLACES; run++) {
        const int *place = places[run % PLACES];
        if (mt_reduce_select(variants[run / PLACES / DTYPES]) == 0)
            for (int i = 0; i < LENGTHS; i++)
                check_fresh(dtypes[run / PLACES % DTYPES], lengths[i], place[0], place[1]);
    }
}

static void fresh_copies(void **state)
{
    static const size_t lengths[] = {
        0, 1, 63, 64, 65, BLOCK - 1, BLOCK, BLOCK + 1, FRESH_BYTES - 7};
    enum { LENGTHS = sizeof lengths / sizeof *lengths };
    (void)state;
    fill_fresh();
    for (int run = 0; run < VARIANTS * LENGTHS; run++) {
        size_t bytes = lengths[run % LENGTHS];
        if (mt_reduce_select(variants[run / LENGTHS]) != 0)
            continue;
        memcpy(fresh_areas, fresh_before, sizeof fresh_areas);
        mt_copy_fresh(fresh_areas[1] + GUARD, fresh_areas[0] + GUARD + 3, bytes);
        check_area(1, GUARD, bytes, fresh_before[0] + GUARD + 3);
    }
}

/* Any count, not aligned; what is behind stays as it was. */
static void quotients_of_few(void **state)
{
    char values[GUARD + 8 * COUNTS + GUARD], result[sizeof values];
    (void)state;
    for (size_t i = 0; i < sizeof values; i++)
        values[i] = (char)random_bits();
    for (int run = 0; run < VARIANTS * MANTA_DTYPE_COUNT * COUNTS; run++) {
        int dtype = run / COUNTS % MANTA_DTYPE_COUNT;
        size_t count = (size_t)(run % COUNTS), bytes = count * manta_dtype_size(dtype);
        if (mt_reduce_select(variants[run / COUNTS / MANTA_DTYPE_COUNT]) != 0)
            continue;
        memcpy(result, values, sizeof values);
        mt_reduce_divide(dtype, result + 1, count, 3);
        for (size_t i = 0; i < count; i++)
            assert_true(exact_get(dtype, result + 1, i) ==
                        exact_divide(dtype, exact_get(dtype, values + 1, i), 3));
        assert_true(result[0] == values[0]);
        assert_memory_equal(result + 1 + bytes, values + 1 + bytes, sizeof values - 1 - bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_offsets_and_places),
        cmocka_unit_test(streams_of_any_place),
        cmocka_unit_test(copies_of_any_place),
        cmocka_unit_test(fresh_operands),
        cmocka_unit_test(fresh_copies),
        cmocka_unit_test(quotients_of_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
