/* SPDX-License-Identifier: Apache-2.0 */
/* Time that a test can move on: put between the library and the clock. Included by the one file of
 * a test program; what sleeps in the kernel does not notice, and has to be woken. */
#ifndef MT_TESTS_SUPPORT_CLOCK_SHIFT_H
#define MT_TESTS_SUPPORT_CLOCK_SHIFT_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/service.h"

static _Atomic uint64_t clock_shift_ns;

int clock_gettime(clockid_t clock, struct timespec *time_out)
{
    long rc = syscall(SYS_clock_gettime, clock, time_out);
    if (rc == 0 && clock == CLOCK_MONOTONIC) {
        uint64_t ns = (uint64_t)time_out->tv_sec * MT_SECOND + (uint64_t)time_out->tv_nsec +
                      atomic_load(&clock_shift_ns);
        time_out->tv_sec = (time_t)(ns / MT_SECOND);
        time_out->tv_nsec = (long)(ns % MT_SECOND);
    }
    return (int)rc;
}

static void clock_shift_fired(struct mt_service_timer *timer)
{
    *(int *)timer->arg = 1;
    mt_service_signal();
}

/* Until the service thread has been round: what was due or ready before the call is done. */
static inline void clock_shift_settle(void)
{
    for (int round = 0; round < 2; round++) {
        int fired = 0;
        struct mt_service_timer timer = {.fire = clock_shift_fired, .arg = &fired};
        mt_service_lock();
        mt_service_timer_set(&timer, mt_clock_now_ns());
        while (!fired)
            mt_service_wait(mt_clock_now_ns() + MT_SECOND);
        mt_service_unlock();
    }
}

static inline void clock_shift(uint64_t ns)
{
    atomic_fetch_add(&clock_shift_ns, ns);
}

#endif
