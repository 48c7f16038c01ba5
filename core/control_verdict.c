/* SPDX-License-Identifier: Apache-2.0 */
#include "core/control_verdict.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <manta/manta.h>
#include <manta/plan.h>

#include "core/clock.h"
#include "core/ranks.h"

enum fault { NO_FAULT, SILENT, DIFFERENT, NOT_CALLED, LEFT };
enum { CALL_TEXT = 128 };

/* A rank that has not come to a call because it called something else in an earlier one:
 * *theirs_out, where this rank called *mine_out. */
static int has_strayed(const struct mt_control *control, uint32_t r, struct mt_call *theirs_out,
                       struct mt_call *mine_out)
{
    const struct mt_answer *answer = &control->inquiry.answers[r];
    const struct mt_told_call *last = &answer->last;
    if (last->there && mt_call_is_pair(&last->call))
        last = &answer->open;
    if (!last->there || mt_call_is_pair(&last->call) || !control->record ||
        !mt_record_find(control->record, last->call.sequence, mine_out))
        return 0;
    *theirs_out = last->call;
    return mt_call_hash(theirs_out) != mt_call_hash(mine_out);
}

/* What it sent last may be here already, so of a send or receive that nobody waits in it is not
 * said that it will not end. */
static int has_done_before_leaving(const struct mt_control *control, const struct mt_call *call,
                                   uint32_t r)
{
    return mt_call_is_pair(call) ? control->inquiry.purpose == MT_JUDGE_POSTED
                                 : control->left_after[r] >= call->sequence;
}

static enum fault fault_of(const struct mt_control *control, const struct mt_call *call, uint32_t r)
{
    const struct mt_inquiry *inquiry = &control->inquiry;
    const struct mt_answer *answer = &inquiry->answers[r];
    struct mt_call theirs, mine;
    if (r == control->group->rank || (mt_call_is_pair(call) && r != call->root))
        return NO_FAULT;
    if (mt_control_has_left(control, r))
        return has_done_before_leaving(control, call, r) ? NO_FAULT : LEFT;
    if (!inquiry->answered[r])
        return SILENT;
    if (answer->same.there)
        return mt_call_hash(&answer->same.call) == mt_call_hash(call) ? NO_FAULT : DIFFERENT;
    /* The recorder has forgotten the call when 1,024 have followed it. Of a send or receive nobody
     * can tell then; no thread waits for the answer in vain. */
    if (!mt_call_is_pair(call) && answer->last_collective >= call->sequence)
        return NO_FAULT;
    if (mt_call_is_pair(call) && answer->has_forgotten && inquiry->purpose == MT_JUDGE_POSTED)
        return NO_FAULT;
    return !mt_call_is_pair(call) && has_strayed(control, r, &theirs, &mine) ? DIFFERENT
                                                                             : NOT_CALLED;
}

/* Whom a rank that waits in a send or recv waits for; MANTA_PLAN_NONE if it does not. */
static uint32_t waits_for(const struct mt_control *control, uint32_t r)
{
    const struct mt_answer *answer = &control->inquiry.answers[r];
    if (!control->inquiry.answered[r] || !answer->open.there ||
        !mt_call_is_pair(&answer->open.call) || answer->open.call.root >= control->group->ranks)
        return MANTA_PLAN_NONE;
    return answer->open.call.root;
}

/* A peer that has not come because it waits in a send or recv of its own is not at fault: follow
 * who waits for whom to the rank that waits for nobody. */
static enum fault find_fault_of_pair(const struct mt_control *control, const struct mt_call *call,
                                     int *rank_out)
{
    uint32_t r = call->root;
    enum fault fault = fault_of(control, call, r);
    for (uint32_t hops = 0; fault == NOT_CALLED && hops < control->group->ranks; hops++) {
        uint32_t next = waits_for(control, r);
        if (next == MANTA_PLAN_NONE || next == control->group->rank)
            break;
        r = next;
        if (mt_control_has_left(control, r))
            fault = LEFT;
        else if (!control->inquiry.answered[r])
            fault = SILENT;
    }
    *rank_out = (int)r;
    return fault;
}

/* The lowest rank with this fault, and how many others have it. */
static int find_fault(const struct mt_control *control, const struct mt_call *call,
                      enum fault wanted, uint32_t *others_out)
{
    int lowest = -1;
    *others_out = 0;
    for (uint32_t r = 0; r < control->group->ranks; r++) {
        if (fault_of(control, call, r) != wanted)
            continue;
        *others_out += lowest >= 0;
        lowest = lowest < 0 ? (int)r : lowest;
    }
    return lowest;
}

