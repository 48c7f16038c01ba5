/* SPDX-License-Identifier: Apache-2.0 */
/* The control plane between ranks that are threads: failure, abort, goodbye, exchange, and the
 * words for who is late. Deaths of processes are in control_death_test.c. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <manta/plan.h>

#include "core/clock.h"
#include "core/control.h"
#include "tests/support/group_ranks.h"
#include "tests/support/meeting.h"
#include "tests/support/seconds.h"

static struct meeting phase;

static void run(uint32_t ranks, struct group_rank *rank, void (*body)(struct group_rank *rank))
{
    char session[512];
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    group_ranks_init(rank, ranks, session);
    meeting_begin(&phase, ranks);
    group_ranks_run(rank, ranks, body);
    meeting_end(&phase);
}

/* Until the group has failed here; the error goes to rank->error. */
static void await_failure(struct group_rank *rank)
{
    struct pollfd wake = {.fd = mt_control_wake_fd(rank->group->control), .events = POLLIN};
    if (poll(&wake, 1, 10000) != 1 || !mt_control_failed(rank->group->control))
        rank->result = -100;
    mt_control_failure(rank->group->control, &rank->error);
}

static void abort_by_one(struct group_rank *rank)
{
    meeting_wait(&phase); /* a rank that has not joined yet would fail to join */
    if (rank->rank == rank->ranks / 2)
        mt_control_abort(rank->group->control, "the loss is NaN");
    await_failure(rank);
}

static void abort_reaches_all(void **state)
{
    (void)state;
    for (uint32_t ranks = 1; ranks <= 13; ranks += 4) {
        struct group_rank rank[16];
        char wanted[80];
        run(ranks, rank, abort_by_one);
        snprintf(wanted, sizeof wanted, "rank %u aborted the communicator: the loss is NaN",
                 ranks / 2);
        for (uint32_t r = 0; r < ranks; r++) {
            assert_int_equal(rank[r].result, 0);
            assert_int_equal(rank[r].error.code, MANTA_EABORTED);
            assert_int_equal(rank[r].error.rank, (int)(ranks / 2));
            assert_string_equal(rank[r].error.sentence, wanted);
        }
    }
}

enum { GIVEN_UP = 3 };

static void give_one_up(struct group_rank *rank)
{
    struct mt_error error;
    meeting_wait(&phase);
    mt_error_set_rank(&error, MANTA_EPEER, GIVEN_UP, "rank 3 is dead: its host is silent");
    if (rank->rank == 0)
        mt_control_fail(rank->group->control, &error);
    await_failure(rank);
    meeting_wait(&phase);
}

/* A rank that is heard of no more, but hears: it is not told that it is dead and no more. */
static void who_is_given_up_is_told(void **state)
{
    struct group_rank rank[5];
    (void)state;
    run(5, rank, give_one_up);
    for (uint32_t r = 0; r < 5; r++) {
        assert_int_equal(rank[r].result, 0);
        assert_int_equal(rank[r].error.code, MANTA_EPEER);
        assert_int_equal(rank[r].error.rank, GIVEN_UP);
        assert_string_equal(rank[r].error.sentence,
                            r != GIVEN_UP ? "rank 3 is dead: its host is silent"
                                          : "rank 0 has given this one up, rank 3: \"rank 3 is "
                                            "dead: its host is silent\"; look for what goes from "
                                            "here and does not arrive");
    }
}

static void leave_in_turn(struct group_rank *rank)
{
    struct mt_control *control = rank->group->control;
    for (uint32_t leaving = 0; leaving < rank->ranks; leaving++) {
        if (leaving == rank->rank)
            return; /* the caller leaves */
        uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
        while (!mt_control_left(control, leaving, NULL) && !mt_control_failed(control) &&
               mt_clock_now_ns() < until_ns)
            sched_yield();
        if (!mt_control_left(control, leaving, NULL))
            rank->result = -100;
        if (mt_control_failed(control))
            mt_control_failure(control, &rank->error);
    }
}

static void goodbye_is_no_failure(void **state)
{
    (void)state;
    struct group_rank rank[9];
    run(9, rank, leave_in_turn);
    for (uint32_t r = 0; r < 9; r++) {
        assert_int_equal(rank[r].error.code, 0);
        assert_int_equal(rank[r].result, 0);
    }
}

