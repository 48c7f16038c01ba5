/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/guard.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "transport/answer.h"

#define MESSAGE_BYTES_LEAST (UINT64_C(1) << 40) /* what probe must promise at least */

enum { FD_UNKNOWN = -2 };

struct guarded {
    const struct manta_transport *inner;
    void *handle;
    uint32_t ranks;
    int wait_fd;
    struct manta_transport_error error; /* what was wrong with an answer; code 0: nothing */
};

static int is_error(int code)
{
    switch (code) {
#define MANTA_ERROR(name, value, sentence) case value:
#include <manta/errors.def>
#undef MANTA_ERROR
        return 1;
    default:
        return 0;
    }
}

int mt_guard_status(int status)
{
    return is_error(status) && status != MANTA_EAGAIN ? status : MANTA_ETRANSPORT;
}

static int wrong(struct guarded *endpoint, const char *op, const char *what, long long value)
{
    endpoint->error = (struct manta_transport_error){
        .size = sizeof(endpoint->error), .code = MANTA_ETRANSPORT, .peer = MANTA_PLAN_NONE};
    snprintf(endpoint->error.sentence, sizeof(endpoint->error.sentence),
             "the plugin's %s gave the %s %lld, which it must not; tell its author, and leave it "
             "out of MANTA_TRANSPORTS until then",
             op, what, value);
    return MANTA_ETRANSPORT;
}

/* 0, an error, or also 1. */
static int check(struct guarded *endpoint, const char *op, int code, int may_be_one)
{
    if (__builtin_expect(code == 0, 1) || (may_be_one && code == 1) || is_error(code))
        return code;
    return wrong(endpoint, op, "answer", code);
}

static int check_post(struct guarded *endpoint, const char *op, int code,
                      struct manta_transport_request *request)
{
    if (__builtin_expect(code != 0, 0))
        return check(endpoint, op, code, 0);
    int status = request->status;
    if (__builtin_expect(status == 0 || status == MANTA_INPROGRESS, 1) ||
        (is_error(status) && status != MANTA_EAGAIN))
        return 0;
    return wrong(endpoint, op, "status", status);
}

/* Texts that others write end where they must, whatever was written. */
static void end_text(char *text, size_t bytes)
{
    text[bytes - 1] = '\0';
}

static void clean_error(struct manta_transport_error *error, uint32_t ranks, const char *fallback)
{
    end_text(error->sentence, sizeof(error->sentence));
    if (error->code != 0 && !is_error(error->code))
        error->code = MANTA_ETRANSPORT;
    if (error->peer >= ranks)
        error->peer = MANTA_PLAN_NONE;
    if (error->sentence[0] == '\0')
        snprintf(error->sentence, sizeof(error->sentence), "%s", fallback);
}

static int open_op(const struct manta_transport_open *params, void **endpoint_out,
                   struct manta_transport_error *error)
{
    const struct mt_guard *guard = (const struct mt_guard *)(const void *)params->transport;
    struct manta_transport_open own = *params;
    struct manta_transport_error why = {.size = sizeof(why), .peer = MANTA_PLAN_NONE};
    *endpoint_out = NULL;
    struct guarded *endpoint = calloc(1, sizeof(*endpoint));
    if (endpoint == NULL)
        return mt_transport_refuse(error, MANTA_ENOMEM, 0, "no memory for an endpoint");
    endpoint->inner = own.transport = guard->inner;
    endpoint->ranks = params->ranks;
    endpoint->wait_fd = FD_UNKNOWN;
    if (!guard->gives_group)
        own.group = NULL;
    int code = check(endpoint, "open", guard->inner->open(&own, &endpoint->handle, &why), 0);
    if (code == 0 && endpoint->handle == NULL)
        code = wrong(endpoint, "open", "endpoint", 0);
    if (code == 0) {
        *endpoint_out = endpoint;
        return 0;
    }
    if (endpoint->error.code != 0)
        why = endpoint->error;
    clean_error(&why, params->ranks, "it could not be opened, and does not say why");
    why.code = code;
    mt_transport_export(&why, sizeof(why), error);
    free(endpoint);
    return code;
}

static int address(void *handle, void *blob, size_t blob_bytes, size_t *bytes_out)
{
    struct guarded *endpoint = handle;
    size_t bytes = 0;
    int code = check(endpoint, "address",
                     endpoint->inner->address(endpoint->handle, blob, blob_bytes, &bytes), 0);
    if (code == 0 && (bytes == 0 || bytes > blob_bytes))
        code = wrong(endpoint, "address", "size", (long long)bytes);
    *bytes_out = code ? 0 : bytes;
    return code;
}

static int peers(void *handle, const void *const *addresses, const size_t *address_bytes)
{
    struct guarded *endpoint = handle;
    return check(endpoint, "peers",
                 endpoint->inner->peers(endpoint->handle, addresses, address_bytes), 0);
}

