/* SPDX-License-Identifier: Apache-2.0 */
/* ofi over a stand-in for libfabric when something fails: what is lost, and what memory is safe. */
#include "tests/unit/transport/fabric_world.h"

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
            int before = sent.status, moved = mt_transport_ofi.progress(world.ends[0]);
            if (sent.status != before) /* who is told that nothing has happened goes to sleep */
                assert_int_not_equal(moved, 0);
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
            assert_int_equal(stand_in.ends_open, is_stuck ? 2 : 1 - r);
        }
        assert_int_equal(sent.status, status);
        assert_int_equal(received.status, status);
        close_world(&world);
        free(from);
        free(to);
    }
}

/* Memory that is bound to an endpoint keeps it open: it is closed first, then. What was registered
 * by hand stays the caller's to take out. */
static void test_abort_while_bound(void **state)
{
    struct manta_transport_request sent, received;
    struct world world;
    uint8_t *from = traffic_filled(LONG, 0, 1), *to = malloc(LONG + 1), blob[256];
    const struct manta_transport_buffer buffer = {.address = from, .bytes = LONG};
    void *registration;
    size_t bytes;
    (void)state;
    begin(WRITES);
    stand_in.mr_mode = FI_MR_LOCAL | FI_MR_ENDPOINT | FI_MR_PROV_KEY;
    open_world(&world);
    assert_int_equal(mt_transport_ofi.mem_register(world.ends[0], &buffer, -1, 0, &registration),
                     0);
    stand_in.is_halted = 1;
    assert_int_equal(post(&world, 0, 1, to, LONG, &received), 0);
    assert_int_equal(post(&world, 1, 1, from, LONG, &sent), 0);
    for (uint32_t i = 0; i < 10; i++)
        mt_transport_ofi.progress(world.ends[i % 2]);
    assert_int_equal(stand_in.writes, 1);
    for (uint32_t r = 0; r < 2; r++) {
        assert_int_equal(mt_transport_ofi.abort(world.ends[r], MANTA_EABORTED), 0);
        assert_int_equal(stand_in.ends_open, 1 - r);
        mt_transport_ofi.progress(world.ends[r]);
    }
    assert_int_equal(sent.status, MANTA_EABORTED);
    assert_int_equal(received.status, MANTA_EABORTED);
    assert_int_equal(
        mt_transport_ofi.mem_export(world.ends[0], registration, blob, sizeof(blob), &bytes),
        MANTA_ETRANSPORT);
    assert_int_equal(mt_transport_ofi.mem_deregister(world.ends[0], registration), 0);
    assert_int_equal(mt_transport_ofi.mem_register(world.ends[0], &buffer, -1, 0, &registration),
                     MANTA_ETRANSPORT);
    close_world(&world);
    free(from);
    free(to);
}

/* What is still open is not asked for anything, nor listened to: no more is written of memory whose
 * request has ended, and what may be read or written stays registered. */
static void test_stuck_is_still(void **state)
{
    (void)state;
    for (int is_one_peer = 0; is_one_peer < 2; is_one_peer++) {
        struct manta_transport_request sent, received;
        struct world world;
        uint8_t *from = traffic_filled(LONG, 0, 1), *to = malloc(LONG + 1);
        begin(WRITES);
        stand_in.mr_mode = FI_MR_LOCAL;
        stand_in.max_msg_size = EAGER + 4096;
        open_world(&world);
        stand_in.is_halted = 1;
        assert_int_equal(post(&world, 0, 1, to, LONG, &received), 0);
        assert_int_equal(post(&world, 1, 1, from, LONG, &sent), 0);
        for (uint32_t i = 0; i < 10; i++)
            mt_transport_ofi.progress(world.ends[i % 2]);
        assert_int_equal(stand_in.writes, MT_OFI_CHUNKS);
        uint32_t regions = stand_in.regions_open;
        stand_in.is_stuck = 1;
        for (uint32_t r = 0; r < 2; r++) {
            if (is_one_peer)
                mt_ofi_peer_fail(world.ends[r], !r, FI_EIO, "");
            else
                assert_int_equal(mt_transport_ofi.abort(world.ends[r], MANTA_EABORTED),
                                 MANTA_EBUFFER);
        }
        assert_int_equal(sent.status, MANTA_EBUFFER);
        assert_int_equal(received.status, MANTA_EBUFFER);
        stand_in_go_on();
        for (uint32_t i = 0; i < 10; i++)
            mt_transport_ofi.progress(world.ends[i % 2]);
        assert_int_equal(stand_in.writes, MT_OFI_CHUNKS);
        assert_int_equal(sent.status, MANTA_EBUFFER);
        assert_int_equal(stand_in.regions_open, regions);
        stand_in.is_stuck = 0;
        close_world(&world);
        free(from);
        free(to);
    }
}

