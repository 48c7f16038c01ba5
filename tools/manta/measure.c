/* SPDX-License-Identifier: Apache-2.0 */
/* Each algorithm runs on a communicator of its own, split off with an override that names it. */
#include "tools/manta/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

enum { WARM = 3, LEAST = 5, MOST = 200, BOUND_NS = 200 * 1000 * 1000 };

struct measured {
    struct manta_comm *comm;
    struct mt_arguments call;
};

static int run(const struct measured *m)
{
    const struct mt_arguments *c = &m->call;
    int dtype = (int)c->dtype, op = (int)c->op;
    switch (c->collective) {
    case MANTA_ALLREDUCE:
        return manta_allreduce(m->comm, c->src, c->dst, c->count, dtype, op);
    case MANTA_BROADCAST:
        return manta_broadcast(m->comm, c->dst, c->count, dtype, (int)c->root);
    case MANTA_REDUCE:
        return manta_reduce(m->comm, c->src, c->dst, c->count, dtype, op, (int)c->root);
    case MANTA_ALLGATHER:
        return manta_allgather(m->comm, c->src, c->dst, c->count, dtype);
    case MANTA_REDUCE_SCATTER:
        return manta_reduce_scatter(m->comm, c->src, c->dst, c->count, dtype, op);
    default:
        return manta_barrier(m->comm);
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Times of `rounds` calls, each after a barrier. */
static int time_calls(const struct measured *m, int rounds, uint64_t *times)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < rounds; i++) {
        rc = manta_barrier(m->comm);
        uint64_t begin = mt_clock_now_ns();
        if (rc == 0)
            rc = run(m);
        times[i] = mt_clock_now_ns() - begin;
    }
    if (rc == 0)
        rc = manta_allreduce(m->comm, times, times, (uint64_t)rounds, MANTA_UINT64, MANTA_MAX);
    return rc;
}

static int measure(const struct measured *m, uint64_t *ns_out)
{
    uint64_t times[MOST];
    int rc = time_calls(m, WARM, times);
    if (rc != 0)
        return rc;
    uint64_t fit = BOUND_NS / (times[WARM - 1] + 1); /* the same on all ranks */
    int rounds = fit < LEAST ? LEAST : fit > MOST ? MOST : (int)fit;
    rc = time_calls(m, rounds, times);
    qsort(times, (size_t)rounds, sizeof(*times), compare);
    *ns_out = times[rounds / 2];
    return rc;
}

/* On a communicator in which this algorithm runs all calls of its collective. */
static int measure_one(struct manta_comm *comm, const struct measured *as,
                       const struct mt_algorithm *algorithm, uint64_t *ns_out)
{
    struct measured m = *as;
    struct mt_select_override *override = &comm->settings.overrides[algorithm->collective];
    const struct mt_select_override before = *override;
    *override = (struct mt_select_override){.count = 1, .ranges = {{.to_bytes = UINT64_MAX}}};
    snprintf(override->ranges[0].algorithm, sizeof(override->ranges[0].algorithm), "%s",
             algorithm->name);
    int rc = manta_comm_split(comm, 0, (int)comm->rank, &m.comm);
    *override = before;
    if (rc != 0)
        return rc;
    rc = measure(&m, ns_out);
    manta_comm_destroy(m.comm);
    return rc;
}

int measure_candidates(struct manta_comm *comm, const struct mt_arguments *arguments,
                       const struct mt_select_candidate *candidates, uint32_t count,
                       uint64_t *measured_ns_out, struct mt_error *error)
{
    uint64_t bytes = arguments->count * manta_dtype_size((int)arguments->dtype) * comm->ranks;
    void *src = calloc(1, bytes + 1), *dst = calloc(1, bytes + 1);
    struct measured m = {.call = *arguments};
    int rc = src && dst ? 0
                        : mt_error_set(error, MANTA_ENOMEM, "no memory for buffers of %llu bytes",
                                       (unsigned long long)bytes);
    m.call.src = src;
    m.call.dst = dst;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        measured_ns_out[i] = 0;
        if (candidates[i].excluded)
            continue;
        rc = measure_one(comm, &m, candidates[i].algorithm, &measured_ns_out[i]);
        if (rc != 0)
            mt_error_set(error, rc, "%s could not be measured: %s", candidates[i].algorithm->name,
                         manta_strerror(rc));
    }
    free(src);
    free(dst);
    return rc;
}
