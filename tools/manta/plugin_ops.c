/* SPDX-License-Identifier: Apache-2.0 */
/* The ops of a transport as the topics call them: it is noted where each rank is, for the parent to
 * tell when it never comes back; and none may take long. */
#include <inttypes.h>

#include "core/clock.h"
#include "tools/manta/plugin_world.h"

/* Much more than an op takes, and less than anything that waits; also on a machine that is busy,
 * and takes the CPU from a rank for some seconds. What makes an endpoint and ends it may have work
 * to do. */
#define OP_NS_MAX (5 * MT_SECOND)
#define LIFE_NS_MAX (8 * MT_SECOND)

static uint64_t begin(struct check_rank *self, enum check_op op)
{
    atomic_store_explicit(&self->world->shared->op[self->rank], (int)op, memory_order_relaxed);
    return mt_clock_now_ns();
}

static void done(struct check_rank *self, enum check_op op, uint64_t begun_ns)
{
    uint64_t took_ns = mt_clock_now_ns() - begun_ns;
    atomic_store_explicit(&self->world->shared->op[self->rank], CHECK_NONE, memory_order_relaxed);
    if (took_ns > (op == CHECK_OPEN || op == CHECK_CLOSE ? LIFE_NS_MAX : OP_NS_MAX))
        check_fail(self, "%s took %" PRIu64 " ms: no op may block", check_op_name((int)op),
                   took_ns / MT_MS);
}

int check_open(struct check_rank *self, struct manta_transport_error *error)
{
    const struct manta_transport_open params = {
        .size = sizeof params,
        .host = &self->world->host,
        .transport = self->transport,
        .rank = self->rank,
        .ranks = self->ranks,
        .epoch = self->epoch,
        .local_ranks = self->ranks,
        .timeout_ns = CHECK_WAIT_S * MT_SECOND,
        .group = self->group,
    };
    uint64_t begun = begin(self, CHECK_OPEN);
    int code = self->transport->open(&params, &self->endpoint, error);
    done(self, CHECK_OPEN, begun);
    return code;
}

int check_address(struct check_rank *self, void *blob, size_t blob_bytes, size_t *bytes_out)
{
    uint64_t begun = begin(self, CHECK_ADDRESS);
    int code = self->transport->address(self->endpoint, blob, blob_bytes, bytes_out);
    done(self, CHECK_ADDRESS, begun);
    return code;
}

int check_peers(struct check_rank *self, const void *const *addresses, const size_t *bytes)
{
    uint64_t begun = begin(self, CHECK_PEERS);
    int code = self->transport->peers(self->endpoint, addresses, bytes);
    done(self, CHECK_PEERS, begun);
    return code;
}

int check_probe(struct check_rank *self, uint32_t peer,
                struct manta_transport_properties *properties)
{
    uint64_t begun = begin(self, CHECK_PROBE);
    int code = self->transport->probe(self->endpoint, peer, properties);
    done(self, CHECK_PROBE, begun);
    return code;
}

int check_connect(struct check_rank *self, uint32_t peer, uint64_t deadline_ns)
{
    uint64_t begun = begin(self, CHECK_CONNECT);
    int code = self->transport->connect(self->endpoint, peer, deadline_ns);
    done(self, CHECK_CONNECT, begun);
    return code;
}

int check_register(struct check_rank *self, const struct manta_transport_buffer *buffer,
                   void **registration_out)
{
    uint64_t begun = begin(self, CHECK_REGISTER);
    int code = self->transport->mem_register(self->endpoint, buffer, -1, 0, registration_out);
    done(self, CHECK_REGISTER, begun);
    return code;
}

int check_deregister(struct check_rank *self, void *registration)
{
    uint64_t begun = begin(self, CHECK_DEREGISTER);
    int code = self->transport->mem_deregister(self->endpoint, registration);
    done(self, CHECK_DEREGISTER, begun);
    return code;
}

int check_export(struct check_rank *self, void *registration, void *blob, size_t blob_bytes,
                 size_t *bytes_out)
{
    uint64_t begun = begin(self, CHECK_EXPORT);
    int code =
        self->transport->mem_export(self->endpoint, registration, blob, blob_bytes, bytes_out);
    done(self, CHECK_EXPORT, begun);
    return code;
}

