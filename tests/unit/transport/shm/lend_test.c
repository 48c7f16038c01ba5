/* SPDX-License-Identifier: Apache-2.0 */
/* Lending memory when the other side is not what it should be: places that are nowhere, owners that
 * give up while their memory is read, records that are nonsense. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/service.h"
#include "tests/support/endpoints.h"
#include "tests/unit/transport/shm/world.h"
#include "transport/shm/lend.h"
#include "transport/shm/team.h"

enum { BYTES = 300000, RECORD_BYTES = 32, TURNS = 10 };

static struct manta_plan_fused_member both[2] = {{0, 0, 1, 0, 1}, {1, 0, 1, 0, 1}};
static const uint64_t offsets[2] = {0, BYTES};
static const struct manta_plan_fused broadcast = {MANTA_BROADCAST, 1, 2, MANTA_PLAN_ORDER_BINARY,
                                                  both};
static const struct manta_plan_fused allreduce = {MANTA_ALLREDUCE, MANTA_PLAN_NONE, 2,
                                                  MANTA_PLAN_ORDER_BINARY, both};

static int post(struct mt_shm_endpoint *endpoint, const struct manta_plan_fused *fused,
                uint32_t epoch, uint64_t number, const uint8_t *src, uint8_t *dst,
                struct manta_transport_request *request)
{
    struct manta_transport_fused_call call = {.id = {.call = number, .epoch = epoch},
                                              .fused = fused,
                                              .src = src,
                                              .dst = dst,
                                              .count = BYTES,
                                              .dtype = MANTA_UINT8,
                                              .op = MANTA_SUM,
                                              .block_offsets = offsets,
                                              .blocks = 1};
    return mt_transport_shm.fused_post(endpoint, &call, request);
}

/* A broadcast of one byte by rank 1. */
static int post_short(struct mt_shm_endpoint *endpoint, uint32_t epoch, uint64_t number,
                      uint8_t *byte, struct manta_transport_request *request)
{
    static const uint64_t ends[2] = {0, 1};
    struct manta_transport_fused_call call = {.id = {.call = number, .epoch = epoch},
                                              .fused = &broadcast,
                                              .dst = byte,
                                              .count = 1,
                                              .dtype = MANTA_UINT8,
                                              .op = MANTA_SUM,
                                              .block_offsets = ends,
                                              .blocks = 1};
    return mt_transport_shm.fused_post(endpoint, &call, request);
}

static uint8_t *allocate(void)
{
    struct mt_error error;
    void *start;
    assert_int_equal(mt_memory_alloc(BYTES, &start, &error), 0);
    return start;
}

static void give(uint8_t *memory)
{
    struct mt_error error;
    assert_int_equal(mt_memory_free(memory, &error), 0);
}

static void progress(struct world *world, uint32_t rank)
{
    for (int i = 0; i < 50; i++)
        mt_transport_shm.progress(world->endpoints[rank]);
}

/* In a team's first operation nothing is lent: the members are not known to each other yet. */
static void begin(struct world *world)
{
    struct manta_transport_request requests[2];
    uint8_t *buffer = calloc(1, BYTES);
    assert_int_equal(world_open(world, 2), 0);
    for (uint32_t rank = 0; rank < 2; rank++)
        assert_int_equal(
            post(world->endpoints[rank], &broadcast, 7, 1, NULL, buffer, &requests[rank]), 0);
    for (int i = 0; i < 10; i++) {
        progress(world, 0);
        progress(world, 1);
    }
    assert_int_equal(requests[0].status, 0);
    assert_int_equal(requests[1].status, 0);
    free(buffer);
}

/* A broadcast in lent memory: what its root copied. */
static uint64_t copied_by(struct world *world, uint64_t number, uint32_t root, uint8_t *memory[2])
{
    struct manta_plan_fused fused = broadcast;
    struct manta_transport_request requests[2];
    struct mt_shm_endpoint *endpoint = world->endpoints[root];
    uint64_t before = atomic_load(&endpoint->copied_bytes);
    fused.root = root;
    memset(memory[root], (int)number, BYTES);
    for (uint32_t rank = 0; rank < 2; rank++)
        assert_int_equal(
            post(world->endpoints[rank], &fused, 7, number, NULL, memory[rank], &requests[rank]),
            0);
    for (int i = 0; i < 10; i++) {
        progress(world, 0);
        progress(world, 1);
    }
    assert_int_equal(requests[0].status, 0);
    assert_int_equal(requests[1].status, 0);
    assert_memory_equal(memory[0], memory[1], BYTES);
    return atomic_load(&endpoint->copied_bytes) - before;
}

