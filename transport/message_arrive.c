/* SPDX-License-Identifier: Apache-2.0 */
/* Arriving frames: where they belong, and where their payload goes. */
#include <string.h>

#include "transport/message_internal.h"

struct manta_transport_request *mt_recv_match(struct mt_messages *messages, struct mt_peer *peer,
                                              const struct mt_frame *frame)
{
    struct manta_transport_request *request = peer->recvs.first;
    while (request != NULL) {
        const struct mt_work *work = mt_work_of(request);
        struct manta_transport_request *next = work->next;
        int equal = mt_id_equal(&work->id, &frame->id);
        if (equal && work->id.hash == frame->id.hash && work->bytes == frame->bytes)
            return request;
        if (equal || mt_id_conflict(&work->id, &frame->id))
            mt_recv_end(messages, peer, request, MANTA_EMISMATCH);
        request = next;
    }
    return NULL;
}

/* The receive that a part of a message belongs to, or NULL. */
static struct manta_transport_request *match_part(const struct mt_peer *peer,
                                                  const struct mt_frame *frame)
{
    struct manta_transport_request *request = peer->recvs.first;
    while (request != NULL && !mt_id_equal(&mt_work_of(request)->id, &frame->id))
        request = mt_work_of(request)->next;
    return request;
}

static int is_here(const struct mt_peer *peer, const struct manta_transport_id *id)
{
    int conflict = 0;
    return mt_recent_has(peer, id) || mt_window_find(peer, id, &conflict) != MT_NO_CHUNK;
}

/* What to do with a message that nobody has asked for: 0: keep it, a receive may come; 1: drop it,
 * it is here or was; MANTA_EMISMATCH: no step will ever take it. */
static int judge_unasked(const struct mt_messages *messages, const struct mt_peer *peer,
                         const struct mt_frame *frame)
{
    const struct mt_message_settings *settings = &messages->settings;
    if (is_here(peer, &frame->id))
        return 1;
    return settings->call_state ? settings->call_state(settings->host_arg, &frame->id) : 0;
}

static int refuse_stray(struct mt_messages *messages, const struct mt_peer *peer,
                        const struct mt_frame *frame)
{
    mt_messages_fail(messages, peer->rank, MT_MESSAGE_BOTH, MANTA_EMISMATCH, 0,
                     "rank %u sent a message of collective #%llu, which is over here and took none",
                     peer->rank, (unsigned long long)frame->id.call);
    return messages->stray = MANTA_EMISMATCH;
}

static int feed_starved(struct mt_messages *messages)
{
    int moved = 0;
    messages->is_starved = messages->may_offer = 0;
    for (uint32_t r = 0; r < messages->settings.ranks; r++) {
        struct mt_peer *peer = messages->peers[r];
        if (peer != NULL && peer->is_starved)
            moved |= mt_peer_feed(messages, peer);
    }
    return moved;
}

int mt_messages_round(struct mt_messages *messages, int moved)
{
    if (__builtin_expect(messages->is_starved && messages->may_offer && !messages->aborted, 0))
        moved |= feed_starved(messages);
    return messages->stray ? messages->stray : moved;
}

static void sink_set(struct mt_sink *sink, enum mt_sink_mode mode,
                     struct manta_transport_request *request, int32_t arrival)
{
    sink->mode = mode;
    sink->request = request;
    sink->arrival = sink->chunk = arrival;
    sink->offset = 0;
    sink->at = 0;
}

static int begin_eager(struct mt_messages *messages, struct mt_peer *peer, struct mt_sink *sink,
                       const struct mt_frame *frame)
{
    if (frame->bytes > messages->settings.eager_bytes || frame->part != frame->bytes)
        return mt_peer_violation(messages, peer, "an eager message is too long", frame->bytes);
    uint32_t chunks = mt_chunks_of(frame->bytes);
    if (chunks > peer->granted)
        return mt_peer_violation(messages, peer, "more eager data than there is credit for",
                                 chunks);
    peer->granted -= chunks;
    sink->charged = chunks;
    struct manta_transport_request *request = mt_recv_match(messages, peer, frame);
    int unasked = request == NULL ? judge_unasked(messages, peer, frame) : 0;
    if (unasked < 0)
        return refuse_stray(messages, peer, frame);
    if (request != NULL && mt_work_of(request)->is_direct) {
        mt_recv_end_staged(messages, peer, request);
    } else if (request != NULL && mt_work_of(request)->taken == 0) {
        mt_work_of(request)->taken = frame->part;
        sink_set(sink, MT_SINK_REQUEST, request, MT_NO_CHUNK);
    } else if (request == NULL && !unasked) {
        sink->charged = 0;
        sink_set(sink, MT_SINK_WINDOW, NULL, mt_window_store(peer, frame));
    }
    return 0;
}

