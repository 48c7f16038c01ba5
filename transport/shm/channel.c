/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between two ranks through lines and slices. */
#include <string.h>

#include "transport/shm/channel.h"
#include "transport/shm/copy.h"

enum {
    PART_MAX = 64 << 10, /* of a long message: so that the peer copies one while we copy the next */
    PARTS = 8,           /* handed over or taken in one go, so that others get a turn */
    FRAMES = 2 * MT_SHM_FRAMES,
    CLAIMED_MOST = 4096 /* bytes */
};

void mt_shm_channel_open(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    const struct mt_shm_geometry *g = &endpoint->identity.geometry;
    struct mt_shm_channel *channel = peer->channel;
    const uint64_t local = (uint64_t)(peer - endpoint->peers);
    uint8_t *out = endpoint->base + g->channel_at + local * g->channel_stride;
    const uint8_t *in = peer->base + g->channel_at + endpoint->local * g->channel_stride;
    channel->frames = g->frames;
    channel->credit = (struct mt_shm_credit *)(void *)out;
    channel->lines = (struct mt_shm_line *)(void *)(out + MT_SHM_LINE);
    channel->slice = endpoint->base + g->slice_at + local * g->slice_bytes;
    channel->peer_credit = (const struct mt_shm_credit *)(const void *)in;
    channel->peer_lines = (const struct mt_shm_line *)(const void *)(in + MT_SHM_LINE);
    channel->peer_slice = peer->base + g->slice_at + endpoint->local * g->slice_bytes;
    mt_shm_distance_open(&endpoint->ruler, &channel->distance);
    mt_shm_populate(out, g->channel_stride, 1);
    mt_shm_populate(in, g->channel_stride, 0);
}

/* Read the peer's credit; 0 if it is nonsense (then what was known before stays). */
static int refresh(struct mt_shm_channel *channel)
{
    /* Pairs with the release stores in report(). */
    uint64_t frames = atomic_load_explicit(&channel->peer_credit->frames, memory_order_acquire);
    uint64_t slice = atomic_load_explicit(&channel->peer_credit->slice, memory_order_acquire);
    if (frames > channel->sent || frames < channel->known_frames || slice > channel->slice_head ||
        slice < channel->known_slice)
        return 0;
    channel->known_frames = frames;
    channel->known_slice = slice;
    return 1;
}

/* See how far the peer is, if it is time to. */
static void measure(struct mt_shm_endpoint *endpoint, struct mt_shm_channel *channel,
                    uint64_t bytes)
{
    uint64_t ticks;
    if (!mt_shm_distance_is_due(&channel->distance, bytes))
        return;
    /* Pairs with the release store in report(); nothing depends on it here. */
    uint64_t frames = mt_shm_distance_load(&channel->peer_credit->frames, &ticks);
    if (frames != channel->measured_frames && frames != channel->known_frames)
        mt_shm_distance_note(&endpoint->ruler, &channel->distance, ticks);
    channel->measured_frames = frames;
}

/* Where a piece of this length would begin, counted from the start of all. */
static uint64_t slice_start(uint64_t head, uint64_t length, uint64_t slice_bytes)
{
    uint64_t at = head % slice_bytes;
    return at + length > slice_bytes ? head + (slice_bytes - at) : head;
}

static uint64_t line_up(uint64_t bytes)
{
    return (bytes + MT_SHM_LINE - 1) / MT_SHM_LINE * MT_SHM_LINE;
}

static int has_room(const struct mt_shm_channel *channel, uint64_t slice_end, uint64_t slice_bytes)
{
    return channel->sent - channel->known_frames < channel->frames &&
           slice_end - channel->known_slice <= slice_bytes;
}

/* Room for a frame with this payload: 0 and where the slice's piece begins, or MANTA_EAGAIN. */
static int find_room(const struct mt_shm_endpoint *endpoint, struct mt_shm_channel *channel,
                     uint32_t part, uint64_t *start_out)
{
    uint64_t slice_bytes = endpoint->identity.geometry.slice_bytes;
    uint64_t length = part > MT_SHM_FRAME_INLINE ? line_up(part) : 0;
    uint64_t start =
        length == 0 ? channel->slice_head : slice_start(channel->slice_head, length, slice_bytes);
    *start_out = start;
    if (has_room(channel, start + length, slice_bytes))
        return 0;
    if (refresh(channel) && has_room(channel, start + length, slice_bytes))
        return 0;
    channel->blocked = 1;
    return MANTA_EAGAIN;
}

/* Bytes done .. done + bytes of the pieces. */
static void gather(const struct mt_shm_distance *distance, uint8_t *to, const struct iovec *payload,
                   uint32_t pieces, uint64_t bytes)
{
    for (uint32_t i = 0; i < pieces && bytes > 0; i++) {
        uint64_t length = payload[i].iov_len < bytes ? payload[i].iov_len : bytes;
        mt_shm_copy_in(distance, to, payload[i].iov_base, length);
        to += length;
        bytes -= length;
    }
}

