/* SPDX-License-Identifier: Apache-2.0 */
/* Times worked out by hand, faults that must be found, and what must not depend on chance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "plan/bound.h"
#include "plan/simulate.h"
#include "plan/verify.h"
#include "tests/support/mutate.h"
#include "tests/support/plans.h"
#include "topology/synthetic.h"

enum { RANKS_MOST = 256, SEGMENTS = MT_SIMULATE_SEGMENTS, FOLDED = 32 };

static struct mt_topology *topology;
static struct mt_cost_model model;

/* Links whose times are easy to add up: in a node 10 + 1000 + 10 ns and 1 ns for each byte, between
 * nodes 100 + 50000 + 100 and 10. */
static void near_and_far(uint32_t ranks, const uint64_t *nodes)
{
    static const struct mt_topology_link near = {
        .alpha_ns = 1000, .core_ns = 10, .beta_ps_per_byte = 1000};
    static const struct mt_topology_link far = {
        .alpha_ns = 50000, .core_ns = 100, .beta_ps_per_byte = 10000};
    mt_topology_free(topology);
    assert_int_equal(mt_topology_of_nodes(ranks, nodes, &topology), 0);
    for (int level = 0; level < MT_LEVELS; level++)
        topology->links[level] = level <= MT_LEVEL_NODE ? near : far;
    model = (struct mt_cost_model){.topology = topology,
                                   .gamma_ps_per_byte = 100,
                                   .fused_alpha_ns = 7,
                                   .memory_ps_per_byte = 1,
                                   .eager_bytes = UINT64_MAX,
                                   .segment_bytes = UINT64_MAX};
}

static void cluster(const char *line, uint64_t segment_bytes)
{
    struct mt_error error;
    mt_topology_free(topology);
    if (mt_topology_parse(line, 0, &topology, &error))
        fail_msg("%s", error.sentence);
    mt_cost_defaults(&model, topology, segment_bytes);
}

static struct mt_plan_request request_of(uint32_t collective)
{
    return (struct mt_plan_request){.collective = collective,
                                    .ranks = topology->ranks,
                                    .root = collective >= MANTA_SEND ? 1 : 0,
                                    .topology = topology,
                                    .fuses = 1};
}

static int runs_here(const struct mt_algorithm *algorithm)
{
    struct mt_plan_request request = request_of(algorithm->collective);
    return algorithm->collective < MANTA_SEND && algorithm->ranks_min <= topology->ranks &&
           (!algorithm->ranks_max || algorithm->ranks_max >= topology->ranks) &&
           (!algorithm->fused || topology->groups[MT_LEVEL_NODE] == 1) &&
           (!algorithm->unfit || !algorithm->unfit(&request));
}

static struct manta_plan **compile(uint32_t collective, const char *name)
{
    static struct manta_plan *plans[RANKS_MOST];
    const struct mt_algorithm *algorithm = mt_catalogue_find(collective, name);
    struct mt_error error;
    struct mt_plan_request request = request_of(collective);
    assert_non_null(algorithm);
    if (mt_plan_compile_all(algorithm, &request, plans, &error))
        fail_msg("%s: %s", name, error.sentence);
    return plans;
}

static struct mt_simulate simulation_of(struct manta_plan *const *plans, uint64_t bytes)
{
    return (struct mt_simulate){.model = &model,
                                .plans = (const struct manta_plan *const *)plans,
                                .ranks = topology->ranks,
                                .bytes = bytes,
                                .check = 1};
}

static struct mt_simulate_result result_of(uint32_t collective, const char *name, uint64_t bytes)
{
    struct manta_plan **plans = compile(collective, name);
    struct mt_simulate what = simulation_of(plans, bytes);
    struct mt_simulate_result result;
    struct mt_error error;
    if (mt_simulate(&what, &result, &error))
        fail_msg("%s: %s", name, error.sentence);
    mt_plan_free_all(plans, topology->ranks);
    return result;
}

static uint64_t time_of(uint32_t collective, const char *name, uint64_t bytes)
{
    struct mt_simulate_result result = result_of(collective, name, bytes);
    assert_int_equal(result.stuck, 0);
    return result.ns;
}

