/* SPDX-License-Identifier: Apache-2.0 */
/* mpi-perf: the benchmark loop over MPI. Built with mpicc where there is one. */
#include "perf/loop/perf.h"

#include <stdio.h>
#include <string.h>

#include <mpi.h>

#include <manta/manta.h>

static int check(int rc, const char *what)
{
    if (rc != MPI_SUCCESS)
        fprintf(stderr, "mpi-perf: %s failed with code %d\n", what, rc);
    return rc != MPI_SUCCESS;
}

static int open_mpi(struct perf_world *world_out)
{
    MPI_Comm node;
    int first, nodes = 0;
    if (check(MPI_Init(NULL, NULL), "MPI_Init") != 0)
        return -1;
    MPI_Comm_rank(MPI_COMM_WORLD, &world_out->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &world_out->ranks);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &first);
    first = first == 0;
    MPI_Allreduce(&first, &nodes, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    MPI_Comm_free(&node);
    world_out->nodes = nodes;
    return 0;
}

static int share(void *bytes, size_t length)
{
    return check(MPI_Bcast(bytes, (int)length, MPI_BYTE, 0, MPI_COMM_WORLD), "MPI_Bcast");
}

static int maximum(uint64_t *values, size_t count)
{
    return check(
        MPI_Allreduce(MPI_IN_PLACE, values, (int)count, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD),
        "MPI_Allreduce");
}

static MPI_Datatype datatype(int dtype)
{
    switch (dtype) {
    case MANTA_INT8:
        return MPI_INT8_T;
    case MANTA_UINT8:
        return MPI_UINT8_T;
    case MANTA_INT16:
        return MPI_INT16_T;
    case MANTA_UINT16:
        return MPI_UINT16_T;
    case MANTA_INT32:
        return MPI_INT32_T;
    case MANTA_UINT32:
        return MPI_UINT32_T;
    case MANTA_INT64:
        return MPI_INT64_T;
    case MANTA_UINT64:
        return MPI_UINT64_T;
    case MANTA_FLOAT32:
        return MPI_FLOAT;
    case MANTA_FLOAT64:
        return MPI_DOUBLE;
    default:
        return MPI_DATATYPE_NULL;
    }
}

static MPI_Op operation(int op)
{
    switch (op) {
    case MANTA_SUM:
        return MPI_SUM;
    case MANTA_PROD:
        return MPI_PROD;
    case MANTA_MIN:
        return MPI_MIN;
    case MANTA_MAX:
        return MPI_MAX;
    case MANTA_BAND:
        return MPI_BAND;
    case MANTA_BOR:
        return MPI_BOR;
    case MANTA_BXOR:
        return MPI_BXOR;
    default:
        return MPI_OP_NULL;
    }
}

static const char *lacks(const struct perf_call *call)
{
    if (datatype(call->dtype) == MPI_DATATYPE_NULL)
        return "MPI has no such datatype";
    return operation(call->op) == MPI_OP_NULL ? "MPI has no such operation" : NULL;
}

static int run(const struct perf_call *call, const void *src, void *dst)
{
    MPI_Datatype type = datatype(call->dtype);
    MPI_Op op = operation(call->op);
    int count = (int)call->count, rank;
    const void *from = src == dst ? MPI_IN_PLACE : src;
    switch (call->collective) {
    case MANTA_ALLREDUCE:
        return check(MPI_Allreduce(from, dst, count, type, op, MPI_COMM_WORLD), "MPI_Allreduce");
    case MANTA_BROADCAST:
        return check(MPI_Bcast(dst, count, type, call->root, MPI_COMM_WORLD), "MPI_Bcast");
    case MANTA_REDUCE:
        MPI_Comm_rank(MPI_COMM_WORLD, &rank);
        return check(MPI_Reduce(rank == call->root ? from : src, dst, count, type, op, call->root,
                                MPI_COMM_WORLD),
                     "MPI_Reduce");
    case MANTA_ALLGATHER:
        return check(MPI_Allgather(src, count, type, dst, count, type, MPI_COMM_WORLD),
                     "MPI_Allgather");
    case MANTA_REDUCE_SCATTER:
        return check(MPI_Reduce_scatter_block(src, dst, count, type, op, MPI_COMM_WORLD),
                     "MPI_Reduce_scatter_block");
    default:
        return check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
    }
}

/* MPI does not tell what it chose. */
static void describe(const struct perf_call *call, char algorithm[32], char transport[32])
{
    (void)call;
    strcpy(algorithm, "-");
    strcpy(transport, "-");
}

static void close_mpi(void)
{
    MPI_Finalize();
}

int main(int argc, char **argv)
{
    static const struct perf_backend backend = {
        .name = "mpi-perf",
        .open = open_mpi,
        .share = share,
        .maximum = maximum,
        .run = run,
        .lacks = lacks,
        .describe = describe,
        .close = close_mpi,
    };
    return perf_main(&backend, argc, argv);
}
