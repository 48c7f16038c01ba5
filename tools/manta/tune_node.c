/* SPDX-License-Identifier: Apache-2.0 */
/* What a node does by itself: reductions of a core, fused steps in the memory that ranks share. */
#include "tools/manta/tune.h"

#include <stdlib.h>
#include <string.h>

#include "collectives/comm.h"
#include "core/clock.h"
#include "core/reduce.h"

enum {
    REDUCTIONS = 50,
    SHORT_CALLS = 500,
    LONG_CALLS = 30,
    REDUCED_BYTES = 256 << 10,
};

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* What a quarter of the slowest rank's times do not exceed: what disturbs only adds. */
static int agree(struct manta_comm *comm, uint64_t *times, int count, uint64_t *ns_out)
{
    int rc = manta_allreduce(comm, times, times, (uint64_t)count, MANTA_UINT64, MANTA_MAX);
    qsort(times, (size_t)count, sizeof(*times), compare);
    *ns_out = times[count / 4];
    return rc;
}

int tune_reduction(struct tune *tune)
{
    uint64_t times[REDUCTIONS], ns, count = REDUCED_BYTES / sizeof(float);
    int rc = manta_barrier(tune->comm);
    if (rc)
        return rc;
    for (int i = 0; i < REDUCTIONS; i++) {
        uint64_t begin = mt_clock_now_ns();
        mt_reduce(MANTA_FLOAT32, MANTA_SUM, tune->in, tune->in, tune->out, count);
        times[i] = mt_clock_now_ns() - begin;
    }
    rc = agree(tune->comm, times, REDUCTIONS, &ns);
    mt_tuning_set(tune->found, MT_TUNING_GAMMA, ns * 1000 / REDUCED_BYTES);
    return rc;
}

/* Each call after a barrier, as the model has it: all ranks begin at the same time. */
static int time_allreduce(struct tune *tune, struct manta_comm *node, uint64_t bytes, int calls,
                          uint64_t *ns_out)
{
    uint64_t times[SHORT_CALLS];
    for (int i = 0; i < calls; i++) {
        memset(tune->out, i, bytes); /* as a program does before it calls */
        int rc = manta_barrier(node);
        uint64_t begin = mt_clock_now_ns();
        if (rc == 0)
            rc = manta_allreduce(node, tune->out, tune->in, bytes / sizeof(float), MANTA_FLOAT32,
                                 MANTA_SUM);
        times[i] = mt_clock_now_ns() - begin;
        if (rc)
            return rc;
    }
    return agree(node, times, calls, ns_out);
}

/* The model's price of the fused allreduce with these values; 0: it has none. */
static uint64_t price(struct manta_comm *node, uint64_t memory, uint64_t bytes)
{
    const struct mt_arguments arguments = {
        .collective = MANTA_ALLREDUCE,
        .root = MANTA_PLAN_NONE,
        .count = bytes / sizeof(float),
        .dtype = MANTA_FLOAT32,
        .op = MANTA_SUM,
    };
    struct mt_select_candidate candidates[MT_SELECT_CANDIDATES];
    struct mt_error error;
    uint32_t count;
    const char *forced;
    node->cost.memory_ps_per_byte = memory;
    if (mt_choose_candidates(node, &arguments, candidates, MT_SELECT_CANDIDATES, &count, &forced,
                             &error))
        return 0;
    for (uint32_t i = 0; i < count; i++)
        if (candidates[i].algorithm->fused && !candidates[i].excluded)
            return candidates[i].predicted_ns;
    return 0;
}

/* What a short call costs is the members' part, or, where they take turns on CPUs, the turns. What
 * a long one costs more is the traffic, of which the model tells how much there is. */
static int tune_node(struct tune *tune, struct manta_comm *node)
{
    uint64_t brief = 0, lasting = 0, members = node->ranks, turns = node->cost.crowd - 1;
    int rc = time_allreduce(tune, node, sizeof(float), SHORT_CALLS, &brief);
    if (!rc)
        rc = time_allreduce(tune, node, TUNE_BYTES, LONG_CALLS, &lasting);
    if (rc)
        return rc;
    uint64_t fixed = members * node->cost.crowd * node->cost.fused_alpha_ns;
    int alone = node->cost.crowd == tune->comm->cost.crowd; /* else others are on its CPUs */
    if (alone && turns == 0)
        mt_tuning_set(tune->found, MT_TUNING_FUSED, brief / members);
    else if (alone && brief > fixed)
        mt_tuning_set(tune->found, MT_TUNING_TURN, (brief - fixed) / turns);
    uint64_t without = price(node, 0, TUNE_BYTES), with = price(node, 1000, TUNE_BYTES);
    if (with > without && lasting > brief)
        mt_tuning_set(tune->found, MT_TUNING_MEMORY, (lasting - brief) * 1000 / (with - without));
    return 0;
}

int tune_fused(struct tune *tune)
{
    struct manta_comm *node;
    int colour = (int)tune->comm->topology->group[MT_LEVEL_NODE][tune->rank];
    int rc = manta_comm_split(tune->comm, colour, 0, &node);
    if (rc)
        return rc;
    if (node->ranks > 1 && node->fused_endpoint != MT_ROUTE_NONE)
        rc = tune_node(tune, node);
    int closed = manta_comm_destroy(node);
    if (rc || closed)
        return rc ? rc : closed;
    /* The node of rank 0 speaks for all. */
    return manta_broadcast(tune->comm, tune->found, sizeof(*tune->found), MANTA_UINT8, 0);
}
