/* SPDX-License-Identifier: Apache-2.0 */
/* Each fused kernel against its declaration: scripts of many calls (script.h). Once from private
 * buffers, and once from buffers that are read in place: some, or all of them. */
#include "tests/unit/transport/shm/script.h"

static void test_two_ranks(void **state)
{
    (void)state;
    mixed(2, SLOW ? 60 : 400, 800000, 0, 0, 0);
}

static void test_delays(void **state)
{
    (void)state;
    for (uint32_t ranks = 2; ranks <= 5; ranks++)
        mixed(ranks, SLOW ? 40 : 150, 300000, 1, 0, 0);
}

static void test_every_size(void **state)
{
    (void)state;
    uint32_t most = SLOW ? 9 : 64;
    for (uint32_t ranks = 1; ranks <= most; ranks += ranks < 20 ? 1 : 11)
        mixed(ranks, SLOW ? 12 : 30, 40000, 0, 0, 0);
    if (!SLOW)
        mixed(64, 25, 20000, 1, 0, 1);
}

static void test_sleeping(void **state)
{
    (void)state;
    mixed(3, SLOW ? 40 : 200, 100000, 1, 1, 0);
}

static void test_subsets(void **state)
{
    (void)state;
    mixed(6, SLOW ? 40 : 200, 100000, 1, 0, 1);
}

/* Small rings: everything is cut into many chunks, and writers wait for room all the time. */
static void test_small_rings(void **state)
{
    (void)state;
    world_shm_max = "3M";
    for (uint32_t ranks = 2; ranks <= 4; ranks++)
        mixed(ranks, SLOW ? 15 : 60, 800000, 1, 1, 1);
    world_shm_max = "256M";
}

/* Staging and results written past the caches: all of them, and results alone. */
static void test_far(void **state)
{
    (void)state;
    for (uint32_t ranks = 2; ranks <= 6; ranks++) {
        struct script script = {.seed = ranks, .delays = 1, .past_caches = 1};
        world_shm_distance = ranks % 2 ? "near" : "far";
        draw_calls(&script, ranks, SLOW ? 30 : 150, 800000, 1);
        run(&script, ranks);
    }
    world_shm_distance = "far";
    mixed(3, SLOW ? 40 : 200, 800000, 1, 1, 1);
    world_shm_distance = "auto";
}

/* Back to back, with the root going round: roots run ahead until credit stops them. */
static void test_rotating_root(void **state)
{
    (void)state;
    one_kind(MANTA_BROADCAST, 3, SLOW ? 200 : 2000, 40);
    one_kind(MANTA_REDUCE, 3, SLOW ? 200 : 2000, 40);
    one_kind(MANTA_BROADCAST, 4, SLOW ? 20 : 100, 100000);
    one_kind(MANTA_REDUCE, 4, SLOW ? 20 : 100, 100000);
    one_kind(MANTA_REDUCE, 3, SLOW ? 60 : 300, 5000);
}

static void test_long_vectors(void **state)
{
    (void)state;
    uint64_t bytes = SLOW ? 3000000 : 9000004;
    for (uint32_t collective = MANTA_ALLREDUCE; collective <= MANTA_REDUCE_SCATTER; collective++) {
        one_kind(collective, 2, 3, bytes);
        one_kind(collective, 3, 2, bytes / 3);
    }
}

/* In two levels: the same bits as in one. Sizes that do not divide the ranks give one level. */
static void test_groups(void **state)
{
    static const struct {
        const char *size;
        uint32_t ranks;
    } nodes[] = {{"2", 2}, {"2", 4}, {"2", 5},  {"2", 6},  {"2", 12},
                 {"4", 8}, {"4", 9}, {"4", 12}, {"8", 24}, {"8", 64}};
    (void)state;
    for (uint32_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
        uint32_t ranks = nodes[i].ranks;
        world_shm_groups = nodes[i].size;
        if (!SLOW || ranks <= 12)
            mixed(ranks, SLOW || ranks > 12 ? 20 : 60, ranks < 9 ? 300000 : 20000, ranks <= 12, 0,
                  ranks % 3 == 0);
    }
    world_shm_groups = "2";
    mixed(4, SLOW ? 40 : 200, 800000, 1, 1, 0);
    world_shm_distance = "far";
    mixed(6, SLOW ? 40 : 200, 800000, 1, 0, 1);
    world_shm_distance = "auto";
    world_shm_groups = "1";
}

static void test_groups_long(void **state)
{
    uint64_t bytes = SLOW ? 700004 : 5000004;
    (void)state;
    world_shm_groups = "2";
    for (uint32_t collective = MANTA_ALLREDUCE; collective <= MANTA_REDUCE_SCATTER; collective++)
        one_kind(collective, 4, 3, bytes);
    one_kind(MANTA_BROADCAST, 4, SLOW ? 100 : 1000, 40);
    one_kind(MANTA_REDUCE, 6, SLOW ? 100 : 1000, 40);
    one_kind(MANTA_ALLREDUCE, 8, SLOW ? 100 : 1000, 40);
    one_kind(MANTA_BARRIER, 8, SLOW ? 100 : 1000, 0);
    world_shm_max = "6M";
    mixed(4, SLOW ? 15 : 60, 800000, 1, 1, 1);
    world_shm_max = "256M";
    world_shm_groups = "1";
}

/* The same from memory that is read in place. */
static void lend(enum arena_lends lends)
{
    arena.lends = lends;
    mixed(2, SLOW ? 30 : 120, 800000, 0, 0, 0);
    for (uint32_t ranks = 2; ranks <= 5; ranks++)
        mixed(ranks, SLOW ? 15 : 60, 300000, 1, 0, 0);
    mixed(3, SLOW ? 15 : 60, 100000, 1, 1, 0);
    mixed(6, SLOW ? 15 : 80, 100000, 1, 0, 1);
    world_shm_max = "3M";
    for (uint32_t ranks = 2; ranks <= 4; ranks++)
        mixed(ranks, SLOW ? 10 : 30, 800000, 1, 1, 1);
    world_shm_max = "256M";
    world_shm_groups = "2";
    mixed(4, SLOW ? 15 : 60, 300000, 1, 0, 1);
    world_shm_groups = "1";
    one_kind(MANTA_BROADCAST, 3, SLOW ? 20 : 100, 100000);
    one_kind(MANTA_REDUCE, 3, SLOW ? 20 : 100, 100000);
    for (uint32_t collective = MANTA_ALLREDUCE; collective <= MANTA_REDUCE_SCATTER; collective++)
        one_kind(collective, 2 + collective % 2, 2, SLOW ? 2000000 : 5000004);
    arena.lends = ARENA_NONE;
}

static void test_all_lent(void **state)
{
    (void)state;
    lend(ARENA_ALL);
}

static void test_some_lent(void **state)
{
    (void)state;
    lend(ARENA_SOME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_ranks),     cmocka_unit_test(test_delays),
        cmocka_unit_test(test_every_size),    cmocka_unit_test(test_sleeping),
        cmocka_unit_test(test_subsets),       cmocka_unit_test(test_small_rings),
        cmocka_unit_test(test_rotating_root), cmocka_unit_test(test_long_vectors),
        cmocka_unit_test(test_far),           cmocka_unit_test(test_groups),
        cmocka_unit_test(test_groups_long),   cmocka_unit_test(test_all_lent),
        cmocka_unit_test(test_some_lent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
