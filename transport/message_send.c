/* SPDX-License-Identifier: Apache-2.0 */
/* The sender's half of the message protocol: eager, announced and asked-for messages. */
#include <string.h>

#include "transport/message_internal.h"

static struct mt_frame frame_of(const struct mt_work *work, uint32_t type)
{
    return (struct mt_frame){.type = type, .bytes = work->bytes, .id = work->id};
}

/* The wire has taken all of a message; code: what it said. */
static void end_put(struct mt_messages *messages, struct mt_peer *peer,
                    struct manta_transport_request *request, uint64_t bytes, int code)
{
    mt_count(&messages->sent_messages, 1);
    mt_count(&messages->sent_bytes, bytes);
    if (code == MANTA_INPROGRESS)
        mt_list_append(&peer->handed, request);
    else
        mt_request_end(request, 0);
}

/* A whole message in one frame. 0: the request is off its list and complete, or with the wire until
 * that has flushed; else MANTA_EAGAIN. */
static int put_whole(struct mt_messages *messages, struct mt_peer *peer,
                     struct mt_request_list *list, struct manta_transport_request *request,
                     uint32_t type)
{
    const struct mt_work *work = mt_work_of(request);
    struct mt_frame frame = frame_of(work, type);
    frame.part = (uint32_t)work->bytes;
    int code = messages->settings.wire->put(messages->settings.wire_arg, peer->rank, &frame,
                                            work->piece, work->pieces);
    if (code < 0) {
        peer->sends_blocked = 1;
        return code;
    }
    mt_list_remove(list, request);
    end_put(messages, peer, request, work->bytes, code);
    return 0;
}

static int put_eager(struct mt_messages *messages, struct mt_peer *peer,
                     struct mt_request_list *list, struct manta_transport_request *request)
{
    uint32_t chunks = mt_chunks_of(mt_work_of(request)->bytes);
    int code = put_whole(messages, peer, list, request, MT_FRAME_EAGER);
    if (code == 0)
        peer->credit -= chunks;
    return code;
}

static int put_rts(struct mt_messages *messages, struct mt_peer *peer,
                   struct manta_transport_request *request)
{
    struct mt_work *work = mt_work_of(request);
    struct mt_frame frame = frame_of(work, MT_FRAME_RTS);
    int code =
        messages->settings.wire->put(messages->settings.wire_arg, peer->rank, &frame, NULL, 0);
    if (code < 0) {
        peer->sends_blocked = 1;
        return code;
    }
    work->announced = 1;
    peer->announced++;
    return 0;
}

/* Small messages in order: eager while credit lasts, else announced while announcements last. */
static int push_queued(struct mt_messages *messages, struct mt_peer *peer)
{
    int moved = 0;
    while (peer->queued.first != NULL) {
        struct manta_transport_request *request = peer->queued.first;
        if (mt_chunks_of(mt_work_of(request)->bytes) <= peer->credit) {
            if (put_eager(messages, peer, &peer->queued, request) != 0)
                break;
        } else {
            if (peer->announced == MT_MESSAGE_ANNOUNCED || put_rts(messages, peer, request) != 0)
                break;
            mt_list_remove(&peer->queued, request);
            mt_list_append(&peer->waiting, request);
        }
        moved = 1;
    }
    return moved;
}

/* The peer cannot ask for more long messages than it has, nor offer room for all that it has
 * posted; so tell it of those that wait: of all, or of the direct ones. */
static int push_announcements(struct mt_messages *messages, struct mt_peer *peer)
{
    int moved = 0;
    int all = peer->asked_count == MT_MESSAGE_ANNOUNCED;
    struct manta_transport_request *request = peer->waiting.first;
    for (; request != NULL && peer->announced < MT_MESSAGE_ANNOUNCED;
         request = mt_work_of(request)->next) {
        const struct mt_work *work = mt_work_of(request);
        if (work->announced || work->again != 0 || (!all && !work->is_direct))
            continue;
        if (put_rts(messages, peer, request) != 0)
            break;
        moved = 1;
    }
    peer->is_silent &= request != NULL;
    return moved;
}

