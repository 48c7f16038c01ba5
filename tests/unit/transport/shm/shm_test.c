/* SPDX-License-Identifier: Apache-2.0 */
/* Messages and fused steps over shared memory between threads of this process, connected by real
 * groups and unix streams. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <poll.h>

#include "core/clock.h"
#include "tests/support/endpoints.h"
#include "tests/support/ranks.h"
#include "tests/support/traffic.h"

enum { EAGER = 8192, LONG = 5 << 20 };

static void test_random_exchange(void **state)
{
    static const uint64_t sizes[] = {0, 1, 19, 20, 21, 64, EAGER - 1, EAGER, EAGER + 1, 300001};
    struct traffic traffic = {sizes, 10, 6};
    static const uint32_t ranks[] = {2, 3, 5, 8};
    (void)state;
    for (size_t i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++)
        assert_int_equal(endpoints_run("shm", ranks[i], traffic_run, &traffic), 0);
}

static void test_long_messages(void **state)
{
    static const uint64_t sizes[] = {LONG, 5, LONG + 1, EAGER};
    struct traffic traffic = {sizes, 4, 2};
    (void)state;
    assert_int_equal(endpoints_run("shm", 2, traffic_run, &traffic), 0);
}

/* More eager messages than lines and credit, before any receive; then the receives in reverse. */
static int flood(struct endpoints_rank *self)
{
    enum { COUNT = 300, BYTES = 3000 };
    struct manta_transport_request requests[COUNT];
    uint8_t *memory = traffic_filled(BYTES, 0, 3);
    uint8_t *targets = malloc(COUNT * (BYTES + 1));
    memset(targets, 0xee, COUNT * (BYTES + 1));
    int failed = 0;
    for (uint32_t i = 0; self->rank == 0 && i < COUNT; i++)
        failed |= endpoints_send(self, 1, i, 0, memory, BYTES, &requests[i]);
    endpoints_barrier(self);
    for (uint32_t i = COUNT; self->rank == 1 && i-- > 0;)
        failed |= endpoints_recv(self, 0, i, 0, targets + i * (BYTES + 1), BYTES, &requests[i]);
    failed = failed || endpoints_wait(self, requests, COUNT);
    for (uint32_t i = 0; self->rank == 1 && i < COUNT; i++)
        failed =
            failed || requests[i].status || traffic_differs(targets + i * (BYTES + 1), BYTES, 0, 3);
    endpoints_barrier(self);
    free(memory);
    free(targets);
    return failed ? endpoints_fail(self, "flood") : 0;
}

static void test_flood(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("shm", 2, flood, NULL), 0);
}

/* A step that all ranks carry out on one block. */
struct step {
    struct manta_plan_fused fused;
    struct manta_plan_fused_member members[16];
    uint64_t offsets[2];
};

static void declare(struct step *step, uint32_t collective, uint32_t ranks, uint32_t root,
                    uint64_t bytes)
{
    memset(step, 0, sizeof(*step));
    step->offsets[1] = bytes;
    step->fused = (struct manta_plan_fused){.collective = collective,
                                            .root = root,
                                            .member_count = ranks,
                                            .order = MANTA_PLAN_ORDER_BINARY,
                                            .members = step->members};
    for (uint32_t r = 0; r < ranks; r++)
        step->members[r] = (struct manta_plan_fused_member){r, 0, 1, 0, 1};
}

static int post(struct endpoints_rank *self, const struct step *step, uint64_t call_number,
                uint32_t hash, void *buffer, struct manta_transport_request *request)
{
    struct manta_transport_fused_call call = {
        .id = {.call = call_number, .epoch = self->group->epoch, .hash = hash},
        .fused = &step->fused,
        .src = buffer,
        .dst = buffer,
        .count = step->offsets[1] / 4,
        .dtype = MANTA_INT32,
        .op = MANTA_SUM,
        .block_offsets = step->offsets,
        .blocks = 1};
    return self->transport->fused_post(self->endpoint, &call, request);
}

/* The root hands its vector over, drains and is gone before the others look. */
static int broadcast_and_leave(struct endpoints_rank *self)
{
    enum { COUNT = 50000 };
    struct manta_transport_request request;
    struct step step;
    int32_t *vector = calloc(COUNT, sizeof(*vector));
    int failed = 0;
    declare(&step, MANTA_BROADCAST, self->ranks, 0, COUNT * sizeof(*vector));
    for (int32_t i = 0; self->rank == 0 && i < COUNT; i++)
        vector[i] = i * 3 + 1;
    if (self->rank == 0) {
        failed = post(self, &step, 1, 9, vector, &request) || endpoints_wait(self, &request, 1) ||
                 request.status != 0 || self->transport->drain(self->endpoint) != 0;
        self->transport->close(self->endpoint);
        self->closed = 1;
        endpoints_barrier(self);
    } else {
        endpoints_barrier(self);
        failed = post(self, &step, 1, 9, vector, &request) || endpoints_wait(self, &request, 1) ||
                 request.status != 0;
        for (int32_t i = 0; i < COUNT; i++)
            failed |= vector[i] != i * 3 + 1;
    }
    free(vector);
    return failed ? endpoints_fail(self, "broadcast and leave") : 0;
}

