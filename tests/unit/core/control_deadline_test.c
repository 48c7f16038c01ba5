/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines that pass while no thread waits in the call: the service thread sees them. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <manta/plan.h>

#include "core/clock.h"
#include "core/control_impl.h"
#include "tests/support/group_ranks.h"

enum { RANKS = 4, LATE_RANK = 2 };

static pthread_barrier_t phase;

static struct mt_call barrier_call(uint64_t posted_ago_ns)
{
    return (struct mt_call){.sequence = 9,
                            .count = 1,
                            .collective = MANTA_BARRIER,
                            .root = MANTA_PLAN_NONE,
                            .posted_ns = mt_clock_now_ns() - posted_ago_ns};
}

/* Questions that this rank has asked. */
static uint64_t asked(struct mt_control *control)
{
    mt_service_lock();
    uint64_t serial = control->inquiry.is_open ? 0 : control->serial;
    mt_service_unlock();
    return serial;
}

/* Everybody but the late rank (if there is one) has posted the call long ago, and waits elsewhere.
 */
static void post_and_go(struct group_rank *rank)
{
    const int *is_one_late = rank->arg;
    struct mt_control *control = rank->group->control;
    struct mt_record *record = mt_record_create();
    struct mt_call call = barrier_call(2 * rank->timeout_ns);
    struct pollfd wake = {.fd = mt_control_wake_fd(control), .events = POLLIN};
    if (!*is_one_late || rank->rank != LATE_RANK)
        mt_record_begin(record, &call);
    mt_control_set_record(control, record);
    pthread_barrier_wait(&phase);
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    while (!*is_one_late && asked(control) == 0 && mt_clock_now_ns() < until_ns)
        (void)poll(&wake, 1, 10);
    if (*is_one_late ? poll(&wake, 1, 10000) != 1 : asked(control) == 0)
        rank->result = -100;
    mt_control_failure(control, &rank->error);
    pthread_barrier_wait(&phase);
    mt_control_set_record(control, NULL);
    mt_record_destroy(record);
}

static void run(struct group_rank *rank, int is_one_late)
{
    char session[512];
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    group_ranks_init(rank, RANKS, session);
    for (uint32_t r = 0; r < RANKS; r++)
        rank[r].arg = &is_one_late;
    pthread_barrier_init(&phase, NULL, RANKS);
    group_ranks_run(rank, RANKS, post_and_go);
    pthread_barrier_destroy(&phase);
    for (uint32_t r = 0; r < RANKS; r++)
        assert_int_equal(rank[r].result, 0);
}

static void a_late_rank_is_named_though_nobody_waits(void **state)
{
    (void)state;
    struct group_rank rank[RANKS];
    run(rank, 1);
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(rank[r].error.code, MANTA_ETIMEOUT);
        assert_int_equal(rank[r].error.rank, LATE_RANK);
        assert_string_equal(rank[r].error.sentence,
                            "rank 2 has not called #9 barrier(); it has made no call yet");
    }
}

/* All have posted it, so it may still end well. */
static void a_call_that_all_are_in_goes_on(void **state)
{
    (void)state;
    struct group_rank rank[RANKS];
    run(rank, 0);
    for (int r = 0; r < RANKS; r++)
        assert_int_equal(rank[r].error.code, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_rank_is_named_though_nobody_waits),
        cmocka_unit_test(a_call_that_all_are_in_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
