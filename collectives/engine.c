/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine: executes the records of a plan. Each lane issues its steps in order, each when the
 * steps it depends on are complete; sends, receives and fused steps complete in any order. Nothing
 * here allocates, locks or calls the system.
 */
#include <string.h>

#include "collectives/comm.h"
#include "core/reduce.h"
#include "transport/guard.h"

enum { STEP_DONE = 0 }; /* besides MANTA_INPROGRESS, MANTA_EAGAIN and errors */

static const struct mt_endpoint *endpoint_of(const struct manta_comm *comm, uint32_t peer)
{
    return &comm->endpoints[comm->route[peer]];
}

/* AVG is a sum in the plan; finish_segment divides. */
static uint32_t plan_op(const struct manta_request *request)
{
    return request->op == MANTA_AVG ? MANTA_SUM : request->op;
}

static int hand_over(struct manta_comm *comm, const struct manta_transport_message *message,
                     int is_send, struct manta_transport_request *transfer)
{
    const struct mt_endpoint *endpoint = endpoint_of(comm, message->peer);
    int rc = is_send ? endpoint->transport->send(endpoint->handle, message, transfer)
                     : endpoint->transport->recv(endpoint->handle, message, transfer);
    if (rc == 0)
        mt_count(is_send ? &comm->counters.sent_bytes : &comm->counters.received_bytes,
                 message->bytes);
    return rc;
}

static int issue_message(struct manta_request *request, const struct mt_slot *slot,
                         const struct manta_plan_step *step,
                         struct manta_transport_request *transfer)
{
    const struct manta_plan_location *locations =
        &request->entry->plan->locations[step->location_first];
    struct manta_transport_buffer buffers[MANTA_PLAN_LOCATIONS];
    struct manta_transport_message message = {
        .id = request->id, .peer = step->peer, .buffers = buffers};

    for (uint32_t i = 0; i < step->location_count; i++) {
        uint64_t bytes;
        char *address = mt_bind_location(request, slot, &locations[i], &bytes);
        if (bytes == 0)
            continue;
        buffers[message.buffer_count++] =
            (struct manta_transport_buffer){.address = address, .bytes = bytes};
        message.bytes += bytes;
    }
    if (message.bytes == 0)
        return STEP_DONE;
    message.id.segment = (uint32_t)slot->segment;
    message.id.number = step->number;
    int rc = hand_over(request->comm, &message, step->kind == MANTA_PLAN_SEND, transfer);
    return rc ? rc : transfer->status;
}

/* The blocks that a fused step's members read, from the first to the last of them, in elements; and
 * whether this rank does. */
static uint64_t fused_elements(const struct manta_request *request, const struct mt_slot *slot,
                               const struct manta_plan_fused *fused, uint32_t *reads_out)
{
    uint32_t first = UINT32_MAX, end = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < fused->member_count; i++) {
        const struct manta_plan_fused_member *member = &fused->members[i];
        if (member->rank == request->entry->plan->rank)
            *reads_out = member->read_count > 0;
        if (member->read_count == 0)
            continue;
        first = member->read_first < first ? member->read_first : first;
        if (member->read_first + member->read_count > end)
            end = member->read_first + member->read_count;
    }
    for (uint32_t block = first; block < end; block++)
        bytes += slot->block_bytes[block];
    return bytes / request->element_bytes;
}

/* Blocks lie where block_start says, from one base for what is read and one for what is written. */
static void set_bases(const struct manta_request *request, const struct mt_slot *slot,
                      const struct manta_plan_step *step, uint32_t reads,
                      struct manta_transport_fused_call *call)
{
    for (uint32_t i = 0; i < step->location_count; i++) {
        const struct manta_plan_location *location =
            &request->entry->plan->locations[step->location_first + i];
        uint64_t bytes;
        uintptr_t at = (uintptr_t)mt_bind_location(request, slot, location, &bytes);
        at -= slot->block_start[location->first];
        if (i < reads)
            call->src = (const void *)at;
        else
            call->dst = (void *)at;
    }
}

