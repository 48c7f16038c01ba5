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
#include "collectives/offer.h"
#include "core/config.h"
#include "core/log.h"
#include "core/service.h"
#include "topology/cpus.h"
#include "topology/host.h"
#include "transport/registry.h"

enum { PEERS_PER_LOOK = 8 }; /* a transport's progress looks at so many channels, in turn */

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

/* Open a transport of the list, and offer it with its name and version. Where it cannot be had, the
 * offer tells why in their place. MANTA_EINVAL: what the user has set cannot be had. */
static int open_endpoint(struct manta_comm *comm, const struct mt_transport_listed *listed,
                         uint32_t index, struct mt_rank_offer *offer, struct mt_error *error)
{
    const struct manta_transport *transport = listed->transport;
    const struct manta_transport_open params = {
        .size = sizeof(params),
        .host = mt_transport_host(),
        .transport = transport,
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
    struct manta_transport_error reason = {.size = sizeof(reason), .peer = MANTA_PLAN_NONE};
    size_t bytes = 0;
    int rc = listed->why.code;
    if (comm->settings.transports_by_default && mt_transport_is_left_out(transport, &reason))
        rc = reason.code;
    else if (transport)
        rc = mt_transport_open(&params, &endpoint->handle, &reason);
    if (rc == MANTA_EINVAL && transport)
        return mt_error_set(error, rc, "%s", reason.sentence);
    if (rc) {
        snprintf(offer->text[index], MT_OFFER_TEXT, "%.*s", MT_OFFER_TEXT - 1,
                 transport ? reason.sentence : listed->why.sentence);
        return transport ? rc : MANTA_ENOTSUP;
    }
    endpoint->transport = transport;
    comm->endpoint_count++;
    if (transport->address(endpoint->handle, offer->blobs[index], MANTA_TRANSPORT_ADDRESS_MAX,
                           &bytes)) {
        transport->error(endpoint->handle, &reason);
        snprintf(offer->text[index], MT_OFFER_TEXT, "it has no address: %.*s", MT_OFFER_TEXT - 32,
                 reason.sentence);
        return 0;
    }
    offer->bytes[index] = (uint16_t)bytes;
    snprintf(offer->text[index], MT_OFFER_TEXT, "%s%s%s", transport->name,
             transport->version ? " " : "", transport->version ? transport->version : "");
    return 0;
}

/* Open the transports of the list. One that cannot be opened here keeps its place with an empty
 * offer, so that places mean the same on all ranks. */
static int open_all(struct manta_comm *comm, const struct mt_transport_listed *listed,
                    uint32_t count, struct mt_rank_offer *offer, uint8_t *place,
                    struct mt_error *error)
{
    memset(offer, 0, sizeof(*offer));
    mt_cpus_of_thread(&offer->cpus);
    offer->quota_millicpus = mt_host()->quota_millicpus;
    for (uint32_t i = 0; i < count; i++) {
        place[i] = MT_ROUTE_NONE;
        int rc = open_endpoint(comm, &listed[i], i, offer, error);
        if (rc == MANTA_EINVAL)
            return rc;
        if (rc) /* what nobody has asked for by name may well be absent */
            mt_log(rc == MANTA_ENOTSUP && comm->settings.transports_by_default ? MT_LOG_INFO
                                                                               : MT_LOG_WARN,
                   (int)comm->rank, "transport %.*s is not used: %s", (int)listed[i].name_length,
                   listed[i].name, offer->text[i]);
        else
            place[i] = (uint8_t)(comm->endpoint_count - 1);
    }
    if (comm->endpoint_count > 0)
        return 0;
    return mt_error_set(error, MANTA_ETRANSPORT,
                        "no transport of '%.200s' can be used here: %s; see manta doctor",
                        comm->settings.transports, offer->text[count - 1]);
}

static int give_peers(struct manta_comm *comm, const struct mt_rank_offer *offers, uint32_t listed,
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

/* Does this rank reach a peer by the transport at this place of the list? If not, why->sentence
 * tells. */
static int reaches(const struct manta_comm *comm, const struct mt_rank_offer *offers,
                   const uint8_t *place, uint32_t index, uint32_t peer,
                   struct manta_transport_properties *properties, struct manta_transport_error *why)
{
    if (place[index] == MT_ROUTE_NONE || offers[comm->rank].bytes[index] == 0) {
        snprintf(why->sentence, sizeof(why->sentence), "it cannot be used here: %s",
                 offers[comm->rank].text[index]);
        return 0;
    }
    if (offers[peer].bytes[index] == 0) {
        snprintf(why->sentence, sizeof(why->sentence), "rank %u does not offer it: %s", peer,
                 offers[peer].text[index]);
        return 0;
    }
    const struct mt_endpoint *endpoint = &comm->endpoints[place[index]];
    *properties = (struct manta_transport_properties){.size = sizeof(*properties)};
    if (endpoint->transport->probe(endpoint->handle, peer, properties) == 0)
        return 1;
    endpoint->transport->error(endpoint->handle, why);
    return 0;
}

/* mutual: bit i of a peer's is set if it may be used as far as both ends have agreed; NULL: all
 * may. why->sentence: of the last transport that does not reach it. */
static void choose_route(struct manta_comm *comm, const struct mt_transport_listed *listed,
                         const struct mt_rank_offer *offers, uint32_t count, const uint8_t *place,
                         uint32_t peer, const uint8_t *mutual, struct manta_transport_error *why)
{
    comm->route[peer] = MT_ROUTE_NONE;
    for (uint32_t i = 0; i < count; i++) {
        struct manta_transport_properties properties;
        int is_reached = reaches(comm, offers, place, i, peer, &properties, why);
        if (is_reached && mutual && !(mutual[peer] >> i & 1)) {
            is_reached = 0;
            snprintf(why->sentence, sizeof(why->sentence),
                     "rank %u does not reach this rank by it, as its log at MANTA_LOG=debug says",
                     peer);
        }
        if (is_reached) {
            comm->route[peer] = place[i];
            mt_log(MT_LOG_DEBUG, (int)comm->rank, "rank %u is reached by %s (%s%s%s)", peer,
                   comm->endpoints[place[i]].transport->name, properties.interface,
                   properties.reason[0] ? " " : "", properties.reason);
            return;
        }
        mt_log(MT_LOG_DEBUG, (int)comm->rank, "rank %u is not reached by %.*s: %s", peer,
               (int)listed[i].name_length, listed[i].name, why->sentence);
    }
}

/* What plugins answer about a peer may differ at its two ends, and a pair must use one transport:
 * each rank tells whom it reaches by which. mutual_out: [ranks], to be freed. */
static int agree_reach(struct manta_comm *comm, const struct mt_rank_offer *offers, uint32_t count,
                       const uint8_t *place, uint64_t deadline_ns, uint8_t **mutual_out,
                       struct mt_error *error)
{
    struct manta_transport_properties properties;
    struct manta_transport_error why = {.size = sizeof(why)};
    struct mt_exchange exchange;
    uint8_t *mutual = *mutual_out = calloc(comm->ranks, 1);
    if (!mutual)
        return mt_error_set(error, MANTA_ENOMEM, "no memory for %u ranks", comm->ranks);
    for (uint32_t r = 0; r < comm->ranks; r++)
        for (uint32_t i = 0; r != comm->rank && i < count; i++)
            if (reaches(comm, offers, place, i, r, &properties, &why))
                mutual[r] |= (uint8_t)(1 << i);
    int rc = mt_offer_gather(comm, mutual, comm->ranks, deadline_ns, &exchange, error);
    for (uint32_t r = 0; !rc && r < comm->ranks; r++) {
        const uint8_t *others = exchange.parts[r];
        mutual[r] &= exchange.part_bytes[r] == comm->ranks ? others[comm->rank] : 0;
    }
    mt_offer_release(&exchange);
    return rc;
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
    struct mt_exchange exchange;
    int rc = mt_offer_gather(comm, &mine, sizeof(mine), deadline_ns, &exchange, error);
    int all = 1;
    for (uint32_t r = 0; !rc && r < comm->ranks; r++)
        all &= exchange.part_bytes[r] == 1 && *(const uint8_t *)exchange.parts[r] == 1;
    if (!all)
        comm->fused_endpoint = MT_ROUTE_NONE;
    mt_offer_release(&exchange);
    return rc;
}

/* The transport that carries out fused steps over the ranks of this node. */
static int choose_fused(struct manta_comm *comm, int has_plugin, uint64_t deadline_ns,
                        struct mt_error *error)
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
    if (!is_apart && !has_plugin)
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

static int give_all_peers(struct manta_comm *comm, const struct mt_rank_offer *offers,
                          uint32_t count, const uint8_t *place, struct mt_error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        struct manta_transport_error why = {.size = sizeof(why)};
        if (place[i] == MT_ROUTE_NONE || !give_peers(comm, offers, i, &comm->endpoints[place[i]]))
            continue;
        const struct mt_endpoint *endpoint = &comm->endpoints[place[i]];
        endpoint->transport->error(endpoint->handle, &why);
        return mt_error_set(error, MANTA_ETRANSPORT, "%s refused the addresses of its peers%s%s",
                            endpoint->transport->name, why.sentence[0] ? ": " : "", why.sentence);
    }
    return 0;
}

static int connect_routes(struct manta_comm *comm, const struct mt_transport_listed *listed,
                          const struct mt_rank_offer *offers, uint32_t count, const uint8_t *place,
                          const uint8_t *mutual, struct mt_error *error)
{
    struct manta_transport_error why = {.size = sizeof(why)};
    for (uint32_t r = 0; r < comm->ranks; r++) {
        if (r == comm->rank) {
            comm->route[r] = 0;
            continue;
        }
        choose_route(comm, listed, offers, count, place, r, mutual, &why);
        if (comm->route[r] == MT_ROUTE_NONE)
            return mt_error_set_rank(
                error, MANTA_ETRANSPORT, (int)r,
                "no transport of '%.128s' reaches rank %u from rank %u; of the last one: %s; give "
                "MANTA_TRANSPORTS one that does, or see manta doctor",
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

static void add_sharer(struct sharers *sharers, const struct mt_rank_offer *offer, int is_itself)
{
    if (is_itself)
        sharers->index = sharers->count;
    sharers->cpus[sharers->count++] = &offer->cpus;
}

/* Of a rank's node, and of its host: nodes that are namespaces of one host share CPUs as far as
 * their ranks may run on the same ones. A quota is a node's own. */
static void find_sharers(const struct manta_comm *comm, const struct mt_rank_offer *offers,
                         uint32_t rank, struct sharers *node, struct sharers *host)
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
static int find_sharing(struct manta_comm *comm, const struct mt_rank_offer *offers,
                        struct mt_error *error)
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

/* From what is offered to routes. */
static int find_routes(struct manta_comm *comm, const struct mt_transport_listed *listed,
                       uint32_t count, struct mt_rank_offer *offers, uint64_t deadline_ns,
                       struct mt_error *error)
{
    uint8_t place[MT_ENDPOINTS], *mutual = NULL;
    struct mt_rank_offer *mine = malloc(sizeof(*mine));
    int has_plugin = 0;
    for (uint32_t i = 0; i < count; i++)
        has_plugin |= listed[i].is_plugin;
    int rc = mine ? open_all(comm, listed, count, mine, place, error)
                  : mt_error_set(error, MANTA_ENOMEM, "no memory for the addresses of this rank");
    if (!rc)
        rc = mt_offer_exchange(comm, mine, count, offers, deadline_ns, error);
    free(mine);
    if (!rc)
        rc = find_sharing(comm, offers, error);
    if (!rc)
        mt_network_learn(comm, listed, count, offers);
    if (!rc)
        rc = give_all_peers(comm, offers, count, place, error);
    if (!rc && has_plugin)
        rc = agree_reach(comm, offers, count, place, deadline_ns, &mutual, error);
    if (!rc)
        rc = connect_routes(comm, listed, offers, count, place, mutual, error);
    free(mutual);
    return rc ? rc : choose_fused(comm, has_plugin, deadline_ns, error);
}

int mt_routes_open(struct manta_comm *comm, uint64_t deadline_ns, struct mt_error *error)
{
    struct mt_transport_listed listed[MT_ENDPOINTS];
    uint32_t count;
    int rc = mt_transport_list(comm->settings.transports, listed, MT_ENDPOINTS, &count, error);
    if (rc)
        return rc;
    if (!mt_config_is_set(MT_VAR(TRANSPORTS)))
        mt_transport_warn_of_unused(listed, count);
    comm->group->has_tcp = 0;
    for (uint32_t i = 0; i < count; i++)
        comm->group->has_tcp |= listed[i].transport == &mt_transport_tcp;
    struct mt_rank_offer *offers = calloc(comm->ranks, sizeof(*offers));
    comm->route = calloc(comm->ranks, 1);
    if (!offers || !comm->route)
        rc = mt_error_set(error, MANTA_ENOMEM, "no memory for the routes to %u ranks", comm->ranks);
    if (!rc)
        rc = find_routes(comm, listed, count, offers, deadline_ns, error);
    if (!rc && open_sleep_fd(comm))
        rc = mt_error_set(error, MANTA_ESYSTEM, "epoll: raise the limit of open files (ulimit -n)");
    free(offers);
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
