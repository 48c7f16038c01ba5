/* SPDX-License-Identifier: Apache-2.0 */
/* What the verifier refuses, fault by fault, with plans made to have just that one; the proofs of
 * the catalogue and the mutants are in tests/plan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "plan/algorithm.h"
#include "plan/verify.h"

enum { RANKS_MAX = 80 };

struct set {
    struct manta_plan *plans[RANKS_MAX];
    uint32_t ranks;
};

static struct set compile_with(const struct mt_algorithm *algorithm, uint32_t ranks, uint32_t place)
{
    struct set set = {.ranks = ranks};
    struct mt_error error;
    struct mt_plan_request request = {
        .collective = algorithm->collective, .ranks = ranks, .root = 0, .in_place = place};
    if (mt_plan_compile_all(algorithm, &request, set.plans, &error))
        fail_msg("%s", error.sentence);
    return set;
}

static struct set compile(uint32_t collective, const char *name, uint32_t ranks)
{
    return compile_with(mt_catalogue_find(collective, name), ranks, 0);
}

static struct set compile_built(void (*build)(struct mt_plan_builder *), uint32_t ranks)
{
    struct mt_algorithm algorithm = {.name = "test", .collective = MANTA_ALLREDUCE, .build = build};
    return compile_with(&algorithm, ranks, 0);
}

static int verify(const struct set *set, struct mt_verify_result *result)
{
    return mt_plan_verify((const struct manta_plan *const *)set->plans, set->ranks, result);
}

static void expect_fault(struct set *set, const char *reason)
{
    struct mt_verify_result result;
    assert_int_equal(verify(set, &result), MANTA_EPLAN);
    if (!strstr(result.fault, reason) || !strstr(result.fault, "rank "))
        fail_msg("expected '%s', got '%s'", reason, result.fault);
    mt_plan_free_all(set->plans, set->ranks);
}

/* Plans are one allocation of this program, so a test may write into them. */
static struct manta_plan_step *step_of(struct set *set, uint32_t rank, uint32_t step)
{
    return (struct manta_plan_step *)(uintptr_t)&set->plans[rank]->steps[step];
}

static struct manta_plan_location *location_of(struct set *set, uint32_t rank, uint32_t step,
                                               uint32_t index)
{
    const struct manta_plan *plan = set->plans[rank];
    return (struct manta_plan_location *)(uintptr_t)&plan
        ->locations[plan->steps[step].location_first + index];
}

static void test_result_of_a_proof(void **state)
{
    struct set set = compile(MANTA_ALLREDUCE, "ring", 5);
    struct mt_verify_result result;
    (void)state;
    memset(&result, 0x55, sizeof(result));
    assert_int_equal(verify(&set, &result), 0);
    assert_string_equal(result.fault, "");
    assert_int_equal(result.messages, 5 * 8);
    assert_int_equal(result.steps, 5 * (8 + 8 + 4));
    assert_int_not_equal(result.order, MANTA_PLAN_ORDER_BINARY);
    assert_int_not_equal(result.order, 0);
    struct mt_verify_result again;
    assert_int_equal(verify(&set, &again), 0);
    assert_int_equal(result.order, again.order);
    mt_plan_free_all(set.plans, 5);
}

static void test_heads(void **state)
{
    struct set set = compile(MANTA_ALLREDUCE, "ring", 3);
    (void)state;
    mt_plan_free(set.plans[1]);
    set.plans[1] = NULL;
    expect_fault(&set, "has no plan");

#define HEAD(field, value, reason)                                                                 \
    do {                                                                                           \
        set = compile(MANTA_ALLREDUCE, "ring", 3);                                                 \
        set.plans[2]->field = (value);                                                             \
        expect_fault(&set, reason);                                                                \
    } while (0)
    HEAD(size, 8, "not a plan for this rank");
    HEAD(rank, 1, "not a plan for this rank");
    HEAD(ranks, 4, "not a plan for this rank");
    HEAD(collective, MANTA_REDUCE, "several collectives");
    HEAD(blocks, 4, "partitions");
    HEAD(layout, MANTA_PLAN_RANKS, "partitions");
    HEAD(root, 0, "root");
    HEAD(lanes, 0, "lanes");
    HEAD(lanes, 1000, "lanes");
    HEAD(in_place, 2, "in_place");
    HEAD(whole, 1, "unlike others");
    HEAD(step_count, 1, "meets it");
    HEAD(location_count, 1, "indices outside");
    HEAD(depend_count, 0, "indices outside");
    HEAD(region_count, 0, "no scratch region");
#undef HEAD
    set = (struct set){.ranks = 3};
    expect_fault(&set, "no rank has a plan");
}

