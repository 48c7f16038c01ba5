/* SPDX-License-Identifier: Apache-2.0 */
/* The cost model: alpha, beta and gamma per level; a plan's price in integer nanoseconds is the
 * length of its critical path over all ranks. */
#ifndef MT_PLAN_COST_H
#define MT_PLAN_COST_H

#include <stdint.h>

#include <manta/plan.h>

#include "core/error.h"

enum mt_cost_level { MT_COST_NODE = 0, MT_COST_NETWORK = 1, MT_COST_LEVELS = 2 };

struct mt_cost_link {
    uint64_t alpha_ns;         /* one message, besides the core's work at both ends */
    uint64_t core_ns;          /* work of a core at each end of a message */
    uint64_t beta_ps_per_byte; /* picoseconds for each byte */
};
struct mt_cost_model {
    struct mt_cost_link levels[MT_COST_LEVELS];
    uint64_t gamma_ps_per_byte;  /* reduction or copy, one core */
    uint64_t memory_ps_per_byte; /* read or written on a node: the memory its ranks share */
    uint64_t fused_alpha_ns;     /* fused step, for each member */
    uint32_t crowd;              /* of the fullest node: ranks for each CPU, rounded up */
    uint64_t turn_ns; /* how long a rank keeps a CPU that others wait for, and gives it away */
    uint32_t ranks;
    const uint64_t *nodes; /* [ranks] node of each rank */
    uint64_t segment_bytes;
};
/* Defaults for this machine class, a CPU for each rank; nodes as given. */
void mt_cost_defaults(struct mt_cost_model *model, uint32_t ranks, const uint64_t *nodes,
                      uint64_t segment_bytes);
/* Price the plans of all ranks for a vector of `bytes` (per rank's part for the RANKS layout). */
int mt_plan_cost(const struct mt_cost_model *model, const struct manta_plan *const *plans,
                 uint32_t ranks, uint64_t bytes, uint64_t *ns_out, struct mt_error *error);

#endif
