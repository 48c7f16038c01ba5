/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames out and in. Each has a head: its number, who sends it, what it is. It lies in a slot until
 * the card has word that it arrived; a lane that dies has those that have not sent again over
 * another lane. The receiver takes them in order of their numbers, whichever lanes they came over,
 * and by whichever way: sent, written into its ring (ring.c), or by the stream.
 */
#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "core/counter.h"
#include "transport/verbs/verbs.h"

enum { MARK = 'F', BATCH = 8 };

struct head {
    uint8_t number[4], from[4];
    uint8_t mark, kind, lane, generation;
    struct mt_verbs_credit credit;
};
_Static_assert(sizeof(struct head) == MT_VERBS_HEAD_BYTES, "a head has its length");
_Static_assert(MT_VERBS_HEAD_BYTES + MT_FRAME_BYTES + MT_VERBS_EAGER_BYTES <= MT_VERBS_SLOT_BYTES,
               "a slot holds the longest frame");

/* Is word wanted that it arrived? Of one in each share, so that who has one waits for word of some;
 * and of the last before there is no room. */
static int wants_word(const struct mt_verbs_endpoint *endpoint, const struct mt_verbs_peer *peer,
                      const struct mt_verbs_queue *queue, uint32_t number, uint32_t unsignalled)
{
    const uint8_t *bytes =
        mt_verbs_slot(&endpoint->sends, peer->sent[number % MT_VERBS_FRAMES].slot);
    return unsignalled + 1 >= endpoint->sends.share ||
           number + 1 - peer->acked >= MT_VERBS_FRAMES / 2 ||
           endpoint->sends.free_count < endpoint->sends.count / 4 ||
           mt_verbs_queue_room(queue) < MT_VERBS_DEPTH / 2 ||
           ((const struct head *)(const void *)bytes)->kind != MT_VERBS_FRAME;
}

/* The frame that is so many behind the last that was posted. */
static void fill_work(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                      struct mt_verbs_lane *lane, uint32_t ahead, struct ibv_send_wr *work,
                      struct ibv_sge *place)
{
    const struct mt_verbs_queue *queue = &lane->queues[MT_VERBS_FRAME_QUEUE];
    uint32_t number = peer->posted + ahead;
    const struct mt_verbs_sent *sent = &peer->sent[number % MT_VERBS_FRAMES];
    struct head *head = (struct head *)(void *)mt_verbs_slot(&endpoint->sends, sent->slot);
    uint32_t behind = sent->bytes - MT_VERBS_HEAD_BYTES;
    *place =
        (struct ibv_sge){(uint64_t)(uintptr_t)head, sent->bytes,
                         mt_verbs_slot_block(&endpoint->sends, sent->slot)->mr[lane->rail]->lkey};
    /* What else is in it (128 bytes) is for other kinds of work. */
    work->wr_id = mt_verbs_work_id(lane, MT_VERBS_FRAME_QUEUE, ahead);
    work->next = NULL;
    work->sg_list = place;
    work->num_sge = 1;
    work->opcode = IBV_WR_SEND;
    if (mt_verbs_ring_fits(peer, number, behind) && head->kind == MT_VERBS_FRAME)
        mt_verbs_ring_fill(peer, lane, number, (uint8_t *)(head + 1), behind, work, place);
    work->send_flags = place->length <= queue->inline_bytes ? IBV_SEND_INLINE : 0;
}

/* Up to BATCH frames with one doorbell; how many were posted. */
static uint32_t post_batch(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                           struct mt_verbs_lane *lane)
{
    struct mt_verbs_queue *queue = &lane->queues[MT_VERBS_FRAME_QUEUE];
    struct ibv_send_wr works[BATCH], *bad;
    struct ibv_sge places[BATCH];
    uint32_t count = 0, unsignalled = queue->unsignalled;
    while (count < BATCH && peer->posted + count != peer->next &&
           mt_verbs_queue_room(queue) > count) {
        uint32_t number = peer->posted + count;
        fill_work(endpoint, peer, lane, count, &works[count], &places[count]);
        unsignalled++;
        if (wants_word(endpoint, peer, queue, number, unsignalled - 1)) {
            works[count].send_flags |= IBV_SEND_SIGNALED;
            unsignalled = 0;
        }
        if (count > 0)
            works[count - 1].next = &works[count];
        queue->what[(uint16_t)(queue->posted + count) % MT_VERBS_DEPTH] = number;
        count++;
    }
    if (count == 0)
        return 0;
    int error = ibv_post_send(queue->qp, works, &bad);
    queue->unsignalled = unsignalled;
    queue->posted = (uint16_t)(queue->posted + count);
    peer->posted += count;
    if (error == 0)
        return count;
    for (; bad != NULL; bad = bad->next)
        queue->posted--;
    mt_verbs_lane_fail(endpoint, lane, "a frame cannot be posted: %s", strerror(error));
    return 0;
}