/* Ranks 0 and 3 of 8 have no link; when all others have left, they must still hear each other. */
static void stay_with_3(struct group_rank *rank)
{
    struct mt_control *control = rank->group->control;
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    meeting_wait(&phase);
    if (rank->rank != 0 && rank->rank != 3)
        return;
    for (uint32_t r = 1; r < rank->ranks && rank->rank == 0; r++)
        while (r != 3 && !mt_control_left(control, r, NULL) && mt_clock_now_ns() < until_ns)
            sched_yield();
    if (rank->rank == 0)
        mt_control_abort(control, NULL);
    await_failure(rank);
    meeting_wait(rank->arg);
}

static void those_that_stay_keep_in_touch(void **state)
{
    (void)state;
    struct group_rank rank[8];
    struct meeting both_failed;
    char session[512];
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    group_ranks_init(rank, 8, session);
    rank[0].arg = rank[3].arg = &both_failed;
    meeting_begin(&phase, 8);
    meeting_begin(&both_failed, 2);
    group_ranks_run(rank, 8, stay_with_3);
    meeting_end(&both_failed);
    meeting_end(&phase);
    assert_int_equal(rank[3].result, 0);
    assert_int_equal(rank[3].error.code, MANTA_EABORTED);
    assert_int_equal(rank[3].error.rank, 0);
}

static void suspect_a_leaver(struct group_rank *rank)
{
    struct mt_error cause;
    meeting_wait(&phase);
    if (rank->rank == 2)
        return;
    mt_error_set_rank(&cause, MANTA_ETRANSPORT, 2, "tcp lost rank 2");
    if (rank->rank == 0)
        mt_control_suspect(rank->group->control, &cause);
    await_failure(rank);
}

static void needing_a_rank_that_left(void **state)
{
    (void)state;
    struct group_rank rank[3];
    run(3, rank, suspect_a_leaver);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(rank[r].error.code, MANTA_ELEFT);
        assert_int_equal(rank[r].error.rank, 2);
    }
}

static void suspect_without_cause(struct group_rank *rank)
{
    struct mt_error cause;
    meeting_wait(&phase);
    mt_error_set_rank(&cause, MANTA_ETRANSPORT, 1, "tcp lost rank 1: checksum");
    if (rank->rank == 0)
        mt_control_suspect(rank->group->control, &cause);
    await_failure(rank);
    meeting_wait(&phase);
}

static void suspicion_becomes_failure(void **state)
{
    (void)state;
    struct group_rank rank[3];
    run(3, rank, suspect_without_cause);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(rank[r].error.code, MANTA_ETRANSPORT);
        assert_int_equal(rank[r].error.rank, 1);
        assert_string_equal(rank[r].error.sentence, "tcp lost rank 1: checksum");
    }
}

/* Calls of ranks, for the questions at a deadline. */
static struct mt_call allreduce_call(uint64_t sequence, uint64_t count)
{
    struct mt_call call = {.sequence = sequence,
                           .count = count,
                           .collective = MANTA_ALLREDUCE,
                           .dtype = MANTA_FLOAT32,
                           .op = MANTA_SUM,
                           .root = MANTA_PLAN_NONE,
                           .posted_ns = mt_clock_now_ns() - 2 * MT_SECOND};
    return call;
}

static struct mt_call broadcast_call(uint64_t sequence, uint64_t count, uint32_t root)
{
    struct mt_call call = allreduce_call(sequence, count);
    call.collective = MANTA_BROADCAST;
    call.root = root;
    return call;
}

enum role { IN_CALL, ENDED_CALL, LATE, DIFFERENT, NEVER_CALLED, BEHIND, STRAYED };

struct scene {
    enum role roles[16];
    uint32_t askers; /* ranks 0 .. askers - 1 run into their deadline */
};

static void play(struct group_rank *rank)
{
    const struct scene *scene = rank->arg;
    struct mt_record *record = mt_record_create();
    struct mt_call before = broadcast_call(40, 7, 1), call = allreduce_call(41, 512);
    enum role role = scene->roles[rank->rank];
    if (role == STRAYED)
        before = broadcast_call(40, 7, 2);
    uint32_t first = role == NEVER_CALLED ? 0 : mt_record_begin(record, &before);
    if (role != NEVER_CALLED && role != BEHIND && role != STRAYED)
        mt_record_end(record, first, 0, mt_clock_now_ns() - 12 * MT_SECOND);
    if (role == DIFFERENT)
        call = broadcast_call(41, 1024, 0);
    if (role == IN_CALL || role == DIFFERENT || role == ENDED_CALL) {
        uint32_t slot = mt_record_begin(record, &call);
        if (role == ENDED_CALL)
            mt_record_end(record, slot, 0, mt_clock_now_ns());
    }
    mt_control_set_record(rank->group->control, record);
    meeting_wait(&phase);
    if (rank->rank < scene->askers)
        mt_control_timeout(rank->group->control, &call);
    await_failure(rank);
    meeting_wait(&phase);
    mt_control_set_record(rank->group->control, NULL);
    mt_record_destroy(record);
}

