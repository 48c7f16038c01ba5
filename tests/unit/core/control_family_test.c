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
#include "core/control_impl.h"
#include "core/session_own.h"
#include "tests/support/group_ranks.h"
#include "tests/support/meeting.h"

enum { RANKS = 3 };

static struct meeting phase;
static char sessions[2][512]; /* of the child, and of the child's child */

static void run(struct group_rank *rank, int ranks, void (*body)(struct group_rank *rank), int *arg)
{
    char session[512];
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(manta_session_create(sessions[i], sizeof sessions[i]), 0);
    group_ranks_init(rank, (uint32_t)ranks, session);
    for (int r = 0; r < ranks; r++)
        rank[r].arg = arg;
    meeting_begin(&phase, (uint32_t)ranks);
    group_ranks_run(rank, (uint32_t)ranks, body);
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
        run(rank, RANKS, join_without_rank_2, &is_first);
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
    run(rank, RANKS, fail_after, &by_abort);
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
    run(rank, RANKS, fail_after, &by_abort);
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
    run(rank, RANKS, abort_the_failed, NULL);
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
    run(rank, RANKS, abort_grandparent, NULL);
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(rank[r].result, 0);
        assert_int_equal(rank[r].error.code, MANTA_EABORTED);
    }
}

/* A family of three generations, each of all ranks. */
enum { LEVELS = 3, MANY = 5 };
static struct mt_control *family[LEVELS][MANY];

/* Lock held. 1 if what a rank of this level has flooded has come to all others. */
static int is_all_heard(struct mt_control *const *level)
{
    for (int r = 0; r < MANY; r++)
        for (int from = 0; from < MANY; from++)
            if (from != r && level[r]->seen[from] != level[from]->serial)
                return 0;
    return 1;
}

/* What a rank does on hearing a message is done when it has heard it: once all is heard, no more
 * will come. */
static int await_silence(void)
{
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    int is_silent = 0;
    mt_service_lock();
    while (!is_silent && mt_clock_now_ns() < until_ns) {
        is_silent = 1;
        for (int level = 0; level < LEVELS; level++)
            is_silent &= is_all_heard(family[level]);
        if (!is_silent)
            mt_service_wait(mt_clock_now_ns() + MT_MS);
    }
    mt_service_unlock();
    return is_silent;
}

static int make_family(struct group_rank *rank, struct mt_group **child, struct mt_group **last)
{
    int rc = split_from(rank->group, 0, rank->rank, MANY, child, &rank->error);
    if (rc)
        return rc;
    mt_group_made(*child);
    rc = split_from(*child, 1, rank->rank, MANY, last, &rank->error);
    if (rc)
        return rc;
    mt_group_made(*last);
    family[0][rank->rank] = rank->group->control;
    family[1][rank->rank] = (*child)->control;
    family[2][rank->rank] = (*last)->control;
    return 0;
}

/* The whole family is told, by as many floods as it takes: at most one of each rank in each
 * group, and one more in a group that had failed before. */
static void abort_family(struct group_rank *rank)
{
    struct mt_group *child = NULL, *last = NULL;
    const int *has_failed = rank->arg;
    rank->result = make_family(rank, &child, &last);
    meeting_wait(&phase);
    if (rank->rank == 2 && *has_failed)
        rank_2_dies(rank->group);
    if (*has_failed)
        await(rank->group, &rank->error);
    meeting_wait(&phase);
    if (rank->rank == 1)
        mt_control_abort(rank->group->control, "all of it");
    await(child, &rank->error);
    await(last, &rank->error);
    meeting_wait(&phase);
    if (!await_silence())
        rank->result = -100;
    for (int level = 0; level < LEVELS; level++) {
        const struct mt_control *control = family[level][rank->rank];
        uint64_t floods_max = level > 0 || (*has_failed && rank->rank == 2);
        floods_max += level == 0 && rank->rank == 1;
        if (control->serial > floods_max || !mt_control_failed(control))
            rank->result = -101 - level;
    }
    meeting_wait(&phase);
    mt_group_leave(last);
    mt_group_leave(child);
}

static void an_abort_is_told_once(void **state)
{
    (void)state;
    for (int has_failed = 0; has_failed < 2; has_failed++) {
        struct group_rank rank[MANY];
        run(rank, MANY, abort_family, &has_failed);
        for (int r = 0; r < MANY; r++) {
            assert_int_equal(rank[r].result, 0);
            assert_int_equal(rank[r].error.code, MANTA_EABORTED);
        }
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
        cmocka_unit_test(an_abort_is_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
