/* SPDX-License-Identifier: Apache-2.0 */
/* Which transport reaches which rank. Every rank opens the transports of the list, all exchange
 * their addresses, and a pair uses the first transport of the list that both offer and that probes
 * well. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "collectives/comm.h"
#include "core/log.h"
#include "core/service.h"
#include "topology/cpus.h"
#include "topology/host.h"
#include "transport/registry.h"

enum { PEERS_PER_LOOK = 8 }; /* a transport's progress looks at so many channels, in turn */

/* What a rank tells the others: the CPUs that it may run on, how much of them, and, for each
 * transport of the list, in order, its length and address. */
struct offer {
    struct mt_cpus cpus;
    uint64_t quota_millicpus; /* 0: none */
    uint16_t bytes[MT_ENDPOINTS];
    uint8_t blobs[MT_ENDPOINTS][MANTA_TRANSPORT_ADDRESS_MAX];
};

/* All collectives up to this one are over: a message of one of them that still comes belongs to no
 * step. */
static uint64_t ended_calls(const struct manta_comm *comm)
{
    uint64_t first_open = comm->sequence + 1;
    for (const struct manta_request *open = comm->active; open; open = open->next) {
        if (!mt_call_is_pair(&open->call) && open->call.sequence < first_open)
            first_open = open->call.sequence;
    }
    return first_open - 1;
}

/* A message without a receive: see struct manta_transport_open. */
static int call_state(void *arg, const struct manta_transport_id *id)
{
    const struct manta_comm *comm = arg;
    struct mt_call call;
    if (id->call > ended_calls(comm)) /* sends and receives, too, whose numbers are higher */
        return 0;
    if (mt_record_find(comm->record, id->call, &call) && call.history != id->hash)
        return MANTA_EMISMATCH;
    return 1;
}

static uint32_t local_ranks(const struct manta_comm *comm)
{
    uint32_t count = 0;
    for (uint32_t r = 0; r < comm->ranks; r++)
        count += (uint32_t)mt_group_same_node(comm->group, comm->rank, r);
    return count;
}

static int open_endpoint(struct manta_comm *comm, const struct manta_transport *transport,
                         struct offer *offer, struct manta_transport_error *reason)
{
    const struct manta_transport_open params = {
        .size = sizeof(params),
        .host = mt_transport_host(),
        .rank = comm->rank,
        .ranks = comm->ranks,
        .epoch = comm->group->epoch,
        .local_ranks = local_ranks(comm),
        .timeout_ns = comm->settings.timeout_ns,
        .group = comm->group,
        .call_state = call_state,
        .host_arg = comm,
    };
    struct mt_endpoint *endpoint = &comm->endpoints[comm->endpoint_count];
    size_t bytes = 0;

    endpoint->transport = transport;
    endpoint->handle = NULL;
    int rc = transport->query(params.host, reason);
    if (rc == 0)
        rc = transport->open(&params, &endpoint->handle, reason);
    if (rc == MANTA_EINVAL)
        return rc;
    if (rc) {
        mt_log(MT_LOG_WARN, (int)comm->rank, "transport %s is not used: %s", transport->name,
               reason->sentence);
        return rc;
    }
    comm->endpoint_count++;
    rc = transport->address(endpoint->handle, offer->blobs[comm->endpoint_count - 1],
                            MANTA_TRANSPORT_ADDRESS_MAX, &bytes);
    offer->bytes[comm->endpoint_count - 1] = rc ? 0 : (uint16_t)bytes;
    return rc;
}

/* Open the transports of the list. One that cannot be opened here keeps its place with an empty
 * offer, so that places mean the same on all ranks. */
static int open_all(struct manta_comm *comm, const struct manta_transport *const *transports,
                    uint32_t count, struct offer *offer, uint8_t *place, struct mt_error *error)
{
    struct offer opened;
    struct manta_transport_error reason = {.size = sizeof(reason)};
    memset(offer, 0, sizeof(*offer));
    memset(&opened, 0, sizeof(opened));
    mt_cpus_of_thread(&offer->cpus);
    offer->quota_millicpus = mt_host()->quota_millicpus;
    for (uint32_t i = 0; i < count; i++) {
        place[i] = MT_ROUTE_NONE;
        int rc = open_endpoint(comm, transports[i], &opened, &reason);
        if (rc == MANTA_EINVAL) /* what the user has set */
            return mt_error_set(error, rc, "%s", reason.sentence);
        if (rc)
            continue;
        place[i] = (uint8_t)(comm->endpoint_count - 1);
        offer->bytes[i] = opened.bytes[place[i]];
        memcpy(offer->blobs[i], opened.blobs[place[i]], opened.bytes[place[i]]);
    }
    if (comm->endpoint_count > 0)
        return 0;
    return mt_error_set(error, MANTA_ETRANSPORT,
                        "no transport of '%s' can be used here: %s; see manta doctor",
                        comm->settings.transports, reason.sentence);
}

