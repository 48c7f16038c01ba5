/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on their way through sim: held back, changed, passed on, logged. */
#include <stdlib.h>
#include <string.h>

#include "transport/sim/sim_internal.h"

enum { REORDER_LOOKS = 12, DRAW_DELAY = 1, DRAW_LOOKS, DRAW_BIT };

static struct mt_sim_work *work_create(struct mt_sim *sim, enum mt_sim_operation operation,
                                       struct manta_transport_request *outer)
{
    struct mt_sim_work *work = calloc(1, sizeof(*work));
    if (work == NULL)
        return NULL;
    work->operation = operation;
    work->outer = outer;
    work->request.status = MANTA_INPROGRESS;
    if (outer != NULL)
        outer->status = MANTA_INPROGRESS;
    (void)sim;
    return work;
}

static void append(struct mt_sim *sim, struct mt_sim_work *work)
{
    work->next = NULL;
    *sim->work_end = work;
    sim->work_end = &work->next;
}

static void set_message(struct mt_sim_work *work, const struct manta_transport_message *message)
{
    work->message = *message;
    if (message->buffer_count > 0)
        memcpy(work->buffers, message->buffers, message->buffer_count * sizeof(work->buffers[0]));
    work->message.buffers = work->buffers;
}

/* Give the message a payload of its own. */
static int copy_payload(struct mt_sim_work *work)
{
    uint8_t *copy = malloc(work->message.bytes + 1);
    uint8_t *end = copy;
    if (copy == NULL)
        return MANTA_ENOMEM;
    for (uint32_t i = 0; i < work->message.buffer_count; i++) {
        if (work->buffers[i].bytes > 0)
            memcpy(end, work->buffers[i].address, work->buffers[i].bytes);
        end += work->buffers[i].bytes;
    }
    work->buffers[0] =
        (struct manta_transport_buffer){.address = copy, .bytes = work->message.bytes};
    work->message.buffer_count = 1;
    work->copy = copy;
    return 0;
}

static void flip(const struct mt_sim *sim, const struct manta_transport_id *id, uint32_t peer,
                 uint8_t *bytes, uint64_t count)
{
    uint64_t drawn = mt_fault_draw(sim->seed, sim->rank, peer, id, DRAW_BIT);
    bytes[(drawn >> 3) % count] ^= (uint8_t)(1u << (drawn & 7));
}

static void log_event(struct mt_sim *sim, const struct mt_sim_work *work, int status)
{
    if (sim->log == NULL || work->outer == NULL)
        return;
    if (sim->log_count == sim->log_room) {
        struct mt_sim_event *longer =
            realloc(sim->log, 2 * sim->log_room * sizeof(struct mt_sim_event));
        if (longer == NULL)
            return;
        sim->log = longer;
        sim->log_room *= 2;
    }
    int fused = work->operation == MT_SIM_FUSED;
    sim->log[sim->log_count++] = (struct mt_sim_event){
        .operation = work->operation,
        .peer = fused ? MANTA_PLAN_NONE : work->message.peer,
        .id = fused ? work->call.id : work->message.id,
        .bytes = fused ? work->call.count : work->message.bytes,
        .status = status,
    };
}

/* Flip a bit of what the fused step has put into this rank's result. */
static void corrupt_result(struct mt_sim *sim, const struct mt_sim_work *work)
{
    const struct manta_plan_fused *fused = work->call.fused;
    for (uint32_t i = 0; i < fused->member_count; i++) {
        const struct manta_plan_fused_member *member = &fused->members[i];
        if (member->rank != sim->rank || member->write_count == 0)
            continue;
        uint64_t begin = work->call.block_offsets[member->write_first];
        uint64_t end = work->call.block_offsets[member->write_first + member->write_count];
        if (end == begin)
            continue;
        flip(sim, &work->call.id, sim->rank, (uint8_t *)work->call.dst + begin, end - begin);
        sim->injected[MT_FAULT_CORRUPT]++;
    }
}

