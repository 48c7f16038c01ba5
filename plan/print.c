/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/print.h"

#include <stdarg.h>
#include <string.h>

#include <manta/manta.h>

struct text {
    char *at;
    size_t bytes, used; /* used may exceed bytes: the rest is cut */
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *text, const char *format, ...)
{
    size_t room = text->used < text->bytes ? text->bytes - text->used : 0;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(room ? text->at + text->used : NULL, room, format, arguments);
    va_end(arguments);
    if (length > 0)
        text->used += (size_t)length;
}

/* src[2], dst[0..7], scratch1[5] (region 1; @origin when it is another block) */
static void add_location(struct text *text, const struct manta_plan_location *at)
{
    static const char *const names[] = {"src", "dst", "scratch"};
    add(text, "%s", at->buffer <= MANTA_PLAN_SCRATCH ? names[at->buffer] : "?");
    if (at->buffer == MANTA_PLAN_SCRATCH)
        add(text, "%u", at->region);
    if (at->count == 1)
        add(text, "[%u", at->first);
    else
        add(text, "[%u..%u", at->first, at->first + at->count - 1);
    if (at->origin != at->first)
        add(text, "@%u", at->origin);
    add(text, "]");
}

static void add_message(struct text *text, const struct manta_plan *plan,
                        const struct manta_plan_step *step, const char *verb, const char *relation)
{
    add(text, "%s", verb);
    for (uint32_t i = 0; i < step->location_count; i++) {
        add(text, " ");
        add_location(text, &plan->locations[step->location_first + i]);
    }
    add(text, " %s %u #%u", relation, step->peer, step->number);
}

static void add_fused(struct text *text, const struct manta_plan *plan,
                      const struct manta_plan_step *step)
{
    const struct manta_plan_fused *fused = &plan->fused[step->number];
    static const char *const names[] = {"allreduce",      "broadcast", "reduce", "allgather",
                                        "reduce_scatter", "barrier",   "send",   "recv"};
    add(text, "fused %s of %u members",
        fused->collective < MANTA_COLLECTIVE_COUNT ? names[fused->collective] : "?",
        fused->member_count);
    if (fused->root != MANTA_PLAN_NONE)
        add(text, ", root %u", fused->root);
    if (fused->member_count == plan->ranks)
        return;
    for (uint32_t i = 0; i < fused->member_count; i++)
        add(text, "%s%u", i ? " " : " (", fused->members[i].rank);
    add(text, "):");
    for (uint32_t i = 0; i < step->location_count; i++) {
        add(text, i ? ", " : " ");
        add_location(text, &plan->locations[step->location_first + i]);
    }
}

static void add_body(struct text *text, const struct manta_plan *plan,
                     const struct manta_plan_step *step)
{
    const struct manta_plan_location *at = plan->locations + step->location_first;
    switch (step->kind) {
    case MANTA_PLAN_SEND:
        add_message(text, plan, step, "send  ", "to");
        break;
    case MANTA_PLAN_RECV:
        add_message(text, plan, step, "recv  ", "from");
        break;
    case MANTA_PLAN_COPY:
    case MANTA_PLAN_REDUCE:
        add(text, "%s ", step->kind == MANTA_PLAN_COPY ? "copy  " : "reduce");
        add_location(text, &at[0]);
        add(text, " = ");
        add_location(text, &at[1]);
        if (step->kind == MANTA_PLAN_REDUCE) {
            add(text, " op ");
            add_location(text, &at[2]);
        }
        break;
    case MANTA_PLAN_FUSED:
        add_fused(text, plan, step);
        break;
    default:
        add(text, "unknown kind %u", step->kind);
    }
}

size_t mt_plan_describe(const struct manta_plan *plan, uint32_t step, char *text, size_t text_bytes)
{
    struct text out = {text, text_bytes, 0};
    const struct manta_plan_step *at = &plan->steps[step];
    add(&out, "%3u ", step);
    if (plan->lanes > 1)
        add(&out, "lane %u ", at->lane);
    add_body(&out, plan, at);
    for (uint32_t i = 0; i < at->depend_count; i++)
        add(&out, "%s%u", i ? ", " : "  after ", plan->depends[at->depend_first + i]);
    if (text_bytes && !out.used)
        text[0] = '\0';
    return out.used;
}

int mt_plan_print(const struct manta_plan *plan, FILE *stream)
{
    char line[1024];
    fprintf(stream, "rank %u of %u: %s, %u %s%s", plan->rank, plan->ranks, plan->algorithm,
            plan->blocks, plan->blocks == 1 ? "block" : "blocks",
            plan->layout == MANTA_PLAN_RANKS ? " over all ranks" : "");
    if (plan->root != MANTA_PLAN_NONE)
        fprintf(stream, ", root %u", plan->root);
    fprintf(stream, "%s\n", plan->in_place ? ", in place" : "");
    for (uint32_t i = 0; i < plan->step_count; i++) {
        mt_plan_describe(plan, i, line, sizeof(line));
        fprintf(stream, "%s\n", line);
    }
    for (uint32_t i = 0; i < plan->region_count; i++)
        fprintf(stream, "    scratch%u holds %u %s\n", i, plan->regions[i].block_count,
                plan->regions[i].block_count == 1 ? "block" : "blocks");
    return ferror(stream) ? MANTA_ESYSTEM : 0;
}
