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

/* In the service thread. What a peer has dialled waits here until the endpoint looks; a second one
 * never takes the place of the first, which may carry messages already. */
static void accepted(void *arg, int fd, uint32_t from, uint32_t index)
{
    struct mt_tcp_endpoint *endpoint = arg;
    uint64_t one = 1;
    int none = -1;
    mt_fd_enter(fd);
    grow_receive_buffer(fd);
    /* Pairs with the exchange in take(). */
    if (from >= endpoint->ranks || from == endpoint->rank || index != 0 ||
        !atomic_compare_exchange_strong(&endpoint->peers[from].accepted, &none, fd)) {
        mt_fd_close(fd);
        return;
    }
    atomic_store_explicit(&endpoint->has_mail, 1, memory_order_relaxed);
    ssize_t written = write(endpoint->mail_fd, &one, sizeof(one));
    (void)written; /* EAGAIN: it is readable already */
}

int mt_tcp_mailbox_open(struct mt_tcp_endpoint *endpoint)
{
    return mt_stream_listen(endpoint->group, MT_STREAM_TCP, accepted, endpoint);
}

/* The connection that this peer has dialled since the last look, or -1. */
static int take(struct mt_tcp_endpoint *endpoint, uint32_t peer)
{
    return atomic_exchange(&endpoint->peers[peer].accepted, -1);
}

void mt_tcp_mailbox_close(struct mt_tcp_endpoint *endpoint)
{
    mt_stream_unlisten(endpoint->group, MT_STREAM_TCP);
    for (uint32_t peer = 0; peer < endpoint->ranks; peer++)
        mt_fd_close(take(endpoint, peer));
}

static void attach_or_fail(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock, int fd)
{
    int code = mt_tcp_socket_attach(endpoint, sock, fd);
    if (code == 0)
        return;
    mt_messages_fail(endpoint->messages, sock->peer,
                     sock->outgoing ? MT_MESSAGE_SENDS : MT_MESSAGE_RECVS, code, errno,
                     "the tcp connection with rank %u cannot be used: %s", sock->peer,
                     manta_strerror(code));
    mt_tcp_socket_close(sock);
    endpoint->failure = code; /* its peer sees an end, and must not be blamed for it */
}

void mt_tcp_mailbox_read(struct mt_tcp_endpoint *endpoint)
{
    uint64_t count;
    ssize_t got = read(endpoint->mail_fd, &count, sizeof(count));
    (void)got; /* EAGAIN: an earlier read took it, what lies below may still be new */
    for (uint32_t peer = 0; peer < endpoint->ranks; peer++) {
        struct mt_tcp_socket *sock = &endpoint->peers[peer].in;
        int fd = take(endpoint, peer);
        if (fd >= 0 && sock->state == MT_TCP_NONE && !endpoint->aborted)
            attach_or_fail(endpoint, sock, fd);
        else
            mt_fd_close(fd); /* a peer has one connection to here */
    }
}

/* A dial that ended without a connection: a peer that did not answer is as good as lost. */
static int dial_failed(struct mt_tcp_endpoint *endpoint, uint32_t peer,
                       const struct mt_error *error)
{
    int code = error->code;
    if (code == MANTA_ETIMEOUT)
        code = MANTA_EPEER;
    endpoint->peers[peer].out.state = MT_TCP_LOST;
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

int mt_tcp_dial(struct mt_tcp_endpoint *endpoint, uint32_t peer)
{
    struct mt_tcp_peer *state = &endpoint->peers[peer];
    struct mt_error error = {0};
    if (state->out.state != MT_TCP_NONE || endpoint->aborted)
        return 0;
    int code = mt_messages_open(endpoint->messages, peer);
    if (code != 0)
        return code;
    struct mt_address addresses[MT_GROUP_ADDRESSES];
    int is_told;
    if (mt_reach_addresses(endpoint->group, peer, addresses, &is_told) > 0)
        mt_address_format_host(&addresses[0], state->tried_first);
    uint64_t deadline_ns = endpoint->host->clock_ns() + endpoint->timeout_ns;
    code = mt_stream_dial(endpoint->group, peer, MT_STREAM_TCP, 0, deadline_ns, &state->dial);
    if (code != 0) {
        mt_error_set(&error, code, "%s", manta_strerror(code));
        return dial_failed(endpoint, peer, &error);
    }
    state->out.state = MT_TCP_DIALLING;
    endpoint->dialling++;
    endpoint->dial_looked_ns = 0;
    return 0;
}

/* Who reads the log learns at level info what is not as it was announced. */
static void announce(struct mt_tcp_endpoint *endpoint, uint32_t peer)
{
    struct manta_transport_properties properties = {.size = sizeof(properties)};
    struct mt_reach reach;
    char host[MT_ADDRESS_TEXT], sentence[384];
    mt_reach_look(endpoint->group, peer, &reach);
    mt_address_format_host(&reach.peer, host);
    int is_other =
        reach.how == MT_REACH_DIALLED && strcmp(host, endpoint->peers[peer].tried_first) != 0;
    mt_tcp_describe(endpoint, peer, &properties);
    snprintf(sentence, sizeof(sentence), "rank %u is reached by %s %s%s%s", peer,
             properties.interface, properties.reason, is_other ? "; tried first: " : "",
             is_other ? endpoint->peers[peer].tried_first : "");
    endpoint->host->log(is_other ? MT_LOG_INFO : MT_LOG_DEBUG, "tcp", sentence);
}

static int look_at(struct mt_tcp_endpoint *endpoint, uint32_t peer)
{
    struct mt_tcp_peer *state = &endpoint->peers[peer];
    struct mt_error error = {0};
    int fd = -1;
    int code = mt_stream_dial_test(state->dial, &fd, &error);
    if (code == MANTA_INPROGRESS)
        return 0;
    state->dial = NULL;
    endpoint->dialling--;
    if (code == 0) {
        attach_or_fail(endpoint, &state->out, fd);
        if (state->out.state == MT_TCP_OPEN)
            announce(endpoint, peer);
    } else {
        error.code = code;
        dial_failed(endpoint, peer, &error);
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
        if (endpoint->peers[peer].dial != NULL)
            moved |= look_at(endpoint, peer);
    }
    return moved;
}

void mt_tcp_dial_cancel_all(struct mt_tcp_endpoint *endpoint)
{
    for (uint32_t peer = 0; peer < endpoint->ranks && endpoint->dialling > 0; peer++) {
        struct mt_tcp_peer *state = &endpoint->peers[peer];
        if (state->dial == NULL)
            continue;
        mt_stream_dial_cancel(state->dial);
        state->dial = NULL;
        state->out.state = MT_TCP_LOST;
        endpoint->dialling--;
    }
}
