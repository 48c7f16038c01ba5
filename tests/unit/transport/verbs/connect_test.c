/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes are connected by a few threads at a time, however many there are to connect. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/clock.h"
#include "tests/support/endpoints.h"
#include "tests/support/fake_verbs.h"
#include "transport/verbs/verbs.h"

enum { RANKS = 12, OTHERS = RANKS - 1, ROUNDS = 200 };

static struct mt_verbs_endpoint *endpoint_of(const struct endpoints_rank *self)
{
    return self->endpoint;
}

/* How many lanes are in this state; LANE_NONE: how many there are. */
static uint32_t lanes_in(const struct endpoints_rank *self, enum mt_verbs_lane_state state)
{
    uint32_t count = 0;
    for (const struct mt_verbs_peer *peer = endpoint_of(self)->open; peer; peer = peer->next_open) {
        for (uint32_t i = 0; i < peer->lane_count; i++)
            count += state == MT_VERBS_LANE_NONE || peer->lanes[i].state == state;
    }
    return count;
}

static uint32_t lanes_of_all(const struct endpoints_rank *self)
{
    return lanes_in(self, MT_VERBS_LANE_NONE);
}

/* All the others' lanes have a thread each, and rank 0's as many as there may be. */
static int are_held(const struct endpoints_rank *self)
{
    struct fake_counts counts;
    fake_verbs_counts(&counts);
    return lanes_in(self, MT_VERBS_LANE_CONNECTING) + lanes_in(self, MT_VERBS_LANE_WAITING) ==
               lanes_of_all(self) &&
           lanes_of_all(self) > MT_VERBS_CONNECTORS &&
           counts.looking >= lanes_of_all(self) + MT_VERBS_CONNECTORS;
}

static int are_open(const struct endpoints_rank *self)
{
    return lanes_in(self, MT_VERBS_LANE_OPEN) == lanes_of_all(self);
}

/* Progress until this holds; 0 when it does. */
static int await(struct endpoints_rank *self, int (*holds)(const struct endpoints_rank *self),
                 const char *what)
{
    uint64_t until_ns = mt_clock_now_ns() + 40 * MT_SECOND;
    while (!holds(self)) {
        if (self->transport->progress(self->endpoint) < 0 || mt_clock_now_ns() > until_ns)
            return endpoints_fail(self, "%s: it does not come to that", what);
    }
    return 0;
}

static void end_time(struct mt_verbs_peer *peer)
{
    for (uint32_t i = 0; i < peer->lane_count; i++) {
        if (peer->lanes[i].state == MT_VERBS_LANE_WAITING)
            peer->lanes[i].until_ns = 0;
    }
}

/* As if the time of those that wait for a thread had passed: it has not begun. */
static int let_time_pass(struct endpoints_rank *self)
{
    int failed = 0;
    for (uint32_t round = 0; round < ROUNDS && !failed; round++) {
        for (struct mt_verbs_peer *peer = endpoint_of(self)->open; peer; peer = peer->next_open)
            end_time(peer);
        endpoint_of(self)->looked_ns = 0;
        failed = self->transport->progress(self->endpoint) < 0;
    }
    return failed;
}

/* A byte each way between rank 0 and the others; rank 0 goes on when its lanes are held up. */
static int begin(struct endpoints_rank *self, uint8_t *in, struct manta_transport_request *requests)
{
    static const uint8_t out = 7;
    uint32_t first = self->rank == 0 ? 1 : 0, last = self->rank == 0 ? OTHERS : 0;
    struct fake_counts counts;
    int failed = 0;
    for (uint32_t peer = first, i = 0; peer <= last && !failed; peer++, i++)
        failed = endpoints_recv(self, peer, 1, 0, &in[i], 1, &requests[2 * i]) ||
                 endpoints_send(self, peer, 1, 0, &out, 1, &requests[2 * i + 1]);
    if (self->rank != 0 || failed)
        return failed;
    failed = await(self, are_held, "lanes that are held up") || let_time_pass(self);
    fake_verbs_counts(&counts);
    uint32_t connecting = lanes_in(self, MT_VERBS_LANE_CONNECTING);
    uint32_t threads = counts.looking - lanes_of_all(self);
    if (!failed && (connecting != MT_VERBS_CONNECTORS || threads != MT_VERBS_CONNECTORS))
        failed = endpoints_fail(self, "%u of %u lanes are being connected, by %u threads",
                                connecting, lanes_of_all(self), threads);
    return failed;
}

