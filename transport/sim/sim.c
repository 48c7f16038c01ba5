/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of the sim transport: those that only pass on to the inner transports, and the
 * log. */
#include "transport/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/config.h"
#include "transport/answer.h"
#include "transport/sim/sim_internal.h"

enum { LOG_ROOM = 1024 };

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
    struct manta_transport_properties found = {.size = sizeof(found)};
    if (inner == NULL)
        return no_route(sim, peer);
    int code = inner->transport->probe(inner->endpoint, peer, &found);
    found.memory_kinds = 1u << MANTA_MEMORY_HOST; /* messages are copied here, to be spoiled */
    if (code == 0)
        mt_transport_export(&found, sizeof(found), properties);
    return code;
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
    .query = mt_sim_query,
    .open = mt_sim_open,
    .address = mt_sim_address,
    .peers = mt_sim_peers,
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
    .close = mt_sim_close,
    .fused_query = fused_query,
    .fused_post = mt_sim_fused_post,
    .counters = counters,
    .fused_memory = fused_memory,
};
