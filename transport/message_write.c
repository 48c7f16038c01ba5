/* SPDX-License-Identifier: Apache-2.0 */
/* Long messages that the wire writes straight into the memory that their receiver offers. */
#include <string.h>

#include "transport/message_internal.h"

uint32_t mt_offer_keep(struct mt_peer *peer, const uint8_t *offer, uint32_t bytes)
{
    uint32_t place = peer->kept_free;
    if (bytes <= MT_OFFER_LATER_BYTES || place == 0)
        return 0;
    struct mt_kept_offer *kept = &peer->kept[place - 1];
    peer->kept_free = kept->next;
    peer->kept_left--;
    kept->bytes = bytes;
    memcpy(kept->offer, offer, bytes);
    return place;
}

void mt_offer_drop(struct mt_peer *peer, uint32_t place)
{
    if (place == 0)
        return;
    peer->kept[place - 1].next = peer->kept_free;
    peer->kept_free = place;
    peer->kept_left++;
}

void mt_again_end(struct mt_peer *peer, struct mt_work *work)
{
    peer->again -= work->again == 1;
    if (work->again != 0 && !work->roomless)
        peer->writes--;
    peer->roomless -= work->again == 2 && work->roomless;
    work->again = work->roomless = 0;
}

/* A direct message has no way. Returns code. */
int mt_peer_refuse(struct mt_messages *messages, const struct mt_peer *peer, int code)
{
    if (code == MANTA_EINVAL)
        return mt_messages_error_set(messages, code, peer->rank, 0,
                                     "memory of a device in a message with rank %u is not all in "
                                     "what was registered with mem_register",
                                     peer->rank);
    if (code == MANTA_ENOTSUP)
        return mt_messages_error_set(messages, code, peer->rank, 0,
                                     "transport %s finds no way to write a message of memory of "
                                     "devices to rank %u: copy it to host memory",
                                     messages->settings.transport, peer->rank);
    return code;
}

/* 0: it is being written, goes as DATA, or has ended; MANTA_EAGAIN. */
static int write_one(struct mt_messages *messages, struct mt_peer *peer,
                     struct manta_transport_request *request)
{
    struct mt_work *work = mt_work_of(request);
    struct mt_kept_offer *kept = &peer->kept[work->offer - 1];
    const struct mt_wire_place place = {.request = request,
                                        .pieces = work->piece,
                                        .count = work->pieces,
                                        .bytes = work->bytes,
                                        .offer = kept->offer,
                                        .offer_bytes = kept->bytes,
                                        .devices = work->devices,
                                        .is_direct = work->is_direct};
    int code = messages->settings.wire->write(messages->settings.wire_arg, peer->rank, &place);
    if (code == MANTA_EAGAIN) {
        peer->sends_blocked = 1;
        return code;
    }
    mt_offer_drop(peer, work->offer);
    work->offer = 0;
    mt_list_remove(&peer->placed, request);
    if (code != 0 && work->is_direct) {
        mt_request_end(request, mt_peer_refuse(messages, peer, code));
        return 0;
    }
    mt_list_append(code == 0 ? &peer->writing : &peer->ready, request);
    peer->writes += code == 0;
    work->write = peer->write_next;
    peer->write_next += code == 0;
    return 0;
}

static int put_again(struct mt_messages *messages, struct mt_peer *peer, struct mt_work *work)
{
    struct mt_frame frame = {.type = MT_FRAME_AGAIN, .bytes = work->bytes, .id = work->id};
    int code =
        messages->settings.wire->put(messages->settings.wire_arg, peer->rank, &frame, NULL, 0);
    if (code < 0) {
        peer->sends_blocked = 1;
        return code;
    }
    work->again = 2;
    peer->again--;
    peer->roomless += work->roomless;
    return 0;
}

/* Of those that are being written, or have to be asked about. */
static void find_oldest(struct mt_peer *peer, const struct mt_request_list *list)
{
    uint32_t next = peer->write_next;
    for (struct manta_transport_request *request = list->first; request != NULL;
         request = mt_work_of(request)->next) {
        const struct mt_work *work = mt_work_of(request);
        int counts = list == &peer->writing || (work->again != 0 && !work->roomless);
        if (counts && next - work->write > next - peer->write_oldest)
            peer->write_oldest = work->write;
    }
}

/* Will the receiver still know the oldest write, if another one is begun? */
static int may_begin(struct mt_peer *peer)
{
    if (peer->writes >= MT_MESSAGE_WRITES)
        return 0;
    if (peer->write_next - peer->write_oldest < MT_MESSAGE_SPAN)
        return 1;
    peer->write_oldest = peer->write_next;
    find_oldest(peer, &peer->writing);
    find_oldest(peer, &peer->waiting);
    return peer->write_next - peer->write_oldest < MT_MESSAGE_SPAN;
}

/* Of those whose offers found no room, no more than there is room for by now. 0 or MANTA_EAGAIN. */
static int put_agains(struct mt_messages *messages, struct mt_peer *peer, int *moved_out)
{
    for (struct manta_transport_request *request = peer->waiting.first;
         request != NULL && peer->again > 0; request = mt_work_of(request)->next) {
        struct mt_work *work = mt_work_of(request);
        if (work->again != 1 || (work->roomless && peer->roomless >= peer->kept_left))
            continue;
        int code = put_again(messages, peer, work);
        if (code != 0)
            return code;
        *moved_out = 1;
    }
    return 0;
}

