/* SPDX-License-Identifier: Apache-2.0 */
/* What ranks tell each other of their ports, and which ports of two ranks belong together. */
#include <string.h>

#include "transport/verbs/verbs.h"

/* "vrb1", the number of ports; of each its LID, MTU and number of GIDs; of each kind, index, bytes.
 */
static const uint8_t mark[4] = {'v', 'r', 'b', '1'};
enum { PORTS_BYTES = 5, PORT_BYTES = 4, GID_BYTES = 18, GID_BITS = 128 };

size_t mt_verbs_ports_encode(const struct mt_verbs_ports *ports, uint8_t *blob, size_t blob_bytes)
{
    size_t used = PORTS_BYTES;
    if (blob_bytes < PORTS_BYTES + ports->count * (PORT_BYTES + MT_VERBS_GIDS * GID_BYTES))
        return 0;
    memcpy(blob, mark, sizeof(mark));
    blob[4] = (uint8_t)ports->count;
    for (uint32_t i = 0; i < ports->count; i++) {
        const struct mt_verbs_port *port = &ports->ports[i];
        blob[used++] = (uint8_t)(port->lid & 0xff);
        blob[used++] = (uint8_t)(port->lid >> 8);
        blob[used++] = port->mtu;
        blob[used++] = port->gid_count;
        for (uint32_t g = 0; g < port->gid_count; g++) {
            blob[used++] = port->gids[g].kind;
            blob[used++] = port->gids[g].index;
            memcpy(blob + used, port->gids[g].raw, sizeof(port->gids[g].raw));
            used += sizeof(port->gids[g].raw);
        }
    }
    return used;
}

static int decode_port(const uint8_t *blob, size_t bytes, size_t *used, struct mt_verbs_port *port)
{
    if (bytes - *used < PORT_BYTES)
        return MANTA_ETRANSPORT;
    const uint8_t *at = blob + *used;
    port->lid = (uint16_t)(at[0] | at[1] << 8);
    port->mtu = at[2];
    port->gid_count = at[3];
    *used += PORT_BYTES;
    if (port->mtu < IBV_MTU_256 || port->mtu > IBV_MTU_4096 || port->gid_count > MT_VERBS_GIDS ||
        bytes - *used < (size_t)port->gid_count * GID_BYTES)
        return MANTA_ETRANSPORT;
    for (uint32_t g = 0; g < port->gid_count; g++, *used += GID_BYTES) {
        at = blob + *used;
        if (at[0] > MT_VERBS_LINK_LOCAL)
            return MANTA_ETRANSPORT;
        port->gids[g].kind = at[0];
        port->gids[g].index = at[1];
        memcpy(port->gids[g].raw, at + 2, sizeof(port->gids[g].raw));
    }
    return 0;
}

int mt_verbs_ports_decode(const uint8_t *blob, size_t bytes, struct mt_verbs_ports *ports_out)
{
    size_t used = PORTS_BYTES;
    memset(ports_out, 0, sizeof(*ports_out));
    if (bytes < PORTS_BYTES || memcmp(blob, mark, sizeof(mark)) != 0 || blob[4] > MT_VERBS_RAILS)
        return MANTA_ETRANSPORT;
    for (uint32_t i = 0; i < blob[4]; i++) {
        if (decode_port(blob, bytes, &used, &ports_out->ports[i]) != 0)
            return MANTA_ETRANSPORT;
    }
    ports_out->count = blob[4];
    return used == bytes ? 0 : MANTA_ETRANSPORT;
}

static uint32_t common_bits(const uint8_t a[16], const uint8_t b[16])
{
    uint32_t bits = 0;
    while (bits < GID_BITS && ((a[bits / 8] ^ b[bits / 8]) >> (7 - bits % 8) & 1) == 0)
        bits++;
    return bits;
}

/* How alike the addresses of two ports are, by their best kind that both have; 0: none. Ports of
 * one network have the same beginning. */
static uint32_t likeness(const struct mt_verbs_port *a, const struct mt_verbs_port *b)
{
    for (uint32_t i = 0; i < a->gid_count; i++) {
        for (uint32_t j = 0; j < b->gid_count; j++) {
            if (a->gids[i].kind == b->gids[j].kind)
                return 1 + (a->gids[i].kind == MT_VERBS_LINK_LOCAL
                                ? 0 /* all begin alike */
                                : common_bits(a->gids[i].raw, b->gids[j].raw));
        }
    }
    return 0;
}

static void set_pairs(const struct mt_verbs_port *here, const struct mt_verbs_port *there,
                      struct mt_verbs_lane *lane)
{
    for (uint32_t kind = 0; kind <= MT_VERBS_LINK_LOCAL; kind++) {
        for (uint32_t i = 0; i < here->gid_count; i++) {
            for (uint32_t j = 0; j < there->gid_count; j++) {
                if (here->gids[i].kind != kind || there->gids[j].kind != kind ||
                    lane->pair_count == MT_VERBS_GIDS)
                    continue;
                lane->pairs[lane->pair_count].local = (uint8_t)i;
                lane->pairs[lane->pair_count].remote = (uint8_t)j;
                lane->pair_count++;
            }
        }
    }
}

/* The ports that are most alike of those that are still free, whatever their order; 0: none. */
static uint32_t best_pair(const struct mt_verbs_ports *low, const struct mt_verbs_ports *high,
                          uint32_t taken_low, uint32_t taken_high, uint32_t best_out[2])
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < low->count; i++) {
        for (uint32_t j = 0; j < high->count; j++) {
            uint32_t found = likeness(&low->ports[i], &high->ports[j]);
            if ((taken_low & 1u << i) || (taken_high & 1u << j) || found <= best)
                continue;
            best = found;
            best_out[0] = i;
            best_out[1] = j;
        }
    }
    return best;
}

/* In the order of the lower rank's ports. */
uint32_t mt_verbs_lanes_pair(const struct mt_verbs_ports *here, const struct mt_verbs_ports *there,
                             int is_lower, struct mt_verbs_lane lanes[MT_VERBS_LANES])
{
    const struct mt_verbs_ports *low = is_lower ? here : there;
    const struct mt_verbs_ports *high = is_lower ? there : here;
    uint32_t partner[MT_VERBS_RAILS], pair[2], taken_low = 0, taken_high = 0, count = 0;
    while (best_pair(low, high, taken_low, taken_high, pair) > 0) {
        taken_low |= 1u << pair[0];
        taken_high |= 1u << pair[1];
        partner[pair[0]] = pair[1];
    }
    for (uint32_t i = 0; i < low->count; i++) {
        if (!(taken_low & 1u << i))
            continue;
        struct mt_verbs_lane *lane = &lanes[count];
        memset(lane, 0, sizeof(*lane));
        lane->index = (uint8_t)count++;
        lane->rail = (uint8_t)(is_lower ? i : partner[i]);
        lane->remote_rail = (uint8_t)(is_lower ? partner[i] : i);
        set_pairs(&here->ports[lane->rail], &there->ports[lane->remote_rail], lane);
    }
    return count;
}
