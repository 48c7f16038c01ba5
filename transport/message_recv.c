/* SPDX-License-Identifier: Apache-2.0 */
/* The receiver's half of the message protocol, posted receives: what is here already, what is asked
 * for, what is owed to the sender. */
#include "transport/message_internal.h"

/* An answer to the sender; on MANTA_EAGAIN the caller notes that it is owed. */
static int put_frame(struct mt_messages *messages, struct mt_peer *peer,
                     const struct mt_frame *frame, const uint8_t *offer)
{
    const struct iovec payload = {(void *)(uintptr_t)offer, frame->part};
    int code = messages->settings.wire->put(messages->settings.wire_arg, peer->rank, frame,
                                            &payload, frame->part > 0);
    if (code < 0)
        peer->answers_blocked = 1;
    return code < 0 ? code : 0;
}

static int put_answer(struct mt_messages *messages, struct mt_peer *peer, uint32_t type,
                      const struct manta_transport_id *id, uint64_t bytes)
{
    struct mt_frame frame = {.type = type, .bytes = bytes, .id = *id};
    return put_frame(messages, peer, &frame, NULL);
}

/* A direct receive cannot be offered: now, or never, for which it ends when no list of receives is
 * gone through. It does not count, so that others can ask. */
static void starve(struct mt_messages *messages, struct mt_peer *peer, struct mt_work *work,
                   int code)
{
    work->starved = 1;
    peer->asking -= work->counted;
    work->counted = 0;
    peer->is_starved = messages->is_starved = 1;
    if (code == MANTA_EAGAIN)
        return;
    work->refusal = mt_peer_refuse(messages, peer, code);
    messages->may_offer = 1;
}

void mt_recv_ask(struct mt_messages *messages, struct mt_peer *peer,
                 struct manta_transport_request *request, int counted)
{
    struct mt_work *work = mt_work_of(request);
    struct mt_frame frame = {.type = MT_FRAME_RTR, .bytes = work->bytes, .id = work->id};
    uint8_t offer[MT_FRAME_OFFER_BYTES];
    peer->unasked -= work->unasked;
    work->unasked = work->starved = 0;
    if (counted) {
        work->counted = 1;
        peer->asking++;
    }
    int code = work->is_long ? mt_recv_offer(messages, peer, request, &frame, offer) : 0;
    if (code == MANTA_EAGAIN && work->counted) { /* who has the message says so */
        offer[0] = 0;
        frame.part = MT_OFFER_LATER_BYTES;
        code = 0;
    }
    if (code != 0) {
        starve(messages, peer, work, code);
    } else if (put_frame(messages, peer, &frame, offer) == 0) {
        work->asked = 1;
    } else {
        mt_recv_release(messages, peer, request);
        work->owed = 1;
        peer->owing++;
    }
}

static void ask_more(struct mt_messages *messages, struct mt_peer *peer)
{
    struct manta_transport_request *request = peer->recvs.first;
    while (peer->unasked > 0 && peer->asking < MT_MESSAGE_ANNOUNCED && request != NULL) {
        if (mt_work_of(request)->unasked)
            mt_recv_ask(messages, peer, request, 1);
        request = mt_work_of(request)->next;
    }
}

void mt_recv_uncount(struct mt_messages *messages, struct mt_peer *peer, struct mt_work *work)
{
    if (!work->counted)
        return;
    work->counted = 0;
    peer->asking--;
    ask_more(messages, peer);
}

static void ask_ahead(struct mt_messages *messages, struct mt_peer *peer,
                      struct manta_transport_request *request)
{
    mt_work_of(request)->ahead = 1;
    peer->hinted++;
    mt_recv_ask(messages, peer, request, 0);
}

void mt_peer_ask_small(struct mt_messages *messages, struct mt_peer *peer)
{
    if (peer->offer_count - peer->again_count < MT_MESSAGE_ANNOUNCED)
        return;
    for (struct manta_transport_request *request = peer->recvs.first;
         request != NULL && peer->hinted < MT_MESSAGE_ANNOUNCED;
         request = mt_work_of(request)->next) {
        const struct mt_work *work = mt_work_of(request);
        if (!work->is_long && !work->asked && !work->owed)
            ask_ahead(messages, peer, request);
    }
}

void mt_recv_unhint(struct mt_messages *messages, struct mt_peer *peer, struct mt_work *work)
{
    if (!work->ahead)
        return;
    work->ahead = 0;
    peer->hinted--;
    mt_peer_ask_small(messages, peer);
}

/* The receive ends though the peer may keep a hint of it, which it did not use: that must go before
 * another can take its place. */
static void end_hint(struct mt_messages *messages, struct mt_peer *peer, struct mt_work *work)
{
    if (!work->ahead || !work->asked) {
        mt_recv_unhint(messages, peer, work);
        return;
    }
    work->ahead = 0;
    peer->stale[peer->stale_count++] = work->id;
    peer->owing++;
}

