/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of one size: warm-up, timed one by one, timed in a row. */
#include "perf/loop/bench.h"

#include <stdlib.h>

#include <manta/manta.h>

#include "core/clock.h"

enum {
    CHECKED_BYTES = 64 << 20,
    CHECKED_LEAST = 2,
    LEAST = 3,        /* iterations, however long they take */
    BATCHES = 8,      /* of back-to-back calls; the median counts */
    WARMUP_SHARE = 4, /* the warm-up gets this part of the time */
};

static int time_call(struct bench *bench, uint64_t *ns_out)
{
    perf_bench_prepare(bench);
    int rc = perf_start_together(bench->start);
    if (rc != 0)
        return rc;
    uint64_t begin = mt_clock_now_ns();
    rc = perf_bench_run(bench);
    *ns_out = mt_clock_now_ns() - begin;
    return rc;
}

static uint64_t iterations_by_size(const struct bench *bench)
{
    uint64_t moved = bench->bytes * perf_bench_src_parts(bench) * perf_bench_dst_parts(bench);
    if (moved <= 4 << 10)
        return 2000;
    if (moved <= 64 << 10)
        return 1000;
    if (moved <= 1 << 20)
        return 200;
    return moved <= 16 << 20 ? 50 : 20;
}

static int time_batch(struct bench *bench, uint64_t calls, uint64_t *ns_out)
{
    uint64_t ignored, begin = mt_clock_now_ns();
    for (uint64_t i = 0; i < calls; i++)
        if (time_call(bench, &ignored) != 0)
            return -1;
    *ns_out = mt_clock_now_ns() - begin;
    return bench->backend->maximum(ns_out, 1);
}

/* In batches that double, so that all ranks agree after few words when time is up. The first call
 * touches memory and opens connections, and a host that is busy may stop a rank in any batch, which
 * only adds: what a call takes is told by the fastest batch. */
static int warm_up(struct bench *bench, uint64_t planned, uint64_t *call_ns_out)
{
    uint64_t wanted = bench->options.warmup ? bench->options.warmup : planned / 10 + LEAST + 2;
    uint64_t limit = bench->options.iterations == 0 && bench->options.warmup == 0
                         ? bench->options.bound_ns / WARMUP_SHARE
                         : UINT64_MAX;
    uint64_t done = 0, spent = 0, batch = 1, batches = 0, took;
    *call_ns_out = UINT64_MAX;
    do {
        batch = batch < wanted - done ? batch : wanted - done;
        if (time_batch(bench, batch, &took) != 0)
            return -1;
        done += batch;
        spent += took;
        if (took / batch + 1 < *call_ns_out)
            *call_ns_out = took / batch + 1;
        batch = spent < limit ? 2 * batch : 1;
        batches++;
    } while (done < wanted && (spent < limit || batches < 2));
    return 0;
}

static uint64_t iterations_in_time(const struct bench *bench, uint64_t planned, uint64_t call_ns)
{
    uint64_t fit = bench->options.bound_ns / call_ns;
    if (bench->options.iterations > 0)
        return bench->options.iterations;
    if (call_ns > 2 * bench->options.bound_ns)
        return 1;
    if (fit < LEAST)
        return LEAST;
    return fit < planned ? fit : planned;
}

