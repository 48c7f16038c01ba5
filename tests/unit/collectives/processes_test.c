/* SPDX-License-Identifier: Apache-2.0 */
/* What holds also when no rank can move another's communicator on: crossing posts, splitting while
 * calls are posted, and aborting from a thread that is in no call. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "core/clock.h"
#include "tests/support/rank_processes.h"

static const char *const transports[] = {"shm", "tcp"};

/* Rank 0 posts on A, then blocks in B; rank 1 blocks in A, then B. Large enough that A cannot be
 * complete when posted. */
static int crossing(struct manta_comm *a, void *arg)
{
    enum { COUNT = 500000 };
    (void)arg;
    struct manta_comm *b;
    struct manta_request *request = NULL;
    float *src = calloc(COUNT, sizeof(float)), *dst = calloc(COUNT, sizeof(float));
    int rank = manta_comm_rank(a), rc = manta_comm_split(a, 0, rank, &b);
    if (rc || !src || !dst)
        return rank_fail(a, "split: %d", rc);
    src[COUNT - 1] = 1;
    float one = 1, two = 0;
    if (rank == 0) {
        rc = manta_allreduce_post(a, src, dst, COUNT, MANTA_FLOAT32, MANTA_SUM, &request);
        rc = rc ? rc : manta_allreduce(b, &one, &two, 1, MANTA_FLOAT32, MANTA_SUM);
        rc = rc ? rc : manta_wait(request, UINT64_MAX);
    } else {
        rc = manta_allreduce(a, src, dst, COUNT, MANTA_FLOAT32, MANTA_SUM);
        rc = rc ? rc : manta_allreduce(b, &one, &two, 1, MANTA_FLOAT32, MANTA_SUM);
    }
    if (rc || two != 2 || dst[COUNT - 1] != 2)
        return rank_fail(a, "crossing: %d", rc);
    free(src);
    free(dst);
    return manta_comm_destroy(b);
}

static void test_crossing(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        const struct ranks_options options = {.ranks = 2, .transports = transports[t]};
        assert_int_equal(rank_processes_run(&options, crossing, NULL), 0);
    }
}

/* Rank 0 posts, then splits; the others block in the call, then split: a split lets posted calls go
 * on. */
static int split_while_posted(struct manta_comm *comm, void *arg)
{
    enum { COUNT = 4000000 };
    (void)arg;
    struct manta_comm *other = NULL;
    struct manta_request *request = NULL;
    float *data = calloc(COUNT, sizeof(float));
    int rank = manta_comm_rank(comm), rc;
    data[COUNT - 1] = 1;
    rc = rank == 0
             ? manta_allreduce_post(comm, data, data, COUNT, MANTA_FLOAT32, MANTA_SUM, &request)
             : manta_allreduce(comm, data, data, COUNT, MANTA_FLOAT32, MANTA_SUM);
    rc = rc ? rc : manta_comm_split(comm, 0, 0, &other);
    rc = rc || rank ? rc : manta_wait(request, UINT64_MAX);
    if (rc || data[COUNT - 1] != (float)manta_comm_size(comm))
        return rank_fail(comm, "split while posted: %d", rc);
    free(data);
    return manta_comm_destroy(other);
}

static void test_split_while_posted(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        const struct ranks_options options = {.ranks = 2, .transports = transports[t]};
        assert_int_equal(rank_processes_run(&options, split_while_posted, NULL), 0);
    }
}

/* Each rank but 0 waits in one of three communicators: the one that is aborted, a child with all
 * ranks, a child without rank 0 or without the others. Rank 0 is in no call. */
enum { RANKS = 4, COMMS = 3, SCENES = 3 };

struct scene {
    int number;
    _Atomic int waiting, told; /* ranks */
};

static int check_aborted(struct manta_comm *comm, const char *what, int rc)
{
    struct manta_error_info info = {.size = sizeof(info)};
    manta_comm_error(comm, &info);
    if (rc != MANTA_EABORTED || !strstr(info.sentence, "rank 0 aborted the communicator: enough"))
        return rank_fail(comm, "%s gives %d '%s'", what, rc, info.sentence);
    return 0;
}

static void *abort_it(void *comm)
{
    return (void *)(intptr_t)manta_comm_abort(comm, "enough");
}

static int abort_when_all_wait(struct manta_comm *comm, struct scene *scene)
{
    pthread_t thread;
    void *rc;
    await_stage(&scene->waiting, RANKS - 1);
    if (pthread_create(&thread, NULL, abort_it, comm) || pthread_join(thread, &rc))
        return rank_fail(comm, "no thread");
    return rc ? rank_fail(comm, "abort gives %d", (int)(intptr_t)rc) : 0;
}

static int wait_until_aborted(struct manta_comm *comm, struct scene *scene)
{
    struct manta_request *request;
    float in = 1, out;
    int rc = manta_allreduce_post(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_SUM, &request);
    if (rc)
        return rank_fail(comm, "post: %d", rc);
    atomic_fetch_add(&scene->waiting, 1);
    rc = manta_wait(request, UINT64_MAX);
    atomic_fetch_add(&scene->told, 1);
    return check_aborted(comm, "the call under way", rc);
}

static int aborts(struct manta_comm *parent, void *arg)
{
    struct scene *scene = arg;
    struct manta_comm *comms[COMMS] = {parent};
    int rank = manta_comm_rank(parent), failed = 0;
    if (manta_comm_split(parent, 0, rank, &comms[1]) ||
        manta_comm_split(parent, rank / 2, rank, &comms[2]))
        return rank_fail(parent, "split");
    if (rank == 0)
        failed = abort_when_all_wait(parent, scene);
    else
        failed = wait_until_aborted(comms[(rank + scene->number) % COMMS], scene);
    await_stage(&scene->told, RANKS - 1); /* until then a call here could be what one waits for */
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    for (int i = COMMS - 1; i >= 0; i--) {
        float x = 1;
        int rc = 0; /* a call may still end well between two ranks that do not know yet */
        while (rc == 0 && mt_clock_now_ns() < until_ns)
            rc = manta_allreduce(comms[i], &x, &x, 1, MANTA_FLOAT32, MANTA_SUM);
        failed |= check_aborted(comms[i], i ? "a child" : "the parent", rc);
        if (i > 0)
            failed |= manta_comm_destroy(comms[i]);
    }
    return failed;
}

static void test_abort(void **state)
{
    (void)state;
    for (int run = 0; run < 2 * SCENES; run++) {
        const struct ranks_options options = {.ranks = RANKS, .transports = transports[run % 2]};
        struct scene *scene = shared_memory(sizeof(*scene));
        scene->number = run / 2;
        assert_int_equal(rank_processes_run(&options, aborts, scene), 0);
        munmap(scene, sizeof(*scene));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crossing),
        cmocka_unit_test(test_split_while_posted),
        cmocka_unit_test(test_abort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
