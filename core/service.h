/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service thread: one per process, started with the first group, ended with the last, blocked
 * in epoll when idle, all signals blocked. Sources register descriptors and timers; callbacks run
 * in the thread and must not block. fork: the child's atfork handler closes every registered
 * descriptor.
 */
#ifndef MT_CORE_SERVICE_H
#define MT_CORE_SERVICE_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/error.h"

struct mt_service_source {
    int fd;
    void (*ready)(struct mt_service_source *source, uint32_t events); /* EPOLL* */
    void *arg;
    uint32_t slot; /* of the service; 0 when not watched. Zero it before the first watch. */
};
/* Zero it before the first use; it must stay at its place while it is armed. It fires after the
 * callbacks of descriptors that were ready when it was due, and of those that became so by them, if
 * that has an end. */
struct mt_service_timer {
    uint64_t due_ns; /* 0: not armed */
    void (*fire)(struct mt_service_timer *timer);
    void *arg;
    struct mt_service_timer *next;
};

/* Reference counted. */
int mt_service_acquire(struct mt_error *error);
void mt_service_release(void);

/* In the service thread, or between mt_service_lock and unlock from any other. */
int mt_service_watch(struct mt_service_source *source, uint32_t events);
int mt_service_rewatch(struct mt_service_source *source, uint32_t events);
void mt_service_unwatch(struct mt_service_source *source);
void mt_service_timer_set(struct mt_service_timer *timer, uint64_t due_ns); /* 0 disarms */

/* The lock that callbacks run under; recursive, so that what is called from a callback may take it
 * again. Cold paths only. unlock wakes the thread to see new timers. */
void mt_service_lock(void);
void mt_service_unlock(void);
/* Holding the lock once: give it up until somebody signals or the time has come, then have it
 * again. Returns 0 after a signal (or for no reason: look again), MANTA_ETIMEOUT. Never in the
 * service thread. */
int mt_service_wait(uint64_t until_ns);
/* Holding the lock: wake all that are in mt_service_wait. */
void mt_service_signal(void);

/* How many forks lie between this process and the one that loaded the library. */
extern _Atomic uint32_t mt_fork_count;
static inline uint32_t mt_fork_generation(void)
{
    return atomic_load_explicit(&mt_fork_count, memory_order_relaxed);
}
/* 1 in a child that was forked after the object was made: every object refuses to work. */
static inline int mt_fork_happened(uint32_t generation)
{
    return generation != mt_fork_generation();
}

/* Descriptors that a forked child must close (doorbells, data sockets, memfds): core/fork.c keeps
 * the set; every descriptor the library opens is entered and removed. Async-signal-safe in the
 * child. */
void mt_fd_enter(int fd);
void mt_fd_leave(int fd); /* removes from the set what another library closes */
void mt_fd_close(int fd); /* removes from the set and closes */

#endif
