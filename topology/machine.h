/* SPDX-License-Identifier: Apache-2.0 */
/* One node as hwloc describes it: this host, or a file that lstopo or another host has written. */
#ifndef MT_TOPOLOGY_MACHINE_H
#define MT_TOPOLOGY_MACHINE_H

#include "topology/cluster.h"

/* A cluster of this host: all of its CPUs, and which of them the calling thread may use; cards and
 * GPUs as sysfs shows them. 0, MANTA_ESYSTEM with a sentence, MANTA_ENOMEM. */
int mt_cluster_of_host(struct mt_cluster *cluster_out, struct mt_error *error);
/* A cluster of the one node in an hwloc XML file; speeds of cards are not in it. 0, MANTA_EINVAL
 * with a sentence, MANTA_ENOMEM. */
int mt_cluster_of_xml(const char *path, struct mt_cluster *cluster_out, struct mt_error *error);

#endif
