/* SPDX-License-Identifier: Apache-2.0 */
/* What would be chosen for a call, from the catalogue and the cost model alone: no rank runs. */
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

static const char help[] =
    "usage: manta explain --coll NAME -n RANKS [options]\n"
    "Tell which algorithm would run a call and what all of them are predicted to cost.\n"
    "  --coll NAME     allreduce, broadcast, reduce, allgather, reduce_scatter, barrier, send, "
    "recv\n"
    "  -n, --ranks N   number of ranks\n"
    "  --bytes SIZE    of one rank's vector: 4, 64k, 1M (default 1M)\n"
    "  --nodes NODES   nodes that the ranks are spread over, or the ranks of each of them: 2, 2x4, "
    "3+1\n"
    "                  (default 1)\n"
    "  --dtype NAME    default float32\n"
    "  --op NAME       default sum\n"
    "  --root RANK     of broadcast and reduce (default 0)\n"
    "  --peer RANK     of rank 0's send or recv (default 1)\n"
    "MANTA_ALLREDUCE and its like, MANTA_SEGMENT, MANTA_REPRODUCIBLE and MANTA_TUNING count as in "
    "a\n"
    "run.\n"
    "A running communicator is explained by manta_explain() instead.\n";

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

static void print_table(const struct mt_select_candidate *candidates, uint32_t count, int chosen)
{
    printf("   %-20s %14s   %s\n", "algorithm", "predicted", "source");
    for (uint32_t i = 0; i < count; i++) {
        const struct mt_select_candidate *candidate = &candidates[i];
        const char *source = candidate->algorithm->source;
        if (candidate->excluded == NULL)
            printf("%s  %-20s %11.2f us   %s\n", (int)i == chosen ? "*" : " ",
                   candidate->algorithm->name, (double)candidate->predicted_ns / 1000,
                   source != NULL ? source : "");
    }
    for (uint32_t i = 0; i < count; i++)
        if (candidates[i].excluded != NULL)
            printf("   %-20s %14s   not possible: %s\n", candidates[i].algorithm->name, "-",
                   candidates[i].excluded);
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
    int chosen = mt_select_pick(candidates, count, forced);
    if (chosen < 0 && forced != NULL)
        printf("The override asks for '%s', which cannot run this call: it would fail with "
               "MANTA_EALGORITHM.\n\n",
               forced);
    else if (chosen < 0)
        printf("Nothing can run this call: it would fail with MANTA_EALGORITHM.\n\n");
    print_table(candidates, count, chosen);
    if (chosen >= 0)
        printf("\n* runs: %s\n", forced != NULL ? "named by the override in the environment"
                                                : "the cost model's best");
    return chosen >= 0 ? 0 : EXIT_PROBLEM;
}

int command_explain(int argc, char **argv)
{
    struct call_options options;
    struct mt_settings settings;
    struct mt_error error;
    int rc = call_options_parse(&options, "explain", "coll bytes ranks nodes dtype op root peer",
                                help, argc, argv);
    if (rc != 0)
        return rc > 0 ? 0 : EXIT_USAGE;
    if (options.collective == MANTA_BARRIER)
        options.bytes = 1; /* its token */
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