/* Where roots take turns, and what they send fits into a cache, it is staged. */
static void test_turns(void **state)
{
    static const struct {
        uint32_t root;
        uint64_t cached_bytes, copied;
    } turns[] = {{1, BYTES, 0},     {0, BYTES, BYTES}, {1, BYTES, BYTES}, {1, BYTES, 0},
                 {0, BYTES, BYTES}, {1, BYTES - 1, 0}, {0, 0, 0},         {0, BYTES, 0}};
    struct world world;
    uint8_t *memory[2] = {allocate(), allocate()};
    (void)state;
    begin(&world);
    for (uint64_t i = 0; i < sizeof(turns) / sizeof(turns[0]); i++) {
        world.endpoints[turns[i].root]->cached_bytes = turns[i].cached_bytes;
        assert_int_equal(copied_by(&world, 2 + i, turns[i].root, memory), turns[i].copied);
    }
    world_close(&world);
    give(memory[0]);
    give(memory[1]);
}

/* The place of rank 1's first publication, changed before rank 0 sees it. */
static void read_from(const struct mt_shm_where *where)
{
    struct world world;
    struct manta_transport_request mine, its;
    struct manta_transport_error error = {.size = sizeof(error)};
    uint8_t *memory = allocate(), *buffer = calloc(1, BYTES);
    assert_int_equal(world_open(&world, 2), 0);
    assert_int_equal(post(world.endpoints[1], &broadcast, 7, 1, NULL, memory, &its), 0);
    uint8_t *lines = world.endpoints[1]->base + world.endpoints[1]->identity.geometry.team_at;
    memcpy(lines + MT_SHM_LINE + mt_shm_entry_at(0) + 8, where, sizeof(*where));
    assert_int_equal(post(world.endpoints[0], &broadcast, 7, 1, NULL, buffer, &mine), 0);
    progress(&world, 0);
    mt_transport_shm.error(world.endpoints[0], &error);
    assert_int_equal(mine.status, MANTA_ETRANSPORT);
    assert_int_equal(error.peer, 1);
    assert_non_null(strstr(error.sentence, "rank 1 has written nonsense"));
    world_close(&world);
    give(memory);
    free(buffer);
}

static void test_places(void **state)
{
    (void)state;
    uint8_t *memory = allocate();
    uint64_t segment = mt_memory_find(memory, 1).segment;
    const uint64_t in = MT_SHM_IN_PLACE;
    const struct mt_shm_where nowhere[] = {
        {in, 0},
        {in, UINT64_MAX},
        {in, segment + (1000 << MT_MEMORY_SLOT_BITS)},
        {in | BYTES, segment},
        {in | 303104, segment}, /* the end of its last page */
        {in | (BYTES - 100), segment},
        {in | INT64_MAX, segment},
        {UINT64_MAX, segment},
        {INT64_MAX, segment},
    };
    for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++)
        read_from(&nowhere[i]);
    give(memory);
    read_from(&(struct mt_shm_where){in, segment}); /* it was there */
}

/* The owner's call is over, with an error: its memory is its own, and nobody takes for data what
 * was read there since. */
static void withdraw(const struct manta_plan_fused *fused, int gives_up)
{
    struct world world;
    struct manta_transport_request mine, its;
    uint8_t *memory = allocate(), *buffer = calloc(1, BYTES), *result = calloc(1, BYTES);
    begin(&world);
    memset(memory, 5, BYTES);
    assert_int_equal(post(world.endpoints[1], fused, 7, 2, memory, memory, &its), 0);
    assert_int_equal(its.status, MANTA_INPROGRESS);
    if (gives_up)
        mt_transport_shm.abort(world.endpoints[1], MANTA_EABORTED);
    assert_int_equal(post(world.endpoints[0], fused, 7, 2, buffer, result, &mine), 0);
    for (int i = 0; i < 10; i++) {
        progress(&world, 0);
        progress(&world, 1);
    }
    assert_int_equal(its.status, gives_up ? MANTA_EABORTED : 0);
    assert_int_equal(mine.status, gives_up ? MANTA_INPROGRESS : 0);
    assert_true(gives_up || result[BYTES - 1] == 5);
    mt_transport_shm.abort(world.endpoints[0], MANTA_EABORTED);
    assert_int_equal(mine.status, gives_up ? MANTA_EABORTED : 0);
    world_close(&world);
    give(memory);
    free(buffer);
    free(result);
}

static void test_withdrawn(void **state)
{
    (void)state;
    for (int gives_up = 0; gives_up < 2; gives_up++) {
        withdraw(&broadcast, gives_up);
        withdraw(&allreduce, gives_up);
    }
}

