/* SPDX-License-Identifier: Apache-2.0 */
/* tcp with several connections for what is long: messages in stretches over all of them, how many
 * there are, and peers that misuse one. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/service.h"
#include "tests/support/endpoints.h"
#include "tests/support/ranks.h"
#include "tests/support/traffic.h"
#include "transport/frame.h"

enum { LONG = 3 << 20, SOCKETS_MAX = 8, TOO_HIGH = 9 };

static void set_sockets(const char *count)
{
    setenv("MANTA_TCP_SOCKETS", count, 1);
}

static void test_stretches_meet(void **state)
{
    static const uint64_t sizes[] = {LONG, 7, 262144, 262145, LONG + 1, 40000};
    static const char *const counts[] = {"1", "2", "3", "8"};
    struct traffic traffic = {sizes, 6, 2};
    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        set_sockets(counts[i]);
        assert_int_equal(endpoints_run("tcp", 2 + (uint32_t)i % 2, traffic_run, &traffic), 0);
    }
}

/* One long message in each direction. */
static int exchange(struct endpoints_rank *self, uint64_t call, uint64_t bytes)
{
    struct manta_transport_request requests[2];
    uint8_t *out = traffic_filled(bytes, self->rank, 1), *in = malloc(bytes + 1);
    memset(in, 0xee, bytes + 1);
    int failed = endpoints_recv(self, !self->rank, call, 0, in, bytes, &requests[0]) ||
                 endpoints_send(self, !self->rank, call, 0, out, bytes, &requests[1]) ||
                 endpoints_wait(self, requests, 2) || requests[0].status || requests[1].status ||
                 traffic_differs(in, bytes, !self->rank, 1);
    free(out);
    free(in);
    return failed ? endpoints_fail(self, "exchange %d", (int)call) : 0;
}

/* Descriptors that are there beyond `before`, once there are no more than expected, or 20 s have
 * passed: the service threads may have handshakes to end. What they closed of those before makes
 * the count too small, never too large. */
static int count_since(struct endpoints_rank *self, int before, int expected)
{
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    int opened;
    endpoints_barrier(self);
    do {
        self->transport->progress(self->endpoint);
        opened = folder_entries("/proc/self/fd") - before;
    } while (opened > expected && mt_clock_now_ns() < until_ns);
    endpoints_barrier(self);
    return opened;
}

struct count {
    int sockets;       /* bulk streams each way */
    uint32_t first;    /* the rank that speaks first; 2: both */
    _Atomic int small; /* how often the count was too small to tell */
};

static int count_before(struct endpoints_rank *self)
{
    endpoints_barrier(self);
    int before = folder_entries("/proc/self/fd");
    endpoints_barrier(self);
    return before;
}

static int judge_count(struct count *count, int opened, int expected)
{
    if (opened < expected)
        atomic_fetch_add(&count->small, 1);
    return opened > expected;
}

/* Until a run could tell, with what is counted set anew. */
static void run_counting(endpoints_fn *fn, struct count *count)
{
    int tries = 0;
    do {
        atomic_store(&count->small, 0);
        assert_int_equal(endpoints_run("tcp", 2, fn, count), 0);
    } while (atomic_load(&count->small) > 0 && ++tries < 10);
    assert_true(tries < 10);
}

/* Two ends each: of the link, and of so many streams each way. No more, ever. */
static int count_connections(struct endpoints_rank *self)
{
    enum { CALLS = 12 };
    struct count *count = self->arg;
    int expected = 2 + 4 * count->sockets, opened = 0, failed = 0;
    int before = count_before(self);
    for (uint64_t call = 1; !failed && call < CALLS; call++)
        failed = exchange(self, call, LONG);
    opened = count_since(self, before, expected);
    if (failed || judge_count(count, opened, expected))
        return endpoints_fail(self, "%d descriptors for %d sockets", opened, count->sockets);
    return 0;
}

static void test_connections_are_counted(void **state)
{
    (void)state;
    for (int sockets = 1; sockets <= 4; sockets *= 2) {
        struct count count = {.sockets = sockets};
        char text[16];
        snprintf(text, sizeof(text), "%d", sockets);
        set_sockets(text);
        run_counting(count_connections, &count);
    }
}

/* What a peer does with a stream for bulk that it has dialled beside its link. */
enum misuse { NOISE, EAGER, STRAY, CUT_HEADER, CLOSED, HALF_CLOSED, SECOND, HIGH, MISUSES };

static size_t make_bytes(enum misuse kind, uint32_t epoch, uint8_t bytes[512])
{
    struct mt_frame frame = {.type = kind == STRAY ? MT_FRAME_DATA : MT_FRAME_EAGER,
                             .part = 100,
                             .bytes = 100,
                             .id = {.call = 99, .epoch = epoch, .hash = 1}};
    memset(bytes, 0x42, 512);
    if (kind == NOISE)
        return 512;
    mt_frame_encode(&frame, bytes);
    return kind == CUT_HEADER ? MT_FRAME_BYTES - 1 : MT_FRAME_BYTES + 50;
}

