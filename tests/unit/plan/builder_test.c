/* SPDX-License-Identifier: Apache-2.0 */
/* The builder: what it refuses, what verbs become, which scratch they take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "plan/algorithm.h"
#include "plan/print.h"

/* Compile a function as an algorithm of this collective. */
static int compile(void (*build)(struct mt_plan_builder *), uint32_t collective, uint32_t rank,
                   uint32_t ranks, uint32_t in_place, struct manta_plan **plan_out,
                   struct mt_error *error)
{
    struct mt_algorithm algorithm = {.name = "test", .collective = collective, .build = build};
    struct mt_plan_request request = {
        .collective = collective, .rank = rank, .ranks = ranks, .root = 0, .in_place = in_place};
    return mt_plan_compile(&algorithm, &request, plan_out, error);
}

static void refused(void (*build)(struct mt_plan_builder *), const char *reason)
{
    struct manta_plan *plan = (void *)&plan;
    struct mt_error error;
    assert_int_equal(compile(build, MANTA_ALLREDUCE, 1, 4, 0, &plan, &error), MANTA_EPLAN);
    assert_null(plan);
    if (!strstr(error.sentence, reason) || !strstr(error.sentence, "test"))
        fail_msg("expected '%s', got '%s'", reason, error.sentence);
}

static void build_nothing(struct mt_plan_builder *p)
{
    (void)p;
}

static void build_without_blocks(struct mt_plan_builder *p)
{
    plan_send(p, 0, plan_range(0, 1));
}

static void build_twice(struct mt_plan_builder *p)
{
    plan_blocks(p, 2, MANTA_PLAN_VECTOR);
    plan_blocks(p, 2, MANTA_PLAN_VECTOR);
}

static void build_zero(struct mt_plan_builder *p)
{
    plan_blocks(p, 0, MANTA_PLAN_VECTOR);
}

static void build_huge(struct mt_plan_builder *p)
{
    plan_blocks(p, MT_PLAN_BLOCKS_MAX + 1, MANTA_PLAN_VECTOR);
}

static void build_uneven(struct mt_plan_builder *p)
{
    plan_blocks(p, 6, MANTA_PLAN_RANKS); /* 4 ranks */
}

static void build_outside(struct mt_plan_builder *p)
{
    plan_blocks(p, 4, MANTA_PLAN_VECTOR);
    plan_send(p, 0, plan_range(3, 2));
}

static void build_wrapped(struct mt_plan_builder *p)
{
    plan_blocks(p, 4, MANTA_PLAN_VECTOR);
    plan_send(p, 0, plan_range(3, 0xffffffff));
}

static void build_far_around(struct mt_plan_builder *p)
{
    plan_blocks(p, 4, MANTA_PLAN_VECTOR);
    plan_send(p, 0, plan_around(p, -1, 5));
}

static void build_around_in_scratch(struct mt_plan_builder *p)
{
    plan_blocks(p, 4, MANTA_PLAN_VECTOR);
    plan_recv_scratch(p, 0, plan_around(p, 3, 2), plan_scratch(p, 4));
}

static void build_empty(struct mt_plan_builder *p)
{
    plan_blocks(p, 4, MANTA_PLAN_VECTOR);
    plan_recv(p, 0, plan_range(3, 0));
}

static void build_to_self(struct mt_plan_builder *p)
{
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    plan_send(p, plan_rank(p), plan_all(p));
}

static void build_to_nobody(struct mt_plan_builder *p)
{
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    plan_recv_reduce(p, plan_ranks(p), plan_all(p));
}

static void build_no_region(struct mt_plan_builder *p)
{
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    plan_recv_scratch(p, 0, plan_all(p), 0);
}

static void build_unwritten(struct mt_plan_builder *p)
{
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    plan_send_scratch(p, 0, plan_all(p), plan_scratch(p, 1));
}

static void build_small_region(struct mt_plan_builder *p)
{
    plan_blocks(p, 4, MANTA_PLAN_VECTOR);
    plan_recv_scratch(p, 0, plan_range(1, 3), plan_scratch(p, 2));
}

