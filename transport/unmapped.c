/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/unmapped.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fork.h"
#include "core/service.h"
#include "transport/memory.h"

enum { EVENTS = 16, PATIENCE_NS = 200000000, LOOKS = 64 };

#define FEATURES                                                                                   \
    (UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_REMAP |             \
     UFFD_FEATURE_PAGEFAULT_FLAG_WP)

/* lock: users and the list. Who holds it neither maps nor unmaps, so the thread can have it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t users;
static int events_fd = -1, stop_fd = -1;
static pthread_t thread;
static struct mt_watch *watches;
/* 1 while the thread reads events and marks watches: pairs with the load in mt_watch_is_gone(). It
 * is set before the read that lets the caller of munmap() go on. */
static _Atomic int reading;

/* A child has neither the thread nor, closed at the fork, its descriptors; and whoever was at work
 * with these at the fork is not there. */
static void reset_in_child(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    users = 0;
    watches = NULL;
    events_fd = stop_fd = -1;
    atomic_store(&reading, 0);
}

static void mark(uintptr_t start, uintptr_t end)
{
    pthread_mutex_lock(&lock);
    for (struct mt_watch *watch = watches; watch != NULL; watch = watch->next) {
        if (watch->start < end && start < watch->end)
            atomic_store_explicit(&watch->gone, 1, memory_order_relaxed); /* `reading` orders it */
    }
    pthread_mutex_unlock(&lock);
}

static void take(const struct uffd_msg *message)
{
    if (message->event == UFFD_EVENT_REMAP)
        mark(message->arg.remap.from, message->arg.remap.from + message->arg.remap.len);
    else if (message->event == UFFD_EVENT_UNMAP || message->event == UFFD_EVENT_REMOVE)
        mark(message->arg.remove.start, message->arg.remove.end);
}

/* What the thread is given: the two descriptors of its own, which outlive it. */
static void *pack(int events, int stop)
{
    return (void *)((uintptr_t)events << 32 | (uintptr_t)stop);
}

static void *read_events(void *packed)
{
    struct uffd_msg messages[EVENTS];
    struct pollfd fds[2] = {{.fd = (int)((uintptr_t)packed >> 32), .events = POLLIN},
                            {.fd = (int)((uintptr_t)packed & UINT32_MAX), .events = POLLIN}};
    while (fds[1].revents == 0) {
        if (poll(fds, 2, -1) < 0 || fds[0].revents == 0)
            continue;
        atomic_store(&reading, 1);
        ssize_t got = read(fds[0].fd, messages, sizeof(messages));
        for (ssize_t i = 0; i < got / (ssize_t)sizeof(messages[0]); i++)
            take(&messages[i]);
        atomic_store(&reading, 0);
    }
    /* Before the thread ends: what is unmapped with it (a sanitizer's memory) may lie in a range
     * that is registered, and nobody else reads the event. */
    mt_fd_close(fds[0].fd);
    return NULL;
}

static int open_events(void)
{
    struct uffdio_api api = {.api = UFFD_API, .features = FEATURES};
    int flags = O_CLOEXEC | O_NONBLOCK;
    events_fd = (int)syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY);
    if (events_fd < 0 && errno == EINVAL) /* before Linux 5.11 */
        events_fd = (int)syscall(SYS_userfaultfd, flags);
    if (events_fd < 0)
        return errno;
    mt_fd_enter(events_fd);
    if (ioctl(events_fd, UFFDIO_API, &api) != 0)
        return errno;
    stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop_fd < 0)
        return errno;
    mt_fd_enter(stop_fd);
    return 0;
}

static void close_events(void)
{
    if (events_fd >= 0)
        mt_fd_close(events_fd);
    if (stop_fd >= 0)
        mt_fd_close(stop_fd);
    events_fd = stop_fd = -1;
}

