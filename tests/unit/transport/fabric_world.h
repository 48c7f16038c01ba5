/* SPDX-License-Identifier: Apache-2.0 */
/* Two endpoints of the ofi transport over the stand-in for libfabric. */
#ifndef TESTS_UNIT_TRANSPORT_FABRIC_WORLD_H
#define TESTS_UNIT_TRANSPORT_FABRIC_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/fabric.h"
#include "tests/support/traffic.h"
#include "transport/registry.h"

enum { EAGER = MT_OFI_EAGER_BYTES, LONG = 300000, LOOKS = 100000 };
#define WRITES (FI_MSG | FI_RMA | FI_WRITE | FI_REMOTE_WRITE)

/* Two endpoints of one group. */
struct world {
    struct mt_member members[2];
    struct mt_group groups[2];
    struct mt_ofi_endpoint *ends[2];
    struct manta_transport_error error; /* of what could not be opened */
};

static const char *provider, *domain;
static void (*free_instead)(void *memory); /* NULL: what the host has for that */

static inline const char *config(const char *variable)
{
    return strcmp(variable, "OFI_PROVIDER") == 0 ? provider : domain;
}

static inline int open_end(struct world *world, uint32_t rank)
{
    static struct manta_transport_host host;
    host = *mt_transport_host();
    host.config = config;
    if (free_instead != NULL)
        host.free = free_instead;
    world->members[rank] = (struct mt_member){.rank = rank, .node = 1, .boot = 1, .pid = (int)rank};
    world->groups[rank] =
        (struct mt_group){.rank = rank, .ranks = 2, .epoch = 7, .members = world->members};
    const struct manta_transport_open params = {.size = sizeof(params),
                                                .host = &host,
                                                .rank = rank,
                                                .ranks = 2,
                                                .epoch = 7,
                                                .local_ranks = 2,
                                                .timeout_ns = UINT64_C(20000000000),
                                                .group = &world->groups[rank]};
    void *endpoint = NULL;
    world->error = (struct manta_transport_error){.size = sizeof(world->error)};
    int code = mt_transport_ofi.open(&params, &endpoint, &world->error);
    world->ends[rank] = endpoint;
    return code;
}

static inline void know_peers(struct world *world)
{
    uint8_t blobs[2][MANTA_TRANSPORT_ADDRESS_MAX];
    const void *addresses[2] = {blobs[0], blobs[1]};
    size_t bytes[2];
    for (uint32_t r = 0; r < 2; r++)
        assert_int_equal(
            mt_transport_ofi.address(world->ends[r], blobs[r], sizeof(blobs[r]), &bytes[r]), 0);
    for (uint32_t r = 0; r < 2; r++) {
        struct manta_transport_properties properties = {.size = sizeof(properties)};
        assert_int_equal(mt_transport_ofi.peers(world->ends[r], addresses, bytes), 0);
        assert_int_equal(mt_transport_ofi.probe(world->ends[r], !r, &properties), 0);
        assert_int_equal(mt_transport_ofi.connect(world->ends[r], !r, UINT64_MAX), 0);
    }
}

static inline void begin(uint64_t caps)
{
    stand_in_begin();
    provider = domain = "";
    stand_in.offers[0] = (struct stand_in_offer){"efa", "rdmap0s6", NULL, caps};
}

static inline void open_world(struct world *world)
{
    memset(world, 0, sizeof(*world));
    for (uint32_t r = 0; r < 2; r++)
        assert_int_equal(open_end(world, r), 0);
    know_peers(world);
}

/* Everything is given back. */
static inline void close_world(struct world *world)
{
    for (uint32_t r = 0; r < 2; r++)
        mt_transport_ofi.close(world->ends[r]);
    assert_int_equal(stand_in.objects_open, 0);
    assert_int_equal(stand_in.regions_open, 0);
    stand_in_end();
}

static inline struct manta_transport_message
message_of(uint32_t peer, uint64_t call, const struct manta_transport_buffer *buffers,
           uint32_t count)
{
    struct manta_transport_message message = {.id = {.call = call, .epoch = 7, .hash = 1},
                                              .peer = peer,
                                              .buffer_count = count,
                                              .buffers = buffers};
    for (uint32_t i = 0; i < count; i++)
        message.bytes += buffers[i].bytes;
    return message;
}

/* From rank 0 to rank 1. */
static inline int post(struct world *world, int is_send, uint64_t call, void *memory,
                       uint64_t bytes, struct manta_transport_request *request)
{
    const struct manta_transport_buffer buffer = {.address = memory, .bytes = bytes};
    struct manta_transport_message message = message_of(is_send ? 1 : 0, call, &buffer, 1);
    return is_send ? mt_transport_ofi.send(world->ends[0], &message, request)
                   : mt_transport_ofi.recv(world->ends[1], &message, request);
}

/* Until both are done, or nothing has happened for long. 1 if they are. */
static inline int run(struct world *world, const struct manta_transport_request *a,
                      const struct manta_transport_request *b)
{
    for (uint32_t i = 0; i < LOOKS; i++) {
        if (a->status != MANTA_INPROGRESS && b->status != MANTA_INPROGRESS)
            return 1;
        mt_transport_ofi.progress(world->ends[i % 2]);
    }
    return 0;
}

/* One message of this length, whole. */
static inline void pass(struct world *world, uint64_t call, uint64_t bytes)
{
    struct manta_transport_request sent, received;
    uint8_t *from = traffic_filled(bytes, 0, (uint32_t)call);
    uint8_t *to = malloc(bytes + 1);
    memset(to, 0xee, bytes + 1);
    assert_int_equal(post(world, 1, call, from, bytes, &sent), 0);
    assert_int_equal(post(world, 0, call, to, bytes, &received), 0);
    assert_true(run(world, &sent, &received));
    assert_int_equal(sent.status, 0);
    assert_int_equal(received.status, 0);
    assert_false(traffic_differs(to, bytes, 0, (uint32_t)call));
    free(from);
    free(to);
}

static inline struct manta_transport_counters counters_of(struct mt_ofi_endpoint *endpoint)
{
    struct manta_transport_counters counters = {.size = sizeof(counters)};
    mt_transport_ofi.counters(endpoint, &counters);
    return counters;
}

static inline struct manta_transport_error error_of(struct mt_ofi_endpoint *endpoint)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    mt_transport_ofi.error(endpoint, &error);
    return error;
}

#endif
