/* SPDX-License-Identifier: Apache-2.0 */
/* verbs between threads of this process, over cards in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"
#include "tests/support/fake_verbs.h"
#include "tests/support/manners.h"
#include "tests/support/traffic.h"
#include "transport/registry.h"
#include "transport/unmapped.h"

enum { EAGER = 8192, LONG = 3 << 20 };

static void test_random_exchange(void **state)
{
    static const uint64_t sizes[] = {0, 1, 39, 4096, EAGER - 1, EAGER, EAGER + 1, 200000};
    struct traffic traffic = {sizes, 8, 10};
    static const uint32_t ranks[] = {2, 3, 5, 8};
    (void)state;
    for (size_t i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++)
        assert_int_equal(endpoints_run("verbs", ranks[i], traffic_run, &traffic), 0);
}

static void test_long_messages(void **state)
{
    static const uint64_t sizes[] = {LONG, 5, LONG + 1, EAGER};
    struct traffic traffic = {sizes, 4, 2};
    struct fake_counts counts;
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, traffic_run, &traffic), 0);
    fake_verbs_counts(&counts);
    assert_true(counts.write_bytes >= UINT64_C(2) * 2 * (LONG + LONG + 1));
}

static void test_manners(void **state)
{
    struct manners manners = {.eager_bytes = EAGER};
    /* Queue pairs are made by both ends: the receiver has to look until it has it all. */
    struct manners looking = {.eager_bytes = EAGER, .is_connectionless = 1};
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, manners_flood, &manners), 0);
    assert_int_equal(endpoints_run("verbs", 2, manners_leave, &looking), 0);
    assert_int_equal(endpoints_run("verbs", 2, manners_vanish, &manners), 0);
    assert_int_equal(endpoints_run("verbs", 2, manners_give_up, &manners), 0);
    assert_int_equal(endpoints_run("verbs", 2, manners_sleep, &manners), 0);
    assert_int_equal(endpoints_run("verbs", 2, manners_count, &manners), 0);
}

static struct manta_transport_counters counters_of(const struct endpoints_rank *self)
{
    struct manta_transport_counters counters = {.size = sizeof(counters)};
    self->transport->counters(self->endpoint, &counters);
    return counters;
}

/* A long message each way, between buffers that were used before. */
static int exchange(struct endpoints_rank *self, uint64_t call, uint8_t *source, uint8_t *target)
{
    struct manta_transport_request requests[2];
    struct manta_transport_error error = {.size = sizeof(error)};
    int failed = endpoints_recv(self, !self->rank, call, 0, target, LONG, &requests[0]) ||
                 endpoints_send(self, !self->rank, call, 0, source, LONG, &requests[1]) ||
                 endpoints_wait(self, requests, 2);
    self->transport->error(self->endpoint, &error);
    if (!failed && (requests[0].status != 0 || requests[1].status != 0))
        failed =
            endpoints_fail(self, "call %llu: received %d, sent %d: %s", (unsigned long long)call,
                           requests[0].status, requests[1].status, error.sentence);
    return failed || traffic_differs(target, LONG, !self->rank, 1);
}

/* Where the host tells what is unmapped, buffers are shown to the card once; nothing is copied. */
static int no_copy(struct endpoints_rank *self)
{
    uint8_t *source = traffic_filled(LONG, self->rank, 1);
    uint8_t *target = malloc(LONG + 1);
    memset(target, 0xee, LONG + 1);
    int failed = exchange(self, 1, source, target);
    struct manta_transport_counters before = counters_of(self);
    for (uint64_t call = 2; call < 6 && !failed; call++)
        failed = exchange(self, call, source, target);
    struct manta_transport_counters after = counters_of(self);
    if (!failed && after.copied_bytes != 0)
        failed =
            endpoints_fail(self, "%llu bytes were copied", (unsigned long long)after.copied_bytes);
    if (!failed && after.registrations != before.registrations)
        failed = endpoints_fail(self, "registered %llu times more",
                                (unsigned long long)(after.registrations - before.registrations));
    endpoints_barrier(self);
    free(source);
    free(target);
    return failed;
}

