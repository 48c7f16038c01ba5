/* SPDX-License-Identifier: Apache-2.0 */
/* The message protocol: its objects, failures and counters. */
#include "transport/message.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "transport/answer.h"
#include "transport/message_internal.h"

enum { CACHE_LINE = 64 };

int mt_messages_create(const struct mt_message_settings *settings, struct mt_messages **out)
{
    const struct manta_transport_host *host = settings->host;
    *out = NULL;
    if (settings->eager_bytes > (uint64_t)MT_MESSAGE_CHUNK * MT_MESSAGE_SINK_PIECES ||
        settings->window_bytes < settings->eager_bytes || settings->window_bytes > UINT32_MAX)
        return MANTA_EINVAL;
    struct mt_messages *messages = host->alloc(sizeof(*messages), CACHE_LINE);
    if (messages == NULL)
        return MANTA_ENOMEM;
    memset(messages, 0, sizeof(*messages));
    messages->settings = *settings;
    messages->window_chunks = mt_chunks_of(settings->window_bytes);
    messages->error.size = sizeof(messages->error);
    messages->error.peer = MANTA_PLAN_NONE;
    messages->peers = host->alloc(settings->ranks * sizeof(struct mt_peer *), CACHE_LINE);
    if (messages->peers == NULL) {
        host->free(messages);
        return MANTA_ENOMEM;
    }
    memset(messages->peers, 0, settings->ranks * sizeof(struct mt_peer *));
    *out = messages;
    return 0;
}

void mt_messages_destroy(struct mt_messages *messages)
{
    if (messages == NULL)
        return;
    const struct manta_transport_host *host = messages->settings.host;
    for (uint32_t r = 0; r < messages->settings.ranks; r++) {
        if (messages->peers[r] != NULL)
            host->free(messages->peers[r]);
    }
    host->free(messages->peers);
    host->free(messages);
}

