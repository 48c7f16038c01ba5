/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call that has waited long asks on whom, as at its deadline, but nobody is judged: the answer is
 * kept in words for the thread that waits, which logs it if it still does. Each question is flooded
 * to all ranks, so one of those that wait asks for all: their turns come in the order of ranks, and
 * who has heard a question since it began to wait leaves its own out.
 */
#include <manta/plan.h>
#include <string.h>

#include "core/clock.h"
#include "core/control_impl.h"
#include "core/control_verdict.h"

/* Between the turns of two ranks: a question goes round in less. If it can be so, all have had
 * theirs in half of what they are patient. */
#define TURN_NS_MIN (2 * (uint64_t)MT_MS)
#define TURN_NS_MAX (5 * (uint64_t)MT_MS)
#define AGAIN_NS (50 * (uint64_t)MT_MS)

static uint64_t turn_ns(const struct mt_group *group)
{
    uint64_t ns = group->warn_ns / 2 / group->ranks;
    ns = ns < TURN_NS_MIN ? TURN_NS_MIN : ns > TURN_NS_MAX ? TURN_NS_MAX : ns;
    return ns * group->rank;
}

/* All are in one collective, so one question tells about all. Of sends and receives some are
 * asked about, since they may wait for different ranks. */
static int is_told_by_others(const struct mt_stuck *stuck)
{
    if (!mt_call_is_pair(&stuck->call))
        return stuck->heard_ns >= stuck->from_ns;
    for (int i = 0; i < MT_STUCK_PAIRS; i++)
        if (stuck->heard_pair_ns[i] < stuck->from_ns)
            return 0;
    return 1;
}

/* The call has ended while its rank waited for its turn. */
static int is_over(const struct mt_control *control, const struct mt_call *call)
{
    struct mt_call kept;
    int is_kept = control->record &&
                  (mt_call_is_pair(call) ? mt_record_find_pair(control->record, call->collective,
                                                               call->root, call->sequence, &kept)
                                         : mt_record_find(control->record, call->sequence, &kept));
    return is_kept && kept.ended_ns != 0;
}

static void take_turn(struct mt_service_timer *timer)
{
    struct mt_control *control = timer->arg;
    struct mt_stuck *stuck = &control->stuck;
    if (mt_control_failed(control) || control->is_leaving || is_told_by_others(stuck) ||
        is_over(control, &stuck->call))
        return;
    if (control->inquiry.is_open)
        mt_service_timer_set(timer, mt_clock_now_ns() + AGAIN_NS);
    else
        mt_inquiry_open(control, &stuck->call, MANTA_PLAN_NONE, MT_TELL);
}

void mt_control_stuck(struct mt_control *control, const struct mt_call *call, uint64_t from_ns)
{
    struct mt_stuck *stuck = &control->stuck;
    mt_service_lock();
    if (!mt_control_failed(control) && !control->is_leaving) {
        stuck->call = *call;
        stuck->from_ns = from_ns;
        stuck->turn.fire = take_turn;
        stuck->turn.arg = control;
        mt_service_timer_set(&stuck->turn, mt_clock_now_ns() + turn_ns(control->group));
    }
    mt_service_unlock();
}

void mt_stuck_heard(struct mt_control *control, const struct mt_query *query)
{
    struct mt_stuck *stuck = &control->stuck;
    const struct mt_call call = {.collective = query->collective};
    if (mt_call_is_pair(&call))
        stuck->heard_pair_ns[stuck->pairs_heard++ % MT_STUCK_PAIRS] = mt_clock_now_ns();
    else
        stuck->heard_ns = mt_clock_now_ns();
}

void mt_stuck_answered(struct mt_control *control)
{
    struct mt_stuck *stuck = &control->stuck;
    stuck->told = control->inquiry.call;
    mt_verdict_waits(control, &stuck->told, stuck->words);
    atomic_store_explicit(&stuck->has_words, 1, memory_order_release);
}

void mt_stuck_close(struct mt_control *control)
{
    mt_service_timer_set(&control->stuck.turn, 0);
}

static int is_same_call(const struct mt_call *a, const struct mt_call *b)
{
    return a->sequence == b->sequence && a->collective == b->collective && a->root == b->root;
}

int mt_control_whom(struct mt_control *control, const struct mt_call *call, char text[MT_WHOM_TEXT])
{
    struct mt_stuck *stuck = &control->stuck;
    /* Pairs with mt_stuck_answered(); the lock orders the rest. */
    if (!atomic_load_explicit(&stuck->has_words, memory_order_relaxed))
        return 0;
    mt_service_lock();
    int is_about_it = is_same_call(call, &stuck->told);
    if (is_about_it)
        memcpy(text, stuck->words, MT_WHOM_TEXT);
    atomic_store_explicit(&stuck->has_words, 0,
                          memory_order_relaxed); /* else: of one that is over */
    mt_service_unlock();
    return is_about_it;
}