static int begin_data(struct mt_messages *messages, struct mt_peer *peer, struct mt_sink *sink,
                      const struct mt_frame *frame)
{
    struct manta_transport_request *request = match_part(peer, frame);
    if (request == NULL && mt_recent_has(peer, &frame->id))
        return 0;
    if (request == NULL || !mt_work_of(request)->asked)
        return mt_peer_violation(messages, peer, "data of a message that was not asked for",
                                 frame->bytes);
    struct mt_work *work = mt_work_of(request);
    if (work->is_direct || work->id.hash != frame->id.hash || frame->bytes > work->bytes ||
        frame->part > frame->bytes || frame->part > work->bytes - work->taken ||
        (frame->part == 0 && work->bytes > 0))
        return mt_peer_violation(messages, peer, "data that the message does not have",
                                 frame->part);
    work->taken += frame->part;
    mt_recv_uncount(messages, peer, work);
    mt_recv_unhint(messages, peer, work);
    sink_set(sink, MT_SINK_REQUEST, request, MT_NO_CHUNK);
    sink->at = work->bytes - frame->bytes;
    return 0;
}

int mt_peer_begin_rts(struct mt_messages *messages, struct mt_peer *peer,
                      const struct mt_frame *frame, uint32_t which)
{
    struct manta_transport_request *request = mt_recv_match(messages, peer, frame);
    if (request != NULL) {
        struct mt_work *work = mt_work_of(request);
        mt_recv_uncount(messages, peer, work);
        mt_recv_unhint(messages, peer, work);
        if (!work->asked && !work->owed)
            mt_recv_ask(messages, peer, request, 0);
        return 0;
    }
    int was_written = peer->written != NULL && mt_written_has(peer, &frame->id);
    int unasked = was_written ? 1 : judge_unasked(messages, peer, frame);
    if (unasked < 0)
        return refuse_stray(messages, peer, frame);
    if (unasked)
        return mt_peer_have(messages, peer, &frame->id, which);
    for (uint32_t i = 0; i < peer->offer_count; i++) {
        if (mt_id_equal(&peer->offers[i].frame.id, &frame->id))
            return 0;
    }
    if (peer->offer_count - peer->again_count == MT_MESSAGE_ANNOUNCED)
        return mt_peer_violation(messages, peer, "more messages announced than allowed",
                                 MT_MESSAGE_ANNOUNCED + 1);
    peer->offers[peer->offer_count++] = (struct mt_offer){.frame = *frame};
    mt_peer_ask_small(messages, peer);
    return 0;
}

/* The window's message is whole. */
static void end_window(struct mt_messages *messages, struct mt_peer *peer, int32_t arrival)
{
    struct manta_transport_request *request = peer->arrivals[arrival].claimed;
    if (request == NULL)
        return;
    mt_window_copy(peer, arrival, mt_work_of(request));
    mt_count(&messages->copied_bytes, mt_work_of(request)->bytes);
    mt_window_release(peer, arrival);
    mt_recv_end(messages, peer, request, 0);
}

static void end_frame(struct mt_messages *messages, struct mt_peer *peer, struct mt_sink *sink)
{
    enum mt_sink_mode mode = sink->mode;
    struct manta_transport_request *request = sink->request;
    sink->mode = MT_SINK_NONE;
    sink->request = NULL;
    peer->credit_due += sink->charged;
    sink->charged = 0;
    if (mode == MT_SINK_REQUEST && mt_work_of(request)->done == mt_work_of(request)->bytes)
        mt_recv_end(messages, peer, request, 0);
    else if (mode == MT_SINK_WINDOW)
        end_window(messages, peer, sink->arrival);
    if (messages->aborted == 0)
        mt_peer_answer(messages, peer);
}

