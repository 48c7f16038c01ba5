/* SPDX-License-Identifier: Apache-2.0 */
/* ofi over a stand-in for libfabric, which is what no hardware here is, and fails as it likes. */
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

static const char *config(const char *variable)
{
    return strcmp(variable, "OFI_PROVIDER") == 0 ? provider : domain;
}

static int open_end(struct world *world, uint32_t rank)
{
    static struct manta_transport_host host;
    host = *mt_transport_host();
    host.config = config;
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

static void know_peers(struct world *world)
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

static void begin(uint64_t caps)
{
    stand_in_begin();
    provider = domain = "";
    stand_in.offers[0] = (struct stand_in_offer){"efa", "rdmap0s6", NULL, caps};
}

static void open_world(struct world *world)
{
    memset(world, 0, sizeof(*world));
    for (uint32_t r = 0; r < 2; r++)
        assert_int_equal(open_end(world, r), 0);
    know_peers(world);
}

/* Everything is given back. */
static void close_world(struct world *world)
{
    for (uint32_t r = 0; r < 2; r++)
        mt_transport_ofi.close(world->ends[r]);
    assert_int_equal(stand_in.objects_open, 0);
    assert_int_equal(stand_in.regions_open, 0);
    stand_in_end();
}

static struct manta_transport_message message_of(uint32_t peer, uint64_t call,
                                                 const struct manta_transport_buffer *buffers,
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
static int post(struct world *world, int is_send, uint64_t call, void *memory, uint64_t bytes,
                struct manta_transport_request *request)
{
    const struct manta_transport_buffer buffer = {.address = memory, .bytes = bytes};
    struct manta_transport_message message = message_of(is_send ? 1 : 0, call, &buffer, 1);
    return is_send ? mt_transport_ofi.send(world->ends[0], &message, request)
                   : mt_transport_ofi.recv(world->ends[1], &message, request);
}

/* Until both are done, or nothing has happened for long. 1 if they are. */
static int run(struct world *world, const struct manta_transport_request *a,
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
static void pass(struct world *world, uint64_t call, uint64_t bytes)
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

static struct manta_transport_counters counters_of(struct mt_ofi_endpoint *endpoint)
{
    struct manta_transport_counters counters = {.size = sizeof(counters)};
    mt_transport_ofi.counters(endpoint, &counters);
    return counters;
}

static struct manta_transport_error error_of(struct mt_ofi_endpoint *endpoint)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    mt_transport_ofi.error(endpoint, &error);
    return error;
}

static uint32_t turn;

/* Which provider and domain are taken of those that are there; NULL: none, and `why` is in the
 * sentence. */
static void assert_choice(const char *wanted_provider, const char *wanted_domain,
                          const char *expected, const char *why)
{
    char reason[240] = "";
    const struct mt_ofi_library *library = mt_ofi_library(reason, sizeof(reason));
    const struct mt_ofi_wish wish = {
        .provider = wanted_provider, .domain = wanted_domain, .numa = -1, .turn = turn};
    struct fi_info *info = mt_ofi_choose(library, &wish, reason, sizeof(reason));
    if (expected == NULL) {
        assert_null(info);
        if (strstr(reason, why) == NULL)
            fail_msg("'%s' is not in '%s'", why, reason);
        return;
    }
    assert_non_null(info);
    assert_string_equal(info->fabric_attr->prov_name, expected);
    assert_string_equal(info->domain_attr->name, why);
    library->freeinfo(info);
}

static void test_choice(void **state)
{
    const struct stand_in_offer offers[] = {{"shm", "shm", NULL, FI_MSG},
                                            {"tcp", "lo", "127.0.0.1", FI_MSG},
                                            {"tcp", "eth0", "10.0.0.1", FI_MSG},
                                            {"cxi", "cxi0", NULL, WRITES},
                                            {"efa", "rdmap0s6", NULL, WRITES}};
    (void)state;
    stand_in_begin();
    assert_choice("", "", NULL, "no provider here");
    stand_in.offers[0] = offers[0];
    assert_choice("", "", NULL, "only shm here");
    assert_choice("shm", "", "shm", "shm");
    assert_choice("efa", "", NULL, "no provider efa here; it has: shm");
    for (uint32_t i = 0; i < 3; i++)
        stand_in.offers[i] = offers[i];
    assert_choice("", "", "tcp", "eth0");
    assert_choice("", "lo", "tcp", "lo");
    assert_choice("", "eth7", NULL, "there is no domain eth7; there are: shm, lo, eth0");
    for (uint32_t i = 3; i < 5; i++)
        stand_in.offers[i] = offers[i];
    assert_choice("", "", "efa", "rdmap0s6");
    assert_choice("cxi", "", "cxi", "cxi0");
    assert_choice("tcp", "cxi0", NULL, "there is no domain cxi0; there are: lo, eth0");
    stand_in.offers[5] = (struct stand_in_offer){"efa", "rdmap1s6", NULL, WRITES};
    for (turn = 0; turn < 4; turn++)
        assert_choice("", "", "efa", turn % 2 ? "rdmap1s6" : "rdmap0s6");
    turn = 1;
    assert_choice("", "rdmap0s6", "efa", "rdmap0s6");
    assert_choice("tcp", "", "tcp", "eth0");
    turn = 0;
    stand_in.mr_mode = FI_MR_RAW;
    assert_choice("", "", NULL, "no provider here");
    stand_in_end();
}

static void test_what_cannot_be_opened(void **state)
{
    static const char *const places[] = {"fabric", "domain",   "queue",
                                         "table",  "endpoint", "enable"};
    struct world world = {.ends = {NULL}};
    (void)state;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        begin(WRITES);
        stand_in.fails_at = places[i];
        int code = open_end(&world, 0);
        assert_true(code == MANTA_ENOTSUP || code == MANTA_ENOMEM);
        assert_non_null(strstr(world.error.sentence, "provider efa, domain rdmap0s6"));
        assert_non_null(strstr(world.error.sentence, "error "));
        assert_int_equal(stand_in.objects_open, 0);
        stand_in_end();
    }
    begin(WRITES);
    stand_in.mr_mode = FI_MR_LOCAL;
    stand_in.fail_region = FI_ENOMEM;
    assert_int_equal(open_end(&world, 0), MANTA_ENOMEM);
    assert_non_null(strstr(world.error.sentence, "ulimit -l"));
    assert_int_equal(stand_in.objects_open, 0);
    stand_in_end();
}

/* Frames, where libfabric has no room now and then, and completes in another order. */
static void test_frames(void **state)
{
    static const uint64_t sizes[] = {0, 1, 5000, EAGER, EAGER + 1, LONG};
    (void)state;
    for (int kind = 0; kind < 8; kind++) {
        struct world world;
        begin(FI_MSG);
        stand_in.is_backwards = kind & 1;
        stand_in.has_no_descriptor = kind & 2;
        stand_in.mr_mode = kind & 4 ? FI_MR_LOCAL | FI_MR_ENDPOINT : 0;
        open_world(&world);
        assert_int_equal(mt_transport_ofi.wait_fd(world.ends[0]) < 0, (kind & 2) != 0);
        for (uint64_t call = 1; call <= 60; call++) {
            stand_in.refuse_sends = call % 4;
            pass(&world, call, sizes[call % 6]);
        }
        assert_int_equal(stand_in.writes, 0);
        close_world(&world);
    }
}

/* Many messages under way, so that completions really change places. */
static void test_order_is_restored(void **state)
{
    enum { COUNT = 40, BYTES = 100 };
    static uint8_t to[COUNT][BYTES + 1];
    struct manta_transport_request sent[COUNT], received[COUNT];
    struct world world;
    uint8_t *from[COUNT];
    (void)state;
    begin(FI_MSG);
    stand_in.is_backwards = 1;
    open_world(&world);
    memset(to, 0xee, sizeof(to));
    for (uint32_t i = 0; i < COUNT; i++) {
        from[i] = traffic_filled(BYTES, 0, i);
        assert_int_equal(post(&world, 1, i + 1, from[i], BYTES, &sent[i]), 0);
    }
    for (uint32_t i = COUNT; i-- > 0;)
        assert_int_equal(post(&world, 0, i + 1, to[i], BYTES, &received[i]), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(run(&world, &sent[i], &received[i]));
        assert_int_equal(received[i].status, 0);
        assert_false(traffic_differs(to[i], BYTES, 0, i));
        free(from[i]);
    }
    close_world(&world);
}

/* What it takes to write, in all the ways that providers want memory to be known. */
static void test_writes(void **state)
{
    static const int modes[] = {0, FI_MR_VIRT_ADDR, FI_MR_PROV_KEY | FI_MR_ALLOCATED,
                                FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_PROV_KEY | FI_MR_ENDPOINT};
    (void)state;
    for (uint32_t kind = 0; kind < 16; kind++) {
        struct world world;
        begin(WRITES);
        stand_in.mr_mode = modes[kind % 4];
        stand_in.cq_data_size = kind & 4 ? 4 : 8;
        stand_in.mr_key_size = kind & 4 ? 2 : 8;
        stand_in.max_msg_size = kind & 8 ? EAGER + 4096 : 1 << 30;
        open_world(&world);
        for (uint64_t call = 1; call <= 20; call++) {
            stand_in.refuse_sends = call % 3;
            pass(&world, call, EAGER + call * 10007);
        }
        assert_true(stand_in.writes >= 20);
        assert_int_equal(counters_of(world.ends[0]).copied_bytes, 0);
        assert_int_equal(counters_of(world.ends[1]).copied_bytes, 0);
        close_world(&world);
    }
}

/* Pieces of both ends that do not fit each other. */
static void test_pieces(void **state)
{
    static const uint64_t here[] = {1, 40000, 0, 7, 100000, 9992}, there[] = {70000, 80000, 0};
    struct manta_transport_buffer out[6], in[3];
    struct manta_transport_request sent, received;
    struct world world;
    uint64_t at = 0;
    (void)state;
    begin(WRITES);
    stand_in.max_msg_size = 30000;
    open_world(&world);
    uint8_t *from = traffic_filled(150000, 0, 1), *to = malloc(150001);
    memset(to, 0xee, 150001);
    for (uint32_t i = 0; i < 6; at += here[i++])
        out[i] = (struct manta_transport_buffer){.address = from + at, .bytes = here[i]};
    at = 0;
    for (uint32_t i = 0; i < 3; at += there[i++])
        in[i] = (struct manta_transport_buffer){.address = to + at, .bytes = there[i]};
    struct manta_transport_message send = message_of(1, 1, out, 6), recv = message_of(0, 1, in, 3);
    assert_int_equal(mt_transport_ofi.recv(world.ends[1], &recv, &received), 0);
    assert_int_equal(mt_transport_ofi.send(world.ends[0], &send, &sent), 0);
    assert_true(run(&world, &sent, &received));
    assert_int_equal(received.status, 0);
    assert_false(traffic_differs(to, 150000, 0, 1));
    free(from);
    free(to);
    close_world(&world);
}

/* Memory that the card cannot be shown: the message arrives all the same. */
static void test_no_registration(void **state)
{
    struct world world;
    (void)state;
    begin(WRITES);
    open_world(&world);
    for (uint64_t call = 1; call <= 4; call++) {
        stand_in.fail_region = FI_EFAULT;
        pass(&world, call, LONG + call);
        stand_in.fail_region = 0;
    }
    assert_int_equal(stand_in.writes, 0);
    close_world(&world);
}

static void assert_lost(struct world *world, int status, const char *detail)
{
    struct manta_transport_error error = error_of(world->ends[0]);
    assert_int_equal(status, MANTA_EPEER);
    assert_int_equal(error.code, MANTA_EPEER);
    assert_int_equal(error.peer, 1);
    assert_non_null(strstr(error.sentence, "rank 1 (end 1, provider efa)"));
    if (strstr(error.sentence, detail) == NULL)
        fail_msg("'%s' is not in '%s'", detail, error.sentence);
    assert_int_equal(mt_transport_ofi.peer_status(world->ends[0], 1), MANTA_EPEER);
}

/* A send that fails at once, one that fails later, one to a peer that is gone, and a write. */
static void test_errors_in_words(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        struct manta_transport_request sent, received;
        struct world world;
        uint8_t *from = traffic_filled(LONG, 0, 1), *to = malloc(LONG + 1);
        uint64_t bytes = kind == 3 ? LONG : 10;
        begin(WRITES);
        open_world(&world);
        pass(&world, 1, 10);
        if (kind == 0)
            stand_in.fail_post = FI_ENETUNREACH;
        if (kind == 1)
            stand_in.fail_send = FI_ECONNRESET;
        if (kind == 2)
            mt_ofi_wire_cease(world.ends[1], 0);
        if (kind == 3)
            stand_in.fail_write = FI_EACCES;
        assert_int_equal(post(&world, 0, 2, to, bytes, &received), 0);
        assert_int_equal(post(&world, 1, 2, from, bytes, &sent), 0);
        for (uint32_t i = 0; i < 10; i++) {
            mt_transport_ofi.progress(world.ends[0]);
            mt_transport_ofi.progress(world.ends[1]);
        }
        assert_lost(&world, sent.status,
                    kind == 1   ? "; the card says 42"
                    : kind == 3 ? "error 13"
                                : "error 10");
        if (kind == 3)
            assert_null(world.ends[0]->endpoint);
        mt_transport_ofi.abort(world.ends[1], MANTA_EPEER);
        assert_true(received.status != MANTA_INPROGRESS);
        close_world(&world);
        free(from);
        free(to);
    }
}

