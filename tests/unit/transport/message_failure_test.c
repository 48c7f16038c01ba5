/* SPDX-License-Identifier: Apache-2.0 */
/* The message protocol when it does not go well: disagreement, loss, abort, hostile frames. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/pair.h"

/* One side calls with another hash, another length, or another shape under the same sequence. */
static void run_mismatch(uint64_t bytes, int receive_first, int kind)
{
    struct pair *pair = pair_create(9, 1000000);
    struct letter sender, receiver;
    letter_init(&sender, 4, 1, 0, bytes);
    letter_init(&receiver, 4, 1, 0, kind == 1 ? bytes + 1 : bytes);
    if (kind != 1)
        receiver.id.hash ^= 1;
    if (kind == 2)
        receiver.id.number += 5;
    if (receive_first)
        assert_int_equal(letter_post(pair, &receiver, 1), 0);
    pair_pump_all(pair);
    assert_int_equal(letter_post(pair, &sender, 0), 0);
    pair_pump_all(pair);
    if (!receive_first)
        assert_int_equal(letter_post(pair, &receiver, 1), 0);
    pair_pump_all(pair);
    int told = receiver.recv.status == MANTA_EMISMATCH || sender.send.status == MANTA_EMISMATCH;
    assert_true(told);
    if (receiver.recv.status == MANTA_EMISMATCH)
        assert_int_equal(receiver.recv.peer, 0);
    if (sender.send.status == MANTA_EMISMATCH)
        assert_int_equal(sender.send.peer, 1);
    for (uint64_t i = 0; i <= receiver.bytes; i++)
        assert_int_equal(receiver.target[i], 0xee);
    pair_assert_meets(pair, 100);
    mt_messages_abort(pair->ends[0].messages, MANTA_EABORTED);
    mt_messages_abort(pair->ends[1].messages, MANTA_EABORTED);
    letter_free(&sender);
    letter_free(&receiver);
    pair_destroy(pair);
}

static void test_mismatches_are_told(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        for (int first = 0; first < 2; first++) {
            run_mismatch(0, first, kind);
            run_mismatch(200, first, kind);
            run_mismatch(9000, first, kind);
        }
    }
}

/* A frame of another epoch that comes all the same is dropped. */
static void test_other_epochs_are_dropped(void **state)
{
    static const uint8_t payload[100] = {1};
    struct pair *pair = pair_create(9, 1000000);
    struct letter current;
    (void)state;
    letter_init(&current, 4, 1, 0, sizeof(payload));
    struct mt_frame frame = {
        .type = MT_FRAME_EAGER, .part = sizeof(payload), .bytes = sizeof(payload)};
    frame.id = current.id;
    frame.id.epoch = PAIR_EPOCH - 1;
    assert_int_equal(letter_post(pair, &current, 1), 0);
    assert_int_equal(mt_messages_whole(pair->ends[1].messages, 0, &frame, payload), 0);
    pair_pump_all(pair);
    assert_int_equal(current.recv.status, MANTA_INPROGRESS);
    assert_int_equal(letter_post(pair, &current, 0), 0);
    pair_pump_all(pair);
    letter_assert_delivered(&current);
    letter_free(&current);
    pair_destroy(pair);
}

/* Nor are they sent: nobody would give their credit back, and what follows would wait for good. */
static void test_other_epochs_cost_nothing(void **state)
{
    enum { MORE = 2 * (PAIR_WINDOW / MT_MESSAGE_CHUNK + MT_MESSAGE_ANNOUNCED) };
    static const uint64_t sizes[] = {100, 9000};
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        static struct letter old[MORE];
        struct pair *pair = pair_create(9, 1000000);
        struct letter current;
        for (uint32_t k = 0; k < MORE; k++) {
            letter_init(&old[k], 4, k, 0, sizes[i]);
            old[k].id.epoch = PAIR_EPOCH - 1;
            (void)letter_post(pair, &old[k], 0);
            pair_pump_all(pair);
        }
        letter_init(&current, 5, 0, 0, sizes[i]);
        assert_int_equal(letter_post(pair, &current, 0), 0);
        pair_pump_all(pair);
        assert_int_equal(letter_post(pair, &current, 1), 0);
        pair_pump_all(pair);
        letter_assert_delivered(&current);
        mt_messages_abort(pair->ends[0].messages, MANTA_EABORTED);
        for (uint32_t k = 0; k < MORE; k++)
            letter_free(&old[k]);
        letter_free(&current);
        pair_destroy(pair);
    }
}

