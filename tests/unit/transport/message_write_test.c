/* SPDX-License-Identifier: Apache-2.0 */
/* Long messages that a wire writes into the memory that their receiver offers: in any order of
 * posts and arrivals, where writes are lost, and where requests end while they are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/pair.h"
#include "transport/message_internal.h"

/* `count` letters, of which sends and receives are posted in random order, mixed with arrivals. */
static void run_random(uint64_t seed, uint32_t count, int lossy, int direct)
{
    static const size_t rooms[] = {4000, 8000, 40000, 1000000};
    struct pair *pair = pair_create_writing(seed, rooms[seed % 4]);
    struct letter *letters = calloc(count, sizeof(*letters));
    pair->fragment = 3900;
    pair->lazy = seed % 3 == 0;
    pair->lossy = lossy;
    for (uint32_t i = 0; i < count; i++)
        letter_init(&letters[i], i / 5, i, (uint32_t)pair_draw(pair, 2), pair_draw_bytes(pair));
    for (uint32_t i = 0; i < count; i += 2)
        letters[i].is_direct = direct;
    for (uint32_t left = 2 * count; left > 0;) {
        struct letter *letter = &letters[pair_draw(pair, count)];
        int receive = pair_draw(pair, 2) == 0;
        if (receive ? letter->received : letter->sent) {
            pair_pump_some(pair);
            continue;
        }
        assert_int_equal(letter_post(pair, letter, receive), 0);
        left--;
    }
    pair_pump_all(pair);
    for (uint32_t i = 0; i < count; i++) {
        letter_assert_delivered(&letters[i]);
        letter_free(&letters[i]);
    }
    assert_true(pair->ends[0].wrote + pair->ends[1].wrote > 0);
    if (!lossy && !direct)
        assert_int_equal(pair->ends[0].forward_frames[MT_FRAME_AGAIN], 0);
    assert_int_equal(pair->ends[0].ceased + pair->ends[1].ceased, 0);
    free(letters);
    pair_destroy(pair);
}

static void test_random_orders(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++)
        run_random(seed, 60, 0, 0);
}

/* Memory of devices, at addresses that are none to the CPU, among others. */
static void test_direct(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++)
        run_random(seed, 120, seed % 2 == 0, 1);
}

static void test_writes_are_lost(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++)
        run_random(seed, 150, 1, 0);
}

/* More long messages than there are offers, writes and announcements. */
static void run_one_sided(int receive_first, int lossy, int direct)
{
    enum { COUNT = 500, BYTES = 9000 };
    static struct letter letters[COUNT];
    struct pair *pair = pair_create_writing(11, 100000);
    pair->lossy = lossy;
    for (uint32_t i = 0; i < COUNT; i++) {
        letter_init(&letters[i], i, 0, 0, direct && i % 2 ? 100 : BYTES);
        letters[i].is_direct = direct;
        assert_int_equal(letter_post(pair, &letters[i], receive_first), 0);
    }
    pair_pump_all(pair);
    pair_assert_meets(pair, 20000);
    pair_assert_meets_direct(pair);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(letter_post(pair, &letters[COUNT - 1 - i], !receive_first), 0);
    pair_pump_all(pair);
    for (uint32_t i = 0; i < COUNT; i++) {
        letter_assert_delivered(&letters[i]);
        letter_free(&letters[i]);
    }
    pair_destroy(pair);
}

static void test_one_side_far_ahead(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++)
        run_one_sided(i & 1, i >> 1 & 1, i >> 2);
}

/* More direct messages are posted at both ends, and offered, than a sender keeps offers of while
 * its first writes are under way: those that found no room go when there is some. */
