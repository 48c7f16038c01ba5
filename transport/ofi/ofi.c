/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of the ofi transport. */
#include "transport/ofi/ofi.h"

#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/counter.h"
#include "topology/place.h"
#include "transport/answer.h"
#include "transport/endpoint.h"
#include "transport/registry.h"

enum { LATENCY_FABRIC_NS = 3000, LATENCY_SOCKETS_NS = 30000 };
#define BANDWIDTH_FABRIC UINT64_C(10000000000)
#define BANDWIDTH_SOCKETS UINT64_C(1000000000)
#define MESSAGE_BYTES_MAX (UINT64_C(1) << 62)

static int query(const struct manta_transport_host *host, struct manta_transport_error *error)
{
    char reason[240];
    (void)host;
    if (mt_ofi_library(reason, sizeof(reason)) == NULL)
        return mt_transport_refuse(error, MANTA_ENOTSUP, 0, reason);
    return 0;
}

static void endpoint_free(struct mt_ofi_endpoint *endpoint)
{
    const struct manta_transport_host *host = endpoint->host;
    int is_closed = mt_ofi_objects_close(endpoint) == 0;
    mt_messages_destroy(endpoint->messages);
    if (!is_closed) {
        host->log(0, "ofi",
                  "libfabric cannot close an endpoint, and may still write to its memory, which is "
                  "not given back");
        return;
    }
    mt_ofi_peers_free(endpoint);
    mt_ofi_remotes_free(endpoint);
    host->free(endpoint->inboxes);
    host->free(endpoint->inbox_memory);
    host->free(endpoint->offers);
    if (endpoint->info != NULL)
        endpoint->library->freeinfo(endpoint->info);
    host->free(endpoint);
}

static struct mt_ofi_endpoint *endpoint_create(const struct manta_transport_open *params)
{
    const struct manta_transport_host *host = params->host;
    struct mt_ofi_endpoint *endpoint = mt_endpoint_alloc(host, sizeof(*endpoint));
    if (endpoint == NULL)
        return NULL;
    endpoint->host = host;
    endpoint->group = params->group;
    endpoint->rank = params->rank;
    endpoint->ranks = params->ranks;
    endpoint->own_address = FI_ADDR_UNSPEC;
    endpoint->queue_fd = endpoint->epoll_fd = endpoint->timer_fd = -1;
    endpoint->peers = mt_endpoint_alloc(host, params->ranks * sizeof(*endpoint->peers));
    if (endpoint->peers == NULL) {
        host->free(endpoint);
        return NULL;
    }
    for (uint32_t peer = 0; peer < params->ranks; peer++)
        endpoint->peers[peer].address = FI_ADDR_UNSPEC;
    return endpoint;
}

static int make_messages(struct mt_ofi_endpoint *endpoint,
                         const struct manta_transport_open *params)
{
    struct mt_message_settings settings = mt_endpoint_messages(params);
    settings.transport = "ofi";
    settings.eager_bytes = MT_OFI_EAGER_BYTES;
    settings.window_bytes = MT_OFI_WINDOW_BYTES;
    settings.wire = endpoint->offers != NULL ? &mt_ofi_writing_wire : &mt_ofi_wire;
    settings.wire_arg = endpoint;
    return mt_messages_create(&settings, &endpoint->messages);
}

static int make_offers(struct mt_ofi_endpoint *endpoint)
{
    int code = mt_ofi_registrations_create(endpoint);
    if (code != 0 || !mt_ofi_can_write(endpoint->info))
        return code;
    endpoint->offers = mt_endpoint_alloc(endpoint->host, MT_OFI_OFFERS * sizeof(*endpoint->offers));
    return endpoint->offers == NULL ? MANTA_ENOMEM : 0;
}

/* How many lower ranks are on this rank's node. */
static uint32_t local_index(const struct manta_transport_open *params)
{
    uint32_t index = 0;
    for (uint32_t r = 0; r < params->rank; r++)
        index += (uint32_t)mt_group_same_node(params->group, params->rank, r);
    return index;
}

