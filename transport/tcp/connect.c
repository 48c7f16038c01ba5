/* SPDX-License-Identifier: Apache-2.0 */
/* How connections come about: those this rank dials, and those it accepts. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "core/reach.h"
#include "core/service.h"
#include "transport/tcp/tcp.h"

static const uint8_t welcome = 'w';

/* Eager data that its receiver is slow to read must fit into the receiver's kernel: then a sender
 * that leaves is rid of it, and an answer that meets its closed socket destroys nothing. The
 * kernel grows its buffer to hold the low-water mark (SO_RCVBUF would end its own tuning). */
static void grow_receive_buffer(int fd)
{
    int mark = 2 * MT_TCP_WINDOW_BYTES;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof(mark));
    mark = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof(mark));
}

static void send_welcome(int fd)
{
    uint8_t byte = welcome;
    struct iovec piece = {&byte, sizeof(byte)};
    (void)mt_tcp_bytes_send(fd, &piece, 1); /* who finds it closed dials again, or not at all */
}

/* In the service thread. 1: the stream is taken. A second one never takes the place of the first,
 * which may carry messages already. */
static int may_come(struct mt_tcp_endpoint *endpoint, uint32_t from, uint32_t stream)
{
    struct mt_tcp_peer *peer = &endpoint->peers[from];
    int nowhere = MT_TCP_NOWHERE;
    if (peer->came & 1u << stream)
        return 0;
    if (stream == 0) { /* both pair with the exchange, or the load, in may_dial() */
        if (endpoint->rank > from)
            atomic_store(&peer->origin, MT_TCP_THERE);
        else if (!atomic_compare_exchange_strong(&peer->origin, &nowhere, MT_TCP_THERE))
            return 0;
    }
    peer->came |= 1u << stream;
    return 1;
}

/* In the service thread: who dials itself, and decides, has no use for the peer's link. */
static int misses(void *arg, uint32_t from, uint32_t stream)
{
    struct mt_tcp_endpoint *endpoint = arg;
    return from >= endpoint->ranks || stream > 0 || endpoint->rank > from ||
           atomic_load(&endpoint->peers[from].origin) != MT_TCP_HERE;
}

/* In the service thread. What a peer has dialled waits here until the endpoint looks. A link is
 * welcomed at once, so that what is short can be sent to a rank that is not in a call. */
static void accepted(void *arg, int fd, uint32_t from, uint32_t index)
{
    struct mt_tcp_endpoint *endpoint = arg;
    uint64_t one = 1;
    mt_fd_enter(fd);
    if (from >= endpoint->ranks || from == endpoint->rank || index >= MT_TCP_STREAMS ||
        !may_come(endpoint, from, index)) {
        mt_fd_close(fd);
        return;
    }
    grow_receive_buffer(fd);
    if (index == 0)
        send_welcome(fd);
    /* Pairs with the exchange in take(). */
    atomic_store(&endpoint->peers[from].accepted[index], fd);
    atomic_store_explicit(&endpoint->has_mail, 1, memory_order_relaxed);
    ssize_t written = write(endpoint->mail_fd, &one, sizeof(one));
    (void)written; /* EAGAIN: it is readable already */
}

int mt_tcp_mailbox_open(struct mt_tcp_endpoint *endpoint)
{
    return mt_stream_listen(endpoint->group, MT_STREAM_TCP, accepted, misses, endpoint);
}

/* The connection that this peer has dialled since the last look, or -1. */
static int take(struct mt_tcp_peer *peer, uint32_t stream)
{
    if (atomic_load_explicit(&peer->accepted[stream], memory_order_relaxed) < 0)
        return -1;
    return atomic_exchange(&peer->accepted[stream], -1);
}

void mt_tcp_mailbox_close(struct mt_tcp_endpoint *endpoint)
{
    mt_stream_unlisten(endpoint->group, MT_STREAM_TCP);
    for (uint32_t peer = 0; peer < endpoint->ranks; peer++)
        for (uint32_t stream = 0; stream < MT_TCP_STREAMS; stream++)
            mt_fd_close(take(&endpoint->peers[peer], stream));
}

static enum mt_message_direction direction_of(const struct mt_tcp_socket *sock)
{
    return (sock->writes ? MT_MESSAGE_SENDS : 0) | (sock->reads ? MT_MESSAGE_RECVS : 0);
}