static void test_more_offers_than_are_kept(void **state)
{
    enum { COUNT = 500, BYTES = 9000, STEPS = 20000, WRITES = 8 };
    (void)state;
    for (int lossy = 0; lossy < 2; lossy++) {
        static struct letter letters[COUNT];
        struct pair *pair = pair_create_writing(3, 1000000);
        pair->lossy = lossy;
        pair->places = PAIR_PLACES_MOST;
        pair->writes = WRITES;
        pair->held = 1;
        for (uint32_t i = 0; i < COUNT; i++) {
            letter_init(&letters[i], i, 0, 0, BYTES);
            letters[i].is_direct = 1;
            assert_int_equal(letter_post(pair, &letters[i], 1), 0);
            assert_int_equal(letter_post(pair, &letters[i], 0), 0);
        }
        for (int i = 0; i < STEPS; i++)
            pair_pump_some(pair);
        pair->held = 0;
        for (int i = 0; i < 10 * STEPS; i++) /* it need not come to rest by itself */
            pair_pump_some(pair);
        for (uint32_t i = 0; i < COUNT; i++) {
            letter_assert_delivered(&letters[i]);
            letter_free(&letters[i]);
        }
        if (!lossy) /* each that found no room asks once */
            assert_in_range(pair->ends[0].forward_frames[MT_FRAME_AGAIN], 1, COUNT);
        pair_destroy(pair);
    }
}

/* Half of the places are taken, for messages that nobody sends (to this or other peers), and all
 * announcements, of messages that nobody receives: what is posted at both ends meets all the same.
 */
static void test_meets_without_places(void **state)
{
    enum { COUNT = MT_MESSAGE_ANNOUNCED };
    static struct letter unsent[COUNT], unreceived[COUNT];
    (void)state;
    for (int receive_first = 0; receive_first < 2; receive_first++) {
        struct pair *pair = pair_create_writing(5, 1000000);
        struct letter meets[2];
        for (uint32_t i = 0; i < COUNT; i++) {
            letter_init(&unsent[i], 1000 + i, 0, 0, 200);
            letter_init(&unreceived[i], 2000 + i, 0, 0, 200);
            unsent[i].is_direct = unreceived[i].is_direct = 1;
        }
        for (uint32_t i = 0; i < PAIR_PLACES / 2; i++)
            assert_int_equal(letter_post(pair, &unsent[i], 1), 0);
        for (uint32_t i = 0; i < COUNT; i++)
            assert_int_equal(letter_post(pair, &unreceived[i], 0), 0);
        pair_pump_all(pair);
        for (uint32_t i = 0; i < 2; i++) {
            letter_init(&meets[i], 3000 + i, 0, 0, 9000);
            meets[i].is_direct = 1;
            assert_int_equal(letter_post(pair, &meets[i], receive_first), 0);
            pair_pump_all(pair);
            assert_int_equal(letter_post(pair, &meets[i], !receive_first), 0);
            pair_pump_all(pair);
            letter_assert_delivered(&meets[i]);
            letter_free(&meets[i]);
        }
        mt_messages_abort(pair->ends[0].messages, MANTA_EABORTED);
        mt_messages_abort(pair->ends[1].messages, MANTA_EABORTED);
        for (uint32_t i = 0; i < COUNT; i++) {
            letter_free(&unsent[i]);
            letter_free(&unreceived[i]);
        }
        pair_destroy(pair);
    }
}

/* All places are there for all peers: one that begins no more writes takes no more of them than it
 * keeps offers of. */
static void test_slow_peer_leaves_places(void **state)
{
    enum { COUNT = 500, STEPS = 20000 };
    static struct letter letters[COUNT];
    struct pair *pair = pair_create_writing(3, 1000000);
    (void)state;
    pair->places = PAIR_PLACES_MOST;
    pair->held = 1;
    for (uint32_t i = 0; i < COUNT; i++) {
        letter_init(&letters[i], i, 0, 0, 9000);
        letters[i].is_direct = 1;
        assert_int_equal(letter_post(pair, &letters[i], 1), 0);
        assert_int_equal(letter_post(pair, &letters[i], 0), 0);
    }
    for (int i = 0; i < STEPS; i++)
        pair_pump_some(pair);
    assert_in_range(pair->ends[1].places_taken, 1, MT_MESSAGE_OFFERED);
    pair->held = 0;
    for (int i = 0; i < 10 * STEPS; i++)
        pair_pump_some(pair);
    for (uint32_t i = 0; i < COUNT; i++) {
        letter_assert_delivered(&letters[i]);
        letter_free(&letters[i]);
    }
    assert_int_equal(pair->ends[1].places_taken, 0);
    pair_destroy(pair);
}

