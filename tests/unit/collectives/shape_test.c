/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that were made before: more of them than are remembered, several of one shape and of many
 * under way, plans thrown away under them, failures while they are in use, and everything at
 * random. Ranks are threads that share memory, so that each collective is one fused step; or they
 * are apart, and what is remembered are messages, and plans of several steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "collectives/comm.h"
#include "tests/support/calls.h"
#include "tests/support/ranks.h"

enum { RANKS = 3, COUNT_MAX = 3000, ROOM = RANKS * COUNT_MAX };

/* A call, its buffers and what it must give. Values are doubles: all sums here are exact. */
struct job {
    struct test_call call;
    int in_place, salt;
    struct manta_request *request;
    double *src, *dst; /* [ROOM] each */
};

static double input(const struct job *job, int rank, uint64_t i)
{
    return (double)((i * 7 + (uint64_t)rank * 5 + (uint64_t)job->salt) % 11) - 4;
}

static double combined(const struct job *job, uint64_t i)
{
    double value = input(job, 0, i);
    for (int r = 1; r < RANKS; r++) {
        double other = input(job, r, i);
        if (job->call.op == MANTA_MIN || job->call.op == MANTA_MAX)
            value = (other < value) == (job->call.op == MANTA_MIN) ? other : value;
        else
            value += other;
    }
    return job->call.op == MANTA_AVG ? value / RANKS : value;
}

static double wanted(const struct job *job, int rank, uint64_t i)
{
    const struct test_call *call = &job->call;
    switch (call->collective) {
    case MANTA_BROADCAST:
        return input(job, call->root, i);
    case MANTA_ALLGATHER:
        return input(job, (int)(i / call->count), i % call->count);
    case MANTA_REDUCE_SCATTER:
        return combined(job, (uint64_t)rank * call->count + i);
    default:
        return combined(job, i);
    }
}

/* Where the call reads and writes on this rank, in place or not. */
static void place(const struct job *job, int rank, double **src_out, double **dst_out)
{
    uint64_t part = (uint64_t)rank * job->call.count;
    *src_out = job->src;
    *dst_out = job->dst;
    if (job->call.collective == MANTA_BROADCAST)
        *src_out = job->dst;
    else if (job->in_place && job->call.collective == MANTA_ALLGATHER)
        *src_out = job->dst + part;
    else if (job->in_place && job->call.collective == MANTA_REDUCE_SCATTER)
        *dst_out = job->src + part;
    else if (job->in_place)
        *src_out = job->dst;
}

static uint64_t elements(const struct job *job, int collective)
{
    return job->call.count * (job->call.collective == collective ? RANKS : 1);
}

static int job_start(struct manta_comm *comm, struct job *job, int posted)
{
    int rank = manta_comm_rank(comm);
    double *src, *dst;
    place(job, rank, &src, &dst);
    memset(job->dst, 0x7f, elements(job, MANTA_ALLGATHER) * sizeof(double));
    for (uint64_t i = 0; i < elements(job, MANTA_REDUCE_SCATTER); i++)
        src[i] = input(job, rank, i);
    job->request = NULL;
    return posted ? test_call_post(comm, &job->call, src, dst, &job->request)
                  : test_call_block(comm, &job->call, src, dst);
}

/* Wait for it if it was posted, and look at what it gave. */
static int job_check(struct manta_comm *comm, struct job *job)
{
    const struct test_call *call = &job->call;
    int rank = manta_comm_rank(comm);
    int rc = job->request ? manta_wait(job->request, UINT64_MAX) : 0;
    double *src, *dst;
    char text[128];
    test_call_word(call, text, sizeof text);
    if (rc)
        return rank_fail(comm, "%s gives %d", text, rc);
    place(job, rank, &src, &dst);
    int writes =
        call->collective == MANTA_REDUCE ? rank == call->root : call->collective != MANTA_BARRIER;
    for (uint64_t i = 0; writes && i < elements(job, MANTA_ALLGATHER); i++)
        if (dst[i] != wanted(job, rank, i))
            return rank_fail(comm, "%s%s: element %lu is %g, not %g", text,
                             job->in_place ? " in place" : "", (unsigned long)i, dst[i],
                             wanted(job, rank, i));
    return 0;
}

static int job_run(struct manta_comm *comm, struct job *job)
{
    return job_start(comm, job, 0) || job_check(comm, job);
}

static struct job job_new(int collective, uint64_t count)
{
    struct job job = {.call = {.collective = collective, .dtype = MANTA_FLOAT64, .count = count}};
    job.src = malloc(ROOM * sizeof(double));
    job.dst = malloc(ROOM * sizeof(double));
    if (!job.src || !job.dst)
        abort();
    return job;
}

static void job_free(struct job *job)
{
    free(job->src);
    free(job->dst);
}

