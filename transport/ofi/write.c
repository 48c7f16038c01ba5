/* SPDX-License-Identifier: Apache-2.0 */
/* Frames out: each is put together in a slot of its peer, which libfabric then reads. */
#include <string.h>

#include "core/counter.h"
#include "transport/ofi/ofi.h"

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static struct mt_ofi_slot *slot_take(struct mt_ofi_endpoint *endpoint, struct mt_ofi_peer *peer,
                                     int is_forward)
{
    struct mt_ofi_slot **free_slots = is_forward ? &peer->forward_free : &peer->answer_free;
    struct mt_ofi_slot *slot = *free_slots;
    if (slot == NULL)
        return NULL;
    *free_slots = slot->next;
    slot->data_bytes = 0;
    endpoint->busy++;
    return slot;
}

static void slot_give(struct mt_ofi_endpoint *endpoint, struct mt_ofi_slot *slot)
{
    struct mt_ofi_peer *peer = &endpoint->peers[slot->peer];
    struct mt_ofi_slot **free_slots = slot->is_forward ? &peer->forward_free : &peer->answer_free;
    slot->next = *free_slots;
    *free_slots = slot;
    endpoint->busy--;
}

void mt_ofi_slot_done(struct mt_ofi_endpoint *endpoint, struct mt_ofi_slot *slot)
{
    struct mt_ofi_peer *peer = &endpoint->peers[slot->peer];
    peer->data_done += slot->data_bytes;
    if (slot->is_forward && slot->data_bytes == 0)
        peer->put_busy--;
    slot_give(endpoint, slot);
    mt_ofi_peer_dirty(endpoint, peer);
}

/* Copy `bytes` of the pieces, from byte `offset` on. */
static void gather(uint8_t *to, const struct iovec *pieces, uint32_t count, uint64_t offset,
                   uint64_t bytes)
{
    for (uint32_t i = 0; i < count && bytes > 0; i++) {
        if (offset >= pieces[i].iov_len) {
            offset -= pieces[i].iov_len;
            continue;
        }
        uint64_t take = least(pieces[i].iov_len - offset, bytes);
        memcpy(to, (const uint8_t *)pieces[i].iov_base + offset, take);
        to += take;
        bytes -= take;
        offset = 0;
    }
}

static void write_head(const struct mt_ofi_endpoint *endpoint, const struct mt_ofi_peer *peer,
                       const struct mt_frame *frame, uint8_t *head)
{
    memcpy(head, peer->proof_out, MT_OFI_PROOF_BYTES);
    memcpy(head + MT_OFI_PROOF_BYTES, &endpoint->rank, 4);
    memcpy(head + MT_OFI_PROOF_BYTES + 4, &peer->sequence_out, 4);
    mt_frame_encode(frame, head + MT_OFI_HEAD_BYTES - MT_FRAME_BYTES);
}

/* Hand a filled slot over. 0, or MANTA_EAGAIN: the slot is free again. */
static int slot_send(struct mt_ofi_endpoint *endpoint, struct mt_ofi_slot *slot, uint64_t part)
{
    struct mt_ofi_peer *peer = &endpoint->peers[slot->peer];
    ssize_t code = fi_send(endpoint->endpoint, slot->bytes, MT_OFI_HEAD_BYTES + part,
                           peer->region != NULL ? fi_mr_desc(peer->region) : NULL, peer->address,
                           &slot->work.context);
    if (code == 0) {
        peer->sequence_out++;
        if (slot->is_forward)
            mt_count(&endpoint->copied_bytes, part);
        return 0;
    }
    if (code != -FI_EAGAIN)
        peer->send_error = (int)-code;
    slot_give(endpoint, slot);
    mt_ofi_peer_dirty(endpoint, peer);
    return MANTA_EAGAIN;
}

static int can_send(const struct mt_ofi_endpoint *endpoint, const struct mt_ofi_peer *peer)
{
    return endpoint->endpoint != NULL && peer->slots != NULL && !peer->is_lost && !peer->send_error;
}