static void build_many_lanes(struct mt_plan_builder *p)
{
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    plan_lane(p, MT_PLAN_LANES_MAX);
}

static void build_early_fused(struct mt_plan_builder *p)
{
    plan_fused(p);
}

/* Every second block moves to DST, so that the working vector is in `runs` pieces. */
static void fragment(struct mt_plan_builder *p, uint32_t runs)
{
    plan_blocks(p, runs, MANTA_PLAN_VECTOR);
    for (uint32_t b = 0; b < runs; b += 2)
        plan_recv_reduce(p, 0, plan_block(p, b));
    plan_send(p, 0, plan_all(p));
}

static void build_9_runs(struct mt_plan_builder *p)
{
    fragment(p, 9);
}

static void build_8_runs(struct mt_plan_builder *p)
{
    fragment(p, 8);
}

static void test_refuses(void **state)
{
    (void)state;
    refused(build_nothing, "partition");
    refused(build_without_blocks, "blocks that do not exist");
    refused(build_twice, "set once");
    refused(build_zero, "number of blocks");
    refused(build_huge, "number of blocks");
    refused(build_uneven, "multiple of the ranks");
    refused(build_outside, "blocks that do not exist");
    refused(build_wrapped, "blocks that do not exist");
    refused(build_far_around, "blocks that do not exist");
    refused(build_around_in_scratch, "blocks that do not exist");
    refused(build_empty, "blocks that do not exist");
    refused(build_to_self, "no other rank");
    refused(build_to_nobody, "no other rank");
    refused(build_no_region, "region that does not exist");
    refused(build_unwritten, "before it is written");
    refused(build_small_region, "too small");
    refused(build_many_lanes, "lanes");
    refused(build_early_fused, "after the partition");
    refused(build_9_runs, "too many locations");
}

static void test_message_of_8_locations(void **state)
{
    struct manta_plan *plan;
    struct mt_error error;
    (void)state;
    assert_int_equal(compile(build_8_runs, MANTA_ALLREDUCE, 1, 2, 0, &plan, &error), 0);
    uint32_t most = 0;
    for (uint32_t s = 0; s < plan->step_count; s++)
        if (plan->steps[s].location_count > most)
            most = plan->steps[s].location_count;
    assert_int_equal(most, MANTA_PLAN_LOCATIONS);
    mt_plan_free(plan);
    /* In place there is nothing to gather: SRC and DST are one, but named apart. */
    assert_int_equal(compile(build_8_runs, MANTA_ALLREDUCE, 1, 2, 1, &plan, &error), 0);
    mt_plan_free(plan);
}

/* The steps as text, one a line. */
static void expect_steps(const struct manta_plan *plan, const char *const *lines, uint32_t count)
{
    char text[256];
    assert_int_equal(plan->step_count, count);
    for (uint32_t s = 0; s < count; s++) {
        mt_plan_describe(plan, s, text, sizeof(text));
        assert_string_equal(text, lines[s]);
    }
}

/* Blocks around the end are two pieces: two places in one message, each in its own region. */
static void build_around(struct mt_plan_builder *p)
{
    plan_blocks(p, 4, MANTA_PLAN_VECTOR);
    plan_send(p, 1 - plan_rank(p), plan_around(p, 7, 2));
    plan_recv_reduce(p, 1 - plan_rank(p), plan_around(p, -2, 3));
    plan_recv(p, 1 - plan_rank(p), plan_around(p, 1, 2)); /* not around at all */
}

static void test_around_the_end(void **state)
{
    static const char *const lines[] = {
        "  0 recv   scratch0[2..3] scratch1[0] from 1 #0",
        "  1 send   src[3] src[0] to 1 #0",
        "  2 reduce dst[2..3] = src[2..3] op scratch0[2..3]  after 0",
        "  3 recv   dst[1..2] from 1 #1  after 2",
        "  4 reduce dst[0] = src[0] op scratch1[0]  after 0",
    };
    struct manta_plan *plan;
    struct mt_error error;
    (void)state;
    assert_int_equal(compile(build_around, MANTA_ALLREDUCE, 0, 2, 0, &plan, &error), 0);
    expect_steps(plan, lines, 5);
    mt_plan_free(plan);
}