/* One end says that its memory may be a device's, the other does not: never is it copied. */
static void test_only_one_end_is_direct(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        int receive_first = i & 1, receiver_says = i >> 1 == 1;
        uint64_t bytes = i >> 2 ? 9000 : 100;
        struct pair *pair = pair_create_writing(2, 100000);
        struct letter letter;
        letter_init(&letter, 1, 1, 0, bytes);
        for (int post = 0; post < 2; post++) {
            int receive = post == !receive_first;
            letter.is_direct = receive == receiver_says;
            assert_int_equal(letter_post(pair, &letter, receive), 0);
            pair_pump_all(pair);
        }
        int status = receiver_says ? letter.recv.status : letter.send.status;
        if (status == 0) /* what is long may be written in any case */
            letter_assert_delivered(&letter);
        else
            assert_int_equal(status, receiver_says ? MANTA_EINVAL : MANTA_ENOTSUP);
        if (bytes == 100)
            assert_int_not_equal(status, 0);
        letter_free(&letter);
        pair_destroy(pair);
    }
}

/* A receive that can never be offered ends, in progress and not in the post. */
static void test_no_way(void **state)
{
    static const int codes[] = {MANTA_EINVAL, MANTA_ENOTSUP, MANTA_ENOMEM};
    (void)state;
    for (size_t i = 0; i < 2 * sizeof(codes) / sizeof(codes[0]); i++) {
        struct pair *pair = pair_create_writing(2, 100000);
        int code = codes[i / 2], is_send = i % 2 == 1;
        struct letter letters[3];
        for (uint32_t k = 0; k < 3; k++) {
            letter_init(&letters[k], 1 + k, 1, 0, 100);
            letters[k].is_direct = 1;
            pair->ends[1].offer_code = is_send ? 0 : code;
            pair->ends[0].write_code = is_send ? code : 0;
            assert_int_equal(letter_post(pair, &letters[k], 1), 0);
            assert_int_equal(letters[k].recv.status, MANTA_INPROGRESS);
        }
        for (uint32_t k = 0; k < 3; k++)
            assert_int_equal(letter_post(pair, &letters[k], 0), 0);
        pair_pump_all(pair);
        for (uint32_t k = 0; k < 3; k++)
            assert_int_equal(is_send ? letters[k].send.status : letters[k].recv.status, code);
        mt_messages_abort(pair->ends[0].messages, MANTA_EABORTED);
        mt_messages_abort(pair->ends[1].messages, MANTA_EABORTED);
        for (uint32_t k = 0; k < 3; k++)
            letter_free(&letters[k]);
        pair_destroy(pair);
    }
}

/* Both ends posted, and offered, but nothing is written yet. */
static struct pair *pair_with_offer(struct letter *letter)
{
    struct pair *pair = pair_create_writing(2, 100000);
    for (int i = 0; i < 2000 && pair->ends[1].writes[0].request == NULL; i++) {
        letter_init(letter, 1, 1, 1, 9000);
        assert_int_equal(letter_post(pair, letter, 1), 0);
        if (pair->ends[0].places[0].request != NULL)
            break;
        assert_int_equal(letter_post(pair, letter, 0), 0); /* it was not offered: once more */
        pair_pump_all(pair);
        letter_assert_delivered(letter);
        letter_free(letter);
        pair_destroy(pair);
        pair = pair_create_writing(3 + (uint64_t)i, 100000);
    }
    assert_non_null(pair->ends[0].places[0].request);
    return pair;
}

static void test_failure_ceases_first(void **state)
{
    static const int codes[] = {0, MANTA_EBUFFER};
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct letter letter;
        struct pair *pair = pair_with_offer(&letter);
        int ceased = codes[i & 1];
        int expected = ceased ? ceased : MANTA_EPEER;
        pair->ends[0].cease_code = ceased;
        if (i < 2)
            mt_messages_fail(pair->ends[0].messages, 1, MT_MESSAGE_BOTH, MANTA_EPEER, 0, "gone");
        else
            mt_messages_abort(pair->ends[0].messages, MANTA_EPEER);
        assert_int_equal(letter.recv.status, expected);
        assert_int_equal(pair->ends[0].ceased, 1);
        assert_null(pair->ends[0].places[0].request);
        letter_free(&letter);
        pair_destroy(pair);
    }
}

