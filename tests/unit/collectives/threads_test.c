/* SPDX-License-Identifier: Apache-2.0 */
/* Communicators and threads: many at once, busy, abort, deadline, goodbye. What needs ranks that
 * cannot help each other is in processes_test.c. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "collectives/comm.h"
#include "core/clock.h"
#include "tests/support/ranks.h"

static const char *const transports[] = {"shm", "tcp"};

/* Eight communicators, each used by a thread of its own on every rank. */
enum { COMMUNICATORS = 8 };

struct user {
    struct manta_comm *comm;
    int failed;
};

static void *use(void *arg)
{
    struct user *user = arg;
    int rank = manta_comm_rank(user->comm);
    for (int i = 0; i < 30; i++) {
        int64_t in[200], out[200];
        for (int k = 0; k < 200; k++)
            in[k] = rank + i * k;
        if (manta_allreduce(user->comm, in, out, 200, MANTA_INT64, MANTA_SUM) ||
            out[199] != 1 + 2 * 199 * (int64_t)i)
            user->failed = 1;
        if (manta_broadcast(user->comm, in, 200, MANTA_INT64, i % 2) || in[1] != i % 2 + i)
            user->failed = 1;
    }
    return NULL;
}

static int many(struct manta_comm *comm, void *arg)
{
    (void)arg;
    struct user users[COMMUNICATORS];
    pthread_t threads[COMMUNICATORS];
    int failed = 0;
    for (int i = 0; i < COMMUNICATORS; i++) {
        users[i].failed = 0;
        if (manta_comm_split(comm, 0, 0, &users[i].comm))
            return rank_fail(comm, "split %d", i);
    }
    for (int i = 0; i < COMMUNICATORS; i++)
        pthread_create(&threads[i], NULL, use, &users[i]);
    for (int i = 0; i < COMMUNICATORS; i++) {
        pthread_join(threads[i], NULL);
        failed += users[i].failed + manta_comm_destroy(users[i].comm);
    }
    return failed;
}

static void test_many(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        const struct ranks_options options = {.ranks = 2, .transports = transports[t]};
        assert_int_equal(ranks_run(&options, many, NULL), 0);
    }
}

/* A second thread is refused while the first waits, and may abort; then every rank is told. */
static void *intrude(void *arg)
{
    struct manta_comm *comm = arg;
    struct timespec pause = {.tv_nsec = 1000000};
    float x = 0;
    intptr_t busy = 0;
    for (int i = 0; i < 5000 && !busy; i++) {
        nanosleep(&pause, NULL);
        busy = manta_allreduce(comm, NULL, &x, 1, MANTA_FLOAT32, MANTA_SUM) == MANTA_EBUSY;
    }
    manta_comm_abort(comm, "the test says so");
    return (void *)busy;
}

static int aborts(struct manta_comm *comm, void *arg)
{
    (void)arg;
    struct manta_error_info info = {.size = sizeof(info)};
    pthread_t thread;
    void *busy = (void *)1;
    float in = 1, out;
    int rank = manta_comm_rank(comm), ranks = manta_comm_size(comm);
    if (rank == 0)
        pthread_create(&thread, NULL, intrude, comm);
    /* The last rank comes when all is over and known here, too: the others wait until the abort. */
    uint64_t begin_ns = mt_clock_now_ns();
    while (rank == ranks - 1 && info.code == 0 && mt_clock_now_ns() - begin_ns < 10 * MT_SECOND) {
        sched_yield();
        manta_comm_error(comm, &info);
    }
    /* The intruder, too, is inside for as long as it takes to refuse its arguments. */
    int rc;
    do
        rc = manta_allreduce(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_SUM);
    while (rc == MANTA_EBUSY);
    if (rank == 0)
        pthread_join(thread, &busy);
    manta_comm_error(comm, &info);
    if (rc != MANTA_EABORTED || !strstr(info.sentence, "the test says so") || !busy)
        return rank_fail(comm, "abort gives %d '%s', busy %d", rc, info.sentence, busy != NULL);
    return manta_allreduce(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_SUM) != MANTA_EABORTED;
}

