/* SPDX-License-Identifier: Apache-2.0 */
/* tcp between threads of this process, over real groups and sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/service.h"
#include "tests/support/endpoints.h"
#include "tests/support/ranks.h"
#include "tests/support/traffic.h"
#include "transport/frame.h"

enum { EAGER = 32768, LONG = 10 << 20 };

static void test_random_exchange(void **state)
{
    static const uint64_t sizes[] = {0, 1, 39, 4096, EAGER - 1, EAGER, EAGER + 1, 200000};
    struct traffic traffic = {sizes, 8, 10};
    static const uint32_t ranks[] = {2, 3, 5, 8};
    (void)state;
    for (size_t i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++)
        assert_int_equal(endpoints_run("tcp", ranks[i], traffic_run, &traffic), 0);
}

static void test_long_messages(void **state)
{
    static const uint64_t sizes[] = {LONG, 5, LONG + 1, EAGER};
    struct traffic traffic = {sizes, 4, 2};
    (void)state;
    assert_int_equal(endpoints_run("tcp", 2, traffic_run, &traffic), 0);
}

/* Eager data that comes first, more than the credit allows, then the receives in reverse. */
static int flood(struct endpoints_rank *self)
{
    enum { COUNT = 300 };
    struct manta_transport_request requests[COUNT];
    uint8_t *memory = traffic_filled(5000, 0, 3);
    uint8_t *targets = malloc(COUNT * 5001);
    memset(targets, 0xee, COUNT * 5001);
    int failed = 0;
    if (self->rank == 0) {
        for (uint32_t i = 0; i < COUNT; i++)
            failed |= endpoints_send(self, 1, i, 0, memory, 5000, &requests[i]);
    }
    endpoints_barrier(self);
    if (self->rank == 1) {
        for (uint32_t i = COUNT; i-- > 0;)
            failed |= endpoints_recv(self, 0, i, 0, targets + i * 5001, 5000, &requests[i]);
    }
    failed = failed || endpoints_wait(self, requests, COUNT);
    for (uint32_t i = 0; self->rank == 1 && i < COUNT; i++)
        failed = failed || requests[i].status || traffic_differs(targets + i * 5001, 5000, 0, 3);
    endpoints_barrier(self);
    free(memory);
    free(targets);
    return failed ? endpoints_fail(self, "flood") : 0;
}

static void test_flood(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("tcp", 2, flood, NULL), 0);
}

/* How a receive ends, be it at once. */
static int ends_with(struct endpoints_rank *self, uint32_t peer, uint64_t call, void *target,
                     uint64_t bytes)
{
    struct manta_transport_request request;
    int code = endpoints_recv(self, peer, call, 0, target, bytes, &request);
    if (code == 0 && endpoints_wait(self, &request, 1) == 0)
        code = request.status;
    return code;
}

/* A rank that is done drains and closes; the other one looks only afterwards. */
static int leave(struct endpoints_rank *self)
{
    enum { COUNT = 7 };
    struct manta_transport_request requests[COUNT];
    int failed = 0;
    if (self->rank == 0) {
        uint8_t *memory = traffic_filled(EAGER, 0, 1);
        for (uint32_t i = 0; i < COUNT; i++)
            failed |= endpoints_send(self, 1, i, 0, memory, EAGER, &requests[i]);
        failed = failed || endpoints_wait(self, requests, COUNT);
        uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
        while (self->transport->drain(self->endpoint) > 0 && mt_clock_now_ns() < until_ns)
            self->transport->progress(self->endpoint);
        self->transport->close(self->endpoint);
        self->closed = 1;
        free(memory);
        endpoints_barrier(self);
        return failed;
    }
    /* The connection has to be taken into use, but nothing is read while rank 0 leaves. */
    endpoints_barrier(self);
    uint8_t *target = malloc(EAGER + 1);
    for (uint32_t i = 0; i < COUNT && !failed; i++) {
        memset(target, 0xee, EAGER + 1);
        int code = endpoints_recv(self, 0, i, 0, target, EAGER, &requests[i]);
        failed = code || endpoints_wait(self, &requests[i], 1) || requests[i].status != 0 ||
                 traffic_differs(target, EAGER, 0, 1);
        if (failed)
            endpoints_fail(self, "message %u: %d, %d", i, code, requests[i].status);
    }
    if (!failed && ends_with(self, 0, COUNT, target, EAGER) != MANTA_EPEER)
        failed = endpoints_fail(self, "the end was not told");
    free(target);
    return failed;
}