static int issue_fused(struct manta_request *request, const struct mt_slot *slot,
                       const struct manta_plan_step *step, struct manta_transport_request *transfer)
{
    const struct manta_plan *plan = request->entry->plan;
    const struct manta_plan_fused *fused = &plan->fused[step->number];
    const struct mt_endpoint *endpoint = &request->comm->endpoints[request->comm->fused_endpoint];
    if (request->fused_turn.number != step->number ||
        mt_plan_turn_segment(&request->fused_turn, plan->fused_count) != slot->segment)
        return MANTA_EAGAIN;
    struct manta_transport_fused_call call = {
        .id = request->id,
        .fused = fused,
        .src = request->src,
        .dst = request->dst,
        .dtype = request->dtype,
        .op = plan_op(request),
        .block_offsets = slot->block_start,
        .blocks = plan->blocks,
        .crowd = request->comm->cost.crowd,
    };
    uint32_t reads = 0;
    call.count = fused_elements(request, slot, fused, &reads);
    set_bases(request, slot, step, reads, &call);
    call.id.segment = (uint32_t)slot->segment;
    call.id.number = step->number;
    transfer->status = STEP_DONE;
    int rc = call.count == 0 ? 0 /* for all members */
                             : endpoint->transport->fused_post(endpoint->handle, &call, transfer);
    if (rc == MANTA_EAGAIN)
        return rc;
    if (!mt_plan_turn_next(&request->fused_turn, plan->fused_count, request->segments))
        mt_engine_unqueue(request);
    return rc ? rc : transfer->status;
}

static int run_local(struct manta_request *request, const struct mt_slot *slot,
                     const struct manta_plan_step *step)
{
    const struct manta_plan_location *locations =
        &request->entry->plan->locations[step->location_first];
    uint64_t bytes;
    char *target = mt_bind_location(request, slot, &locations[0], &bytes);
    const char *left = mt_bind_location(request, slot, &locations[1], &bytes);

    if (bytes == 0)
        return STEP_DONE;
    if (step->kind == MANTA_PLAN_COPY) {
        memmove(target, left, bytes);
        mt_count(&request->comm->counters.copied_bytes, bytes);
        return STEP_DONE;
    }
    const char *right = mt_bind_location(request, slot, &locations[2], &bytes);
    mt_reduce((int)request->dtype, (int)plan_op(request), target, left, right,
              bytes / request->element_bytes);
    return STEP_DONE;
}

static int issue_step(struct manta_request *request, const struct mt_slot *slot, uint32_t index)
{
    const struct manta_plan_step *step = &request->entry->plan->steps[index];
    struct manta_transport_request *transfer = &slot->requests[index];

    switch (step->kind) {
    case MANTA_PLAN_SEND:
    case MANTA_PLAN_RECV:
        return issue_message(request, slot, step, transfer);
    case MANTA_PLAN_FUSED:
        return issue_fused(request, slot, step, transfer);
    default:
        return run_local(request, slot, step);
    }
}

static int ready(const struct manta_plan *plan, const struct mt_slot *slot,
                 const struct manta_plan_step *step)
{
    for (uint32_t i = 0; i < step->depend_count; i++) {
        if (!slot->done[plan->depends[step->depend_first + i]])
            return 0;
    }
    return 1;
}

static void mark_done(struct mt_slot *slot, uint32_t index)
{
    slot->done[index] = 1;
    slot->done_count++;
}

/* Issue what a lane may issue. 1 if anything was, 0 if not, or an error (*peer_out: at fault). */
static int advance_lane(struct manta_request *request, struct mt_slot *slot, struct mt_cursor *lane,
                        uint32_t *peer_out)
{
    const struct mt_entry *entry = request->entry;
    int moved = 0;

    for (; lane->next < lane->end; lane->next++) {
        uint32_t index = entry->lane_steps[lane->next];
        if (!ready(entry->plan, slot, &entry->plan->steps[index]))
            break;
        int rc = issue_step(request, slot, index);
        if (rc == MANTA_EAGAIN) {
            slot->retry = 1;
            break;
        }
        if (rc < 0) {
            *peer_out = entry->plan->steps[index].peer;
            return rc;
        }
        moved = 1;
        if (rc == STEP_DONE)
            mark_done(slot, index);
        else
            slot->outstanding[slot->outstanding_count++] = index;
    }
    return moved;
}

/* The same of all lanes, up to an error; those that have no steps left are not looked at again. */
static int advance_lanes(struct manta_request *request, struct mt_slot *slot, uint32_t *peer_out)
{
    uint32_t left = 0;
    int moved = 0;

    for (uint32_t i = 0; i < slot->lanes_left; i++) {
        struct mt_cursor *lane = &slot->lanes[i];
        int rc = moved < 0 ? 0 : advance_lane(request, slot, lane, peer_out);
        moved = rc < 0 ? rc : moved | rc;
        if (lane->next < lane->end)
            slot->lanes[left++] = *lane;
    }
    slot->lanes_left = left;
    return moved;
}

/* Take note of what transports have completed. 1, 0, or the error of a step (*peer_out: at fault).
 */
