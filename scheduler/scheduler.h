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

/*
 * Read the job from the environment that mantarun, or the user, prepared: MANTA_RANK, MANTA_SIZE,
 * MANTA_SESSION and, if wanted, MANTA_NODE. 0, or MANTA_ESCHEDULER with a sentence that says which
 * variable is missing or garbled and what it must be.
 */
int mt_scheduler_detect(struct mt_scheduler_job *job_out, struct mt_error *error);

#endif
