/* SPDX-License-Identifier: Apache-2.0 */
/* Messages from and to memory of devices, whose addresses here the CPU may not touch; the cards and
 * the memory are stand-ins. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/fake_verbs.h"
#include "tests/support/lanes.h"
#include "tests/support/traffic.h"

enum { ROOM = 8 << 20, PAGE = 4096, MOST = 2000, EAGER = 8192 };

struct device {
    uint8_t *address; /* of the program: whoever reads or writes there dies */
    uint8_t *view;    /* what is in it */
    int fd;
    void *registration;
};

static int device_open(struct endpoints_rank *self, uint32_t flags, struct device *device)
{
    device->fd = memfd_create("device", MFD_CLOEXEC);
    if (device->fd < 0 || ftruncate(device->fd, ROOM + PAGE) != 0)
        return endpoints_fail(self, "no file");
    device->view = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, device->fd, PAGE);
    device->address = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct manta_transport_buffer buffer = {
        .address = device->address, .bytes = ROOM, .memory = MANTA_MEMORY_CUDA, .flags = flags};
    int code = self->transport->mem_register(self->endpoint, &buffer, device->fd, PAGE,
                                             &device->registration);
    return code == 0 ? 0 : endpoints_fail(self, "mem_register: %d", code);
}

static void device_close(struct endpoints_rank *self, struct device *device)
{
    if (device->registration != NULL && !self->closed)
        self->transport->mem_deregister(self->endpoint, device->registration);
    munmap(device->view, ROOM);
    munmap(device->address, ROOM);
    close(device->fd);
}

/* Messages to the other rank, and as many from it. Where they begin in a device's memory, or in the
 * host's: of each third message one end is in the latter, and of others the first piece. */
struct exchange {
    struct device device;
    uint8_t *host[2]; /* what is sent, what comes */
    uint32_t count;
    uint64_t bytes[MOST], at[MOST];
    struct manta_transport_request requests[2 * MOST];
};

static uint64_t random_below(uint64_t *state, uint64_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (*state >> 11) % below;
}

static uint8_t value_of(uint32_t from, uint32_t number, uint64_t i)
{
    return (uint8_t)(i * 7 + number * 31 + from * 13 + 1);
}

/* The half of all memory that is sent, or that is received into. */
static uint64_t place_of(const struct exchange *exchange, uint32_t number, int is_send)
{
    return exchange->at[number] + (is_send ? 0 : ROOM / 2);
}

/* How many bytes of the message are in host memory, at its front. */
static uint64_t front_of(const struct exchange *exchange, uint32_t number, int is_send)
{
    uint64_t bytes = exchange->bytes[number];
    if (number % 3 == (is_send ? 1 : 2))
        return bytes;
    return number % 5 == 0 ? bytes / 3 : 0;
}

static uint8_t *byte_of(struct exchange *exchange, uint32_t number, int is_send, uint64_t i)
{
    uint64_t at = place_of(exchange, number, is_send) + i;
    return i < front_of(exchange, number, is_send) ? &exchange->host[!is_send][at]
                                                   : &exchange->device.view[at];
}

static void lay_out(struct exchange *exchange, uint32_t rank, uint32_t count, uint64_t seed)
{
    static const uint64_t sizes[] = {0, 1, 100, EAGER, EAGER + 1, 65536, 300000};
    uint64_t at = 0;
    exchange->count = count;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t kinds = count > 100 ? 4 : 7;
        exchange->bytes[i] = sizes[random_below(&seed, kinds)];
        if (at + exchange->bytes[i] > ROOM / 2 - PAGE)
            exchange->bytes[i] = 1;
        exchange->at[i] = at;
        at += exchange->bytes[i] + 1;
        for (uint64_t b = 0; b < exchange->bytes[i]; b++) {
            *byte_of(exchange, i, 1, b) = value_of(rank, i, b);
            *byte_of(exchange, i, 0, b) = 0xee;
        }
    }
}