/* Requests whose memory libfabric has end when it has not got it any more, or say so. */
static void test_abort(void **state)
{
    (void)state;
    for (int is_stuck = 0; is_stuck < 2; is_stuck++) {
        struct manta_transport_request sent, received;
        struct world world;
        uint8_t *from = traffic_filled(LONG, 0, 1), *to = malloc(LONG + 1);
        int status = is_stuck ? MANTA_EBUFFER : MANTA_EABORTED;
        begin(WRITES);
        open_world(&world);
        stand_in.is_halted = 1;
        assert_int_equal(post(&world, 0, 1, to, LONG, &received), 0);
        assert_int_equal(post(&world, 1, 1, from, LONG, &sent), 0);
        for (uint32_t i = 0; i < 10; i++)
            mt_transport_ofi.progress(world.ends[i % 2]);
        assert_int_equal(stand_in.writes, 1);
        for (uint32_t r = 0; r < 2; r++) {
            stand_in.fail_close = is_stuck ? FI_EBUSY : 0;
            assert_int_equal(mt_transport_ofi.abort(world.ends[r], MANTA_EABORTED),
                             is_stuck ? MANTA_EBUFFER : 0);
            assert_int_equal(world.ends[r]->endpoint == NULL, !is_stuck);
        }
        assert_int_equal(sent.status, status);
        assert_int_equal(received.status, status);
        close_world(&world);
        free(from);
        free(to);
    }
}

