/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "plan/cost.h"
#include "plan/select.h"

enum { RANKS_MAX = 16 };

static struct mt_topology *topology; /* of the model at hand */

/* Links whose times are easy to add up. */
static struct mt_cost_model round_model(uint32_t ranks, const uint64_t *nodes)
{
    static const struct mt_topology_link near = {
        .alpha_ns = 1000, .core_ns = 10, .beta_ps_per_byte = 1000};
    static const struct mt_topology_link far = {
        .alpha_ns = 50000, .core_ns = 100, .beta_ps_per_byte = 10000};
    mt_topology_free(topology);
    assert_int_equal(mt_topology_of_nodes(ranks, nodes, &topology), 0);
    for (int level = 0; level < MT_LEVELS; level++)
        topology->links[level] = level <= MT_LEVEL_NODE ? near : far;
    return (struct mt_cost_model){.topology = topology,
                                  .gamma_ps_per_byte = 100,
                                  .fused_alpha_ns = 7,
                                  .memory_ps_per_byte = 1,
                                  .eager_bytes = UINT64_MAX,
                                  .segment_bytes = UINT64_MAX};
}

static void model_of(struct mt_cost_model *model, uint32_t ranks, const uint64_t *nodes,
                     uint64_t segment_bytes)
{
    mt_topology_free(topology);
    assert_int_equal(mt_topology_of_nodes(ranks, nodes, &topology), 0);
    mt_cost_defaults(model, topology, segment_bytes);
}

static uint64_t price(const struct mt_cost_model *model, uint32_t collective, const char *name,
                      uint64_t bytes)
{
    struct manta_plan *plans[RANKS_MAX];
    struct mt_error error;
    struct mt_plan_request request = {.collective = collective,
                                      .ranks = topology->ranks,
                                      .root = collective >= MANTA_SEND ? 1 : 0,
                                      .topology = topology};
    uint64_t ns = 0;
    if (mt_plan_compile_all(mt_catalogue_find(collective, name), &request, plans, &error) ||
        mt_plan_cost(model, (const struct manta_plan *const *)plans, topology->ranks, bytes, &ns,
                     &error))
        fail_msg("%s", error.sentence);
    mt_plan_free_all(plans, topology->ranks);
    return ns;
}

static int fits(const struct mt_cost_model *model, const struct mt_algorithm *algorithm)
{
    const struct mt_plan_request request = {.collective = algorithm->collective,
                                            .ranks = model->topology->ranks,
                                            .topology = model->topology};
    return !algorithm->unfit || !algorithm->unfit(&request);
}

static void test_by_hand(void **state)
{
    uint64_t apart[4] = {1, 2, 3, 4};
    struct mt_cost_model near = round_model(2, NULL), far;
    (void)state;
    /* core, wire, alpha, core */
    assert_int_equal(price(&near, MANTA_SEND, "direct", 0), 10 + 1000 + 10);
    assert_int_equal(price(&near, MANTA_SEND, "direct", 500), 10 + 500 + 1000 + 10);
    /* two members, 500 bytes read and written by each */
    assert_int_equal(price(&near, MANTA_ALLREDUCE, "fused", 500), 2 * 7 + 2);
    far = round_model(2, apart);
    assert_int_equal(price(&far, MANTA_RECV, "direct", 500), 100 + 5000 + 50000 + 100);
    assert_int_equal(price(&far, MANTA_BROADCAST, "binomial", 500), 55200);
    /* one exchange and one reduction */
    assert_int_equal(price(&far, MANTA_ALLREDUCE, "recursive_doubling", 500), 55200 + 50);
    /* alone: a copy */
    far = round_model(1, apart);
    assert_int_equal(price(&far, MANTA_ALLREDUCE, "ring", 1000), 100);
    /* two rounds of the tree */
    far = round_model(4, apart);
    assert_int_equal(price(&far, MANTA_BROADCAST, "binomial", 0), 2 * 50200);
    assert_int_equal(price(&far, MANTA_REDUCE, "binomial", 0), 2 * 50200);
}

static void test_ranks_layout_is_one_ranks_part(void **state)
{
    uint64_t apart[2] = {1, 2};
    struct mt_cost_model far = round_model(2, apart);
    (void)state;
    assert_int_equal(price(&far, MANTA_ALLGATHER, "ring", 500), 55200);
}

/* But for some: a longer message may come to a core behind another one, not before it, and of
 * empty ones many come at the same time. */