static int post(struct endpoints_rank *self, struct exchange *exchange, uint32_t number,
                int is_send)
{
    uint64_t front = front_of(exchange, number, is_send);
    uint64_t at = place_of(exchange, number, is_send);
    const struct manta_transport_buffer pieces[] = {
        {.address = &exchange->host[!is_send][at], .bytes = front},
        {.address = exchange->device.address + at + front,
         .bytes = exchange->bytes[number] - front,
         .memory = MANTA_MEMORY_CUDA,
         .registration = exchange->device.registration}};
    const struct manta_transport_message message = {
        .id = {.call = 1, .epoch = self->group->epoch, .number = number, .hash = 1},
        .peer = !self->rank,
        .buffers = pieces,
        .buffer_count = 2,
        .bytes = exchange->bytes[number],
        .flags = MANTA_MESSAGE_DIRECT};
    struct manta_transport_request *request = &exchange->requests[2 * number + (uint32_t)is_send];
    return is_send ? self->transport->send(self->endpoint, &message, request)
                   : self->transport->recv(self->endpoint, &message, request);
}

static int check(struct endpoints_rank *self, struct exchange *exchange)
{
    for (uint32_t i = 0; i < exchange->count; i++) {
        if (exchange->requests[2 * i].status != 0 || exchange->requests[2 * i + 1].status != 0)
            return endpoints_fail(self, "message %u: received %d, sent %d", i,
                                  exchange->requests[2 * i].status,
                                  exchange->requests[2 * i + 1].status);
        for (uint64_t b = 0; b < exchange->bytes[i]; b++) {
            if (*byte_of(exchange, i, 0, b) != value_of(!self->rank, i, b))
                return endpoints_fail(self, "message %u is wrong at %llu", i,
                                      (unsigned long long)b);
        }
    }
    return 0;
}

struct plan {
    uint32_t flags, count;
    int sends_first; /* 1: all sends, then all receives; 0: the other way; -1: at random */
    uint64_t cut;    /* work requests after which the first device is cut; 0: it is not */
};

static struct exchange *exchange_create(struct endpoints_rank *self, const struct plan *plan)
{
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    exchange->host[0] = malloc(ROOM);
    exchange->host[1] = malloc(ROOM);
    if (device_open(self, plan->flags, &exchange->device) == 0)
        return exchange;
    return NULL;
}

static void exchange_free(struct endpoints_rank *self, struct exchange *exchange)
{
    device_close(self, &exchange->device);
    free(exchange->host[0]);
    free(exchange->host[1]);
    free(exchange);
}