/* Abort in the middle of everything: nobody touches a buffer afterwards. */
static void test_abort_leaves_buffers(void **state)
{
    enum { COUNT = 40 };
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct pair *pair = pair_create(seed, 20000);
        struct letter letters[COUNT];
        uint8_t *copies[COUNT];
        for (uint32_t i = 0; i < COUNT; i++) {
            letter_init(&letters[i], i, i, i % 2, pair_draw_bytes(pair));
            assert_int_equal(letter_post(pair, &letters[i], (int)pair_draw(pair, 2)), 0);
        }
        for (uint32_t i = 0; i < COUNT; i++) {
            if (!letters[i].sent || !letters[i].received)
                assert_int_equal(letter_post(pair, &letters[i], letters[i].sent), 0);
            pair_pump_some(pair);
        }
        for (uint64_t steps = pair_draw(pair, 200); steps > 0; steps--)
            pair_pump_some(pair);
        mt_messages_abort(pair->ends[0].messages, MANTA_EABORTED);
        mt_messages_abort(pair->ends[1].messages, MANTA_EPEER);
        for (uint32_t i = 0; i < COUNT; i++) {
            int code = letters[i].from == 1 ? MANTA_EABORTED : MANTA_EPEER;
            assert_true(letters[i].recv.status == 0 || letters[i].recv.status == code);
            copies[i] = malloc(letters[i].bytes + 1);
            memcpy(copies[i], letters[i].target, letters[i].bytes + 1);
            memset(letters[i].source, 0x11, letters[i].bytes);
        }
        pair_pump_all(pair);
        for (uint32_t i = 0; i < COUNT; i++) {
            assert_memory_equal(copies[i], letters[i].target, letters[i].bytes + 1);
            free(copies[i]);
            letter_free(&letters[i]);
        }
        struct letter late;
        letter_init(&late, 100, 1, 0, 10);
        assert_int_equal(letter_post(pair, &late, 0), MANTA_EABORTED);
        letter_free(&late);
        pair_destroy(pair);
    }
}

/* A lost peer fails what waits for it; what had arrived whole can still be received. */
static void test_peer_lost(void **state)
{
    struct pair *pair = pair_create(2, 1000000);
    struct letter arrived, waiting, large, later;
    (void)state;
    letter_init(&arrived, 1, 0, 0, 700);
    letter_init(&waiting, 2, 0, 0, 700);
    letter_init(&large, 3, 0, 1, 9000);
    letter_init(&later, 4, 0, 0, 1);
    assert_int_equal(letter_post(pair, &arrived, 0), 0);
    pair_pump_all(pair);
    assert_int_equal(letter_post(pair, &waiting, 1), 0);
    assert_int_equal(letter_post(pair, &large, 0), 0);
    mt_messages_fail(pair->ends[1].messages, 0, MT_MESSAGE_RECVS, MANTA_EPEER, 104,
                     "rank %d closed the connection", 0);
    assert_int_equal(waiting.recv.status, MANTA_EPEER);
    assert_int_equal(waiting.recv.peer, 0);
    assert_int_equal(large.send.status, MANTA_INPROGRESS);
    mt_messages_fail(pair->ends[1].messages, 0, MT_MESSAGE_SENDS, MANTA_EPEER, 104, "gone");
    assert_int_equal(large.send.status, MANTA_EPEER);
    assert_int_equal(letter_post(pair, &arrived, 1), 0);
    letter_assert_delivered(&arrived);
    assert_int_equal(letter_post(pair, &later, 1), MANTA_EPEER);
    struct manta_transport_error error = {.size = sizeof(error)};
    mt_messages_error(pair->ends[1].messages, &error);
    assert_int_equal(error.code, MANTA_EPEER);
    assert_int_equal(error.peer, 0);
    assert_int_equal(error.system_errno, 104);
    assert_string_equal(error.sentence, "rank 0 closed the connection");
    letter_free(&arrived);
    letter_free(&waiting);
    letter_free(&large);
    letter_free(&later);
    pair_destroy(pair);
}

