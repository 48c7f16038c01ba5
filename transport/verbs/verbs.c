/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of the verbs transport. */
#include "transport/verbs/verbs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/counter.h"
#include "transport/answer.h"
#include "transport/descriptors.h"
#include "transport/endpoint.h"
#include "transport/registry.h"

enum { EVENTS = 32, WHY_BYTES = 200, LOOK_EVERY = 512 };

static int query(const struct manta_transport_host *host, struct manta_transport_error *error)
{
    char why[WHY_BYTES];
    const struct mt_verbs_library *library = mt_verbs_library(why, sizeof(why));
    (void)host;
    if (library != NULL && mt_verbs_devices_query(library, why, sizeof(why)) == 0)
        return 0;
    return mt_transport_refuse(error, MANTA_ENOTSUP, 0, why);
}

static struct mt_verbs_endpoint *endpoint_create(const struct manta_transport_open *params)
{
    const struct manta_transport_host *host = params->host;
    struct mt_verbs_endpoint *endpoint = mt_endpoint_alloc(host, sizeof(*endpoint));
    if (endpoint == NULL)
        return NULL;
    endpoint->host = host;
    endpoint->group = params->group;
    endpoint->rank = params->rank;
    endpoint->ranks = params->ranks;
    endpoint->timeout_ns = params->timeout_ns;
    endpoint->epoll_fd = endpoint->mail_fd = endpoint->timer_fd = -1;
    endpoint->doors = mt_endpoint_alloc(host, params->ranks * sizeof(*endpoint->doors));
    endpoint->peers = mt_endpoint_alloc(host, params->ranks * sizeof(*endpoint->peers));
    if (endpoint->doors == NULL || endpoint->peers == NULL) {
        host->free(endpoint->doors);
        host->free(endpoint->peers);
        host->free(endpoint);
        return NULL;
    }
    for (uint32_t rank = 0; rank < params->ranks; rank++) {
        atomic_init(&endpoint->doors[rank].accepted, -1);
        atomic_init(&endpoint->doors[rank].origin, MT_VERBS_NOWHERE);
    }
    return endpoint;
}

static void endpoint_free(struct mt_verbs_endpoint *endpoint)
{
    const struct manta_transport_host *host = endpoint->host;
    mt_verbs_imports_free(endpoint);
    mt_registrations_destroy(endpoint->registrations);
    mt_verbs_stop(endpoint);
    mt_verbs_devices_close(endpoint);
    mt_descriptors_close(endpoint->epoll_fd, endpoint->mail_fd, endpoint->timer_fd);
    mt_messages_destroy(endpoint->messages);
    for (uint32_t rank = 0; rank < endpoint->ranks; rank++) {
        host->free(endpoint->doors[rank].address);
        host->free(endpoint->peers[rank]);
    }
    host->free(endpoint->doors);
    host->free(endpoint->peers);
    host->free(endpoint);
}

static int open_parts(struct mt_verbs_endpoint *endpoint, const struct manta_transport_open *params,
                      char *why, size_t why_bytes)
{
    struct mt_message_settings settings = mt_endpoint_messages(params);
    settings.transport = "verbs";
    settings.eager_bytes = MT_VERBS_EAGER_BYTES;
    settings.window_bytes = MT_VERBS_WINDOW_BYTES;
    settings.wire = &mt_verbs_wire;
    settings.wire_arg = endpoint;
    int code = mt_verbs_settings_read(endpoint, why, why_bytes);
    if (code == 0)
        code = mt_verbs_devices_open(endpoint, why, why_bytes);
    if (code != 0)
        return code;
    snprintf(why, why_bytes, "the verbs endpoint could not be opened");
    code = mt_messages_create(&settings, &endpoint->messages);
    if (code == 0)
        code = mt_verbs_memory_open(endpoint);
    if (code == 0 && mt_descriptors_open(&endpoint->epoll_fd, &endpoint->mail_fd,
                                         &endpoint->timer_fd, EPOLLIN) != 0)
        code = MANTA_ESYSTEM;
    return code == 0 ? mt_verbs_mailbox_open(endpoint) : code;
}

static int open_endpoint(const struct manta_transport_open *params, void **endpoint_out,
                         struct manta_transport_error *error)
{
    char why[WHY_BYTES] = "";
    *endpoint_out = NULL;
    if (params->group == NULL)
        return mt_transport_refuse(error, MANTA_EINVAL, 0, "verbs needs a group");
    const struct mt_verbs_library *library = mt_verbs_library(why, sizeof(why));
    if (library == NULL)
        return mt_transport_refuse(error, MANTA_ENOTSUP, 0, why);
    struct mt_verbs_endpoint *endpoint = endpoint_create(params);
    if (endpoint == NULL)
        return mt_transport_refuse(error, MANTA_ENOMEM, 0, "no memory for the verbs endpoint");
    endpoint->library = library;
    int code = open_parts(endpoint, params, why, sizeof(why));
    if (code != 0) {
        mt_transport_refuse(error, code, code == MANTA_ESYSTEM ? errno : 0, why);
        endpoint_free(endpoint);
        return code;
    }
    *endpoint_out = endpoint;
    return 0;
}