static int begin_forward(struct mt_messages *messages, struct mt_peer *peer, struct mt_sink *sink,
                         const struct mt_frame *frame)
{
    int code = 0;
    if (sink->mode != MT_SINK_NONE)
        return mt_peer_violation(messages, peer, "a frame inside of another", frame->type);
    sink->frame = *frame;
    sink->lacking = frame->part;
    sink_set(sink, MT_SINK_DISCARD, NULL, MT_NO_CHUNK);
    if (messages->aborted == 0 && peer->recvs_failure.code == 0 &&
        frame->id.epoch == messages->settings.epoch) {
        if (frame->type == MT_FRAME_EAGER)
            code = begin_eager(messages, peer, sink, frame);
        else if (frame->type == MT_FRAME_DATA)
            code = begin_data(messages, peer, sink, frame);
        else if (frame->type == MT_FRAME_RTS)
            code = mt_peer_begin_rts(messages, peer, frame, MT_HAVE_RTS);
        else
            code = mt_peer_begin_again(messages, peer, frame);
    }
    if (code == 0 && sink->lacking == 0)
        end_frame(messages, peer, sink);
    return code;
}

int mt_messages_begin(struct mt_messages *messages, uint32_t peer_rank, uint32_t stream,
                      const struct mt_frame *frame)
{
    int code = 0;
    struct mt_peer *peer = mt_peer_find(messages, peer_rank, &code);
    if (peer == NULL)
        return code;
    if (stream > 0 && frame->type != MT_FRAME_DATA)
        return mt_peer_violation(messages, peer, "no data on a stream for bulk", frame->type);
    if (mt_frame_is_forward(frame->type))
        return begin_forward(messages, peer, &peer->sinks[stream], frame);
    if (frame->part > 0)
        return mt_peer_violation(messages, peer, "an offer where nothing is written", frame->part);
    return mt_messages_asked(messages, peer_rank, frame, NULL);
}

/* The oldest receive, if it waits for just this message and nothing else is to be thought of. */
static struct manta_transport_request *expects(const struct mt_messages *messages,
                                               const struct mt_peer *peer,
                                               const struct mt_frame *frame)
{
    struct manta_transport_request *request = peer->recvs.first;
    if (request == NULL || frame->type != MT_FRAME_EAGER || messages->aborted != 0 ||
        peer->recvs_failure.code != 0 || peer->sinks[0].mode != MT_SINK_NONE)
        return NULL;
    const struct mt_work *work = mt_work_of(request);
    return mt_id_equal(&work->id, &frame->id) && work->id.hash == frame->id.hash &&
                   work->bytes == frame->bytes && frame->part == frame->bytes && !work->is_long &&
                   !work->is_direct && work->taken == 0 &&
                   mt_chunks_of(frame->bytes) <= peer->granted
               ? request
               : NULL;
}

int mt_messages_whole(struct mt_messages *messages, uint32_t peer_rank,
                      const struct mt_frame *frame, const void *payload)
{
    struct mt_peer *peer = messages->peers[peer_rank];
    struct manta_transport_request *request = peer ? expects(messages, peer, frame) : NULL;
    if (request == NULL) {
        int code = mt_messages_begin(messages, peer_rank, 0, frame);
        if (code == 0 && frame->part > 0)
            mt_messages_deliver(messages, peer_rank, 0, payload, frame->part);
        return code;
    }
    struct mt_work *work = mt_work_of(request);
    uint32_t chunks = mt_chunks_of(frame->bytes);
    peer->granted -= chunks;
    peer->credit_due += chunks;
    work->taken = work->done = work->bytes;
    mt_work_scatter(work, 0, payload, work->bytes);
    mt_recv_end(messages, peer, request, 0);
    mt_peer_answer(messages, peer);
    return 0;
}

int mt_messages_asked(struct mt_messages *messages, uint32_t peer_rank,
                      const struct mt_frame *frame, const uint8_t *offer)
{
    int code = 0;
    struct mt_peer *peer = mt_peer_find(messages, peer_rank, &code);
    if (peer == NULL)
        return code;
    if (messages->aborted != 0 || peer->sends_failure.code != 0 ||
        frame->id.epoch != messages->settings.epoch)
        return 0;
    switch (frame->type) {
    case MT_FRAME_RTR:
        return mt_peer_asked(messages, peer, frame, offer);
    case MT_FRAME_CREDIT:
        return mt_peer_credited(messages, peer, frame);
    case MT_FRAME_HAVE:
        mt_peer_had(messages, peer, frame);
        return 0;
    default:
        return mt_peer_violation(messages, peer, "a frame of unknown type", frame->type);
    }
}