/* The frame comes alone, or whole with its payload, beyond which there is nothing. */
static void assert_violation(struct pair *pair, const struct mt_frame *frame, int is_whole)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    struct mt_messages *messages = pair->ends[1].messages;
    uint8_t *payload = calloc(1, frame->part);
    assert_true(payload != NULL || frame->part == 0);
    assert_int_equal(is_whole ? mt_messages_whole(messages, 0, frame, payload)
                              : mt_messages_begin(messages, 0, 0, frame),
                     MANTA_ETRANSPORT);
    free(payload);
    mt_messages_error(pair->ends[1].messages, &error);
    assert_int_equal(error.code, MANTA_ETRANSPORT);
    assert_int_equal(error.peer, 0);
    assert_non_null(strstr(error.sentence, "rank 0 broke the message protocol"));
}

static struct mt_frame frame_make(uint32_t type, uint64_t call, uint32_t part, uint64_t bytes)
{
    return (struct mt_frame){.type = type,
                             .part = part,
                             .bytes = bytes,
                             .id = {.call = call, .epoch = PAIR_EPOCH, .hash = PAIR_HASH}};
}

/* Frames that no correct peer sends. */
static void test_violations(void **state)
{
    const struct mt_frame bad[] = {
        frame_make(MT_FRAME_DATA, 1, 100, 100),
        frame_make(MT_FRAME_EAGER, 1, PAIR_EAGER + 1, PAIR_EAGER + 1),
        frame_make(MT_FRAME_EAGER, 1, 5, 6),
        frame_make(MT_FRAME_EAGER, 9, 5, 10), /* the one that is waited for, cut short */
        frame_make(MT_FRAME_CREDIT, 0, 0, 1),
        frame_make(MT_FRAME_CREDIT, 0, 0, UINT64_MAX),
        frame_make(77, 0, 0, 0),
    };
    (void)state;
    for (size_t i = 0; i < 2 * sizeof(bad) / sizeof(bad[0]); i++) {
        struct pair *pair = pair_create(2, 1000000);
        struct letter waiting;
        letter_init(&waiting, 9, 0, 0, 10);
        assert_int_equal(letter_post(pair, &waiting, 1), 0);
        assert_violation(pair, &bad[i / 2], i % 2);
        assert_int_equal(waiting.recv.status, MANTA_ETRANSPORT);
        letter_free(&waiting);
        pair_destroy(pair);
    }
}

/* More of something than the protocol allows. */
static void test_floods(void **state)
{
    static const uint32_t types[] = {MT_FRAME_RTS, MT_FRAME_RTR, MT_FRAME_EAGER};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct pair *pair = pair_create(2, 1000000);
        int code = 0;
        uint64_t n = 0;
        for (; n < 1000 && code == 0; n++) {
            struct mt_frame frame = frame_make(types[i], n, 0, i == 1 ? PAIR_EAGER + 1 : 0);
            code = mt_messages_begin(pair->ends[1].messages, 0, 0, &frame);
        }
        assert_int_equal(code, MANTA_ETRANSPORT);
        assert_true(n <= MT_MESSAGE_ANNOUNCED + 1);
        pair_destroy(pair);
    }
}

/* Random frames, many of them close to what is expected: never a crash, and nothing beyond a
 * buffer's end. */
static void test_random_frames(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct pair *pair = pair_create(seed, 1000000);
        struct letter letters[10];
        uint8_t payload[PAIR_EAGER];
        memset(payload, 0x55, sizeof(payload));
        for (uint32_t i = 0; i < 10; i++) {
            letter_init(&letters[i], i, 0, i % 2, pair_draw_bytes(pair));
            letters[i].id.segment = 0;
            assert_int_equal(letter_post(pair, &letters[i], i % 2 == 0), 0);
        }
        for (int steps = 0; steps < 60; steps++) {
            uint64_t which = pair_draw(pair, 10);
            struct mt_frame frame = frame_make(
                (uint32_t)pair_draw(pair, 8), which, (uint32_t)pair_draw(pair, PAIR_EAGER + 1),
                pair_draw(pair, 2) ? letters[which].bytes : pair_draw(pair, 30000));
            if (frame.type == MT_FRAME_EAGER && pair_draw(pair, 3))
                frame.bytes = frame.part;
            if (frame.type == MT_FRAME_CREDIT)
                frame.bytes = pair_draw(pair, 3);
            if (mt_messages_begin(pair->ends[1].messages, 0, 0, &frame) != 0)
                continue;
            mt_messages_deliver(pair->ends[1].messages, 0, 0, payload, frame.part);
        }
        for (uint32_t i = 0; i < 10; i++) {
            assert_int_equal(letters[i].target[letters[i].bytes], 0xee);
            letter_free(&letters[i]);
        }
        pair_destroy(pair);
    }
}

