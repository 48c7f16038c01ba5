/* SPDX-License-Identifier: Apache-2.0 */
#include "collectives/two_trees.h"

/* From a node to its place in order, and back. */
static uint32_t place_of(uint32_t nodes, uint32_t node, uint32_t tree)
{
    if (tree == 0)
        return node;
    return nodes % 2 == 0 ? nodes + 1 - node : node % nodes + 1;
}

static uint32_t node_at(uint32_t nodes, uint32_t place, uint32_t tree)
{
    if (tree == 0 || place == 0)
        return place;
    return nodes % 2 == 0 ? nodes + 1 - place : (place > 1 ? place - 1 : nodes);
}

static uint32_t root_place(uint32_t nodes)
{
    return 1u << (31 - (uint32_t)__builtin_clz(nodes));
}

uint32_t mt_two_trees_root(uint32_t nodes, uint32_t tree)
{
    return node_at(nodes, root_place(nodes), tree);
}

/* In a tree without end, the parent has the next higher bit as its lowest; places beyond the nodes
 * are left out. */
static uint32_t parent_place(uint32_t nodes, uint32_t place)
{
    if (place == root_place(nodes))
        return 0;
    uint64_t at = place;
    do {
        uint64_t bit = at & (~at + 1);
        at = (at ^ bit) | 2 * bit;
    } while (at > nodes);
    return (uint32_t)at;
}

struct mt_two_trees_node mt_two_trees_node(uint32_t nodes, uint32_t node, uint32_t tree)
{
    uint32_t place = place_of(nodes, node, tree), half = (place & (~place + 1)) / 2;
    uint32_t lower = half ? place - half : 0;
    while (half && half > nodes - place)
        half /= 2;
    uint32_t upper = half ? place + half : 0;
    return (struct mt_two_trees_node){node_at(nodes, parent_place(nodes, place), tree),
                                      node_at(nodes, lower, tree), node_at(nodes, upper, tree)};
}
