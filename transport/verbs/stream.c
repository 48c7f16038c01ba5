/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream with a peer: notes, and, while no rail leads there and the communicator may use tcp,
 * frames, each behind a note. The kernel taking a frame is no word that the peer has it, so the
 * peer tells which it has taken, as cards do of what rails carry: a frame that was under way on a
 * rail goes again from the first that is not known to be there, and what is there is dropped.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "core/bytes.h"
#include "core/log.h"
#include "transport/verbs/verbs.h"

enum { THANK_EVERY = 8 };

_Static_assert(sizeof(struct mt_verbs_note) == MT_VERBS_NOTE_BYTES, "a note has its length");
static const uint8_t mark[4] = {'n', 'o', 't', '1'};

static void watch_room(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer, int watched)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (watched ? EPOLLOUT : 0),
                                .data.ptr = peer};
    if (peer->out_watched == watched)
        return;
    peer->out_watched = watched;
    (void)epoll_ctl(endpoint->epoll_fd, EPOLL_CTL_MOD, peer->fd, &event);
}

static void hang_up(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    peer->hung_up = 1;
    mt_verbs_unsettle(endpoint);
}

static void flush(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    while (peer->out_at < peer->out_end) {
        ssize_t sent = send(peer->fd, peer->out + peer->out_at, peer->out_end - peer->out_at,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            peer->out_at += (uint32_t)sent;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            watch_room(endpoint, peer, 1);
            return;
        } else if (errno != EINTR) {
            hang_up(endpoint, peer);
            return;
        }
    }
    peer->out_at = peer->out_end = 0;
    watch_room(endpoint, peer, 0);
}

/* It may wait for what was put before; -1: there is no room for it. */
static int put(struct mt_verbs_peer *peer, const void *bytes, uint32_t count)
{
    if (sizeof(peer->out) - peer->out_end < count) {
        peer->out_end -= peer->out_at;
        memmove(peer->out, peer->out + peer->out_at, peer->out_end);
        peer->out_at = 0;
    }
    if (sizeof(peer->out) - peer->out_end < count)
        return -1;
    memcpy(peer->out + peer->out_end, bytes, count);
    peer->out_end += count;
    return 0;
}

int mt_verbs_takes_notes(const struct mt_verbs_peer *peer)
{
    return peer->out_end - peer->out_at <= MT_VERBS_IN_BYTES;
}

/* Lanes are only made while there is room, so notes are few: one that finds none means a stream
 * that is no more. */
static void tell(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                 struct mt_verbs_note *note)
{
    memcpy(note->mark, mark, sizeof(mark));
    if (peer->link != MT_VERBS_LINK_OPEN)
        return;
    if (put(peer, note, sizeof(*note)) != 0)
        hang_up(endpoint, peer);
    else
        flush(endpoint, peer);
}

void mt_verbs_tell(struct mt_verbs_endpoint *endpoint, const struct mt_verbs_lane *lane,
                   enum mt_verbs_note_kind kind)
{
    struct mt_verbs_note note = {
        .kind = (uint8_t)kind, .lane = lane->index, .generation = lane->generation};
    for (uint32_t q = 0; q < MT_VERBS_QUEUES && kind == MT_VERBS_NOTE_MADE; q++)
        mt_bytes_put32(note.numbers[q], lane->queues[q].qp->qp_num);
    const struct mt_verbs_peer *peer = endpoint->peers[lane->peer];
    if (kind == MT_VERBS_NOTE_MADE && peer->ring.slots != NULL) {
        mt_bytes_put64(note.ring, (uint64_t)(uintptr_t)peer->ring.slots);
        mt_bytes_put32(note.ring_key, endpoint->rails[lane->rail].ring_mr->rkey);
    }
    tell(endpoint, endpoint->peers[lane->peer], &note);
}

void mt_verbs_tell_number(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                          enum mt_verbs_note_kind kind, uint32_t number)
{
    struct mt_verbs_note note = {.kind = (uint8_t)kind};
    mt_bytes_put32(note.numbers[0], number);
    tell(endpoint, peer, &note);
}

void mt_verbs_stream_begin(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    char sentence[256];
    if (!peer->was_open || peer->cut || !endpoint->group->has_tcp)
        return;
    if (peer->stream == MT_VERBS_STREAM_IDLE) {
        peer->posted = peer->acked;
        snprintf(sentence, sizeof(sentence),
                 "no rail leads to rank %u (%s): its messages go over tcp until one does",
                 peer->rank, peer->lanes[0].why);
        endpoint->host->log(MT_LOG_WARN, "verbs", sentence);
    }
    peer->stream = MT_VERBS_STREAM_CARRIES;
    mt_verbs_unsettle(endpoint);
}

void mt_verbs_stream_open(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    peer->was_open = 1;
    mt_verbs_choose_lane(endpoint, peer);
    mt_messages_writable(endpoint->messages, peer->rank);
}

/* Word of frames that the stream has brought, new or not. It can wait for room: the next word says
 * all. */
static void thank(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    if (peer->unthanked == 0 || peer->out_end > 0)
        return;
    peer->unthanked = 0;
    mt_verbs_tell_number(endpoint, peer, MT_VERBS_NOTE_TOOK, peer->expected - 1);
}