static void test_no_copy(void **state)
{
    (void)state;
    if (mt_unmapped_acquire() != 0)
        skip();
    mt_unmapped_release();
    assert_int_equal(endpoints_run("verbs", 2, no_copy, NULL), 0);
}

/* A rail dies in the middle of it all, and all arrives over the other one; so when words of what
 * has arrived are lost. Then the first is mended, is made again, and the other one dies. */
static void run_cut(uint32_t device, uint64_t after, int arrives)
{
    static const uint64_t sizes[] = {0, 1, 4096, EAGER, EAGER + 1, 200000, 1 << 20};
    struct traffic traffic = {sizes, 7, 6};
    fake_verbs_cut(device, after, arrives);
    assert_int_equal(endpoints_run("verbs", 2, traffic_run, &traffic), 0);
    fake_verbs_mend(device);
}

static void test_rail_dies(void **state)
{
    (void)state;
    for (uint64_t after = 5; after < 160; after += 13) {
        run_cut(0, after, 0);
        run_cut(1, after, 0);
        run_cut(0, after, 1);
        run_cut(1, after, 1);
    }
}

/* The only path is dead for a while. */
static int outage(struct endpoints_rank *self)
{
    uint8_t *source = traffic_filled(LONG, self->rank, 1);
    uint8_t *target = malloc(LONG + 1);
    memset(target, 0xee, LONG + 1);
    int failed = 0;
    for (uint64_t call = 1; call < 12 && !failed; call++) {
        if (self->rank == 0 && call % 4 == 1)
            fake_verbs_cut(0, 3 + call, call % 8 == 1);
        failed = exchange(self, call, source, target);
        endpoints_barrier(self);
    }
    free(source);
    free(target);
    return failed ? endpoints_fail(self, "a message was lost") : 0;
}

static void *mend_soon(void *arg)
{
    _Atomic int *stop = arg;
    struct fake_counts before, now;
    while (!atomic_load(stop)) {
        fake_verbs_counts(&before);
        do { /* until nothing goes on but tries to make the lane again */
            fake_verbs_counts(&now);
        } while (now.posts < before.posts + 3 && !atomic_load(stop));
        fake_verbs_mend(0);
    }
    return NULL;
}

static void test_outage_of_the_only_rail(void **state)
{
    _Atomic int stop = 0;
    pthread_t thread;
    (void)state;
    fake_verbs_port(1, 1 /* IBV_PORT_DOWN */, 1, 1);
    pthread_create(&thread, NULL, mend_soon, &stop);
    assert_int_equal(endpoints_run("verbs", 2, outage, NULL), 0);
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
}

static void cut_all(uint64_t after, int arrives)
{
    fake_verbs_cut(0, after, arrives);
    fake_verbs_cut(1, after, arrives);
}

static void mend_all(void)
{
    fake_verbs_mend(0);
    fake_verbs_mend(1);
}

static int traffic_with_tcp(struct endpoints_rank *self)
{
    self->group->has_tcp = 1;
    return traffic_rounds(self) | endpoints_part(self);
}

/* All rails die in the middle of it all, or before it: the rest goes over the stream. */
static void test_tcp_takes_over(void **state)
{
    static const uint64_t sizes[] = {0, 1, 4096, EAGER, EAGER + 1, 200000, 1 << 20};
    struct traffic traffic = {sizes, 7, 6};
    (void)state;
    for (uint64_t after = 0; after < 160; after += 13) {
        for (int arrives = 0; arrives < 2; arrives++) {
            cut_all(after, arrives);
            assert_int_equal(endpoints_run("verbs", 2, traffic_with_tcp, &traffic), 0);
            mend_all();
        }
    }
    cut_all(200, 1);
    assert_int_equal(endpoints_run("verbs", 5, traffic_with_tcp, &traffic), 0);
    mend_all();
}

