/* SPDX-License-Identifier: Apache-2.0 */
#include "core/quick_clock.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "core/clock.h"

/* The rate is known well enough when the two readings that give it are this far apart. */
#define BASELINE_NS (20 * (uint64_t)MT_MS)
#define RENEW_NS (10 * MT_SECOND)

/* The counter runs at one rate whatever the core does, also when it is halted. */
static int is_constant(void)
{
#if defined(__x86_64__)
    enum { POWER_LEAF = 0x80000007, INVARIANT_TSC = 1 << 8 };
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(POWER_LEAF, &eax, &ebx, &ecx, &edx) && (edx & INVARIANT_TSC);
#else
    return 0;
#endif
}

uint64_t mt_quick_clock_read(struct mt_quick_clock *clock, uint64_t ticks)
{
    uint64_t now_ns = mt_clock_now_ns();
    if (clock->first_ns == 0) {
        clock->first_ns = is_constant() ? now_ns : UINT64_MAX;
        clock->first_ticks = ticks;
    }
    if (clock->first_ns == UINT64_MAX || now_ns - clock->first_ns < BASELINE_NS)
        return now_ns;
    uint64_t ticks_run = ticks - clock->first_ticks, ns_run = now_ns - clock->first_ns;
    if (ticks_run < ns_run / 16 || ticks_run / 16 > ns_run) { /* no counter runs like that */
        clock->first_ns = UINT64_MAX;
        clock->limit_ticks = 0;
        return now_ns;
    }
    clock->ns_per_tick = (uint64_t)(((unsigned __int128)ns_run << 32) / ticks_run);
    clock->limit_ticks = (uint64_t)((unsigned __int128)MT_SECOND * ticks_run / ns_run);
    clock->ticks = ticks;
    clock->ns = now_ns;
    if (ns_run > RENEW_NS) { /* the counter may have run on while the host was suspended */
        clock->first_ticks = ticks;
        clock->first_ns = now_ns;
    }
    return now_ns;
}