/* A quarter of the window is worth a frame. (A sender with less can still announce.) */
static int answer_credit(struct mt_messages *messages, struct mt_peer *peer)
{
    struct manta_transport_id id = {.epoch = messages->settings.epoch};
    if (peer->credit_due == 0 || peer->credit_due < messages->window_chunks / 4 ||
        peer->recvs_failure.code != 0)
        return 0;
    if (put_answer(messages, peer, MT_FRAME_CREDIT, &id, peer->credit_due) != 0)
        return 0;
    peer->granted += peer->credit_due;
    peer->credit_due = 0;
    return 1;
}

static int answer_offers(struct mt_messages *messages, struct mt_peer *peer)
{
    int moved = 0;
    for (uint32_t i = 0; i < peer->offer_count;) {
        struct mt_offer *offer = &peer->offers[i];
        if (!offer->have) {
            i++;
            continue;
        }
        if (put_answer(messages, peer, MT_FRAME_HAVE, &offer->frame.id, offer->frame.bytes) != 0)
            break;
        peer->owing--;
        peer->again_count -= offer->have == MT_HAVE_AGAIN;
        *offer = peer->offers[--peer->offer_count];
        moved = 1;
    }
    return moved;
}

static int answer_stale(struct mt_messages *messages, struct mt_peer *peer)
{
    int moved = 0;
    while (peer->stale_count > 0) {
        const struct manta_transport_id *id = &peer->stale[peer->stale_count - 1];
        if (put_answer(messages, peer, MT_FRAME_HAVE, id, 0) != 0)
            break;
        peer->stale_count--;
        peer->hinted--;
        peer->owing--;
        moved = 1;
    }
    if (moved)
        mt_peer_ask_small(messages, peer);
    return moved;
}

int mt_peer_answer(struct mt_messages *messages, struct mt_peer *peer)
{
    peer->answers_blocked = 0;
    int moved = answer_credit(messages, peer);
    if (peer->owing == 0)
        return moved;
    moved |= answer_offers(messages, peer);
    moved |= answer_stale(messages, peer);
    for (struct manta_transport_request *request = peer->recvs.first;
         request != NULL && peer->owing > 0 && !peer->answers_blocked;
         request = mt_work_of(request)->next) {
        struct mt_work *work = mt_work_of(request);
        if (!work->owed)
            continue;
        work->owed = 0;
        peer->owing--;
        mt_recv_ask(messages, peer, request, 0);
        moved |= work->asked;
    }
    return moved;
}

static int feed(struct mt_messages *messages, struct mt_peer *peer)
{
    int moved = 0, is_full = 0;
    struct manta_transport_request *request = peer->recvs.first;
    for (; request != NULL && !is_full; request = mt_work_of(request)->next) {
        const struct mt_work *work = mt_work_of(request);
        if (!work->starved || work->refusal != 0)
            continue;
        mt_recv_ask(messages, peer, request, 0);
        is_full = work->starved;
        moved |= !is_full;
    }
    return moved;
}

int mt_peer_feed(struct mt_messages *messages, struct mt_peer *peer)
{
    int moved = 0;
    struct manta_transport_request *request = peer->recvs.first;
    peer->is_starved = 0;
    while (request != NULL) {
        int refusal = mt_work_of(request)->refusal;
        if (refusal != 0) {
            mt_recv_end(messages, peer, request, refusal);
            moved = 1;
        }
        request = refusal != 0 ? peer->recvs.first : mt_work_of(request)->next;
    }
    return feed(messages, peer) | moved;
}

int mt_peer_have(struct mt_messages *messages, struct mt_peer *peer,
                 const struct manta_transport_id *id, uint32_t which)
{
    if (put_answer(messages, peer, MT_FRAME_HAVE, id, 0) == 0)
        return 0;
    int is_again = which == MT_HAVE_AGAIN;
    if (is_again ? peer->again_count == MT_MESSAGE_WRITES
                 : peer->offer_count - peer->again_count == MT_MESSAGE_ANNOUNCED)
        return mt_peer_violation(messages, peer, "more messages announced than allowed",
                                 MT_MESSAGE_ANNOUNCED + 1);
    peer->offers[peer->offer_count++] =
        (struct mt_offer){.frame = {.type = MT_FRAME_RTS, .id = *id}, .have = which};
    peer->again_count += is_again;
    peer->owing++;
    return 0;
}

