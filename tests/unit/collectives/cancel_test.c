/* SPDX-License-Identifier: Apache-2.0 */
/* Creations that are given up while they wait: what is left of them, what the other ranks see, and
 * that the same session serves again. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "core/session.h"
#include "tests/support/held.h"
#include "tests/support/ranks.h"

enum { RANKS = 3, SESSION_BYTES = 512 };
#define TIMEOUT_NS UINT64_C(20000000000)

struct rank {
    struct manta_config config;
    int cancel; /* atomic */
    struct manta_comm *comm;
    int result; /* of the creation, then of a barrier */
    struct manta_error_info info;
    pthread_t thread;
};

static void *create(void *arg)
{
    struct rank *rank = arg;
    rank->info.size = sizeof(rank->info);
    rank->result = manta_comm_create(&rank->config, &rank->comm);
    manta_comm_error(NULL, &rank->info);
    if (rank->result == 0)
        rank->result = manta_barrier(rank->comm);
    return NULL;
}

static void start(struct rank *rank, int number, int ranks, const char *session)
{
    const struct manta_config config = MANTA_CONFIG_INIT;
    *rank = (struct rank){.config = config};
    rank->config.rank = number;
    rank->config.ranks = ranks;
    rank->config.session = session;
    rank->config.timeout_ns = TIMEOUT_NS;
    rank->config.cancel = &rank->cancel;
    assert_int_equal(pthread_create(&rank->thread, NULL, create, rank), 0);
}

static void give_up(struct rank *rank)
{
    __atomic_store_n(&rank->cancel, 1, __ATOMIC_RELEASE);
}

static void expect(struct rank *rank, int result)
{
    pthread_join(rank->thread, NULL);
    if (rank->result != result)
        fail_msg("rank %d: %d '%s'", rank->config.rank, rank->result, rank->info.sentence);
    manta_comm_destroy(rank->comm);
    rank->comm = NULL;
}

static void expect_given_up(struct rank *rank)
{
    expect(rank, MANTA_EABORTED);
    assert_int_equal(rank->info.rank, rank->config.rank);
    assert_non_null(strstr(rank->info.sentence, "gave up creating the communicator"));
}

/* Made here, so that its listener is up already; or prepared, for rank 0 to listen. */
static void make_session(char *session, int prepared)
{
    struct mt_error error;
    assert_int_equal(prepared ? mt_session_prepare("127.0.0.1", 0, session, SESSION_BYTES, &error)
                              : manta_session_create(session, SESSION_BYTES),
                     0);
}

static void who_gives_up_leaves_nothing_and_comes_again(void **state)
{
    (void)state;
    for (int prepared = 0; prepared < 2; prepared++) {
        for (int number = 0; number < 2; number++) {
            char session[SESSION_BYTES];
            struct rank rank[2];
            make_session(session, prepared);
            int files = folder_entries("/proc/self/fd"), threads = held_threads();
            for (int i = 0; i < 3; i++) {
                start(&rank[number], number, 2, session);
                give_up(&rank[number]);
                expect_given_up(&rank[number]);
                assert_int_equal(folder_entries("/proc/self/fd"), files);
                assert_int_equal(held_threads(), threads);
            }
            for (int r = 0; r < 2; r++)
                start(&rank[r], r, 2, session);
            for (int r = 0; r < 2; r++)
                expect(&rank[r], 0);
        }
    }
}

/* At some point of the creation, another one each time. */
static void pass_time(int round)
{
    for (int i = 0; i < round * round * 8; i++)
        sched_yield();
}

/* The others are still there when it comes again, whichever rank it is. */
static void the_others_go_on_waiting(void **state)
{
    (void)state;
    for (int round = 0; round < 4 * RANKS; round++) {
        char session[SESSION_BYTES];
        struct rank rank[RANKS];
        int who = round % RANKS, absent = (who + 1) % RANKS;
        make_session(session, round / RANKS % 2);
        for (int r = 0; r < RANKS; r++)
            if (r != absent)
                start(&rank[r], r, RANKS, session);
        pass_time(round);
        give_up(&rank[who]);
        expect_given_up(&rank[who]);
        start(&rank[who], who, RANKS, session);
        start(&rank[absent], absent, RANKS, session);
        for (int r = 0; r < RANKS; r++)
            expect(&rank[r], 0);
    }
}

/* A rank that closes its links because of the failure may be faster than the word of it. */
static int is_clear(int result)
{
    return result == 0 || result == MANTA_EABORTED || result == MANTA_EPEER;
}

/* All come and one gives up somewhere on the way: either it counts as not having come, and the
 * others take it when it comes again, or they are told that it has given up. Nobody waits in vain.
 */
static void nobody_is_left_in_doubt(void **state)
{
    (void)state;
    for (int round = 0; round < 30; round++) {
        char session[SESSION_BYTES];
        struct rank rank[RANKS], again;
        int who = round % RANKS, failed = 0;
        make_session(session, round / RANKS % 2);
        for (int r = 0; r < RANKS; r++)
            start(&rank[r], r, RANKS, session);
        pass_time(round);
        give_up(&rank[who]);
        pthread_join(rank[who].thread, NULL);
        start(&again, who, RANKS, session);
        for (int r = 0; r < RANKS; r++) {
            if (r != who)
                pthread_join(rank[r].thread, NULL);
            if (!is_clear(rank[r].result))
                fail_msg("round %d, rank %d: %d '%s'", round, r, rank[r].result,
                         rank[r].info.sentence);
            failed += rank[r].result != 0;
        }
        assert_true(failed == 0 || failed == RANKS || (failed == 1 && rank[who].result != 0));
        if (failed != 1) /* nobody to join with */
            give_up(&again);
        pthread_join(again.thread, NULL);
        assert_int_equal(again.result == 0, failed == 1);
        manta_comm_destroy(again.comm);
        for (int r = 0; r < RANKS; r++)
            manta_comm_destroy(rank[r].comm);
    }
}

static void a_flag_that_is_set_before_is_seen(void **state)
{
    struct manta_config config = MANTA_CONFIG_INIT;
    struct manta_comm *comm;
    const int yes = 1;
    (void)state;
    config.rank = 0;
    config.ranks = 1;
    config.cancel = &yes;
    assert_int_equal(manta_comm_create(&config, &comm), MANTA_EABORTED);
    assert_null(comm);
}

/* A caller that was compiled before there was a flag. */
static void an_older_config_has_no_flag(void **state)
{
    struct manta_config config = MANTA_CONFIG_INIT;
    struct manta_comm *comm;
    const int yes = 1;
    (void)state;
    config.size = offsetof(struct manta_config, cancel);
    config.rank = 0;
    config.ranks = 1;
    config.cancel = &yes;
    assert_int_equal(manta_comm_create(&config, &comm), 0);
    assert_int_equal(manta_comm_destroy(comm), 0);
    config.size--;
    assert_int_equal(manta_comm_create(&config, &comm), MANTA_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_gives_up_leaves_nothing_and_comes_again),
        cmocka_unit_test(the_others_go_on_waiting),
        cmocka_unit_test(nobody_is_left_in_doubt),
        cmocka_unit_test(a_flag_that_is_set_before_is_seen),
        cmocka_unit_test(an_older_config_has_no_flag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
