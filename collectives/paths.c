/* SPDX-License-Identifier: Apache-2.0 */
/* How this rank talks to the others, in words: for the log when a communicator is created, and for
 * manta_explain(). */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "collectives/comm.h"
#include "core/log.h"
#include "core/wire.h"
#include "transport/registry.h"

/* The last transport of the list that does not reach a rank before the one that does, and why: of
 * verbs that is news, of shm that goes before it seldom. */
static void find_better(const struct manta_comm *comm, struct mt_path *path)
{
    struct manta_transport_properties properties = {.size = sizeof(properties)};
    struct manta_transport_error error = {.size = sizeof(error)};
    uint32_t used = comm->route[path->first];
    const struct mt_endpoint *endpoint = &comm->endpoints[used > 0 ? used - 1 : 0];
    if (used == 0 || endpoint->transport->probe(endpoint->handle, path->first, &properties) == 0)
        return;
    endpoint->transport->error(endpoint->handle, &error);
    path->better = endpoint->transport->name;
    snprintf(path->why, sizeof(path->why), "%.*s", (int)sizeof(path->why) - 1, error.sentence);
}

/* Where the reason names the rank that it is about, and how long the name is. */
static size_t find_name(const struct mt_path *path, size_t *bytes_out)
{
    char name[24];
    *bytes_out = (size_t)snprintf(name, sizeof(name), "rank %u", path->first);
    const char *at = strstr(path->why, name);
    if (!at)
        *bytes_out = 0;
    return at ? (size_t)(at - path->why) : 0;
}

/* The same way for the same reasons, but for the rank that these name. */
static int is_same(const struct mt_path *a, const struct mt_path *b)
{
    size_t name_a, name_b, at_a = find_name(a, &name_a), at_b = find_name(b, &name_b);
    return strcmp(a->transport, b->transport) == 0 && strcmp(a->interface, b->interface) == 0 &&
           at_a == at_b && memcmp(a->why, b->why, at_a) == 0 &&
           strcmp(a->why + at_a + name_a, b->why + at_b + name_b) == 0;
}

/* 0 if there is no way to it, which can only be this rank. */
static int find_path(const struct manta_comm *comm, uint32_t peer, struct mt_path *path)
{
    const struct mt_endpoint *endpoint = &comm->endpoints[comm->route[peer]];
    struct manta_transport_properties properties = {.size = sizeof(properties)};
    if (peer == comm->rank || endpoint->transport->probe(endpoint->handle, peer, &properties))
        return 0;
    memset(path, 0, sizeof(*path));
    path->transport = endpoint->transport->name;
    path->first = peer;
    memcpy(path->interface, properties.interface, sizeof(path->interface));
    memcpy(path->reason, properties.reason, sizeof(path->reason));
    find_better(comm, path);
    return 1;
}

uint32_t mt_paths_find(const struct manta_comm *comm, struct mt_path *paths)
{
    uint32_t count = 0;
    for (uint32_t r = 0; r < comm->ranks; r++) {
        struct mt_path path;
        uint32_t i = 0;
        if (!find_path(comm, r, &path))
            continue;
        while (i < count && !is_same(&paths[i], &path))
            i++;
        if (i == MT_PATHS) {
            paths[MT_PATHS - 1].others++;
            continue;
        }
        if (i == count)
            paths[count++] = path;
        paths[i].peers++;
    }
    return count;
}

void mt_path_describe(const struct mt_path *path, char text[MT_PATH_TEXT])
{
    int used = snprintf(text, MT_PATH_TEXT, "%s to %u rank%s (%s", path->transport, path->peers,
                        path->peers == 1 ? "" : "s", path->interface);
    if (path->reason[0])
        used += snprintf(text + used, MT_PATH_TEXT - (size_t)used, "; rank %u %s", path->first,
                         path->reason);
    if (path->better)
        used += snprintf(text + used, MT_PATH_TEXT - (size_t)used, "; not %s: %s", path->better,
                         path->why);
    snprintf(text + used, MT_PATH_TEXT - (size_t)used, ")");
    if (path->others)
        snprintf(text + used, MT_PATH_TEXT - (size_t)used, "), and %u ranks by other ways",
                 path->others);
}

/* "+4" or "+3x4", or "..." when it is too much. Returns where the text ends. */
static size_t add_nodes(char *text, size_t used, uint32_t nodes, uint32_t ranks)
{
    char term[32] = "";
    if (used > MT_NODES_TEXT - sizeof(term))
        snprintf(term, sizeof(term), "%s", text[used - 1] == '.' ? "" : "+...");
    else if (nodes > 2)
        snprintf(term, sizeof(term), "%s%ux%u", used ? "+" : "", nodes, ranks);
    else if (nodes > 0)
        snprintf(term, sizeof(term), nodes == 2 ? "%s%u+%u" : "%s%u", used ? "+" : "", ranks,
                 ranks);
    return used + (size_t)snprintf(text + used, MT_NODES_TEXT - used, "%s", term);
}