static void test_steps(void **state)
{
    struct set set;
    (void)state;
#define STEP(field, value, reason)                                                                 \
    do {                                                                                           \
        set = compile(MANTA_ALLREDUCE, "ring", 3);                                                 \
        step_of(&set, 1, 3)->field = (value); /* the first reduction */                            \
        expect_fault(&set, reason);                                                                \
    } while (0)
    STEP(kind, 9, "unknown kind");
    STEP(kind, MANTA_PLAN_FUSED, "unknown kind");
    STEP(lane, 1, "unknown kind");
    STEP(location_count, 2, "unknown kind");
    STEP(location_first, 0xfffffffe, "indices outside");
    STEP(depend_first, 0xffffffff, "indices outside");
    STEP(depend_count, 0, "races");
#undef STEP
    set = compile(MANTA_ALLREDUCE, "ring", 3);
    step_of(&set, 1, 0)->peer = 1;
    expect_fault(&set, "no other rank");
    set = compile(MANTA_ALLREDUCE, "ring", 3);
    step_of(&set, 1, 0)->peer = 3;
    expect_fault(&set, "no other rank");
    set = compile(MANTA_ALLREDUCE, "ring", 3);
    ((uint32_t *)(uintptr_t)set.plans[0]->depends)[0] = 3;
    expect_fault(&set, "later step");
}

static void test_locations(void **state)
{
    struct set set;
    (void)state;
#define LOCATION(index, field, value, reason)                                                      \
    do {                                                                                           \
        set = compile(MANTA_ALLREDUCE, "ring", 3);                                                 \
        location_of(&set, 1, 3, index)->field = (value);                                           \
        expect_fault(&set, reason);                                                                \
    } while (0)
    LOCATION(0, buffer, 3, "unknown buffer");
    LOCATION(0, first, 3, "outside the vector");
    LOCATION(0, count, 0, "outside the vector");
    LOCATION(0, count, 0xffffffff, "outside the vector");
    LOCATION(0, region, 1, "only scratch has regions");
    LOCATION(0, origin, 2, "only scratch has regions");
    LOCATION(0, buffer, MANTA_PLAN_SRC, "writes the source");
    LOCATION(2, region, 7, "no scratch region 7");
    LOCATION(2, origin, 2, "outside scratch region");
    LOCATION(2, count, 2, "outside scratch region");
#undef LOCATION
    set = compile(MANTA_ALLREDUCE, "ring", 3);
    *location_of(&set, 1, 3, 1) = (struct manta_plan_location){MANTA_PLAN_SRC, 0, 1, 1, 1};
    expect_fault(&set, "unequal numbers");
    set = compile(MANTA_REDUCE, "binomial", 2);
    *location_of(&set, 1, 0, 0) = (struct manta_plan_location){MANTA_PLAN_DST, 0, 0, 1, 0};
    expect_fault(&set, "does not own");
    set = compile(MANTA_ALLGATHER, "ring", 3);
    location_of(&set, 0, 1, 0)->first = location_of(&set, 0, 1, 0)->origin = 1;
    expect_fault(&set, "does not own");
}

/* Everybody sends more than its window holds before it receives. */
static void build_greedy(struct mt_plan_builder *p)
{
    uint32_t me = plan_rank(p), other = 1 - me;
    plan_blocks(p, 4, MANTA_PLAN_VECTOR);
    for (uint32_t b = 0; b < 4; b++)
        plan_send(p, other, plan_block(p, b));
    for (uint32_t b = 0; b < 4; b++)
        plan_recv_reduce(p, other, plan_block(p, b));
}

/* Each waits for the other's message before it sends. */
static void build_polite(struct mt_plan_builder *p)
{
    uint32_t other = 1 - plan_rank(p);
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    plan_recv_reduce(p, other, plan_all(p));
    plan_send(p, other, plan_all(p));
    plan_recv(p, other, plan_all(p));
    plan_send(p, other, plan_all(p));
}

static void test_deadlock(void **state)
{
    struct set set = compile_built(build_greedy, 2);
    (void)state;
    expect_fault(&set, "deadlock");
    set = compile_built(build_polite, 2);
    expect_fault(&set, "deadlock");
}

/* ((0 1) 2) on rank 0, (0 (1 2)) on the others: right sums, unlike bits. */
static void build_unlike(struct mt_plan_builder *p)
{
    uint32_t me = plan_rank(p);
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    uint32_t x = plan_scratch(p, 1), y = plan_scratch(p, 1);
    uint32_t low = me == 0 ? 1 : 0, high = me == 2 ? 1 : 2;
    plan_send(p, low, plan_all(p));
    plan_recv_scratch(p, low, plan_all(p), x);
    plan_send(p, high, plan_all(p));
    plan_recv_scratch(p, high, plan_all(p), y);
    if (me == 1) {
        plan_reduce(p, y, PLAN_WORKING, y, plan_all(p));
        plan_reduce(p, PLAN_WORKING, x, y, plan_all(p));
    } else {
        plan_reduce(p, PLAN_WORKING, PLAN_WORKING, x, plan_all(p));
        plan_reduce(p, PLAN_WORKING, PLAN_WORKING, y, plan_all(p));
    }
}

