/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long messages. The receiver offers its pieces: their addresses, with a key for each of its rails.
 * The sender writes them in parts, one over each lane, and the last request of each part carries a
 * number of 32 bits that the receiver's card hands over when all before it is in memory:
 *
 *     place in the table of offers (16), how often it was used (8), part (4), number of parts (4)
 */
#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "transport/verbs/verbs.h"

enum { HEAD_BYTES = 4, PIECE_BYTES = 16, KEY_BYTES = 4 };

static const struct mt_verbs_memory *memory_of(const struct mt_registration *registration)
{
    return registration->handle;
}

/* Keys of as many rails as there is room for. */
static uint32_t encode(const struct mt_verbs_endpoint *endpoint, const struct mt_verbs_offer *offer,
                       uint32_t place, const struct mt_wire_place *what)
{
    uint8_t *at = what->offer + HEAD_BYTES;
    uint32_t shown = 0;
    for (uint32_t i = 0; i < what->count; i++)
        shown += what->pieces[i].iov_len > 0;
    uint32_t rails = endpoint->rail_count;
    while (HEAD_BYTES + shown * (PIECE_BYTES + rails * KEY_BYTES) > MT_FRAME_OFFER_BYTES)
        rails--;
    what->offer[0] = (uint8_t)(place & 0xff);
    what->offer[1] = (uint8_t)(place >> 8);
    what->offer[2] = offer->generation;
    what->offer[3] = (uint8_t)(shown << 4 | rails);
    for (uint32_t i = 0; i < what->count; i++) {
        if (what->pieces[i].iov_len == 0)
            continue;
        mt_bytes_put64(at, (uint64_t)(uintptr_t)what->pieces[i].iov_base);
        mt_bytes_put64(at + 8, what->pieces[i].iov_len);
        at += PIECE_BYTES;
        for (uint32_t rail = 0; rail < rails; rail++, at += KEY_BYTES)
            mt_bytes_put32(at, memory_of(offer->registrations[i])->mr[rail]->rkey);
    }
    return (uint32_t)(at - what->offer);
}

uint32_t mt_verbs_offer(void *wire, uint32_t rank, struct mt_wire_place *place)
{
    struct mt_verbs_endpoint *endpoint = wire;
    const struct mt_verbs_peer *peer = endpoint->peers[rank];
    uint32_t at = endpoint->offer_hint;
    place->code = MANTA_EAGAIN; /* the peer's lanes may open, other offers end */
    if (peer == NULL || !peer->was_open || peer->cut ||
        (place->is_unasked && endpoint->offers_open >= MT_VERBS_OFFERS / 2))
        return 0;
    for (uint32_t looked = 0; endpoint->offers[at].request != NULL; looked++) {
        at = (at + 1) % MT_VERBS_OFFERS;
        if (looked == MT_VERBS_OFFERS)
            return 0;
    }
    struct mt_verbs_offer *offer = &endpoint->offers[at];
    place->code = mt_registrations_take_all(endpoint->registrations, place->pieces, place->count,
                                            place->devices, offer->registrations);
    if (place->code != 0)
        return 0;
    endpoint->offers_open++;
    offer->request = place->request;
    offer->peer = rank;
    offer->count = place->count;
    offer->came = 0;
    offer->rails = 0;
    offer->flushes = 0;
    offer->generation++;
    place->offer_bytes = encode(endpoint, offer, at, place);
    endpoint->offer_hint = (at + 1) % MT_VERBS_OFFERS;
    return at + 1;
}

void mt_verbs_release(void *wire, uint32_t rank, uint32_t number)
{
    struct mt_verbs_endpoint *endpoint = wire;
    struct mt_verbs_offer *offer = &endpoint->offers[number - 1];
    (void)rank;
    mt_registrations_give_all(endpoint->registrations, offer->registrations, offer->count);
    offer->request = NULL;
    endpoint->offers_open--;
    endpoint->flush_waits -= offer->waits_to_flush;
    offer->waits_to_flush = 0;
}

void mt_verbs_offer_done(struct mt_verbs_endpoint *endpoint, struct mt_verbs_offer *offer)
{
    struct mt_verbs_peer *peer = endpoint->peers[offer->peer];
    if (mt_messages_written(endpoint->messages, offer->peer, offer->request) != 0)
        mt_verbs_peer_lose(endpoint, peer, MANTA_ETRANSPORT, 0,
                           "rank %u wrote a message that it has sent, too; the ranks may run "
                           "different builds",
                           peer->rank);
}

