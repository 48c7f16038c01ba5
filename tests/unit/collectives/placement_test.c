/* SPDX-License-Identifier: Apache-2.0 */
/* Prices of placements: near is cheaper than far, what does not exist is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <manta/scheduler.h>

static const char line[] = "rack:4@100Gbit/s,5us,oversub=4 node:4@100Gbit/s,2us ranks:4";
static const struct manta_placement_call calls[] = {
    {sizeof(struct manta_placement_call), MANTA_ALLREDUCE, 16 << 20, 1},
    {sizeof(struct manta_placement_call), MANTA_BROADCAST, 1 << 10, 10}};

static struct manta_placement placement_of(const uint32_t *nodes, uint32_t count)
{
    return (struct manta_placement){.size = sizeof(struct manta_placement),
                                    .cluster = line,
                                    .nodes = nodes,
                                    .node_count = count,
                                    .calls = calls,
                                    .call_count = 2};
}

static uint64_t price(const struct manta_placement *placement)
{
    struct manta_error_info info = {.size = sizeof(info)};
    uint64_t ns = 0;
    if (manta_placement_cost(placement, &ns)) {
        manta_comm_error(NULL, &info);
        fail_msg("%s", info.sentence);
    }
    assert_true(ns > 0);
    return ns;
}

static void near_is_cheaper(void **state)
{
    const uint32_t one_rack[4] = {0, 1, 2, 3}, others[4] = {12, 13, 14, 15},
                   apart[4] = {0, 5, 10, 15};
    struct manta_placement near = placement_of(one_rack, 4), far = placement_of(apart, 4);
    (void)state;
    assert_true(price(&near) < price(&far));
    struct manta_placement alike = placement_of(others, 4);
    assert_int_equal(price(&near), price(&alike));
    /* Four ranks fit on one node, and then it does not matter which others there are. */
    near.ranks = far.ranks = 4;
    assert_int_equal(price(&near), price(&far));
}

/* Where cards write, calls are priced as the library prices its plans there. */
static void rdma_is_cheaper(void **state)
{
    const uint32_t nodes[2] = {0, 1};
    struct manta_placement plain = placement_of(nodes, 2), rdma = plain, said = plain;
    (void)state;
    plain.cluster = "node:4 ranks:4";
    rdma.cluster = "node:4 ranks:4 net=rdma";
    said.cluster = "net=rdma node:4@100Gbit/s,1500ns,core=1000ns ranks:4";
    assert_true(price(&rdma) < price(&plain));
    assert_true(price(&said) >= price(&rdma)); /* whose nodes have as much, but for an uplink */
}

static void the_sum_of_calls_counts(void **state)
{
    const uint32_t nodes[2] = {3, 7};
    struct manta_placement both = placement_of(nodes, 2), one = both, other = both;
    (void)state;
    one.call_count = 1;
    other.call_count = 1;
    other.calls = &calls[1];
    assert_int_equal(price(&both), price(&one) + price(&other));
    struct manta_placement_call once = {sizeof(once), MANTA_BROADCAST, 1 << 10, 0};
    one.calls = &once;
    assert_int_equal(price(&other), 10 * price(&one));
    const struct manta_placement_call endless = {sizeof(endless), MANTA_ALLREDUCE, UINT64_MAX / 64,
                                                 UINT64_MAX};
    one.calls = &endless;
    assert_int_equal(price(&one), UINT64_MAX / 2);
}

static void refuse(const struct manta_placement *placement, const char *words)
{
    struct manta_error_info info = {.size = sizeof(info)};
    uint64_t ns;
    assert_int_equal(manta_placement_cost(placement, &ns), MANTA_EINVAL);
    manta_comm_error(NULL, &info);
    if (!strstr(info.sentence, words))
        fail_msg("'%s' does not tell of '%s'", info.sentence, words);
}

static void what_does_not_exist_is_refused(void **state)
{
    const uint32_t twice[2] = {1, 1}, none[1] = {16}, good[1] = {2};
    struct manta_placement p = placement_of(twice, 2);
    uint64_t ns;
    (void)state;
    refuse(&p, "node 1 is there twice");
    p = placement_of(none, 1);
    refuse(&p, "no node 16");
    p = placement_of(good, 1);
    p.ranks = 5;
    refuse(&p, "room for 4");
    p = placement_of(good, 1);
    p.cluster = "rack:many";
    refuse(&p, "many");
    p = placement_of(good, 1);
    p.size = 8;
    refuse(&p, "size");
    p = placement_of(good, 0);
    refuse(&p, "needs");
    p = placement_of(NULL, 1);
    refuse(&p, "needs");
    const struct manta_placement_call pair = {sizeof(pair), MANTA_SEND, 8, 1};
    p = placement_of(good, 1);
    p.calls = &pair;
    refuse(&p, "call 0");
    struct manta_placement_call old = calls[0];
    old.size -= 8;
    p.calls = &old;
    refuse(&p, "call 0's size");
    refuse(NULL, "NULL");
    p = placement_of(good, 1);
    assert_int_equal(manta_placement_cost(&p, NULL), MANTA_EINVAL);
    assert_int_equal(manta_placement_cost(&p, &ns), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_is_cheaper),
        cmocka_unit_test(rdma_is_cheaper),
        cmocka_unit_test(the_sum_of_calls_counts),
        cmocka_unit_test(what_does_not_exist_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