static void run_scene(uint32_t ranks, struct group_rank *rank, struct scene *scene)
{
    char session[512];
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    group_ranks_init(rank, ranks, session);
    for (uint32_t r = 0; r < ranks; r++)
        rank[r].arg = scene;
    meeting_begin(&phase, ranks);
    group_ranks_run(rank, ranks, play);
    meeting_end(&phase);
    for (uint32_t r = 0; r < ranks; r++)
        assert_int_equal(rank[r].result, 0);
}

static void late_rank_is_named(void **state)
{
    (void)state;
    struct group_rank rank[7];
    struct scene scene = {{IN_CALL, IN_CALL, ENDED_CALL, LATE, IN_CALL, IN_CALL, IN_CALL}, 1};
    run_scene(7, rank, &scene);
    for (int r = 0; r < 7; r++) {
        assert_int_equal(rank[r].error.code, MANTA_ETIMEOUT);
        assert_int_equal(rank[r].error.rank, 3);
        const char *said = rank[r].error.sentence;
        assert_non_null(strstr(said, "rank 3 has not called #41 allreduce(512 float32, sum); its "
                                     "last call, #40 broadcast(7 float32, root 1), ended "));
        assert_true(seconds_after(said, "root 1), ended ") >= 12);
        assert_true(seconds_after(said, " s ago; rank 0 waited ") >= 2);
    }
}

static void several_late_ranks(void **state)
{
    (void)state;
    struct group_rank rank[6];
    struct scene scene = {{IN_CALL, IN_CALL, NEVER_CALLED, NEVER_CALLED, IN_CALL, LATE}, 2};
    run_scene(6, rank, &scene);
    for (int r = 0; r < 6; r++) {
        assert_int_equal(rank[r].error.code, MANTA_ETIMEOUT);
        assert_int_equal(rank[r].error.rank, 2);
        assert_non_null(strstr(rank[r].error.sentence, "it has made no call yet; the same is true "
                                                       "of 2 other ranks"));
    }
}

static void different_call_is_a_mismatch(void **state)
{
    (void)state;
    struct group_rank rank[4];
    struct scene scene = {{IN_CALL, IN_CALL, LATE, DIFFERENT}, 1};
    run_scene(4, rank, &scene);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(rank[r].error.code, MANTA_EMISMATCH);
        assert_int_equal(rank[r].error.rank, 3);
        assert_string_equal(rank[r].error.sentence,
                            "rank 3 called broadcast(1024 float32, root 0) as #41, rank 0 called "
                            "allreduce(512 float32, sum)");
    }
}

/* Ranks 1 and 2 hang in the call before, each because of the other: the one that called something
 * else is at fault, not the first that is late. */
static void a_stray_is_named_before_those_it_keeps(void **state)
{
    (void)state;
    struct group_rank rank[4];
    struct scene scene = {{IN_CALL, BEHIND, STRAYED, IN_CALL}, 1};
    run_scene(4, rank, &scene);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(rank[r].error.code, MANTA_EMISMATCH);
        assert_int_equal(rank[r].error.rank, 2);
        assert_string_equal(rank[r].error.sentence,
                            "rank 2 called broadcast(7 float32, root 2) as #40, rank 0 called "
                            "broadcast(7 float32, root 1)");
    }
}

static void nobody_is_late(void **state)
{
    (void)state;
    struct group_rank rank[3];
    struct scene scene = {{IN_CALL, IN_CALL, ENDED_CALL}, 1};
    run_scene(3, rank, &scene);
    assert_int_equal(rank[0].error.code, MANTA_ETIMEOUT);
    assert_int_equal(rank[0].error.rank, -1);
    assert_true(seconds_after(rank[0].error.sentence, "rank 0 waited ") >= 2);
    assert_non_null(strstr(rank[0].error.sentence, " s in #41"));
}

static void all_run_into_the_deadline(void **state)
{
    (void)state;
    struct group_rank rank[8];
    struct scene scene = {
        {IN_CALL, IN_CALL, IN_CALL, IN_CALL, IN_CALL, IN_CALL, IN_CALL, NEVER_CALLED}, 7};
    run_scene(8, rank, &scene);
    for (int r = 0; r < 8; r++) {
        assert_int_equal(rank[r].error.code, MANTA_ETIMEOUT);
        assert_int_equal(rank[r].error.rank, 7);
    }
}