void mt_verbs_post_frames(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    while (peer->current >= 0 && peer->posted != peer->next &&
           post_batch(endpoint, peer, &peer->lanes[peer->current]) > 0) {
    }
    if (peer->stream == MT_VERBS_STREAM_CARRIES)
        mt_verbs_stream_write(endpoint, peer);
}

/* A slot for the peer's next frame, with its head; NULL: no room. */
static uint8_t *begin_frame(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                            uint32_t kind, uint8_t lane, uint8_t generation)
{
    if (peer->next - peer->acked == MT_VERBS_FRAMES)
        return NULL;
    uint32_t others =
        peer->next - peer->acked < endpoint->sends.share ? 0 : endpoint->sends.promised;
    if (endpoint->sends.free_count <= others) {
        peer->starved = endpoint->is_starving = 1;
        return NULL;
    }
    uint32_t slot = endpoint->sends.free[--endpoint->sends.free_count];
    struct head head = {.mark = MARK,
                        .kind = (uint8_t)kind,
                        .lane = lane,
                        .generation = generation,
                        .credit = mt_verbs_ring_say(peer)};
    mt_bytes_put32(head.number, peer->next);
    mt_bytes_put32(head.from, endpoint->rank);
    memcpy(mt_verbs_slot(&endpoint->sends, slot), &head, sizeof(head));
    peer->sent[peer->next % MT_VERBS_FRAMES] = (struct mt_verbs_sent){slot, sizeof(head)};
    return mt_verbs_slot(&endpoint->sends, slot);
}

static void end_frame(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                      uint32_t bytes)
{
    peer->sent[peer->next % MT_VERBS_FRAMES].bytes += bytes;
    endpoint->sends.promised -= peer->next - peer->acked < endpoint->sends.share;
    peer->next++;
    peer->ring.round_there += peer->next == 0;
    mt_verbs_post_frames(endpoint, peer);
}

/* Frames are taken once a lane was there, and also while there is none for a moment. */
static struct mt_verbs_peer *ready_peer(struct mt_verbs_endpoint *endpoint, uint32_t rank)
{
    struct mt_verbs_peer *peer = endpoint->peers[rank];
    return peer != NULL && peer->was_open && !peer->cut && peer->link == MT_VERBS_LINK_OPEN ? peer
                                                                                            : NULL;
}

static void copy_pieces(uint8_t *to, const struct iovec *payload, uint32_t pieces, uint64_t bytes)
{
    for (uint32_t i = 0; i < pieces && bytes > 0; i++) {
        uint64_t take = payload[i].iov_len < bytes ? payload[i].iov_len : bytes;
        if (take > 0)
            memcpy(to, payload[i].iov_base, take);
        to += take;
        bytes -= take;
    }
}

int mt_verbs_put(void *wire, uint32_t rank, const struct mt_frame *frame,
                 const struct iovec *payload, uint32_t pieces)
{
    struct mt_verbs_endpoint *endpoint = wire;
    struct mt_verbs_peer *peer = ready_peer(endpoint, rank);
    if (peer != NULL && peer->downs != 0)
        mt_verbs_put_downs(endpoint, peer);
    uint8_t *slot =
        peer && peer->downs == 0 ? begin_frame(endpoint, peer, MT_VERBS_FRAME, 0, 0) : NULL;
    if (slot == NULL)
        return MANTA_EAGAIN;
    mt_frame_encode(frame, slot + MT_VERBS_HEAD_BYTES);
    copy_pieces(slot + MT_VERBS_HEAD_BYTES + MT_FRAME_BYTES, payload, pieces, frame->part);
    if (frame->type == MT_FRAME_EAGER || frame->type == MT_FRAME_DATA)
        mt_count(&endpoint->copied_bytes, frame->part);
    end_frame(endpoint, peer, MT_FRAME_BYTES + frame->part);
    return 0;
}

/* What could not be offered is copied, frame by frame. */
int mt_verbs_data(void *wire, uint32_t rank, uint32_t stream, const struct mt_frame *frame,
                  const struct iovec *payload, uint32_t pieces, uint64_t limit,
                  uint64_t *accepted_out)
{
    struct mt_frame part = *frame;
    (void)stream;
    part.part = (uint32_t)(limit < MT_VERBS_EAGER_BYTES ? limit : MT_VERBS_EAGER_BYTES);
    int code = mt_verbs_put(wire, rank, &part, payload, pieces);
    if (code == 0)
        *accepted_out = part.part;
    return code;
}

