/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "plan/print.h"

static struct manta_plan *compile(uint32_t collective, const char *name, uint32_t ranks)
{
    struct mt_plan_request request = {
        .collective = collective, .rank = 1, .ranks = ranks, .in_place = 1};
    struct manta_plan *plan;
    struct mt_error error;
    assert_int_equal(mt_plan_compile(mt_catalogue_find(collective, name), &request, &plan, &error),
                     0);
    return plan;
}

static void expect_print(struct manta_plan *plan, const char *expected)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    assert_int_equal(mt_plan_print(plan, stream), 0);
    assert_int_equal(fclose(stream), 0);
    assert_string_equal(text, expected);
    free(text);
    mt_plan_free(plan);
}

static void test_print(void **state)
{
    (void)state;
    expect_print(compile(MANTA_ALLREDUCE, "recursive_doubling", 2),
                 "rank 1 of 2: recursive_doubling, 1 block, in place\n"
                 "  0 recv   scratch0[0] from 0 #0\n"
                 "  1 send   src[0] to 0 #0\n"
                 "  2 reduce dst[0] = scratch0[0] op src[0]  after 1, 0\n"
                 "    scratch0 holds 1 block\n");
    expect_print(compile(MANTA_REDUCE, "fused", 3), "rank 1 of 3: fused, 1 block, root 0\n"
                                                    "  0 fused reduce of 3 members, root 0\n");
    expect_print(compile(MANTA_ALLGATHER, "ring", 2),
                 "rank 1 of 2: ring, 2 blocks over all ranks, in place\n"
                 "  0 recv   dst[0] from 0 #0\n"
                 "  1 send   src[1] to 0 #0\n");
}

static void test_cut(void **state)
{
    struct manta_plan *plan = compile(MANTA_ALLREDUCE, "ring", 3);
    char whole[256], cut[12];
    (void)state;
    size_t length = mt_plan_describe(plan, 3, whole, sizeof(whole));
    assert_int_equal(length, strlen(whole));
    assert_int_equal(mt_plan_describe(plan, 3, cut, sizeof(cut)), length);
    assert_int_equal(strlen(cut), sizeof(cut) - 1);
    assert_memory_equal(cut, whole, sizeof(cut) - 1);
    assert_int_equal(mt_plan_describe(plan, 3, NULL, 0), length);
    mt_plan_free(plan);
}

static void test_failed_stream(void **state)
{
    struct manta_plan *plan = compile(MANTA_ALLREDUCE, "ring", 3);
    FILE *full = fopen("/dev/full", "we");
    (void)state;
    assert_non_null(full);
    setvbuf(full, NULL, _IONBF, 0);
    assert_int_equal(mt_plan_print(plan, full), MANTA_ESYSTEM);
    fclose(full);
    mt_plan_free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_failed_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
