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

/* No address of the CPU has this bit: who reads or writes there dies. */
#define PAIR_DEVICE ((uintptr_t)1 << 62)

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

/* An offer is the number of a place, and how often it was offered. */
static uint32_t wire_offer(void *wire, uint32_t peer, struct mt_wire_place *place)
{
    struct pair_end *end = wire;
    uint32_t at = 0;
    (void)peer;
    while (at < end->pair->places && end->places[at].request != NULL)
        at++;
    place->code = end->offer_code ? end->offer_code : MANTA_EAGAIN;
    if (end->offer_code || at == end->pair->places ||
        (place->is_unasked && end->places_taken >= end->pair->places / 2) ||
        (!place->is_direct && pair_draw(end->pair, 8) == 0))
        return 0;
    end->places_taken++;
    assert_true(place->count <= PAIR_PLACE_PIECES);
    end->places[at].request = place->request;
    end->places[at].count = place->count;
    memcpy(end->places[at].pieces, place->pieces, place->count * sizeof(*place->pieces));
    end->generation[at]++;
    memcpy(place->offer, &at, sizeof(at));
    memcpy(place->offer + sizeof(at), &end->generation[at], sizeof(at));
    place->offer_bytes = 2 * sizeof(at);
    return at + 1;
}

static void wire_release(void *wire, uint32_t peer, uint32_t offer)
{
    struct pair_end *end = wire;
    (void)peer;
    assert_in_range(offer, 1, end->pair->places);
    assert_non_null(end->places[offer - 1].request);
    end->places_taken--;
    end->places[offer - 1].request = NULL;
}

static int wire_write(void *wire, uint32_t peer, const struct mt_wire_place *place)
{
    struct pair_end *end = wire;
    (void)peer;
    uint64_t luck = pair_draw(end->pair, 12);
    uint32_t at = 0;
    while (at < end->pair->places && end->writes[at].request != NULL)
        at++;
    if (luck == 0 && !place->is_direct)
        return MANTA_ENOTSUP;
    if (place->is_direct && end->write_code)
        return end->write_code;
    if (luck == 1 || at == end->pair->places || (end->pair->writes && at >= end->pair->writes))
        return MANTA_EAGAIN;
    struct pair_write *write = &end->writes[at];
    assert_int_equal(place->offer_bytes, 2 * sizeof(at));
    write->request = place->request;
    write->count = place->count;
    memcpy(write->pieces, place->pieces, place->count * sizeof(*place->pieces));
    memcpy(&write->place, place->offer, sizeof(at));
    memcpy(&write->generation, place->offer + sizeof(at), sizeof(at));
    write->landed = 0;
    return 0;
}

/* Both ends forget all writes between them. */
static int wire_cease(void *wire, uint32_t peer)
{
    struct pair_end *end = wire;
    end->ceased++;
    memset(end->writes, 0, sizeof(end->writes));
    memset(end->pair->ends[peer].writes, 0, sizeof(end->writes));
    return end->cease_code;
}

static const struct mt_wire wire = {.put = wire_put, .data = wire_data};
static const struct mt_wire writing_wire = {.put = wire_put,
                                            .data = wire_data,
                                            .offer = wire_offer,
                                            .release = wire_release,
                                            .write = wire_write,
                                            .cease = wire_cease};

/* What a card reaches at an address: that of a device is none to the CPU. */
static uint8_t *reach(const void *address)
{
    return (uint8_t *)((uintptr_t)address & ~PAIR_DEVICE);
}

/* The bytes move, and the receiver is told. */
static void land(struct pair_end *end, struct pair_write *write)
{
    struct pair_end *there = &end->pair->ends[!end->rank];
    struct pair_place *place = &there->places[write->place];
    uint32_t from = 0, to = 0;
    size_t from_at = 0, to_at = 0;
    assert_non_null(place->request);
    assert_int_equal(there->generation[write->place], write->generation);
    while (from < write->count && to < place->count) {
        size_t left = write->pieces[from].iov_len - from_at;
        size_t room = place->pieces[to].iov_len - to_at;
        size_t take = left < room ? left : room;
        memcpy(reach(place->pieces[to].iov_base) + to_at,
               reach(write->pieces[from].iov_base) + from_at, take);
        from_at += take;
        to_at += take;
        if (from_at == write->pieces[from].iov_len) {
            from++;
            from_at = 0;
        }
        if (to_at == place->pieces[to].iov_len) {
            to++;
            to_at = 0;
        }
    }
    write->landed = 1;
    assert_int_equal(mt_messages_written(there->messages, end->rank, place->request), 0);
}

