/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that waits for others at creation says for whom, and who has come is not named again. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/bootstrap.h"
#include "core/clock.h"
#include "core/host.h"
#include "core/listener.h"
#include "core/notice.h"
#include "tests/support/logged.h"

enum { RANKS = 3, WAIT_S = 20 };

/* Forget what was logged, and wait until a line has all these words. */
static void expect_line(const char *first, const char *then)
{
    logged_forget();
    if (logged_await(first, then, WAIT_S))
        fail_msg("no line '%s ... %s' came", first, then);
}

struct rank {
    struct mt_bootstrap bootstrap;
    struct mt_welcome welcome;
    struct mt_error error;
    int result;
    pthread_t thread;
};

static void *run(void *arg)
{
    struct rank *rank = arg;
    rank->result = rank->bootstrap.rank == 0
                       ? mt_bootstrap_host(&rank->bootstrap, &rank->welcome, &rank->error)
                       : mt_bootstrap_join(&rank->bootstrap, &rank->welcome, &rank->error);
    return NULL;
}

/* Ranks of one session, none of which has begun. */
struct world {
    struct mt_session session;
    struct mt_door door;
    uint8_t session_id[MT_ID_BYTES];
    struct rank ranks[RANKS];
};

static void open_world(struct world *world, uint64_t patience_ns)
{
    char text[512];
    struct mt_error error = {0};
    memset(world, 0, sizeof *world);
    assert_int_equal(mt_listener_acquire(&error), 0);
    assert_int_equal(mt_session_prepare("127.0.0.1", 0, text, sizeof text, &error), 0);
    assert_int_equal(mt_session_parse(text, &world->session, &error), 0);
    assert_int_equal(mt_auth_session_id(world->session.secret, world->session_id), 0);
    memcpy(world->door.secret, world->session.secret, sizeof world->door.secret);
    memcpy(world->door.session_id, world->session_id, MT_ID_BYTES);
    mt_service_lock();
    mt_door_open(&world->door);
    mt_service_unlock();
    for (uint32_t r = 0; r < RANKS; r++) {
        struct mt_bootstrap *bootstrap = &world->ranks[r].bootstrap;
        *bootstrap = (struct mt_bootstrap){.session = &world->session,
                                           .session_id = world->session_id,
                                           .rank = r,
                                           .ranks = RANKS,
                                           .fingerprint = "",
                                           .patience_ns = patience_ns};
        mt_host_describe(NULL, &bootstrap->member);
        bootstrap->member.rank = r;
    }
    logged_begin();
}

static void start(struct world *world, uint32_t rank)
{
    struct mt_bootstrap *bootstrap = &world->ranks[rank].bootstrap;
    bootstrap->start_ns = mt_clock_now_ns();
    bootstrap->deadline_ns = bootstrap->start_ns + WAIT_S * MT_SECOND;
    assert_int_equal(pthread_create(&world->ranks[rank].thread, NULL, run, &world->ranks[rank]), 0);
}

static void close_world(struct world *world)
{
    for (uint32_t r = 0; r < RANKS; r++)
        pthread_join(world->ranks[r].thread, NULL);
    logged_end();
    mt_service_lock();
    mt_door_close(&world->door);
    mt_service_unlock();
    mt_listener_release();
    for (uint32_t r = 0; r < RANKS; r++) {
        if (world->ranks[r].result)
            fail_msg("rank %u: %s", r, world->ranks[r].error.sentence);
        free(world->ranks[r].welcome.members);
    }
}

static void rank_0_names_those_that_are_missing(void **state)
{
    static struct world world;
    (void)state;
    open_world(&world, MT_MS);
    start(&world, 0);
    expect_line("manta[0] warn: waiting for ranks 1-2 of 3", "start them");
    expect_line("manta[0] warn: waiting for ranks 1-2 of 3", "MANTA_TIMEOUT is 20 s"); /* again */
    start(&world, 2);
    expect_line("manta[0] warn: waiting for rank 1 of 3", "same session");
    start(&world, 1);
    close_world(&world);
}

static void the_others_say_how_far_they_came(void **state)
{
    static struct world world;
    char host[100];
    (void)state;
    open_world(&world, MT_MS);
    snprintf(host, sizeof host, "rank 0 at %s", world.session.addresses[0]);
    start(&world, 1);
    expect_line("manta[1] warn: waiting for rank 0 at 127.0.0.1:", "start it");
    start(&world, 0);
    expect_line("manta[1] warn: waiting for other ranks", host);
    start(&world, 2);
    close_world(&world);
}

/* Nothing is said of a wait that is usual. */
static void patience_comes_first(void **state)
{
    static struct world world;
    (void)state;
    open_world(&world, 3600 * MT_SECOND);
    for (uint32_t r = 0; r < RANKS; r++)
        start(&world, r);
    close_world(&world);
    assert_false(logged_anything());
}

static void intervals_grow(void **state)
{
    struct mt_notice notice = mt_notice_begin(1000, 10);
    (void)state;
    assert_false(mt_notice_is_due(&notice, 1009));
    assert_int_equal(mt_notice_until(&notice, UINT64_MAX), 1010);
    assert_int_equal(mt_notice_until(&notice, 5), 5);
    assert_true(mt_notice_is_due(&notice, 1010));
    assert_false(mt_notice_is_due(&notice, 1019));
    assert_int_equal(notice.last_ns, 1010);
    assert_true(mt_notice_is_due(&notice, 1025)); /* somewhat late */
    assert_int_equal(notice.last_ns, 1025);
    assert_false(mt_notice_is_due(&notice, 1049));
    assert_true(mt_notice_is_due(&notice, 1050));
}

static void patience_may_be_without_end(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct mt_notice notice = mt_notice_begin(1000, i ? UINT64_MAX : 0);
        assert_false(mt_notice_is_due(&notice, UINT64_MAX - 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rank_0_names_those_that_are_missing),
        cmocka_unit_test(the_others_say_how_far_they_came),
        cmocka_unit_test(patience_comes_first),
        cmocka_unit_test(intervals_grow),
        cmocka_unit_test(patience_may_be_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
