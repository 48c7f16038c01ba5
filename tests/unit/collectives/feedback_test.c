/* SPDX-License-Identifier: Apache-2.0 */
/* MANTA_FEEDBACK: right results while algorithms are tried and after, the same choice on all ranks,
 * the same bits, and no rank left behind when another one does something else. Ranks are threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "collectives/comm.h"
#include "tests/support/calls.h"
#include "tests/support/ranks.h"

enum { RANKS = 4, COUNT = 700, CALLS = 80 }; /* more than any trial takes */

static const struct ranks_options on_node = {.ranks = RANKS};
static const struct ranks_options on_nodes = {.ranks = RANKS, .nodes = 2};

static int switch_on(void **state)
{
    (void)state;
    return setenv("MANTA_FEEDBACK", "1", 1);
}

static int switch_off(void **state)
{
    (void)state;
    return unsetenv("MANTA_FEEDBACK");
}

static double input(int rank, uint64_t i, int call)
{
    return (double)((i * 7 + (uint64_t)rank * 5 + (uint64_t)call) % 11) - 4;
}

static int check_sum(struct manta_comm *comm, const double *dst, uint64_t count, int call)
{
    for (uint64_t i = 0; i < count; i++) {
        double wanted = 0;
        for (int r = 0; r < RANKS; r++)
            wanted += input(r, i, call);
        if (dst[i] != wanted)
            return rank_fail(comm, "call %d: element %lu is %g, not %g", call, (unsigned long)i,
                             dst[i], wanted);
    }
    return 0;
}

static void fill(double *src, int rank, uint64_t count, int call)
{
    for (uint64_t i = 0; i < count; i++)
        src[i] = input(rank, i, call);
}

/* Allreduces of one size class with different counts, broadcasts from all roots, barriers. */
static int run_calls(struct manta_comm *comm, int calls)
{
    double src[COUNT], dst[COUNT];
    int rank = manta_comm_rank(comm);
    for (int call = 0; call < calls; call++) {
        uint64_t count = COUNT - (uint64_t)(call % 5) * 30; /* all above 4 KiB, below 8 KiB */
        int root = call % RANKS;
        fill(src, rank, count, call);
        if (manta_allreduce(comm, src, dst, count, MANTA_FLOAT64, MANTA_SUM) ||
            check_sum(comm, dst, count, call))
            return rank_fail(comm, "allreduce %d", call);
        fill(src, rank, count, call);
        if (manta_broadcast(comm, src, count, MANTA_FLOAT64, root))
            return rank_fail(comm, "broadcast %d", call);
        for (uint64_t i = 0; i < count; i++)
            if (src[i] != input(root, i, call))
                return rank_fail(comm, "broadcast %d: element %lu", call, (unsigned long)i);
        if (manta_barrier(comm))
            return rank_fail(comm, "barrier %d", call);
    }
    return 0;
}

static const struct mt_algorithm *chosen(const struct manta_comm *comm, int collective,
                                         uint64_t bytes)
{
    return mt_choose_known(comm, (uint32_t)collective, bytes);
}

/* All ranks have decided, for the same algorithm. */
static int is_agreed(struct manta_comm *comm, int collective, uint64_t bytes)
{
    const struct mt_algorithm *mine = chosen(comm, collective, bytes);
    uint64_t place = (uint64_t)(uintptr_t)mine, least, most;
    if (!mine)
        return !rank_fail(comm, "collective %d is not decided", collective);
    /* Of a size class that is still tried: what it compares is another one. */
    if (manta_allreduce(comm, &place, &least, 1, MANTA_UINT64, MANTA_MIN) ||
        manta_allreduce(comm, &place, &most, 1, MANTA_UINT64, MANTA_MAX))
        return !rank_fail(comm, "it cannot be compared");
    return least == most || !rank_fail(comm, "ranks differ");
}