static uint64_t writes_ever(void)
{
    struct fake_counts counts;
    fake_verbs_counts(&counts);
    return counts.writes;
}

/* Messages until a card writes again, which rank 0 sees for both. 0: it does. */
static int until_a_rail_is_back(struct endpoints_rank *self, uint64_t *call, uint8_t *source,
                                uint8_t *target)
{
    static _Atomic int is_back;
    uint64_t before = writes_ever(), until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    int failed = 0;
    for (;;) {
        failed |= exchange(self, (*call)++, source, target);
        if (self->rank == 0)
            atomic_store(&is_back, writes_ever() > before || failed);
        failed |= endpoints_meet(self) || mt_clock_now_ns() > until_ns;
        int is_over = atomic_load(&is_back) || failed;
        failed |= endpoints_meet(self);
        if (is_over)
            return failed;
    }
}

/* Rails die and come back, again and again, and frames change from one path to the other. */
static int there_and_back(struct endpoints_rank *self)
{
    uint8_t *source = traffic_filled(LONG, self->rank, 1);
    uint8_t *target = malloc(LONG + 1);
    memset(target, 0xee, LONG + 1);
    uint64_t call = 1;
    int failed = 0;
    self->group->has_tcp = 1;
    for (uint32_t round = 0; round < 4 && !failed; round++) {
        failed = exchange(self, call++, source, target);
        if (self->rank == 0)
            cut_all(1 + 5 * round, round % 2 == 1);
        for (uint32_t i = 0; i < 3 && !failed; i++)
            failed = exchange(self, call++, source, target);
        failed |= endpoints_meet(self);
        if (self->rank == 0)
            mend_all();
        failed |= endpoints_meet(self) || until_a_rail_is_back(self, &call, source, target);
    }
    failed |= endpoints_part(self);
    free(source);
    free(target);
    return failed ? endpoints_fail(self, "a message was lost, or no rail came back") : 0;
}

static void test_from_tcp_back_to_a_rail(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, there_and_back, NULL), 0);
}

/* Without tcp both ends are told the same, whoever is the first to give up. */
static int cut_off(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2];
    struct manta_transport_error error = {.size = sizeof(error)};
    uint8_t in, out = 1;
    int failed = endpoints_recv(self, !self->rank, 1, 0, &in, 1, &requests[0]) ||
                 endpoints_send(self, !self->rank, 1, 0, &out, 1, &requests[1]) ||
                 endpoints_wait(self, requests, 2);
    self->transport->error(self->endpoint, &error);
    if (failed || requests[0].status != MANTA_ETRANSPORT ||
        strstr(error.sentence, "no rail joins ranks 0 and 1") == NULL)
        failed = endpoints_fail(self, "%d '%s'", requests[0].status, error.sentence);
    endpoints_barrier(self);
    return failed;
}

static void test_both_ends_are_told(void **state)
{
    (void)state;
    cut_all(0, 0);
    assert_int_equal(endpoints_run("verbs", 2, cut_off, NULL), 0);
    mend_all();
}

/* The first kind of GID leads nowhere, which is seen at once or by silence. */
static void test_gid_is_probed(void **state)
{
    static const uint64_t sizes[] = {0, 1, EAGER + 1, 200000};
    struct traffic traffic = {sizes, 4, 2};
    (void)state;
    for (int silent = 0; silent < 2; silent++) {
        fake_verbs_mislead(1, silent);
        assert_int_equal(endpoints_run("verbs", 2, traffic_run, &traffic), 0);
    }
    fake_verbs_mislead(0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random_exchange, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_long_messages, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_manners, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_no_copy, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_rail_dies, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_outage_of_the_only_rail, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_tcp_takes_over, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_from_tcp_back_to_a_rail, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_both_ends_are_told, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_gid_is_probed, fake_verbs_setup, fake_verbs_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
