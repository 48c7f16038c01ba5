/* SPDX-License-Identifier: Apache-2.0 */
/* Streams with peers: those that this rank dials, and those it accepts. Two that dial each other at
 * once are settled as in transport/tcp: the lower rank decides. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/service.h"
#include "transport/verbs/verbs.h"

/* In the service thread. 1: the stream is taken. */
static int may_come(struct mt_verbs_endpoint *endpoint, uint32_t from)
{
    struct mt_verbs_door *door = &endpoint->doors[from];
    int nowhere = MT_VERBS_NOWHERE;
    if (door->came)
        return 0;
    /* Both pair with the exchange, or the load, in may_dial(). */
    if (endpoint->rank > from)
        atomic_store(&door->origin, MT_VERBS_THERE);
    else if (!atomic_compare_exchange_strong(&door->origin, &nowhere, MT_VERBS_THERE))
        return 0;
    door->came = 1;
    return 1;
}

/* In the service thread: who dials itself, and decides, has no use for the peer's stream. */
static int misses(void *arg, uint32_t from, uint32_t index)
{
    struct mt_verbs_endpoint *endpoint = arg;
    (void)index;
    return from >= endpoint->ranks || endpoint->rank > from ||
           atomic_load(&endpoint->doors[from].origin) != MT_VERBS_HERE;
}

/* In the service thread. The stream waits at the door until the endpoint looks. */
static void accepted(void *arg, int fd, uint32_t from, uint32_t index)
{
    struct mt_verbs_endpoint *endpoint = arg;
    uint64_t one = 1;
    mt_fd_enter(fd);
    if (from >= endpoint->ranks || from == endpoint->rank || index != 0 ||
        !may_come(endpoint, from)) {
        mt_fd_close(fd);
        return;
    }
    atomic_store(&endpoint->doors[from].accepted, fd); /* pairs with the exchange in take() */
    atomic_store_explicit(&endpoint->has_mail, 1, memory_order_relaxed);
    ssize_t written = write(endpoint->mail_fd, &one, sizeof(one));
    (void)written; /* EAGAIN: it is readable already */
}

int mt_verbs_mailbox_open(struct mt_verbs_endpoint *endpoint)
{
    return mt_stream_listen(endpoint->group, MT_STREAM_VERBS, accepted, misses, endpoint);
}

static int take(struct mt_verbs_door *door)
{
    if (atomic_load_explicit(&door->accepted, memory_order_relaxed) < 0)
        return -1;
    return atomic_exchange(&door->accepted, -1);
}

void mt_verbs_mailbox_close(struct mt_verbs_endpoint *endpoint)
{
    mt_stream_unlisten(endpoint->group, MT_STREAM_VERBS);
    for (uint32_t rank = 0; rank < endpoint->ranks; rank++)
        mt_fd_close(take(&endpoint->doors[rank]));
}

struct mt_verbs_peer *mt_verbs_peer_open(struct mt_verbs_endpoint *endpoint, uint32_t rank,
                                         int *code_out)
{
    struct mt_verbs_ports here = {.count = endpoint->rail_count}, there;
    struct mt_verbs_door *door = &endpoint->doors[rank];
    struct mt_verbs_peer *peer = endpoint->peers[rank];
    if (peer != NULL)
        return peer;
    *code_out = mt_messages_open(endpoint->messages, rank);
    if (*code_out != 0)
        return NULL;
    peer = endpoint->host->alloc(sizeof(*peer), 64);
    if (peer == NULL) {
        *code_out = mt_messages_error_set(endpoint->messages, MANTA_ENOMEM, rank, 0,
                                          "no memory for a connection with rank %u", rank);
        return NULL;
    }
    memset(peer, 0, sizeof(*peer));
    peer->rank = rank;
    peer->fd = peer->current = -1;
    for (uint32_t i = 0; i < here.count; i++)
        here.ports[i] = endpoint->rails[i].port;
    if (mt_verbs_ports_decode(door->address, door->address_bytes, &there) == 0)
        peer->lane_count = mt_verbs_lanes_pair(&here, &there, endpoint->rank < rank, peer->lanes);
    for (uint32_t i = 0; i < peer->lane_count; i++)
        peer->lanes[i].peer = rank;
    peer->next_open = endpoint->open;
    endpoint->open = endpoint->peers[rank] = peer;
    return peer;
}

void mt_verbs_link_close(struct mt_verbs_peer *peer)
{
    if (peer->fd >= 0)
        mt_fd_close(peer->fd); /* leaves the epoll by itself */
    peer->fd = -1;
    peer->in_bytes = peer->out_at = peer->out_end = 0;
    peer->is_kept = peer->out_watched = 0;
}

int mt_verbs_peer_cease(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    peer->cut = 1;
    peer->current = -1;
    peer->stream = MT_VERBS_STREAM_IDLE;
    for (uint32_t i = 0; i < peer->lane_count; i++)
        mt_verbs_lane_end(endpoint, &peer->lanes[i]);
    mt_verbs_writes_drop(endpoint, peer->rank);
    mt_verbs_flush_cease(endpoint, peer->rank);
    mt_verbs_unsettle(endpoint);
    return endpoint->could_not_stop ? MANTA_EBUFFER : 0;
}