static int decide(struct manta_comm *comm, void *arg)
{
    char text[2048];
    (void)arg;
    uint64_t bytes = COUNT * sizeof(double);
    if (chosen(comm, MANTA_ALLREDUCE, bytes))
        return rank_fail(comm, "decided before the first call");
    if (run_calls(comm, 10))
        return 1;
    if (comm->feedback && chosen(comm, MANTA_BROADCAST, bytes))
        return rank_fail(comm, "decided before all were tried");
    if (run_calls(comm, CALLS) || !is_agreed(comm, MANTA_ALLREDUCE, bytes) ||
        !is_agreed(comm, MANTA_BROADCAST, bytes) || !is_agreed(comm, MANTA_BARRIER, 1))
        return 1;
    if (manta_explain(comm, MANTA_BROADCAST, COUNT, MANTA_FLOAT64, MANTA_SUM, 0, text, sizeof text))
        return rank_fail(comm, "no explanation");
    if (!strstr(text, " us measured") || !strstr(text, ", chosen"))
        return rank_fail(comm, "it explains: %s", text);
    return 0;
}

static void all_ranks_decide_alike(void **state)
{
    (void)state;
    assert_int_equal(ranks_run(&on_node, decide, NULL), 0);
    assert_int_equal(ranks_run(&on_nodes, decide, NULL), 0);
}

/* What was tried is of the class of the model's best: what is not has no measured time. */
static int compare_classes(struct manta_comm *comm, void *arg)
{
    struct mt_select_candidate candidates[MT_SELECT_CANDIDATES];
    struct mt_error error;
    uint32_t count, measured = 0;
    const char *forced;
    const struct mt_arguments arguments = {.collective = MANTA_ALLREDUCE,
                                           .root = MANTA_PLAN_NONE,
                                           .count = COUNT,
                                           .dtype = MANTA_FLOAT64};
    (void)arg;
    if (run_calls(comm, CALLS))
        return 1;
    if (mt_choose_candidates(comm, &arguments, candidates, MT_SELECT_CANDIDATES, &count, &forced,
                             &error))
        return rank_fail(comm, "%s", error.sentence);
    for (uint32_t i = 0; i < count; i++) {
        const struct mt_algorithm *one = candidates[i].algorithm;
        int has_time = mt_feedback_ns(comm, one, COUNT * sizeof(double)) != 0;
        measured += (uint32_t)has_time;
        if (has_time && one->order != candidates[0].algorithm->order)
            return rank_fail(comm, "%s was tried", one->name);
    }
    return measured >= 2 ? 0 : rank_fail(comm, "%u were tried", measured);
}

static void only_what_gives_the_same_bits_is_tried(void **state)
{
    (void)state;
    assert_int_equal(ranks_run(&on_node, compare_classes, NULL), 0);
}

/* Once it is decided, short calls are remembered as shapes; before, none is. */
static int count_shapes(struct manta_comm *comm, void *arg)
{
    (void)arg;
    int before = 0, after = 0;
    if (run_calls(comm, 3))
        return 1;
    for (int i = 0; i < MT_SHAPES; i++)
        before += comm->shapes[i].entry != NULL;
    if (before)
        return rank_fail(comm, "%d shapes pass by the trial", before);
    if (run_calls(comm, CALLS))
        return 1;
    const struct mt_algorithm *runs = chosen(comm, MANTA_ALLREDUCE, COUNT * sizeof(double));
    for (int i = 0; i < MT_SHAPES; i++)
        after += comm->shapes[i].entry && comm->shapes[i].entry->algorithm == runs;
    if (runs->fused && after == 0)
        return rank_fail(comm, "the fused allreduce has no shape");
    return 0;
}

static void shapes_come_after_the_trial(void **state)
{
    (void)state;
    assert_int_equal(ranks_run(&on_node, count_shapes, NULL), 0);
}

