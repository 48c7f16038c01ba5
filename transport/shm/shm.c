/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of the shared-memory transport. */
#include "transport/shm/shm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/config.h"
#include "core/service.h"
#include "topology/host.h"
#include "transport/answer.h"
#include "transport/registry.h"
#include "transport/shm/channel.h"
#include "transport/shm/combine.h"
#include "transport/shm/group.h"

enum {
    LATENCY_NS = 100,
    WINDOW_BYTES = 65536,
    CHANNELS_IN_TURN = 8,  /* looked at in one progress */
    ALONE_BYTES = 1 << 20, /* budget of a rank without peers on its node */
    PAST_CACHES_BYTES = 32 << 20
};
#define BANDWIDTH UINT64_C(10000000000)
#define MESSAGE_BYTES_MAX (UINT64_C(1) << 62)
#define MAGIC UINT64_C(0x6d68732d61746e6d)

int mt_shm_fail(struct mt_shm_endpoint *endpoint, int code, uint32_t peer, int system_errno,
                const char *format, ...)
{
    char sentence[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    return mt_messages_error_set(endpoint->messages, code, peer, system_errno, "%s", sentence);
}

static int query(const struct manta_transport_host *host, struct manta_transport_error *error)
{
    (void)host;
    int fd = memfd_create("manta", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return mt_transport_refuse(error, MANTA_ENOTSUP, errno, "this kernel gives no memfd");
    close(fd);
    return 0;
}

static int find_local(struct mt_shm_endpoint *endpoint)
{
    const struct manta_transport_host *host = endpoint->host;
    endpoint->local_of = host->alloc(endpoint->ranks * sizeof(*endpoint->local_of), 64);
    if (endpoint->local_of == NULL)
        return MANTA_ENOMEM;
    for (uint32_t r = 0; r < endpoint->ranks; r++) {
        int here = mt_shm_may_share(endpoint->group, endpoint->rank, r);
        endpoint->local_of[r] = here ? endpoint->local_ranks++ : MT_SHM_NOT_LOCAL;
    }
    endpoint->local = endpoint->local_of[endpoint->rank];
    uint64_t bytes = endpoint->local_ranks * sizeof(*endpoint->peers);
    uint64_t channel_bytes = endpoint->local_ranks * sizeof(struct mt_shm_channel);
    endpoint->peers = host->alloc(bytes, 64);
    if (endpoint->peers == NULL)
        return MANTA_ENOMEM;
    memset(endpoint->peers, 0, bytes);
    for (uint32_t local = 0; local < endpoint->local_ranks; local++) {
        struct mt_shm_peer *peer = &endpoint->peers[local];
        peer->doorbell = peer->stream = peer->passed[0] = peer->passed[1] = -1;
        atomic_init(&peer->accepted, -1);
    }
    endpoint->channels = host->alloc(channel_bytes, 64);
    if (endpoint->channels == NULL)
        return MANTA_ENOMEM;
    memset(endpoint->channels, 0, channel_bytes);
    for (uint32_t r = 0; r < endpoint->ranks; r++) {
        if (endpoint->local_of[r] == MT_SHM_NOT_LOCAL)
            continue;
        struct mt_shm_peer *peer = &endpoint->peers[endpoint->local_of[r]];
        peer->rank = r;
        peer->channel = &endpoint->channels[endpoint->local_of[r]];
    }
    return 0;
}

/* What this rank may use of the node's shared memory. */
static int find_budget(const struct mt_shm_endpoint *endpoint, uint64_t *budget_out)
{
    const char *text = endpoint->host->config("SHM_MAX");
    uint64_t most;
    if (text == NULL || mt_parse_bytes(text, &most) != 0)
        return MANTA_EINVAL;
    *budget_out = most / endpoint->local_ranks;
    if (endpoint->local_ranks == 1 && *budget_out > ALONE_BYTES)
        *budget_out = ALONE_BYTES;
    return 0;
}

static int open_segment(struct mt_shm_endpoint *endpoint, struct manta_transport_error *error)
{
    struct mt_shm_identity *identity = &endpoint->identity;
    uint64_t budget;
    if (find_budget(endpoint, &budget) != 0)
        return mt_transport_refuse(error, MANTA_EINVAL, 0,
                                   "MANTA_SHM_MAX is not a number of bytes");
    int code = mt_shm_geometry(endpoint->local_ranks, budget, &identity->geometry);
    if (code != 0) {
        uint64_t least = identity->geometry.segment_bytes * endpoint->local_ranks;
        char text[128];
        snprintf(
            text, sizeof(text),
            "MANTA_SHM_MAX is too small for the %u ranks of this node: set it to %lluM or more",
            endpoint->local_ranks, (unsigned long long)(least >> 20) + 1);
        return mt_transport_refuse(error, code, 0, text);
    }
    identity->magic = MAGIC;
    identity->version = MT_SHM_VERSION;
    identity->epoch = endpoint->epoch;
    identity->rank = endpoint->rank;
    memcpy(identity->communicator, endpoint->group->uid, sizeof(identity->communicator));
    const char *call;
    code = mt_shm_segment_create(identity, &endpoint->base, &endpoint->segment_fd, &call);
    return code == 0 ? 0 : mt_transport_refuse(error, code, errno, call);
}

static int open_messages(struct mt_shm_endpoint *endpoint, struct manta_transport_error *error)
{
    const struct mt_message_settings settings = {
        .transport = "shm",
        .host = endpoint->host,
        .rank = endpoint->rank,
        .ranks = endpoint->ranks,
        .epoch = endpoint->epoch,
        .eager_bytes = mt_shm_eager_bytes(endpoint),
        .window_bytes = WINDOW_BYTES,
        .call_state = endpoint->call_state,
        .host_arg = endpoint->host_arg,
        .wire = &mt_shm_wire,
        .wire_arg = endpoint,
    };
    int code = mt_messages_create(&settings, &endpoint->messages);
    return code == 0
               ? 0
               : mt_transport_refuse(error, code, 0, "no memory for the shared-memory endpoint");
}

static void close_endpoint(void *handle)
{
    struct mt_shm_endpoint *endpoint = handle;
    const struct manta_transport_host *host = endpoint->host;
    if (endpoint->messages != NULL)
        mt_messages_abort(endpoint->messages, MANTA_EABORTED);
    mt_shm_fused_abort(endpoint, MANTA_EABORTED);
    if (endpoint->peers != NULL)
        mt_shm_disconnect(endpoint);
    mt_shm_fused_close(endpoint);
    mt_shm_doorbell_close(endpoint);
    mt_messages_destroy(endpoint->messages);
    if (endpoint->base != NULL)
        mt_shm_segment_unmap(endpoint->base, endpoint->identity.geometry.segment_bytes);
    if (endpoint->segment_fd >= 0)
        mt_fd_close(endpoint->segment_fd);
    host->free(endpoint->scratch);
    host->free(endpoint->channels);
    host->free(endpoint->peers);
    host->free(endpoint->offers);
    host->free(endpoint->local_of);
    host->free(endpoint);
}

static int refuse_value(const struct mt_shm_endpoint *endpoint, int code, const char *name,
                        const char *must, struct manta_transport_error *error)
{
    char text[192];
    snprintf(text, sizeof(text), "MANTA_%s is '%.64s'; it must be %s", name,
             endpoint->host->config(name), must);
    return mt_transport_refuse(error, code, 0, text);
}

/* Groups that are asked for; others are found when all ranks' caches are known. */
static int ask_for_groups(struct mt_shm_endpoint *endpoint, struct manta_transport_error *error)
{
    uint32_t size;
    int code = mt_shm_groups_parse(endpoint->host, &size);
    if (code != 0)
        return refuse_value(endpoint, code, "SHM_GROUPS", "auto or a power of two", error);
    endpoint->groups_asked = size > 0;
    endpoint->group_ranks = mt_shm_groups_fit(size, endpoint->local_ranks);
    return 0;
}

/* Longer results had better not go through the caches: more than this rank's share of the largest
 * one. A host that is shared with others shows a cache that is not all for us. */
static uint64_t find_past_caches(uint32_t local_ranks)
{
    const struct mt_host *host = mt_host();
    uint32_t sharers = host->l3_sharers < local_ranks ? host->l3_sharers : local_ranks;
    uint64_t share = host->l3_bytes / (sharers > 0 ? sharers : 1);
    uint64_t least = 4 * host->l2_bytes;
    if (share == 0 || share > PAST_CACHES_BYTES)
        share = PAST_CACHES_BYTES;
    return share > least ? share : least;
}

static struct mt_shm_endpoint *create(const struct manta_transport_open *params)
{
    struct mt_shm_endpoint *endpoint = params->host->alloc(sizeof(*endpoint), 64);
    if (endpoint == NULL)
        return NULL;
    memset(endpoint, 0, sizeof(*endpoint));
    endpoint->host = params->host;
    endpoint->group = params->group;
    endpoint->rank = params->rank;
    endpoint->ranks = params->ranks;
    endpoint->epoch = params->epoch;
    endpoint->timeout_ns = params->timeout_ns;
    endpoint->call_state = params->call_state;
    endpoint->host_arg = params->host_arg;
    endpoint->segment_fd = endpoint->doorbell = endpoint->timer = endpoint->wait_fd = -1;
    endpoint->scratch = params->host->alloc((size_t)MT_SHM_TILES * MT_SHM_TILE_BYTES, 64);
    if (endpoint->scratch == NULL || find_local(endpoint) != 0) {
        close_endpoint(endpoint);
        return NULL;
    }
    endpoint->cached_bytes = mt_host()->l2_bytes;
    endpoint->past_caches_bytes = find_past_caches(endpoint->local_ranks);
    return endpoint;
}

int mt_shm_open(const struct manta_transport_open *params, int listen, void **endpoint_out,
                struct manta_transport_error *error)
{
    *endpoint_out = NULL;
    if (params->group == NULL)
        return mt_transport_refuse(error, MANTA_EINVAL, 0, "shared memory needs a group");
    struct mt_shm_endpoint *endpoint = create(params);
    if (endpoint == NULL)
        return mt_transport_refuse(error, MANTA_ENOMEM, 0,
                                   "no memory for the shared-memory endpoint");
    int code = mt_shm_ruler_open(endpoint->host, &endpoint->ruler);
    if (code != 0)
        refuse_value(endpoint, code, "SHM_DISTANCE", "auto, near or far", error);
    if (code == 0 && (code = mt_shm_share_open(endpoint, listen)) != 0)
        mt_transport_refuse(error, code, errno,
                            "the sockets of this node's ranks could not be tried");
    if (code == 0)
        code = open_segment(endpoint, error);
    if (code == 0)
        code = ask_for_groups(endpoint, error);
    if (code == 0)
        code = open_messages(endpoint, error);
    if (code == 0 && mt_shm_doorbell_open(endpoint) != 0)
        code = mt_transport_refuse(error, MANTA_ESYSTEM, errno, "the doorbell could not be opened");
    if (code == 0 && listen && mt_shm_listen(endpoint) != 0)
        code = mt_transport_refuse(error, MANTA_ESYSTEM, 0, "the unix listener takes no streams");
    if (code != 0) {
        close_endpoint(endpoint);
        return code;
    }
    *endpoint_out = endpoint;
    return 0;
}

static int open_listening(const struct manta_transport_open *params, void **endpoint_out,
                          struct manta_transport_error *error)
{
    return mt_shm_open(params, 1, endpoint_out, error);
}

static size_t word_line(const struct mt_shm_team *team, const char *where, char *text, size_t room)
{
    const struct mt_shm_distance *distance = &team->distance;
    if (distance->line_ns == 0)
        return 0;
    int used = snprintf(text, room, "; a cache line takes %u ns%s (%s)", distance->line_ns, where,
                        distance->is_far ? "far" : "near");
    return (size_t)used < room ? (size_t)used : room - 1;
}

/* What was measured among the ranks of the node, if anything was, and their groups. */
static void word_distance(const struct mt_shm_endpoint *endpoint, char *text, size_t room)
{
    const struct mt_shm_team *all = endpoint->teams[0];
    if (all == NULL)
        return;
    if (all->group == NULL) {
        word_line(all, "", text, room);
        return;
    }
    int begun = snprintf(text, room, "; in groups of %u", endpoint->group_ranks);
    size_t used = (size_t)begun < room ? (size_t)begun : room - 1;
    used += word_line(endpoint->teams[MT_SHM_SLOT_INNER], " within", text + used, room - used);
    word_line(endpoint->teams[MT_SHM_SLOT_RAIL], " between", text + used, room - used);
}

static int probe(void *handle, uint32_t rank, struct manta_transport_properties *properties)
{
    struct mt_shm_endpoint *endpoint = handle;
    int code = mt_shm_share_check(endpoint, rank);
    if (code != 0)
        return code;
    struct manta_transport_properties found = {
        .latency_ns = LATENCY_NS,
        .bandwidth_bytes_per_s = BANDWIDTH,
        .eager_bytes = mt_shm_eager_bytes(endpoint),
        .message_bytes_max = MESSAGE_BYTES_MAX,
        .interface = "memfd",
        .reason = "on this host, of the same user",
    };
    size_t used = strlen(found.reason);
    word_distance(endpoint, found.reason + used, sizeof(found.reason) - used);
    mt_transport_export(&found, sizeof(found), properties);
    return 0;
}

static int connect_peer(void *handle, uint32_t rank, uint64_t deadline_ns)
{
    struct mt_shm_endpoint *endpoint = handle;
    struct mt_shm_peer *peer = mt_shm_peer_of(endpoint, rank);
    if (peer == NULL)
        return mt_shm_fail(endpoint, MANTA_EINVAL, rank, 0, "rank %u is not on this node", rank);
    if (endpoint->aborted != 0)
        return endpoint->aborted;
    return mt_shm_connect(endpoint, peer, deadline_ns);
}

/* A request of a peer that nobody has connected yet waits in the message layer until it is. */
static void begin_connecting(struct mt_shm_endpoint *endpoint, uint32_t rank)
{
    struct mt_shm_peer *peer = mt_shm_peer_of(endpoint, rank);
    if (peer != NULL && __builtin_expect(peer->state == MT_SHM_IDLE, 0) && endpoint->aborted == 0)
        mt_shm_connect(endpoint, peer, 0);
}

static int send_op(void *handle, const struct manta_transport_message *message,
                   struct manta_transport_request *request)
{
    struct mt_shm_endpoint *endpoint = handle;
    begin_connecting(endpoint, message->peer);
    return mt_messages_send(endpoint->messages, message, request);
}

static int recv_op(void *handle, const struct manta_transport_message *message,
                   struct manta_transport_request *request)
{
    struct mt_shm_endpoint *endpoint = handle;
    begin_connecting(endpoint, message->peer);
    return mt_messages_recv(endpoint->messages, message, request);
}

static int progress_channels(struct mt_shm_endpoint *endpoint, uint32_t count)
{
    int happened = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct mt_shm_peer *peer = &endpoint->peers[endpoint->poll_next];
        if (++endpoint->poll_next == endpoint->local_ranks)
            endpoint->poll_next = 0;
        if (peer->state == MT_SHM_CONNECTED)
            happened |= mt_shm_channel_progress(endpoint, peer);
    }
    return happened;
}

static int progress_some(struct mt_shm_endpoint *endpoint, uint32_t channels)
{
    int happened = mt_shm_fused_progress(endpoint);
    if (__builtin_expect(endpoint->connecting != 0 ||
                             atomic_load_explicit(&endpoint->arrivals, memory_order_relaxed),
                         0))
        happened |= mt_shm_connect_progress(endpoint);
    return happened | progress_channels(endpoint, channels);
}

int mt_shm_progress_all(struct mt_shm_endpoint *endpoint)
{
    return progress_some(endpoint, endpoint->local_ranks);
}

static int progress(void *handle)
{
    struct mt_shm_endpoint *endpoint = handle;
    uint32_t channels =
        endpoint->local_ranks < CHANNELS_IN_TURN ? endpoint->local_ranks : CHANNELS_IN_TURN;
    int happened = progress_some(endpoint, channels);
    return mt_messages_round(endpoint->messages, happened);
}

static int peer_status(void *handle, uint32_t rank)
{
    struct mt_shm_endpoint *endpoint = handle;
    const struct mt_shm_peer *peer = mt_shm_peer_of(endpoint, rank);
    if (peer == NULL)
        return MANTA_EINVAL;
    if (peer->state == MT_SHM_LOST)
        return peer->failure;
    return peer->state == MT_SHM_CONNECTED ? 0 : MANTA_INPROGRESS;
}

static void error_op(void *handle, struct manta_transport_error *error_out)
{
    mt_messages_error(((struct mt_shm_endpoint *)handle)->messages, error_out);
}

/* All copies are made by this thread, so nobody touches a buffer any more, but for those who read
 * it in place: they are told that it is no use. */
static int abort_op(void *handle, int code)
{
    struct mt_shm_endpoint *endpoint = handle;
    if (endpoint->aborted == 0)
        endpoint->aborted = code;
    mt_messages_abort(endpoint->messages, code);
    mt_shm_fused_abort(endpoint, code);
    return 0;
}

/* What was published stays readable: connected peers have the segment mapped. Only answers and
 * messages that still wait for room are on their way. */
static int drain(void *handle)
{
    struct mt_shm_endpoint *endpoint = handle;
    for (uint32_t local = 0; local < endpoint->local_ranks; local++) {
        const struct mt_shm_peer *peer = &endpoint->peers[local];
        if (peer->state == MT_SHM_CONNECTED &&
            mt_messages_waiting(endpoint->messages, peer->rank, MT_MESSAGE_BOTH))
            return 1;
    }
    return 0;
}

static void counters(void *handle, struct manta_transport_counters *counters_out)
{
    struct mt_shm_endpoint *endpoint = handle;
    struct manta_transport_counters all = {.size = sizeof(all)};
    mt_messages_counters(endpoint->messages, &all);
    all.sent_messages += atomic_load_explicit(&endpoint->fused_sent, memory_order_relaxed);
    all.sent_bytes += atomic_load_explicit(&endpoint->fused_sent_bytes, memory_order_relaxed);
    all.received_messages += atomic_load_explicit(&endpoint->fused_received, memory_order_relaxed);
    all.received_bytes +=
        atomic_load_explicit(&endpoint->fused_received_bytes, memory_order_relaxed);
    all.copied_bytes += atomic_load_explicit(&endpoint->copied_bytes, memory_order_relaxed);
    all.registrations = atomic_load_explicit(&endpoint->registrations, memory_order_relaxed);
    mt_transport_export(&all, sizeof(all), counters_out);
}

const struct manta_transport mt_transport_shm = {
    .size = sizeof(struct manta_transport),
    .abi = MANTA_TRANSPORT_ABI,
    .name = "shm",
    .query = query,
    .open = open_listening,
    .address = mt_shm_share_offer,
    .peers = mt_shm_share_peers,
    .probe = probe,
    .connect = connect_peer,
    .send = send_op,
    .recv = recv_op,
    .progress = progress,
    .wait_fd = mt_shm_wait_fd,
    .arm = mt_shm_arm,
    .disarm = mt_shm_disarm,
    .peer_status = peer_status,
    .error = error_op,
    .abort = abort_op,
    .drain = drain,
    .close = close_endpoint,
    .fused_query = mt_shm_fused_query,
    .fused_post = mt_shm_fused_post,
    .fused_look = mt_shm_fused_look,
    .fused_memory = mt_shm_fused_memory,
    .fused_awaits = mt_shm_fused_awaits,
    .counters = counters,
};
