/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/place.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/config.h"
#include "core/host.h"
#include "core/nodes.h"
#include "topology/devices.h"
#include "topology/host.h"

enum { NAME_MAX_BYTES = 63 };

static uint32_t nic_mbits;
static pthread_once_t nics_once = PTHREAD_ONCE_INIT;

static void read_nics(void)
{
    struct mt_devices *devices = malloc(sizeof *devices);
    if (!devices)
        return;
    mt_devices_read("", devices);
    nic_mbits = mt_devices_mbits(devices);
    free(devices);
}

static int parse_part(const char *part, size_t length, struct mt_place *place,
                      struct mt_error *error)
{
    const char *equals = memchr(part, '=', length);
    size_t key = equals ? (size_t)(equals - part) : length;
    uint64_t *target = NULL;
    if (key == 4 && memcmp(part, "zone", key) == 0)
        target = &place->zone;
    else if (key == 4 && memcmp(part, "rack", key) == 0)
        target = &place->rack;
    if (!target)
        return mt_error_set(error, MANTA_EINVAL,
                            "\"%.*s\" is none of zone=NAME and rack=NAME, e.g. zone=a/rack=r12 "
                            "(a node's name is in MANTA_NODE)",
                            (int)(length < 80 ? length : 80), part);
    if (!equals || length - key - 1 < 1 || length - key - 1 > NAME_MAX_BYTES ||
        memchr(equals + 1, '=', length - key - 1))
        return mt_error_set(error, MANTA_EINVAL,
                            "\"%.*s\" must be %.4s=NAME, with a name of 1 to %d characters without "
                            "= and /",
                            (int)(length < 80 ? length : 80), part, part, NAME_MAX_BYTES);
    if (*target)
        return mt_error_set(error, MANTA_EINVAL, "%.4s is named twice", part);
    *target = mt_host_hash(equals + 1, length - key - 1);
    return 0;
}

int mt_place_parse(const char *text, struct mt_place *place, struct mt_error *error)
{
    int rc = 0;
    place->zone = place->rack = 0;
    while (*text && rc == 0) {
        size_t length = strcspn(text, "/");
        rc = parse_part(text, length, place, error);
        text += length;
        if (rc == 0 && *text == '/' && *++text == 0)
            rc = mt_error_set(error, MANTA_EINVAL, "nothing follows the last /");
    }
    return rc;
}

int mt_place_of_site(struct mt_place *place, struct mt_error *error)
{
    struct mt_error cause;
    if (mt_place_parse(mt_config_string(MT_VAR(PLACEMENT)), place, &cause) == 0)
        return 0;
    return mt_error_set(error, MANTA_EINVAL, "MANTA_PLACEMENT: %.400s", cause.sentence);
}

int mt_place_of_thread(struct mt_place *place_out, struct mt_error *error)
{
    struct mt_cpus cpus;
    mt_cpus_of_thread(&cpus);
    pthread_once(&nics_once, read_nics);
    *place_out = (struct mt_place){.package = mt_host_unit(MT_LEVEL_PACKAGE, &cpus),
                                   .numa = mt_host_unit(MT_LEVEL_NUMA, &cpus),
                                   .l3 = mt_host_unit(MT_LEVEL_L3, &cpus),
                                   .core = mt_host_unit(MT_LEVEL_CORE, &cpus),
                                   .nic_mbits = nic_mbits};
    return mt_place_of_site(place_out, error);
}

int mt_place_numa_of_thread(void)
{
    struct mt_cpus cpus;
    unsigned int cpu, node;
    mt_cpus_of_thread(&cpus);
    if (mt_host_unit(MT_LEVEL_NUMA, &cpus) == MT_PLACE_NONE ||
        syscall(SYS_getcpu, &cpu, &node, NULL) != 0)
        return -1;
    return (int)node;
}

/* Who has none of its own at a level is told apart from all others. */
static uint64_t key(uint32_t unit, uint32_t rank)
{
    return unit == MT_PLACE_NONE ? UINT64_C(1) << 32 | rank : unit;
}

static void fill_keys(const struct mt_member *members, const struct mt_nodes *nodes, uint32_t ranks,
                      uint64_t *keys)
{
    uint64_t *column[MT_LEVELS];
    for (int level = 0; level < MT_LEVELS; level++)
        column[level] = keys + (size_t)level * ranks;
    for (uint32_t n = 0; n < nodes->count; n++) {
        const struct mt_place *site = &members[nodes->ranks[nodes->first[n]]].place;
        for (uint32_t i = nodes->first[n]; i < nodes->first[n + 1]; i++) {
            uint32_t r = nodes->ranks[i];
            const struct mt_place *place = &members[r].place;
            column[MT_LEVEL_ZONE][r] = site->zone;
            column[MT_LEVEL_RACK][r] = site->rack;
            column[MT_LEVEL_NODE][r] = n;
            column[MT_LEVEL_PACKAGE][r] = key(place->package, r);
            column[MT_LEVEL_NUMA][r] = key(place->numa, r);
            column[MT_LEVEL_L3][r] = key(place->l3, r);
            column[MT_LEVEL_CORE][r] = key(place->core, r);
        }
    }
}

/* What the slowest node's cards carry; no limit if one node does not tell. */
static uint64_t slowest_ps_per_byte(const struct mt_member *members, const struct mt_nodes *nodes)
{
    uint64_t slowest = UINT64_MAX;
    for (uint32_t n = 0; n < nodes->count; n++) {
        const struct mt_place *place = &members[nodes->ranks[nodes->first[n]]].place;
        slowest = place->nic_mbits < slowest ? place->nic_mbits : slowest;
    }
    return slowest == 0 ? 0 : (UINT64_C(8000000) + slowest - 1) / slowest;
}

int mt_topology_of_members(const struct mt_member *members, uint32_t ranks,
                           struct mt_topology **topology_out)
{
    struct mt_nodes nodes;
    const uint64_t *columns[MT_LEVELS];
    uint64_t *keys = calloc((size_t)ranks * MT_LEVELS, sizeof *keys);
    *topology_out = NULL;
    if (!keys || mt_nodes_find(members, ranks, &nodes)) {
        free(keys);
        return MANTA_ENOMEM;
    }
    fill_keys(members, &nodes, ranks, keys);
    for (int level = 0; level < MT_LEVELS; level++)
        columns[level] = keys + (size_t)level * ranks;
    int rc = mt_topology_of_keys(ranks, columns, topology_out);
    if (rc == 0)
        (*topology_out)->uplink_ps_per_byte[MT_LEVEL_NODE] = slowest_ps_per_byte(members, &nodes);
    mt_nodes_free(&nodes);
    free(keys);
    return rc;
}