static void test_abort(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        const struct ranks_options options = {.ranks = 3, .transports = transports[t]};
        assert_int_equal(ranks_run(&options, aborts, NULL), 0);
    }
}

/* For calls once the ranks are connected. */
#define SHORT_NS (300 * (uint64_t)MT_MS)

static void await_error(struct manta_comm *comm, struct manta_error_info *info)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    do {
        nanosleep(&pause, NULL);
        manta_comm_error(comm, info);
    } while (info->code == 0 && mt_clock_now_ns() < until_ns);
}

/* The deadline names the rank that did not come, and the buffers are the caller's again. Rank 2's
 * passes, and not before rank 0 has called, too. */
static int deadline(struct manta_comm *comm, void *arg)
{
    struct ranks_watched *rank_0 = arg;
    struct manta_error_info info = {.size = sizeof(info)};
    float in[1000] = {1}, out[1000];
    if (manta_comm_rank(comm) == 0)
        atomic_store(&rank_0->comm, comm);
    if (manta_barrier(comm))
        return 1;
    if (manta_comm_rank(comm) == 1)
        await_error(comm, &info);
    if (manta_comm_rank(comm) == 2 && ranks_await_call(rank_0, 2))
        return rank_fail(comm, "rank 0 does not call");
    if (manta_comm_rank(comm) == 2)
        ranks_hurry(comm, SHORT_NS);
    int rc = manta_allreduce(comm, in, out, 1000, MANTA_FLOAT32, MANTA_SUM);
    manta_comm_error(comm, &info);
    if (rc != MANTA_ETIMEOUT || info.rank != 1 || !strstr(info.sentence, "rank 1"))
        return rank_fail(comm, "the deadline gives %d, rank %d, '%s'", rc, info.rank,
                         info.sentence);
    memset(out, 0x77, sizeof(out));
    ranks_part(rank_0, comm);
    return 0;
}

static void test_deadline(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        const struct ranks_options options = {.ranks = 3, .transports = transports[t]};
        struct ranks_watched rank_0 = {.parted = 0};
        assert_int_equal(ranks_run(&options, deadline, &rank_0), 0);
    }
}

/* A call is posted, the thread goes elsewhere, and rank 1 never calls it: all are told. */
static int deadline_of_posted(struct manta_comm *comm, void *arg)
{
    struct ranks_watched *rank_0 = arg;
    struct manta_error_info info = {.size = sizeof(info)};
    struct manta_request *request;
    float in = 1, out;
    if (manta_comm_rank(comm) == 0)
        atomic_store(&rank_0->comm, comm);
    if (manta_barrier(comm))
        return 1;
    if (manta_comm_rank(comm) != 1 &&
        manta_allreduce_post(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_SUM, &request))
        return rank_fail(comm, "cannot post");
    if (manta_comm_rank(comm) == 2 && ranks_await_call(rank_0, 2))
        return rank_fail(comm, "rank 0 does not post");
    if (manta_comm_rank(comm) == 2)
        ranks_hurry(comm, SHORT_NS);
    await_error(comm, &info);
    if (info.code != MANTA_ETIMEOUT || info.rank != 1 || !strstr(info.sentence, "has not called"))
        return rank_fail(comm, "told %d, rank %d, '%s'", info.code, info.rank, info.sentence);
    if (manta_comm_rank(comm) != 1 && manta_wait(request, UINT64_MAX) != MANTA_ETIMEOUT)
        return rank_fail(comm, "the request does not fail");
    ranks_part(rank_0, comm);
    return 0;
}

static void test_deadline_of_posted(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        const struct ranks_options options = {.ranks = 3, .transports = transports[t]};
        struct ranks_watched rank_0 = {.parted = 0};
        assert_int_equal(ranks_run(&options, deadline_of_posted, &rank_0), 0);
    }
}

/* The first call of a plan whose peers are not connected yet is posted, and one after it: on no
 * rank may the second overtake the first. */
