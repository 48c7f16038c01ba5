/* SPDX-License-Identifier: Apache-2.0 */
/* Where threads of a test wait for each other, as at a barrier of pthreads, but not for ever: when
 * one does not come, the program ends and says where the others are. */
#ifndef TESTS_SUPPORT_MEETING_H
#define TESTS_SUPPORT_MEETING_H

#include <pthread.h>
#include <stdint.h>

struct meeting {
    pthread_mutex_t mutex;
    pthread_cond_t all_here;
    uint32_t threads, here;
    uint64_t rounds; /* that are over */
};

void meeting_begin(struct meeting *meeting, uint32_t threads);
void meeting_end(struct meeting *meeting);
/* Until as many threads have come, again and again; at most 180 s. */
#define meeting_wait(meeting) meeting_wait_at((meeting), __FILE__, __LINE__)
void meeting_wait_at(struct meeting *meeting, const char *file, int line);

#endif
