/* SPDX-License-Identifier: Apache-2.0 */
/* The ranks in the order of their places, for collectives in which each rank has a block. */
#include <stdlib.h>
#include <string.h>

#include "collectives/hierarchy.h"

/* Stable, by group of this level; sizes: room. */
static void sort_by(const uint32_t *group, uint32_t *ranks, uint32_t count, uint32_t *sizes,
                    uint32_t *sorted)
{
    memset(sizes, 0, ((size_t)count + 1) * sizeof(*sizes));
    for (uint32_t i = 0; i < count; i++)
        sizes[group[ranks[i]] + 1]++;
    for (uint32_t g = 0; g < count; g++)
        sizes[g + 1] += sizes[g];
    for (uint32_t i = 0; i < count; i++)
        sorted[sizes[group[ranks[i]]]++] = ranks[i];
    memcpy(ranks, sorted, count * sizeof(*ranks));
}

/* By the widest level first, so that sort goes last. */
static void sort_ranks(const struct mt_topology *topology, uint32_t *ranks, uint32_t count,
                       uint32_t *sizes, uint32_t *sorted)
{
    for (uint32_t r = 0; r < count; r++)
        ranks[r] = r;
    for (int level = MT_LEVEL_NODE; level <= MT_LEVEL_ZONE; level++)
        sort_by(topology->group[level], ranks, count, sizes, sorted);
}

int mt_order_open(struct mt_order *order, struct mt_plan_builder *p)
{
    const uint32_t count = plan_ranks(p);
    const struct mt_topology *topology = plan_topology(p);
    struct plan_interval *parts = calloc(count, sizeof(*parts) + 4 * sizeof(uint32_t));
    *order = (struct mt_order){.memory = parts};
    if (!parts) {
        plan_no_memory(p);
        return 0;
    }
    order->parts = parts;
    order->ranks = (uint32_t *)(parts + count);
    order->members = order->ranks + count;
    order->node_first = order->members + count;
    sort_ranks(topology, order->ranks, count, order->node_first, order->members);
    const uint32_t *node_of = topology->group[MT_LEVEL_NODE];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t rank = order->ranks[i];
        if (i == 0 || node_of[rank] != node_of[order->ranks[i - 1]])
            order->node_first[order->nodes++] = i;
        if (rank == plan_rank(p)) {
            order->node = order->nodes - 1;
            order->me = i - order->node_first[order->node];
        }
    }
    order->node_first[order->nodes] = count;
    return 1;
}

void mt_order_close(struct mt_order *order)
{
    free(order->memory);
}

static uint32_t size_of(const struct mt_order *order, uint32_t node)
{
    return order->node_first[node + 1] - order->node_first[node];
}

struct plan_interval mt_order_blocks(const struct mt_order *order, uint32_t node)
{
    return plan_range(order->ranks[order->node_first[node]], size_of(order, node));
}

int mt_order_adjoins(const struct mt_order *order, uint32_t node)
{
    const uint32_t *ranks = order->ranks + order->node_first[node];
    uint32_t size = size_of(order, node);
    return ranks[size - 1] - ranks[0] == size - 1;
}

struct plan_view mt_order_node(const struct mt_order *order)
{
    return (struct plan_view){.ranks = order->ranks + order->node_first[order->node],
                              .count = size_of(order, order->node)};
}

void mt_order_on_node(struct mt_plan_builder *p, struct mt_order *order, uint32_t node,
                      const struct mt_algorithm *fused, const struct mt_algorithm *plain)
{
    struct plan_view view = mt_order_node(order);
    for (uint32_t i = 0; i < view.count; i++)
        order->parts[i] = plan_range(order->ranks[order->node_first[node] + i], 1);
    view.parts = order->parts;
    plan_within(p, &view, plan_fuses(p) && mt_order_adjoins(order, node) ? fused : plain);
}

void mt_order_on_rail(struct mt_plan_builder *p, struct mt_order *order,
                      const struct mt_algorithm *algorithm)
{
    for (uint32_t node = 0; node < order->nodes; node++) {
        order->members[node] = order->ranks[order->node_first[node] + order->me];
        order->parts[node] = plan_range(order->members[node], 1);
    }
    plan_within(
        p,
        &(struct plan_view){.ranks = order->members, .count = order->nodes, .parts = order->parts},
        algorithm);
}

void mt_order_on_leaders(struct mt_plan_builder *p, struct mt_order *order,
                         const struct mt_algorithm *algorithm)
{
    for (uint32_t node = 0; node < order->nodes; node++) {
        order->members[node] = order->ranks[order->node_first[node]];
        order->parts[node] = mt_order_blocks(order, node);
    }
    plan_within(
        p,
        &(struct plan_view){.ranks = order->members, .count = order->nodes, .parts = order->parts},
        algorithm);
}

void mt_order_all(struct mt_plan_builder *p, struct mt_order *order,
                  const struct mt_algorithm *algorithm)
{
    uint32_t ranks = plan_ranks(p);
    for (uint32_t i = 0; i < ranks; i++)
        order->parts[i] = plan_range(order->ranks[i], 1);
    plan_within(p,
                &(struct plan_view){.ranks = order->ranks, .count = ranks, .parts = order->parts},
                algorithm);
}
