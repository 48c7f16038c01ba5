/* SPDX-License-Identifier: Apache-2.0 */
/* How two ranks behave that any transport which moves messages has to bear, for endpoints_run. */
#ifndef TESTS_SUPPORT_MANNERS_H
#define TESTS_SUPPORT_MANNERS_H

#include "tests/support/endpoints.h"

/* What arg points to where it says so. */
struct manners {
    uint64_t eager_bytes;  /* the transport's */
    int is_connectionless; /* nothing gets to a rank that makes no progress, and nobody is told that
                            * a peer is gone */
    _Atomic int aborted, left;
};

/* Eager data that comes first, more than the credit allows, then the receives in reverse. */
int manners_flood(struct endpoints_rank *self);
/* Rank 0 sends, drains and closes; rank 1 looks only afterwards. arg: struct manners. */
int manners_leave(struct endpoints_rank *self);
/* Rank 1 vanishes without a word while rank 0 waits for it and sends to it. */
int manners_vanish(struct endpoints_rank *self);
/* After abort nothing is written to the buffer, though the sender goes on. arg: struct manners. */
int manners_give_up(struct endpoints_rank *self);
/* A rank that sleeps on wait_fd, without a limit of its own, is woken by a message. */
int manners_sleep(struct endpoints_rank *self);
/* One message each way is counted. */
int manners_count(struct endpoints_rank *self);

#endif
