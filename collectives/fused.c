/* SPDX-License-Identifier: Apache-2.0 */
/* The whole collective as one fused step of all ranks, which a transport carries out (shared
 * memory of one node). The plan declares what each rank reads and writes; see transport/shm.
 * Jain and others: Framework for scalable intra-node collective operations using shared memory,
 * 2018. */
#include "collectives/algorithms.h"
#include "plan/algorithm.h"

static void over_vector(struct mt_plan_builder *p)
{
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    plan_fused(p);
}

static void over_ranks(struct mt_plan_builder *p)
{
    plan_blocks(p, plan_ranks(p), MANTA_PLAN_RANKS);
    plan_fused(p);
}

#define FUSED(variable, of, how)                                                                   \
    const struct mt_algorithm variable = {                                                         \
        .name = "fused",                                                                           \
        .collective = (of),                                                                        \
        .ranks_min = 2,                                                                            \
        .order = MANTA_PLAN_ORDER_BINARY,                                                          \
        .fused = 1,                                                                                \
        .source = "Jain, Kaleem, Balmana, Langer, Durnov, Sannikov, Garzaran 2018",                \
        .build = (how),                                                                            \
    }

FUSED(mt_allreduce_fused, MANTA_ALLREDUCE, over_vector);
FUSED(mt_broadcast_fused, MANTA_BROADCAST, over_vector);
FUSED(mt_reduce_fused, MANTA_REDUCE, over_vector);
FUSED(mt_allgather_fused, MANTA_ALLGATHER, over_ranks);
FUSED(mt_reduce_scatter_fused, MANTA_REDUCE_SCATTER, over_ranks);
FUSED(mt_barrier_fused, MANTA_BARRIER, over_vector);
