/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/quick_clock.h"

#define PAUSE_NS (30 * (uint64_t)MT_MS)

/* Between two readings of the real clock, give or take what the rate may be off. */
static void check(struct mt_quick_clock *clock)
{
    enum { OFF_NS = 2 * MT_MS };
    uint64_t before_ns = mt_clock_now_ns(), now_ns = mt_quick_now_ns(clock);
    uint64_t after_ns = mt_clock_now_ns();
    assert_true(now_ns + OFF_NS >= before_ns);
    assert_true(now_ns <= after_ns + OFF_NS);
}

static void agrees_with_the_real_clock(void **state)
{
    (void)state;
    struct mt_quick_clock clock = {0};
    const uint64_t end_ns = mt_clock_now_ns() + MT_SECOND + MT_SECOND / 2;
    const struct timespec pause = {.tv_nsec = MT_MS};
    while (mt_clock_now_ns() < end_ns) {
        for (int i = 0; i < 100; i++)
            check(&clock);
        nanosleep(&pause, NULL);
    }
}

/* A counter and a clock of the test's own. */
struct bench {
    struct mt_quick_clock clock;
    uint64_t now_ns, ticks;
};

static struct bench begin(uint64_t ticks)
{
    struct bench bench = {.now_ns = MT_SECOND, .ticks = ticks};
    mt_quick_clock_learn(&bench.clock, bench.ticks, bench.now_ns);
    if (bench.clock.first_ns == UINT64_MAX)
        skip(); /* this CPU's counter does not run at one rate */
    return bench;
}

/* Much time later the counter has moved by so many ticks. */
static void pass_time(struct bench *bench, uint64_t ticks)
{
    bench->now_ns += PAUSE_NS;
    bench->ticks += ticks;
    mt_quick_clock_learn(&bench->clock, bench->ticks, bench->now_ns);
}

/* What it makes of a second of its counter's ticks. */
static void assert_rate(const struct mt_quick_clock *clock, uint64_t per_ns)
{
    uint64_t second_ns =
        (uint64_t)(((unsigned __int128)per_ns * MT_SECOND * clock->ns_per_tick) >> 32);
    assert_in_range(second_ns, MT_SECOND - MT_SECOND / 50, MT_SECOND + MT_SECOND / 50);
    assert_in_range(clock->limit_ticks / per_ns, MT_SECOND - MT_SECOND / 50,
                    MT_SECOND + MT_SECOND / 50);
}

static void the_rate_is_learnt_and_good_for_a_second(void **state)
{
    (void)state;
    for (uint64_t per_ns = 1; per_ns <= 9; per_ns += 4) {
        struct bench bench = begin(77);
        assert_int_equal(bench.clock.limit_ticks, 0); /* not known yet */
        pass_time(&bench, per_ns * PAUSE_NS);
        assert_rate(&bench.clock, per_ns);
        assert_int_equal(bench.clock.ns, bench.now_ns);
        assert_int_equal(bench.clock.ticks, bench.ticks);
    }
}

static void a_counter_that_cannot_be_is_not_believed(void **state)
{
    (void)state;
    static const uint64_t moves[] = {100 * PAUSE_NS, 1, 0, -(uint64_t)5};
    for (size_t i = 0; i < sizeof moves / sizeof moves[0]; i++) {
        struct bench bench = begin(77);
        pass_time(&bench, moves[i]);
        assert_int_equal(bench.clock.limit_ticks, 0);
        pass_time(&bench, 3 * PAUSE_NS); /* never again */
        assert_int_equal(bench.clock.limit_ticks, 0);
        check(&bench.clock);
    }
}

/* The counter runs on while the host sleeps, and its clock does not. */
static void a_suspended_host_is_noticed(void **state)
{
    (void)state;
    struct bench bench = begin(77);
    pass_time(&bench, 3 * PAUSE_NS);
    assert_rate(&bench.clock, 3);
    pass_time(&bench, 3 * PAUSE_NS + 3 * MT_SECOND / 8);
    assert_int_equal(bench.clock.limit_ticks, 0); /* the rate would be several times too high */
    pass_time(&bench, 3 * PAUSE_NS);
    assert_rate(&bench.clock, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_real_clock),
        cmocka_unit_test(the_rate_is_learnt_and_good_for_a_second),
        cmocka_unit_test(a_counter_that_cannot_be_is_not_believed),
        cmocka_unit_test(a_suspended_host_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
