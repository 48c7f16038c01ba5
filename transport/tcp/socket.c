/* SPDX-License-Identifier: Apache-2.0 */
/* One connection of the tcp transport: frames out, frames in. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/service.h"
#include "transport/tcp/tcp.h"

enum { SEND_FLAGS = MSG_NOSIGNAL | MSG_DONTWAIT };

void mt_tcp_activate(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket)
{
    if (socket->readable || socket->state != MT_TCP_OPEN)
        return;
    socket->readable = 1;
    socket->next_active = endpoint->active;
    endpoint->active = socket;
}

int mt_tcp_socket_attach(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock, int fd)
{
    const struct manta_transport_host *host = endpoint->host;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = sock};
    struct mt_address address = {.bytes = sizeof(address.socket)};
    endpoint->attached++;
    sock->fd = fd;
    sock->out_room = sock->outgoing ? MT_TCP_FORWARD_BUFFER : MT_TCP_ANSWER_BUFFER;
    sock->in = host->alloc(MT_TCP_READ_BUFFER, 64);
    sock->out = host->alloc(sock->out_room, 64);
    mt_fd_enter(fd);
    if (sock->in == NULL || sock->out == NULL)
        return MANTA_ENOMEM;
    int code = mt_messages_open(endpoint->messages, sock->peer);
    if (code != 0)
        return code;
    mt_tcp_tune(endpoint, fd);
    if (getpeername(fd, (struct sockaddr *)&address.socket, &address.bytes) == 0)
        mt_address_format(&address, sock->address);
    if (epoll_ctl(endpoint->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return MANTA_ESYSTEM;
    sock->state = MT_TCP_OPEN;
    mt_messages_writable(endpoint->messages, sock->peer);
    return 0;
}

void mt_tcp_socket_close(struct mt_tcp_socket *sock)
{
    if (sock->fd >= 0)
        mt_fd_close(sock->fd); /* leaves the epoll by itself */
    sock->fd = -1;
    sock->state = MT_TCP_LOST;
}

/* The connection is over; error 0: the peer closed it. */
static void lose(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock, int error)
{
    mt_messages_fail(endpoint->messages, sock->peer,
                     sock->outgoing ? MT_MESSAGE_SENDS : MT_MESSAGE_RECVS, MANTA_EPEER, error,
                     "the tcp connection %s rank %u (%s) was %s%s%s",
                     sock->outgoing ? "to" : "from", sock->peer, sock->address,
                     error == 0 ? "closed by it" : "lost", error == 0 ? "" : ": ",
                     error == 0 ? "" : strerror(error));
    mt_tcp_socket_close(sock);
}

static ssize_t send_vector(int fd, struct iovec *vector, uint32_t count)
{
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = count};
    ssize_t sent;
    do
        sent = sendmsg(fd, &message, SEND_FLAGS);
    while (sent < 0 && errno == EINTR);
    return sent;
}

/* A failed system call: no room, or broken. */
static void note_error(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        sock->blocked = 1;
        return;
    }
    sock->broken = errno;
    mt_tcp_activate(endpoint, sock);
}

static int can_write(const struct mt_tcp_socket *sock)
{
    return sock->state == MT_TCP_OPEN && !sock->blocked && !sock->broken && !sock->shut;
}

int mt_tcp_socket_flush(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    int moved = 0;
    while (sock->out_begin < sock->out_end && can_write(sock)) {
        struct iovec rest = {sock->out + sock->out_begin, sock->out_end - sock->out_begin};
        ssize_t sent = send_vector(sock->fd, &rest, 1);
        if (sent < 0) {
            note_error(endpoint, sock);
            continue;
        }
        sock->out_begin += (uint32_t)sent;
        moved = 1;
    }
    if (sock->out_begin < sock->out_end)
        return moved;
    sock->out_begin = sock->out_end = 0;
    if (sock->outgoing)
        mt_messages_flushed(endpoint->messages, sock->peer);
    return moved;
}

void mt_tcp_socket_writable(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    sock->blocked = 0;
    mt_tcp_socket_flush(endpoint, sock);
    if (can_write(sock))
        mt_messages_writable(endpoint->messages, sock->peer);
}

int mt_tcp_flush_answers(struct mt_tcp_endpoint *endpoint)
{
    int moved = 0;
    while (endpoint->dirty != NULL) {
        struct mt_tcp_socket *sock = endpoint->dirty;
        endpoint->dirty = sock->next_dirty;
        sock->dirty = 0;
        moved |= mt_tcp_socket_flush(endpoint, sock);
    }
    return moved;
}