int mt_verbs_put_own(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer, uint32_t kind,
                     uint8_t lane, uint8_t generation)
{
    if (peer->link != MT_VERBS_LINK_OPEN || peer->cut ||
        begin_frame(endpoint, peer, kind, lane, generation) == NULL)
        return MANTA_EAGAIN;
    end_frame(endpoint, peer, 0);
    return 0;
}

/* A message of nothing, or a write of nothing: each queue is tried. */
static int post_empty(struct mt_verbs_lane *lane, uint32_t q, enum ibv_wr_opcode opcode)
{
    struct mt_verbs_queue *queue = &lane->queues[q];
    struct ibv_send_wr work = {
        .wr_id = mt_verbs_work_id(lane, q, 0), .opcode = opcode, .send_flags = IBV_SEND_SIGNALED};
    struct ibv_send_wr *bad;
    queue->what[queue->posted % MT_VERBS_DEPTH] = MT_VERBS_WHAT_TRY;
    errno = ibv_post_send(queue->qp, &work, &bad);
    if (errno != 0)
        return -1;
    queue->posted++;
    return 0;
}

int mt_verbs_try(struct mt_verbs_lane *lane)
{
    if (post_empty(lane, MT_VERBS_FRAME_QUEUE, IBV_WR_SEND) != 0)
        return -1;
    return post_empty(lane, MT_VERBS_BULK_QUEUE, IBV_WR_RDMA_WRITE);
}

void mt_verbs_post_last(struct mt_verbs_lane *lane)
{
    for (uint32_t q = 0; q < MT_VERBS_QUEUES; q++) {
        const struct mt_verbs_queue *queue = &lane->queues[q];
        if (queue->qp != NULL && queue->posted != queue->done && mt_verbs_queue_room(queue) > 0)
            (void)post_empty(lane, q, IBV_WR_RDMA_WRITE);
    }
}

void mt_verbs_put_downs(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    for (uint32_t i = 0; i < peer->lane_count && peer->downs != 0; i++) {
        if (!(peer->downs & 1u << i) || mt_verbs_put_own(endpoint, peer, MT_VERBS_DOWN, (uint8_t)i,
                                                         peer->lanes[i].dead_generation) != 0)
            continue;
        peer->downs &= ~(1u << i);
        /* Until the peer has taken it, what seems lost may still come into its ring. */
        peer->ring.after = peer->next;
    }
}

void mt_verbs_feed(struct mt_verbs_endpoint *endpoint)
{
    endpoint->is_starving = endpoint->has_room = 0;
    for (struct mt_verbs_peer *peer = endpoint->open; peer != NULL; peer = peer->next_open) {
        if (!peer->starved)
            continue;
        peer->starved = 0;
        mt_messages_writable(endpoint->messages, peer->rank);
    }
}

void mt_verbs_frames_acked(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                           uint32_t number)
{
    int freed = 0;
    if (number - peer->acked >= MT_VERBS_FRAMES) /* known already */
        return;
    while (peer->acked != number + 1) {
        endpoint->sends.free[endpoint->sends.free_count++] =
            peer->sent[peer->acked++ % MT_VERBS_FRAMES].slot;
        endpoint->sends.promised += peer->next - peer->acked < endpoint->sends.share;
        freed = 1;
    }
    if ((int32_t)(peer->posted - peer->acked) < 0)
        peer->posted = peer->acked;
    endpoint->has_room |= freed;
    if (!freed || peer->link != MT_VERBS_LINK_OPEN)
        return;
    mt_verbs_put_downs(endpoint, peer);
    mt_verbs_post_frames(endpoint, peer);
    if (mt_messages_waiting(endpoint->messages, peer->rank, MT_MESSAGE_BOTH))
        mt_messages_writable(endpoint->messages, peer->rank);
}

/* 0, or why the peer is lost. */
static int take_frame(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                      const uint8_t *bytes, uint32_t count)
{
    struct mt_frame frame;
    if (count < MT_FRAME_BYTES || mt_frame_decode(bytes, &frame) != 0 ||
        frame.part != count - MT_FRAME_BYTES)
        return MANTA_ETRANSPORT;
    const uint8_t *payload = bytes + MT_FRAME_BYTES;
    if (frame.type == MT_FRAME_RTR && frame.part > 0)
        return mt_messages_asked(endpoint->messages, peer->rank, &frame, payload);
    int code = mt_messages_whole(endpoint->messages, peer->rank, &frame, payload);
    if (code == 0)
        mt_count(&endpoint->copied_bytes, frame.part);
    return code;
}

/* The peer has found a lane dead: so it is here, before what was written over it is asked for. */
static void take_down(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                      const struct head *head)
{
    struct mt_verbs_lane *lane = &peer->lanes[head->lane % MT_VERBS_LANES];
    if (head->lane < peer->lane_count && lane->generation == head->generation)
        mt_verbs_lane_fail(endpoint, lane, "the peer says that it is dead");
}

