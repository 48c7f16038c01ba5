/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark loop, the same for Manta and for every peer that it is compared with: a peer fills
 * struct perf_backend, everything else is shared.
 *
 * One iteration: every rank rewrites its source, all start together, each rank measures its own
 * time in the call; the iteration's time is the maximum over the ranks. On one host the ranks meet
 * in a page of shared memory that belongs to the benchmark, so that neither the library's barrier
 * nor its skew is in the numbers; on several hosts they meet in the backend's barrier.
 */
#ifndef PERF_LOOP_PERF_H
#define PERF_LOOP_PERF_H

#include <stddef.h>
#include <stdint.h>

enum { PERF_COLLECTIVES = 6, PERF_WORKS = 16, PERF_SIZES = 64, PERF_ROTATE = -1, PERF_USAGE = 2 };

/* A collective and the sizes to run it with. */
struct perf_work {
    int collective; /* enum manta_collective */
    int size_count;
    uint64_t sizes[PERF_SIZES];
};

struct perf_options {
    struct perf_work works[PERF_WORKS];
    int work_count;
    uint64_t iterations, warmup; /* 0: by size and bound_ns */
    uint64_t bound_ns;           /* of warm-up, of iterations, of back-to-back calls of a size */
    int dtype, op;
    int root; /* or PERF_ROTATE: another one in each iteration */
    int in_place, check, back_to_back, symmetric;
    const char *json; /* file to append to; NULL: none */
};

struct perf_world {
    int rank, ranks, nodes;
};

/* One call. bytes of a rank's part: count * size of the dtype. */
struct perf_call {
    int collective;
    uint64_t count;
    int dtype, op, root;
};

struct perf_backend {
    const char *name;
    /* Every function returns 0, or anything else after printing why. */
    int (*open)(struct perf_world *world_out);
    int (*share)(void *bytes, size_t length);       /* rank 0's bytes to all */
    int (*maximum)(uint64_t *values, size_t count); /* over ranks, on all ranks */
    int (*run)(const struct perf_call *call, const void *src, void *dst);
    /* NULL if the backend has it, else why not. Asked for no element, and then for each size. */
    const char *(*lacks)(const struct perf_call *call);
    void (*describe)(const struct perf_call *call, char algorithm[32], char transport[32]);
    /* Memory that peers read in place, as the library has it; NULL: it has none. */
    void *(*allocate)(size_t bytes);
    void (*release)(void *memory);
    void (*close)(void);
};

/* Parse; exits with 2 (wrong usage) or 0 (--help). */
void perf_options_parse(struct perf_options *options, const char *program, int argc, char **argv);

/* The whole program but for the backend. Returns the exit code: 1 when a call failed or an element
 * was wrong, PERF_USAGE for a root that is no rank. */
__attribute__((visibility("default"))) int perf_main(const struct perf_backend *backend, int argc,
                                                     char **argv);

/* Memory that all ranks of one host write and read; its first word is taken. NULL in *memory_out on
 * all ranks when there is one that cannot have it. */
int perf_shared_open(const struct perf_backend *backend, int rank, size_t bytes, void **memory_out);
void perf_shared_close(void *memory, size_t bytes);

/* For a backend whose calls are made in an interpreter: perf_caller_run is its `run`. */
struct perf_caller {
    /* The object that makes a call with these buffers, or NULL after complaining; it lives as long
     * as perf_main runs. */
    void *(*prepare)(const struct perf_call *call, const void *src, void *dst);
    void *(*invoke)(void *object); /* a result, or NULL: it failed */
    void (*release)(void *result);
    void (*complain)(void); /* tell why what was called last failed */
};
__attribute__((visibility("default"))) void perf_caller_use(const struct perf_caller *chosen);
__attribute__((visibility("default"))) int perf_caller_run(const struct perf_call *call,
                                                           const void *src, void *dst);

/* The place where ranks of one host meet. */
struct perf_start;
int perf_start_open(const struct perf_backend *backend, const struct perf_world *world,
                    struct perf_start **start_out);
/* Wait for all ranks; not for ever. */
int perf_start_together(struct perf_start *start);
/* Measure now how long a cache line takes from rank 0's core to rank 1's; all ranks call it. Ranks
 * that may run anywhere are bound to two CPUs meanwhile. 0: not one host, or one CPU for both. */
int perf_start_line(struct perf_start *start, unsigned *ns_out);
int perf_start_is_shared(const struct perf_start *start);
/* "core": each rank has a CPU of its own; "none": each may run on several; else "mixed". */
const char *perf_start_binding(const struct perf_start *start);
void perf_start_close(struct perf_start *start);

/* Contents of buffers, and what must become of them. Values are small whole numbers, so that every
 * order of adding them gives the same bits. Nothing here calls the library. */
struct perf_pattern;
struct perf_pattern *perf_pattern_create(const struct perf_call *call, int ranks);
void perf_pattern_destroy(struct perf_pattern *pattern);
/* What `rank` puts in, elements first .. first + count - 1 of iteration `turn`. */
void perf_pattern_fill(const struct perf_pattern *pattern, int rank, uint64_t turn, uint64_t first,
                       void *buffer, uint64_t count);
/* Wrong elements in what should be the input of `rank`, or, rank < 0, the combination of all. */
uint64_t perf_pattern_wrong(const struct perf_pattern *pattern, int rank, uint64_t turn,
                            uint64_t first, const void *buffer, uint64_t count);

/* Results of one size. */
struct perf_row {
    const struct perf_call *call;
    int in_place, checked, symmetric, rotates;
    uint64_t bytes, wrong, iterations;
    double min_us, p50_us, avg_us, p99_us, max_us;
    double b2b_us;                   /* time of a call among many in a row; 0: not measured */
    double algbw, busbw;             /* GB/s */
    unsigned line_ns, line_after_ns; /* before and after the row */
    const char *binding;
    char algorithm[32], transport[32];
};
void perf_report_head(const struct perf_backend *backend, const struct perf_world *world,
                      const struct perf_start *start);
void perf_report_table(const struct perf_options *options, int collective);
/* Returns 0, or the errno of the file `json`, which may be NULL. */
int perf_report_row(const struct perf_world *world, const struct perf_row *row, const char *json);

#endif
