/* SPDX-License-Identifier: Apache-2.0 */
/* The message protocol over a wire in memory: two ranks in one thread, so that every interleaving
 * of posts, room on the wire and arrivals can be drawn at random and repeated by its seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transport/message.h"

enum { EPOCH = 77, EAGER = 3000, WINDOW = 16384, PIPE = 1 << 22, HASH = 0xabcd };

/* A stream of bytes from one rank to the other. */
struct pipe {
    uint8_t *bytes;
    size_t begin, end;
    size_t room;         /* the wire refuses frames beyond this */
    uint64_t frame_part; /* payload of the frame under way that is still to be delivered */
};

struct end {
    struct mt_messages *messages;
    struct pipe pipes[2]; /* arriving: [1] forward frames, [0] answers */
    struct world *world;
    uint32_t rank;
    unsigned forward_frames[8];
};

struct world {
    struct end ends[2];
    uint64_t random;
    uint64_t fragment; /* longest part of DATA */
    int lazy;          /* the wire needs progress to get some frames out */
};

static uint64_t draw(struct world *world, uint64_t below)
{
    world->random ^= world->random << 13;
    world->random ^= world->random >> 7;
    world->random ^= world->random << 17;
    return (world->random >> 11) % below;
}

static void append(struct pipe *pipe, const void *bytes, size_t count)
{
    assert_true(pipe->end + count <= PIPE);
    if (count > 0)
        memcpy(pipe->bytes + pipe->end, bytes, count);
    pipe->end += count;
}

static int has_room(const struct pipe *pipe, size_t bytes)
{
    return pipe->end - pipe->begin + bytes <= pipe->room;
}

