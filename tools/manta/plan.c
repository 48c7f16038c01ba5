/* SPDX-License-Identifier: Apache-2.0 */
/* An algorithm as the engine runs it: the records of each rank, after the verifier has looked. */
#include "tools/manta/manta.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "core/dtype.h"
#include "plan/print.h"
#include "plan/verify.h"
#include "tools/manta/progress.h"

static const char help[] =
    "usage: manta plan --coll NAME --algorithm NAME -n RANKS [options]\n"
    "Compile an algorithm for all ranks, prove it, and print what each rank does.\n"
    "  --coll NAME        the collective, as in manta explain\n"
    "  --algorithm NAME   one that manta info lists for it\n"
    "  -n, --ranks N      number of ranks\n"
    "  --nodes NODES      nodes that the ranks are spread over, or the ranks of each of them, or "
    "a\n"
    "                     letter for each rank's: 2, 2x4, 3+1, abab (default 1)\n"
    "  --plain            no transport fuses the steps of a node\n"
    "  --root RANK        of broadcast and reduce (default 0)\n"
    "  --rank RANK        print this rank only; of send and recv: the rank that calls (default "
    "0)\n"
    "  --peer RANK        of send and recv: the other rank (default 1, or 0 for other callers)\n"
    "Exit code 1 if there is no such plan, 2 for wrong usage.\n";

static void list_algorithms(uint32_t collective)
{
    for (int i = 0; mt_catalogue[i] != NULL; i++)
        if (mt_catalogue[i]->collective == collective)
            fprintf(stderr, " %s", mt_catalogue[i]->name);
    fputc('\n', stderr);
}

static struct mt_topology *find_topology(const struct call_options *options)
{
    uint64_t *nodes = call_options_nodes(options);
    struct mt_topology *topology = NULL;
    if (nodes == NULL || mt_topology_of_nodes(options->ranks, nodes, &topology) != 0)
        perror("manta plan");
    free(nodes);
    return topology;
}

/* All plans together, as long as the first: 0, or a sentence. */
static int check_length(const struct mt_algorithm *algorithm, const struct mt_plan_request *request,
                        struct mt_error *error)
{
    struct manta_plan *first;
    int rc = mt_plan_compile(algorithm, request, &first, error);
    if (rc != 0)
        return rc;
    uint64_t steps = (uint64_t)first->step_count * request->ranks;
    mt_plan_free(first);
    if (steps <= PLAN_STEPS_MOST || request->collective >= MANTA_SEND)
        return 0;
    return mt_error_set(error, MANTA_EINVAL,
                        "the plans have %" PRIu64 " million steps; try fewer ranks",
                        steps / 1000000);
}

static int compile_all(const struct mt_algorithm *algorithm, const struct call_options *options,
                       struct manta_plan **plans)
{
    struct mt_error error;
    struct mt_topology *topology = find_topology(options);
    if (topology == NULL)
        return -1;
    const struct mt_plan_request request = {
        .collective = (uint32_t)options->collective,
        .rank = options->rank < 0 ? 0 : (uint32_t)options->rank,
        .ranks = options->ranks,
        .root = call_options_root(options),
        .topology = topology,
        .fuses = !options->plain,
    };
    progress_begin("manta plan", algorithm->name, "is compiled");
    int rc = check_length(algorithm, &request, &error);
    if (rc == 0)
        rc = mt_plan_compile_all(algorithm, &request, plans, &error);
    progress_end();
    if (rc != 0)
        fprintf(stderr, "manta plan: %s\n", error.sentence);
    mt_topology_free(topology);
    return rc;
}

static int verify(const struct call_options *options, const struct mt_algorithm *algorithm,
                  struct manta_plan **plans)
{
    struct mt_verify_result result;
    char doing[48];
    snprintf(doing, sizeof doing, "is proved for %u ranks", options->ranks);
    progress_begin("manta plan", algorithm->name, doing);
    int rc = mt_plan_verify((const struct manta_plan *const *)plans, options->ranks, &result);
    progress_end();
    if (rc != 0) {
        printf("refused by the verifier: %s\n", result.fault);
        return EXIT_PROBLEM;
    }
    printf("proved for %u ranks: %" PRIu64 " steps and %" PRIu64 " messages in the segments run; ",
           options->ranks, result.steps, result.messages);
    if (result.order == MANTA_PLAN_ORDER_BINARY)
        printf("order class binary\n");
    else
        printf("order class %016" PRIx64 "\n", result.order);
    return 0;
}

static int show(const struct call_options *options, const struct mt_algorithm *algorithm,
                struct manta_plan **plans)
{
    if (compile_all(algorithm, options, plans) != 0)
        return EXIT_PROBLEM;
    printf("%s %s", mt_collective_name(options->collective), algorithm->name);
    printf("%s%s\n", algorithm->source != NULL ? ": " : "",
           algorithm->source != NULL ? algorithm->source : "");
    int code = verify(options, algorithm, plans);
    int pair = options->collective == MANTA_SEND || options->collective == MANTA_RECV;
    for (int r = 0; r < (int)options->ranks; r++) {
        if (plans[r] == NULL || (!pair && options->rank >= 0 && r != options->rank))
            continue;
        putchar('\n');
        if (mt_plan_print(plans[r], stdout) != 0)
            return EXIT_PROBLEM;
    }
    return code;
}

int command_plan(int argc, char **argv)
{
    struct call_options options;
    int rc = call_options_parse(&options, "plan", "coll algorithm ranks nodes plain root rank peer",
                                help, argc, argv);
    if (rc != 0)
        return rc > 0 ? 0 : EXIT_USAGE;
    const struct mt_algorithm *algorithm =
        options.algorithm != NULL
            ? mt_catalogue_find((uint32_t)options.collective, options.algorithm)
            : NULL;
    if (algorithm == NULL) {
        fprintf(stderr, "manta plan: --algorithm must be one of %s's:",
                mt_collective_name(options.collective));
        list_algorithms((uint32_t)options.collective);
        return EXIT_USAGE;
    }
    struct manta_plan **plans = calloc(options.ranks, sizeof *plans);
    if (plans == NULL) {
        perror("manta plan");
        return EXIT_PROBLEM;
    }
    rc = show(&options, algorithm, plans);
    mt_plan_free_all(plans, options.ranks);
    free(plans);
    return rc;
}
