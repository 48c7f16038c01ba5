/* SPDX-License-Identifier: Apache-2.0 */
/* Where ranks sit: groups are nested and numbered by their lowest ranks, and ranks meet where their
 * smallest common group is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_numbered_by_their_lowest_ranks),
        cmocka_unit_test(ranks_meet_in_their_smallest_common_group),
        cmocka_unit_test(groups_are_nested),
        cmocka_unit_test(without_nodes_all_are_on_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
