/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clusters from one line of text, for the simulator, prices and pictures:
 *
 *   rack:4@100Gbit/s,5us,oversub=2 node:16@200Gbit/s,2us numa:2 core:32 nic:4 gpu:8
 *
 * Words, separated by spaces:
 *   LEVEL:COUNT[@LINK]  so many of a level in each of the level named before it, from far to near:
 *                       zone, rack, node, package, numa, l3, core. Levels not named: one each.
 *   nic:COUNT[@RATE]    network cards of each node, and what each carries if node does not say it
 *   gpu:COUNT           of each node
 *   ranks:COUNT         of each node. Default: one for each GPU, without GPUs one for each core
 *   size:COUNT          of ranks in all, when they do not fill the cluster
 *   place=ORDER         packed (default: node by node), roundrobin (a rank to each node in turn),
 *                       random or random:SEED (the same on every machine; default seed 1)
 *   net=rdma            between nodes cards write into memory, as with verbs and ofi: plans are
 *                       chosen by that, and what is not given is as with 100 Gbit/s
 * The ranks of a node are spread evenly over its cores, in order; where core is not named, each has
 * one of its own.
 *
 * LINK is how each group of the level is tied to its siblings, in any order, separated by commas:
 *   RATE                100Gbit/s, 12.5GB/s, 400MB/s: what one rank gets at most. At node: what
 *                       each of its nic:COUNT cards carries (one, if there are none), so a node
 *                       sends COUNT times as much
 *   TIME                ns, us, ms: latency
 *   core=TIME           work of a core at each end of a message
 *   oversub=NUMBER      node, rack, zone: what leaves the group is at most this part (one half for
 *                       2) of what its nodes' cards carry together. Without: no limit but theirs
 * It counts also between the groups of the levels above, as far as those have no link of their own.
 * What is not given is as mt_topology_of_nodes assumes it, or as net= says.
 */
#ifndef MT_TOPOLOGY_SYNTHETIC_H
#define MT_TOPOLOGY_SYNTHETIC_H

#include <stdint.h>

#include "core/error.h"
#include "topology/cluster.h"
#include "topology/topology.h"

/* What the text says, without ranks. Close with mt_cluster_close. 0, MANTA_EINVAL with a sentence
 * that names the wrong word, MANTA_ENOMEM. */
int mt_cluster_parse(const char *text, struct mt_cluster *cluster_out, struct mt_error *error);

/* The ranks on it. ranks_per_node: used where the text has no ranks:COUNT; 0: the default above.
 * Free with mt_topology_free. Returns as mt_cluster_parse. */
int mt_topology_parse(const char *text, uint32_t ranks_per_node, struct mt_topology **topology_out,
                      struct mt_error *error);

#endif