static void test_more_bytes_cost_more(void **state)
{
    uint64_t nodes[RANKS_MAX];
    (void)state;
    for (uint32_t ranks = 2; ranks <= RANKS_MAX; ranks += 7) {
        for (uint32_t r = 0; r < ranks; r++)
            nodes[r] = r / 3;
        struct mt_cost_model model;
        model_of(&model, ranks, nodes, 1 << 16);
        for (uint32_t i = 0; mt_catalogue[i]; i++) {
            uint64_t before = 0;
            if (!fits(&model, mt_catalogue[i]))
                continue;
            for (uint64_t bytes = 0; bytes < UINT64_C(1) << 40; bytes = bytes * 4 + 64) {
                uint64_t ns =
                    price(&model, mt_catalogue[i]->collective, mt_catalogue[i]->name, bytes);
                assert_true(ns > before - before / 5);
                before = ns;
            }
        }
    }
}

static void test_no_overflow(void **state)
{
    uint64_t nodes[5] = {0, 1, 0, 3, 1};
    (void)state;
    for (uint32_t i = 0; mt_catalogue[i]; i++) {
        struct mt_cost_model model;
        model_of(&model, 5, nodes, 1);
        if (!fits(&model, mt_catalogue[i]))
            continue;
        uint64_t most =
            price(&model, mt_catalogue[i]->collective, mt_catalogue[i]->name, UINT64_MAX);
        uint64_t less = price(&model, mt_catalogue[i]->collective, mt_catalogue[i]->name, 1 << 20);
        assert_true(most > less);
        model.segment_bytes = UINT64_MAX;
        most = price(&model, mt_catalogue[i]->collective, mt_catalogue[i]->name, UINT64_MAX);
        assert_true(most > less);
    }
}

