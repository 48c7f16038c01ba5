/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deadlines of calls that were posted and that no thread waits in. The flight recorder knows each
 * call that has not ended; the service thread looks at it now and then, and exactly when the next
 * deadline is due. Only another rank's fault fails the group: a call in which all ranks are may
 * still end well once its poster comes to wait.
 */
#include <manta/plan.h>

#include "core/clock.h"
#include "core/control_impl.h"

enum { LOOKS_PER_TIMEOUT = 8 };
#define LOOK_NS_MIN (50 * (uint64_t)MT_MS)
#define LOOK_NS_MAX (10 * MT_SECOND)

static uint64_t pause_ns(uint64_t timeout_ns)
{
    uint64_t pause = timeout_ns / LOOKS_PER_TIMEOUT;
    if (pause < LOOK_NS_MIN)
        return LOOK_NS_MIN;
    return pause < LOOK_NS_MAX ? pause : LOOK_NS_MAX;
}

static void look(struct mt_service_timer *timer)
{
    struct mt_control *control = timer->arg;
    uint64_t timeout_ns = control->group->timeout_ns, now_ns = mt_clock_now_ns();
    uint64_t again_ns = now_ns + pause_ns(timeout_ns);
    struct mt_call call;
    if (mt_control_failed(control) || control->is_leaving)
        return;
    if (mt_record_oldest_open(control->record, &call) && call.posted_ns != 0 &&
        now_ns > call.posted_ns) {
        uint64_t left_ns = timeout_ns - (now_ns - call.posted_ns);
        int is_due = now_ns - call.posted_ns >= timeout_ns;
        if (!is_due && left_ns < again_ns - now_ns)
            again_ns = now_ns + left_ns;
        if (is_due && control->inquiry.is_open)
            again_ns = now_ns + LOOK_NS_MIN;
        else if (is_due)
            mt_inquiry_open(control, &call, MANTA_PLAN_NONE, MT_JUDGE_POSTED);
    }
    mt_service_timer_set(timer, again_ns);
}

void mt_deadlines_watch(struct mt_control *control)
{
    control->deadlines.fire = look;
    control->deadlines.arg = control;
    mt_service_timer_set(&control->deadlines,
                         control->record ? mt_clock_now_ns() + LOOK_NS_MIN : 0);
}

void mt_deadlines_close(struct mt_control *control)
{
    mt_service_timer_set(&control->deadlines, 0);
    mt_service_timer_set(&control->inquiry.limit, 0);
}
