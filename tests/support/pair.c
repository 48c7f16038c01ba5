/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

uint64_t pair_draw(struct pair *pair, uint64_t below)
{
    pair->random ^= pair->random << 13;
    pair->random ^= pair->random >> 7;
    pair->random ^= pair->random << 17;
    return (pair->random >> 11) % below;
}

static void append(struct pair_pipe *pipe, const void *bytes, size_t count)
{
    assert_true(pipe->end + count <= PAIR_PIPE);
    if (count > 0)
        memcpy(pipe->bytes + pipe->end, bytes, count);
    pipe->end += count;
}

static int has_room(const struct pair_pipe *pipe, size_t bytes)
{
    return pipe->end - pipe->begin + bytes <= pipe->room;
}

static void append_frame(struct pair_pipe *pipe, const struct mt_frame *frame)
{
    uint8_t header[MT_FRAME_BYTES];
    if (pipe->begin == pipe->end)
        pipe->begin = pipe->end = 0;
    if (pipe->begin > PAIR_PIPE / 2) {
        memmove(pipe->bytes, pipe->bytes + pipe->begin, pipe->end - pipe->begin);
        pipe->end -= pipe->begin;
        pipe->begin = 0;
    }
    mt_frame_encode(frame, header);
    append(pipe, header, sizeof(header));
}

static int wire_put(void *wire, uint32_t peer, const struct mt_frame *frame,
                    const struct iovec *payload, uint32_t pieces)
{
    struct pair_end *end = wire;
    struct pair_pipe *pipe = &end->pair->ends[peer].pipes[mt_frame_is_forward(frame->type)];
    if (!has_room(pipe, MT_FRAME_BYTES + frame->part))
        return MANTA_EAGAIN;
    end->forward_frames[frame->type]++;
    append_frame(pipe, frame);
    for (uint32_t i = 0; i < pieces; i++)
        append(pipe, payload[i].iov_base, payload[i].iov_len);
    return end->pair->lazy && pair_draw(end->pair, 2) ? MANTA_INPROGRESS : 0;
}

static int wire_data(void *wire, uint32_t peer, uint32_t stream, const struct mt_frame *frame,
                     const struct iovec *payload, uint32_t pieces, uint64_t left,
                     uint64_t *accepted_out)
{
    struct pair_end *end = wire;
    struct pair_pipe *pipe = &end->pair->ends[peer].pipes[1 + stream];
    struct mt_frame part = *frame;
    uint64_t limit = 1 + pair_draw(end->pair, end->pair->fragment);
    part.part = (uint32_t)(left < limit ? left : limit);
    if (!has_room(pipe, MT_FRAME_BYTES + part.part))
        return MANTA_EAGAIN;
    end->forward_frames[MT_FRAME_DATA]++;
    append_frame(pipe, &part);
    left = part.part;
    for (uint32_t i = 0; i < pieces && left > 0; i++) {
        uint64_t take = payload[i].iov_len < left ? payload[i].iov_len : left;
        append(pipe, payload[i].iov_base, take);
        left -= take;
    }
    assert_true(left == 0);
    *accepted_out = part.part;
    return 0;
}

static const struct mt_wire wire = {.put = wire_put, .data = wire_data};

