/* SPDX-License-Identifier: Apache-2.0 */
/* What each algorithm takes, on a communicator. */
#ifndef MT_TOOLS_MANTA_MEASURE_H
#define MT_TOOLS_MANTA_MEASURE_H

#include "collectives/comm.h"

struct measurement {
    uint64_t ns[MT_SELECT_CANDIDATES]; /* the usual time of the slowest rank; 0 of the excluded */
    char doubt[192];                   /* why it is not to be trusted, or "" */
};

/* All ranks call it alike. 0, or a code with a sentence. */
int measure_candidates(struct manta_comm *comm, const struct mt_arguments *arguments,
                       const struct mt_select_candidate *candidates, uint32_t count,
                       struct measurement *out, struct mt_error *error);

#endif
