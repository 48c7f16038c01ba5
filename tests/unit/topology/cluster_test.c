/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters of unequal boxes: ranks, groups, folding of what is alike. */
#include "topology/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct mt_box *add(struct mt_box *box, enum mt_level level, uint32_t count)
{
    struct mt_box *child = mt_box_add(box, level);
    assert_non_null(child);
    child->count = count;
    return child;
}

/* A rack of two nodes of two cores, and beside it, in no rack, one of two GPUs and one bare one. */
static void make_uneven(struct mt_cluster *cluster)
{
    mt_cluster_init(cluster);
    struct mt_box *rack = add(&cluster->root, MT_LEVEL_RACK, 1);
    add(add(rack, MT_LEVEL_NODE, 2), MT_LEVEL_CORE, 2);
    add(&cluster->root, MT_LEVEL_NODE, 1)->gpus = 2;
    add(&cluster->root, MT_LEVEL_NODE, 1);
}

static void unequal_nodes_have_their_own_ranks(void **state)
{
    (void)state;
    struct mt_cluster cluster;
    struct mt_topology *topology;
    struct mt_error error;
    const uint32_t packed[] = {0, 0, 1, 1, 2, 2, 3}, in_turn[] = {0, 1, 2, 3, 0, 1, 2};
    make_uneven(&cluster);
    assert_int_equal(mt_cluster_topology(&cluster, &topology, &error), 0);
    assert_int_equal(topology->ranks, 7);
    assert_memory_equal(topology->group[MT_LEVEL_NODE], packed, sizeof packed);
    assert_int_equal(topology->groups[MT_LEVEL_RACK], 2);
    assert_int_equal(mt_topology_meet(topology, 0, 2), MT_LEVEL_RACK);
    assert_int_equal(mt_topology_meet(topology, 0, 4), MT_LEVEL_ZONE);
    mt_topology_free(topology);
    cluster.placement = MT_PLACEMENT_ROUND_ROBIN;
    assert_int_equal(mt_cluster_topology(&cluster, &topology, &error), 0);
    assert_memory_equal(topology->group[MT_LEVEL_NODE], in_turn, sizeof in_turn);
    mt_topology_free(topology);
    mt_cluster_close(&cluster);
}

/* What stands beside a box is in none, wherever it stands. */
static void loose_boxes_are_in_no_group(void **state)
{
    (void)state;
    struct mt_cluster cluster;
    struct mt_topology *topology;
    struct mt_error error;
    mt_cluster_init(&cluster);
    add(&cluster.root, MT_LEVEL_NODE, 1);
    add(add(&cluster.root, MT_LEVEL_RACK, 2), MT_LEVEL_NODE, 1);
    struct mt_box *node = add(&cluster.root, MT_LEVEL_NODE, 1);
    add(node, MT_LEVEL_CORE, 1);
    add(add(node, MT_LEVEL_L3, 1), MT_LEVEL_CORE, 1);
    assert_int_equal(mt_cluster_topology(&cluster, &topology, &error), 0);
    assert_int_equal(topology->ranks, 5);
    assert_int_equal(topology->groups[MT_LEVEL_RACK], 4);
    assert_int_equal(mt_topology_meet(topology, 0, 1), MT_LEVEL_ZONE);
    assert_int_equal(mt_topology_meet(topology, 3, 4), MT_LEVEL_NUMA);
    mt_topology_free(topology);
    mt_cluster_close(&cluster);
}

static void a_cluster_without_nodes_has_no_ranks(void **state)
{
    (void)state;
    struct mt_cluster cluster;
    struct mt_topology *topology;
    struct mt_error error;
    mt_cluster_init(&cluster);
    assert_int_equal(mt_cluster_topology(&cluster, &topology, &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "0 nodes"));
    mt_cluster_close(&cluster);
}

/* Numbers that would take forever if anybody counted to them. */
static void empty_boxes_cost_nothing(void **state)
{
    (void)state;
    struct mt_cluster cluster;
    struct mt_topology *topology;
    struct mt_error error;
    mt_cluster_init(&cluster);
    add(add(&cluster.root, MT_LEVEL_ZONE, MT_BOX_COUNT_MAX), MT_LEVEL_RACK, MT_BOX_COUNT_MAX);
    add(&cluster.root, MT_LEVEL_NODE, 1);
    assert_int_equal(mt_cluster_topology(&cluster, &topology, &error), 0);
    assert_int_equal(topology->ranks, 1);
    mt_topology_free(topology);
    add(add(&cluster.root.children[1], MT_LEVEL_PACKAGE, MT_BOX_COUNT_MAX), MT_LEVEL_NUMA,
        MT_BOX_COUNT_MAX);
    assert_int_equal(mt_cluster_topology(&cluster, &topology, &error), MANTA_EINVAL);
    mt_cluster_close(&cluster);
}

static void what_is_alike_is_folded(void **state)
{
    (void)state;
    struct mt_cluster cluster;
    mt_cluster_init(&cluster);
    for (int i = 0; i < 6; i++) {
        struct mt_box *node = add(&cluster.root, MT_LEVEL_NODE, 1);
        for (int c = 0; c < 4; c++)
            add(node, MT_LEVEL_CORE, 1)->cpus = 2;
        if (i == 3)
            node->gpus = 1;
        if (i == 4)
            strcpy(node->name, "login");
    }
    mt_box_fold(&cluster.root);
    assert_int_equal(mt_box_total(&cluster.root, MT_LEVEL_NODE), 6);
    assert_int_equal(mt_box_total(&cluster.root, MT_LEVEL_CORE), 24);
    assert_int_equal(cluster.root.child_count, 4);
    assert_int_equal(cluster.root.children[0].count, 3);
    assert_int_equal(cluster.root.children[0].child_count, 1);
    assert_int_equal(cluster.root.children[0].children[0].count, 4);
    mt_cluster_close(&cluster);
}

static void totals_do_not_wrap(void **state)
{
    (void)state;
    struct mt_cluster cluster;
    mt_cluster_init(&cluster);
    struct mt_box *box = &cluster.root;
    for (int level = MT_LEVEL_ZONE; level >= 0; level--)
        box = add(box, (enum mt_level)level, MT_BOX_COUNT_MAX);
    assert_true(mt_box_total(&cluster.root, MT_LEVEL_CORE) == UINT64_MAX);
    mt_cluster_close(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unequal_nodes_have_their_own_ranks),
        cmocka_unit_test(loose_boxes_are_in_no_group),
        cmocka_unit_test(a_cluster_without_nodes_has_no_ranks),
        cmocka_unit_test(empty_boxes_cost_nothing),
        cmocka_unit_test(what_is_alike_is_folded),
        cmocka_unit_test(totals_do_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