static int give_peers(struct manta_comm *comm, const struct offer *offers, uint32_t listed,
                      const struct mt_endpoint *endpoint)
{
    const void **addresses = calloc(comm->ranks, sizeof(*addresses));
    size_t *bytes = calloc(comm->ranks, sizeof(*bytes));
    int rc = MANTA_ENOMEM;
    if (addresses && bytes) {
        for (uint32_t r = 0; r < comm->ranks; r++) {
            addresses[r] = offers[r].blobs[listed];
            bytes[r] = offers[r].bytes[listed];
        }
        rc = endpoint->transport->peers(endpoint->handle, addresses, bytes);
    }
    free(addresses);
    free(bytes);
    return rc;
}

/* why->sentence: of the last transport that does not reach it. */
static void choose_route(struct manta_comm *comm, const struct offer *offers, uint32_t listed_count,
                         const uint8_t *place, uint32_t peer, struct manta_transport_error *why)
{
    comm->route[peer] = MT_ROUTE_NONE;
    snprintf(why->sentence, sizeof(why->sentence), "they could not be opened");
    for (uint32_t i = 0; i < listed_count; i++) {
        struct manta_transport_properties properties = {.size = sizeof(properties)};
        if (place[i] == MT_ROUTE_NONE || offers[comm->rank].bytes[i] == 0)
            continue;
        const struct mt_endpoint *endpoint = &comm->endpoints[place[i]];
        if (offers[peer].bytes[i] == 0) {
            snprintf(why->sentence, sizeof(why->sentence), "rank %u does not offer it", peer);
        } else if (endpoint->transport->probe(endpoint->handle, peer, &properties)) {
            endpoint->transport->error(endpoint->handle, why);
        } else {
            comm->route[peer] = place[i];
            mt_log(MT_LOG_DEBUG, (int)comm->rank, "rank %u is reached by %s (%s%s%s)", peer,
                   endpoint->transport->name, properties.interface, properties.reason[0] ? " " : "",
                   properties.reason);
            return;
        }
        mt_log(MT_LOG_DEBUG, (int)comm->rank, "rank %u is not reached by %s: %s", peer,
               endpoint->transport->name, why->sentence);
    }
}

/* The transport that reaches all ranks of this node; MT_ROUTE_NONE: several do, or there is no
 * other rank. */
static uint32_t node_route(const struct manta_comm *comm, uint32_t *members_out)
{
    uint32_t route = MT_ROUTE_NONE;
    *members_out = 1;
    for (uint32_t r = 0; r < comm->ranks; r++) {
        if (r == comm->rank || comm->nodes[r] != comm->nodes[comm->rank])
            continue;
        if (++*members_out > 2 && comm->route[r] != route)
            return MT_ROUTE_NONE;
        route = comm->route[r];
    }
    return route;
}

/* Does the transport carry out fused steps among the ranks of this node? */
static int fuses_node(struct manta_comm *comm, uint32_t route, uint32_t count,
                      struct mt_error *error)
{
    const struct mt_endpoint *endpoint = &comm->endpoints[route];
    if (!endpoint->transport->fused_query || !endpoint->transport->fused_post)
        return 0;
    struct manta_plan_fused_member *members = calloc(count, sizeof(*members));
    if (!members)
        return mt_error_set(error, MANTA_ENOMEM, "no memory for %u members", count);
    for (uint32_t r = 0, i = 0; r < comm->ranks; r++)
        if (comm->nodes[r] == comm->nodes[comm->rank])
            members[i++] =
                (struct manta_plan_fused_member){.rank = r, .read_count = 1, .write_count = 1};
    const struct manta_plan_fused fused = {
        .collective = MANTA_ALLREDUCE,
        .root = MANTA_PLAN_NONE,
        .member_count = count,
        .order = MANTA_PLAN_ORDER_BINARY,
        .members = members,
    };
    int rc = endpoint->transport->fused_query(endpoint->handle, &fused);
    free(members);
    return rc == 0;
}

