/* SPDX-License-Identifier: Apache-2.0 */
#include "core/quick_clock.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#endif

#include "core/clock.h"

/* The rate is known well enough when the two readings that give it are this far apart. */
#define BASELINE_NS (20 * (uint64_t)MT_MS)
#define RENEW_NS (10 * MT_SECOND)
/* Where two rates differ by more than that part, the counter has run on while the host was
 * suspended, or is another host's now. */
enum { UNSTEADY = 64 };
/* A reading of both clocks counts when the thread has run through: some microseconds at most. */
enum { TRIES = 4, TOGETHER_TICKS = 20000 };

#if defined(__x86_64__)
/* The kernel keeps time by the counter, whatever a hypervisor says of it. */
static int is_the_kernels(void)
{
    char name[4] = "";
    int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                  O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, name, sizeof(name)) : 0;
    if (fd >= 0)
        close(fd);
    return got == sizeof(name) && memcmp(name, "tsc\n", sizeof(name)) == 0;
}
#endif

/* The counter runs at one rate whatever the core does, also when it is halted. */
static int is_constant(void)
{
#if defined(__x86_64__)
    enum { POWER_LEAF = 0x80000007, INVARIANT_TSC = 1 << 8 };
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid(POWER_LEAF, &eax, &ebx, &ecx, &edx) && (edx & INVARIANT_TSC))
        return 1;
    return is_the_kernels();
#else
    return 0;
#endif
}

static void restart(struct mt_quick_clock *clock, uint64_t ticks, uint64_t now_ns)
{
    clock->first_ticks = ticks;
    clock->first_ns = now_ns;
}

/* 1 if the rate is much the same as that of the last reading. */
static int is_steady(const struct mt_quick_clock *clock, uint64_t ns_per_tick)
{
    uint64_t last = clock->ns_per_tick;
    uint64_t off = last > ns_per_tick ? last - ns_per_tick : ns_per_tick - last;
    return clock->limit_ticks == 0 || off <= last / UNSTEADY;
}

uint64_t mt_quick_clock_read(struct mt_quick_clock *clock)
{
    uint64_t now_ns = 0;
    if (clock->first_ns == UINT64_MAX)
        return mt_clock_now_ns();
    for (int i = 0; i < TRIES; i++) {
        uint64_t ticks = mt_ticks();
        now_ns = mt_clock_now_ns();
        if (mt_ticks() - ticks <= TOGETHER_TICKS) {
            mt_quick_clock_learn(clock, ticks, now_ns);
            break;
        }
    }
    return now_ns;
}

void mt_quick_clock_learn(struct mt_quick_clock *clock, uint64_t ticks, uint64_t now_ns)
{
    if (clock->first_ns == 0)
        restart(clock, ticks, is_constant() ? now_ns : UINT64_MAX);
    if (clock->first_ns == UINT64_MAX || now_ns - clock->first_ns < BASELINE_NS)
        return;
    uint64_t ticks_run = ticks - clock->first_ticks, ns_run = now_ns - clock->first_ns;
    if (ticks_run < ns_run / 16 || ticks_run / 16 > ns_run) { /* no counter runs like that */
        clock->first_ns = UINT64_MAX;
        clock->limit_ticks = 0;
        return;
    }
    uint64_t ns_per_tick = (uint64_t)(((unsigned __int128)ns_run << 32) / ticks_run);
    if (!is_steady(clock, ns_per_tick)) {
        clock->limit_ticks = 0;
        restart(clock, ticks, now_ns);
        return;
    }
    clock->ns_per_tick = ns_per_tick;
    clock->limit_ticks = (uint64_t)((unsigned __int128)MT_SECOND * ticks_run / ns_run);
    clock->ticks = ticks;
    clock->ns = now_ns;
    if (ns_run > RENEW_NS)
        restart(clock, ticks, now_ns);
}