int check_import(struct check_rank *self, uint32_t peer, const void *blob, size_t bytes,
                 void **remote_out)
{
    uint64_t begun = begin(self, CHECK_IMPORT);
    int code = self->transport->mem_import(self->endpoint, peer, blob, bytes, remote_out);
    done(self, CHECK_IMPORT, begun);
    return code;
}

int check_post_as(struct check_rank *self, const struct manta_transport_message *posted,
                  struct manta_transport_request *request, int is_send)
{
    enum check_op op = is_send ? CHECK_SEND : CHECK_RECV;
    uint64_t begun = begin(self, op);
    int code = is_send ? self->transport->send(self->endpoint, posted, request)
                       : self->transport->recv(self->endpoint, posted, request);
    done(self, op, begun);
    return code;
}

int check_post(struct check_rank *self, struct check_message *message, int is_send)
{
    struct manta_transport_buffer buffers[MANTA_PLAN_LOCATIONS];
    struct manta_transport_message posted = {
        .id = message->id,
        .peer = message->peer,
        .buffer_count = check_pieces(message, buffers),
        .buffers = buffers,
        .bytes = message->bytes,
    };
    int code = check_post_as(self, &posted, &message->request, is_send);
    memset(buffers, 0xa5, sizeof buffers);
    memset(&posted, 0xa5, sizeof posted);
    return code;
}

int check_progress(struct check_rank *self)
{
    uint64_t begun = begin(self, CHECK_PROGRESS);
    int code = self->transport->progress(self->endpoint);
    done(self, CHECK_PROGRESS, begun);
    return code;
}

int check_wait_fd(struct check_rank *self)
{
    uint64_t begun = begin(self, CHECK_WAIT_FD);
    int fd = self->transport->wait_fd ? self->transport->wait_fd(self->endpoint) : -1;
    done(self, CHECK_WAIT_FD, begun);
    return fd;
}

int check_arm(struct check_rank *self)
{
    uint64_t begun = begin(self, CHECK_ARM);
    int work = self->transport->arm ? self->transport->arm(self->endpoint) : 0;
    done(self, CHECK_ARM, begun);
    return work;
}

void check_disarm(struct check_rank *self)
{
    uint64_t begun = begin(self, CHECK_DISARM);
    if (self->transport->disarm)
        self->transport->disarm(self->endpoint);
    done(self, CHECK_DISARM, begun);
}

int check_peer_status(struct check_rank *self, uint32_t peer)
{
    uint64_t begun = begin(self, CHECK_PEER_STATUS);
    int code = self->transport->peer_status(self->endpoint, peer);
    done(self, CHECK_PEER_STATUS, begun);
    return code;
}

void check_error(struct check_rank *self, struct manta_transport_error *error_out)
{
    uint64_t begun = begin(self, CHECK_ERROR);
    self->transport->error(self->endpoint, error_out);
    done(self, CHECK_ERROR, begun);
}

int check_abort(struct check_rank *self, int code)
{
    uint64_t begun = begin(self, CHECK_ABORT);
    int answer = self->transport->abort(self->endpoint, code);
    done(self, CHECK_ABORT, begun);
    return answer;
}

int check_drain(struct check_rank *self)
{
    uint64_t begun = begin(self, CHECK_DRAIN);
    int more = self->transport->drain ? self->transport->drain(self->endpoint) : 0;
    done(self, CHECK_DRAIN, begun);
    return more;
}

void check_close(struct check_rank *self)
{
    uint64_t begun = begin(self, CHECK_CLOSE);
    self->transport->close(self->endpoint);
    self->endpoint = NULL;
    done(self, CHECK_CLOSE, begun);
}

void check_counters(struct check_rank *self, struct manta_transport_counters *counters_out)
{
    uint64_t begun = begin(self, CHECK_COUNTERS);
    self->transport->counters(self->endpoint, counters_out);
    done(self, CHECK_COUNTERS, begun);
}