static void publish(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer,
                    const struct mt_frame *frame, uint64_t start)
{
    struct mt_shm_channel *channel = peer->channel;
    struct mt_shm_line *line = &channel->lines[channel->sent & (channel->frames - 1)];
    line->bytes = frame->bytes;
    line->call = frame->id.call;
    line->type = frame->type;
    line->part = frame->part;
    line->segment = frame->id.segment;
    line->number = frame->id.number;
    line->hash = frame->id.hash;
    if (frame->part > MT_SHM_FRAME_INLINE) {
        memcpy(line->payload, &start, sizeof(start));
        channel->slice_head = start + line_up(frame->part);
    }
    channel->sent++;
    mt_shm_hook(endpoint);
    /* Pairs with the acquire load in take(). */
    atomic_store_explicit(&line->flag, channel->sent, memory_order_release);
    mt_shm_ring(endpoint, peer);
}

/* Where the next payload will lie, if it is like the last one. */
static void claim_next(const struct mt_shm_endpoint *endpoint, const struct mt_shm_channel *channel,
                       uint32_t part)
{
    uint64_t slice_bytes = endpoint->identity.geometry.slice_bytes, length = line_up(part);
    uint64_t start = slice_start(channel->slice_head, length, slice_bytes);
    mt_shm_claim(channel->slice + start % slice_bytes,
                 length < CLAIMED_MOST ? length : CLAIMED_MOST);
}

static uint8_t *place(const struct mt_shm_endpoint *endpoint, struct mt_shm_channel *channel,
                      uint32_t part, uint64_t start)
{
    if (part <= MT_SHM_FRAME_INLINE)
        return channel->lines[channel->sent & (channel->frames - 1)].payload;
    if (channel->slice_head == 0)
        mt_shm_populate(channel->slice, endpoint->identity.geometry.slice_bytes, 1);
    return channel->slice + start % endpoint->identity.geometry.slice_bytes;
}

static int put(void *wire, uint32_t rank, const struct mt_frame *frame, const struct iovec *payload,
               uint32_t pieces)
{
    struct mt_shm_endpoint *endpoint = wire;
    struct mt_shm_peer *peer = mt_shm_peer_of(endpoint, rank);
    uint64_t start;
    if (peer == NULL || peer->state != MT_SHM_CONNECTED ||
        find_room(endpoint, peer->channel, frame->part, &start) != 0)
        return MANTA_EAGAIN;
    gather(&peer->channel->distance, place(endpoint, peer->channel, frame->part, start), payload,
           pieces, frame->part);
    publish(endpoint, peer, frame, start);
    if (frame->part > MT_SHM_FRAME_INLINE &&
        !mt_shm_goes_far(&peer->channel->distance, frame->part))
        claim_next(endpoint, peer->channel, frame->part);
    return 0;
}

/* The pieces without their first `bytes`. */
static void skip(const struct iovec **payload, uint32_t *pieces, struct iovec *first,
                 uint64_t bytes)
{
    while (*pieces > 0 && bytes >= first->iov_len) {
        bytes -= first->iov_len;
        (*pieces)--;
        (*payload)++;
        if (*pieces > 0)
            *first = (*payload)[0];
    }
    first->iov_base = (char *)first->iov_base + bytes;
    first->iov_len -= bytes;
}

static uint32_t part_of(const struct mt_shm_endpoint *endpoint, uint64_t left)
{
    uint64_t most = endpoint->identity.geometry.slice_bytes / 4;
    if (most > PART_MAX)
        most = PART_MAX;
    return (uint32_t)(left < most ? left : most);
}

static int data(void *wire, uint32_t rank, uint32_t stream, const struct mt_frame *frame,
                const struct iovec *payload, uint32_t pieces, uint64_t limit,
                uint64_t *accepted_out)
{
    struct mt_shm_endpoint *endpoint = wire;
    struct mt_shm_peer *peer = mt_shm_peer_of(endpoint, rank);
    struct mt_frame part = *frame;
    struct iovec first = payload[0];
    uint64_t accepted = 0;
    (void)stream;
    if (peer == NULL || peer->state != MT_SHM_CONNECTED)
        return MANTA_EAGAIN;
    for (int i = 0; i < PARTS && accepted < limit; i++) {
        uint64_t start;
        part.part = part_of(endpoint, limit - accepted);
        part.bytes = frame->bytes - accepted;
        if (find_room(endpoint, peer->channel, part.part, &start) != 0)
            break;
        uint8_t *to = place(endpoint, peer->channel, part.part, start);
        uint64_t head = first.iov_len < part.part ? first.iov_len : part.part;
        mt_shm_copy_in(&peer->channel->distance, to, first.iov_base, head);
        gather(&peer->channel->distance, to + head, payload + 1, pieces - 1, part.part - head);
        skip(&payload, &pieces, &first, part.part);
        publish(endpoint, peer, &part, start);
        accepted += part.part;
    }
    measure(endpoint, peer->channel, accepted);
    *accepted_out = accepted;
    return accepted > 0 ? 0 : MANTA_EAGAIN;
}

