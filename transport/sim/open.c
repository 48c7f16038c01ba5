/* SPDX-License-Identifier: Apache-2.0 */
/* How a sim endpoint comes about and goes: what the environment says, the inner transports, and who
 * of them reaches which peer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/config.h"
#include "core/service.h"
#include "transport/registry.h"
#include "transport/sim/sim_internal.h"

enum { ADDRESS_HEAD = 2 };

static int refuse(struct manta_transport_error *error, const struct mt_error *why)
{
    error->code = why->code;
    error->peer = MANTA_PLAN_NONE;
    error->system_errno = why->system_errno;
    snprintf(error->sentence, sizeof(error->sentence), "%.*s", (int)sizeof(error->sentence) - 1,
             why->sentence);
    return why->code;
}

/* What the environment says: the inner transports, the faults, the seed. */
static int read_settings(struct mt_transport_listed *inners, uint32_t *inner_count_out,
                         struct mt_faults *faults_out, uint64_t *seed_out, struct mt_error *error)
{
    int code = mt_transport_list(mt_config_string(MT_VAR(SIM_INNER)), inners, MT_SIM_INNERS,
                                 inner_count_out, error);
    for (uint32_t i = 0; code == 0 && i < *inner_count_out; i++) {
        if (inners[i].transport == NULL) {
            *error = inners[i].why;
            code = error->code;
        } else if (inners[i].transport == &mt_transport_sim) {
            code = mt_error_set(error, MANTA_EINVAL,
                                "MANTA_SIM_INNER names sim itself; name tcp or shm");
        }
    }
    if (code == 0)
        code = mt_faults_parse(mt_config_string(MT_VAR(FAULT)), faults_out, error);
    if (code == 0)
        code = mt_config_count(MT_VAR(SEED), seed_out, error);
    return code;
}

int mt_sim_query(const struct manta_transport_host *host, struct manta_transport_error *error)
{
    (void)host;
    struct mt_transport_listed inners[MT_SIM_INNERS];
    struct mt_error why = {0};
    struct mt_faults faults;
    uint32_t count;
    uint64_t seed;
    if (read_settings(inners, &count, &faults, &seed, &why) != 0)
        return refuse(error, &why);
    for (uint32_t i = 0; i < count; i++) {
        int code = mt_transport_query(inners[i].transport, error);
        if (code != 0)
            return code;
    }
    return 0;
}

void mt_sim_close(void *handle)
{
    struct mt_sim *sim = handle;
    for (uint32_t i = 0; i < sim->inner_count; i++)
        sim->inners[i].transport->close(sim->inners[i].endpoint);
    mt_sim_drop(sim, MANTA_EABORTED);
    if (sim->epoll_fd >= 0)
        mt_fd_close(sim->epoll_fd);
    free(sim->log);
    free(sim->routes);
    free(sim);
}

