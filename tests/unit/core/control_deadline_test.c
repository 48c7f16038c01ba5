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

static struct mt_record *records[RANKS];

/* Rank 0 gives all ranks their recorders at one moment: who asks about a call that is long overdue
 * finds no other rank without its own. */
static void give_records(struct group_rank *rank, struct mt_record *record)
{
    const struct group_rank *list = rank - rank->rank;
    records[rank->rank] = record;
    meeting_wait(&phase);
    mt_service_lock();
    for (int r = 0; r < RANKS && rank->rank == 0; r++) {
        list[r].group->control->record = records[r];
        mt_deadlines_watch(list[r].group->control);
    }
    mt_service_unlock();
    meeting_wait(&phase);
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
    give_records(rank, record);
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    while (!*is_one_late && asked(control) == 0 && mt_clock_now_ns() < until_ns)
        (void)poll(&wake, 1, 10);
    if (*is_one_late ? poll(&wake, 1, 10000) != 1 : asked(control) == 0)
        rank->result = -100;
    mt_control_failure(control, &rank->error);
    meeting_wait(&phase);
    mt_service_lock();
    if (control->inquiry.heard_ns != 0) /* nobody waits for a verdict that may not come */
        rank->result = -101;
    mt_service_unlock();
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
    give_records(rank, record);
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

/* Milliseconds after the deadline until this rank asks, when it heard a question so many before
 * (-: after). */
static int64_t turn_ms(uint32_t rank, uint32_t ranks, uint32_t collective, int64_t heard_ms)
{
    const struct mt_group group = {.rank = rank, .ranks = ranks};
    const struct mt_call call = {.collective = collective};
    const uint64_t begun_ns = 100 * MT_SECOND;
    uint64_t heard_ns = begun_ns - (uint64_t)(heard_ms * MT_MS);
    uint64_t turn_ns = mt_inquiry_turn_ns(&group, &call, begun_ns, heard_ns);
    return (int64_t)(turn_ns - begun_ns) / MT_MS;
}

static void one_asks_for_all_and_none_waits_long(void **state)
{
    enum { NEVER = 99000 };
    (void)state;
    assert_int_equal(turn_ms(0, 8, MANTA_ALLREDUCE, NEVER), 0);
    assert_int_equal(turn_ms(7, 8, MANTA_ALLREDUCE, NEVER), 7);
    assert_int_equal(turn_ms(499, 500, MANTA_ALLREDUCE, NEVER), 499);
    assert_int_equal(turn_ms(4000, 8000, MANTA_ALLREDUCE, NEVER), 250);
    assert_in_range(turn_ms(65535, 65536, MANTA_ALLREDUCE, NEVER), 400, 500);
    /* Its verdict is under way. */
    assert_int_equal(turn_ms(0, 8, MANTA_ALLREDUCE, -3), 1000);
    assert_int_equal(turn_ms(0, 8, MANTA_ALLREDUCE, 0), 1000);
    assert_int_equal(turn_ms(5, 8, MANTA_ALLREDUCE, 400), 600);
    assert_int_equal(turn_ms(5, 8, MANTA_ALLREDUCE, 998), 5);
    assert_int_equal(turn_ms(5, 8, MANTA_ALLREDUCE, -900), 1000); /* however many have asked */
    /* A send waits for one rank only, and the question may have been about others. */
    assert_int_equal(turn_ms(5, 8, MANTA_RECV, 0), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_rank_is_named_though_nobody_waits),
        cmocka_unit_test(a_call_that_all_are_in_goes_on),
        cmocka_unit_test(a_call_that_was_made_and_forgotten_is_no_fault),
        cmocka_unit_test(one_asks_for_all_and_none_waits_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
