/* SPDX-License-Identifier: Apache-2.0 */
/* What fails in a simulation: dead=node:3, slow=rank:5x0.01. */
#include "tools/manta/simulate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int refuse(const char *text, size_t length)
{
    fprintf(stderr,
            "manta simulate: --fail: '%.*s' is no failure; write dead=LEVEL:NUMBER or "
            "slow=LEVEL:NUMBERxPART, such as dead=node:3 or slow=rank:5x0.01\n",
            (int)length, text);
    return -1;
}

/* "rank", or the name of a level; -1: neither. */
static int parse_level(const char *text, size_t length)
{
    if (length == 4 && strncmp(text, "rank", length) == 0)
        return MT_LEVEL_CORE;
    for (int level = MT_LEVEL_L3; level < MT_LEVEL_CLUSTER; level++) {
        const char *name = mt_level_name((enum mt_level)level);
        if (strlen(name) == length && strncmp(text, name, length) == 0)
            return level;
    }
    return -1;
}

/* The part of the speed that is left, up to the end of the item. */
static int parse_part(const char *text, const char *end, uint64_t *ppm_out)
{
    char *stop;
    double part = strtod(text, &stop);
    if (stop != end || !(part >= 1e-6 && part <= 1))
        return -1;
    *ppm_out = (uint64_t)(part * 1e6 + 0.5);
    return 0;
}

static int parse_item(const char *text, size_t length, struct mt_simulate_fault *fault)
{
    const char *end = text + length, *name = text + 5, *colon = memchr(text, ':', length);
    char *stop;
    *fault = (struct mt_simulate_fault){.dead = strncmp(text, "dead=", 5) == 0};
    if (length < 6 || colon == NULL || colon < name ||
        (!fault->dead && strncmp(text, "slow=", 5) != 0))
        return -1;
    int level = parse_level(name, (size_t)(colon - name));
    if (level < 0 || colon[1] < '0' || colon[1] > '9')
        return -1;
    unsigned long index = strtoul(colon + 1, &stop, 10);
    if (index > UINT32_MAX)
        return -1;
    fault->level = (enum mt_level)level;
    fault->index = (uint32_t)index;
    if (fault->dead)
        return stop == end ? 0 : -1;
    return *stop == 'x' ? parse_part(stop + 1, end, &fault->ppm) : -1;
}

static int exists(const struct simulation *simulation, const struct mt_simulate_fault *fault)
{
    uint32_t count = simulation->options->ranks;
    if (fault->level != MT_LEVEL_CORE)
        count = simulation->topology->groups[fault->level];
    return fault->index < count && (fault->dead || fault->level == MT_LEVEL_CORE ||
                                    simulation->topology->uplink_ps_per_byte[fault->level] != 0);
}

int faults_parse(const char *text, struct simulation *simulation)
{
    for (;; text++) {
        size_t length = strcspn(text, ",");
        struct mt_simulate_fault fault;
        if (simulation->fault_count == FAULTS_MOST || parse_item(text, length, &fault) != 0)
            return refuse(text, length);
        if (!exists(simulation, &fault)) {
            fprintf(stderr,
                    "manta simulate: --fail: '%.*s': this topology has none of that number%s\n",
                    (int)length, text, fault.dead ? "" : ", or it has no limit that could be less");
            return -1;
        }
        simulation->faults[simulation->fault_count++] = fault;
        text += length;
        if (*text == '\0')
            return 0;
    }
}

int fault_is_dead(const struct simulation *simulation, uint32_t rank)
{
    for (uint32_t i = 0; i < simulation->fault_count; i++) {
        const struct mt_simulate_fault *fault = &simulation->faults[i];
        uint32_t index =
            fault->level == MT_LEVEL_CORE ? rank : simulation->topology->group[fault->level][rank];
        if (fault->dead && index == fault->index)
            return 1;
    }
    return 0;
}
