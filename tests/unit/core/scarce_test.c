/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranks that join, exchange and leave while memory runs out: at each place that allocates, for
 * good, and for once at some of its calls. Whatever fails, every rank ends (with success or a
 * sentence), and nothing is left: no memory, no descriptor. When one has failed, the others'
 * deadlines are made to pass by moving the clock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "core/control.h"
#include "core/group.h"
#include "core/session_own.h"
#include "tests/support/clock_shift.h"
#include "tests/support/ranks.h"
#include "tests/support/scarce.h"

extern char __executable_start; /* of the linker */

enum { RANKS = 9, LIMIT_S = 30, STEP_MS = 2 };

struct run;

struct joiner {
    struct run *run;
    uint32_t rank;
    int result;
    struct mt_error error;
    pthread_t thread;
};

struct run {
    char session[512];
    struct joiner joiners[RANKS];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int ended, failed;
};

static void exchange_ranks(struct joiner *joiner, struct mt_group *group)
{
    const void *out[RANKS];
    size_t out_bytes[RANKS];
    struct mt_exchange exchange = {.mine = &joiner->rank,
                                   .mine_bytes = sizeof joiner->rank,
                                   .deadline_ns = mt_clock_now_ns() + 100 * MT_SECOND,
                                   .parts = out,
                                   .part_bytes = out_bytes};
    joiner->result = mt_control_allgather(group->control, &exchange, &joiner->error);
    if (joiner->result)
        mt_control_fail(group->control, &joiner->error); /* as a communicator does */
    free(exchange.storage);
}

static void *join(void *arg)
{
    struct joiner *joiner = arg;
    struct run *run = joiner->run;
    struct mt_group *group = NULL;
    const struct mt_group_join how = {.session = run->session,
                                      .rank = joiner->rank,
                                      .ranks = RANKS,
                                      .timeout_ns = 200 * MT_SECOND};
    joiner->result = mt_group_join(&how, &group, &joiner->error);
    if (joiner->result == 0)
        exchange_ranks(joiner, group);
    pthread_mutex_lock(&run->lock);
    run->failed += joiner->result != 0;
    pthread_cond_signal(&run->changed);
    pthread_mutex_unlock(&run->lock);
    mt_group_leave(group);
    pthread_mutex_lock(&run->lock);
    run->ended++;
    pthread_cond_signal(&run->changed);
    pthread_mutex_unlock(&run->lock);
    return NULL;
}

/* Who sleeps until a time sleeps in the kernel's, which is behind: wake it to look again. */
static void wake_all(void)
{
    mt_service_lock();
    mt_service_signal();
    mt_service_unlock();
}

static void move_on(void)
{
    struct mt_error error;
    clock_shift(20 * MT_SECOND);
    if (mt_service_acquire(&error))
        return;
    wake_all();
    clock_shift_settle();
    mt_service_release();
}

/* 0 when all have ended. They have LIMIT_S seconds; their own time is moved on once one has failed,
 * or when they seem to wait for what will not come. */
static int await_all(struct run *run, int nth)
{
    int patience_ms = nth == SCARCE_ALL ? 500 : LIMIT_S * 1000 / 2;
    pthread_mutex_lock(&run->lock);
    for (int ms = 0; run->ended < RANKS && ms < LIMIT_S * 1000; ms += STEP_MS) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += STEP_MS * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&run->changed, &run->lock, &until);
        int is_over = run->ended == RANKS, has_failed = run->failed > 0;
        pthread_mutex_unlock(&run->lock);
        wake_all();
        if (!is_over && (has_failed || ms > patience_ms))
            move_on();
        pthread_mutex_lock(&run->lock);
    }
    int left = RANKS - run->ended;
    pthread_mutex_unlock(&run->lock);
    return left;
}

/* One call has failed: if a rank has, too, somebody tells why. */
static int is_told(const struct run *run)
{
    int told = run->failed == 0;
    for (uint32_t r = 0; r < RANKS; r++)
        told |= run->joiners[r].result == MANTA_ENOMEM;
    for (uint32_t r = 0; r < RANKS && !told; r++)
        print_error("rank %u: %d %s\n", r, run->joiners[r].result, run->joiners[r].error.sentence);
    return told;
}

/* How many ranks failed; -1: they do not all end, or none tells why. */
static int run_all(void *failing, int nth)
{
    static struct run run; /* of threads that do not end, too */
    memset(&run, 0, sizeof run);
    pthread_mutex_init(&run.lock, NULL);
    pthread_cond_init(&run.changed, NULL);
    scarce_begin(failing, nth, 1);
    int code = manta_session_create(run.session, sizeof run.session);
    for (uint32_t r = 0; r < RANKS && code == 0; r++) {
        run.joiners[r] = (struct joiner){.run = &run, .rank = r};
        assert_int_equal(pthread_create(&run.joiners[r].thread, NULL, join, &run.joiners[r]), 0);
    }
    if (code == 0 && await_all(&run, nth))
        return -1;
    for (uint32_t r = 0; r < RANKS && code == 0; r++) {
        const struct joiner *joiner = &run.joiners[r];
        pthread_join(joiner->thread, NULL);
        assert_true(joiner->result <= 0);
        if (joiner->result)
            assert_true(joiner->error.code == joiner->result && joiner->error.sentence[0]);
    }
    if (code == 0 && run.joiners[0].result)
        mt_session_forget(run.session);
    return code ? RANKS : nth == SCARCE_ALL || is_told(&run) ? run.failed : -1;
}

static void show(const struct scarce_site *site, int nth, int failed)
{
    print_error("call %d at %#zx of this program: %d ranks failed\n", nth,
                (size_t)((uintptr_t)site->address - (uintptr_t)&__executable_start), failed);
}

static void whatever_fails_all_end(void **state)
{
    struct scarce_site sites[SCARCE_SITES];
    (void)state;
    assert_int_equal(run_all(NULL, 0), 0); /* what the library keeps for good is there now */
    int descriptors = folder_entries("/proc/self/fd");
    long live = scarce.live;
    assert_int_equal(run_all(NULL, 0), 0);
    scarce_end();
    assert_int_equal(scarce.live, live);
    int count = scarce.site_count;
    memcpy(sites, scarce.sites, sizeof sites);
    assert_true(count > 30);
    for (int i = 0; i < count; i++) {
        const int last = sites[i].calls, nths[] = {SCARCE_ALL, 1, 2, last / 2, last};
        for (int n = 0; n < (last > 4 ? 5 : last > 1 ? 3 : 2); n++) {
            int failed = run_all(sites[i].address, nths[n]);
            scarce_end();
            if (failed < 0 || scarce.live != live || folder_entries("/proc/self/fd") != descriptors)
                show(&sites[i], nths[n], failed);
            assert_true(failed >= 0);
            assert_int_equal(scarce.live, live);
            assert_int_equal(folder_entries("/proc/self/fd"), descriptors);
        }
    }
    assert_int_equal(run_all(NULL, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_fails_all_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
