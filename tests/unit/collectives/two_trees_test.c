/* SPDX-License-Identifier: Apache-2.0 */
/* Two trees: each is one tree of logarithmic height, and nobody has children in both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collectives/two_trees.h"

static uint32_t log2_floor(uint32_t x)
{
    return 31 - (uint32_t)__builtin_clz(x);
}

static void check_child(uint32_t nodes, uint32_t tree, uint32_t child, uint32_t parent)
{
    assert_true(child <= nodes);
    if (child)
        assert_int_equal(mt_two_trees_node(nodes, child, tree).parent, parent);
}

/* The node's parent has it as a child, and the root is not far. */
static void check_node(uint32_t nodes, uint32_t tree, uint32_t node)
{
    struct mt_two_trees_node at = mt_two_trees_node(nodes, node, tree);
    check_child(nodes, tree, at.lower, node);
    check_child(nodes, tree, at.upper, node);
    assert_true(!at.lower || at.lower != at.upper);
    assert_int_equal(at.parent == 0, node == mt_two_trees_root(nodes, tree));
    uint32_t height = 0;
    for (uint32_t up = node; at.parent; height++) {
        uint32_t parent = at.parent;
        at = mt_two_trees_node(nodes, parent, tree);
        assert_true(at.lower == up || at.upper == up);
        assert_true(height <= log2_floor(nodes));
        up = parent;
    }
    assert_true(height <= log2_floor(nodes));
}

static void check_leaf_in_one(uint32_t nodes, uint32_t node)
{
    struct mt_two_trees_node x = mt_two_trees_node(nodes, node, 0);
    struct mt_two_trees_node y = mt_two_trees_node(nodes, node, 1);
    assert_true((!x.lower && !x.upper) || (!y.lower && !y.upper));
}

static void test_all_nodes(void **state)
{
    (void)state;
    for (uint32_t nodes = 1; nodes <= 300; nodes++) {
        for (uint32_t node = 1; node <= nodes; node++) {
            check_node(nodes, 0, node);
            check_node(nodes, 1, node);
            check_leaf_in_one(nodes, node);
        }
    }
}

static void test_very_many_nodes(void **state)
{
    static const uint32_t sizes[] = {UINT32_MAX, UINT32_MAX - 1, UINT32_C(1) << 31};
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t k = 0; k < 1000; k++) {
            uint32_t node = k < 500 ? k + 1 : sizes[i] - (k - 500);
            check_node(sizes[i], 0, node);
            check_node(sizes[i], 1, node);
            check_leaf_in_one(sizes[i], node);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_nodes),
        cmocka_unit_test(test_very_many_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