static size_t round_up(size_t bytes)
{
    return (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

static void kept_init(struct mt_peer *peer)
{
    peer->kept_free = peer->kept_left = peer->roomless = 0;
    for (uint32_t i = MT_MESSAGE_OFFERS; i > 0 && peer->kept != NULL; i--)
        mt_offer_drop(peer, i);
}

/* One allocation: the peer, its arrivals, its chunk links, its window, offers,
 * what was written. */
static struct mt_peer *peer_create(struct mt_messages *messages, uint32_t rank)
{
    size_t chunks = messages->window_chunks;
    size_t arrivals_at = round_up(sizeof(struct mt_peer));
    size_t links_at = arrivals_at + chunks * sizeof(struct mt_arrival);
    size_t window_at = round_up(links_at + chunks * sizeof(int32_t));
    size_t kept_at = window_at + chunks * MT_MESSAGE_CHUNK;
    int writes = messages->settings.wire->write != NULL;
    size_t written_at = kept_at + MT_MESSAGE_OFFERS * sizeof(struct mt_kept_offer);
    size_t end = written_at + MT_MESSAGE_WRITTEN * sizeof(struct manta_transport_id);
    uint8_t *memory = messages->settings.host->alloc(writes ? end : kept_at, CACHE_LINE);
    if (memory == NULL)
        return NULL;
    struct mt_peer *peer = (struct mt_peer *)(void *)memory;
    memset(memory, 0, arrivals_at);
    peer->rank = rank;
    peer->streams = 1;
    peer->credit = peer->granted = messages->window_chunks;
    peer->arrivals = (struct mt_arrival *)(void *)(memory + arrivals_at);
    peer->chunk_next = (int32_t *)(void *)(memory + links_at);
    peer->window = memory + window_at;
    peer->arrival_first = peer->arrival_last = MT_NO_CHUNK;
    for (size_t i = 0; i < chunks; i++)
        peer->chunk_next[i] = i + 1 < chunks ? (int32_t)(i + 1) : MT_NO_CHUNK;
    if (writes) {
        peer->kept = (struct mt_kept_offer *)(void *)(memory + kept_at);
        peer->written = (struct manta_transport_id *)(void *)(memory + written_at);
    }
    kept_init(peer);
    return peer;
}

int mt_messages_open(struct mt_messages *messages, uint32_t peer)
{
    const struct mt_message_settings *settings = &messages->settings;
    if (peer >= settings->ranks || peer == settings->rank)
        return mt_messages_error_set(messages, MANTA_EINVAL, peer, 0,
                                     "there is no peer %u among %u ranks for rank %u", peer,
                                     settings->ranks, settings->rank);
    if (messages->peers[peer] != NULL)
        return 0;
    messages->peers[peer] = peer_create(messages, peer);
    if (messages->peers[peer] == NULL)
        return mt_messages_error_set(messages, MANTA_ENOMEM, peer, 0,
                                     "no memory for the eager window of rank %u", peer);
    return 0;
}

struct mt_peer *mt_peer_open(struct mt_messages *messages, uint32_t peer, int *code_out)
{
    *code_out = mt_messages_open(messages, peer);
    return *code_out == 0 ? messages->peers[peer] : NULL;
}

/* May a piece of this message be in memory of a device, which nothing here may touch? 0, or why
 * not. */
static int check_device(struct mt_messages *messages, const struct manta_transport_message *message,
                        const struct manta_transport_buffer *buffer)
{
    if (messages->settings.wire->write == NULL)
        return mt_messages_error_set(messages, MANTA_ENOTSUP, message->peer, 0,
                                     "transport %s moves host memory only: copy it there first, or "
                                     "take verbs or ofi to rank %u",
                                     messages->settings.transport, message->peer);
    if (!(message->flags & MANTA_MESSAGE_DIRECT))
        return mt_messages_error_set(messages, MANTA_EINVAL, message->peer, 0,
                                     "a message in memory of a device does not say so: it needs "
                                     "MANTA_MESSAGE_DIRECT, at both ends");
    if (buffer->registration == NULL)
        return mt_messages_error_set(messages, MANTA_EINVAL, message->peer, 0,
                                     "memory of a device is in a message without a registration: "
                                     "give mem_register its dma-buf first");
    return 0;
}

/* What follows from the message's flags and memory. 0, or an error that is set. */
static int classify(struct mt_messages *messages, const struct manta_transport_message *message,
                    struct mt_work *work)
{
    work->is_long = message->bytes > messages->settings.eager_bytes;
    if (message->flags & MANTA_MESSAGE_DIRECT) {
        if (messages->settings.wire->write == NULL)
            return check_device(messages, message, NULL);
        work->is_long = work->is_direct = message->bytes > 0;
    }
    for (uint32_t i = 0; i < message->buffer_count; i++) {
        if (__builtin_expect(message->buffers[i].memory == MANTA_MEMORY_HOST, 1))
            continue;
        int code = check_device(messages, message, &message->buffers[i]);
        if (code != 0)
            return code;
        work->devices |= (uint8_t)(1u << i);
    }
    return 0;
}

int mt_work_begin(struct mt_messages *messages, const struct manta_transport_message *message,
                  struct manta_transport_request *request)
{
    struct mt_work *work = mt_work_of(request);
    uint64_t sum = 0;
    if (message->buffer_count > MANTA_PLAN_LOCATIONS)
        return mt_messages_error_set(messages, MANTA_EINVAL, message->peer, 0,
                                     "a message has %u pieces, at most %d are allowed",
                                     message->buffer_count, MANTA_PLAN_LOCATIONS);
    for (uint32_t i = 0; i < message->buffer_count; i++) {
        work->piece[i].iov_base = message->buffers[i].address;
        work->piece[i].iov_len = message->buffers[i].bytes;
        sum += message->buffers[i].bytes;
    }
    if (sum != message->bytes)
        return mt_messages_error_set(messages, MANTA_EINVAL, message->peer, 0,
                                     "a message's pieces have %llu bytes together, it says %llu",
                                     (unsigned long long)sum, (unsigned long long)message->bytes);
    memset((char *)work + offsetof(struct mt_work, done), 0,
           offsetof(struct mt_work, piece) - offsetof(struct mt_work, done));
    int code = classify(messages, message, work);
    if (code != 0)
        return code;
    work->id = message->id;
    work->bytes = message->bytes;
    work->pieces = (uint8_t)message->buffer_count;
    request->peer = message->peer;
    request->status = MANTA_INPROGRESS;
    return 0;
}

uint32_t mt_work_pieces(const struct mt_work *work, uint64_t offset, struct iovec *pieces,
                        uint32_t capacity)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < work->pieces && count < capacity; i++) {
        uint64_t bytes = work->piece[i].iov_len;
        if (offset >= bytes) {
            offset -= bytes;
            continue;
        }
        pieces[count].iov_base = (uint8_t *)work->piece[i].iov_base + offset;
        pieces[count].iov_len = bytes - offset;
        offset = 0;
        count++;
    }
    return count;
}

