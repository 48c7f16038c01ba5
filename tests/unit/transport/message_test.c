/* SPDX-License-Identifier: Apache-2.0 */
/* The message protocol when all goes well: any order of posts and arrivals, and shortage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/pair.h"

static void shuffle(struct pair *pair, uint32_t *order, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t j = (uint32_t)pair_draw(pair, i + 1);
        uint32_t keep = order[i];
        order[i] = order[j];
        order[j] = keep;
    }
}

/* Sends and receives of `count` letters in two random orders, mixed with arrivals. */
static void run_random(uint64_t seed, uint32_t count)
{
    static const size_t rooms[] = {4000, 8000, 40000, 1000000};
    struct pair *pair = pair_create(seed, rooms[seed % 4]);
    struct letter *letters = calloc(count, sizeof(*letters));
    uint32_t *order[2] = {malloc(count * sizeof(uint32_t)), malloc(count * sizeof(uint32_t))};
    uint32_t next[2] = {0, 0};
    pair->fragment = 3900;
    pair->lazy = seed % 3 == 0;
    for (uint32_t i = 0; i < count; i++)
        letter_init(&letters[i], i / 5, i, (uint32_t)pair_draw(pair, 2), pair_draw_bytes(pair));
    shuffle(pair, order[0], count);
    shuffle(pair, order[1], count);
    uint64_t bias = 1 + pair_draw(pair, 9);
    while (next[0] < count || next[1] < count) {
        int receive = pair_draw(pair, 10) < bias;
        if (pair_draw(pair, 3) == 0 && next[receive] < count)
            assert_int_equal(letter_post(pair, &letters[order[receive][next[receive]++]], receive),
                             0);
        pair_pump_some(pair);
    }
    pair_pump_all(pair);
    for (uint32_t i = 0; i < count; i++) {
        letter_assert_delivered(&letters[i]);
        letter_free(&letters[i]);
    }
    free(order[0]);
    free(order[1]);
    free(letters);
    pair_destroy(pair);
}

static void test_random_orders(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++)
        run_random(seed, 60);
}

/* Far more is posted on one side than there is credit, window or announcements. */
static void run_one_sided(uint64_t bytes, int receive_first)
{
    enum { COUNT = 700 };
    struct pair *pair = pair_create(5 + bytes, 100000);
    struct letter *letters = calloc(COUNT, sizeof(*letters));
    for (uint32_t i = 0; i < COUNT; i++) {
        letter_init(&letters[i], i, 0, 0, bytes);
        assert_int_equal(letter_post(pair, &letters[i], receive_first), 0);
    }
    pair_pump_all(pair);
    pair_assert_meets(pair, 0);
    pair_assert_meets(pair, PAIR_EAGER);
    pair_assert_meets(pair, 20000);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(letter_post(pair, &letters[COUNT - 1 - i], !receive_first), 0);
        if (i % 7 == 0)
            pair_pump_all(pair);
    }
    pair_pump_all(pair);
    for (uint32_t i = 0; i < COUNT; i++) {
        letter_assert_delivered(&letters[i]);
        letter_free(&letters[i]);
    }
    free(letters);
    pair_destroy(pair);
}

static void test_one_side_far_ahead(void **state)
{
    static const uint64_t sizes[] = {0, 600, PAIR_EAGER, PAIR_EAGER + 1, 9000};
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        run_one_sided(sizes[i], 0);
        run_one_sided(sizes[i], 1);
    }
}

static void post_all(struct pair *pair, struct letter *letters, uint32_t count, int receive)
{
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(letter_post(pair, &letters[i], receive), 0);
}

static void deliver_all(struct letter *letters, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        letter_assert_delivered(&letters[i]);
        letter_free(&letters[i]);
    }
}

/* Window and announcements are full of what the receiver comes to later; many more receives than
 * the sender keeps hints of wait for messages that are sent late, in this order or in reverse. */
