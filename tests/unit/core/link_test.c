/* SPDX-License-Identifier: Apache-2.0 */
/* Frames over a socket pair: order, size, waiting in the queue, and garbage. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/link.h"

enum { PAYLOAD_MAX = 1 << 20 };

/* One end, and what it saw. */
struct end {
    struct mt_link link;
    uint64_t received, bytes;
    int out_of_order, is_lost, lost_errno;
};

static void received(struct mt_link *link, const struct mt_wire_frame *frame,
                     const uint8_t *payload)
{
    struct end *end = link->arg;
    end->received++;
    end->bytes += frame->bytes;
    end->out_of_order += frame->serial != end->received;
    for (uint32_t i = 0; i < frame->bytes; i += 997)
        end->out_of_order += payload[i] != (uint8_t)(frame->serial + i);
    mt_service_signal();
}

static void lost(struct mt_link *link, int errno_or_0)
{
    struct end *end = link->arg;
    end->is_lost++;
    end->lost_errno = errno_or_0;
    mt_service_signal();
}

static void prepare(struct end *end)
{
    memset(end, 0, sizeof *end);
    end->link.source.fd = -1;
    end->link.payload_max = PAYLOAD_MAX;
    end->link.received = received;
    end->link.lost = lost;
    end->link.arg = end;
}

static void pair(int fds[2])
{
    int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
    assert_int_equal(rc, 0);
}

static int start(void **state)
{
    struct mt_error error;
    (void)state;
    return mt_service_acquire(&error);
}

static int stop(void **state)
{
    (void)state;
    mt_service_release();
    return 0;
}

static int send_frame(struct mt_link *link, uint64_t serial, uint32_t bytes)
{
    struct mt_wire_frame frame = {.bytes = bytes, .type = MT_WIRE_PIECE, .serial = serial};
    uint8_t *payload = malloc(bytes + 1);
    for (uint32_t i = 0; i < bytes; i++)
        payload[i] = (uint8_t)(serial + i);
    int rc = mt_link_send(link, &frame, payload);
    free(payload);
    return rc;
}

/* Lock held. */
static void await_lost(struct end *end)
{
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    while (!end->is_lost && mt_clock_now_ns() < until_ns)
        mt_service_wait(until_ns);
    assert_int_equal(end->is_lost, 1);
    assert_false(mt_link_is_open(&end->link));
}

static void frames_arrive_whole_and_in_order(void **state)
{
    (void)state;
    struct end a, b;
    int fds[2];
    uint64_t bytes = 0;
    pair(fds);
    mt_service_lock();
    prepare(&a);
    prepare(&b);
    assert_int_equal(send_frame(&a.link, 1, 5), MANTA_EPEER); /* closed, and not expected */
    a.link.is_expected = 1;
    for (uint64_t i = 1; i <= 60; i++) { /* the first half waits for the link to open */
        uint32_t count = (uint32_t)(i * i * i * 7 % PAYLOAD_MAX);
        if (i == 30)
            assert_int_equal(mt_link_open(&a.link, fds[0]), 0);
        assert_int_equal(send_frame(&a.link, i, i == 60 ? PAYLOAD_MAX : count), 0);
        bytes += i == 60 ? PAYLOAD_MAX : count;
    }
    assert_int_equal(mt_link_open(&b.link, fds[1]), 0);
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    while (b.received < 60 && !b.is_lost && mt_clock_now_ns() < until_ns)
        mt_service_wait(until_ns);
    assert_int_equal(b.received, 60);
    assert_int_equal(b.bytes, bytes);
    assert_int_equal(b.out_of_order, 0);
    mt_link_close(&a.link);
    await_lost(&b);
    assert_int_equal(b.lost_errno, 0);
    mt_service_unlock();
}

static void check_garbage(const void *bytes, size_t count)
{
    struct end end;
    int fds[2];
    pair(fds);
    mt_service_lock();
    prepare(&end);
    assert_int_equal(mt_link_open(&end.link, fds[0]), 0);
    assert_int_equal(send(fds[1], bytes, count, MSG_NOSIGNAL), count);
    shutdown(fds[1], SHUT_WR);
    await_lost(&end);
    assert_int_equal(end.lost_errno, EPROTO);
    assert_int_equal(end.received, 0);
    mt_service_unlock();
    close(fds[1]);
}

