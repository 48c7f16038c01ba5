/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long messages, written by the sender into the memory that the receiver offers. Every write of a
 * message tells the receiver, by remote completion data, which offer it belongs to and how many
 * writes there are: so it needs no order among them, and knows that all are there.
 *
 * The data: 10 bits which offer, 10 bits how often that place was used, 12 bits how many writes;
 * and, where the provider carries 64 bits, 32 more that nobody else can guess.
 */
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "transport/ofi/ofi.h"

enum {
    INDEX_BITS = 10,
    USE_BITS = 10,
    COUNT_BITS = 12,
    COUNT_AT = INDEX_BITS + USE_BITS,
    WRITES_MOST = (1 << COUNT_BITS) - 1,
    DATA_BYTES_LEAST = 4,
    DATA_BYTES_SAFE = 8
};

_Static_assert(MT_OFI_OFFERS <= 1 << INDEX_BITS, "an offer's number has room");

/* What an offer says. */
struct head {
    uint64_t data; /* without the count */
    uint32_t count, reserved;
};
struct place {
    uint64_t address, bytes, key;
};

_Static_assert(sizeof(struct head) + MANTA_PLAN_LOCATIONS * sizeof(struct place) <=
                   MT_FRAME_OFFER_BYTES,
               "an offer has room for all pieces");

/* Not all that say so can (provider.c), and what the first write is told settles it (push()). */
int mt_ofi_can_write(const struct fi_info *info)
{
    return (info->caps & FI_RMA) && info->domain_attr->cq_data_size >= DATA_BYTES_LEAST;
}

static uint64_t address_of(const struct mt_ofi_endpoint *endpoint, const struct iovec *piece,
                           const struct mt_registration *registration)
{
    uint64_t address = (uint64_t)(uintptr_t)piece->iov_base;
    if (endpoint->info->domain_attr->mr_mode & FI_MR_VIRT_ADDR)
        return address;
    return address - registration->start;
}

static struct mt_ofi_offer *offer_take(struct mt_ofi_endpoint *endpoint, uint32_t *index_out)
{
    for (uint32_t i = 0; i < MT_OFI_OFFERS; i++) {
        uint32_t index = (endpoint->offer_last + 1 + i) % MT_OFI_OFFERS;
        if (endpoint->offers[index].request != NULL)
            continue;
        endpoint->offer_last = index;
        *index_out = index;
        return &endpoint->offers[index];
    }
    return NULL;
}

static void write_offer(const struct mt_ofi_endpoint *endpoint, const struct mt_ofi_offer *offer,
                        struct mt_wire_place *place)
{
    const struct head head = {.data = offer->data, .count = place->count};
    uint8_t *to = place->offer;
    memcpy(to, &head, sizeof(head));
    to += sizeof(head);
    for (uint32_t i = 0; i < place->count; i++, to += sizeof(struct place)) {
        struct place piece = {.bytes = place->pieces[i].iov_len};
        if (offer->registrations[i] != NULL) {
            struct fid_mr *region = offer->registrations[i]->handle;
            piece.address = address_of(endpoint, &place->pieces[i], offer->registrations[i]);
            piece.key = fi_mr_key(region);
        }
        memcpy(to, &piece, sizeof(piece));
    }
    place->offer_bytes = (uint32_t)(to - place->offer);
}

uint32_t mt_ofi_wire_offer(void *wire, uint32_t rank, struct mt_wire_place *place)
{
    struct mt_ofi_endpoint *endpoint = wire;
    uint32_t index;
    place->code = MANTA_EAGAIN;
    if (endpoint->endpoint == NULL ||
        (place->is_unasked && endpoint->offers_open >= MT_OFI_OFFERS / 2))
        return 0;
    struct mt_ofi_offer *offer = offer_take(endpoint, &index);
    if (offer == NULL)
        return 0;
    place->code = mt_registrations_take_all(endpoint->registrations, place->pieces, place->count,
                                            place->devices, offer->registrations);
    if (place->code != 0)
        return 0;
    endpoint->offers_open++;
    offer->request = place->request;
    offer->peer = rank;
    offer->count = place->count;
    offer->arrived = 0;
    offer->uses++;
    offer->data = index | (uint64_t)(offer->uses & ((1u << USE_BITS) - 1)) << INDEX_BITS;
    if (endpoint->info->domain_attr->cq_data_size >= DATA_BYTES_SAFE)
        offer->data |= mt_ofi_random(endpoint) << 32;
    write_offer(endpoint, offer, place);
    return index + 1;
}

