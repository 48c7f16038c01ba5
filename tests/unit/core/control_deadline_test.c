/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines: those that pass while no thread waits in the call, which the service thread sees, and
 * which rank asks when those of many pass together. */
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
#include "tests/support/meeting.h"

enum { RANKS = 4, LATE_RANK = 2 };

static struct meeting phase;

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
    meeting_wait(&phase);
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    while (!*is_one_late && asked(control) == 0 && mt_clock_now_ns() < until_ns)
        (void)poll(&wake, 1, 10);
    if (*is_one_late ? poll(&wake, 1, 10000) != 1 : asked(control) == 0)
        rank->result = -100;
    mt_control_failure(control, &rank->error);
    meeting_wait(&phase);
    mt_control_set_record(control, NULL);
    mt_record_destroy(record);
}

static void run(struct group_rank *rank, void (*body)(struct group_rank *rank), int flag)
{
    char session[512];
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    group_ranks_init(rank, RANKS, session);
    for (uint32_t r = 0; r < RANKS; r++)
        rank[r].arg = &flag;
    meeting_begin(&phase, RANKS);
    group_ranks_run(rank, RANKS, body);
    meeting_end(&phase);
    for (uint32_t r = 0; r < RANKS; r++)
        assert_int_equal(rank[r].result, 0);
}

static void a_late_rank_is_named_though_nobody_waits(void **state)
{
    (void)state;
    struct group_rank rank[RANKS];
    run(rank, post_and_go, 1);
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(rank[r].error.code, MANTA_ETIMEOUT);
        assert_int_equal(rank[r].error.rank, LATE_RANK);
        assert_non_null(strstr(rank[r].error.sentence,
                               "rank 2 has not called #9 barrier(); it has made no call yet; "));
    }
}

/* All have posted it, so it may still end well. */
static void a_call_that_all_are_in_goes_on(void **state)
{
    (void)state;
    struct group_rank rank[RANKS];
    run(rank, post_and_go, 0);
    for (int r = 0; r < RANKS; r++)
        assert_int_equal(rank[r].error.code, 0);
}

/* The call is recorded as overdue on all but one rank, which has called and forgotten it, or has
 * left after it: nobody is at fault. */
static void post_and_forget(struct group_rank *rank)
{
    const int *has_left = rank->arg;
    struct mt_control *control = rank->group->control;
    struct mt_record *record = mt_record_create();
    struct mt_call call = barrier_call(2 * rank->timeout_ns), later = call;
    struct pollfd wake = {.fd = mt_control_wake_fd(control), .events = POLLIN};
    uint32_t slot = mt_record_begin(record, &call);
    if (rank->rank == LATE_RANK)
        mt_record_end(record, slot, 0, mt_clock_now_ns());
    later.collective = MANTA_SEND;
    later.root = 0;
    for (int i = 0; rank->rank == LATE_RANK && i < 2 * MT_RECORD_CALLS; i++)
        mt_record_end(record, mt_record_begin(record, &later), 0, mt_clock_now_ns());
    mt_control_set_record(control, record);
    meeting_wait(&phase);
    if (*has_left && rank->rank == LATE_RANK) {
        mt_group_leave(rank->group);
        rank->group = NULL;
    }
    meeting_wait(&phase);
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    while (rank->group && rank->rank != LATE_RANK && asked(control) == 0 &&
           mt_clock_now_ns() < until_ns)
        (void)poll(&wake, 1, 10);
    if (rank->group && rank->rank != LATE_RANK && asked(control) == 0)
        rank->result = -100;
    if (rank->group)
        mt_control_failure(control, &rank->error);
    meeting_wait(&phase);
    if (rank->group)
        mt_control_set_record(control, NULL);
    mt_record_destroy(record);
}

static void a_call_that_was_made_and_forgotten_is_no_fault(void **state)
{
    (void)state;
    for (int has_left = 0; has_left < 2; has_left++) {
        struct group_rank rank[RANKS];
        run(rank, post_and_forget, has_left);
        for (int r = 0; r < RANKS; r++)
            assert_int_equal(rank[r].error.code, 0);
    }
}

/* Rank 0, whose turn is first, has heard a question; rank 1 has not; both wait for the others. */
static uint64_t flooded[RANKS];

static void ask_or_wait(struct group_rank *rank)
{
    struct mt_control *control = rank->group->control;
    struct mt_record *record = mt_record_create();
    struct mt_call call = barrier_call(rank->timeout_ns);
    if (rank->rank < 2)
        mt_record_begin(record, &call);
    mt_service_lock();
    control->record = record; /* and nobody looks for deadlines besides */
    control->inquiry.heard_ns = rank->rank == 0 ? mt_clock_now_ns() : 0;
    mt_service_unlock();
    meeting_wait(&phase);
    if (rank->rank < 2)
        mt_control_timeout(control, &call);
    struct pollfd wake = {.fd = mt_control_wake_fd(control), .events = POLLIN};
    rank->result = poll(&wake, 1, 10000) == 1 ? 0 : -100;
    mt_control_failure(control, &rank->error);
    meeting_wait(&phase);
    mt_service_lock();
    flooded[rank->rank] = control->serial;
    mt_service_unlock();
    mt_control_set_record(control, NULL);
    mt_record_destroy(record);
}

static void who_has_heard_a_question_waits_for_its_verdict(void **state)
{
    (void)state;
    struct group_rank rank[RANKS];
    run(rank, ask_or_wait, 0);
    for (uint32_t r = 0; r < RANKS; r++) {
        assert_int_equal(rank[r].error.code, MANTA_ETIMEOUT);
        assert_int_equal(rank[r].error.rank, LATE_RANK);
        assert_int_equal(flooded[r], r == 1 ? 2 : 0); /* the question and the verdict */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_rank_is_named_though_nobody_waits),
        cmocka_unit_test(a_call_that_all_are_in_goes_on),
        cmocka_unit_test(a_call_that_was_made_and_forgotten_is_no_fault),
        cmocka_unit_test(who_has_heard_a_question_waits_for_its_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