/* What this rank lacks: its peer sees an end, and must not be blamed for it. */
static void fail_for_lack(struct mt_tcp_endpoint *endpoint, uint32_t peer,
                          enum mt_message_direction direction, int code)
{
    mt_messages_fail(endpoint->messages, peer, direction, code, errno,
                     "the tcp connection with rank %u cannot be used: %s", peer,
                     manta_strerror(code));
    if (direction & MT_MESSAGE_SENDS)
        mt_tcp_gather_drop(&endpoint->peers[peer].link);
    endpoint->failure = code;
}

/* 1 if it is in use. */
static int attach_or_fail(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock, int fd,
                          enum mt_tcp_state state)
{
    struct mt_tcp_peer *peer = &endpoint->peers[sock->peer];
    int code = mt_messages_open(endpoint->messages, sock->peer);
    if (code == 0 && peer->streams == 0) {
        peer->streams = 1 + mt_tcp_rails_count(endpoint, sock->peer);
        mt_messages_streams(endpoint->messages, sock->peer, peer->streams);
    }
    if (code == 0)
        code = mt_tcp_socket_attach(endpoint, sock, fd, state);
    else
        mt_fd_close(fd);
    if (code == 0)
        return 1;
    fail_for_lack(endpoint, sock->peer, direction_of(sock), code);
    mt_tcp_socket_close(sock);
    return 0;
}

static void cancel_dial(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    if (sock == NULL || sock->dial == NULL)
        return;
    mt_stream_dial_cancel(sock->dial);
    sock->dial = NULL;
    sock->state = MT_TCP_LOST;
    endpoint->dialling--;
}

/* Who reads the log learns at level info what is not as it was announced. */
static void announce(struct mt_tcp_endpoint *endpoint, uint32_t peer)
{
    struct manta_transport_properties properties = {.size = sizeof(properties)};
    struct mt_reach reach;
    char host[MT_ADDRESS_TEXT], sentence[384];
    mt_reach_look(endpoint->group, peer, &reach);
    mt_address_format_host(&reach.peer, host);
    const char *first = endpoint->peers[peer].tried_first; /* "": this rank has not dialled */
    int is_other = reach.how == MT_REACH_DIALLED && first[0] && strcmp(host, first) != 0;
    mt_tcp_describe(endpoint, peer, &properties);
    snprintf(sentence, sizeof(sentence), "rank %u is reached by %s %s%s%s", peer,
             properties.interface, properties.reason, is_other ? "; tried first: " : "",
             is_other ? first : "");
    endpoint->host->log(is_other ? MT_LOG_INFO : MT_LOG_DEBUG, "tcp", sentence);
}

/* It takes the place of this rank's own dial, if there is one. */
static void take_link(struct mt_tcp_endpoint *endpoint, uint32_t peer, int fd)
{
    struct mt_tcp_socket *sock = &endpoint->peers[peer].link;
    if (endpoint->aborted || sock->state == MT_TCP_OPEN || sock->state == MT_TCP_LOST) {
        mt_fd_close(fd);
        return;
    }
    cancel_dial(endpoint, sock);
    mt_tcp_socket_close(sock);
    if (attach_or_fail(endpoint, sock, fd, MT_TCP_OPEN))
        announce(endpoint, peer);
}

static struct mt_tcp_socket *make_bulk(struct mt_tcp_endpoint *endpoint, uint32_t peer,
                                       uint32_t stream, int writes)
{
    struct mt_tcp_socket *sock = endpoint->host->alloc(sizeof(*sock), 64);
    if (sock != NULL)
        mt_tcp_socket_init(sock, peer, stream, writes, !writes);
    return sock;
}

static void take_bulk(struct mt_tcp_endpoint *endpoint, uint32_t peer, uint32_t stream, int fd)
{
    struct mt_tcp_socket **sock = &endpoint->peers[peer].in[stream];
    if (endpoint->aborted || *sock != NULL) {
        mt_fd_close(fd);
        return;
    }
    *sock = make_bulk(endpoint, peer, stream, 0);
    if (*sock == NULL) {
        mt_fd_close(fd);
        fail_for_lack(endpoint, peer, MT_MESSAGE_RECVS, MANTA_ENOMEM);
        return;
    }
    if (attach_or_fail(endpoint, *sock, fd, MT_TCP_OPEN))
        send_welcome(fd);
}