/* Every message is posted once at each end, in an order of the rank's own. */
static int post_all(struct endpoints_rank *self, struct exchange *exchange, int sends_first)
{
    static const uint64_t seeds[2] = {77, 99};
    uint64_t seed = seeds[self->rank];
    uint32_t count = exchange->count, order[2 * MOST];
    for (uint32_t i = 0; i < 2 * count; i++)
        order[i] = i;
    for (uint32_t i = 2 * count - 1; i > 0 && sends_first < 0; i--) {
        uint32_t other = (uint32_t)random_below(&seed, i + 1), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (uint32_t i = 0; i < 2 * count; i++) {
        int is_send = order[i] >= count ? sends_first <= 0 : sends_first > 0;
        int code = post(self, exchange, order[i] % count, is_send);
        if (code != 0)
            return endpoints_fail(self, "posted: %d", code);
        if (i % 8 == 0)
            self->transport->progress(self->endpoint);
    }
    return 0;
}

static int exchange_all(struct endpoints_rank *self)
{
    const struct plan *plan = self->arg;
    struct exchange *exchange = exchange_create(self, plan);
    if (exchange == NULL)
        return 1;
    lay_out(exchange, self->rank, plan->count, 5);
    endpoints_barrier(self);
    if (self->rank == 0 && plan->cut)
        fake_verbs_cut(0, plan->cut, 1);
    int failed = post_all(self, exchange, plan->sends_first) ||
                 endpoints_wait(self, exchange->requests, 2 * exchange->count) ||
                 check(self, exchange);
    endpoints_barrier(self);
    exchange_free(self, exchange);
    return failed;
}

static void test_exchange(void **state)
{
    struct fake_counts counts;
    (void)state;
    for (int sends_first = -1; sends_first <= 1; sends_first++) {
        struct plan plan = {MANTA_BUFFER_FLUSH, 60, sends_first, 0};
        assert_int_equal(endpoints_run("verbs", 2, exchange_all, &plan), 0);
    }
    fake_verbs_counts(&counts);
    assert_true(counts.reads > 0);
}

/* More receives than places that can be offered, and sends in another order. */
static void test_more_than_there_are_places(void **state)
{
    (void)state;
    for (int sends_first = -1; sends_first <= 1; sends_first++) {
        struct plan plan = {MANTA_BUFFER_FLUSH, MOST, sends_first, 0};
        assert_int_equal(endpoints_run("verbs", 2, exchange_all, &plan), 0);
    }
}

static void test_rail_dies(void **state)
{
    (void)state;
    for (uint64_t cut = 4; cut < 120; cut += 13) {
        struct plan plan = {MANTA_BUFFER_FLUSH, 60, -1, cut};
        fake_verbs_mend(0);
        assert_int_equal(endpoints_run("verbs", 2, exchange_all, &plan), 0);
    }
    fake_verbs_mend(0);
}

/* Rank 1 receives 100,000 bytes from rank 0, as its function wants it. */
static int one_way(struct endpoints_rank *self, uint32_t flags,
                   int (*then)(struct endpoints_rank *, struct exchange *))
{
    const struct plan plan = {flags, 1, 0, 0};
    struct exchange *exchange = exchange_create(self, &plan);
    if (exchange == NULL)
        return 1;
    lay_out(exchange, self->rank, 1, 1);
    exchange->bytes[0] = 100000;
    memset(exchange->device.view, 0x55, 100000);
    memset(exchange->device.view + ROOM / 2, 0xee, 100000);
    exchange->requests[0].status = exchange->requests[1].status = 0;
    int failed = 0;
    exchange->at[0] = 0;
    for (uint32_t b = 0; b < 100000; b++)
        *byte_of(exchange, 0, self->rank == 0, b) = self->rank == 0 ? 0x55 : 0xee;
    endpoints_barrier(self);
    int code = post(self, exchange, 0, self->rank == 0);
    if (code != 0)
        failed = endpoints_fail(self, "posted: %d", code);
    failed = failed || then(self, exchange);
    exchange_free(self, exchange);
    return failed;
}

static uint8_t last_of(struct exchange *exchange)
{
    return *byte_of(exchange, 0, 0, 99999);
}

static int then_wait(struct endpoints_rank *self, struct exchange *exchange)
{
    int failed = endpoints_wait(self, exchange->requests, 2);
    if (!failed && self->rank == 1 && last_of(exchange) != 0xee)
        failed = endpoints_fail(self, "it is in place, though nobody has read there");
    endpoints_barrier(self);
    return failed;
}

static int without_flush(struct endpoints_rank *self)
{
    return one_way(self, 0, then_wait);
}

/* The stand-in is one that needs it: or the tests above would show nothing. */
static void test_what_needs_no_read_is_not_read(void **state)
{
    struct fake_counts counts;
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, without_flush, NULL), 0);
    fake_verbs_counts(&counts);
    assert_int_equal(counts.reads, 0);
}