/* An owner's call is not over while somebody may still read for it. */
static void test_not_over(void **state)
{
    (void)state;
    struct world world;
    struct manta_transport_request mine, its;
    uint8_t *memory = allocate(), *buffer = calloc(1, BYTES);
    begin(&world);
    assert_int_equal(post(world.endpoints[1], &broadcast, 7, 2, NULL, memory, &its), 0);
    progress(&world, 1);
    assert_int_equal(its.status, MANTA_INPROGRESS);
    assert_int_equal(post(world.endpoints[0], &broadcast, 7, 2, NULL, buffer, &mine), 0);
    progress(&world, 0);
    assert_int_equal(mine.status, 0);
    progress(&world, 1);
    assert_int_equal(its.status, 0);
    world_close(&world);
    give(memory);
    free(buffer);
}

/* Over real streams: what rank 1 sends before its calls. */
struct script {
    uint64_t record[4]; /* kind, segment, offset in the file, bytes */
    uint64_t bytes;     /* of the record that are sent */
    unsigned seals;
    int descriptors;
    int refused; /* rank 0 must take it for nonsense */
};

static void send_record(struct mt_shm_endpoint *endpoint, const struct script *script)
{
    struct mt_shm_peer *peer = mt_shm_peer_of(endpoint, 0);
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int list[3] = {fd, fd, fd};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(list))];
    } control = {0};
    size_t length = (size_t)script->descriptors * sizeof(int);
    struct iovec piece = {.iov_base = (void *)(uintptr_t)script->record, .iov_len = script->bytes};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (ftruncate(fd, 8191) != 0 || /* two pages, the last one not full */
        fcntl(fd, F_ADD_SEALS, script->seals) != 0)
        abort();
    if (length != 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(length);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(length);
        memcpy(CMSG_DATA(&control.header), list, length);
    }
    if (sendmsg(peer->stream, &message, MSG_NOSIGNAL) != (ssize_t)script->bytes)
        abort();
    close(fd);
    atomic_store(&peer->channel->credit->lent, 77);
}

/* Whatever came, calls succeed. */
static int run_script(struct endpoints_rank *self)
{
    const struct script *script = self->arg;
    struct mt_shm_endpoint *endpoint = self->endpoint;
    uint8_t *memory = malloc(BYTES), *copy = malloc(BYTES);
    int failed = 0;
    if (self->rank == 1)
        send_record(endpoint, script);
    endpoints_barrier(self);
    for (int turn = 1; turn <= TURNS && !failed; turn++) {
        struct manta_transport_request request = {0};
        memset(copy, turn, BYTES);
        memset(memory, self->rank == 1 ? turn : 0, BYTES);
        failed = post(endpoint, &broadcast, self->group->epoch, (uint64_t)turn, NULL, memory,
                      &request) != 0 ||
                 endpoints_wait(self, &request, 1) != 0 || request.status != 0 ||
                 memcmp(memory, copy, BYTES) != 0;
    }
    const struct mt_shm_lending *lending = mt_shm_peer_of(endpoint, self->rank == 0)->lending;
    if (!failed && self->rank == 0 && (lending == NULL || (int)lending->refuses != script->refused))
        failed = endpoints_fail(self, "the record was taken for something else");
    endpoints_barrier(self);
    free(memory);
    free(copy);
    return failed;
}

static void test_records(void **state)
{
    (void)state;
    enum { SEGMENT = 1 << MT_MEMORY_SLOT_BITS, SHRINK = F_SEAL_SHRINK };
    const struct script scripts[] = {
        {{1, SEGMENT, 0, 8192}, RECORD_BYTES, SHRINK, 1, 0},
        {{1, SEGMENT, 0, 8192}, RECORD_BYTES, SHRINK, 0, 1},
        {{1, SEGMENT, 0, 8192}, RECORD_BYTES, SHRINK, 3, 0},
        {{1, SEGMENT, 0, 8192}, RECORD_BYTES, 0, 1, 1},
        {{1, SEGMENT, 0, 12288}, RECORD_BYTES, SHRINK, 1, 1},
        {{1, SEGMENT, 0, 0}, RECORD_BYTES, SHRINK, 1, 1},
        {{1, SEGMENT, 0, 100}, RECORD_BYTES, SHRINK, 1, 1},
        {{1, SEGMENT, 4096, 8192}, RECORD_BYTES, SHRINK, 1, 1},
        {{1, SEGMENT, 4096, UINT64_MAX - 4095}, RECORD_BYTES, SHRINK, 1, 1},
        {{1, SEGMENT, UINT64_MAX - 4095, 4096}, RECORD_BYTES, SHRINK, 1, 1},
        {{1, SEGMENT, 1, 4096}, RECORD_BYTES, SHRINK, 1, 1},
        {{1, UINT64_MAX, 0, 4096}, RECORD_BYTES, SHRINK, 1, 0},
        {{2, SEGMENT, 0, 0}, RECORD_BYTES, SHRINK, 0, 0},
        {{2, UINT64_MAX, 0, 0}, RECORD_BYTES, SHRINK, 2, 0},
        {{99, SEGMENT, 0, 0}, RECORD_BYTES, SHRINK, 1, 1},
        {{1, SEGMENT, 0, 8192}, 5, SHRINK, 1, 0},
    };
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++)
        assert_int_equal(endpoints_run("shm", 2, run_script, (void *)(uintptr_t)&scripts[i]), 0);
}

