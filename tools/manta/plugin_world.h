/* SPDX-License-Identifier: Apache-2.0 */
/* The ranks of a topic and what they share; for plugin_world.c and plugin_ops.c. */
#ifndef MT_TOOLS_PLUGIN_WORLD_H
#define MT_TOOLS_PLUGIN_WORLD_H

#include <string.h>

#include "tools/manta/plugin.h"

struct check_world {
    const struct check_topic *topic;
    struct check_shared *shared;
    const struct manta_transport *transport;
    struct mt_guard guard; /* of a built-in transport */
    struct manta_transport_host host;
    char session[1024];
    _Atomic uint32_t arrived, barriers; /* at the barrier; how many there were */
    uint8_t addresses[CHECK_RANKS][MANTA_TRANSPORT_ADDRESS_MAX];
    size_t address_bytes[CHECK_RANKS];
    uint32_t epoch; /* of rank 0: plugins know no group, and all the same one */
    _Atomic int flags[4];
    struct check_rank ranks[CHECK_RANKS];
};

/* The pieces of a message; buffers: MANTA_PLAN_LOCATIONS. Returns how many. */
uint32_t check_pieces(const struct check_message *message, struct manta_transport_buffer *buffers);

#endif
