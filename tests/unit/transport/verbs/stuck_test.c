/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for something, and would wait for ever if nobody thought of it when that is there, or
 * when it never will be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "tests/support/fake_verbs.h"
#include "tests/support/traffic.h"
#include "transport/message_internal.h"
#include "transport/verbs/verbs.h"

enum { LONG = 9000, EAGER = 8192, PORT_DOWN = 1 /* IBV_PORT_DOWN */ };

static struct mt_verbs_endpoint *endpoint_of(const struct endpoints_rank *self)
{
    return self->endpoint;
}

static struct mt_verbs_peer *peer_of(const struct endpoints_rank *self, uint32_t rank)
{
    return endpoint_of(self)->peers[rank];
}

/* Progress until this holds; 0 when it does. */
static int await(struct endpoints_rank *self, int (*holds)(struct endpoints_rank *self),
                 const char *what)
{
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    while (!holds(self)) {
        if (self->transport->progress(self->endpoint) < 0 || mt_clock_now_ns() > until_ns)
            return endpoints_fail(self, "%s: it does not come to that", what);
    }
    return 0;
}

static int greet(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2];
    uint8_t out = 1, in = 0;
    int failed = endpoints_recv(self, !self->rank, 1, 0, &in, 1, &requests[0]) ||
                 endpoints_send(self, !self->rank, 1, 0, &out, 1, &requests[1]) ||
                 endpoints_wait(self, requests, 2) || in != 1;
    return failed || endpoints_meet(self);
}

/* The table of writes is one for all peers: one that found it full goes on when others are through,
 * though nothing comes from it. */
enum { READERS = 5, EACH = 64, LAST = 5, OF_LAST = 8 };

static int is_table_full(struct endpoints_rank *self)
{
    uint32_t open = 0;
    for (uint32_t i = 0; endpoint_of(self)->writes != NULL && i < MT_VERBS_WRITES; i++)
        open += endpoint_of(self)->writes[i].request != NULL;
    return open == MT_VERBS_WRITES;
}

/* Rank 5 has asked for all of its, and been refused. */
static int is_last_refused(struct endpoints_rank *self)
{
    const struct mt_peer *last = endpoint_of(self)->messages->peers[LAST];
    uint32_t placed = 0;
    for (struct manta_transport_request *request = last->placed.first; request != NULL;
         request = mt_work_of(request)->next)
        placed++;
    return placed == OF_LAST;
}

static int send_to(struct endpoints_rank *self, uint32_t peer, uint32_t count, uint8_t *memory,
                   struct manta_transport_request *requests)
{
    int failed = 0;
    for (uint32_t i = 0; i < count && !failed; i++)
        failed = endpoints_send(self, peer, 1, i, memory, LONG, &requests[i]);
    return failed;
}

static int fill_table(struct endpoints_rank *self, uint8_t *memory)
{
    static struct manta_transport_request requests[READERS][EACH];
    int failed = 0;
    fake_verbs_writes(1);
    for (uint32_t peer = 1; peer < READERS && !failed; peer++)
        failed = send_to(self, peer, EACH, memory, requests[peer - 1]);
    failed = failed || await(self, is_table_full, "a full table") ||
             send_to(self, LAST, OF_LAST, memory, requests[LAST - 1]) ||
             await(self, is_last_refused, "a refused peer");
    fake_verbs_writes(0);
    for (uint32_t peer = 1; peer <= READERS && !failed; peer++)
        failed = endpoints_wait(self, requests[peer - 1], peer == LAST ? OF_LAST : EACH);
    return failed;
}

/* What rank 0 sends in this call: up to EACH messages, each with a byte behind it. */
static int take_all(struct endpoints_rank *self, uint64_t call, uint64_t bytes, uint32_t count,
                    uint8_t *memory)
{
    struct manta_transport_request requests[EACH];
    int failed = 0;
    memset(memory, 0xee, (bytes + 1) * count);
    for (uint32_t i = 0; i < count && !failed; i++)
        failed = endpoints_recv(self, 0, call, i, memory + i * (bytes + 1), bytes, &requests[i]);
    failed = failed || endpoints_wait(self, requests, count);
    for (uint32_t i = 0; i < count && !failed; i++)
        failed = traffic_differs(memory + i * (bytes + 1), bytes, 0, 1);
    return failed;
}