/* Who does not know the key is not heard, whatever it sends or writes. */
static void test_strangers(void **state)
{
    uint8_t bytes[MT_OFI_FRAME_BYTES + 100];
    struct world world;
    uint32_t random = 1;
    (void)state;
    begin(WRITES);
    open_world(&world);
    for (uint64_t call = 1; call <= 40; call++) {
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)((random = random * 1664525 + 1013904223) >> 24);
        const uint32_t from = 0;
        if (call % 2) /* it says who it is, at least */
            memcpy(bytes + MT_OFI_PROOF_BYTES, &from, sizeof(from));
        stand_in_send_stranger(1, bytes, call % 3 ? sizeof(bytes) / (1 + call) : call);
        stand_in_send_stranger(1, bytes, sizeof(bytes));
        stand_in_write_stranger(1, (uint64_t)random << 32 | call);
        pass(&world, call, call % 2 ? 100 : LONG);
    }
    assert_true(world.ends[1]->strangers > 0);
    close_world(&world);
}

/* Device memory by the device's own addresses, or by dma-buf; and all that can be refused. */
static void test_device_memory(void **state)
{
    const struct manta_transport_buffer device = {
        .address = (void *)0x700000000000, .bytes = 1 << 20, .memory = MANTA_MEMORY_CUDA};
    struct world world;
    void *registration;
    (void)state;
    begin(WRITES);
    open_world(&world);
    assert_int_equal(mt_transport_ofi.mem_register(world.ends[0], &device, -1, 0, &registration),
                     MANTA_ENOTSUP);
    assert_non_null(strstr(error_of(world.ends[0]).sentence, "efa does not reach memory"));
    world.ends[0]->info->caps |= FI_HMEM; /* as on a host that has devices */

    assert_int_equal(mt_transport_ofi.mem_register(world.ends[0], &device, -1, 0, &registration),
                     0);
    assert_int_equal(stand_in.region.iface, FI_HMEM_CUDA);
    assert_int_equal(stand_in.region_flags, 0);
    assert_int_equal(mt_transport_ofi.mem_deregister(world.ends[0], registration), 0);
    assert_int_equal(stand_in.regions_open, 0);

    struct {
        int fd;
        uint64_t offset;
        size_t length;
        void *base;
    } told;
    assert_int_equal(mt_transport_ofi.mem_register(world.ends[0], &device, 17, 4096, &registration),
                     0);
    assert_true(stand_in.region_flags == 1ULL << 40);
    memcpy(&told, stand_in.region_extra, sizeof(told));
    assert_true(told.fd == 17 && told.offset == 4096 && told.length == device.bytes &&
                told.base == device.address);
    assert_int_equal(mt_transport_ofi.mem_deregister(world.ends[0], registration), 0);

    static const struct {
        int error, code;
    } refusals[] = {{FI_ENOMEM, MANTA_ENOMEM},
                    {FI_ENOSYS, MANTA_ENOTSUP},
                    {FI_EOPNOTSUPP, MANTA_ENOTSUP},
                    {FI_EBADF, MANTA_ETRANSPORT}};
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        stand_in.fail_region = refusals[i].error;
        assert_int_equal(
            mt_transport_ofi.mem_register(world.ends[0], &device, 17, 0, &registration),
            refusals[i].code);
        assert_null(registration);
        assert_non_null(strstr(error_of(world.ends[0]).sentence, "1048576 bytes of a dma-buf"));
    }
    stand_in.version = FI_VERSION(1, 19);
    assert_int_equal(mt_transport_ofi.mem_register(world.ends[0], &device, 17, 0, &registration),
                     MANTA_ENOTSUP);
    assert_non_null(strstr(error_of(world.ends[0]).sentence, "libfabric 1.19 takes no dma-buf"));
    close_world(&world);
}

