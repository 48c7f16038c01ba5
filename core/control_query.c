/* SPDX-License-Identifier: Apache-2.0 */
/* Asking all ranks what they are doing, and answering. What is made of the answers is worded in
 * control_verdict.c. */
#include <string.h>

#include <manta/plan.h>

#include "core/clock.h"
#include "core/control_impl.h"
#include "core/control_verdict.h"

#define ANSWER_NS (500 * (uint64_t)MT_MS)
#define VERDICT_NS (2 * ANSWER_NS) /* until all have answered, and its verdict has gone round */
#define TURN_NS ((uint64_t)MT_MS)  /* between the turns of two ranks */

static uint64_t age(uint64_t then_ns, uint64_t now_ns)
{
    return then_ns && then_ns < now_ns ? now_ns - then_ns : 0;
}

static void tell_ages(struct mt_told_call *told, uint64_t now_ns)
{
    told->posted_ago_ns = age(told->call.posted_ns, now_ns);
    told->ended_ago_ns = age(told->call.ended_ns, now_ns);
}

/* This rank's call that belongs to the one asked for: the same sequence, or the other end of a
 * send or recv. */
static int find_same(const struct mt_record *record, const struct mt_query *query, uint32_t asker,
                     struct mt_call *call_out)
{
    if (query->collective == MANTA_SEND)
        return mt_record_find_pair(record, MANTA_RECV, asker, query->sequence, call_out);
    if (query->collective == MANTA_RECV)
        return mt_record_find_pair(record, MANTA_SEND, asker, query->sequence, call_out);
    return mt_record_find(record, query->sequence, call_out);
}

void mt_inquiry_received(struct mt_control *control, const struct mt_wire_frame *frame,
                         const uint8_t *payload)
{
    uint32_t rank = control->group->rank;
    uint64_t now_ns = mt_clock_now_ns();
    struct mt_query query;
    struct mt_answer answer = {.query = frame->serial};
    uint8_t bytes[256];
    if ((frame->target != MANTA_PLAN_NONE && frame->target != rank) ||
        mt_query_decode(payload, frame->bytes, &query))
        return;
    if (frame->target == MANTA_PLAN_NONE)
        mt_stuck_heard(control, &query);
    if (frame->target == MANTA_PLAN_NONE && query.use == MT_QUERY_ENDS)
        control->inquiry.heard_ns = now_ns;
    if (control->record) {
        /* Before the call is looked for: one that begins meanwhile must not look forgotten. */
        answer.last_collective = mt_record_last_collective(control->record);
        answer.same.there =
            (uint32_t)find_same(control->record, &query, frame->origin, &answer.same.call);
        answer.last.there = (uint32_t)mt_record_last(control->record, &answer.last.call);
        answer.open.there = (uint32_t)mt_record_open(control->record, &answer.open.call);
        answer.has_forgotten = (uint32_t)mt_record_has_forgotten(control->record);
    }
    tell_ages(&answer.same, now_ns);
    tell_ages(&answer.last, now_ns);
    tell_ages(&answer.open, now_ns);
    struct mt_wire_frame reply = {.type = MT_WIRE_ANSWER, .origin = rank, .target = frame->origin};
    reply.bytes = (uint32_t)mt_answer_encode(&answer, bytes, sizeof bytes);
    int32_t way = control->way_back[frame->origin];
    if (way != MT_NOBODY)
        mt_control_send(control, &control->neighbours[way].link, &reply, bytes);
}

static int is_waiting_for_answers(const struct mt_control *control)
{
    for (uint32_t r = 0; r < control->group->ranks; r++)
        if (control->inquiry.asked[r] && !mt_control_has_left(control, r))
            return 1;
    return 0;
}

static void close_inquiry(struct mt_control *control)
{
    control->inquiry.is_open = control->inquiry.is_answered = 0;
    memset(control->inquiry.asked, 0, control->group->ranks);
    mt_service_signal(); /* others may wait to ask */
}

/* All have answered, or will not: judge, and make way for the next question. */
static void end_inquiry(struct mt_control *control)
{
    struct mt_inquiry *inquiry = &control->inquiry;
    struct mt_error error;
    mt_service_timer_set(&inquiry->limit, 0);
    if (inquiry->purpose == MT_ASK) {
        inquiry->is_answered = 1;
    } else if (inquiry->purpose == MT_TELL) {
        mt_stuck_answered(control);
        close_inquiry(control);
    } else {
        int is_fault =
            !mt_control_failed(control) && (mt_verdict_timeout(control, &inquiry->call, &error) ||
                                            inquiry->purpose == MT_JUDGE_WAITED);
        close_inquiry(control);
        if (is_fault)
            mt_control_fail_locked(control, &error);
    }
    mt_service_signal();
}

void mt_inquiry_check(struct mt_control *control)
{
    struct mt_inquiry *inquiry = &control->inquiry;
    if (inquiry->is_open && !inquiry->is_answered && !is_waiting_for_answers(control))
        end_inquiry(control);
}

static void limit_passed(struct mt_service_timer *timer)
{
    end_inquiry(timer->arg);
}

void mt_inquiry_answered(struct mt_control *control, const struct mt_wire_frame *frame,
                         const uint8_t *payload)
{
    struct mt_inquiry *inquiry = &control->inquiry;
    struct mt_answer answer;
    if (!inquiry->is_open || mt_answer_decode(payload, frame->bytes, &answer) ||
        answer.query != inquiry->serial || !inquiry->asked[frame->origin])
        return;
    inquiry->asked[frame->origin] = 0;
    inquiry->answered[frame->origin] = 1;
    inquiry->answers[frame->origin] = answer;
    mt_inquiry_check(control);
}

