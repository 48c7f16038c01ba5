/* SPDX-License-Identifier: Apache-2.0 */
/* Frames in: payload goes from the socket to its place, headers and small messages through a
 * buffer. */
#include <errno.h>
#include <string.h>

#include "transport/tcp/tcp.h"

enum { SHORT_BYTES = 2048 };

/* A frame that this stream may carry. */
static int is_fit(const struct mt_tcp_socket *sock, const struct mt_frame *frame)
{
    return sock->reads && (sock->stream == 0 || frame->type == MT_FRAME_DATA);
}

/* Use what is in the read buffer. 0, MANTA_ETRANSPORT when the peer sent no frame, MANTA_EMISMATCH
 * when it sent one that belongs to no call of this rank. */
static int digest(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    struct mt_messages *messages = endpoint->messages;
    for (;;) {
        uint32_t there = sock->in_end - sock->in_begin;
        const uint8_t *bytes = sock->in + sock->in_begin;
        uint64_t lacking = mt_messages_lacking(messages, sock->peer, sock->stream);
        if (lacking > 0 && there > 0 && sock->reads) {
            uint32_t take = there < lacking ? there : (uint32_t)lacking;
            mt_messages_deliver(messages, sock->peer, sock->stream, bytes, take);
            sock->in_begin += take;
            continue;
        }
        if (there < MT_FRAME_BYTES)
            break;
        struct mt_frame frame;
        if (mt_frame_decode(bytes, &frame) != 0 || !is_fit(sock, &frame)) {
            mt_messages_fail(messages, sock->peer, MT_MESSAGE_BOTH, MANTA_ETRANSPORT, 0,
                             "rank %u (%s) sent bytes that are no frame on its tcp connection; the "
                             "ranks may run different builds",
                             sock->peer, sock->address);
            return MANTA_ETRANSPORT;
        }
        sock->in_begin += MT_FRAME_BYTES;
        int code = mt_messages_begin(messages, sock->peer, sock->stream, &frame);
        if (code != 0)
            return code;
    }
    if (sock->in_begin > 0) {
        memmove(sock->in, sock->in + sock->in_begin, sock->in_end - sock->in_begin);
        sock->in_end -= sock->in_begin;
        sock->in_begin = 0;
    }
    return 0;
}

/* One read: the payload that lacks goes to its place, what follows it into the read buffer.
 * Returns what recvmsg does; *asked_out: as much would have been taken. */
static ssize_t receive(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock,
                       uint64_t *asked_out)
{
    struct mt_messages *messages = endpoint->messages;
    struct iovec vector[MT_MESSAGE_SINK_PIECES + 1];
    uint64_t lacking = sock->reads ? mt_messages_lacking(messages, sock->peer, sock->stream) : 0;
    uint32_t count = 0;
    uint64_t placed = 0;
    if (lacking > 0)
        count =
            mt_messages_sink(messages, sock->peer, sock->stream, vector, MT_MESSAGE_SINK_PIECES);
    for (uint32_t i = 0; i < count; i++)
        placed += vector[i].iov_len;
    /* What follows a short message is likely to be short. Behind a longer one only a header is
     * taken along: payload that lies in the buffer is copied once more. */
    uint64_t room = MT_TCP_READ_BUFFER - sock->in_end;
    if (placed > SHORT_BYTES)
        room = MT_FRAME_BYTES;
    if (count == 0 || placed == lacking)
        vector[count++] = (struct iovec){sock->in + sock->in_end, room};
    else
        room = 0;
    *asked_out = placed + room;
    ssize_t got = mt_tcp_bytes_receive(sock->fd, vector, count);
    if (got <= 0)
        return got;
    uint64_t direct = (uint64_t)got < placed ? (uint64_t)got : placed;
    if (direct > 0)
        mt_messages_advance(messages, sock->peer, sock->stream, direct);
    sock->in_end += (uint32_t)((uint64_t)got - direct);
    return got;
}

/* 0: the connection is no more, or not in use any more. */
static int use(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    if (sock->state == MT_TCP_GREETING && sock->in_end > 0) {
        sock->in_begin = 1;
        if (!mt_tcp_greeted(endpoint, sock, sock->in[0]))
            return 0;
    }
    int code = digest(endpoint, sock);
    if (code == MANTA_EMISMATCH) /* nothing is wrong with the connection */
        sock->state = MT_TCP_LOST;
    else if (code != 0)
        mt_tcp_peer_close(&endpoint->peers[sock->peer]);
    return code == 0;
}

/* The end of a connection, or of one that never was taken. */
static void end(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock, int error)
{
    if (sock->broken)
        error = sock->broken;
    if (sock->state == MT_TCP_GREETING)
        mt_tcp_refused(endpoint, sock, error);
    else
        mt_tcp_socket_lose(endpoint, sock, error);
}

int mt_tcp_socket_read(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    uint64_t total = 0;
    while ((sock->state == MT_TCP_OPEN || sock->state == MT_TCP_GREETING) &&
           total < MT_TCP_READ_ROUND) {
        uint64_t asked;
        ssize_t got = receive(endpoint, sock, &asked);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && !sock->broken) {
            sock->readable = 0;
            break;
        }
        if (got <= 0) {
            sock->readable = 0;
            end(endpoint, sock, got < 0 ? errno : 0);
            return 1;
        }
        total += (uint64_t)got;
        if (!use(endpoint, sock)) {
            sock->readable = 0;
            return 1;
        }
        /* A short read empties the socket; an end that came with it (hung_up) has to be read. */
        if ((uint64_t)got < asked && !sock->hung_up && !sock->broken) {
            sock->readable = 0;
            break;
        }
    }
    if (total >= MT_TCP_READ_ROUND)
        mt_tcp_activate(endpoint, sock);
    return total > 0;
}