static int misuse(struct endpoints_rank *self, enum misuse kind)
{
    uint8_t bytes[512];
    size_t count = kind < CLOSED ? make_bytes(kind, self->group->epoch, bytes) : 0;
    int fd = endpoints_dial(self, 0, kind == HIGH ? TOO_HIGH : SOCKETS_MAX);
    if (fd < 0)
        return endpoints_fail(self, "no stream");
    int failed = send(fd, bytes, count, MSG_NOSIGNAL) != (ssize_t)count;
    if (kind == CUT_HEADER || kind == HALF_CLOSED)
        shutdown(fd, SHUT_WR);
    if (kind == SECOND || kind == HIGH) {
        struct pollfd end = {.fd = kind == HIGH ? fd : endpoints_dial(self, 0, SOCKETS_MAX),
                             .events = POLLRDHUP};
        failed = failed || poll(&end, 1, 20000) != 1;
        if (kind == SECOND)
            mt_fd_close(end.fd);
    }
    if (kind != CLOSED)
        endpoints_barrier(self); /* rank 0 has seen what it has to see */
    mt_fd_close(fd);
    return failed ? endpoints_fail(self, "misuse %d", (int)kind) : 0;
}

static int misused(struct endpoints_rank *self)
{
    enum misuse kind = *(enum misuse *)self->arg;
    int is_harmless = kind >= CLOSED;
    if (exchange(self, 1, 100) != 0)
        return 1;
    if (self->rank == 1) {
        int failed = misuse(self, kind);
        if (kind == CLOSED)
            endpoints_barrier(self);
        return failed || (is_harmless && exchange(self, 2, LONG));
    }
    int expected = kind == CUT_HEADER ? MANTA_EPEER : MANTA_ETRANSPORT;
    struct manta_transport_request request;
    uint8_t target[101];
    int failed = 0;
    memset(target, 0xee, sizeof(target));
    if (!is_harmless)
        failed = endpoints_recv(self, 1, 7, 0, target, 100, &request) ||
                 endpoints_wait(self, &request, 1) || request.status != expected ||
                 request.peer != 1 || target[100] != 0xee;
    for (int i = 0; i < 100; i++)
        self->transport->progress(self->endpoint);
    endpoints_barrier(self);
    failed = failed || (is_harmless && exchange(self, 2, LONG));
    return failed ? endpoints_fail(self, "misuse %d is not seen", (int)kind) : 0;
}

static void test_misuse(void **state)
{
    (void)state;
    set_sockets("2");
    for (enum misuse kind = 0; kind < MISUSES; kind++)
        assert_int_equal(endpoints_run("tcp", 2, misused, &kind), 0);
}

/* Both dial at once, or one does, whichever is the lower rank: one link comes of it. */
static int meet(struct endpoints_rank *self)
{
    struct count *count = self->arg;
    struct manta_transport_request requests[2];
    uint8_t byte = (uint8_t)self->rank, got = 9;
    int before = count_before(self);
    int failed = endpoints_recv(self, !self->rank, 1, 0, &got, 1, &requests[0]);
    if (count->first == !self->rank)
        failed = failed || endpoints_wait(self, requests, 1);
    failed = failed || endpoints_send(self, !self->rank, 1, 0, &byte, 1, &requests[1]) ||
             endpoints_wait(self, requests, 2) || requests[0].status || requests[1].status ||
             got != !self->rank;
    int opened = count_since(self, before, 2);
    if (failed || judge_count(count, opened, 2))
        return endpoints_fail(self, "%d, %d descriptors", failed, opened);
    return 0;
}

static void test_one_link(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct count count = {.first = (uint32_t)i % 3};
        run_counting(meet, &count);
    }
}

/* The peer has asked for a long message before it is sent, so that only this rank's progress dials
 * the stream for it: a rank that slept now would sleep for ever. */
static int asked_before(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2];
    uint8_t *bytes = traffic_filled(LONG, 0, 1), token = 0;
    int failed = exchange(self, 1, 100);
    if (self->rank == 1)
        failed = failed || endpoints_recv(self, 0, 2, 0, bytes, LONG, &requests[0]) ||
                 endpoints_send(self, 0, 3, 0, &token, 1, &requests[1]) ||
                 endpoints_wait(self, requests, 2) || requests[0].status || requests[1].status;
    else
        failed = failed || endpoints_recv(self, 1, 3, 0, &token, 1, &requests[0]) ||
                 endpoints_wait(self, requests, 1) || requests[0].status ||
                 endpoints_send(self, 1, 2, 0, bytes, LONG, &requests[1]) ||
                 self->transport->arm(self->endpoint) != 1 ||
                 endpoints_wait(self, &requests[1], 1) || requests[1].status;
    free(bytes);
    return failed ? endpoints_fail(self, "asked before") : 0;
}

static void test_who_has_to_dial_does_not_sleep(void **state)
{
    (void)state;
    set_sockets("2");
    assert_int_equal(endpoints_run("tcp", 2, asked_before, NULL), 0);
}

static int nothing(struct endpoints_rank *self)
{
    (void)self;
    return 0;
}

static void test_nonsense_is_refused(void **state)
{
    static const char *const counts[] = {"0", "9", "-1", "many", "2x", ""};
    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        set_sockets(counts[i]);
        assert_int_equal(endpoints_run("tcp", 2, nothing, NULL), counts[i][0] == '\0' ? 0 : 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stretches_meet),
        cmocka_unit_test(test_connections_are_counted),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_one_link),
        cmocka_unit_test(test_who_has_to_dial_does_not_sleep),
        cmocka_unit_test(test_nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