static int in_order(struct manta_comm *comm, void *arg)
{
    (void)arg;
    struct manta_request *first, *second;
    float in[4] = {1, 2, 3, 4}, out[4] = {0};
    int rank = manta_comm_rank(comm), is_done = 0, rc = 0;
    for (int i = 0; i < 3 && !rc; i++)
        rc = manta_barrier(comm);
    rc = rc ? rc : manta_allreduce_post(comm, in, out, 4, MANTA_FLOAT32, MANTA_SUM, &first);
    if (!rc && rank == 1) {
        rc = manta_test(first);
        is_done = rc == 0;
        rc = rc == MANTA_INPROGRESS ? 0 : rc;
    }
    rc = rc ? rc : manta_barrier_post(comm, &second);
    rc = rc || is_done ? rc : manta_wait(first, UINT64_MAX);
    rc = rc ? rc : manta_wait(second, UINT64_MAX);
    if (rc || out[3] != 4 * (float)manta_comm_size(comm))
        return rank_fail(comm, "calls in order end with %d", rc);
    return 0;
}

static void test_in_order(void **state)
{
    (void)state;
    for (int ranks = 2; ranks <= 4; ranks += 2) {
        const struct ranks_options options = {.ranks = ranks, .transports = "shm"};
        for (int i = 0; i < 3; i++)
            assert_int_equal(ranks_run(&options, in_order, NULL), 0);
    }
}

/* A wait that runs out of its own time harms nothing. */
static int short_wait(struct manta_comm *comm, void *arg)
{
    (void)arg;
    struct manta_request *request;
    float in = 1, out = 0;
    int rank = manta_comm_rank(comm);
    if (rank == 0) {
        if (manta_allreduce_post(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_SUM, &request))
            return 1;
        if (manta_wait(request, 2000000) != MANTA_INPROGRESS ||
            manta_test(request) != MANTA_INPROGRESS)
            return rank_fail(comm, "a wait of 2 ms did not run out");
        if (manta_send(comm, &in, 1, MANTA_FLOAT32, 1) || manta_wait(request, UINT64_MAX))
            return rank_fail(comm, "the call does not finish");
    } else {
        if (manta_recv(comm, &in, 1, MANTA_FLOAT32, 0) ||
            manta_allreduce(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_SUM))
            return rank_fail(comm, "the call does not finish");
    }
    return out != 2;
}

static void test_short_wait(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        const struct ranks_options options = {.ranks = 2, .transports = transports[t]};
        assert_int_equal(ranks_run(&options, short_wait, NULL), 0);
    }
}

/* A rank that destroyed its communicator is named by those that still call. */
static int leaves(struct manta_comm *comm, void *arg)
{
    (void)arg;
    struct manta_error_info info = {.size = sizeof(info)};
    float in = 1, out;
    if (manta_allreduce(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_SUM) || out != 3)
        return rank_fail(comm, "first call");
    if (manta_comm_rank(comm) == 2)
        return manta_comm_destroy(comm);
    int rc = manta_allreduce(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_SUM);
    manta_comm_error(comm, &info);
    if (rc != MANTA_ELEFT || info.rank != 2)
        return rank_fail(comm, "a call without rank 2 gives %d, rank %d, '%s'", rc, info.rank,
                         info.sentence);
    return manta_comm_destroy(comm);
}

static void test_leaves(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        const struct ranks_options options = {.ranks = 3, .transports = transports[t], .keep = 1};
        assert_int_equal(ranks_run(&options, leaves, NULL), 0);
    }
}

/* The same for one that polls, and for a receive in slices. */
static int leaves_pollers(struct manta_comm *comm, void *arg)
{
    (void)arg;
    struct manta_request *request;
    float in = 1, out;
    if (manta_barrier(comm))
        return rank_fail(comm, "barrier");
    if (manta_comm_rank(comm) == 1)
        return manta_comm_destroy(comm);
    int rc = manta_comm_rank(comm) == 0
                 ? manta_allreduce_post(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_SUM, &request)
                 : manta_recv_post(comm, &out, 1, MANTA_FLOAT32, 1, &request);
    while (rc == 0 || rc == MANTA_INPROGRESS)
        rc = manta_comm_rank(comm) == 0 ? manta_test(request) : manta_wait(request, 20000000);
    if (rc != MANTA_ELEFT)
        return rank_fail(comm, "a poller is told %d", rc);
    return manta_comm_destroy(comm);
}