static void append_frame(struct pipe *pipe, const struct mt_frame *frame)
{
    uint8_t header[MT_FRAME_BYTES];
    if (pipe->begin == pipe->end)
        pipe->begin = pipe->end = 0;
    if (pipe->begin > PIPE / 2) {
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
    struct end *end = wire;
    struct pipe *pipe = &end->world->ends[peer].pipes[mt_frame_is_forward(frame->type)];
    if (!has_room(pipe, MT_FRAME_BYTES + frame->part))
        return MANTA_EAGAIN;
    end->forward_frames[frame->type]++;
    append_frame(pipe, frame);
    for (uint32_t i = 0; i < pieces; i++)
        append(pipe, payload[i].iov_base, payload[i].iov_len);
    return end->world->lazy && draw(end->world, 2) ? MANTA_INPROGRESS : 0;
}

static int wire_data(void *wire, uint32_t peer, const struct mt_frame *frame,
                     const struct iovec *payload, uint32_t pieces, uint64_t done,
                     uint64_t *accepted_out)
{
    struct end *end = wire;
    struct pipe *pipe = &end->world->ends[peer].pipes[1];
    struct mt_frame part = *frame;
    uint64_t left = frame->bytes - done;
    uint64_t limit = 1 + draw(end->world, end->world->fragment);
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

static struct world *world_create(uint64_t seed, size_t room)
{
    struct world *world = calloc(1, sizeof(*world));
    world->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    world->fragment = 5000;
    for (uint32_t rank = 0; rank < 2; rank++) {
        struct end *end = &world->ends[rank];
        struct mt_message_settings settings = {.transport = "test",
                                               .host = &host,
                                               .rank = rank,
                                               .ranks = 2,
                                               .epoch = EPOCH,
                                               .eager_bytes = EAGER,
                                               .window_bytes = WINDOW,
                                               .wire = &wire,
                                               .wire_arg = end};
        end->world = world;
        end->rank = rank;
        assert_int_equal(mt_messages_create(&settings, &end->messages), 0);
        assert_int_equal(mt_messages_open(end->messages, !rank), 0);
        for (int i = 0; i < 2; i++) {
            end->pipes[i].bytes = malloc(PIPE);
            end->pipes[i].room = room;
        }
    }
    return world;
}

static void world_destroy(struct world *world)
{
    for (int rank = 0; rank < 2; rank++) {
        mt_messages_destroy(world->ends[rank].messages);
        for (int i = 0; i < 2; i++)
            free(world->ends[rank].pipes[i].bytes);
    }
    free(world);
}

/* Take some bytes from an arriving pipe; 1 if there were any. */
static int pump_pipe(struct world *world, struct end *end, int forward)
{
    struct pipe *pipe = &end->pipes[forward];
    size_t there = pipe->end - pipe->begin;
    const uint8_t *bytes = pipe->bytes + pipe->begin;
    if (there == 0)
        return 0;
    uint64_t lacking = forward ? mt_messages_lacking(end->messages, !end->rank) : 0;
    if (lacking > 0) {
        uint64_t most = there < lacking ? there : lacking;
        uint64_t take = 1 + draw(world, most);
        mt_messages_deliver(end->messages, !end->rank, bytes, take);
        pipe->begin += take;
        return 1;
    }
    struct mt_frame frame;
    assert_true(there >= MT_FRAME_BYTES);
    assert_int_equal(mt_frame_decode(bytes, &frame), 0);
    pipe->begin += MT_FRAME_BYTES;
    assert_int_equal(mt_messages_begin(end->messages, !end->rank, &frame), 0);
    return 1;
}

static int pump_some(struct world *world)
{
    struct end *end = &world->ends[draw(world, 2)];
    int moved = pump_pipe(world, end, (int)draw(world, 2));
    mt_messages_flushed(end->messages, !end->rank);
    return moved | mt_messages_writable(end->messages, !end->rank);
}

static void pump_all(struct world *world)
{
    for (int idle = 0; idle < 64;)
        idle = pump_some(world) ? 0 : idle + 1;
}

/* One message of a test, both ends of it. */
struct letter {
    struct manta_transport_id id;
    uint32_t from;
    uint64_t bytes;
    uint8_t *source, *target;
    struct manta_transport_request send, recv;
    int sent, received; /* posted */
};

static void letter_init(struct letter *letter, uint64_t call, uint32_t number, uint32_t from,
                        uint64_t bytes)
{
    memset(letter, 0, sizeof(*letter));
    letter->id = (struct manta_transport_id){
        .call = call, .epoch = EPOCH, .segment = number % 3, .number = number, .hash = HASH};
    letter->from = from;
    letter->bytes = bytes;
    letter->source = malloc(bytes + 1);
    letter->target = malloc(bytes + 1);
    for (uint64_t i = 0; i < bytes; i++)
        letter->source[i] = (uint8_t)(i * 7 + call * 31 + number);
    memset(letter->target, 0xee, bytes + 1);
}

static void letter_free(struct letter *letter)
{
    free(letter->source);
    free(letter->target);
}

/* Cut memory into up to 8 pieces, some empty. */
static uint32_t cut(struct world *world, uint8_t *memory, uint64_t bytes,
                    struct manta_transport_buffer *buffers)
{
    uint32_t count = 1 + (uint32_t)draw(world, 8);
    memset(buffers, 0, 8 * sizeof(*buffers));
    for (uint32_t i = 0; i < count; i++) {
        buffers[i].address = memory;
        buffers[i].bytes = i + 1 == count ? bytes : draw(world, bytes + 1);
        memory += buffers[i].bytes;
        bytes -= buffers[i].bytes;
    }
    return count;
}

static int post(struct world *world, struct letter *letter, int receive)
{
    struct manta_transport_buffer buffers[8];
    struct manta_transport_message message = {.id = letter->id,
                                              .peer = receive ? letter->from : !letter->from,
                                              .buffers = buffers,
                                              .bytes = letter->bytes};
    message.buffer_count =
        cut(world, receive ? letter->target : letter->source, letter->bytes, buffers);
    if (receive) {
        letter->received = 1;
        return mt_messages_recv(world->ends[!letter->from].messages, &message, &letter->recv);
    }
    letter->sent = 1;
    return mt_messages_send(world->ends[letter->from].messages, &message, &letter->send);
}

static void assert_delivered(const struct letter *letter)
{
    assert_int_equal(letter->send.status, 0);
    assert_int_equal(letter->recv.status, 0);
    if (letter->bytes > 0)
        assert_memory_equal(letter->source, letter->target, letter->bytes);
    assert_int_equal(letter->target[letter->bytes], 0xee);
}

static uint64_t draw_bytes(struct world *world)
{
    static const uint64_t special[] = {0,         1,     39,   40,   511,   512,      513,
                                       EAGER - 1, EAGER, 1024, 4096, 20000, EAGER + 1};
    if (draw(world, 2))
        return special[draw(world, sizeof(special) / sizeof(special[0]))];
    return draw(world, 2) ? draw(world, EAGER) : draw(world, 30000);
}

static void shuffle(struct world *world, uint32_t *order, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t j = (uint32_t)draw(world, i + 1);
        uint32_t keep = order[i];
        order[i] = order[j];
        order[j] = keep;
    }
}

/* Sends and receives of `count` letters in two random orders, mixed with arrivals. */
static void run_random(uint64_t seed, uint32_t count)
{
    static const size_t rooms[] = {4000, 8000, 40000, 1000000};
    struct world *world = world_create(seed, rooms[seed % 4]);
    struct letter *letters = calloc(count, sizeof(*letters));
    uint32_t *order[2] = {malloc(count * sizeof(uint32_t)), malloc(count * sizeof(uint32_t))};
    uint32_t next[2] = {0, 0};
    world->fragment = 3900;
    world->lazy = seed % 3 == 0;
    for (uint32_t i = 0; i < count; i++)
        letter_init(&letters[i], i / 5, i, (uint32_t)draw(world, 2), draw_bytes(world));
    shuffle(world, order[0], count);
    shuffle(world, order[1], count);
    uint64_t bias = 1 + draw(world, 9);
    while (next[0] < count || next[1] < count) {
        int receive = draw(world, 10) < bias;
        if (draw(world, 3) == 0 && next[receive] < count)
            assert_int_equal(post(world, &letters[order[receive][next[receive]++]], receive), 0);
        pump_some(world);
    }
    pump_all(world);
    for (uint32_t i = 0; i < count; i++) {
        assert_delivered(&letters[i]);
        letter_free(&letters[i]);
    }
    free(order[0]);
    free(order[1]);
    free(letters);
    world_destroy(world);
}

static void test_random_orders(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++)
        run_random(seed, 60);
}

