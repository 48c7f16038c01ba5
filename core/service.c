/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service thread. epoll hands out (slot, generation) and not pointers, so that an event which
 * was fetched before its source was unwatched finds an empty slot and is dropped.
 */
#include "core/service.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fork.h"

enum { EVENT_BATCH = 64, SLOTS_AT_FIRST = 64, BUSY_ROUNDS = 64 };

struct slot {
    struct mt_service_source *source; /* NULL: free */
    uint32_t generation;
};

/* Taken to start and to end the thread; always before `lock`. */
static pthread_mutex_t life = PTHREAD_MUTEX_INITIALIZER;
static uint32_t users;

/* Guarded by `lock`. Slot 0 is the wake descriptor's. */
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_cond_t signalled;
static pthread_once_t signalled_made = PTHREAD_ONCE_INIT;
static struct slot *slots;
static uint32_t slot_count;
static struct mt_service_timer *timers;
static int epoll_fd = -1, wake_fd = -1;
static int stopping, timers_changed;
static pthread_t thread;
static _Thread_local int in_service;

static void make_signalled(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&signalled, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* In a forked child the thread is gone and the locks may be held by threads that do not exist. */
static void reset_in_child(void)
{
    static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    static const pthread_mutex_t fresh_recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    memcpy(&life, &fresh, sizeof life);
    memcpy(&lock, &fresh_recursive, sizeof lock);
    make_signalled();
    users = 0;
    slots = NULL;
    slot_count = 0;
    timers = NULL;
    epoll_fd = wake_fd = -1;
    stopping = timers_changed = 0;
    in_service = 0;
}

static void wake(void)
{
    uint64_t one = 1;
    ssize_t written = write(wake_fd, &one, sizeof one);
    (void)written; /* EAGAIN: it is readable already */
}

static void fire_due_timers(uint64_t now_ns)
{
    for (struct mt_service_timer *timer = timers; timer;) {
        if (timer->due_ns > now_ns) {
            timer = timer->next;
            continue;
        }
        mt_service_timer_set(timer, 0);
        timer->fire(timer);
        timer = timers; /* the list may have changed in any way */
    }
}

static int milliseconds_to_next_timer(uint64_t now_ns)
{
    uint64_t next = UINT64_MAX;
    for (struct mt_service_timer *timer = timers; timer; timer = timer->next)
        next = timer->due_ns < next ? timer->due_ns : next;
    if (next == UINT64_MAX)
        return -1;
    if (next <= now_ns)
        return 0;
    uint64_t wait_ms = (next - now_ns + MT_MS - 1) / MT_MS;
    return wait_ms < 60000 ? (int)wait_ms : 60000;
}

static void dispatch(const struct epoll_event *event)
{
    uint32_t index = (uint32_t)event->data.u64, generation = (uint32_t)(event->data.u64 >> 32);
    if (index == 0) {
        uint64_t count;
        ssize_t got = read(wake_fd, &count, sizeof count);
        (void)got;
        return;
    }
    struct mt_service_source *source = slots[index].source;
    if (source && slots[index].generation == generation)
        source->ready(source, event->events);
}

static void *serve(void *arg)
{
    struct epoll_event events[EVENT_BATCH];
    uint32_t busy_rounds = 0;
    (void)arg;
    in_service = 1;
    pthread_mutex_lock(&lock);
    while (!stopping) {
        uint64_t now_ns = mt_clock_now_ns();
        int wait_ms = milliseconds_to_next_timer(now_ns);
        int fd = epoll_fd;
        pthread_mutex_unlock(&lock);
        int count = epoll_wait(fd, events, EVENT_BATCH, wait_ms);
        pthread_mutex_lock(&lock);
        for (int i = 0; i < count; i++)
            dispatch(&events[i]);
        /* Only what was due before the descriptors were looked at, and when they lead to nothing
         * more: a thread that was starved of CPU finds together an answer, or a question that it
         * answers itself, and the end of the time for it. Work without end does not keep it. */
        busy_rounds = count > 0 && wait_ms == 0 ? busy_rounds + 1 : 0;
        if (busy_rounds % BUSY_ROUNDS == 0)
            fire_due_timers(now_ns);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static int start_thread(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, NULL, serve, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        pthread_setname_np(thread, "manta-service");
    return rc;
}

static int open_service(struct mt_error *error)
{
    slots = calloc(SLOTS_AT_FIRST, sizeof *slots);
    if (!slots)
        return mt_error_set(error, MANTA_ENOMEM, "no memory for the service thread");
    slot_count = SLOTS_AT_FIRST;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (epoll_fd < 0 || wake_fd < 0)
        goto err_close;
    mt_fd_enter(epoll_fd);
    mt_fd_enter(wake_fd);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event))
        goto err_close;
    stopping = 0;
    errno = start_thread();
    if (errno == 0)
        return 0;
err_close:
    mt_error_set(error, MANTA_ESYSTEM, "cannot start the service thread: %s", strerror(errno));
    mt_fd_close(epoll_fd);
    mt_fd_close(wake_fd);
    epoll_fd = wake_fd = -1;
    free(slots);
    slots = NULL;
    return MANTA_ESYSTEM;
}

int mt_service_acquire(struct mt_error *error)
{
    pthread_once(&signalled_made, make_signalled);
    pthread_mutex_lock(&life);
    mt_fork_on_child(reset_in_child);
    int rc = users == 0 ? open_service(error) : 0;
    if (rc == 0)
        users++;
    pthread_mutex_unlock(&life);
    return rc;
}

void mt_service_release(void)
{
    pthread_mutex_lock(&life);
    if (--users == 0) {
        mt_service_lock();
        stopping = 1;
        wake();
        mt_service_unlock();
        pthread_join(thread, NULL);
        mt_fd_close(epoll_fd);
        mt_fd_close(wake_fd);
        epoll_fd = wake_fd = -1;
        free(slots);
        slots = NULL;
        slot_count = 0;
    }
    pthread_mutex_unlock(&life);
}

static uint32_t free_slot(void)
{
    for (uint32_t i = 1; i < slot_count; i++)
        if (!slots[i].source)
            return i;
    struct slot *larger = realloc(slots, 2 * (size_t)slot_count * sizeof *slots);
    if (!larger)
        return 0;
    memset(larger + slot_count, 0, slot_count * sizeof *slots);
    slots = larger;
    slot_count *= 2;
    return slot_count / 2;
}

static int control_source(int operation, struct mt_service_source *source, uint32_t events)
{
    uint64_t key = source->slot | (uint64_t)slots[source->slot].generation << 32;
    struct epoll_event event = {.events = events, .data.u64 = key};
    return epoll_ctl(epoll_fd, operation, source->fd, &event) ? MANTA_ESYSTEM : 0;
}

int mt_service_watch(struct mt_service_source *source, uint32_t events)
{
    source->slot = free_slot();
    if (source->slot == 0)
        return MANTA_ENOMEM;
    slots[source->slot].source = source;
    slots[source->slot].generation++;
    int rc = control_source(EPOLL_CTL_ADD, source, events);
    if (rc) {
        slots[source->slot].source = NULL;
        source->slot = 0;
    }
    return rc;
}

int mt_service_rewatch(struct mt_service_source *source, uint32_t events)
{
    return source->slot ? control_source(EPOLL_CTL_MOD, source, events) : MANTA_EINVAL;
}

void mt_service_unwatch(struct mt_service_source *source)
{
    if (source->slot == 0)
        return;
    control_source(EPOLL_CTL_DEL, source, 0);
    slots[source->slot].source = NULL;
    source->slot = 0;
}

void mt_service_timer_set(struct mt_service_timer *timer, uint64_t due_ns)
{
    if (due_ns && timer->due_ns == 0) {
        timer->next = timers;
        timers = timer;
    } else if (due_ns == 0 && timer->due_ns) {
        struct mt_service_timer **link = &timers;
        while (*link != timer)
            link = &(*link)->next;
        *link = timer->next;
    }
    timer->due_ns = due_ns;
    timers_changed = 1;
}

void mt_service_lock(void)
{
    pthread_mutex_lock(&lock);
}

void mt_service_unlock(void)
{
    if (timers_changed && !in_service && wake_fd >= 0)
        wake();
    timers_changed = 0;
    pthread_mutex_unlock(&lock);
}

int mt_service_wait(uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / MT_SECOND),
                             .tv_nsec = (long)(until_ns % MT_SECOND)};
    if (timers_changed)
        wake();
    timers_changed = 0;
    return pthread_cond_timedwait(&signalled, &lock, &until) == ETIMEDOUT ? MANTA_ETIMEOUT : 0;
}

void mt_service_signal(void)
{
    pthread_cond_broadcast(&signalled);
}
