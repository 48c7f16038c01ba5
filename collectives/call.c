/* SPDX-License-Identifier: Apache-2.0 */
/* A call's life: it gets its number, its plan and its deadline, joins the list of calls under way,
 * and leaves it with a result. */
#include <stdlib.h>
#include <string.h>

#include "collectives/comm.h"
#include "core/clock.h"
#include "core/dtype.h"

#define POINT_TO_POINT (UINT64_C(1) << 63)

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

static int is_in_place(const struct manta_comm *comm, const struct mt_arguments *arguments)
{
    uint64_t part = arguments->count * manta_dtype_size((int)arguments->dtype);
    uintptr_t src = (uintptr_t)arguments->src, dst = (uintptr_t)arguments->dst;
    switch (arguments->collective) {
    case MANTA_ALLREDUCE:
        return src == dst;
    case MANTA_REDUCE:
        return src == dst && comm->rank == arguments->root;
    case MANTA_ALLGATHER:
        return src == dst + comm->rank * part;
    case MANTA_REDUCE_SCATTER:
        return dst == src + comm->rank * part;
    case MANTA_BARRIER:
        return 1;
    default:
        return 0;
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

static void number_call(struct manta_request *request, const struct mt_arguments *arguments,
                        const struct mt_algorithm *algorithm)
{
    struct manta_comm *comm = request->comm;
    struct mt_call *call = &request->call;
    int between_two = arguments->collective == MANTA_SEND || arguments->collective == MANTA_RECV;

    *call = (struct mt_call){
        .sequence = next_sequence(comm, arguments),
        .count = arguments->count,
        .collective = arguments->collective,
        .dtype = arguments->dtype,
        .op = arguments->op,
        .root = arguments->root,
        .posted_ns = mt_clock_now_ns(),
        .result = MANTA_INPROGRESS,
        .algorithm = algorithm ? algorithm->name : NULL,
    };
    request->id = (struct manta_transport_id){
        .call = call->sequence | (between_two ? POINT_TO_POINT : 0),
        .epoch = comm->group->epoch,
        .hash = mt_call_hash(call),
    };
    request->deadline_ns = call->posted_ns + comm->settings.timeout_ns;
    request->record_slot = mt_record_begin(comm->record, call);
}

static int prepare(struct manta_request *request, const struct mt_arguments *arguments,
                   const struct mt_algorithm **algorithm_out, struct mt_error *error)
{
    struct manta_comm *comm = request->comm;
    int rc = mt_choose(comm, arguments, algorithm_out, error);
    if (rc)
        return rc;
    rc = mt_cache_get(comm, *algorithm_out, arguments, is_in_place(comm, arguments),
                      &request->entry, error);
    if (rc)
        return rc;
    mt_bind_segments(comm, request);
    rc = mt_cache_instance(request->entry, mt_bind_scratch_bytes(request), &request->instance);
    if (rc)
        return mt_error_set(error, rc, "no memory for the scratch of %s", (*algorithm_out)->name);
    for (uint32_t i = 0; i < MT_PLAN_DEPTH; i++)
        request->instance->slots[i].running = 0;
    return 0;
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
    if (request->posted)
        mt_wait_posted(comm, -1);
}

static int start(struct manta_comm *comm, const struct mt_arguments *arguments,
                 struct manta_request **request_out)
{
    struct mt_error error;
    const struct mt_algorithm *algorithm = NULL;
    if (mt_control_failed(comm->control))
        mt_wait_fail(comm);
    int failed = atomic_load_explicit(&comm->failed, memory_order_relaxed);
    if (failed)
        return failed;

    struct manta_request *request = request_take(comm);
    if (!request)
        return MANTA_ENOMEM;
    request->comm = comm;
    request->entry = NULL;
    request->instance = NULL;
    request->count = arguments->count;
    request->dtype = arguments->dtype;
    request->op = arguments->op;
    request->element_bytes = manta_dtype_size((int)arguments->dtype);
    request->next_segment = request->done_segments = request->segments = 0;
    request->result = MANTA_INPROGRESS;
    request->posted = 0;
    comm->quiet_since_ns = 0;
    if (arguments->count > 0) {
        int rc = prepare(request, arguments, &algorithm, &error);
        if (rc) {
            mt_comm_set_error(comm, &error);
            request_give(comm, request);
            return rc;
        }
        set_bases(request, arguments);
    }
    number_call(request, arguments, algorithm);
    activate(request);
    if (arguments->count == 0)
        mt_call_complete(request, 0);
    *request_out = request;
    return 0;
}

int mt_call_post(struct manta_comm *comm, const struct mt_arguments *arguments,
                 struct manta_request **request_out)
{
    int rc = start(comm, arguments, request_out);
    if (rc == 0 && (*request_out)->result == MANTA_INPROGRESS) {
        (*request_out)->posted = 1;
        mt_wait_posted(comm, 1);
        (void)mt_engine_progress(comm); /* an error is kept for test or wait */
    }
    return rc;
}

void mt_call_complete(struct manta_request *request, int result)
{
    struct manta_comm *comm = request->comm;
    const struct mt_call *call = &request->call;

    deactivate(request);
    if (request->instance)
        mt_cache_release(request->entry, request->instance);
    request->instance = NULL;
    request->result = result;
    mt_record_end(comm->record, request->record_slot, result, mt_clock_now_ns());
    if (result)
        return;
    uint64_t bytes = call->collective == MANTA_BARRIER ? 0 : call->count * request->element_bytes;
    atomic_fetch_add_explicit(&comm->counters.calls[call->collective], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&comm->counters.bytes[call->collective], bytes, memory_order_relaxed);
}

int mt_call_finish(struct manta_request *request)
{
    int result = request->result;
    request_give(request->comm, request);
    return result;
}

int mt_call_block(struct manta_comm *comm, const struct mt_arguments *arguments)
{
    struct manta_request *request;
    int rc = start(comm, arguments, &request);
    if (rc)
        return rc;
    rc = mt_wait(request, UINT64_MAX);
    mt_call_finish(request);
    return rc;
}