/* A pair posts what matches at once, whatever else lies around: rendezvous as plans assume it. */
static void assert_pair_meets(struct world *world, uint64_t bytes)
{
    for (uint32_t from = 0; from < 2; from++) {
        struct letter letter;
        letter_init(&letter, 900000 + bytes, from, from, bytes);
        assert_int_equal(post(world, &letter, 1), 0);
        assert_int_equal(post(world, &letter, 0), 0);
        pump_all(world);
        assert_delivered(&letter);
        letter_free(&letter);
    }
}

/* Far more is posted on one side than there is credit, window or announcements. */
static void run_one_sided(uint64_t bytes, int receive_first)
{
    enum { COUNT = 700 };
    struct world *world = world_create(5 + bytes, 100000);
    struct letter *letters = calloc(COUNT, sizeof(*letters));
    for (uint32_t i = 0; i < COUNT; i++) {
        letter_init(&letters[i], i, 0, 0, bytes);
        assert_int_equal(post(world, &letters[i], receive_first), 0);
    }
    pump_all(world);
    assert_pair_meets(world, 0);
    assert_pair_meets(world, EAGER);
    assert_pair_meets(world, 20000);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(post(world, &letters[COUNT - 1 - i], !receive_first), 0);
        if (i % 7 == 0)
            pump_all(world);
    }
    pump_all(world);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_delivered(&letters[i]);
        letter_free(&letters[i]);
    }
    free(letters);
    world_destroy(world);
}

static void test_one_side_far_ahead(void **state)
{
    static const uint64_t sizes[] = {0, 600, EAGER, EAGER + 1, 9000};
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        run_one_sided(sizes[i], 0);
        run_one_sided(sizes[i], 1);
    }
}