/* How many calls are remembered; fails if one is in use, or if its plan has gone. */
static int remembered(struct manta_comm *comm, int *count_out)
{
    *count_out = 0;
    for (int i = 0; i < MT_SHAPES; i++) {
        const struct mt_shape *shape = &comm->shapes[i];
        const struct mt_entry *entry = comm->cache.newest;
        while (shape->entry && entry && entry != shape->entry)
            entry = entry->older;
        if (shape->entry && (!entry || shape->users || entry->users))
            return rank_fail(comm, "shape %d: %s", i, entry ? "is in use" : "its plan has gone");
        *count_out += shape->entry != NULL;
    }
    return 0;
}

/* 200 shapes in turn, three times over: more than there are places. */
static int more_than_places(struct manta_comm *comm, void *arg)
{
    static const int collectives[] = {MANTA_ALLREDUCE, MANTA_ALLGATHER, MANTA_REDUCE_SCATTER,
                                      MANTA_REDUCE, MANTA_BROADCAST};
    struct job job = job_new(MANTA_ALLREDUCE, 1);
    int count, failed = 0;
    uint64_t compiled = 0;
    (void)arg;
    for (int round = 0; round < 3 && !failed; round++) {
        for (int i = 0; i < 200 && !failed; i++) {
            job.call.collective = collectives[i % 5];
            job.call.count = (uint64_t)(1 + i * 13 % 997);
            job.call.root = i % RANKS;
            job.salt = round + i;
            failed = job_run(comm, &job);
        }
        failed = failed || remembered(comm, &count);
        if (!failed && (count <= MT_SHAPES / 2 || count > MT_SHAPES))
            failed = rank_fail(comm, "%d shapes are remembered", count);
        if (!failed && round > 0 && compiled != comm->counters.plans_compiled)
            failed = rank_fail(comm, "plans are compiled again");
        compiled = comm->counters.plans_compiled;
    }
    job_free(&job);
    return failed;
}

/* When all places have been taken, by calls that are over, two in turn find theirs: a broadcast
 * from each rank in turn. */
static int two_in_turn(struct manta_comm *comm, void *arg)
{
    struct job job = job_new(MANTA_ALLREDUCE, 1);
    int failed = 0;
    (void)arg;
    for (int i = 0; i < 8 * MT_SHAPES && !failed; i++) {
        job.call.count = (uint64_t)(1 + i % ROOM);
        failed = job_run(comm, &job);
    }
    job.call.collective = MANTA_BROADCAST;
    for (int i = 0; i < 64 * RANKS && !failed; i++) {
        job.call.count = (uint64_t)(1 + i / (4 * RANKS));
        job.call.root = i % RANKS;
        failed = job_run(comm, &job);
        struct mt_arguments arguments = {.collective = MANTA_BROADCAST,
                                         .root = (uint32_t)job.call.root,
                                         .count = job.call.count,
                                         .dtype = MANTA_FLOAT64};
        if (!failed && i % (4 * RANKS) >= 3 * RANKS)
            for (arguments.root = 0; arguments.root < RANKS; arguments.root++)
                if (!mt_shape_find(comm, &arguments))
                    failed = rank_fail(comm, "broadcast from %u of %lu was forgotten",
                                       arguments.root, (unsigned long)arguments.count);
    }
    job_free(&job);
    return failed;
}

/* Of one shape 8, and of 150 others one each, all under way at once; ended from the last to the
 * first. There are not places for all of them. */
static int many_under_way(struct manta_comm *comm, void *arg)
{
    enum { SAME = 8, OTHERS = 150 };
    static _Thread_local struct job jobs[SAME + OTHERS];
    int failed = 0, count;
    (void)arg;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < SAME + OTHERS; i++) {
            jobs[i] = job_new(MANTA_ALLREDUCE, i < SAME ? 5 : (uint64_t)i);
            jobs[i].salt = i + round;
            jobs[i].in_place = i % 3 == 1;
            if (job_start(comm, &jobs[i], 1))
                return rank_fail(comm, "cannot post call %d", i);
        }
        for (int i = SAME + OTHERS - 1; i >= 0; i--) {
            failed = failed || job_check(comm, &jobs[i]);
            job_free(&jobs[i]);
        }
    }
    return failed || remembered(comm, &count);
}