/* Rank 0 sends to 1 on its node and to 2, rank 1 to 3: both leave node 0 and enter node 1. */
static void shared_uplinks_by_hand(void **state)
{
    const uint64_t nodes[4] = {1, 1, 2, 2};
    (void)state;
    near_and_far(4, nodes);
    /* Rank 1 has it at 10 + 500 + 1000 + 10; 100 later it begins to send 5000. */
    assert_int_equal(time_of(MANTA_BROADCAST, "binomial", 500), 1520 + 100 + 5000 + 50000 + 100);
    /* The uplink works from 110 on for 10000 on rank 0's message, then on rank 1's. */
    topology->uplink_ps_per_byte[MT_LEVEL_NODE] = 20000;
    struct mt_simulate_result result = result_of(MANTA_BROADCAST, "binomial", 500);
    assert_int_equal(result.ns, 110 + 10000 + 10000 + 50000 + 100);
    assert_int_equal(result.busiest.kind, MT_LINK_UP);
    assert_int_equal(result.busiest.index, 0);
    assert_int_equal(result.busiest_ns, 20000);
    assert_int_equal(result.level_bytes[MT_LEVEL_L3], 500);
    assert_int_equal(result.level_bytes[MT_LEVEL_RACK], 1000);
    assert_int_equal(result.messages, 3);
    /* Each level that is left counts: a rack around each node, slower still. */
    memcpy(topology->group[MT_LEVEL_RACK], topology->group[MT_LEVEL_NODE], 4 * sizeof(uint32_t));
    topology->groups[MT_LEVEL_RACK] = 2;
    topology->uplink_ps_per_byte[MT_LEVEL_RACK] = 40000;
    result = result_of(MANTA_BROADCAST, "binomial", 500);
    assert_int_equal(result.ns, 110 + 20000 + 20000 + 50000 + 100);
    assert_int_equal(result.level_bytes[MT_LEVEL_ZONE], 1000);
}

static void a_core_does_one_thing_at_a_time(void **state)
{
    const uint64_t nodes[3] = {1, 2, 3};
    (void)state;
    near_and_far(3, nodes);
    /* Two messages are there at 100 + 50000; each takes 100. */
    assert_int_equal(time_of(MANTA_REDUCE, "binomial", 0), 50100 + 100 + 100);
    /* With 500 bytes, the second has to wait for the way in, and the reduction works meanwhile. */
    assert_int_equal(time_of(MANTA_REDUCE, "binomial", 500), 100 + 5000 + 5000 + 50000 + 100 + 50);
}

static void long_messages_wait_for_word(void **state)
{
    const uint64_t nodes[2] = {1, 2};
    (void)state;
    near_and_far(2, nodes);
    uint64_t at_once = 100 + 5000 + 50000 + 100;
    model.eager_bytes = 500;
    assert_int_equal(time_of(MANTA_SEND, "direct", 500), at_once);
    model.eager_bytes = 499;
    assert_int_equal(time_of(MANTA_SEND, "direct", 500), 50000 + at_once);
    near_and_far(2, NULL);
    model.eager_bytes = 0;
    assert_int_equal(time_of(MANTA_SEND, "direct", 500), 1000 + 10 + 500 + 1000 + 10);
}

/* What cards write between nodes is shorter when it does so than what is sent on a node. */
static void cards_wait_for_word_between_nodes_only(void **state)
{
    const uint64_t nodes[2] = {1, 2};
    (void)state;
    near_and_far(2, nodes);
    model.is_rdma = 1;
    model.eager_bytes = 500;
    model.rdma_eager_bytes = 499;
    assert_int_equal(time_of(MANTA_SEND, "direct", 500), 50000 + 100 + 5000 + 50000 + 100);
    near_and_far(2, NULL);
    model.is_rdma = 1;
    model.eager_bytes = 500;
    model.rdma_eager_bytes = 499;
    assert_int_equal(time_of(MANTA_SEND, "direct", 500), 10 + 500 + 1000 + 10);
}

/* Each end's core copies while the bytes are on their way, and does nothing else meanwhile. */
static void cores_copy_at_both_ends(void **state)
{
    const uint64_t nodes[2] = {1, 2};
    (void)state;
    near_and_far(2, nodes);
    topology->links[MT_LEVEL_RACK].copy_ps_per_byte = 8000; /* the wire is slower */
    assert_int_equal(time_of(MANTA_SEND, "direct", 500), 100 + 5000 + 50000 + 100);
    topology->links[MT_LEVEL_RACK].copy_ps_per_byte = 12000; /* the cores are */
    assert_int_equal(time_of(MANTA_SEND, "direct", 500), 100 + 6000 + 50000 + 100);
    /* Both ways at once: two copies for each core, then the reduction. */
    assert_int_equal(time_of(MANTA_ALLREDUCE, "recursive_doubling", 500),
                     100 + 2 * 6000 + 50000 + 100 + 50);
}