/* Memory that was registered by hand is not registered again for each message. */
static void test_registered_once(void **state)
{
    struct manta_transport_request sent, received;
    struct world world;
    void *registrations[2];
    uint8_t *memory[2] = {traffic_filled(LONG, 0, 1), malloc(LONG + 1)};
    (void)state;
    begin(WRITES);
    stand_in.mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_PROV_KEY;
    open_world(&world);
    for (uint32_t r = 0; r < 2; r++) {
        const struct manta_transport_buffer buffer = {.address = memory[r], .bytes = LONG};
        assert_int_equal(
            mt_transport_ofi.mem_register(world.ends[r], &buffer, -1, 0, &registrations[r]), 0);
    }
    uint32_t made = stand_in.regions_made;
    for (uint64_t call = 1; call <= 5; call++) {
        memset(memory[1], 0xee, LONG + 1);
        assert_int_equal(post(&world, 0, call, memory[1], LONG, &received), 0);
        assert_int_equal(post(&world, 1, call, memory[0], LONG, &sent), 0);
        assert_true(run(&world, &sent, &received));
        assert_false(traffic_differs(memory[1], LONG, 0, 1));
    }
    assert_int_equal(stand_in.writes, 5);
    assert_int_equal(stand_in.regions_made, made);
    assert_int_equal(counters_of(world.ends[0]).registrations, 1);
    for (uint32_t r = 0; r < 2; r++) {
        assert_int_equal(mt_transport_ofi.mem_deregister(world.ends[r], registrations[r]), 0);
        free(memory[r]);
    }
    close_world(&world);
}

