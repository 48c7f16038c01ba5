/* SPDX-License-Identifier: Apache-2.0 */
/* Short frames by way of rings: that they go there, when they must not, and what garbage does. */
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/bytes.h"
#include "core/clock.h"
#include "tests/support/endpoints.h"
#include "tests/support/fake_verbs.h"
#include "tests/support/lanes.h"
#include "transport/verbs/verbs.h"

enum {
    TRIPS = 400,
    MANY = 70000, /* more than 16 bits count */
    WINDOW = 64,
    LONG = 4000, /* for a ring */
    LINE = MT_VERBS_RING_SLOTS * MT_VERBS_RING_SLOT_BYTES,
    LINE_POLLS = LINE + 4, /* whether the peer polls, in the word at the line's begin */
    LINE_SLEEPS,
    TAIL_MARK = 4,
    TAIL_LAST = 8, /* of the 16 bytes at the end of each slot */
    MARK = 'R'
};

static struct mt_verbs_peer *other(const struct endpoints_rank *self)
{
    return ((const struct mt_verbs_endpoint *)self->endpoint)->peers[!self->rank];
}

static uint64_t writes(void)
{
    struct fake_counts counts;
    fake_verbs_counts(&counts);
    return counts.writes;
}

/* Without sleep, of which peers would be told. */
static int spin(struct endpoints_rank *self, const struct manta_transport_request *request)
{
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    while (request->status == MANTA_INPROGRESS && mt_clock_now_ns() < until_ns) {
        if (self->transport->progress(self->endpoint) == 0)
            sched_yield();
    }
    return request->status;
}

/* A number to and fro, so often, as this call. */
static int play(struct endpoints_rank *self, uint64_t call, uint32_t trips)
{
    struct manta_transport_request request;
    for (uint32_t i = 0; i < 2 * trips; i++) {
        uint64_t out = call << 32 | i, in = 0;
        int is_sender = i % 2 == self->rank;
        int failed = is_sender ? endpoints_send(self, !self->rank, call, i, &out, 8, &request)
                               : endpoints_recv(self, !self->rank, call, i, &in, 8, &request);
        if (failed || spin(self, &request) != 0)
            return endpoints_fail(self, "trip %u: %d", i, request.status);
        if (!is_sender && in != out)
            return endpoints_fail(self, "trip %u brought %llx", i, (unsigned long long)in);
    }
    return 0;
}

static int ping_pong(struct endpoints_rank *self)
{
    int failed = play(self, 1, TRIPS);
    return endpoints_part(self) || failed;
}

static void test_written(void **state)
{
    (void)state;
    uint64_t before = writes();
    assert_int_equal(endpoints_run("verbs", 2, ping_pong, NULL), 0);
    assert_true(writes() - before > 2 * TRIPS - 20); /* all but the first */
}

static void test_none(void **state)
{
    (void)state;
    setenv("MANTA_VERBS_RINGS", "0", 1);
    uint64_t before = writes();
    int failed = endpoints_run("verbs", 2, ping_pong, NULL);
    unsetenv("MANTA_VERBS_RINGS");
    assert_int_equal(failed, 0);
    assert_true(writes() - before <= 4); /* of nothing, to try the lanes */
}

/* More ranks than rings: some pairs have none. */
static int talk_to_all(struct endpoints_rank *self)
{
    struct manta_transport_request requests[16];
    uint64_t out = self->rank, in[8];
    int failed = 0;
    for (uint32_t round = 0; round < 50 && !failed; round++) {
        uint32_t count = 0;
        for (uint32_t peer = 0; peer < self->ranks && !failed; peer++) {
            if (peer == self->rank)
                continue;
            failed = endpoints_recv(self, peer, round, 0, &in[peer], 8, &requests[count++]) ||
                     endpoints_send(self, peer, round, 0, &out, 8, &requests[count++]);
        }
        failed = failed || endpoints_wait(self, requests, count);
        for (uint32_t peer = 0; peer < self->ranks && !failed; peer++)
            failed = peer != self->rank && in[peer] != peer;
    }
    return endpoints_part(self) || failed;
}

