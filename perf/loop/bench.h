/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the loop share; backends see perf.h only. */
#ifndef PERF_LOOP_BENCH_H
#define PERF_LOOP_BENCH_H

#include "perf/loop/perf.h"

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
    int unwritten;  /* the file of --json could not be written */
    uint64_t turn;  /* number of the call, over warm-up and iterations */
};

/* Parts that the source and the destination have. */
uint64_t perf_bench_src_parts(const struct bench *bench);
uint64_t perf_bench_dst_parts(const struct bench *bench);

int perf_bench_map(struct bench *bench);
void perf_bench_unmap(struct bench *bench);
/* Where source and destination of the call at hand lie. */
void perf_bench_place(struct bench *bench);

/* The next turn: its root, new contents in its source. */
void perf_bench_prepare(struct bench *bench);
int perf_bench_run(struct bench *bench);
/* Wrong elements of this rank: in the result, and in a source that must not have changed. */
uint64_t perf_bench_wrong(const struct bench *bench);

/* Warm up, time, check; all ranks get the same row. *call_ns_out: what a call took about. */
int perf_bench_measure(struct bench *bench, struct perf_row *row, uint64_t *call_ns_out);

#endif
