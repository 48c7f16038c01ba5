/* SPDX-License-Identifier: Apache-2.0 */
/* The reference plugin with one thing wrong, which MANTA_PLUGIN_FAULTY names: what must be found by
 * manta plugin check, and what the library must survive. Each rank is a thread of its own. */
#define manta_transport_plugin reference_plugin
#include "reference.c"
#undef manta_transport_plugin

#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum { LATER = 21, SOME = 16, LONG_S = 6 };

static const struct manta_transport_host *host;
static _Thread_local uint32_t posts, looks;
static _Thread_local char *receiving; /* where the last receive that was aborted puts its data */

static int is(const char *fault)
{
    const char *asked = host->config("PLUGIN_FAULTY");
    return asked != NULL && strcmp(asked, fault) == 0;
}

static int faulty_open(const struct manta_transport_open *params, void **endpoint_out,
                       struct manta_transport_error *error)
{
    int code = open_op(params, endpoint_out, error);
    posts = looks = 0;
    if (is("leak") && dup(0) < 0)
        return MANTA_ESYSTEM;
    if (code == 0 && is("null")) {
        close_op(*endpoint_out);
        *endpoint_out = NULL;
    }
    return code;
}

static int faulty_address(void *endpoint, void *blob, size_t blob_bytes, size_t *bytes_out)
{
    int code = address_op(endpoint, blob, blob_bytes, bytes_out);
    if (is("size"))
        *bytes_out = 5000;
    return code;
}

static int faulty_probe(void *endpoint, uint32_t peer,
                        struct manta_transport_properties *properties)
{
    const struct endpoint *self = endpoint;
    int code = probe(endpoint, peer, properties);
    if (is("limit"))
        properties->message_bytes_max = 4096;
    return is("one-sided") && self->open.rank > peer
               ? fail(&((struct endpoint *)endpoint)->error, MANTA_ENOTSUP, peer, "one-sided")
               : code;
}

/* The newest is served first. */
static void reorder(struct endpoint *self, struct manta_transport_request *request)
{
    struct manta_transport_request **at = &self->first;
    while (*at != NULL && *at != request)
        at = &work_of(*at)->next;
    if (*at == NULL)
        return; /* it is complete already */
    *at = work_of(request)->next;
    work_of(request)->next = self->first;
    self->first = request;
}

static uint64_t sum_of(const struct manta_transport_message *message)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < message->buffer_count; i++)
        bytes += message->buffers[i].bytes;
    return bytes;
}

static int faulty_post(struct endpoint *self, const struct manta_transport_message *given,
                       struct manta_transport_request *request, uint32_t is_send)
{
    struct manta_transport_message message = *given;
    struct manta_transport_buffer buffers[MANTA_PLAN_LOCATIONS];
    int is_later = ++posts % LATER == 0;
    if (is("crash") && is_later)
        raise(SIGSEGV);
    if (is("grow") && is_send && malloc(CHUNK) != NULL)
        (void)host->alloc(64, 64);
    if (is("refuse") && posts % 2 == 0)
        return MANTA_EAGAIN;
    if (is("epoch"))
        message.id.epoch = self->open.epoch;
    if (is("match"))
        message.id.number = 0;
    if (is("blind"))
        message.id.hash = 0;
    for (uint32_t i = 0; i < message.buffer_count && i < MANTA_PLAN_LOCATIONS; i++) {
        buffers[i] = message.buffers[i];
        if (is("kind"))
            buffers[i].memory = MANTA_MEMORY_HOST;
    }
    if (is("kind"))
        message.buffers = buffers;
    if (is("sum"))
        message.bytes = sum_of(&message);
    request->status = is("lose") ? 0 : MANTA_INPROGRESS;
    request->peer = message.peer;
    if (is_send && is_later && (is("lose") || is("drop")))
        return 0; /* and nothing is sent */
    int code = post(self, &message, request, is_send);
    if (code == 0 && is("reorder"))
        reorder(self, request);
    if (is("status"))
        request->status = 7;
    return is("code") ? 7 : code;
}

static int faulty_send(void *endpoint, const struct manta_transport_message *message,
                       struct manta_transport_request *request)
{
    return faulty_post(endpoint, message, request, 1);
}

static int faulty_recv(void *endpoint, const struct manta_transport_message *message,
                       struct manta_transport_request *request)
{
    return faulty_post(endpoint, message, request, 0);
}

static void sleep_long(void)
{
    const struct timespec time = {.tv_sec = LONG_S};
    nanosleep(&time, NULL);
}

static int faulty_progress(void *endpoint)
{
    struct endpoint *self = endpoint;
    int is_later = ++looks % LATER == 0;
    if (is("delay") && looks % SOME != 0)
        return 0;
    while (is("hang") && is_later)
        pause();
    if (is("block") && is_later)
        sleep_long();
    if (is("late") && receiving != NULL)
        *receiving = 1;
    int moved = progress(self);
    return is("answer") ? 42 : moved;
}

static int faulty_wait_fd(void *endpoint)
{
    static _Thread_local int pipes[2] = {-1, -1};
    if (!is("deaf"))
        return wait_fd(endpoint);
    return pipes[0] >= 0 || pipe(pipes) == 0 ? pipes[0] : -1;
}

static void faulty_error(void *endpoint, struct manta_transport_error *error_out)
{
    if (is("silent"))
        return;
    error_op(endpoint, error_out);
    if (!is("text"))
        return;
    error_out->code = 77;
    error_out->peer = 12345;
    memset(error_out->sentence, 'x', sizeof error_out->sentence);
}

static int faulty_abort(void *endpoint, int code)
{
    struct endpoint *self = endpoint;
    for (struct manta_transport_request *at = self->first; at != NULL; at = work_of(at)->next)
        if (!work_of(at)->is_send && work_of(at)->bytes > 0)
            receiving = work_of(at)->pieces[0].iov_base;
    if (is("slow-abort"))
        sleep_long();
    if (is("no-abort"))
        return 0;
    return is("unsafe") ? MANTA_EBUFFER : abort_op(endpoint, code);
}

const struct manta_transport *manta_transport_plugin(const struct manta_transport_host *given);
const struct manta_transport *manta_transport_plugin(const struct manta_transport_host *given)
{
    static struct manta_transport table;
    host = given;
    table = *reference_plugin(given);
    table.name = "faulty";
    table.version = is("version") ? "1 of another build" : "1";
    table.open = faulty_open;
    table.address = faulty_address;
    table.probe = faulty_probe;
    table.send = faulty_send;
    table.recv = faulty_recv;
    table.progress = faulty_progress;
    table.wait_fd = faulty_wait_fd;
    table.error = faulty_error;
    table.abort = faulty_abort;
    return &table;
}
