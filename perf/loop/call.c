/* SPDX-License-Identifier: Apache-2.0 */
/* One call: its buffers, their contents, what must have become of them. */
#include "perf/loop/bench.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <manta/manta.h>

uint64_t perf_bench_src_parts(const struct bench *bench)
{
    return bench->call.collective == MANTA_REDUCE_SCATTER ? (uint64_t)bench->world.ranks : 1;
}

uint64_t perf_bench_dst_parts(const struct bench *bench)
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

static void *map_private(uint64_t bytes)
{
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return map != MAP_FAILED ? map : NULL;
}

/* As much as the largest size of any collective needs, for all ranks' parts where one has them. */
int perf_bench_map(struct bench *bench)
{
    const struct perf_options *options = &bench->options;
    bench->map_bytes = 4096;
    for (int w = 0; w < options->work_count; w++) {
        int parts = options->works[w].collective == MANTA_ALLGATHER ||
                    options->works[w].collective == MANTA_REDUCE_SCATTER;
        for (int i = 0; i < options->works[w].size_count; i++) {
            uint64_t bytes =
                options->works[w].sizes[i] * (parts ? (uint64_t)bench->world.ranks : 1) + 4096;
            bench->map_bytes = bytes > bench->map_bytes ? bytes : bench->map_bytes;
        }
    }
    for (int i = 0; i < 2; i++) {
        bench->maps[i] = options->symmetric ? bench->backend->allocate(bench->map_bytes)
                                            : map_private(bench->map_bytes);
        if (bench->maps[i] == NULL) {
            fprintf(stderr, "%s: no memory for buffers of %llu bytes; ask for smaller sizes\n",
                    bench->backend->name, (unsigned long long)bench->map_bytes);
            return -1;
        }
    }
    return 0;
}

void perf_bench_unmap(struct bench *bench)
{
    for (int i = 0; i < 2; i++) {
        if (bench->maps[i] != NULL && bench->options.symmetric)
            bench->backend->release(bench->maps[i]);
        else if (bench->maps[i] != NULL)
            munmap(bench->maps[i], bench->map_bytes);
        bench->maps[i] = NULL;
    }
}

void perf_bench_place(struct bench *bench)
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
    uint64_t parts = perf_bench_src_parts(bench);
    if (bench->call.collective == MANTA_BARRIER ||
        (bench->call.collective == MANTA_BROADCAST && !is_root(bench)))
        return;
    if (bench->pattern != NULL)
        perf_pattern_fill(bench->pattern, bench->world.rank, bench->turn, 0, bench->src,
                          parts * bench->call.count);
    else
        memset(bench->src, bench->turn % 2 ? 0x3c : 0x3d, parts * bench->bytes);
}

void perf_bench_prepare(struct bench *bench)
{
    bench->turn++;
    if (has_root(bench))
        bench->call.root = bench->options.root == PERF_ROTATE
                               ? (int)(bench->turn % (uint64_t)bench->world.ranks)
                               : bench->options.root;
    rewrite_source(bench);
}

int perf_bench_run(struct bench *bench)
{
    return bench->backend->run(&bench->call, bench->src, bench->dst);
}

uint64_t perf_bench_wrong(const struct bench *bench)
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
                                    perf_bench_src_parts(bench) * count);
    return wrong;
}