/* The sender is through, and leaves; the receiver only lacks the read, and gets it. */
static int then_leave(struct endpoints_rank *self, struct exchange *exchange)
{
    struct manta_transport_request *request = &exchange->requests[self->rank == 0];
    int failed = 0;
    if (self->rank == 0) {
        failed = endpoints_wait(self, request, 1) || request->status != 0;
        self->transport->mem_deregister(self->endpoint, exchange->device.registration);
        self->transport->close(self->endpoint);
        self->closed = 1;
        endpoints_barrier(self);
        return failed;
    }
    struct fake_counts counts = {.write_bytes = 0};
    while (counts.write_bytes == 0) {
        self->transport->progress(self->endpoint);
        fake_verbs_counts(&counts);
    }
    for (int i = 0; i < 500; i++)
        self->transport->progress(self->endpoint);
    endpoints_barrier(self);
    for (int i = 0; i < 500; i++)
        self->transport->progress(self->endpoint);
    if (request->status != MANTA_INPROGRESS)
        return endpoints_fail(self, "status %d before the read", request->status);
    fake_verbs_reads(0);
    failed = endpoints_wait(self, request, 1);
    if (request->status != 0 || last_of(exchange) != 0x55)
        return endpoints_fail(self, "status %d, byte %02x", request->status, last_of(exchange));
    return failed;
}

static int leave(struct endpoints_rank *self)
{
    return one_way(self, MANTA_BUFFER_FLUSH, then_leave);
}

static void test_sender_leaves(void **state)
{
    (void)state;
    fake_verbs_reads(1);
    assert_int_equal(endpoints_run("verbs", 2, leave, NULL), 0);
}

/* Aborted while the read is under way: the queue pair of it is gone. */
static int then_abort(struct endpoints_rank *self, struct exchange *exchange)
{
    struct manta_transport_request *request = &exchange->requests[self->rank == 0];
    struct fake_counts counts = {.write_bytes = 0};
    int failed = self->rank == 0 && endpoints_wait(self, request, 1);
    while (self->rank == 1 && counts.write_bytes == 0) {
        self->transport->progress(self->endpoint);
        fake_verbs_counts(&counts);
    }
    for (int i = 0; i < 500; i++)
        self->transport->progress(self->endpoint);
    failed |= lanes_open(self, !self->rank); /* else abort leaves some to close */
    endpoints_barrier(self);
    if (self->rank == 1 && request->status != MANTA_INPROGRESS)
        failed = endpoints_fail(self, "status %d before the read", request->status);
    int code = self->transport->abort(self->endpoint, MANTA_EABORTED);
    if (code != 0 || (self->rank == 1 && request->status != MANTA_EABORTED))
        failed = endpoints_fail(self, "abort %d, status %d", code, request->status);
    endpoints_barrier(self);
    fake_verbs_counts(&counts);
    if (counts.qps != 2) /* rank 0's to itself, over which nothing is read */
        failed = endpoints_fail(self, "%u queue pairs are left", counts.qps);
    endpoints_barrier(self);
    return failed;
}

static int abort_it(struct endpoints_rank *self)
{
    return one_way(self, MANTA_BUFFER_FLUSH, then_abort);
}

static void test_abort(void **state)
{
    (void)state;
    fake_verbs_reads(1);
    assert_int_equal(endpoints_run("verbs", 2, abort_it, NULL), 0);
}

/* A read that fails: nobody knows whether the message is in place, and that is said. */
static int then_fail(struct endpoints_rank *self, struct exchange *exchange)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    struct manta_transport_request *request = &exchange->requests[self->rank == 0];
    int failed = 0, code = 0;
    if (self->rank == 0)
        failed = endpoints_wait(self, request, 1);
    for (uint32_t i = 0; self->rank == 1 && code >= 0 && i < 100000000; i++)
        code = self->transport->progress(self->endpoint);
    if (self->rank == 1) {
        self->transport->error(self->endpoint, &error);
        if (code != MANTA_ETRANSPORT || request->status != MANTA_INPROGRESS ||
            strstr(error.sentence, "cannot read from memory of the device") == NULL)
            failed = endpoints_fail(self, "%d, %d: '%s'", code, request->status, error.sentence);
        self->transport->abort(self->endpoint, MANTA_EABORTED);
    }
    endpoints_barrier(self);
    return failed;
}

static int fail_it(struct endpoints_rank *self)
{
    return one_way(self, MANTA_BUFFER_FLUSH, then_fail);
}

static void test_read_fails(void **state)
{
    (void)state;
    fake_verbs_reads(-1);
    assert_int_equal(endpoints_run("verbs", 2, fail_it, NULL), 0);
}