static void word_seconds(uint64_t ns, char *text, size_t text_bytes)
{
    double seconds = (double)ns / 1e9;
    snprintf(text, text_bytes, seconds < 10 ? "%.1f s" : "%.0f s", seconds);
}

static void word_waited(const struct mt_call *call, char *text, size_t text_bytes)
{
    uint64_t now_ns = mt_clock_now_ns();
    word_seconds(call->posted_ns && call->posted_ns < now_ns ? now_ns - call->posted_ns : 0, text,
                 text_bytes);
}

static void word_others(uint32_t others, char *text, size_t text_bytes)
{
    text[0] = 0;
    if (others)
        snprintf(text, text_bytes, "; the same is true of %u other rank%s", others,
                 others == 1 ? "" : "s");
}

/* "#40 broadcast(...), ended 12 s ago" */
static void word_last(const struct mt_told_call *last, char *text, size_t text_bytes)
{
    char call[CALL_TEXT], ago[24];
    if (!last->there) {
        snprintf(text, text_bytes, "it has made no call yet");
        return;
    }
    mt_call_describe(&last->call, call, sizeof call);
    word_seconds(last->call.ended_ns ? last->ended_ago_ns : last->posted_ago_ns, ago, sizeof ago);
    snprintf(text, text_bytes, "its last call, #%llu %s, %s %s ago",
             (unsigned long long)last->call.sequence, call,
             last->call.ended_ns ? "ended" : "was posted and has not ended since", ago);
}

static void word_silent(const struct mt_control *control, const struct mt_call *call, int rank,
                        uint32_t others, struct mt_error *error)
{
    char text[CALL_TEXT], waited[24], more[64];
    mt_call_describe(call, text, sizeof text);
    word_waited(call, waited, sizeof waited);
    word_others(others, more, sizeof more);
    mt_error_set_rank(error, MANTA_ETIMEOUT, rank,
                      "rank %d does not answer: its process is stopped or its host is silent; rank "
                      "%u waited %s in #%llu %s%s",
                      rank, control->group->rank, waited, (unsigned long long)call->sequence, text,
                      more);
}

static void word_different(const struct mt_control *control, const struct mt_call *call, int rank,
                           struct mt_error *error)
{
    char mine_text[CALL_TEXT], their_text[CALL_TEXT];
    const struct mt_told_call *same = &control->inquiry.answers[rank].same;
    struct mt_call theirs = same->call, mine = *call;
    if (!same->there && !has_strayed(control, (uint32_t)rank, &theirs, &mine))
        mine = theirs = *call; /* the recorder has forgotten it since */
    mt_call_describe(&mine, mine_text, sizeof mine_text);
    mt_call_describe(&theirs, their_text, sizeof their_text);
    mt_error_set_rank(error, MANTA_EMISMATCH, rank, "rank %d called %s as #%llu, rank %u called %s",
                      rank, their_text, (unsigned long long)mine.sequence, control->group->rank,
                      mine_text);
}

/* What the other side of a send has to call. */
static void word_wanted(const struct mt_control *control, const struct mt_call *call, char *text,
                        size_t text_bytes)
{
    struct mt_call wanted = *call;
    if (mt_call_is_pair(call)) {
        wanted.collective = call->collective == MANTA_SEND ? MANTA_RECV : MANTA_SEND;
        wanted.root = control->group->rank;
    }
    mt_call_describe(&wanted, text, text_bytes);
}

static void word_not_called(const struct mt_control *control, const struct mt_call *call, int rank,
                            uint32_t others, struct mt_error *error)
{
    char wanted[CALL_TEXT], last[256], waited[24], more[64];
    word_wanted(control, call, wanted, sizeof wanted);
    word_waited(call, waited, sizeof waited);
    word_last(&control->inquiry.answers[rank].last, last, sizeof last);
    word_others(others, more, sizeof more);
    mt_error_set_rank(
        error, MANTA_ETIMEOUT, rank, "rank %d has not called #%llu %s; %s%s; rank %u waited %s",
        rank, (unsigned long long)call->sequence, wanted, last, more, control->group->rank, waited);
}

void mt_verdict_left(const struct mt_control *control, const struct mt_call *call, uint32_t rank,
                     struct mt_error *error_out)
{
    char text[CALL_TEXT];
    mt_call_describe(call, text, sizeof text);
    mt_error_set_rank(error_out, MANTA_ELEFT, (int)rank,
                      "rank %u has destroyed its communicator, but rank %u called #%llu %s; "
                      "destroy it after the last call on all ranks",
                      rank, control->group->rank, (unsigned long long)call->sequence, text);
}