void mt_ofi_wire_release(void *wire, uint32_t rank, uint32_t number)
{
    struct mt_ofi_endpoint *endpoint = wire;
    struct mt_ofi_offer *offer = &endpoint->offers[number - 1];
    (void)rank;
    if (endpoint->stuck == NULL) /* else the peer may still write to it */
        mt_registrations_give_all(endpoint->registrations, offer->registrations, offer->count);
    offer->request = NULL;
    endpoint->offers_open--;
    mt_ofi_flush_forget(endpoint, offer);
}

void mt_ofi_offer_done(struct mt_ofi_endpoint *endpoint, struct mt_ofi_offer *offer)
{
    if (mt_messages_written(endpoint->messages, offer->peer, offer->request) != 0)
        endpoint->peers[offer->peer].is_lost = 1;
}

void mt_ofi_written(struct mt_ofi_endpoint *endpoint, uint64_t data)
{
    const uint64_t count_mask = (uint64_t)WRITES_MOST << COUNT_AT;
    uint32_t index = (uint32_t)data & ((1u << INDEX_BITS) - 1);
    struct mt_ofi_offer *offer = &endpoint->offers[index % MT_OFI_OFFERS];
    if (index >= MT_OFI_OFFERS || offer->request == NULL || offer->data != (data & ~count_mask)) {
        endpoint->strangers++;
        return;
    }
    if (++offer->arrived < (data & count_mask) >> COUNT_AT)
        return;
    if (!mt_ofi_flush(endpoint, offer))
        mt_ofi_offer_done(endpoint, offer);
}

/* What the next write is: a piece of both ends. */
static uint64_t next_bytes(const struct mt_ofi_endpoint *endpoint, const struct mt_ofi_write *write)
{
    uint64_t here = write->pieces[write->local].iov_len - write->local_at;
    uint64_t there = write->remote_bytes[write->remote] - write->remote_at;
    uint64_t most = endpoint->info->ep_attr->max_msg_size;
    uint64_t bytes = here < there ? here : there;
    return bytes < most ? bytes : most;
}

/* Past what is used up, and past empty pieces. */
static void advance(struct mt_ofi_write *write, uint64_t bytes)
{
    write->left -= bytes;
    write->local_at += bytes;
    write->remote_at += bytes;
    while (write->local < write->local_count &&
           write->local_at == write->pieces[write->local].iov_len) {
        write->local++;
        write->local_at = 0;
    }
    while (write->remote < write->remote_count &&
           write->remote_at == write->remote_bytes[write->remote]) {
        write->remote++;
        write->remote_at = 0;
    }
}

static void rewind_write(struct mt_ofi_write *write, uint64_t bytes)
{
    write->local = write->remote = 0;
    write->local_at = write->remote_at = 0;
    write->left = bytes;
    advance(write, 0);
}

static uint64_t count_writes(const struct mt_ofi_endpoint *endpoint, struct mt_ofi_write *write,
                             uint64_t bytes)
{
    uint64_t count = 0;
    rewind_write(write, bytes);
    while (write->left > 0 && count <= WRITES_MOST) {
        advance(write, next_bytes(endpoint, write));
        count++;
    }
    rewind_write(write, bytes);
    return count;
}

