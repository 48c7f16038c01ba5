/* SPDX-License-Identifier: Apache-2.0 */
/* The trace of a simulation in Chrome's JSON: a process for each node, a thread for each rank. */
#include "tools/manta/simulate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct trace {
    FILE *file;
    const struct mt_topology *topology;
    const struct manta_plan *const *plans;
    const char *path;
};

static int complain(const char *path)
{
    fprintf(stderr, "manta simulate: cannot write %s: %s\n", path, strerror(errno));
    return -1;
}

int trace_open(const char *path, const struct mt_topology *topology,
               const struct manta_plan *const *plans, struct trace **trace_out)
{
    struct trace *trace = calloc(1, sizeof *trace);
    *trace_out = NULL;
    if (trace == NULL)
        return complain(path);
    *trace = (struct trace){fopen(path, "w"), topology, plans, path};
    if (trace->file == NULL) {
        free(trace);
        return complain(path);
    }
    fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n", trace->file);
    for (uint32_t r = 0; r < topology->ranks; r++) {
        uint32_t node = topology->group[MT_LEVEL_NODE][r];
        fprintf(trace->file,
                "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%u,\"args\":{\"name\":\"node "
                "%u\"}},\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%u,\"tid\":%u,"
                "\"args\":{\"name\":\"rank %u\"}}%s\n",
                node, node, node, r, r, r + 1 < topology->ranks ? "," : "");
    }
    *trace_out = trace;
    return 0;
}

void trace_slice(struct trace *trace, const struct mt_simulate_slice *slice)
{
    static const char *const kinds[] = {"send to", "recv from", "copy", "reduce", "fused"};
    const struct manta_plan_step *step = &trace->plans[slice->rank]->steps[slice->step];
    uint64_t lasted_ns = slice->end_ns - slice->begin_ns;
    char peer[16] = "";
    if (step->peer != MANTA_PLAN_NONE)
        snprintf(peer, sizeof peer, " %u", step->peer);
    fprintf(trace->file,
            ",{\"ph\":\"X\",\"name\":\"%s%s\",\"pid\":%u,\"tid\":%u,\"ts\":%" PRIu64 ".%03" PRIu64
            ",\"dur\":%" PRIu64 ".%03" PRIu64 ",\"args\":{\"step\":%u,\"segment\":%u}}\n",
            kinds[step->kind], peer, trace->topology->group[MT_LEVEL_NODE][slice->rank],
            slice->rank, slice->begin_ns / 1000, slice->begin_ns % 1000, lasted_ns / 1000,
            lasted_ns % 1000, slice->step, slice->segment);
}

int trace_close(struct trace *trace)
{
    const char *path = trace->path;
    fputs("]}\n", trace->file);
    int failed = ferror(trace->file);
    failed |= fclose(trace->file) != 0;
    free(trace);
    return failed ? complain(path) : 0;
}