void mt_tcp_mailbox_read(struct mt_tcp_endpoint *endpoint)
{
    uint64_t count;
    ssize_t got = read(endpoint->mail_fd, &count, sizeof(count));
    (void)got; /* EAGAIN: an earlier read took it, what lies below may still be new */
    for (uint32_t peer = 0; peer < endpoint->ranks; peer++) {
        for (uint32_t stream = 0; stream < MT_TCP_STREAMS; stream++) {
            int fd = take(&endpoint->peers[peer], stream);
            if (fd >= 0 && stream == 0)
                take_link(endpoint, peer, fd);
            else if (fd >= 0)
                take_bulk(endpoint, peer, stream, fd);
        }
    }
}

/* Long messages go over the others, if there are any. */
static int has_other_bulk(const struct mt_tcp_peer *peer, const struct mt_tcp_socket *sock)
{
    for (uint32_t stream = 1; stream < peer->streams; stream++)
        if (stream != sock->stream &&
            (peer->out[stream] == NULL || peer->out[stream]->state != MT_TCP_LOST))
            return 1;
    return 0;
}

/* A dial that ended without a connection: a peer that did not answer is as good as lost. */
static int dial_failed(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock,
                       const struct mt_error *error)
{
    uint32_t peer = sock->peer;
    int code = error->code == MANTA_ETIMEOUT ? MANTA_EPEER : error->code;
    sock->state = MT_TCP_LOST;
    if (sock->stream > 0 && has_other_bulk(&endpoint->peers[peer], sock)) {
        endpoint->host->log(MT_LOG_INFO, "tcp", error->sentence);
        return 0;
    }
    mt_tcp_gather_drop(&endpoint->peers[peer].link);
    if (mt_error_is_lack(error->system_errno))
        mt_messages_fail(endpoint->messages, peer, MT_MESSAGE_SENDS, code, error->system_errno,
                         "no connection to rank %u: %s; raise the limit of open files (ulimit -n) "
                         "or free memory",
                         peer, strerror(error->system_errno));
    else
        mt_messages_fail(endpoint->messages, peer, MT_MESSAGE_SENDS, code, error->system_errno,
                         "no tcp connection to rank %u: %s", peer, error->sentence);
    return code;
}

static int begin_dial(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    uint64_t deadline_ns = endpoint->host->clock_ns() + endpoint->timeout_ns;
    struct mt_error error = {0};
    struct mt_address rail;
    int code;
    if (sock->stream == 0)
        code =
            mt_stream_dial(endpoint->group, sock->peer, MT_STREAM_TCP, 0, deadline_ns, &sock->dial);
    else
        code = mt_stream_dial_beside(
            endpoint->group, sock->peer, MT_STREAM_TCP, sock->stream,
            mt_tcp_rail_address(endpoint, sock->peer, sock->stream, &rail) ? &rail : NULL,
            deadline_ns, &sock->dial);
    if (code != 0) {
        mt_error_set(&error, code, "%s", manta_strerror(code));
        return dial_failed(endpoint, sock, &error);
    }
    sock->state = MT_TCP_DIALLING;
    endpoint->dialling++;
    endpoint->dial_looked_ns = 0;
    return 0;
}

/* 0: the peer's link is on its way, or here. */
static int may_dial(struct mt_tcp_endpoint *endpoint, uint32_t peer)
{
    int nowhere = MT_TCP_NOWHERE;
    _Atomic int *origin = &endpoint->peers[peer].origin;
    if (endpoint->rank > peer)
        return atomic_load(origin) == MT_TCP_NOWHERE;
    return atomic_compare_exchange_strong(origin, &nowhere, MT_TCP_HERE);
}

int mt_tcp_dial(struct mt_tcp_endpoint *endpoint, uint32_t peer)
{
    struct mt_tcp_peer *state = &endpoint->peers[peer];
    if (state->link.state != MT_TCP_NONE || endpoint->aborted)
        return 0;
    int code = mt_messages_open(endpoint->messages, peer);
    if (code != 0 || !may_dial(endpoint, peer))
        return code;
    struct mt_address addresses[MT_GROUP_ADDRESSES];
    int is_told;
    if (mt_reach_addresses(endpoint->group, peer, addresses, &is_told) > 0)
        mt_address_format_host(&addresses[0], state->tried_first);
    return begin_dial(endpoint, &state->link);
}