static int post_inner(struct mt_sim *sim, struct mt_sim_work *work)
{
    const struct mt_sim_inner *inner = &sim->inners[work->inner];
    int code;
    work->request.status = MANTA_INPROGRESS;
    if (work->operation == MT_SIM_SEND)
        code = inner->transport->send(inner->endpoint, &work->message, &work->request);
    else if (work->operation == MT_SIM_RECV)
        code = inner->transport->recv(inner->endpoint, &work->message, &work->request);
    else
        code = inner->transport->fused_post(inner->endpoint, &work->call, &work->request);
    if (code == 0)
        work->posted = 1;
    return code;
}

/* A second message like this one; nobody waits for it. */
static void post_duplicate(struct mt_sim *sim, struct mt_sim_work *work)
{
    work->duplicate = 0;
    work->outer = NULL;
    work->posted = 0;
    sim->injected[MT_FAULT_DUPLICATE]++;
}

static void work_free(struct mt_sim_work *work)
{
    free(work->copy);
    free(work);
}

/* The operation has ended: tell the caller. 1 if the work is over, 0 if it goes on as a duplicate.
 */
static int work_end(struct mt_sim *sim, struct mt_sim_work *work, int status)
{
    if (status == 0 && work->corrupt && work->operation == MT_SIM_FUSED)
        corrupt_result(sim, work);
    log_event(sim, work, status);
    if (work->outer != NULL) {
        work->outer->peer = work->request.peer;
        work->outer->status = status;
    }
    if (status != 0 || !work->duplicate)
        return 1;
    post_duplicate(sim, work);
    return 0;
}

/* 1 if a fused step that was posted before is held back: their order is part of what they mean. */
static int overtakes(const struct mt_sim *sim, const struct mt_sim_work *work)
{
    if (work->operation != MT_SIM_FUSED)
        return 0;
    for (const struct mt_sim_work *before = sim->work; before != NULL && before != work;
         before = before->next) {
        if (before->operation == MT_SIM_FUSED && !before->posted)
            return 1;
    }
    return 0;
}

/* Move one operation on. 1 if it is over. *moved is set if anything happened. */
static int work_look(struct mt_sim *sim, struct mt_sim_work *work, uint64_t now_ns, int *moved)
{
    if (!work->posted) {
        if (work->looks > 0)
            work->looks--;
        if (work->looks > 0 || work->due_ns > now_ns || overtakes(sim, work))
            return 0;
        int code = post_inner(sim, work);
        if (code == MANTA_EAGAIN)
            return 0;
        *moved = 1;
        if (code != 0) {
            work->request.peer = work->message.peer;
            return work_end(sim, work, code);
        }
    }
    if (work->request.status == MANTA_INPROGRESS)
        return 0;
    *moved = 1;
    return work_end(sim, work, work->request.status);
}

int mt_sim_look(struct mt_sim *sim)
{
    int moved = 0;
    struct mt_sim_work **link = &sim->work;
    if (*link == NULL)
        return 0;
    uint64_t now_ns = sim->host->clock_ns();
    while (*link != NULL) {
        struct mt_sim_work *work = *link;
        if (!work_look(sim, work, now_ns, &moved)) {
            link = &work->next;
            continue;
        }
        *link = work->next;
        work_free(work);
    }
    sim->work_end = link;
    return moved;
}

int mt_sim_holds(const struct mt_sim *sim)
{
    for (const struct mt_sim_work *work = sim->work; work != NULL; work = work->next) {
        if (!work->posted || work->request.status != MANTA_INPROGRESS)
            return 1;
    }
    return 0;
}

void mt_sim_drop(struct mt_sim *sim, int code)
{
    while (sim->work != NULL) {
        struct mt_sim_work *work = sim->work;
        int status =
            work->posted && work->request.status != MANTA_INPROGRESS ? work->request.status : code;
        sim->work = work->next;
        work->duplicate = work->corrupt = 0;
        work_end(sim, work, status);
        work_free(work);
    }
    sim->work_end = &sim->work;
}

