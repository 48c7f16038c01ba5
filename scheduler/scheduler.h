/* SPDX-License-Identifier: Apache-2.0 */
/* Who tells a process its rank, the size and the session when the caller does not. */
#ifndef MT_SCHEDULER_SCHEDULER_H
#define MT_SCHEDULER_SCHEDULER_H

#include "core/error.h"

struct mt_scheduler_job {
    int rank, ranks;
    char session[1024];
    char node[256]; /* name of the node, "" for the default */
};

/* A job of which nothing is known yet. */
#define MT_SCHEDULER_JOB_UNKNOWN ((struct mt_scheduler_job){.rank = -1, .ranks = -1})

/*
 * Complete a job from the environment that mantarun, or the user, prepared: MANTA_RANK, MANTA_SIZE
 * and MANTA_SESSION for what is not known, and MANTA_NODE if that is set. 0, or
 * MANTA_ESCHEDULER with a sentence that says which variables are missing, or which one is garbled
 * and what it must be.
 */
int mt_scheduler_detect(struct mt_scheduler_job *job, struct mt_error *error);

#endif