static void garbage_breaks_the_link(void **state)
{
    (void)state;
    uint8_t bytes[MT_WIRE_FRAME_BYTES + 10] = {0};
    struct mt_wire_frame frame = {.bytes = PAYLOAD_MAX + 1, .type = MT_WIRE_PIECE};
    mt_wire_frame_encode(&frame, bytes);
    check_garbage(bytes, MT_WIRE_FRAME_BYTES); /* too long */
    frame.bytes = UINT32_MAX;
    mt_wire_frame_encode(&frame, bytes);
    check_garbage(bytes, sizeof bytes);
    frame.bytes = 10;
    mt_wire_frame_encode(&frame, bytes);
    for (size_t cut = 1; cut < sizeof bytes; cut++)
        check_garbage(bytes, cut); /* ends in the middle */
    frame.type = 77;
    mt_wire_frame_encode(&frame, bytes);
    check_garbage(bytes, sizeof bytes); /* no such type */
}

static int send_lent(struct mt_link *link, uint64_t serial, uint32_t bytes, const uint8_t *payload)
{
    struct mt_wire_frame frame = {.bytes = bytes, .type = MT_WIRE_WELCOME, .serial = serial};
    return mt_link_send_lent(link, &frame, payload);
}

/* One payload waits in the queues of several links. What is put right in it meanwhile arrives
 * right, so nobody has a copy. */
static void lent_payload_goes_from_its_place(void **state)
{
    enum { LINKS = 3, LAST = (PAYLOAD_MAX - 1) / 997 * 997 }; /* the last byte that is looked at */
    (void)state;
    struct end from[LINKS], to[LINKS];
    int fds[LINKS][2];
    uint8_t *payload = malloc(PAYLOAD_MAX);
    for (uint32_t i = 0; i < PAYLOAD_MAX; i++)
        payload[i] = (uint8_t)(2 + i + (i == LAST));
    mt_service_lock();
    for (int i = 0; i < LINKS; i++) {
        pair(fds[i]);
        prepare(&from[i]);
        prepare(&to[i]);
        assert_int_equal(mt_link_open(&from[i].link, fds[i][0]), 0);
        assert_int_equal(send_frame(&from[i].link, 1, (uint32_t)i), 0);
        assert_int_equal(send_lent(&from[i].link, 2, PAYLOAD_MAX, payload), 0);
        assert_int_equal(send_lent(&from[i].link, 3, 0, NULL), 0);
        assert_int_equal(send_frame(&from[i].link, 4, 1000), 0);
        assert_true(from[i].link.queued_bytes > 1000);
    }
    payload[LAST]--;
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    for (int i = 0; i < LINKS; i++) {
        assert_int_equal(mt_link_open(&to[i].link, fds[i][1]), 0);
        while (to[i].received < 4 && !to[i].is_lost && mt_clock_now_ns() < until_ns)
            mt_service_wait(until_ns);
        assert_int_equal(to[i].received, 4);
        assert_int_equal(to[i].bytes, i + PAYLOAD_MAX + 1000);
        assert_int_equal(to[i].out_of_order, 0);
        assert_null(from[i].link.first);
        assert_int_equal(from[i].link.queued_bytes, 0);
        mt_link_close(&from[i].link);
        mt_link_close(&to[i].link);
    }
    mt_service_unlock();
    free(payload);
}

/* A peer that reads nothing costs bounded memory, and no time. */
static void queue_is_bounded(void **state)
{
    (void)state;
    struct end end;
    int fds[2], rc = 0, sent = 0;
    pair(fds);
    mt_service_lock();
    prepare(&end);
    assert_int_equal(mt_link_open(&end.link, fds[0]), 0);
    for (; rc == 0 && sent < 1000; sent++)
        rc = send_frame(&end.link, 1, PAYLOAD_MAX);
    assert_int_equal(rc, MANTA_ENOMEM);
    mt_link_close(&end.link);
    assert_int_equal(end.link.queued_bytes, 0);
    mt_service_unlock();
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_arrive_whole_and_in_order),
        cmocka_unit_test(garbage_breaks_the_link),
        cmocka_unit_test(lent_payload_goes_from_its_place),
        cmocka_unit_test(queue_is_bounded),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
