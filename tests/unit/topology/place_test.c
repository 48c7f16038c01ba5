/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's place as it finds it, and what all make of the places that ranks claim, however mad. */
#include "topology/place.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "topology/host.h"

static void refused(const char *text, const char *word)
{
    struct mt_place place;
    struct mt_error error;
    assert_int_equal(mt_place_parse(text, &place, &error), MANTA_EINVAL);
    if (!strstr(error.sentence, word))
        fail_msg("\"%s\": %s", text, error.sentence);
}

static void sites_are_parsed(void **state)
{
    (void)state;
    struct mt_place a, b;
    struct mt_error error;
    assert_int_equal(mt_place_parse("", &a, &error), 0);
    assert_true(a.zone == 0 && a.rack == 0);
    assert_int_equal(mt_place_parse("zone=a/rack=r12", &a, &error), 0);
    assert_int_equal(mt_place_parse("rack=r12/zone=a", &b, &error), 0);
    assert_true(a.zone && a.rack && a.zone == b.zone && a.rack == b.rack && a.zone != a.rack);
    assert_int_equal(mt_place_parse("rack=3", &b, &error), 0);
    assert_true(b.zone == 0 && b.rack != 0 && b.rack != a.rack);
}

static void wrong_sites_are_refused(void **state)
{
    (void)state;
    char long_name[80] = "rack=";
    memset(long_name + 5, 'x', 64);
    refused("row=3", "\"row=3\" is none of");
    refused("node=3/rack=3", "MANTA_NODE");
    refused("rack", "must be rack=NAME");
    refused("rack=", "must be rack=NAME");
    refused("rack=a=b", "must be rack=NAME");
    refused(long_name, "1 to 63");
    refused("rack=1/rack=2", "rack is named twice");
    refused("zone=1/", "nothing follows");
    refused("/zone=1", "\"\" is none of");
    refused("zone=1//rack=2", "\"\" is none of");
    refused(" rack=1", "\" rack=1\"");
    refused("RACK=1", "\"RACK=1\"");
}

static void the_environment_is_named(void **state)
{
    (void)state;
    struct mt_place place;
    struct mt_error error;
    setenv("MANTA_PLACEMENT", "shelf=2", 1);
    assert_int_equal(mt_place_of_thread(&place, &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "MANTA_PLACEMENT: \"shelf=2\""));
    setenv("MANTA_PLACEMENT", "rack=2", 1);
    assert_int_equal(mt_place_of_thread(&place, &error), 0);
    assert_true(place.rack != 0);
    unsetenv("MANTA_PLACEMENT");
}

/* On one CPU a rank has a place at every level; on all of the host, of all that it spans none. */
static void bound_ranks_have_a_place(void **state)
{
    (void)state;
    struct mt_place free_place, bound;
    struct mt_error error;
    cpu_set_t all, one;
    int cpu = 0;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_int_equal(mt_place_of_thread(&free_place, &error), 0);
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(mt_place_of_thread(&bound, &error), 0);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_true(bound.core <= (uint32_t)cpu && bound.l3 <= bound.core);
    assert_true(bound.numa != MT_PLACE_NONE && bound.package != MT_PLACE_NONE);
    assert_true(free_place.package == MT_PLACE_NONE || free_place.package == bound.package);
    assert_true(free_place.l3 == MT_PLACE_NONE || free_place.l3 == bound.l3);
    if (CPU_COUNT(&all) > 2) /* a core has two CPUs at most, on most hosts */
        assert_true(free_place.core == MT_PLACE_NONE || CPU_COUNT(&all) <= 8);
}

enum { MOST = 12 };
static struct mt_member members[MOST];

static void sit(uint32_t r, uint64_t node, struct mt_place place)
{
    members[r] = (struct mt_member){.rank = r, .node = node, .boot = 1, .place = place};
}

static struct mt_topology *make(uint32_t ranks)
{
    struct mt_topology *topology;
    assert_int_equal(mt_topology_of_members(members, ranks, &topology), 0);
    for (int level = 0; level + 1 < MT_LEVELS; level++)
        for (uint32_t a = 0; a < ranks; a++)
            for (uint32_t b = 0; b < ranks; b++)
                if (topology->group[level][a] == topology->group[level][b])
                    assert_int_equal(topology->group[level + 1][a], topology->group[level + 1][b]);
    return topology;
}

