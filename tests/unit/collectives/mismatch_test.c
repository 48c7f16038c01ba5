/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that call different things are told, both calls named, also where the calls themselves end
 * well on each rank because none of them waits for another. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "core/clock.h"
#include "tests/support/ranks.h"

enum { RANKS = 4, COUNT = 100, CALLS_BEFORE = 3, CALLS = 700 };

/* What a rank calls where all should call the same. */
typedef int disagree_fn(struct manta_comm *comm, int rank, float *data);

static int every_rank_is_root(struct manta_comm *comm, int rank, float *data)
{
    return manta_broadcast(comm, data, COUNT, MANTA_FLOAT32, rank);
}

static int one_has_another_root(struct manta_comm *comm, int rank, float *data)
{
    return manta_broadcast(comm, data, COUNT, MANTA_FLOAT32, rank == 2 ? 2 : 0);
}

static int one_broadcasts_others_reduce(struct manta_comm *comm, int rank, float *data)
{
    float result[COUNT];
    return rank == 0 ? manta_broadcast(comm, data, COUNT, MANTA_FLOAT32, 0)
                     : manta_reduce(comm, data, result, COUNT, MANTA_FLOAT32, MANTA_SUM, 0);
}

static int one_has_another_op(struct manta_comm *comm, int rank, float *data)
{
    return manta_allreduce(comm, data, data, COUNT, MANTA_FLOAT32, rank ? MANTA_SUM : MANTA_MAX);
}

static int one_has_nothing(struct manta_comm *comm, int rank, float *data)
{
    return manta_broadcast(comm, data, rank == 1 ? 0 : COUNT, MANTA_FLOAT32, 0);
}

/* The first call that differs is named, whichever call the difference is noticed in. */
static int check(struct manta_comm *comm, int rc)
{
    struct manta_error_info info = {.size = sizeof(info)};
    char number[32];
    manta_comm_error(comm, &info);
    snprintf(number, sizeof(number), "as #%d, rank ", CALLS_BEFORE + 1);
    const char *at = strstr(info.sentence, number);
    if (rc != MANTA_EMISMATCH || info.code != MANTA_EMISMATCH || !at ||
        strncmp(info.sentence, "rank ", 5) != 0 || !strstr(at, "called"))
        return rank_fail(comm, "told %d: '%s'", rc, info.sentence);
    return 0;
}

/* What is refused later has words of its own; the call after it tells of the failure again. */
static int refused_between(struct manta_comm *comm, float *data)
{
    struct manta_error_info info = {.size = sizeof(info)};
    struct manta_comm *child;
    int rc = manta_broadcast(comm, data, COUNT, MANTA_FLOAT32, RANKS);
    manta_comm_error(comm, &info);
    if (rc != MANTA_EINVAL || info.code != rc)
        return rank_fail(comm, "not refused, but %d: '%s'", rc, info.sentence);
    if (check(comm, manta_barrier(comm)))
        return 1;
    (void)manta_broadcast(comm, data, COUNT, MANTA_FLOAT32, RANKS);
    return check(comm, manta_comm_split(comm, 0, 0, &child));
}

/* Called once, then something on which all agree. */
static int once(struct manta_comm *comm, void *arg)
{
    disagree_fn *const *disagree = arg;
    float data[COUNT] = {0};
    int rc = 0;
    for (int i = 0; i < CALLS_BEFORE && !rc; i++)
        rc = manta_allreduce(comm, data, data, COUNT, MANTA_FLOAT32, MANTA_SUM);
    rc = rc ? rc : (*disagree)(comm, manta_comm_rank(comm), data);
    rc = rc ? rc : manta_barrier(comm);
    return check(comm, rc) || refused_between(comm, data);
}

/* A rank that waits for nobody may have made all its calls before the others find out. */
static int await_error(struct manta_comm *comm)
{
    struct manta_error_info info = {.size = sizeof(info)};
    const uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    while (info.code == 0 && mt_clock_now_ns() < until_ns) {
        sched_yield();
        manta_comm_error(comm, &info);
    }
    return info.code;
}

