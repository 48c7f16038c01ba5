/* SPDX-License-Identifier: Apache-2.0 */
/* A call's life: it gets its number, its plan and its deadline, joins the list of calls under way,
 * and leaves it with a result. */
#include <stdlib.h>
#include <string.h>

#include "collectives/comm.h"
#include "core/clock.h"

#define POINT_TO_POINT (UINT64_C(1) << 63)
enum { SHORT_BYTES = 1024 };

static struct manta_request *request_take(struct manta_comm *comm)
{
    struct manta_request *request = comm->request_pool;
    if (request) {
        comm->request_pool = request->next;
        return request;
    }
    request = malloc(sizeof(*request));
    if (request) {
        request->made = comm->requests;
        comm->requests = request;
    }
    return request;
}

static void request_give(struct manta_comm *comm, struct manta_request *request)
{
    request->next = comm->request_pool;
    comm->request_pool = request;
}

/* Where blocks are counted from: in allgather SRC is this rank's part only, in reduce_scatter DST
 * is. */
static void set_bases(struct manta_request *request, const struct mt_arguments *arguments)
{
    uint64_t before = request->comm->rank * request->count * request->element_bytes;
    request->src = arguments->src;
    request->dst = arguments->dst;
    switch (arguments->collective) {
    case MANTA_BARRIER:
        request->src = request->dst = (char *)&request->token;
        request->token = 0;
        break;
    case MANTA_ALLGATHER:
        request->src = (const char *)((uintptr_t)request->src - before);
        break;
    case MANTA_REDUCE_SCATTER:
        request->dst = (char *)((uintptr_t)request->dst - before);
        break;
    default:
        break;
    }
}

/* Collectives count per communicator; sends and receives per pair and direction. */
static uint64_t next_sequence(struct manta_comm *comm, const struct mt_arguments *arguments)
{
    if (arguments->collective == MANTA_SEND)
        return ++comm->sent_sequence[arguments->root];
    if (arguments->collective == MANTA_RECV)
        return ++comm->received_sequence[arguments->root];
    return ++comm->sequence;
}

/* Give a collective its place in what was called on this communicator. */
static void enter_history(struct manta_comm *comm, struct mt_call *call, uint32_t call_hash)
{
    comm->history = mt_call_history(comm->history, call_hash);
    call->history = (uint32_t)(comm->history >> 32);
}

static void number_call(struct manta_request *request, const struct mt_arguments *arguments,
                        uint32_t call_hash)
{
    struct manta_comm *comm = request->comm;
    struct mt_call *call = &request->call;
    int is_pair = mt_call_is_pair(call);
    call->sequence = next_sequence(comm, arguments);
    if (!is_pair)
        enter_history(comm, call, call_hash);
    request->id = (struct manta_transport_id){
        .call = call->sequence | (is_pair ? POINT_TO_POINT : 0),
        .epoch = comm->group->epoch,
        .hash = is_pair ? call_hash : call->history,
    };
    request->record_slot = mt_record_begin(comm->record, call);
}

/* The clock is read when the call has been posted: the others need not wait for that. */
static void time_call(struct manta_request *request)
{
    struct manta_comm *comm = request->comm;
    request->call.posted_ns = mt_quick_now_ns(&comm->clock);
    request->deadline_ns = request->call.posted_ns + comm->settings.timeout_ns;
    mt_record_posted(comm->record, request->record_slot, request->call.posted_ns);
}

static int prepare_slots(struct manta_request *request, struct mt_error *error)
{
    mt_bind_segments(request->comm, request);
    uint64_t slots = request->segments < MT_PLAN_DEPTH ? request->segments : MT_PLAN_DEPTH;
    int rc = mt_cache_instance(request->comm, request->entry,
                               mt_bind_scratch_bytes(request) * slots, &request->instance);
    if (rc)
        return mt_error_set(error, rc, "no memory for the scratch of %s",
                            request->entry->algorithm->name);
    for (uint32_t i = 0; i < MT_PLAN_DEPTH; i++)
        request->instance->slots[i].running = 0;
    request->fused_turn = (struct mt_plan_turn){0, 0};
    return 0;
}

/* Find out how to carry out a call that was not made before, or does not fit a shape; and remember
 * it, if that may be. */
