/* SPDX-License-Identifier: Apache-2.0 */
/* A call that waits long finds out on whom, one rank for all, and nothing else comes of it. */
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
#include "core/control_impl.h"
#include "tests/support/group_ranks.h"
#include "tests/support/logged.h"
#include "tests/support/meeting.h"

enum { RANKS = 5, BEHIND = 1, LATE = 2, WAIT_S = 30 };

static struct meeting phase;

static struct mt_call call_of(uint32_t collective, uint64_t sequence, uint32_t root)
{
    return (struct mt_call){.sequence = sequence,
                            .count = 1,
                            .collective = collective,
                            .root = root,
                            .posted_ns = mt_clock_now_ns()};
}

static struct mt_call barrier_call(uint64_t sequence)
{
    return call_of(MANTA_BARRIER, sequence, MANTA_PLAN_NONE);
}

/* Ask on whom the call waits until the answer has these words: a rank that is slow may not have
 * answered the first time. */
static int expect(struct mt_control *control, const struct mt_call *call, const char *words)
{
    char text[MT_WHOM_TEXT] = "nothing";
    uint64_t until_ns = mt_clock_now_ns() + WAIT_S * MT_SECOND;
    while (mt_clock_now_ns() < until_ns) {
        mt_control_stuck(control, call, mt_clock_now_ns());
        mt_service_lock();
        while (!atomic_load(&control->stuck.has_words) && mt_clock_now_ns() < until_ns)
            mt_service_wait(until_ns);
        mt_service_unlock();
        if (mt_control_whom(control, call, text) && strstr(text, words))
            return 0;
    }
    fprintf(stderr, "there is no '%s' in '%s'\n", words, text);
    return 1;
}

/* All but one have called, one of them something before; and one asks. */
static void wait_and_ask(struct group_rank *rank)
{
    struct mt_control *control = rank->group->control;
    struct mt_record *record = mt_record_create();
    struct mt_call before = barrier_call(8), call = barrier_call(9);
    uint32_t slot = mt_record_begin(record, &before);
    if (rank->rank != BEHIND)
        mt_record_end(record, slot, 0, mt_clock_now_ns());
    if (rank->rank != BEHIND && rank->rank < LATE)
        mt_record_begin(record, &call);
    mt_control_set_record(control, record);
    meeting_wait(&phase);
    if (rank->rank == 0)
        rank->result =
            expect(control, &call,
                   "); ranks 2-4 have not called it and are outside any call (rank 2: its last "
                   "call, #8 barrier(), ended ") ||
            expect(control, &call,
                   "s ago); rank 1 has not called it and is in another call (#8 barrier(), for ");
    meeting_wait(&phase);
    if (rank->rank >= LATE)
        mt_record_begin(record, &call);
    if (rank->rank == BEHIND)
        mt_record_end(record, slot, 0, mt_clock_now_ns());
    if (rank->rank == BEHIND)
        mt_record_begin(record, &call);
    meeting_wait(&phase);
    if (rank->rank == 0)
        rank->result |= expect(control, &call, "; all ranks are in it or have ended it: ");
    meeting_wait(&phase);
    mt_control_failure(control, &rank->error);
    mt_control_set_record(control, NULL);
    mt_record_destroy(record);
}

static void run(void (*body)(struct group_rank *rank))
{
    char session[512];
    struct group_rank rank[RANKS];
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    group_ranks_init(rank, RANKS, session);
    for (uint32_t r = 0; r < RANKS; r++)
        rank[r].timeout_ns = 4 * WAIT_S * MT_SECOND; /* no deadline comes in between */
    meeting_begin(&phase, RANKS);
    group_ranks_run(rank, RANKS, body);
    meeting_end(&phase);
    for (uint32_t r = 0; r < RANKS; r++) {
        assert_int_equal(rank[r].result, 0);
        assert_int_equal(rank[r].error.code, 0);
    }
}

static void those_that_are_late_are_named(void **state)
{
    (void)state;
    run(wait_and_ask);
}

