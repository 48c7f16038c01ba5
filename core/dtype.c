/* SPDX-License-Identifier: Apache-2.0 */
#include "core/dtype.h"

#include <string.h>

struct dtype {
    const char *name;
    size_t size;
    int is_integer;
};

static const struct dtype dtypes[MANTA_DTYPE_COUNT] = {
    [MANTA_INT8] = {"int8", 1, 1},
    [MANTA_UINT8] = {"uint8", 1, 1},
    [MANTA_INT16] = {"int16", 2, 1},
    [MANTA_UINT16] = {"uint16", 2, 1},
    [MANTA_INT32] = {"int32", 4, 1},
    [MANTA_UINT32] = {"uint32", 4, 1},
    [MANTA_INT64] = {"int64", 8, 1},
    [MANTA_UINT64] = {"uint64", 8, 1},
    [MANTA_FLOAT16] = {"float16", 2, 0},
    [MANTA_BFLOAT16] = {"bfloat16", 2, 0},
    [MANTA_FLOAT32] = {"float32", 4, 0},
    [MANTA_FLOAT64] = {"float64", 8, 0},
    [MANTA_FLOAT8_E4M3] = {"float8_e4m3", 1, 0},
    [MANTA_FLOAT8_E5M2] = {"float8_e5m2", 1, 0},
};

static const char *const op_names[MANTA_OP_COUNT] = {
    [MANTA_SUM] = "sum", [MANTA_PROD] = "prod", [MANTA_MIN] = "min", [MANTA_MAX] = "max",
    [MANTA_AVG] = "avg", [MANTA_BAND] = "band", [MANTA_BOR] = "bor", [MANTA_BXOR] = "bxor",
};

static const char *const collective_names[MANTA_COLLECTIVE_COUNT] = {
    [MANTA_ALLREDUCE] = "allreduce", [MANTA_BROADCAST] = "broadcast",
    [MANTA_REDUCE] = "reduce",       [MANTA_ALLGATHER] = "allgather",
    [MANTA_BARRIER] = "barrier",     [MANTA_REDUCE_SCATTER] = "reduce_scatter",
    [MANTA_SEND] = "send",           [MANTA_RECV] = "recv",
};

static int is_dtype(int dtype)
{
    return dtype >= 0 && dtype < MANTA_DTYPE_COUNT;
}

static const char *name_of(const char *const *names, int count, int index)
{
    return index >= 0 && index < count ? names[index] : "unknown";
}

static int index_of(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

size_t manta_dtype_size(int dtype)
{
    return is_dtype(dtype) ? dtypes[dtype].size : 0;
}

const char *mt_dtype_name(int dtype)
{
    return is_dtype(dtype) ? dtypes[dtype].name : "unknown";
}

const char *mt_op_name(int op)
{
    return name_of(op_names, MANTA_OP_COUNT, op);
}

const char *mt_collective_name(int collective)
{
    return name_of(collective_names, MANTA_COLLECTIVE_COUNT, collective);
}

int mt_dtype_parse(const char *name)
{
    for (int i = 0; i < MANTA_DTYPE_COUNT; i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return i;
    return -1;
}

int mt_op_parse(const char *name)
{
    return index_of(op_names, MANTA_OP_COUNT, name);
}

int mt_collective_parse(const char *name)
{
    return index_of(collective_names, MANTA_COLLECTIVE_COUNT, name);
}

int mt_op_allowed(int op, int dtype)
{
    if (op < 0 || op >= MANTA_OP_COUNT || !is_dtype(dtype))
        return 0;
    return op < MANTA_BAND || dtypes[dtype].is_integer;
}