/* A chain that is fed by segments is limited by a link, not by its length. */
static void test_segments_overlap(void **state)
{
    uint64_t nodes[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    struct mt_cost_model model = round_model(8, nodes);
    uint64_t bytes = 64 << 20, wire = bytes * 10;
    (void)state;
    model.segment_bytes = 1 << 20;
    uint64_t ns = price(&model, MANTA_BROADCAST, "chain", bytes);
    assert_true(ns > wire && ns < wire + wire / 10);
    assert_true(price(&model, MANTA_BROADCAST, "binomial", bytes) > 2 * wire);
}

/* A message to wait for costs a turn of those that share the CPU, a fused step one in all. */
static void test_crowded_ranks_wait_for_turns(void **state)
{
    struct mt_cost_model model = round_model(16, NULL);
    uint64_t alone[2], crowded[2];
    (void)state;
    for (model.turn_ns = 0; model.turn_ns <= 5000; model.turn_ns += 5000) {
        uint64_t *found = model.turn_ns ? crowded : alone;
        model.crowd = 8;
        found[0] = price(&model, MANTA_ALLREDUCE, "recursive_doubling", 8);
        found[1] = price(&model, MANTA_ALLREDUCE, "fused", 8);
    }
    assert_int_equal(crowded[0], alone[0] + 4 * 7 * 5000);
    assert_int_equal(crowded[1], alone[1] + 7 * 5000);
    model.crowd = 1;
    uint64_t ns = price(&model, MANTA_ALLREDUCE, "recursive_doubling", 8);
    model.turn_ns = 0;
    assert_int_equal(price(&model, MANTA_ALLREDUCE, "recursive_doubling", 8), ns);
}

/* Neighbours share a core: it does the work of one after that of the other. */
static void test_crowded_ranks_share_cores(void **state)
{
    uint64_t apart[4] = {1, 2, 3, 4};
    struct mt_cost_model model = round_model(4, apart);
    (void)state;
    model.crowd = 2;
    /* Two rounds: sends, wire, receives, reductions. Who has reduced first sends first. */
    uint64_t alone = 2 * (100 + 50000 + 100), crowded = 2 * (200 + 50000 + 200);
    uint64_t ns = price(&model, MANTA_ALLREDUCE, "recursive_doubling", 0);
    assert_true(ns > alone && ns <= crowded);
    /* Here no two neighbours ever have work at the same time. */
    assert_int_equal(price(&model, MANTA_BROADCAST, "binomial", 0), alone);
}

/* Where cards move the bytes only what nobody has said otherwise is assumed anew. */
static void test_rdma_takes_the_place_of_what_is_assumed(void **state)
{
    const uint64_t apart[2] = {1, 2};
    struct mt_cost_model model;
    (void)state;
    model_of(&model, 2, apart, 0);
    topology->links[MT_LEVEL_RACK].alpha_ns = 7;
    const struct mt_topology_link said = topology->links[MT_LEVEL_RACK];
    const struct mt_topology_link near = topology->links[MT_LEVEL_NODE];
    mt_cost_rdma(&model, topology);
    assert_memory_equal(&topology->links[MT_LEVEL_RACK], &said, sizeof(said));
    assert_memory_equal(&topology->links[MT_LEVEL_NODE], &near, sizeof(near));
    assert_int_equal(topology->links[MT_LEVEL_CLUSTER].copy_ps_per_byte, 0);
    assert_true(topology->links[MT_LEVEL_CLUSTER].beta_ps_per_byte > 0);
    assert_true(model.rdma_eager_bytes < model.eager_bytes);
    assert_int_equal(model.slow_ps_per_byte, 0);
    /* A topology that was one from the beginning gives the same. */
    struct mt_cost_model again;
    mt_cost_defaults(&again, topology, model.segment_bytes);
    assert_int_equal(again.is_rdma, model.is_rdma);
    assert_int_equal(again.slow_ps_per_byte, 0);
}

/* One long message between two ranks is not cut where cores gain nothing by that. */
static void test_rdma_prefers_few_messages(void **state)
{
    const uint64_t apart[2] = {1, 2};
    struct mt_cost_model model;
    (void)state;
    model_of(&model, 2, apart, 0);
    mt_cost_rdma(&model, topology);
    const struct mt_select_context context = {
        .ranks = 2, .cost = &model, .catalogue = mt_catalogue};
    const struct mt_plan_request request = {
        .collective = MANTA_BROADCAST, .ranks = 2, .topology = topology};
    for (uint64_t bytes = 64 << 10; bytes <= 16 << 20; bytes *= 16) {
        struct mt_select_candidate candidates[MT_SELECT_CANDIDATES];
        struct mt_error error;
        uint32_t count;
        assert_int_equal(
            mt_select(&context, &request, bytes, candidates, MT_SELECT_CANDIDATES, &count, &error),
            0);
        assert_string_equal(candidates[0].algorithm->name, "binomial");
    }
}

static struct mt_select_candidate best_allreduce(const struct mt_cost_model *model, uint64_t bytes)
{
    const struct mt_select_context context = {.ranks = 2, .cost = model, .catalogue = mt_catalogue};
    const struct mt_plan_request request = {
        .collective = MANTA_ALLREDUCE, .ranks = 2, .topology = topology};
    struct mt_select_candidate candidates[MT_SELECT_CANDIDATES];
    struct mt_error error;
    uint32_t count;
    assert_int_equal(
        mt_select(&context, &request, bytes, candidates, MT_SELECT_CANDIDATES, &count, &error), 0);
    return candidates[0];
}

/* Of what takes about as long: few messages, and of long vectors little for cores to combine. */
static void test_rdma_spares_cores(void **state)
{
    const uint64_t apart[2] = {1, 2};
    struct mt_cost_model model;
    (void)state;
    model_of(&model, 2, apart, 0);
    mt_cost_rdma(&model, topology);
    topology->links[MT_LEVEL_CLUSTER].beta_ps_per_byte = 800; /* 10 Gbit/s */
    assert_int_equal(best_allreduce(&model, 64 << 10).messages, 2);
    const struct mt_select_candidate best = best_allreduce(&model, 1 << 20);
    assert_int_equal(best.combined, 1024); /* each rank its half */
    assert_int_equal(best.messages, 4);
}

static void test_plans_that_wait_for_ever(void **state)
{
    struct mt_cost_model model = round_model(2, NULL);
    struct mt_plan_request request = {.collective = MANTA_BROADCAST, .rank = 1, .ranks = 2};
    struct manta_plan *plan;
    struct mt_error error;
    uint64_t ns;
    (void)state;
    assert_int_equal(
        mt_plan_compile(mt_catalogue_find(MANTA_BROADCAST, "binomial"), &request, &plan, &error),
        0);
    const struct manta_plan *plans[2] = {NULL, plan};
    assert_int_equal(mt_plan_cost(&model, plans, 2, 8, &ns, &error), MANTA_EPLAN);
    mt_plan_free(plan);
}

static int free_topology(void **state)
{
    (void)state;
    mt_topology_free(topology);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_ranks_layout_is_one_ranks_part),
        cmocka_unit_test(test_more_bytes_cost_more),
        cmocka_unit_test(test_no_overflow),
        cmocka_unit_test(test_segments_overlap),
        cmocka_unit_test(test_crowded_ranks_wait_for_turns),
        cmocka_unit_test(test_crowded_ranks_share_cores),
        cmocka_unit_test(test_rdma_takes_the_place_of_what_is_assumed),
        cmocka_unit_test(test_rdma_prefers_few_messages),
        cmocka_unit_test(test_rdma_spares_cores),
        cmocka_unit_test(test_plans_that_wait_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, free_topology);
}
