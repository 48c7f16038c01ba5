/* SPDX-License-Identifier: Apache-2.0 */
/* Places of all ranks: there and back however ranks are spread, few bytes for equal nodes, and
 * garbage refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/nodes.h"
#include "core/wire_places.h"

enum { NODES = 1024, PER_NODE = 8, RANKS = NODES * PER_NODE, ROOM = 64 * RANKS + 64 };

static struct mt_member *members; /* [RANKS] */
static uint8_t bytes[ROOM];

static uint64_t state_of_random = 1;

static uint32_t random_below(uint32_t limit)
{
    state_of_random = state_of_random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(state_of_random >> 33) % limit;
}

/* Rank r is the seat-th of its node: two packages of four cores. */
static void sit(uint32_t r, uint32_t node, uint32_t seat)
{
    memset(&members[r], 0, sizeof members[r]);
    members[r].rank = r;
    members[r].node = 1000 + node;
    members[r].boot = 7;
    members[r].place =
        (struct mt_place){0, 0, seat / 4 * 4, seat / 4 * 4, seat / 4 * 4, seat, 100000};
}

static size_t encode(uint32_t ranks)
{
    struct mt_writer writer = {.bytes = bytes, .capacity = sizeof bytes};
    mt_places_put(&writer, members, ranks);
    assert_false(writer.failed);
    assert_true(writer.used <= (size_t)MT_PLACES_RANK_MAX * ranks + MT_PLACES_MORE_MAX);
    return writer.used;
}

/* Decode from memory of exactly that size. 0: taken as a whole. */
static int decode(const uint8_t *from, size_t count, struct mt_member *into, uint32_t ranks)
{
    uint8_t *exact = malloc(count ? count : 1);
    memcpy(exact, from, count);
    struct mt_reader reader = {.bytes = exact, .count = count};
    assert_int_equal(mt_places_get(&reader, into, ranks), 0);
    free(exact);
    return reader.failed || reader.used != count;
}

/* Everybody's places come back; the number of bytes they took. */
static size_t there_and_back(uint32_t ranks)
{
    size_t count = encode(ranks);
    struct mt_member *back = calloc(ranks, sizeof *back);
    for (uint32_t r = 0; r < ranks; r++) {
        back[r].node = members[r].node;
        back[r].boot = members[r].boot;
    }
    assert_int_equal(decode(bytes, count, back, ranks), 0);
    for (uint32_t r = 0; r < ranks; r++)
        assert_memory_equal(&back[r].place, &members[r].place, sizeof back[r].place);
    free(back);
    return count;
}

static void equal_nodes_cost_one_shape_and_a_count(void **state)
{
    (void)state;
    for (uint32_t r = 0; r < RANKS; r++)
        sit(r, r / PER_NODE, r % PER_NODE);
    assert_true(there_and_back(RANKS) < 300);
    for (uint32_t r = 0; r < RANKS; r++)
        sit(r, r % NODES, r / NODES);
    assert_true(there_and_back(RANKS) < 300);
}

static void a_rack_costs_little(void **state)
{
    (void)state;
    for (uint32_t r = 0; r < RANKS; r++) {
        sit(r, r / PER_NODE, r % PER_NODE);
        members[r].place.zone = 5;
        members[r].place.rack = 100 + r / (RANKS / 16);
    }
    assert_true(there_and_back(RANKS) < 300 + 16 * 24);
    /* Every second node has another card. */
    for (uint32_t r = 0; r < RANKS; r++)
        members[r].place.nic_mbits += r / PER_NODE % 2;
    assert_true(there_and_back(RANKS) < 300 + 16 * 24 + 200 + NODES * 8);
}

static void every_spread_comes_back(void **state)
{
    (void)state;
    uint32_t seats[64];
    for (int round = 0; round < 300; round++) {
        uint32_t ranks = 1 + random_below(200), nodes = 1 + random_below(50);
        memset(seats, 0, sizeof seats);
        for (uint32_t r = 0; r < ranks; r++) {
            uint32_t node = random_below(nodes);
            sit(r, node, seats[node]++ % 8);
            if (random_below(10) == 0)
                members[r].place.core = MT_PLACE_NONE;
            if (round % 2)
                members[r].boot = random_below(2);
            members[r].place.zone = random_below(3);
            members[r].place.rack = random_below(3);
        }
        assert_int_equal(mt_places_settle(members, ranks), 0);
        there_and_back(ranks);
    }
}

