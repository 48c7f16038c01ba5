/* SPDX-License-Identifier: Apache-2.0 */
/* How long a call takes on a cluster of one line of text: every algorithm as discrete events. */
#include "tools/manta/simulate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "collectives/comm.h"
#include "core/clock.h"
#include "plan/print.h"
#include "tools/manta/progress.h"
#include "tools/manta/topo.h"

static const char help[] =
    "usage: manta simulate --topology SPEC --coll NAME [options]\n"
    "Run algorithms as discrete events on a cluster that is made up, follow whose inputs the\n"
    "blocks hold, and tell the time, the busiest link, and how far from the least possible it is.\n"
    "  --topology SPEC   \"rack:4@100Gbit/s,5us,oversub=2 node:16@200Gbit/s,2us ranks:8\"\n"
    "                    or a file: see manta topo --help\n"
    "  --coll NAME       the collective, as in manta explain\n"
    "  --bytes SIZE      of one rank's vector: 4, 64k, 1M (default 1M)\n"
    "  --algorithm NAME  one that manta info lists for it (default all: a ranking)\n"
    "  -n, --ranks N     the first N ranks of the cluster (default all)\n"
    "  --root RANK       of broadcast and reduce (default 0)\n"
    "  --peer RANK       of rank 0's send or recv (default 1)\n"
    "  --fail WHAT       dead=node:3, dead=rank:5, slow=rank:5x0.01, slow=rack:0x0.5 (of its\n"
    "                    speed are left), several with commas: who waits for whom then\n"
    "  --json            for programs\n"
    "  --trace FILE      what the best did, for Perfetto or chrome://tracing\n"
    "Ranks that do the same at the same times are simulated once, unless something fails, and of\n"
    "vectors of more than 62 segments, the others follow at the rate of those that are simulated.\n"
    "MANTA_SEGMENT counts as in a run. Least possible: what must cross the border of a group over\n"
    "its ways out (2 n (G-1)/G for an allreduce among G groups, n for a broadcast), a node's\n"
    "inputs and results through its memory, or one message between the farthest ranks.\n"
    "Exit code 1 if it cannot be simulated or written, 2 for wrong usage.\n";

struct watching {
    struct simulation *simulation;
    struct simulated *one;
    const struct manta_plan *const *plans;
    struct trace *trace;
};

static void on_slice(void *arg, const struct mt_simulate_slice *slice)
{
    struct watching *w = arg;
    trace_slice(w->trace, slice);
}

static void on_stuck(void *arg, const struct mt_simulate_stuck *stuck)
{
    struct watching *w = arg;
    struct simulated *one = w->one;
    int on_dead = stuck->on != MANTA_PLAN_NONE && fault_is_dead(w->simulation, stuck->on);
    one->on_dead += (uint32_t)on_dead;
    one->in_turn += (uint32_t)!on_dead;
    /* Those that wait for the dead come first: they are why the others wait. */
    uint32_t at = on_dead ? one->on_dead - 1 : one->stuck_count;
    if (at >= STUCK_SHOWN)
        return;
    if (one->stuck_count < STUCK_SHOWN)
        one->stuck_count++;
    for (uint32_t i = one->stuck_count - 1; i > at; i--)
        one->stuck[i] = one->stuck[i - 1];
    one->stuck[at] = (struct stuck_rank){.rank = stuck->rank, .on = stuck->on};
    if (stuck->step != MANTA_PLAN_NONE)
        mt_plan_describe(w->plans[stuck->rank], stuck->step, one->stuck[at].step,
                         sizeof one->stuck[at].step);
}

static void on_progress(void *arg, uint64_t steps, uint64_t of_steps)
{
    const struct watching *w = arg;
    progress_set(w->one->algorithm->name, "runs", steps, of_steps);
}

static struct mt_plan_request request_of(const struct simulation *simulation)
{
    const struct call_options *options = simulation->options;
    return (struct mt_plan_request){.collective = (uint32_t)options->collective,
                                    .rank = 0,
                                    .ranks = options->ranks,
                                    .root = call_options_root(options),
                                    .topology = simulation->topology,
                                    .fuses = 1};
}