static void test_nothing_is_lost_on_leaving(void **state)
{
    (void)state;
    for (uint32_t ranks = 2; ranks <= 5; ranks++)
        assert_int_equal(endpoints_run("shm", ranks, broadcast_and_leave, NULL), 0);
}

static int many_allreduces(struct endpoints_rank *self)
{
    struct step step;
    int failed = 0;
    for (uint32_t call = 0; call < 2000 && !failed; call++) {
        struct manta_transport_request request;
        int32_t value[2] = {(int32_t)(self->rank + call), 5};
        declare(&step, MANTA_ALLREDUCE, self->ranks, MANTA_PLAN_NONE, sizeof(value));
        int32_t n = (int32_t)self->ranks;
        int32_t sum = n * (int32_t)call + n * (n - 1) / 2;
        failed = post(self, &step, call, 3, value, &request) || endpoints_wait(self, &request, 1) ||
                 request.status != 0 || value[0] != sum || value[1] != 5 * n;
    }
    endpoints_barrier(self);
    return failed ? endpoints_fail(self, "allreduce") : 0;
}

static void test_allreduces(void **state)
{
    (void)state;
    for (uint32_t ranks = 2; ranks <= 4; ranks++)
        assert_int_equal(endpoints_run("shm", ranks, many_allreduces, NULL), 0);
}

/* Rank 1 calls something else: everybody who reads its line learns who it was. */
static int disagree(struct endpoints_rank *self)
{
    struct manta_transport_request request;
    struct manta_transport_error error = {.size = sizeof(error)};
    struct step step;
    int32_t value[4] = {0};
    declare(&step, MANTA_ALLREDUCE, self->ranks, MANTA_PLAN_NONE, sizeof(value));
    int failed = post(self, &step, 1, self->rank == 1 ? 77 : 78, value, &request) ||
                 endpoints_wait(self, &request, 1);
    self->transport->error(self->endpoint, &error);
    if (request.status != MANTA_EMISMATCH || error.code != MANTA_EMISMATCH ||
        request.peer != (self->rank == 1 ? 0 : 1) || error.peer != request.peer)
        failed = endpoints_fail(self, "status %d, peer %u, error %d '%s'", request.status,
                                request.peer, error.code, error.sentence);
    if (post(self, &step, 2, 78, value, &request) != MANTA_EMISMATCH)
        failed = endpoints_fail(self, "a broken team took another step");
    endpoints_barrier(self);
    return failed;
}

static void test_mismatch(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("shm", 2, disagree, NULL), 0);
    assert_int_equal(endpoints_run("shm", 3, disagree, NULL), 0);
}

/* A step that cannot end because a rank never comes: abort ends it, and the vector stays. */
static int give_up(struct endpoints_rank *self)
{
    enum { COUNT = 500000 };
    struct manta_transport_request step_request, receive;
    struct step step;
    int32_t *vector = calloc(COUNT, sizeof(*vector));
    uint8_t *target = calloc(1, LONG);
    int failed = 0;
    declare(&step, MANTA_ALLREDUCE, self->ranks, MANTA_PLAN_NONE, COUNT * sizeof(*vector));
    if (self->rank != 0) {
        failed = post(self, &step, 1, 5, vector, &step_request) ||
                 endpoints_recv(self, 0, 1, 0, target, LONG, &receive);
        for (int i = 0; i < 1000; i++)
            self->transport->progress(self->endpoint);
        failed |= self->transport->abort(self->endpoint, MANTA_EABORTED) != 0;
        if (step_request.status != MANTA_EABORTED || receive.status != MANTA_EABORTED)
            failed = endpoints_fail(self, "status %d and %d after abort", step_request.status,
                                    receive.status);
        if (post(self, &step, 2, 5, vector, &step_request) != MANTA_EABORTED)
            failed = endpoints_fail(self, "a step after abort was accepted");
    }
    endpoints_barrier(self);
    if (self->rank == 0) {
        failed = post(self, &step, 1, 5, vector, &step_request) ||
                 endpoints_send(self, 1, 1, 0, target, LONG, &receive);
        for (int i = 0; i < 1000; i++)
            self->transport->progress(self->endpoint);
        failed |= step_request.status != MANTA_INPROGRESS;
        self->transport->abort(self->endpoint, MANTA_EABORTED);
        failed |= step_request.status != MANTA_EABORTED;
    } else {
        for (int i = 0; i < 1000; i++)
            self->transport->progress(self->endpoint);
    }
    endpoints_barrier(self);
    for (int32_t i = 0; i < COUNT; i++)
        failed |= vector[i] != 0;
    free(vector);
    free(target);
    return failed ? endpoints_fail(self, "abort") : 0;
}