/* A broadcast by rank 1 from `memory`: what this rank copied, or -1. */
static int64_t broadcast_from(struct endpoints_rank *self, uint8_t *memory, uint64_t number)
{
    struct manta_transport_request request = {0};
    struct mt_shm_endpoint *endpoint = self->endpoint;
    uint64_t before = atomic_load(&endpoint->copied_bytes);
    uint8_t value = (uint8_t)(number % 251);
    memset(memory, self->rank == 1 ? value : 255, BYTES);
    if (post(endpoint, &broadcast, self->group->epoch, number, NULL, memory, &request) != 0 ||
        endpoints_wait(self, &request, 1) != 0 || request.status != 0 || memory[0] != value ||
        memory[BYTES - 1] != value)
        return -1;
    return (int64_t)(atomic_load(&endpoint->copied_bytes) - before);
}

/* A descriptor that did not come, for want of one to be had: later it is lent once more. */
static int run_lack(struct endpoints_rank *self)
{
    static const struct script lack = {{1, 7, 0, 8192}, RECORD_BYTES, F_SEAL_SHRINK, 0, 0};
    enum { CALLS = 600, LEAST = 256 };
    uint8_t *first = allocate(), *second = allocate();
    struct mt_shm_peer *peer = mt_shm_peer_of(self->endpoint, self->rank == 0);
    uint64_t number = 0, staged = 0;
    int64_t copied = 0;
    while (number < 10 && copied >= 0)
        copied = broadcast_from(self, first, ++number);
    if (self->rank == 1 && peer->lending != NULL) {
        send_record(self->endpoint, &lack);
        atomic_store(&peer->channel->credit->lent, ++peer->lending->sent);
    }
    while (number < CALLS && copied >= 0) {
        copied = broadcast_from(self, second, ++number);
        staged += copied > 0;
    }
    int failed = copied < 0 || peer->lending == NULL;
    if (self->rank == 0)
        failed |= peer->lending->refused != 1 || peer->lending->refuses != 0;
    else /* at last it is read in place, and what was lent before was all the while */
        failed |= copied != 0 || staged < LEAST || staged > 2 * LEAST ||
                  peer->lending->record[mt_memory_slot(mt_memory_find(first, 1).segment)] != 1;
    endpoints_barrier(self);
    give(first);
    give(second);
    return failed ? endpoints_fail(self, "it was not lent again") : 0;
}

static void test_lack(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("shm", 2, run_lack, NULL), 0);
}

static int count_mappings(const struct endpoints_rank *self)
{
    struct mt_shm_endpoint *endpoint = self->endpoint;
    const struct mt_shm_lending *lending = mt_shm_peer_of(endpoint, 1)->lending;
    int count = endpoint->retired != NULL;
    for (uint32_t slot = 0; slot < MT_MEMORY_SLOTS; slot++)
        count += lending->mappings[slot] != NULL;
    return count;
}

/* Peers forget memory that is freed, though the calls that follow are short. */
static int run_free(struct endpoints_rank *self)
{
    uint8_t *memory = self->rank == 1 ? allocate() : malloc(BYTES), byte = 0;
    uint64_t number = 0;
    int failed = 0;
    while (number < 10 && !failed)
        failed = broadcast_from(self, memory, ++number) < 0;
    failed |= self->rank == 0 && count_mappings(self) != 1;
    endpoints_barrier(self);
    if (self->rank == 1)
        give(memory);
    else
        free(memory);
    for (int i = 0; i < 2 * MT_SHM_TICKS && !failed; i++) {
        struct manta_transport_request request = {0};
        failed = post_short(self->endpoint, self->group->epoch, ++number, &byte, &request) != 0 ||
                 endpoints_wait(self, &request, 1) != 0;
    }
    failed |= self->rank == 0 && count_mappings(self) != 0;
    endpoints_barrier(self);
    return failed ? endpoints_fail(self, "freed memory was not forgotten") : 0;
}

static void test_freed(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("shm", 2, run_free, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),     cmocka_unit_test(test_places),
        cmocka_unit_test(test_withdrawn), cmocka_unit_test(test_not_over),
        cmocka_unit_test(test_records),   cmocka_unit_test(test_lack),
        cmocka_unit_test(test_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