/* The same arguments in place and not, with AVG among the ops, and nothing at all in between. */
static int alike_but_not_the_same(struct manta_comm *comm, void *arg)
{
    static const int ops[] = {MANTA_SUM, MANTA_AVG, MANTA_MIN, MANTA_AVG, MANTA_MAX};
    static const int collectives[] = {MANTA_ALLREDUCE, MANTA_REDUCE, MANTA_REDUCE_SCATTER,
                                      MANTA_ALLGATHER};
    struct job job = job_new(MANTA_ALLREDUCE, 7), nothing = job_new(MANTA_ALLREDUCE, 0);
    int failed = 0, count;
    (void)arg;
    for (int i = 0; i < 400 && !failed; i++) {
        job.call.collective = nothing.call.collective = collectives[i / 10 % 4];
        job.call.op = nothing.call.op = ops[i % 5];
        job.call.root = nothing.call.root = i / 40 % RANKS;
        job.call.count = i % 20 < 10 ? 7 : 1700; /* one line, and a ring */
        job.in_place = i / 3 % 2;
        job.salt = i;
        failed = job_run(comm, &job) || job_run(comm, &nothing);
    }
    job_free(&job);
    job_free(&nothing);
    return failed || remembered(comm, &count);
}

/* Room for four plans, which the roots alone need more of: each call throws away a plan, and what
 * was remembered with it. */
static int plans_thrown_away(struct manta_comm *comm, void *arg)
{
    struct job job = job_new(MANTA_BROADCAST, 9);
    struct job held[2] = {job_new(MANTA_ALLREDUCE, 9), job_new(MANTA_ALLREDUCE, 9)};
    int failed = job_run(comm, &job), count;
    uint64_t before = comm->counters.plans_compiled;
    (void)arg;
    comm->cache.capacity = 4;
    for (int i = 0; i < 60 && !failed; i++) {
        job.call.collective = i % 2 ? MANTA_BROADCAST : MANTA_REDUCE;
        job.call.root = i / 2 % RANKS;
        job.salt = held[0].salt = held[1].salt = i;
        held[1].in_place = i / 2 % 2;
        failed = job_start(comm, &held[0], 1) || job_start(comm, &held[1], 1) ||
                 job_run(comm, &job) || job_check(comm, &held[1]) || job_check(comm, &held[0]) ||
                 remembered(comm, &count);
        if (!failed && (comm->cache.count > 4 || count > 4))
            failed = rank_fail(comm, "%u plans, %d shapes", comm->cache.count, count);
    }
    if (!failed && comm->counters.plans_compiled < before + 20)
        failed = rank_fail(comm, "no plan was thrown away");
    job_free(&job);
    job_free(&held[0]);
    job_free(&held[1]);
    return failed;
}

static _Atomic int under_way;

/* Rank 1 aborts what the others have posted. */
static int failed_in_use(struct manta_comm *comm, void *arg)
{
    enum { POSTED = 6 };
    struct job jobs[POSTED];
    int failed = 0, count;
    (void)arg;
    for (int i = 0; i < POSTED; i++) {
        jobs[i] = job_new(MANTA_ALLREDUCE, i % 2 ? 7 : 1700);
        failed |= job_run(comm, &jobs[i]);
    }
    if (manta_barrier(comm))
        return rank_fail(comm, "barrier");
    if (manta_comm_rank(comm) == 1) {
        while (under_way < RANKS - 1)
            continue;
        manta_comm_abort(comm, NULL);
    } else {
        for (int i = 0; i < POSTED; i++)
            failed |= job_start(comm, &jobs[i], 1);
        under_way++;
        for (int i = 0; i < POSTED; i++)
            failed |= manta_wait(jobs[i].request, UINT64_MAX) != MANTA_EABORTED;
    }
    for (int i = 0; i < POSTED; i++) {
        failed |= job_start(comm, &jobs[i], 0) != MANTA_EABORTED;
        job_free(&jobs[i]);
    }
    return failed ? rank_fail(comm, "not all is aborted") : remembered(comm, &count);
}

/* The same draws on every rank. */
static uint64_t draw(uint64_t *seed, uint64_t below)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*seed >> 33) % below;
}

static void job_draw(struct job *job, uint64_t *seed)
{
    static const int collectives[] = {MANTA_ALLREDUCE,      MANTA_BROADCAST, MANTA_REDUCE,
                                      MANTA_ALLGATHER,      MANTA_ALLREDUCE, MANTA_ALLREDUCE,
                                      MANTA_REDUCE_SCATTER, MANTA_BARRIER};
    static const uint64_t counts[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 61, 127, 1000, 1024, 2999};
    static const int ops[] = {MANTA_SUM, MANTA_MIN, MANTA_MAX, MANTA_AVG};
    job->call.collective = collectives[draw(seed, 8)];
    job->call.count = counts[draw(seed, sizeof counts / sizeof counts[0])];
    job->call.op = ops[draw(seed, 4)];
    job->call.root = (int)draw(seed, RANKS);
    job->in_place = (int)draw(seed, 2);
    job->salt = (int)draw(seed, 100);
}

