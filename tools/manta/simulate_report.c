/* SPDX-License-Identifier: Apache-2.0 */
/* What manta simulate prints. */
#include "tools/manta/simulate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "core/dtype.h"
#include "tools/manta/topo.h"

void link_describe(const struct mt_link_name *name, char *text, size_t text_bytes)
{
    const char *level = mt_level_name(name->level);
    switch (name->kind) {
    case MT_LINK_CORE:
        snprintf(text, text_bytes, "rank %u's core", name->index);
        break;
    case MT_LINK_OUT:
        snprintf(text, text_bytes, "rank %u's way out", name->index);
        break;
    case MT_LINK_IN:
        snprintf(text, text_bytes, "rank %u's way in", name->index);
        break;
    case MT_LINK_MEMORY:
        snprintf(text, text_bytes, "node %u's memory", name->index);
        break;
    case MT_LINK_UP:
        snprintf(text, text_bytes, "%s %u's uplink, out", level, name->index);
        break;
    case MT_LINK_DOWN:
        snprintf(text, text_bytes, "%s %u's uplink, in", level, name->index);
        break;
    }
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* "nodes of one rack": who meets at a level. Of levels that are alike, in a node or above, the
 * largest, which manta topo names too. */
static void describe_meeting(const struct mt_topology *topology, int level, char *text,
                             size_t text_bytes)
{
    const char *below = level <= MT_LEVEL_L3 ? "rank" : topo_level_name((enum mt_level)(level - 1));
    int above = level, most = level <= MT_LEVEL_NODE ? MT_LEVEL_NODE : MT_LEVEL_CLUSTER;
    while (above < most && topology->groups[above + 1] == topology->groups[above])
        above++;
    snprintf(text, text_bytes, "%ss of one %s", below, topo_level_name((enum mt_level)above));
}

static void describe_bound(const struct simulation *simulation, char *text, size_t text_bytes)
{
    const struct mt_bound *bound = &simulation->bound;
    char meeting[64];
    describe_meeting(simulation->topology, (int)bound->level, meeting, sizeof meeting);
    if (bound->kind == MT_BOUND_LINKS)
        snprintf(text, text_bytes, "what must leave or enter each %s",
                 topo_level_name(bound->level));
    else if (bound->kind == MT_BOUND_MEMORY)
        snprintf(text, text_bytes, "a node's memory");
    else
        snprintf(text, text_bytes, "one message between %s", meeting);
}

static double busy_part(const struct mt_simulate_result *result)
{
    return result->simulated_ns ? (double)result->busiest_ns / (double)result->simulated_ns : 0;
}

static void print_stuck(const struct simulated *one)
{
    printf("\n%s: %u rank%s left waiting for ever: %u for dead ones, %u for others that wait.\n",
           one->algorithm->name, one->result.stuck, plural(one->result.stuck), one->on_dead,
           one->in_turn);
    for (uint32_t i = 0; i < one->stuck_count; i++) {
        const struct stuck_rank *stuck = &one->stuck[i];
        if (stuck->on == MANTA_PLAN_NONE)
            printf("  rank %u waits\n", stuck->rank);
        else
            printf("  rank %u waits for rank %u:%s\n", stuck->rank, stuck->on, stuck->step);
    }
    if (one->stuck_count < one->result.stuck)
        printf("  ...\n");
}

static void print_details(const struct simulation *simulation, const struct simulated *one)
{
    const struct mt_simulate_result *result = &one->result;
    char text[96], meeting[64];
    printf("\n%s: %" PRIu64 " segment%s of %" PRIu64 " message%s", one->algorithm->name,
           result->segments, plural(result->segments), result->messages, plural(result->messages));
    if (result->segments_simulated < result->segments)
        printf("; %" PRIu64 " of them were simulated, the others follow at their rate",
               result->segments_simulated);
    if (result->ranks_simulated < simulation->options->ranks)
        printf("; of its ranks, %u %s simulated, the others do the same", result->ranks_simulated,
               result->ranks_simulated == 1 ? "was" : "were");
    printf("\n");
    for (int level = 0; level < MT_LEVELS; level++) {
        if (result->level_bytes[level] == 0)
            continue;
        format_bytes(result->level_bytes[level], text, sizeof text);
        describe_meeting(simulation->topology, level, meeting, sizeof meeting);
        printf("  between %-22s %12s\n", meeting, text);
    }
    link_describe(&result->busiest, text, sizeof text);
    printf("  busiest: %s, %.1f %% of the time\n", text, 100 * busy_part(result));
    describe_bound(simulation, text, sizeof text);
    if (simulation->bound.ns > 0)
        printf("  least possible: %.2f us, for %s\n", (double)simulation->bound.ns / 1000, text);
}

static void print_row(const struct simulated *one, int is_best)
{
    if (one->excluded[0])
        printf("   %-24s %14s   %s%s\n", one->algorithm->name, "-", one->is_wrong ? "wrong: " : "",
               one->excluded);
    else if (one->result.stuck)
        printf("   %-24s %14s   %u rank%s left waiting for ever\n", one->algorithm->name, "-",
               one->result.stuck, plural(one->result.stuck));
    else
        printf("%s  %-24s %11.2f us  %9.1f %%  %10.2f s\n", is_best ? "*" : " ",
               one->algorithm->name, (double)one->result.ns / 1000, 100 * one->efficiency,
               one->wall_s);
}

void report_text(const struct simulation *simulation)
{
    const struct call_options *options = simulation->options;
    const struct mt_topology *topology = simulation->topology;
    uint32_t nodes = topology->groups[MT_LEVEL_NODE], racks = topology->groups[MT_LEVEL_RACK];
    char size[32];
    format_bytes(options->bytes, size, sizeof size);
    printf("%s", mt_collective_name(options->collective));
    if (options->collective != MANTA_BARRIER)
        printf(" of %s", size);
    printf(", %u rank%s on %u node%s", options->ranks, plural(options->ranks), nodes,
           plural(nodes));
    if (racks > 1)
        printf(" in %u racks", racks);
    printf("\n\n");
    printf("   %-24s %14s  %11s  %12s\n", "algorithm", "time", "efficiency", "simulated in");
    for (uint32_t i = 0; i < simulation->count; i++)
        print_row(&simulation->list[i], i == 0);
    const struct simulated *best = &simulation->list[0];
    if (!best->excluded[0] && !best->result.stuck)
        print_details(simulation, best);
    for (uint32_t i = 0; i < simulation->count; i++)
        if (simulation->list[i].result.stuck)
            print_stuck(&simulation->list[i]);
}

static json_t *json_stuck(const struct simulated *one)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < one->stuck_count; i++)
        json_array_append_new(
            list, json_pack("{s:i,s:o,s:s}", "rank", (int)one->stuck[i].rank, "waits_for",
                            one->stuck[i].on == MANTA_PLAN_NONE ? json_null()
                                                                : json_integer(one->stuck[i].on),
                            "step", one->stuck[i].step));
    return list;
}