static int connect_all(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2 * OTHERS];
    uint8_t in[OTHERS] = {0};
    uint32_t count = self->rank == 0 ? OTHERS : 1;
    int failed = begin(self, in, requests);
    if (self->rank == 0)
        fake_verbs_ways(0);
    failed = failed || endpoints_wait(self, requests, 2 * count) ||
             await(self, are_open, "lanes that are open");
    for (uint32_t i = 0; i < count && !failed; i++)
        failed = in[i] != 7;
    return endpoints_meet(self) || failed;
}

static void test_a_few_at_a_time(void **state)
{
    (void)state;
    fake_verbs_ways(1);
    assert_int_equal(endpoints_run("verbs", RANKS, connect_all, NULL), 0);
}

/* The places of connectors are free again when these have ended, though the peers were lost. */
static uint32_t lose_connecting(struct endpoints_rank *self)
{
    uint32_t lost = 0;
    for (struct mt_verbs_peer *peer = endpoint_of(self)->open; peer; peer = peer->next_open) {
        int is_connecting = 0;
        for (uint32_t i = 0; i < peer->lane_count; i++)
            is_connecting |= peer->lanes[i].state == MT_VERBS_LANE_CONNECTING;
        if (!is_connecting)
            continue;
        mt_verbs_peer_lose(endpoint_of(self), peer, MANTA_EPEER, 0, "it is lost");
        lost++;
    }
    return lost;
}

static int are_over(const struct endpoints_rank *self)
{
    return lanes_in(self, MT_VERBS_LANE_OPEN) + lanes_in(self, MT_VERBS_LANE_DEAD) ==
           lanes_of_all(self);
}

static int lose_some(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2 * OTHERS];
    uint8_t in[OTHERS] = {0};
    int failed = begin(self, in, requests);
    if (self->rank == 0) {
        uint32_t lost = lose_connecting(self), came = 0;
        fake_verbs_ways(0);
        failed = failed || endpoints_wait(self, requests, 2 * OTHERS) ||
                 await(self, are_over, "lanes that are open or ended");
        for (uint32_t i = 0; i < OTHERS; i++)
            came += requests[2 * i].status == 0 && in[i] == 7;
        if (!failed && (lost == 0 || lost == OTHERS || came != OTHERS - lost))
            failed = endpoints_fail(self, "%u were lost, and %u answered", lost, came);
    } else {
        failed = failed || endpoints_wait(self, requests, 2);
    }
    return endpoints_meet(self) || failed;
}

static void test_peers_that_are_lost(void **state)
{
    (void)state;
    fake_verbs_ways(1);
    assert_int_equal(endpoints_run("verbs", RANKS, lose_some, NULL), 0);
}

/* Those that wait are given up at once. */
static int leave(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2 * OTHERS];
    uint8_t in[OTHERS] = {0};
    int failed = begin(self, in, requests);
    if (self->rank != 0)
        return failed || endpoints_wait(self, requests, 2);
    self->transport->abort(self->endpoint, MANTA_EABORTED);
    if (lanes_in(self, MT_VERBS_LANE_CONNECTING) != MT_VERBS_CONNECTORS ||
        lanes_in(self, MT_VERBS_LANE_WAITING) != 0 || endpoint_of(self)->connectors.first != NULL)
        failed = endpoints_fail(self, "some still wait");
    fake_verbs_ways(0);
    self->transport->close(self->endpoint);
    self->closed = 1;
    return failed;
}

static void test_leaving(void **state)
{
    (void)state;
    fake_verbs_ways(1);
    assert_int_equal(endpoints_run("verbs", RANKS, leave, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_few_at_a_time, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_peers_that_are_lost, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_leaving, fake_verbs_setup, fake_verbs_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