/* Choose a provider, and make everything. */
static int endpoint_build(struct mt_ofi_endpoint *endpoint,
                          const struct manta_transport_open *params, char *reason,
                          size_t reason_bytes)
{
    const struct mt_ofi_wish wish = {
        .provider = params->host->config("OFI_PROVIDER"),
        .domain = params->host->config("OFI_DOMAIN"),
        .devices = access("/dev/nvidiactl", F_OK) == 0,
        .numa = mt_place_numa_of_thread(),
        .turn = local_index(params),
    };
    endpoint->library = mt_ofi_library(reason, reason_bytes);
    if (endpoint->library == NULL)
        return MANTA_ENOTSUP;
    mt_ofi_library_expect(params->ranks);
    endpoint->info = mt_ofi_choose(endpoint->library, &wish, reason, reason_bytes);
    if (endpoint->info == NULL)
        return MANTA_ENOTSUP;
    snprintf(endpoint->provider, sizeof(endpoint->provider), "%s",
             endpoint->info->fabric_attr->prov_name);
    snprintf(endpoint->domain_name, sizeof(endpoint->domain_name), "%s",
             endpoint->info->domain_attr->name);
    int code = make_offers(endpoint);
    if (code == 0)
        code = make_messages(endpoint, params);
    if (code == 0)
        code = mt_ofi_objects_open(endpoint, reason, reason_bytes);
    if (code != 0)
        return code;
    code = mt_ofi_inboxes_create(endpoint);
    if (code != 0) {
        snprintf(reason, reason_bytes,
                 "no memory to receive into: %s; `ulimit -l unlimited` may help",
                 endpoint->library->strerror(-code));
        return MANTA_ENOMEM;
    }
    mt_ofi_inboxes_post(endpoint);
    return 0;
}

static int open_endpoint(const struct manta_transport_open *params, void **endpoint_out,
                         struct manta_transport_error *error)
{
    char reason[240] = "the ofi endpoint could not be opened";
    *endpoint_out = NULL;
    if (params->group == NULL)
        return mt_transport_refuse(error, MANTA_EINVAL, 0, "ofi needs a group");
    struct mt_ofi_endpoint *endpoint = endpoint_create(params);
    if (endpoint == NULL)
        return mt_transport_refuse(error, MANTA_ENOMEM, 0, "no memory for the ofi endpoint");
    int code = endpoint_build(endpoint, params, reason, sizeof(reason));
    if (code != 0) {
        endpoint_free(endpoint);
        return mt_transport_refuse(error, code, 0, reason);
    }
    *endpoint_out = endpoint;
    return 0;
}

static int address(void *handle, void *blob, size_t blob_bytes, size_t *bytes_out)
{
    return mt_ofi_blob_write(handle, blob, blob_bytes, bytes_out);
}

static int peers(void *handle, const void *const *addresses, const size_t *address_bytes)
{
    return mt_ofi_peers_keep(handle, addresses, address_bytes);
}

static void describe(const struct mt_ofi_endpoint *endpoint, uint32_t peer,
                     struct manta_transport_properties *found)
{
    char at[96];
    int is_fabric = mt_ofi_is_fabric(endpoint->provider);
    const struct fid_nic *card = endpoint->info->nic;
    found->latency_ns = is_fabric ? LATENCY_FABRIC_NS : LATENCY_SOCKETS_NS;
    found->bandwidth_bytes_per_s = is_fabric ? BANDWIDTH_FABRIC : BANDWIDTH_SOCKETS;
    if (is_fabric && card != NULL && card->link_attr != NULL && card->link_attr->speed > 0)
        found->bandwidth_bytes_per_s = card->link_attr->speed / 8;
    found->eager_bytes = MT_OFI_EAGER_BYTES;
    found->message_bytes_max = MESSAGE_BYTES_MAX;
    found->memory_kinds = 1u << MANTA_MEMORY_HOST;
    if (endpoint->offers != NULL && (endpoint->info->caps & FI_HMEM))
        found->memory_kinds |= 1u << MANTA_MEMORY_CUDA;
    snprintf(found->interface, sizeof(found->interface), "%.30s %.30s", endpoint->provider,
             endpoint->domain_name);
    mt_ofi_peer_name(endpoint, peer, at, sizeof(at));
    snprintf(found->reason, sizeof(found->reason), "at %s", at);
}

static int probe(void *handle, uint32_t peer, struct manta_transport_properties *properties)
{
    struct mt_ofi_endpoint *endpoint = handle;
    struct manta_transport_properties found = {.size = sizeof(found)};
    if (peer >= endpoint->ranks || peer == endpoint->rank)
        return mt_messages_error_set(endpoint->messages, MANTA_EINVAL, peer, 0,
                                     "ofi has no peer %u", peer);
    int code = mt_ofi_peer_suits(endpoint, peer);
    if (code != 0)
        return code;
    describe(endpoint, peer, &found);
    mt_transport_export(&found, sizeof(found), properties);
    return 0;
}

/* Reliable datagrams know no connections; or libfabric makes them by itself, when they are used. */
static int connect_peer(void *handle, uint32_t peer, uint64_t deadline_ns)
{
    (void)deadline_ns;
    return mt_ofi_peer_open(handle, peer);
}