/* A receive that ends because of another message of its call: its memory is offered. */
static void test_mismatch_ceases_first(void **state)
{
    struct letter letter, other;
    struct pair *pair = pair_with_offer(&letter);
    (void)state;
    letter_init(&other, 1, 2, 1, 100);
    other.id.hash ^= 1;
    assert_int_equal(letter_post(pair, &other, 0), 0);
    for (int i = 0; i < 1000 && letter.recv.status == MANTA_INPROGRESS; i++)
        pair_pump_some(pair);
    assert_int_equal(letter.recv.status, MANTA_EMISMATCH);
    assert_int_equal(pair->ends[0].ceased, 1);
    assert_null(pair->ends[0].places[0].request);
    letter_free(&letter);
    letter_free(&other);
    pair_destroy(pair);
}

/* A send that is being written ends with the peer; the wire is told to stop before. */
static void test_failure_of_a_write(void **state)
{
    struct letter letter;
    struct pair *pair = pair_with_offer(&letter);
    struct pair_end *sender = &pair->ends[1];
    (void)state;
    assert_int_equal(letter_post(pair, &letter, 0), 0);
    for (int i = 0; i < 10000 && sender->writes[0].request == NULL; i++) {
        assert_int_equal(letter.send.status, MANTA_INPROGRESS);
        pair_pump_some(pair);
    }
    assert_ptr_equal(sender->writes[0].request, &letter.send);
    mt_messages_fail(sender->messages, 0, MT_MESSAGE_BOTH, MANTA_EPEER, 0, "gone");
    assert_int_equal(letter.send.status, MANTA_EPEER);
    assert_int_equal(sender->ceased, 1);
    letter_free(&letter);
    pair_destroy(pair);
}

/* What a peer says of writes where there are none, or of messages that came otherwise. */
static void test_violations(void **state)
{
    struct mt_frame again = {.type = MT_FRAME_AGAIN, .bytes = 9000, .id = {1, PAIR_EPOCH, 0, 1, 7}};
    struct mt_frame rtr = {
        .type = MT_FRAME_RTR, .part = 8, .bytes = 9000, .id = {1, PAIR_EPOCH, 0, 1, 7}};
    struct pair *plain = pair_create(2, 100000);
    (void)state;
    assert_int_equal(mt_messages_begin(plain->ends[0].messages, 1, 0, &again), MANTA_ETRANSPORT);
    assert_int_equal(mt_messages_begin(plain->ends[1].messages, 0, 0, &rtr), MANTA_ETRANSPORT);
    pair_destroy(plain);
    /* AGAIN of a message that nobody has asked for waits as an announcement does. */
    struct pair *pair = pair_create_writing(2, 100000);
    assert_int_equal(mt_messages_begin(pair->ends[0].messages, 1, 0, &again), 0);
    assert_int_equal(pair->ends[0].forward_frames[MT_FRAME_HAVE], 0);
    pair_destroy(pair);
    struct letter letter;
    pair = pair_with_offer(&letter);
    struct mt_frame data = {.type = MT_FRAME_DATA, .part = 10, .bytes = 9000, .id = letter.id};
    assert_int_equal(mt_messages_begin(pair->ends[0].messages, 1, 0, &data), 0);
    assert_int_equal(mt_messages_written(pair->ends[0].messages, 1, &letter.recv),
                     MANTA_ETRANSPORT);
    assert_int_equal(letter.recv.status, MANTA_ETRANSPORT);
    letter_free(&letter);
    pair_destroy(pair);
}

/* Writes that arrived and were still given up: the receiver's word ends them, though its way out is
 * full. */
static void test_again_of_what_is_here(void **state)
{
    enum { COUNT = 20 };
    struct letter letters[COUNT];
    struct pair *pair = pair_create_writing(8, 1000000);
    (void)state;
    for (uint32_t i = 0; i < COUNT; i++) {
        letter_init(&letters[i], 5 + i, 1, 0, 9000);
        assert_int_equal(letter_post(pair, &letters[i], 1), 0);
        assert_int_equal(letter_post(pair, &letters[i], 0), 0);
    }
    for (int i = 0; i < 10000 && letters[COUNT - 1].recv.status == MANTA_INPROGRESS; i++) {
        pair_pump_some(pair);
        for (uint32_t w = 0; w < PAIR_PLACES; w++) {
            struct pair_write *write = &pair->ends[0].writes[w];
            if (write->request == NULL || !write->landed)
                continue;
            struct manta_transport_request *request = write->request;
            write->request = NULL;
            mt_messages_again(pair->ends[0].messages, 1, request);
            pair->ends[0].pipes[0].room = i % 2 ? 0 : 1000000;
        }
    }
    pair->ends[0].pipes[0].room = 1000000;
    pair_pump_all(pair);
    assert_true(pair->ends[1].forward_frames[MT_FRAME_HAVE] > 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        letter_assert_delivered(&letters[i]);
        letter_free(&letters[i]);
    }
    pair_destroy(pair);
}