static int probe(void *handle, uint32_t peer, struct manta_transport_properties *properties)
{
    struct guarded *endpoint = handle;
    struct manta_transport_properties found = {.size = sizeof(found)};
    int code = check(endpoint, "probe", endpoint->inner->probe(endpoint->handle, peer, &found), 0);
    if (code != 0)
        return code;
    end_text(found.interface, sizeof(found.interface));
    end_text(found.reason, sizeof(found.reason));
    if (found.message_bytes_max < MESSAGE_BYTES_LEAST)
        return wrong(endpoint, "probe", "message_bytes_max", (long long)found.message_bytes_max);
    mt_transport_export(&found, sizeof(found), properties);
    return 0;
}

static int connect_op(void *handle, uint32_t peer, uint64_t deadline_ns)
{
    struct guarded *endpoint = handle;
    return check(endpoint, "connect", endpoint->inner->connect(endpoint->handle, peer, deadline_ns),
                 1);
}

static int mem_register(void *handle, const struct manta_transport_buffer *buffer, int dmabuf_fd,
                        uint64_t dmabuf_offset, void **registration_out)
{
    struct guarded *endpoint = handle;
    *registration_out = NULL;
    int code = endpoint->inner->mem_register(endpoint->handle, buffer, dmabuf_fd, dmabuf_offset,
                                             registration_out);
    code = check(endpoint, "mem_register", code, 0);
    return code == 0 && *registration_out == NULL
               ? wrong(endpoint, "mem_register", "registration", 0)
               : code;
}

static int mem_deregister(void *handle, void *registration)
{
    struct guarded *endpoint = handle;
    return check(endpoint, "mem_deregister",
                 endpoint->inner->mem_deregister(endpoint->handle, registration), 0);
}

static int mem_export(void *handle, void *registration, void *blob, size_t blob_bytes,
                      size_t *bytes_out)
{
    struct guarded *endpoint = handle;
    *bytes_out = 0;
    int code =
        endpoint->inner->mem_export(endpoint->handle, registration, blob, blob_bytes, bytes_out);
    code = check(endpoint, "mem_export", code, 0);
    return code == 0 && (*bytes_out == 0 || *bytes_out > blob_bytes)
               ? wrong(endpoint, "mem_export", "size", (long long)*bytes_out)
               : code;
}

static int mem_import(void *handle, uint32_t peer, const void *blob, size_t bytes,
                      void **remote_out)
{
    struct guarded *endpoint = handle;
    *remote_out = NULL;
    int code = endpoint->inner->mem_import(endpoint->handle, peer, blob, bytes, remote_out);
    code = check(endpoint, "mem_import", code, 0);
    return code == 0 && *remote_out == NULL ? wrong(endpoint, "mem_import", "remote", 0) : code;
}

static int send_op(void *handle, const struct manta_transport_message *message,
                   struct manta_transport_request *request)
{
    struct guarded *endpoint = handle;
    return check_post(endpoint, "send", endpoint->inner->send(endpoint->handle, message, request),
                      request);
}

static int recv_op(void *handle, const struct manta_transport_message *message,
                   struct manta_transport_request *request)
{
    struct guarded *endpoint = handle;
    return check_post(endpoint, "recv", endpoint->inner->recv(endpoint->handle, message, request),
                      request);
}

static int put_signal(void *handle, const struct manta_transport_message *message, void *remote,
                      uint64_t remote_offset, struct manta_transport_request *request)
{
    struct guarded *endpoint = handle;
    int code =
        endpoint->inner->put_signal(endpoint->handle, message, remote, remote_offset, request);
    return check_post(endpoint, "put_signal", code, request);
}

static int flush(void *handle, uint32_t peer, struct manta_transport_request *request)
{
    struct guarded *endpoint = handle;
    return check_post(endpoint, "flush", endpoint->inner->flush(endpoint->handle, peer, request),
                      request);
}

static int progress(void *handle)
{
    struct guarded *endpoint = handle;
    return check(endpoint, "progress", endpoint->inner->progress(endpoint->handle), 1);
}

/* Asked once: it is always the same. */
static int wait_fd(void *handle)
{
    struct guarded *endpoint = handle;
    if (endpoint->wait_fd != FD_UNKNOWN)
        return endpoint->wait_fd;
    int fd = endpoint->inner->wait_fd(endpoint->handle);
    endpoint->wait_fd = fd >= 0 && fcntl(fd, F_GETFD) != -1 ? fd : -1;
    if (fd != endpoint->wait_fd)
        mt_log(MT_LOG_WARN, -1,
               "%s: its wait_fd %d is no descriptor, so waiting ranks look again and again",
               endpoint->inner->name, fd);
    return endpoint->wait_fd;
}

/* What is neither 0 nor 1 had better not put anybody to sleep. */
static int arm(void *handle)
{
    const struct guarded *endpoint = handle;
    return endpoint->inner->arm(endpoint->handle) != 0;
}