/* Answers are gathered, and written by the next progress: who owes one has a receive posted. */
static int put_answer(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock,
                      const struct mt_frame *frame)
{
    if (sock->state != MT_TCP_OPEN || sock->broken)
        return MANTA_EAGAIN;
    if (sock->out_room - sock->out_end < MT_FRAME_BYTES)
        mt_tcp_socket_flush(endpoint, sock);
    if (sock->out_room - sock->out_end < MT_FRAME_BYTES)
        return MANTA_EAGAIN;
    mt_frame_encode(frame, sock->out + sock->out_end);
    sock->out_end += MT_FRAME_BYTES;
    if (!sock->dirty) {
        sock->dirty = 1;
        sock->next_dirty = endpoint->dirty;
        endpoint->dirty = sock;
    }
    return 0;
}

/* Keep what a short write left of these pieces in the (empty) write buffer. */
static void keep_rest(struct mt_tcp_socket *sock, const struct iovec *pieces, uint32_t count,
                      uint64_t sent)
{
    for (uint32_t i = 0; i < count; i++) {
        if (sent >= pieces[i].iov_len) {
            sent -= pieces[i].iov_len;
            continue;
        }
        uint64_t left = pieces[i].iov_len - sent;
        memcpy(sock->out + sock->out_end, (const uint8_t *)pieces[i].iov_base + sent, left);
        sock->out_end += (uint32_t)left;
        sent = 0;
    }
}

static int wire_put(void *wire, uint32_t peer, const struct mt_frame *frame,
                    const struct iovec *payload, uint32_t pieces)
{
    struct mt_tcp_endpoint *endpoint = wire;
    uint8_t header[MT_FRAME_BYTES];
    struct iovec vector[MANTA_PLAN_LOCATIONS + 1] = {{header, sizeof(header)}};
    if (!mt_frame_is_forward(frame->type))
        return put_answer(endpoint, &endpoint->peers[peer].in, frame);
    struct mt_tcp_socket *sock = &endpoint->peers[peer].out;
    if (!can_write(sock) || sock->part_left > 0 || sock->out_end > 0)
        return MANTA_EAGAIN;
    mt_frame_encode(frame, header);
    for (uint32_t i = 0; i < pieces; i++)
        vector[i + 1] = payload[i];
    ssize_t sent = send_vector(sock->fd, vector, pieces + 1);
    if (sent < 0) {
        note_error(endpoint, sock);
        return MANTA_EAGAIN;
    }
    if ((uint64_t)sent == MT_FRAME_BYTES + (uint64_t)frame->part)
        return 0;
    keep_rest(sock, vector, pieces + 1, (uint64_t)sent);
    sock->blocked = 1;
    return MANTA_INPROGRESS;
}

/* The pieces cut to `limit` bytes, behind what is buffered. Returns their number. */
static uint32_t part_vector(const struct mt_tcp_socket *sock, const struct iovec *payload,
                            uint32_t pieces, struct iovec *vector)
{
    uint32_t count = 0;
    uint64_t left = sock->part_left;
    if (sock->out_end > sock->out_begin)
        vector[count++] =
            (struct iovec){sock->out + sock->out_begin, sock->out_end - sock->out_begin};
    for (uint32_t i = 0; i < pieces && left > 0; i++) {
        uint64_t take = payload[i].iov_len < left ? payload[i].iov_len : left;
        vector[count++] = (struct iovec){payload[i].iov_base, take};
        left -= take;
    }
    return count;
}

static int wire_data(void *wire, uint32_t peer, const struct mt_frame *frame,
                     const struct iovec *payload, uint32_t pieces, uint64_t done,
                     uint64_t *accepted_out)
{
    struct mt_tcp_endpoint *endpoint = wire;
    struct mt_tcp_socket *sock = &endpoint->peers[peer].out;
    struct iovec vector[MANTA_PLAN_LOCATIONS + 1];
    if (!can_write(sock) || (sock->part_left == 0 && sock->out_end > 0))
        return MANTA_EAGAIN;
    if (sock->part_left == 0) {
        struct mt_frame part = *frame;
        uint64_t left = frame->bytes - done;
        part.part = left < MT_TCP_PART_BYTES ? (uint32_t)left : MT_TCP_PART_BYTES;
        sock->part_left = part.part;
        mt_frame_encode(&part, sock->out);
        sock->out_end = MT_FRAME_BYTES;
    }
    ssize_t sent = send_vector(sock->fd, vector, part_vector(sock, payload, pieces, vector));
    if (sent < 0) {
        note_error(endpoint, sock);
        return MANTA_EAGAIN;
    }
    uint64_t buffered = sock->out_end - sock->out_begin;
    if ((uint64_t)sent < buffered + sock->part_left)
        sock->blocked = 1;
    if ((uint64_t)sent < buffered) {
        sock->out_begin += (uint32_t)sent;
        return MANTA_EAGAIN;
    }
    sock->out_begin = sock->out_end = 0;
    *accepted_out = (uint64_t)sent - buffered;
    sock->part_left -= *accepted_out;
    return *accepted_out > 0 ? 0 : MANTA_EAGAIN;
}

