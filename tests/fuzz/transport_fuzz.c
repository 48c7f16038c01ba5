/* SPDX-License-Identifier: Apache-2.0 */
/* What a peer's frames can do to the message protocol. The input is a script: local posts, room on
 * the wire, and frames, most of them close to what is expected. The sanitizers watch the buffers,
 * which are exactly as long as they say. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "transport/message.h"

enum { EPOCH = 3, EAGER = 1200, WINDOW = 4096, REQUESTS = 64, PAYLOAD = 2048, STREAMS = 3 };

struct script {
    const uint8_t *bytes;
    size_t left;
};

struct posted {
    struct manta_transport_request request;
    uint8_t *memory;
};

static int wire_full;

static uint8_t take(struct script *script)
{
    if (script->left == 0)
        return 0;
    script->left--;
    return *script->bytes++;
}

static int wire_put(void *wire, uint32_t peer, const struct mt_frame *frame,
                    const struct iovec *payload, uint32_t pieces)
{
    uint8_t sum = 0;
    uint64_t bytes = 0;
    (void)peer;
    for (uint32_t i = 0; i < pieces; i++) {
        bytes += payload[i].iov_len;
        for (size_t b = 0; b < payload[i].iov_len; b++)
            sum ^= ((const uint8_t *)payload[i].iov_base)[b];
    }
    *(uint8_t *)wire ^= sum;
    if (bytes != frame->part)
        abort();
    return wire_full & 1 ? MANTA_EAGAIN : wire_full & 2 ? MANTA_INPROGRESS : 0;
}

static int wire_data(void *wire, uint32_t peer, uint32_t stream, const struct mt_frame *frame,
                     const struct iovec *payload, uint32_t pieces, uint64_t limit,
                     uint64_t *accepted_out)
{
    uint64_t bytes = 0;
    (void)wire;
    (void)peer;
    (void)stream;
    for (uint32_t i = 0; i < pieces; i++)
        bytes += payload[i].iov_len;
    if (bytes != frame->bytes || bytes == 0 || limit == 0 || limit > bytes)
        abort();
    *accepted_out = (limit + 1) / 2;
    return wire_full & 1 ? MANTA_EAGAIN : 0;
}

/* A wire that writes: what it offers and what it writes, for the script to end. */
enum { PLACES = 8 };
static struct manta_transport_request *offered[PLACES], *writes[PLACES];

static uint32_t wire_offer(void *wire, uint32_t peer, struct mt_wire_place *place)
{
    (void)wire;
    (void)peer;
    for (uint32_t i = 0; i < PLACES; i++) {
        if (offered[i] != NULL)
            continue;
        offered[i] = place->request;
        memset(place->offer, 7, 9);
        place->offer_bytes = 9;
        return i + 1;
    }
    return 0;
}

static void wire_release(void *wire, uint32_t peer, uint32_t offer)
{
    (void)wire;
    (void)peer;
    if (offer == 0 || offer > PLACES || offered[offer - 1] == NULL)
        abort();
    offered[offer - 1] = NULL;
}

static int wire_write(void *wire, uint32_t peer, const struct mt_wire_place *place)
{
    (void)wire;
    (void)peer;
    if (place->offer_bytes == 0 || place->offer_bytes > MT_FRAME_OFFER_BYTES)
        abort();
    if (wire_full & 1)
        return MANTA_EAGAIN;
    for (uint32_t i = 0; i < PLACES; i++) {
        if (writes[i] != NULL)
            continue;
        writes[i] = place->request;
        return 0;
    }
    return MANTA_ENOTSUP;
}

static int wire_cease(void *wire, uint32_t peer)
{
    (void)wire;
    (void)peer;
    memset(writes, 0, sizeof(writes));
    return wire_full & 2 ? MANTA_EBUFFER : 0;
}

/* One of the things that a writing wire tells. 1 if the peer has failed. */
static int end_write(struct mt_messages *messages, struct script *script)
{
    uint8_t which = take(script);
    struct manta_transport_request **write = &writes[which % PLACES];
    struct manta_transport_request *request = *write;
    if (which & 64)
        return offered[which % PLACES] != NULL &&
               mt_messages_written(messages, 1, offered[which % PLACES]) != 0;
    *write = NULL;
    if (request != NULL && which & 32)
        mt_messages_again(messages, 1, request);
    else if (request != NULL)
        mt_messages_wrote(messages, 1, request);
    return 0;
}