static void test_few(void **state)
{
    (void)state;
    setenv("MANTA_VERBS_RINGS", "2", 1);
    int failed = endpoints_run("verbs", 5, talk_to_all, NULL);
    unsetenv("MANTA_VERBS_RINGS");
    assert_int_equal(failed, 0);
}

/* One speaks and the other is silent, for longer than the numbers in a frame count. */
static int listen_only(struct endpoints_rank *self)
{
    static uint64_t values[2][WINDOW];
    struct manta_transport_request requests[WINDOW];
    uint64_t *mine = values[self->rank];
    for (uint32_t i = 0; i < MANY + WINDOW; i++) {
        uint32_t place = i % WINDOW;
        if (i >= WINDOW && (spin(self, &requests[place]) != 0 || mine[place] != i - WINDOW))
            return endpoints_fail(self, "message %u: %llu", i - WINDOW,
                                  (unsigned long long)mine[place]);
        if (i >= MANY)
            continue;
        mine[place] = self->rank == 0 ? i : UINT64_MAX;
        int failed = self->rank == 0
                         ? endpoints_send(self, 1, 1, i, &mine[place], 8, &requests[place])
                         : endpoints_recv(self, 0, 1, i, &mine[place], 8, &requests[place]);
        if (failed)
            return failed;
    }
    return endpoints_part(self);
}

static void test_one_way(void **state)
{
    (void)state;
    uint64_t before = writes();
    assert_int_equal(endpoints_run("verbs", 2, listen_only, NULL), 0);
    assert_true(writes() - before > 100);
}

/* Until the peer may write here, over any lane. */
static int grow_calm(struct endpoints_rank *self, uint64_t call)
{
    return play(self, call, 20) || lanes_open(self, !self->rank) || endpoints_meet(self);
}

static int sleep_once(struct endpoints_rank *self)
{
    struct pollfd ready = {.fd = self->transport->wait_fd(self->endpoint), .events = POLLIN};
    while (self->transport->arm(self->endpoint))
        self->transport->disarm(self->endpoint);
    return poll(&ready, 1, 20000) == 1 ? 0 : endpoints_fail(self, "nothing woke it");
}

/* Rank 1 falls asleep, and says so. What rank 0 sends then wakes it; or has crossed that word, as
 * if it had not come, and is found. */
static int wake(struct endpoints_rank *self)
{
    const int *crosses = self->arg;
    struct manta_transport_request request;
    uint64_t value = 0;
    int failed = grow_calm(self, 1);
    if (self->rank == 1) {
        failed = failed || endpoints_recv(self, 0, 2, 0, &value, 8, &request);
        while (self->transport->arm(self->endpoint))
            self->transport->disarm(self->endpoint);
        endpoints_barrier(self); /* asleep */
        endpoints_barrier(self); /* and spoken to */
        while (!failed && request.status == MANTA_INPROGRESS) {
            failed = sleep_once(self);
            self->transport->disarm(self->endpoint);
            self->transport->progress(self->endpoint);
        }
        failed = failed || value != 7;
    } else {
        endpoints_barrier(self);
        uint64_t before = writes();
        int is_polled = mt_verbs_ring_fits(other(self), other(self)->next, 48);
        if (*crosses)
            other(self)->ring.slots[LINE_POLLS] = 1;
        value = 7;
        failed = failed || endpoints_send(self, 1, 2, 0, &value, 8, &request);
        if (is_polled || writes() - before != (uint64_t)*crosses)
            failed = endpoints_fail(self, "%d, %d writes", is_polled, (int)(writes() - before));
        other(self)->ring.slots[LINE_POLLS] = 0;
        endpoints_barrier(self);
        failed = failed || endpoints_wait(self, &request, 1);
    }
    failed = failed || play(self, 3, 20);
    return endpoints_part(self) || failed;
}

static void test_sleeper(void **state)
{
    (void)state;
    for (int crosses = 0; crosses < 2; crosses++)
        assert_int_equal(endpoints_run("verbs", 2, wake, &crosses), 0);
}