/* Which frames a message costs: an early receive saves the sender's announcement. */
static void test_frames_used(void **state)
{
    struct world *world = world_create(1, 1000000);
    struct letter small, large;
    (void)state;
    letter_init(&small, 1, 0, 0, EAGER);
    letter_init(&large, 2, 0, 0, EAGER + 1);
    assert_int_equal(post(world, &small, 0), 0);
    assert_int_equal(small.send.status, 0);
    assert_int_equal(post(world, &large, 0), 0);
    assert_int_equal(large.send.status, MANTA_INPROGRESS);
    assert_int_equal(post(world, &small, 1), 0);
    assert_int_equal(post(world, &large, 1), 0);
    pump_all(world);
    assert_delivered(&small);
    assert_delivered(&large);
    assert_int_equal(world->ends[0].forward_frames[MT_FRAME_EAGER], 1);
    assert_int_equal(world->ends[0].forward_frames[MT_FRAME_RTS], 0);
    assert_int_equal(world->ends[1].forward_frames[MT_FRAME_RTR], 1);
    letter_free(&small);
    letter_free(&large);
    world_destroy(world);
}

/* The same message again, after the first was complete: it vanishes, and costs no credit. */
static void test_duplicates_vanish(void **state)
{
    static const uint64_t sizes[] = {0, 100, EAGER, 9000};
    struct world *world = world_create(3, 1000000);
    (void)state;
    for (uint32_t round = 0; round < 200; round++) {
        struct letter letter;
        letter_init(&letter, round, 1, 0, sizes[round % 4]);
        if (round % 3 == 0)
            assert_int_equal(post(world, &letter, 1), 0);
        assert_int_equal(post(world, &letter, 0), 0);
        pump_all(world);
        if (round % 3 != 0)
            assert_int_equal(post(world, &letter, 1), 0);
        pump_all(world);
        assert_delivered(&letter);
        memset(letter.target, 0xee, letter.bytes);
        if (letter.bytes <= EAGER) {
            assert_int_equal(post(world, &letter, 0), 0);
            pump_all(world);
            assert_int_equal(letter.send.status, 0);
            for (uint64_t i = 0; i <= letter.bytes; i++)
                assert_int_equal(letter.target[i], 0xee);
        }
        letter_free(&letter);
    }
    world_destroy(world);
}

/* A duplicate that has to be announced, for want of credit: the peer says that it has it. */
static void test_announced_duplicate(void **state)
{
    enum { COUNT = 40 };
    struct world *world = world_create(3, 1000000);
    struct letter first, crowd[COUNT];
    (void)state;
    letter_init(&first, 1000, 1, 0, 600);
    assert_int_equal(post(world, &first, 0), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        letter_init(&crowd[i], i, 1, 0, 600);
        assert_int_equal(post(world, &crowd[i], 0), 0);
    }
    pump_all(world);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(post(world, &first, 0), 0);
        assert_int_equal(first.send.status, MANTA_INPROGRESS);
        world->ends[0].pipes[0].room = i == 0 ? 1000000 : 0;
        pump_all(world);
        world->ends[0].pipes[0].room = 1000000;
        pump_all(world);
        assert_int_equal(first.send.status, 0);
        assert_int_equal(world->ends[1].forward_frames[MT_FRAME_HAVE], i + 1);
    }
    assert_int_equal(post(world, &first, 1), 0);
    assert_delivered(&first);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(post(world, &crowd[i], 1), 0);
        pump_all(world);
        assert_delivered(&crowd[i]);
        letter_free(&crowd[i]);
    }
    letter_free(&first);
    world_destroy(world);
}

/* One side calls with another hash, another length, or another shape under the same sequence. */
static void run_mismatch(uint64_t bytes, int receive_first, int kind)
{
    struct world *world = world_create(9, 1000000);
    struct letter sender, receiver;
    letter_init(&sender, 4, 1, 0, bytes);
    letter_init(&receiver, 4, 1, 0, kind == 1 ? bytes + 1 : bytes);
    if (kind != 1)
        receiver.id.hash ^= 1;
    if (kind == 2)
        receiver.id.number += 5;
    if (receive_first)
        assert_int_equal(post(world, &receiver, 1), 0);
    pump_all(world);
    assert_int_equal(post(world, &sender, 0), 0);
    pump_all(world);
    if (!receive_first)
        assert_int_equal(post(world, &receiver, 1), 0);
    pump_all(world);
    int told = receiver.recv.status == MANTA_EMISMATCH || sender.send.status == MANTA_EMISMATCH;
    assert_true(told);
    if (receiver.recv.status == MANTA_EMISMATCH)
        assert_int_equal(receiver.recv.peer, 0);
    if (sender.send.status == MANTA_EMISMATCH)
        assert_int_equal(sender.send.peer, 1);
    for (uint64_t i = 0; i <= receiver.bytes; i++)
        assert_int_equal(receiver.target[i], 0xee);
    assert_pair_meets(world, 100);
    mt_messages_abort(world->ends[0].messages, MANTA_EABORTED);
    mt_messages_abort(world->ends[1].messages, MANTA_EABORTED);
    letter_free(&sender);
    letter_free(&receiver);
    world_destroy(world);
}