int mt_peer_write(struct mt_messages *messages, struct mt_peer *peer)
{
    int moved = 0;
    if (put_agains(messages, peer, &moved) != 0)
        return moved;
    /* Direct ones may wait for a path that others do without. */
    int direct_waits = 0;
    struct manta_transport_request *next = peer->placed.first;
    while (next != NULL && may_begin(peer)) {
        struct manta_transport_request *request = next;
        int is_direct = mt_work_of(request)->is_direct;
        next = mt_work_of(request)->next;
        if (is_direct && direct_waits)
            continue;
        int code = write_one(messages, peer, request);
        if (code != 0 && !is_direct)
            break;
        direct_waits |= code != 0;
        moved |= code == 0;
    }
    return moved;
}

void mt_messages_wrote(struct mt_messages *messages, uint32_t peer_rank,
                       struct manta_transport_request *request)
{
    struct mt_peer *peer = messages->peers[peer_rank];
    uint64_t bytes = mt_work_of(request)->bytes;
    mt_list_remove(&peer->writing, request);
    peer->writes--;
    mt_count(&messages->sent_messages, 1);
    mt_count(&messages->sent_bytes, bytes);
    messages->may_offer = 1; /* its registrations are given back */
    mt_request_end(request, 0);
    if (peer->placed.first != NULL)
        mt_peer_push(messages, peer);
}

void mt_messages_again(struct mt_messages *messages, uint32_t peer_rank,
                       struct manta_transport_request *request)
{
    struct mt_peer *peer = messages->peers[peer_rank];
    mt_list_remove(&peer->writing, request);
    mt_list_append(&peer->waiting, request);
    mt_work_of(request)->again = 1;
    messages->may_offer = 1; /* its registrations are given back */
    peer->again++;
    mt_peer_push(messages, peer);
}

int mt_recv_offer(struct mt_messages *messages, struct mt_peer *peer,
                  struct manta_transport_request *request, struct mt_frame *frame, uint8_t *offer)
{
    struct mt_work *work = mt_work_of(request);
    const struct mt_wire *wire = messages->settings.wire;
    struct mt_wire_place place = {.request = request,
                                  .pieces = work->piece,
                                  .count = work->pieces,
                                  .bytes = work->bytes,
                                  .offer = offer,
                                  .devices = work->devices,
                                  .is_direct = work->is_direct,
                                  .is_unasked = work->counted,
                                  .code = MANTA_ENOTSUP};
    if (wire->offer == NULL)
        return 0;
    if (peer->offered >= MT_MESSAGE_OFFERED) /* it could not keep it */
        return work->is_direct ? MANTA_EAGAIN : 0;
    work->offer = wire->offer(messages->settings.wire_arg, peer->rank, &place);
    if (work->offer == 0)
        return work->is_direct ? place.code : 0;
    peer->offered++;
    frame->part = place.offer_bytes;
    return 0;
}

void mt_recv_release(struct mt_messages *messages, struct mt_peer *peer,
                     struct manta_transport_request *request)
{
    struct mt_work *work = mt_work_of(request);
    if (work->offer == 0)
        return;
    messages->settings.wire->release(messages->settings.wire_arg, peer->rank, work->offer);
    work->offer = 0;
    peer->offered--;
    messages->may_offer = 1;
}

int mt_peer_cease(struct mt_messages *messages, struct mt_peer *peer, int code)
{
    if (peer->offered == 0 && peer->writing.first == NULL)
        return code;
    int ceased = messages->settings.wire->cease(messages->settings.wire_arg, peer->rank);
    return ceased == 0 ? code : ceased;
}

int mt_messages_written(struct mt_messages *messages, uint32_t peer_rank,
                        struct manta_transport_request *request)
{
    struct mt_peer *peer = messages->peers[peer_rank];
    struct mt_work *work = mt_work_of(request);
    if (work->taken > 0)
        return mt_peer_violation(messages, peer, "a message that was both written and sent",
                                 work->taken);
    work->done = work->taken = work->bytes;
    mt_written_add(peer, &work->id);
    mt_recv_end(messages, peer, request, 0);
    return 0;
}

/* What the peer was writing may be here. If not, its path is dead, and so is what was offered on
 * it: the wire has seen to that before it delivers this frame. */
int mt_peer_begin_again(struct mt_messages *messages, struct mt_peer *peer,
                        const struct mt_frame *frame)
{
    if (messages->settings.wire->write == NULL)
        return mt_peer_violation(messages, peer, "a lost write where nothing is written",
                                 frame->type);
    struct manta_transport_request *request = mt_recv_match(messages, peer, frame);
    if (request == NULL)
        return mt_peer_begin_rts(messages, peer, frame, MT_HAVE_AGAIN);
    struct mt_work *work = mt_work_of(request);
    if (work->taken > 0)
        return mt_peer_violation(messages, peer, "a lost write of a message that was sent",
                                 work->taken);
    mt_recv_release(messages, peer, request);
    mt_recv_uncount(messages, peer, work);
    if (!work->owed) {
        work->asked = 0;
        mt_recv_ask(messages, peer, request, 0);
    }
    return 0;
}