static void run_many_early_receives(int reverse)
{
    enum { CROWD = 600, EARLY = 300 };
    static struct letter crowd[CROWD], early[EARLY];
    struct pair *pair = pair_create(9, 1000000);
    for (uint32_t i = 0; i < CROWD; i++)
        letter_init(&crowd[i], 1000 + i, 1, 0, 600);
    for (uint32_t i = 0; i < EARLY; i++)
        letter_init(&early[i], i, 1, 0, 100);
    post_all(pair, crowd, CROWD, 0);
    pair_pump_all(pair);
    post_all(pair, early, EARLY, 1);
    pair_pump_all(pair);
    for (uint32_t i = 0; i < EARLY; i++)
        assert_int_equal(letter_post(pair, &early[reverse ? EARLY - 1 - i : i], 0), 0);
    pair_pump_all(pair);
    deliver_all(early, EARLY);
    post_all(pair, crowd, CROWD, 1);
    pair_pump_all(pair);
    deliver_all(crowd, CROWD);
    pair_destroy(pair);
}

static void test_many_early_receives(void **state)
{
    (void)state;
    run_many_early_receives(0);
    run_many_early_receives(1);
}

/* Announcements are full, credit is not: eager messages cross the receiver's asking for them. What
 * it asks for in vain must not displace what it asked for early. */
static void test_crossed_hints(void **state)
{
    enum { WINDOW = PAIR_WINDOW / MT_MESSAGE_CHUNK, CROWD = WINDOW + MT_MESSAGE_ANNOUNCED };
    enum { EARLY = MT_MESSAGE_ANNOUNCED - 10, MORE = 700, CLUSTER = 5 };
    static struct letter crowd[CROWD], early[EARLY], more[MORE], refill[WINDOW];
    struct pair *pair = pair_create(11, 1000000);
    (void)state;
    for (uint32_t i = 0; i < CROWD; i++)
        letter_init(&crowd[i], 10000 + i, 1, 0, 500);
    for (uint32_t i = 0; i < EARLY; i++)
        letter_init(&early[i], i, 1, 0, 100);
    for (uint32_t i = 0; i < MORE; i++)
        letter_init(&more[i], 1000 + i, 1, 0, 100);
    for (uint32_t i = 0; i < WINDOW; i++)
        letter_init(&refill[i], 20000 + i, 1, 0, 500);
    post_all(pair, crowd, CROWD, 0);
    pair_pump_all(pair);
    post_all(pair, early, EARLY, 1);
    post_all(pair, crowd, WINDOW, 1);
    pair_pump_all(pair);
    for (uint32_t i = 0; i < MORE; i += CLUSTER) {
        post_all(pair, &more[i], CLUSTER, 1);
        post_all(pair, &more[i], CLUSTER, 0);
        pair_pump_all(pair);
    }
    deliver_all(more, MORE);
    assert_int_not_equal(pair->ends[1].forward_frames[MT_FRAME_HAVE], 0);
    post_all(pair, refill, WINDOW, 0);
    pair_pump_all(pair);
    post_all(pair, early, EARLY, 0);
    pair_pump_all(pair);
    deliver_all(early, EARLY);
    post_all(pair, &crowd[WINDOW], MT_MESSAGE_ANNOUNCED, 1);
    post_all(pair, refill, WINDOW, 1);
    pair_pump_all(pair);
    deliver_all(crowd, CROWD);
    deliver_all(refill, WINDOW);
    pair_destroy(pair);
}

