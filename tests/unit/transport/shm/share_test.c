/* SPDX-License-Identifier: Apache-2.0 */
/* Who shares memory with whom, from offers that say who was reached: both sides of a pair decide
 * alike, and all members of a fused step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/transport/shm/world.h"

enum { RANKS = 4, MAGIC_BYTES = 4, CACHE_BYTES = 4, OFFER_BYTES = MAGIC_BYTES + 1 + CACHE_BYTES };

struct offers {
    uint8_t blobs[RANKS][MANTA_TRANSPORT_ADDRESS_MAX];
    size_t bytes[RANKS];
};

static void collect(struct world *world, struct offers *offers)
{
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(mt_transport_shm.address(world->endpoints[r], offers->blobs[r],
                                                  MANTA_TRANSPORT_ADDRESS_MAX, &offers->bytes[r]),
                         0);
        assert_int_equal(offers->bytes[r], OFFER_BYTES);
    }
}

static void exchange(struct world *world, const struct offers *offers)
{
    const void *addresses[RANKS];
    for (int r = 0; r < RANKS; r++)
        addresses[r] = offers->blobs[r];
    for (int r = 0; r < RANKS; r++)
        assert_int_equal(mt_transport_shm.peers(world->endpoints[r], addresses, offers->bytes), 0);
}

/* `from` did not reach `to`. */
static void forget(struct offers *offers, int from, int to)
{
    offers->blobs[from][MAGIC_BYTES] &= (uint8_t) ~(1 << to);
}

static int reaches(struct world *world, uint32_t from, uint32_t to)
{
    struct manta_transport_properties properties = {.size = sizeof(properties)};
    struct manta_transport_error error = {.size = sizeof(error)};
    char name[16];
    int code = mt_transport_shm.probe(world->endpoints[from], to, &properties);
    if (code == 0)
        return 1;
    snprintf(name, sizeof(name), "rank %u", to);
    mt_transport_shm.error(world->endpoints[from], &error);
    assert_int_equal(code, MANTA_ENOTSUP);
    assert_int_equal(error.peer, to);
    assert_non_null(strstr(error.sentence, name));
    return 0;
}

static void assert_pairs(struct world *world, const char *const wanted[RANKS])
{
    for (uint32_t a = 0; a < RANKS; a++)
        for (uint32_t b = 0; b < RANKS; b++)
            if (a != b)
                assert_int_equal(reaches(world, a, b), wanted[a][b] == '1');
}

/* What each member says to a barrier of the ranks of `mask`: all the same. */
static int fused(struct world *world, unsigned mask)
{
    struct manta_plan_fused_member members[RANKS];
    struct manta_plan_fused step = {.collective = MANTA_BARRIER,
                                    .root = MANTA_PLAN_NONE,
                                    .order = MANTA_PLAN_ORDER_BINARY,
                                    .members = members};
    int answer = 1;
    for (uint32_t r = 0; r < RANKS; r++)
        if (mask >> r & 1)
            members[step.member_count++] = (struct manta_plan_fused_member){.rank = r};
    for (uint32_t i = 0; i < step.member_count; i++) {
        int code = mt_transport_shm.fused_query(world->endpoints[members[i].rank], &step);
        assert_true(answer == 1 || code == answer);
        answer = code;
    }
    return answer == 0;
}

static void all_share(void **state)
{
    static const char *const pairs[] = {"-111", "1-11", "11-1", "111-"};
    struct world world;
    struct offers offers;
    (void)state;
    assert_int_equal(world_open(&world, RANKS), 0);
    collect(&world, &offers);
    exchange(&world, &offers);
    assert_pairs(&world, pairs);
    assert_true(fused(&world, 0xf));
    world_close(&world);
}

/* Rank 1 did not reach rank 2, which reached it: neither uses what would work one way. */
static void one_way_is_no_way(void **state)
{
    static const char *const pairs[] = {"-111", "1-01", "10-1", "111-"};
    for (int turned = 0; turned < 2; turned++) {
        struct world world;
        struct offers offers;
        (void)state;
        assert_int_equal(world_open(&world, RANKS), 0);
        collect(&world, &offers);
        forget(&offers, turned ? 2 : 1, turned ? 1 : 2);
        exchange(&world, &offers);
        assert_pairs(&world, pairs);
        for (unsigned mask = 1; mask < 1 << RANKS; mask++)
            assert_int_equal(fused(&world, mask), (mask & 6) != 6);
        world_close(&world);
    }
}

static void who_offers_nothing_is_left_out(void **state)
{
    static const char *const pairs[] = {"-101", "1-01", "00-0", "110-"};
    static const uint8_t others[][OFFER_BYTES] = {"shm1", "\377\377\377\377", ""};
    static const size_t lengths[] = {4, 5, 0, 6, 1024};
    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct world world;
        struct offers offers;
        assert_int_equal(world_open(&world, RANKS), 0);
        collect(&world, &offers);
        if (i < sizeof(others) / sizeof(others[0]))
            memcpy(offers.blobs[2], others[i], OFFER_BYTES);
        offers.bytes[2] = lengths[i];
        exchange(&world, &offers);
        assert_pairs(&world, pairs);
        assert_false(fused(&world, 0xf));
        assert_true(fused(&world, 0xb));
        world_close(&world);
    }
}

static void facts_keep_ranks_apart(void **state)
{
    struct mt_member members[RANKS] = {
        {.rank = 0, .node = 1, .boot = 1, .net_namespace = 5, .uid = 9},
        {.rank = 1, .node = 2, .boot = 1, .net_namespace = 5, .uid = 9},
        {.rank = 2, .node = 1, .boot = 1, .net_namespace = 6, .uid = 9},
        {.rank = 3, .node = 1, .boot = 1, .net_namespace = 5, .uid = 8}};
    const struct mt_group group = {.ranks = RANKS, .members = members};
    (void)state;
    for (uint32_t a = 0; a < RANKS; a++)
        for (uint32_t b = 0; b < RANKS; b++)
            assert_int_equal(mt_shm_may_share(&group, a, b), a == b);
    members[2].net_namespace = 5;
    assert_true(mt_shm_may_share(&group, 0, 2));
    members[2].boot = 2;
    assert_false(mt_shm_may_share(&group, 0, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_share),
        cmocka_unit_test(one_way_is_no_way),
        cmocka_unit_test(who_offers_nothing_is_left_out),
        cmocka_unit_test(facts_keep_ranks_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