const struct mt_wire mt_shm_wire = {.put = put, .data = data};

/* Tell the peer what was consumed. */
static void report(struct mt_shm_endpoint *endpoint, const struct mt_shm_peer *peer)
{
    struct mt_shm_channel *channel = peer->channel;
    if (channel->reported == channel->received)
        return;
    channel->reported = channel->received;
    mt_shm_hook(endpoint);
    /* Pair with the acquire loads in refresh(). */
    atomic_store_explicit(&channel->credit->slice, channel->slice_tail, memory_order_release);
    atomic_store_explicit(&channel->credit->frames, channel->received, memory_order_release);
    mt_shm_ring(endpoint, peer);
}

static void violation(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer, const char *what)
{
    peer->state = MT_SHM_LOST;
    peer->failure = MANTA_ETRANSPORT;
    mt_messages_fail(endpoint->messages, peer->rank, MT_MESSAGE_BOTH, MANTA_ETRANSPORT, 0,
                     "rank %u has written nonsense into its shared memory (%s)", peer->rank, what);
}

/* Where the payload lies, checked; NULL: nonsense. */
static const uint8_t *locate(const struct mt_shm_endpoint *endpoint, struct mt_shm_channel *channel,
                             const struct mt_shm_line *line, uint32_t part)
{
    uint64_t slice_bytes = endpoint->identity.geometry.slice_bytes;
    uint64_t start;
    if (part <= MT_SHM_FRAME_INLINE)
        return line->payload;
    memcpy(&start, line->payload, sizeof(start));
    if (part > slice_bytes || start != slice_start(channel->slice_tail, line_up(part), slice_bytes))
        return NULL;
    if (channel->slice_tail == 0)
        mt_shm_populate(channel->peer_slice, slice_bytes, 0);
    channel->slice_tail = start + line_up(part);
    return channel->peer_slice + start % slice_bytes;
}

static int fields_fit(const struct mt_frame *frame)
{
    if (frame->type == MT_FRAME_EAGER || frame->type == MT_FRAME_DATA)
        return frame->part <= frame->bytes;
    return frame->part == 0 && frame->type >= MT_FRAME_EAGER && frame->type <= MT_FRAME_HAVE;
}

/* A copy of the line, and the frame it carries. */
static struct mt_frame read_frame(const struct mt_shm_endpoint *endpoint,
                                  const struct mt_shm_line *line, struct mt_shm_line *copy_out)
{
    const size_t flag_bytes = sizeof(line->flag);
    memcpy((char *)copy_out + flag_bytes, (const char *)line + flag_bytes,
           sizeof(*line) - flag_bytes);
    return (struct mt_frame){.type = copy_out->type,
                             .part = copy_out->part,
                             .bytes = copy_out->bytes,
                             .id = {.call = copy_out->call,
                                    .epoch = endpoint->epoch,
                                    .segment = copy_out->segment,
                                    .number = copy_out->number,
                                    .hash = copy_out->hash}};
}

/* The next frame, if it is there: 1, 0, or a negative code when the peer is lost. */
static int take(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    struct mt_shm_channel *channel = peer->channel;
    const struct mt_shm_line *line =
        &channel->peer_lines[channel->received & (channel->frames - 1)];
    /* Pairs with the release store in publish(). */
    uint64_t flag = atomic_load_explicit(&line->flag, memory_order_acquire);
    if (flag <= channel->received)
        return 0;
    if (flag != channel->received + 1) {
        violation(endpoint, peer, "frame number");
        return MANTA_ETRANSPORT;
    }
    mt_shm_hook(endpoint);
    struct mt_shm_line read_once;
    const struct mt_frame frame = read_frame(endpoint, line, &read_once);
    if (!fields_fit(&frame)) {
        violation(endpoint, peer, "frame");
        return MANTA_ETRANSPORT;
    }
    const uint8_t *payload = locate(endpoint, channel, &read_once, frame.part);
    if (payload == NULL) {
        violation(endpoint, peer, "position");
        return MANTA_ETRANSPORT;
    }
    int code = mt_messages_whole(endpoint->messages, peer->rank, &frame, payload);
    if (code != 0) {
        peer->state = MT_SHM_LOST;
        return peer->failure = code;
    }
    channel->received++;
    if (frame.part > MT_SHM_FRAME_INLINE ||
        channel->received - channel->reported >= channel->frames / 4)
        report(endpoint, peer);
    return 1;
}

int mt_shm_channel_progress(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    struct mt_shm_channel *channel = peer->channel;
    int happened = 0;
    for (int i = 0; i < FRAMES; i++) {
        int code = take(endpoint, peer);
        if (code < 0)
            return 1;
        if (code == 0)
            break;
        happened = 1;
    }
    if (!channel->blocked)
        return happened;
    if (!refresh(channel)) {
        violation(endpoint, peer, "credit");
        return 1;
    }
    channel->blocked = 0;
    return happened | mt_messages_writable(endpoint->messages, peer->rank);
}
