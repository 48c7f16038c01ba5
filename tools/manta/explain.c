/* SPDX-License-Identifier: Apache-2.0 */
/* What would be chosen for a call: from the catalogue and the cost model alone, where no rank runs,
 * or with what each algorithm takes on ranks that mantarun has started. */
#include "tools/manta/manta.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "collectives/comm.h"
#include "core/dtype.h"
#include "plan/cost.h"
#include "plan/select.h"
#include "tools/manta/measure.h"

static const char help[] =
    "usage: manta explain --coll NAME -n RANKS [options]\n"
    "Tell which algorithm would run a call and what all of them are predicted to cost.\n"
    "  --coll NAME     allreduce, broadcast, reduce, allgather, reduce_scatter, barrier, send, "
    "recv\n"
    "  -n, --ranks N   number of ranks\n"
    "  --bytes SIZE    of one rank's vector: 4, 64k, 1M (default 1M)\n"
    "  --nodes NODES   nodes that the ranks are spread over, or the ranks of each of them, or a\n"
    "                  letter for each rank's: 2, 2x4, 3+1, abab (default 1)\n"
    "  --dtype NAME    default float32\n"
    "  --op NAME       default sum\n"
    "  --root RANK     of broadcast and reduce (default 0)\n"
    "  --peer RANK     of rank 0's send or recv (default 1)\n"
    "  --measure       run each algorithm, and tell what it took the slowest rank, too\n"
    "Under mantarun, leave out -n and --nodes: it tells of the ranks that there are, with their "
    "nodes\n"
    "and transports. MANTA_ALLREDUCE and its like, MANTA_SEGMENT, MANTA_REPRODUCIBLE and\n"
    "MANTA_TUNING count as in a run. A program asks manta_explain() of its communicator instead.\n"
    "Exit code 1 if the call would be refused, or nothing can be told, 2 for wrong usage.\n";

static int has_op(int collective)
{
    return collective == MANTA_ALLREDUCE || collective == MANTA_REDUCE ||
           collective == MANTA_REDUCE_SCATTER;
}

static void print_head(const struct call_options *options)
{
    char size[32];
    uint64_t count = options->bytes / manta_dtype_size(options->dtype);
    format_bytes(options->bytes, size, sizeof size);
    printf("%s", mt_collective_name(options->collective));
    if (options->collective != MANTA_BARRIER)
        printf(" of %s (%" PRIu64 " %s%s%s)", size, count, mt_dtype_name(options->dtype),
               has_op(options->collective) ? ", " : "",
               has_op(options->collective) ? mt_op_name(options->op) : "");
    printf(", %u rank%s on %u node%s", options->ranks, options->ranks == 1 ? "" : "s",
           options->nodes, options->nodes == 1 ? "" : "s");
    if (options->collective == MANTA_BROADCAST || options->collective == MANTA_REDUCE)
        printf(", root %d", options->root);
    else if (options->collective == MANTA_SEND || options->collective == MANTA_RECV)
        printf(", between rank 0 and rank %u", call_options_root(options));
    printf("\n\n");
}

/* measured: or NULL. */
static void print_table(const struct mt_select_candidate *candidates, uint32_t count, int chosen,
                        const struct measurement *measured)
{
    printf("   %-22s %14s", "algorithm", "predicted");
    printf(measured != NULL ? " %14s   %s\n" : "%s   %s\n", measured != NULL ? "measured" : "",
           "source");
    for (uint32_t i = 0; i < count; i++) {
        const struct mt_select_candidate *candidate = &candidates[i];
        const char *source = candidate->algorithm->source;
        if (candidate->excluded != NULL)
            continue;
        printf("%s  %-22s %11.2f us", (int)i == chosen ? "*" : " ", candidate->algorithm->name,
               (double)candidate->predicted_ns / 1000);
        if (measured != NULL)
            printf(" %11.2f us", (double)measured->ns[i] / 1000);
        printf("   %s\n", source != NULL ? source : "");
    }
    for (uint32_t i = 0; i < count; i++)
        if (candidates[i].excluded != NULL)
            printf("   %-22s %14s   not possible: %s\n", candidates[i].algorithm->name, "-",
                   candidates[i].excluded);
}

/* Why the first of the list runs: it need not be the one of the lowest price. */
static const char *why_first(const struct mt_select_candidate *candidates, uint32_t count)
{
    int is_lowest = 1;
    for (uint32_t i = 1; i < count && candidates[i].excluded == NULL; i++)
        is_lowest &= candidates[i].predicted_ns >= candidates[0].predicted_ns;
    if (is_lowest)
        return "the cost model's best";
    if (candidates[0].slow_ns != 0)
        return "nobody knows the network's speed (manta tune measures it), and this is good both "
               "if it is\n  fast, as predicted, and at 1 Gbit/s";
    return "within 5 % of the cost model's best, and picked by its number of messages";
}

/* Where the network's speed is not known, plans are weighed at 1 Gbit/s, too. */
static int is_weighed_twice(const struct mt_select_candidate *candidates, uint32_t count)
{
    int is_sorted = 1;
    for (uint32_t i = 2; i < count && candidates[i].excluded == NULL; i++)
        is_sorted &= candidates[i].predicted_ns >= candidates[i - 1].predicted_ns;
    return !is_sorted && candidates[0].slow_ns != 0;
}