static int prepare(struct manta_request *request, const struct mt_arguments *arguments,
                   struct mt_shape **shape_out, struct mt_error *error)
{
    struct manta_comm *comm = request->comm;
    const struct mt_algorithm *algorithm;
    int rc = mt_choose(comm, arguments, &algorithm, error);
    if (!rc)
        rc = mt_cache_get(comm, algorithm, arguments, mt_is_in_place(comm, arguments),
                          &request->entry, error);
    if (rc)
        return rc;
    request->call = mt_arguments_call(arguments);
    request->call.algorithm = algorithm->name;
    if (!mt_feedback_is_trying(comm, arguments->collective,
                               arguments->count * arguments->element_bytes))
        *shape_out = mt_shape_make(request, arguments);
    return 0;
}

static void use_shape(struct manta_request *request, struct mt_shape *shape)
{
    request->entry = shape->entry;
    request->call = shape->call;
    mt_cache_touch(request->comm, shape->entry);
    if (shape->direct == MT_DIRECT_NOT)
        return;
    request->shape = shape;
    request->segments = 1;
    request->transfer.status = MANTA_EAGAIN;
    shape->users++;
    shape->entry->users++;
}

/* What carries the call out: a shape, or slots of its plan. */
static int provide(struct manta_request *request, const struct mt_arguments *arguments,
                   struct mt_shape **shape, struct mt_error *error)
{
    int rc = *shape ? 0 : prepare(request, arguments, shape, error);
    if (rc)
        return rc;
    if (*shape)
        use_shape(request, *shape);
    return request->shape ? 0 : prepare_slots(request, error);
}

static void activate(struct manta_request *request)
{
    struct manta_comm *comm = request->comm;
    request->next = NULL;
    *comm->active_tail = request;
    comm->active_tail = &request->next;
}

static void deactivate(struct manta_request *request)
{
    struct manta_comm *comm = request->comm;
    struct manta_request **link = &comm->active;
    while (*link != request)
        link = &(*link)->next;
    *link = request->next;
    if (comm->active_tail == &request->next)
        comm->active_tail = link;
    mt_engine_unqueue(request);
    if (request->posted)
        mt_wait_posted(comm, -1);
}

static void fill(struct manta_request *request, struct manta_comm *comm,
                 const struct mt_arguments *arguments)
{
    request->comm = comm;
    request->entry = NULL;
    request->shape = NULL;
    request->instance = NULL;
    request->count = arguments->count;
    request->dtype = arguments->dtype;
    request->op = arguments->op;
    request->element_bytes = arguments->element_bytes;
    request->next_segment = request->done_segments = request->segments = 0;
    request->result = MANTA_INPROGRESS;
    request->posted = request->queued = 0;
    request->awaited = NULL;
}

/* A short call that ended when it was looked at took no time worth another reading of the clock. */
static uint64_t ended_ns(struct manta_request *request, uint64_t looked_ns)
{
    if (looked_ns > 0 && request->count * request->element_bytes <= SHORT_BYTES)
        return looked_ns;
    return mt_quick_now_ns(&request->comm->clock);
}

/* A request with its plan, its slots or its shape, and its number. */
static int open_call(struct manta_comm *comm, const struct mt_arguments *arguments,
                     struct mt_shape *shape, struct manta_request **request_out,
                     struct mt_error *error)
{
    struct manta_request *request = request_take(comm);
    if (!request)
        return mt_error_set(error, MANTA_ENOMEM, "no memory for a request");
    fill(request, comm, arguments);
    if (arguments->count > 0) {
        int rc = provide(request, arguments, &shape, error);
        if (rc) {
            request_give(comm, request);
            return rc;
        }
        set_bases(request, arguments);
    } else {
        request->call = mt_arguments_call(arguments);
    }
    number_call(request, arguments, shape ? shape->call_hash : mt_call_hash(&request->call));
    *request_out = request;
    return 0;
}

/* The call has no number. What cannot be run is refused on all ranks alike. But what only this rank
 * lacks, the others have to know: they wait for it, or would take its next call for this one. */
static int not_opened(struct manta_comm *comm, const struct mt_arguments *arguments,
                      struct mt_error *error)
{
    struct mt_error cause = *error;
    char call[128];
    const struct mt_call described = mt_arguments_call(arguments);
    if (cause.code == MANTA_EALGORITHM) {
        mt_comm_set_error(comm, error);
        return cause.code;
    }
    mt_call_describe(&described, call, sizeof(call));
    mt_error_set_rank(error, cause.code, (int)comm->rank, "rank %u could not begin %s: %.300s",
                      comm->rank, call, cause.sentence);
    mt_control_fail(comm->control, error);
    mt_wait_fail(comm);
    return atomic_load_explicit(&comm->failed, memory_order_relaxed);
}