/* A frame that may be about one of the letters, and may be anything; mostly not what ends the
 * connection. */
static void hear_anything(struct pair *pair, const struct letter *letters, uint32_t count)
{
    static const uint8_t payload[PAIR_EAGER] = {0x55};
    const struct letter *letter = &letters[pair_draw(pair, count)];
    struct mt_messages *messages = pair->ends[1].messages;
    static const uint32_t harmless[] = {MT_FRAME_RTS, MT_FRAME_RTR, MT_FRAME_HAVE, MT_FRAME_AGAIN};
    struct mt_frame frame = {.type = pair_draw(pair, 60)
                                         ? harmless[pair_draw(pair, 4)]
                                         : 1 + (uint32_t)pair_draw(pair, MT_FRAME_AGAIN),
                             .bytes = pair_draw(pair, 4) ? letter->bytes : pair_draw(pair, 30000),
                             .id = letter->id};
    frame.id.hash ^= pair_draw(pair, 16) == 0;
    frame.id.number += pair_draw(pair, 4) == 0 ? 1000 : 0;
    if (frame.type == MT_FRAME_EAGER)
        frame.part = (uint32_t)(frame.bytes = pair_draw(pair, PAIR_EAGER + 1));
    if (frame.type == MT_FRAME_DATA)
        frame.part = (uint32_t)pair_draw(pair, PAIR_EAGER + 1);
    if (frame.type == MT_FRAME_CREDIT)
        frame.bytes = pair_draw(pair, 2);
    if (frame.type == MT_FRAME_RTR && pair_draw(pair, 4)) {
        frame.part = 2 * sizeof(uint32_t); /* of PAIR_PLACES, as it happens */
        (void)mt_messages_asked(messages, 0, &frame, payload);
    } else if (mt_messages_begin(messages, 0, 0, &frame) == 0) {
        mt_messages_deliver(messages, 0, 0, payload, frame.part);
    }
}

/* Offers, lost writes and all else that a peer may say, whether it makes sense or not: no crash,
 * nothing beyond a buffer, and in the end nothing is under way. */
static void test_random_frames(void **state)
{
    enum { COUNT = 40, STEPS = 400 };
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct pair *pair = pair_create_writing(seed, 1000000);
        struct letter letters[COUNT];
        pair->held = 1;
        for (uint32_t i = 0; i < COUNT; i++) {
            letter_init(&letters[i], i / 4, i, i % 2, pair_draw_bytes(pair));
            letters[i].is_direct = i % 3 == 0;
            assert_int_equal(letter_post(pair, &letters[i], i % 2 == 0), 0);
        }
        for (uint32_t step = 0; step < STEPS; step++)
            hear_anything(pair, letters, COUNT);
        mt_messages_abort(pair->ends[1].messages, MANTA_EABORTED);
        for (uint32_t i = 0; i < COUNT; i++) {
            assert_int_equal(letters[i].target[letters[i].bytes], 0xee);
            assert_int_not_equal((i % 2 ? &letters[i].send : &letters[i].recv)->status,
                                 MANTA_INPROGRESS);
            letter_free(&letters[i]);
        }
        assert_int_equal(pair->ends[1].places_taken, 0);
        pair_destroy(pair);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_orders),
        cmocka_unit_test(test_direct),
        cmocka_unit_test(test_writes_are_lost),
        cmocka_unit_test(test_one_side_far_ahead),
        cmocka_unit_test(test_more_offers_than_are_kept),
        cmocka_unit_test(test_slow_peer_leaves_places),
        cmocka_unit_test(test_meets_without_places),
        cmocka_unit_test(test_only_one_end_is_direct),
        cmocka_unit_test(test_no_way),
        cmocka_unit_test(test_failure_ceases_first),
        cmocka_unit_test(test_mismatch_ceases_first),
        cmocka_unit_test(test_failure_of_a_write),
        cmocka_unit_test(test_violations),
        cmocka_unit_test(test_again_of_what_is_here),
        cmocka_unit_test(test_random_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
