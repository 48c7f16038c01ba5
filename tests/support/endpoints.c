/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/endpoints.h"

#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/stream.h"
#include "tests/support/meeting.h"
#include "transport/registry.h"

/* What the library is given, and what ranks are: thousands of messages under ThreadSanitizer, on a
 * busy host, take more than 20 s. */
enum { TIMEOUT_S = 20, WAIT_S = 60, SPINS = 200, SLEEP_MS = 50 };

struct endpoints_shared {
    const char *session;
    struct meeting barrier;
    void **addresses;
    size_t *address_bytes;
    _Atomic int failed_to_open;
    _Atomic uint32_t arrivals; /* of endpoints_meet() */
};

struct thread {
    struct endpoints_rank rank;
    endpoints_fn *fn;
    pthread_t thread;
    int failed;
};

int endpoints_fail(const struct endpoints_rank *self, const char *format, ...)
{
    va_list arguments;
    char text[512];
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fprintf(stderr, "rank %u of %u: %s\n", self->rank, self->ranks, text);
    return 1;
}

void endpoints_barrier(struct endpoints_rank *self)
{
    meeting_wait(&self->shared->barrier);
}

int endpoints_meet(struct endpoints_rank *self)
{
    _Atomic uint32_t *arrivals = &self->shared->arrivals;
    uint64_t until_ns = mt_clock_now_ns() + WAIT_S * MT_SECOND;
    uint32_t all = (atomic_fetch_add(arrivals, 1) / self->ranks + 1) * self->ranks;
    while (atomic_load(arrivals) < all && mt_clock_now_ns() < until_ns)
        self->transport->progress(self->endpoint);
    return atomic_load(arrivals) < all;
}

int endpoints_part(struct endpoints_rank *self)
{
    uint64_t until_ns = mt_clock_now_ns() + WAIT_S * MT_SECOND;
    while (self->transport->drain(self->endpoint) != 0 && mt_clock_now_ns() < until_ns)
        self->transport->progress(self->endpoint);
    return endpoints_meet(self);
}

static int open_endpoint(struct endpoints_rank *self)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    struct mt_error join_error = {0};
    int code = mt_group_join(&(struct mt_group_join){.session = self->shared->session,
                                                     .rank = self->rank,
                                                     .ranks = self->ranks,
                                                     .timeout_ns = TIMEOUT_S * MT_SECOND},
                             &self->group, &join_error);
    if (code != 0)
        return endpoints_fail(self, "join: %s", join_error.sentence);
    const struct manta_transport_open params = {
        .size = sizeof(params),
        .host = mt_transport_host(),
        .rank = self->rank,
        .ranks = self->ranks,
        .epoch = self->group->epoch,
        .local_ranks = self->ranks,
        .timeout_ns = TIMEOUT_S * MT_SECOND,
        .group = self->group,
    };
    code = self->transport->open(&params, &self->endpoint, &error);
    if (code != 0)
        return endpoints_fail(self, "open: %d %s", code, error.sentence);
    self->shared->addresses[self->rank] = malloc(MANTA_TRANSPORT_ADDRESS_MAX);
    code = self->transport->address(self->endpoint, self->shared->addresses[self->rank],
                                    MANTA_TRANSPORT_ADDRESS_MAX,
                                    &self->shared->address_bytes[self->rank]);
    return code == 0 ? 0 : endpoints_fail(self, "address: %d", code);
}

static int know_peers(struct endpoints_rank *self)
{
    int code = self->transport->peers(self->endpoint, (const void *const *)self->shared->addresses,
                                      self->shared->address_bytes);
    if (code != 0)
        return endpoints_fail(self, "peers: %d", code);
    for (uint32_t peer = 0; peer < self->ranks; peer++) {
        struct manta_transport_properties properties = {.size = sizeof(properties)};
        if (peer == self->rank)
            continue;
        code = self->transport->probe(self->endpoint, peer, &properties);
        if (code != 0)
            return endpoints_fail(self, "probe of %u: %d", peer, code);
        uint64_t until_ns = mt_clock_now_ns() + WAIT_S * MT_SECOND;
        do {
            code = self->transport->connect(self->endpoint, peer, until_ns);
            self->transport->progress(self->endpoint);
        } while (code == MANTA_INPROGRESS && mt_clock_now_ns() < until_ns);
        if (code != 0)
            return endpoints_fail(self, "connect to %u: %d", peer, code);
    }
    return 0;
}

int endpoints_dial(struct endpoints_rank *self, uint32_t peer, uint32_t index)
{
    struct mt_dial *dial;
    struct mt_error error = {0};
    uint64_t until_ns = mt_clock_now_ns() + WAIT_S * MT_SECOND;
    int fd = -1;
    int code = mt_stream_dial(self->group, peer, MT_STREAM_TCP, index, until_ns, &dial);
    if (code != 0)
        return -1;
    do {
        struct pollfd nothing = {.fd = -1};
        poll(&nothing, 1, 1);
        code = mt_stream_dial_test(dial, &fd, &error);
    } while (code == MANTA_INPROGRESS);
    return code == 0 ? fd : -1;
}

