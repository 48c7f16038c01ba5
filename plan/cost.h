/* SPDX-License-Identifier: Apache-2.0 */
/* The cost model: alpha, beta and gamma of each level of a topology; a plan's price in integer
 * nanoseconds is the time at which the last rank is done. */
#ifndef MT_PLAN_COST_H
#define MT_PLAN_COST_H

#include <stdint.h>

#include <manta/plan.h>

#include "core/error.h"
#include "topology/topology.h"

struct mt_cost_model {
    const struct mt_topology *topology; /* outlives the model */
    uint64_t gamma_ps_per_byte;         /* reduction or copy, one core */
    uint64_t memory_ps_per_byte;        /* read or written on a node: the memory its ranks share */
    uint64_t fused_alpha_ns;            /* fused step, for each member */
    uint32_t crowd;                     /* of the fullest node: ranks for each CPU, rounded up */
    uint64_t turn_ns;     /* how long a rank keeps a CPU that others wait for, and gives it away */
    uint64_t eager_bytes; /* longer messages wait for word of their receive */
    uint64_t rdma_eager_bytes; /* the same between nodes where cards write into memory */
    uint32_t is_rdma;          /* they do: no core moves what is longer */
    uint64_t segment_bytes;
    uint64_t slow_ps_per_byte; /* of a node's uplink, which may be as slow as that where nobody
                                * knows its speed; 0: it is known */
};
/* Defaults for this machine class, a CPU for each rank. segment_bytes: 0: as long as suits so many
 * nodes, so that what neighbours of a ring exchange is long, and yet several segments are under way
 * in vectors of a few MiB. The network's speed is known if the
 * topology says anything of it. */
void mt_cost_defaults(struct mt_cost_model *model, const struct mt_topology *topology,
                      uint64_t segment_bytes);
/* It has turned out that the topology is one with RDMA. */
void mt_cost_rdma(struct mt_cost_model *model, struct mt_topology *topology);
/* Price the plans of the topology's first `ranks` ranks for a vector of `bytes` (per rank's part
 * for the RANKS layout). */
int mt_plan_cost(const struct mt_cost_model *model, const struct manta_plan *const *plans,
                 uint32_t ranks, uint64_t bytes, uint64_t *ns_out, struct mt_error *error);

#endif
