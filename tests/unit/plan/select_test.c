/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "plan/select.h"
#include "plan/tuning.h"

static void refused(const char *text, const char *part)
{
    struct mt_select_override override;
    struct mt_error error;
    memset(&override, 0x55, sizeof(override));
    if (mt_select_parse(text, &override, &error) != MANTA_EINVAL)
        fail_msg("'%s' was taken", text);
    if (!strstr(error.sentence, part))
        fail_msg("'%s': expected '%s' in '%s'", text, part, error.sentence);
    assert_int_equal(override.count, 0);
}

static void test_parse_refuses(void **state)
{
    (void)state;
    refused("Ring", "'Ring'");
    refused(" ring", "no name");
    refused("ring ", "no name");
    refused("a2345678901234567890123456789012", "no name"); /* 32 characters */
    refused("ring,", "'ring'");
    refused(",", "from-to");
    refused(":", "from-to");
    refused("-", "from-to");
    refused("-4k:ring", "no number");
    refused("0-4k:", "no name");
    refused("0-4k", "from-to");
    refused("4k:ring", "from-to");
    refused("0-4k:ring,", "from-to");
    refused("0-4k:ring,,4k-:ring", "from-to");
    refused("0-4k:ring;4k-:ring", "no name");
    refused("4k-4k:ring", "empty");
    refused("8k-4k:ring", "empty");
    refused("0-4k:ring,2k-:chain", "'2k-:chain' overlaps");
    refused("4k-:ring,0-4k:chain", "overlaps");
    refused("0-:ring,0-:chain", "overlaps");
    refused("0-4x:ring", "'4x'");
    refused("0x10-:ring", "no number");
    refused("+1-:ring", "no number");
    refused("0--1:ring", "'-1'");
    refused("0-99999999999999999999:ring", "no number");
    refused("0-99999999999G:ring", "no number");
    refused("0-4k:ring:ring", "no name");
    refused("ring\n", "no name");
    refused("0-1:a,1-2:a,2-3:a,3-4:a,4-5:a,5-6:a,6-7:a,7-8:a,8-9:a,9-10:a,10-11:a,11-12:a,12-13:a,"
            "13-14:a,14-15:a,15-16:a,16-17:a",
            "too many");
}

static void expect_forced(const char *text, uint64_t bytes, const char *name)
{
    struct mt_select_override override;
    struct mt_error error;
    if (mt_select_parse(text, &override, &error))
        fail_msg("'%s': %s", text, error.sentence);
    const char *forced = mt_select_forced(&override, bytes);
    if (!name) {
        assert_null(forced);
        return;
    }
    assert_non_null(forced);
    assert_string_equal(forced, name);
}

static void test_parse_and_forced(void **state)
{
    static const char two[] = "0-4k:recursive_doubling,4k-:ring";
    static const char gap[] = "1k-2k:x,1M-2M:y";
    (void)state;
    expect_forced("", 0, NULL);
    expect_forced("ring", 0, "ring");
    expect_forced("ring", UINT64_MAX, "ring");
    expect_forced("a234567890123456789012345678901", 7, "a234567890123456789012345678901");
    expect_forced(two, 0, "recursive_doubling");
    expect_forced(two, 4095, "recursive_doubling");
    expect_forced(two, 4096, "ring");
    expect_forced(two, UINT64_MAX, "ring");
    expect_forced(gap, 1023, NULL);
    expect_forced(gap, 1024, "x");
    expect_forced(gap, 2048, NULL);
    expect_forced(gap, (2 << 20) - 1, "y");
    expect_forced(gap, 2 << 20, NULL);
    expect_forced("0-1:a,1-2:a,2-3:a,3-4:a,4-5:a,5-6:a,6-7:a,7-8:a,8-9:a,9-10:a,10-11:a,11-12:a,"
                  "12-13:a,13-14:a,14-15:a,15-16:b",
                  15, "b");
}

static struct mt_topology *topology_of(uint32_t ranks, const uint64_t *nodes)
{
    struct mt_topology *topology;
    assert_int_equal(mt_topology_of_nodes(ranks, nodes, &topology), 0);
    return topology;
}