/* Small messages that were asked for. Where long ones share their stream, in turn. */
static int push_ready_small(struct mt_messages *messages, struct mt_peer *peer)
{
    int moved = 0;
    struct manta_transport_request *request = peer->ready.first;
    while (request != NULL) {
        struct manta_transport_request *next = mt_work_of(request)->next;
        if (!mt_work_of(request)->is_long) {
            if (put_whole(messages, peer, &peer->ready, request, MT_FRAME_DATA) != 0)
                break;
            moved = 1;
        } else if (peer->streams == 1) {
            break;
        }
        request = next;
    }
    return moved;
}

/* The stretch that a free stream would take next; its request is NULL if there is none. */
static struct mt_lane next_stretch(const struct mt_messages *messages, const struct mt_peer *peer)
{
    struct manta_transport_request *request = peer->ready.first;
    for (; request != NULL; request = mt_work_of(request)->next) {
        const struct mt_work *work = mt_work_of(request);
        if (!work->is_long || work->taken == work->bytes)
            continue;
        uint64_t take = work->bytes - work->taken;
        if (peer->streams > 2 && take > messages->settings.stretch_bytes)
            take = messages->settings.stretch_bytes;
        return (struct mt_lane){request, work->taken, work->taken + take};
    }
    return (struct mt_lane){0};
}

/* As much of its stretch as the stream takes. */
static int push_lane(struct mt_messages *messages, struct mt_peer *peer, uint32_t stream)
{
    struct mt_lane *lane = &peer->lanes[stream];
    struct mt_lane goes = lane->request != NULL ? *lane : next_stretch(messages, peer);
    if (goes.request == NULL)
        return 0;
    struct mt_work *work = mt_work_of(goes.request);
    struct mt_frame frame = frame_of(work, MT_FRAME_DATA);
    struct iovec pieces[MANTA_PLAN_LOCATIONS];
    uint32_t count = mt_work_pieces(work, goes.at, pieces, MANTA_PLAN_LOCATIONS);
    uint64_t accepted = 0;
    frame.bytes -= goes.at;
    if (messages->settings.wire->data(messages->settings.wire_arg, peer->rank, stream, &frame,
                                      pieces, count, goes.end - goes.at, &accepted) != 0) {
        peer->sends_blocked = 1;
        return 0;
    }
    if (lane->request == NULL) {
        work->taken = goes.end;
        peer->turn++;
    }
    goes.at += accepted;
    *lane = goes.at < goes.end ? goes : (struct mt_lane){0};
    work->done += accepted;
    mt_count(&messages->sent_bytes, accepted);
    if (work->done == work->bytes) {
        mt_count(&messages->sent_messages, 1);
        mt_list_remove(&peer->ready, goes.request);
        mt_request_end(goes.request, 0);
    }
    return accepted > 0;
}

/* What was asked for. */
static int push_ready(struct mt_messages *messages, struct mt_peer *peer)
{
    if (peer->ready.first == NULL)
        return 0;
    int moved = push_ready_small(messages, peer);
    if (peer->streams == 1)
        return moved | push_lane(messages, peer, 0);
    for (uint32_t i = 1, first = peer->turn; i < peer->streams; i++)
        moved |= push_lane(messages, peer, 1 + (first + i) % (peer->streams - 1));
    return moved;
}

int mt_peer_push(struct mt_messages *messages, struct mt_peer *peer)
{
    int moved = 0;
    int again = 1;
    while (again) {
        peer->sends_blocked = 0;
        again = push_queued(messages, peer);
        if (peer->asked_count == MT_MESSAGE_ANNOUNCED || peer->is_silent)
            again |= push_announcements(messages, peer);
        again |= push_ready(messages, peer);
        if (peer->placed.first != NULL || peer->again > 0)
            again |= mt_peer_write(messages, peer);
        moved |= again;
    }
    return moved;
}

/* It was asked for, by this frame, so it can go. A direct one that was not offered for want of
 * room, here or there, has to be offered again; one without an offer has no way. */
static void send_asked(struct mt_messages *messages, struct mt_peer *peer,
                       struct manta_transport_request *request, uint32_t offer_bytes)
{
    struct mt_work *work = mt_work_of(request);
    int is_direct = work->is_direct || offer_bytes == MT_OFFER_LATER_BYTES; /* at one end */
    if (!is_direct || work->offer != 0) {
        mt_list_append(work->offer ? &peer->placed : &peer->ready, request);
    } else if (offer_bytes > 0) {
        mt_list_append(&peer->waiting, request);
        work->again = work->roomless = 1;
        peer->again++;
    } else {
        mt_request_end(request, mt_peer_refuse(messages, peer, MANTA_ENOTSUP));
    }
}

