/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters from a line: what each word makes, where ranks are placed, and odd lines, which are
 * refused with a sentence that has the wrong word. */
#include "topology/synthetic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct mt_topology *make_with(const char *text, uint32_t ranks_per_node)
{
    struct mt_topology *topology;
    struct mt_error error = {0};
    if (mt_topology_parse(text, ranks_per_node, &topology, &error))
        fail_msg("\"%s\": %s", text, error.sentence);
    return topology;
}

static struct mt_topology *make(const char *text)
{
    return make_with(text, 0);
}

static void assert_groups(const char *text, uint32_t ranks, uint32_t core, uint32_t l3,
                          uint32_t numa, uint32_t package, uint32_t node, uint32_t rack,
                          uint32_t zone)
{
    const uint32_t expected[MT_LEVELS] = {core, l3, numa, package, node, rack, zone, 1};
    struct mt_topology *topology = make(text);
    assert_int_equal(topology->ranks, ranks);
    for (int level = 0; level < MT_LEVELS; level++)
        if (topology->groups[level] != expected[level])
            fail_msg("\"%s\": %u groups of level %s, not %u", text, topology->groups[level],
                     mt_level_name((enum mt_level)level), expected[level]);
    mt_topology_free(topology);
}

static void words_make_groups(void **state)
{
    (void)state;
    assert_groups("node:1", 1, 1, 1, 1, 1, 1, 1, 1);
    assert_groups("core:8", 8, 8, 1, 1, 1, 1, 1, 1);
    assert_groups("rack:4 node:16 numa:2 core:32 nic:4 gpu:8", 512, 512, 128, 128, 64, 64, 4, 1);
    assert_groups("rack:4 node:16 numa:2 core:32", 4096, 4096, 128, 128, 64, 64, 4, 1);
    assert_groups("zone:2 rack:3 node:5 package:2 numa:2 l3:2 core:2", 480, 480, 240, 120, 60, 30,
                  6, 2);
    assert_groups("zone:2 node:3", 6, 6, 6, 6, 6, 6, 2, 2);
    assert_groups("  node:2   ranks:3 core:1 ", 6, 2, 2, 2, 2, 2, 1, 1); /* they share cores */
    assert_groups("rack:7", 7, 7, 7, 7, 7, 7, 7, 1);
    assert_groups("node:2 numa:2", 4, 4, 4, 4, 2, 2, 1, 1);
    assert_groups("node:2 numa:2 gpu:8", 16, 16, 4, 4, 2, 2, 1, 1);
    assert_groups("gpu:8", 8, 8, 1, 1, 1, 1, 1, 1);
    assert_groups("gpu:8 core:4", 8, 4, 1, 1, 1, 1, 1, 1);
    assert_groups("node:16 core:8 size:127", 127, 127, 16, 16, 16, 16, 1, 1);
    assert_groups("node:1048576", 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1, 1);
}

static void the_number_of_ranks_is_the_text_s_first(void **state)
{
    (void)state;
    struct mt_topology *topology = make_with("node:4 core:8 gpu:2", 3);
    assert_int_equal(topology->ranks, 12);
    mt_topology_free(topology);
    topology = make_with("node:4 core:8 ranks:5", 3);
    assert_int_equal(topology->ranks, 20);
    mt_topology_free(topology);
}

static void ranks_are_spread_over_their_node(void **state)
{
    (void)state;
    struct mt_topology *topology = make("package:2 core:4 ranks:4");
    assert_int_equal(mt_topology_meet(topology, 0, 1), MT_LEVEL_L3);
    assert_int_equal(mt_topology_meet(topology, 1, 2), MT_LEVEL_NODE);
    assert_int_equal(mt_topology_meet(topology, 2, 3), MT_LEVEL_L3);
    mt_topology_free(topology);
}

static void placements_differ_in_the_order_only(void **state)
{
    (void)state;
    struct mt_topology *packed = make("node:3 core:4"),
                       *turn = make("node:3 core:4 place=roundrobin");
    struct mt_topology *some = make("node:3 core:4 place=random"),
                       *same = make("node:3 core:4 place=random:1"),
                       *other = make("node:3 core:4 place=random:2");
    uint32_t count[3] = {0};
    for (uint32_t r = 0; r < 12; r++) {
        assert_int_equal(packed->group[MT_LEVEL_NODE][r], r / 4);
        assert_int_equal(turn->group[MT_LEVEL_NODE][r], r % 3);
        count[some->group[MT_LEVEL_NODE][r]]++;
    }
    for (int node = 0; node < 3; node++)
        assert_int_equal(count[node], 4);
    size_t bytes = 12 * sizeof(uint32_t);
    assert_memory_equal(some->group[MT_LEVEL_NODE], same->group[MT_LEVEL_NODE], bytes);
    assert_memory_not_equal(some->group[MT_LEVEL_NODE], other->group[MT_LEVEL_NODE], bytes);
    assert_memory_not_equal(some->group[MT_LEVEL_NODE], packed->group[MT_LEVEL_NODE], bytes);
    mt_topology_free(packed);
    mt_topology_free(turn);
    mt_topology_free(some);
    mt_topology_free(same);
    mt_topology_free(other);
}