static struct mt_select_context context_of(uint32_t ranks, const struct mt_cost_model *model)
{
    return (struct mt_select_context){.ranks = ranks, .cost = model, .catalogue = mt_catalogue};
}

static uint32_t choose(const struct mt_select_context *context, uint32_t collective, uint64_t bytes,
                       uint32_t rank, struct mt_select_candidate *candidates)
{
    struct mt_plan_request request = {.collective = collective,
                                      .rank = rank,
                                      .ranks = context->ranks,
                                      .topology = context->cost->topology,
                                      .root = collective >= MANTA_SEND ? (rank + 1) % context->ranks
                                                                       : 0};
    struct mt_error error;
    uint32_t count;
    if (mt_select(context, &request, bytes, candidates, MT_SELECT_CANDIDATES, &count, &error))
        fail_msg("%s", error.sentence);
    assert_true(count > 0);
    return count;
}

static const struct mt_select_candidate *named(const struct mt_select_candidate *candidates,
                                               uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(candidates[i].algorithm->name, name) == 0)
            return &candidates[i];
    fail_msg("no candidate %s", name);
    return NULL;
}

static void test_candidates(void **state)
{
    struct mt_select_candidate c[MT_SELECT_CANDIDATES];
    struct mt_cost_model model;
    uint64_t nodes[4] = {1, 2, 3, 4};
    (void)state;
    struct mt_topology *topology = topology_of(4, nodes);
    mt_cost_defaults(&model, topology, 1 << 20);
    struct mt_select_context context = context_of(4, &model);
    uint32_t count = choose(&context, MANTA_ALLREDUCE, 8, 0, c);
    assert_string_equal(c[0].algorithm->name, "recursive_doubling");
    assert_true(c[0].predicted_ns > 0 && c[0].predicted_ns <= c[1].predicted_ns);
    assert_non_null(named(c, count, "fused")->excluded);
    assert_non_null(strstr(named(c, count, "rails_ring")->excluded, "no two ranks"));
    assert_non_null(c[count - 1].excluded);
    choose(&context, MANTA_ALLREDUCE, 64 << 20, 0, c);
    assert_true(named(c, count, "ring")->predicted_ns <
                named(c, count, "recursive_doubling")->predicted_ns);
    topology->links[MT_LEVEL_RACK].beta_ps_per_byte = 1000; /* slower than copies */
    count = choose(&context, MANTA_BROADCAST, 64 << 20, 0, c);
    assert_true(named(c, count, "chain")->predicted_ns < named(c, count, "binomial")->predicted_ns);
    context.reproducible = 1;
    count = choose(&context, MANTA_ALLREDUCE, 64 << 20, 0, c);
    assert_int_equal(c[0].algorithm->order, MANTA_PLAN_ORDER_BINARY);
    const char *excluded = named(c, count, "ring")->excluded;
    assert_non_null(strstr(excluded ? excluded : "", "REPRODUCIBLE"));
    mt_topology_free(topology);
}

/* What costs about as much as the best goes behind what sends fewer messages, or more of them where
 * they are long; the rest by price. */
static void test_messages_decide_ties(void **state)
{
    struct mt_select_candidate c[MT_SELECT_CANDIDATES];
    struct mt_cost_model model;
    uint64_t nodes[6] = {1, 2, 3, 4, 5, 6}, ties = 0;
    (void)state;
    struct mt_topology *topology = topology_of(6, nodes);
    mt_cost_defaults(&model, topology, 1 << 20);
    model.slow_ps_per_byte = 0;
    struct mt_select_context context = context_of(6, &model);
    for (uint32_t collective = 0; collective < MANTA_SEND; collective++) {
        for (uint64_t bytes = 4; bytes <= 64 << 20; bytes *= 2) {
            uint32_t count = choose(&context, collective, bytes, 0, c);
            uint64_t least = c[0].score_ns;
            for (uint32_t i = 1; i < count && !c[i].excluded; i++) {
                least = c[i].score_ns < least ? c[i].score_ns : least;
                assert_true(i == 1 || c[i].score_ns >= c[i - 1].score_ns);
            }
            assert_true(c[0].score_ns <= least + least / 20);
            ties += c[0].score_ns > least;
            int are_long = bytes / 6 >= model.eager_bytes;
            for (uint32_t i = 1; i < count && !c[i].excluded; i++)
                assert_true(
                    c[i].score_ns > least + least / 20 ||
                    (are_long ? c[i].messages <= c[0].messages : c[i].messages >= c[0].messages));
        }
    }
    assert_true(ties > 0);
    mt_topology_free(topology);
}

