/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/calls.h"

#include <stdio.h>

int test_call_block(struct manta_comm *comm, const struct test_call *call, const void *src,
                    void *dst)
{
    const struct test_call *c = call;
    switch (c->collective) {
    case MANTA_ALLREDUCE:
        return manta_allreduce(comm, src, dst, c->count, c->dtype, c->op);
    case MANTA_BROADCAST:
        return manta_broadcast(comm, dst, c->count, c->dtype, c->root);
    case MANTA_REDUCE:
        return manta_reduce(comm, src, dst, c->count, c->dtype, c->op, c->root);
    case MANTA_ALLGATHER:
        return manta_allgather(comm, src, dst, c->count, c->dtype);
    case MANTA_REDUCE_SCATTER:
        return manta_reduce_scatter(comm, src, dst, c->count, c->dtype, c->op);
    case MANTA_BARRIER:
        return manta_barrier(comm);
    case MANTA_SEND:
        return manta_send(comm, src, c->count, c->dtype, c->root);
    default:
        return manta_recv(comm, dst, c->count, c->dtype, c->root);
    }
}

int test_call_post(struct manta_comm *comm, const struct test_call *call, const void *src,
                   void *dst, struct manta_request **request_out)
{
    const struct test_call *c = call;
    switch (c->collective) {
    case MANTA_ALLREDUCE:
        return manta_allreduce_post(comm, src, dst, c->count, c->dtype, c->op, request_out);
    case MANTA_BROADCAST:
        return manta_broadcast_post(comm, dst, c->count, c->dtype, c->root, request_out);
    case MANTA_REDUCE:
        return manta_reduce_post(comm, src, dst, c->count, c->dtype, c->op, c->root, request_out);
    case MANTA_ALLGATHER:
        return manta_allgather_post(comm, src, dst, c->count, c->dtype, request_out);
    case MANTA_REDUCE_SCATTER:
        return manta_reduce_scatter_post(comm, src, dst, c->count, c->dtype, c->op, request_out);
    case MANTA_BARRIER:
        return manta_barrier_post(comm, request_out);
    case MANTA_SEND:
        return manta_send_post(comm, src, c->count, c->dtype, c->root, request_out);
    default:
        return manta_recv_post(comm, dst, c->count, c->dtype, c->root, request_out);
    }
}

static const char *const dtype_names[MANTA_DTYPE_COUNT] = {
    [MANTA_INT8] = "int8",
    [MANTA_UINT8] = "uint8",
    [MANTA_INT16] = "int16",
    [MANTA_UINT16] = "uint16",
    [MANTA_INT32] = "int32",
    [MANTA_UINT32] = "uint32",
    [MANTA_INT64] = "int64",
    [MANTA_UINT64] = "uint64",
    [MANTA_FLOAT16] = "float16",
    [MANTA_BFLOAT16] = "bfloat16",
    [MANTA_FLOAT32] = "float32",
    [MANTA_FLOAT64] = "float64",
    [MANTA_FLOAT8_E4M3] = "float8_e4m3",
    [MANTA_FLOAT8_E5M2] = "float8_e5m2",
};

static const char *const op_names[MANTA_OP_COUNT] = {
    [MANTA_SUM] = "sum", [MANTA_PROD] = "prod", [MANTA_MIN] = "min", [MANTA_MAX] = "max",
    [MANTA_AVG] = "avg", [MANTA_BAND] = "band", [MANTA_BOR] = "bor", [MANTA_BXOR] = "bxor",
};

void test_call_word(const struct test_call *call, char *text, size_t text_bytes)
{
    unsigned long long count = call->count;
    const char *dtype = dtype_names[call->dtype], *op = op_names[call->op];
    switch (call->collective) {
    case MANTA_ALLREDUCE:
        snprintf(text, text_bytes, "allreduce(%llu %s, %s)", count, dtype, op);
        break;
    case MANTA_BROADCAST:
        snprintf(text, text_bytes, "broadcast(%llu %s, root %d)", count, dtype, call->root);
        break;
    case MANTA_REDUCE:
        snprintf(text, text_bytes, "reduce(%llu %s, %s, root %d)", count, dtype, op, call->root);
        break;
    case MANTA_ALLGATHER:
        snprintf(text, text_bytes, "allgather(%llu %s)", count, dtype);
        break;
    case MANTA_REDUCE_SCATTER:
        snprintf(text, text_bytes, "reduce_scatter(%llu %s, %s)", count, dtype, op);
        break;
    case MANTA_BARRIER:
        snprintf(text, text_bytes, "barrier()");
        break;
    case MANTA_SEND:
        snprintf(text, text_bytes, "send(%llu %s, to %d)", count, dtype, call->root);
        break;
    default:
        snprintf(text, text_bytes, "recv(%llu %s, from %d)", count, dtype, call->root);
    }
}
