/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/loop/perf.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "core/clock.h"
#include "core/config.h"
#include "core/dtype.h"

static const char help[] =
    "usage: mantarun -n RANKS %s [options]\n"
    "Time collectives: the iteration's time is the slowest rank's own, all started together, with\n"
    "source buffers rewritten before each call.\n"
    "  --coll LIST     allreduce, broadcast, reduce, allgather, reduce_scatter, barrier, or all\n"
    "                  (default allreduce)\n"
    "  --min, --max SIZE  of a rank's vector (default 4 and 4M): bytes, or with k, M, G or T of\n"
    "                  1024, as in 4096, 64k, 1MiB\n"
    "  --factor N      between sizes (default 4)\n"
    "  --cells COLL:S,S,...  exactly these sizes of that collective, instead of the four above;\n"
    "                  may be given for several collectives\n"
    "  --iters N       iterations for each size (default: by size, 20 to 2000, if time allows)\n"
    "  --warmup N      calls before them (default: a tenth and 5)\n"
    "  --seconds S     bound of a size's iterations (default 2), and of its back-to-back calls; a\n"
    "                  collective ends at the first size of which one call takes ten times that\n"
    "  --back-to-back  time as many calls in a row, too (b2b_us: the slowest rank's time over the\n"
    "                  number of calls, the rewriting included)\n"
    "  --dtype NAME    default float32        --op NAME  default sum\n"
    "  --root RANK     default 0; rotate: another one in each iteration\n"
    "  --in-place      source and destination are one buffer\n"
    "  --symmetric     buffers in memory that peers read in place, where the library has it\n"
    "  --bare          of manta-perf only, with two ranks of one host: what a short allreduce or\n"
    "                  broadcast of float32 costs without a library\n"
    "  --check         compare results with an independent reference, count wrong elements; back-\n"
    "                  to-back calls are then checked and not timed\n"
    "  --json FILE     append one JSON object a line\n"
    "  -h, --help; -V, --version\n"
    "Bytes and count are those of the call, so allgather and reduce_scatter move RANKS times as\n"
    "much; the bandwidths count all of it. Exit code 1 if a call failed, an element was wrong, or\n"
    "FILE could not be written; 2 for wrong usage.\n";

