/* SPDX-License-Identifier: Apache-2.0 */
/* A creation that is given up when the links stand already, and one that was whole before. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "core/cancel.h"
#include "core/control.h"
#include "tests/support/group_ranks.h"
#include "tests/support/meeting.h"

enum { RANKS = 3 };

static struct meeting phase;
static int flag;

static void set_flag(int value)
{
    __atomic_store_n(&flag, value, __ATOMIC_RELEASE);
}

static void run(struct group_rank *rank, void (*body)(struct group_rank *rank))
{
    char session[512];
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    set_flag(0);
    group_ranks_init(rank, RANKS, session);
    rank[1].cancel = &flag;
    meeting_begin(&phase, RANKS);
    group_ranks_run(rank, RANKS, body);
    meeting_end(&phase);
}

static void await_failure(struct group_rank *rank, int timeout_ms)
{
    struct pollfd wake = {.fd = mt_control_wake_fd(rank->group->control), .events = POLLIN};
    (void)poll(&wake, 1, timeout_ms);
    mt_control_failure(rank->group->control, &rank->error);
}

static void rank_1_gives_up(struct group_rank *rank)
{
    meeting_wait(&phase); /* a rank that has not joined yet would fail to join */
    if (rank->rank == 1)
        set_flag(1);
    await_failure(rank, 10000);
    meeting_wait(&phase);
}

static void the_others_are_told(void **state)
{
    struct group_rank rank[RANKS];
    (void)state;
    run(rank, rank_1_gives_up);
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(rank[r].error.code, MANTA_EABORTED);
        assert_int_equal(rank[r].error.rank, 1);
        assert_non_null(strstr(rank[r].error.sentence, "rank 1 gave up creating the communicator"));
    }
}

static void rank_1_is_too_late(struct group_rank *rank)
{
    mt_group_made(rank->group);
    if (rank->rank == 1)
        set_flag(1);
    await_failure(rank, 200); /* four looks, were there any */
    meeting_wait(&phase);
}

static void a_whole_group_is_not_given_up(void **state)
{
    struct group_rank rank[RANKS];
    (void)state;
    run(rank, rank_1_is_too_late);
    for (int r = 0; r < RANKS; r++)
        assert_int_equal(rank[r].error.code, 0);
}

static void no_flag_is_no_wish(void **state)
{
    const int yes = 1, no = 0;
    (void)state;
    assert_false(mt_cancel_is_wanted(NULL));
    assert_false(mt_cancel_is_wanted(&no));
    assert_true(mt_cancel_is_wanted(&yes));
    assert_false(mt_cancel_is_set(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_others_are_told),
        cmocka_unit_test(a_whole_group_is_not_given_up),
        cmocka_unit_test(no_flag_is_no_wish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
