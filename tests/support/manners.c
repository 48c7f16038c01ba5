/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/manners.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "tests/support/traffic.h"

enum { LONG = 10 << 20 };

/* Eager data that comes first, more than the credit allows, then the receives in reverse. */
int manners_flood(struct endpoints_rank *self)
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
int manners_leave(struct endpoints_rank *self)
{
    enum { COUNT = 7 };
    struct manners *manners = self->arg;
    const uint64_t eager = manners->eager_bytes;
    struct manta_transport_request requests[COUNT];
    int failed = 0;
    if (self->rank == 0) {
        uint8_t *memory = traffic_filled(eager, 0, 1);
        for (uint32_t i = 0; i < COUNT; i++)
            failed |= endpoints_send(self, 1, i, 0, memory, eager, &requests[i]);
        failed = failed || endpoints_wait(self, requests, COUNT);
        uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
        while (self->transport->drain(self->endpoint) > 0 && mt_clock_now_ns() < until_ns)
            self->transport->progress(self->endpoint);
        self->transport->close(self->endpoint);
        self->closed = 1;
        free(memory);
        atomic_store(&manners->left, 1);
        endpoints_barrier(self);
        return failed;
    }
    /* The connection has to be taken into use, but nothing is read while rank 0 leaves. */
    if (manners->is_connectionless)
        failed = endpoints_until(self, &manners->left);
    endpoints_barrier(self);
    uint8_t *target = malloc(eager + 1);
    for (uint32_t i = 0; i < COUNT && !failed; i++) {
        memset(target, 0xee, eager + 1);
        int code = endpoints_recv(self, 0, i, 0, target, eager, &requests[i]);
        failed = code || endpoints_wait(self, &requests[i], 1) || requests[i].status != 0 ||
                 traffic_differs(target, eager, 0, 1);
        if (failed)
            endpoints_fail(self, "message %u: %d, %d", i, code, requests[i].status);
    }
    if (!failed && !manners->is_connectionless &&
        ends_with(self, 0, COUNT, target, eager) != MANTA_EPEER)
        failed = endpoints_fail(self, "the end was not told");
    free(target);
    return failed;
}

/* Rank 1 vanishes without a word while rank 0 waits for it and sends to it. */
int manners_vanish(struct endpoints_rank *self)
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
        strstr(error.sentence, self->transport->name) == NULL ||
        self->transport->peer_status(self->endpoint, 1) != MANTA_EPEER)
        failed = endpoints_fail(self, "received %d, sent %d, error %d '%s'", received, sent,
                                error.code, error.sentence);
    free(memory);
    return failed;
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

/* Some transports write from threads of their own. */
__attribute__((no_sanitize_thread)) static int is_touched(const uint8_t *memory)
{
    return *(const volatile uint8_t *)memory != 0;
}

int manners_give_up(struct endpoints_rank *self)
{
    _Atomic int *aborted = &((struct manners *)self->arg)->aborted;
    struct manta_transport_request request;
    if (self->rank == 1)
        return go_on_sending(self, aborted);
    uint8_t *memory = calloc(1, LONG), *copy = malloc(LONG);
    int failed = endpoints_recv(self, 1, 1, 1, memory, LONG, &request);
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    while (!is_touched(memory) && mt_clock_now_ns() < until_ns)
        self->transport->progress(self->endpoint);
    failed |= self->transport->abort(self->endpoint, MANTA_EABORTED) != 0;
    if (!is_touched(memory) || (request.status != MANTA_EABORTED && request.status != 0))
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

/* A rank that sleeps on wait_fd, without a limit of its own, is woken by a message. */
int manners_sleep(struct endpoints_rank *self)
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
            int wakes = poll_fd.fd >= 0;
            if (self->transport->arm(self->endpoint) == 0 &&
                poll(&poll_fd, (nfds_t)wakes, wakes ? 20000 : 1) != wakes)
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

int manners_count(struct endpoints_rank *self)
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
