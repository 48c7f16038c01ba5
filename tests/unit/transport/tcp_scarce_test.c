/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp endpoints that open, connect and exchange while memory runs out: at each place that
 * allocates, for good, and for once at some of its calls. Whatever fails, nothing hangs or crashes,
 * what is said to have arrived is right, somebody tells of the lack, and nothing is left.
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/group.h"
#include "tests/support/meeting.h"
#include "tests/support/ranks.h"
#include "tests/support/scarce.h"
#include "tests/support/traffic.h"
#include "transport/registry.h"

extern char __executable_start; /* of the linker */

enum { RANKS = 3, SIZES = 3, LONGEST = 300000, PATIENCE_S = 1, LIMIT_S = 20 };
static const uint64_t sizes[SIZES] = {100, 32768, LONGEST};
static uint8_t *sources[RANKS][SIZES];

static struct scene {
    char session[512];
    int nth;
    struct meeting barrier;
    _Atomic int failed;  /* ranks that cannot go on */
    _Atomic int told;    /* of them, those that lack memory */
    _Atomic int offered; /* bit of each rank that has opened its endpoint */
    _Atomic int wrong;   /* promises that were broken */
} scene;

static struct actor {
    uint32_t rank;
    struct mt_group *group;
    const struct manta_transport *tcp;
    void *endpoint;
    struct manta_transport_request sends[RANKS][SIZES], recvs[RANKS][SIZES];
    uint8_t expects[RANKS][SIZES]; /* the receive was accepted */
    uint8_t targets[RANKS][SIZES][LONGEST + 1];
    pthread_t thread;
} actors[RANKS];

static void complain(const struct actor *actor, const char *what, int value)
{
    fprintf(stderr, "rank %u: %s (%d)\n", actor->rank, what, value);
    atomic_fetch_add(&scene.wrong, 1);
}

static int is_offered(uint32_t rank)
{
    return atomic_load(&scene.offered) >> rank & 1;
}

static int open_endpoint(struct actor *actor)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    const struct manta_transport_open params = {.size = sizeof(params),
                                                .host = mt_transport_host(),
                                                .rank = actor->rank,
                                                .ranks = RANKS,
                                                .epoch = actor->group->epoch,
                                                .local_ranks = RANKS,
                                                .timeout_ns = LIMIT_S * MT_SECOND,
                                                .group = actor->group};
    int code = actor->tcp->open(&params, &actor->endpoint, &error);
    if (code == 0)
        atomic_fetch_or(&scene.offered, 1 << actor->rank);
    else if (error.sentence[0] == '\0')
        complain(actor, "an endpoint that is not opened says nothing", code);
    return code;
}

static void know_peers(struct actor *actor)
{
    uint8_t offer[MANTA_TRANSPORT_ADDRESS_MAX];
    const void *addresses[RANKS];
    size_t bytes[RANKS];
    for (uint32_t r = 0; r < RANKS; r++) {
        addresses[r] = offer; /* all are alike */
        actor->tcp->address(actor->endpoint, offer, sizeof(offer), &bytes[r]);
        bytes[r] = is_offered(r) ? bytes[r] : 0;
    }
    actor->tcp->peers(actor->endpoint, addresses, bytes);
}

static int post(struct actor *actor, uint32_t peer, uint32_t size)
{
    struct manta_transport_buffer from = {.address = sources[actor->rank][size],
                                          .bytes = sizes[size]};
    struct manta_transport_buffer to = {.address = actor->targets[peer][size],
                                        .bytes = sizes[size]};
    struct manta_transport_message message = {
        .id = {.call = size + 1, .epoch = actor->group->epoch, .hash = 1},
        .peer = peer,
        .buffer_count = 1,
        .buffers = &from,
        .bytes = sizes[size]};
    memset(actor->targets[peer][size], 0xee, sizes[size] + 1);
    int code = actor->tcp->send(actor->endpoint, &message, &actor->sends[peer][size]);
    message.buffers = &to;
    if (code == 0)
        code = actor->tcp->recv(actor->endpoint, &message, &actor->recvs[peer][size]);
    actor->expects[peer][size] = code == 0;
    return code;
}