/* Memory of devices is written whatever the length, and read back where it has to be. */
static void test_direct(void **state)
{
    static const uint64_t sizes[] = {1, 100, LONG};
    (void)state;
    for (int i = 0; i < 8; i++) {
        struct world world;
        void *registrations[2];
        uint8_t *memory[2] = {traffic_filled(LONG, 0, 1), malloc(LONG + 1)};
        struct manta_transport_buffer buffers[2];
        begin(WRITES | FI_READ | FI_REMOTE_READ | FI_HMEM);
        stand_in.mr_mode = (i & 1 ? FI_MR_LOCAL : 0) | (i & 2 ? FI_MR_VIRT_ADDR : 0);
        open_world(&world);
        for (uint32_t r = 0; r < 2; r++) {
            world.ends[r]->info->caps |= FI_HMEM | FI_READ | FI_REMOTE_READ;
            buffers[r] = (struct manta_transport_buffer){.address = memory[r],
                                                         .bytes = LONG,
                                                         .memory = MANTA_MEMORY_CUDA,
                                                         .flags = MANTA_BUFFER_FLUSH};
            assert_int_equal(
                mt_transport_ofi.mem_register(world.ends[r], &buffers[r], -1, 0, &registrations[r]),
                0);
            buffers[r].registration = registrations[r];
        }
        for (uint64_t call = 1; call <= 6; call++) {
            struct manta_transport_request sent, received;
            for (uint32_t r = 0; r < 2; r++)
                buffers[r].bytes = sizes[call % 3];
            struct manta_transport_message send = message_of(1, call, &buffers[0], 1);
            struct manta_transport_message recv = message_of(0, call, &buffers[1], 1);
            send.flags = recv.flags = MANTA_MESSAGE_DIRECT;
            memset(memory[1], 0xee, LONG + 1);
            stand_in.refuse_reads = call == 5 ? 3 : 0;
            stand_in.fail_read = call == 6 && (i & 4) ? FI_EIO : 0;
            assert_int_equal(mt_transport_ofi.recv(world.ends[1], &recv, &received), 0);
            assert_int_equal(mt_transport_ofi.send(world.ends[0], &send, &sent), 0);
            if (stand_in.fail_read == 0) {
                assert_true(run(&world, &sent, &received));
                assert_memory_equal(memory[0], memory[1], sizes[call % 3]);
                continue;
            }
            int code = 0;
            for (int tries = 0; tries < 100 && code >= 0; tries++) {
                (void)mt_transport_ofi.progress(world.ends[0]);
                code = mt_transport_ofi.progress(world.ends[1]);
            }
            assert_int_equal(code, MANTA_ETRANSPORT);
            assert_int_equal(received.status, MANTA_INPROGRESS);
            assert_non_null(strstr(error_of(world.ends[1]).sentence, "nobody knows whether"));
        }
        assert_int_equal(stand_in.reads, 6);
        close_world(&world);
        free(memory[0]);
        free(memory[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),          cmocka_unit_test(test_what_cannot_be_opened),
        cmocka_unit_test(test_frames),          cmocka_unit_test(test_order_is_restored),
        cmocka_unit_test(test_writes),          cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_no_registration), cmocka_unit_test(test_errors_in_words),
        cmocka_unit_test(test_abort),           cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_device_memory),   cmocka_unit_test(test_registered_once),
        cmocka_unit_test(test_direct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
