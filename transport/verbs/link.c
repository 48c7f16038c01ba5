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
#include <sys/socket.h>

#include "core/bytes.h"
#include "core/log.h"
#include "transport/verbs/verbs.h"

struct note {
    uint8_t mark[4];
    uint8_t kind, lane, generation, zero;
    uint8_t numbers[MT_VERBS_QUEUES][4];
    uint8_t rest[MT_VERBS_NOTE_BYTES - 8 - MT_VERBS_QUEUES * 4];
};
_Static_assert(sizeof(struct note) == MT_VERBS_NOTE_BYTES, "a note has its length");
static const uint8_t mark[4] = {'n', 'o', 't', '1'};

/* Notes are few and short: one that the kernel does not take means a stream that is no more. */
void mt_verbs_tell(struct mt_verbs_endpoint *endpoint, const struct mt_verbs_lane *lane,
                   enum mt_verbs_note_kind kind)
{
    struct mt_verbs_peer *peer = endpoint->peers[lane->peer];
    struct note note = {.kind = (uint8_t)kind, .lane = lane->index, .generation = lane->generation};
    memcpy(note.mark, mark, sizeof(mark));
    for (uint32_t q = 0; q < MT_VERBS_QUEUES && kind == MT_VERBS_NOTE_MADE; q++)
        mt_bytes_put32(note.numbers[q], lane->queues[q].qp->qp_num);
    if (peer->link != MT_VERBS_LINK_OPEN)
        return;
    if (send(peer->fd, &note, sizeof(note), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(note))
        peer->hung_up = 1;
}

static int is_open(const struct mt_verbs_lane *lane)
{
    return lane->state == MT_VERBS_LANE_OPEN;
}

void mt_verbs_choose_lane(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    if (peer->current >= 0)
        return;
    for (uint32_t i = 0; i < peer->lane_count; i++) {
        if (peer->lanes[i].state == MT_VERBS_LANE_DRAINING && peer->lanes[i].was_open)
            return; /* it may still turn out that some frames arrived */
    }
    for (uint32_t near = 2; near-- > 0 && peer->current < 0;) {
        for (uint32_t i = 0; i < peer->lane_count && peer->current < 0; i++) {
            const struct mt_verbs_lane *lane = &peer->lanes[i];
            if (is_open(lane) && (!near || endpoint->rails[lane->rail].is_near))
                peer->current = (int)i;
        }
    }
    peer->posted = peer->acked;
    if (peer->current < 0 && peer->without_lane_ns == 0)
        peer->without_lane_ns = endpoint->host->clock_ns();
    if (peer->current >= 0)
        peer->without_lane_ns = 0;
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
        char why[sizeof(lane->why)];
        memcpy(why, lane->why, sizeof(why));
        mt_verbs_lane_fail(endpoint, lane, "%s", failed ? why : "the peer says that it is dead");
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
        char why[sizeof(lane->why)];
        memcpy(why, lane->why, sizeof(why));
        lane->state = MT_VERBS_LANE_MADE;
        mt_verbs_lane_fail(endpoint, lane, "%s", why);
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
    for (uint32_t i = 0; i < peer->lane_count; i++)
        make(endpoint, &peer->lanes[i]);
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
                      const struct note *note)
{
    int8_t ahead = (int8_t)(note->generation - lane->generation);
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

static int take_note(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                     const struct note *note)
{
    struct mt_verbs_lane *lane = &peer->lanes[note->lane % MT_VERBS_LANES];
    if (memcmp(note->mark, mark, sizeof(mark)) != 0 || note->lane >= peer->lane_count)
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

/* What the peer's card was sent before is in this one: take that, then it is gone. */
static void ended(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer, int error)
{
    if (peer->link == MT_VERBS_LINK_GREETING && endpoint->rank > peer->rank) {
        mt_verbs_link_close(peer); /* refused: the lower rank's own dial takes its place */
        peer->link = MT_VERBS_LINK_REFUSED;
        return;
    }
    for (int round = 0; round < 10000 && mt_verbs_poll(endpoint); round++) {
    }
    mt_verbs_peer_lose(endpoint, peer, MANTA_EPEER, error,
                       "the verbs connection with rank %u was %s%s%s", peer->rank,
                       error == 0 ? "closed by it" : "lost", error == 0 ? "" : ": ",
                       error == 0 ? "" : strerror(error));
}

void mt_verbs_link_read(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    while (peer->fd >= 0) {
        ssize_t got = recv(peer->fd, peer->note + peer->note_bytes,
                           MT_VERBS_NOTE_BYTES - peer->note_bytes, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return;
        if (got <= 0) {
            ended(endpoint, peer, got < 0 ? errno : 0);
            return;
        }
        peer->note_bytes += (uint32_t)got;
        if (peer->note_bytes < MT_VERBS_NOTE_BYTES)
            continue;
        struct note note;
        memcpy(&note, peer->note, sizeof(note));
        peer->note_bytes = 0;
        if (peer->link == MT_VERBS_LINK_GREETING) {
            peer->link = MT_VERBS_LINK_OPEN;
            mt_verbs_link_opened(endpoint, peer);
        }
        if (take_note(endpoint, peer, &note) != 0)
            mt_verbs_peer_lose(endpoint, peer, MANTA_ETRANSPORT, 0,
                               "rank %u sent bytes that are no note of the verbs transport; the "
                               "ranks may run different builds",
                               peer->rank);
    }
}