uint64_t mt_messages_lacking(const struct mt_messages *messages, uint32_t peer, uint32_t stream)
{
    const struct mt_peer *state = messages->peers[peer];
    return state == NULL || state->sinks[stream].mode == MT_SINK_NONE
               ? 0
               : state->sinks[stream].lacking;
}

static uint32_t window_pieces(const struct mt_peer *peer, const struct mt_sink *sink,
                              struct iovec *pieces, uint32_t capacity)
{
    uint32_t count = 0;
    uint32_t offset = sink->offset;
    int32_t chunk = sink->chunk;
    for (uint64_t left = sink->lacking; left > 0 && count < capacity;) {
        uint64_t room = MT_MESSAGE_CHUNK - offset;
        uint64_t take = room < left ? room : left;
        pieces[count].iov_base = peer->window + (size_t)chunk * MT_MESSAGE_CHUNK + offset;
        pieces[count].iov_len = take;
        left -= take;
        offset = 0;
        chunk = peer->chunk_next[chunk];
        count++;
    }
    return count;
}

uint32_t mt_messages_sink(const struct mt_messages *messages, uint32_t peer_rank, uint32_t stream,
                          struct iovec *pieces, uint32_t capacity)
{
    const struct mt_peer *peer = messages->peers[peer_rank];
    if (peer == NULL || peer->sinks[stream].lacking == 0)
        return 0;
    const struct mt_sink *sink = &peer->sinks[stream];
    if (sink->mode == MT_SINK_WINDOW)
        return window_pieces(peer, sink, pieces, capacity);
    if (sink->mode != MT_SINK_REQUEST)
        return 0;
    uint32_t count = mt_work_pieces(mt_work_of(sink->request), sink->at, pieces, capacity);
    uint64_t left = sink->lacking;
    for (uint32_t i = 0; i < count; i++) {
        if (pieces[i].iov_len >= left) {
            pieces[i].iov_len = left;
            return i + 1;
        }
        left -= pieces[i].iov_len;
    }
    return count;
}

/* The place of the next byte in the window moves on. */
static void window_advance(struct mt_peer *peer, struct mt_sink *sink, uint64_t bytes)
{
    peer->arrivals[sink->arrival].received += bytes;
    while (bytes > 0) {
        uint64_t room = MT_MESSAGE_CHUNK - sink->offset;
        if (bytes < room) {
            sink->offset += (uint32_t)bytes;
            return;
        }
        bytes -= room;
        sink->offset = 0;
        sink->chunk = peer->chunk_next[sink->chunk];
    }
}

void mt_messages_advance(struct mt_messages *messages, uint32_t peer_rank, uint32_t stream,
                         uint64_t bytes)
{
    struct mt_peer *peer = messages->peers[peer_rank];
    if (peer == NULL || peer->sinks[stream].mode == MT_SINK_NONE || bytes == 0)
        return;
    struct mt_sink *sink = &peer->sinks[stream];
    if (bytes > sink->lacking)
        bytes = sink->lacking;
    sink->lacking -= bytes;
    if (sink->mode == MT_SINK_REQUEST) {
        mt_work_of(sink->request)->done += bytes;
        sink->at += bytes;
    } else if (sink->mode == MT_SINK_WINDOW) {
        window_advance(peer, sink, bytes);
    }
    if (sink->lacking == 0)
        end_frame(messages, peer, sink);
}

void mt_messages_deliver(struct mt_messages *messages, uint32_t peer, uint32_t stream,
                         const void *payload, uint64_t bytes)
{
    const uint8_t *from = payload;
    while (bytes > 0 && mt_messages_lacking(messages, peer, stream) > 0) {
        struct iovec pieces[8];
        uint32_t count = mt_messages_sink(messages, peer, stream, pieces, 8);
        uint64_t lacking = mt_messages_lacking(messages, peer, stream);
        uint64_t moved = 0;
        for (uint32_t i = 0; i < count && moved < bytes; i++) {
            uint64_t take = pieces[i].iov_len < bytes - moved ? pieces[i].iov_len : bytes - moved;
            memcpy(pieces[i].iov_base, from + moved, take);
            moved += take;
        }
        if (count == 0)
            moved = bytes < lacking ? bytes : lacking;
        mt_messages_advance(messages, peer, stream, moved);
        from += moved;
        bytes -= moved;
    }
}