static void memory_is_shared_by_a_node(void **state)
{
    (void)state;
    near_and_far(4, NULL);
    /* Copied in and out, 500 bytes take 1000 in memory. The second message of rank 0 has left it
     * when rank 1 begins to send. */
    model.memory_ps_per_byte = 1000;
    assert_int_equal(time_of(MANTA_BROADCAST, "binomial", 500), 2 * (10 + 1000 + 1000 + 10));
    /* With 1500 it takes 3000 and is there until 6010, when rank 1 has had its own since 4020. */
    assert_int_equal(time_of(MANTA_BROADCAST, "binomial", 1500), 10 + 3 * 3000 + 1000 + 10);
}

static void slow_links_are_slower(void **state)
{
    const uint64_t nodes[2] = {1, 2};
    struct mt_simulate_result result;
    struct mt_error error;
    (void)state;
    near_and_far(2, nodes);
    struct manta_plan **plans = compile(MANTA_SEND, "direct");
    struct mt_simulate what = simulation_of(plans, 500);
    struct mt_simulate_fault fault = {.level = MT_LEVEL_CORE, .index = 1, .ppm = 10000};
    what.faults = &fault;
    what.fault_count = 1;
    assert_int_equal(mt_simulate(&what, &result, &error), 0);
    /* Its way in and its core take a hundred times as long; alpha is nobody's. */
    assert_int_equal(result.ns, 100 + 500000 + 50000 + 10000);
    fault.index = 2;
    assert_int_equal(mt_simulate(&what, &result, &error), MANTA_EINVAL);
    fault = (struct mt_simulate_fault){.level = MT_LEVEL_NODE, .index = 0, .ppm = 500000};
    assert_int_equal(mt_simulate(&what, &result, &error), MANTA_EINVAL);
    topology->uplink_ps_per_byte[MT_LEVEL_NODE] = 10000;
    assert_int_equal(mt_simulate(&what, &result, &error), 0);
    assert_int_equal(result.ns, 100 + 10000 + 50000 + 100);
    mt_plan_free_all(plans, 2);
}

struct waits {
    uint32_t count, on[RANKS_MOST];
};

static void note_stuck(void *arg, const struct mt_simulate_stuck *stuck)
{
    struct waits *waits = arg;
    waits->count++;
    waits->on[stuck->rank] = stuck->on;
}

static void the_dead_are_waited_for(void **state)
{
    const uint64_t nodes[8] = {1, 1, 2, 2, 3, 3, 4, 4};
    struct waits waits;
    struct mt_simulate_result result;
    struct mt_error error;
    (void)state;
    near_and_far(8, nodes);
    struct mt_simulate_fault fault = {.dead = 1, .level = MT_LEVEL_CORE, .index = 2};
    struct manta_plan **plans = compile(MANTA_BROADCAST, "binomial");
    struct mt_simulate what = simulation_of(plans, 500);
    what.faults = &fault;
    what.fault_count = 1;
    what.watch = (struct mt_simulate_watch){.arg = &waits, .stuck = note_stuck};
    memset(&waits, 0xff, sizeof(waits));
    waits.count = 0;
    assert_int_equal(mt_simulate(&what, &result, &error), 0);
    assert_int_equal(result.stuck, 1); /* 2 would have sent to 6 */
    assert_int_equal(waits.count, 1);
    assert_int_equal(waits.on[6], 2);
    fault = (struct mt_simulate_fault){.dead = 1, .level = MT_LEVEL_NODE, .index = 1};
    waits.count = 0;
    assert_int_equal(mt_simulate(&what, &result, &error), 0);
    assert_int_equal(result.stuck, 2); /* 6 on 2, 7 on 3 */
    assert_int_equal(waits.on[7], 3);
    mt_plan_free_all(plans, 8);
    plans = compile(MANTA_ALLREDUCE, "ring");
    what = simulation_of(plans, 500);
    what.faults = &fault;
    what.fault_count = 1;
    assert_int_equal(mt_simulate(&what, &result, &error), 0);
    assert_int_equal(result.stuck, 6);
    mt_plan_free_all(plans, 8);
    /* A fused step waits for its member. */
    near_and_far(3, NULL);
    plans = compile(MANTA_ALLREDUCE, "fused");
    what = simulation_of(plans, 500);
    fault = (struct mt_simulate_fault){.dead = 1, .level = MT_LEVEL_CORE, .index = 1};
    what.faults = &fault;
    what.fault_count = 1;
    what.watch = (struct mt_simulate_watch){.arg = &waits, .stuck = note_stuck};
    waits.count = 0;
    assert_int_equal(mt_simulate(&what, &result, &error), 0);
    assert_int_equal(waits.count, 2);
    assert_int_equal(waits.on[0], 1);
    mt_plan_free_all(plans, 3);
}

