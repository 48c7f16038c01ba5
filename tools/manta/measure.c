/* SPDX-License-Identifier: Apache-2.0 */
/* Each algorithm runs on a communicator of its own, split off with an override that names it. All
 * take turns, and come round again, so that an hour that is bad for the host is not one
 * algorithm's. */
#include "tools/manta/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "topology/host.h"

enum { WARM = 2, LEAST = 3, MOST = 200, BOUND_NS = 70 * 1000 * 1000 };
enum { ROUNDS = 3, SPREAD_PERCENT = 150, WAITED_PERCENT = 5 };

struct measured {
    struct manta_comm *comm;
    struct mt_arguments call;
    uint64_t waited_ns, took_ns; /* for a CPU; in all */
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

/* What this thread has waited while it could have run, if the kernel counts that. */
static uint64_t waited_ns(void)
{
    unsigned long long ran = 0, waited = 0;
    FILE *file = fopen("/proc/thread-self/schedstat", "re");
    if (file != NULL && fscanf(file, "%llu %llu", &ran, &waited) != 2)
        waited = 0;
    if (file != NULL)
        fclose(file);
    return waited;
}

/* Times of `rounds` calls, each after a barrier. */
static int time_calls(struct measured *m, int rounds, uint64_t *times)
{
    uint64_t waited = waited_ns(), start = mt_clock_now_ns();
    int rc = 0;
    for (int i = 0; rc == 0 && i < rounds; i++) {
        rc = manta_barrier(m->comm);
        uint64_t begin = mt_clock_now_ns();
        if (rc == 0)
            rc = run(m);
        times[i] = mt_clock_now_ns() - begin;
    }
    m->took_ns += mt_clock_now_ns() - start;
    m->waited_ns += waited_ns() - waited;
    if (rc == 0)
        rc = manta_allreduce(m->comm, times, times, (uint64_t)rounds, MANTA_UINT64, MANTA_MAX);
    return rc;
}

static int measure(struct measured *m, uint64_t *ns_out)
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
static int measure_one(struct manta_comm *comm, struct measured *m,
                       const struct mt_algorithm *algorithm, uint64_t *ns_out)
{
    struct mt_select_override *override = &comm->settings.overrides[algorithm->collective];
    const struct mt_select_override before = *override;
    *override = (struct mt_select_override){.count = 1, .ranges = {{.to_bytes = UINT64_MAX}}};
    snprintf(override->ranges[0].algorithm, sizeof(override->ranges[0].algorithm), "%s",
             algorithm->name);
    int rc = manta_comm_split(comm, 0, (int)comm->rank, &m->comm);
    *override = before;
    if (rc != 0)
        return rc;
    rc = measure(m, ns_out);
    manta_comm_destroy(m->comm);
    return rc;
}

static int measure_round(struct manta_comm *comm, struct measured *m,
                         const struct mt_select_candidate *candidates, uint32_t count,
                         uint64_t *ns_out, struct mt_error *error)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        ns_out[i] = 0;
        if (candidates[i].excluded)
            continue;
        rc = measure_one(comm, m, candidates[i].algorithm, &ns_out[i]);
        if (rc != 0)
            mt_error_set(error, rc, "%s could not be measured: %s", candidates[i].algorithm->name,
                         manta_strerror(rc));
    }
    return rc;
}

/* The middle of the rounds, of each; returns by how much they differ at most, in percent. */
static uint64_t settle(uint64_t rounds[ROUNDS][MT_SELECT_CANDIDATES], uint32_t count,
                       uint64_t *measured_ns_out)
{
    uint64_t most = 100;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t ns[ROUNDS];
        for (int r = 0; r < ROUNDS; r++)
            ns[r] = rounds[r][i];
        qsort(ns, ROUNDS, sizeof(*ns), compare);
        measured_ns_out[i] = ns[ROUNDS / 2];
        uint64_t spread = ns[0] > 0 ? ns[ROUNDS - 1] * 100 / ns[0] : 100;
        most = spread > most ? spread : most;
    }
    return most;
}

/* All ranks learn what the worst of them has seen. */
static int doubt(struct manta_comm *comm, const struct measured *m, uint64_t spread, char *text,
                 size_t text_bytes)
{
    uint64_t seen[] = {m->took_ns > 0 ? m->waited_ns * 100 / m->took_ns : 0,
                       (uint64_t)comm->settings.oversubscribed, mt_host()->affinity_cpus};
    int rc = manta_allreduce(comm, seen, seen, 3, MANTA_UINT64, MANTA_MAX);
    if (rc != 0)
        return rc;
    int is_slowed = seen[0] >= WAITED_PERCENT, is_uneven = spread >= SPREAD_PERCENT;
    int may_be_bound = !seen[1] && seen[2] > 1;
    char slowed[112] = "", uneven[64] = "";
    if (is_slowed)
        snprintf(slowed, sizeof(slowed), "ranks waited for a CPU up to %d %% of the time%s",
                 (int)seen[0], may_be_bound ? " (does mantarun --bind core help?)" : "");
    if (is_uneven)
        snprintf(uneven, sizeof(uneven), "rounds differ by a factor of up to %.1f",
                 (double)spread / 100);
    const char *crowd = seen[1] ? "there are more ranks than CPUs" : "";
    snprintf(text, text_bytes, "%s%s%s%s%s", crowd, seen[1] && is_slowed ? ", " : "", slowed,
             (seen[1] || is_slowed) && is_uneven ? ", " : "", uneven);
    return 0;
}

int measure_candidates(struct manta_comm *comm, const struct mt_arguments *arguments,
                       const struct mt_select_candidate *candidates, uint32_t count,
                       struct measurement *out, struct mt_error *error)
{
    uint64_t rounds[ROUNDS][MT_SELECT_CANDIDATES];
    uint64_t bytes = arguments->count * manta_dtype_size((int)arguments->dtype) * comm->ranks;
    void *src = calloc(1, bytes + 1), *dst = calloc(1, bytes + 1);
    struct measured m = {.call = *arguments};
    int rc = src && dst ? 0
                        : mt_error_set(error, MANTA_ENOMEM, "no memory for buffers of %llu bytes",
                                       (unsigned long long)bytes);
    m.call.src = src;
    m.call.dst = dst;
    for (int r = 0; rc == 0 && r < ROUNDS; r++)
        rc = measure_round(comm, &m, candidates, count, rounds[r], error);
    if (rc == 0) {
        uint64_t spread = settle(rounds, count, out->ns);
        rc = doubt(comm, &m, spread, out->doubt, sizeof(out->doubt));
        if (rc != 0)
            mt_error_set(error, rc, "%s", manta_strerror(rc));
    }
    free(src);
    free(dst);
    return rc;
}