/* An algorithm that is best on a fast network, and half as fast as possible on a slow one, is not
 * taken where nobody knows which one it is. */
static void test_unknown_network(void **state)
{
    struct mt_select_candidate c[MT_SELECT_CANDIDATES];
    struct mt_cost_model model;
    struct mt_tuning tuning = {.given = 0};
    uint64_t nodes[4] = {1, 2, 3, 4};
    (void)state;
    struct mt_topology *topology = topology_of(4, nodes);
    mt_cost_defaults(&model, topology, 1 << 20);
    assert_int_not_equal(model.slow_ps_per_byte, 0);
    struct mt_select_context context = context_of(4, &model);
    uint32_t count = choose(&context, MANTA_BROADCAST, 16 << 20, 0, c);
    const struct mt_select_candidate *fast = named(c, count, "scatter_allgather");
    assert_string_equal(c[0].algorithm->name, "chain");
    assert_true(fast->predicted_ns < c[0].predicted_ns);
    assert_true(fast->slow_ns > c[0].slow_ns + c[0].slow_ns / 4);
    assert_true(fast->score_ns > c[0].score_ns);
    choose(&context, MANTA_ALLREDUCE, 16 << 20, 0, c); /* as good as others, and the simplest */
    assert_string_equal(c[0].algorithm->name, "ring");
    count = choose(&context, MANTA_BROADCAST, 64, 0, c); /* the same at any speed */
    for (uint32_t i = 0; i < count; i++)
        assert_true(c[i].slow_ns == 0 && c[i].score_ns == c[i].predicted_ns);
    mt_tuning_set(&tuning, MT_LEVEL_NODE * MT_TUNING_LINK_VALUES + MT_TUNING_UPLINK, 0);
    mt_tuning_apply(&tuning, topology, &model); /* now it is known: no limit */
    assert_int_equal(model.slow_ps_per_byte, 0);
    choose(&context, MANTA_BROADCAST, 16 << 20, 0, c);
    assert_string_equal(c[0].algorithm->name, "scatter_allgather");
    topology->uplink_ps_per_byte[MT_LEVEL_NODE] = 800;
    mt_cost_defaults(&model, topology, 1 << 20);
    assert_int_equal(model.slow_ps_per_byte, 0);
    mt_topology_free(topology);
}

static void test_fused_on_one_node(void **state)
{
    struct mt_select_candidate c[MT_SELECT_CANDIDATES];
    struct mt_cost_model model;
    uint64_t nodes[4] = {9, 9, 9, 9};
    (void)state;
    struct mt_topology *topology = topology_of(4, nodes);
    mt_cost_defaults(&model, topology, 1 << 20);
    struct mt_select_context context = context_of(4, &model);
    context.fused_available = 1;
    for (uint32_t collective = 0; collective < MANTA_SEND; collective++) {
        for (uint64_t bytes = 1; bytes <= 64 << 20; bytes *= 8) {
            choose(&context, collective, bytes, 0, c);
            assert_string_equal(c[0].algorithm->name, "fused");
        }
    }
    mt_topology_free(topology);
}

/* Whatever rank asks, the answer is the same; and one rank alone can run everything. */
static void test_alike_on_all_ranks(void **state)
{
    struct mt_select_candidate first[MT_SELECT_CANDIDATES], c[MT_SELECT_CANDIDATES];
    struct mt_cost_model model;
    uint64_t nodes[6] = {5, 5, 1, 1, 5, 1};
    (void)state;
    struct mt_topology *topology = topology_of(6, nodes);
    mt_cost_defaults(&model, topology, 4096);
    struct mt_select_context context = context_of(6, &model);
    for (uint32_t collective = 0; collective < MANTA_SEND; collective++) {
        for (uint64_t bytes = 0; bytes < 1 << 20; bytes = bytes * 5 + 1) {
            uint32_t count = choose(&context, collective, bytes, 0, first);
            for (uint32_t rank = 1; rank < 6; rank++) {
                assert_int_equal(choose(&context, collective, bytes, rank, c), count);
                for (uint32_t i = 0; i < count; i++) {
                    assert_ptr_equal(c[i].algorithm, first[i].algorithm);
                    assert_int_equal(c[i].predicted_ns, first[i].predicted_ns);
                }
            }
        }
    }
    context.ranks = 1;
    for (uint32_t collective = 0; collective < MANTA_SEND; collective++) {
        choose(&context, collective, 1000, 0, c);
        assert_null(c[0].excluded);
    }
    mt_topology_free(topology);
}