static void test_frame_form(void **state)
{
    struct mt_frame frame = {.type = MT_FRAME_DATA,
                             .part = 0x01020304,
                             .bytes = UINT64_C(0x1122334455667788),
                             .id = {.call = UINT64_C(0x8877665544332211),
                                    .epoch = 5,
                                    .segment = 6,
                                    .number = 7,
                                    .hash = 8}};
    struct mt_frame back;
    uint8_t wire_form[MT_FRAME_BYTES];
    (void)state;
    mt_frame_encode(&frame, wire_form);
    assert_int_equal(mt_frame_decode(wire_form, &back), 0);
    assert_memory_equal(&frame.id, &back.id, sizeof(frame.id));
    assert_int_equal(back.type, frame.type);
    assert_int_equal(back.part, frame.part);
    assert_true(back.bytes == frame.bytes);
    for (int i = 0; i < 4; i++) {
        uint8_t broken[MT_FRAME_BYTES];
        memcpy(broken, wire_form, sizeof(broken));
        broken[i] ^= 0x80;
        assert_int_equal(mt_frame_decode(broken, &back), MANTA_ETRANSPORT);
    }
    frame.bytes = 5;
    mt_frame_encode(&frame, wire_form);
    assert_int_equal(mt_frame_decode(wire_form, &back), MANTA_ETRANSPORT);
}

static void test_bad_arguments(void **state)
{
    struct pair *pair = pair_create(2, 1000000);
    struct manta_transport_buffer buffer = {.address = pair, .bytes = 8};
    struct manta_transport_message message = {
        .id = {.epoch = PAIR_EPOCH}, .peer = 0, .buffers = &buffer, .buffer_count = 1, .bytes = 8};
    struct manta_transport_request request;
    (void)state;
    assert_int_equal(mt_messages_send(pair->ends[0].messages, &message, &request), MANTA_EINVAL);
    message.peer = 2;
    assert_int_equal(mt_messages_recv(pair->ends[0].messages, &message, &request), MANTA_EINVAL);
    message.peer = 1;
    message.bytes = 9;
    assert_int_equal(mt_messages_send(pair->ends[0].messages, &message, &request), MANTA_EINVAL);
    message.bytes = 8;
    buffer.memory = MANTA_MEMORY_CUDA;
    assert_int_equal(mt_messages_recv(pair->ends[0].messages, &message, &request), MANTA_ENOTSUP);
    message.flags = MANTA_MESSAGE_DIRECT;
    assert_int_equal(mt_messages_recv(pair->ends[0].messages, &message, &request), MANTA_ENOTSUP);
    buffer.memory = MANTA_MEMORY_HOST; /* the peer's is the device's */
    assert_int_equal(mt_messages_send(pair->ends[0].messages, &message, &request), MANTA_ENOTSUP);
    message.buffer_count = 9;
    assert_int_equal(mt_messages_recv(pair->ends[0].messages, &message, &request), MANTA_EINVAL);
    pair_destroy(pair);
    pair = pair_create_writing(2, 1000000);
    message.buffer_count = 1;
    buffer.memory = MANTA_MEMORY_CUDA;
    assert_int_equal(mt_messages_send(pair->ends[0].messages, &message, &request), MANTA_EINVAL);
    buffer.registration = pair;
    message.flags = 0;
    assert_int_equal(mt_messages_send(pair->ends[0].messages, &message, &request), MANTA_EINVAL);
    pair_destroy(pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_form),
        cmocka_unit_test(test_mismatches_are_told),
        cmocka_unit_test(test_other_epochs_are_dropped),
        cmocka_unit_test(test_other_epochs_cost_nothing),
        cmocka_unit_test(test_abort_leaves_buffers),
        cmocka_unit_test(test_peer_lost),
        cmocka_unit_test(test_violations),
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_random_frames),
        cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
