/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints of one node in one process, wired to each other without streams: every rank reads the
 * others' segments at the owner's address, so that TSan sees both sides of each access. */
#ifndef TESTS_UNIT_TRANSPORT_SHM_WORLD_H
#define TESTS_UNIT_TRANSPORT_SHM_WORLD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/group.h"
#include "transport/registry.h"
#include "transport/shm/shm.h"

enum { WORLD_RANKS = 64 };

struct world {
    uint32_t ranks;
    struct mt_member members[WORLD_RANKS];
    struct mt_group groups[WORLD_RANKS];
    struct mt_shm_endpoint *endpoints[WORLD_RANKS];
};

static const char *world_shm_max = "256M", *world_shm_distance = "auto", *world_shm_groups = "1";

static inline const char *world_config(const char *variable)
{
    if (strcmp(variable, "SHM_DISTANCE") == 0)
        return world_shm_distance;
    if (strcmp(variable, "SHM_GROUPS") == 0)
        return world_shm_groups;
    return strcmp(variable, "SHM_MAX") == 0 ? world_shm_max : NULL;
}

/* 0, or the code of the endpoint that could not be opened. */
static inline int world_open(struct world *world, uint32_t ranks)
{
    static struct manta_transport_host host;
    memset(world, 0, sizeof(*world));
    host = *mt_transport_host();
    host.config = world_config;
    world->ranks = ranks;
    for (uint32_t r = 0; r < ranks; r++) {
        world->members[r] = (struct mt_member){.rank = r, .node = 1, .boot = 1};
        world->groups[r] =
            (struct mt_group){.rank = r, .ranks = ranks, .epoch = 7, .members = world->members};
    }
    for (uint32_t r = 0; r < ranks; r++) {
        struct manta_transport_error error = {.size = sizeof(error)};
        const struct manta_transport_open params = {.size = sizeof(params),
                                                    .host = &host,
                                                    .rank = r,
                                                    .ranks = ranks,
                                                    .epoch = 7,
                                                    .local_ranks = ranks,
                                                    .timeout_ns = UINT64_C(20000000000),
                                                    .group = &world->groups[r]};
        void *endpoint = NULL;
        int code = mt_shm_open(&params, 0, &endpoint, &error);
        if (code != 0)
            return code;
        world->endpoints[r] = endpoint;
        for (uint32_t peer = 0; peer < r; peer++) {
            code = mt_shm_wire_up(world->endpoints[peer], endpoint);
            if (code != 0)
                return code;
        }
    }
    return 0;
}

static inline void world_close(struct world *world)
{
    for (uint32_t r = 0; r < world->ranks; r++)
        if (world->endpoints[r] != NULL)
            mt_transport_shm.close(world->endpoints[r]);
}

/* A small generator: equal seeds give equal numbers. */
static inline uint64_t world_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

#endif
