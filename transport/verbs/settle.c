/* SPDX-License-Identifier: Apache-2.0 */
/* What takes time: dials, deadlines of lanes, dead lanes that are made again. */
#include <stdio.h>

#include "transport/verbs/verbs.h"

void mt_verbs_unsettle(struct mt_verbs_endpoint *endpoint)
{
    endpoint->is_unsettled = 1;
    endpoint->looked_ns = 0;
}

/* It has a connector, or waits for one: only the kernel knows how long that takes. */
static int is_being_connected(const struct mt_verbs_lane *lane)
{
    return lane->state == MT_VERBS_LANE_WAITING || lane->state == MT_VERBS_LANE_CONNECTING;
}

static int waits_for_peer(const struct mt_verbs_lane *lane)
{
    return lane->state >= MT_VERBS_LANE_MADE && lane->state <= MT_VERBS_LANE_WORKS &&
           !is_being_connected(lane);
}

/* Both ends fail so, whichever gives up first; each with what it knows of its own rail. */
void mt_verbs_no_rail(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    uint32_t low = endpoint->rank < peer->rank ? endpoint->rank : peer->rank;
    mt_verbs_peer_lose(endpoint, peer, MANTA_ETRANSPORT, 0,
                       "no rail joins ranks %u and %u any more (%s: %s); see manta doctor at both, "
                       "or let tcp take over: MANTA_TRANSPORTS=shm,verbs,tcp",
                       low, low == peer->rank ? endpoint->rank : peer->rank,
                       endpoint->rails[peer->lanes[0].rail].name, peer->lanes[0].why);
}

/* No lane is alive; *tried_out: each was tried by all pairs of GIDs that it has. */
static int are_dead(const struct mt_verbs_peer *peer, int *tried_out)
{
    *tried_out = 1;
    for (uint32_t i = 0; i < peer->lane_count; i++) {
        if (peer->lanes[i].state != MT_VERBS_LANE_DEAD)
            return 0;
        *tried_out &= peer->lanes[i].failures >= peer->lanes[i].pair_count;
    }
    return 1;
}

int mt_verbs_may_come(const struct mt_verbs_peer *peer, uint32_t remote_rails, uint64_t now_ns)
{
    for (uint32_t i = 0; i < peer->lane_count; i++) {
        const struct mt_verbs_lane *lane = &peer->lanes[i];
        if (lane->remote_rail < remote_rails &&
            (lane->state == MT_VERBS_LANE_OPEN || is_being_connected(lane) ||
             now_ns < lane->lost_ns + MT_VERBS_PATIENCE_NS))
            return 1;
    }
    return 0;
}

/* Direct messages that have waited for a lane in vain: the next try tells them. 1 if it has. */
static int end_waiting(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                       uint64_t now_ns)
{
    if (peer->waiting_rails == 0 || mt_verbs_may_come(peer, peer->waiting_rails, now_ns))
        return 0;
    peer->waiting_rails = 0;
    return mt_messages_writable(endpoint->messages, peer->rank);
}

/* No lane, none under way, and none for so long: there is no path, or only the stream. */
static void judge(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer, uint64_t now_ns)
{
    int are_tried = 0;
    if (peer->current >= 0 || peer->stream != MT_VERBS_STREAM_IDLE || peer->without_lane_ns == 0 ||
        !are_dead(peer, &are_tried))
        return;
    if (endpoint->group->has_tcp && are_tried)
        mt_verbs_stream_open(endpoint, peer);
    if (peer->stream != MT_VERBS_STREAM_IDLE ||
        now_ns < peer->without_lane_ns + MT_VERBS_PATIENCE_NS)
        return;
    mt_verbs_tell_number(endpoint, peer, MT_VERBS_NOTE_LOST, 0);
    mt_verbs_no_rail(endpoint, peer);
}

/* 1 if something happened. */
static int settle_lane(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                       struct mt_verbs_lane *lane, uint64_t now_ns)
{
    if (lane->state == MT_VERBS_LANE_DRAINING) {
        mt_verbs_lane_drain(endpoint, lane);
        return lane->state != MT_VERBS_LANE_DRAINING;
    }
    if (waits_for_peer(lane) && now_ns > lane->until_ns) {
        mt_verbs_lane_fail(endpoint, lane, "the peer did not answer in time");
        return 1;
    }
    if (lane->state != MT_VERBS_LANE_DEAD || peer->link != MT_VERBS_LINK_OPEN || peer->cut ||
        !mt_verbs_takes_notes(peer))
        return 0;
    if (lane->is_remade || (endpoint->rank < peer->rank && now_ns > lane->until_ns)) {
        mt_verbs_lane_remake(endpoint, lane);
        return 1;
    }
    return 0;
}

