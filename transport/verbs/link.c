/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a lane comes about: both ranks make its queue pairs and tell their numbers (MADE), connect
 * them (READY), send a message over each and have word from the card that it arrived (WORKS). When
 * both have said WORKS it is open. Which of the pairs of GIDs it goes by depends on its generation;
 * the lower rank begins the next one when it is dead. NO is said by who finds it dead.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/bytes.h"
#include "core/log.h"
#include "transport/verbs/verbs.h"

static int is_open(const struct mt_verbs_lane *lane)
{
    return lane->state == MT_VERBS_LANE_OPEN;
}

/* It may still turn out that some frames arrived. */
static int is_draining(const struct mt_verbs_peer *peer)
{
    for (uint32_t i = 0; i < peer->lane_count; i++) {
        if (peer->lanes[i].state == MT_VERBS_LANE_DRAINING && peer->lanes[i].was_open)
            return 1;
    }
    return 0;
}

/* A near one, or else any; -1: there is none. */
static int best_lane(const struct mt_verbs_endpoint *endpoint, const struct mt_verbs_peer *peer)
{
    int best = -1;
    for (uint32_t i = 0; i < peer->lane_count; i++) {
        const struct mt_verbs_lane *lane = &peer->lanes[i];
        if (!is_open(lane))
            continue;
        if (endpoint->rails[lane->rail].is_near)
            return (int)i;
        best = best < 0 ? (int)i : best;
    }
    return best;
}

/* A slot is free when the peer has what was in it, so no card may still be sending it then: frames
 * move to a lane when all that the stream has carried are known to be there. */
void mt_verbs_choose_lane(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    if (peer->current >= 0 || is_draining(peer))
        return;
    int best = best_lane(endpoint, peer);
    if (best < 0) {
        if (peer->without_lane_ns == 0)
            peer->without_lane_ns = endpoint->host->clock_ns();
        mt_verbs_stream_begin(endpoint, peer);
        return;
    }
    peer->without_lane_ns = 0;
    if (peer->stream != MT_VERBS_STREAM_IDLE && peer->posted != peer->acked) {
        peer->stream = MT_VERBS_STREAM_ENDS;
        return;
    }
    peer->stream = MT_VERBS_STREAM_IDLE;
    peer->posted = peer->acked;
    peer->current = best;
}

/* Try a lane that is connected at both ends. */
static void try(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    lane->state = MT_VERBS_LANE_TRYING;
    lane->until_ns = endpoint->host->clock_ns() + MT_VERBS_LANE_NS;
    lane->tries = MT_VERBS_QUEUES;
    if (mt_verbs_try(lane) != 0)
        mt_verbs_lane_fail(endpoint, lane, "nothing can be posted: %s", strerror(errno));
}

void mt_verbs_lane_ready(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane, int failed)
{
    lane->state = MT_VERBS_LANE_READY;
    if (failed || lane->given_up) {
        mt_verbs_lane_fail(endpoint, lane, "%s",
                           failed ? lane->refused : "the peer says that it is dead");
        return;
    }
    mt_verbs_tell(endpoint, lane, MT_VERBS_NOTE_READY);
    if (lane->ready_there)
        try(endpoint, lane);
}

/* 0 if its queue pairs are there and told. */
static int make(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    lane->ready_there = lane->works_there = lane->was_open = lane->is_remade = 0;
    lane->until_ns = endpoint->host->clock_ns() + endpoint->timeout_ns;
    if (mt_verbs_lane_make(endpoint, lane) != 0) {
        lane->state = MT_VERBS_LANE_MADE;
        mt_verbs_lane_fail(endpoint, lane, "%s", lane->refused);
        return -1;
    }
    lane->state = MT_VERBS_LANE_MADE;
    mt_verbs_tell(endpoint, lane, MT_VERBS_NOTE_MADE);
    mt_verbs_unsettle(endpoint);
    return 0;
}

void mt_verbs_link_opened(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    peer->without_lane_ns = endpoint->host->clock_ns();
    mt_verbs_ring_assign(endpoint, peer);
    for (uint32_t i = 0; i < peer->lane_count; i++) {
        peer->lanes[i].lost_ns = peer->without_lane_ns;
        make(endpoint, &peer->lanes[i]);
    }
}

