/* SPDX-License-Identifier: Apache-2.0 */
/* A transport that cannot get the buffers back when a communicator fails: the calls that are under
 * way say so, those that come later do not, nor do the other ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "tests/support/ranks.h"

enum { RANKS = 3, POSTED = 3 };

static _Atomic int under_way;

/* Rank 2 aborts what the others wait in; the buffers of rank 0 are lost. */
static int lose_buffers(struct manta_comm *comm, void *arg)
{
    struct manta_request *requests[POSTED];
    struct manta_error_info info = {.size = sizeof(info)};
    float in[POSTED] = {1}, out[POSTED];
    int rank = manta_comm_rank(comm), wanted = rank == 0 ? MANTA_EBUFFER : MANTA_EABORTED;
    (void)arg;
    if (manta_barrier(comm))
        return rank_fail(comm, "barrier");
    if (rank == 2) {
        while (under_way < 2)
            continue;
        return manta_comm_abort(comm, "the test says so");
    }
    for (int i = 0; i < POSTED; i++)
        if (manta_allreduce_post(comm, &in[i], &out[i], 1, MANTA_FLOAT32, MANTA_SUM, &requests[i]))
            return rank_fail(comm, "post");
    under_way++;
    for (int i = POSTED - 1; i >= 0; i--) {
        int rc = manta_wait(requests[i], UINT64_MAX);
        if (rc != wanted)
            return rank_fail(comm, "call %d gives %d, not %d", i, rc, wanted);
    }
    manta_comm_error(comm, &info);
    if (info.code != MANTA_EABORTED || !strstr(info.sentence, "the test says so"))
        return rank_fail(comm, "the cause is %d '%s'", info.code, info.sentence);
    int rc = manta_barrier(comm);
    return rc == MANTA_EABORTED ? 0 : rank_fail(comm, "a later call gives %d", rc);
}

static void calls_under_way_are_told(void **state)
{
    static const char *const inner[] = {"shm", "tcp"};
    (void)state;
    setenv("MANTA_FAULT", "unsafe@rank=0", 1);
    for (int i = 0; i < 2; i++) {
        const struct ranks_options options = {.ranks = RANKS, .transports = "sim"};
        setenv("MANTA_SIM_INNER", inner[i], 1);
        under_way = 0;
        assert_int_equal(ranks_run(&options, lose_buffers, NULL), 0);
    }
    unsetenv("MANTA_SIM_INNER");
    unsetenv("MANTA_FAULT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_under_way_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