/* One frame at a time waits for the stream, so that notes find room behind it. */
void mt_verbs_stream_write(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    struct mt_verbs_note note = {.kind = MT_VERBS_NOTE_FRAME};
    memcpy(note.mark, mark, sizeof(mark));
    if (peer->link == MT_VERBS_LINK_OPEN)
        flush(endpoint, peer);
    thank(endpoint, peer);
    while (peer->link == MT_VERBS_LINK_OPEN && peer->out_end == 0 && !peer->hung_up &&
           peer->stream == MT_VERBS_STREAM_CARRIES && peer->posted != peer->next) {
        const struct mt_verbs_sent *sent = &peer->sent[peer->posted % MT_VERBS_FRAMES];
        mt_bytes_put32(note.numbers[0], sent->bytes);
        (void)put(peer, &note, sizeof(note)); /* there is room: nothing waits */
        (void)put(peer, mt_verbs_slot(&endpoint->sends, sent->slot), sent->bytes);
        peer->posted++;
        flush(endpoint, peer);
    }
}

static void thanked(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer, uint32_t number)
{
    if (number - peer->acked >= peer->next - peer->acked) /* known already, or no frame's */
        return;
    mt_verbs_frames_acked(endpoint, peer, number);
    mt_verbs_choose_lane(endpoint, peer);
    mt_verbs_post_frames(endpoint, peer);
}

/* The bytes of what `in` begins with: a note, or a note and its frame; 0: it is neither. */
static uint32_t bytes_in(const struct mt_verbs_peer *peer)
{
    const struct mt_verbs_note *note = (const struct mt_verbs_note *)(const void *)peer->in;
    if (peer->in_bytes < MT_VERBS_NOTE_BYTES)
        return MT_VERBS_NOTE_BYTES;
    if (memcmp(note->mark, mark, sizeof(mark)) != 0)
        return 0;
    if (note->kind != MT_VERBS_NOTE_FRAME)
        return MT_VERBS_NOTE_BYTES;
    uint32_t bytes = mt_bytes_get32(note->numbers[0]);
    return bytes < MT_VERBS_HEAD_BYTES || bytes > MT_VERBS_SLOT_BYTES ? 0
                                                                      : MT_VERBS_NOTE_BYTES + bytes;
}

/* 1: it has to wait for what came before it over a rail. */
static int take_frame(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    const uint8_t *frame = peer->in + MT_VERBS_NOTE_BYTES;
    uint32_t bytes = peer->in_bytes - MT_VERBS_NOTE_BYTES;
    if (!peer->was_open)
        mt_verbs_stream_open(endpoint, peer);
    mt_verbs_poll_all(endpoint);
    if (mt_verbs_frame_streamed(endpoint, peer, frame, bytes) != 0)
        return 1;
    peer->unthanked++;
    return 0;
}

/* What is in `in` as a whole. 0; 1: it is kept; -1: it makes no sense. */
static int take(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    struct mt_verbs_note note;
    int code = 0;
    memcpy(&note, peer->in, sizeof(note));
    if (peer->link == MT_VERBS_LINK_GREETING) {
        peer->link = MT_VERBS_LINK_OPEN;
        mt_verbs_link_opened(endpoint, peer);
    }
    if (note.kind == MT_VERBS_NOTE_FRAME)
        code = take_frame(endpoint, peer);
    else if (note.kind == MT_VERBS_NOTE_TOOK)
        thanked(endpoint, peer, mt_bytes_get32(note.numbers[0]));
    else if (note.kind == MT_VERBS_NOTE_LOST)
        mt_verbs_no_rail(endpoint, peer);
    else
        code = mt_verbs_take_note(endpoint, peer, &note);
    peer->is_kept = code == 1;
    if (peer->is_kept)
        mt_verbs_unsettle(endpoint);
    else
        peer->in_bytes = 0;
    if (peer->unthanked >= THANK_EVERY)
        thank(endpoint, peer);
    return code;
}

/* What the peer's card was sent before is in this one: take that, then it is gone. */
static void ended(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer, int error)
{
    if (peer->link == MT_VERBS_LINK_GREETING && endpoint->rank > peer->rank) {
        mt_verbs_link_close(peer); /* refused: the lower rank's own dial takes its place */
        peer->link = MT_VERBS_LINK_REFUSED;
        return;
    }
    mt_verbs_poll_all(endpoint);
    if (mt_verbs_flushing(endpoint, peer->rank)) /* what has come is not in place yet: next time */
        return;
    mt_verbs_peer_lose(endpoint, peer, MANTA_EPEER, error,
                       "the verbs connection with rank %u was %s%s%s", peer->rank,
                       error == 0 ? "closed by it" : "lost", error == 0 ? "" : ": ",
                       error == 0 ? "" : strerror(error));
}

/* 1: `in` has all of what it begins with; 0: there is nothing more to read. */
static int fill(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    uint32_t wanted = bytes_in(peer);
    while (peer->in_bytes < wanted) {
        ssize_t got =
            recv(peer->fd, peer->in + peer->in_bytes, wanted - peer->in_bytes, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return 0;
        if (got <= 0) {
            ended(endpoint, peer, got < 0 ? errno : 0);
            return 0;
        }
        peer->in_bytes += (uint32_t)got;
        wanted = bytes_in(peer);
    }
    return 1;
}

void mt_verbs_stream_read(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    int code = 0;
    while (peer->fd >= 0 && code == 0 && fill(endpoint, peer))
        code = bytes_in(peer) == 0 ? -1 : take(endpoint, peer);
    if (code < 0)
        mt_verbs_peer_lose(endpoint, peer, MANTA_ETRANSPORT, 0,
                           "rank %u sent bytes that are no note of the verbs transport; the "
                           "ranks may run different builds",
                           peer->rank);
    thank(endpoint, peer);
}