/* Rank 0's input comes twice on rank 1. */
static void build_twice(struct mt_plan_builder *p)
{
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    for (int i = 0; i < 2; i++) {
        uint32_t other = 1 - plan_rank(p);
        uint32_t x = plan_scratch(p, 1);
        plan_send(p, other, plan_all(p));
        plan_recv_scratch(p, other, plan_all(p), x);
        plan_reduce(p, PLAN_WORKING, PLAN_WORKING, x, plan_all(p));
    }
}

static void build_partial(struct mt_plan_builder *p)
{
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    if (plan_rank(p) == 0)
        plan_send(p, 1, plan_all(p));
    if (plan_rank(p) == 1)
        plan_recv_reduce(p, 0, plan_all(p));
}

static void build_other_blocks(struct mt_plan_builder *p)
{
    plan_blocks(p, 2, MANTA_PLAN_VECTOR);
    if (plan_rank(p) == 0)
        plan_send(p, 1, plan_all(p));
    if (plan_rank(p) == 1)
        plan_recv_reduce(p, 0, plan_block(p, 0));
}

static void test_values(void **state)
{
    struct set set = compile_built(build_unlike, 3);
    (void)state;
    expect_fault(&set, "another order");
    set = compile_built(build_twice, 2);
    expect_fault(&set, "twice");
    set = compile_built(build_partial, 2);
    expect_fault(&set, "does not count every rank once");
    set = compile_built(build_other_blocks, 2);
    expect_fault(&set, "other blocks");
    set = compile(MANTA_BROADCAST, "binomial", 4);
    for (uint32_t r = 0; r < 4; r++)
        set.plans[r]->root = 3; /* the messages still flow from rank 0 */
    expect_fault(&set, "nothing was written");
    set = compile(MANTA_ALLREDUCE, "ring", 3);
    for (uint32_t r = 0; r < 3; r++)
        set.plans[r]->step_count = 0;
    expect_fault(&set, "never written");
}

/* Above 64 ranks contributions are sums of random numbers: a second count is seen there too. */
static void test_counted_twice_above_64(void **state)
{
    struct set set = compile_with(mt_catalogue_find(MANTA_ALLREDUCE, "recursive_doubling"), 70, 1);
    struct mt_verify_result result;
    (void)state;
    assert_int_equal(verify(&set, &result), 0);
    assert_int_equal(result.order, MANTA_PLAN_ORDER_BINARY);
    /* Rank 0 adds its own value instead of what it received last. */
    uint32_t last = set.plans[0]->step_count - 1;
    assert_int_equal(set.plans[0]->steps[last].kind, MANTA_PLAN_REDUCE);
    *location_of(&set, 0, last, 2) = *location_of(&set, 0, last, 1);
    expect_fault(&set, "does not count every rank once");
}

static void test_barrier_above_64_is_exact(void **state)
{
    struct set set = compile(MANTA_BARRIER, "dissemination", 70);
    struct mt_verify_result result;
    (void)state;
    assert_int_equal(verify(&set, &result), 0);
    /* Rank 5 forgets what it heard last. */
    uint32_t last = set.plans[5]->step_count - 1;
    assert_int_equal(set.plans[5]->steps[last].kind, MANTA_PLAN_REDUCE);
    *location_of(&set, 5, last, 2) = *location_of(&set, 5, last, 1);
    expect_fault(&set, "does not count every rank once");
}

static void test_scratch_origins(void **state)
{
    /* Step 3 of a ring of 4 in rank 0 reads scratch0[3]: as if block 3 lay elsewhere. */
    struct set set = compile(MANTA_ALLREDUCE, "ring", 4);
    (void)state;
    ((struct manta_plan_region *)(uintptr_t)set.plans[0]->regions)[0].block_count = 4;
    location_of(&set, 0, 3, 2)->origin = 2;
    expect_fault(&set, "nothing was written");
}

static void test_cut_where_it_must_be_whole(void **state)
{
    struct set set = compile(MANTA_ALLGATHER, "circulant", 5);
    (void)state;
    assert_int_equal(set.plans[1]->whole, 1); /* in rank 1 no location has two blocks */
    for (uint32_t r = 0; r < 5; r++)
        set.plans[r]->whole = 0;
    expect_fault(&set, "cannot run in segments");
    set = compile(MANTA_REDUCE_SCATTER, "ring", 5);
    assert_int_equal(set.plans[1]->whole, 0);
    mt_plan_free_all(set.plans, 5);
}

