/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of the tcp transport. */
#include "transport/tcp/tcp.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/clock.h"
#include "transport/answer.h"
#include "transport/descriptors.h"
#include "transport/endpoint.h"
#include "transport/registry.h"

enum { EVENTS = 32 };

/* What an offer says: the addresses themselves are the listener's, known from the group. */
static const char offer[4] = {'t', 'c', 'p', '1'};

static int query(const struct manta_transport_host *host, struct manta_transport_error *error)
{
    const char *names = host->config("INTERFACE");
    struct mt_address address;
    char there[128], why[256];
    if (mt_tcp_congestion_check(host->config("TCP_CONGESTION"), why, sizeof(why)) != 0)
        return mt_transport_refuse(error, MANTA_EINVAL, 0, why);
    if (names == NULL || names[0] == '\0' || mt_address_local(names, &address, 1) > 0)
        return 0;
    mt_address_interfaces(there, sizeof(there));
    snprintf(why, sizeof(why), "no interface of that name is up with an address; there are %s",
             there);
    return mt_transport_refuse(error, MANTA_ENOTSUP, 0, why);
}

static struct mt_tcp_endpoint *endpoint_create(const struct manta_transport_open *params)
{
    const struct manta_transport_host *host = params->host;
    struct mt_tcp_endpoint *endpoint = mt_endpoint_alloc(host, sizeof(*endpoint));
    if (endpoint == NULL)
        return NULL;
    endpoint->host = host;
    endpoint->group = params->group;
    endpoint->rank = params->rank;
    endpoint->ranks = params->ranks;
    endpoint->timeout_ns = params->timeout_ns;
    endpoint->epoll_fd = endpoint->mail_fd = endpoint->timer_fd = -1;
    endpoint->peers = mt_endpoint_alloc(host, params->ranks * sizeof(*endpoint->peers));
    if (endpoint->peers == NULL) {
        host->free(endpoint);
        return NULL;
    }
    for (uint32_t peer = 0; peer < params->ranks; peer++) {
        mt_tcp_socket_init(&endpoint->peers[peer].link, peer, 0, 1, 1);
        atomic_init(&endpoint->peers[peer].origin, MT_TCP_NOWHERE);
        for (uint32_t stream = 0; stream < MT_TCP_STREAMS; stream++)
            atomic_init(&endpoint->peers[peer].accepted[stream], -1);
    }
    return endpoint;
}

static void free_bulk(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    if (sock == NULL)
        return;
    mt_tcp_socket_free(endpoint, sock);
    endpoint->host->free(sock);
}

static void endpoint_free(struct mt_tcp_endpoint *endpoint)
{
    const struct manta_transport_host *host = endpoint->host;
    mt_descriptors_close(endpoint->epoll_fd, endpoint->mail_fd, endpoint->timer_fd);
    mt_messages_destroy(endpoint->messages);
    for (uint32_t peer = 0; peer < endpoint->ranks; peer++) {
        mt_tcp_socket_free(endpoint, &endpoint->peers[peer].link);
        for (uint32_t stream = 1; stream < MT_TCP_STREAMS; stream++) {
            free_bulk(endpoint, endpoint->peers[peer].out[stream]);
            free_bulk(endpoint, endpoint->peers[peer].in[stream]);
        }
    }
    host->free(endpoint->peers);
    host->free(endpoint);
}

static int open_endpoint(const struct manta_transport_open *params, void **endpoint_out,
                         struct manta_transport_error *error)
{
    *endpoint_out = NULL;
    uint32_t sockets;
    if (params->group == NULL)
        return mt_transport_refuse(error, MANTA_EINVAL, 0, "tcp needs a group");
    if (mt_tcp_sockets_parse(params->host->config("TCP_SOCKETS"), &sockets) != 0)
        return mt_transport_refuse(error, MANTA_EINVAL, 0,
                                   "MANTA_TCP_SOCKETS must be auto or a number from 1 to 8");
    struct mt_tcp_endpoint *endpoint = endpoint_create(params);
    if (endpoint == NULL)
        return mt_transport_refuse(error, MANTA_ENOMEM, 0, "no memory for the tcp endpoint");
    endpoint->sockets = sockets;
    struct mt_message_settings settings = mt_endpoint_messages(params);
    settings.transport = "tcp";
    settings.eager_bytes = MT_TCP_EAGER_BYTES;
    settings.window_bytes = MT_TCP_WINDOW_BYTES;
    settings.stretch_bytes = MT_TCP_STRETCH_BYTES;
    settings.wire = &mt_tcp_wire;
    settings.wire_arg = endpoint;
    int code = mt_messages_create(&settings, &endpoint->messages);
    if (code == 0 && mt_descriptors_open(&endpoint->epoll_fd, &endpoint->mail_fd,
                                         &endpoint->timer_fd, EPOLLIN | EPOLLET) != 0)
        code = MANTA_ESYSTEM;
    if (code == 0)
        code = mt_tcp_mailbox_open(endpoint);
    if (code != 0) {
        mt_transport_refuse(error, code, code == MANTA_ESYSTEM ? errno : 0,
                            "the tcp endpoint could not be opened");
        endpoint_free(endpoint);
        return code;
    }
    *endpoint_out = endpoint;
    return 0;
}

