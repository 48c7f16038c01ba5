/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of the sim transport: those that only pass on to the inner transports, and the
 * log. */
#include "transport/sim/sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/config.h"
#include "core/service.h"
#include "transport/answer.h"
#include "transport/registry.h"
#include "transport/sim/sim_internal.h"

enum { LOG_ROOM = 1024, ADDRESS_HEAD = 2 };

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
static int read_settings(const struct manta_transport **inners, uint32_t *inner_count_out,
                         struct mt_faults *faults_out, uint64_t *seed_out, struct mt_error *error)
{
    int code = mt_transport_list(mt_config_string(MT_VAR(SIM_INNER)), inners, MT_SIM_INNERS,
                                 inner_count_out, error);
    for (uint32_t i = 0; code == 0 && i < *inner_count_out; i++) {
        if (inners[i] == &mt_transport_sim)
            code = mt_error_set(error, MANTA_EINVAL,
                                "MANTA_SIM_INNER names sim itself; name tcp or shm");
    }
    if (code == 0)
        code = mt_faults_parse(mt_config_string(MT_VAR(FAULT)), faults_out, error);
    if (code == 0)
        code = mt_config_count(MT_VAR(SEED), seed_out, error);
    return code;
}

static int query(const struct manta_transport_host *host, struct manta_transport_error *error)
{
    const struct manta_transport *inners[MT_SIM_INNERS];
    struct mt_error why = {0};
    struct mt_faults faults;
    uint32_t count;
    uint64_t seed;
    if (read_settings(inners, &count, &faults, &seed, &why) != 0)
        return refuse(error, &why);
    for (uint32_t i = 0; i < count; i++) {
        int code = inners[i]->query(host, error);
        if (code != 0)
            return code;
    }
    return 0;
}

static void close_endpoint(void *handle)
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
                       const struct manta_transport *const *inners, uint32_t count,
                       struct manta_transport_error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        struct mt_sim_inner *inner = &sim->inners[i];
        struct epoll_event event = {.events = EPOLLIN};
        inner->transport = inners[i];
        int code = inner->transport->open(params, &inner->endpoint, error);
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

static int open_endpoint(const struct manta_transport_open *params, void **endpoint_out,
                         struct manta_transport_error *error)
{
    const struct manta_transport *inners[MT_SIM_INNERS];
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
        close_endpoint(sim);
        return code;
    }
    *endpoint_out = sim;
    return 0;
}

/* For each inner transport two bytes of length and its address. */
static int address(void *handle, void *blob, size_t blob_bytes, size_t *bytes_out)
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

static int peers(void *handle, const void *const *addresses, const size_t *address_bytes)
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

static const struct mt_sim_inner *route(const struct mt_sim *sim, uint32_t peer)
{
    if (peer >= sim->ranks || sim->routes[peer] == MT_SIM_NO_ROUTE)
        return NULL;
    return &sim->inners[sim->routes[peer]];
}

static int no_route(struct mt_sim *sim, uint32_t peer)
{
    sim->error = (struct manta_transport_error){
        .size = sizeof(sim->error), .code = MANTA_ENOTSUP, .peer = peer};
    snprintf(sim->error.sentence, sizeof(sim->error.sentence),
             "none of MANTA_SIM_INNER=%s reaches rank %u", mt_config_string(MT_VAR(SIM_INNER)),
             peer);
    return MANTA_ENOTSUP;
}

static int probe(void *handle, uint32_t peer, struct manta_transport_properties *properties)
{
    struct mt_sim *sim = handle;
    const struct mt_sim_inner *inner = route(sim, peer);
    return inner ? inner->transport->probe(inner->endpoint, peer, properties) : no_route(sim, peer);
}

static int connect_peer(void *handle, uint32_t peer, uint64_t deadline_ns)
{
    struct mt_sim *sim = handle;
    const struct mt_sim_inner *inner = route(sim, peer);
    return inner ? inner->transport->connect(inner->endpoint, peer, deadline_ns)
                 : no_route(sim, peer);
}

static int progress(void *handle)
{
    struct mt_sim *sim = handle;
    int moved = 0;
    for (uint32_t i = 0; i < sim->inner_count; i++) {
        int code = sim->inners[i].transport->progress(sim->inners[i].endpoint);
        if (code < 0)
            return code;
        moved |= code;
    }
    mt_sim_hooks_look(sim);
    return moved | mt_sim_look(sim);
}

static int wait_fd(void *handle)
{
    return ((struct mt_sim *)handle)->epoll_fd;
}

static void disarm_first(struct mt_sim *sim, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (sim->inners[i].transport->disarm)
            sim->inners[i].transport->disarm(sim->inners[i].endpoint);
    }
}

static int arm(void *handle)
{
    struct mt_sim *sim = handle;
    if (sim->middle != NULL || mt_sim_holds(sim))
        return 1;
    for (uint32_t i = 0; i < sim->inner_count; i++) {
        const struct mt_sim_inner *inner = &sim->inners[i];
        if (inner->transport->arm && inner->transport->arm(inner->endpoint) != 0) {
            disarm_first(sim, i + 1);
            return 1;
        }
    }
    return 0;
}

static void disarm(void *handle)
{
    struct mt_sim *sim = handle;
    disarm_first(sim, sim->inner_count);
}