/* Nothing is faster than the bound, and what all algorithms do to the blocks is right. */
static void nothing_is_faster_than_possible(void **state)
{
    static const char *const lines[] = {"node:1 ranks:7", "node:5",
                                        "rack:2@100Gbit/s node:3 ranks:4",
                                        "rack:3@10us,oversub=4 node:2@25Gbit/s ranks:3 size:17",
                                        "zone:2@10Gbit/s,1ms rack:2 node:4 ranks:5"};
    (void)state;
    for (size_t line = 0; line < sizeof(lines) / sizeof(*lines); line++) {
        cluster(lines[line], 1 << 20);
        for (uint32_t i = 0; mt_catalogue[i]; i++) {
            const struct mt_algorithm *algorithm = mt_catalogue[i];
            if (!runs_here(algorithm))
                continue;
            for (uint64_t bytes = 1; bytes <= 1 << 24; bytes *= 256) {
                uint64_t ns = time_of(algorithm->collective, algorithm->name, bytes);
                struct mt_bound bound = mt_bound_of(&model, algorithm->collective, bytes);
                if (ns < bound.ns || !bound.ns)
                    fail_msg("%s on '%s': %lu ns, less than %lu", algorithm->name, lines[line],
                             (unsigned long)ns, (unsigned long)bound.ns);
            }
        }
    }
}

static void bounds_by_hand(void **state)
{
    const uint64_t nodes[8] = {1, 1, 2, 2, 3, 3, 4, 4};
    (void)state;
    near_and_far(8, nodes);
    /* Two ways of 10 ns for each byte: 5 ns. */
    assert_int_equal(mt_bound_of(&model, MANTA_ALLREDUCE, 1 << 20).ns, (3 << 19) * 5);
    assert_int_equal(mt_bound_of(&model, MANTA_BROADCAST, 1 << 20).ns, (1 << 20) * 5);
    assert_int_equal(mt_bound_of(&model, MANTA_ALLGATHER, 1 << 20).ns, (6 << 20) * 5);
    topology->uplink_ps_per_byte[MT_LEVEL_NODE] = 20000;
    assert_int_equal(mt_bound_of(&model, MANTA_ALLREDUCE, 1 << 20).ns, (3 << 19) * 20);
    assert_int_equal(mt_bound_of(&model, MANTA_ALLREDUCE, 0).ns, 50200);
    assert_int_equal(mt_bound_of(&model, MANTA_ALLREDUCE, 0).kind, MT_BOUND_LATENCY);
}

/* Simulating all segments and some of them gives the same within 1 %. */
static void segments_follow_at_their_rate(void **state)
{
    static const char *const lines[] = {"node:6", "rack:2@40Gbit/s node:2@100Gbit/s ranks:4"};
    (void)state;
    for (size_t line = 0; line < sizeof(lines) / sizeof(*lines); line++) {
        cluster(lines[line], 1 << 20);
        for (uint32_t i = 0; mt_catalogue[i]; i++) {
            if (!runs_here(mt_catalogue[i]) || mt_catalogue[i]->collective == MANTA_BARRIER)
                continue;
            uint64_t bytes = (SEGMENTS - 1) * model.segment_bytes + 12345;
            struct manta_plan **plans = compile(mt_catalogue[i]->collective, mt_catalogue[i]->name);
            if (plans[0]->layout == MANTA_PLAN_RANKS)
                bytes /= topology->ranks;
            struct mt_simulate what = simulation_of(plans, bytes);
            struct mt_simulate_result all, some;
            struct mt_error error;
            assert_int_equal(mt_simulate(&what, &all, &error), 0);
            what.segments_most = FOLDED;
            assert_int_equal(mt_simulate(&what, &some, &error), 0);
            assert_int_equal(all.segments, some.segments);
            uint64_t apart = all.ns > some.ns ? all.ns - some.ns : some.ns - all.ns;
            if (apart > all.ns / 100)
                fail_msg("%s on '%s': %lu ns, but %lu of all segments", mt_catalogue[i]->name,
                         lines[line], (unsigned long)some.ns, (unsigned long)all.ns);
            assert_memory_equal(all.level_bytes, some.level_bytes, sizeof(all.level_bytes));
            mt_plan_free_all(plans, topology->ranks);
        }
    }
}

