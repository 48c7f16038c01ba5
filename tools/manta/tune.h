/* SPDX-License-Identifier: Apache-2.0 */
/* What manta tune measures. */
#ifndef MANTA_TOOLS_MANTA_TUNE_H
#define MANTA_TOOLS_MANTA_TUNE_H

#include <manta/manta.h>

#include "plan/tuning.h"

struct tune {
    struct manta_comm *comm;
    uint32_t rank, ranks;
    char *out, *in;          /* TUNE_BYTES each */
    struct mt_tuning *found; /* the same on all ranks */
};

enum { TUNE_BYTES = 1 << 20 };

/* All ranks call these alike. Each gives 0, or the code of the call that failed. */

/* alpha_ns, core_ns and beta_ps_per_byte of each level at which two ranks meet; levels at which
 * none do take those of the nearest one within the node, or between nodes. */
int tune_links(struct tune *tune);
/* uplink_ps_per_byte of nodes, racks and zones, where there are several. */
int tune_uplinks(struct tune *tune);
/* gamma_ps_per_byte. */
int tune_reduction(struct tune *tune);
/* memory_ps_per_byte, and fused_alpha_ns or, where ranks share CPUs, turn_ns; where ranks of a node
 * have fused steps. */
int tune_fused(struct tune *tune);

#endif