static void test_mismatches_are_told(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        for (int first = 0; first < 2; first++) {
            run_mismatch(0, first, kind);
            run_mismatch(200, first, kind);
            run_mismatch(9000, first, kind);
        }
    }
}

static void test_other_epochs_are_dropped(void **state)
{
    struct world *world = world_create(9, 1000000);
    struct letter old, current;
    (void)state;
    letter_init(&old, 4, 1, 0, 100);
    letter_init(&current, 4, 1, 0, 100);
    old.id.epoch = EPOCH - 1;
    memset(old.source, 1, 100);
    assert_int_equal(post(world, &current, 1), 0);
    assert_int_equal(post(world, &old, 0), 0);
    pump_all(world);
    assert_int_equal(current.recv.status, MANTA_INPROGRESS);
    assert_int_equal(post(world, &current, 0), 0);
    pump_all(world);
    assert_delivered(&current);
    letter_free(&old);
    letter_free(&current);
    world_destroy(world);
}

/* Abort in the middle of everything: nobody touches a buffer afterwards. */
static void test_abort_leaves_buffers(void **state)
{
    enum { COUNT = 40 };
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world *world = world_create(seed, 20000);
        struct letter letters[COUNT];
        uint8_t *copies[COUNT];
        for (uint32_t i = 0; i < COUNT; i++) {
            letter_init(&letters[i], i, i, i % 2, draw_bytes(world));
            assert_int_equal(post(world, &letters[i], (int)draw(world, 2)), 0);
        }
        for (uint32_t i = 0; i < COUNT; i++) {
            if (!letters[i].sent || !letters[i].received)
                assert_int_equal(post(world, &letters[i], letters[i].sent), 0);
            pump_some(world);
        }
        for (uint64_t steps = draw(world, 200); steps > 0; steps--)
            pump_some(world);
        mt_messages_abort(world->ends[0].messages, MANTA_EABORTED);
        mt_messages_abort(world->ends[1].messages, MANTA_EPEER);
        for (uint32_t i = 0; i < COUNT; i++) {
            int code = letters[i].from == 1 ? MANTA_EABORTED : MANTA_EPEER;
            assert_true(letters[i].recv.status == 0 || letters[i].recv.status == code);
            copies[i] = malloc(letters[i].bytes + 1);
            memcpy(copies[i], letters[i].target, letters[i].bytes + 1);
            memset(letters[i].source, 0x11, letters[i].bytes);
        }
        pump_all(world);
        for (uint32_t i = 0; i < COUNT; i++) {
            assert_memory_equal(copies[i], letters[i].target, letters[i].bytes + 1);
            free(copies[i]);
            letter_free(&letters[i]);
        }
        struct letter late;
        letter_init(&late, 100, 1, 0, 10);
        assert_int_equal(post(world, &late, 0), MANTA_EABORTED);
        letter_free(&late);
        world_destroy(world);
    }
}