/* Rank r waits to receive from r + 1, and the last one does not send. */
static void wait_in_a_chain(struct group_rank *rank)
{
    struct mt_control *control = rank->group->control;
    struct mt_record *record = mt_record_create();
    struct mt_call call = call_of(MANTA_RECV, 1, rank->rank + 1);
    if (rank->rank < RANKS - 1)
        mt_record_begin(record, &call);
    mt_control_set_record(control, record);
    meeting_wait(&phase);
    if (rank->rank == 0)
        rank->result = expect(control, &call,
                              "; rank 1 has not called send(1 int8, to 0) and waits itself, in the "
                              "end for rank 4; rank 4 is outside any call (it has made no call "
                              "yet)");
    if (rank->rank == RANKS - 2)
        rank->result = expect(control, &call,
                              "; rank 4 has not called send(1 int8, to 3) and is outside any call "
                              "(it has made no call yet)");
    meeting_wait(&phase);
    mt_control_failure(control, &rank->error);
    mt_control_set_record(control, NULL);
    mt_record_destroy(record);
}

static void who_waits_itself_is_followed(void **state)
{
    (void)state;
    run(wait_in_a_chain);
}

/* How many questions this rank has asked, once its turn has come, if it has one. */
static uint64_t questions(struct mt_control *control)
{
    uint64_t until_ns = mt_clock_now_ns() + WAIT_S * MT_SECOND;
    mt_service_lock();
    while ((control->stuck.turn.due_ns || control->inquiry.is_open) && mt_clock_now_ns() < until_ns)
        mt_service_wait(mt_clock_now_ns() + MT_MS);
    uint64_t count = control->stuck.turn.due_ns ? UINT64_MAX : control->serial;
    mt_service_unlock();
    return count;
}

/* One rank asks, of which all others hear; then they would. */
static void ask_in_turn(struct group_rank *rank)
{
    struct mt_control *control = rank->group->control;
    struct mt_call call = barrier_call(9), pair = call_of(MANTA_RECV, 1, 0);
    uint64_t begun_ns = mt_clock_now_ns();
    uint32_t speaker = 3;
    meeting_wait(&phase);
    if (rank->rank == speaker)
        rank->result = expect(control, &call, "; ranks 0-2, 4 have not called it");
    meeting_wait(&phase);
    if (rank->rank != speaker) {
        mt_control_stuck(control, &call, begun_ns);
        rank->result |= questions(control) == 0 ? 0 : -100;
    }
    meeting_wait(&phase);
    if (rank->rank == 1) { /* what a send or receive waits for is something else */
        mt_control_stuck(control, &pair, begun_ns);
        rank->result |= questions(control) == 1 ? 0 : -101;
    }
    meeting_wait(&phase);
    if (rank->rank == 0) { /* once more, in the next interval */
        mt_control_stuck(control, &call, mt_clock_now_ns());
        rank->result |= questions(control) == 1 ? 0 : -102;
    }
    meeting_wait(&phase);
}

static void one_rank_asks_for_all(void **state)
{
    (void)state;
    run(ask_in_turn);
}

/* Until this rank has heard so many questions about sends and receives. */
static int has_heard(struct mt_control *control, uint32_t count)
{
    uint64_t until_ns = mt_clock_now_ns() + WAIT_S * MT_SECOND;
    mt_service_lock();
    while (control->stuck.pairs_heard < count && mt_clock_now_ns() < until_ns)
        mt_service_wait(mt_clock_now_ns() + MT_MS);
    int has = control->stuck.pairs_heard == count;
    mt_service_unlock();
    return has;
}

/* Of sends and receives, which may wait for different ranks, a few ask. */
static void ask_about_pairs(struct group_rank *rank)
{
    struct mt_control *control = rank->group->control;
    struct mt_call pair = call_of(MANTA_RECV, 1, (rank->rank + 1) % RANKS);
    uint64_t begun_ns = mt_clock_now_ns();
    for (uint32_t r = 0; r < RANKS; r++) {
        meeting_wait(&phase);
        if (r != rank->rank)
            continue;
        rank->result = has_heard(control, r) ? 0 : -99;
        mt_control_stuck(control, &pair, begun_ns);
        if (questions(control) != (r < MT_STUCK_PAIRS))
            rank->result = -100;
    }
    meeting_wait(&phase);
}

