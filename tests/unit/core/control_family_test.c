/* SPDX-License-Identifier: Apache-2.0 */
/* Groups split from one another: what of a parent's end reaches children, being made or made. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/control.h"
#include "core/session_own.h"
#include "tests/support/group_ranks.h"
#include "tests/support/meeting.h"

enum { RANKS = 3 };

static struct meeting phase;
static char sessions[2][512]; /* of the child, and of the child's child */

static void run(struct group_rank *rank, void (*body)(struct group_rank *rank), int *arg)
{
    char session[512];
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(manta_session_create(sessions[i], sizeof sessions[i]), 0);
    group_ranks_init(rank, RANKS, session);
    for (int r = 0; r < RANKS; r++)
        rank[r].arg = arg;
    meeting_begin(&phase, RANKS);
    group_ranks_run(rank, RANKS, body);
    meeting_end(&phase);
    for (int i = 0; i < 2; i++)
        mt_session_forget(sessions[i]);
}

static int split_from(struct mt_group *parent, int which, uint32_t child_rank, uint32_t child_ranks,
                      struct mt_group **child_out, struct mt_error *error)
{
    const struct mt_group_join join = {.session = sessions[which],
                                       .rank = child_rank,
                                       .ranks = child_ranks,
                                       .timeout_ns = 20 * MT_SECOND,
                                       .parent = parent};
    return mt_group_join(&join, child_out, error);
}

static void await(struct mt_group *group, struct mt_error *error_out)
{
    struct pollfd wake = {.fd = mt_control_wake_fd(group->control), .events = POLLIN};
    (void)poll(&wake, 1, 10000);
    mt_control_failure(group->control, error_out);
}

static void rank_2_dies(struct mt_group *group)
{
    struct mt_error error;
    mt_error_set_rank(&error, MANTA_EPEER, 2, "rank 2 is dead: it says so");
    mt_control_fail(group->control, &error);
}

/* Rank 2 was in the split, and never joins: it is the last, or the first, of the child. */
static void join_without_rank_2(struct group_rank *rank)
{
    struct mt_group *child = NULL;
    const int *is_first = rank->arg;
    uint32_t child_rank = *is_first ? (rank->rank + 1) % RANKS : rank->rank;
    meeting_wait(&phase);
    if (rank->rank == 2)
        rank_2_dies(rank->group);
    else
        rank->result = split_from(rank->group, 0, child_rank, RANKS, &child, &rank->error);
    meeting_wait(&phase);
}

static void death_of_one_who_should_join_ends_the_wait(void **state)
{
    (void)state;
    for (int is_first = 0; is_first < 2; is_first++) {
        struct group_rank rank[RANKS];
        run(rank, join_without_rank_2, &is_first);
        for (int r = 0; r < 2; r++) {
            assert_int_equal(rank[r].result, MANTA_EPEER);
            assert_non_null(strstr(rank[r].error.sentence, "rank 2 is dead: it says so"));
        }
    }
}

/* Ranks 0 and 1 have a child of their own when rank 2, which is not in it, fails the parent. */
static void fail_after(struct group_rank *rank)
{
    struct mt_group *child = NULL;
    struct mt_error error;
    const int *by_abort = rank->arg;
    if (rank->rank < 2) {
        rank->result = split_from(rank->group, 0, rank->rank, 2, &child, &rank->error);
        if (rank->result == 0)
            mt_group_made(child);
    }
    meeting_wait(&phase);
    if (rank->rank == 2 && *by_abort)
        mt_control_abort(rank->group->control, "enough");
    else if (rank->rank == 2)
        rank_2_dies(rank->group);
    await(rank->group, &error);
    if (child && *by_abort)
        await(child, &rank->error);
    else if (child)
        mt_control_failure(child->control, &rank->error);
    meeting_wait(&phase);
    mt_group_leave(child);
}

static void a_death_elsewhere_leaves_the_child_alone(void **state)
{
    (void)state;
    struct group_rank rank[RANKS];
    int by_abort = 0;
    run(rank, fail_after, &by_abort);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(rank[r].result, 0);
        assert_int_equal(rank[r].error.code, 0);
    }
}

static void an_abort_reaches_children_that_the_aborter_is_not_in(void **state)
{
    (void)state;
    struct group_rank rank[RANKS];
    int by_abort = 1;
    run(rank, fail_after, &by_abort);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(rank[r].result, 0);
        assert_int_equal(rank[r].error.code, MANTA_EABORTED);
        assert_int_equal(rank[r].error.rank, -1);
        assert_non_null(strstr(rank[r].error.sentence, "split from"));
        assert_non_null(strstr(rank[r].error.sentence, "rank 2 aborted the communicator: enough"));
    }
}

/* The parent has failed, which its children outlive; an abort of it then still reaches them. */
static void abort_the_failed(struct group_rank *rank)
{
    struct mt_group *child = NULL;
    struct mt_error error;
    if (rank->rank < 2) {
        rank->result = split_from(rank->group, 0, rank->rank, 2, &child, &rank->error);
        if (rank->result == 0)
            mt_group_made(child);
    }
    meeting_wait(&phase);
    if (rank->rank == 2)
        rank_2_dies(rank->group);
    await(rank->group, &error);
    if (error.code != MANTA_EPEER || (child && mt_control_failed(child->control)))
        rank->result = -100;
    meeting_wait(&phase);
    if (rank->rank == 2)
        mt_control_abort(rank->group->control, "give up");
    if (child)
        await(child, &rank->error);
    meeting_wait(&phase);
    mt_group_leave(child);
}

static void an_abort_is_told_after_a_failure(void **state)
{
    (void)state;
    struct group_rank rank[RANKS];
    run(rank, abort_the_failed, NULL);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(rank[r].result, 0);
        assert_int_equal(rank[r].error.code, MANTA_EABORTED);
        assert_non_null(strstr(rank[r].error.sentence, "give up"));
    }
}

/* The child leaves before the parent is aborted; its own child is the parent's now. */
static void abort_grandparent(struct group_rank *rank)
{
    struct mt_group *child = NULL, *grandchild = NULL;
    rank->result = split_from(rank->group, 0, rank->rank, RANKS, &child, &rank->error);
    if (rank->result == 0) {
        mt_group_made(child);
        rank->result = split_from(child, 1, rank->rank, RANKS, &grandchild, &rank->error);
    }
    if (rank->result == 0)
        mt_group_made(grandchild);
    meeting_wait(&phase);
    mt_group_leave(child);
    meeting_wait(&phase);
    if (rank->rank == 0)
        mt_control_abort(rank->group->control, NULL);
    if (grandchild)
        await(grandchild, &rank->error);
    meeting_wait(&phase);
    mt_group_leave(grandchild);
}

static void an_abort_reaches_grandchildren(void **state)
{
    (void)state;
    struct group_rank rank[RANKS];
    run(rank, abort_grandparent, NULL);
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(rank[r].result, 0);
        assert_int_equal(rank[r].error.code, MANTA_EABORTED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(death_of_one_who_should_join_ends_the_wait),
        cmocka_unit_test(a_death_elsewhere_leaves_the_child_alone),
        cmocka_unit_test(an_abort_reaches_children_that_the_aborter_is_not_in),
        cmocka_unit_test(an_abort_reaches_grandchildren),
        cmocka_unit_test(an_abort_is_told_after_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
