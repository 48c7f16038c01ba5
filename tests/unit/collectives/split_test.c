/* SPDX-License-Identifier: Apache-2.0 */
/* A split in which rank 1 comes late to each step of it and then no more: what it has left of its
 * time goes on from step to step. Time is moved on, not waited for. */
#include <sched.h>
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
#include "tests/support/clock_shift.h"
#include "tests/support/ranks.h"

enum { RANKS = 2, TIMEOUT_S = 100, LATE_S = 60, LIMIT_S = 20 };

static _Atomic int has_ended; /* rank 0's split */

/* Who sleeps until a time sleeps in the kernel's, which is behind: wake it to look again. */
static void wake_all(void)
{
    mt_service_lock();
    mt_service_signal();
    mt_service_unlock();
}

/* What a rank gives in a step, as split.c does. */
static int give(struct manta_comm *comm, const struct mt_call *call, const void *mine, size_t bytes)
{
    const void *parts[RANKS];
    size_t part_bytes[RANKS];
    struct mt_error error;
    struct mt_exchange exchange = {.call = call,
                                   .mine = mine,
                                   .mine_bytes = bytes,
                                   .deadline_ns = mt_clock_now_ns() + TIMEOUT_S * MT_SECOND,
                                   .parts = parts,
                                   .part_bytes = part_bytes};
    int rc = mt_control_allgather(comm->control, &exchange, &error);
    free(exchange.storage);
    return rc;
}

/* Until rank 0's split has ended. Its time is over; if it does not know, it is given more. */
static int is_over_in_time(void)
{
    uint64_t until_ns = mt_clock_now_ns() + LIMIT_S * MT_SECOND;
    while (!atomic_load(&has_ended) && mt_clock_now_ns() < until_ns) {
        wake_all();
        sched_yield();
    }
    int is_over = atomic_load(&has_ended);
    clock_shift(is_over ? 0 : 10 * TIMEOUT_S * MT_SECOND);
    while (!atomic_load(&has_ended)) {
        wake_all();
        sched_yield();
    }
    return is_over;
}

static int come_late(struct manta_comm *comm, int steps)
{
    struct mt_call call;
    int rc = mt_comm_enter(comm);
    uint32_t slot = mt_call_begin_split(comm, &call);
    const struct {
        uint64_t sequence;
        int32_t colour, key;
        uint32_t rank, history;
    } entry = {call.sequence, 0, 0, comm->rank, call.history};
    rc = rc ? rc : give(comm, &call, &entry, sizeof(entry)); /* rank 0 has begun */
    clock_shift(LATE_S * MT_SECOND);
    if (steps > 1)
        rc = rc ? rc : give(comm, &call, "", 1);
    clock_shift(LATE_S * MT_SECOND);
    int is_in_time = is_over_in_time();
    mt_call_end_split(comm, slot, MANTA_ETIMEOUT);
    mt_comm_leave(comm);
    if (rc || !is_in_time)
        return rank_fail(comm, "after %d steps: %d, %s", steps, rc,
                         is_in_time ? "ended" : "rank 0 waits on");
    return 0;
}

static int split(struct manta_comm *comm, void *arg)
{
    const int *steps = arg;
    struct manta_error_info info = {.size = sizeof(info)};
    struct manta_comm *part;
    if (manta_comm_rank(comm) != 0)
        return come_late(comm, *steps);
    int rc = manta_comm_split(comm, 0, 0, &part);
    atomic_store(&has_ended, 1);
    manta_comm_error(comm, &info);
    const char *in_joining = strstr(info.sentence, "did not join within");
    if (rc != MANTA_ETIMEOUT || (in_joining && !strstr(in_joining, "within 100.0 s")))
        return rank_fail(comm, "the split gives %d '%s'", rc, info.sentence);
    return 0;
}

static void a_split_takes_one_timeout(void **state)
{
    (void)state;
    for (int steps = 1; steps <= 2; steps++) {
        const struct ranks_options options = {.ranks = RANKS, .timeout_ns = TIMEOUT_S * MT_SECOND};
        atomic_store(&has_ended, 0);
        assert_int_equal(ranks_run(&options, split, &steps), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_split_takes_one_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