/* Large groups: no cliff where prices begin to be extrapolated, and the order stays sensible. */
static void test_large_groups(void **state)
{
    static uint64_t nodes[4096];
    struct mt_select_candidate c[MT_SELECT_CANDIDATES], d[MT_SELECT_CANDIDATES];
    struct mt_cost_model model;
    (void)state;
    for (uint32_t r = 0; r < 4096; r++)
        nodes[r] = r / 8;
    struct mt_topology *topology = topology_of(4096, nodes);
    mt_cost_defaults(&model, topology, 1 << 20);
    struct mt_select_context context = context_of(176, &model);
    uint64_t before = 0;
    for (context.ranks = 176; context.ranks <= 256; context.ranks += 16) {
        uint32_t count = choose(&context, MANTA_ALLREDUCE, 64, 0, d);
        assert_string_equal(d[0].algorithm->name, "recursive_doubling");
        uint64_t ring = named(d, count, "ring")->predicted_ns;
        assert_true(ring > before);
        if (before)
            assert_true(ring < before + before / 5);
        before = ring;
    }
    context.ranks = 4096;
    choose(&context, MANTA_ALLREDUCE, 8, 4095, c);
    assert_string_equal(c[0].algorithm->name, "recursive_doubling");
    choose(&context, MANTA_ALLREDUCE, UINT64_MAX, 17, c);
    assert_true(c[0].predicted_ns > 0);
    mt_topology_free(topology);
}

/* Halving and doubling take rounds with the logarithm of the ranks, however these sit on nodes. */
static void test_large_groups_of_trees(void **state)
{
    static uint64_t nodes[4096];
    struct mt_select_candidate c[MT_SELECT_CANDIDATES];
    struct mt_cost_model model;
    (void)state;
    for (uint32_t on_node = 1; on_node <= 32; on_node *= 2) {
        for (uint32_t r = 0; r < 4096; r++)
            nodes[r] = r / on_node;
        struct mt_topology *topology = topology_of(4096, nodes);
        mt_cost_defaults(&model, topology, 1 << 20);
        struct mt_select_context context = context_of(64, &model);
        uint32_t count = choose(&context, MANTA_ALLREDUCE, 64 << 10, 0, c);
        uint64_t of_64 = named(c, count, "halving_doubling")->predicted_ns;
        context.ranks = 4096;
        count = choose(&context, MANTA_ALLREDUCE, 64 << 10, 0, c);
        uint64_t of_4096 = named(c, count, "halving_doubling")->predicted_ns;
        assert_true(of_4096 > of_64 && of_4096 < 6 * of_64);
        assert_true(of_4096 < named(c, count, "ring")->predicted_ns / 4);
        mt_topology_free(topology);
    }
}

/* The first ranks of a large group may be on one node, or the last of them alone on theirs. */
static void test_large_groups_on_nodes(void **state)
{
    static const uint32_t sizes[] = {2, 21, 64, 300};
    static uint64_t nodes[600];
    struct mt_select_candidate c[MT_SELECT_CANDIDATES];
    struct mt_cost_model model;
    (void)state;
    for (uint32_t i = 0; i < 2 * sizeof(sizes) / sizeof(*sizes); i++) {
        uint32_t size = sizes[i / 2], count = 600 / size;
        for (uint32_t r = 0; r < count * size; r++)
            nodes[r] = i % 2 ? r % count : r / size;
        struct mt_topology *topology = topology_of(count * size, nodes);
        mt_cost_defaults(&model, topology, 1 << 20);
        struct mt_select_context context = context_of(count * size, &model);
        for (uint32_t collective = 0; collective <= MANTA_ALLGATHER;
             collective += MANTA_ALLGATHER) {
            uint32_t candidates = choose(&context, collective, 64 << 10, 0, c);
            assert_true(candidates > 5 && c[0].predicted_ns > 0 &&
                        c[0].predicted_ns < UINT64_MAX / 2);
        }
        mt_topology_free(topology);
    }
}