struct log {
    uint64_t count, hash;
};

static void note_slice(void *arg, const struct mt_simulate_slice *slice)
{
    struct log *log = arg;
    const uint64_t words[] = {slice->rank, slice->segment, slice->step, slice->begin_ns,
                              slice->end_ns};
    log->count++;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        log->hash = (log->hash ^ words[i]) * UINT64_C(0x100000001b3);
    assert_true(slice->begin_ns <= slice->end_ns);
}

static void events_come_in_one_order(void **state)
{
    struct log first = {0}, second = {0};
    struct mt_simulate_result result;
    struct mt_error error;
    (void)state;
    cluster("rack:2@40Gbit/s node:4@100Gbit/s ranks:4", 1 << 16);
    struct manta_plan **plans = compile(MANTA_ALLREDUCE, "recursive_doubling");
    struct mt_simulate what = simulation_of(plans, 1 << 18);
    what.watch = (struct mt_simulate_watch){.arg = &first, .slice = note_slice};
    assert_int_equal(mt_simulate(&what, &result, &error), 0);
    what.watch.arg = &second;
    what.check = 0;
    assert_int_equal(mt_simulate(&what, &result, &error), 0);
    assert_int_equal(first.count, result.steps * result.segments);
    assert_int_equal(first.count, second.count);
    assert_int_equal(first.hash, second.hash);
    mt_plan_free_all(plans, topology->ranks);
}

/* Ranks that are equal are simulated once, and the time is the same to the nanosecond. */
static void equal_ranks_are_simulated_once(void **state)
{
    static const char *const lines[] = {"node:8@100Gbit/s ranks:4",
                                        "rack:4@100Gbit/s,oversub=2 node:4@100Gbit/s ranks:4",
                                        "rack:8@400Gbit/s,oversub=4 node:4@100Gbit/s ranks:8"};
    uint32_t folded = 0;
    (void)state;
    for (size_t line = 0; line < sizeof(lines) / sizeof(*lines); line++) {
        cluster(lines[line], 1 << 20);
        for (uint32_t i = 0; mt_catalogue[i]; i++) {
            if (!runs_here(mt_catalogue[i]) ||
                (topology->ranks > 64 && mt_catalogue[i]->collective > MANTA_BROADCAST))
                continue;
            struct manta_plan **plans = compile(mt_catalogue[i]->collective, mt_catalogue[i]->name);
            struct mt_simulate what =
                simulation_of(plans, topology->ranks > 64 ? 1 << 20 : 3 << 20);
            struct mt_simulate_result all, some;
            struct mt_error error;
            what.check = 0;
            assert_int_equal(mt_simulate(&what, &all, &error), 0);
            what.fold_ranks = 1;
            assert_int_equal(mt_simulate(&what, &some, &error), 0);
            if (all.ns != some.ns || all.busiest_ns != some.busiest_ns)
                fail_msg("%s on '%s': %lu ns, but %lu of %u ranks", mt_catalogue[i]->name,
                         lines[line], (unsigned long)all.ns, (unsigned long)some.ns,
                         some.ranks_simulated);
            assert_memory_equal(all.level_bytes, some.level_bytes, sizeof(all.level_bytes));
            assert_int_equal(all.ranks_simulated, topology->ranks);
            assert_int_equal(all.messages, some.messages);
            folded += some.ranks_simulated < topology->ranks;
            mt_plan_free_all(plans, topology->ranks);
        }
    }
    assert_true(folded > 20);
}

