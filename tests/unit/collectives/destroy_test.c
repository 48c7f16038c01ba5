/* SPDX-License-Identifier: Apache-2.0 */
/* Communicators that are destroyed while calls are posted: what becomes of the calls, of the other
 * ranks, and of the communicators that were split from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "collectives/comm.h"
#include "core/clock.h"
#include "tests/support/meeting.h"
#include "tests/support/ranks.h"

enum { RANKS = 3, COUNT = 100, CALLS = 20 };

static const char *const transports[] = {"shm", "tcp"};
static struct meeting phase;

static void run(rank_fn *fn)
{
    for (int t = 0; t < 2; t++) {
        const struct ranks_options options = {
            .ranks = RANKS, .transports = transports[t], .keep = 1};
        meeting_begin(&phase, RANKS);
        assert_int_equal(ranks_run(&options, fn, NULL), 0);
        meeting_end(&phase);
    }
}

static int sum_often(struct manta_comm *comm)
{
    int64_t in[COUNT], out[COUNT];
    int rank = manta_comm_rank(comm), rc = 0;
    for (int call = 0; call < CALLS && rc == 0; call++) {
        for (int i = 0; i < COUNT; i++)
            in[i] = rank + call * i;
        rc = manta_allreduce(comm, in, out, COUNT, MANTA_INT64, MANTA_SUM);
        if (rc == 0 && out[COUNT - 1] != 3 + 3 * (int64_t)call * (COUNT - 1))
            rc = 1;
    }
    return rc;
}

static void await_error(struct manta_comm *comm, struct manta_error_info *info)
{
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    do {
        sched_yield();
        manta_comm_error(comm, info);
    } while (info->code == 0 && mt_clock_now_ns() < until_ns);
}

/* What a rank is told whose communicator has been destroyed on rank 0. */
static int is_told(struct manta_comm *comm)
{
    struct manta_error_info info = {.size = sizeof(info)};
    await_error(comm, &info);
    if (info.code != MANTA_ELEFT || info.rank != 0 ||
        !strstr(info.sentence, "rank 0 has destroyed its communicator with calls under way") ||
        !strstr(info.sentence, "recv(1 float32, from 1)"))
        return !rank_fail(comm, "told %d, rank %d, '%s'", info.code, info.rank, info.sentence);
    return manta_barrier(comm) == MANTA_ELEFT;
}

/* Rank 0 destroys the whole with a receive posted: that fails, on all ranks; the part goes on. */
static int part_goes_on(struct manta_comm *comm, void *arg)
{
    (void)arg;
    struct manta_error_info info = {.size = sizeof(info)};
    struct manta_comm *part;
    struct manta_request *request;
    float data;
    int rank = manta_comm_rank(comm), failed = 0;
    if (manta_comm_split(comm, 0, 0, &part) || sum_often(part))
        return rank_fail(comm, "no part to begin with");
    if (rank == 0)
        failed =
            manta_recv_post(comm, &data, 1, MANTA_FLOAT32, 1, &request) || manta_comm_destroy(comm);
    else
        failed = !is_told(comm);
    meeting_wait(&phase);
    int rc = sum_often(part);
    manta_comm_error(part, &info);
    if (rc)
        failed |= rank_fail(part, "a call of the part gives %d '%s'", rc, info.sentence);
    meeting_wait(&phase);
    return failed | manta_comm_destroy(part) | (rank ? manta_comm_destroy(comm) : 0);
}

static void test_part_goes_on(void **state)
{
    (void)state;
    run(part_goes_on);
}

/* What has been sent is there, though rank 0 has not looked since it posted its receives. */
static int receives_without_looking(struct manta_comm *comm)
{
    struct manta_request *requests[RANKS];
    float data[RANKS] = {0};
    int rc = 0;
    for (int r = 1; r < RANKS && !rc; r++) /* so that they are connected */
        rc = manta_recv(comm, data, 1, MANTA_FLOAT32, r);
    for (int r = 1; r < RANKS && !rc; r++)
        rc = manta_recv_post(comm, &data[r], 1, MANTA_FLOAT32, r, &requests[r]);
    meeting_wait(&phase);
    meeting_wait(&phase);
    rc = rc ? rc : manta_comm_destroy(comm);
    return rc || data[1] != 1 || data[2] != 2;
}

/* 1 if rank 0 has said goodbye, and nothing has failed. */
static int has_left_in_peace(struct manta_comm *comm)
{
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    while (!mt_control_left(comm->control, 0, NULL) && !mt_control_failed(comm->control) &&
           mt_clock_now_ns() < until_ns)
        sched_yield();
    return mt_control_left(comm->control, 0, NULL);
}

static int arrived(struct manta_comm *comm, void *arg)
{
    (void)arg;
    float data = (float)manta_comm_rank(comm);
    int failed;
    if (manta_comm_rank(comm) == 0) {
        failed = receives_without_looking(comm);
    } else {
        failed = manta_send(comm, &data, 1, MANTA_FLOAT32, 0);
        meeting_wait(&phase);
        failed = failed || manta_send(comm, &data, 1, MANTA_FLOAT32, 0);
        meeting_wait(&phase);
        if (!has_left_in_peace(comm))
            failed |= rank_fail(comm, "rank 0 has not left in peace");
    }
    meeting_wait(&phase);
    return failed || (data != 0 && manta_comm_destroy(comm));
}

static void test_arrived(void **state)
{
    (void)state;
    run(arrived);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_part_goes_on),
        cmocka_unit_test(test_arrived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
