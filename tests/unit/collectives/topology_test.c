/* SPDX-License-Identifier: Apache-2.0 */
/* A communicator knows where its ranks sit, the same on all of them, and so does a part of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collectives/comm.h"
#include "tests/support/ranks.h"

enum { RANKS = 6, NODES = 3 };

static uint64_t sum_of(const struct mt_topology *topology)
{
    uint64_t sum = topology->ranks;
    for (int level = 0; level < MT_LEVELS; level++) {
        sum = sum * 31 + topology->groups[level];
        sum = sum * 31 + topology->links[level].alpha_ns;
        sum = sum * 31 + topology->uplink_ps_per_byte[level];
        for (uint32_t r = 0; r < topology->ranks; r++)
            sum = sum * 31 + topology->group[level][r];
    }
    return sum;
}

/* All ranks have the same: none is above the greatest, or below the least. */
static int check_same(struct manta_comm *comm)
{
    uint64_t sum = sum_of(comm->topology), most = 0, least = 0;
    if (manta_allreduce(comm, &sum, &most, 1, MANTA_UINT64, MANTA_MAX) ||
        manta_allreduce(comm, &sum, &least, 1, MANTA_UINT64, MANTA_MIN))
        return rank_fail(comm, "allreduce");
    return most == least ? 0 : rank_fail(comm, "the ranks' topologies differ");
}

static int check_nodes(struct manta_comm *comm, uint32_t nodes)
{
    if (comm->topology->groups[MT_LEVEL_NODE] != nodes)
        return rank_fail(comm, "%u nodes, not %u", comm->topology->groups[MT_LEVEL_NODE], nodes);
    for (uint32_t r = 0; r < comm->ranks; r++)
        if (comm->nodes[r] != comm->topology->group[MT_LEVEL_NODE][r])
            return rank_fail(comm, "node of rank %u", r);
    return 0;
}

static int whole_and_part(struct manta_comm *comm, void *arg)
{
    struct manta_comm *part = NULL;
    int rank = manta_comm_rank(comm);
    (void)arg;
    if (check_nodes(comm, NODES) || check_same(comm))
        return 1;
    /* Backwards, and without the last node. */
    int is_in = rank < 4;
    if (manta_comm_split(comm, is_in ? 1 : -1, -rank, &part))
        return rank_fail(comm, "split");
    if (!is_in)
        return 0;
    int failed = check_nodes(part, 2) || check_same(part);
    const struct mt_topology *topology = part->topology;
    for (uint32_t r = 0; r < 4 && !failed; r++)
        failed = topology->group[MT_LEVEL_NODE][r] != r / 2 ||
                 mt_topology_meet(topology, r, r) != MT_LEVEL_CORE;
    manta_comm_destroy(part);
    return failed ? rank_fail(comm, "the part's topology") : 0;
}

static void all_ranks_have_the_same(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = RANKS, .nodes = NODES};
    assert_int_equal(ranks_run(&options, whole_and_part, NULL), 0);
}

static int count_racks(struct manta_comm *comm, void *arg)
{
    const uint32_t *racks = arg;
    return comm->topology->groups[MT_LEVEL_RACK] == *racks ? 0 : rank_fail(comm, "racks");
}

static void placement_is_read(void **state)
{
    (void)state;
    uint32_t racks = 1;
    const struct ranks_options options = {.ranks = 2};
    setenv("MANTA_PLACEMENT", "zone=a/rack=7", 1);
    assert_int_equal(ranks_run(&options, count_racks, &racks), 0);
    setenv("MANTA_PLACEMENT", "rack", 1);
    assert_int_equal(ranks_run(&options, count_racks, &racks), 2);
    unsetenv("MANTA_PLACEMENT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_ranks_have_the_same),
        cmocka_unit_test(placement_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
