/* SPDX-License-Identifier: Apache-2.0 */
/* What a call would do, in words. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "collectives/comm.h"
#include "core/dtype.h"

struct writer {
    char *text;
    size_t room, used;
};

__attribute__((format(printf, 2, 3))) static void write_text(struct writer *w, const char *format,
                                                             ...)
{
    va_list arguments;
    if (w->used >= w->room)
        return;
    va_start(arguments, format);
    int length = vsnprintf(w->text + w->used, w->room - w->used, format, arguments);
    va_end(arguments);
    if (length > 0)
        w->used += (size_t)length;
}

static void write_routes(struct writer *w, const struct manta_comm *comm)
{
    struct mt_path paths[MT_PATHS];
    uint32_t count = mt_paths_find(comm, paths);
    for (uint32_t i = 0; i < count; i++) {
        char text[MT_PATH_TEXT];
        mt_path_describe(&paths[i], text);
        write_text(w, "  %s\n", text);
    }
}

/* ", 12.3 us measured" where feedback did. */
static const char *measured_text(const struct manta_comm *comm,
                                 const struct mt_algorithm *algorithm, uint64_t bytes,
                                 char text[48])
{
    uint64_t ns = mt_feedback_ns(comm, algorithm, bytes);
    text[0] = '\0';
    if (ns)
        snprintf(text, 48, ", %.1f us measured", (double)ns / 1000);
    return text;
}

/* An algorithm a line, and what becomes of the call. */
static void write_candidates(struct writer *w, const struct manta_comm *comm, uint64_t bytes,
                             const struct mt_select_candidate *candidates, uint32_t count,
                             const char *forced)
{
    char measured[48];
    int chosen = mt_select_pick(candidates, count, forced);
    const struct mt_algorithm *runs = chosen >= 0 ? candidates[chosen].algorithm : NULL;
    if (!forced && count && mt_choose_known(comm, candidates[0].algorithm->collective, bytes))
        runs = mt_choose_known(comm, candidates[0].algorithm->collective, bytes);
    for (uint32_t i = 0; i < count; i++) {
        const struct mt_select_candidate *c = &candidates[i];
        const char *mark = forced ? ", chosen by override" : ", chosen";
        if (c->excluded)
            write_text(w, "  %-20s not possible: %s\n", c->algorithm->name, c->excluded);
        else
            write_text(w, "  %-20s %10.1f us predicted%s%s\n", c->algorithm->name,
                       (double)c->predicted_ns / 1000,
                       measured_text(comm, c->algorithm, bytes, measured),
                       c->algorithm == runs ? mark : "");
    }
    if (chosen >= 0 && !forced && runs == candidates[0].algorithm && candidates[0].slow_ns)
        write_text(w, "  nobody knows the network's speed (manta tune measures it): the choice is "
                      "good at 1 Gbit/s, too\n");
    if (chosen < 0 && forced)
        write_text(w, "  refused: the override asks for %s, so the call gives MANTA_EALGORITHM\n",
                   forced);
    else if (chosen < 0)
        write_text(w, "  refused: nothing can run it, so the call gives MANTA_EALGORITHM\n");
}

/* The plan is one fused step: its transport tells. */
static int describe_fused(struct manta_comm *comm, const struct mt_arguments *arguments,
                          struct mt_entry *entry, char *text, size_t text_bytes)
{
    const struct mt_endpoint *endpoint = &comm->endpoints[comm->fused_endpoint];
    const struct manta_plan *plan = entry->plan;
    const struct manta_request request = {.comm = comm,
                                          .entry = entry,
                                          .count = arguments->count,
                                          .dtype = arguments->dtype,
                                          .op = arguments->op,
                                          .element_bytes = arguments->element_bytes};
    uint64_t *offsets = malloc(((size_t)plan->blocks + 1) * sizeof(*offsets));
    if (!offsets)
        return MANTA_ENOMEM;
    const struct manta_transport_fused_call call = mt_shape_fused(&request, offsets);
    int rc = endpoint->transport->fused_memory(endpoint->handle, &call, text, text_bytes);
    free(offsets);
    return rc;
}

/* Whether symmetric memory is worth the trouble in this call. */
static int write_memory(struct writer *w, struct manta_comm *comm,
                        const struct mt_arguments *arguments, const struct mt_algorithm *algorithm)
{
    struct mt_entry *entry;
    struct mt_error error;
    char text[256] = "symmetric memory is as good as any other: only fused steps read it in place";
    if (arguments->collective == MANTA_BARRIER || arguments->count == 0)
        return 0;
    int rc = mt_cache_get(comm, algorithm, arguments, 0, &entry, &error);
    if (rc) {
        mt_comm_set_error(comm, &error);
        return rc;
    }
    if (entry->direct == MT_DIRECT_FUSED &&
        comm->endpoints[comm->fused_endpoint].transport->fused_memory)
        rc = describe_fused(comm, arguments, entry, text, sizeof(text));
    else if (entry->plan->fused_count > 0)
        snprintf(text, sizeof(text), "symmetric memory may be read in place, in fused steps");
    if (rc == 0)
        write_text(w, "  %s\n", text);
    return rc;
}

static int explain(struct manta_comm *comm, struct mt_arguments *arguments, struct writer *w)
{
    struct mt_select_candidate candidates[MT_SELECT_CANDIDATES];
    struct mt_error error;
    uint32_t count;
    const char *forced;
    int rc = mt_arguments_check(comm, arguments);
    if (rc)
        return rc;
    rc = mt_choose_candidates(comm, arguments, candidates, MT_SELECT_CANDIDATES, &count, &forced,
                              &error);
    if (rc) {
        mt_comm_set_error(comm, &error);
        return rc;
    }
    write_text(w, "%s", mt_collective_name((int)arguments->collective));
    if (arguments->collective != MANTA_BARRIER)
        write_text(w, " of %llu %s", (unsigned long long)arguments->count,
                   mt_dtype_name((int)arguments->dtype));
    write_text(w, " over %u ranks", comm->ranks);
    if (comm->cost.crowd > 1)
        write_text(w, ", %u for each CPU", comm->cost.crowd);
    write_text(w, "\n");
    write_candidates(w, comm, arguments->count * arguments->element_bytes, candidates, count,
                     forced);
    write_routes(w, comm);
    int chosen = mt_select_pick(candidates, count, forced);
    return chosen < 0 ? 0 : write_memory(w, comm, arguments, candidates[chosen].algorithm);
}

int manta_explain(struct manta_comm *comm, int collective, uint64_t count, int dtype, int op,
                  int root, char *text, size_t text_bytes)
{
    struct mt_arguments arguments = {
        .collective = (uint32_t)collective,
        .root = (uint32_t)root,
        .count = count,
        .dtype = (uint32_t)dtype,
        .op = (uint32_t)op,
    };
    struct writer w = {.text = text, .room = text_bytes};
    if (!comm || !text || text_bytes == 0 || collective < 0 || collective >= MANTA_COLLECTIVE_COUNT)
        return MANTA_EINVAL;
    if (collective == MANTA_BARRIER) { /* its token */
        arguments.count = 1;
        arguments.dtype = MANTA_UINT8;
    }
    int rc = mt_comm_enter(comm);
    if (rc)
        return rc;
    rc = explain(comm, &arguments, &w);
    mt_comm_leave(comm);
    return rc;
}