static void test_capacity(void **state)
{
    struct mt_select_candidate c[MT_SELECT_CANDIDATES];
    struct mt_cost_model model;
    struct mt_error error;
    uint32_t count = 99;
    (void)state;
    struct mt_topology *topology = topology_of(4, NULL);
    mt_cost_defaults(&model, topology, 0);
    struct mt_select_context context = context_of(4, &model);
    struct mt_plan_request request = {.collective = MANTA_ALLREDUCE, .ranks = 4};
    memset(c, 0x55, sizeof(c));
    assert_int_equal(mt_select(&context, &request, 8, c, 2, &count, &error), 0);
    assert_int_equal(count, 2);
    assert_int_equal(((unsigned char *)&c[2])[0], 0x55);
    request.collective = 77;
    assert_int_equal(mt_select(&context, &request, 8, c, 2, &count, &error), 0);
    assert_int_equal(count, 0);
    mt_topology_free(topology);
}

/* Neither the size within its class nor the root decides: history would. */
static void test_one_price_for_a_class(void **state)
{
    struct mt_select_candidate first[MT_SELECT_CANDIDATES], c[MT_SELECT_CANDIDATES];
    struct mt_cost_model model;
    struct mt_error error;
    uint32_t count;
    uint64_t nodes[6] = {5, 5, 1, 1, 5, 1};
    (void)state;
    struct mt_topology *topology = topology_of(6, nodes);
    mt_cost_defaults(&model, topology, 4096);
    struct mt_select_context context = context_of(6, &model);
    struct mt_plan_request request = {.collective = MANTA_BROADCAST, .ranks = 6};
    assert_int_equal(
        mt_select(&context, &request, 1024, first, MT_SELECT_CANDIDATES, &count, &error), 0);
    for (request.root = 0; request.root < 6; request.root++) {
        assert_int_equal(mt_select(&context, &request, 1025 + 199 * request.root, c,
                                   MT_SELECT_CANDIDATES, &count, &error),
                         0);
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(c[i].predicted_ns, first[i].predicted_ns);
    }
    assert_int_equal(mt_select_class(0), 0);
    assert_int_equal(mt_select_class(1), 1);
    assert_int_equal(mt_select_class(1023), 10);
    assert_int_equal(mt_select_class(1024), 11);
    assert_int_equal(mt_select_class(UINT64_MAX), 64);
    mt_topology_free(topology);
}

static void test_pick(void **state)
{
    static const struct mt_algorithm ring = {.name = "ring"}, tree = {.name = "tree"},
                                     fused = {.name = "fused"};
    const struct mt_select_candidate c[] = {
        {.algorithm = &ring}, {.algorithm = &tree}, {.algorithm = &fused, .excluded = "why"}};
    (void)state;
    assert_int_equal(mt_select_pick(c, 3, NULL), 0);
    assert_int_equal(mt_select_pick(c, 3, "tree"), 1);
    assert_int_equal(mt_select_pick(c, 3, "fused"), -1); /* never another one */
    assert_int_equal(mt_select_pick(c, 3, "chain"), -1);
    assert_int_equal(mt_select_pick(c + 2, 1, NULL), -1);
    assert_int_equal(mt_select_pick(c, 0, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_parse_and_forced),
        cmocka_unit_test(test_candidates),
        cmocka_unit_test(test_messages_decide_ties),
        cmocka_unit_test(test_unknown_network),
        cmocka_unit_test(test_fused_on_one_node),
        cmocka_unit_test(test_alike_on_all_ranks),
        cmocka_unit_test(test_large_groups),
        cmocka_unit_test(test_large_groups_of_trees),
        cmocka_unit_test(test_large_groups_on_nodes),
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_pick),
        cmocka_unit_test(test_one_price_for_a_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