static void test_nothing_is_lost_on_leaving(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(endpoints_run("tcp", 2, leave, NULL), 0);
}

/* Rank 1 vanishes without a word while rank 0 waits for it and sends to it. */
static int vanish(struct endpoints_rank *self)
{
    struct manta_transport_request requests[3];
    uint8_t *memory = malloc(LONG + 1);
    int failed = 0;
    memset(memory, 0xee, LONG + 1);
    if (self->rank == 1) {
        failed = endpoints_send(self, 0, 1, 0, memory, 100, &requests[0]) ||
                 endpoints_recv(self, 0, 1, 0, memory, 100, &requests[1]) ||
                 endpoints_wait(self, requests, 2);
        self->transport->close(self->endpoint);
        self->closed = 1;
        free(memory);
        return failed;
    }
    failed = endpoints_send(self, 1, 1, 0, memory, 100, &requests[0]) ||
             endpoints_recv(self, 1, 1, 0, memory, 100, &requests[1]) ||
             endpoints_wait(self, requests, 2);
    int received = failed ? 0 : ends_with(self, 1, 2, memory, LONG);
    int sent = failed ? 0 : endpoints_send(self, 1, 2, 0, memory, LONG, &requests[1]);
    if (!failed && sent == 0 && endpoints_wait(self, requests + 1, 1) == 0)
        sent = requests[1].status;
    struct manta_transport_error error = {.size = sizeof(error)};
    self->transport->error(self->endpoint, &error);
    if (received != MANTA_EPEER || sent != MANTA_EPEER || error.code != MANTA_EPEER ||
        error.peer != 1 || strstr(error.sentence, "rank 1") == NULL ||
        strstr(error.sentence, "tcp") == NULL ||
        self->transport->peer_status(self->endpoint, 1) != MANTA_EPEER)
        failed = endpoints_fail(self, "received %d, sent %d, error %d '%s'", received, sent,
                                error.code, error.sentence);
    free(memory);
    return failed;
}

static void test_lost_peer(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(endpoints_run("tcp", 2, vanish, NULL), 0);
}

/* A stream with the right key, and nonsense on it. */
enum garbage { NOISE, ANSWER, STRAY_DATA, CUT_HEADER, CUT_PAYLOAD, GARBAGE_KINDS };

static size_t make_garbage(enum garbage kind, uint32_t epoch, uint8_t *bytes, size_t room)
{
    struct mt_frame frame = {.type = MT_FRAME_EAGER,
                             .part = 100,
                             .bytes = 100,
                             .id = {.call = 1, .epoch = epoch, .hash = 1}};
    if (kind == NOISE) {
        for (size_t i = 0; i < room; i++)
            bytes[i] = (uint8_t)(i * 37 + 11);
        return room;
    }
    memset(bytes, 0x42, room);
    if (kind == ANSWER) {
        frame.type = MT_FRAME_RTR;
        frame.part = 0;
    }
    if (kind == STRAY_DATA) {
        frame.type = MT_FRAME_DATA;
        frame.id.call = 99;
    }
    mt_frame_encode(&frame, bytes);
    return kind == CUT_HEADER ? MT_FRAME_BYTES - 1 : MT_FRAME_BYTES + 50;
}

static int garbage(struct endpoints_rank *self)
{
    enum garbage kind = *(enum garbage *)self->arg;
    uint8_t bytes[512];
    if (self->rank == 1) {
        size_t count = make_garbage(kind, self->group->epoch, bytes, sizeof(bytes));
        int fd = endpoints_dial(self, 0, 0);
        if (fd < 0)
            return endpoints_fail(self, "no raw stream");
        ssize_t sent = send(fd, bytes, count, MSG_NOSIGNAL);
        if (kind == CUT_HEADER || kind == CUT_PAYLOAD)
            shutdown(fd, SHUT_WR);
        endpoints_barrier(self);
        mt_fd_close(fd);
        return sent == (ssize_t)count ? 0 : endpoints_fail(self, "short garbage");
    }
    struct manta_transport_request request;
    uint8_t target[101];
    memset(target, 0xee, sizeof(target));
    int expected = kind == CUT_HEADER || kind == CUT_PAYLOAD ? MANTA_EPEER : MANTA_ETRANSPORT;
    int failed =
        endpoints_recv(self, 1, 1, 0, target, 100, &request) || endpoints_wait(self, &request, 1);
    if (!failed && (request.status != expected || request.peer != 1 || target[100] != 0xee))
        failed = endpoints_fail(self, "garbage %d gave %d", (int)kind, request.status);
    endpoints_barrier(self);
    return failed;
}