static void links_are_those_of_the_words(void **state)
{
    (void)state;
    struct mt_topology *topology = make(
        "zone:2@2ms rack:4@100Gbit/s,5us,oversub=2 node:16@core=1us,2us,200Gbit/s numa:2@40GB/s "
        "core:4@150ns nic:4");
    const struct mt_topology_link *links = topology->links;
    assert_int_equal(links[MT_LEVEL_L3].alpha_ns, 150);
    assert_int_equal(links[MT_LEVEL_L3].beta_ps_per_byte,
                     mt_topology_assumed(MT_LEVEL_L3)->beta_ps_per_byte);
    assert_int_equal(links[MT_LEVEL_PACKAGE].alpha_ns, 150); /* no link of its own says more */
    assert_int_equal(links[MT_LEVEL_PACKAGE].beta_ps_per_byte, 25);
    assert_int_equal(links[MT_LEVEL_RACK].alpha_ns, 2000);
    assert_int_equal(links[MT_LEVEL_RACK].core_ns, 1000);
    assert_int_equal(links[MT_LEVEL_RACK].beta_ps_per_byte, 40);
    assert_int_equal(links[MT_LEVEL_ZONE].alpha_ns, 5000);
    assert_int_equal(links[MT_LEVEL_ZONE].core_ns, 1000);
    assert_int_equal(links[MT_LEVEL_ZONE].beta_ps_per_byte, 80);
    assert_int_equal(links[MT_LEVEL_CLUSTER].alpha_ns, 2000000);
    assert_int_equal(links[MT_LEVEL_CLUSTER].beta_ps_per_byte, 80);
    assert_int_equal(topology->uplink_ps_per_byte[MT_LEVEL_NODE], 10); /* 4 cards */
    assert_int_equal(topology->uplink_ps_per_byte[MT_LEVEL_RACK], 1);  /* 1.6 TB/s, halved */
    assert_int_equal(topology->uplink_ps_per_byte[MT_LEVEL_ZONE], 0);
    assert_int_equal(topology->uplink_ps_per_byte[MT_LEVEL_NUMA], 0);
    mt_topology_free(topology);
}

static void uplinks_follow_the_cards(void **state)
{
    (void)state;
    struct mt_topology *topology = make("zone:2@oversub=8 rack:2@oversub=4 node:2 nic:2@10Gbit/s");
    assert_int_equal(topology->links[MT_LEVEL_RACK].beta_ps_per_byte, 800);
    assert_int_equal(topology->links[MT_LEVEL_CLUSTER].beta_ps_per_byte, 800);
    assert_int_equal(topology->uplink_ps_per_byte[MT_LEVEL_NODE], 400);
    assert_int_equal(topology->uplink_ps_per_byte[MT_LEVEL_RACK], 800); /* 200 * 4 */
    assert_int_equal(topology->uplink_ps_per_byte[MT_LEVEL_ZONE], 800); /* 100 * 8 */
    mt_topology_free(topology);
    topology = make("node:2@oversub=1.5,12.5GB/s");
    assert_int_equal(topology->links[MT_LEVEL_RACK].beta_ps_per_byte, 80);
    assert_int_equal(topology->uplink_ps_per_byte[MT_LEVEL_NODE], 120);
    mt_topology_free(topology);
    topology = make("node:2"); /* nothing said, nothing limited */
    assert_int_equal(topology->uplink_ps_per_byte[MT_LEVEL_NODE], 0);
    mt_topology_free(topology);
}

