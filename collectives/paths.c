/* SPDX-License-Identifier: Apache-2.0 */
/* How this rank talks to the others, in words: for the log when a communicator is created, and for
 * manta_explain(). */
#include <stdio.h>
#include <string.h>

#include "collectives/comm.h"
#include "core/log.h"

/* The path of this transport and interface, made if there is room; NULL: count it with the last. */
static struct mt_path *path_of(struct mt_path *paths, uint32_t *count, const char *transport,
                               const struct manta_transport_properties *properties)
{
    for (uint32_t i = 0; i < *count; i++)
        if (strcmp(paths[i].transport, transport) == 0 &&
            strcmp(paths[i].interface, properties->interface) == 0)
            return &paths[i];
    if (*count == MT_PATHS)
        return NULL;
    struct mt_path *path = &paths[(*count)++];
    memset(path, 0, sizeof(*path));
    path->transport = transport;
    memcpy(path->interface, properties->interface, sizeof(path->interface));
    memcpy(path->reason, properties->reason, sizeof(path->reason));
    return path;
}

uint32_t mt_paths_find(const struct manta_comm *comm, struct mt_path *paths)
{
    uint32_t count = 0;
    for (uint32_t r = 0; r < comm->ranks; r++) {
        const struct mt_endpoint *endpoint = &comm->endpoints[comm->route[r]];
        struct manta_transport_properties properties = {.size = sizeof(properties)};
        if (r == comm->rank || endpoint->transport->probe(endpoint->handle, r, &properties))
            continue;
        struct mt_path *path = path_of(paths, &count, endpoint->transport->name, &properties);
        if (!path) {
            paths[count - 1].others++;
            continue;
        }
        if (path->peers++ == 0)
            path->first = r;
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
    snprintf(text + used, MT_PATH_TEXT - (size_t)used, ")");
    if (path->others)
        snprintf(text + used, MT_PATH_TEXT - (size_t)used, "), and %u ranks by other ways",
                 path->others);
}

static void announce_size(const struct manta_comm *comm)
{
    uint32_t nodes = 0, here = 0;
    for (uint32_t r = 0; r < comm->ranks; r++) {
        uint32_t first = 0;
        while (comm->nodes[first] != comm->nodes[r])
            first++;
        nodes += first == r;
        here += comm->nodes[r] == comm->nodes[comm->rank];
    }
    mt_log(MT_LOG_INFO, (int)comm->rank,
           "communicator of %u ranks on %u node%s, %u on this one; libmanta %d.%d.%d", comm->ranks,
           nodes, nodes == 1 ? "" : "s", here, MANTA_VERSION_MAJOR, MANTA_VERSION_MINOR,
           MANTA_VERSION_PATCH);
}

void mt_paths_announce(const struct manta_comm *comm)
{
    struct mt_path paths[MT_PATHS];
    char transports[MT_PATHS * (MT_PATH_TEXT + 2)] = "none needed";
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
    mt_log(MT_LOG_INFO, (int)comm->rank, "transports: %s; fused steps by %s", transports,
           comm->fused_endpoint == MT_ROUTE_NONE
               ? "none"
               : comm->endpoints[comm->fused_endpoint].transport->name);
}