static json_t *json_of(const struct simulated *one)
{
    const struct mt_simulate_result *result = &one->result;
    json_t *object = json_pack("{s:s}", "algorithm", one->algorithm->name), *levels;
    char link[96];
    if (one->excluded[0]) {
        json_object_set_new(object, one->is_wrong ? "wrong" : "excluded",
                            json_string(one->excluded));
        return object;
    }
    levels = json_object();
    for (int level = 0; level < MT_LEVELS; level++)
        if (result->level_bytes[level] != 0)
            json_object_set_new(levels, mt_level_name((enum mt_level)level),
                                json_integer((json_int_t)result->level_bytes[level]));
    link_describe(&result->busiest, link, sizeof link);
    if (result->stuck)
        json_object_set_new(object, "ns", json_null());
    else
        json_object_set_new(object, "ns", json_integer((json_int_t)result->ns));
    json_object_update_new(
        object,
        json_pack("{s:f,s:i,s:I,s:I,s:I,s:I,s:o,s:s,s:f,s:i,s:o,s:f}", "efficiency",
                  one->efficiency, "ranks_simulated", (int)result->ranks_simulated, "segments",
                  (json_int_t)result->segments, "segments_simulated",
                  (json_int_t)result->segments_simulated, "messages", (json_int_t)result->messages,
                  "steps", (json_int_t)result->steps, "level_bytes", levels, "busiest", link,
                  "busiest_part", busy_part(result), "stuck_ranks", (int)result->stuck, "stuck",
                  json_stuck(one), "wall_s", one->wall_s));
    return object;
}

int report_json(const struct simulation *simulation)
{
    const struct call_options *options = simulation->options;
    json_t *list = json_array();
    char bound[96];
    for (uint32_t i = 0; i < simulation->count; i++)
        json_array_append_new(list, json_of(&simulation->list[i]));
    describe_bound(simulation, bound, sizeof bound);
    json_t *root = json_pack("{s:s,s:s,s:I,s:i,s:i,s:I,s:s,s:o}", "coll",
                             mt_collective_name(options->collective), "topology", options->topology,
                             "bytes", (json_int_t)options->bytes, "ranks", (int)options->ranks,
                             "nodes", (int)simulation->topology->groups[MT_LEVEL_NODE], "bound_ns",
                             (json_int_t)simulation->bound.ns, "bound", bound, "algorithms", list);
    int rc = root == NULL ? -1 : json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    json_decref(root);
    if (rc != 0)
        fprintf(stderr, "manta simulate: the result cannot be written as JSON\n");
    else
        putchar('\n');
    return rc;
}