/* A peer that has slept so often that the count is again what it was when it said that it polls. */
static int count_sleeps(struct endpoints_rank *self)
{
    int failed = grow_calm(self, 1);
    endpoints_barrier(self);
    if (self->rank == 0 && !failed) {
        struct mt_verbs_peer *peer = other(self);
        peer->ring.slots[LINE_POLLS] = 0;
        peer->ring.polls_there = 1;
        peer->ring.sleeps_there = peer->ring.slots[LINE_SLEEPS];
        for (uint32_t sleeps = 1; sleeps <= 256 && !failed; sleeps++) {
            peer->ring.slots[LINE_SLEEPS] = (uint8_t)(peer->ring.sleeps_there + sleeps);
            failed = mt_verbs_ring_fits(peer, peer->next, 48);
        }
        if (failed)
            failed = endpoints_fail(self, "%u is taken for %u", peer->ring.slots[LINE_SLEEPS],
                                    peer->ring.sleeps_there);
    }
    endpoints_barrier(self);
    failed = failed || play(self, 2, 20);
    return endpoints_part(self) || failed;
}

static void test_many_sleeps(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, count_sleeps, NULL), 0);
}

/* A nap in which nothing came is nothing that happened: who waits counts how long it is quiet. */
static int nap(struct endpoints_rank *self)
{
    int failed = grow_calm(self, 1), quiet = 0;
    for (int i = 0; i < 10 && self->rank == 1 && !failed; i++) {
        failed = sleep_once(self);
        self->transport->disarm(self->endpoint);
        quiet += self->transport->progress(self->endpoint) == 0;
    }
    endpoints_barrier(self);
    if (self->rank == 1 && quiet < 5)
        failed = endpoints_fail(self, "only %d of 10 naps were quiet", quiet);
    return endpoints_part(self) || failed;
}

static void test_nap(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, nap, NULL), 0);
}

/* A lane dies under it, at any point. */
static void test_lane_dies(void **state)
{
    (void)state;
    for (uint64_t after = 20; after < 200; after += 7) {
        for (uint32_t device = 0; device < 2; device++) {
            fake_verbs_cut(device, after, (int)(after % 2));
            assert_int_equal(endpoints_run("verbs", 2, ping_pong, NULL), 0);
            fake_verbs_mend(device);
        }
    }
}

/* What is lost on a dead lane may come late: the ring is left alone until the peer has said that
 * it has ended that lane, too. */
static int leave_alone(struct endpoints_rank *self)
{
    struct mt_verbs_endpoint *endpoint = self->endpoint;
    int failed = grow_calm(self, 1);
    if (self->rank == 0 && !failed) {
        struct mt_verbs_peer *peer = other(self);
        int first = peer->current;
        mt_verbs_lane_fail(endpoint, &peer->lanes[first], "the test says so");
        uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
        while ((peer->current < 0 || peer->downs != 0) && mt_clock_now_ns() < until_ns)
            mt_verbs_settle(endpoint); /* takes nothing from the peer */
        if (peer->current < 0 || peer->current == first || peer->downs != 0)
            failed = endpoints_fail(self, "it does not go over to the other lane");
        else if (mt_verbs_ring_fits(peer, peer->next, 48))
            failed = endpoints_fail(self, "the ring is used while the peer knows of nothing");
    }
    failed = failed || play(self, 2, 20);
    if (!failed && other(self)->ring.taken != other(self)->ring.after)
        failed = endpoints_fail(self, "the ring is left alone for good");
    return endpoints_part(self) || failed;
}

static void test_left_alone(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, leave_alone, NULL), 0);
}