const struct mt_wire mt_tcp_wire = {.put = wire_put, .data = wire_data};

/* Use what is in the read buffer. 0, MANTA_ETRANSPORT when the peer sent no frame, MANTA_EMISMATCH
 * when it sent one that belongs to no call of this rank. */
static int digest(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    struct mt_messages *messages = endpoint->messages;
    for (;;) {
        uint32_t there = sock->in_end - sock->in_begin;
        const uint8_t *bytes = sock->in + sock->in_begin;
        uint64_t lacking = sock->outgoing ? 0 : mt_messages_lacking(messages, sock->peer);
        if (lacking > 0 && there > 0) {
            uint32_t take = there < lacking ? there : (uint32_t)lacking;
            mt_messages_deliver(messages, sock->peer, bytes, take);
            sock->in_begin += take;
            continue;
        }
        if (there < MT_FRAME_BYTES)
            break;
        struct mt_frame frame;
        if (mt_frame_decode(bytes, &frame) != 0 ||
            mt_frame_is_forward(frame.type) == sock->outgoing) {
            mt_messages_fail(messages, sock->peer, MT_MESSAGE_BOTH, MANTA_ETRANSPORT, 0,
                             "rank %u (%s) sent bytes that are no frame on its tcp connection; the "
                             "ranks may run different builds",
                             sock->peer, sock->address);
            return MANTA_ETRANSPORT;
        }
        sock->in_begin += MT_FRAME_BYTES;
        int code = mt_messages_begin(messages, sock->peer, &frame);
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
    struct iovec vector[MT_MESSAGE_SINK_PIECES + 1];
    uint64_t lacking = sock->outgoing ? 0 : mt_messages_lacking(endpoint->messages, sock->peer);
    uint32_t count = 0;
    uint64_t placed = 0;
    if (lacking > 0)
        count = mt_messages_sink(endpoint->messages, sock->peer, vector, MT_MESSAGE_SINK_PIECES);
    for (uint32_t i = 0; i < count; i++)
        placed += vector[i].iov_len;
    uint64_t room = MT_TCP_READ_BUFFER - sock->in_end;
    if (count == 0 || placed == lacking)
        vector[count++] = (struct iovec){sock->in + sock->in_end, room};
    else
        room = 0;
    *asked_out = placed + room;
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = count};
    ssize_t got = recvmsg(sock->fd, &message, MSG_DONTWAIT);
    if (got <= 0)
        return got;
    uint64_t direct = (uint64_t)got < placed ? (uint64_t)got : placed;
    if (direct > 0)
        mt_messages_advance(endpoint->messages, sock->peer, direct);
    sock->in_end += (uint32_t)((uint64_t)got - direct);
    return got;
}

int mt_tcp_socket_read(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    uint64_t total = 0;
    while (sock->state == MT_TCP_OPEN && total < MT_TCP_READ_ROUND) {
        uint64_t asked;
        ssize_t got = receive(endpoint, sock, &asked);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && !sock->broken) {
            sock->readable = 0;
            break;
        }
        if (got <= 0) {
            lose(endpoint, sock, got < 0 ? (sock->broken ? sock->broken : errno) : sock->broken);
            return 1;
        }
        total += (uint64_t)got;
        int code = digest(endpoint, sock);
        if (code == MANTA_EMISMATCH) { /* nothing is wrong with the connection */
            sock->state = MT_TCP_LOST;
            return 1;
        }
        if (code != 0) {
            mt_tcp_socket_close(&endpoint->peers[sock->peer].out);
            mt_tcp_socket_close(&endpoint->peers[sock->peer].in);
            return 1;
        }
        /* A short read empties the socket; an end that came with it (hung_up) has to be read. */
        if ((uint64_t)got < asked && !sock->hung_up && !sock->broken) {
            sock->readable = 0;
            break;
        }
    }
    return total > 0;
}
