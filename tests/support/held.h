/* SPDX-License-Identifier: Apache-2.0 */
/* What a process holds, kind by kind, so that a leak of one is not hidden by the loss of
 * another. */
#ifndef TESTS_SUPPORT_HELD_H
#define TESTS_SUPPORT_HELD_H

#include <stddef.h>

enum held_kind {
    HELD_DESCRIPTORS,
    HELD_THREADS,
    HELD_MEMFDS,   /* mappings of memfds */
    HELD_SHARED,   /* all mappings that others may see */
    HELD_MAPPINGS, /* all there are */
    HELD_CHILDREN, /* child processes, also those that have ended and were not waited for */
    HELD_KINDS
};

struct held {
    int counts[HELD_KINDS];
};

const char *held_name(int kind);
/* Of this process, without those that are ending: one that was joined may be in /proc for as long
 * as the host takes to end it. */
int held_threads(void);
/* Once two looks have found the same. Threads that are ending are not counted. */
void held_look(struct held *out);
/* Until the process holds what it held then, or some ten seconds have passed: what there is
 * more of (less: negative). 1 if nothing differs. */
int held_as_before(const struct held *before, struct held *more_out);

#endif