static enum mt_query_use use_of(enum mt_purpose purpose)
{
    return purpose == MT_TELL           ? MT_QUERY_TELLS
           : purpose == MT_JUDGE_WAITED ? MT_QUERY_ENDS
                                        : MT_QUERY_JUDGES;
}

void mt_inquiry_open(struct mt_control *control, const struct mt_call *call, uint32_t target,
                     enum mt_purpose purpose)
{
    struct mt_inquiry *inquiry = &control->inquiry;
    uint32_t ranks = control->group->ranks, rank = control->group->rank;
    struct mt_query query = {call->sequence, call->collective, call->root, use_of(purpose)};
    struct mt_wire_frame frame = {.type = MT_WIRE_QUERY, .origin = rank, .target = target};
    uint8_t bytes[64];
    memset(inquiry->answered, 0, ranks);
    for (uint32_t r = 0; r < ranks; r++)
        inquiry->asked[r] = r != rank && (target == MANTA_PLAN_NONE || target == r);
    inquiry->call = *call;
    inquiry->target = target;
    inquiry->purpose = purpose;
    inquiry->is_open = 1;
    inquiry->limit.fire = limit_passed;
    inquiry->limit.arg = control;
    mt_service_timer_set(&inquiry->limit, mt_clock_now_ns() + ANSWER_NS);
    frame.bytes = (uint32_t)mt_query_encode(&query, bytes, sizeof bytes);
    frame.serial = inquiry->serial = ++control->serial;
    mt_control_flood_frame(control, &frame, bytes);
    mt_inquiry_check(control);
}

uint64_t mt_inquiry_turn_ns(const struct mt_group *group, const struct mt_call *call,
                            uint64_t begun_ns, uint64_t heard_ns)
{
    uint64_t each_ns = ANSWER_NS / group->ranks < TURN_NS ? ANSWER_NS / group->ranks : TURN_NS;
    uint64_t own_ns = begun_ns + group->rank * each_ns;
    uint64_t after_ns = heard_ns + VERDICT_NS;
    if (mt_call_is_pair(call) || after_ns < own_ns)
        return own_ns;
    return after_ns < begun_ns + VERDICT_NS ? after_ns : begun_ns + VERDICT_NS;
}

void mt_inquire_timeout(struct mt_control *control, const struct mt_call *call)
{
    uint64_t begun_ns = mt_clock_now_ns();
    while (!mt_control_failed(control)) {
        uint64_t now_ns = mt_clock_now_ns();
        uint64_t until_ns =
            mt_inquiry_turn_ns(control->group, call, begun_ns, control->inquiry.heard_ns);
        if (now_ns >= until_ns) {
            if (!control->inquiry.is_open) /* else another thread's, or an answer to be read */
                mt_inquiry_open(control, call, MANTA_PLAN_NONE, MT_JUDGE_WAITED);
            until_ns = now_ns + ANSWER_NS;
        }
        if (!mt_control_failed(control))
            mt_service_wait(until_ns);
    }
}

void mt_control_timeout(struct mt_control *control, const struct mt_call *call)
{
    mt_service_lock();
    mt_inquire_timeout(control, call);
    mt_service_unlock();
}

/* Lock held. Ask `peer` about the call; 1 when there is something to read, which the next question
 * overwrites; 0 when the group has failed. */
static int ask(struct mt_control *control, const struct mt_call *call, uint32_t peer)
{
    struct mt_inquiry *inquiry = &control->inquiry;
    while (inquiry->is_open && !mt_control_failed(control))
        mt_service_wait(mt_clock_now_ns() + ANSWER_NS);
    if (mt_control_failed(control))
        return 0;
    mt_inquiry_open(control, call, peer, MT_ASK);
    while (!inquiry->is_answered)
        mt_service_wait(mt_clock_now_ns() + ANSWER_NS);
    close_inquiry(control);
    return !mt_control_failed(control);
}

/* 1 if the peer, which answered, has made other collectives than this rank up to this call. What it
 * has forgotten is not taken for different. */
static int is_history_different(const struct mt_control *control, const struct mt_call *call,
                                uint32_t peer)
{
    const struct mt_answer *answer = &control->inquiry.answers[peer];
    if (!answer->same.there)
        return answer->last_collective < call->sequence;
    return answer->same.call.history != call->history;
}

/* Lock held. Messages carry the history of calls, so what differs may be an earlier call than the
 * one in which it was noticed: find the first, by halving, as far as the recorder goes back. */
static void find_difference(struct mt_control *control, struct mt_call *call, uint32_t peer)
{
    uint64_t last = call->sequence;
    uint64_t first = last >= MT_RECORD_CALLS ? last - MT_RECORD_CALLS + 1 : 1;
    if (mt_call_is_pair(call))
        return;
    while (first < last) {
        uint64_t middle = first + (last - first) / 2;
        struct mt_call tried;
        if (!control->record || !mt_record_find(control->record, middle, &tried)) {
            first = middle + 1;
            continue;
        }
        if (!ask(control, &tried, peer) || !control->inquiry.answered[peer])
            return; /* without its word nothing is known of earlier calls */
        if (is_history_different(control, &tried, peer)) {
            last = middle;
            *call = tried;
        } else {
            first = middle + 1;
        }
    }
}

void mt_control_mismatch(struct mt_control *control, const struct mt_call *call, uint32_t peer)
{
    struct mt_call first = *call;
    struct mt_error error;
    mt_service_lock();
    find_difference(control, &first, peer);
    if (ask(control, &first, peer)) {
        mt_verdict_mismatch(control, &first, peer, &error);
        mt_control_fail_locked(control, &error);
    }
    mt_service_unlock();
}