static int address(void *handle, void *blob, size_t blob_bytes, size_t *bytes_out)
{
    (void)handle;
    return mt_transport_write_offer(offer, blob, blob_bytes, bytes_out);
}

static int peers(void *handle, const void *const *addresses, const size_t *address_bytes)
{
    struct mt_tcp_endpoint *endpoint = handle;
    for (uint32_t peer = 0; peer < endpoint->ranks; peer++)
        endpoint->peers[peer].offered =
            mt_transport_is_offer(offer, addresses[peer], address_bytes[peer]);
    return 0;
}

/* A connection is dialled by the first send: a rank that only receives from a peer waits for the
 * peer's dial. So there is nothing to wait for here. */
static int connect_peer(void *handle, uint32_t peer, uint64_t deadline_ns)
{
    struct mt_tcp_endpoint *endpoint = handle;
    (void)deadline_ns;
    return mt_messages_open(endpoint->messages, peer);
}

static int send_op(void *handle, const struct manta_transport_message *message,
                   struct manta_transport_request *request)
{
    struct mt_tcp_endpoint *endpoint = handle;
    if (message->peer < endpoint->ranks &&
        endpoint->peers[message->peer].link.state == MT_TCP_NONE &&
        message->peer != endpoint->rank) {
        int code = mt_tcp_dial(endpoint, message->peer);
        if (code != 0)
            return code;
    }
    return mt_messages_send(endpoint->messages, message, request);
}

static int recv_op(void *handle, const struct manta_transport_message *message,
                   struct manta_transport_request *request)
{
    struct mt_tcp_endpoint *endpoint = handle;
    return mt_messages_recv(endpoint->messages, message, request);
}

