/* SPDX-License-Identifier: Apache-2.0 */
/* Where ranks sit: groups are nested and numbered by their lowest ranks, and ranks meet where their
 * smallest common group is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "topology/topology.h"

static void nodes_are_numbered_by_their_lowest_ranks(void **state)
{
    (void)state;
    const uint64_t nodes[] = {900, 7, 900, 55, 7, 900};
    const uint32_t expected[] = {0, 1, 0, 2, 1, 0};
    struct mt_topology *topology;
    assert_int_equal(mt_topology_of_nodes(6, nodes, &topology), 0);
    assert_int_equal(topology->groups[MT_LEVEL_NODE], 3);
    assert_memory_equal(topology->group[MT_LEVEL_NODE], expected, sizeof(expected));
    mt_topology_free(topology);
}

static void ranks_meet_in_their_smallest_common_group(void **state)
{
    (void)state;
    const uint64_t nodes[] = {1, 1, 2};
    struct mt_topology *topology;
    assert_int_equal(mt_topology_of_nodes(3, nodes, &topology), 0);
    assert_int_equal(mt_topology_meet(topology, 1, 1), MT_LEVEL_CORE);
    assert_int_equal(mt_topology_meet(topology, 0, 1), MT_LEVEL_L3);
    assert_int_equal(mt_topology_meet(topology, 0, 2), MT_LEVEL_RACK);
    assert_int_equal(mt_topology_meet(topology, 2, 1), MT_LEVEL_RACK);
    mt_topology_free(topology);
}

static void groups_are_nested(void **state)
{
    (void)state;
    uint64_t nodes[64];
    struct mt_topology *topology;
    for (uint32_t r = 0; r < 64; r++)
        nodes[r] = (r * 7) % 5;
    assert_int_equal(mt_topology_of_nodes(64, nodes, &topology), 0);
    for (int level = 0; level + 1 < MT_LEVELS; level++)
        for (uint32_t a = 0; a < 64; a++)
            for (uint32_t b = 0; b < 64; b++)
                if (topology->group[level][a] == topology->group[level][b])
                    assert_int_equal(topology->group[level + 1][a], topology->group[level + 1][b]);
    mt_topology_free(topology);
}

static void without_nodes_all_are_on_one(void **state)
{
    (void)state;
    struct mt_topology *topology;
    assert_int_equal(mt_topology_of_nodes(5, NULL, &topology), 0);
    assert_int_equal(topology->groups[MT_LEVEL_NODE], 1);
    assert_int_equal(mt_topology_meet(topology, 0, 4), MT_LEVEL_L3);
    mt_topology_free(topology);
}

/* Groups are nested, and numbered by their lowest ranks. */
static void assert_sound(const struct mt_topology *topology)
{
    for (int level = 0; level < MT_LEVELS; level++) {
        const uint32_t *group = topology->group[level];
        uint32_t next = 0;
        for (uint32_t r = 0; r < topology->ranks; r++) {
            assert_true(group[r] <= next);
            next += group[r] == next;
        }
        assert_int_equal(next, topology->groups[level]);
        for (uint32_t a = 0; level + 1 < MT_LEVELS && a < topology->ranks; a++)
            for (uint32_t b = 0; b < a; b++)
                if (group[a] == group[b])
                    assert_int_equal(topology->group[level + 1][a], topology->group[level + 1][b]);
    }
}

/* Each group is entered once: as many changes on the way round as there are groups. */
static void assert_fewest_crossings(const struct mt_topology *topology)
{
    uint32_t *order = calloc(topology->ranks, sizeof *order);
    uint8_t *seen = calloc(topology->ranks, 1);
    mt_topology_order(topology, order);
    for (uint32_t i = 0; i < topology->ranks; i++)
        seen[order[i]]++;
    for (uint32_t r = 0; r < topology->ranks; r++)
        assert_int_equal(seen[r], 1);
    assert_int_equal(order[0], 0);
    for (int level = 0; level < MT_LEVELS; level++) {
        const uint32_t *group = topology->group[level];
        uint32_t entered = 1;
        for (uint32_t i = 1; i < topology->ranks; i++)
            entered += group[order[i]] != group[order[i - 1]];
        assert_int_equal(entered, topology->groups[level]);
    }
    free(seen);
    free(order);
}

static uint32_t random_below(uint32_t limit)
{
    static uint64_t value = 1;
    value = value * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(value >> 33) % limit;
}

static void any_keys_give_nested_groups_and_few_crossings(void **state)
{
    (void)state;
    enum { MOST = 90 };
    static uint64_t keys[MT_LEVELS][MOST];
    for (int round = 0; round < 200; round++) {
        uint32_t ranks = 1 + random_below(MOST), kinds = 1 + random_below(7);
        const uint64_t *columns[MT_LEVELS];
        struct mt_topology *topology;
        for (int level = 0; level < MT_LEVELS; level++) {
            for (uint32_t r = 0; r < ranks; r++)
                keys[level][r] = random_below(kinds) * UINT64_C(0x9e3779b97f4a7c15);
            columns[level] = random_below(4) ? keys[level] : NULL;
        }
        assert_int_equal(mt_topology_of_keys(ranks, columns, &topology), 0);
        assert_sound(topology);
        assert_fewest_crossings(topology);
        mt_topology_free(topology);
    }
}

static void order_goes_node_by_node(void **state)
{
    (void)state;
    const uint64_t in_turn[] = {5, 4, 3, 5, 4, 3, 5}, racks[] = {1, 2, 1, 1, 2, 1, 1};
    const uint64_t *const keys[MT_LEVELS] = {[MT_LEVEL_NODE] = in_turn, [MT_LEVEL_RACK] = racks};
    const uint32_t expected[] = {0, 3, 6, 2, 5, 1, 4};
    uint32_t order[7];
    struct mt_topology *topology;
    assert_int_equal(mt_topology_of_keys(7, keys, &topology), 0);
    mt_topology_order(topology, order);
    assert_memory_equal(order, expected, sizeof order);
    mt_topology_free(topology);
}

static void levels_have_names(void **state)
{
    (void)state;
    assert_string_equal(mt_level_name(MT_LEVEL_CORE), "core");
    assert_string_equal(mt_level_name(MT_LEVEL_PACKAGE), "package");
    assert_string_equal(mt_level_name(MT_LEVEL_CLUSTER), "cluster");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_numbered_by_their_lowest_ranks),
        cmocka_unit_test(ranks_meet_in_their_smallest_common_group),
        cmocka_unit_test(groups_are_nested),
        cmocka_unit_test(without_nodes_all_are_on_one),
        cmocka_unit_test(any_keys_give_nested_groups_and_few_crossings),
        cmocka_unit_test(order_goes_node_by_node),
        cmocka_unit_test(levels_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