/* What was to be freed, which the test does itself. */
static struct {
    void *memory[64];
    uint32_t count;
} freed;

static void note_free(void *memory)
{
    assert_in_range(freed.count, 0, sizeof(freed.memory) / sizeof(freed.memory[0]) - 1);
    freed.memory[freed.count++] = memory;
}

static int is_freed(const void *memory)
{
    uint32_t at = 0;
    while (at < freed.count && freed.memory[at] != memory)
        at++;
    return at < freed.count;
}

/* An endpoint that cannot be closed may be written to: what libfabric was told of is not freed. */
static void test_stuck_for_good(void **state)
{
    static struct world world; /* from which what is kept is reached */
    uint8_t bytes[100] = {0};
    (void)state;
    for (int is_stuck = 0; is_stuck < 2; is_stuck++) {
        begin(WRITES);
        free_instead = note_free;
        open_world(&world);
        pass(&world, 1, 10);
        pass(&world, 2, LONG);
        stand_in.is_stuck = is_stuck;
        const struct mt_ofi_endpoint *end = world.ends[1];
        const struct mt_ofi_peer *peer = &end->peers[0];
        void *known[] = {end->inboxes, end->inbox_memory, end->offers,
                         peer->slots,  peer->memory,      peer->writes};
        for (uint32_t r = 0; r < 2; r++)
            mt_transport_ofi.close(world.ends[r]);
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            assert_int_equal(is_freed(known[i]), !is_stuck);
        assert_int_equal(stand_in.regions_open, 0);
        if (is_stuck)
            stand_in_send_stranger(1, bytes, sizeof(bytes));
        stand_in_end();
        free_instead = NULL;
        while (freed.count > 0)
            mt_transport_host()->free(freed.memory[--freed.count]);
    }
}

/* A receive that fails though its sender lives leaves a gap: what comes behind it is not kept for
 * ever, but the peer is lost, in words. */
static void test_gap(void **state)
{
    enum { COUNT = 60, BYTES = 100 };
    static uint8_t to[COUNT][BYTES];
    struct manta_transport_request sent[COUNT], received[COUNT];
    struct world world;
    (void)state;
    begin(FI_MSG);
    open_world(&world);
    pass(&world, 1000, BYTES);
    uint8_t *from = traffic_filled(BYTES, 0, 1);
    stand_in.fail_recv = FI_EIO;
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(post(&world, 0, i + 1, to[i], BYTES, &received[i]), 0);
        assert_int_equal(post(&world, 1, i + 1, from, BYTES, &sent[i]), 0);
    }
    for (uint32_t i = 0; i < 100; i++)
        mt_transport_ofi.progress(world.ends[i % 2]);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(received[i].status, MANTA_ETRANSPORT);
    struct manta_transport_error error = error_of(world.ends[1]);
    assert_int_equal(error.code, MANTA_ETRANSPORT);
    assert_int_equal(error.peer, 0);
    assert_non_null(strstr(error.sentence, "of rank 0 are missing"));
    assert_non_null(strstr(error.sentence, "error 5"));
    assert_int_equal(mt_transport_ofi.peer_status(world.ends[1], 0), MANTA_EPEER);
    mt_transport_ofi.abort(world.ends[0], MANTA_EABORTED);
    close_world(&world);
    free(from);
}

/* What a stranger sends too much of is no gap. */
static void test_no_gap(void **state)
{
    enum { COUNT = 40, BYTES = 100 };
    static uint8_t to[COUNT][BYTES + 1], bytes[MT_OFI_FRAME_BYTES + 1];
    struct manta_transport_request sent[COUNT], received[COUNT];
    struct world world;
    (void)state;
    begin(FI_MSG);
    stand_in.is_backwards = 1;
    open_world(&world);
    stand_in_send_stranger(1, bytes, sizeof(bytes));
    mt_transport_ofi.progress(world.ends[1]);
    uint8_t *from = traffic_filled(BYTES, 0, 1);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(post(&world, 0, i + 1, to[i], BYTES, &received[i]), 0);
        assert_int_equal(post(&world, 1, i + 1, from, BYTES, &sent[i]), 0);
        mt_transport_ofi.progress(world.ends[0]);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(run(&world, &sent[i], &received[i]));
        assert_int_equal(received[i].status, 0);
    }
    close_world(&world);
    free(from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_in_words),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_abort_while_bound),
        cmocka_unit_test(test_stuck_is_still),
        cmocka_unit_test(test_stuck_for_good),
        cmocka_unit_test(test_gap),
        cmocka_unit_test(test_no_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