/* Plans fuse the steps of all nodes or of none, so that all ranks can tell what the others do: each
 * says how it is on its node. Where one transport reaches all members, all of a node say the same.
 */
static int agree_fused(struct manta_comm *comm, uint64_t deadline_ns, struct mt_error *error)
{
    uint8_t mine = comm->fused_endpoint != MT_ROUTE_NONE;
    const void **parts = calloc(comm->ranks, sizeof(*parts));
    size_t *bytes = calloc(comm->ranks, sizeof(*bytes));
    struct mt_exchange exchange = {.mine = &mine,
                                   .mine_bytes = sizeof(mine),
                                   .deadline_ns = deadline_ns,
                                   .parts = parts,
                                   .part_bytes = bytes};
    int rc = parts && bytes
                 ? mt_control_allgather(comm->control, &exchange, error)
                 : mt_error_set(error, MANTA_ENOMEM, "no memory for %u ranks", comm->ranks);
    int all = 1;
    for (uint32_t r = 0; !rc && r < comm->ranks; r++)
        all &= bytes[r] == 1 && *(const uint8_t *)parts[r] == 1;
    if (!all)
        comm->fused_endpoint = MT_ROUTE_NONE;
    free(exchange.storage);
    free(bytes);
    free(parts);
    return rc;
}

/* The transport that carries out fused steps over the ranks of this node. */
static int choose_fused(struct manta_comm *comm, uint64_t deadline_ns, struct mt_error *error)
{
    uint32_t members, route = node_route(comm, &members);
    int is_apart = comm->topology->groups[MT_LEVEL_NODE] > 1, fuses = 0;
    if (members == 1)
        route = 0; /* with others elsewhere, it has no such step to carry out */
    if (members == 1 && is_apart)
        fuses = 1;
    else if (route != MT_ROUTE_NONE)
        fuses = fuses_node(comm, route, members, error);
    if (fuses < 0)
        return fuses;
    comm->fused_endpoint = fuses ? route : MT_ROUTE_NONE;
    if (!is_apart)
        return 0;
    return agree_fused(comm, deadline_ns, error);
}

/* Everything that can end a sleep, in one epoll. */
static int open_sleep_fd(struct manta_comm *comm)
{
    struct epoll_event event = {.events = EPOLLIN};
    comm->sleep_fd = epoll_create1(EPOLL_CLOEXEC);
    if (comm->sleep_fd < 0)
        return MANTA_ESYSTEM;
    mt_fd_enter(comm->sleep_fd);
    for (uint32_t i = 0; i < comm->endpoint_count; i++) {
        const struct mt_endpoint *endpoint = &comm->endpoints[i];
        int fd = endpoint->transport->wait_fd ? endpoint->transport->wait_fd(endpoint->handle) : -1;
        if (fd >= 0 && epoll_ctl(comm->sleep_fd, EPOLL_CTL_ADD, fd, &event))
            return MANTA_ESYSTEM;
    }
    return epoll_ctl(comm->sleep_fd, EPOLL_CTL_ADD, mt_control_wake_fd(comm->control), &event)
               ? MANTA_ESYSTEM
               : 0;
}

/* On the wire an offer is the quota, the number of words of CPUs that are not 0, those words, and,
 * for each transport of the list, two bytes of length and the address. */
static size_t offer_pack(const struct offer *offer, uint32_t count, uint8_t *packed)
{
    uint16_t words = MT_CPUS_WORDS;
    while (words > 0 && offer->cpus.words[words - 1] == 0)
        words--;
    size_t used = sizeof(offer->quota_millicpus);
    memcpy(packed, &offer->quota_millicpus, used);
    memcpy(packed + used, &words, sizeof(words));
    used += sizeof(words);
    memcpy(packed + used, offer->cpus.words, words * sizeof(uint64_t));
    used += words * sizeof(uint64_t);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(packed + used, &offer->bytes[i], sizeof(uint16_t));
        memcpy(packed + used + sizeof(uint16_t), offer->blobs[i], offer->bytes[i]);
        used += sizeof(uint16_t) + offer->bytes[i];
    }
    return used;
}