/* A frame has been read, so that the peer may be told so. */
static void end_take(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                     const struct mt_verbs_credit *credit, int code)
{
    peer->expected++;
    mt_verbs_ring_hear(endpoint, peer, credit);
    if (code == MANTA_ETRANSPORT)
        mt_verbs_peer_lose(endpoint, peer, MANTA_ETRANSPORT, 0,
                           "rank %u sent a frame that is none on its verbs connection; the ranks "
                           "may run different builds",
                           peer->rank);
}

static void take(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                 const uint8_t *bytes, uint32_t count)
{
    struct head head;
    memcpy(&head, bytes, sizeof(head));
    int code = 0;
    if (head.kind == MT_VERBS_FRAME)
        code = take_frame(endpoint, peer, bytes + sizeof(head), count - (uint32_t)sizeof(head));
    else if (head.kind == MT_VERBS_DOWN)
        take_down(endpoint, peer, &head);
    else if (head.kind != MT_VERBS_NOTHING)
        code = MANTA_ETRANSPORT;
    end_take(endpoint, peer, &head.credit, code);
}

/* Those that were early, now that it is their turn. */
static void take_held(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    for (;;) {
        struct mt_verbs_held *held = &peer->held[peer->expected % MT_VERBS_HELD];
        if (!held->is_held)
            return;
        struct mt_verbs_held early = *held;
        held->is_held = 0;
        take(endpoint, peer,
             endpoint->rails[early.rail].memory + (size_t)early.slot * MT_VERBS_SLOT_BYTES,
             early.bytes);
        mt_verbs_slot_free(endpoint, early.rail, early.slot);
    }
}

void mt_verbs_frame_written(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                            const struct mt_verbs_credit *credit, const uint8_t *start,
                            uint32_t bytes)
{
    end_take(endpoint, peer, credit, take_frame(endpoint, peer, start, bytes));
    take_held(endpoint, peer);
}

/* 1 if the slot is kept. */
static int take_in_turn(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                        uint32_t rail, uint32_t slot, uint32_t bytes)
{
    const uint8_t *start = endpoint->rails[rail].memory + (size_t)slot * MT_VERBS_SLOT_BYTES;
    uint32_t number = mt_bytes_get32(((const struct head *)(const void *)start)->number);
    if (number != peer->expected && peer->ring.slots != NULL)
        (void)mt_verbs_ring_take(endpoint, peer); /* was written before */
    uint32_t ahead = number - peer->expected;
    struct mt_verbs_held *held = &peer->held[number % MT_VERBS_HELD];
    if (ahead == 0) {
        take(endpoint, peer, start, bytes);
        take_held(endpoint, peer);
        return 0;
    }
    if ((int32_t)ahead < 0 || (held->is_held && ahead < MT_VERBS_HELD)) /* it is here already */
        return 0;
    if (ahead >= MT_VERBS_HELD) {
        mt_verbs_peer_lose(endpoint, peer, MANTA_ETRANSPORT, 0,
                           "frames of rank %u come too far out of order", peer->rank);
        return 0;
    }
    *held = (struct mt_verbs_held){slot, bytes, (uint8_t)rail, 1};
    return 1;
}

void mt_verbs_frame_came(struct mt_verbs_endpoint *endpoint, uint32_t rail, uint32_t slot,
                         uint32_t bytes)
{
    const uint8_t *start = endpoint->rails[rail].memory + (size_t)slot * MT_VERBS_SLOT_BYTES;
    struct head head;
    int kept = 0;
    memcpy(&head, start, sizeof(head));
    uint32_t from = mt_bytes_get32(head.from);
    struct mt_verbs_peer *peer = bytes >= sizeof(head) && bytes <= MT_VERBS_SLOT_BYTES &&
                                         head.mark == MARK && from < endpoint->ranks
                                     ? endpoint->peers[from]
                                     : NULL;
    if (peer != NULL && peer->link == MT_VERBS_LINK_OPEN && !endpoint->aborted)
        kept = take_in_turn(endpoint, peer, rail, slot, bytes);
    if (!kept)
        mt_verbs_slot_free(endpoint, rail, slot);
}

int mt_verbs_frame_streamed(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                            const uint8_t *start, uint32_t bytes)
{
    const struct head *head = (const struct head *)(const void *)start;
    uint32_t ahead = mt_bytes_get32(head->number) - peer->expected;
    if (ahead == 0) {
        take(endpoint, peer, start, bytes);
        take_held(endpoint, peer);
    }
    return (int32_t)ahead > 0;
}