static int table_of_writes(struct endpoints_rank *self)
{
    uint8_t *memory = self->rank == 0 ? traffic_filled(LONG, 0, 1) : malloc((LONG + 1) * EACH);
    uint32_t count = self->rank == LAST ? OF_LAST : EACH;
    int failed =
        self->rank == 0 ? fill_table(self, memory) : take_all(self, 1, LONG, count, memory);
    failed |= endpoints_part(self);
    free(memory);
    return failed;
}

static void test_table_of_writes(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", READERS + 1, table_of_writes, NULL), 0);
}

/* A peer that computes for long does not read what it is told, however often its lanes are made
 * again meanwhile. */
enum { BLOCKS = 16 };

static int is_stream_full(struct endpoints_rank *self)
{
    const struct mt_verbs_peer *peer = peer_of(self, 1);
    return peer->stream == MT_VERBS_STREAM_CARRIES && peer->out_end > 0;
}

/* As if the deadlines of all lanes passed, again and again. */
static int let_time_pass(struct endpoints_rank *self)
{
    struct mt_verbs_peer *peer = peer_of(self, 1);
    for (uint32_t round = 0; round < 2000; round++) {
        for (uint32_t i = 0; i < peer->lane_count; i++)
            peer->lanes[i].until_ns = 0;
        endpoint_of(self)->looked_ns = 0;
        if (self->transport->progress(self->endpoint) < 0 || peer->link != MT_VERBS_LINK_OPEN)
            return endpoints_fail(self, "the peer was given up in round %u", round);
    }
    return 0;
}

/* Of what rank 0 sends; the kernel takes its least for 1. */
static void stream_takes(const struct endpoints_rank *self, int bytes)
{
    setsockopt(peer_of(self, !self->rank)->fd, SOL_SOCKET, self->rank == 0 ? SO_SNDBUF : SO_RCVBUF,
               &bytes, sizeof(bytes));
}

static int with_a_full_stream(struct endpoints_rank *self)
{
    struct manta_transport_request requests[BLOCKS];
    uint8_t *memory = self->rank == 0 ? traffic_filled(EAGER, 0, 1) : malloc((EAGER + 1) * BLOCKS);
    self->group->has_tcp = 1;
    int failed = greet(self);
    stream_takes(self, 1);
    endpoints_barrier(self);
    if (self->rank == 0) {
        for (uint32_t i = 0; i < 2; i++)
            fake_verbs_cut(i, 0, 0);
        for (uint32_t i = 0; i < BLOCKS && !failed; i++)
            failed = endpoints_send(self, 1, 2, i, memory, EAGER, &requests[i]);
        failed = failed || await(self, is_stream_full, "a full stream") || let_time_pass(self);
        for (uint32_t i = 0; i < 2; i++)
            fake_verbs_mend(i);
    }
    stream_takes(self, 1 << 20);
    endpoints_barrier(self);
    if (self->rank == 1)
        failed = failed || take_all(self, 2, EAGER, BLOCKS, memory);
    failed |= endpoints_part(self);
    free(memory);
    return failed;
}

static void test_peer_that_computes(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, with_a_full_stream, NULL), 0);
}

/* No rail, and tcp carries: what is direct waits for a rail, and the others pass it. Then a rail
 * comes back, or none does. */
static int post(struct endpoints_rank *self, uint32_t number, int is_direct, uint8_t *memory,
                struct manta_transport_request *request)
{
    const struct manta_transport_buffer piece = {.address = memory, .bytes = LONG};
    const struct manta_transport_message message = {
        .id = {.call = 2, .epoch = self->group->epoch, .number = number, .hash = 1},
        .peer = !self->rank,
        .buffers = &piece,
        .buffer_count = 1,
        .bytes = LONG,
        .flags = is_direct ? MANTA_MESSAGE_DIRECT : 0};
    return self->rank == 0 ? self->transport->send(self->endpoint, &message, request)
                           : self->transport->recv(self->endpoint, &message, request);
}

