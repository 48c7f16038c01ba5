/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of measured times: classes hold against stray ones, and follow a change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/transport/shm/world.h"
#include "transport/shm/copy.h"
#include "transport/shm/distance.h"

enum { NEAR_NS = 60, FAR_NS = 250, BUSY_NS = 40000, MANY = 1000 };

static const char *given;

static const char *config(const char *variable)
{
    return strcmp(variable, "SHM_DISTANCE") == 0 ? given : NULL;
}

static int open_ruler(const char *text, struct mt_shm_ruler *ruler)
{
    struct manta_transport_host host = *mt_transport_host();
    host.config = config;
    given = text;
    return mt_shm_ruler_open(&host, ruler);
}

static struct mt_shm_distance open_distance(const char *text)
{
    struct mt_shm_ruler ruler;
    struct mt_shm_distance distance;
    assert_int_equal(open_ruler(text, &ruler), 0);
    mt_shm_distance_open(&ruler, &distance);
    return distance;
}

static void note(struct mt_shm_distance *distance, uint64_t ns, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++)
        mt_shm_distance_note_ns(distance, ns);
}

static void classes_follow_what_is_measured(void **state)
{
    struct mt_shm_distance distance = open_distance("auto");
    (void)state;
    assert_int_equal(distance.is_far, 0);
    assert_int_equal(distance.line_ns, 0);
    note(&distance, FAR_NS, MANY);
    assert_int_equal(distance.is_far, 1);
    assert_int_equal(distance.line_ns, FAR_NS);
    note(&distance, NEAR_NS, MANY);
    assert_int_equal(distance.is_far, 0);
    assert_int_equal(distance.line_ns, NEAR_NS);
}

/* Seven of eight loads of a near line met with traffic; most of a far line were prefetched. */
static void stray_loads_change_nothing(void **state)
{
    struct mt_shm_distance near = open_distance("auto"), far = open_distance("auto");
    (void)state;
    note(&far, FAR_NS, MANY);
    for (int i = 0; i < MANY; i++) {
        note(&near, BUSY_NS, 7);
        note(&near, NEAR_NS, 1);
        assert_int_equal(near.is_far, 0);
        note(&far, 2, 6);
        note(&far, FAR_NS, 2);
        assert_int_equal(far.is_far, 1);
    }
}

/* What comes at once all the time comes from a sibling. */
static void siblings_are_near(void **state)
{
    struct mt_shm_distance distance = open_distance("auto");
    (void)state;
    note(&distance, FAR_NS, MANY);
    note(&distance, 2, MANY);
    assert_int_equal(distance.is_far, 0);
    assert_int_not_equal(distance.line_ns, 0);
}

static void one_load_changes_nothing(void **state)
{
    struct mt_shm_distance distance = open_distance("auto");
    (void)state;
    note(&distance, UINT64_MAX - 1, 8);
    assert_int_equal(distance.is_far, 0);
}

static uint32_t count_due(struct mt_shm_distance *distance, uint64_t bytes, uint32_t calls)
{
    uint32_t due = 0;
    for (uint32_t i = 0; i < calls; i++)
        due += (uint32_t)mt_shm_distance_is_due(distance, bytes);
    return due;
}

static void loads_are_rare(void **state)
{
    struct mt_shm_distance distance = open_distance("auto");
    (void)state;
    note(&distance, NEAR_NS, MANY);
    count_due(&distance, 1 << 20, 1);
    assert_int_equal(count_due(&distance, 0, 6400), 100);
    assert_int_equal(count_due(&distance, 1 << 14, 6400), 100);
    assert_int_equal(count_due(&distance, UINT64_MAX, 100), 100);
}

static void a_variable_fixes_the_class(void **state)
{
    struct mt_shm_ruler ruler;
    struct mt_shm_distance distance;
    (void)state;
    for (int far = 0; far <= 1; far++) {
        assert_int_equal(open_ruler(far ? "far" : "near", &ruler), 0);
        mt_shm_distance_open(&ruler, &distance);
        ruler.clock.limit_ticks = 1; /* as if its rate were known */
        ruler.clock.ns_per_tick = UINT64_C(1) << 32;
        for (int i = 0; i < MANY; i++)
            mt_shm_distance_note(&ruler, &distance, ruler.overhead_ticks + (far ? 1 : FAR_NS));
        assert_int_equal(distance.is_far, far);
        assert_int_equal(mt_shm_goes_far(&distance, 1 << 20), far);
        assert_int_equal(mt_shm_goes_far(&distance, 64), 0);
    }
    assert_int_equal(open_ruler("nearby", &ruler), MANTA_EINVAL);
    assert_int_equal(open_ruler("", &ruler), MANTA_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_follow_what_is_measured),
        cmocka_unit_test(stray_loads_change_nothing),
        cmocka_unit_test(siblings_are_near),
        cmocka_unit_test(one_load_changes_nothing),
        cmocka_unit_test(loads_are_rare),
        cmocka_unit_test(a_variable_fixes_the_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