static const struct option longs[] = {
    {"coll", required_argument, NULL, 'c'},
    {"min", required_argument, NULL, 'm'},
    {"max", required_argument, NULL, 'M'},
    {"factor", required_argument, NULL, 'f'},
    {"iters", required_argument, NULL, 'i'},
    {"warmup", required_argument, NULL, 'w'},
    {"dtype", required_argument, NULL, 'd'},
    {"op", required_argument, NULL, 'o'},
    {"root", required_argument, NULL, 'r'},
    {"in-place", no_argument, NULL, 'p'},
    {"check", no_argument, NULL, 'k'},
    {"json", required_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {"cells", required_argument, NULL, 'C'},
    {"seconds", required_argument, NULL, 's'},
    {"back-to-back", no_argument, NULL, 'b'},
    {"symmetric", no_argument, NULL, 'y'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

/* What --min, --max and --factor say. */
struct range {
    uint64_t min_bytes, max_bytes, factor;
    int unused; /* --cells names the sizes */
};

static void refuse(const char *program, const char *what)
{
    fprintf(stderr, "%s: %s, not '%s'; see %s --help\n", program, what, optarg, program);
    exit(PERF_USAGE);
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
    for (int i = 0; i < options->work_count; i++)
        if (options->works[i].collective == collective)
            return;
    options->works[options->work_count++] = (struct perf_work){.collective = collective};
}

static void parse_collectives(struct perf_options *options, const char *program)
{
    char names[256], *rest = names, *name;
    if (snprintf(names, sizeof names, "%s", optarg) >= (int)sizeof names)
        refuse(program, "--coll needs a shorter list");
    options->work_count = 0;
    while ((name = strsep(&rest, ",")) != NULL) {
        int collective = mt_collective_parse(name);
        if (strcmp(name, "all") == 0)
            for (int c = 0; c < PERF_COLLECTIVES; c++)
                add_collective(options, c);
        else if (collective < 0 || collective >= PERF_COLLECTIVES)
            refuse(program, "--coll must name collectives such as allreduce, or all");
        else
            add_collective(options, collective);
    }
}

/* "allreduce:4,64,1k" */
static void parse_cells(struct perf_options *options, struct range *range, const char *program)
{
    char text[512], *rest = text, *size;
    if (snprintf(text, sizeof text, "%s", optarg) >= (int)sizeof text)
        refuse(program, "--cells needs a shorter list");
    int collective = mt_collective_parse(strsep(&rest, ":"));
    if (collective < 0 || collective >= PERF_COLLECTIVES || rest == NULL)
        refuse(program, "--cells must be a collective, a colon and sizes");
    if (!range->unused)
        options->work_count = 0; /* what --coll had named, or the default */
    if (options->work_count == PERF_WORKS)
        refuse(program, "--cells is given too often");
    range->unused = 1;
    struct perf_work *work = &options->works[options->work_count++];
    *work = (struct perf_work){.collective = collective};
    while ((size = strsep(&rest, ",")) != NULL)
        if (work->size_count == PERF_SIZES ||
            mt_parse_bytes(size, &work->sizes[work->size_count++]) != 0)
            refuse(program, "--cells must name sizes, at most 64");
}

/* The powers of the factor between --min and --max. A barrier has one size, which is none. */
static void fill_sizes(struct perf_options *options, const struct range *range)
{
    for (int i = 0; i < options->work_count; i++) {
        struct perf_work *work = &options->works[i];
        uint64_t bytes = work->collective == MANTA_BARRIER ? 0 : range->min_bytes;
        do {
            work->sizes[work->size_count++] = bytes;
            if (bytes == 0 || bytes > UINT64_MAX / range->factor)
                break;
            bytes *= range->factor;
        } while (bytes <= range->max_bytes && work->size_count < PERF_SIZES);
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

static void apply_flag(struct perf_options *options, const char *program, int option)
{
    switch (option) {
    case 'p':
        options->in_place = 1;
        break;
    case 'k':
        options->check = 1;
        break;
    case 'b':
        options->back_to_back = 1;
        break;
    case 'y':
        options->symmetric = 1;
        break;
    case 'h':
        printf(help, program);
        exit(0);
    case 'V':
        printf("%s %d.%d.%d\n", program, MANTA_VERSION_MAJOR, MANTA_VERSION_MINOR,
               MANTA_VERSION_PATCH);
        exit(0);
    default:
        fprintf(stderr, "See %s --help\n", program); /* getopt has said what is wrong */
        exit(PERF_USAGE);
    }
}

static void apply(struct perf_options *options, struct range *range, const char *program,
                  int option)
{
    switch (option) {
    case 'c':
        parse_collectives(options, program);
        break;
    case 'm':
        range->min_bytes = parse_size(program, "--min must be a size such as 4096, 64k or 1MiB");
        break;
    case 'M':
        range->max_bytes = parse_size(program, "--max must be a size such as 4096, 64k or 1MiB");
        break;
    case 'f':
        range->factor = parse_size(program, "--factor must be a number");
        if (range->factor < 2)
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
            refuse(program, "--dtype must be a dtype such as float32, float64, bfloat16 or int32");
        break;
    case 'o':
        options->op = mt_op_parse(optarg);
        if (options->op < 0)
            refuse(program, "--op must be an operation such as sum");
        break;
    case 'r':
        parse_root(options, program);
        break;
    case 'C':
        parse_cells(options, range, program);
        break;
    case 's':
        if (mt_parse_ns(optarg, &options->bound_ns) != 0 || options->bound_ns == 0)
            refuse(program, "--seconds must be a time such as 0.5s");
        break;
    case 'j':
        options->json = optarg;
        break;
    default:
        apply_flag(options, program, option);
    }
}

void perf_options_parse(struct perf_options *options, const char *program, int argc, char **argv)
{
    int option;
    struct range range = {.min_bytes = 4, .max_bytes = 4 << 20, .factor = 4};
    *options = (struct perf_options){.works = {{.collective = MANTA_ALLREDUCE}},
                                     .work_count = 1,
                                     .bound_ns = 2 * MT_SECOND,
                                     .dtype = MANTA_FLOAT32,
                                     .op = MANTA_SUM};
    while ((option = getopt_long(argc, argv, "hV", longs, NULL)) != -1)
        apply(options, &range, program, option);
    const char *wrong = NULL;
    if (argv[optind] != NULL)
        wrong = "takes options only";
    else if (!mt_op_allowed(options->op, options->dtype))
        wrong = "--op does not work on this --dtype";
    else if (range.min_bytes > range.max_bytes)
        wrong = "--min must not be above --max";
    if (wrong == NULL && !range.unused)
        fill_sizes(options, &range);
    if (wrong == NULL)
        return;
    fprintf(stderr, "%s: %s; see %s --help\n", program, wrong, program);
    exit(PERF_USAGE);
}