/* How long to hold it back. */
static void hold(struct mt_sim *sim, struct mt_sim_work *work, uint32_t peer,
                 const struct manta_transport_id *id, uint64_t step)
{
    const struct mt_fault *fault;
    if (mt_sim_hit(sim, MT_FAULT_DELAY, peer, id, step, &fault) && fault->time_ns > 0) {
        uint64_t drawn = mt_fault_draw(sim->seed, sim->rank, peer, id,
                                       DRAW_DELAY + 10 * (uint64_t)work->operation);
        work->due_ns = sim->host->clock_ns() + drawn % fault->time_ns;
        sim->injected[MT_FAULT_DELAY]++;
    }
    if (mt_sim_hit(sim, MT_FAULT_REORDER, peer, id, step, NULL)) {
        uint64_t drawn = mt_fault_draw(sim->seed, sim->rank, peer, id,
                                       DRAW_LOOKS + 10 * (uint64_t)work->operation);
        work->looks = drawn % REORDER_LOOKS;
        sim->injected[MT_FAULT_REORDER]++;
    }
}

/* Post it now or hold it back; on an error the work is freed and the caller told. */
static int start(struct mt_sim *sim, struct mt_sim_work *work, uint64_t call)
{
    int code = 0;
    if (work->looks == 0 && work->due_ns == 0 && !overtakes(sim, work))
        code = post_inner(sim, work);
    if (code != 0) {
        const struct mt_sim_inner *inner = &sim->inners[work->inner];
        sim->error.size = sizeof(sim->error); /* the last one counts */
        inner->transport->error(inner->endpoint, &sim->error);
        work_free(work);
        return code;
    }
    mt_sim_step_done(sim, call);
    if (work->posted && work->request.status != MANTA_INPROGRESS &&
        work_end(sim, work, work->request.status))
        work_free(work);
    else
        append(sim, work);
    return 0;
}

static int out_of_memory(struct mt_sim *sim, struct mt_sim_work *work)
{
    free(work);
    sim->error = (struct manta_transport_error){.size = sizeof(sim->error),
                                                .code = MANTA_ENOMEM,
                                                .peer = MANTA_PLAN_NONE,
                                                .sentence = "no memory for a message in sim"};
    return MANTA_ENOMEM;
}

static int refuse_device(struct mt_sim *sim, uint32_t peer)
{
    sim->error = (struct manta_transport_error){
        .size = sizeof(sim->error),
        .code = MANTA_ENOTSUP,
        .peer = peer,
        .sentence = "sim moves host memory only: leave it out of MANTA_TRANSPORTS"};
    return MANTA_ENOTSUP;
}

/* The peer's route, or MT_SIM_NO_ROUTE with the error set. */
static uint32_t route_of(struct mt_sim *sim, uint32_t peer)
{
    if (peer < sim->ranks && sim->routes[peer] != MT_SIM_NO_ROUTE)
        return sim->routes[peer];
    sim->error = (struct manta_transport_error){.size = sizeof(sim->error),
                                                .code = MANTA_EINVAL,
                                                .peer = peer,
                                                .sentence = "sim does not reach this rank"};
    return MT_SIM_NO_ROUTE;
}

