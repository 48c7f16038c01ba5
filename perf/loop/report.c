/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/loop/perf.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include <manta/manta.h>

#include "core/dtype.h"

void perf_report_head(const struct perf_backend *backend, const struct perf_world *world,
                      const struct perf_start *start)
{
    printf("# %s: %d ranks on %d node%s, %ld CPUs, line %u ns, started %s\n", backend->name,
           world->ranks, world->nodes, world->nodes == 1 ? "" : "s", sysconf(_SC_NPROCESSORS_ONLN),
           perf_start_line_ns(start),
           perf_start_is_shared(start) ? "by shared memory" : "by barrier");
}

void perf_report_table(const struct perf_options *options, int collective)
{
    printf("# %s %s %s%s; times in us, bandwidths in GB/s\n", mt_collective_name(collective),
           mt_dtype_name(options->dtype), mt_op_name(options->op),
           options->in_place ? ", in place" : "");
    printf("# %10s %10s %-20s %9s %9s %9s %9s %9s %7s %7s %6s\n", "bytes", "count", "algorithm",
           "min", "p50", "avg", "p99", "max", "algbw", "busbw", "wrong");
}

static void print_json(const struct perf_world *world, const struct perf_row *row, const char *path)
{
    char wrong[24] = "null"; /* not looked at */
    FILE *file = fopen(path, "ae");
    if (file == NULL) {
        perror(path);
        return;
    }
    if (row->checked)
        snprintf(wrong, sizeof wrong, "%" PRIu64, row->wrong);
    fprintf(file,
            "{\"coll\": \"%s\", \"np\": %d, \"nodes\": %d, \"bytes\": %" PRIu64
            ", \"count\": %" PRIu64 ", \"dtype\": \"%s\", \"op\": \"%s\", \"in_place\": %d, "
            "\"algorithm\": \"%s\", \"transport\": \"%s\", \"min_us\": %.3f, \"p50_us\": %.3f, "
            "\"avg_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f, \"algbw_GBs\": %.4f, "
            "\"busbw_GBs\": %.4f, \"wrong\": %s}\n",
            mt_collective_name(row->call->collective), world->ranks, world->nodes, row->bytes,
            row->call->count, mt_dtype_name(row->call->dtype), mt_op_name(row->call->op),
            row->in_place, row->algorithm, row->transport, row->min_us, row->p50_us, row->avg_us,
            row->p99_us, row->max_us, row->algbw, row->busbw, wrong);
    if (fclose(file) != 0)
        perror(path);
}

void perf_report_row(const struct perf_world *world, const struct perf_row *row, const char *json)
{
    char wrong[24] = "-";
    if (row->checked)
        snprintf(wrong, sizeof wrong, "%" PRIu64, row->wrong);
    printf("  %10" PRIu64 " %10" PRIu64 " %-20s %9.2f %9.2f %9.2f %9.2f %9.2f %7.3f %7.3f %6s\n",
           row->bytes, row->call->count, row->algorithm, row->min_us, row->p50_us, row->avg_us,
           row->p99_us, row->max_us, row->algbw, row->busbw, wrong);
    fflush(stdout);
    if (json != NULL)
        print_json(world, row, json);
}