static void handle_event(struct mt_tcp_endpoint *endpoint, const struct epoll_event *event)
{
    if (event->data.ptr == &endpoint->mail_fd) {
        mt_tcp_mailbox_read(endpoint);
        return;
    }
    if (event->data.ptr == &endpoint->timer_fd) {
        endpoint->dial_looked_ns = 0;
        return;
    }
    struct mt_tcp_socket *sock = event->data.ptr;
    if (sock->fd < 0)
        return;
    if (event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        sock->hung_up = 1;
    if (event->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        mt_tcp_activate(endpoint, sock);
    if (event->events & EPOLLOUT && !endpoint->aborted)
        mt_tcp_socket_writable(endpoint, sock);
}

/* Read from the sockets that have something; those that have more stay on the list. */
static int read_active(struct mt_tcp_endpoint *endpoint)
{
    int moved = 0;
    struct mt_tcp_socket *sock = endpoint->active;
    endpoint->active = NULL;
    while (sock != NULL) {
        struct mt_tcp_socket *next = sock->next_active;
        sock->listed = 0;
        if (sock->readable)
            moved |= mt_tcp_socket_read(endpoint, sock);
        sock = next;
    }
    return moved;
}

/* What the kernel has noticed. */
static int ask_epoll(struct mt_tcp_endpoint *endpoint)
{
    struct epoll_event events[EVENTS];
    /* Not epoll_wait(), which is a point of cancellation and pays for that. */
    long count = syscall(SYS_epoll_pwait, endpoint->epoll_fd, events, EVENTS, 0, NULL, 8);
    for (long i = 0; i < count; i++)
        handle_event(endpoint, &events[i]);
    return count > 0;
}

static int progress(void *handle)
{
    struct mt_tcp_endpoint *endpoint = handle;
    /* Nothing to ask the kernel for: the ranks of one node do not pay for the others. */
    if (endpoint->attached == 0 && endpoint->dialling == 0 &&
        !atomic_load_explicit(&endpoint->has_mail, memory_order_relaxed))
        return 0;
    int moved = mt_tcp_next_round(endpoint);
    if (endpoint->dialling > 0)
        moved |= mt_tcp_dial_look(endpoint);
    moved |= ask_epoll(endpoint);
    moved |= read_active(endpoint);
    if (endpoint->is_wanted)
        mt_tcp_dial_wanted(endpoint);
    moved |= mt_tcp_next_round(endpoint);
    if (endpoint->failure && !endpoint->aborted)
        return endpoint->failure;
    return mt_messages_round(endpoint->messages, moved);
}

static int wait_fd(void *handle)
{
    return ((struct mt_tcp_endpoint *)handle)->epoll_fd;
}

static int arm(void *handle)
{
    struct mt_tcp_endpoint *endpoint = handle;
    mt_tcp_next_round(endpoint);
    if (endpoint->active != NULL || endpoint->dirty != NULL || endpoint->is_wanted ||
        mt_tcp_lose_silent(endpoint))
        return 1;
    if (endpoint->dialling > 0) {
        const struct itimerspec soon = {.it_value = {.tv_nsec = MT_TCP_DIAL_SLEEP_NS}};
        timerfd_settime(endpoint->timer_fd, 0, &soon, NULL);
    }
    return 0;
}

static void disarm(void *handle)
{
    (void)handle;
}

static int peer_status(void *handle, uint32_t peer)
{
    const struct mt_tcp_endpoint *endpoint = handle;
    if (peer >= endpoint->ranks)
        return MANTA_EINVAL;
    const struct mt_tcp_peer *state = &endpoint->peers[peer];
    if (state->link.state == MT_TCP_LOST)
        return MANTA_EPEER;
    return state->link.state == MT_TCP_OPEN ? 0 : MANTA_INPROGRESS;
}

static void error_op(void *handle, struct manta_transport_error *error_out)
{
    mt_messages_error(((struct mt_tcp_endpoint *)handle)->messages, error_out);
}

static int abort_op(void *handle, int code)
{
    struct mt_tcp_endpoint *endpoint = handle;
    endpoint->aborted = 1;
    mt_messages_abort(endpoint->messages, code);
    for (uint32_t peer = 0; peer < endpoint->ranks; peer++)
        mt_tcp_gather_drop(&endpoint->peers[peer].link);
    mt_tcp_dial_cancel_all(endpoint);
    return 0;
}

/* 1 while a socket holds bytes that its peer's kernel has not got. */
static int drain_socket(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    int unacknowledged = 0;
    if (sock == NULL || sock->state != MT_TCP_OPEN || sock->broken || sock->shut)
        return 0;
    mt_tcp_socket_flush(endpoint, sock);
    if (sock->out_end > sock->out_begin || (sock->gather != NULL && sock->gather->frames > 0))
        return 1;
    if (ioctl(sock->fd, SIOCOUTQ, &unacknowledged) == 0 && unacknowledged > 0)
        return 1;
    shutdown(sock->fd, SHUT_WR);
    sock->shut = 1;
    return 0;
}

static int drain(void *handle)
{
    struct mt_tcp_endpoint *endpoint = handle;
    int more = 0;
    for (uint32_t peer = 0; peer < endpoint->ranks; peer++) {
        int bulk = 0;
        for (uint32_t stream = 1; stream < MT_TCP_STREAMS; stream++)
            bulk |= drain_socket(endpoint, endpoint->peers[peer].out[stream]);
        /* The end of the link is the end of all: it comes last. */
        more |= bulk || drain_socket(endpoint, &endpoint->peers[peer].link);
    }
    return more;
}

static void close_endpoint(void *handle)
{
    struct mt_tcp_endpoint *endpoint = handle;
    mt_messages_abort(endpoint->messages, MANTA_EABORTED);
    mt_tcp_mailbox_close(endpoint);
    mt_tcp_dial_cancel_all(endpoint);
    endpoint_free(endpoint);
}

static void counters(void *handle, struct manta_transport_counters *counters_out)
{
    mt_messages_counters(((struct mt_tcp_endpoint *)handle)->messages, counters_out);
}

const struct manta_transport mt_transport_tcp = {
    .size = sizeof(struct manta_transport),
    .abi = MANTA_TRANSPORT_ABI,
    .name = "tcp",
    .query = query,
    .open = open_endpoint,
    .address = address,
    .peers = peers,
    .probe = mt_tcp_probe,
    .connect = connect_peer,
    .send = send_op,
    .recv = recv_op,
    .progress = progress,
    .wait_fd = wait_fd,
    .arm = arm,
    .disarm = disarm,
    .peer_status = peer_status,
    .error = error_op,
    .abort = abort_op,
    .drain = drain,
    .close = close_endpoint,
    .counters = counters,
};