static int peer_status(void *handle, uint32_t peer)
{
    struct mt_sim *sim = handle;
    const struct mt_sim_inner *inner = route(sim, peer);
    return inner ? inner->transport->peer_status(inner->endpoint, peer) : no_route(sim, peer);
}

static void error_op(void *handle, struct manta_transport_error *error_out)
{
    const struct mt_sim *sim = handle;
    struct manta_transport_error found = sim->error;
    for (uint32_t i = 0; i < sim->inner_count && found.code == 0; i++) {
        found.size = sizeof(found);
        sim->inners[i].transport->error(sim->inners[i].endpoint, &found);
    }
    mt_transport_export(&found, sizeof(found), error_out);
}

static int abort_op(void *handle, int code)
{
    struct mt_sim *sim = handle;
    int worst = mt_sim_is_unsafe(sim) ? MANTA_EBUFFER : 0;
    for (uint32_t i = 0; i < sim->inner_count; i++) {
        int got = sim->inners[i].transport->abort(sim->inners[i].endpoint, code);
        worst = got != 0 ? got : worst;
    }
    if (sim->aborted == 0)
        sim->aborted = code;
    mt_sim_drop(sim, code);
    return worst;
}

static int drain(void *handle)
{
    struct mt_sim *sim = handle;
    int more = 0;
    for (uint32_t i = 0; i < sim->inner_count; i++) {
        const struct mt_sim_inner *inner = &sim->inners[i];
        more |= inner->transport->drain && inner->transport->drain(inner->endpoint) > 0;
    }
    return more;
}

/* One inner transport must carry out the step: that which reaches all its members. NULL: none. */
static const struct mt_sim_inner *find_carrier(const struct mt_sim *sim,
                                               const struct manta_plan_fused *fused)
{
    const struct mt_sim_inner *inner = NULL;
    for (uint32_t i = 0; i < fused->member_count; i++) {
        uint32_t rank = fused->members[i].rank;
        if (rank == sim->rank)
            continue;
        if (route(sim, rank) == NULL || (inner != NULL && route(sim, rank) != inner))
            return NULL;
        inner = route(sim, rank);
    }
    if (inner == NULL)
        inner = &sim->inners[0];
    return inner->transport->fused_query && inner->transport->fused_post ? inner : NULL;
}

static int fused_query(void *handle, const struct manta_plan_fused *fused)
{
    const struct mt_sim_inner *inner = find_carrier(handle, fused);
    return inner ? inner->transport->fused_query(inner->endpoint, fused) : MANTA_ENOTSUP;
}

static int fused_memory(void *handle, const struct manta_transport_fused_call *call, char *text,
                        size_t text_bytes)
{
    const struct mt_sim_inner *inner = find_carrier(handle, call->fused);
    if (inner == NULL || inner->transport->fused_memory == NULL)
        return MANTA_ENOTSUP;
    return inner->transport->fused_memory(inner->endpoint, call, text, text_bytes);
}

static void counters(void *handle, struct manta_transport_counters *counters_out)
{
    const struct mt_sim *sim = handle;
    struct manta_transport_counters sum = {.size = sizeof(sum)};
    for (uint32_t i = 0; i < sim->inner_count; i++) {
        struct manta_transport_counters one = {.size = sizeof(one)};
        if (sim->inners[i].transport->counters == NULL)
            continue;
        sim->inners[i].transport->counters(sim->inners[i].endpoint, &one);
        sum.sent_messages += one.sent_messages;
        sum.sent_bytes += one.sent_bytes;
        sum.received_messages += one.received_messages;
        sum.received_bytes += one.received_bytes;
        sum.copied_bytes += one.copied_bytes;
        sum.registrations += one.registrations;
    }
    mt_transport_export(&sum, sizeof(sum), counters_out);
}

int mt_sim_log_start(void *endpoint)
{
    struct mt_sim *sim = endpoint;
    if (sim->log != NULL)
        return 0;
    sim->log = malloc(LOG_ROOM * sizeof(*sim->log));
    sim->log_room = LOG_ROOM;
    return sim->log == NULL ? MANTA_ENOMEM : 0;
}

const struct mt_sim_event *mt_sim_log(const void *endpoint, size_t *count_out)
{
    const struct mt_sim *sim = endpoint;
    *count_out = sim->log_count;
    return sim->log;
}

uint64_t mt_sim_injected(const void *endpoint, enum mt_fault_kind kind)
{
    return ((const struct mt_sim *)endpoint)->injected[kind];
}

const struct manta_transport mt_transport_sim = {
    .size = sizeof(struct manta_transport),
    .abi = MANTA_TRANSPORT_ABI,
    .name = "sim",
    .query = query,
    .open = open_endpoint,
    .address = address,
    .peers = peers,
    .probe = probe,
    .connect = connect_peer,
    .send = mt_sim_send,
    .recv = mt_sim_recv,
    .progress = progress,
    .wait_fd = wait_fd,
    .arm = arm,
    .disarm = disarm,
    .peer_status = peer_status,
    .error = error_op,
    .abort = abort_op,
    .drain = drain,
    .close = close_endpoint,
    .fused_query = fused_query,
    .fused_post = mt_sim_fused_post,
    .counters = counters,
    .fused_memory = fused_memory,
};