/* The call is over: give back what it held, record the result. */
static void end(struct manta_request *request, int result, uint64_t now_ns)
{
    struct manta_comm *comm = request->comm;
    const struct mt_call *call = &request->call;
    if (request->instance) {
        mt_cache_release(comm, request->entry, request->instance);
        if (comm->feedback)
            mt_feedback_measure(request, now_ns);
    }
    if (request->shape) {
        request->shape->users--;
        request->entry->users--;
    }
    request->instance = NULL;
    request->result = result;
    mt_record_end(comm->record, request->record_slot, result, now_ns);
    if (result)
        return;
    uint64_t bytes = call->collective == MANTA_BARRIER ? 0 : call->count * request->element_bytes;
    mt_count(&comm->counters.calls[call->collective], 1);
    mt_count(&comm->counters.bytes[call->collective], bytes);
}

uint32_t mt_call_begin_split(struct manta_comm *comm, struct mt_call *call_out)
{
    *call_out = (struct mt_call){
        .collective = MT_CALL_SPLIT, .root = MANTA_PLAN_NONE, .sequence = ++comm->sequence};
    enter_history(comm, call_out, mt_call_hash(call_out));
    call_out->posted_ns = mt_quick_now_ns(&comm->clock);
    return mt_record_begin(comm->record, call_out);
}

void mt_call_end_split(struct manta_comm *comm, uint32_t record_slot, int result)
{
    mt_record_end(comm->record, record_slot, result, mt_quick_now_ns(&comm->clock));
}

void mt_call_complete(struct manta_request *request, int result, uint64_t looked_ns)
{
    deactivate(request);
    end(request, result, ended_ns(request, looked_ns));
}

/* A refusal since may have taken the place of the failure's words. */
__attribute__((cold)) static int tell_again(struct manta_comm *comm, int failure)
{
    struct mt_error error;
    mt_control_failure(comm->control, &error);
    mt_comm_set_error(comm, &error);
    return failure;
}

int mt_call_failed_before(struct manta_comm *comm)
{
    if (atomic_load_explicit(comm->failed_flag, memory_order_acquire))
        mt_wait_fail(comm);
    int rc = atomic_load_explicit(&comm->failed, memory_order_relaxed);
    return rc ? tell_again(comm, rc) : 0;
}

static int start(struct manta_comm *comm, const struct mt_arguments *arguments,
                 struct mt_shape *shape, uint32_t looks, struct manta_request **request_out)
{
    int rc = mt_call_failed_before(comm);
    if (rc)
        return rc;
    struct mt_error error;
    if (open_call(comm, arguments, shape, request_out, &error))
        return not_opened(comm, arguments, &error);
    struct manta_request *request = *request_out;
    comm->quiet_since_ns = 0;
    int is_fused = mt_request_is_fused(request);
    if (request->shape && request->entry->connected && (!is_fused || comm->queued == 0))
        mt_engine_post(request);
    time_call(request);
    if (is_fused && looks > 0)
        mt_engine_look(request, looks);
    if (arguments->count == 0 || (request->shape && request->done_segments)) {
        end(request, 0, ended_ns(request, request->call.posted_ns));
        return 0;
    }
    activate(request);
    request->queued = request->shape ? is_fused && request->transfer.status == MANTA_EAGAIN
                                     : request->entry->plan->fused_count > 0;
    comm->queued += request->queued;
    if (!request->shape)
        (void)mt_engine_issue(comm); /* an error is kept for who waits */
    return 0;
}

int mt_call_post(struct manta_comm *comm, const struct mt_arguments *arguments,
                 struct mt_shape *shape, struct manta_request **request_out)
{
    int rc = start(comm, arguments, shape, 0, request_out);
    if (rc || (*request_out)->result != MANTA_INPROGRESS)
        return rc;
    struct manta_request *request = *request_out;
    request->posted = 1;
    mt_wait_posted(comm, 1);
    if (mt_request_is_fused(request) && !request->queued)
        mt_engine_await(request);
    else
        (void)mt_engine_progress(comm); /* an error is kept for test or wait */
    return 0;
}

int mt_call_finish(struct manta_request *request)
{
    int result = request->result;
    request_give(request->comm, request);
    return result;
}

int mt_call_block(struct manta_comm *comm, const struct mt_arguments *arguments,
                  struct mt_shape *shape)
{
    struct manta_request *request;
    int rc = start(comm, arguments, shape, comm->looks, &request);
    if (rc)
        return rc;
    if (request->result == MANTA_INPROGRESS)
        (void)mt_wait(request, UINT64_MAX);
    return mt_call_finish(request);
}
