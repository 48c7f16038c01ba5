/* SPDX-License-Identifier: Apache-2.0 */
/* ofi over a stand-in for libfabric, which is what no hardware here is, and refuses as it likes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/fabric.h"
#include "tests/unit/transport/fabric_world.h"

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

/* Providers that cannot write with completion data, though they say so, are not asked to. */
static void test_who_writes(void **state)
{
    static const struct {
        const char *name;
        int writes;
    } providers[] = {{"efa", 1}, {"cxi", 0}, {"opx", 0}};
    (void)state;
    for (size_t i = 0; i < sizeof(providers) / sizeof(providers[0]); i++) {
        struct world world;
        begin(WRITES);
        stand_in.offers[0].provider = providers[i].name;
        open_world(&world);
        pass(&world, 1, LONG);
        assert_int_equal(stand_in.writes > 0, providers[i].writes);
        close_world(&world);
    }
}

/* One that nobody knew of says so at the first write, be it after it had no room for it: messages
 * arrive all the same, and it is not asked again. */
static void test_refused_writes(void **state)
{
    static const int errors[] = {FI_EBADFLAGS, FI_ENOSYS, FI_EOPNOTSUPP};
    (void)state;
    for (uint32_t kind = 0; kind < 6; kind++) {
        struct world world;
        begin(WRITES);
        stand_in.mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR;
        stand_in.refuse_data = errors[kind % 3];
        stand_in.refuse_writes = kind / 3;
        open_world(&world);
        for (uint64_t call = 1; call <= 5; call++)
            pass(&world, call, LONG + call);
        assert_int_equal(stand_in.refuse_writes, 0);
        assert_int_equal(stand_in.data_refused, 1);
        close_world(&world);
    }
}

/* Several that wait for room when the first of them is refused. */
static void test_refused_together(void **state)
{
    enum { COUNT = 2 * MT_OFI_WRITES };
    struct manta_transport_request sent[COUNT], received[COUNT];
    uint8_t *from[COUNT], *to[COUNT];
    struct world world;
    (void)state;
    begin(WRITES);
    stand_in.refuse_data = FI_EBADFLAGS;
    stand_in.refuse_writes = COUNT / 2;
    open_world(&world);
    for (uint32_t i = 0; i < COUNT; i++) {
        from[i] = traffic_filled(LONG, 0, i);
        to[i] = malloc(LONG + 1);
        memset(to[i], 0xee, LONG + 1);
        assert_int_equal(post(&world, 0, i + 1, to[i], LONG, &received[i]), 0);
        assert_int_equal(post(&world, 1, i + 1, from[i], LONG, &sent[i]), 0);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(run(&world, &sent[i], &received[i]));
        assert_int_equal(sent[i].status, 0);
        assert_int_equal(received[i].status, 0);
        assert_false(traffic_differs(to[i], LONG, 0, i));
        free(from[i]);
        free(to[i]);
    }
    assert_int_equal(stand_in.writes, 0);
    close_world(&world);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),          cmocka_unit_test(test_what_cannot_be_opened),
        cmocka_unit_test(test_frames),          cmocka_unit_test(test_order_is_restored),
        cmocka_unit_test(test_writes),          cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_no_registration), cmocka_unit_test(test_who_writes),
        cmocka_unit_test(test_refused_writes),  cmocka_unit_test(test_refused_together),
        cmocka_unit_test(test_strangers),       cmocka_unit_test(test_registered_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
