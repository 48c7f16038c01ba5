/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/service.h"

static pthread_t tester;

static void acquire(void)
{
    struct mt_error error;
    assert_int_equal(mt_service_acquire(&error), 0);
}

/* Lock held: until *count reaches wanted, at most 10 s. */
static void await(const int *count, int wanted)
{
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    while (*count < wanted && mt_clock_now_ns() < until_ns)
        mt_service_wait(until_ns);
    assert_true(*count >= wanted);
}

static void count_fire(struct mt_service_timer *timer)
{
    sigset_t blocked;
    assert_false(pthread_equal(pthread_self(), tester));
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    if (sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGTERM))
        ++*(int *)timer->arg;
    mt_service_signal();
}

static void timers_fire_once_and_in_the_thread(void **state)
{
    (void)state;
    enum { TIMERS = 50 };
    struct mt_service_timer timers[TIMERS];
    int fired = 0;
    memset(timers, 0, sizeof timers);
    acquire();
    mt_service_lock();
    for (int i = 0; i < TIMERS; i++) {
        timers[i].fire = count_fire;
        timers[i].arg = &fired;
        mt_service_timer_set(&timers[i], mt_clock_now_ns() + (uint64_t)(i % 7) * MT_MS);
    }
    mt_service_timer_set(&timers[3], 0);
    mt_service_timer_set(&timers[3], 0);
    mt_service_timer_set(&timers[4], mt_clock_now_ns() + 3600 * MT_SECOND);
    await(&fired, TIMERS - 2);
    assert_int_equal(fired, TIMERS - 2);
    mt_service_timer_set(&timers[4], 0);
    mt_service_unlock();
    mt_service_release();
}

struct rearming {
    struct mt_service_timer timer;
    int fired;
};

static void rearm(struct mt_service_timer *timer)
{
    struct rearming *rearming = timer->arg;
    if (++rearming->fired < 5)
        mt_service_timer_set(timer, mt_clock_now_ns() + MT_MS);
    mt_service_signal();
}

static void timers_may_be_set_in_their_callback(void **state)
{
    (void)state;
    struct rearming rearming = {.timer = {.fire = rearm, .arg = &rearming}};
    acquire();
    mt_service_lock();
    mt_service_timer_set(&rearming.timer, 1);
    await(&rearming.fired, 5);
    mt_service_unlock();
    mt_service_release();
}

struct counted {
    struct mt_service_source source;
    int ready;
};

static void drain(struct mt_service_source *source, uint32_t events)
{
    struct counted *counted = source->arg;
    uint64_t value;
    assert_true(events & EPOLLIN);
    assert_int_equal(read(source->fd, &value, sizeof value), sizeof value);
    counted->ready++;
    mt_service_signal();
}

static void ring(int fd)
{
    uint64_t one = 1;
    assert_int_equal(write(fd, &one, sizeof one), sizeof one);
}

/* More sources than the table has slots at first; each rings once. */
static void many_sources_are_watched(void **state)
{
    (void)state;
    enum { SOURCES = 200 };
    struct counted *counted = calloc(SOURCES, sizeof *counted);
    acquire();
    mt_service_lock();
    for (int i = 0; i < SOURCES; i++) {
        counted[i].source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        counted[i].source.ready = drain;
        counted[i].source.arg = &counted[i];
        assert_int_equal(mt_service_watch(&counted[i].source, EPOLLIN), 0);
        ring(counted[i].source.fd);
    }
    for (int i = 0; i < SOURCES; i++)
        await(&counted[i].ready, 1);
    for (int i = 0; i < SOURCES; i++) {
        mt_service_unwatch(&counted[i].source);
        mt_service_unwatch(&counted[i].source); /* twice does no harm */
        close(counted[i].source.fd);
    }
    mt_service_unlock();
    mt_service_release();
    free(counted);
}

/* The descriptor is readable when the source goes away: its callback must not come any more, also
 * when the event was fetched already. The source's memory is poisoned and freed at once. */
static void unwatched_sources_are_not_called(void **state)
{
    (void)state;
    acquire();
    for (int round = 0; round < 300; round++) {
        struct counted *counted = calloc(1, sizeof *counted);
        counted->source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        counted->source.ready = drain;
        counted->source.arg = counted;
        mt_service_lock();
        assert_int_equal(mt_service_watch(&counted->source, EPOLLIN), 0);
        mt_service_unlock();
        ring(counted->source.fd);
        mt_service_lock();
        mt_service_unwatch(&counted->source);
        close(counted->source.fd);
        memset(counted, 0xff, sizeof *counted);
        free(counted);
        mt_service_unlock();
    }
    mt_service_release();
}