/* The connections of the others come before this rank knows what it wants of them. */
static int be_called(struct actor *actor)
{
    int code = 0;
    for (int look = 0; look < 200 && code >= 0 && atomic_load(&scene.failed) == 0; look++) {
        int called = 0;
        for (uint32_t peer = 0; peer < actor->rank; peer++)
            called += actor->tcp->peer_status(actor->endpoint, peer) != MANTA_INPROGRESS;
        if (called == (int)actor->rank)
            break;
        struct pollfd ready = {.fd = actor->tcp->wait_fd(actor->endpoint), .events = POLLIN};
        poll(&ready, 1, 1);
        code = actor->tcp->progress(actor->endpoint);
    }
    return code < 0 ? code : 0;
}

/* Messages of every size to and from every peer; the first error ends it. */
static int post_all(struct actor *actor)
{
    int code = 0;
    memset(actor->sends, 0, sizeof(actor->sends));
    memset(actor->recvs, 0, sizeof(actor->recvs));
    memset(actor->expects, 0, sizeof(actor->expects));
    for (uint32_t peer = 0; peer < RANKS; peer++)
        for (uint32_t size = 0; size < SIZES && code == 0; size++)
            if (peer != actor->rank && is_offered(peer))
                code = post(actor, peer, size);
    return code;
}

/* How many requests are under way; *code_out: the status of one that failed. */
static uint32_t count_open(const struct actor *actor, int *code_out)
{
    uint32_t open = 0;
    for (uint32_t peer = 0; peer < RANKS; peer++)
        for (uint32_t size = 0; size < SIZES; size++) {
            const int status[] = {actor->sends[peer][size].status, actor->recvs[peer][size].status};
            for (int i = 0; i < 2; i++) {
                open += status[i] == MANTA_INPROGRESS;
                *code_out = status[i] < 0 ? status[i] : *code_out;
            }
        }
    return open;
}

/* Until all is done, something failed here or elsewhere, or it seems that nothing will come. */
static int exchange(struct actor *actor)
{
    uint64_t seconds = scene.nth == SCARCE_ALL ? PATIENCE_S : LIMIT_S;
    uint64_t until_ns = mt_clock_now_ns() + seconds * MT_SECOND;
    int code = 0;
    while (count_open(actor, &code) > 0 && code == 0 && atomic_load(&scene.failed) == 0) {
        if (mt_clock_now_ns() > until_ns)
            return MANTA_ETIMEOUT;
        int moved = actor->tcp->progress(actor->endpoint);
        if (moved < 0)
            return moved;
        if (moved == 0 && actor->tcp->arm(actor->endpoint) == 0) {
            struct pollfd ready = {.fd = actor->tcp->wait_fd(actor->endpoint), .events = POLLIN};
            poll(&ready, 1, 1);
        }
        actor->tcp->disarm(actor->endpoint);
    }
    return code;
}

/* A rank that is not aborted lets the others finish. */
static void serve(struct actor *actor)
{
    uint64_t until_ns = mt_clock_now_ns() + LIMIT_S * MT_SECOND;
    while (actor->tcp->drain(actor->endpoint) > 0 && mt_clock_now_ns() < until_ns)
        actor->tcp->progress(actor->endpoint);
}

static void check(const struct actor *actor)
{
    int code = 0;
    if (count_open(actor, &code) > 0)
        complain(actor, "a request is under way at the end", 0);
    for (uint32_t peer = 0; peer < RANKS; peer++)
        for (uint32_t size = 0; size < SIZES; size++)
            if (actor->expects[peer][size] && actor->recvs[peer][size].status == 0 &&
                traffic_differs(actor->targets[peer][size], sizes[size], peer, size))
                complain(actor, "a message is not what was sent", (int)size);
}

