/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/loop/perf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <manta/manta.h>

#include "core/clock.h"

enum { CHECKED_BYTES = 64 << 20, CHECKED_LEAST = 2 };

struct bench {
    const struct perf_backend *backend;
    struct perf_options options;
    struct perf_world world;
    struct perf_start *start;
    struct perf_call call;
    struct perf_pattern *pattern; /* NULL: not checked */
    unsigned char *src, *dst;     /* of the call: may lie in one another */
    unsigned char *maps[2];
    uint64_t map_bytes;
    uint64_t bytes; /* of a rank's part */
    uint64_t turn;  /* number of the call, over warm-up and iterations */
};

/* Parts that the source and the destination have. */
static uint64_t src_parts(const struct bench *bench)
{
    return bench->call.collective == MANTA_REDUCE_SCATTER ? (uint64_t)bench->world.ranks : 1;
}

static uint64_t dst_parts(const struct bench *bench)
{
    return bench->call.collective == MANTA_ALLGATHER ? (uint64_t)bench->world.ranks : 1;
}

static int has_root(const struct bench *bench)
{
    return bench->call.collective == MANTA_BROADCAST || bench->call.collective == MANTA_REDUCE;
}

static int is_root(const struct bench *bench)
{
    return bench->world.rank == bench->call.root;
}

static void place_buffers(struct bench *bench)
{
    uint64_t offset = (uint64_t)bench->world.rank * bench->bytes;
    bench->src = bench->maps[0];
    bench->dst = bench->maps[1];
    if (bench->call.collective == MANTA_BROADCAST)
        bench->src = bench->dst;
    else if (bench->options.in_place && bench->call.collective == MANTA_ALLGATHER)
        bench->src = bench->dst + offset;
    else if (bench->options.in_place && bench->call.collective == MANTA_REDUCE_SCATTER)
        bench->dst = bench->src + offset;
    else if (bench->options.in_place)
        bench->dst = bench->src;
}

/* New contents for each call, so that no copy finds the last call's data in a cache. */
static void rewrite_source(struct bench *bench)
{
    uint64_t parts = src_parts(bench);
    if (bench->call.collective == MANTA_BARRIER ||
        (bench->call.collective == MANTA_BROADCAST && !is_root(bench)))
        return;
    if (bench->pattern != NULL)
        perf_pattern_fill(bench->pattern, bench->world.rank, bench->turn, 0, bench->src,
                          parts * bench->call.count);
    else
        memset(bench->src, bench->turn % 2 ? 0x3c : 0x3d, parts * bench->bytes);
}

/* Wrong elements of this rank: in the result, and in a source that must not have changed. */
static uint64_t count_wrong(const struct bench *bench)
{
    const struct perf_pattern *pattern = bench->pattern;
    uint64_t count = bench->call.count, turn = bench->turn, wrong = 0;
    switch (bench->call.collective) {
    case MANTA_BARRIER:
        return 0;
    case MANTA_BROADCAST:
        return perf_pattern_wrong(pattern, bench->call.root, turn, 0, bench->dst, count);
    case MANTA_ALLGATHER:
        for (int r = 0; r < bench->world.ranks; r++)
            wrong += perf_pattern_wrong(pattern, r, turn, 0,
                                        bench->dst + (uint64_t)r * bench->bytes, count);
        break;
    case MANTA_REDUCE_SCATTER:
        wrong = perf_pattern_wrong(pattern, -1, turn, (uint64_t)bench->world.rank * count,
                                   bench->dst, count);
        break;
    case MANTA_REDUCE:
        wrong = is_root(bench) ? perf_pattern_wrong(pattern, -1, turn, 0, bench->dst, count) : 0;
        break;
    default:
        wrong = perf_pattern_wrong(pattern, -1, turn, 0, bench->dst, count);
    }
    if (!bench->options.in_place)
        wrong += perf_pattern_wrong(pattern, bench->world.rank, turn, 0, bench->src,
                                    src_parts(bench) * count);
    return wrong;
}

static int run_once(struct bench *bench, uint64_t *ns_out)
{
    bench->turn++;
    if (has_root(bench))
        bench->call.root = bench->options.root == PERF_ROTATE
                               ? (int)(bench->turn % (uint64_t)bench->world.ranks)
                               : bench->options.root;
    rewrite_source(bench);
    int rc = perf_start_together(bench->start);
    if (rc != 0)
        return rc;
    uint64_t begin = mt_clock_now_ns();
    rc = bench->backend->run(&bench->call, bench->src, bench->dst);
    *ns_out = mt_clock_now_ns() - begin;
    return rc;
}

static uint64_t choose_iterations(const struct bench *bench)
{
    if (bench->options.iterations > 0)
        return bench->options.iterations;
    uint64_t moved = bench->bytes * src_parts(bench) * dst_parts(bench);
    if (moved <= 4 << 10)
        return 2000;
    if (moved <= 64 << 10)
        return 1000;
    if (moved <= 1 << 20)
        return 200;
    return moved <= 16 << 20 ? 50 : 20;
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
    double moved = (double)(bench->bytes * src_parts(bench) * dst_parts(bench));
    double factor = 1;
    if (bench->call.collective == MANTA_ALLREDUCE)
        factor = 2 * (n - 1) / n;
    else if (bench->call.collective == MANTA_ALLGATHER ||
             bench->call.collective == MANTA_REDUCE_SCATTER)
        factor = (n - 1) / n;
    row->algbw = row->p50_us > 0 ? moved / row->p50_us / 1e3 : 0;
    row->busbw = row->algbw * factor;
}

