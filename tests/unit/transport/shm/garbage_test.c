/* SPDX-License-Identifier: Apache-2.0 */
/* A rank whose shared memory holds nonsense: its peers get errors that name it, never a crash, a
 * hang of progress, or a write outside of the posted buffers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/transport/shm/world.h"
#include "transport/shm/channel.h"
#include "transport/shm/team.h"

enum { BYTES = 300000, GUARD = 4096 };

static struct manta_plan_fused_member both[2] = {{0, 0, 1, 0, 1}, {1, 0, 1, 0, 1}};

static int post(struct world *world, uint32_t rank, uint32_t collective, uint64_t bytes,
                uint64_t call_number, uint8_t *buffer, struct manta_transport_request *request)
{
    static uint64_t offsets[2];
    static struct manta_plan_fused fused;
    offsets[1] = bytes;
    fused = (struct manta_plan_fused){.collective = collective,
                                      .root = collective == MANTA_BROADCAST ? 1 : MANTA_PLAN_NONE,
                                      .member_count = 2,
                                      .order = MANTA_PLAN_ORDER_BINARY,
                                      .members = both};
    struct manta_transport_fused_call call = {.id = {.call = call_number, .epoch = 7},
                                              .fused = &fused,
                                              .src = buffer,
                                              .dst = buffer,
                                              .count = bytes,
                                              .dtype = MANTA_UINT8,
                                              .op = MANTA_SUM,
                                              .block_offsets = offsets,
                                              .blocks = 1};
    return mt_transport_shm.fused_post(world->endpoints[rank], &call, request);
}

static void progress(struct world *world, int times)
{
    for (int i = 0; i < times; i++)
        mt_transport_shm.progress(world->endpoints[0]);
}

static void assert_names_rank_one(struct world *world, int status)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    mt_transport_shm.error(world->endpoints[0], &error);
    assert_int_equal(status, MANTA_ETRANSPORT);
    assert_int_equal(error.code, MANTA_ETRANSPORT);
    assert_int_equal(error.peer, 1);
    assert_non_null(strstr(error.sentence, "rank 1"));
}

static uint8_t *lines_of(struct mt_shm_endpoint *endpoint)
{
    return endpoint->base + endpoint->identity.geometry.team_at;
}

/* A flag from the future. */
static void test_flag(void **state)
{
    struct world world;
    struct manta_transport_request request;
    uint8_t buffer[8] = {0};
    (void)state;
    assert_int_equal(world_open(&world, 2), 0);
    uint64_t flag = UINT64_C(1000) << 20;
    memcpy(lines_of(world.endpoints[1]) + MT_SHM_LINE + mt_shm_entry_at(0), &flag, sizeof(flag));
    assert_int_equal(post(&world, 0, MANTA_ALLREDUCE, 8, 1, buffer, &request), 0);
    progress(&world, 10);
    assert_names_rank_one(&world, request.status);
    world_close(&world);
}

/* A true flag whose position points out of the ring. */
static void test_position(void **state)
{
    static const uint64_t positions[] = {UINT64_MAX, 2 << 20, (2 << 20) - 64, UINT64_C(1) << 63,
                                         (2 << 20) - 32768};
    uint8_t *buffer = calloc(1, BYTES);
    (void)state;
    for (size_t i = 0; i < sizeof(positions) / sizeof(positions[0]); i++) {
        struct world world;
        struct manta_transport_request mine, its;
        assert_int_equal(world_open(&world, 2), 0);
        assert_int_equal(post(&world, 1, MANTA_BROADCAST, BYTES, 1, buffer, &its), 0);
        memcpy(lines_of(world.endpoints[1]) + MT_SHM_LINE + mt_shm_entry_at(0) + 8, &positions[i],
               8);
        assert_int_equal(post(&world, 0, MANTA_BROADCAST, BYTES, 1, buffer, &mine), 0);
        progress(&world, 10);
        assert_names_rank_one(&world, mine.status);
        world_close(&world);
    }
    free(buffer);
}

/* Credit for what was never published. */
static void test_credit(void **state)
{
    struct world world;
    struct manta_transport_request request = {0};
    uint8_t buffer[8] = {0};
    (void)state;
    assert_int_equal(world_open(&world, 2), 0);
    uint64_t done = UINT64_C(100000) << 20;
    memcpy(lines_of(world.endpoints[1]), &done, sizeof(done));
    both[0] = (struct manta_plan_fused_member){0, 0, 1, 0, 1};
    int code = 0;
    struct manta_plan_fused fused = {MANTA_BROADCAST, 0, 2, MANTA_PLAN_ORDER_BINARY, both};
    const uint64_t offsets[2] = {0, 8};
    for (uint64_t call_number = 1; call_number < 100 && code == 0; call_number++) {
        struct manta_transport_fused_call call = {.id = {.call = call_number, .epoch = 7},
                                                  .fused = &fused,
                                                  .dst = buffer,
                                                  .count = 8,
                                                  .dtype = MANTA_UINT8,
                                                  .block_offsets = offsets,
                                                  .blocks = 1};
        code = mt_transport_shm.fused_post(world.endpoints[0], &call, &request);
        if (code == 0 && request.status != 0)
            code = request.status;
    }
    assert_names_rank_one(&world, code);
    world_close(&world);
}