/* Until each has taken all that the other has sent, and has word of it. */
static int come_to_rest(struct endpoints_rank *self)
{
    static _Atomic uint32_t sent[2];
    static _Atomic int is_busy[2];
    const struct mt_verbs_peer *peer = other(self);
    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < 100; i++) {
            self->transport->drain(self->endpoint);
            self->transport->progress(self->endpoint);
        }
        sent[self->rank] = peer->next;
        endpoints_barrier(self);
        is_busy[self->rank] = peer->next != peer->acked || peer->expected != sent[!self->rank];
        endpoints_barrier(self);
        if (!is_busy[0] && !is_busy[1])
            return 0;
    }
    return endpoints_fail(self, "there are always frames under way");
}

static int exchange_long(struct endpoints_rank *self, uint32_t number)
{
    static uint8_t out[2][LONG], in[2][LONG];
    struct manta_transport_request sent, received;
    memset(out[self->rank], (int)(number + self->rank), LONG);
    int failed = endpoints_recv(self, !self->rank, 2, number, in[self->rank], LONG, &received) ||
                 endpoints_send(self, !self->rank, 2, number, out[self->rank], LONG, &sent) ||
                 spin(self, &received) || spin(self, &sent);
    for (uint32_t i = 0; i < LONG && !failed; i++)
        failed = in[self->rank][i] != (uint8_t)(number + !self->rank);
    return failed ? endpoints_fail(self, "message %u: an old frame was taken for it", number) : 0;
}

/* As if so many frames had passed that all numbers begin again, and the ring had none of them. */
static int age(struct endpoints_rank *self)
{
    const uint32_t number = UINT32_MAX - 8;
    int failed = grow_calm(self, 1) || come_to_rest(self);
    struct mt_verbs_peer *peer = other(self);
    peer->next = peer->posted = peer->acked = peer->drained = number;
    peer->expected = peer->ring.taken = peer->ring.after = number;
    endpoints_barrier(self);
    for (uint32_t i = 0; i < TRIPS && !failed; i++)
        failed = exchange_long(self, i);
    failed = failed || play(self, 3, TRIPS);
    return endpoints_part(self) || failed;
}

static void test_age(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, age, NULL), 0);
}

/* The peer's card writes nonsense where the next frame is expected. */
static const struct {
    uint8_t mark;
    uint32_t bytes;
} nonsense[] = {{MARK, 0xff}, {MARK, 241}, {MARK, 240}, {MARK, 0}, {MARK, 39}, {0, 48}};

static int read_nonsense(struct endpoints_rank *self)
{
    const size_t *kind = self->arg;
    struct manta_transport_error error = {.size = sizeof(error)};
    int failed = grow_calm(self, 1);
    endpoints_barrier(self);
    if (self->rank == 1 && !failed) {
        struct mt_verbs_peer *peer = other(self);
        uint8_t *end = peer->ring.slots + (peer->expected % MT_VERBS_RING_SLOTS + 1) *
                                              (size_t)MT_VERBS_RING_SLOT_BYTES;
        memset(end - MT_VERBS_RING_SLOT_BYTES, 0xa5, MT_VERBS_RING_SLOT_BYTES);
        end[TAIL_MARK - MT_VERBS_TAIL_BYTES] = nonsense[*kind].mark;
        mt_bytes_put32(end + TAIL_LAST - MT_VERBS_TAIL_BYTES, nonsense[*kind].bytes);
        mt_bytes_put32(end + TAIL_LAST + 4 - MT_VERBS_TAIL_BYTES, peer->expected + 1);
        self->transport->progress(self->endpoint);
        self->transport->error(self->endpoint, &error);
        if (self->transport->peer_status(self->endpoint, 0) != MANTA_EPEER ||
            strstr(error.sentence, "sent a frame that is none") == NULL)
            failed = endpoints_fail(self, "kind %zu: '%s'", *kind, error.sentence);
    }
    endpoints_barrier(self);
    return failed;
}

static void test_nonsense(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < sizeof(nonsense) / sizeof(nonsense[0]); kind++)
        assert_int_equal(endpoints_run("verbs", 2, read_nonsense, &kind), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_written, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_none, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_few, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_one_way, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_sleeper, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_many_sleeps, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_nap, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_lane_dies, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_left_alone, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_age, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_nonsense, fake_verbs_setup, fake_verbs_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