static int start(void)
{
    sigset_t all, before;
    int error = open_events();
    if (error != 0)
        return error;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, NULL, read_events, pack(events_fd, stop_fd));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

int mt_unmapped_acquire(void)
{
    int error = 0;
    mt_fork_on_child(reset_in_child);
    pthread_mutex_lock(&lock);
    if (users == 0) {
        error = start();
        if (error != 0)
            close_events();
    }
    users += error == 0;
    pthread_mutex_unlock(&lock);
    return error;
}

void mt_unmapped_release(void)
{
    uint64_t one = 1;
    pthread_mutex_lock(&lock);
    int is_last = --users == 0;
    pthread_t last = thread;
    int stop = stop_fd; /* the thread closes the other */
    if (is_last)
        events_fd = stop_fd = -1;
    pthread_mutex_unlock(&lock);
    if (!is_last)
        return;
    ssize_t written = write(stop, &one, sizeof(one));
    (void)written; /* it cannot be full */
    pthread_join(last, NULL);
    mt_fd_close(stop);
}

/* 1 if a line of /proc/self/maps is private memory without a file; where it begins and ends. */
static int parse_line(const char *line, uintptr_t *start_out, uintptr_t *end_out)
{
    unsigned long first, after, inode;
    char access[5];
    if (sscanf(line, "%lx-%lx %4s %*x %*s %lu", &first, &after, access, &inode) != 4)
        return 0;
    *start_out = first;
    *end_out = after;
    return inode == 0 && access[3] == 'p' && access[1] == 'w';
}

static int is_private(uintptr_t at, uintptr_t end)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL)
        return 0;
    while (at < end && fgets(line, sizeof(line), maps) != NULL) {
        uintptr_t first = 0, after = 0;
        int fits = parse_line(line, &first, &after);
        if (after <= at)
            continue;
        if (!fits || first > at)
            break;
        at = after;
    }
    fclose(maps);
    return at >= end;
}

static void add(struct mt_watch *watch)
{
    watch->previous = NULL;
    watch->next = watches;
    if (watches != NULL)
        watches->previous = watch;
    watches = watch;
}

int mt_watch_begin(struct mt_watch *watch, uintptr_t start_address, uint64_t bytes)
{
    struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_WP};
    watch->start = mt_memory_page_down(start_address);
    watch->end = mt_memory_page_up(start_address + bytes);
    atomic_init(&watch->gone, 0);
    range.range.start = watch->start;
    range.range.len = watch->end - watch->start;
    pthread_mutex_lock(&lock);
    int error = ioctl(events_fd, UFFDIO_REGISTER, &range) == 0 ? 0 : errno;
    if (error == 0)
        add(watch);
    pthread_mutex_unlock(&lock);
    if (error != 0)
        return error;
    /* Looked at only now, so that what changes after the look is noticed. */
    if (is_private(watch->start, watch->end))
        return 0;
    mt_watch_end(watch);
    return EINVAL;
}

/* The range stays registered: another watch may have a part in it, and an event that concerns no
 * watch does no harm. */
void mt_watch_end(struct mt_watch *watch)
{
    pthread_mutex_lock(&lock);
    if (watch->previous != NULL)
        watch->previous->next = watch->next;
    else
        watches = watch->next;
    if (watch->next != NULL)
        watch->next->previous = watch->previous;
    pthread_mutex_unlock(&lock);
}

int mt_watch_is_gone(const struct mt_watch *watch)
{
    uint64_t until_ns = 0;
    for (uint32_t look = 1; atomic_load(&reading); look++) { /* pairs with read_events() */
        if (look % LOOKS != 0)
            continue;
        sched_yield(); /* the thread may have been put off its core in the middle */
        uint64_t now_ns = mt_clock_now_ns();
        if (until_ns == 0)
            until_ns = now_ns + PATIENCE_NS;
        if (now_ns > until_ns)
            return 1;
    }
    return atomic_load_explicit(&watch->gone, memory_order_relaxed);
}