/* Which frames a message costs: an early receive saves the sender's announcement. */
static void test_frames_used(void **state)
{
    struct pair *pair = pair_create(1, 1000000);
    struct letter small, large;
    (void)state;
    letter_init(&small, 1, 0, 0, PAIR_EAGER);
    letter_init(&large, 2, 0, 0, PAIR_EAGER + 1);
    assert_int_equal(letter_post(pair, &small, 0), 0);
    assert_int_equal(small.send.status, 0);
    assert_int_equal(letter_post(pair, &large, 0), 0);
    assert_int_equal(large.send.status, MANTA_INPROGRESS);
    assert_int_equal(letter_post(pair, &small, 1), 0);
    assert_int_equal(letter_post(pair, &large, 1), 0);
    pair_pump_all(pair);
    letter_assert_delivered(&small);
    letter_assert_delivered(&large);
    assert_int_equal(pair->ends[0].forward_frames[MT_FRAME_EAGER], 1);
    assert_int_equal(pair->ends[0].forward_frames[MT_FRAME_RTS], 0);
    assert_int_equal(pair->ends[1].forward_frames[MT_FRAME_RTR], 1);
    letter_free(&small);
    letter_free(&large);
    pair_destroy(pair);
}

/* The same message again, after the first was complete: it vanishes, and costs no credit. */
static void test_duplicates_vanish(void **state)
{
    static const uint64_t sizes[] = {0, 100, PAIR_EAGER, 9000};
    struct pair *pair = pair_create(3, 1000000);
    (void)state;
    for (uint32_t round = 0; round < 200; round++) {
        struct letter letter;
        letter_init(&letter, round, 1, 0, sizes[round % 4]);
        if (round % 3 == 0)
            assert_int_equal(letter_post(pair, &letter, 1), 0);
        assert_int_equal(letter_post(pair, &letter, 0), 0);
        pair_pump_all(pair);
        if (round % 3 != 0)
            assert_int_equal(letter_post(pair, &letter, 1), 0);
        pair_pump_all(pair);
        letter_assert_delivered(&letter);
        memset(letter.target, 0xee, letter.bytes);
        if (letter.bytes <= PAIR_EAGER) {
            assert_int_equal(letter_post(pair, &letter, 0), 0);
            pair_pump_all(pair);
            assert_int_equal(letter.send.status, 0);
            for (uint64_t i = 0; i <= letter.bytes; i++)
                assert_int_equal(letter.target[i], 0xee);
        }
        letter_free(&letter);
    }
    pair_destroy(pair);
}

/* A duplicate that has to be announced, for want of credit: the peer says that it has it. */
static void test_announced_duplicate(void **state)
{
    enum { COUNT = 40 };
    struct pair *pair = pair_create(3, 1000000);
    struct letter first, crowd[COUNT];
    (void)state;
    letter_init(&first, 1000, 1, 0, 600);
    assert_int_equal(letter_post(pair, &first, 0), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        letter_init(&crowd[i], i, 1, 0, 600);
        assert_int_equal(letter_post(pair, &crowd[i], 0), 0);
    }
    pair_pump_all(pair);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(letter_post(pair, &first, 0), 0);
        assert_int_equal(first.send.status, MANTA_INPROGRESS);
        pair->ends[0].pipes[0].room = i == 0 ? 1000000 : 0;
        pair_pump_all(pair);
        pair->ends[0].pipes[0].room = 1000000;
        pair_pump_all(pair);
        assert_int_equal(first.send.status, 0);
        assert_int_equal(pair->ends[1].forward_frames[MT_FRAME_HAVE], i + 1);
    }
    assert_int_equal(letter_post(pair, &first, 1), 0);
    letter_assert_delivered(&first);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(letter_post(pair, &crowd[i], 1), 0);
        pair_pump_all(pair);
        letter_assert_delivered(&crowd[i]);
        letter_free(&crowd[i]);
    }
    letter_free(&first);
    pair_destroy(pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_used),         cmocka_unit_test(test_random_orders),
        cmocka_unit_test(test_one_side_far_ahead),  cmocka_unit_test(test_duplicates_vanish),
        cmocka_unit_test(test_announced_duplicate), cmocka_unit_test(test_many_early_receives),
        cmocka_unit_test(test_crossed_hints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