static int cpus_unpack(const uint8_t **packed, size_t *bytes, struct offer *offer)
{
    uint16_t words;
    const size_t head = sizeof(offer->quota_millicpus) + sizeof(words);
    if (*bytes < head)
        return MANTA_EVERSION;
    memcpy(&offer->quota_millicpus, *packed, sizeof(offer->quota_millicpus));
    memcpy(&words, *packed + sizeof(offer->quota_millicpus), sizeof(words));
    size_t length = head + words * sizeof(uint64_t);
    if (words > MT_CPUS_WORDS || *bytes < length)
        return MANTA_EVERSION;
    memcpy(offer->cpus.words, *packed + head, length - head);
    *packed += length;
    *bytes -= length;
    return 0;
}

static int offer_unpack(const uint8_t *packed, size_t bytes, uint32_t count, struct offer *offer)
{
    if (cpus_unpack(&packed, &bytes, offer))
        return MANTA_EVERSION;
    for (uint32_t i = 0; i < count; i++) {
        if (bytes < sizeof(uint16_t))
            return MANTA_EVERSION;
        memcpy(&offer->bytes[i], packed, sizeof(uint16_t));
        packed += sizeof(uint16_t);
        bytes -= sizeof(uint16_t);
        if (offer->bytes[i] > MANTA_TRANSPORT_ADDRESS_MAX || offer->bytes[i] > bytes)
            return MANTA_EVERSION;
        memcpy(offer->blobs[i], packed, offer->bytes[i]);
        packed += offer->bytes[i];
        bytes -= offer->bytes[i];
    }
    return bytes ? MANTA_EVERSION : 0;
}

/* offers[r] receives what rank r offers. */
static int exchange_offers(struct manta_comm *comm, const struct offer *mine, uint32_t count,
                           struct offer *offers, uint64_t deadline_ns, struct mt_error *error)
{
    uint8_t packed[sizeof(struct offer) + sizeof(uint16_t)];
    size_t *bytes = calloc(comm->ranks, sizeof(*bytes));
    const void **parts = calloc(comm->ranks, sizeof(*parts));
    struct mt_exchange exchange = {.mine = packed,
                                   .mine_bytes = offer_pack(mine, count, packed),
                                   .deadline_ns = deadline_ns,
                                   .parts = parts,
                                   .part_bytes = bytes};
    int rc = 0;
    if (!bytes || !parts)
        rc = mt_error_set(error, MANTA_ENOMEM, "no memory for the addresses of %u ranks",
                          comm->ranks);
    if (!rc)
        rc = mt_control_allgather(comm->control, &exchange, error);
    for (uint32_t r = 0; !rc && r < comm->ranks; r++) {
        if (offer_unpack(parts[r], bytes[r], count, &offers[r]))
            rc = mt_error_set_rank(error, MANTA_EVERSION, (int)r,
                                   "rank %u gave its addresses in another form", r);
    }
    free(exchange.storage);
    free(parts);
    free(bytes);
    return rc;
}

static int connect_routes(struct manta_comm *comm, const struct offer *offers, uint32_t count,
                          const uint8_t *place, struct mt_error *error)
{
    struct manta_transport_error why = {.size = sizeof(why)};
    for (uint32_t i = 0; i < count; i++) {
        if (place[i] != MT_ROUTE_NONE && give_peers(comm, offers, i, &comm->endpoints[place[i]]))
            return mt_error_set(error, MANTA_ETRANSPORT, "%s refused the addresses of its peers",
                                comm->endpoints[place[i]].transport->name);
    }
    for (uint32_t r = 0; r < comm->ranks; r++) {
        if (r == comm->rank) {
            comm->route[r] = 0;
            continue;
        }
        choose_route(comm, offers, count, place, r, &why);
        if (comm->route[r] == MT_ROUTE_NONE)
            return mt_error_set_rank(
                error, MANTA_ETRANSPORT, (int)r,
                "no transport of '%s' reaches rank %u from rank %u: %s; give MANTA_TRANSPORTS one "
                "that does, or see manta doctor",
                comm->settings.transports, r, comm->rank, why.sentence);
    }
    return 0;
}

/* The CPUs of ranks that may have to share them, in their order. */
struct sharers {
    const struct mt_cpus **cpus; /* [count] */
    uint32_t count, index;       /* index: of the rank in question */
    uint64_t quota_millicpus;    /* that they have together; 0: none */
};

static void add_sharer(struct sharers *sharers, const struct offer *offer, int is_itself)
{
    if (is_itself)
        sharers->index = sharers->count;
    sharers->cpus[sharers->count++] = &offer->cpus;
}