void mt_work_scatter(const struct mt_work *work, uint64_t offset, const uint8_t *from,
                     uint64_t bytes)
{
    struct iovec pieces[MANTA_PLAN_LOCATIONS];
    if (work->pieces == 1 && offset + bytes <= work->piece[0].iov_len) {
        memcpy((char *)work->piece[0].iov_base + offset, from, bytes);
        return;
    }
    uint32_t count = mt_work_pieces(work, offset, pieces, MANTA_PLAN_LOCATIONS);
    for (uint32_t i = 0; i < count && bytes > 0; i++) {
        uint64_t take = pieces[i].iov_len < bytes ? pieces[i].iov_len : bytes;
        memcpy(pieces[i].iov_base, from, take);
        from += take;
        bytes -= take;
    }
}

static void error_format(struct manta_transport_error *error, int code, uint32_t peer,
                         int system_errno, const char *format, va_list arguments)
{
    error->size = sizeof(*error);
    error->code = code;
    error->peer = peer;
    error->system_errno = system_errno;
    vsnprintf(error->sentence, sizeof(error->sentence), format, arguments);
}

int mt_messages_error_set(struct mt_messages *messages, int code, uint32_t peer, int system_errno,
                          const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    error_format(&messages->error, code, peer, system_errno, format, arguments);
    va_end(arguments);
    return code;
}

void mt_messages_error(const struct mt_messages *messages, struct manta_transport_error *error_out)
{
    mt_transport_export(&messages->error, sizeof(messages->error), error_out);
}

static void list_end(struct mt_request_list *list, int status)
{
    while (list->first != NULL) {
        struct manta_transport_request *request = list->first;
        mt_list_remove(list, request);
        mt_request_end(request, status);
    }
}

/* The memory of all requests with this peer must be at rest before this. */
static void sends_fail(struct mt_peer *peer, int code)
{
    list_end(&peer->queued, code);
    list_end(&peer->waiting, code);
    list_end(&peer->ready, code);
    list_end(&peer->handed, code);
    list_end(&peer->placed, code);
    list_end(&peer->writing, code);
    memset(peer->lanes, 0, sizeof(peer->lanes));
    peer->announced = peer->writes = peer->again = 0;
    kept_init(peer);
    peer->asked_count = peer->hint_count = 0;
    peer->sends_blocked = 0;
}

/* Receives that claimed an arrival are on the list of receives, too. */
static void recvs_fail(struct mt_messages *messages, struct mt_peer *peer, int code)
{
    for (struct manta_transport_request *request = peer->recvs.first; request != NULL;
         request = mt_work_of(request)->next)
        mt_recv_release(messages, peer, request);
    list_end(&peer->recvs, code);
    peer->asking = peer->unasked = peer->owing = peer->offer_count = peer->again_count = 0;
    peer->hinted = peer->stale_count = 0;
    peer->answers_blocked = 0;
    for (int32_t a = peer->arrival_first; a != MT_NO_CHUNK; a = peer->arrivals[a].next)
        peer->arrivals[a].claimed = NULL;
    for (uint32_t s = 0; s < MT_MESSAGE_STREAMS; s++) {
        struct mt_sink *sink = &peer->sinks[s];
        if (sink->mode == MT_SINK_WINDOW)
            mt_window_release(peer, sink->arrival);
        if (sink->mode != MT_SINK_NONE)
            sink->mode = MT_SINK_DISCARD;
        sink->request = NULL;
        sink->charged = 0;
    }
}