static int is_carried_by_stream(struct endpoints_rank *self)
{
    return peer_of(self, !self->rank)->stream == MT_VERBS_STREAM_CARRIES;
}

static void lanes_lost_at(const struct endpoints_rank *self, uint64_t ns)
{
    struct mt_verbs_peer *peer = peer_of(self, !self->rank);
    for (uint32_t i = 0; i < peer->lane_count; i++)
        peer->lanes[i].lost_ns = ns;
}

static int end_as_said(struct endpoints_rank *self, struct manta_transport_request *request)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    lanes_lost_at(self, 0);
    int failed = endpoints_wait(self, request, 1);
    self->transport->error(self->endpoint, &error);
    if (failed || request->status != MANTA_ETRANSPORT ||
        strstr(error.sentence, "no rail leads to rank 1 any more (fake_0:1: ") == NULL)
        return endpoints_fail(self, "%d '%s'", request->status, error.sentence);
    return 0;
}

static int direct_without_rail(struct endpoints_rank *self)
{
    const int *returns = self->arg;
    struct manta_transport_request requests[3];
    uint8_t *memory = self->rank == 0 ? traffic_filled(LONG, 0, 1) : malloc(3 * (LONG + 1));
    self->group->has_tcp = 1;
    int failed = greet(self);
    if (self->rank == 0)
        fake_verbs_cut(0, 0, 0);
    else
        memset(memory, 0xee, 3 * (LONG + 1));
    endpoints_barrier(self);
    uint8_t out = 1, in;
    failed |= endpoints_recv(self, !self->rank, 1, 1, &in, 1, &requests[0]) ||
              endpoints_send(self, !self->rank, 1, 1, &out, 1, &requests[1]) ||
              endpoints_wait(self, requests, 2) ||
              await(self, is_carried_by_stream, "frames over the stream");
    lanes_lost_at(self, mt_clock_now_ns() + 3600 * MT_SECOND);
    for (uint32_t i = 0; i < 3 && !failed; i++)
        failed =
            post(self, i, i != 1, memory + (self->rank == 0 ? 0 : i * (LONG + 1)), &requests[i]);
    failed = failed || endpoints_wait(self, &requests[1], 1) || requests[1].status != 0;
    if (!failed &&
        (requests[0].status != MANTA_INPROGRESS || requests[2].status != MANTA_INPROGRESS))
        failed = endpoints_fail(self, "%d, %d", requests[0].status, requests[2].status);
    failed |= endpoints_meet(self);
    if (*returns) {
        fake_verbs_mend(0);
        failed = failed || endpoints_wait(self, requests, 3);
        for (uint32_t i = 0; i < 3 && !failed; i++)
            failed = requests[i].status != 0 ||
                     (self->rank == 1 && traffic_differs(memory + i * (LONG + 1), LONG, 0, 1));
    } else if (self->rank == 0) {
        failed = failed || end_as_said(self, &requests[0]) || end_as_said(self, &requests[2]);
    }
    failed |= endpoints_part(self);
    if (!*returns)
        self->transport->abort(self->endpoint, MANTA_EABORTED);
    free(memory);
    return failed ? endpoints_fail(self, "a message did not end as it should") : 0;
}

static void test_direct_without_rail(void **state)
{
    (void)state;
    fake_verbs_port(1, PORT_DOWN, 1, 1);
    for (int returns = 0; returns < 2; returns++) {
        assert_int_equal(endpoints_run("verbs", 2, direct_without_rail, &returns), 0);
        fake_verbs_mend(0);
    }
}

/* A card that has failed tells so, and nothing more: what is under way over it goes elsewhere. */
static int is_writing(struct endpoints_rank *self)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < MT_VERBS_WRITES; i++)
        open += endpoint_of(self)->writes[i].request != NULL;
    return open > 0;
}

static int has_left_first_lane(struct endpoints_rank *self)
{
    return peer_of(self, 1)->lanes[0].failures > 0;
}