static void build_exchange(struct mt_plan_builder *p)
{
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    plan_send(p, 1 - plan_rank(p), plan_all(p));
    if (plan_rank(p) == 0)
        plan_recv_reduce(p, 1, plan_all(p));
    else
        plan_recv_reduce_left(p, 0, plan_all(p));
}

static void test_recv_reduce_is_two_records(void **state)
{
    static const char *const apart[] = {"  0 recv   scratch0[0] from 1 #0",
                                        "  1 send   src[0] to 1 #0",
                                        "  2 reduce dst[0] = src[0] op scratch0[0]  after 0"};
    static const char *const in_place[] = {"  0 recv   scratch0[0] from 0 #0",
                                           "  1 send   src[0] to 0 #0",
                                           "  2 reduce dst[0] = scratch0[0] op src[0]  after 1, 0"};
    struct manta_plan *plan;
    struct mt_error error;
    (void)state;
    assert_int_equal(compile(build_exchange, MANTA_ALLREDUCE, 0, 2, 0, &plan, &error), 0);
    expect_steps(plan, apart, 3);
    mt_plan_free(plan);
    /* In place the reduction overwrites what the send reads. */
    assert_int_equal(compile(build_exchange, MANTA_ALLREDUCE, 1, 2, 1, &plan, &error), 0);
    expect_steps(plan, in_place, 3);
    assert_int_equal(plan->in_place, 1);
    mt_plan_free(plan);
}

static void build_alone(struct mt_plan_builder *p)
{
    plan_blocks(p, 4, MANTA_PLAN_VECTOR);
}

static void test_results_in_src_are_copied(void **state)
{
    static const char *const copy[] = {"  0 copy   dst[0..3] = src[0..3]"};
    struct manta_plan *plan;
    struct mt_error error;
    (void)state;
    assert_int_equal(compile(build_alone, MANTA_ALLREDUCE, 0, 1, 0, &plan, &error), 0);
    expect_steps(plan, copy, 1);
    mt_plan_free(plan);
    assert_int_equal(compile(build_alone, MANTA_ALLREDUCE, 0, 1, 1, &plan, &error), 0);
    assert_int_equal(plan->step_count, 0);
    mt_plan_free(plan);
    /* A rank that never gets its result is the algorithm's fault. */
    assert_int_equal(compile(build_alone, MANTA_BROADCAST, 1, 2, 0, &plan, &error), MANTA_EPLAN);
    assert_non_null(strstr(error.sentence, "never made"));
}

/* Reads both regions, writes one; then reads blocks of another origin in the other. */
static void build_own_scratch(struct mt_plan_builder *p)
{
    plan_blocks(p, 2, MANTA_PLAN_VECTOR);
    uint32_t x = plan_scratch(p, 2), y = plan_scratch(p, 2);
    plan_recv_scratch(p, 1, plan_all(p), x);
    plan_recv_scratch(p, 1, plan_all(p), y);
    plan_reduce(p, x, x, y, plan_block(p, 1));
    plan_reduce(p, PLAN_WORKING, PLAN_WORKING, x, plan_all(p));
    plan_send_scratch(p, 1, plan_block(p, 0), y);
}

static void test_explicit_scratch(void **state)
{
    static const char *const steps[] = {
        "  0 recv   scratch0[0..1] from 1 #0",
        "  1 recv   scratch1[0..1] from 1 #1",
        "  2 reduce scratch0[1@0] = scratch0[1@0] op scratch1[1@0]  after 1, 0",
        "  3 reduce dst[0..1] = src[0..1] op scratch0[0..1]  after 2",
        "  4 send   scratch1[0] to 1 #0  after 1",
    };
    struct manta_plan *plan;
    struct mt_error error;
    (void)state;
    assert_int_equal(compile(build_own_scratch, MANTA_ALLREDUCE, 0, 2, 0, &plan, &error), 0);
    expect_steps(plan, steps, 5);
    assert_int_equal(plan->region_count, 2);
    mt_plan_free(plan);
}