/* What comes of an offer that is over is late, and of no use. */
void mt_verbs_written(struct mt_verbs_endpoint *endpoint, uint32_t rail, uint32_t number)
{
    uint32_t place = number >> 16, part = number >> 4 & 0xf, parts = number & 0xf;
    struct mt_verbs_offer *offer = &endpoint->offers[place % MT_VERBS_OFFERS];
    if (place >= MT_VERBS_OFFERS || offer->request == NULL ||
        offer->generation != (uint8_t)(number >> 8) || part >= parts)
        return;
    offer->came |= 1u << part;
    offer->rails |= (uint8_t)(1u << rail);
    if (offer->came == (1u << parts) - 1 && !mt_verbs_flush(endpoint, offer))
        mt_verbs_offer_done(endpoint, offer);
}

/* 0, or it makes no sense, or not for this message. */
static int decode(const struct mt_wire_place *place, struct mt_verbs_write *write)
{
    const uint8_t *at = place->offer + HEAD_BYTES;
    uint64_t bytes = 0;
    if (place->offer_bytes < HEAD_BYTES)
        return -1;
    uint32_t count = place->offer[3] >> 4, rails = place->offer[3] & 0xf;
    if (count > MT_VERBS_PIECES || rails > MT_VERBS_RAILS ||
        place->offer_bytes != HEAD_BYTES + count * (PIECE_BYTES + rails * KEY_BYTES))
        return -1;
    write->number =
        (uint32_t)(place->offer[0] | place->offer[1] << 8) << 16 | (uint32_t)place->offer[2] << 8;
    write->remote_count = count;
    write->remote_rails = rails;
    for (uint32_t i = 0; i < count; i++) {
        struct mt_verbs_remote *remote = &write->remotes[i];
        remote->start = mt_bytes_get64(at);
        remote->bytes = mt_bytes_get64(at + 8);
        bytes += remote->bytes;
        at += PIECE_BYTES;
        for (uint32_t rail = 0; rail < rails; rail++, at += KEY_BYTES)
            remote->keys[rail] = mt_bytes_get32(at);
    }
    return bytes == place->bytes ? 0 : -1;
}

static int may_carry(const struct mt_verbs_endpoint *endpoint, const struct mt_verbs_lane *lane,
                     const struct mt_verbs_write *write, int near)
{
    return lane->state == MT_VERBS_LANE_OPEN && lane->remote_rail < write->remote_rails &&
           lane->turn_count < MT_MESSAGE_WRITES && (!near || endpoint->rails[lane->rail].is_near);
}

/* Equal parts over the lanes that are near, or over those there are; 0: there is none. */
static uint32_t cut(const struct mt_verbs_endpoint *endpoint, const struct mt_verbs_peer *peer,
                    uint64_t bytes, struct mt_verbs_write *write)
{
    uint8_t lanes[MT_VERBS_LANES];
    uint32_t count = 0;
    for (int near = 1; near >= 0 && count == 0; near--) {
        for (uint32_t i = 0; i < peer->lane_count; i++) {
            if (may_carry(endpoint, &peer->lanes[i], write, near))
                lanes[count++] = (uint8_t)i;
        }
    }
    if (count > 1 && bytes / count < MT_VERBS_STRIPE)
        count = bytes / MT_VERBS_STRIPE > 1 ? (uint32_t)(bytes / MT_VERBS_STRIPE) : 1;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t from = bytes / count * i / 64 * 64, to = bytes / count * (i + 1) / 64 * 64;
        write->parts[i] =
            (struct mt_verbs_part){.at = from, .end = i + 1 < count ? to : bytes, .lane = lanes[i]};
    }
    return count;
}

static struct mt_verbs_write *free_write(struct mt_verbs_endpoint *endpoint, uint32_t *index_out)
{
    for (uint32_t looked = 0; looked < MT_VERBS_WRITES; looked++) {
        uint32_t at = (endpoint->write_hint + looked) % MT_VERBS_WRITES;
        if (endpoint->writes[at].request != NULL)
            continue;
        endpoint->write_hint = (at + 1) % MT_VERBS_WRITES;
        *index_out = at;
        return &endpoint->writes[at];
    }
    return NULL;
}

static void queue_part(struct mt_verbs_lane *lane, uint32_t write, uint32_t part)
{
    lane->turns[(lane->turn_first + lane->turn_count++) % MT_MESSAGE_WRITES] =
        (struct mt_verbs_turn){(uint16_t)write, (uint8_t)part};
}

/* No lane can carry it now. What is direct waits for one that may come, and has no other way. */
static int wait_for_lane(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                         uint32_t rails)
{
    if (mt_verbs_may_come(peer, rails, endpoint->host->clock_ns())) {
        if (peer->waiting_rails == 0 || rails < peer->waiting_rails)
            peer->waiting_rails = rails;
        return MANTA_EAGAIN;
    }
    return mt_messages_error_set(
        endpoint->messages, MANTA_ETRANSPORT, peer->rank, 0,
        "no rail leads to rank %u any more (%s: %s), and a message of memory of devices goes no "
        "other way; see manta doctor at both ends, or copy it to host memory",
        peer->rank, endpoint->rails[peer->lanes[0].rail].name, peer->lanes[0].why);
}