/* A line, and what the sentence about it must have. */
static const char *const wrong[][2] = {
    {"", "no word"},
    {"   ", "no word"},
    {"node", "word 1, \"node\": it must be NAME:COUNT"},
    {"nod:16", "word 1, \"nod:16\": \"nod\" is none of zone, rack"},
    {"cluster:2", "\"cluster\" is none of"},
    {"node:2 :3", "word 2, \":3\": \"\" is none of"},
    {"node:", "\"\" must be a number"},
    {"node:0", "\"0\" must be a number"},
    {"node:-1", "\"-1\" must be a number"},
    {"node:1.5", "\"1.5\" must be a number"},
    {"node:4x", "\"4x\" must be a number"},
    {"node: 4", "\"\" must be a number"},
    {"node:18446744073709551617", "must be a number, 1 or more and not too large"},
    {"node:1048577", "not too large"},
    {"gpu:4097", "not too large"},
    {"node:2 node:2", "word 2, \"node:2\": \"node\" is named twice"},
    {"node:2 rack:2", "word 2, \"rack:2\": \"rack\" comes too late"},
    {"l3:2 numa:2", "comes too late"},
    {"nic:2 nic:2", "\"nic\" is named twice"},
    {"gpu:2 gpu:2", "\"gpu\" is named twice"},
    {"ranks:2 ranks:2", "\"ranks\" is named twice"},
    {"size:1 size:1", "\"size\" is named twice"},
    {"node:2@", "\"\" is no rate"},
    {"node:2@100", "\"100\" is no rate"},
    {"node:2@100Gbps", "\"100Gbps\" is no rate"},
    {"node:2@0Gbit/s", "\"0Gbit/s\" is no rate"},
    {"node:2@-1Gbit/s", "is no rate"},
    {"node:2@1e3Gbit/s", "is no rate"},
    {"node:2@1.Gbit/s", "is no rate"},
    {"node:2@nan", "is no rate"},
    {"node:2@99999999999999999999GB/s", "is no rate"},
    {"node:2@5us,,", "\"\" is no rate"},
    {"node:2@5us,6us", "\"6us\" is the second of its kind"},
    {"node:2@1GB/s,8Gbit/s", "\"8Gbit/s\" is the second of its kind"},
    {"node:2@5", "\"5\" is no rate"},
    {"node:2@99999999s", "is no rate"},
    {"node:2@core=5", "must be core=TIME"},
    {"node:2@oversub=0", "must be oversub=NUMBER"},
    {"node:2@oversub=", "must be oversub=NUMBER"},
    {"node:2@oversub=2x", "must be oversub=NUMBER"},
    {"node:2@oversub=1000001", "must be oversub=NUMBER"},
    {"node:2@oversub=2,oversub=2", "is said twice"},
    {"numa:2@oversub=2", "goes with node, rack and zone only"},
    {"node:2@oversubscribed=2", "is no rate"},
    {"gpu:2@5us", "\"5us\" does not go with it"},
    {"size:2@", "does not go with it"},
    {"nic:2@5us", "\"5us\" is no rate"},
    {"node:2@1GB/s nic:2@1GB/s", "not twice"},
    {"place=", "\"\" is none of packed"},
    {"place=packed place=packed", "word 2, \"place=packed\": place= is said twice"},
    {"place=Random", "\"Random\" is none of"},
    {"net=tcp", "\"tcp\" is not rdma"},
    {"net=rdma net=rdma", "word 2, \"net=rdma\": net= is said twice"},
    {"place=random:", "\"random:\" is none of"},
    {"place=random:0", "\"random:0\" is none of"},
    {"place=random:-1", "is none of"},
    {"node:2,core:3", "\"2,core:3\" must be a number"},
    {"node:2\tcore:3", "must be a number"},
    {"node:2 size:3", "3 ranks do not fit: it has room for 2"},
    {"rack:1048576 node:1048576", "nodes; there must be 1 to 1048576"},
    {"node:1048576 core:2", "it has room for 2097152 ranks"},
    {"node:1 core:4097", "more than 4096 cores"},
    {"node:1 package:1000000 numa:1000000 core:1000000", "more than 4096 cores"},
    {"node:1 package:1000000 numa:1000000", "more than 4096 cores"},
    {"package:4096 numa:2", "more than 4096 cores"},
    {"zone:1000000 rack:1000000 node:1000000 package:1000000 numa:1000000 l3:1000000 core:1000000",
     "nodes; there must be"},
};

static void odd_lines_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct mt_topology *topology;
        struct mt_error error = {0};
        assert_int_equal(mt_topology_parse(wrong[i][0], 0, &topology, &error), MANTA_EINVAL);
        assert_null(topology);
        if (!strstr(error.sentence, wrong[i][1]))
            fail_msg("\"%s\": %s", wrong[i][0], error.sentence);
    }
}

/* Lines with one character changed: taken or refused, but nothing worse. */
static void changed_lines_do_no_harm(void **state)
{
    (void)state;
    static const char line[] =
        "zone:2@2ms rack:4@1Gbit/s,oversub=2 node:3@5us nic:2 gpu:2 place=random";
    static const char marks[] = " :@,=.0179aks/\x80";
    char changed[sizeof line];
    for (size_t at = 0; at + 1 < sizeof line; at++)
        for (size_t m = 0; m < sizeof marks; m++) {
            struct mt_topology *topology;
            struct mt_error error;
            memcpy(changed, line, sizeof line);
            changed[at] = marks[m];
            if (mt_topology_parse(changed, 0, &topology, &error) == 0)
                assert_true(topology->ranks > 0);
            mt_topology_free(topology);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_make_groups),
        cmocka_unit_test(the_number_of_ranks_is_the_text_s_first),
        cmocka_unit_test(ranks_are_spread_over_their_node),
        cmocka_unit_test(placements_differ_in_the_order_only),
        cmocka_unit_test(links_are_those_of_the_words),
        cmocka_unit_test(uplinks_follow_the_cards),
        cmocka_unit_test(odd_lines_are_refused),
        cmocka_unit_test(changed_lines_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
