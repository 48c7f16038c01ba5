/* SPDX-License-Identifier: Apache-2.0 */
/* Where a rank says that it sits. Read by topology/place.c, told to the others at creation, turned
 * into groups by mt_topology_of_members. */
#ifndef MT_CORE_PLACE_H
#define MT_CORE_PLACE_H

#include <stdint.h>

#define MT_PLACE_NONE UINT32_MAX

/* Within the node each number is that of the lowest CPU of what the rank is bound to, of all CPUs
 * that the host has; MT_PLACE_NONE where it may run on several of them, or nothing is known. */
struct mt_place {
    uint64_t zone, rack; /* hashes of their names; 0: not said */
    uint32_t package, numa, l3, core;
    uint64_t nic_mbits; /* what the node's network cards carry together, Mbit/s; 0: not known */
};

#define MT_PLACE_UNKNOWN                                                                           \
    {                                                                                              \
        0, 0, MT_PLACE_NONE, MT_PLACE_NONE, MT_PLACE_NONE, MT_PLACE_NONE, 0                        \
    }

#endif
