/* SPDX-License-Identifier: Apache-2.0 */
/* The window: eager data that came before its receive was posted; and the ids that came lately. */
#include <string.h>

#include "transport/message_internal.h"

/* The peer's credit was checked, so there are chunks enough. */
int32_t mt_window_store(struct mt_peer *peer, const struct mt_frame *frame)
{
    int32_t arrival = peer->chunk_free;
    int32_t last = arrival;
    for (uint32_t left = mt_chunks_of(frame->bytes); left > 1; left--)
        last = peer->chunk_next[last];
    peer->chunk_free = peer->chunk_next[last];
    peer->chunk_next[last] = MT_NO_CHUNK;

    struct mt_arrival *entry = &peer->arrivals[arrival];
    entry->frame = *frame;
    entry->received = 0;
    entry->claimed = NULL;
    entry->next = MT_NO_CHUNK;
    entry->previous = peer->arrival_last;
    if (peer->arrival_last != MT_NO_CHUNK)
        peer->arrivals[peer->arrival_last].next = arrival;
    else
        peer->arrival_first = arrival;
    peer->arrival_last = arrival;
    return arrival;
}

void mt_window_release(struct mt_peer *peer, int32_t arrival)
{
    struct mt_arrival *entry = &peer->arrivals[arrival];
    if (entry->previous != MT_NO_CHUNK)
        peer->arrivals[entry->previous].next = entry->next;
    else
        peer->arrival_first = entry->next;
    if (entry->next != MT_NO_CHUNK)
        peer->arrivals[entry->next].previous = entry->previous;
    else
        peer->arrival_last = entry->previous;

    int32_t last = arrival;
    while (peer->chunk_next[last] != MT_NO_CHUNK)
        last = peer->chunk_next[last];
    peer->chunk_next[last] = peer->chunk_free;
    peer->chunk_free = arrival;
    peer->credit_due += mt_chunks_of(entry->frame.bytes);
}

int32_t mt_window_find(const struct mt_peer *peer, const struct manta_transport_id *id,
                       int *conflict_out)
{
    for (int32_t a = peer->arrival_first; a != MT_NO_CHUNK; a = peer->arrivals[a].next) {
        if (mt_id_equal(&peer->arrivals[a].frame.id, id))
            return a;
        *conflict_out |= mt_id_conflict(&peer->arrivals[a].frame.id, id);
    }
    return MT_NO_CHUNK;
}

void mt_window_copy(const struct mt_peer *peer, int32_t arrival, const struct mt_work *work)
{
    uint64_t bytes = work->bytes;
    uint64_t done = 0;
    for (int32_t chunk = arrival; done < bytes; chunk = peer->chunk_next[chunk]) {
        uint64_t part = bytes - done < MT_MESSAGE_CHUNK ? bytes - done : MT_MESSAGE_CHUNK;
        mt_work_scatter(work, done, peer->window + (size_t)chunk * MT_MESSAGE_CHUNK, part);
        done += part;
    }
}

static struct manta_transport_id *recent_slot(const struct mt_peer *peer,
                                              const struct manta_transport_id *id)
{
    uint64_t mixed = id->call * UINT64_C(0x9e3779b97f4a7c15) +
                     id->segment * UINT64_C(0xbf58476d1ce4e5b9) +
                     id->number * UINT64_C(0x94d049bb133111eb);
    return (struct manta_transport_id *)&peer->recent[(mixed >> 40) % MT_MESSAGE_RECENT];
}

void mt_recent_add(struct mt_peer *peer, const struct manta_transport_id *id)
{
    *recent_slot(peer, id) = *id;
}

int mt_recent_has(const struct mt_peer *peer, const struct manta_transport_id *id)
{
    return mt_id_equal(recent_slot(peer, id), id);
}

void mt_written_add(struct mt_peer *peer, const struct manta_transport_id *id)
{
    peer->written[peer->written_count++ % MT_MESSAGE_WRITTEN] = *id;
}

int mt_written_has(const struct mt_peer *peer, const struct manta_transport_id *id)
{
    uint32_t kept =
        peer->written_count < MT_MESSAGE_WRITTEN ? peer->written_count : MT_MESSAGE_WRITTEN;
    for (uint32_t i = 0; i < kept; i++) {
        if (mt_id_equal(&peer->written[i], id))
            return 1;
    }
    return 0;
}