/* The faults of a message that is sent. 0, 1: it is lost, or MANTA_ENOMEM. */
static int spoil(struct mt_sim *sim, struct mt_sim_work *work, uint64_t step)
{
    const struct manta_transport_id *id = &work->message.id;
    uint32_t peer = work->message.peer;
    if (mt_sim_hit(sim, MT_FAULT_LOSS, peer, id, step, NULL)) {
        sim->injected[MT_FAULT_LOSS]++;
        return 1;
    }
    work->duplicate = mt_sim_hit(sim, MT_FAULT_DUPLICATE, peer, id, step, NULL);
    work->corrupt =
        work->message.bytes > 0 && mt_sim_hit(sim, MT_FAULT_CORRUPT, peer, id, step, NULL);
    if (!work->duplicate && !work->corrupt)
        return 0;
    if (copy_payload(work) != 0)
        return MANTA_ENOMEM;
    if (work->corrupt) {
        flip(sim, id, peer, work->copy, work->message.bytes);
        sim->injected[MT_FAULT_CORRUPT]++;
    }
    return 0;
}

static int post_message(struct mt_sim *sim, enum mt_sim_operation operation,
                        const struct manta_transport_message *message,
                        struct manta_transport_request *request)
{
    uint32_t route = route_of(sim, message->peer);
    if (route == MT_SIM_NO_ROUTE)
        return MANTA_EINVAL;
    if (sim->aborted != 0)
        return sim->aborted;
    if (message->flags & MANTA_MESSAGE_DIRECT)
        return refuse_device(sim, message->peer);
    uint64_t step = mt_sim_step_next(sim, message->id.call);
    mt_sim_hooks_before(sim, message->peer, &message->id, step);
    struct mt_sim_work *work = work_create(sim, operation, request);
    if (work == NULL)
        return out_of_memory(sim, NULL);
    work->inner = route;
    set_message(work, message);
    request->peer = work->request.peer = message->peer;
    if (mt_sim_hit(sim, MT_FAULT_MISMATCH, message->peer, &message->id, step, NULL)) {
        work->message.id.hash ^= 1;
        sim->injected[MT_FAULT_MISMATCH]++;
    }
    int spoiled = operation == MT_SIM_SEND ? spoil(sim, work, step) : 0;
    if (spoiled < 0)
        return out_of_memory(sim, work);
    if (spoiled) {
        mt_sim_step_done(sim, message->id.call);
        work_end(sim, work, 0);
        work_free(work);
        return 0;
    }
    hold(sim, work, message->peer, &message->id, step);
    return start(sim, work, message->id.call);
}

int mt_sim_send(void *handle, const struct manta_transport_message *message,
                struct manta_transport_request *request)
{
    return post_message(handle, MT_SIM_SEND, message, request);
}

int mt_sim_recv(void *handle, const struct manta_transport_message *message,
                struct manta_transport_request *request)
{
    return post_message(handle, MT_SIM_RECV, message, request);
}

int mt_sim_fused_post(void *handle, struct manta_transport_fused_call *call,
                      struct manta_transport_request *request)
{
    struct mt_sim *sim = handle;
    uint32_t first = call->fused->members[0].rank;
    if (first == sim->rank && call->fused->member_count > 1)
        first = call->fused->members[1].rank;
    uint32_t route = first == sim->rank ? 0 : route_of(sim, first);
    if (route == MT_SIM_NO_ROUTE)
        return MANTA_EINVAL;
    if (sim->aborted != 0)
        return sim->aborted;
    uint64_t step = mt_sim_step_next(sim, call->id.call);
    mt_sim_hooks_before(sim, sim->rank, &call->id, step);
    struct mt_sim_work *work = work_create(sim, MT_SIM_FUSED, request);
    if (work == NULL)
        return out_of_memory(sim, NULL);
    work->inner = route;
    work->call = *call;
    request->peer = work->request.peer = MANTA_PLAN_NONE;
    if (mt_sim_hit(sim, MT_FAULT_MISMATCH, sim->rank, &call->id, step, NULL)) {
        work->call.id.hash ^= 1;
        sim->injected[MT_FAULT_MISMATCH]++;
    }
    work->corrupt = mt_sim_hit(sim, MT_FAULT_CORRUPT, sim->rank, &call->id, step, NULL);
    hold(sim, work, sim->rank, &call->id, step);
    return start(sim, work, call->id.call);
}
