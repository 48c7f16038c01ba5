/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that waits for a late one does not burn its core, whatever it waits in, and a communicator
 * that nobody calls costs nothing. What is bounded is CPU time, not time: a busy machine makes a
 * sleeping rank use less of it, not more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "core/clock.h"
#include "tests/support/rank_processes.h"

/* A sanitizer takes several times as long for each look; a rank that burns its core uses 100 %. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LATE_S = 1, PERCENT_MAX = 12 };
#else
enum { LATE_S = 1, PERCENT_MAX = 3 };
#endif

enum { TRIES = 5 };

enum way { BLOCKED, POSTED, RECEIVING, BESIDE, IDLE };

static const char *const way_names[] = {"blocked", "posted", "receiving",
                                        "waiting beside a posted call", "idle"};

struct scene {
    enum way way;
    clockid_t clock; /* of the CPU time: of the process, or of the thread where ranks are threads */
};

static uint64_t cpu_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * MT_SECOND + (uint64_t)t.tv_nsec;
}

/* The time that the late rank is late; no event stands for it. */
static void be_late(void)
{
    const struct timespec pause = {.tv_sec = LATE_S};
    nanosleep(&pause, NULL);
}

static int meet(struct manta_comm *comm, enum way way)
{
    int32_t value = 1;
    struct manta_request *request;
    int rank = manta_comm_rank(comm);
    switch (way) {
    case RECEIVING:
        if (rank > 0)
            return manta_recv(comm, &value, 1, MANTA_INT32, 0);
        for (int to = 1, rc = 0; to < manta_comm_size(comm); to++)
            if ((rc = manta_send(comm, &value, 1, MANTA_INT32, to)))
                return rc;
        return 0;
    case POSTED:
        if (manta_allreduce_post(comm, &value, &value, 1, MANTA_INT32, MANTA_SUM, &request))
            return -1;
        return manta_wait(request, UINT64_MAX);
    default:
        return manta_allreduce(comm, &value, &value, 1, MANTA_INT32, MANTA_SUM);
    }
}

/* Wait in one communicator while a call is posted in another, which the wait also moves on. */
static int meet_beside(struct manta_comm *comm, struct manta_comm *other)
{
    int32_t value = 1;
    struct manta_request *request;
    if (manta_allreduce_post(other, &value, &value, 1, MANTA_INT32, MANTA_SUM, &request) ||
        meet(comm, BLOCKED))
        return -1;
    return manta_wait(request, UINT64_MAX);
}

/* The CPU time that this rank used meanwhile; 1 if a call failed. */
static int wait_once(struct manta_comm *comm, struct manta_comm *other, const struct scene *scene,
                     uint64_t *used_ns_out)
{
    uint64_t before = cpu_ns(scene->clock);
    if (manta_comm_rank(comm) == 0 || scene->way == IDLE)
        be_late();
    int rc = other ? meet_beside(comm, other) : meet(comm, scene->way);
    *used_ns_out = cpu_ns(scene->clock) - before;
    return rc != 0;
}

/* Until no rank has used too much: what a hypervisor takes may count as used, once or twice, and a
 * rank that burns its core does so each time. */
static int wait_for_rank_0(struct manta_comm *comm, void *arg)
{
    const struct scene *scene = arg;
    struct manta_comm *other = NULL;
    uint64_t used = 0;
    int32_t is_too_much = 1, any = 1;
    if (scene->way == BESIDE && manta_comm_split(comm, 0, 0, &other))
        return rank_fail(comm, "split");
    if (other ? meet_beside(comm, other) : meet(comm, scene->way)) /* opens connections */
        return rank_fail(comm, "first call");
    for (int i = 0; i < TRIES && any; i++) {
        if (wait_once(comm, other, scene, &used))
            return rank_fail(comm, "second call");
        is_too_much = used * 100 > LATE_S * MT_SECOND * PERCENT_MAX;
        if (manta_allreduce(comm, &is_too_much, &any, 1, MANTA_INT32, MANTA_MAX))
            return rank_fail(comm, "comparison");
    }
    if (other)
        manta_comm_destroy(other);
    if (any && is_too_much)
        return rank_fail(comm, "used %llu us of CPU time while %s for %d s",
                         (unsigned long long)used / 1000, way_names[scene->way], LATE_S);
    return any;
}

static void run_processes(const char *transports, int ranks)
{
    struct scene scene = {.clock = CLOCK_PROCESS_CPUTIME_ID};
    const struct ranks_options options = {.ranks = ranks, .transports = transports};
    for (scene.way = BLOCKED; scene.way <= IDLE; scene.way++)
        assert_int_equal(rank_processes_run(&options, wait_for_rank_0, &scene), 0);
}

static void test_shm(void **state)
{
    (void)state;
    run_processes("shm", 8);
}

static void test_tcp(void **state)
{
    (void)state;
    run_processes("tcp", 3);
}

static void test_threads(void **state)
{
    struct scene scene = {.clock = CLOCK_THREAD_CPUTIME_ID};
    const struct ranks_options options = {.ranks = 4};
    (void)state;
    for (scene.way = BLOCKED; scene.way <= IDLE; scene.way++)
        assert_int_equal(ranks_run(&options, wait_for_rank_0, &scene), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shm),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
