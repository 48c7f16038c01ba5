/* SPDX-License-Identifier: Apache-2.0 */
/* What a job's collectives would take on nodes of a cluster: for schedulers. */
#include <manta/scheduler.h>

#include <stdlib.h>
#include <string.h>

#include "collectives/catalogue.h"
#include "collectives/comm.h"
#include "core/dtype.h"
#include "topology/synthetic.h"

/* The cluster's places that the job's ranks take, in the order of ranks. */
struct seats {
    uint32_t *at; /* ranks of the cluster */
    uint32_t count;
};

static int no_memory(struct mt_error *error, uint32_t ranks)
{
    return mt_error_set(error, MANTA_ENOMEM, "no memory to place %u ranks; free some", ranks);
}

static int check(const struct manta_placement *placement, struct mt_error *error)
{
    if (placement->size < sizeof(*placement))
        return mt_error_set(error, MANTA_EINVAL,
                            "placement->size is not sizeof(struct manta_placement)");
    if (!placement->cluster || !placement->nodes || !placement->calls || !placement->node_count ||
        !placement->call_count)
        return mt_error_set(error, MANTA_EINVAL,
                            "a placement needs a cluster, nodes of it, and calls");
    for (uint32_t i = 0; i < placement->call_count; i++) {
        if (placement->calls[i].size != sizeof(*placement->calls))
            return mt_error_set(error, MANTA_EINVAL,
                                "call %u's size is not sizeof(struct manta_placement_call)", i);
        if (placement->calls[i].collective < 0 || placement->calls[i].collective >= MANTA_SEND)
            return mt_error_set(error, MANTA_EINVAL,
                                "call %u of the placement is no collective of all ranks", i);
    }
    return 0;
}

/* Mark the nodes by their turn; none is there twice. */
static int mark_nodes(const struct manta_placement *placement, uint32_t nodes, uint32_t *turns,
                      struct mt_error *error)
{
    memset(turns, 0xff, nodes * sizeof(*turns)); /* MANTA_PLAN_NONE */
    for (uint32_t i = 0; i < placement->node_count; i++) {
        uint32_t node = placement->nodes[i];
        if (node >= nodes)
            return mt_error_set(error, MANTA_EINVAL,
                                "there is no node %u in this cluster of %u; they are numbered from "
                                "0",
                                node, nodes);
        if (turns[node] != MANTA_PLAN_NONE)
            return mt_error_set(error, MANTA_EINVAL, "node %u is there twice", node);
        turns[node] = i;
    }
    return 0;
}

/* Places by the turn of their node, then in the cluster's order. */
static void fill_seats(const struct mt_topology *cluster, const uint32_t *turns,
                       uint32_t node_count, uint32_t *firsts, struct seats *seats)
{
    const uint32_t *node = cluster->group[MT_LEVEL_NODE];
    memset(firsts, 0, (node_count + (size_t)1) * sizeof(*firsts));
    for (uint32_t r = 0; r < cluster->ranks; r++)
        if (turns[node[r]] != MANTA_PLAN_NONE)
            firsts[turns[node[r]] + 1]++;
    for (uint32_t i = 0; i < node_count; i++)
        firsts[i + 1] += firsts[i];
    seats->count = firsts[node_count];
    for (uint32_t r = 0; r < cluster->ranks; r++)
        if (turns[node[r]] != MANTA_PLAN_NONE)
            seats->at[firsts[turns[node[r]]]++] = r;
}

static int find_seats(const struct manta_placement *placement, const struct mt_topology *cluster,
                      struct seats *seats, struct mt_error *error)
{
    uint32_t nodes = cluster->groups[MT_LEVEL_NODE];
    uint32_t *turns = malloc(nodes * sizeof(*turns));
    uint32_t *firsts = malloc((placement->node_count + (size_t)1) * sizeof(*firsts));
    seats->at = malloc(cluster->ranks * sizeof(*seats->at));
    int rc = turns && firsts && seats->at ? mark_nodes(placement, nodes, turns, error)
                                          : no_memory(error, cluster->ranks);
    if (!rc)
        fill_seats(cluster, turns, placement->node_count, firsts, seats);
    if (!rc && placement->ranks > seats->count)
        rc = mt_error_set(error, MANTA_EINVAL, "the nodes have room for %u ranks, not for %u",
                          seats->count, placement->ranks);
    if (!rc && placement->ranks)
        seats->count = placement->ranks;
    free(turns);
    free(firsts);
    return rc;
}