/* 0, or -1: it is no offer for so many bytes. */
static int read_offer(struct mt_ofi_write *write, const struct mt_wire_place *place)
{
    struct head head;
    uint64_t sum = 0;
    if (place->offer_bytes < sizeof(head))
        return -1;
    memcpy(&head, place->offer, sizeof(head));
    if (head.count > MANTA_PLAN_LOCATIONS ||
        place->offer_bytes != sizeof(head) + head.count * sizeof(struct place))
        return -1;
    write->data = head.data;
    write->remote_count = head.count;
    for (uint32_t i = 0; i < head.count; i++) {
        struct place piece;
        memcpy(&piece, place->offer + sizeof(head) + i * sizeof(piece), sizeof(piece));
        write->remote_address[i] = piece.address;
        write->remote_bytes[i] = piece.bytes;
        write->remote_key[i] = piece.key;
        if (piece.bytes > place->bytes - sum)
            return -1;
        sum += piece.bytes;
    }
    return sum == place->bytes ? 0 : -1;
}

static struct mt_ofi_chunk *chunk_take(struct mt_ofi_write *write)
{
    for (uint32_t i = 0; i < MT_OFI_CHUNKS; i++) {
        if (!write->chunks[i].is_busy)
            return &write->chunks[i];
    }
    return NULL;
}

/* The next part of a message. 0 or an error of libfabric. */
static ssize_t chunk_send(struct mt_ofi_endpoint *endpoint, struct mt_ofi_write *write,
                          struct mt_ofi_chunk *chunk)
{
    struct mt_registration *registration = write->registrations[write->local];
    void *desc = registration != NULL ? fi_mr_desc((struct fid_mr *)registration->handle) : NULL;
    uint64_t bytes = next_bytes(endpoint, write);
    const struct iovec from = {(uint8_t *)write->pieces[write->local].iov_base + write->local_at,
                               bytes};
    const struct fi_rma_iov to = {write->remote_address[write->remote] + write->remote_at, bytes,
                                  write->remote_key[write->remote]};
    const struct fi_msg_rma message = {.msg_iov = &from,
                                       .desc = &desc,
                                       .iov_count = 1,
                                       .addr = endpoint->peers[write->peer].address,
                                       .rma_iov = &to,
                                       .rma_iov_count = 1,
                                       .context = &chunk->work.context,
                                       .data = write->data};
    ssize_t code = fi_writemsg(endpoint->endpoint, &message,
                               FI_REMOTE_CQ_DATA | FI_COMPLETION | FI_TRANSMIT_COMPLETE);
    if (code == 0) {
        chunk->is_busy = 1;
        write->has_begun = 1;
        write->under_way++;
        advance(write, bytes);
    }
    return code;
}

/* What a provider says that cannot do this, rather than that it has failed. */
static int is_refusal(ssize_t code)
{
    return code == -FI_EBADFLAGS || code == -FI_ENOSYS || code == -FI_EOPNOTSUPP;
}

static void note_refusal(struct mt_ofi_endpoint *endpoint, int error)
{
    char sentence[200];
    endpoint->refuses_writes = 1;
    snprintf(sentence, sizeof(sentence),
             "provider %s does not write with completion data (%s): long messages go in frames",
             endpoint->provider, endpoint->library->strerror(error));
    endpoint->host->log(MT_LOG_INFO, "ofi", sentence);
}

/* 0, or -1: the provider refuses to write, and has taken nothing of this one. */
static int push(struct mt_ofi_endpoint *endpoint, struct mt_ofi_write *write)
{
    struct mt_ofi_peer *peer = &endpoint->peers[write->peer];
    while (write->left > 0 && !peer->send_error) {
        if (endpoint->refuses_writes && !write->has_begun)
            return -1;
        struct mt_ofi_chunk *chunk = chunk_take(write);
        if (chunk == NULL)
            return 0;
        ssize_t code = chunk_send(endpoint, write, chunk);
        if (code == 0)
            continue;
        if (is_refusal(code) && !write->has_begun) {
            note_refusal(endpoint, (int)-code);
            return -1;
        }
        if (code != -FI_EAGAIN)
            peer->send_error = (int)-code;
        mt_ofi_peer_dirty(endpoint, peer);
        return 0;
    }
    return 0;
}

static void write_end(struct mt_ofi_endpoint *endpoint, struct mt_ofi_write *write)
{
    mt_registrations_give_all(endpoint->registrations, write->registrations, write->local_count);
    write->request = NULL;
}

/* One that the provider had no room for at first, and refuses now, goes as DATA when its receiver
 * has been asked again. */