static int card_fails(struct endpoints_rank *self)
{
    const uint64_t event = 1 + IBV_EVENT_DEVICE_FATAL;
    struct manta_transport_request request;
    uint8_t *memory = self->rank == 0 ? traffic_filled(LONG, 0, 1) : malloc(LONG + 1);
    int failed = greet(self);
    if (self->rank == 0) {
        fake_verbs_writes(1);
        failed = failed || endpoints_send(self, 1, 2, 0, memory, LONG, &request) ||
                 await(self, is_writing, "a write") ||
                 write(endpoint_of(self)->rails[0].context->async_fd, &event, sizeof(event)) < 0 ||
                 await(self, has_left_first_lane, "a lane's end");
        fake_verbs_writes(0);
    } else {
        memset(memory, 0xee, LONG + 1);
        failed = failed || endpoints_recv(self, 0, 2, 0, memory, LONG, &request);
    }
    failed = failed || endpoints_wait(self, &request, 1) || request.status != 0 ||
             (self->rank == 1 && traffic_differs(memory, LONG, 0, 1));
    failed |= endpoints_part(self);
    free(memory);
    return failed ? endpoints_fail(self, "a message did not find its way") : 0;
}

static void test_card_fails(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, card_fails, NULL), 0);
}

/* Slots for frames are for all peers: those whose peers compute, and take nothing, leave some to
 * the others. */
enum { COMPUTING = 4, AWAKE = 5, NOTES = 200 };

static int greet_all(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2 * AWAKE];
    uint8_t out = 1, in[AWAKE] = {0};
    uint32_t count = 0;
    int failed = 0;
    for (uint32_t peer = 0; peer <= AWAKE && !failed; peer++) {
        if (peer == self->rank || (self->rank != 0 && peer != 0))
            continue;
        failed = endpoints_recv(self, peer, 1, 0, &in[count / 2], 1, &requests[count]) ||
                 endpoints_send(self, peer, 1, 0, &out, 1, &requests[count + 1]);
        count += 2;
    }
    return failed || endpoints_wait(self, requests, count) || endpoints_meet(self);
}

static int fill_slots(struct endpoints_rank *self)
{
    static struct manta_transport_request requests[COMPUTING][NOTES];
    struct manta_transport_request request;
    static uint8_t note = 7;
    int failed = 0;
    for (uint32_t peer = 0; peer < COMPUTING; peer++) {
        for (uint32_t i = 0; i < NOTES && !failed; i++)
            failed = endpoints_send(self, 1 + peer, 2, i, &note, 1, &requests[peer][i]);
    }
    failed = failed || endpoints_send(self, AWAKE, 2, 0, &note, 1, &request) ||
             endpoints_wait(self, &request, 1);
    for (uint32_t peer = 0; peer < COMPUTING && !failed; peer++) /* they are awake by now */
        failed = endpoints_wait(self, requests[peer], NOTES);
    return failed;
}

static int slots_for_all(struct endpoints_rank *self)
{
    _Atomic int *is_there = self->arg;
    struct manta_transport_request request, requests[NOTES];
    uint8_t in = 0, notes[NOTES] = {0};
    int failed = greet_all(self);
    endpoints_barrier(self);
    if (self->rank == 0)
        failed = failed || fill_slots(self);
    if (self->rank == AWAKE) {
        failed = failed || endpoints_recv(self, 0, 2, 0, &in, 1, &request) ||
                 endpoints_wait(self, &request, 1) || in != 7;
        if (failed)
            failed = endpoints_fail(self, "nothing came");
        atomic_store(is_there, 1);
    }
    while (self->rank > 0 && self->rank < AWAKE && !atomic_load(is_there))
        usleep(100);
    for (uint32_t i = 0; i < NOTES && self->rank > 0 && self->rank < AWAKE && !failed; i++)
        failed = endpoints_recv(self, 0, 2, i, &notes[i], 1, &requests[i]);
    if (self->rank > 0 && self->rank < AWAKE)
        failed = failed || endpoints_wait(self, requests, NOTES) || notes[NOTES - 1] != 7;
    return failed | endpoints_part(self);
}