static void mismatch_of_a_message(struct group_rank *rank)
{
    struct mt_record *record = mt_record_create();
    struct mt_call call = allreduce_call(5, 512);
    if (rank->rank == 1)
        call = broadcast_call(5, 1024, 2);
    mt_record_begin(record, &call);
    mt_control_set_record(rank->group->control, record);
    meeting_wait(&phase);
    if (rank->rank == 0)
        mt_control_mismatch(rank->group->control, &call, 1);
    await_failure(rank);
    meeting_wait(&phase);
    mt_control_set_record(rank->group->control, NULL);
    mt_record_destroy(record);
}

static void mismatch_words_both_calls(void **state)
{
    (void)state;
    struct group_rank rank[5];
    run(5, rank, mismatch_of_a_message);
    for (int r = 0; r < 5; r++) {
        assert_int_equal(rank[r].error.code, MANTA_EMISMATCH);
        assert_int_equal(rank[r].error.rank, 1);
        assert_string_equal(rank[r].error.sentence,
                            "rank 1 called broadcast(1024 float32, root 2) as #5, rank 0 called "
                            "allreduce(512 float32, sum)");
    }
}

static void mismatch_with_a_leaver(struct group_rank *rank)
{
    struct mt_record *record = mt_record_create();
    struct mt_call call = allreduce_call(0, 512);
    meeting_wait(&phase);
    while (rank->rank == 0 && !mt_control_left(rank->group->control, 1, NULL))
        sched_yield();
    while (call.sequence < 5) {
        call.sequence++;
        mt_record_begin(record, &call);
    }
    if (rank->rank == 0) {
        mt_control_set_record(rank->group->control, record);
        mt_control_mismatch(rank->group->control, &call, 1);
        await_failure(rank);
        mt_control_set_record(rank->group->control, NULL);
    }
    mt_record_destroy(record);
}

/* The call in which it was noticed is named, none that nobody has complained of. */
static void a_leaver_is_not_blamed_for_earlier_calls(void **state)
{
    (void)state;
    struct group_rank rank[2];
    run(2, rank, mismatch_with_a_leaver);
    assert_int_equal(rank[0].result, 0);
    assert_int_equal(rank[0].error.code, MANTA_EMISMATCH);
    assert_string_equal(rank[0].error.sentence,
                        "a message of rank 1 does not fit #5 allreduce(512 float32, sum) of rank "
                        "0; it did not answer what it called");
}

static void receive_without_sender(struct group_rank *rank)
{
    struct mt_record *record = mt_record_create();
    struct mt_call recv = allreduce_call(3, 4);
    recv.collective = MANTA_RECV;
    recv.root = 2;
    struct mt_call last = allreduce_call(9, 1);
    mt_record_begin(record, rank->rank == 0 ? &recv : &last);
    mt_control_set_record(rank->group->control, record);
    meeting_wait(&phase);
    if (rank->rank == 0)
        mt_control_timeout(rank->group->control, &recv);
    await_failure(rank);
    meeting_wait(&phase);
    mt_control_set_record(rank->group->control, NULL);
    mt_record_destroy(record);
}

static void receive_names_its_sender(void **state)
{
    (void)state;
    struct group_rank rank[4];
    run(4, rank, receive_without_sender);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(rank[r].error.code, MANTA_ETIMEOUT);
        assert_int_equal(rank[r].error.rank, 2);
        assert_non_null(strstr(rank[r].error.sentence,
                               "rank 2 has not called #3 send(4 float32, to 0); its last call, #9 "
                               "allreduce(1 float32, sum), was posted and has not ended since"));
    }
}

static void exchange_large(struct group_rank *rank)
{
    enum { BYTES = 64 * 1024 };
    uint8_t *mine = malloc(BYTES + 1);
    struct group_parts out;
    memset(mine, (int)rank->rank + 1, BYTES + 1);
    for (int round = 0; round < 4; round++) {
        size_t bytes = rank->rank % 3 == 0 ? BYTES : rank->rank;
        rank->result = group_rank_exchange(rank, mine, bytes, 20 * MT_SECOND, &out);
        for (uint32_t r = 0; rank->result == 0 && r < rank->ranks; r++) {
            size_t wanted = r % 3 == 0 ? BYTES : r;
            const uint8_t *bytes_of_r = out.parts[r];
            if (out.part_bytes[r] != wanted ||
                (wanted && (bytes_of_r[0] != r + 1 || bytes_of_r[wanted - 1] != r + 1)))
                rank->result = -100;
        }
        free(out.storage);
    }
    if (rank->result == 0 &&
        group_rank_exchange(rank, mine, BYTES + 1, MT_SECOND, &out) != MANTA_EINVAL)
        rank->result = -101;
    free(mine);
}

