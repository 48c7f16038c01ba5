/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a forked child must undo. A child holds copies of the parent's descriptors: left open, they
 * would hide the parent's death from the other ranks. The handler runs in the child right after
 * fork(), so it takes no lock and allocates nothing: the set of descriptors is a bitmap of atomics.
 * A descriptor is entered just after it was opened and removed just before it is closed, so that
 * the child never closes one that is not the library's; one that is opened while another thread
 * forks may stay open in that child until exec (all are close-on-exec).
 */
#include "core/fork.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "core/service.h"

enum {
    FD_LIMIT = 1 << 20, /* Linux lets no process have more (fs.nr_open) unless it is raised */
    WORD_BITS = 64,
    RESET_LIMIT = 12
};

_Atomic uint32_t mt_fork_count;
static _Atomic uint64_t fd_set_words[FD_LIMIT / WORD_BITS];
static _Atomic int fd_highest = -1;
static _Atomic(mt_fork_reset_fn *) resets[RESET_LIMIT];
static pthread_once_t installed = PTHREAD_ONCE_INIT;

static void close_word(int word, uint64_t bits)
{
    while (bits) {
        int bit = __builtin_ctzll(bits);
        close(word * WORD_BITS + bit);
        bits &= bits - 1;
    }
}

static void child_after_fork(void)
{
    atomic_fetch_add(&mt_fork_count, 1);
    int last = atomic_load(&fd_highest) / WORD_BITS;
    for (int word = 0; atomic_load(&fd_highest) >= 0 && word <= last; word++)
        close_word(word, atomic_exchange(&fd_set_words[word], 0));
    atomic_store(&fd_highest, -1);
    for (int i = 0; i < RESET_LIMIT; i++) {
        mt_fork_reset_fn *reset = atomic_load(&resets[i]);
        if (reset != NULL)
            reset();
    }
}

static void install(void)
{
    pthread_atfork(NULL, NULL, child_after_fork);
}

static void install_once(void)
{
    pthread_once(&installed, install);
}

void mt_fork_on_child(mt_fork_reset_fn *reset)
{
    install_once();
    for (int i = 0; i < RESET_LIMIT; i++) {
        mt_fork_reset_fn *none = NULL;
        if (atomic_compare_exchange_strong(&resets[i], &none, reset) || none == reset)
            return;
    }
}

void mt_fd_enter(int fd)
{
    install_once();
    if (fd < 0 || fd >= FD_LIMIT)
        return;
    atomic_fetch_or(&fd_set_words[fd / WORD_BITS], UINT64_C(1) << fd % WORD_BITS);
    int highest = atomic_load(&fd_highest);
    while (fd > highest && !atomic_compare_exchange_weak(&fd_highest, &highest, fd))
        ;
}

void mt_fd_leave(int fd)
{
    if (fd >= 0 && fd < FD_LIMIT)
        atomic_fetch_and(&fd_set_words[fd / WORD_BITS], ~(UINT64_C(1) << fd % WORD_BITS));
}

void mt_fd_close(int fd)
{
    if (fd < 0)
        return;
    mt_fd_leave(fd);
    close(fd);
}
