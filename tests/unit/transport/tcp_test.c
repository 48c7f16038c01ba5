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
#include "tests/support/manners.h"
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

static void test_flood(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("tcp", 2, manners_flood, NULL), 0);
}

static void test_nothing_is_lost_on_leaving(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct manners manners = {.eager_bytes = EAGER};
        assert_int_equal(endpoints_run("tcp", 2, manners_leave, &manners), 0);
    }
}

static void test_lost_peer(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(endpoints_run("tcp", 2, manners_vanish, NULL), 0);
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

static void test_abort_leaves_buffers(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct manners manners = {.eager_bytes = EAGER};
        assert_int_equal(endpoints_run("tcp", 2, manners_give_up, &manners), 0);
    }
}

static void test_sleeper_is_woken(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("tcp", 2, manners_sleep, NULL), 0);
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

static void test_counters(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("tcp", 2, manners_count, NULL), 0);
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