static void exchanges_carry_64_kib(void **state)
{
    (void)state;
    struct group_rank rank[12];
    run(12, rank, exchange_large);
    for (int r = 0; r < 12; r++)
        assert_int_equal(rank[r].result, 0);
}

static void exchange_but_one(struct group_rank *rank)
{
    struct group_parts out;
    meeting_wait(&phase);
    if (rank->rank == 3)
        await_failure(rank);
    else
        rank->result = group_rank_exchange(rank, "x", 1, MT_SECOND, &out);
    meeting_wait(&phase);
}

static void exchange_names_who_is_missing(void **state)
{
    (void)state;
    struct group_rank rank[5];
    run(5, rank, exchange_but_one);
    for (int r = 0; r < 5; r++) {
        assert_int_equal(rank[r].error.code, MANTA_ETIMEOUT);
        assert_int_equal(rank[r].error.rank, 3);
        assert_non_null(strstr(rank[r].error.sentence, "rank 3 did not come to the exchange"));
    }
}

static int ending; /* by an abort, or as when a rank destroys with calls under way */

/* Rank 0 ends what is whole for it, and word of that overtakes rank 2's piece on its way to rank 1.
 */
static void exchange_after_the_end(struct group_rank *rank)
{
    struct group_parts out;
    struct mt_error error;
    mt_error_set_rank(&error, ending, 0, "rank 0 has ended it");
    meeting_wait(&phase);
    if (rank->rank == 0)
        mt_control_fail(rank->group->control, &error);
    if (rank->rank != 1)
        await_failure(rank);
    rank->result = group_rank_exchange(rank, "x", 1, 20 * MT_SECOND, &out);
    free(out.storage);
    meeting_wait(&phase);
}

static void an_end_may_overtake_the_last_pieces(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct group_rank rank[3];
        ending = i ? MANTA_ELEFT : MANTA_EABORTED;
        run(3, rank, exchange_after_the_end);
        assert_int_equal(rank[1].result, 0);
        assert_int_equal(rank[2].result, 0);
    }
}

static void fail_everywhere_at_once(struct group_rank *rank)
{
    struct mt_error error;
    mt_error_set_rank(&error, MANTA_ETRANSPORT, (int)rank->rank, "cause %u", rank->rank);
    meeting_wait(&phase);
    mt_control_fail(rank->group->control, &error);
    mt_control_fail(rank->group->control, &error);
    mt_control_abort(rank->group->control, NULL);
    await_failure(rank);
    if (rank->error.code != MANTA_ETRANSPORT)
        rank->result = -100;
    meeting_wait(&phase);
}

static void first_failure_stays(void **state)
{
    (void)state;
    struct group_rank rank[6];
    run(6, rank, fail_everywhere_at_once);
    for (int r = 0; r < 6; r++)
        assert_int_equal(rank[r].result, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(abort_reaches_all),
        cmocka_unit_test(who_is_given_up_is_told),
        cmocka_unit_test(goodbye_is_no_failure),
        cmocka_unit_test(those_that_stay_keep_in_touch),
        cmocka_unit_test(needing_a_rank_that_left),
        cmocka_unit_test(suspicion_becomes_failure),
        cmocka_unit_test(late_rank_is_named),
        cmocka_unit_test(several_late_ranks),
        cmocka_unit_test(different_call_is_a_mismatch),
        cmocka_unit_test(a_stray_is_named_before_those_it_keeps),
        cmocka_unit_test(nobody_is_late),
        cmocka_unit_test(all_run_into_the_deadline),
        cmocka_unit_test(mismatch_words_both_calls),
        cmocka_unit_test(a_leaver_is_not_blamed_for_earlier_calls),
        cmocka_unit_test(receive_names_its_sender),
        cmocka_unit_test(exchanges_carry_64_kib),
        cmocka_unit_test(exchange_names_who_is_missing),
        cmocka_unit_test(an_end_may_overtake_the_last_pieces),
        cmocka_unit_test(first_failure_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