static void test_garbage(void **state)
{
    (void)state;
    for (enum garbage kind = 0; kind < GARBAGE_KINDS; kind++)
        assert_int_equal(endpoints_run("tcp", 2, garbage, &kind), 0);
}

/* After abort nothing is written to the buffer, though the sender goes on. */
static int go_on_sending(struct endpoints_rank *self, _Atomic int *aborted)
{
    struct manta_transport_request request;
    uint8_t *memory = traffic_filled(LONG, 1, 1);
    int failed =
        endpoints_send(self, 0, 1, 1, memory, LONG, &request) || endpoints_until(self, aborted);
    for (int i = 0; i < 2000; i++)
        self->transport->progress(self->endpoint);
    endpoints_barrier(self);
    endpoints_barrier(self);
    self->transport->abort(self->endpoint, MANTA_EABORTED);
    free(memory);
    return failed;
}

static int give_up(struct endpoints_rank *self)
{
    _Atomic int *aborted = self->arg;
    struct manta_transport_request request;
    if (self->rank == 1)
        return go_on_sending(self, aborted);
    uint8_t *memory = calloc(1, LONG), *copy = malloc(LONG);
    int failed = endpoints_recv(self, 1, 1, 1, memory, LONG, &request);
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    while (memory[0] == 0 && mt_clock_now_ns() < until_ns)
        self->transport->progress(self->endpoint);
    failed |= self->transport->abort(self->endpoint, MANTA_EABORTED) != 0;
    if (memory[0] == 0 || (request.status != MANTA_EABORTED && request.status != 0))
        failed = endpoints_fail(self, "status %d after abort", request.status);
    memcpy(copy, memory, LONG);
    atomic_store(aborted, 1);
    endpoints_barrier(self);
    for (int i = 0; i < 2000; i++)
        self->transport->progress(self->endpoint);
    if (memcmp(copy, memory, LONG) != 0)
        failed = endpoints_fail(self, "the buffer was written after abort");
    if (endpoints_send(self, 1, 5, 0, memory, 1, &request) != MANTA_EABORTED)
        failed = endpoints_fail(self, "a send after abort was accepted");
    endpoints_barrier(self);
    free(copy);
    free(memory);
    return failed;
}

static void test_abort_leaves_buffers(void **state)
{
    _Atomic int aborted;
    (void)state;
    for (int i = 0; i < 5; i++) {
        atomic_init(&aborted, 0);
        assert_int_equal(endpoints_run("tcp", 2, give_up, &aborted), 0);
    }
}

/* A rank that sleeps on wait_fd, without a limit of its own, is woken by a message. */
static int sleep_until_message(struct endpoints_rank *self)
{
    uint8_t byte = 7;
    struct manta_transport_request request;
    int failed = 0;
    for (uint32_t round = 0; round < 20 && !failed; round++) {
        if (self->rank == 1) {
            failed = endpoints_send(self, 0, round, 0, &byte, 1, &request) ||
                     endpoints_wait(self, &request, 1) ||
                     endpoints_recv(self, 0, round, 0, &byte, 1, &request) ||
                     endpoints_wait(self, &request, 1);
            continue;
        }
        failed = endpoints_recv(self, 1, round, 0, &byte, 1, &request);
        while (!failed && request.status == MANTA_INPROGRESS) {
            struct pollfd poll_fd = {.fd = self->transport->wait_fd(self->endpoint),
                                     .events = POLLIN};
            if (self->transport->arm(self->endpoint) == 0 && poll(&poll_fd, 1, 20000) != 1)
                failed = endpoints_fail(self, "not woken");
            self->transport->disarm(self->endpoint);
            self->transport->progress(self->endpoint);
        }
        failed = failed || endpoints_send(self, 1, round, 0, &byte, 1, &request) ||
                 endpoints_wait(self, &request, 1);
    }
    endpoints_barrier(self);
    return failed;
}