static void *host_alloc(size_t bytes, size_t alignment)
{
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static const struct manta_transport_host host = {
    .size = sizeof(host), .alloc = host_alloc, .free = free};

struct pair *pair_create(uint64_t seed, size_t room)
{
    struct pair *pair = calloc(1, sizeof(*pair));
    pair->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    pair->fragment = 5000;
    pair->streams = seed % 2 ? PAIR_STREAMS : 1;
    for (uint32_t rank = 0; rank < 2; rank++) {
        struct pair_end *end = &pair->ends[rank];
        struct mt_message_settings settings = {.transport = "test",
                                               .host = &host,
                                               .rank = rank,
                                               .ranks = 2,
                                               .epoch = PAIR_EPOCH,
                                               .eager_bytes = PAIR_EAGER,
                                               .window_bytes = PAIR_WINDOW,
                                               .stretch_bytes = PAIR_STRETCH,
                                               .wire = &wire,
                                               .wire_arg = end};
        end->pair = pair;
        end->rank = rank;
        assert_int_equal(mt_messages_create(&settings, &end->messages), 0);
        assert_int_equal(mt_messages_open(end->messages, !rank), 0);
        mt_messages_streams(end->messages, !rank, pair->streams);
        for (int i = 0; i < 1 + PAIR_STREAMS; i++) {
            end->pipes[i].bytes = malloc(PAIR_PIPE);
            end->pipes[i].room = room;
        }
    }
    return pair;
}

void pair_destroy(struct pair *pair)
{
    for (int rank = 0; rank < 2; rank++) {
        mt_messages_destroy(pair->ends[rank].messages);
        for (int i = 0; i < 1 + PAIR_STREAMS; i++)
            free(pair->ends[rank].pipes[i].bytes);
    }
    free(pair);
}

/* Take some bytes from an arriving pipe; 1 if there were any. */
static int pump_pipe(struct pair *pair, struct pair_end *end, uint32_t which)
{
    struct pair_pipe *pipe = &end->pipes[which];
    uint32_t stream = which > 0 ? which - 1 : 0;
    size_t there = pipe->end - pipe->begin;
    const uint8_t *bytes = pipe->bytes + pipe->begin;
    if (there == 0)
        return 0;
    uint64_t lacking = which > 0 ? mt_messages_lacking(end->messages, !end->rank, stream) : 0;
    if (lacking > 0) {
        uint64_t most = there < lacking ? there : lacking;
        uint64_t take = 1 + pair_draw(pair, most);
        mt_messages_deliver(end->messages, !end->rank, stream, bytes, take);
        pipe->begin += take;
        return 1;
    }
    struct mt_frame frame;
    assert_true(there >= MT_FRAME_BYTES);
    assert_int_equal(mt_frame_decode(bytes, &frame), 0);
    pipe->begin += MT_FRAME_BYTES;
    assert_int_equal(mt_messages_begin(end->messages, !end->rank, stream, &frame), 0);
    return 1;
}

int pair_pump_some(struct pair *pair)
{
    struct pair_end *end = &pair->ends[pair_draw(pair, 2)];
    int moved = pump_pipe(pair, end, (uint32_t)pair_draw(pair, 1 + pair->streams));
    mt_messages_flushed(end->messages, !end->rank);
    return moved | mt_messages_writable(end->messages, !end->rank);
}

void pair_pump_all(struct pair *pair)
{
    for (int idle = 0; idle < 256;)
        idle = pair_pump_some(pair) ? 0 : idle + 1;
}

void letter_init(struct letter *letter, uint64_t call, uint32_t number, uint32_t from,
                 uint64_t bytes)
{
    memset(letter, 0, sizeof(*letter));
    memset(letter->send.transport_private, 0xa5, sizeof(letter->send.transport_private));
    memset(letter->recv.transport_private, 0xa5, sizeof(letter->recv.transport_private));
    letter->id = (struct manta_transport_id){.call = call,
                                             .epoch = PAIR_EPOCH,
                                             .segment = number % 3,
                                             .number = number,
                                             .hash = PAIR_HASH};
    letter->from = from;
    letter->bytes = bytes;
    letter->source = malloc(bytes + 1);
    letter->target = malloc(bytes + 1);
    for (uint64_t i = 0; i < bytes; i++)
        letter->source[i] = (uint8_t)(i * 7 + call * 31 + number);
    memset(letter->target, 0xee, bytes + 1);
}

void letter_free(struct letter *letter)
{
    free(letter->source);
    free(letter->target);
}

/* Cut memory into up to 8 pieces, some empty. */
static uint32_t cut(struct pair *pair, uint8_t *memory, uint64_t bytes,
                    struct manta_transport_buffer *buffers)
{
    uint32_t count = 1 + (uint32_t)pair_draw(pair, 8);
    memset(buffers, 0, 8 * sizeof(*buffers));
    for (uint32_t i = 0; i < count; i++) {
        buffers[i].address = memory;
        buffers[i].bytes = i + 1 == count ? bytes : pair_draw(pair, bytes + 1);
        memory += buffers[i].bytes;
        bytes -= buffers[i].bytes;
    }
    return count;
}

int letter_post(struct pair *pair, struct letter *letter, int receive)
{
    struct manta_transport_buffer buffers[8];
    struct manta_transport_message message = {.id = letter->id,
                                              .peer = receive ? letter->from : !letter->from,
                                              .buffers = buffers,
                                              .bytes = letter->bytes};
    message.buffer_count =
        cut(pair, receive ? letter->target : letter->source, letter->bytes, buffers);
    if (receive) {
        letter->received = 1;
        return mt_messages_recv(pair->ends[!letter->from].messages, &message, &letter->recv);
    }
    letter->sent = 1;
    return mt_messages_send(pair->ends[letter->from].messages, &message, &letter->send);
}

void letter_assert_delivered(const struct letter *letter)
{
    assert_int_equal(letter->send.status, 0);
    assert_int_equal(letter->recv.status, 0);
    if (letter->bytes > 0)
        assert_memory_equal(letter->source, letter->target, letter->bytes);
    assert_int_equal(letter->target[letter->bytes], 0xee);
}

uint64_t pair_draw_bytes(struct pair *pair)
{
    static const uint64_t special[] = {
        0, 1, 39, 40, 511, 512, 513, PAIR_EAGER - 1, PAIR_EAGER, 1024, 4096, 20000, PAIR_EAGER + 1};
    if (pair_draw(pair, 2))
        return special[pair_draw(pair, sizeof(special) / sizeof(special[0]))];
    return pair_draw(pair, 2) ? pair_draw(pair, PAIR_EAGER) : pair_draw(pair, 30000);
}

/* A pair posts what matches at once, whatever else lies around: rendezvous as plans assume it. */
void pair_assert_meets(struct pair *pair, uint64_t bytes)
{
    for (uint32_t from = 0; from < 2; from++) {
        struct letter letter;
        letter_init(&letter, 900000 + bytes, from, from, bytes);
        assert_int_equal(letter_post(pair, &letter, 1), 0);
        assert_int_equal(letter_post(pair, &letter, 0), 0);
        pair_pump_all(pair);
        letter_assert_delivered(&letter);
        letter_free(&letter);
    }
}
