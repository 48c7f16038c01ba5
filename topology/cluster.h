/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a cluster consists of, whether or not ranks run on it: boxes in boxes, and equal siblings
 * are one box with a count. It comes from a line of text, this host, or a file; ranks placed on it
 * make a struct mt_topology.
 */
#ifndef MT_TOPOLOGY_CLUSTER_H
#define MT_TOPOLOGY_CLUSTER_H

#include <stdint.h>

#include "core/error.h"
#include "topology/devices.h"
#include "topology/topology.h"

enum { MT_BOX_NAME = 64, MT_BOX_COUNT_MAX = 1 << 20, MT_NODE_CORES_MAX = 4096 };

struct mt_box {
    enum mt_level level;
    uint32_t count;             /* of equal siblings, at least 1 */
    uint32_t cpus;              /* core: CPUs (hardware threads) in it; 0: not known */
    uint32_t usable;            /* core: of them, this process may use so many */
    uint64_t bytes;             /* numa: memory; l3: cache; core: L2 cache; 0: not known */
    uint32_t nics, gpus;        /* node */
    struct mt_devices *devices; /* node: what they are, or NULL */
    char name[MT_BOX_NAME];     /* "": none */
    struct mt_box *children;    /* nearer ones; levels may be left out: there is one of those */
    uint32_t child_count;
};

enum mt_placement { MT_PLACEMENT_PACKED, MT_PLACEMENT_ROUND_ROBIN, MT_PLACEMENT_RANDOM };

struct mt_cluster {
    struct mt_box root; /* of level cluster; one of it */
    struct mt_topology_link links[MT_LEVELS];
    uint64_t uplink_ps_per_byte[MT_LEVELS];
    int is_rdma;             /* between nodes cards write into memory, and no core copies */
    uint32_t ranks_per_node; /* 0: one for each GPU, without GPUs one for each core, without cores
                              * one for each of the nearest boxes */
    uint32_t size;           /* ranks in all; 0: as many as there is room for */
    enum mt_placement placement;
    uint64_t seed;
};

/* An empty cluster with the links of mt_topology_of_nodes. */
void mt_cluster_init(struct mt_cluster *cluster_out);
/* Give back what it holds. */
void mt_cluster_close(struct mt_cluster *cluster);
/* Give back what the boxes in a box hold, and its devices. */
void mt_box_close(struct mt_box *box);
/* A zeroed child, one of its level, behind those that are there; NULL: no memory. Pointers to other
 * children of that box are not valid any more. */
struct mt_box *mt_box_add(struct mt_box *box, enum mt_level level);
/* Make one of those children that are alike and stand side by side, in all depths. Boxes that have
 * a name are alike to none. */
void mt_box_fold(struct mt_box *box);
/* Boxes of a level within this one, itself included. */
uint64_t mt_box_total(const struct mt_box *box, enum mt_level level);

/* Ranks on it. 0, MANTA_EINVAL with a sentence (too many, or none), MANTA_ENOMEM. */
int mt_cluster_topology(const struct mt_cluster *cluster, struct mt_topology **topology_out,
                        struct mt_error *error);

#endif
