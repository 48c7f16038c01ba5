/* SPDX-License-Identifier: Apache-2.0 */
/* What a call would do, in words. */
#include <stdarg.h>
#include <stdio.h>

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

int manta_explain(struct manta_comm *comm, int collective, uint64_t count, int dtype, int op,
                  int root, char *text, size_t text_bytes)
{
    struct mt_select_candidate candidates[16];
    struct mt_error error;
    uint32_t found;
    const char *forced;
    if (!comm || !text || text_bytes == 0 || collective < 0 ||
        collective >= MANTA_COLLECTIVE_COUNT || manta_dtype_size(dtype) == 0)
        return MANTA_EINVAL;
    int rc = mt_comm_enter(comm);
    if (rc)
        return rc;
    const struct mt_arguments arguments = {
        .collective = (uint32_t)collective,
        .root = (uint32_t)root,
        .count = count,
        .dtype = (uint32_t)dtype,
        .op = (uint32_t)op,
    };
    struct writer w = {.text = text, .room = text_bytes};
    rc = mt_choose_candidates(comm, &arguments, candidates, 16, &found, &forced, &error);
    if (rc) {
        mt_comm_set_error(comm, &error);
    } else {
        write_text(&w, "%s of %llu %s over %u ranks\n", mt_collective_name(collective),
                   (unsigned long long)count, mt_dtype_name(dtype), comm->ranks);
        for (uint32_t i = 0; i < found; i++) {
            const struct mt_select_candidate *c = &candidates[i];
            if (c->excluded)
                write_text(&w, "  %-20s not possible: %s\n", c->algorithm->name, c->excluded);
            else
                write_text(&w, "  %-20s %10.1f us predicted%s\n", c->algorithm->name,
                           (double)c->predicted_ns / 1000, i == 0 && !forced ? ", chosen" : "");
        }
        if (forced)
            write_text(&w, "  chosen by override: %s\n", forced);
        write_routes(&w, comm);
    }
    mt_comm_leave(comm);
    return rc;
}