/* A thread that was starved: a descriptor became ready, which leads to others, as questions lead to
 * answers; then a timer was due. */
enum { HOPS = 5 };

struct starved {
    struct mt_service_source hops[HOPS];
    struct mt_service_timer timer;
    int hops_done, fired, fired_too_early;
};

static void hop(struct mt_service_source *source, uint32_t events)
{
    struct starved *starved = source->arg;
    uint64_t value;
    (void)events;
    assert_int_equal(read(source->fd, &value, sizeof value), sizeof value);
    if (starved->hops_done == 0)
        mt_service_timer_set(&starved->timer, mt_clock_now_ns());
    if (++starved->hops_done < HOPS)
        ring(starved->hops[starved->hops_done].fd);
}

static void late(struct mt_service_timer *timer)
{
    struct starved *starved = timer->arg;
    starved->fired_too_early += starved->hops_done < HOPS;
    starved->fired = 1;
    mt_service_signal();
}

/* However often the thread has woken before. */
static void descriptors_come_before_timers(void **state)
{
    (void)state;
    struct counted stray = {.source = {.ready = drain, .arg = &stray}};
    stray.source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    acquire();
    mt_service_lock();
    assert_int_equal(mt_service_watch(&stray.source, EPOLLIN), 0);
    mt_service_unlock();
    for (int round = 0; round < 70; round++) {
        struct starved starved = {.timer = {.fire = late, .arg = &starved}};
        mt_service_lock();
        stray.ready = 0;
        for (int woken = 1; woken <= round; woken++) {
            ring(stray.source.fd);
            await(&stray.ready, woken);
        }
        for (int i = 0; i < HOPS; i++) {
            starved.hops[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
            starved.hops[i].ready = hop;
            starved.hops[i].arg = &starved;
            assert_int_equal(mt_service_watch(&starved.hops[i], EPOLLIN), 0);
        }
        ring(starved.hops[0].fd);
        await(&starved.fired, 1);
        assert_int_equal(starved.fired_too_early, 0);
        for (int i = 0; i < HOPS; i++) {
            mt_service_unwatch(&starved.hops[i]);
            close(starved.hops[i].fd);
        }
        mt_service_unlock();
    }
    mt_service_lock();
    mt_service_unwatch(&stray.source);
    mt_service_unlock();
    close(stray.source.fd);
    mt_service_release();
}

static void leave_ready(struct mt_service_source *source, uint32_t events)
{
    (void)events;
    ++*(int *)source->arg;
}

/* Work that never ends keeps no timer from firing. */
static void timers_fire_beside_endless_work(void **state)
{
    (void)state;
    int looks = 0;
    struct rearming rearming = {.timer = {.fire = rearm, .arg = &rearming}};
    struct mt_service_source source = {.ready = leave_ready, .arg = &looks};
    source.fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    acquire();
    mt_service_lock();
    assert_int_equal(mt_service_watch(&source, EPOLLIN), 0);
    mt_service_timer_set(&rearming.timer, mt_clock_now_ns() + MT_MS);
    await(&rearming.fired, 5);
    assert_true(looks > 0);
    mt_service_unwatch(&source);
    mt_service_unlock();
    close(source.fd);
    mt_service_release();
}

static void *start_and_stop(void *arg)
{
    struct mt_error error;
    for (int i = 0; i < 50; i++) {
        if (mt_service_acquire(&error))
            atomic_fetch_add((_Atomic int *)arg, 1);
        else
            mt_service_release();
    }
    return NULL;
}

static void starting_and_stopping_races(void **state)
{
    (void)state;
    pthread_t threads[4];
    _Atomic int failed = 0;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, start_and_stop, &failed), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(failed, 0);
}

static void waiting_ends_at_its_time(void **state)
{
    (void)state;
    acquire();
    mt_service_lock();
    int rc;
    uint64_t until_ns = mt_clock_now_ns() + 5 * (uint64_t)MT_MS;
    while ((rc = mt_service_wait(until_ns)) == 0)
        ;
    assert_int_equal(rc, MANTA_ETIMEOUT);
    assert_true(mt_clock_now_ns() >= until_ns);
    mt_service_unlock();
    mt_service_release();
}

int main(void)
{
    tester = pthread_self();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_once_and_in_the_thread),
        cmocka_unit_test(timers_may_be_set_in_their_callback),
        cmocka_unit_test(many_sources_are_watched),
        cmocka_unit_test(unwatched_sources_are_not_called),
        cmocka_unit_test(descriptors_come_before_timers),
        cmocka_unit_test(timers_fire_beside_endless_work),
        cmocka_unit_test(starting_and_stopping_races),
        cmocka_unit_test(waiting_ends_at_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