uint32_t mt_paths_nodes(const uint64_t *nodes, uint32_t ranks, char text[MT_NODES_TEXT])
{
    uint32_t count = 0, equal = 0, last = 0;
    size_t used = 0;
    text[0] = 0;
    for (uint32_t r = 0; r < ranks; r++) {
        uint32_t first = 0, here = 0;
        while (nodes[first] != nodes[r])
            first++;
        if (first < r)
            continue;
        for (uint32_t other = r; other < ranks; other++)
            here += nodes[other] == nodes[r];
        if (here != last)
            used = add_nodes(text, used, equal, last);
        equal = here == last ? equal + 1 : 1;
        last = here;
        count++;
    }
    add_nodes(text, used, equal, last);
    return count;
}

static void announce_size(const struct manta_comm *comm)
{
    char each[MT_NODES_TEXT], nodes[MT_NODES_TEXT + 32] = "1 node";
    struct utsname kernel = {.release = "?"};
    uint32_t count = mt_paths_nodes(comm->nodes, comm->ranks, each);
    if (count > 1)
        snprintf(nodes, sizeof(nodes), "%u nodes (%s)", count, each);
    uname(&kernel);
    mt_log(MT_LOG_INFO, (int)comm->rank,
           "communicator of %u rank%s on %s; libmanta %d.%d.%d, protocol %d, Linux %s", comm->ranks,
           comm->ranks == 1 ? "" : "s", nodes, MANTA_VERSION_MAJOR, MANTA_VERSION_MINOR,
           MANTA_VERSION_PATCH, MT_WIRE_PROTOCOL, kernel.release);
}

/* The lowest rank of the node of `rank` but itself; MANTA_PLAN_NONE: it is alone there. */
static uint32_t neighbour_of(const struct manta_comm *comm, uint32_t rank)
{
    for (uint32_t r = 0; r < comm->ranks; r++)
        if (r != rank && comm->nodes[r] == comm->nodes[rank])
            return r;
    return MANTA_PLAN_NONE;
}

/* What is fused among the ranks of this node, where there are others. */
static void word_fused(const struct manta_comm *comm, char text[MT_PATH_TEXT])
{
    uint32_t endpoint = comm->fused_endpoint;
    text[0] = 0;
    if (neighbour_of(comm, comm->rank) != MANTA_PLAN_NONE)
        snprintf(text, MT_PATH_TEXT, "; fused steps%s by %s",
                 comm->topology->groups[MT_LEVEL_NODE] > 1 ? " on each node" : "",
                 endpoint == MT_ROUTE_NONE ? "none" : comm->endpoints[endpoint].transport->name);
}

void mt_paths_announce(const struct manta_comm *comm)
{
    struct mt_path paths[MT_PATHS];
    char transports[MT_PATHS * (MT_PATH_TEXT + 2)] = "none needed", fused[MT_PATH_TEXT];
    size_t used = 0;
    if (!mt_log_enabled(MT_LOG_INFO))
        return;
    announce_size(comm);
    uint32_t count = mt_paths_find(comm, paths);
    for (uint32_t i = 0; i < count; i++) {
        char text[MT_PATH_TEXT];
        mt_path_describe(&paths[i], text);
        used += (size_t)snprintf(transports + used, sizeof(transports) - used, "%s%s",
                                 i ? ", " : "", text);
    }
    word_fused(comm, fused);
    mt_log(MT_LOG_INFO, (int)comm->rank, "transports (MANTA_TRANSPORTS=%s): %s%s",
           comm->settings.transports, transports, fused);
}

/* No rank below this one has others on its node. */
static int is_first_of_several(const struct manta_comm *comm)
{
    for (uint32_t r = 0; r < comm->rank; r++)
        if (neighbour_of(comm, r) != MANTA_PLAN_NONE)
            return 0;
    return 1;
}

void mt_paths_warn(const struct manta_comm *comm)
{
    static _Atomic int is_said;
    struct manta_transport_properties properties = {.size = sizeof(properties)};
    uint32_t peer = neighbour_of(comm, comm->rank);
    if (peer == MANTA_PLAN_NONE)
        return;
    const struct manta_transport *used = comm->endpoints[comm->route[peer]].transport;
    uint32_t shm = comm->route[peer] + 1U;
    while (shm < comm->endpoint_count && comm->endpoints[shm].transport != &mt_transport_shm)
        shm++;
    if (!mt_transport_is_by_network(used) || shm >= comm->endpoint_count ||
        mt_transport_shm.probe(comm->endpoints[shm].handle, peer, &properties) ||
        !is_first_of_several(comm) || atomic_exchange(&is_said, 1))
        return;
    mt_log(MT_LOG_WARN, (int)comm->rank,
           "MANTA_TRANSPORTS=%s: %s comes before shm, so ranks of one node use it with each other, "
           "as this one and rank %u do, where shm is faster; put shm first",
           comm->settings.transports, used->name, peer);
}