static int send_op(void *handle, const struct manta_transport_message *message,
                   struct manta_transport_request *request)
{
    return mt_messages_send(((struct mt_ofi_endpoint *)handle)->messages, message, request);
}

static int recv_op(void *handle, const struct manta_transport_message *message,
                   struct manta_transport_request *request)
{
    return mt_messages_recv(((struct mt_ofi_endpoint *)handle)->messages, message, request);
}

static int progress(void *handle)
{
    struct mt_ofi_endpoint *endpoint = handle;
    int moved = mt_ofi_read(endpoint);
    if (endpoint->unposted != NULL)
        mt_ofi_inboxes_post(endpoint);
    if (endpoint->dirty != NULL)
        moved |= mt_ofi_write_dirty(endpoint);
    if (endpoint->failure && !endpoint->aborted)
        return endpoint->failure;
    return mt_messages_round(endpoint->messages, moved);
}

static int wait_fd(void *handle)
{
    return ((struct mt_ofi_endpoint *)handle)->epoll_fd;
}

/* Peers that are still on the list, and inboxes that are not posted, wait for libfabric to have
 * room: it does not say when. */
static int arm(void *handle)
{
    struct mt_ofi_endpoint *endpoint = handle;
    struct fid *queues[] = {&endpoint->queue->fid};
    if (endpoint->epoll_fd < 0 || endpoint->endpoint == NULL)
        return 0;
    if (endpoint->dirty != NULL || endpoint->unposted != NULL) {
        const struct itimerspec soon = {.it_value = {.tv_nsec = MT_OFI_LOOK_NS}};
        timerfd_settime(endpoint->timer_fd, 0, &soon, NULL);
        endpoint->is_timed = 1;
    }
    return fi_trywait(endpoint->fabric, queues, 1) != 0;
}

static void disarm(void *handle)
{
    struct mt_ofi_endpoint *endpoint = handle;
    const struct itimerspec never = {.it_value = {.tv_nsec = 0}};
    if (endpoint->is_timed) /* also if it has gone off */
        timerfd_settime(endpoint->timer_fd, 0, &never, NULL);
    endpoint->is_timed = 0;
}

static int peer_status(void *handle, uint32_t peer)
{
    const struct mt_ofi_endpoint *endpoint = handle;
    if (peer >= endpoint->ranks)
        return MANTA_EINVAL;
    if (endpoint->peers[peer].is_lost)
        return MANTA_EPEER;
    return endpoint->peers[peer].slots != NULL ? 0 : MANTA_INPROGRESS;
}

static void error_op(void *handle, struct manta_transport_error *error_out)
{
    mt_messages_error(((struct mt_ofi_endpoint *)handle)->messages, error_out);
}

/* Where long messages are under way, the message layer makes the wire cease. */
static int abort_op(void *handle, int code)
{
    struct mt_ofi_endpoint *endpoint = handle;
    endpoint->aborted = 1;
    mt_messages_abort(endpoint->messages, code);
    return endpoint->is_stuck ? MANTA_EBUFFER : 0;
}

static int drain(void *handle)
{
    const struct mt_ofi_endpoint *endpoint = handle;
    return endpoint->endpoint != NULL && (endpoint->busy > 0 || endpoint->dirty != NULL);
}

static void close_endpoint(void *handle)
{
    struct mt_ofi_endpoint *endpoint = handle;
    mt_messages_abort(endpoint->messages, MANTA_EABORTED);
    endpoint_free(endpoint);
}

static void counters(void *handle, struct manta_transport_counters *counters_out)
{
    struct mt_ofi_endpoint *endpoint = handle;
    struct manta_transport_counters found = {.size = sizeof(found)};
    mt_messages_counters(endpoint->messages, &found);
    found.registrations = mt_registrations_made(endpoint->registrations);
    found.copied_bytes += atomic_load_explicit(&endpoint->copied_bytes, memory_order_relaxed);
    mt_transport_export(&found, sizeof(found), counters_out);
}

const struct manta_transport mt_transport_ofi = {
    .size = sizeof(struct manta_transport),
    .abi = MANTA_TRANSPORT_ABI,
    .name = "ofi",
    .query = query,
    .open = open_endpoint,
    .address = address,
    .peers = peers,
    .probe = probe,
    .connect = connect_peer,
    .mem_register = mt_ofi_mem_register,
    .mem_deregister = mt_ofi_mem_deregister,
    .mem_export = mt_ofi_mem_export,
    .mem_import = mt_ofi_mem_import,
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
