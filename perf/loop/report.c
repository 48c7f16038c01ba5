/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/loop/perf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include <manta/manta.h>

#include "core/dtype.h"

void perf_report_head(const struct perf_backend *backend, const struct perf_world *world,
                      const struct perf_start *start)
{
    printf("# %s: %d ranks on %d node%s, %ld CPUs, bound to: %s, started %s\n", backend->name,
           world->ranks, world->nodes, world->nodes == 1 ? "" : "s", sysconf(_SC_NPROCESSORS_ONLN),
           perf_start_binding(start),
           perf_start_is_shared(start) ? "by shared memory" : "by barrier");
}

void perf_report_table(const struct perf_options *options, int collective)
{
    printf("# %s %s %s%s%s; times in us, bandwidths in GB/s, line in ns\n",
           mt_collective_name(collective), mt_dtype_name(options->dtype), mt_op_name(options->op),
           options->in_place ? ", in place" : "", options->symmetric ? ", symmetric memory" : "");
    printf("# %10s %10s %-20s %9s %9s %9s %9s %9s %9s %7s %7s %5s %6s\n", "bytes", "count",
           "algorithm", "min", "p50", "avg", "p99", "max", "b2b", "algbw", "busbw", "line",
           "wrong");
}

static int print_json(const struct perf_world *world, const struct perf_row *row, const char *path)
{
    char wrong[24] = "null", b2b[32] = "null", root[24] = "\"rotate\""; /* null: not looked at */
    FILE *file = fopen(path, "ae");
    if (file == NULL)
        return errno;
    if (row->checked)
        snprintf(wrong, sizeof wrong, "%" PRIu64, row->wrong);
    if (row->b2b_us > 0)
        snprintf(b2b, sizeof b2b, "%.3f", row->b2b_us);
    if (!row->rotates)
        snprintf(root, sizeof root, "%d", row->call->root);
    fprintf(file,
            "{\"coll\": \"%s\", \"np\": %d, \"nodes\": %d, \"bytes\": %" PRIu64
            ", \"count\": %" PRIu64 ", \"dtype\": \"%s\", \"op\": \"%s\", \"in_place\": %d, "
            "\"algorithm\": \"%s\", \"transport\": \"%s\", \"min_us\": %.3f, \"p50_us\": %.3f, "
            "\"avg_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f, \"algbw_GBs\": %.4f, "
            "\"busbw_GBs\": %.4f, \"wrong\": %s, ",
            mt_collective_name(row->call->collective), world->ranks, world->nodes, row->bytes,
            row->call->count, mt_dtype_name(row->call->dtype), mt_op_name(row->call->op),
            row->in_place, row->algorithm, row->transport, row->min_us, row->p50_us, row->avg_us,
            row->p99_us, row->max_us, row->algbw, row->busbw, wrong);
    fprintf(file,
            "\"root\": %s, \"memory\": \"%s\", \"iterations\": %" PRIu64 ", \"b2b_us\": %s, "
            "\"binding\": \"%s\", \"line_ns\": %u, \"line_after_ns\": %u}\n",
            root, row->symmetric ? "symmetric" : "private", row->iterations, b2b, row->binding,
            row->line_ns, row->line_after_ns);
    return fclose(file) != 0 ? errno : 0;
}

int perf_report_row(const struct perf_world *world, const struct perf_row *row, const char *json)
{
    char wrong[24] = "-", b2b[32] = "-";
    if (row->checked)
        snprintf(wrong, sizeof wrong, "%" PRIu64, row->wrong);
    if (row->b2b_us > 0)
        snprintf(b2b, sizeof b2b, "%.2f", row->b2b_us);
    printf("  %10" PRIu64 " %10" PRIu64 " %-20s %9.2f %9.2f %9.2f %9.2f %9.2f %9s %7.3f %7.3f %5u "
           "%6s\n",
           row->bytes, row->call->count, row->algorithm, row->min_us, row->p50_us, row->avg_us,
           row->p99_us, row->max_us, b2b, row->algbw, row->busbw, row->line_ns, wrong);
    fflush(stdout);
    return json != NULL ? print_json(world, row, json) : 0;
}