static int collect(struct mt_slot *slot, uint32_t *peer_out)
{
    int moved = 0;
    for (uint32_t i = 0; i < slot->outstanding_count;) {
        uint32_t index = slot->outstanding[i];
        const struct manta_transport_request *transfer = &slot->requests[index];
        if (transfer->status == MANTA_INPROGRESS) {
            i++;
            continue;
        }
        if (transfer->status != STEP_DONE) {
            *peer_out = transfer->peer;
            return mt_guard_status(transfer->status);
        }
        mark_done(slot, index);
        slot->outstanding[i] = slot->outstanding[--slot->outstanding_count];
        moved = 1;
    }
    return moved;
}

static void start_segment(struct manta_request *request, struct mt_slot *slot)
{
    const struct mt_entry *entry = request->entry;

    mt_bind_slot(request, slot, request->next_segment++);
    memset(slot->done, 0, entry->plan->step_count);
    for (uint32_t lane = 0; lane < entry->plan->lanes; lane++)
        slot->lanes[lane] =
            (struct mt_cursor){entry->lane_first[lane], entry->lane_first[lane + 1]};
    slot->lanes_left = entry->plan->lanes;
    slot->done_count = slot->outstanding_count = 0;
    slot->running = slot->retry = 1;
}

/* AVG is a sum in the plan. bytes: of the blocks; NULL: they are adjacent. */
static void divide_blocks(const struct manta_request *request, const uint64_t *start,
                          const uint64_t *bytes)
{
    const struct manta_plan *plan = request->entry->plan;
    for (uint32_t b = 0; b < plan->blocks; b++) {
        uint64_t length = bytes ? bytes[b] : start[b + 1] - start[b];
        if (mt_plan_owns_dst(plan, b))
            mt_reduce_divide((int)request->dtype, request->dst + start[b],
                             length / request->element_bytes, plan->ranks);
    }
}

static void finish_segment(struct manta_request *request, struct mt_slot *slot)
{
    slot->running = 0;
    request->done_segments++;
    if (request->op == MANTA_AVG)
        divide_blocks(request, slot->block_start, slot->block_bytes);
}

static int advance_slot(struct manta_request *request, struct mt_slot *slot, uint32_t *peer_out)
{
    const struct manta_plan *plan = request->entry->plan;
    int moved = collect(slot, peer_out);
    uint32_t done;

    if (moved < 0 || (moved == 0 && !slot->retry)) /* no step has become ready */
        return moved;
    do {
        done = slot->done_count;
        slot->retry = 0;
        int rc = advance_lanes(request, slot, peer_out);
        if (rc < 0)
            return rc;
        moved |= rc;
    } while (slot->done_count != done && slot->done_count < plan->step_count);
    if (slot->done_count == plan->step_count) {
        finish_segment(request, slot);
        moved = 1;
    }
    return moved;
}

/* 1 when all peers of the plan are connected, 0 while they are not, or an error. */
static int connect_peers(struct manta_request *request, uint32_t *peer_out)
{
    struct mt_entry *entry = request->entry;
    int connected = 1;

    for (uint32_t i = 0; i < entry->peer_count; i++) {
        const struct mt_endpoint *endpoint = endpoint_of(request->comm, entry->peers[i]);
        int rc =
            endpoint->transport->connect(endpoint->handle, entry->peers[i], request->deadline_ns);
        if (rc < 0) {
            *peer_out = entry->peers[i];
            return rc;
        }
        connected &= rc == 0;
    }
    entry->connected = (uint32_t)connected;
    return connected;
}

/* The one step of a direct call is complete. */
static void finish_direct(struct manta_request *request)
{
    request->done_segments = 1;
    if (request->op == MANTA_AVG && mt_request_is_fused(request))
        divide_blocks(request, request->shape->offsets, NULL);
}

static int post_fused(struct manta_request *request, struct manta_transport_request *transfer)
{
    const struct mt_endpoint *endpoint = &request->comm->endpoints[request->comm->fused_endpoint];
    struct manta_transport_fused_call *call = &request->shape->fused;
    call->id = request->id;
    call->src = request->src;
    call->dst = request->dst;
    transfer->peer = MANTA_PLAN_NONE;
    return endpoint->transport->fused_post(endpoint->handle, call, transfer);
}

static int post_message(struct manta_request *request, struct manta_transport_request *transfer)
{
    const struct manta_plan *plan = request->entry->plan;
    const struct manta_plan_step *step = &plan->steps[0];
    int is_src = plan->locations[step->location_first].buffer == MANTA_PLAN_SRC;
    struct manta_transport_buffer buffer = {.address = is_src ? (void *)(uintptr_t)request->src
                                                              : request->dst,
                                            .bytes = request->count * request->element_bytes};
    struct manta_transport_message message = {.id = request->id,
                                              .peer = step->peer,
                                              .buffer_count = 1,
                                              .buffers = &buffer,
                                              .bytes = buffer.bytes};
    message.id.number = step->number;
    transfer->peer = step->peer;
    return hand_over(request->comm, &message, step->kind == MANTA_PLAN_SEND, transfer);
}