static void disarm(void *handle)
{
    const struct guarded *endpoint = handle;
    endpoint->inner->disarm(endpoint->handle);
}

static int peer_status(void *handle, uint32_t peer)
{
    struct guarded *endpoint = handle;
    return check(endpoint, "peer_status", endpoint->inner->peer_status(endpoint->handle, peer), 1);
}

static void error_op(void *handle, struct manta_transport_error *error_out)
{
    const struct guarded *endpoint = handle;
    struct manta_transport_error found = endpoint->error;
    if (found.code == 0) {
        found = (struct manta_transport_error){.size = sizeof(found), .peer = MANTA_PLAN_NONE};
        endpoint->inner->error(endpoint->handle, &found);
        clean_error(&found, endpoint->ranks, found.code ? "it does not say why" : "");
    }
    mt_transport_export(&found, sizeof(found), error_out);
}

/* What is no clear yes is a no. */
static int abort_op(void *handle, int code)
{
    const struct guarded *endpoint = handle;
    return endpoint->inner->abort(endpoint->handle, code) == 0 ? 0 : MANTA_EBUFFER;
}

static int drain(void *handle)
{
    struct guarded *endpoint = handle;
    return check(endpoint, "drain", endpoint->inner->drain(endpoint->handle), 1);
}

static void close_op(void *handle)
{
    struct guarded *endpoint = handle;
    endpoint->inner->close(endpoint->handle);
    free(endpoint);
}

static void counters(void *handle, struct manta_transport_counters *counters_out)
{
    const struct guarded *endpoint = handle;
    struct manta_transport_counters found = {.size = sizeof(found)};
    endpoint->inner->counters(endpoint->handle, &found);
    mt_transport_export(&found, sizeof(found), counters_out);
}

static int fused_query(void *handle, const struct manta_plan_fused *fused)
{
    const struct guarded *endpoint = handle;
    return endpoint->inner->fused_query(endpoint->handle, fused) == 0 ? 0 : MANTA_ENOTSUP;
}

static int fused_post(void *handle, struct manta_transport_fused_call *call,
                      struct manta_transport_request *request)
{
    struct guarded *endpoint = handle;
    return check_post(endpoint, "fused_post",
                      endpoint->inner->fused_post(endpoint->handle, call, request), request);
}

static void fused_look(void *handle, struct manta_transport_fused_call *call,
                       struct manta_transport_request *request, uint32_t looks)
{
    const struct guarded *endpoint = handle;
    endpoint->inner->fused_look(endpoint->handle, call, request, looks);
}

static const uint64_t *fused_awaits(void *handle, const struct manta_transport_fused_call *call,
                                    const struct manta_transport_request *request,
                                    uint64_t *value_out)
{
    const struct guarded *endpoint = handle;
    return endpoint->inner->fused_awaits(endpoint->handle, call, request, value_out);
}

static int fused_memory(void *handle, const struct manta_transport_fused_call *call, char *text,
                        size_t text_bytes)
{
    struct guarded *endpoint = handle;
    int code = endpoint->inner->fused_memory(endpoint->handle, call, text, text_bytes);
    end_text(text, text_bytes);
    return check(endpoint, "fused_memory", code, 0);
}

void mt_guard_init(struct mt_guard *guard, const struct manta_transport *inner, int gives_group)
{
    guard->inner = inner;
    guard->gives_group = gives_group;
    guard->table = (struct manta_transport){
        .size = sizeof(guard->table),
        .abi = MANTA_TRANSPORT_ABI,
        .name = inner->name,
        .version = inner->version,
        .query = inner->query,
        .open = open_op,
        .address = address,
        .peers = peers,
        .probe = probe,
        .connect = connect_op,
        .mem_register = inner->mem_register ? mem_register : NULL,
        .mem_deregister = inner->mem_deregister ? mem_deregister : NULL,
        .mem_export = inner->mem_export ? mem_export : NULL,
        .mem_import = inner->mem_import ? mem_import : NULL,
        .send = send_op,
        .recv = recv_op,
        .put_signal = inner->put_signal ? put_signal : NULL,
        .flush = inner->flush ? flush : NULL,
        .progress = progress,
        .wait_fd = inner->wait_fd ? wait_fd : NULL,
        .arm = inner->arm ? arm : NULL,
        .disarm = inner->disarm ? disarm : NULL,
        .peer_status = peer_status,
        .error = error_op,
        .abort = abort_op,
        .drain = inner->drain ? drain : NULL,
        .close = close_op,
        .counters = inner->counters ? counters : NULL,
        .fused_query = inner->fused_query ? fused_query : NULL,
        .fused_post = inner->fused_post ? fused_post : NULL,
        .fused_look = inner->fused_look ? fused_look : NULL,
        .fused_awaits = inner->fused_awaits ? fused_awaits : NULL,
        .fused_memory = inner->fused_memory ? fused_memory : NULL,
    };
}
