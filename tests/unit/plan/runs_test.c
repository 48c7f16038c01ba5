/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of equal values against a plain array, and events against a sorted one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "plan/events.h"
#include "plan/runs.h"

enum { BLOCKS = 40, ROUNDS = 4000, EVENTS = 3000 };

static uint64_t state_of_random = 1;

static uint32_t draw(uint32_t below)
{
    state_of_random = state_of_random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(state_of_random >> 33) % below;
}

/* Neighbours differ, no run is empty, and the blocks are those of the array. */
static void compare(struct mt_runs *runs, const uint64_t *plain, uint32_t count)
{
    uint32_t block = 0;
    for (uint32_t i = 0; i < runs->count; i++) {
        assert_true(runs->at[i].count > 0);
        assert_true(i == 0 || runs->at[i].mask != runs->at[i - 1].mask ||
                    runs->at[i].written != runs->at[i - 1].written);
        for (uint32_t k = 0; k < runs->at[i].count; k++, block++)
            assert_int_equal(runs->at[i].written ? runs->at[i].mask : 0, plain[block]);
    }
    assert_int_equal(block, count);
    assert_int_equal(mt_runs_blocks(runs), count);
}

static void runs_are_what_was_written(void **state)
{
    struct mt_runs runs = {0}, values = {0}, part = {0};
    uint64_t plain[BLOCKS] = {0};
    (void)state;
    assert_int_equal(mt_runs_append(&runs, (struct mt_run){BLOCKS, 0, 0}), 0);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t first = draw(BLOCKS), count = 1 + draw(BLOCKS - first);
        mt_runs_clear(&values);
        for (uint32_t i = 0; i < count; i++) {
            plain[first + i] = 1 + draw(3);
            assert_int_equal(mt_runs_append(&values, (struct mt_run){1, 1, plain[first + i]}), 0);
        }
        assert_int_equal(mt_runs_write(&runs, first, &values), 0);
        compare(&runs, plain, BLOCKS);
        first = draw(BLOCKS);
        count = draw(BLOCKS - first + 1);
        mt_runs_clear(&part);
        assert_int_equal(mt_runs_read(&runs, first, count, &part), 0);
        compare(&part, plain + first, count);
    }
    free(runs.at);
    free(values.at);
    free(part.at);
}

static int by_time_and_key(const void *a, const void *b)
{
    const struct mt_event *x = a, *y = b;
    if (x->time_ns != y->time_ns)
        return x->time_ns < y->time_ns ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

static void events_come_in_the_order_of_time_and_key(void **state)
{
    static struct mt_event sorted[EVENTS];
    struct mt_events events = {0};
    uint64_t last_ns = 0;
    (void)state;
    for (uint32_t i = 0; i < EVENTS; i++) {
        sorted[i] = (struct mt_event){draw(50), i * UINT64_C(7919) % EVENTS, i};
        assert_int_equal(mt_events_push(&events, sorted[i]), 0);
    }
    qsort(sorted, EVENTS, sizeof(*sorted), by_time_and_key);
    for (uint32_t i = 0; i < EVENTS; i++) {
        struct mt_event event = mt_events_pop(&events);
        assert_int_equal(event.time_ns, sorted[i].time_ns);
        assert_int_equal(event.key, sorted[i].key);
        assert_int_equal(event.value, sorted[i].value);
    }
    /* Coming and going, time never goes back. */
    for (uint32_t i = 0; i < EVENTS; i++) {
        for (uint32_t k = draw(3) + (events.count == 0); k > 0; k--)
            assert_int_equal(
                mt_events_push(&events, (struct mt_event){last_ns + draw(9), draw(100), 0}), 0);
        struct mt_event event = mt_events_pop(&events);
        assert_true(event.time_ns >= last_ns);
        last_ns = event.time_ns;
    }
    free(events.at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_are_what_was_written),
        cmocka_unit_test(events_come_in_the_order_of_time_and_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
