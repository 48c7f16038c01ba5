/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cancel.h"

#include "core/clock.h"
#include "core/control_impl.h"

#define LOOK_NS (50 * (uint64_t)MT_MS)
#define GRACE_NS (300 * (uint64_t)MT_MS)

uint64_t mt_cancel_until(const struct mt_cancel *cancel, uint64_t deadline_ns)
{
    uint64_t end_ns = mt_cancel_is_set(cancel) ? cancel->since_ns + GRACE_NS : deadline_ns;
    return end_ns < deadline_ns ? end_ns : deadline_ns;
}

int mt_cancel_word(const struct mt_cancel *cancel, struct mt_error *error)
{
    return mt_error_set_rank(error, MANTA_EABORTED, (int)cancel->rank,
                             "rank %u gave up creating the communicator, as its caller wanted "
                             "(manta_config.cancel)",
                             cancel->rank);
}

static void look(struct mt_service_timer *timer)
{
    struct mt_cancel *cancel = timer->arg;
    struct mt_error error;
    if (cancel->since_ns == 0 && mt_cancel_is_wanted(cancel->flag)) {
        cancel->since_ns = mt_clock_now_ns();
        mt_service_signal();
    }
    if (cancel->since_ns != 0 && cancel->control) {
        mt_cancel_word(cancel, &error);
        mt_control_fail_locked(cancel->control, &error);
        return;
    }
    mt_service_timer_set(timer, mt_clock_now_ns() + LOOK_NS);
}

void mt_cancel_watch(struct mt_cancel *cancel, const volatile int *flag, uint32_t rank)
{
    *cancel = (struct mt_cancel){.flag = flag, .rank = rank};
    cancel->timer.fire = look;
    cancel->timer.arg = cancel;
    if (flag)
        look(&cancel->timer);
}

void mt_cancel_unwatch(struct mt_cancel *cancel)
{
    mt_service_timer_set(&cancel->timer, 0);
    cancel->flag = NULL;
}

void mt_cancel_fails(struct mt_cancel *cancel, struct mt_control *control)
{
    cancel->control = control;
    if (cancel->flag)
        look(&cancel->timer);
}