static void who_disagrees_about_the_node_s_site_is_overruled(void **state)
{
    (void)state;
    for (uint32_t r = 0; r < 6; r++) {
        sit(r, r % 2, r / 2);
        members[r].place.zone = r;
        members[r].place.rack = 10 + r;
    }
    assert_int_equal(mt_places_settle(members, 6), 0);
    for (uint32_t r = 0; r < 6; r++) {
        assert_int_equal(members[r].place.zone, r % 2);
        assert_int_equal(members[r].place.rack, 10 + r % 2);
    }
    there_and_back(6);
}

/* Three nodes of two ranks, the last in another rack. */
static size_t encode_six(void)
{
    for (uint32_t r = 0; r < 6; r++) {
        sit(r, r / 2, r % 2);
        members[r].place.rack = r / 4;
    }
    return encode(6);
}

static void garbage_is_refused(void **state)
{
    (void)state;
    struct mt_member back[6];
    size_t count = encode_six();
    memcpy(back, members, sizeof back);
    for (size_t cut = 0; cut < count; cut++)
        assert_true(decode(bytes, cut, back, 6));
    bytes[count] = 0;
    assert_true(decode(bytes, count + 1, back, 6));
    /* Any bit, and any number replaced by one that is too large, refused or harmless. */
    for (size_t at = 0; at < 8 * count; at++) {
        bytes[at / 8] ^= (uint8_t)(1 << at % 8);
        decode(bytes, count, back, 6);
        bytes[at / 8] ^= (uint8_t)(1 << at % 8);
    }
    for (size_t at = 0; at + 4 <= count; at += 4) {
        uint8_t kept[4];
        memcpy(kept, bytes + at, 4);
        memset(bytes + at, 0xff, 4);
        decode(bytes, count, back, 6);
        memcpy(bytes + at, kept, 4);
    }
    for (int round = 0; round < 2000; round++) {
        uint8_t noise[64];
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (uint8_t)(random_below(4) ? random_below(3) : random_below(256));
        decode(noise, random_below(sizeof noise), back, 1 + random_below(6));
    }
}

/* The numbers of the message: 1 shape {2 seats}, a run, 2 sites, two runs. */
static void counts_that_lie_are_refused(void **state)
{
    (void)state;
    enum { SHAPES = 0, SEATS = 4, RUN = 56, RUN_LENGTH = 60, SITES = 64, SECOND_RUN = 108 };
    const struct {
        size_t at;
        uint8_t lie;
    } lies[] = {{SHAPES, 0},         {SHAPES, 2},        {SHAPES, 4},     {SEATS, 0},
                {SEATS, 1},          {SEATS, 3},         {RUN, 1},        {RUN_LENGTH, 0},
                {RUN_LENGTH, 2},     {RUN_LENGTH, 4},    {SITES, 0},      {SITES, 1},
                {SITES, 3},          {SITES, 4},         {SECOND_RUN, 0}, {SECOND_RUN, 2},
                {SECOND_RUN + 4, 0}, {SECOND_RUN + 4, 2}};
    struct mt_member back[6];
    size_t count = encode_six();
    assert_int_equal(count, SECOND_RUN + 8);
    memcpy(back, members, sizeof back);
    assert_int_equal(decode(bytes, count, back, 6), 0);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        uint8_t kept = bytes[lies[i].at];
        assert_int_not_equal(kept, lies[i].lie);
        bytes[lies[i].at] = lies[i].lie;
        assert_true(decode(bytes, count, back, 6));
        bytes[lies[i].at] = kept;
    }
}

static void nodes_are_those_of_equal_name_and_boot(void **state)
{
    (void)state;
    const uint32_t expected[] = {0, 3, 1, 2, 4}, first[] = {0, 2, 3, 5};
    struct mt_nodes nodes;
    for (uint32_t r = 0; r < 5; r++)
        sit(r, r == 0 || r == 3 ? 9 : 4, 0);
    members[1].boot = 8;
    assert_int_equal(mt_nodes_find(members, 5, &nodes), 0);
    assert_int_equal(nodes.count, 3);
    assert_memory_equal(nodes.first, first, sizeof first);
    assert_memory_equal(nodes.ranks, expected, sizeof expected);
    mt_nodes_free(&nodes);
}

static int make_members(void **state)
{
    (void)state;
    members = calloc(RANKS, sizeof *members);
    return members ? 0 : -1;
}

static int free_members(void **state)
{
    (void)state;
    free(members);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_nodes_cost_one_shape_and_a_count),
        cmocka_unit_test(a_rack_costs_little),
        cmocka_unit_test(every_spread_comes_back),
        cmocka_unit_test(who_disagrees_about_the_node_s_site_is_overruled),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(counts_that_lie_are_refused),
        cmocka_unit_test(nodes_are_those_of_equal_name_and_boot),
    };
    return cmocka_run_group_tests(tests, make_members, free_members);
}