/* Of a rank's node, and of its host: nodes that are namespaces of one host share CPUs as far as
 * their ranks may run on the same ones. A quota is a node's own. */
static void find_sharers(const struct manta_comm *comm, const struct offer *offers, uint32_t rank,
                         struct sharers *node, struct sharers *host)
{
    const struct mt_member *members = comm->group->members;
    node->count = host->count = 0;
    node->quota_millicpus = 0;
    for (uint32_t r = 0; r < comm->ranks; r++) {
        if (members[r].boot != members[rank].boot)
            continue;
        add_sharer(host, &offers[r], r == rank);
        if (!mt_group_same_node(comm->group, rank, r))
            continue;
        add_sharer(node, &offers[r], r == rank);
        uint64_t quota = offers[r].quota_millicpus;
        if (quota > 0 && (node->quota_millicpus == 0 || quota < node->quota_millicpus))
            node->quota_millicpus = quota;
    }
}

/* The crowd of a node and of a host is counted once, with its lowest rank. */
static void count_crowd(struct manta_comm *comm, const struct sharers *sharers)
{
    uint32_t crowd = sharers->index > 0
                         ? 1
                         : mt_cpus_crowd(sharers->cpus, sharers->count, sharers->quota_millicpus);
    if (crowd > comm->cost.crowd)
        comm->cost.crowd = crowd;
}

/* Are there more ranks than CPUs for them? Those that wait must give way at once: each rank judges
 * for itself. And where it is fullest, waiting for others takes a turn of theirs: that counts in
 * the choice of algorithms, so all ranks must find the same. */
static int find_sharing(struct manta_comm *comm, const struct offer *offers, struct mt_error *error)
{
    struct sharers node = {.cpus = calloc(comm->ranks, sizeof(*node.cpus))};
    struct sharers host = {.cpus = calloc(comm->ranks, sizeof(*host.cpus))};
    int rc = node.cpus && host.cpus
                 ? 0
                 : mt_error_set(error, MANTA_ENOMEM, "no memory for %u ranks", comm->ranks);
    for (uint32_t r = 0; !rc && r < comm->ranks; r++) {
        find_sharers(comm, offers, r, &node, &host);
        if (r == comm->rank) {
            comm->sweep = (node.count - 1) / PEERS_PER_LOOK + 1;
            comm->settings.oversubscribed =
                mt_cpus_are_shared(host.cpus, host.count, host.index) ||
                (node.quota_millicpus > 0 && node.count * UINT64_C(1000) > node.quota_millicpus);
        }
        count_crowd(comm, &node);
        count_crowd(comm, &host);
    }
    free(node.cpus);
    free(host.cpus);
    return rc;
}

int mt_routes_open(struct manta_comm *comm, uint64_t deadline_ns, struct mt_error *error)
{
    const struct manta_transport *transports[MT_ENDPOINTS];
    uint8_t place[MT_ENDPOINTS];
    uint32_t count;
    int rc = mt_transport_list(comm->settings.transports, transports, MT_ENDPOINTS, &count, error);
    if (rc)
        return rc;
    struct offer *mine = malloc(sizeof(*mine));
    struct offer *offers = calloc(comm->ranks, sizeof(*offers));
    comm->route = calloc(comm->ranks, 1);
    if (!mine || !offers || !comm->route)
        rc = mt_error_set(error, MANTA_ENOMEM, "no memory for the routes to %u ranks", comm->ranks);
    if (!rc)
        rc = open_all(comm, transports, count, mine, place, error);
    if (!rc)
        rc = exchange_offers(comm, mine, count, offers, deadline_ns, error);
    if (!rc)
        rc = find_sharing(comm, offers, error);
    if (!rc)
        rc = connect_routes(comm, offers, count, place, error);
    if (!rc)
        rc = choose_fused(comm, deadline_ns, error);
    if (!rc && open_sleep_fd(comm))
        rc = mt_error_set(error, MANTA_ESYSTEM, "epoll: raise the limit of open files (ulimit -n)");
    free(offers);
    free(mine);
    return rc;
}

void mt_routes_close(struct manta_comm *comm)
{
    if (comm->sleep_fd >= 0)
        mt_fd_close(comm->sleep_fd);
    for (uint32_t i = 0; i < comm->endpoint_count; i++)
        comm->endpoints[i].transport->close(comm->endpoints[i].handle);
    comm->endpoint_count = 0;
    free(comm->route);
    comm->route = NULL;
}