static void *thread_main(void *arg)
{
    struct thread *thread = arg;
    struct endpoints_rank *self = &thread->rank;
    _Atomic int *failed = &self->shared->failed_to_open;
    thread->failed = open_endpoint(self);
    if (thread->failed)
        atomic_store(failed, 1);
    endpoints_barrier(self);
    if (!atomic_load(failed)) {
        thread->failed = know_peers(self);
        if (thread->failed)
            atomic_store(failed, 1);
    }
    endpoints_barrier(self);
    if (!atomic_load(failed))
        thread->failed = thread->fn(self);
    if (self->endpoint != NULL && !self->closed)
        self->transport->close(self->endpoint);
    if (self->group != NULL)
        mt_group_leave(self->group);
    return NULL;
}

int endpoints_run(const char *transport, uint32_t ranks, endpoints_fn *fn, void *arg)
{
    struct thread *threads = calloc(ranks, sizeof(*threads));
    struct endpoints_shared shared = {.addresses = calloc(ranks, sizeof(void *)),
                                      .address_bytes = calloc(ranks, sizeof(size_t))};
    char session[1024];
    int failed = 0;
    if (manta_session_create(session, sizeof(session)) != 0)
        return (int)ranks;
    shared.session = session;
    meeting_begin(&shared.barrier, ranks);
    for (uint32_t r = 0; r < ranks; r++) {
        threads[r].fn = fn;
        threads[r].rank = (struct endpoints_rank){.rank = r,
                                                  .ranks = ranks,
                                                  .transport = mt_transport_find(transport),
                                                  .arg = arg,
                                                  .shared = &shared};
        pthread_create(&threads[r].thread, NULL, thread_main, &threads[r]);
    }
    for (uint32_t r = 0; r < ranks; r++) {
        pthread_join(threads[r].thread, NULL);
        failed += threads[r].failed != 0;
        free(shared.addresses[r]);
    }
    meeting_end(&shared.barrier);
    free(shared.addresses);
    free(shared.address_bytes);
    free(threads);
    return failed;
}

/* One look, and a short sleep after many looks in vain. */
static void look(struct endpoints_rank *self, uint32_t *idle)
{
    if (self->transport->progress(self->endpoint) > 0) {
        *idle = 0;
        return;
    }
    if (++*idle < SPINS)
        return;
    *idle = 0;
    int fd = self->transport->wait_fd(self->endpoint);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    if (self->transport->arm(self->endpoint) == 0)
        poll(&poll_fd, fd >= 0, SLEEP_MS);
    self->transport->disarm(self->endpoint);
}

int endpoints_wait(struct endpoints_rank *self, struct manta_transport_request *requests,
                   uint32_t count)
{
    uint64_t until_ns = mt_clock_now_ns() + WAIT_S * MT_SECOND;
    uint32_t idle = 0;
    for (uint32_t i = 0; i < count;) {
        if (requests[i].status != MANTA_INPROGRESS) {
            i++;
            continue;
        }
        look(self, &idle);
        if (mt_clock_now_ns() > until_ns)
            return endpoints_fail(self, "request %u of %u is not done", i, count);
    }
    return 0;
}

int endpoints_until(struct endpoints_rank *self, _Atomic int *flag)
{
    uint64_t until_ns = mt_clock_now_ns() + WAIT_S * MT_SECOND;
    uint32_t idle = 0;
    while (!atomic_load(flag)) {
        look(self, &idle);
        if (mt_clock_now_ns() > until_ns)
            return endpoints_fail(self, "the flag was not set");
    }
    return 0;
}

static struct manta_transport_message message_of(const struct endpoints_rank *self, uint32_t peer,
                                                 uint64_t call, uint32_t number,
                                                 const struct manta_transport_buffer *buffer)
{
    return (struct manta_transport_message){
        .id = {.call = call, .epoch = self->group->epoch, .number = number, .hash = 1},
        .peer = peer,
        .buffer_count = 1,
        .buffers = buffer,
        .bytes = buffer->bytes};
}

int endpoints_send(struct endpoints_rank *self, uint32_t peer, uint64_t call, uint32_t number,
                   const void *memory, uint64_t bytes, struct manta_transport_request *request)
{
    struct manta_transport_buffer buffer = {.address = (void *)(uintptr_t)memory, .bytes = bytes};
    struct manta_transport_message message = message_of(self, peer, call, number, &buffer);
    return self->transport->send(self->endpoint, &message, request);
}

int endpoints_recv(struct endpoints_rank *self, uint32_t peer, uint64_t call, uint32_t number,
                   void *memory, uint64_t bytes, struct manta_transport_request *request)
{
    struct manta_transport_buffer buffer = {.address = memory, .bytes = bytes};
    struct manta_transport_message message = message_of(self, peer, call, number, &buffer);
    return self->transport->recv(self->endpoint, &message, request);
}