/* Posted calls, several under way: nothing is known of their times, so the model's best stays. */
static int post_calls(struct manta_comm *comm, void *arg)
{
    enum { AT_ONCE = 8 };
    static _Thread_local double src[AT_ONCE][COUNT], dst[AT_ONCE][COUNT];
    struct manta_request *requests[AT_ONCE];
    struct mt_select_candidate candidates[MT_SELECT_CANDIDATES];
    struct mt_error error;
    uint32_t count;
    const char *forced;
    int rank = manta_comm_rank(comm);
    const struct mt_arguments arguments = {.collective = MANTA_ALLREDUCE,
                                           .root = MANTA_PLAN_NONE,
                                           .count = COUNT,
                                           .dtype = MANTA_FLOAT64};
    (void)arg;
    for (int batch = 0; batch < CALLS / AT_ONCE; batch++) {
        for (int k = 0; k < AT_ONCE; k++) {
            fill(src[k], rank, COUNT, k);
            if (manta_allreduce_post(comm, src[k], dst[k], COUNT, MANTA_FLOAT64, MANTA_SUM,
                                     &requests[k]))
                return rank_fail(comm, "post %d of batch %d", k, batch);
        }
        for (int k = AT_ONCE - 1; k >= 0; k--)
            if (manta_wait(requests[k], UINT64_MAX) || check_sum(comm, dst[k], COUNT, k))
                return rank_fail(comm, "wait %d of batch %d", k, batch);
    }
    if (mt_choose_candidates(comm, &arguments, candidates, MT_SELECT_CANDIDATES, &count, &forced,
                             &error))
        return rank_fail(comm, "%s", error.sentence);
    if (chosen(comm, MANTA_ALLREDUCE, COUNT * sizeof(double)) != candidates[0].algorithm)
        return rank_fail(comm, "something was preferred without a time");
    return !is_agreed(comm, MANTA_ALLREDUCE, COUNT * sizeof(double));
}

static void posted_calls_are_tried_and_not_timed(void **state)
{
    (void)state;
    assert_int_equal(ranks_run(&on_node, post_calls, NULL), 0);
    assert_int_equal(ranks_run(&on_nodes, post_calls, NULL), 0);
}

/* One rank posts what the others call. */
static int mix_calls(struct manta_comm *comm, void *arg)
{
    double src[COUNT], dst[COUNT];
    struct manta_request *request;
    int rank = manta_comm_rank(comm);
    (void)arg;
    for (int call = 0; call < CALLS; call++) {
        fill(src, rank, COUNT, call);
        int rc = rank == 1 ? manta_allreduce_post(comm, src, dst, COUNT, MANTA_FLOAT64, MANTA_SUM,
                                                  &request)
                           : manta_allreduce(comm, src, dst, COUNT, MANTA_FLOAT64, MANTA_SUM);
        if (!rc && rank == 1)
            rc = manta_wait(request, UINT64_MAX);
        if (rc || check_sum(comm, dst, COUNT, call))
            return rank_fail(comm, "call %d gives %d", call, rc);
    }
    return !is_agreed(comm, MANTA_ALLREDUCE, COUNT * sizeof(double));
}

static void ranks_may_differ_in_how_they_wait(void **state)
{
    (void)state;
    assert_int_equal(ranks_run(&on_node, mix_calls, NULL), 0);
}

/* The smallest vectors are of the class in which the ranks' own allreduce is. */
static int run_small(struct manta_comm *comm, void *arg)
{
    (void)arg;
    for (int call = 0; call < CALLS; call++) {
        for (uint64_t count = 1; count <= 8; count++) {
            double src[8], dst[8];
            fill(src, manta_comm_rank(comm), count, call);
            if (manta_allreduce(comm, src, dst, count, MANTA_FLOAT64, MANTA_SUM) ||
                check_sum(comm, dst, count, call))
                return rank_fail(comm, "call %d of %lu", call, (unsigned long)count);
        }
    }
    return 0;
}

static void the_class_of_the_agreement_is_tried_too(void **state)
{
    (void)state;
    assert_int_equal(ranks_run(&on_node, run_small, NULL), 0);
    assert_int_equal(ranks_run(&on_nodes, run_small, NULL), 0);
}

static struct ranks_watched rank_2;

/* The others' calls get a short deadline when rank 2 has begun its own, which keeps a long one. */
static int hurry_after_rank_2(struct manta_comm *comm)
{
    uint64_t begun = mt_record_last_collective(comm->record);
    if (ranks_await_call(&rank_2, begun + 1))
        return rank_fail(comm, "rank 2 does not call");
    ranks_hurry(comm, UINT64_C(2000000000));
    return 0;
}