/* The plans of all ranks, unless they are too many. 0, or -1 and why. */
static int compile(const struct watching *w, struct manta_plan **plans)
{
    struct mt_plan_request request = request_of(w->simulation);
    struct mt_error error;
    struct manta_plan *first;
    uint32_t ranks = request.ranks;
    if (mt_plan_compile(w->one->algorithm, &request, &first, &error)) {
        snprintf(w->one->excluded, sizeof w->one->excluded, "%.150s", error.sentence);
        return -1;
    }
    uint64_t steps = (uint64_t)first->step_count * ranks;
    mt_plan_free(first);
    if (steps > PLAN_STEPS_MOST) {
        snprintf(w->one->excluded, sizeof w->one->excluded,
                 "its plans have %" PRIu64 " million steps; try fewer ranks", steps / 1000000);
        return -1;
    }
    if (request.collective >= MANTA_SEND || ranks < 1024) {
        if (mt_plan_compile_all(w->one->algorithm, &request, plans, &error) == 0)
            return 0;
        snprintf(w->one->excluded, sizeof w->one->excluded, "%.150s", error.sentence);
        return -1;
    }
    /* That it runs here has been found out: for each rank anew that would take longest. */
    struct mt_algorithm fitting = *w->one->algorithm;
    fitting.unfit = NULL;
    for (request.rank = 0; request.rank < ranks; request.rank++) {
        if (request.rank % 256 == 0)
            progress_set(w->one->algorithm->name, "is compiled", request.rank, ranks);
        if (mt_plan_compile(&fitting, &request, &plans[request.rank], &error) == 0)
            continue;
        snprintf(w->one->excluded, sizeof w->one->excluded, "%.150s", error.sentence);
        return -1;
    }
    return 0;
}

/* Of long vectors, so many segments are simulated, the rest follow at their rate: fewer where that
 * would take minutes. With 32 and more the time is right within 1 %, with 16 within some. */
static uint32_t segments_of(const struct manta_plan *const *plans, uint32_t ranks)
{
    uint64_t steps = 0;
    for (uint32_t r = 0; r < ranks; r++)
        steps += plans[r] != NULL ? plans[r]->step_count : 0;
    uint64_t affordable = steps > 0 ? 20000000 / steps : MT_SIMULATE_SEGMENTS;
    if (affordable > MT_SIMULATE_SEGMENTS)
        return MT_SIMULATE_SEGMENTS;
    return affordable > 16 ? (uint32_t)affordable / 2 * 2 : 16;
}

static int simulate_plans(struct watching *w, const struct mt_simulate *what,
                          struct mt_simulate_result *result)
{
    struct mt_error error;
    if (mt_simulate(what, result, &error) == 0)
        return 0;
    w->one->is_wrong = error.code == MANTA_EPLAN;
    snprintf(w->one->excluded, sizeof w->one->excluded, "%.150s", error.sentence);
    return -1;
}

/* First, what the blocks hold is followed through one segment of all ranks; then time is taken, of
 * equal ranks once. Where something fails, or all is to be seen, both are one. */
static void run(struct watching *w)
{
    const struct simulation *simulation = w->simulation;
    struct mt_simulate_result result;
    struct mt_simulate what = {.model = &simulation->model,
                               .plans = w->plans,
                               .ranks = simulation->options->ranks,
                               .bytes = simulation->options->bytes,
                               .segments_most = 1,
                               .check = w->trace == NULL,
                               .faults = simulation->faults,
                               .fault_count = simulation->fault_count,
                               .watch = {.arg = w, .progress = on_progress}};
    int at_once = w->trace != NULL || simulation->fault_count > 0;
    if (!at_once && simulate_plans(w, &what, &result) != 0)
        return;
    what.segments_most = segments_of(w->plans, what.ranks);
    what.check = at_once && w->trace == NULL;
    what.fold_ranks = !at_once;
    what.watch.slice = w->trace != NULL ? on_slice : NULL;
    what.watch.stuck = w->trace != NULL ? NULL : on_stuck;
    if (simulate_plans(w, &what, &result) != 0)
        return;
    if (result.ranks_simulated < what.ranks / 4 && result.segments_simulated < result.segments) {
        what.segments_most = 0;
        if (simulate_plans(w, &what, &result) != 0)
            return;
    }
    w->one->result = result;
    if (result.ns && !result.stuck)
        w->one->efficiency = (double)simulation->bound.ns / (double)result.ns;
}

/* Simulate one algorithm; with a path, write what happens instead. 0, or -1 after a message. */
static int simulate(struct simulation *simulation, struct simulated *one, const char *trace_path)
{
    uint32_t ranks = simulation->options->ranks;
    struct manta_plan **plans = calloc(ranks, sizeof *plans);
    struct watching w = {
        .simulation = simulation, .one = one, .plans = (const struct manta_plan *const *)plans};
    uint64_t begin_ns = mt_clock_now_ns();
    int rc = 0;
    if (plans == NULL) {
        perror("manta simulate");
        return -1;
    }
    progress_begin("manta simulate", one->algorithm->name, "is compiled");
    if (compile(&w, plans) == 0) {
        if (trace_path != NULL)
            rc = trace_open(trace_path, simulation->topology, w.plans, &w.trace);
        if (rc == 0)
            run(&w);
        if (w.trace != NULL && trace_close(w.trace) != 0)
            rc = -1;
    }
    progress_end();
    mt_plan_free_all(plans, ranks);
    free(plans);
    one->wall_s = (double)(mt_clock_now_ns() - begin_ns) / 1e9;
    return rc;
}