/* The part of a cluster that these places are, with its links. */
static int cut_topology(const struct mt_topology *cluster, const struct seats *seats,
                        struct mt_topology **topology_out, struct mt_error *error)
{
    uint64_t *columns = malloc((size_t)MT_LEVELS * seats->count * sizeof(*columns));
    const uint64_t *keys[MT_LEVELS];
    int rc = columns ? 0 : MANTA_ENOMEM;
    for (int level = 0; level < MT_LEVELS && !rc; level++) {
        uint64_t *column = columns + (size_t)level * seats->count;
        for (uint32_t r = 0; r < seats->count; r++)
            column[r] = cluster->group[level][seats->at[r]];
        keys[level] = column;
    }
    if (!rc)
        rc = mt_topology_of_keys(seats->count, keys, topology_out);
    free(columns);
    if (rc)
        return no_memory(error, seats->count);
    memcpy((*topology_out)->links, cluster->links, sizeof(cluster->links));
    memcpy((*topology_out)->uplink_ps_per_byte, cluster->uplink_ps_per_byte,
           sizeof(cluster->uplink_ps_per_byte));
    (*topology_out)->is_rdma = cluster->is_rdma;
    return 0;
}

/* What the best algorithm needs for one call. */
static int price_call(const struct mt_cost_model *cost, const struct manta_placement_call *call,
                      uint64_t *ns_out, struct mt_error *error)
{
    const struct mt_topology *topology = cost->topology;
    struct mt_select_candidate candidates[MT_SELECT_CANDIDATES];
    uint32_t count;
    const struct mt_select_context context = {.ranks = topology->ranks,
                                              .fused_available =
                                                  topology->groups[MT_LEVEL_NODE] == 1,
                                              .cost = cost,
                                              .catalogue = mt_catalogue};
    const struct mt_plan_request request = {.collective = (uint32_t)call->collective,
                                            .ranks = topology->ranks,
                                            .topology = topology,
                                            .fuses = 1};
    uint64_t bytes = call->collective == MANTA_BARRIER ? 1 : call->bytes;
    if (mt_select(&context, &request, bytes, candidates, MT_SELECT_CANDIDATES, &count, error))
        return error->code;
    int best = mt_select_pick(candidates, count, NULL);
    if (best < 0)
        return mt_error_set(error, MANTA_EALGORITHM, "no algorithm can run %s over %u ranks",
                            mt_collective_name(call->collective), topology->ranks);
    *ns_out = candidates[best].predicted_ns;
    return 0;
}

static int price_calls(const struct manta_placement *placement, const struct mt_topology *topology,
                       uint64_t segment_bytes, uint64_t *ns_out, struct mt_error *error)
{
    struct mt_cost_model cost;
    uint64_t sum = 0, most = UINT64_MAX / 2;
    mt_cost_defaults(&cost, topology, segment_bytes);
    for (uint32_t i = 0; i < placement->call_count; i++) {
        const struct manta_placement_call *call = &placement->calls[i];
        uint64_t times = call->times ? call->times : 1, ns = 0;
        if (price_call(&cost, call, &ns, error))
            return error->code;
        sum = ns > (most - sum) / times ? most : sum + ns * times;
    }
    *ns_out = sum;
    return 0;
}

int manta_placement_cost(const struct manta_placement *placement, uint64_t *ns_out)
{
    struct mt_topology *cluster = NULL, *topology = NULL;
    struct seats seats = {0};
    struct mt_settings settings;
    struct mt_error error = {.code = 0};
    int rc = placement && ns_out
                 ? check(placement, &error)
                 : mt_error_set(&error, MANTA_EINVAL, "placement or ns_out is NULL");
    if (!rc)
        rc = mt_settings_read(NULL, &settings, &error);
    if (!rc)
        rc = mt_topology_parse(placement->cluster, 0, &cluster, &error);
    if (!rc)
        rc = find_seats(placement, cluster, &seats, &error);
    if (!rc)
        rc = cut_topology(cluster, &seats, &topology, &error);
    if (!rc)
        rc = price_calls(placement, topology, settings.segment_bytes, ns_out, &error);
    if (rc)
        mt_comm_set_error(NULL, &error);
    mt_topology_free(topology);
    mt_topology_free(cluster);
    free(seats.at);
    return rc;
}