void mt_ofi_push_writes(struct mt_ofi_endpoint *endpoint, struct mt_ofi_peer *peer)
{
    for (uint32_t i = 0; peer->writes != NULL && i < MT_OFI_WRITES; i++) {
        struct mt_ofi_write *write = &peer->writes[i];
        struct manta_transport_request *request = write->request;
        if (request == NULL || push(endpoint, write) == 0)
            continue;
        write_end(endpoint, write);
        mt_messages_again(endpoint->messages, write->peer, request);
    }
}

int mt_ofi_wire_write(void *wire, uint32_t rank, const struct mt_wire_place *place)
{
    struct mt_ofi_endpoint *endpoint = wire;
    struct mt_ofi_peer *peer = &endpoint->peers[rank];
    uint32_t at = 0;
    if (endpoint->endpoint == NULL || peer->slots == NULL || peer->is_lost || peer->send_error)
        return MANTA_EAGAIN;
    while (at < MT_OFI_WRITES && peer->writes[at].request != NULL)
        at++;
    if (at == MT_OFI_WRITES)
        return MANTA_EAGAIN;
    struct mt_ofi_write *write = &peer->writes[at];
    if (endpoint->refuses_writes || read_offer(write, place) != 0)
        return MANTA_ENOTSUP;
    write->local_count = place->count;
    memcpy(write->pieces, place->pieces, place->count * sizeof(*place->pieces));
    uint64_t count = count_writes(endpoint, write, place->bytes);
    if (count > WRITES_MOST)
        return MANTA_ENOTSUP;
    memset(write->registrations, 0, sizeof(write->registrations));
    int is_shown = (endpoint->info->domain_attr->mr_mode & FI_MR_LOCAL) || place->devices != 0;
    int code = is_shown ? mt_registrations_take_all(endpoint->registrations, write->pieces,
                                                    write->local_count, place->devices,
                                                    write->registrations)
                        : 0;
    if (code != 0)
        return place->is_direct ? code : MANTA_ENOTSUP;
    write->data |= count << COUNT_AT;
    write->request = place->request;
    write->under_way = 0;
    write->has_begun = 0;
    if (push(endpoint, write) == 0)
        return 0;
    write_end(endpoint, write);
    return MANTA_ENOTSUP;
}

void mt_ofi_chunk_done(struct mt_ofi_endpoint *endpoint, struct mt_ofi_chunk *chunk)
{
    struct mt_ofi_write *write = chunk->write;
    struct manta_transport_request *request = write->request;
    chunk->is_busy = 0;
    write->under_way--;
    if (write->left > 0) {
        (void)push(endpoint, write); /* it has begun */
        return;
    }
    if (write->under_way > 0)
        return;
    write_end(endpoint, write);
    mt_messages_wrote(endpoint->messages, write->peer, request);
    mt_ofi_peer_dirty(endpoint, &endpoint->peers[write->peer]);
}

/* Their requests end. What libfabric may still read stays registered. */
static void drop_writes(struct mt_ofi_endpoint *endpoint)
{
    for (uint32_t r = 0; r < endpoint->ranks; r++) {
        struct mt_ofi_peer *peer = &endpoint->peers[r];
        for (uint32_t i = 0; peer->writes != NULL && i < MT_OFI_WRITES; i++) {
            if (peer->writes[i].request != NULL && endpoint->stuck == NULL)
                write_end(endpoint, &peer->writes[i]);
            peer->writes[i].request = NULL;
        }
    }
}

/* There is no connection to one peer that could be ended: the endpoint is closed, after which
 * libfabric touches no memory of anybody. A rank that comes here has failed. */
int mt_ofi_wire_cease(void *wire, uint32_t rank)
{
    struct mt_ofi_endpoint *endpoint = wire;
    (void)rank;
    if (endpoint->endpoint == NULL && endpoint->stuck == NULL)
        return 0;
    int code = mt_ofi_endpoint_close(endpoint);
    drop_writes(endpoint);
    if (code == 0)
        return 0;
    endpoint->is_stuck = 1;
    return MANTA_EBUFFER;
}