static int print_verdict(const struct mt_select_candidate *candidates, uint32_t count,
                         const char *forced, const struct measurement *measured)
{
    int chosen = mt_select_pick(candidates, count, forced);
    if (chosen < 0 && forced != NULL)
        printf("The override asks for '%s', which cannot run this call: it would fail with "
               "MANTA_EALGORITHM.\n\n",
               forced);
    else if (chosen < 0)
        printf("Nothing can run this call: it would fail with MANTA_EALGORITHM.\n\n");
    print_table(candidates, count, chosen, measured);
    if (measured != NULL && measured->doubt[0])
        printf("\nDo not trust what was measured: %s.\n", measured->doubt);
    if (is_weighed_twice(candidates, count))
        printf("\nin the order of how many times slower than the best they are, as predicted or at "
               "1 Gbit/s,\nwhichever is more: nobody knows the network's speed\n");
    if (chosen >= 0)
        printf("\n* runs: %s\n", forced != NULL ? "named by the override in the environment"
                                                : why_first(candidates, count));
    return chosen >= 0 ? 0 : EXIT_PROBLEM;
}

static int explain(const struct call_options *options, const struct mt_settings *settings,
                   struct mt_topology *topology)
{
    struct mt_cost_model cost;
    struct mt_select_candidate candidates[MT_SELECT_CANDIDATES];
    struct mt_error error;
    uint32_t count;
    mt_cost_defaults(&cost, topology, settings->segment_bytes);
    mt_tuning_apply(&settings->tuning, topology, &cost);
    const struct mt_select_context context = {
        .ranks = options->ranks,
        .fused_available = options->nodes == 1 && strstr(settings->transports, "shm") != NULL,
        .reproducible = (uint32_t)settings->reproducible,
        .cost = &cost,
        .catalogue = mt_catalogue,
    };
    const struct mt_plan_request request = {
        .collective = (uint32_t)options->collective,
        .ranks = options->ranks,
        .root = call_options_root(options),
        .topology = topology,
        .fuses = strstr(settings->transports, "shm") != NULL,
    };
    if (mt_select(&context, &request, options->bytes, candidates, MT_SELECT_CANDIDATES, &count,
                  &error) != 0) {
        fprintf(stderr, "manta explain: %s\n", error.sentence);
        return EXIT_PROBLEM;
    }
    const char *forced =
        mt_select_forced(&settings->overrides[options->collective], options->bytes);
    return print_verdict(candidates, count, forced, NULL);
}

/* The same of the ranks that there are, measured if that is asked for; rank 0 speaks. */
static int explain_running(struct call_options *options)
{
    struct mt_select_candidate candidates[MT_SELECT_CANDIDATES];
    struct measurement measured;
    struct manta_comm *comm;
    uint32_t count;
    const char *forced;
    struct mt_error error = {0};
    if (manta_comm_create(NULL, &comm) != 0)
        return EXIT_PROBLEM; /* it has said why */
    const struct mt_arguments arguments = {
        .collective = (uint32_t)options->collective,
        .root = call_options_root(options),
        .count = options->collective == MANTA_BARRIER
                     ? 1
                     : options->bytes / manta_dtype_size(options->dtype),
        .dtype = (uint32_t)(options->collective == MANTA_BARRIER ? MANTA_UINT8 : options->dtype),
        .op = (uint32_t)options->op,
    };
    int rc = mt_choose_candidates(comm, &arguments, candidates, MT_SELECT_CANDIDATES, &count,
                                  &forced, &error);
    if (rc == 0 && options->measure)
        rc = measure_candidates(comm, &arguments, candidates, count, &measured, &error);
    if (rc != 0)
        fprintf(stderr, "manta explain: %s\n", error.sentence);
    options->nodes = comm->topology->groups[MT_LEVEL_NODE];
    if (rc == 0 && comm->rank == 0) {
        print_head(options);
        rc = print_verdict(candidates, count, forced, options->measure ? &measured : NULL);
    }
    manta_comm_destroy(comm);
    return rc != 0 ? EXIT_PROBLEM : 0;
}

int command_explain(int argc, char **argv)
{
    struct call_options options;
    struct mt_settings settings;
    struct mt_error error;
    int rc = call_options_parse(
        &options, "explain", "coll bytes ranks nodes dtype op root peer measure", help, argc, argv);
    if (rc != 0)
        return rc > 0 ? 0 : EXIT_USAGE;
    if (options.collective == MANTA_BARRIER)
        options.bytes = 1; /* its token */
    if (options.running)
        return explain_running(&options);
    if (mt_settings_read(NULL, &settings, &error) != 0) {
        fprintf(stderr, "manta explain: %s\n", error.sentence);
        return EXIT_PROBLEM;
    }
    struct mt_topology *topology = NULL;
    uint64_t *nodes = call_options_nodes(&options);
    if (nodes != NULL && mt_topology_of_nodes(options.ranks, nodes, &topology) == 0) {
        print_head(&options);
        rc = explain(&options, &settings, topology);
    } else {
        fprintf(stderr, "manta explain: no memory for %u ranks\n", options.ranks);
        rc = EXIT_PROBLEM;
    }
    mt_topology_free(topology);
    free(nodes);
    return rc;
}