/* Results before what has none: where fewer ranks are stuck first, then the fastest. */
static int is_before(const struct simulated *x, const struct simulated *y)
{
    if (!x->excluded[0] != !y->excluded[0])
        return !x->excluded[0];
    if (x->result.stuck != y->result.stuck)
        return x->result.stuck < y->result.stuck;
    return !x->excluded[0] && x->result.ns < y->result.ns;
}

static void insert(struct simulation *simulation, const struct simulated *one)
{
    uint32_t at = simulation->count++;
    for (; at > 0 && is_before(one, &simulation->list[at - 1]); at--)
        simulation->list[at] = simulation->list[at - 1];
    simulation->list[at] = *one;
}

static const char *why_not(const struct simulation *simulation,
                           const struct mt_algorithm *algorithm)
{
    uint32_t ranks = simulation->options->ranks;
    if (ranks < algorithm->ranks_min || (algorithm->ranks_max && ranks > algorithm->ranks_max))
        return "it is for another number of ranks";
    if (algorithm->fused && simulation->topology->groups[MT_LEVEL_NODE] > 1)
        return "it is for the ranks of one node";
    struct mt_plan_request request = request_of(simulation);
    return algorithm->unfit != NULL ? algorithm->unfit(&request) : NULL;
}

/* 0, or -1 after a message. */
static int simulate_all(struct simulation *simulation)
{
    const char *name = simulation->options->algorithm;
    int all = name == NULL || strcmp(name, "all") == 0;
    for (uint32_t i = 0; mt_catalogue[i] != NULL && simulation->count < SIMULATED_MOST; i++) {
        struct simulated one = {.algorithm = mt_catalogue[i]};
        if (one.algorithm->collective != (uint32_t)simulation->options->collective ||
            (!all && strcmp(name, one.algorithm->name) != 0))
            continue;
        const char *reason = why_not(simulation, one.algorithm);
        if (reason != NULL)
            snprintf(one.excluded, sizeof one.excluded, "%s", reason);
        else if (simulate(simulation, &one, NULL) != 0)
            return -1;
        insert(simulation, &one);
    }
    if (simulation->count > 0)
        return 0;
    fprintf(stderr,
            "manta simulate: there is no algorithm '%s' for this collective; see manta info\n",
            name);
    return -1;
}

static int show(struct simulation *simulation)
{
    const struct call_options *options = simulation->options;
    struct simulated traced;
    int code = 0;
    if (simulate_all(simulation) != 0)
        return EXIT_USAGE;
    const struct simulated *best = &simulation->list[0];
    for (uint32_t i = 0; i < simulation->count; i++)
        if (simulation->list[i].is_wrong || simulation->list[i].result.stuck)
            code = EXIT_PROBLEM;
    if (best->excluded[0])
        code = EXIT_PROBLEM;
    traced = *best;
    if (options->trace != NULL && !best->excluded[0] &&
        simulate(simulation, &traced, options->trace) != 0)
        code = EXIT_PROBLEM;
    if (!options->json)
        report_text(simulation);
    else if (report_json(simulation) != 0)
        code = EXIT_PROBLEM;
    return code;
}

/* The topology of the call: all of the line's ranks, or the first of them. */
static int read_topology(struct call_options *options, struct mt_topology **topology_out)
{
    struct mt_error error;
    if (topo_load_ranks(options->topology, options->ranks, topology_out, &error) != 0) {
        fprintf(stderr, "manta simulate: --topology: %s\n", error.sentence);
        return -1;
    }
    options->ranks = (*topology_out)->ranks;
    options->nodes = (*topology_out)->groups[MT_LEVEL_NODE];
    if (options->collective == MANTA_BARRIER)
        options->bytes = 1; /* its token */
    return 0;
}

int command_simulate(int argc, char **argv)
{
    static struct simulation simulation; /* large */
    struct call_options options;
    struct mt_settings settings;
    struct mt_error error;
    struct mt_topology *topology = NULL;
    int rc = call_options_parse(&options, "simulate",
                                "coll bytes ranks root peer algorithm topology trace fail json",
                                help, argc, argv);
    if (rc != 0)
        return rc > 0 ? 0 : EXIT_USAGE;
    if (mt_settings_read(NULL, &settings, &error) != 0) {
        fprintf(stderr, "manta simulate: %s\n", error.sentence);
        return EXIT_PROBLEM;
    }
    rc = EXIT_USAGE;
    if (read_topology(&options, &topology) == 0 && call_options_check(&options, "simulate") == 0) {
        simulation.options = &options;
        simulation.topology = topology;
        mt_cost_defaults(&simulation.model, topology, settings.segment_bytes);
        simulation.bound =
            mt_bound_of(&simulation.model, (uint32_t)options.collective, options.bytes);
        if (options.fail == NULL || faults_parse(options.fail, &simulation) == 0)
            rc = show(&simulation);
    }
    mt_topology_free(topology);
    return rc;
}
