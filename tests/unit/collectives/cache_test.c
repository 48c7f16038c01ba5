/* SPDX-License-Identifier: Apache-2.0 */
/* Plans and scratch are made once and used again, in groups of any size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collectives/catalogue.h"
#include "collectives/comm.h"

static struct manta_comm *comm_of(uint32_t ranks, uint32_t rank)
{
    struct manta_comm *comm = calloc(1, sizeof(*comm));
    assert_non_null(comm);
    comm->ranks = ranks;
    comm->rank = rank;
    return comm;
}

static void comm_free(struct manta_comm *comm)
{
    mt_cache_clear(comm);
    assert_null(comm->cache.newest);
    assert_null(comm->scratch);
    free(comm);
}

static int get(struct manta_comm *comm, uint32_t collective, const char *name, uint32_t root,
               int in_place, struct mt_entry **entry_out)
{
    const struct mt_arguments arguments = {.collective = collective, .root = root};
    struct mt_error error;
    return mt_cache_get(comm, mt_catalogue_find(collective, name), &arguments, in_place, entry_out,
                        &error);
}

static struct mt_entry *plan_of(struct manta_comm *comm, uint32_t collective, const char *name,
                                uint32_t root, int in_place)
{
    struct mt_entry *entry = NULL;
    assert_int_equal(get(comm, collective, name, root, in_place, &entry), 0);
    assert_int_equal(entry->root, root);
    assert_int_equal(entry->in_place, in_place);
    assert_int_equal(entry->plan->rank, comm->rank);
    assert_int_equal(entry->plan->collective, collective);
    return entry;
}

/* What a program does that deals with each rank in turn, and now and then with all. */
static void round_of_all(struct manta_comm *comm)
{
    for (uint32_t r = 0; r < comm->ranks; r++) {
        plan_of(comm, MANTA_BROADCAST, "binomial", r, 0);
        plan_of(comm, MANTA_REDUCE, "binomial", r, 0);
        if (r != comm->rank) {
            plan_of(comm, MANTA_SEND, "direct", r, 0);
            plan_of(comm, MANTA_RECV, "direct", r, 0);
        }
    }
    plan_of(comm, MANTA_ALLREDUCE, "recursive_doubling", MANTA_PLAN_NONE, 0);
    plan_of(comm, MANTA_ALLREDUCE, "recursive_doubling", MANTA_PLAN_NONE, 1);
}

static void large_groups_compile_each_plan_once(void **state)
{
    (void)state;
    const uint32_t sizes[] = {2, 63, 64, 65, 300, 700};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct manta_comm *comm = comm_of(sizes[i], sizes[i] / 2);
        round_of_all(comm);
        uint64_t compiled = atomic_load(&comm->counters.plans_compiled);
        assert_int_equal(compiled, 4 * sizes[i]);
        for (int round = 0; round < 3; round++)
            round_of_all(comm);
        assert_int_equal(atomic_load(&comm->counters.plans_compiled), compiled);
        comm_free(comm);
    }
}

static void the_plan_unused_for_longest_makes_room(void **state)
{
    (void)state;
    static const struct {
        uint32_t collective;
        const char *name;
    } rooted[] = {
        {MANTA_BROADCAST, "binomial"}, {MANTA_BROADCAST, "chain"}, {MANTA_REDUCE, "binomial"}};
    enum { RANKS = 60, KEYS = 6 * RANKS };
    struct manta_comm *comm = comm_of(RANKS, 1);
    struct mt_entry *busy = NULL, *touched = NULL;
    struct mt_instance *instance;
    for (uint32_t k = 0; k < KEYS; k++) {
        uint32_t kind = k / 2 % 3;
        struct mt_entry *entry =
            plan_of(comm, rooted[kind].collective, rooted[kind].name, k / 6, (int)(k % 2));
        if (k == 0) {
            busy = entry;
            assert_int_equal(mt_cache_instance(comm, busy, 0, &instance), 0);
        } else if (k == 1) {
            touched = entry;
        }
        assert_ptr_equal(plan_of(comm, MANTA_BROADCAST, "binomial", 0, k > 0),
                         k > 0 ? touched : busy);
    }
    uint64_t compiled = atomic_load(&comm->counters.plans_compiled);
    assert_int_equal(compiled, KEYS);
    assert_true(comm->cache.capacity < KEYS);
    assert_int_equal(comm->cache.count, comm->cache.capacity);
    assert_ptr_equal(plan_of(comm, MANTA_BROADCAST, "binomial", 0, 0), busy);
    assert_ptr_equal(plan_of(comm, MANTA_BROADCAST, "binomial", 0, 1), touched);
    assert_int_equal(atomic_load(&comm->counters.plans_compiled), compiled);
    plan_of(comm, MANTA_BROADCAST, "chain", 0, 0); /* long gone */
    assert_int_equal(atomic_load(&comm->counters.plans_compiled), compiled + 1);
    mt_cache_release(comm, busy, instance);
    comm_free(comm);
}