static void fill_row(const struct bench *bench, uint64_t *times, uint64_t count,
                     struct perf_row *row)
{
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

static int measure(struct bench *bench, uint64_t *times, uint64_t iterations, struct perf_row *row)
{
    uint64_t ignored, warmup = bench->options.warmup, checks = iterations;
    if (warmup == 0)
        warmup = iterations / 10 + 5;
    if (bench->bytes * checks > CHECKED_BYTES)
        checks = CHECKED_BYTES / bench->bytes > CHECKED_LEAST ? CHECKED_BYTES / bench->bytes
                                                              : CHECKED_LEAST;
    for (uint64_t i = 0; i < warmup; i++)
        if (run_once(bench, &ignored) != 0)
            return -1;
    for (uint64_t i = 0; i < iterations; i++) {
        if (run_once(bench, &times[i]) != 0)
            return -1;
        if (bench->pattern != NULL && i < checks)
            row->wrong += count_wrong(bench);
    }
    return bench->backend->maximum(times, iterations) != 0 || add_up(bench, &row->wrong) != 0;
}

/* Returns 1 when the call failed or a result was wrong. */
static int run_size(struct bench *bench)
{
    struct perf_row row = {.call = &bench->call,
                           .in_place = bench->options.in_place,
                           .checked = bench->options.check,
                           .bytes = bench->bytes};
    uint64_t iterations = choose_iterations(bench);
    uint64_t *times = calloc(iterations, sizeof *times);
    if (bench->options.check)
        bench->pattern = perf_pattern_create(&bench->call, bench->world.ranks);
    if (times == NULL || (bench->options.check && bench->pattern == NULL)) {
        perror(bench->backend->name);
        free(times);
        return 1;
    }
    place_buffers(bench);
    int rc = measure(bench, times, iterations, &row);
    if (rc == 0) {
        fill_row(bench, times, iterations, &row);
        bench->backend->describe(&bench->call, row.algorithm, row.transport);
        if (bench->world.rank == 0)
            perf_report_row(&bench->world, &row, bench->options.json);
    }
    perf_pattern_destroy(bench->pattern);
    bench->pattern = NULL;
    free(times);
    return rc != 0 || row.wrong > 0;
}

static int run_collective(struct bench *bench, int collective)
{
    size_t size = manta_dtype_size(bench->options.dtype);
    int bad = 0;
    bench->call = (struct perf_call){
        .collective = collective, .dtype = bench->options.dtype, .op = bench->options.op};
    const char *lacking = bench->backend->lacks(&bench->call);
    if (bench->world.rank == 0 && lacking != NULL)
        printf("# not measured: %s\n", lacking);
    if (lacking != NULL)
        return 0;
    if (bench->world.rank == 0)
        perf_report_table(&bench->options, collective);
    if (collective == MANTA_BARRIER) {
        bench->bytes = 0;
        return run_size(bench);
    }
    for (uint64_t bytes = bench->options.min_bytes; bytes <= bench->options.max_bytes;
         bytes *= bench->options.factor) {
        bench->call.count = bytes / size;
        bench->bytes = bench->call.count * size;
        if (bench->call.count > 0)
            bad |= run_size(bench);
        if (bad || bytes == 0 || bytes > UINT64_MAX / bench->options.factor)
            break;
    }
    return bad;
}

static int map_buffers(struct bench *bench)
{
    bench->map_bytes = bench->options.max_bytes * (uint64_t)bench->world.ranks + 4096;
    for (int i = 0; i < 2; i++) {
        void *map = mmap(NULL, bench->map_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED) {
            perror("no memory for the buffers");
            return -1;
        }
        bench->maps[i] = map;
    }
    return 0;
}

static int run_all(struct bench *bench)
{
    int bad = 0;
    if (bench->options.root >= bench->world.ranks) {
        fprintf(stderr, "%s: --root must be below the number of ranks\n", bench->backend->name);
        return 1;
    }
    if (map_buffers(bench) != 0 ||
        perf_start_open(bench->backend, &bench->world, &bench->start) != 0)
        return 1;
    if (bench->world.rank == 0)
        perf_report_head(bench->backend, &bench->world, bench->start);
    for (int i = 0; i < bench->options.collective_count && !bad; i++)
        bad = run_collective(bench, bench->options.collectives[i]);
    perf_start_close(bench->start);
    for (int i = 0; i < 2; i++)
        munmap(bench->maps[i], bench->map_bytes);
    return bad;
}

int perf_main(const struct perf_backend *backend, int argc, char **argv)
{
    struct bench bench = {.backend = backend};
    perf_options_parse(&bench.options, backend->name, argc, argv);
    if (backend->open(&bench.world) != 0)
        return 1;
    int bad = run_all(&bench);
    backend->close();
    return bad;
}