static int open_inners(struct mt_sim *sim, const struct manta_transport_open *params,
                       const struct mt_transport_listed *inners, uint32_t count,
                       struct manta_transport_error *error)
{
    struct manta_transport_open own = *params;
    for (uint32_t i = 0; i < count; i++) {
        struct mt_sim_inner *inner = &sim->inners[i];
        struct epoll_event event = {.events = EPOLLIN};
        own.transport = inner->transport = inners[i].transport;
        int code = inner->transport->open(&own, &inner->endpoint, error);
        if (code != 0)
            return code;
        sim->inner_count++;
        int fd = inner->transport->wait_fd ? inner->transport->wait_fd(inner->endpoint) : -1;
        if (fd >= 0 && epoll_ctl(sim->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
            struct mt_error why = {0};
            mt_error_set(&why, MANTA_ESYSTEM, "epoll: %s", strerror(errno));
            return refuse(error, &why);
        }
    }
    return 0;
}

int mt_sim_open(const struct manta_transport_open *params, void **endpoint_out,
                struct manta_transport_error *error)
{
    struct mt_transport_listed inners[MT_SIM_INNERS];
    struct mt_error why = {0};
    uint32_t count;
    *endpoint_out = NULL;
    struct mt_sim *sim = calloc(1, sizeof(*sim));
    uint8_t *routes = malloc(params->ranks);
    if (sim == NULL || routes == NULL) {
        free(sim);
        free(routes);
        mt_error_set(&why, MANTA_ENOMEM, "no memory for the sim endpoint");
        return refuse(error, &why);
    }
    memset(routes, MT_SIM_NO_ROUTE, params->ranks);
    sim->host = params->host;
    sim->rank = params->rank;
    sim->ranks = params->ranks;
    sim->routes = routes;
    sim->work_end = &sim->work;
    sim->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (sim->epoll_fd >= 0)
        mt_fd_enter(sim->epoll_fd);
    else
        mt_error_set(&why, MANTA_ESYSTEM, "epoll: %s", strerror(errno));
    int code = why.code;
    if (code == 0)
        code = read_settings(inners, &count, &sim->faults, &sim->seed, &why);
    if (code != 0)
        refuse(error, &why);
    else
        code = open_inners(sim, params, inners, count, error);
    if (code != 0) {
        mt_sim_close(sim);
        return code;
    }
    *endpoint_out = sim;
    return 0;
}

/* For each inner transport two bytes of length and its address. */
int mt_sim_address(void *handle, void *blob, size_t blob_bytes, size_t *bytes_out)
{
    struct mt_sim *sim = handle;
    uint8_t *end = blob;
    size_t left = blob_bytes;
    for (uint32_t i = 0; i < sim->inner_count; i++) {
        size_t bytes = 0;
        if (left < ADDRESS_HEAD)
            return MANTA_EINVAL;
        int code = sim->inners[i].transport->address(sim->inners[i].endpoint, end + ADDRESS_HEAD,
                                                     left - ADDRESS_HEAD, &bytes);
        if (code != 0)
            bytes = 0;
        end[0] = (uint8_t)bytes;
        end[1] = (uint8_t)(bytes >> 8);
        end += ADDRESS_HEAD + bytes;
        left -= ADDRESS_HEAD + bytes;
    }
    *bytes_out = blob_bytes - left;
    return 0;
}

/* The part of an address that is the inner transport's; 0 bytes if there is none. */
static size_t address_part(const uint8_t *blob, size_t bytes, uint32_t inner, const void **part_out)
{
    *part_out = NULL;
    for (uint32_t i = 0; bytes >= ADDRESS_HEAD; i++) {
        size_t length = (size_t)blob[0] | (size_t)blob[1] << 8;
        if (length > bytes - ADDRESS_HEAD)
            return 0;
        if (i == inner) {
            *part_out = blob + ADDRESS_HEAD;
            return length;
        }
        blob += ADDRESS_HEAD + length;
        bytes -= ADDRESS_HEAD + length;
    }
    return 0;
}

int mt_sim_peers(void *handle, const void *const *addresses, const size_t *address_bytes)
{
    struct mt_sim *sim = handle;
    const void **parts = calloc(sim->ranks, sizeof(*parts));
    size_t *bytes = calloc(sim->ranks, sizeof(*bytes));
    int code = parts == NULL || bytes == NULL ? MANTA_ENOMEM : 0;
    for (uint32_t i = 0; code == 0 && i < sim->inner_count; i++) {
        const struct mt_sim_inner *inner = &sim->inners[i];
        for (uint32_t r = 0; r < sim->ranks; r++)
            bytes[r] = address_part(addresses[r], address_bytes[r], i, &parts[r]);
        code = inner->transport->peers(inner->endpoint, parts, bytes);
        for (uint32_t r = 0; code == 0 && r < sim->ranks; r++) {
            struct manta_transport_properties properties = {.size = sizeof(properties)};
            if (r != sim->rank && bytes[r] > 0 && sim->routes[r] == MT_SIM_NO_ROUTE &&
                inner->transport->probe(inner->endpoint, r, &properties) == 0)
                sim->routes[r] = (uint8_t)i;
        }
    }
    free(parts);
    free(bytes);
    return code;
}