/* A lost peer fails what waits for it; what had arrived whole can still be received. */
static void test_peer_lost(void **state)
{
    struct world *world = world_create(2, 1000000);
    struct letter arrived, waiting, large, later;
    (void)state;
    letter_init(&arrived, 1, 0, 0, 700);
    letter_init(&waiting, 2, 0, 0, 700);
    letter_init(&large, 3, 0, 1, 9000);
    letter_init(&later, 4, 0, 0, 1);
    assert_int_equal(post(world, &arrived, 0), 0);
    pump_all(world);
    assert_int_equal(post(world, &waiting, 1), 0);
    assert_int_equal(post(world, &large, 0), 0);
    mt_messages_fail(world->ends[1].messages, 0, MT_MESSAGE_RECVS, MANTA_EPEER, 104,
                     "rank %d closed the connection", 0);
    assert_int_equal(waiting.recv.status, MANTA_EPEER);
    assert_int_equal(waiting.recv.peer, 0);
    assert_int_equal(large.send.status, MANTA_INPROGRESS);
    mt_messages_fail(world->ends[1].messages, 0, MT_MESSAGE_SENDS, MANTA_EPEER, 104, "gone");
    assert_int_equal(large.send.status, MANTA_EPEER);
    assert_int_equal(post(world, &arrived, 1), 0);
    assert_delivered(&arrived);
    assert_int_equal(post(world, &later, 1), MANTA_EPEER);
    struct manta_transport_error error = {.size = sizeof(error)};
    mt_messages_error(world->ends[1].messages, &error);
    assert_int_equal(error.code, MANTA_EPEER);
    assert_int_equal(error.peer, 0);
    assert_int_equal(error.system_errno, 104);
    assert_string_equal(error.sentence, "rank 0 closed the connection");
    letter_free(&arrived);
    letter_free(&waiting);
    letter_free(&large);
    letter_free(&later);
    world_destroy(world);
}

static void assert_violation(struct world *world, const struct mt_frame *frame)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    assert_int_equal(mt_messages_begin(world->ends[1].messages, 0, frame), MANTA_ETRANSPORT);
    mt_messages_error(world->ends[1].messages, &error);
    assert_int_equal(error.code, MANTA_ETRANSPORT);
    assert_int_equal(error.peer, 0);
    assert_non_null(strstr(error.sentence, "rank 0 broke the message protocol"));
}

static struct mt_frame frame_make(uint32_t type, uint64_t call, uint32_t part, uint64_t bytes)
{
    return (struct mt_frame){.type = type,
                             .part = part,
                             .bytes = bytes,
                             .id = {.call = call, .epoch = EPOCH, .hash = HASH}};
}

/* Frames that no correct peer sends. */
static void test_violations(void **state)
{
    const struct mt_frame bad[] = {
        frame_make(MT_FRAME_DATA, 1, 100, 100),
        frame_make(MT_FRAME_EAGER, 1, EAGER + 1, EAGER + 1),
        frame_make(MT_FRAME_EAGER, 1, 5, 6),
        frame_make(MT_FRAME_CREDIT, 0, 0, 1),
        frame_make(MT_FRAME_CREDIT, 0, 0, UINT64_MAX),
        frame_make(77, 0, 0, 0),
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct world *world = world_create(2, 1000000);
        struct letter waiting;
        letter_init(&waiting, 9, 0, 0, 10);
        assert_int_equal(post(world, &waiting, 1), 0);
        assert_violation(world, &bad[i]);
        assert_int_equal(waiting.recv.status, MANTA_ETRANSPORT);
        letter_free(&waiting);
        world_destroy(world);
    }
}

/* More of something than the protocol allows. */
static void test_floods(void **state)
{
    static const uint32_t types[] = {MT_FRAME_RTS, MT_FRAME_RTR, MT_FRAME_EAGER};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct world *world = world_create(2, 1000000);
        int code = 0;
        uint64_t n = 0;
        for (; n < 1000 && code == 0; n++) {
            struct mt_frame frame = frame_make(types[i], n, 0, i == 1 ? EAGER + 1 : 0);
            code = mt_messages_begin(world->ends[1].messages, 0, &frame);
        }
        assert_int_equal(code, MANTA_ETRANSPORT);
        assert_true(n <= MT_MESSAGE_ANNOUNCED + 1);
        world_destroy(world);
    }
}

/* Random frames, many of them close to what is expected: never a crash, and nothing beyond a
 * buffer's end. */