static void *host_alloc(size_t bytes, size_t alignment)
{
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static uint64_t small_bytes(struct script *script)
{
    static const uint64_t sizes[] = {0, 1, 511, 512, 513, EAGER, EAGER + 1, 3000};
    uint8_t byte = take(script);
    return byte < 128 ? sizes[byte % 8] : byte;
}

static struct manta_transport_id small_id(struct script *script)
{
    uint8_t byte = take(script);
    return (struct manta_transport_id){.call = byte & 7,
                                       .epoch = (byte & 0x70) == 0x70 ? EPOCH + 1 : EPOCH,
                                       .number = (byte >> 3) & 1,
                                       .hash = byte >> 7};
}

static void post(struct mt_messages *messages, struct script *script, struct posted *posted,
                 int receive)
{
    uint64_t bytes = small_bytes(script);
    posted->memory = calloc(1, bytes ? bytes : 1);
    struct manta_transport_buffer buffers[2] = {
        {.address = posted->memory, .bytes = bytes / 3},
        {.address = posted->memory + bytes / 3, .bytes = bytes - bytes / 3}};
    struct manta_transport_message message = {
        .id = small_id(script), .peer = 1, .buffer_count = 2, .buffers = buffers, .bytes = bytes};
    if (receive)
        (void)mt_messages_recv(messages, &message, &posted->request);
    else
        (void)mt_messages_send(messages, &message, &posted->request);
}

/* A frame with its payload, and nothing beyond. 1 if the peer has failed. */
static int feed_whole(struct mt_messages *messages, const struct mt_frame *frame)
{
    uint8_t *payload = calloc(1, frame->part);
    if (payload == NULL && frame->part > 0)
        return 1;
    int failed = mt_messages_whole(messages, 1, frame, payload) != 0;
    free(payload);
    return failed;
}

/* A frame: raw bytes as from a stream, or made of small numbers. 1 if the peer has failed. */
static int feed(struct mt_messages *messages, struct script *script, int raw)
{
    static const uint8_t payload[PAYLOAD] = {1, 2, 3};
    struct mt_frame frame = {0};
    uint8_t wire[MT_FRAME_BYTES];
    if (raw) {
        for (int i = 0; i < MT_FRAME_BYTES; i++)
            wire[i] = take(script);
        if (mt_frame_decode(wire, &frame) != 0)
            return 0;
        uint8_t again[MT_FRAME_BYTES];
        mt_frame_encode(&frame, again);
        if (memcmp(wire, again, sizeof(wire)) != 0)
            abort();
    } else {
        frame.type = take(script) % 8;
        frame.id = small_id(script);
        frame.bytes = small_bytes(script);
        if (frame.type == MT_FRAME_RTR && take(script) & 1)
            frame.part = 1 + take(script);
        if (frame.type == MT_FRAME_EAGER || frame.type == MT_FRAME_DATA)
            frame.part = (uint32_t)(take(script) & 1 ? frame.bytes : small_bytes(script));
    }
    if (frame.type == MT_FRAME_RTR && frame.part > 0)
        return mt_messages_asked(messages, 1, &frame, payload) != 0;
    uint32_t stream = frame.type == MT_FRAME_DATA ? frame.id.number % STREAMS : 0;
    if (stream == 0 && frame.part <= PAYLOAD && mt_messages_lacking(messages, 1, 0) == 0 &&
        take(script) & 1)
        return feed_whole(messages, &frame);
    if (mt_messages_begin(messages, 1, stream, &frame) != 0)
        return 1;
    while (mt_messages_lacking(messages, 1, stream) > 0) {
        uint64_t lacking = mt_messages_lacking(messages, 1, stream);
        uint64_t some = 1 + take(script) * 8u;
        if (lacking > 100000)
            return 1; /* the stream ends here */
        mt_messages_deliver(messages, 1, stream, payload, some < lacking ? some : lacking);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static const struct mt_wire wire = {.put = wire_put, .data = wire_data};
    static const struct mt_wire writing = {.put = wire_put,
                                           .data = wire_data,
                                           .offer = wire_offer,
                                           .release = wire_release,
                                           .write = wire_write,
                                           .cease = wire_cease};
    static const struct manta_transport_host host = {
        .size = sizeof(host), .alloc = host_alloc, .free = free};
    static struct posted posted[REQUESTS];
    uint8_t sum = 0;
    struct mt_message_settings settings = {.transport = "fuzz",
                                           .host = &host,
                                           .ranks = 2,
                                           .epoch = EPOCH,
                                           .eager_bytes = EAGER,
                                           .window_bytes = WINDOW,
                                           .stretch_bytes = EAGER,
                                           .wire = count % 4 < 2 ? &wire : &writing,
                                           .wire_arg = &sum};
    struct script script = {bytes, count};
    struct mt_messages *messages;
    size_t used = 0;
    wire_full = 0;
    memset(offered, 0, sizeof(offered));
    memset(writes, 0, sizeof(writes));
    if (mt_messages_create(&settings, &messages) != 0 || mt_messages_open(messages, 1) != 0)
        abort();
    mt_messages_streams(messages, 1, count % 2 ? 1 : STREAMS);
    for (int over = 0; script.left > 0 && !over;) {
        uint8_t action = take(&script) % 16;
        if (action < 4 && used < REQUESTS)
            post(messages, &script, &posted[used++], action & 1);
        else if (action < 13)
            over = feed(messages, &script, action == 12);
        else if (action == 13)
            wire_full = take(&script) & 3;
        else if (action == 14 && count % 4 >= 2)
            over = end_write(messages, &script);
        else if (action == 14)
            mt_messages_flushed(messages, 1);
        else
            (void)mt_messages_writable(messages, 1);
    }
    mt_messages_abort(messages, MANTA_EABORTED);
    for (size_t i = 0; i < used; i++) {
        if (posted[i].request.status == MANTA_INPROGRESS)
            abort();
        free(posted[i].memory);
    }
    mt_messages_destroy(messages);
    return 0;
}
