/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls: each checks its arguments, makes a struct mt_arguments and hands it to call.c.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "collectives/comm.h"
#include "core/clock.h"
#include "core/dtype.h"

__attribute__((format(printf, 3, 4))) static int
refuse(struct manta_comm *comm, const struct mt_arguments *arguments, const char *format, ...)
{
    struct mt_error error;
    char call[128], why[160];
    const struct mt_call described = mt_arguments_call(arguments);
    va_list list;
    va_start(list, format);
    vsnprintf(why, sizeof(why), format, list);
    va_end(list);
    mt_call_describe(&described, call, sizeof(call));
    mt_error_set(&error, MANTA_EINVAL, "%s: %s", call, why);
    mt_comm_set_error(comm, &error);
    return MANTA_EINVAL;
}

/* 1 if the buffers share bytes without being the same. */
static int overlap(uintptr_t a, uint64_t a_bytes, uintptr_t b, uint64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

static int is_reduction(uint32_t collective)
{
    return collective == MANTA_ALLREDUCE || collective == MANTA_REDUCE ||
           collective == MANTA_REDUCE_SCATTER;
}

static int names_a_rank(uint32_t collective)
{
    return collective == MANTA_BROADCAST || collective == MANTA_REDUCE ||
           collective == MANTA_SEND || collective == MANTA_RECV;
}

/* Buffers of a call with elements to move. */
static const char *check_buffers(const struct manta_comm *comm, const struct mt_arguments *a)
{
    uint64_t part = a->count * a->element_bytes, whole = part * comm->ranks;
    uintptr_t src = (uintptr_t)a->src, dst = (uintptr_t)a->dst;
    int reads = a->collective != MANTA_BROADCAST && a->collective != MANTA_RECV;
    int writes =
        a->collective != MANTA_SEND && (a->collective != MANTA_REDUCE || a->root == comm->rank);

    if (reads && !a->src)
        return "src is NULL and count is not 0";
    if (writes && !a->dst)
        return "the buffer to write is NULL and count is not 0";
    switch (a->collective) {
    case MANTA_ALLREDUCE:
    case MANTA_REDUCE:
        if (writes && src != dst && overlap(src, part, dst, part))
            return "src and dst overlap; give the same address for in place, or separate buffers";
        break;
    case MANTA_ALLGATHER:
        if (src != dst + comm->rank * part && overlap(src, part, dst, whole))
            return "src overlaps dst; in place is src == dst + rank * count";
        break;
    case MANTA_REDUCE_SCATTER:
        if (dst != src + comm->rank * part && overlap(src, whole, dst, part))
            return "dst overlaps src; in place is dst == src + rank * count";
        break;
    default:
        break;
    }
    return NULL;
}

/* What may be wrong with a call though one with the same arguments was right. */
static int recheck(struct manta_comm *comm, const struct mt_arguments *a)
{
    const char *fault = a->count && a->collective != MANTA_BARRIER ? check_buffers(comm, a) : NULL;
    return fault ? refuse(comm, a, "%s", fault) : 0;
}

int mt_arguments_check(struct manta_comm *comm, struct mt_arguments *arguments)
{
    const struct mt_arguments *a = arguments;
    uint64_t bytes;
    size_t size = manta_dtype_size((int)a->dtype);
    arguments->element_bytes = size;
    if (size == 0)
        return refuse(comm, a, "%d is no dtype; see enum manta_dtype", (int)a->dtype);
    if (is_reduction(a->collective) && (a->op >= MANTA_OP_COUNT))
        return refuse(comm, a, "%d is no op; see enum manta_op", (int)a->op);
    if (is_reduction(a->collective) && !mt_op_allowed((int)a->op, (int)a->dtype))
        return refuse(comm, a, "this op takes integer dtypes only");
    int is_pair = a->collective == MANTA_SEND || a->collective == MANTA_RECV;
    if (names_a_rank(a->collective) && a->root >= comm->ranks)
        return refuse(comm, a, "%s must be a rank, 0 .. %u", is_pair ? "peer" : "root",
                      comm->ranks - 1);
    if (is_pair && a->root == comm->rank)
        return refuse(comm, a, "peer must be another rank");
    if (__builtin_mul_overflow(a->count, size * (uint64_t)comm->ranks, &bytes) || bytes > INT64_MAX)
        return refuse(comm, a, "count times the size of the dtype is more than memory can hold");
    return 0;
}

/* Blocking when request_out is NULL. */
static int call(struct manta_comm *comm, struct mt_arguments *arguments,
                struct manta_request **request_out)
{
    if (!comm)
        return refuse(NULL, arguments, "comm is NULL");
    int rc = mt_comm_enter(comm);
    if (rc)
        return rc;
    struct mt_shape *shape = mt_shape_find(comm, arguments);
    rc = shape ? 0 : mt_arguments_check(comm, arguments);
    if (!rc)
        rc = recheck(comm, arguments);
    if (!rc)
        rc = request_out ? mt_call_post(comm, arguments, shape, request_out)
                         : mt_call_block(comm, arguments, shape);
    mt_comm_leave(comm);
    return rc;
}

static int post(struct manta_comm *comm, struct mt_arguments *arguments,
                struct manta_request **request_out)
{
    if (!request_out)
        return refuse(comm, arguments, "request_out is NULL");
    *request_out = NULL;
    return call(comm, arguments, request_out);
}

static struct mt_arguments reducing(uint32_t collective, const void *src, void *dst, uint64_t count,
                                    int dtype, int op, uint32_t root)
{
    return (struct mt_arguments){.collective = collective,
                                 .root = root,
                                 .src = src,
                                 .dst = dst,
                                 .count = count,
                                 .dtype = (uint32_t)dtype,
                                 .op = (uint32_t)op};
}

static struct mt_arguments moving(uint32_t collective, const void *src, void *dst, uint64_t count,
                                  int dtype, uint32_t root)
{
    return reducing(collective, src, dst, count, dtype, MANTA_SUM, root);
}

static struct mt_arguments barrier_arguments(void)
{
    return reducing(MANTA_BARRIER, NULL, NULL, 1, MANTA_UINT8, MANTA_BOR, MANTA_PLAN_NONE);
}

int manta_allreduce(struct manta_comm *comm, const void *src, void *dst, uint64_t count, int dtype,
                    int op)
{
    struct mt_arguments a = reducing(MANTA_ALLREDUCE, src, dst, count, dtype, op, MANTA_PLAN_NONE);
    return call(comm, &a, NULL);
}

int manta_allreduce_post(struct manta_comm *comm, const void *src, void *dst, uint64_t count,
                         int dtype, int op, struct manta_request **request_out)
{
    struct mt_arguments a = reducing(MANTA_ALLREDUCE, src, dst, count, dtype, op, MANTA_PLAN_NONE);
    return post(comm, &a, request_out);
}

int manta_broadcast(struct manta_comm *comm, void *buf, uint64_t count, int dtype, int root)
{
    struct mt_arguments a = moving(MANTA_BROADCAST, buf, buf, count, dtype, (uint32_t)root);
    return call(comm, &a, NULL);
}

int manta_broadcast_post(struct manta_comm *comm, void *buf, uint64_t count, int dtype, int root,
                         struct manta_request **request_out)
{
    struct mt_arguments a = moving(MANTA_BROADCAST, buf, buf, count, dtype, (uint32_t)root);
    return post(comm, &a, request_out);
}

int manta_reduce(struct manta_comm *comm, const void *src, void *dst, uint64_t count, int dtype,
                 int op, int root)
{
    struct mt_arguments a = reducing(MANTA_REDUCE, src, dst, count, dtype, op, (uint32_t)root);
    return call(comm, &a, NULL);
}

int manta_reduce_post(struct manta_comm *comm, const void *src, void *dst, uint64_t count,
                      int dtype, int op, int root, struct manta_request **request_out)
{
    struct mt_arguments a = reducing(MANTA_REDUCE, src, dst, count, dtype, op, (uint32_t)root);
    return post(comm, &a, request_out);
}

int manta_allgather(struct manta_comm *comm, const void *src, void *dst, uint64_t count, int dtype)
{
    struct mt_arguments a = moving(MANTA_ALLGATHER, src, dst, count, dtype, MANTA_PLAN_NONE);
    return call(comm, &a, NULL);
}

int manta_allgather_post(struct manta_comm *comm, const void *src, void *dst, uint64_t count,
                         int dtype, struct manta_request **request_out)
{
    struct mt_arguments a = moving(MANTA_ALLGATHER, src, dst, count, dtype, MANTA_PLAN_NONE);
    return post(comm, &a, request_out);
}

int manta_reduce_scatter(struct manta_comm *comm, const void *src, void *dst, uint64_t count,
                         int dtype, int op)
{
    struct mt_arguments a =
        reducing(MANTA_REDUCE_SCATTER, src, dst, count, dtype, op, MANTA_PLAN_NONE);
    return call(comm, &a, NULL);
}

int manta_reduce_scatter_post(struct manta_comm *comm, const void *src, void *dst, uint64_t count,
                              int dtype, int op, struct manta_request **request_out)
{
    struct mt_arguments a =
        reducing(MANTA_REDUCE_SCATTER, src, dst, count, dtype, op, MANTA_PLAN_NONE);
    return post(comm, &a, request_out);
}

int manta_barrier(struct manta_comm *comm)
{
    struct mt_arguments a = barrier_arguments();
    return call(comm, &a, NULL);
}

int manta_barrier_post(struct manta_comm *comm, struct manta_request **request_out)
{
    struct mt_arguments a = barrier_arguments();
    return post(comm, &a, request_out);
}

int manta_send(struct manta_comm *comm, const void *buf, uint64_t count, int dtype, int peer)
{
    struct mt_arguments a = moving(MANTA_SEND, buf, NULL, count, dtype, (uint32_t)peer);
    return call(comm, &a, NULL);
}

int manta_send_post(struct manta_comm *comm, const void *buf, uint64_t count, int dtype, int peer,
                    struct manta_request **request_out)
{
    struct mt_arguments a = moving(MANTA_SEND, buf, NULL, count, dtype, (uint32_t)peer);
    return post(comm, &a, request_out);
}

int manta_recv(struct manta_comm *comm, void *buf, uint64_t count, int dtype, int peer)
{
    struct mt_arguments a = moving(MANTA_RECV, NULL, buf, count, dtype, (uint32_t)peer);
    return call(comm, &a, NULL);
}

int manta_recv_post(struct manta_comm *comm, void *buf, uint64_t count, int dtype, int peer,
                    struct manta_request **request_out)
{
    struct mt_arguments a = moving(MANTA_RECV, NULL, buf, count, dtype, (uint32_t)peer);
    return post(comm, &a, request_out);
}

int manta_wait(struct manta_request *request, uint64_t timeout_ns)
{
    if (!request)
        return MANTA_EINVAL;
    struct manta_comm *comm = request->comm;
    if (request->awaited && timeout_ns > 0)
        mt_wait_outside(request);
    int rc = mt_comm_enter(comm);
    if (rc)
        return rc;
    rc = mt_wait(request, timeout_ns);
    if (rc != MANTA_INPROGRESS)
        rc = mt_call_finish(request);
    mt_comm_leave(comm);
    return rc;
}

int manta_test(struct manta_request *request)
{
    return manta_wait(request, 0);
}

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

int manta_comm_stats(const struct manta_comm *comm, struct manta_stats *stats)
{
    struct manta_stats all = {.size = sizeof(all)};
    if (!comm || !stats || stats->size < sizeof(stats->size))
        return MANTA_EINVAL;
    for (int c = 0; c < MANTA_COLLECTIVE_COUNT; c++) {
        all.calls[c] = load(&comm->counters.calls[c]);
        all.bytes[c] = load(&comm->counters.bytes[c]);
    }
    all.sent_bytes = load(&comm->counters.sent_bytes);
    all.received_bytes = load(&comm->counters.received_bytes);
    all.copied_bytes = load(&comm->counters.copied_bytes);
    all.plans_compiled = load(&comm->counters.plans_compiled);
    for (uint32_t i = 0; i < comm->endpoint_count; i++) {
        struct manta_transport_counters counters = {.size = sizeof(counters)};
        const struct mt_endpoint *endpoint = &comm->endpoints[i];
        if (endpoint->transport->counters)
            endpoint->transport->counters(endpoint->handle, &counters);
        all.copied_bytes += counters.copied_bytes;
        all.registrations += counters.registrations;
    }
    size_t bytes = stats->size < sizeof(all) ? stats->size : sizeof(all);
    memcpy((char *)stats + sizeof(stats->size), (char *)&all + sizeof(all.size),
           bytes - sizeof(all.size));
    return 0;
}
