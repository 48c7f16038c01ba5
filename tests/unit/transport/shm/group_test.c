/* SPDX-License-Identifier: Apache-2.0 */
/* Which groups are made of ranks, by the caches that they are behind, and by what is asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/transport/shm/world.h"
#include "transport/shm/group.h"

enum { MOST = 128 };

/* `count` ranks, `each` after the other behind one cache. */
static uint32_t find(uint32_t count, uint32_t each)
{
    uint32_t l3s[MOST];
    for (uint32_t i = 0; i < count; i++)
        l3s[i] = i / each * 8;
    return mt_shm_groups_find(l3s, count);
}

static void groups_are_blocks_behind_one_cache(void **state)
{
    (void)state;
    assert_int_equal(find(64, 8), 8);
    assert_int_equal(find(96, 8), 8);
    assert_int_equal(find(128, 16), 16);
    assert_int_equal(find(112, 56), 8); /* 16 do not divide the first 56 */
    assert_int_equal(find(64, 32), 32);
    assert_int_equal(find(36, 12), 4);
    assert_int_equal(find(48, 6), 2);
}

static void others_are_one_group(void **state)
{
    (void)state;
    assert_int_equal(find(2, 1), 1);
    assert_int_equal(find(16, 8), 1);  /* few */
    assert_int_equal(find(64, 64), 1); /* one cache */
    assert_int_equal(find(64, 7), 1);  /* blocks of two lie behind two */
    assert_int_equal(find(33, 11), 1); /* odd */
    assert_int_equal(find(64, 1), 1);  /* a cache for each */
}

/* Ranks in turn go to different caches, or may run behind several: then no block shares one. */
static void scattered_ranks_are_one_group(void **state)
{
    uint32_t l3s[64];
    (void)state;
    for (uint32_t i = 0; i < 64; i++)
        l3s[i] = i % 2;
    assert_int_equal(mt_shm_groups_find(l3s, 64), 1);
    for (uint32_t i = 0; i < 64; i++)
        l3s[i] = i / 8;
    assert_int_equal(mt_shm_groups_find(l3s, 64), 8);
    l3s[63] = UINT32_MAX;
    assert_int_equal(mt_shm_groups_find(l3s, 64), 1);
    for (uint32_t i = 0; i < 64; i++)
        l3s[i] = UINT32_MAX;
    assert_int_equal(mt_shm_groups_find(l3s, 64), 1);
}

static void sizes_that_are_asked_for_must_divide(void **state)
{
    (void)state;
    assert_int_equal(mt_shm_groups_fit(4, 8), 4);
    assert_int_equal(mt_shm_groups_fit(4, 12), 4);
    assert_int_equal(mt_shm_groups_fit(4, 4), 1);
    assert_int_equal(mt_shm_groups_fit(4, 2), 1);
    assert_int_equal(mt_shm_groups_fit(4, 6), 1);
    assert_int_equal(mt_shm_groups_fit(1, 6), 1);
}

static const char *given;

static const char *config(const char *variable)
{
    return strcmp(variable, "SHM_GROUPS") == 0 ? given : NULL;
}

static void only_powers_of_two_are_asked_for(void **state)
{
    static const char *const wrong[] = {"",   "0",  "3",   "-2",         "+2",
                                        " 2", "2x", "two", "4294967296", "18446744073709551617"};
    struct manta_transport_host host = *mt_transport_host();
    uint32_t size;
    (void)state;
    host.config = config;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        given = wrong[i];
        assert_int_equal(mt_shm_groups_parse(&host, &size), MANTA_EINVAL);
    }
    given = "auto";
    assert_int_equal(mt_shm_groups_parse(&host, &size), 0);
    assert_int_equal(size, 0);
    given = "16";
    assert_int_equal(mt_shm_groups_parse(&host, &size), 0);
    assert_int_equal(size, 16);
}

enum { RANKS = 32 };

/* The team of all ranks, and what is told of it, also of distances that were measured. */
static void assert_told(struct mt_shm_endpoint *endpoint)
{
    struct manta_transport_properties known = {.size = sizeof(known)};
    struct manta_plan_fused_member members[RANKS];
    const struct manta_plan_fused all = {
        .collective = MANTA_BARRIER, .member_count = RANKS, .members = members};
    struct mt_shm_team *team;
    for (uint32_t r = 0; r < RANKS; r++)
        members[r] = (struct manta_plan_fused_member){.rank = r};
    assert_int_equal(mt_shm_team_get(endpoint, &all, &team), 0);
    assert_non_null(team->group);
    for (int i = 0; i < 100; i++)
        mt_shm_distance_note_ns(&endpoint->teams[MT_SHM_SLOT_RAIL]->distance, 250);
    assert_int_equal(mt_transport_shm.probe(endpoint, RANKS - 1, &known), 0);
    assert_string_equal(known.reason, "on this host, of the same user; in groups of 4; a cache "
                                      "line takes 250 ns between (far)");
}

/* What the ranks offer decides, alike on all of them. */
static void offers_make_groups(void **state)
{
    static uint8_t blobs[RANKS][MANTA_TRANSPORT_ADDRESS_MAX];
    const void *addresses[RANKS];
    size_t bytes[RANKS];
    struct world world;
    (void)state;
    world_shm_groups = "auto";
    assert_int_equal(world_open(&world, RANKS), 0);
    for (uint32_t r = 0; r < RANKS; r++) {
        assert_int_equal(mt_transport_shm.address(world.endpoints[r], blobs[r],
                                                  MANTA_TRANSPORT_ADDRESS_MAX, &bytes[r]),
                         0);
        const uint32_t l3 = r / 4;
        memcpy(blobs[r] + bytes[r] - sizeof(l3), &l3, sizeof(l3));
        addresses[r] = blobs[r];
    }
    for (uint32_t r = 0; r < RANKS; r++) {
        assert_int_equal(mt_transport_shm.peers(world.endpoints[r], addresses, bytes), 0);
        assert_int_equal(world.endpoints[r]->group_ranks, 4);
    }
    assert_told(world.endpoints[0]);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_are_blocks_behind_one_cache),
        cmocka_unit_test(others_are_one_group),
        cmocka_unit_test(scattered_ranks_are_one_group),
        cmocka_unit_test(sizes_that_are_asked_for_must_divide),
        cmocka_unit_test(only_powers_of_two_are_asked_for),
        cmocka_unit_test(offers_make_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
