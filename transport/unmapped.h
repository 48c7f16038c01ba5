/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches on ranges of addresses: is what was mapped there still the same memory? A network card
 * that was shown a range keeps the pages, while the program may unmap it, map other memory at its
 * place, or give pages back (madvise). The kernel tells by events of a userfaultfd, for which
 * the range is registered though no fault in it is ever taken: who unmaps waits until a thread of
 * its own has read the event. So once munmap() has returned, the watch says that it is gone.
 *
 * That thread allocates nothing and frees nothing, or it might wait for itself.
 * Watched is private memory without a file; other memory can lose pages unseen (a hole punched into
 * a file).
 */
#ifndef MT_TRANSPORT_UNMAPPED_H
#define MT_TRANSPORT_UNMAPPED_H

#include <stdatomic.h>
#include <stdint.h>

/* At its place from begin to end. */
struct mt_watch {
    uintptr_t start, end;
    _Atomic int gone;
    struct mt_watch *next, *previous;
};

/* Reference counted; any thread. 0, or errno: this host has no such events, or does not let this
 * process have them. */
int mt_unmapped_acquire(void);
void mt_unmapped_release(void);

/* Watch whole pages from now on. 0, or errno: EINVAL: not private memory without a file. */
int mt_watch_begin(struct mt_watch *watch, uintptr_t start, uint64_t bytes);
void mt_watch_end(struct mt_watch *watch);

/* 1: some of it may not be what it was. Waits for events that are being read: some us. */
int mt_watch_is_gone(const struct mt_watch *watch);

#endif