/* A rank leaves the calls that all others make, at some point: everyone learns of it. */
static int leave_early(struct manta_comm *comm, void *arg)
{
    int leaves_at = *(int *)arg, rank = manta_comm_rank(comm);
    double src[COUNT] = {0}, dst[COUNT];
    if (rank == 2)
        atomic_store(&rank_2.comm, comm);
    int rc = manta_barrier(comm);
    for (int call = 0; rc == 0 && call < CALLS; call++) {
        if (rank != 2 && call == leaves_at && hurry_after_rank_2(comm))
            return 1;
        if (rank == 2 && call == leaves_at)
            rc = manta_allreduce(comm, src, dst, COUNT, MANTA_FLOAT32, MANTA_SUM);
        else
            rc = manta_allreduce(comm, src, dst, COUNT, MANTA_FLOAT64, MANTA_SUM);
    }
    ranks_part(&rank_2, comm);
    return rc == MANTA_EMISMATCH ? 0 : rank_fail(comm, "left at %d: %d", leaves_at, rc);
}

static void a_rank_that_calls_something_else_is_found(void **state)
{
    (void)state;
    /* Two algorithms are tried, 12 times each: the ranks agree before call 24. Where its call runs
     * by another algorithm than theirs, they learn of it when the deadline has passed. */
    static const int points[] = {0, 5, 24, 60};
    for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++) {
        int leaves_at = points[i];
        assert_int_equal(ranks_run(&on_node, leave_early, &leaves_at), 0);
        assert_int_equal(ranks_run(&on_nodes, leave_early, &leaves_at), 0);
    }
}

/* An override leaves nothing to try, and so does a group in which one algorithm is possible. */
static int find_nothing(struct manta_comm *comm, void *arg)
{
    (void)arg;
    if (run_calls(comm, 3))
        return 1;
    for (int c = 0; c < MANTA_COLLECTIVE_COUNT; c++)
        for (uint64_t bytes = 1; bytes < 1 << 16; bytes *= 2)
            if (mt_feedback_is_trying(comm, (uint32_t)c, bytes) && c == MANTA_ALLREDUCE)
                return rank_fail(comm, "collective %d is tried", c);
    return 0;
}

static void an_override_rules(void **state)
{
    (void)state;
    setenv("MANTA_ALLREDUCE", "ring", 1);
    assert_int_equal(ranks_run(&on_node, find_nothing, NULL), 0);
    unsetenv("MANTA_ALLREDUCE");
}

static void off_by_default(void **state)
{
    (void)state;
    unsetenv("MANTA_FEEDBACK");
    assert_int_equal(ranks_run(&on_node, find_nothing, NULL), 0);
}

/* The override allows no allreduce among three ranks, which these calls do not need. */
static int broadcast_only(struct manta_comm *comm, void *arg)
{
    double data[COUNT] = {0};
    (void)arg;
    for (int call = 0; call < CALLS; call++) {
        data[COUNT - 1] = manta_comm_rank(comm) == 1 ? call : -1;
        if (manta_broadcast(comm, data, COUNT, MANTA_FLOAT64, 1))
            return rank_fail(comm, "broadcast %d", call);
        if (data[COUNT - 1] != call)
            return rank_fail(comm, "broadcast %d gives %g", call, data[COUNT - 1]);
    }
    if (!chosen(comm, MANTA_BROADCAST, sizeof(data)))
        return rank_fail(comm, "nothing is decided");
    return 0;
}

static void without_an_allreduce_the_models_best_stays(void **state)
{
    static const struct ranks_options three = {.ranks = 3};
    (void)state;
    setenv("MANTA_ALLREDUCE", "swing", 1);
    int failed = ranks_run(&three, broadcast_only, NULL);
    unsetenv("MANTA_ALLREDUCE");
    assert_int_equal(failed, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, switch_on, switch_off)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_ranks_decide_alike),
        TEST(only_what_gives_the_same_bits_is_tried),
        TEST(shapes_come_after_the_trial),
        TEST(posted_calls_are_tried_and_not_timed),
        TEST(ranks_may_differ_in_how_they_wait),
        TEST(the_class_of_the_agreement_is_tried_too),
        TEST(a_rank_that_calls_something_else_is_found),
        TEST(an_override_rules),
        TEST(without_an_allreduce_the_models_best_stays),
        TEST(off_by_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
