/* SPDX-License-Identifier: Apache-2.0 */
/* One connection of the tcp transport: how it begins and ends, and how bytes pass. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/service.h"
#include "transport/tcp/tcp.h"

enum { SEND_FLAGS = MSG_NOSIGNAL | MSG_DONTWAIT };

/* The kernel is called directly: the functions of libc are points of cancellation, and pay for it
 * in a process of several threads. */
ssize_t mt_tcp_bytes_send(int fd, struct iovec *pieces, uint32_t count)
{
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    ssize_t sent;
    do
        sent = count == 1
                   ? syscall(SYS_sendto, fd, pieces->iov_base, pieces->iov_len, SEND_FLAGS, NULL, 0)
                   : syscall(SYS_sendmsg, fd, &message, SEND_FLAGS);
    while (sent < 0 && errno == EINTR);
    return sent;
}

ssize_t mt_tcp_bytes_receive(int fd, struct iovec *pieces, uint32_t count)
{
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    ssize_t got;
    do
        got = count == 1 ? syscall(SYS_recvfrom, fd, pieces->iov_base, pieces->iov_len,
                                   MSG_DONTWAIT, NULL, NULL)
                         : syscall(SYS_recvmsg, fd, &message, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    return got;
}

void mt_tcp_activate(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    if (sock->state != MT_TCP_OPEN && sock->state != MT_TCP_GREETING)
        return;
    sock->readable = 1;
    if (sock->listed)
        return;
    sock->listed = 1;
    sock->next_active = endpoint->active;
    endpoint->active = sock;
}

void mt_tcp_socket_init(struct mt_tcp_socket *sock, uint32_t peer, uint32_t stream, int writes,
                        int reads)
{
    memset(sock, 0, sizeof(*sock));
    sock->fd = -1;
    sock->peer = peer;
    sock->stream = stream;
    sock->writes = writes;
    sock->reads = reads;
}

/* Only a link writes what it does not find in the callers' memory, headers apart. */
static int allocate(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    const struct manta_transport_host *host = endpoint->host;
    int is_link = sock->stream == 0;
    if (sock->in == NULL)
        sock->in = host->alloc(MT_TCP_READ_BUFFER, 64);
    if (sock->out == NULL)
        sock->out = host->alloc(is_link ? MT_TCP_OUT_BUFFER : 64, 64);
    if (is_link && sock->gather == NULL)
        sock->gather = host->alloc(sizeof(*sock->gather), 64);
    if (sock->in == NULL || sock->out == NULL || (is_link && sock->gather == NULL))
        return MANTA_ENOMEM;
    if (is_link)
        mt_tcp_gather_drop(sock);
    return 0;
}

int mt_tcp_socket_attach(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock, int fd,
                         enum mt_tcp_state state)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = sock};
    struct mt_address address = {.bytes = sizeof(address.socket)};
    endpoint->attached++;
    sock->fd = fd;
    sock->budget = MT_TCP_WRITE_ROUND;
    sock->blocked = sock->broken = sock->hung_up = 0;
    mt_fd_enter(fd);
    int code = allocate(endpoint, sock);
    if (code == 0)
        code = mt_messages_open(endpoint->messages, sock->peer);
    if (code != 0)
        return code;
    mt_tcp_tune(endpoint, fd);
    if (getpeername(fd, (struct sockaddr *)&address.socket, &address.bytes) == 0)
        mt_address_format(&address, sock->address);
    if (epoll_ctl(endpoint->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return MANTA_ESYSTEM;
    sock->state = state;
    if (state == MT_TCP_OPEN && sock->writes)
        mt_messages_writable(endpoint->messages, sock->peer);
    return 0;
}

void mt_tcp_socket_close(struct mt_tcp_socket *sock)
{
    if (sock->fd >= 0)
        mt_fd_close(sock->fd); /* leaves the epoll by itself */
    sock->fd = -1;
    sock->state = MT_TCP_LOST;
    mt_tcp_gather_drop(sock);
}

void mt_tcp_socket_free(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    mt_tcp_socket_close(sock);
    endpoint->host->free(sock->in);
    endpoint->host->free(sock->out);
    endpoint->host->free(sock->gather);
}

void mt_tcp_peer_close(struct mt_tcp_peer *peer)
{
    mt_tcp_socket_close(&peer->link);
    for (uint32_t stream = 1; stream < MT_TCP_STREAMS; stream++) {
        if (peer->out[stream] != NULL)
            mt_tcp_socket_close(peer->out[stream]);
        if (peer->in[stream] != NULL)
            mt_tcp_socket_close(peer->in[stream]);
    }
}

/* What a peer that leaves has sent before lies in this kernel already, on whichever stream. */
static void read_rest(struct mt_tcp_endpoint *endpoint, struct mt_tcp_peer *peer)
{
    mt_tcp_mailbox_read(endpoint);
    for (uint32_t stream = 1; stream < MT_TCP_STREAMS; stream++) {
        struct mt_tcp_socket *sock = peer->in[stream];
        do {
            if (sock == NULL || sock->state != MT_TCP_OPEN)
                break;
            mt_tcp_socket_read(endpoint, sock);
        } while (sock->readable);
    }
}

void mt_tcp_socket_lose(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock, int error)
{
    struct mt_tcp_peer *peer = &endpoint->peers[sock->peer];
    int is_link = sock->stream == 0;
    int is_cut = mt_messages_lacking(endpoint->messages, sock->peer, sock->stream) > 0 ||
                 sock->in_end > sock->in_begin;
    enum mt_message_direction direction = is_link        ? MT_MESSAGE_BOTH
                                          : sock->writes ? MT_MESSAGE_SENDS
                                                         : MT_MESSAGE_RECVS;
    sock->state = MT_TCP_LOST;
    if (is_link)
        read_rest(endpoint, peer);
    /* The link tells what the end of a stream means on which nothing is under way. */
    if (is_link || sock->writes || is_cut) {
        if (direction & MT_MESSAGE_SENDS)
            mt_tcp_gather_drop(&peer->link);
        mt_messages_fail(endpoint->messages, sock->peer, direction, MANTA_EPEER, error,
                         "the tcp connection %s rank %u (%s) was %s%s%s",
                         is_link        ? "with"
                         : sock->writes ? "to"
                                        : "from",
                         sock->peer, sock->address, error == 0 ? "closed by it" : "lost",
                         error == 0 ? "" : ": ", error == 0 ? "" : strerror(error));
    }
    mt_tcp_socket_close(sock);
}
