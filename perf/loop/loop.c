/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/loop/perf.h"

#include <stdio.h>
#include <string.h>

#include <manta/manta.h>

#include "core/clock.h"
#include "core/dtype.h"
#include "perf/loop/bench.h"

enum { HOPELESS = 10 }; /* a call that takes this many times the bound: leave out larger ones */

static int make_row(struct bench *bench, struct perf_row *row, uint64_t *call_ns_out)
{
    if (bench->options.check) {
        bench->pattern = perf_pattern_create(&bench->call, bench->world.ranks);
        if (bench->pattern == NULL) {
            perror(bench->backend->name);
            return -1;
        }
    }
    perf_bench_place(bench);
    int rc = perf_bench_measure(bench, row, call_ns_out);
    perf_pattern_destroy(bench->pattern);
    bench->pattern = NULL;
    return rc;
}

/* Returns 1 when the call failed or a result was wrong. */
static int run_size(struct bench *bench, uint64_t *call_ns_out)
{
    struct perf_row row = {.call = &bench->call,
                           .in_place = bench->options.in_place,
                           .checked = bench->options.check,
                           .symmetric = bench->options.symmetric,
                           .rotates = bench->options.root == PERF_ROTATE,
                           .bytes = bench->bytes,
                           .binding = perf_start_binding(bench->start)};
    int rc = make_row(bench, &row, call_ns_out);
    if (rc == 0 && bench->world.rank == 0) {
        bench->backend->describe(&bench->call, row.algorithm, row.transport);
        int failed = perf_report_row(&bench->world, &row, bench->options.json);
        if (failed) { /* the others go on, and so does this rank */
            fprintf(stderr, "%s: cannot write %s: %s\n", bench->backend->name, bench->options.json,
                    strerror(failed));
            bench->options.json = NULL;
            bench->unwritten = 1;
        }
    }
    return rc != 0 || row.wrong > 0;
}

static int is_lacking(const struct bench *bench)
{
    const char *why = bench->backend->lacks(&bench->call);
    if (bench->world.rank == 0 && why != NULL)
        printf("# not measured: %s\n", why);
    return why != NULL;
}

static int run_work(struct bench *bench, const struct perf_work *work)
{
    size_t size = manta_dtype_size(bench->options.dtype);
    int bad = 0;
    bench->call = (struct perf_call){
        .collective = work->collective, .dtype = bench->options.dtype, .op = bench->options.op};
    if (is_lacking(bench))
        return 0;
    if (bench->world.rank == 0)
        perf_report_table(&bench->options, work->collective);
    for (int i = 0; i < work->size_count && !bad; i++) {
        uint64_t call_ns;
        bench->call.count = work->sizes[i] / size;
        bench->bytes = bench->call.count * size;
        if (bench->call.count == 0 && work->collective != MANTA_BARRIER)
            continue;
        if (is_lacking(bench))
            break;
        bad = run_size(bench, &call_ns);
        /* All ranks have heard the same time. */
        if (bench->options.iterations == 0 && !bad && i + 1 < work->size_count &&
            call_ns / HOPELESS > bench->options.bound_ns) {
            if (bench->world.rank == 0)
                printf("# larger sizes are left out: a call takes %.1f s\n", (double)call_ns / 1e9);
            break;
        }
    }
    return bad;
}

static int run_all(struct bench *bench)
{
    int bad = 0;
    if (bench->options.root >= bench->world.ranks) {
        if (bench->world.rank == 0)
            fprintf(stderr, "%s: --root must be below the number of ranks, %d\n",
                    bench->backend->name, bench->world.ranks);
        return PERF_USAGE;
    }
    if (bench->options.symmetric && bench->backend->allocate == NULL) {
        if (bench->world.rank == 0)
            printf("# not measured: this library has no symmetric memory\n");
        return 0;
    }
    bad = perf_bench_map(bench) != 0 ||
          perf_start_open(bench->backend, &bench->world, &bench->start) != 0;
    if (!bad && bench->world.rank == 0)
        perf_report_head(bench->backend, &bench->world, bench->start);
    for (int i = 0; i < bench->options.work_count && !bad; i++)
        bad = run_work(bench, &bench->options.works[i]);
    perf_start_close(bench->start);
    perf_bench_unmap(bench);
    return bad || bench->unwritten;
}

int perf_main(const struct perf_backend *backend, int argc, char **argv)
{
    struct bench bench = {.backend = backend};
    perf_options_parse(&bench.options, backend->name, argc, argv);
    if (backend->open(&bench.world) != 0)
        return 1;
    int bad = run_all(&bench);
    backend->close();
    fflush(stdout); /* what called this may not end by exit() */
    return bad;
}