static void test_abort_leaves_buffers(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("shm", 2, give_up, NULL), 0);
    assert_int_equal(endpoints_run("shm", 3, give_up, NULL), 0);
}

/* A rank that sleeps on wait_fd, without a limit of its own, is woken by a message. */
static int sleep_until_message(struct endpoints_rank *self)
{
    uint8_t byte = 7;
    struct manta_transport_request request;
    int failed = 0;
    for (uint32_t round = 0; round < 50 && !failed; round++) {
        if (self->rank == 1) {
            failed = endpoints_send(self, 0, round, 0, &byte, 1, &request) ||
                     endpoints_wait(self, &request, 1) ||
                     endpoints_recv(self, 0, round, 0, &byte, 1, &request) ||
                     endpoints_wait(self, &request, 1);
            continue;
        }
        failed = endpoints_recv(self, 1, round, 0, &byte, 1, &request);
        while (!failed && request.status == MANTA_INPROGRESS) {
            struct pollfd poll_fd = {.fd = self->transport->wait_fd(self->endpoint),
                                     .events = POLLIN};
            if (self->transport->arm(self->endpoint) == 0 && poll(&poll_fd, 1, 20000) != 1)
                failed = endpoints_fail(self, "not woken");
            self->transport->disarm(self->endpoint);
            self->transport->progress(self->endpoint);
        }
        failed = failed || endpoints_send(self, 1, round, 0, &byte, 1, &request) ||
                 endpoints_wait(self, &request, 1);
    }
    endpoints_barrier(self);
    return failed;
}

static void test_sleeper_is_woken(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("shm", 2, sleep_until_message, NULL), 0);
}

static int count_messages(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2];
    struct manta_transport_counters counters = {.size = sizeof(counters)};
    struct step step;
    int32_t value[3] = {1, 2, 3};
    uint8_t out[100] = {0}, in[100];
    int failed = endpoints_send(self, !self->rank, 1, 0, out, 100, &requests[0]) ||
                 endpoints_recv(self, !self->rank, 1, 0, in, 100, &requests[1]) ||
                 endpoints_wait(self, requests, 2);
    declare(&step, MANTA_ALLREDUCE, 2, MANTA_PLAN_NONE, sizeof(value));
    failed =
        failed || post(self, &step, 1, 1, value, &requests[0]) || endpoints_wait(self, requests, 1);
    self->transport->counters(self->endpoint, &counters);
    failed = failed || counters.sent_messages != 2 || counters.sent_bytes != 112 ||
             counters.received_messages != 2 || counters.received_bytes != 112;
    endpoints_barrier(self);
    return failed ? endpoints_fail(self, "counters") : 0;
}

static void test_counters(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("shm", 2, count_messages, NULL), 0);
}

static int mappings(void)
{
    char line[512];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
        count += strstr(line, "memfd:manta") != NULL;
    if (maps != NULL)
        fclose(maps);
    return maps == NULL ? -1 : count;
}

/* Peers' segments are mapped read-only, and the kernel would refuse anything else. */
static int look_at_mappings(struct endpoints_rank *self)
{
    int failed = 0;
    endpoints_barrier(self);
    if (self->rank == 0) {
        char line[512];
        int writable = 0, readable = 0;
        FILE *maps = fopen("/proc/self/maps", "r");
        while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
            if (strstr(line, "memfd:manta") == NULL)
                continue;
            writable += strstr(line, " rw-s ") != NULL;
            readable += strstr(line, " r--s ") != NULL;
        }
        if (maps != NULL)
            fclose(maps);
        if (writable != 3 || readable != 6)
            failed = endpoints_fail(self, "%d writable, %d read-only", writable, readable);
    }
    endpoints_barrier(self);
    return failed;
}

static void test_mappings(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("shm", 3, look_at_mappings, NULL), 0);
}

/* Nothing stays behind. Last, so that what the library keeps is there already. */
static void test_nothing_stays(void **state)
{
    struct traffic traffic = {(const uint64_t[]){1, LONG / 4}, 2, 1};
    int before = folder_entries("/proc/self/fd");
    (void)state;
    assert_int_equal(mappings(), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(endpoints_run("shm", 3, traffic_run, &traffic), 0);
    assert_int_equal(folder_entries("/proc/self/fd"), before);
    assert_int_equal(mappings(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_mappings),
        cmocka_unit_test(test_allreduces),
        cmocka_unit_test(test_random_exchange),
        cmocka_unit_test(test_long_messages),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_nothing_is_lost_on_leaving),
        cmocka_unit_test(test_mismatch),
        cmocka_unit_test(test_abort_leaves_buffers),
        cmocka_unit_test(test_sleeper_is_woken),
        cmocka_unit_test(test_nothing_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