static void word_nobody(const struct mt_control *control, const struct mt_call *call,
                        struct mt_error *error)
{
    char text[CALL_TEXT], waited[24];
    mt_call_describe(call, text, sizeof text);
    word_waited(call, waited, sizeof waited);
    mt_error_set(error, MANTA_ETIMEOUT,
                 "rank %u waited %s in #%llu %s; %s in it or %s ended it, so the transfer is slow, "
                 "or a rank that posted the call does not wait for it (posted calls move on in "
                 "manta_wait, manta_test and other calls): raise MANTA_TIMEOUT, or see "
                 "MANTA_LOG=debug for the transport",
                 control->group->rank, waited, (unsigned long long)call->sequence, text,
                 mt_call_is_pair(call) ? "its peer is" : "all ranks are",
                 mt_call_is_pair(call) ? "has" : "have");
}

/* The gravest fault, of the lowest rank that has it: silent ranks first, then those that called
 * something else, those that have not called, those that have left. */
static enum fault find_gravest(const struct mt_control *control, const struct mt_call *call,
                               int *rank_out, uint32_t *others_out)
{
    static const enum fault by_gravity[] = {SILENT, DIFFERENT, NOT_CALLED, LEFT};
    *others_out = 0;
    if (mt_call_is_pair(call))
        return find_fault_of_pair(control, call, rank_out);
    for (size_t i = 0; i < sizeof by_gravity / sizeof by_gravity[0]; i++) {
        *rank_out = find_fault(control, call, by_gravity[i], others_out);
        if (*rank_out >= 0)
            return by_gravity[i];
    }
    return NO_FAULT;
}

int mt_verdict_timeout(const struct mt_control *control, const struct mt_call *call,
                       struct mt_error *error_out)
{
    int rank;
    uint32_t others;
    switch (find_gravest(control, call, &rank, &others)) {
    case SILENT:
        word_silent(control, call, rank, others, error_out);
        return 1;
    case DIFFERENT:
        word_different(control, call, rank, error_out);
        return 1;
    case NOT_CALLED:
        word_not_called(control, call, rank, others, error_out);
        return 1;
    case LEFT:
        mt_verdict_left(control, call, (uint32_t)rank, error_out);
        return 1;
    default:
        word_nobody(control, call, error_out);
        return 0;
    }
}

void mt_verdict_mismatch(const struct mt_control *control, const struct mt_call *call,
                         uint32_t peer, struct mt_error *error_out)
{
    const struct mt_answer *answer = &control->inquiry.answers[peer];
    char text[CALL_TEXT], last[256];
    mt_call_describe(call, text, sizeof text);
    if (control->inquiry.answered[peer] && answer->same.there &&
        mt_call_hash(&answer->same.call) != mt_call_hash(call)) {
        word_different(control, call, (int)peer, error_out);
        return;
    }
    if (control->inquiry.answered[peer])
        word_last(&answer->last, last, sizeof last);
    else
        snprintf(last, sizeof last, "it did not answer what it called");
    mt_error_set_rank(error_out, MANTA_EMISMATCH, (int)peer,
                      "a message of rank %u does not fit #%llu %s of rank %u; %s", peer,
                      (unsigned long long)call->sequence, text, control->group->rank, last);
}

static void append(char *text, size_t text_bytes, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void append(char *text, size_t text_bytes, const char *format, ...)
{
    size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, text_bytes - used, format, arguments);
    va_end(arguments);
}

/* What ranks do that have not come to a call, the gravest first. */
static const struct habit {
    enum fault fault;
    uint32_t is_in_call; /* of those that have not called */
    const char *one, *many;
} habits[] = {
    {SILENT, 0, "does not answer: its process is stopped or its host is silent",
     "do not answer: their processes are stopped or their hosts are silent"},
    {DIFFERENT, 0, "has called something else", "have called something else"},
    {NOT_CALLED, 0, "is outside any call", "are outside any call"},
    {NOT_CALLED, 1, "is in another call", "are in other calls"},
    {LEFT, 0, "has destroyed its communicator", "have destroyed their communicators"},
};

static int has_habit(const struct mt_control *control, const struct habit *habit, enum fault fault,
                     uint32_t r)
{
    return fault == habit->fault &&
           (fault != NOT_CALLED || control->inquiry.answers[r].open.there == habit->is_in_call);
}