/* Two regions take turns, however long the ring; a tree needs one more for its running total. */
static void test_scratch_is_reused(void **state)
{
    static const struct {
        uint32_t collective;
        const char *name;
        uint32_t regions;
    } cases[] = {{MANTA_ALLREDUCE, "ring", 2},
                 {MANTA_REDUCE_SCATTER, "ring", 2},
                 {MANTA_ALLGATHER, "ring", 0},
                 {MANTA_REDUCE, "binomial", 3},
                 {MANTA_BARRIER, "dissemination", 2}};
    (void)state;
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct mt_algorithm *algorithm =
            mt_catalogue_find(cases[i].collective, cases[i].name);
        struct mt_plan_request request = {.collective = cases[i].collective, .ranks = 61};
        for (request.rank = 0; request.rank < request.ranks; request.rank++) {
            struct manta_plan *plan;
            struct mt_error error;
            assert_int_equal(mt_plan_compile(algorithm, &request, &plan, &error), 0);
            assert_true(plan->region_count <= cases[i].regions);
            for (uint32_t r = 0; r < plan->region_count; r++)
                assert_int_equal(plan->regions[r].block_count, 1);
            mt_plan_free(plan);
        }
    }
}

static void build_lanes(struct mt_plan_builder *p)
{
    plan_blocks(p, 4, MANTA_PLAN_VECTOR);
    for (uint32_t b = 0; b < 4; b++) {
        plan_lane(p, b % 2);
        plan_send(p, 1, plan_block(p, b));
        plan_recv(p, 1, plan_block(p, (int64_t)b - 4));
    }
}

static void test_lanes_and_numbers(void **state)
{
    struct manta_plan *plan;
    struct mt_error error;
    uint32_t numbers[2] = {0, 0};
    (void)state;
    assert_int_equal(compile(build_lanes, MANTA_ALLREDUCE, 0, 2, 0, &plan, &error), 0);
    assert_int_equal(plan->lanes, 2);
    for (uint32_t s = 0; s < plan->step_count; s++) {
        const struct manta_plan_step *step = &plan->steps[s];
        assert_int_equal(step->number, numbers[step->kind]++);
        assert_int_equal(step->lane, plan->locations[step->location_first].first % 2);
    }
    mt_plan_free(plan);
}

static void test_fused_declares_ownership(void **state)
{
    const struct mt_algorithm *algorithm = mt_catalogue_find(MANTA_REDUCE_SCATTER, "fused");
    struct mt_plan_request request = {.collective = MANTA_REDUCE_SCATTER, .rank = 2, .ranks = 5};
    struct manta_plan *plan;
    struct mt_error error;
    (void)state;
    assert_int_equal(mt_plan_compile(algorithm, &request, &plan, &error), 0);
    assert_int_equal(plan->fused_count, 1);
    assert_int_equal(plan->fused->member_count, 5);
    for (uint32_t r = 0; r < 5; r++) {
        const struct manta_plan_fused_member *member = &plan->fused->members[r];
        assert_int_equal(member->rank, r);
        assert_int_equal(member->read_first, 0);
        assert_int_equal(member->read_count, 5);
        assert_int_equal(member->write_first, r);
        assert_int_equal(member->write_count, 1);
    }
    mt_plan_free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_message_of_8_locations),
        cmocka_unit_test(test_around_the_end),
        cmocka_unit_test(test_recv_reduce_is_two_records),
        cmocka_unit_test(test_results_in_src_are_copied),
        cmocka_unit_test(test_explicit_scratch),
        cmocka_unit_test(test_scratch_is_reused),
        cmocka_unit_test(test_lanes_and_numbers),
        cmocka_unit_test(test_fused_declares_ownership),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