/* Streams that a message was found to need. */
static void dial_bulk(struct mt_tcp_endpoint *endpoint, uint32_t peer)
{
    struct mt_tcp_peer *state = &endpoint->peers[peer];
    for (uint32_t stream = 1; stream < state->streams && state->wanted != 0; stream++) {
        if (!(state->wanted & 1u << stream))
            continue;
        state->wanted &= ~(1u << stream);
        struct mt_error error = {.code = MANTA_ENOMEM, .system_errno = ENOMEM};
        if (state->out[stream] == NULL)
            state->out[stream] = make_bulk(endpoint, peer, stream, 1);
        if (state->out[stream] != NULL)
            begin_dial(endpoint, state->out[stream]);
        else
            dial_failed(endpoint, &(struct mt_tcp_socket){.peer = peer, .stream = stream}, &error);
    }
}

void mt_tcp_dial_wanted(struct mt_tcp_endpoint *endpoint)
{
    endpoint->is_wanted = 0;
    for (uint32_t peer = 0; peer < endpoint->ranks && !endpoint->aborted; peer++)
        if (endpoint->peers[peer].wanted != 0)
            dial_bulk(endpoint, peer);
}

int mt_tcp_greeted(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock, uint8_t byte)
{
    if (byte != welcome) {
        mt_messages_fail(endpoint->messages, sock->peer, MT_MESSAGE_BOTH, MANTA_ETRANSPORT, 0,
                         "rank %u (%s) did not take the tcp connection as this build does; the "
                         "ranks may run different builds",
                         sock->peer, sock->address);
        mt_tcp_peer_close(&endpoint->peers[sock->peer]);
        return 0;
    }
    sock->state = MT_TCP_OPEN;
    if (sock->stream == 0)
        announce(endpoint, sock->peer);
    mt_messages_writable(endpoint->messages, sock->peer);
    return 1;
}

void mt_tcp_refused(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock, int why)
{
    struct mt_error error;
    if (sock->stream == 0 && endpoint->rank < sock->peer) {
        mt_tcp_socket_lose(endpoint, sock, why);
        return;
    }
    mt_tcp_socket_close(sock);
    if (sock->stream == 0) { /* or the rank is gone: then the control plane tells */
        sock->state = MT_TCP_REFUSED;
        return;
    }
    mt_error_set_rank(&error, MANTA_EPEER, (int)sock->peer,
                      "rank %u did not take a connection for long messages (%s)", sock->peer,
                      sock->address);
    dial_failed(endpoint, sock, &error);
}

static int look_at(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    struct mt_error error = {0};
    int fd = -1;
    if (sock == NULL || sock->dial == NULL)
        return 0;
    int code = mt_stream_dial_test(sock->dial, &fd, &error);
    if (code == MANTA_INPROGRESS)
        return 0;
    sock->dial = NULL;
    endpoint->dialling--;
    if (code == 0) {
        attach_or_fail(endpoint, sock, fd, MT_TCP_GREETING);
    } else {
        error.code = code;
        dial_failed(endpoint, sock, &error);
    }
    return 1;
}

int mt_tcp_dial_look(struct mt_tcp_endpoint *endpoint)
{
    uint64_t now_ns = endpoint->host->clock_ns();
    int moved = 0;
    if (now_ns - endpoint->dial_looked_ns < MT_TCP_DIAL_LOOK_NS)
        return 0;
    endpoint->dial_looked_ns = now_ns;
    for (uint32_t peer = 0; peer < endpoint->ranks && endpoint->dialling > 0; peer++) {
        moved |= look_at(endpoint, &endpoint->peers[peer].link);
        for (uint32_t stream = 1; stream < endpoint->peers[peer].streams; stream++)
            moved |= look_at(endpoint, endpoint->peers[peer].out[stream]);
    }
    return moved;
}

void mt_tcp_dial_cancel_all(struct mt_tcp_endpoint *endpoint)
{
    for (uint32_t peer = 0; peer < endpoint->ranks && endpoint->dialling > 0; peer++) {
        cancel_dial(endpoint, &endpoint->peers[peer].link);
        for (uint32_t stream = 1; stream < MT_TCP_STREAMS; stream++)
            cancel_dial(endpoint, endpoint->peers[peer].out[stream]);
    }
}