static void test_sleeper_is_woken(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("tcp", 2, sleep_until_message, NULL), 0);
}

/* The first address of rank 1 refuses; what is said before and after the connection. */
static int says(struct endpoints_rank *self, const char *when, const char *interface,
                const char *reason)
{
    struct manta_transport_properties properties = {.size = sizeof(properties)};
    int code = self->transport->probe(self->endpoint, !self->rank, &properties);
    if (code == 0 && strcmp(properties.interface, interface) == 0 &&
        strcmp(properties.reason, reason) == 0)
        return 0;
    return endpoints_fail(self, "%s: %d, %s %s", when, code, properties.interface,
                          properties.reason);
}

static int tell_addresses(struct endpoints_rank *self)
{
    struct manta_transport_request request;
    struct mt_member *members = self->group->members;
    uint8_t byte = 1;
    int failed = 0;
    for (uint32_t r = 0; r < 2; r++) { /* the discard port, where nobody listens */
        const char *colon = strchr(members[r].addresses, ':');
        int port = colon == NULL ? 0 : atoi(colon + 1);
        snprintf(members[r].addresses, sizeof(members[r].addresses), "%s127.0.0.1:%d",
                 r == 1 ? "127.0.0.3:9 " : "", port);
    }
    endpoints_barrier(self);
    if (self->rank == 0)
        failed = says(self, "before", "lo 127.0.0.1",
                      "at 127.0.0.3, first to try of its 2 addresses, not dialled yet") ||
                 endpoints_send(self, 1, 1, 0, &byte, 1, &request) ||
                 endpoints_wait(self, &request, 1) ||
                 says(self, "after", "lo 127.0.0.1",
                      "at 127.0.0.1, first that answered of its 2 addresses");
    else
        failed =
            endpoints_recv(self, 0, 1, 0, &byte, 1, &request) ||
            endpoints_wait(self, &request, 1) ||
            says(self, "received", "lo 127.0.0.1",
                 "at 127.0.0.1, from where it dialled this rank") ||
            endpoints_send(self, 0, 1, 0, &byte, 1, &request) ||
            endpoints_wait(self, &request, 1) ||
            says(self, "sent", "lo 127.0.0.1", "at 127.0.0.1, from where it dialled this rank");
    endpoints_barrier(self);
    return failed;
}

static void test_addresses_are_told(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("tcp", 2, tell_addresses, NULL), 0);
}

static int count_messages(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2];
    struct manta_transport_counters counters = {.size = sizeof(counters)};
    uint8_t out[100] = {0}, in[100];
    int failed = endpoints_send(self, !self->rank, 1, 0, out, 100, &requests[0]) ||
                 endpoints_recv(self, !self->rank, 1, 0, in, 100, &requests[1]) ||
                 endpoints_wait(self, requests, 2);
    self->transport->counters(self->endpoint, &counters);
    failed = failed || counters.sent_messages != 1 || counters.sent_bytes != 100 ||
             counters.received_messages != 1 || counters.received_bytes != 100;
    endpoints_barrier(self);
    return failed ? endpoints_fail(self, "counters") : 0;
}

static void test_counters(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("tcp", 2, count_messages, NULL), 0);
}

/* Nothing stays behind. Last, so that what the library keeps is there already. */
static void test_descriptors_are_closed(void **state)
{
    struct traffic traffic = {(const uint64_t[]){1, LONG / 4}, 2, 1};
    int before = folder_entries("/proc/self/fd");
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(endpoints_run("tcp", 3, traffic_run, &traffic), 0);
    assert_int_equal(folder_entries("/proc/self/fd"), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_random_exchange),
        cmocka_unit_test(test_long_messages),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_nothing_is_lost_on_leaving),
        cmocka_unit_test(test_lost_peer),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_abort_leaves_buffers),
        cmocka_unit_test(test_sleeper_is_woken),
        cmocka_unit_test(test_addresses_are_told),
        cmocka_unit_test(test_descriptors_are_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