static void ranks_meet_where_they_say(void **state)
{
    (void)state;
    /* Two nodes, each of two packages; the fifth rank is in another rack. */
    sit(0, 1, (struct mt_place){0, 9, 0, 0, 0, 0, 25000});
    sit(1, 1, (struct mt_place){0, 9, 0, 0, 0, 1, 25000});
    sit(2, 1, (struct mt_place){0, 9, 4, 4, 4, 4, 25000});
    sit(3, 2, (struct mt_place){0, 9, 0, 0, 0, 0, 10000});
    sit(4, 3, (struct mt_place){0, 8, 0, 0, 0, 0, 25000});
    struct mt_topology *topology = make(5);
    assert_int_equal(mt_topology_meet(topology, 0, 1), MT_LEVEL_L3);
    assert_int_equal(mt_topology_meet(topology, 0, 2), MT_LEVEL_NODE);
    assert_int_equal(mt_topology_meet(topology, 0, 3), MT_LEVEL_RACK);
    assert_int_equal(mt_topology_meet(topology, 3, 4), MT_LEVEL_ZONE);
    assert_int_equal(topology->groups[MT_LEVEL_NODE], 3);
    assert_int_equal(topology->groups[MT_LEVEL_RACK], 2);
    assert_int_equal(topology->uplink_ps_per_byte[MT_LEVEL_NODE], 800); /* 10 Gbit/s */
    mt_topology_free(topology);
}

static void who_spans_several_shares_none(void **state)
{
    (void)state;
    const uint32_t none = MT_PLACE_NONE;
    sit(0, 1, (struct mt_place){0, 0, 0, none, none, none, 0});
    sit(1, 1, (struct mt_place){0, 0, 0, none, none, none, 0});
    sit(2, 1, (struct mt_place){0, 0, none, none, none, none, 0});
    sit(3, 1, (struct mt_place){0, 0, 0, 0, none, none, 0});
    struct mt_topology *topology = make(4);
    assert_int_equal(mt_topology_meet(topology, 0, 1), MT_LEVEL_PACKAGE);
    assert_int_equal(mt_topology_meet(topology, 1, 3), MT_LEVEL_PACKAGE);
    assert_int_equal(mt_topology_meet(topology, 1, 2), MT_LEVEL_NODE);
    assert_int_equal(topology->groups[MT_LEVEL_CORE], 4);
    assert_int_equal(topology->uplink_ps_per_byte[MT_LEVEL_NODE], 0);
    mt_topology_free(topology);
}

/* Two on one core share it. One rank's claims that cannot be leave the others where they are. */
static void contradictions_harm_nobody_else(void **state)
{
    (void)state;
    for (uint32_t r = 0; r < 4; r++)
        sit(r, 1, (struct mt_place){1, 2, 0, 0, 0, r / 2, 0});
    struct mt_topology *topology = make(4);
    assert_int_equal(mt_topology_meet(topology, 0, 1), MT_LEVEL_CORE);
    mt_topology_free(topology);
    /* On the core of others, but in another L3; and in a rack and zone of its own. */
    sit(3, 1, (struct mt_place){7, 8, 0, 0, 5, 0, 0});
    topology = make(4);
    assert_int_equal(mt_topology_meet(topology, 0, 1), MT_LEVEL_CORE);
    assert_int_equal(mt_topology_meet(topology, 0, 2), MT_LEVEL_L3);
    assert_int_equal(mt_topology_meet(topology, 0, 3), MT_LEVEL_NUMA);
    assert_int_equal(topology->groups[MT_LEVEL_RACK], 1);
    mt_topology_free(topology);
    /* A rack of one name in two zones is two racks. */
    sit(3, 2, (struct mt_place){7, 2, 0, 0, 0, 0, 0});
    topology = make(4);
    assert_int_equal(topology->groups[MT_LEVEL_RACK], 2);
    assert_int_equal(mt_topology_meet(topology, 0, 3), MT_LEVEL_CLUSTER);
    mt_topology_free(topology);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sites_are_parsed),
        cmocka_unit_test(wrong_sites_are_refused),
        cmocka_unit_test(the_environment_is_named),
        cmocka_unit_test(bound_ranks_have_a_place),
        cmocka_unit_test(ranks_meet_where_they_say),
        cmocka_unit_test(who_spans_several_shares_none),
        cmocka_unit_test(contradictions_harm_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