static void test_slots_for_all(void **state)
{
    _Atomic int is_there = 0;
    (void)state;
    assert_int_equal(endpoints_run("verbs", AWAKE + 1, slots_for_all, &is_there), 0);
}

/* What ends while a rank arms, or in progress, is work: who is told that there was none goes to
 * sleep. */
static int ends_unseen(struct endpoints_rank *self)
{
    const int *arms = self->arg;
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    struct manta_transport_request request;
    uint8_t in;
    int failed = greet(self);
    if (self->rank == 0) {
        failed = failed || endpoints_recv(self, 1, 2, 0, &in, 1, &request);
        peer_of(self, 1)->hung_up = 1;
        mt_verbs_unsettle(endpoint_of(self));
        while (!failed && request.status == MANTA_INPROGRESS) {
            failed = mt_clock_now_ns() > until_ns;
            int moved = *arms ? self->transport->arm(self->endpoint)
                              : self->transport->progress(self->endpoint);
            if (*arms)
                self->transport->disarm(self->endpoint);
            if (request.status != MANTA_INPROGRESS && moved != 1)
                failed = endpoints_fail(self, "%d, and the request has ended", moved);
        }
    }
    endpoints_barrier(self);
    return failed;
}

static void test_ends_unseen(void **state)
{
    (void)state;
    for (int arms = 0; arms < 2; arms++)
        assert_int_equal(endpoints_run("verbs", 2, ends_unseen, &arms), 0);
}

/* The stream takes nothing more, for the peer has left: what its card had sent before is taken. */
static int hang_up(struct endpoints_rank *self)
{
    struct manta_transport_request request;
    uint8_t value = 7;
    int failed = greet(self);
    if (self->rank == 1) {
        value = 0;
        failed = failed || endpoints_recv(self, 0, 2, 0, &value, 1, &request);
    }
    endpoints_barrier(self);
    if (self->rank == 0)
        failed = failed || endpoints_send(self, 1, 2, 0, &value, 1, &request) ||
                 endpoints_wait(self, &request, 1);
    endpoints_barrier(self);
    if (self->rank == 1 && !failed) {
        peer_of(self, 0)->hung_up = 1;
        mt_verbs_unsettle(endpoint_of(self));
        mt_verbs_settle(endpoint_of(self));
        if (request.status != 0 || value != 7)
            failed = endpoints_fail(self, "status %d, value %u", request.status, value);
    }
    endpoints_barrier(self);
    return failed;
}

static void test_hang_up(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, hang_up, NULL), 0);
}

/* The kernel looks for the way to a peer for long: an abort does not wait for that. */
static int is_connecting(struct endpoints_rank *self)
{
    const struct mt_verbs_peer *peer = peer_of(self, !self->rank);
    return peer != NULL && peer->lanes[0].state == MT_VERBS_LANE_CONNECTING;
}

static int abort_meanwhile(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2];
    uint8_t out = 1, in = 0;
    int failed = endpoints_recv(self, !self->rank, 1, 0, &in, 1, &requests[0]) ||
                 endpoints_send(self, !self->rank, 1, 0, &out, 1, &requests[1]) ||
                 await(self, is_connecting, "connecting");
    endpoints_barrier(self);
    int code = self->transport->abort(self->endpoint, MANTA_EABORTED);
    if (code != 0 || requests[0].status != MANTA_EABORTED)
        failed = endpoints_fail(self, "abort %d, status %d", code, requests[0].status);
    endpoints_barrier(self);
    if (self->rank == 0 && fake_verbs_ways(0) == 0)
        failed = endpoints_fail(self, "abort has waited for the way");
    return failed;
}

static void test_abort_meanwhile(void **state)
{
    (void)state;
    fake_verbs_ways(1);
    assert_int_equal(endpoints_run("verbs", 2, abort_meanwhile, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_table_of_writes, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_peer_that_computes, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_direct_without_rail, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_slots_for_all, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_ends_unseen, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_card_fails, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_hang_up, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_abort_meanwhile, fake_verbs_setup,
                                        fake_verbs_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