static void free_slots(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    for (uint32_t i = 0; i < MT_VERBS_HELD; i++) {
        if (peer->held[i].is_held)
            mt_verbs_slot_free(endpoint, peer->held[i].rail, peer->held[i].slot);
        peer->held[i].is_held = 0;
    }
    mt_verbs_frames_acked(endpoint, peer, peer->next - 1);
}

void mt_verbs_peer_lose(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer, int code,
                        int error, const char *format, ...)
{
    char sentence[256];
    va_list arguments;
    if (peer->link == MT_VERBS_LINK_LOST)
        return;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    peer->link = MT_VERBS_LINK_LOST;
    mt_verbs_peer_cease(endpoint, peer);
    mt_verbs_dial_cancel(endpoint, peer);
    mt_verbs_link_close(peer);
    mt_messages_fail(endpoint->messages, peer->rank, MT_MESSAGE_BOTH, code, error, "%s", sentence);
    free_slots(endpoint, peer);
}

/* Take a connected stream into use. */
static int attach(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer, int fd,
                  enum mt_verbs_link_state state)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = peer};
    peer->fd = fd;
    peer->link = state;
    mt_fd_enter(fd);
    /* So that the kernel takes all frames that may be under way, if this rank leaves then. */
    const int bytes = MT_VERBS_FRAMES * (MT_VERBS_SLOT_BYTES + MT_VERBS_NOTE_BYTES);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    int code = mt_verbs_start(endpoint);
    if (code == 0)
        code = mt_verbs_slots_promise(endpoint, peer);
    if (code == 0 && epoll_ctl(endpoint->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        code = mt_messages_error_set(endpoint->messages, MANTA_ESYSTEM, peer->rank, errno,
                                     "the stream with rank %u cannot be watched: %s", peer->rank,
                                     strerror(errno));
    if (code == 0)
        return 0;
    struct manta_transport_error why = {.size = sizeof(why)};
    mt_messages_error(endpoint->messages, &why);
    mt_verbs_peer_lose(endpoint, peer, code, why.system_errno, "%s", why.sentence);
    endpoint->failure = code;
    return code;
}

static void take_link(struct mt_verbs_endpoint *endpoint, uint32_t rank, int fd)
{
    int code = 0;
    struct mt_verbs_peer *peer = mt_verbs_peer_open(endpoint, rank, &code);
    if (peer == NULL)
        endpoint->failure = code;
    if (peer == NULL || endpoint->aborted || peer->link == MT_VERBS_LINK_OPEN ||
        peer->link == MT_VERBS_LINK_LOST) {
        mt_fd_close(fd);
        return;
    }
    mt_verbs_dial_cancel(endpoint, peer);
    mt_verbs_link_close(peer);
    if (attach(endpoint, peer, fd, MT_VERBS_LINK_OPEN) == 0)
        mt_verbs_link_opened(endpoint, peer);
}

void mt_verbs_mailbox_read(struct mt_verbs_endpoint *endpoint)
{
    uint64_t count;
    ssize_t got = read(endpoint->mail_fd, &count, sizeof(count));
    (void)got; /* EAGAIN: an earlier read took it, what lies below may still be new */
    for (uint32_t rank = 0; rank < endpoint->ranks; rank++) {
        int fd = take(&endpoint->doors[rank]);
        if (fd >= 0)
            take_link(endpoint, rank, fd);
    }
}

/* 0: the peer's stream is on its way, or here. */
static int may_dial(struct mt_verbs_endpoint *endpoint, uint32_t rank)
{
    int nowhere = MT_VERBS_NOWHERE;
    _Atomic int *origin = &endpoint->doors[rank].origin;
    if (endpoint->rank > rank)
        return atomic_load(origin) == MT_VERBS_NOWHERE;
    return atomic_compare_exchange_strong(origin, &nowhere, MT_VERBS_HERE);
}

int mt_verbs_dial(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    uint64_t deadline_ns = endpoint->host->clock_ns() + endpoint->timeout_ns;
    if (peer->link != MT_VERBS_LINK_NONE || !may_dial(endpoint, peer->rank))
        return 0;
    int code =
        mt_stream_dial(endpoint->group, peer->rank, MT_STREAM_VERBS, 0, deadline_ns, &peer->dial);
    if (code != 0) {
        mt_verbs_peer_lose(endpoint, peer, code, 0, "rank %u cannot be dialled: %s", peer->rank,
                           manta_strerror(code));
        return code;
    }
    peer->link = MT_VERBS_LINK_DIALLING;
    mt_verbs_unsettle(endpoint);
    return 0;
}

int mt_verbs_dial_look(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    struct mt_error error = {0};
    int fd = -1;
    if (peer->dial == NULL)
        return 0;
    int code = mt_stream_dial_test(peer->dial, &fd, &error);
    if (code == MANTA_INPROGRESS)
        return 0;
    peer->dial = NULL;
    if (code == 0)
        attach(endpoint, peer, fd, MT_VERBS_LINK_GREETING);
    else
        mt_verbs_peer_lose(endpoint, peer, code == MANTA_ETIMEOUT ? MANTA_EPEER : code,
                           error.system_errno, "no stream to rank %u: %s", peer->rank,
                           error.sentence);
    return 1;
}

void mt_verbs_dial_cancel(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    (void)endpoint;
    if (peer->dial != NULL)
        mt_stream_dial_cancel(peer->dial);
    peer->dial = NULL;
}