static void play(struct actor *actor)
{
    int code = open_endpoint(actor);
    meeting_wait(&scene.barrier);
    if (code == 0) {
        know_peers(actor);
        if (actor->rank == RANKS - 1)
            code = be_called(actor);
        if (code == 0)
            code = post_all(actor);
    }
    if (code == 0)
        code = exchange(actor);
    atomic_fetch_add(&scene.failed, code != 0);
    atomic_fetch_add(&scene.told, code == MANTA_ENOMEM);
    if (actor->endpoint && atomic_load(&scene.failed))
        actor->tcp->abort(actor->endpoint, MANTA_EABORTED);
    else if (actor->endpoint)
        serve(actor);
    if (actor->endpoint)
        check(actor);
    meeting_wait(&scene.barrier);
    if (actor->endpoint)
        actor->tcp->close(actor->endpoint);
}

static void *be_rank(void *arg)
{
    struct actor *actor = arg;
    struct mt_error error;
    const struct mt_group_join join = {.session = scene.session,
                                       .rank = actor->rank,
                                       .ranks = RANKS,
                                       .timeout_ns = LIMIT_S * MT_SECOND};
    int code = mt_group_join(&join, &actor->group, &error);
    if (code)
        complain(actor, error.sentence, code);
    meeting_wait(&scene.barrier); /* the memory runs out in between */
    meeting_wait(&scene.barrier);
    if (code == 0)
        play(actor);
    meeting_wait(&scene.barrier); /* and comes back */
    mt_group_leave(actor->group);
    return NULL;
}

/* How many ranks failed; -1: a promise was broken. */
static int run_all(void *failing, int nth, int in_a_row)
{
    memset(&scene, 0, sizeof(scene));
    scene.nth = nth;
    assert_int_equal(manta_session_create(scene.session, sizeof(scene.session)), 0);
    meeting_begin(&scene.barrier, RANKS + 1);
    for (uint32_t r = 0; r < RANKS; r++) {
        actors[r].rank = r;
        actors[r].group = NULL;
        actors[r].endpoint = NULL;
        actors[r].tcp = mt_transport_find("tcp");
        assert_int_equal(pthread_create(&actors[r].thread, NULL, be_rank, &actors[r]), 0);
    }
    meeting_wait(&scene.barrier);
    scarce_begin(failing, nth, in_a_row);
    for (int i = 0; i < 3; i++) /* opened; played; closed */
        meeting_wait(&scene.barrier);
    int was_scarce = scarce_end();
    meeting_wait(&scene.barrier);
    for (uint32_t r = 0; r < RANKS; r++)
        pthread_join(actors[r].thread, NULL);
    meeting_end(&scene.barrier);
    int is_told = scene.failed == 0 || scene.told > 0 || nth == SCARCE_ALL;
    return scene.wrong || !is_told || (scene.failed && !was_scarce) ? -1 : scene.failed;
}

static void show(const struct scarce_site *site, int nth, int failed)
{
    print_error("call %d at %#zx of this program: %d ranks failed\n", nth,
                (size_t)((uintptr_t)site->address - (uintptr_t)&__executable_start), failed);
}

static void whatever_fails_is_told(void **state)
{
    struct scarce_site sites[SCARCE_SITES];
    (void)state;
    assert_int_equal(run_all(NULL, 0, 0), 0); /* what the library keeps for good is there now */
    int descriptors = folder_entries("/proc/self/fd");
    long live = scarce.live;
    assert_int_equal(run_all(NULL, 0, 0), 0);
    assert_int_equal(scarce.live, live);
    int count = scarce.site_count;
    memcpy(sites, scarce.sites, sizeof(sites));
    for (int i = 0; i < count; i++) {
        for (int turn = 0; turn <= 2 * sites[i].calls; turn++) {
            int nth = turn ? (turn + 1) / 2 : SCARCE_ALL;
            int failed = run_all(sites[i].address, nth, 1 + turn % 2);
            if (failed < 0 || scarce.live != live || folder_entries("/proc/self/fd") != descriptors)
                show(&sites[i], nth, failed);
            assert_true(failed >= 0);
            assert_int_equal(scarce.live, live);
            assert_int_equal(folder_entries("/proc/self/fd"), descriptors);
        }
    }
    assert_int_equal(run_all(NULL, 0, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_fails_is_told),
    };
    for (uint32_t r = 0; r < RANKS; r++)
        for (uint32_t size = 0; size < SIZES; size++)
            sources[r][size] = traffic_filled(sizes[size], r, size);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