/* The same pair of GIDs as before if it led there, else the next. */
void mt_verbs_lane_remake(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    int is_answer = lane->is_remade;
    if (is_answer)
        lane->generation = lane->next_generation;
    else
        lane->generation = (uint8_t)(lane->generation + (lane->worked ? lane->pair_count : 1));
    lane->worked = 0;
    if (make(endpoint, lane) != 0 || !is_answer)
        return;
    for (uint32_t q = 0; q < MT_VERBS_QUEUES; q++)
        lane->queues[q].remote = lane->next_remotes[q];
    mt_verbs_lane_begin_connect(endpoint, lane);
}

static void opened(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    struct mt_verbs_peer *peer = endpoint->peers[lane->peer];
    char sentence[160];
    lane->state = MT_VERBS_LANE_OPEN;
    lane->was_open = lane->worked = 1;
    lane->failures = 0;
    snprintf(sentence, sizeof(sentence), "rail %s leads to rank %u",
             endpoint->rails[lane->rail].name, lane->peer);
    endpoint->host->log(peer->was_open ? MT_LOG_INFO : MT_LOG_DEBUG, "verbs", sentence);
    peer->was_open = 1;
    mt_verbs_choose_lane(endpoint, peer);
    mt_verbs_post_frames(endpoint, peer);
    mt_messages_writable(endpoint->messages, lane->peer);
}

void mt_verbs_lane_tried(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    if (--lane->tries > 0 || lane->state != MT_VERBS_LANE_TRYING)
        return;
    lane->state = MT_VERBS_LANE_WORKS;
    lane->until_ns = endpoint->host->clock_ns() + endpoint->timeout_ns;
    mt_verbs_tell(endpoint, lane, MT_VERBS_NOTE_WORKS);
    if (lane->works_there)
        opened(endpoint, lane);
}

static void take_made(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane,
                      const struct mt_verbs_note *note)
{
    int8_t ahead = (int8_t)(note->generation - lane->generation);
    endpoint->peers[lane->peer]->ring.remote = mt_bytes_get64(note->ring);
    lane->ring_key = mt_bytes_get32(note->ring_key);
    if (ahead == 0 && lane->state == MT_VERBS_LANE_MADE) {
        for (uint32_t q = 0; q < MT_VERBS_QUEUES; q++)
            lane->queues[q].remote = mt_bytes_get32(note->numbers[q]);
        mt_verbs_lane_begin_connect(endpoint, lane);
    }
    if (ahead <= 0)
        return;
    lane->is_remade = 1;
    lane->next_generation = note->generation;
    for (uint32_t q = 0; q < MT_VERBS_QUEUES; q++)
        lane->next_remotes[q] = mt_bytes_get32(note->numbers[q]);
    mt_verbs_lane_fail(endpoint, lane, "the peer has given it up");
    mt_verbs_unsettle(endpoint);
}

int mt_verbs_take_note(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                       const struct mt_verbs_note *note)
{
    struct mt_verbs_lane *lane = &peer->lanes[note->lane % MT_VERBS_LANES];
    if (note->lane >= peer->lane_count)
        return -1;
    if (note->kind == MT_VERBS_NOTE_MADE) {
        take_made(endpoint, lane, note);
        return 0;
    }
    if (note->generation != lane->generation)
        return 0;
    if (note->kind == MT_VERBS_NOTE_READY && lane->state == MT_VERBS_LANE_READY)
        try(endpoint, lane);
    else if (note->kind == MT_VERBS_NOTE_READY)
        lane->ready_there = 1;
    if (note->kind == MT_VERBS_NOTE_NO)
        mt_verbs_lane_fail(endpoint, lane, "the peer says that it is dead");
    if (note->kind == MT_VERBS_NOTE_WORKS) {
        lane->works_there = 1;
        if (lane->state == MT_VERBS_LANE_WORKS)
            opened(endpoint, lane);
    }
    return 0;
}
