/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a scheduler asks of Manta: how long the collectives of a job would take, were its ranks
 * placed so or so. Nothing runs: the answer comes from the cost model that also chooses algorithms.
 */
#ifndef MANTA_SCHEDULER_H
#define MANTA_SCHEDULER_H

#include <manta/manta.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A collective that a job calls again and again. */
struct manta_placement_call {
    size_t size;    /* sizeof(struct manta_placement_call), alike in all of an array */
    int collective; /* enum manta_collective, up to MANTA_BARRIER */
    uint64_t bytes; /* of one rank's vector, or of its part in allgather and reduce_scatter */
    uint64_t times; /* how often, for each other call; 0 is 1 */
};

/* Candidate places of a job on a cluster. */
struct manta_placement {
    size_t size;           /* sizeof(struct manta_placement), filled by the caller */
    const char *cluster;   /* one line, as in `manta topo --synthetic`:
                              "rack:4@100Gbit/s,5us node:16@200Gbit/s,2us ranks:8" */
    const uint32_t *nodes; /* the cluster's nodes, numbered from 0, each at most once */
    uint32_t node_count;   /* at least 1 */
    uint32_t ranks; /* of the job: the first fill the first node, and so on; 0: as many as the nodes
                       have room for */
    const struct manta_placement_call *calls;
    uint32_t call_count; /* at least 1 */
};

/*
 * Predict how long one round of a job's calls takes, each with the algorithm that is best for it,
 * on nodes of a cluster, with nobody else on their links.
 * placement: not NULL, as described above. ns_out: receives nanoseconds; not NULL.
 * Returns: 0; MANTA_EINVAL (the line is none, a node or collective that does not exist, a node
 *   twice, more ranks than the nodes have room for), MANTA_EALGORITHM, MANTA_ENOMEM. The detail is
 *   the calling thread's, see manta_comm_error(NULL, ...).
 * Thread: any, at any time. Blocks: never; it computes for milliseconds, for thousands of ranks for
 *   seconds. Since: 0.1.
 */
MANTA_API int manta_placement_cost(const struct manta_placement *placement, uint64_t *ns_out);

#ifdef __cplusplus
}
#endif

#endif
