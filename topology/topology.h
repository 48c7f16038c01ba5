/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the ranks of a group sit, level by level, and what it costs to cross each level. It is the
 * same on all ranks: plans, their prices and the simulator are functions of it. Real clusters fill
 * it from what the ranks exchange at creation, synthetic ones from a line of text.
 */
#ifndef MT_TOPOLOGY_TOPOLOGY_H
#define MT_TOPOLOGY_TOPOLOGY_H

#include <stdint.h>

/* From near to far. Groups are nested: ranks that share one share all of the levels above. */
enum mt_level {
    MT_LEVEL_CORE = 0,
    MT_LEVEL_L3,
    MT_LEVEL_NUMA,
    MT_LEVEL_PACKAGE,
    MT_LEVEL_NODE,
    MT_LEVEL_RACK,
    MT_LEVEL_ZONE,
    MT_LEVEL_CLUSTER, /* all ranks: one group */
    MT_LEVELS
};

/* A message between two ranks whose smallest common group is of this level. */
struct mt_topology_link {
    uint64_t alpha_ns;         /* latency, besides the core's work at both ends */
    uint64_t core_ns;          /* work of a core at each end */
    uint64_t beta_ps_per_byte; /* of one rank's way out or in, picoseconds for each byte */
    uint64_t copy_ps_per_byte; /* work of a core at each end, while the bytes move */
};

struct mt_topology {
    uint32_t ranks;
    uint32_t groups[MT_LEVELS]; /* how many groups a level has, at least 1 */
    uint32_t *group[MT_LEVELS]; /* [ranks]: group of each rank, numbered by their lowest ranks */
    struct mt_topology_link links[MT_LEVELS];
    /* What a group's ranks share when they send to, or receive from, others outside of it: the NICs
     * of a node, the uplink of a rack. Each direction by itself; 0: no limit. */
    uint64_t uplink_ps_per_byte[MT_LEVELS];
    int is_rdma; /* between nodes cards write into memory, and no core copies */
};

/* A link of this machine class: shared memory within a node, else TCP. */
const struct mt_topology_link *mt_topology_assumed(enum mt_level level);
/* The same where cards write into memory: level is above node. */
const struct mt_topology_link *mt_topology_assumed_of_rdma(enum mt_level level);
/* Cards write into memory: of links between nodes that are as assumed, what is assumed then. */
void mt_topology_use_rdma(struct mt_topology *topology);

/* Ranks that are told apart by keys, level by level from far to near: those of one group whose keys
 * at the next level are equal share a group there too, so that groups are nested whatever the keys
 * are. keys[level]: [ranks], or NULL: all equal; the cluster's are not looked at. Links as assumed,
 * uplinks without limit. One allocation; free with mt_topology_free. 0 or MANTA_ENOMEM. */
int mt_topology_of_keys(uint32_t ranks, const uint64_t *const keys[MT_LEVELS],
                        struct mt_topology **topology_out);
/* Ranks on nodes (any numbers that tell nodes apart; NULL: one node). Nothing else is known: each
 * rank has a core, each node one L3, NUMA node and package, and all nodes are in one rack. */
int mt_topology_of_nodes(uint32_t ranks, const uint64_t *nodes, struct mt_topology **topology_out);
void mt_topology_free(struct mt_topology *topology);

/* order_out: [ranks], all ranks, such that a ring over them enters each group of each level once:
 * group by group from the top level down, each in the order of its lowest rank. */
void mt_topology_order(const struct mt_topology *topology, uint32_t *order_out);

/* "core", "l3", "numa", "package", "node", "rack", "zone", "cluster". */
const char *mt_level_name(enum mt_level level);

/* The level of the smallest group that holds both. */
static inline enum mt_level mt_topology_meet(const struct mt_topology *topology, uint32_t a,
                                             uint32_t b)
{
    int level = MT_LEVEL_CORE;
    while (level < MT_LEVEL_CLUSTER && topology->group[level][a] != topology->group[level][b])
        level++;
    return (enum mt_level)level;
}

#endif
