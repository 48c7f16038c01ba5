/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/meeting.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_S = 180 }; /* three times what ranks have for what they do in between */

void meeting_begin(struct meeting *meeting, uint32_t threads)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&meeting->mutex, NULL);
    pthread_cond_init(&meeting->all_here, &attributes);
    pthread_condattr_destroy(&attributes);
    meeting->threads = threads;
    meeting->here = 0;
    meeting->rounds = 0;
}

void meeting_end(struct meeting *meeting)
{
    pthread_mutex_lock(&meeting->mutex); /* who was the last to leave has left */
    pthread_mutex_unlock(&meeting->mutex);
    pthread_cond_destroy(&meeting->all_here);
    pthread_mutex_destroy(&meeting->mutex);
}

/* The kernel's clock: some tests shift the one that the library sees. */
static struct timespec deadline(void)
{
    struct timespec until = {0};
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_S;
    return until;
}

void meeting_wait_at(struct meeting *meeting, const char *file, int line)
{
    struct timespec until = deadline();
    int error = 0;
    pthread_mutex_lock(&meeting->mutex);
    uint64_t round = meeting->rounds;
    if (++meeting->here == meeting->threads) {
        meeting->here = 0;
        meeting->rounds++;
        pthread_cond_broadcast(&meeting->all_here);
    }
    while (meeting->rounds == round && error != ETIMEDOUT)
        error = pthread_cond_timedwait(&meeting->all_here, &meeting->mutex, &until);
    if (meeting->rounds == round) {
        fprintf(stderr, "%s:%d: %u of %u threads have come here within %d s\n", file, line,
                meeting->here, meeting->threads, WAIT_S);
        abort();
    }
    pthread_mutex_unlock(&meeting->mutex);
}