static int address(void *handle, void *blob, size_t blob_bytes, size_t *bytes_out)
{
    const struct mt_verbs_endpoint *endpoint = handle;
    struct mt_verbs_ports ports = {.count = endpoint->rail_count};
    for (uint32_t i = 0; i < ports.count; i++)
        ports.ports[i] = endpoint->rails[i].port;
    *bytes_out = mt_verbs_ports_encode(&ports, blob, blob_bytes);
    return *bytes_out > 0 ? 0 : MANTA_EINVAL;
}

static int peers(void *handle, const void *const *addresses, const size_t *address_bytes)
{
    struct mt_verbs_endpoint *endpoint = handle;
    for (uint32_t rank = 0; rank < endpoint->ranks; rank++) {
        struct mt_verbs_door *door = &endpoint->doors[rank];
        if (rank == endpoint->rank || address_bytes[rank] == 0)
            continue;
        door->address = endpoint->host->alloc(address_bytes[rank], 64);
        if (door->address == NULL)
            return mt_messages_error_set(endpoint->messages, MANTA_ENOMEM, rank, 0,
                                         "no memory for the address of rank %u", rank);
        memcpy(door->address, addresses[rank], address_bytes[rank]);
        door->address_bytes = (uint32_t)address_bytes[rank];
    }
    return 0;
}

/* The first send dials, as in transport/tcp: there is nothing to wait for here. */
static int connect_peer(void *handle, uint32_t peer, uint64_t deadline_ns)
{
    struct mt_verbs_endpoint *endpoint = handle;
    (void)deadline_ns;
    return mt_messages_open(endpoint->messages, peer);
}

static int send_op(void *handle, const struct manta_transport_message *message,
                   struct manta_transport_request *request)
{
    struct mt_verbs_endpoint *endpoint = handle;
    uint32_t rank = message->peer;
    if (rank < endpoint->ranks && rank != endpoint->rank &&
        (endpoint->peers[rank] == NULL || endpoint->peers[rank]->link == MT_VERBS_LINK_NONE)) {
        int code = 0;
        struct mt_verbs_peer *peer = mt_verbs_peer_open(endpoint, rank, &code);
        if (peer != NULL)
            code = mt_verbs_dial(endpoint, peer);
        if (code != 0)
            return code;
    }
    return mt_messages_send(endpoint->messages, message, request);
}

static int recv_op(void *handle, const struct manta_transport_message *message,
                   struct manta_transport_request *request)
{
    struct mt_verbs_endpoint *endpoint = handle;
    return mt_messages_recv(endpoint->messages, message, request);
}

/* Descriptors of rails are known by the place of the pointer that has them. */
static int is_of_rail(struct mt_verbs_endpoint *endpoint, const void *what)
{
    for (uint32_t i = 0; i < endpoint->rail_count; i++) {
        struct mt_verbs_rail *rail = &endpoint->rails[i];
        if (what == &rail->channel)
            mt_verbs_channel_read(endpoint, rail);
        else if (what == &rail->context)
            mt_verbs_async_read(endpoint, rail);
        else
            continue;
        return 1;
    }
    return 0;
}

/* 1 if it may have moved something. */
static int handle_event(struct mt_verbs_endpoint *endpoint, void *what)
{
    uint64_t count;
    if (what == &endpoint->mail_fd) {
        mt_verbs_mailbox_read(endpoint);
    } else if (what == &endpoint->timer_fd) {
        endpoint->looked_ns = 0;
        ssize_t got = read(endpoint->timer_fd, &count, sizeof(count));
        (void)got; /* EAGAIN: it was set anew */
        return 0;
    } else if (!is_of_rail(endpoint, what)) {
        mt_verbs_stream_write(endpoint, what);
        mt_verbs_stream_read(endpoint, what);
    }
    return 1;
}

static int ask_epoll(struct mt_verbs_endpoint *endpoint)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(endpoint->epoll_fd, events, EVENTS, 0);
    int moved = 0;
    for (int i = 0; i < count; i++)
        moved |= handle_event(endpoint, events[i].data.ptr);
    return moved;
}

/* The cards tell without the kernel; what only the kernel knows is asked for now and then. */
static int progress(void *handle)
{
    struct mt_verbs_endpoint *endpoint = handle;
    int has_mail = atomic_load_explicit(&endpoint->has_mail, memory_order_relaxed);
    if (endpoint->open == NULL && !has_mail)
        return 0;
    int moved = endpoint->is_started ? mt_verbs_poll(endpoint) : 0;
    /* Who was woken has what it was woken for before it asks who rang. */
    uint32_t looks = ++endpoint->looks;
    if (endpoint->is_unsettled || looks >= (moved ? 2 * LOOK_EVERY : LOOK_EVERY)) {
        endpoint->looks = 0;
        moved |= ask_epoll(endpoint);
    }
    if (endpoint->is_unsettled)
        moved |= mt_verbs_settle(endpoint);
    if (__builtin_expect(endpoint->is_starving && endpoint->has_room, 0) && !endpoint->aborted)
        mt_verbs_feed(endpoint);
    if (endpoint->failure && !endpoint->aborted)
        return endpoint->failure;
    return mt_messages_round(endpoint->messages, moved);
}