static int settle_peer(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                       uint64_t now_ns)
{
    enum mt_verbs_link_state before = peer->link;
    int moved = mt_verbs_dial_look(endpoint, peer);
    if (peer->is_kept) {
        mt_verbs_stream_read(endpoint, peer);
        moved |= !peer->is_kept;
    }
    for (uint32_t i = 0; i < peer->lane_count && peer->link == MT_VERBS_LINK_OPEN; i++)
        moved |= settle_lane(endpoint, peer, &peer->lanes[i], now_ns);
    if (peer->link == MT_VERBS_LINK_OPEN && peer->hung_up)
        mt_verbs_poll_all(endpoint); /* what its card had sent before */
    if (peer->link == MT_VERBS_LINK_OPEN && peer->hung_up &&
        !mt_verbs_flushing(endpoint, peer->rank))
        mt_verbs_peer_lose(endpoint, peer, MANTA_EPEER, 0,
                           "the stream with rank %u takes nothing more", peer->rank);
    if (peer->link == MT_VERBS_LINK_OPEN && peer->cut)
        mt_verbs_peer_lose(endpoint, peer, MANTA_ETRANSPORT, 0,
                           "the connection with rank %u was cut, for a message was refused whose "
                           "memory it may write",
                           peer->rank);
    if (peer->link == MT_VERBS_LINK_OPEN)
        judge(endpoint, peer, now_ns);
    if (peer->link == MT_VERBS_LINK_OPEN)
        moved |= end_waiting(endpoint, peer, now_ns);
    return moved | (peer->link != before); /* requests have ended with it */
}

static int is_settled(const struct mt_verbs_peer *peer)
{
    int settled = peer->dial == NULL && !peer->is_kept && peer->stream == MT_VERBS_STREAM_IDLE;
    for (uint32_t i = 0; i < peer->lane_count && peer->link == MT_VERBS_LINK_OPEN; i++)
        settled &= peer->lanes[i].state == MT_VERBS_LANE_OPEN;
    return settled;
}

int mt_verbs_settle(struct mt_verbs_endpoint *endpoint)
{
    uint64_t now_ns = endpoint->host->clock_ns();
    if (now_ns - endpoint->looked_ns < MT_VERBS_DIAL_LOOK_NS || endpoint->aborted)
        return 0;
    int moved = mt_verbs_connectors_look(endpoint);
    for (struct mt_verbs_peer *peer = endpoint->open; peer != NULL; peer = peer->next_open)
        moved |= settle_peer(endpoint, peer, now_ns);
    int settled = !mt_verbs_connectors_busy(endpoint);
    for (struct mt_verbs_peer *peer = endpoint->open; peer != NULL; peer = peer->next_open)
        settled &= is_settled(peer);
    endpoint->is_unsettled = !settled;
    endpoint->looked_ns = now_ns;
    return moved;
}

uint64_t mt_verbs_settle_within_ns(const struct mt_verbs_endpoint *endpoint)
{
    uint64_t within_ns = 0;
    if (mt_verbs_connectors_busy(endpoint))
        return MT_VERBS_SLEEP_NS;
    for (const struct mt_verbs_peer *peer = endpoint->open; peer != NULL; peer = peer->next_open) {
        if (peer->dial != NULL)
            return MT_VERBS_SLEEP_NS;
        if (peer->is_kept)
            within_ns = MT_VERBS_NAP_NS;
        for (uint32_t i = 0; i < peer->lane_count && peer->link == MT_VERBS_LINK_OPEN; i++) {
            enum mt_verbs_lane_state state = peer->lanes[i].state;
            if (state == MT_VERBS_LANE_DRAINING)
                return MT_VERBS_SLEEP_NS;
            if (state != MT_VERBS_LANE_OPEN)
                within_ns = MT_VERBS_NAP_NS;
        }
    }
    return within_ns;
}