/* What the peer asked for already: 1 if this message is among it (the entry is used up), 0 if not,
 * MANTA_EMISMATCH if it asked for another message under this id or for another call. */
static int asked_take(struct mt_peer *peer, struct mt_work *work, uint32_t *offer_bytes_out)
{
    int conflict = 0;
    for (uint32_t i = 0; i < peer->asked_count; i++) {
        struct mt_asked asked = peer->asked[i];
        if (!mt_id_equal(&asked.frame.id, &work->id)) {
            conflict |= mt_id_conflict(&asked.frame.id, &work->id);
            continue;
        }
        peer->asked[i] = peer->asked[--peer->asked_count];
        if (asked.frame.id.hash == work->id.hash && asked.frame.bytes == work->bytes) {
            work->offer = asked.offer;
            *offer_bytes_out = asked.frame.part;
            return 1;
        }
        mt_offer_drop(peer, asked.offer);
        return MANTA_EMISMATCH;
    }
    return conflict ? MANTA_EMISMATCH : 0;
}

/* As asked_take(), for hints; only that very message can contradict one. */
static int hint_take(struct mt_peer *peer, const struct mt_work *work)
{
    for (uint32_t i = 0; i < peer->hint_count; i++) {
        struct mt_frame hint = peer->hints[i];
        if (!mt_id_equal(&hint.id, &work->id))
            continue;
        peer->hints[i] = peer->hints[--peer->hint_count];
        return hint.id.hash == work->id.hash && hint.bytes == work->bytes ? 1 : MANTA_EMISMATCH;
    }
    return 0;
}

static void hint_drop(struct mt_peer *peer, const struct manta_transport_id *id)
{
    for (uint32_t i = 0; i < peer->hint_count; i++) {
        if (!mt_id_equal(&peer->hints[i].id, id))
            continue;
        peer->hints[i] = peer->hints[--peer->hint_count];
        return;
    }
}

/* Where a new message goes: one of the peer's lists, or a mismatch ends it at once. */
static void place(struct mt_messages *messages, struct mt_peer *peer,
                  struct manta_transport_request *request)
{
    struct mt_work *work = mt_work_of(request);
    uint32_t offer_bytes = 0;
    int asked = work->is_long ? asked_take(peer, work, &offer_bytes) : hint_take(peer, work);
    if (asked < 0)
        mt_request_end(request, asked);
    else if (asked)
        send_asked(messages, peer, request, offer_bytes);
    else
        mt_list_append(work->is_long ? &peer->waiting : &peer->queued, request);
    peer->is_silent |= work->is_direct;
}

/* A small message of one piece that can go at once, when nothing is before it: 1 if the wire
 * has taken all of it. What the request would have kept of it is not needed then. */
static int send_now(struct mt_messages *messages, struct mt_peer *peer,
                    const struct manta_transport_message *message,
                    struct manta_transport_request *request)
{
    const struct manta_transport_buffer *buffer = message->buffers;
    uint32_t chunks = mt_chunks_of(message->bytes);
    if (message->buffer_count != 1 || buffer->bytes != message->bytes ||
        message->bytes > messages->settings.eager_bytes || chunks > peer->credit ||
        buffer->memory != MANTA_MEMORY_HOST || (message->flags & MANTA_MESSAGE_DIRECT) ||
        peer->queued.first != NULL || peer->hint_count > 0)
        return 0;
    const struct mt_frame frame = {.type = MT_FRAME_EAGER,
                                   .part = (uint32_t)message->bytes,
                                   .bytes = message->bytes,
                                   .id = message->id};
    const struct iovec piece = {buffer->address, message->bytes};
    int code =
        messages->settings.wire->put(messages->settings.wire_arg, peer->rank, &frame, &piece, 1);
    if (code < 0)
        return 0; /* tried again, and kept */
    peer->credit -= chunks;
    request->peer = message->peer;
    request->status = MANTA_INPROGRESS;
    end_put(messages, peer, request, message->bytes, code);
    return 1;
}

