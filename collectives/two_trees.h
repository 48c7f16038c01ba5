/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two binary trees over the same nodes, so that a node with children in one is a leaf in the other:
 * with half of the pieces over each, all links of all nodes work both ways. The first is numbered
 * in order (the children of i are i -+ half of its lowest bit, so that leaves are odd); the second
 * is the first one mirrored, or where the number of nodes is odd, shifted by one.
 * Sanders, Speck, Träff: Two-tree algorithms for full bandwidth broadcast, reduction and scan,
 * 2009.
 */
#ifndef MT_COLLECTIVES_TWO_TREES_H
#define MT_COLLECTIVES_TWO_TREES_H

#include <stdint.h>

/* Neighbours of a node; nodes are 1 .. nodes, 0 is none. */
struct mt_two_trees_node {
    uint32_t parent, lower, upper;
};

uint32_t mt_two_trees_root(uint32_t nodes, uint32_t tree);
/* tree: 0 or 1. Lower and upper are by the places in the tree. */
struct mt_two_trees_node mt_two_trees_node(uint32_t nodes, uint32_t node, uint32_t tree);

#endif