struct hunt {
    uint64_t mutants[MUTANT_KINDS], found[MUTANT_KINDS], missed;
};

/* What the verifier finds in values or as a deadlock, the simulation must find. */
static void judge(const struct mutant *mutant, struct manta_plan *const *plans, void *arg)
{
    struct hunt *hunt = arg;
    struct mt_verify_result verdict;
    struct mt_simulate what = simulation_of(plans, 1 << 10);
    struct mt_simulate_result result;
    struct mt_error error;
    if (!mutant_executable(mutant->kind) ||
        !mt_plan_verify((const struct manta_plan *const *)plans, what.ranks, &verdict))
        return;
    int found = mt_simulate(&what, &result, &error) == MANTA_EPLAN || result.stuck;
    hunt->mutants[mutant->kind]++;
    hunt->found[mutant->kind] += (uint64_t)found;
    int told = strstr(verdict.fault, "deadlock") || strstr(verdict.fault, "counts") ||
               strstr(verdict.fault, "does not count every rank") ||
               strstr(verdict.fault, "is not the input") || strstr(verdict.fault, "never written");
    if (told && !found) {
        hunt->missed++;
        print_message("missed: %s: %s\n", mutant_kind_name(mutant->kind), verdict.fault);
    }
}

static void wrong_plans_are_found(void **state)
{
    const uint64_t nodes[6] = {1, 1, 2, 2, 3, 3};
    struct hunt hunt = {0};
    (void)state;
    near_and_far(6, nodes);
    for (uint32_t i = 0; mt_catalogue[i]; i++) {
        if (!runs_here(mt_catalogue[i]))
            continue;
        struct manta_plan **plans = compile(mt_catalogue[i]->collective, mt_catalogue[i]->name);
        mutate_all(plans, topology->ranks, judge, &hunt);
        mt_plan_free_all(plans, topology->ranks);
    }
    assert_int_equal(hunt.missed, 0);
    assert_true(hunt.found[MUTANT_DROPPED_MESSAGE] > 50);
    assert_true(hunt.found[MUTANT_SHIFTED_MESSAGE] > 50);
    assert_true(hunt.found[MUTANT_DOUBLED_REDUCE] > 20);
    assert_int_equal(hunt.found[MUTANT_DROPPED_MESSAGE], hunt.mutants[MUTANT_DROPPED_MESSAGE]);
}

/* Above 64 ranks, sets are told apart by random numbers. */
static void wrong_plans_are_found_above_64_ranks(void **state)
{
    struct mt_simulate_result result;
    struct mt_error error;
    (void)state;
    near_and_far(100, NULL);
    struct manta_plan **plans = compile(MANTA_ALLREDUCE, "recursive_doubling");
    struct mt_simulate what = simulation_of(plans, 1 << 10);
    assert_int_equal(mt_simulate(&what, &result, &error), 0);
    struct manta_plan_step *steps = (struct manta_plan_step *)plans[77]->steps;
    for (uint32_t s = 0; s < plans[77]->step_count; s++) {
        if (steps[s].kind != MANTA_PLAN_REDUCE)
            continue;
        steps[s].kind = MANTA_PLAN_COPY; /* of its left operand */
        break;
    }
    assert_int_equal(mt_simulate(&what, &result, &error), MANTA_EPLAN);
    assert_non_null(strstr(error.sentence, "every rank once"));
    mt_plan_free_all(plans, 100);
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
        cmocka_unit_test(shared_uplinks_by_hand),
        cmocka_unit_test(a_core_does_one_thing_at_a_time),
        cmocka_unit_test(long_messages_wait_for_word),
        cmocka_unit_test(cards_wait_for_word_between_nodes_only),
        cmocka_unit_test(cores_copy_at_both_ends),
        cmocka_unit_test(memory_is_shared_by_a_node),
        cmocka_unit_test(slow_links_are_slower),
        cmocka_unit_test(the_dead_are_waited_for),
        cmocka_unit_test(bounds_by_hand),
        cmocka_unit_test(nothing_is_faster_than_possible),
        cmocka_unit_test(segments_follow_at_their_rate),
        cmocka_unit_test(events_come_in_one_order),
        cmocka_unit_test(equal_ranks_are_simulated_once),
        cmocka_unit_test(wrong_plans_are_found),
        cmocka_unit_test(wrong_plans_are_found_above_64_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, free_topology);
}
