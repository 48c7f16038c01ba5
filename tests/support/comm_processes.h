/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks of one communicator as processes of the test, on a session that is prepared beforehand. */
#ifndef MT_TESTS_SUPPORT_COMM_PROCESSES_H
#define MT_TESTS_SUPPORT_COMM_PROCESSES_H

#include <stdatomic.h>
#include <sys/types.h>

#include <manta/manta.h>

enum { COMM_PROCESSES_MAX = 8 };

/* In memory that all processes share. */
struct comm_process {
    int rank;
    struct comm_process *all; /* rank 0 */
    pid_t pid;
    int result; /* of creating the communicator, then what the body makes of it */
    struct manta_error_info error;
    _Atomic int stage; /* set and awaited by bodies and the test */
    int log_fd;        /* what the rank wrote to standard error */
};

struct comm_job {
    int ranks;
    const char *host; /* of rank 0; NULL: 127.0.0.1 */
    const char *transports;
    int log_level; /* of core/log.h */
    /* Run in the rank's process before anything else; it may exit the process. NULL: nothing. */
    void (*enter)(struct comm_process *self);
    /* Run by who starts the ranks, once they are started. NULL: nothing. */
    void (*started)(struct comm_process *list);
    /* What a rank does with its communicator, which is destroyed after it. */
    int (*body)(struct manta_comm *comm, struct comm_process *self);
};

/* Start the ranks. */
struct comm_process *comm_processes_start(const struct comm_job *job);
/* Wait until all have ended; those that do not within 60 s are killed. 0, or how many were. */
int comm_processes_wait(struct comm_process *list, int ranks);
/* Wait until a rank has reached a stage; exits the process after 60 s. */
void comm_process_await(const struct comm_process *process, int stage);
/* What a rank has logged by now, to be freed. */
char *comm_process_log(const struct comm_process *process);
void comm_processes_free(struct comm_process *list, int ranks);
/* For bodies: an allreduce that every rank can check. Keeps the error. */
int comm_process_allreduce(struct manta_comm *comm, struct comm_process *self);

#endif
