/* SPDX-License-Identifier: Apache-2.0 */
/* What can be said of a peer before it is connected: which rails will be tried. */
#include <stdio.h>
#include <string.h>

#include "transport/answer.h"
#include "transport/verbs/verbs.h"

enum { LATENCY_NS = 2500 };
#define MESSAGE_BYTES_MAX (UINT64_C(1) << 62)

static void describe(const struct mt_verbs_endpoint *endpoint, uint32_t peer,
                     const struct mt_verbs_ports *there, const struct mt_verbs_lane *lanes,
                     uint32_t count, struct manta_transport_properties *found)
{
    const struct mt_verbs_peer *open = endpoint->peers[peer];
    const struct mt_verbs_lane *lane =
        open != NULL && open->current >= 0 ? &open->lanes[open->current] : &lanes[0];
    const struct mt_verbs_rail *rail = &endpoint->rails[lane->rail];
    uint32_t pair = lane->generation % lane->pair_count;
    char local[48], remote[48];
    mt_verbs_gid_format(&rail->port.gids[lane->pairs[pair].local], local, sizeof(local));
    mt_verbs_gid_format(&there->ports[lane->remote_rail].gids[lane->pairs[pair].remote], remote,
                        sizeof(remote));
    snprintf(found->interface, sizeof(found->interface), "%.23s %.39s", rail->name, local);
    snprintf(found->reason, sizeof(found->reason), "at %s, %s%s", remote,
             open == NULL || !open->was_open ? "not connected yet, " : "",
             count > 1 ? "first of several rails" : "its only rail");
}

int mt_verbs_probe(void *handle, uint32_t peer, struct manta_transport_properties *properties)
{
    struct mt_verbs_endpoint *endpoint = handle;
    struct mt_verbs_ports here = {.count = endpoint->rail_count}, there;
    struct mt_verbs_lane lanes[MT_VERBS_LANES];
    if (peer >= endpoint->ranks || peer == endpoint->rank)
        return mt_messages_error_set(endpoint->messages, MANTA_EINVAL, peer, 0,
                                     "verbs has no peer %u", peer);
    const struct mt_verbs_door *door = &endpoint->doors[peer];
    if (door->address_bytes == 0 ||
        mt_verbs_ports_decode(door->address, door->address_bytes, &there) != 0)
        return mt_messages_error_set(endpoint->messages, MANTA_ENOTSUP, peer, 0,
                                     "rank %u does not offer verbs", peer);
    for (uint32_t i = 0; i < here.count; i++)
        here.ports[i] = endpoint->rails[i].port;
    uint32_t count = mt_verbs_lanes_pair(&here, &there, endpoint->rank < peer, lanes);
    if (count == 0)
        return mt_messages_error_set(
            endpoint->messages, MANTA_ENOTSUP, peer, 0,
            "no RDMA port here has a GID of the same kind as one of rank %u", peer);
    struct manta_transport_properties found = {
        .latency_ns = LATENCY_NS,
        .bandwidth_bytes_per_s = endpoint->rails[lanes[0].rail].bytes_per_s,
        .eager_bytes = MT_VERBS_EAGER_BYTES,
        .message_bytes_max = MESSAGE_BYTES_MAX,
        .memory_kinds = 1u << MANTA_MEMORY_HOST | 1u << MANTA_MEMORY_CUDA,
    };
    describe(endpoint, peer, &there, lanes, count, &found);
    mt_transport_export(&found, sizeof(found), properties);
    return 0;
}
