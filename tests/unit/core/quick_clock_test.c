/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/quick_clock.h"

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

static void a_counter_that_stands_still_is_not_believed(void **state)
{
    (void)state;
    struct mt_quick_clock clock = {0};
    const struct timespec pause = {.tv_nsec = 30 * MT_MS};
    mt_quick_clock_read(&clock, 5);
    nanosleep(&pause, NULL);
    mt_quick_clock_read(&clock, 6);
    assert_int_equal(clock.limit_ticks, 0);
    check(&clock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_real_clock),
        cmocka_unit_test(a_counter_that_stands_still_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
