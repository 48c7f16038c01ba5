/* SPDX-License-Identifier: Apache-2.0 */
/* Dependencies: all that are needed (the verifier sees to that), none that others imply; and
 * receives stand as early as their scratch allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "plan/algorithm.h"
#include "plan/print.h"
#include "tests/support/plans.h"

/* Is `to` reachable from step `from` without the direct dependency between them? */
static int implied(const struct manta_plan *plan, uint32_t from, uint32_t to, int direct)
{
    const struct manta_plan_step *step = &plan->steps[from];
    for (uint32_t i = 0; i < step->depend_count; i++) {
        uint32_t on = plan->depends[step->depend_first + i];
        if (on == to && direct)
            return 1;
        if (on > to && implied(plan, on, to, 1))
            return 1;
    }
    return 0;
}

static void test_no_dependency_is_redundant(void **state)
{
    (void)state;
    for (uint32_t i = 0; mt_catalogue[i]; i++) {
        struct plans_case what;
        for (uint32_t at = 0; plans_next(mt_catalogue[i], 7, NULL, &at, &what);) {
            struct manta_plan *plans[7];
            plans_compile(&what, plans);
            for (uint32_t r = 0; r < 7; r++) {
                for (uint32_t s = 0; plans[r] && s < plans[r]->step_count; s++) {
                    const struct manta_plan_step *step = &plans[r]->steps[s];
                    for (uint32_t k = 0; k < step->depend_count; k++) {
                        uint32_t on = plans[r]->depends[step->depend_first + k];
                        assert_true(on < s);
                        assert_false(implied(plans[r], s, on, 0));
                    }
                }
            }
            mt_plan_free_all(plans, 7);
        }
    }
}

static struct manta_plan *compile(void (*build)(struct mt_plan_builder *), uint32_t in_place)
{
    struct mt_algorithm algorithm = {.name = "test", .collective = MANTA_ALLREDUCE, .build = build};
    struct mt_plan_request request = {
        .collective = MANTA_ALLREDUCE, .ranks = 3, .in_place = in_place};
    struct manta_plan *plan;
    struct mt_error error;
    if (mt_plan_compile(&algorithm, &request, &plan, &error))
        fail_msg("%s", error.sentence);
    return plan;
}

static void expect_step(const struct manta_plan *plan, uint32_t step, const char *line)
{
    char text[256];
    mt_plan_describe(plan, step, text, sizeof(text));
    assert_string_equal(text, line);
}

/* Two sends read blocks that a receive overwrites: write after read, twice. */
static void build_two_readers(struct mt_plan_builder *p)
{
    plan_blocks(p, 2, MANTA_PLAN_VECTOR);
    plan_send(p, 1, plan_block(p, 0));
    plan_send(p, 2, plan_all(p));
    plan_recv(p, 1, plan_all(p));
}

static void test_write_after_read(void **state)
{
    struct manta_plan *plan = compile(build_two_readers, 1);
    (void)state;
    expect_step(plan, 2, "  2 recv   dst[0..1] from 1 #0  after 1, 0");
    mt_plan_free(plan);
    plan = compile(build_two_readers, 0); /* SRC is another buffer: nothing to wait for */
    expect_step(plan, 1, "  1 recv   dst[0..1] from 1 #0");
    mt_plan_free(plan);
}

/* The second receive into a region of other origin overlaps whatever was there. */
static void build_other_origin(struct mt_plan_builder *p)
{
    plan_blocks(p, 8, MANTA_PLAN_VECTOR);
    for (uint32_t b = 0; b < 8; b++)
        plan_recv_reduce(p, 1, plan_block(p, b));
}

static void test_other_origins_overlap(void **state)
{
    struct manta_plan *plan = compile(build_other_origin, 0);
    uint32_t waits = 0;
    (void)state;
    assert_int_equal(plan->region_count, 2);
    for (uint32_t s = 0; s < plan->step_count; s++)
        waits += plan->steps[s].kind == MANTA_PLAN_RECV && plan->steps[s].depend_count == 1;
    assert_int_equal(waits, 6); /* all but the first use of each region */
    mt_plan_free(plan);
}

/* In every ring, the next receive stands before the reduction of the one before. */
static void test_receives_stand_early(void **state)
{
    const struct mt_algorithm *ring = mt_catalogue_find(MANTA_ALLREDUCE, "ring");
    struct mt_plan_request request = {.collective = MANTA_ALLREDUCE, .rank = 3, .ranks = 9};
    struct manta_plan *plan;
    struct mt_error error;
    uint32_t received = 0, reduced = 0;
    (void)state;
    assert_int_equal(mt_plan_compile(ring, &request, &plan, &error), 0);
    assert_int_equal(plan->steps[0].kind, MANTA_PLAN_RECV);
    for (uint32_t s = 0; s < plan->step_count; s++) {
        received += plan->steps[s].kind == MANTA_PLAN_RECV;
        if (plan->steps[s].kind == MANTA_PLAN_REDUCE)
            assert_true(received >= ++reduced + 1);
    }
    assert_int_equal(reduced, 8);
    mt_plan_free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_dependency_is_redundant),
        cmocka_unit_test(test_write_after_read),
        cmocka_unit_test(test_other_origins_overlap),
        cmocka_unit_test(test_receives_stand_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