/* One of the writes moves on; 1 if there was one. */
static int pump_write(struct pair *pair, struct pair_end *end)
{
    uint64_t from = pair_draw(pair, pair->places), i = 0;
    while (i < pair->places && end->writes[(from + i) % pair->places].request == NULL)
        i++;
    struct pair_write *write = &end->writes[(from + i) % pair->places];
    struct manta_transport_request *request = write->request;
    if (request == NULL || pair->held)
        return 0;
    int is_lost = pair->lossy && pair_draw(pair, 4) == 0;
    if (!write->landed && !is_lost) {
        land(end, write);
        return 1;
    }
    write->request = NULL;
    if (is_lost) {
        mt_messages_again(end->messages, !end->rank, request);
        return 1;
    }
    end->wrote++;
    mt_messages_wrote(end->messages, !end->rank, request);
    return 1;
}

static void *host_alloc(size_t bytes, size_t alignment)
{
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static const struct manta_transport_host host = {
    .size = sizeof(host), .alloc = host_alloc, .free = free};

static struct pair *create(uint64_t seed, size_t room, const struct mt_wire *with)
{
    struct pair *pair = calloc(1, sizeof(*pair));
    pair->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    pair->fragment = 5000;
    pair->places = PAIR_PLACES;
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
                                               .wire = with,
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

struct pair *pair_create(uint64_t seed, size_t room)
{
    return create(seed, room, &wire);
}

struct pair *pair_create_writing(uint64_t seed, size_t room)
{
    return create(seed, room, &writing_wire);
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
    if (frame.type == MT_FRAME_RTR && frame.part > 0) {
        pipe->begin += frame.part;
        assert_int_equal(
            mt_messages_asked(end->messages, !end->rank, &frame, bytes + MT_FRAME_BYTES), 0);
        return 1;
    }
    if (stream == 0 && there - MT_FRAME_BYTES >= frame.part && pair_draw(pair, 2) == 1) {
        pipe->begin += frame.part;
        assert_int_equal(
            mt_messages_whole(end->messages, !end->rank, &frame, bytes + MT_FRAME_BYTES), 0);
        return 1;
    }
    assert_int_equal(mt_messages_begin(end->messages, !end->rank, stream, &frame), 0);
    return 1;
}

int pair_pump_some(struct pair *pair)
{
    struct pair_end *end = &pair->ends[pair_draw(pair, 2)];
    int moved = pump_pipe(pair, end, (uint32_t)pair_draw(pair, 1 + pair->streams));
    moved |= pump_write(pair, end);
    mt_messages_flushed(end->messages, !end->rank);
    moved = mt_messages_round(end->messages, moved);
    assert_true(moved >= 0);
    return moved | mt_messages_writable(end->messages, !end->rank);
}

void pair_pump_all(struct pair *pair)
{
    for (int idle = 0; idle < 2048;)
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

/* Most pieces lie in memory of a device, at either end. */
static void to_device(struct pair *pair, struct manta_transport_buffer *buffers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (pair_draw(pair, 4) == 0)
            continue;
        buffers[i].address = (void *)((uintptr_t)buffers[i].address | PAIR_DEVICE);
        buffers[i].memory = MANTA_MEMORY_CUDA;
        buffers[i].registration = pair;
    }
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
    if (letter->is_direct) {
        message.flags = MANTA_MESSAGE_DIRECT;
        to_device(pair, buffers, message.buffer_count);
    }
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
static void assert_meets(struct pair *pair, uint64_t bytes, int is_direct)
{
    for (uint32_t from = 0; from < 2; from++) {
        struct letter letter;
        letter_init(&letter, 900000 + bytes, from, from, bytes);
        letter.is_direct = is_direct;
        assert_int_equal(letter_post(pair, &letter, 1), 0);
        assert_int_equal(letter_post(pair, &letter, 0), 0);
        pair_pump_all(pair);
        letter_assert_delivered(&letter);
        letter_free(&letter);
    }
}

void pair_assert_meets(struct pair *pair, uint64_t bytes)
{
    assert_meets(pair, bytes, 0);
}

void pair_assert_meets_direct(struct pair *pair)
{
    assert_meets(pair, 200, 1);
}