/* Random bytes over everything that the protocol reads, while calls and messages are under way. */
static void scribble(struct mt_shm_endpoint *endpoint, uint64_t *random)
{
    const struct mt_shm_geometry *g = &endpoint->identity.geometry;
    uint64_t at = world_random(random) % 2 ? g->team_at : g->channel_at;
    uint64_t length = at == g->team_at ? g->team_stride : 2 * g->channel_stride;
    for (uint64_t i = 1 + world_random(random) % 40; i > 0; i--) {
        uint64_t value = world_random(random);
        uint64_t bits = world_random(random) % 64;
        value >>= bits;
        uint64_t where = at + world_random(random) % (length / 8) * 8;
        memcpy(endpoint->base + where, &value, sizeof(value));
    }
}

static void scribble_once(uint64_t seed)
{
    struct world world;
    struct manta_transport_request fused[2], messages[4];
    uint64_t random = seed;
    uint8_t *memory = malloc(BYTES + 2 * GUARD);
    uint8_t *other = calloc(1, BYTES);
    memset(memory, 0x5a, BYTES + 2 * GUARD);
    memset(fused, 0, sizeof(fused));
    memset(messages, 0, sizeof(messages));
    assert_int_equal(world_open(&world, 2), 0);
    uint64_t bytes = world_random(&random) % 2 ? 300 : BYTES / 2;
    uint32_t collective = world_random(&random) % 2 ? MANTA_ALLREDUCE : MANTA_BROADCAST;
    post(&world, 0, collective, bytes, 1, memory + GUARD, &fused[0]);
    post(&world, 1, collective, bytes, 1, other, &fused[1]);
    for (uint32_t i = 0; i < 4; i++) {
        struct manta_transport_buffer buffer = {.address =
                                                    i % 2 ? other : memory + GUARD + BYTES / 2,
                                                .bytes = i < 2 ? 100 : BYTES / 2};
        const struct manta_transport_message message = {.id = {.call = i / 2, .epoch = 7},
                                                        .peer = !(i % 2),
                                                        .buffer_count = 1,
                                                        .buffers = &buffer,
                                                        .bytes = buffer.bytes};
        if (i % 2)
            mt_transport_shm.send(world.endpoints[1], &message, &messages[i]);
        else
            mt_transport_shm.recv(world.endpoints[0], &message, &messages[i]);
    }
    for (int round = 0; round < 20; round++) {
        mt_transport_shm.progress(world.endpoints[1]);
        scribble(world.endpoints[1], &random);
        progress(&world, 3);
    }
    for (uint32_t i = 0; i < GUARD; i++) {
        assert_int_equal(memory[i], 0x5a);
        assert_int_equal(memory[GUARD + BYTES + i], 0x5a);
    }
    world_close(&world);
    free(memory);
    free(other);
}

static void test_scribbled(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++)
        scribble_once(seed * 7919);
}

/* Frames that no honest sender writes: each is a violation by rank 1. */
static void test_frames(void **state)
{
    static const struct mt_shm_line bad[] = {
        {.type = 99, .bytes = 4, .part = 4},
        {.type = MT_FRAME_EAGER, .bytes = 4, .part = 5},
        {.type = MT_FRAME_EAGER, .bytes = UINT64_MAX, .part = UINT32_MAX},
        {.type = MT_FRAME_DATA, .bytes = 100, .part = 10},
        {.type = MT_FRAME_RTS, .bytes = 100, .part = 10},
        {.type = MT_FRAME_CREDIT, .bytes = 1 << 30, .part = 0},
        {.type = MT_FRAME_EAGER, .bytes = 8000, .part = 8000, .payload = {1}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct world world;
        struct manta_transport_request request;
        uint8_t target[16];
        assert_int_equal(world_open(&world, 2), 0);
        struct manta_transport_buffer buffer = {.address = target, .bytes = sizeof(target)};
        const struct manta_transport_message message = {.id = {.call = 5, .epoch = 7},
                                                        .peer = 1,
                                                        .buffer_count = 1,
                                                        .buffers = &buffer,
                                                        .bytes = sizeof(target)};
        assert_int_equal(mt_transport_shm.recv(world.endpoints[0], &message, &request), 0);
        struct mt_shm_line *line = world.endpoints[1]->peers[0].channel->lines;
        for (uint32_t n = 0; n < 2; n++) { /* the first may be RTR's; whatever was there goes */
            uint64_t flag = n + 1;
            memcpy((char *)&line[n] + 8, (const char *)&bad[i] + 8, sizeof(*line) - 8);
            memcpy(&line[n], &flag, sizeof(flag));
        }
        progress(&world, 10);
        assert_names_rank_one(&world, request.status);
        assert_int_equal(mt_transport_shm.peer_status(world.endpoints[0], 1), MANTA_ETRANSPORT);
        world_close(&world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flag),   cmocka_unit_test(test_position),
        cmocka_unit_test(test_credit), cmocka_unit_test(test_scribbled),
        cmocka_unit_test(test_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