int mt_verbs_write(void *wire, uint32_t rank, const struct mt_wire_place *place)
{
    struct mt_verbs_endpoint *endpoint = wire;
    struct mt_verbs_peer *peer = endpoint->peers[rank];
    uint32_t index = 0;
    struct mt_verbs_write *write = free_write(endpoint, &index);
    if (peer == NULL || (peer->current < 0 && peer->stream == MT_VERBS_STREAM_IDLE))
        return MANTA_EAGAIN;
    if (write == NULL) {
        peer->starved = endpoint->is_starving = 1;
        return MANTA_EAGAIN;
    }
    if (decode(place, write) != 0)
        return MANTA_ENOTSUP;
    write->part_count = cut(endpoint, peer, place->bytes, write);
    if (write->part_count == 0)
        return place->is_direct ? wait_for_lane(endpoint, peer, write->remote_rails)
                                : MANTA_ENOTSUP;
    int code = mt_registrations_take_all(endpoint->registrations, place->pieces, place->count,
                                         place->devices, write->registrations);
    if (code != 0)
        return place->is_direct ? code : MANTA_ENOTSUP;
    write->request = place->request;
    write->peer = rank;
    write->count = place->count;
    write->is_lost = 0;
    write->parts_open = write->part_count;
    memcpy(write->pieces, place->pieces, place->count * sizeof(*place->pieces));
    for (uint32_t i = 0; i < write->part_count; i++)
        queue_part(&peer->lanes[write->parts[i].lane], index, i);
    for (uint32_t i = 0; i < write->part_count; i++)
        mt_verbs_post_writes(endpoint, &peer->lanes[write->parts[i].lane]);
    return 0;
}

int mt_verbs_cease(void *wire, uint32_t rank)
{
    struct mt_verbs_endpoint *endpoint = wire;
    struct mt_verbs_peer *peer = endpoint->peers[rank];
    return peer != NULL ? mt_verbs_peer_cease(endpoint, peer) : 0;
}

/* All its parts are over. */
static void end_write(struct mt_verbs_endpoint *endpoint, struct mt_verbs_write *write)
{
    struct manta_transport_request *request = write->request;
    mt_registrations_give_all(endpoint->registrations, write->registrations, write->count);
    write->request = NULL;
    endpoint->has_room = 1;
    if (write->is_lost)
        mt_messages_again(endpoint->messages, write->peer, request);
    else
        mt_messages_wrote(endpoint->messages, write->peer, request);
}

static void end_part(struct mt_verbs_endpoint *endpoint, struct mt_verbs_write *write,
                     struct mt_verbs_part *part)
{
    part->done = 1;
    if (--write->parts_open == 0)
        end_write(endpoint, write);
}

void mt_verbs_write_done(struct mt_verbs_endpoint *endpoint, uint32_t index, uint32_t place)
{
    struct mt_verbs_write *write = &endpoint->writes[index % MT_VERBS_WRITES];
    struct mt_verbs_part *part = &write->parts[place % MT_VERBS_LANES];
    if (write->request == NULL || part->done)
        return;
    part->unanswered--;
    if (part->unanswered == 0 && part->at == part->end)
        end_part(endpoint, write, part);
}

void mt_verbs_writes_lost(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    for (uint32_t i = 0; i < MT_VERBS_WRITES; i++) {
        struct mt_verbs_write *write = &endpoint->writes[i];
        if (write->request == NULL || write->peer != lane->peer)
            continue;
        for (uint32_t p = 0; p < write->part_count && write->request != NULL; p++) {
            struct mt_verbs_part *part = &write->parts[p];
            if (part->lane != lane->index || part->done)
                continue;
            write->is_lost = 1;
            end_part(endpoint, write, part);
        }
    }
}

void mt_verbs_writes_drop(struct mt_verbs_endpoint *endpoint, uint32_t rank)
{
    for (uint32_t i = 0; endpoint->writes != NULL && i < MT_VERBS_WRITES; i++) {
        struct mt_verbs_write *write = &endpoint->writes[i];
        if (write->request == NULL || write->peer != rank)
            continue;
        mt_registrations_give_all(endpoint->registrations, write->registrations, write->count);
        write->request = NULL;
        endpoint->has_room = 1;
    }
}

const struct mt_wire mt_verbs_wire = {.put = mt_verbs_put,
                                      .data = mt_verbs_data,
                                      .offer = mt_verbs_offer,
                                      .release = mt_verbs_release,
                                      .write = mt_verbs_write,
                                      .cease = mt_verbs_cease};