void mt_recv_end(struct mt_messages *messages, struct mt_peer *peer,
                 struct manta_transport_request *request, int status)
{
    struct mt_work *work = mt_work_of(request);
    /* All frames of an eager message have ended with it. */
    int may_be_sunk = status != 0 || work->asked;
    if (work->offer != 0 && status != 0)
        status = mt_peer_cease(messages, peer, status);
    if (work->offer != 0)
        mt_recv_release(messages, peer, request);
    mt_list_remove(&peer->recvs, request);
    peer->owing -= work->owed;
    peer->unasked -= work->unasked;
    for (uint32_t s = 0; s < MT_MESSAGE_STREAMS && may_be_sunk; s++) {
        if (peer->sinks[s].request != request)
            continue;
        peer->sinks[s].request = NULL;
        peer->sinks[s].mode = MT_SINK_DISCARD;
    }
    for (int32_t a = peer->arrival_first; status != 0 && a != MT_NO_CHUNK;
         a = peer->arrivals[a].next) {
        if (peer->arrivals[a].claimed == request)
            peer->arrivals[a].claimed = NULL;
    }
    mt_recent_add(peer, &work->id);
    mt_recv_uncount(messages, peer, work);
    end_hint(messages, peer, work);
    if (status == 0) {
        mt_count(&messages->received_messages, 1);
        mt_count(&messages->received_bytes, work->bytes);
    }
    mt_request_end(request, status);
}

void mt_recv_end_staged(struct mt_messages *messages, struct mt_peer *peer,
                        struct manta_transport_request *request)
{
    mt_recv_end(messages, peer, request,
                mt_messages_error_set(messages, MANTA_EINVAL, peer->rank, 0,
                                      "rank %u sent what goes into memory of a device through host "
                                      "memory: both ends need MANTA_MESSAGE_DIRECT",
                                      peer->rank));
}

/* The message is here, or on its way into the window. */
static void take_arrival(struct mt_messages *messages, struct mt_peer *peer, int32_t arrival,
                         struct manta_transport_request *request)
{
    struct mt_arrival *entry = &peer->arrivals[arrival];
    struct mt_work *work = mt_work_of(request);
    int fits = entry->frame.id.hash == work->id.hash && entry->frame.bytes == work->bytes;
    mt_list_append(&peer->recvs, request);
    if (!fits) {
        mt_recv_end(messages, peer, request, MANTA_EMISMATCH);
        return;
    }
    if (work->is_direct) {
        mt_recv_end_staged(messages, peer, request);
        return;
    }
    if (entry->received < entry->frame.bytes) {
        entry->claimed = request;
        return;
    }
    mt_window_copy(peer, arrival, work);
    mt_count(&messages->copied_bytes, work->bytes);
    mt_window_release(peer, arrival);
    mt_recv_end(messages, peer, request, 0);
    answer_credit(messages, peer);
}

/* 1: the peer has announced it (the offer is used up), 0: not, MANTA_EMISMATCH. */
static int take_offer(struct mt_peer *peer, const struct mt_work *work)
{
    int conflict = 0;
    for (uint32_t i = 0; i < peer->offer_count; i++) {
        struct mt_frame *frame = &peer->offers[i].frame;
        if (!mt_id_equal(&frame->id, &work->id)) {
            conflict |= !peer->offers[i].have && mt_id_conflict(&frame->id, &work->id);
            continue;
        }
        int fits = frame->id.hash == work->id.hash && frame->bytes == work->bytes;
        peer->offers[i] = peer->offers[--peer->offer_count];
        return fits ? 1 : MANTA_EMISMATCH;
    }
    return conflict ? MANTA_EMISMATCH : 0;
}

/* Nothing of the message is here: wait for it, and ask for it if the sender waits for that. */
static void await(struct mt_messages *messages, struct mt_peer *peer,
                  struct manta_transport_request *request, int conflict)
{
    struct mt_work *work = mt_work_of(request);
    int offered = take_offer(peer, work);
    mt_list_append(&peer->recvs, request);
    if (offered < 0 || conflict) {
        mt_recv_end(messages, peer, request, MANTA_EMISMATCH);
    } else if (offered) {
        mt_recv_ask(messages, peer, request, 0);
    } else if (work->is_long) {
        if (peer->asking < MT_MESSAGE_ANNOUNCED) {
            mt_recv_ask(messages, peer, request, 1);
        } else {
            work->unasked = 1;
            peer->unasked++;
        }
    } else {
        mt_peer_ask_small(messages, peer);
    }
}

int mt_messages_recv(struct mt_messages *messages, const struct manta_transport_message *message,
                     struct manta_transport_request *request)
{
    int code = 0;
    int conflict = 0;
    struct mt_peer *peer = mt_peer_find(messages, message->peer, &code);
    if (peer == NULL)
        return code;
    if (messages->aborted != 0)
        return mt_messages_error_set(messages, messages->aborted, MANTA_PLAN_NONE, 0,
                                     "the endpoint was aborted");
    code = mt_work_begin(messages, message, request);
    if (code != 0)
        return code;
    int32_t arrival = mt_window_find(peer, &message->id, &conflict);
    if (arrival != MT_NO_CHUNK) {
        take_arrival(messages, peer, arrival, request);
    } else if (peer->recvs_failure.code != 0) {
        messages->error = peer->recvs_failure;
        request->status = peer->recvs_failure.code;
        return peer->recvs_failure.code;
    } else {
        await(messages, peer, request, conflict);
    }
    return 0;
}
