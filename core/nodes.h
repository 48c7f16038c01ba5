/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of a group's members: equal node and boot. */
#ifndef MT_CORE_NODES_H
#define MT_CORE_NODES_H

#include <stdint.h>

#include "core/group.h"

struct mt_nodes {
    uint32_t count;  /* numbered by their lowest ranks */
    uint32_t *first; /* [count + 1] where the ranks of each begin */
    uint32_t *ranks; /* node by node, each in order */
};

/* 0 or MANTA_ENOMEM. Free with mt_nodes_free, which takes a zeroed struct too. */
int mt_nodes_find(const struct mt_member *members, uint32_t ranks, struct mt_nodes *nodes_out);
void mt_nodes_free(struct mt_nodes *nodes);

#endif