static int wire_put(void *wire, uint32_t rank, const struct mt_frame *frame,
                    const struct iovec *payload, uint32_t pieces)
{
    struct mt_ofi_endpoint *endpoint = wire;
    struct mt_ofi_peer *peer = &endpoint->peers[rank];
    int is_forward = mt_frame_is_forward(frame->type);
    if (!can_send(endpoint, peer))
        return MANTA_EAGAIN;
    struct mt_ofi_slot *slot = slot_take(endpoint, peer, is_forward);
    if (slot == NULL)
        return MANTA_EAGAIN;
    write_head(endpoint, peer, frame, slot->bytes);
    gather(slot->bytes + MT_OFI_HEAD_BYTES, payload, pieces, 0, frame->part);
    if (slot_send(endpoint, slot, frame->part) != 0)
        return MANTA_EAGAIN;
    if (!is_forward)
        return 0;
    peer->put_busy++;
    return MANTA_INPROGRESS;
}

/* What lies in slots needs no memory of the caller, but still progress to get out: so bytes are
 * told to be accepted when they are on their way, and those before are skipped when asked again. */
static int wire_data(void *wire, uint32_t rank, uint32_t stream, const struct mt_frame *frame,
                     const struct iovec *payload, uint32_t pieces, uint64_t limit,
                     uint64_t *accepted_out)
{
    struct mt_ofi_endpoint *endpoint = wire;
    struct mt_ofi_peer *peer = &endpoint->peers[rank];
    (void)stream;
    if (!can_send(endpoint, peer))
        return MANTA_EAGAIN;
    while (peer->data_sent < limit) {
        struct mt_ofi_slot *slot = slot_take(endpoint, peer, 1);
        struct mt_frame part = *frame;
        if (slot == NULL)
            break;
        part.bytes -= peer->data_sent;
        part.part = (uint32_t)least(limit - peer->data_sent, MT_OFI_EAGER_BYTES);
        slot->data_bytes = part.part;
        write_head(endpoint, peer, &part, slot->bytes);
        gather(slot->bytes + MT_OFI_HEAD_BYTES, payload, pieces, peer->data_sent, part.part);
        if (slot_send(endpoint, slot, part.part) != 0)
            break;
        peer->data_sent += part.part;
    }
    if (peer->data_sent == 0)
        return MANTA_EAGAIN;
    *accepted_out = peer->data_done;
    peer->data_sent -= peer->data_done;
    peer->data_done = 0;
    return 0;
}

int mt_ofi_write_dirty(struct mt_ofi_endpoint *endpoint)
{
    int moved = 0;
    struct mt_ofi_peer *peer = endpoint->dirty;
    endpoint->dirty = NULL;
    while (peer != NULL) {
        struct mt_ofi_peer *next = peer->next_dirty;
        uint32_t rank = (uint32_t)(peer - endpoint->peers);
        peer->is_dirty = 0;
        if (peer->send_error && !endpoint->aborted) {
            moved |= !peer->is_lost;
            mt_ofi_peer_fail(endpoint, rank, peer->send_error, "");
        }
        if (peer->put_busy == 0)
            mt_messages_flushed(endpoint->messages, rank);
        if (!endpoint->aborted && endpoint->endpoint != NULL) {
            mt_ofi_push_writes(endpoint, peer);
            mt_ofi_flush_push(endpoint);
            moved |= mt_messages_writable(endpoint->messages, rank);
        }
        peer = next;
    }
    return moved;
}

const struct mt_wire mt_ofi_wire = {.put = wire_put, .data = wire_data};
const struct mt_wire mt_ofi_writing_wire = {.put = wire_put,
                                            .data = wire_data,
                                            .offer = mt_ofi_wire_offer,
                                            .release = mt_ofi_wire_release,
                                            .write = mt_ofi_wire_write,
                                            .cease = mt_ofi_wire_cease};