/* No queue pair for reads: the memory is refused, with the reason, and nothing is left behind. */
static int refuse_reads(struct endpoints_rank *self)
{
    static const struct fake_refusal refusals[] = {{"create_qp", 0, ENOMEM},
                                                   {"create_qp", 1, ENOMEM},
                                                   {"modify_qp", 0, EINVAL},
                                                   {"modify_qp", 1, EINVAL},
                                                   {"modify_qp", 2, EINVAL}};
    uint8_t *memory = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int failed = 0;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct manta_transport_buffer buffer = {.address = memory,
                                                .bytes = PAGE,
                                                .memory = MANTA_MEMORY_CUDA,
                                                .flags = MANTA_BUFFER_FLUSH};
        struct manta_transport_error error = {.size = sizeof(error)};
        void *registration;
        fake_verbs_refuse(refusals[i]);
        int code = self->transport->mem_register(self->endpoint, &buffer, -1, 0, &registration);
        self->transport->error(self->endpoint, &error);
        if (code != MANTA_ENOTSUP || registration != NULL ||
            strstr(error.sentence, "no queue pair to itself") == NULL)
            failed = endpoints_fail(self, "case %zu: %d '%s'", i, code, error.sentence);
    }
    munmap(memory, PAGE);
    return failed;
}

static void test_no_reads(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 1, refuse_reads, NULL), 0);
}

static int connect_both(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2];
    uint8_t out = 1, in = 0;
    return endpoints_recv(self, !self->rank, 1, 0, &in, 1, &requests[0]) ||
           endpoints_send(self, !self->rank, 1, 0, &out, 1, &requests[1]) ||
           endpoints_wait(self, requests, 2) || in != 1;
}

/* What is not registered, or lies beyond, or does not say what it is. */
static int refuse_messages(struct endpoints_rank *self)
{
    struct manta_transport_request requests[3]; /* until they are aborted */
    struct device device = {.fd = -1};
    if (device_open(self, 0, &device) != 0 || connect_both(self) != 0)
        return 1;
    const struct {
        uint64_t at, bytes;
        uint32_t flags;
        void *registration;
        int code, status;
    } cases[] = {{0, 100, 0, device.registration, MANTA_EINVAL, 0},
                 {0, 100, MANTA_MESSAGE_DIRECT, NULL, MANTA_EINVAL, 0},
                 {ROOM - 50, 100, MANTA_MESSAGE_DIRECT, device.registration, 0, MANTA_EINVAL}};
    int failed = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct manta_transport_buffer piece = {.address = device.address + cases[i].at,
                                                     .bytes = cases[i].bytes,
                                                     .memory = MANTA_MEMORY_CUDA,
                                                     .registration = cases[i].registration};
        const struct manta_transport_message message = {
            .id = {.call = 9, .epoch = self->group->epoch, .number = (uint32_t)i, .hash = 1},
            .peer = !self->rank,
            .buffers = &piece,
            .buffer_count = 1,
            .bytes = piece.bytes,
            .flags = cases[i].flags};
        struct manta_transport_request *request = &requests[i];
        int code = self->rank == 0 ? self->transport->send(self->endpoint, &message, request)
                                   : self->transport->recv(self->endpoint, &message, request);
        if (code != cases[i].code)
            failed = endpoints_fail(self, "case %zu: %d", i, code);
        if (code == 0 && self->rank == 1 &&
            (endpoints_wait(self, request, 1) || request->status != cases[i].status))
            failed = endpoints_fail(self, "case %zu: status %d", i, request->status);
    }
    endpoints_barrier(self);
    self->transport->abort(self->endpoint, MANTA_EABORTED);
    device_close(self, &device);
    return failed;
}

static void test_what_is_refused(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, refuse_messages, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_exchange, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_more_than_there_are_places, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_rail_dies, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_what_needs_no_read_is_not_read, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_sender_leaves, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_abort, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_read_fails, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_no_reads, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_what_is_refused, fake_verbs_setup,
                                        fake_verbs_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