static void test_leaves_pollers(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        const struct ranks_options options = {.ranks = 3, .transports = transports[t], .keep = 1};
        assert_int_equal(ranks_run(&options, leaves_pollers, NULL), 0);
    }
}

/* What a rank sent last is received, also by one that has polled in vain for long and looks at few
 * of its many peers at a time. The others leave one after the other. */
enum { CROWD = 18, LAST_WORDS = 6 };

static int poll_for_last_words(struct manta_comm *comm, int peer)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    struct manta_error_info info = {.size = sizeof(info)};
    struct manta_request *request;
    float word = 0;
    int rc = manta_recv_post(comm, &word, 1, MANTA_FLOAT32, peer, &request);
    while (rc == 0 && (rc = manta_test(request)) == MANTA_INPROGRESS) {
        nanosleep(&pause, NULL);
        rc = 0;
    }
    manta_comm_error(comm, &info);
    return rc || word != (float)peer
               ? rank_fail(comm, "the last word of %d: %d, %s", peer, rc, info.sentence)
               : 0;
}

static int says_last_words(struct manta_comm *comm, void *arg)
{
    _Atomic int *turn = arg;
    const struct timespec pause = {.tv_nsec = 300000000};
    int rank = manta_comm_rank(comm), failed = 0;
    if (manta_barrier(comm))
        return rank_fail(comm, "barrier");
    for (int peer = 1; rank == 0 && peer <= LAST_WORDS && !failed; peer++) {
        atomic_store(turn, peer);
        failed = poll_for_last_words(comm, peer);
    }
    if (rank == 0)
        atomic_store(turn, CROWD);
    while (atomic_load(turn) < rank)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (rank > 0 && rank <= LAST_WORDS && atomic_load(turn) == rank) {
        float word = (float)rank;
        nanosleep(&pause, NULL);
        failed = manta_send(comm, &word, 1, MANTA_FLOAT32, 0);
    }
    return manta_comm_destroy(comm) || failed;
}

static void test_last_words(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        _Atomic int turn = 0;
        const struct ranks_options options = {
            .ranks = CROWD, .transports = transports[t], .keep = 1};
        assert_int_equal(ranks_run(&options, says_last_words, &turn), 0);
    }
}

/* Whoever sees a way to a rank close must know by then that it has left: it said so before, and
 * they have seen it. */
static struct manta_transport watched;
static void (*close_of_it)(void *handle);
static struct {
    _Atomic int seen; /* how many ranks have seen the goodbye */
    _Atomic int at_close;
} goodbye;

static int await_goodbye(int wanted)
{
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    while (atomic_load(&goodbye.seen) < wanted && mt_clock_now_ns() < until_ns)
        sched_yield();
    return atomic_load(&goodbye.seen);
}

static void close_late(void *handle)
{
    atomic_store(&goodbye.at_close, await_goodbye(2));
    close_of_it(handle);
}

static int leaves_in_order(struct manta_comm *comm, void *arg)
{
    (void)arg;
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    int has_left = 0;
    if (manta_barrier(comm))
        return rank_fail(comm, "barrier");
    if (manta_comm_rank(comm) == 2) {
        watched = *comm->endpoints[0].transport;
        close_of_it = watched.close;
        watched.close = close_late;
        comm->endpoints[0].transport = &watched;
        return manta_comm_destroy(comm);
    }
    while (!has_left && mt_clock_now_ns() < until_ns) {
        has_left = mt_control_left(comm->control, 2, NULL);
        sched_yield();
    }
    atomic_fetch_add(&goodbye.seen, has_left);
    return manta_comm_destroy(comm);
}

static void test_goodbye_before_the_end(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        const struct ranks_options options = {.ranks = 3, .transports = transports[t], .keep = 1};
        atomic_store(&goodbye.seen, 0);
        atomic_store(&goodbye.at_close, 0);
        assert_int_equal(ranks_run(&options, leaves_in_order, NULL), 0);
        assert_int_equal(goodbye.at_close, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_short_wait),
        cmocka_unit_test(test_leaves),
        cmocka_unit_test(test_leaves_pollers),
        cmocka_unit_test(test_last_words),
        cmocka_unit_test(test_deadline_of_posted),
        cmocka_unit_test(test_goodbye_before_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