int mt_messages_send(struct mt_messages *messages, const struct manta_transport_message *message,
                     struct manta_transport_request *request)
{
    int code = 0;
    struct mt_peer *peer = mt_peer_find(messages, message->peer, &code);
    if (peer == NULL)
        return code;
    if (messages->aborted != 0)
        return mt_messages_error_set(messages, messages->aborted, MANTA_PLAN_NONE, 0,
                                     "the endpoint was aborted");
    if (peer->sends_failure.code != 0) {
        messages->error = peer->sends_failure;
        return peer->sends_failure.code;
    }
    /* Its credit, or its announcement, would never come back. */
    if (message->id.epoch != messages->settings.epoch)
        return mt_messages_error_set(messages, MANTA_EINVAL, message->peer, 0,
                                     "the message is of another communicator");
    if (send_now(messages, peer, message, request))
        return 0;
    code = mt_work_begin(messages, message, request);
    if (code != 0)
        return code;
    place(messages, peer, request);
    mt_peer_push(messages, peer);
    return 0;
}

/* The posted send that an RTR names; one that it contradicts ends with MANTA_EMISMATCH. */
static struct manta_transport_request *
asked_find(struct mt_peer *peer, struct mt_request_list *list, const struct mt_frame *frame)
{
    struct manta_transport_request *request = list->first;
    while (request != NULL) {
        struct mt_work *work = mt_work_of(request);
        struct manta_transport_request *next = work->next;
        int equal = mt_id_equal(&work->id, &frame->id);
        int fits = work->id.hash == frame->id.hash && (!equal || work->bytes == frame->bytes);
        if ((equal && !fits) || mt_id_conflict(&work->id, &frame->id)) {
            mt_list_remove(list, request);
            peer->announced -= work->announced;
            mt_again_end(peer, work);
            mt_request_end(request, MANTA_EMISMATCH);
        }
        if (equal)
            return request;
        request = next;
    }
    return NULL;
}

int mt_peer_asked(struct mt_messages *messages, struct mt_peer *peer, const struct mt_frame *frame,
                  const uint8_t *offer)
{
    int is_long = frame->bytes > messages->settings.eager_bytes || frame->part > 0;
    struct mt_request_list *list = &peer->waiting;
    struct manta_transport_request *request = asked_find(peer, list, frame);
    if (request == NULL) {
        list = &peer->queued;
        request = asked_find(peer, list, frame);
    }
    if (request != NULL) {
        if (request->status != MANTA_INPROGRESS)
            return 0;
        struct mt_work *work = mt_work_of(request);
        mt_list_remove(list, request);
        peer->announced -= work->announced;
        work->announced = 0;
        mt_again_end(peer, work);
        work->offer = is_long ? mt_offer_keep(peer, offer, frame->part) : 0;
        send_asked(messages, peer, request, frame->part);
    } else if (!is_long) {
        /* (Only after a mismatch may there be more of them.) */
        if (peer->hint_count < MT_MESSAGE_ANNOUNCED)
            peer->hints[peer->hint_count++] = *frame;
    } else {
        if (peer->asked_count == MT_MESSAGE_ANNOUNCED)
            return mt_peer_violation(messages, peer, "more messages asked for than allowed",
                                     MT_MESSAGE_ANNOUNCED + 1);
        peer->asked[peer->asked_count++] =
            (struct mt_asked){*frame, mt_offer_keep(peer, offer, frame->part)};
    }
    mt_peer_push(messages, peer);
    return 0;
}

int mt_peer_credited(struct mt_messages *messages, struct mt_peer *peer,
                     const struct mt_frame *frame)
{
    if (frame->bytes > messages->window_chunks - peer->credit)
        return mt_peer_violation(messages, peer, "more credit returned than was used",
                                 frame->bytes);
    peer->credit += (uint32_t)frame->bytes;
    mt_peer_push(messages, peer);
    return 0;
}

/* The peer has the message. One that is announced was a duplicate, so it is sent; a hint of it came
 * after it was sent. */
void mt_peer_had(struct mt_messages *messages, struct mt_peer *peer, const struct mt_frame *frame)
{
    hint_drop(peer, &frame->id);
    for (struct manta_transport_request *request = peer->waiting.first; request != NULL;
         request = mt_work_of(request)->next) {
        struct mt_work *work = mt_work_of(request);
        if ((!work->announced && work->again != 2) || !mt_id_equal(&work->id, &frame->id))
            continue;
        mt_list_remove(&peer->waiting, request);
        peer->announced -= work->announced;
        mt_again_end(peer, work);
        mt_request_end(request, 0);
        mt_peer_push(messages, peer);
        return;
    }
}