/* "#40 broadcast(...), for 12 s" */
static void word_open(const struct mt_told_call *open, char *text, size_t text_bytes)
{
    char call[CALL_TEXT], since[24];
    mt_call_describe(&open->call, call, sizeof call);
    word_seconds(open->posted_ago_ns, since, sizeof since);
    snprintf(text, text_bytes, "#%llu %s, for %s", (unsigned long long)open->call.sequence, call,
             since);
}

/* "; ranks 3-5 have not called it and are in other calls (rank 3: ...)": those that are marked.
 * it: what they should have called; NULL: that is another's. */
static void word_habit(const struct mt_control *control, const struct mt_call *call, const char *it,
                       const struct habit *habit, char *text)
{
    const size_t text_bytes = MT_WHOM_TEXT;
    char who[160], last[256];
    uint32_t ranks = control->group->ranks, count = 0;
    for (uint32_t r = 0; r < ranks; r++)
        count += control->marked[r];
    int lowest = mt_ranks_describe(control->marked, ranks, who, sizeof who);
    const struct mt_answer *answer = &control->inquiry.answers[lowest];
    append(text, text_bytes, "; %s ", who);
    if (habit->fault == NOT_CALLED && it)
        append(text, text_bytes, "%s not called %s and ", count == 1 ? "has" : "have", it);
    append(text, text_bytes, "%s", count == 1 ? habit->one : habit->many);
    if (habit->fault == DIFFERENT) {
        struct mt_error error;
        word_different(control, call, lowest, &error);
        append(text, text_bytes, " (%s)", error.sentence);
    } else if (habit->fault == NOT_CALLED) {
        if (habit->is_in_call)
            word_open(&answer->open, last, sizeof last);
        else
            word_last(&answer->last, last, sizeof last);
        append(text, text_bytes, " (");
        if (count > 1)
            append(text, text_bytes, "rank %d: ", lowest);
        append(text, text_bytes, "%s)", last);
    }
}

static void word_habits(const struct mt_control *control, const struct mt_call *call, char *text)
{
    uint32_t ranks = control->group->ranks;
    for (size_t h = 0; h < sizeof habits / sizeof habits[0]; h++) {
        int found = 0;
        for (uint32_t r = 0; r < ranks; r++) {
            control->marked[r] =
                (uint8_t)has_habit(control, &habits[h], fault_of(control, call, r), r);
            found |= control->marked[r];
        }
        if (found)
            word_habit(control, call, "it", &habits[h], text);
    }
    memset(control->marked, 0, ranks);
}

/* Of a send or receive: what the peer does, and on whom it waits itself. */
static void word_pair(const struct mt_control *control, const struct mt_call *call, char *text)
{
    int rank;
    char wanted[CALL_TEXT];
    enum fault fault = find_fault_of_pair(control, call, &rank);
    int is_peer = (uint32_t)rank == call->root;
    word_wanted(control, call, wanted, sizeof wanted);
    if (!is_peer)
        append(text, MT_WHOM_TEXT,
               "; rank %u has not called %s and waits itself, in the end for rank %d", call->root,
               wanted, rank);
    control->marked[rank] = 1;
    for (size_t h = 0; h < sizeof habits / sizeof habits[0]; h++)
        if (has_habit(control, &habits[h], fault, (uint32_t)rank))
            word_habit(control, call, is_peer ? wanted : NULL, &habits[h], text);
    control->marked[rank] = 0;
}

void mt_verdict_waits(const struct mt_control *control, const struct mt_call *call,
                      char text[MT_WHOM_TEXT])
{
    char name[CALL_TEXT], waited[24];
    int is_pair = mt_call_is_pair(call);
    mt_call_describe(call, name, sizeof name);
    word_waited(call, waited, sizeof waited);
    snprintf(text, MT_WHOM_TEXT, "waiting in #%llu %s, %s until now (MANTA_TIMEOUT is %.0f s)",
             (unsigned long long)call->sequence, name, waited,
             (double)control->group->timeout_ns / 1e9);
    size_t used = strlen(text);
    if (is_pair)
        word_pair(control, call, text);
    else
        word_habits(control, call, text);
    if (strlen(text) == used)
        append(text, MT_WHOM_TEXT,
               "; %s in it or %s ended it: the transfer is slow, or a rank that posted the call "
               "does not wait for it",
               is_pair ? "its peer is" : "all ranks are", is_pair ? "has" : "have");
}
