/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rank knows of its place, and what all of them make of it. A rank is in a core, L3, NUMA
 * node or package if all the CPUs that its thread may run on are: where they are of several it has
 * none of its own there, and shares that level with nobody. Zone and rack are in MANTA_PLACEMENT.
 */
#ifndef MT_TOPOLOGY_PLACE_H
#define MT_TOPOLOGY_PLACE_H

#include <stdint.h>

#include "core/group.h"
#include "topology/topology.h"

/* "zone=a/rack=r12", either of them alone, or "": into zone and rack. 0, or MANTA_EINVAL with a
 * sentence. */
int mt_place_parse(const char *text, struct mt_place *place, struct mt_error *error);
/* The same of MANTA_PLACEMENT, whose name the sentence then has. */
int mt_place_of_site(struct mt_place *place, struct mt_error *error);
/* The calling thread's place, with MANTA_PLACEMENT. 0 or MANTA_EINVAL. */
int mt_place_of_thread(struct mt_place *place_out, struct mt_error *error);
/* The kernel's number of the NUMA node that the calling thread stays on; -1: it may leave it. */
int mt_place_numa_of_thread(void);

/* Where the members sit. The same on all ranks, since the members are. Whatever they claim, groups
 * are nested: who is on another node is on another package too, and so on; ranks of a node are in
 * the zone and rack of its lowest rank. 0 or MANTA_ENOMEM. */
int mt_topology_of_members(const struct mt_member *members, uint32_t ranks,
                           struct mt_topology **topology_out);

#endif