static int compare_times(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* GB/s as nccl-tests counts them: what the user has moved, and what a link must carry at least. */
static void fill_bandwidths(const struct bench *bench, struct perf_row *row)
{
    double n = bench->world.ranks;
    double moved =
        (double)(bench->bytes * perf_bench_src_parts(bench) * perf_bench_dst_parts(bench));
    double factor = 1;
    if (bench->call.collective == MANTA_ALLREDUCE)
        factor = 2 * (n - 1) / n;
    else if (bench->call.collective == MANTA_ALLGATHER ||
             bench->call.collective == MANTA_REDUCE_SCATTER)
        factor = (n - 1) / n;
    row->algbw = row->p50_us > 0 ? moved / row->p50_us / 1e3 : 0;
    row->busbw = row->algbw * factor;
}

static void fill_times(const struct bench *bench, uint64_t *times, struct perf_row *row)
{
    uint64_t count = row->iterations;
    double sum = 0;
    qsort(times, count, sizeof *times, compare_times);
    for (uint64_t i = 0; i < count; i++)
        sum += (double)times[i];
    row->min_us = (double)times[0] / 1e3;
    row->p50_us = (double)times[count / 2] / 1e3;
    row->avg_us = sum / (double)count / 1e3;
    row->p99_us = (double)times[(count - 1) * 99 / 100] / 1e3;
    row->max_us = (double)times[count - 1] / 1e3;
    fill_bandwidths(bench, row);
}

static uint64_t calls_to_check(const struct bench *bench, uint64_t iterations)
{
    if (bench->pattern == NULL)
        return 0;
    if (bench->bytes * iterations <= CHECKED_BYTES)
        return iterations;
    uint64_t fit = CHECKED_BYTES / bench->bytes;
    return fit > CHECKED_LEAST ? fit : CHECKED_LEAST;
}

/* One by one: an iteration's time is the slowest rank's own. */
static int measure_each(struct bench *bench, uint64_t *times, struct perf_row *row)
{
    uint64_t checks = calls_to_check(bench, row->iterations);
    for (uint64_t i = 0; i < row->iterations; i++) {
        if (time_call(bench, &times[i]) != 0)
            return -1;
        if (i < checks)
            row->wrong += perf_bench_wrong(bench);
    }
    if (bench->backend->maximum(times, row->iterations) != 0)
        return -1;
    fill_times(bench, times, row);
    return 0;
}

/* In a row, sources rewritten in between: the time is the slowest rank's, over the calls. What is
 * checked is not timed. */
static int measure_in_a_row(struct bench *bench, struct perf_row *row)
{
    uint64_t times[BATCHES] = {0};
    uint64_t batches = row->iterations < BATCHES ? row->iterations : BATCHES;
    uint64_t calls = row->iterations / batches, checks = calls_to_check(bench, calls);
    for (uint64_t b = 0; b < batches; b++) {
        if (perf_start_together(bench->start) != 0)
            return -1;
        uint64_t begin = mt_clock_now_ns();
        for (uint64_t i = 0; i < calls; i++) {
            perf_bench_prepare(bench);
            if (perf_bench_run(bench) != 0)
                return -1;
            if (i < checks)
                row->wrong += perf_bench_wrong(bench);
        }
        times[b] = mt_clock_now_ns() - begin;
    }
    if (bench->backend->maximum(times, batches) != 0)
        return -1;
    qsort(times, batches, sizeof *times, compare_times);
    if (bench->pattern == NULL)
        row->b2b_us = (double)times[batches / 2] / (double)calls / 1e3;
    return 0;
}

/* Sum over ranks, with what the backend has: each rank fills its own place. */
static int add_up(const struct bench *bench, uint64_t *value)
{
    uint64_t *values = calloc((size_t)bench->world.ranks, sizeof *values), sum = 0;
    if (values == NULL)
        return -1;
    values[bench->world.rank] = *value;
    int rc = bench->backend->maximum(values, (size_t)bench->world.ranks);
    for (int r = 0; r < bench->world.ranks; r++)
        sum += values[r];
    free(values);
    *value = sum;
    return rc;
}

int perf_bench_measure(struct bench *bench, struct perf_row *row, uint64_t *call_ns_out)
{
    uint64_t planned =
        bench->options.iterations ? bench->options.iterations : iterations_by_size(bench);
    if (warm_up(bench, planned, call_ns_out) != 0 ||
        perf_start_line(bench->start, &row->line_ns) != 0)
        return -1;
    row->iterations = iterations_in_time(bench, planned, *call_ns_out);
    uint64_t *times = calloc(row->iterations, sizeof *times);
    if (times == NULL)
        return -1;
    int rc = measure_each(bench, times, row);
    if (rc == 0 && bench->options.back_to_back)
        rc = measure_in_a_row(bench, row);
    free(times);
    if (rc == 0)
        rc = perf_start_line(bench->start, &row->line_after_ns);
    return rc != 0 ? rc : add_up(bench, &row->wrong);
}