/* And nothing else, ever. */
static int again_and_again(struct manta_comm *comm, void *arg)
{
    disagree_fn *const *disagree = arg;
    float data[COUNT] = {0};
    int rc = 0;
    for (int i = 0; i < CALLS_BEFORE && !rc; i++)
        rc = manta_barrier(comm);
    for (int i = 0; i < CALLS && !rc; i++)
        rc = (*disagree)(comm, manta_comm_rank(comm), data);
    return check(comm, rc ? rc : await_error(comm));
}

static void run(rank_fn *body, disagree_fn *disagree)
{
    static const char *const transports[] = {"shm", "tcp", NULL};
    for (int t = 0; t < 3; t++) {
        const struct ranks_options options = {
            .ranks = RANKS, .transports = transports[t], .nodes = transports[t] ? 1 : 2};
        assert_int_equal(ranks_run(&options, body, &disagree), 0);
    }
}

/* Rank 1 splits where the others meet in a barrier: named at the deadline, both. Theirs passes, and
 * not before rank 1 splits. */
static int one_splits(struct manta_comm *comm, void *arg)
{
    struct ranks_watched *rank_1 = arg;
    struct manta_error_info info = {.size = sizeof(info)};
    struct manta_comm *child;
    if (manta_comm_rank(comm) == 1)
        atomic_store(&rank_1->comm, comm);
    int rc = manta_barrier(comm);
    if (!rc && manta_comm_rank(comm) != 1) {
        rc = ranks_await_call(rank_1, 2);
        ranks_hurry(comm, MT_SECOND / 2);
    }
    if (!rc)
        rc =
            manta_comm_rank(comm) == 1 ? manta_comm_split(comm, 0, 0, &child) : manta_barrier(comm);
    manta_comm_error(comm, &info);
    ranks_part(rank_1, comm);
    if (rc != MANTA_EMISMATCH || !strstr(info.sentence, "called split()") ||
        !strstr(info.sentence, "called barrier()"))
        return rank_fail(comm, "told %d: '%s'", rc, info.sentence);
    return 0;
}

/* All split, but rank 1 has called something more before. */
static int one_has_called_more(struct manta_comm *comm, void *arg)
{
    (void)arg;
    struct manta_error_info info = {.size = sizeof(info)};
    struct manta_comm *child;
    float data[COUNT] = {0};
    int rc = manta_barrier(comm);
    if (!rc && manta_comm_rank(comm) == 1)
        rc = manta_broadcast(comm, data, COUNT, MANTA_FLOAT32, 1);
    rc = rc ? rc : manta_comm_split(comm, 0, 0, &child);
    manta_comm_error(comm, &info);
    if (rc != MANTA_EMISMATCH || !strstr(info.sentence, "called split()") ||
        !strstr(info.sentence, "called broadcast(100 float32, root 1)"))
        return rank_fail(comm, "told %d: '%s'", rc, info.sentence);
    return 0;
}

static int one_has_left(struct manta_comm *comm, void *arg)
{
    (void)arg;
    struct manta_error_info info = {.size = sizeof(info)};
    struct manta_comm *child;
    int rc = manta_barrier(comm);
    if (rc || manta_comm_rank(comm) == 2)
        return rc ? rc : manta_comm_destroy(comm);
    rc = manta_comm_split(comm, 0, 0, &child);
    manta_comm_error(comm, &info);
    if (rc != MANTA_ELEFT || info.rank != 2 || !strstr(info.sentence, "split()"))
        return rank_fail(comm, "told %d: '%s'", rc, info.sentence);
    return manta_comm_destroy(comm);
}

static void test_splits(void **state)
{
    (void)state;
    struct ranks_options options = {.ranks = RANKS};
    struct ranks_watched rank_1 = {.parted = 0};
    assert_int_equal(ranks_run(&options, one_splits, &rank_1), 0);
    assert_int_equal(ranks_run(&options, one_has_called_more, NULL), 0);
    options.keep = 1;
    assert_int_equal(ranks_run(&options, one_has_left, NULL), 0);
}

static void test_once(void **state)
{
    (void)state;
    run(once, every_rank_is_root);
    run(once, one_has_another_root);
    run(once, one_broadcasts_others_reduce);
    run(once, one_has_another_op);
    run(once, one_has_nothing);
}

static void test_again_and_again(void **state)
{
    (void)state;
    run(again_and_again, every_rank_is_root);
    run(again_and_again, one_has_another_root);
    run(again_and_again, one_broadcasts_others_reduce);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_again_and_again),
        cmocka_unit_test(test_splits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