static void test_random_frames(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct world *world = world_create(seed, 1000000);
        struct letter letters[10];
        uint8_t payload[EAGER];
        memset(payload, 0x55, sizeof(payload));
        for (uint32_t i = 0; i < 10; i++) {
            letter_init(&letters[i], i, 0, i % 2, draw_bytes(world));
            letters[i].id.segment = 0;
            assert_int_equal(post(world, &letters[i], i % 2 == 0), 0);
        }
        for (int steps = 0; steps < 60; steps++) {
            uint64_t which = draw(world, 10);
            struct mt_frame frame =
                frame_make((uint32_t)draw(world, 8), which, (uint32_t)draw(world, EAGER + 1),
                           draw(world, 2) ? letters[which].bytes : draw(world, 30000));
            if (frame.type == MT_FRAME_EAGER && draw(world, 3))
                frame.bytes = frame.part;
            if (frame.type == MT_FRAME_CREDIT)
                frame.bytes = draw(world, 3);
            if (mt_messages_begin(world->ends[1].messages, 0, &frame) != 0)
                continue;
            mt_messages_deliver(world->ends[1].messages, 0, payload, frame.part);
        }
        for (uint32_t i = 0; i < 10; i++) {
            assert_int_equal(letters[i].target[letters[i].bytes], 0xee);
            letter_free(&letters[i]);
        }
        world_destroy(world);
    }
}

static void test_frame_form(void **state)
{
    struct mt_frame frame = {.type = MT_FRAME_DATA,
                             .part = 0x01020304,
                             .bytes = UINT64_C(0x1122334455667788),
                             .id = {.call = UINT64_C(0x8877665544332211),
                                    .epoch = 5,
                                    .segment = 6,
                                    .number = 7,
                                    .hash = 8}};
    struct mt_frame back;
    uint8_t wire_form[MT_FRAME_BYTES];
    (void)state;
    mt_frame_encode(&frame, wire_form);
    assert_int_equal(mt_frame_decode(wire_form, &back), 0);
    assert_memory_equal(&frame.id, &back.id, sizeof(frame.id));
    assert_int_equal(back.type, frame.type);
    assert_int_equal(back.part, frame.part);
    assert_true(back.bytes == frame.bytes);
    for (int i = 0; i < 4; i++) {
        uint8_t broken[MT_FRAME_BYTES];
        memcpy(broken, wire_form, sizeof(broken));
        broken[i] ^= 0x80;
        assert_int_equal(mt_frame_decode(broken, &back), MANTA_ETRANSPORT);
    }
    frame.bytes = 5;
    mt_frame_encode(&frame, wire_form);
    assert_int_equal(mt_frame_decode(wire_form, &back), MANTA_ETRANSPORT);
}

static void test_bad_arguments(void **state)
{
    struct world *world = world_create(2, 1000000);
    struct manta_transport_buffer buffer = {.address = world, .bytes = 8};
    struct manta_transport_message message = {
        .id = {.epoch = EPOCH}, .peer = 0, .buffers = &buffer, .buffer_count = 1, .bytes = 8};
    struct manta_transport_request request;
    (void)state;
    assert_int_equal(mt_messages_send(world->ends[0].messages, &message, &request), MANTA_EINVAL);
    message.peer = 2;
    assert_int_equal(mt_messages_recv(world->ends[0].messages, &message, &request), MANTA_EINVAL);
    message.peer = 1;
    message.bytes = 9;
    assert_int_equal(mt_messages_send(world->ends[0].messages, &message, &request), MANTA_EINVAL);
    message.bytes = 8;
    buffer.memory = MANTA_MEMORY_CUDA;
    assert_int_equal(mt_messages_recv(world->ends[0].messages, &message, &request), MANTA_ENOTSUP);
    message.buffer_count = 9;
    assert_int_equal(mt_messages_recv(world->ends[0].messages, &message, &request), MANTA_EINVAL);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_form),
        cmocka_unit_test(test_frames_used),
        cmocka_unit_test(test_random_orders),
        cmocka_unit_test(test_one_side_far_ahead),
        cmocka_unit_test(test_duplicates_vanish),
        cmocka_unit_test(test_announced_duplicate),
        cmocka_unit_test(test_mismatches_are_told),
        cmocka_unit_test(test_other_epochs_are_dropped),
        cmocka_unit_test(test_abort_leaves_buffers),
        cmocka_unit_test(test_peer_lost),
        cmocka_unit_test(test_violations),
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_random_frames),
        cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
