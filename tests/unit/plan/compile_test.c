/* SPDX-License-Identifier: Apache-2.0 */
/* Requests, ownership, and the plans of all ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"

static int compile(uint32_t collective, const char *name, struct mt_plan_request request,
                   struct manta_plan **plan_out)
{
    struct mt_error error;
    request.collective = collective;
    int rc = mt_plan_compile(mt_catalogue_find(collective, name), &request, plan_out, &error);
    assert_int_equal(rc, error.code);
    assert_true(rc == 0 || error.sentence[0] != '\0');
    return rc;
}

static void test_requests_are_checked(void **state)
{
    struct manta_plan *plan;
    struct mt_error error;
    (void)state;
    assert_int_equal(
        compile(MANTA_ALLREDUCE, "ring", (struct mt_plan_request){.rank = 4, .ranks = 4}, &plan),
        MANTA_EINVAL);
    assert_int_equal(compile(MANTA_ALLREDUCE, "ring", (struct mt_plan_request){.ranks = 0}, &plan),
                     MANTA_EINVAL);
    assert_int_equal(compile(MANTA_BROADCAST, "binomial",
                             (struct mt_plan_request){.ranks = 4, .root = 4}, &plan),
                     MANTA_EINVAL);
    assert_int_equal(compile(MANTA_ALLREDUCE, "fused", (struct mt_plan_request){.ranks = 1}, &plan),
                     MANTA_EALGORITHM);
    assert_int_equal(compile(MANTA_SEND, "direct",
                             (struct mt_plan_request){.rank = 1, .ranks = 2, .root = 1}, &plan),
                     MANTA_EPLAN);
    assert_null(plan);
    /* An algorithm of another collective. */
    struct mt_plan_request request = {.collective = MANTA_REDUCE, .ranks = 4};
    assert_int_equal(
        mt_plan_compile(mt_catalogue_find(MANTA_ALLREDUCE, "ring"), &request, &plan, &error),
        MANTA_EALGORITHM);
}

static void test_parameter(void **state)
{
    struct manta_plan *plan;
    struct mt_plan_request request = {.rank = 1, .ranks = 3, .parameter = 3};
    (void)state;
    assert_int_equal(compile(MANTA_BROADCAST, "chain", request, &plan), 0);
    assert_int_equal(plan->blocks, 3);
    mt_plan_free(plan);
    request.parameter = 0;
    assert_int_equal(compile(MANTA_BROADCAST, "chain", request, &plan), 0);
    assert_int_equal(plan->blocks, 8);
    mt_plan_free(plan);
    request.parameter = 0xffffffff;
    assert_int_equal(compile(MANTA_BROADCAST, "chain", request, &plan), MANTA_EPLAN);
}

static void test_in_place_only_where_there_are_two_buffers(void **state)
{
    static const struct {
        uint32_t collective;
        const char *name;
        uint32_t rank, in_place;
    } cases[] = {{MANTA_ALLREDUCE, "ring", 1, 1},       {MANTA_BROADCAST, "binomial", 2, 0},
                 {MANTA_REDUCE, "binomial", 2, 1},      {MANTA_REDUCE, "binomial", 1, 0},
                 {MANTA_ALLGATHER, "ring", 1, 1},       {MANTA_REDUCE_SCATTER, "ring", 1, 1},
                 {MANTA_SEND, "direct", 1, 0},          {MANTA_RECV, "direct", 1, 0},
                 {MANTA_BARRIER, "dissemination", 1, 1}};
    (void)state;
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct mt_plan_request request = {
            .rank = cases[i].rank, .ranks = 4, .root = 2, .in_place = 7};
        struct manta_plan *plan;
        assert_int_equal(compile(cases[i].collective, cases[i].name, request, &plan), 0);
        assert_int_equal(plan->in_place, cases[i].in_place);
        mt_plan_free(plan);
    }
}

static void test_ownership(void **state)
{
    /* Rank 1 of 3, root 2, 6 blocks: masks of owned blocks. */
    static const struct {
        uint32_t collective, src, dst;
    } cases[] = {{MANTA_ALLREDUCE, 077, 077},
                 {MANTA_BROADCAST, 0, 077},
                 {MANTA_REDUCE, 077, 0},
                 {MANTA_ALLGATHER, 014, 077},
                 {MANTA_REDUCE_SCATTER, 077, 014},
                 {MANTA_BARRIER, 077, 077},
                 {MANTA_SEND, 077, 0},
                 {MANTA_RECV, 0, 077}};
    (void)state;
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct manta_plan plan = {
            .collective = cases[i].collective, .rank = 1, .ranks = 3, .root = 2, .blocks = 6};
        for (uint32_t b = 0; b < 6; b++) {
            assert_int_equal(mt_plan_owns_src(&plan, b), cases[i].src >> b & 1);
            assert_int_equal(mt_plan_owns_dst(&plan, b), cases[i].dst >> b & 1);
        }
    }
}

static void test_unfit(void **state)
{
    const struct mt_algorithm *swing = mt_catalogue_find(MANTA_ALLREDUCE, "swing");
    struct mt_plan_request request = {.collective = MANTA_ALLREDUCE};
    (void)state;
    for (request.ranks = 1; request.ranks < 100; request.ranks++) {
        struct manta_plan *plan;
        struct mt_error error;
        int rc = mt_plan_compile(swing, &request, &plan, &error);
        assert_int_equal(rc, __builtin_popcount(request.ranks) == 1 ? 0 : MANTA_EALGORITHM);
        if (rc)
            assert_non_null(strstr(error.sentence, "powers of two"));
        mt_plan_free(plan);
    }
}

static void test_all_ranks(void **state)
{
    struct manta_plan *plans[4];
    struct mt_error error;
    struct mt_plan_request request = {.collective = MANTA_RECV, .rank = 1, .ranks = 4, .root = 3};
    (void)state;
    assert_int_equal(
        mt_plan_compile_all(mt_catalogue_find(MANTA_RECV, "direct"), &request, plans, &error), 0);
    assert_null(plans[0]);
    assert_null(plans[2]);
    assert_int_equal(plans[1]->collective, MANTA_RECV);
    assert_int_equal(plans[1]->root, 3);
    assert_int_equal(plans[3]->collective, MANTA_SEND);
    assert_int_equal(plans[3]->root, 1);
    mt_plan_free_all(plans, 4);
    assert_null(plans[1]);
    request.root = 1; /* to itself */
    assert_int_not_equal(
        mt_plan_compile_all(mt_catalogue_find(MANTA_RECV, "direct"), &request, plans, &error), 0);
    assert_null(plans[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_are_checked),
        cmocka_unit_test(test_parameter),
        cmocka_unit_test(test_in_place_only_where_there_are_two_buffers),
        cmocka_unit_test(test_ownership),
        cmocka_unit_test(test_unfit),
        cmocka_unit_test(test_all_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