static void test_scratch_larger_than_the_vector(void **state)
{
    struct set set = compile(MANTA_ALLREDUCE, "ring", 4);
    (void)state;
    ((struct manta_plan_region *)(uintptr_t)set.plans[2]->regions)[1].block_count = 0xffffffff;
    expect_fault(&set, "larger than the vector");
}

/* In one rank's declaration, and in its step. */
static void stop_reading(struct set *set, uint32_t rank, uint32_t member)
{
    struct manta_plan *plan = set->plans[rank];
    struct manta_plan_step *step = (struct manta_plan_step *)(uintptr_t)plan->steps;
    ((struct manta_plan_fused_member *)(uintptr_t)plan->fused->members)[member].read_count = 0;
    if (rank != member)
        return;
    step->location_first++;
    step->location_count--;
}

static void build_three_fused(struct mt_plan_builder *p)
{
    plan_blocks(p, 2, MANTA_PLAN_VECTOR);
    for (int i = 0; i < 3; i++)
        plan_fused(p);
}

static void test_fused(void **state)
{
    struct set set;
    (void)state;
#define FUSED(collective, change, reason)                                                          \
    do {                                                                                           \
        set = compile(collective, "fused", 3);                                                     \
        struct manta_plan_fused *f = (struct manta_plan_fused *)(uintptr_t)set.plans[1]->fused;    \
        struct manta_plan_fused_member *m =                                                        \
            (struct manta_plan_fused_member *)(uintptr_t)f->members;                               \
        change;                                                                                    \
        (void)m;                                                                                   \
        expect_fault(&set, reason);                                                                \
    } while (0)
    FUSED(MANTA_ALLREDUCE, f->collective = MANTA_SEND, "not declared soundly");
    FUSED(MANTA_ALLREDUCE, f->order = 0, "not declared soundly");
    FUSED(MANTA_ALLREDUCE, f->member_count = 0, "not declared soundly");
    FUSED(MANTA_ALLREDUCE, f->member_count = 4, "not declared soundly");
    FUSED(MANTA_ALLREDUCE, f->member_count = 1, "leaves out");
    FUSED(MANTA_ALLREDUCE, f->member_count = 2, "otherwise");
    FUSED(MANTA_ALLREDUCE, m[2].rank = 1, "ascend");
    FUSED(MANTA_ALLREDUCE, m[2].rank = 3, "no rank of the plan");
    FUSED(MANTA_ALLREDUCE, m[1].read_first = 1, "outside the vector");
    FUSED(MANTA_REDUCE, m[1].write_count = 1, "not those that it declares");
    FUSED(MANTA_ALLREDUCE, m[1].read_count = 0, "not those that it declares");
    FUSED(MANTA_ALLREDUCE, m[2].read_count = 0, "otherwise");
    FUSED(MANTA_ALLREDUCE, f->collective = MANTA_BARRIER, "otherwise");
    FUSED(MANTA_ALLGATHER, m[1].write_count = 2, "no equal parts");
    FUSED(MANTA_ALLGATHER, m[1].read_first = 2, "no equal parts");
    FUSED(MANTA_REDUCE_SCATTER, m[0].write_count = 2, "no equal parts");
#undef FUSED
    set = compile(MANTA_ALLREDUCE, "fused", 3);
    set.plans[2]->step_count = 0;
    expect_fault(&set, "deadlock");
    /* All agree that rank 2 is left out of the sum. */
    set = compile(MANTA_ALLREDUCE, "fused", 3);
    for (uint32_t r = 0; r < 3; r++)
        stop_reading(&set, r, 2);
    expect_fault(&set, "does not count every rank once");
    /* All agree that nobody gives anything. */
    set = compile(MANTA_ALLREDUCE, "fused", 3);
    for (uint32_t r = 0; r < 9; r++)
        stop_reading(&set, r / 3, r % 3);
    expect_fault(&set, "0 members give block 0");
    /* One of them lacks the third step. */
    set = compile_built(build_three_fused, 3);
    set.plans[1]->fused_count = 2;
    set.plans[1]->step_count = 2;
    expect_fault(&set, "another number of fused steps");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_result_of_a_proof),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_locations),
        cmocka_unit_test(test_deadlock),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_counted_twice_above_64),
        cmocka_unit_test(test_barrier_above_64_is_exact),
        cmocka_unit_test(test_scratch_origins),
        cmocka_unit_test(test_cut_where_it_must_be_whole),
        cmocka_unit_test(test_scratch_larger_than_the_vector),
        cmocka_unit_test(test_fused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
