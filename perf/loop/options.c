/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/loop/perf.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "core/config.h"
#include "core/dtype.h"

enum { USAGE = 2 };

static const char help[] =
    "usage: mantarun -n RANKS %s [options]\n"
    "Time collectives: the iteration's time is the slowest rank's own, all started together, with\n"
    "source buffers rewritten before each call.\n"
    "  --coll LIST     allreduce, broadcast, reduce, allgather, reduce_scatter, barrier, or all\n"
    "                  (default allreduce)\n"
    "  --min, --max    sizes of a rank's vector (default 4 and 4M)\n"
    "  --factor N      between sizes (default 4)\n"
    "  --iters N       iterations for each size (default: by size, 20 to 2000)\n"
    "  --warmup N      calls before them (default: a tenth and 5)\n"
    "  --dtype NAME    default float32        --op NAME  default sum\n"
    "  --root RANK     default 0; rotate: another one in each iteration\n"
    "  --in-place      source and destination are one buffer\n"
    "  --check         compare results with an independent reference, count wrong elements\n"
    "  --json FILE     append one JSON object a line\n"
    "Bytes and count are those of the call, so allgather and reduce_scatter move RANKS times as\n"
    "much; the bandwidths count all of it. Exit code 1 if a call failed or an element was wrong.\n";

static const struct option longs[] = {
    {"coll", required_argument, NULL, 'c'},  {"min", required_argument, NULL, 'm'},
    {"max", required_argument, NULL, 'M'},   {"factor", required_argument, NULL, 'f'},
    {"iters", required_argument, NULL, 'i'}, {"warmup", required_argument, NULL, 'w'},
    {"dtype", required_argument, NULL, 'd'}, {"op", required_argument, NULL, 'o'},
    {"root", required_argument, NULL, 'r'},  {"in-place", no_argument, NULL, 'p'},
    {"check", no_argument, NULL, 'k'},       {"json", required_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0},
};

static void refuse(const char *program, const char *what)
{
    fprintf(stderr, "%s: %s, not '%s'; see %s --help\n", program, what, optarg, program);
    exit(USAGE);
}

static uint64_t parse_size(const char *program, const char *what)
{
    uint64_t value;
    if (mt_parse_bytes(optarg, &value) != 0)
        refuse(program, what);
    return value;
}

static void add_collective(struct perf_options *options, int collective)
{
    for (int i = 0; i < options->collective_count; i++)
        if (options->collectives[i] == collective)
            return;
    options->collectives[options->collective_count++] = collective;
}

static void parse_collectives(struct perf_options *options, const char *program)
{
    char names[256], *rest = names, *name;
    if (snprintf(names, sizeof names, "%s", optarg) >= (int)sizeof names)
        refuse(program, "--coll needs a shorter list");
    options->collective_count = 0;
    while ((name = strsep(&rest, ",")) != NULL) {
        int collective = mt_collective_parse(name);
        if (strcmp(name, "all") == 0)
            for (int c = 0; c < PERF_COLLECTIVES; c++)
                add_collective(options, c);
        else if (collective < 0 || collective >= PERF_COLLECTIVES)
            refuse(program, "--coll must name collectives");
        else
            add_collective(options, collective);
    }
}

static void parse_root(struct perf_options *options, const char *program)
{
    char *end;
    options->root = (int)strtol(optarg, &end, 10);
    if (strcmp(optarg, "rotate") == 0)
        options->root = PERF_ROTATE;
    else if (end == optarg || *end != '\0' || options->root < 0)
        refuse(program, "--root must be a rank or rotate");
}

static void apply(struct perf_options *options, const char *program, int option)
{
    switch (option) {
    case 'c':
        parse_collectives(options, program);
        break;
    case 'm':
        options->min_bytes = parse_size(program, "--min must be a size");
        break;
    case 'M':
        options->max_bytes = parse_size(program, "--max must be a size");
        break;
    case 'f':
        options->factor = parse_size(program, "--factor must be a number");
        if (options->factor < 2)
            refuse(program, "--factor must be at least 2");
        break;
    case 'i':
        options->iterations = parse_size(program, "--iters must be a number");
        break;
    case 'w':
        options->warmup = parse_size(program, "--warmup must be a number");
        break;
    case 'd':
        options->dtype = mt_dtype_parse(optarg);
        if (options->dtype < 0)
            refuse(program, "--dtype must be a dtype such as float32");
        break;
    case 'o':
        options->op = mt_op_parse(optarg);
        if (options->op < 0)
            refuse(program, "--op must be an operation such as sum");
        break;
    case 'r':
        parse_root(options, program);
        break;
    case 'p':
        options->in_place = 1;
        break;
    case 'k':
        options->check = 1;
        break;
    case 'j':
        options->json = optarg;
        break;
    case 'h':
        printf(help, program);
        exit(0);
    default:
        exit(USAGE); /* getopt has said what is wrong */
    }
}

void perf_options_parse(struct perf_options *options, const char *program, int argc, char **argv)
{
    int option;
    *options = (struct perf_options){.collectives = {MANTA_ALLREDUCE},
                                     .collective_count = 1,
                                     .min_bytes = 4,
                                     .max_bytes = 4 << 20,
                                     .factor = 4,
                                     .dtype = MANTA_FLOAT32,
                                     .op = MANTA_SUM};
    while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1)
        apply(options, program, option);
    const char *wrong = NULL;
    if (argv[optind] != NULL)
        wrong = "takes options only";
    else if (!mt_op_allowed(options->op, options->dtype))
        wrong = "--op does not work on this --dtype";
    else if (options->min_bytes > options->max_bytes)
        wrong = "--min must not be above --max";
    if (wrong == NULL)
        return;
    fprintf(stderr, "%s: %s; see %s --help\n", program, wrong, program);
    exit(USAGE);
}
