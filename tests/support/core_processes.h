/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks of one group as processes of the test, on a session that is prepared for loopback. */
#ifndef MT_TESTS_SUPPORT_CORE_PROCESSES_H
#define MT_TESTS_SUPPORT_CORE_PROCESSES_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/group.h"

enum { PROCESS_RANKS_MAX = 16 };

/* In memory that all processes share. */
struct process_rank {
    uint32_t rank, ranks;
    char session[512];
    pid_t pid;
    _Atomic int stage; /* set and awaited by bodies and the test */
    int result;        /* of the join, then what the body makes of it */
    struct mt_error error;
    pid_t helper; /* a process that the body started, to be ended by the test */
};

/* Start `ranks` processes; each joins and runs body, leaves if body returns, and exits. */
struct process_rank *processes_start(uint32_t ranks, const char *host,
                                     void (*body)(struct mt_group *group, struct process_rank *self,
                                                  struct process_rank *all));
/* Wait until a rank has reached a stage; exits the test after 30 s. */
void process_await(const struct process_rank *rank, int stage);
/* Wait until all have ended (those that do not in 30 s are killed, and that is a failure), unmap.
 * Call it after the results have been looked at; returns 0, or the number of those killed. */
int processes_wait(struct process_rank *list, uint32_t ranks);
void processes_free(struct process_rank *list);

#endif