static int wait_fd(void *handle)
{
    return ((struct mt_verbs_endpoint *)handle)->epoll_fd;
}

static int arm(void *handle)
{
    struct mt_verbs_endpoint *endpoint = handle;
    if (endpoint->is_started && mt_verbs_arm(endpoint))
        return 1;
    if (endpoint->is_unsettled && mt_verbs_settle(endpoint))
        return 1;
    uint64_t within_ns = endpoint->is_unsettled ? mt_verbs_settle_within_ns(endpoint) : 0;
    uint64_t nap_ns = mt_verbs_rings_within_ns(endpoint);
    if (nap_ns > 0 && (within_ns == 0 || nap_ns < within_ns))
        within_ns = nap_ns;
    if (within_ns > 0) {
        const struct itimerspec soon = {.it_value = {.tv_nsec = (long)within_ns}};
        timerfd_settime(endpoint->timer_fd, 0, &soon, NULL);
    }
    return 0;
}

/* Awake: the kernel may have something to say. */
static void disarm(void *handle)
{
    ((struct mt_verbs_endpoint *)handle)->looks = LOOK_EVERY;
}

static int peer_status(void *handle, uint32_t rank)
{
    const struct mt_verbs_endpoint *endpoint = handle;
    if (rank >= endpoint->ranks)
        return MANTA_EINVAL;
    const struct mt_verbs_peer *peer = endpoint->peers[rank];
    if (peer == NULL)
        return MANTA_INPROGRESS;
    if (peer->link == MT_VERBS_LINK_LOST)
        return MANTA_EPEER;
    return peer->was_open ? 0 : MANTA_INPROGRESS;
}

static void error_op(void *handle, struct manta_transport_error *error_out)
{
    mt_messages_error(((struct mt_verbs_endpoint *)handle)->messages, error_out);
}

static int abort_op(void *handle, int code)
{
    struct mt_verbs_endpoint *endpoint = handle;
    endpoint->aborted = 1;
    for (struct mt_verbs_peer *peer = endpoint->open; peer != NULL; peer = peer->next_open) {
        mt_verbs_peer_cease(endpoint, peer);
        mt_verbs_dial_cancel(endpoint, peer);
    }
    mt_messages_abort(endpoint->messages, code);
    endpoint->is_unsettled = 0;
    return endpoint->could_not_stop ? MANTA_EBUFFER : 0;
}

/* 1 while a peer's card is not known to have all. */
static int drain(void *handle)
{
    struct mt_verbs_endpoint *endpoint = handle;
    int more = 0;
    for (struct mt_verbs_peer *peer = endpoint->open; peer != NULL; peer = peer->next_open) {
        if (peer->link != MT_VERBS_LINK_OPEN || peer->cut || peer->next == peer->acked)
            continue;
        more = 1;
        if (peer->drained != peer->next &&
            mt_verbs_put_own(endpoint, peer, MT_VERBS_NOTHING, 0, 0) == 0)
            peer->drained = peer->next;
    }
    return more;
}

static void close_endpoint(void *handle)
{
    struct mt_verbs_endpoint *endpoint = handle;
    mt_verbs_mailbox_close(endpoint);
    endpoint->is_closing = 1;
    abort_op(endpoint, MANTA_EABORTED);
    for (struct mt_verbs_peer *peer = endpoint->open; peer != NULL; peer = peer->next_open)
        mt_verbs_link_close(peer);
    endpoint_free(endpoint);
}

static void counters(void *handle, struct manta_transport_counters *counters_out)
{
    const struct mt_verbs_endpoint *endpoint = handle;
    struct manta_transport_counters counted = {.size = sizeof(counted)};
    mt_messages_counters(endpoint->messages, &counted);
    counted.copied_bytes += atomic_load_explicit(&endpoint->copied_bytes, memory_order_relaxed);
    counted.registrations += mt_registrations_made(endpoint->registrations);
    mt_transport_export(&counted, sizeof(counted), counters_out);
}

const struct manta_transport mt_transport_verbs = {
    .size = sizeof(struct manta_transport),
    .abi = MANTA_TRANSPORT_ABI,
    .name = "verbs",
    .query = query,
    .open = open_endpoint,
    .address = address,
    .peers = peers,
    .probe = mt_verbs_probe,
    .connect = connect_peer,
    .mem_register = mt_verbs_mem_register,
    .mem_deregister = mt_verbs_mem_deregister,
    .mem_export = mt_verbs_mem_export,
    .mem_import = mt_verbs_mem_import,
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