void mt_messages_fail(struct mt_messages *messages, uint32_t peer_rank,
                      enum mt_message_direction direction, int code, int system_errno,
                      const char *format, ...)
{
    int opened = 0;
    struct mt_peer *peer = mt_peer_find(messages, peer_rank, &opened);
    struct manta_transport_error failure;
    va_list arguments;
    if (peer != NULL)
        code = mt_peer_cease(messages, peer, code);
    va_start(arguments, format);
    error_format(&failure, code, peer_rank, system_errno, format, arguments);
    va_end(arguments);
    if (messages->error.code == 0 || messages->error.peer != peer_rank)
        messages->error = failure;
    if (peer == NULL)
        return;
    if ((direction & MT_MESSAGE_SENDS) && peer->sends_failure.code == 0) {
        peer->sends_failure = failure;
        sends_fail(peer, code);
    }
    if ((direction & MT_MESSAGE_RECVS) && peer->recvs_failure.code == 0) {
        peer->recvs_failure = failure;
        recvs_fail(messages, peer, code);
    }
}

int mt_peer_violation(struct mt_messages *messages, struct mt_peer *peer, const char *what,
                      uint64_t value)
{
    mt_messages_fail(messages, peer->rank, MT_MESSAGE_BOTH, MANTA_ETRANSPORT, 0,
                     "rank %u broke the message protocol of transport %s: %s (%llu); the ranks may "
                     "run different builds, or the stream is damaged",
                     peer->rank, messages->settings.transport, what, (unsigned long long)value);
    return MANTA_ETRANSPORT;
}

void mt_messages_abort(struct mt_messages *messages, int code)
{
    if (messages->aborted == 0)
        messages->aborted = code;
    for (uint32_t r = 0; r < messages->settings.ranks; r++) {
        if (messages->peers[r] == NULL)
            continue;
        int status = mt_peer_cease(messages, messages->peers[r], code);
        sends_fail(messages->peers[r], status);
        recvs_fail(messages, messages->peers[r], status);
    }
}

void mt_messages_streams(struct mt_messages *messages, uint32_t peer, uint32_t streams)
{
    messages->peers[peer]->streams = streams;
}

int mt_messages_writable(struct mt_messages *messages, uint32_t peer)
{
    int code = 0;
    struct mt_peer *state = mt_peer_find(messages, peer, &code);
    if (state == NULL || messages->aborted != 0)
        return 0;
    messages->may_offer = 1; /* a wire that had no way to the peer may have one */
    int answered = mt_peer_answer(messages, state);
    return mt_peer_push(messages, state) | answered;
}

void mt_messages_flushed(struct mt_messages *messages, uint32_t peer)
{
    struct mt_peer *state = messages->peers[peer];
    if (state != NULL)
        list_end(&state->handed, 0);
}

int mt_messages_waiting(const struct mt_messages *messages, uint32_t peer,
                        enum mt_message_direction direction)
{
    const struct mt_peer *state = messages->peers[peer];
    if (state == NULL)
        return 0;
    return ((direction & MT_MESSAGE_SENDS) && state->sends_blocked) ||
           ((direction & MT_MESSAGE_RECVS) && state->answers_blocked);
}

void mt_messages_counters(const struct mt_messages *messages,
                          struct manta_transport_counters *counters_out)
{
    struct manta_transport_counters counters = {
        .sent_messages = atomic_load_explicit(&messages->sent_messages, memory_order_relaxed),
        .sent_bytes = atomic_load_explicit(&messages->sent_bytes, memory_order_relaxed),
        .received_messages =
            atomic_load_explicit(&messages->received_messages, memory_order_relaxed),
        .received_bytes = atomic_load_explicit(&messages->received_bytes, memory_order_relaxed),
        .copied_bytes = atomic_load_explicit(&messages->copied_bytes, memory_order_relaxed),
    };
    mt_transport_export(&counters, sizeof(counters), counters_out);
}