static void plans_in_use_are_never_taken(void **state)
{
    (void)state;
    struct manta_comm *comm = comm_of(2, 0);
    struct mt_entry *first = plan_of(comm, MANTA_SEND, "direct", 1, 0), *other;
    struct mt_instance *instances[2];
    comm->cache.capacity = 1;
    for (int i = 0; i < 2; i++) /* two calls under way with one plan */
        assert_int_equal(mt_cache_instance(comm, first, 64, &instances[i]), 0);
    assert_ptr_not_equal(instances[0], instances[1]);
    assert_ptr_not_equal(instances[0]->scratch, instances[1]->scratch);
    assert_int_equal(get(comm, MANTA_RECV, "direct", 1, 0, &other), MANTA_ENOMEM);
    mt_cache_release(comm, first, instances[0]);
    assert_int_equal(get(comm, MANTA_RECV, "direct", 1, 0, &other), MANTA_ENOMEM);
    mt_cache_release(comm, first, instances[1]);
    assert_int_equal(get(comm, MANTA_RECV, "direct", 1, 0, &other), 0);
    assert_int_equal(comm->cache.count, 1);
    comm_free(comm);
}

/* One after the other, calls of different plans use the same memory. */
static void scratch_goes_from_plan_to_plan(void **state)
{
    (void)state;
    struct manta_comm *comm = comm_of(300, 7);
    struct mt_instance *instance;
    void *memory = NULL;
    for (uint32_t root = 0; root < 300; root++) {
        struct mt_entry *entry = plan_of(comm, MANTA_REDUCE, "binomial", root, 0);
        assert_int_equal(mt_cache_instance(comm, entry, 5000, &instance), 0);
        memset(instance->scratch, 0x5a, 5000);
        assert_int_equal((uintptr_t)instance->scratch % 4096, 0);
        if (root == 0)
            memory = instance->scratch;
        assert_ptr_equal(instance->scratch, memory);
        mt_cache_release(comm, entry, instance);
    }
    assert_non_null(comm->scratch);
    assert_null(comm->scratch->next);
    comm_free(comm);
}

static void expect_no_memory(struct manta_comm *comm)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)comm; /* they end the program that asks for so much */
#else
    assert_null(mt_scratch_take(comm, UINT64_MAX / 2));
#endif
}

static void the_smallest_scratch_that_suffices_is_taken(void **state)
{
    (void)state;
    struct manta_comm *comm = comm_of(2, 0);
    struct mt_scratch *small = mt_scratch_take(comm, 100), *large = mt_scratch_take(comm, 10000),
                      *medium = mt_scratch_take(comm, 1000);
    mt_scratch_give(comm, small);
    mt_scratch_give(comm, large);
    mt_scratch_give(comm, medium);
    assert_ptr_equal(mt_scratch_take(comm, 101), medium);
    assert_ptr_equal(mt_scratch_take(comm, 101), large);
    mt_scratch_give(comm, large);
    mt_scratch_give(comm, medium);
    assert_ptr_equal(mt_scratch_take(comm, 10001),
                     large); /* grown: the least that is thrown away */
    assert_int_equal(large->bytes, 10001);
    assert_ptr_equal(mt_scratch_take(comm, 1), small);
    assert_ptr_equal(mt_scratch_take(comm, 1), medium);
    struct mt_scratch *fourth = mt_scratch_take(comm, 1);
    assert_non_null(fourth);
    expect_no_memory(comm);
    mt_scratch_give(comm, small);
    expect_no_memory(comm);
    assert_ptr_equal(mt_scratch_take(comm, 100), small); /* unharmed */
    mt_scratch_give(comm, small);
    mt_scratch_give(comm, medium);
    mt_scratch_give(comm, large);
    mt_scratch_give(comm, fourth);
    comm_free(comm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_groups_compile_each_plan_once),
        cmocka_unit_test(the_plan_unused_for_longest_makes_room),
        cmocka_unit_test(plans_in_use_are_never_taken),
        cmocka_unit_test(scratch_goes_from_plan_to_plan),
        cmocka_unit_test(the_smallest_scratch_that_suffices_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