void mt_engine_post(struct manta_request *request)
{
    struct manta_transport_request *transfer = &request->transfer;
    int rc = mt_request_is_fused(request) ? post_fused(request, transfer)
                                          : post_message(request, transfer);
    if (rc)
        transfer->status = rc; /* MANTA_EAGAIN: to be posted again */
    else if (transfer->status == 0)
        finish_direct(request);
}

void mt_engine_look(struct manta_request *request, uint32_t looks)
{
    struct manta_transport_request *transfer = &request->transfer;
    const struct mt_endpoint *endpoint = &request->comm->endpoints[request->comm->fused_endpoint];
    if (!endpoint->transport->fused_look || transfer->status != MANTA_INPROGRESS)
        return;
    endpoint->transport->fused_look(endpoint->handle, &request->shape->fused, transfer, looks);
    if (transfer->status == 0)
        finish_direct(request);
}

void mt_engine_await(struct manta_request *request)
{
    const struct mt_endpoint *endpoint = &request->comm->endpoints[request->comm->fused_endpoint];
    if (endpoint->transport->fused_awaits && request->transfer.status == MANTA_INPROGRESS)
        request->awaited = endpoint->transport->fused_awaits(
            endpoint->handle, &request->shape->fused, &request->transfer, &request->awaited_value);
}

void mt_engine_unqueue(struct manta_request *request)
{
    request->comm->queued -= request->queued;
    request->queued = 0;
}

static int advance_direct(struct manta_request *request, uint32_t *peer_out)
{
    const struct manta_transport_request *transfer = &request->transfer;
    if (request->done_segments == request->segments)
        return 1;
    if (transfer->status == MANTA_EAGAIN) {
        int rc = request->entry->connected ? 1 : connect_peers(request, peer_out);
        if (rc <= 0)
            return rc;
        mt_engine_post(request);
        if (transfer->status != MANTA_EAGAIN)
            mt_engine_unqueue(request);
        return transfer->status == 0;
    }
    *peer_out = transfer->peer;
    if (transfer->status == MANTA_INPROGRESS)
        return 0;
    if (transfer->status != STEP_DONE)
        return mt_guard_status(transfer->status);
    finish_direct(request);
    return 1;
}

static int advance(struct manta_request *request, uint32_t *peer_out)
{
    int moved = 0;
    if (request->shape)
        return advance_direct(request, peer_out);
    if (!request->entry->connected) {
        int rc = connect_peers(request, peer_out);
        if (rc <= 0)
            return rc;
    }
    /* A call of one segment is in the first. */
    uint32_t slots = request->segments == 1 ? 1 : MT_PLAN_DEPTH;
    for (uint32_t i = 0; i < slots; i++) {
        uint32_t slot_index = (uint32_t)((request->done_segments + i) % MT_PLAN_DEPTH);
        struct mt_slot *slot = &request->instance->slots[slot_index];
        if (!slot->running && request->next_segment < request->segments &&
            request->next_segment % MT_PLAN_DEPTH == slot_index)
            start_segment(request, slot);
        if (!slot->running)
            continue;
        int rc = advance_slot(request, slot, peer_out);
        if (rc < 0)
            return rc;
        moved |= rc;
    }
    return moved;
}

static int progress_endpoints(struct manta_comm *comm)
{
    int moved = 0;
    for (uint32_t i = 0; i < comm->endpoint_count; i++) {
        const struct mt_endpoint *endpoint = &comm->endpoints[i];
        int rc = endpoint->transport->progress(endpoint->handle);
        if (rc < 0)
            return mt_wait_transport_error(comm, i, rc, MANTA_PLAN_NONE, NULL);
        moved |= rc;
    }
    return moved;
}

int mt_engine_issue(struct manta_comm *comm)
{
    int moved = 0;
    int is_queue = 0; /* an earlier call waits for its peers to be connected, or for room */
    for (struct manta_request *request = comm->active, *next; request; request = next) {
        uint32_t peer = MANTA_PLAN_NONE;
        next = request->next;
        if (request->queued && is_queue)
            continue;
        int rc = advance(request, &peer);
        is_queue |= (int)request->queued;
        if (rc < 0)
            return mt_wait_transport_error(comm, MT_ROUTE_NONE, rc, peer, request);
        moved |= rc;
        if (request->done_segments == request->segments)
            mt_call_complete(request, 0, 0);
    }
    return moved;
}

int mt_engine_progress(struct manta_comm *comm)
{
    int moved = progress_endpoints(comm);
    if (moved < 0)
        return moved;
    int rc = mt_engine_issue(comm);
    return rc < 0 ? rc : moved | rc;
}