static void few_ask_about_pairs(void **state)
{
    (void)state;
    run(ask_about_pairs);
}

/* A rank that waits for its turn does not ask about what has ended. */
static void end_before_the_turn(struct group_rank *rank)
{
    struct mt_control *control = rank->group->control;
    struct mt_record *record = mt_record_create();
    struct mt_call call = barrier_call(9), pair = call_of(MANTA_RECV, 1, 0);
    mt_record_end(record, mt_record_begin(record, &call), 0, mt_clock_now_ns());
    mt_record_end(record, mt_record_begin(record, &pair), 0, mt_clock_now_ns());
    mt_control_set_record(control, record);
    meeting_wait(&phase);
    if (rank->rank == LATE) {
        mt_control_stuck(control, &call, mt_clock_now_ns());
        rank->result |= questions(control) == 0 ? 0 : -100;
        mt_control_stuck(control, &pair, mt_clock_now_ns());
        rank->result |= questions(control) == 0 ? 0 : -101;
    }
    meeting_wait(&phase);
    mt_control_set_record(control, NULL);
    mt_record_destroy(record);
}

static void what_has_ended_is_not_asked_about(void **state)
{
    (void)state;
    run(end_before_the_turn);
}

/* What was found out about one call is not told of another, nor twice. */
static void ask_and_go_on(struct group_rank *rank)
{
    struct mt_control *control = rank->group->control;
    struct mt_call call = barrier_call(9), next = barrier_call(10);
    char text[MT_WHOM_TEXT];
    meeting_wait(&phase);
    if (rank->rank == 0) {
        mt_control_stuck(control, &call, mt_clock_now_ns());
        rank->result = questions(control) == 1 && mt_control_whom(control, &call, text) &&
                               !mt_control_whom(control, &call, text)
                           ? 0
                           : -100;
        mt_control_stuck(control, &call, mt_clock_now_ns());
        if (questions(control) != 2 || mt_control_whom(control, &next, text) ||
            atomic_load(&control->stuck.has_words))
            rank->result = -101;
    }
    meeting_wait(&phase);
    rank->group->warn_ns = 3600 * MT_SECOND; /* leave with a question to come, or under way */
    mt_control_stuck(control, &call, mt_clock_now_ns());
}

static void it_is_told_once_of_one_call(void **state)
{
    (void)state;
    run(ask_and_go_on);
}

/* One comes to the exchange of a communicator's creation when the others have said that it has
 * not. */
static void exchange_late(struct group_rank *rank)
{
    struct group_parts parts;
    rank->group->warn_ns = MT_MS;
    if (rank->rank == LATE)
        rank->result = logged_await("manta[0] warn: waiting for rank 2 in the exchange in which "
                                    "the communicator is set up, ",
                                    "", WAIT_S);
    int rc = group_rank_exchange(rank, &rank->rank, sizeof rank->rank, WAIT_S * MT_SECOND, &parts);
    rank->result = rank->result ? rank->result : rc;
    for (uint32_t r = 0; rc == 0 && r < RANKS; r++)
        rank->result |= memcmp(parts.parts[r], &r, sizeof r);
    free(parts.storage);
}

static void a_late_rank_is_named_at_creation(void **state)
{
    (void)state;
    logged_begin();
    run(exchange_late);
    logged_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_that_are_late_are_named),
        cmocka_unit_test(who_waits_itself_is_followed),
        cmocka_unit_test(one_rank_asks_for_all),
        cmocka_unit_test(few_ask_about_pairs),
        cmocka_unit_test(what_has_ended_is_not_asked_about),
        cmocka_unit_test(it_is_told_once_of_one_call),
        cmocka_unit_test(a_late_rank_is_named_at_creation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