static int at_random(struct manta_comm *comm, void *arg)
{
    enum { AT_ONCE = 8 };
    struct job jobs[AT_ONCE];
    int steps = getenv("TEST_QUICK") ? 600 : 4000, failed = 0, open[AT_ONCE] = {0}, count;
    uint64_t seed = *(const uint64_t *)arg;
    for (int i = 0; i < AT_ONCE; i++)
        jobs[i] = job_new(MANTA_ALLREDUCE, 0);
    for (int step = 0; step < steps && !failed; step++) {
        int i = (int)draw(&seed, AT_ONCE), posted = draw(&seed, 3) > 0;
        if (open[i])
            failed = job_check(comm, &jobs[i]);
        job_draw(&jobs[i], &seed);
        if (!failed)
            failed = job_start(comm, &jobs[i], posted);
        open[i] = 1;
    }
    for (int i = 0; i < AT_ONCE; i++) {
        failed = failed || (open[i] && job_check(comm, &jobs[i]));
        job_free(&jobs[i]);
    }
    return failed || remembered(comm, &count);
}

static void run(rank_fn *fn, void *arg)
{
    const struct ranks_options options = {.ranks = RANKS, .transports = "shm"};
    setenv("MANTA_ALLREDUCE", "fused", 1);
    under_way = 0;
    int failed = ranks_run(&options, fn, arg);
    unsetenv("MANTA_ALLREDUCE");
    assert_int_equal(failed, 0);
}

/* Around the ring, so often that all places are taken: several under way of one count and of
 * others, of one segment and of several. */
static int around(struct manta_comm *comm, void *arg)
{
    enum { LONGEST = 40, UNDER_WAY = 3 };
    int rank = manta_comm_rank(comm), next = (rank + 1) % RANKS, last = (rank + RANKS - 1) % RANKS;
    int count = 0, failed = 0;
    (void)arg;
    for (int i = 0; i < 8 * MT_SHAPES && !failed; i++) {
        int32_t out[UNDER_WAY][LONGEST], in[UNDER_WAY][LONGEST + 1];
        struct manta_request *requests[2 * UNDER_WAY];
        for (int k = 0; k < UNDER_WAY; k++) {
            uint64_t length = (uint64_t)(1 + (i / 2 * 7 + k / 2) % LONGEST);
            for (int j = 0; j < LONGEST; j++)
                out[k][j] = (rank * 64 + k) * 64 + j;
            memset(in[k], 0xee, sizeof(in[k]));
            failed |= manta_recv_post(comm, in[k], length, MANTA_INT32, last, &requests[2 * k]);
            failed |=
                manta_send_post(comm, out[k], length, MANTA_INT32, next, &requests[2 * k + 1]);
        }
        for (int k = 0; k < 2 * UNDER_WAY && !failed; k++)
            failed |= manta_wait(requests[k], UINT64_MAX);
        for (int k = 0; k < UNDER_WAY && !failed; k++)
            for (int j = 0; j <= LONGEST && !failed; j++)
                failed |=
                    in[k][j] != (j < 1 + (i / 2 * 7 + k / 2) % LONGEST ? (last * 64 + k) * 64 + j
                                                                       : (int32_t)0xeeeeeeee);
    }
    return failed ? rank_fail(comm, "a message is wrong") : remembered(comm, &count);
}

static void run_apart(const char *transports, rank_fn *fn, void *arg)
{
    const struct ranks_options options = {.ranks = RANKS, .transports = transports, .nodes = RANKS};
    under_way = 0;
    assert_int_equal(ranks_run(&options, fn, arg), 0);
}

static void test_apart(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++)
        run_apart("tcp", at_random, &seed);
    run_apart("tcp", around, NULL);
    run(around, NULL);
}

/* Messages of several segments are several messages. */
static void test_segments(void **state)
{
    (void)state;
    setenv("MANTA_SEGMENT", "64", 1);
    run_apart("tcp", around, NULL);
    unsetenv("MANTA_SEGMENT");
}

static void test_more_than_places(void **state)
{
    (void)state;
    run(more_than_places, NULL);
}

static void test_two_in_turn(void **state)
{
    (void)state;
    run(two_in_turn, NULL);
}

static void test_many_under_way(void **state)
{
    (void)state;
    run(many_under_way, NULL);
}

static void test_alike_but_not_the_same(void **state)
{
    (void)state;
    run(alike_but_not_the_same, NULL);
}

static void test_plans_thrown_away(void **state)
{
    (void)state;
    run(plans_thrown_away, NULL);
}

static void test_failed_in_use(void **state)
{
    (void)state;
    run(failed_in_use, NULL);
}

static void test_at_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++)
        run(at_random, &seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_more_than_places),
        cmocka_unit_test(test_many_under_way),
        cmocka_unit_test(test_alike_but_not_the_same),
        cmocka_unit_test(test_plans_thrown_away),
        cmocka_unit_test(test_failed_in_use),
        cmocka_unit_test(test_at_random),
        cmocka_unit_test(test_two_in_turn),
        cmocka_unit_test(test_apart),
        cmocka_unit_test(test_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
