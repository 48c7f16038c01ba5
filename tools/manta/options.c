/* SPDX-License-Identifier: Apache-2.0 */
/* The options with which several subcommands describe a call. */
#include "tools/manta/manta.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>
#include <manta/plan.h>

#include "core/config.h"
#include "core/dtype.h"

static const struct option longs[] = {
    {"coll", required_argument, NULL, 'c'},
    {"bytes", required_argument, NULL, 'b'},
    {"ranks", required_argument, NULL, 'n'},
    {"nodes", required_argument, NULL, 'N'},
    {"dtype", required_argument, NULL, 'd'},
    {"op", required_argument, NULL, 'o'},
    {"root", required_argument, NULL, 'r'},
    {"peer", required_argument, NULL, 'p'},
    {"rank", required_argument, NULL, 'k'},
    {"algorithm", required_argument, NULL, 'a'},
    {"help", no_argument, NULL, 'h'},
    {"topology", required_argument, NULL, 't'},
    {"trace", required_argument, NULL, 'T'},
    {"fail", required_argument, NULL, 'f'},
    {"json", no_argument, NULL, 'j'},
    {"candidates", required_argument, NULL, 'C'},
    {"plain", no_argument, NULL, 'P'},
    {"measure", no_argument, NULL, 'm'},
    {NULL, 0, NULL, 0},
};

static int refuse(const char *command, const char *option, const char *must)
{
    fprintf(stderr, "manta %s: %s must be %s, not '%s'\n", command, option, must, optarg);
    return -1;
}

/* A decimal number in least .. most. */
static int parse_number(const char *text, long least, long most, long *value_out)
{
    char *end;
    *value_out = strtol(text, &end, 10);
    return end != text && *end == '\0' && *value_out >= least && *value_out <= most;
}

static void apply_text(struct call_options *options, int option)
{
    switch (option) {
    case 't':
        options->topology = optarg;
        break;
    case 'T':
        options->trace = optarg;
        break;
    case 'f':
        options->fail = optarg;
        break;
    case 'C':
        options->candidates = optarg;
        break;
    case 'j':
        options->json = 1;
        break;
    default:
        options->algorithm = optarg;
    }
}

/* One size in "2x4+3": how often and how much; returns what follows, or NULL. */
static const char *next_size(const char *text, long *times_out, long *size_out)
{
    char *end;
    *times_out = 1;
    if (*text < '0' || *text > '9')
        return NULL;
    *size_out = strtol(text, &end, 10);
    if (*end == 'x' && end[1] >= '0' && end[1] <= '9') {
        *times_out = *size_out;
        *size_out = strtol(end + 1, &end, 10);
    }
    if (*times_out < 1 || *times_out > 65536 || *size_out < 1 || *size_out > 65536)
        return NULL;
    return *end == '+' ? end + 1 : *end == '\0' ? end : NULL;
}

static int is_letter(char letter)
{
    return letter >= 'a' && letter <= 'z';
}

/* "abab": the node of each rank. */
static int parse_letters(struct call_options *options, const char *text)
{
    uint32_t seen = 0;
    size_t length = 0;
    for (; is_letter(text[length]); length++)
        seen |= 1u << (text[length] - 'a');
    if (text[length] != '\0' || length > 65536)
        return -1;
    options->nodes = (uint32_t)__builtin_popcount(seen);
    options->node_ranks = (uint32_t)length;
    return 0;
}

/* "4": so many nodes; "2x4", "3+1": of so many ranks; "abab": of these. */
static int parse_nodes(struct call_options *options, const char *text)
{
    long times, size, value;
    options->node_sizes = NULL;
    if (parse_number(text, 1, 65536, &value)) {
        options->nodes = (uint32_t)value;
        return 0;
    }
    options->node_sizes = text;
    options->nodes = options->node_ranks = 0;
    if (is_letter(*text))
        return parse_letters(options, text);
    do {
        text = next_size(text, &times, &size);
        if (text == NULL || options->node_ranks + (uint64_t)(times * size) > 65536)
            return -1;
        options->nodes += (uint32_t)times;
        options->node_ranks += (uint32_t)(times * size);
    } while (*text != '\0');
    return text[-1] == '+' ? -1 : 0;
}

static int apply(struct call_options *options, const char *command, int option)
{
    long value;
    switch (option) {
    case 'c':
        options->collective = mt_collective_parse(optarg);
        return options->collective >= 0
                   ? 0
                   : refuse(command, "--coll",
                            "allreduce, broadcast, reduce, allgather, reduce_scatter, barrier, "
                            "send or recv");
    case 'b':
        return mt_parse_bytes(optarg, &options->bytes) == 0
                   ? 0
                   : refuse(command, "--bytes", "a size such as 4, 64k or 1M");
    case 'd':
        options->dtype = mt_dtype_parse(optarg);
        return options->dtype >= 0
                   ? 0
                   : refuse(command, "--dtype",
                            "int8, uint8, int16, uint16, int32, uint32, int64, uint64, float16, "
                            "bfloat16, float32, float64, float8_e4m3 or float8_e5m2");
    case 'o':
        options->op = mt_op_parse(optarg);
        return options->op >= 0
                   ? 0
                   : refuse(command, "--op", "sum, prod, min, max, avg, band, bor or bxor");
    case 'n':
        if (!parse_number(optarg, 1, 65536, &value))
            return refuse(command, "-n", "a number of ranks from 1 to 65536");
        options->ranks = (uint32_t)value;
        return 0;
    case 'N':
        if (parse_nodes(options, optarg))
            return refuse(command, "--nodes",
                          "a number of nodes from 1 to the number of ranks, the ranks of each node "
                          "(2x4, 3+1), or a letter from a to z for each rank's (abab)");
        return 0;
    case 'P':
        options->plain = 1;
        return 0;
    case 'r':
        if (!parse_number(optarg, 0, 65535, &value))
            return refuse(command, "--root", "a rank");
        options->root = (int)value;
        return 0;
    case 'p':
        if (!parse_number(optarg, 0, 65535, &value))
            return refuse(command, "--peer", "a rank");
        options->peer = (int)value;
        return 0;
    case 'm':
        options->measure = 1;
        return 0;
    case 'k':
        if (!parse_number(optarg, 0, 65535, &value))
            return refuse(command, "--rank", "a rank");
        options->rank = (int)value;
        return 0;
    default:
        apply_text(options, option);
        return 0;
    }
}

/* As the call itself: all ranks' vectors together, which one of them may hold. */
static int is_too_long(const struct call_options *options)
{
    uint64_t all_bytes;
    return __builtin_mul_overflow(options->bytes, (uint64_t)options->ranks, &all_bytes) ||
           all_bytes > INT64_MAX;
}

int call_options_check(const struct call_options *options, const char *command)
{
    const char *wrong = NULL;
    int is_pair = options->collective == MANTA_SEND || options->collective == MANTA_RECV;
    if (options->collective < 0)
        wrong = "--coll is missing";
    else if (options->ranks == 0)
        wrong = "-n is missing";
    else if (options->nodes > options->ranks)
        wrong = "there are more nodes than ranks";
    else if (options->node_sizes != NULL && options->node_ranks != options->ranks)
        wrong = "--nodes has another number of ranks than -n";
    else if (is_pair && options->ranks < 2)
        wrong = "send and recv need two ranks: -n 2 or more";
    else if (is_pair ? options->root != 0 : options->peer >= 0)
        wrong = "--peer goes with send and recv, --root with broadcast and reduce";
    else if (options->root >= (int)options->ranks)
        wrong = "--root must be a rank below -n";
    else if (options->peer >= (int)options->ranks)
        wrong = "--peer must be a rank below -n";
    else if (is_pair && options->peer == (options->rank < 0 ? 0 : options->rank))
        wrong = "--peer must be another rank than --rank (default 0)";
    else if (options->rank >= (int)options->ranks)
        wrong = "--rank must be a rank below -n";
    else if (!mt_op_allowed(options->op, options->dtype))
        wrong = "--op does not work on this --dtype";
    else if (is_too_long(options))
        wrong = "--bytes, of all ranks together, is more than memory can hold";
    else if (options->collective != MANTA_BARRIER &&
             options->bytes % manta_dtype_size(options->dtype) != 0)
        wrong = "--bytes must be a whole number of elements (float32 by default: 4 bytes each)";
    if (wrong == NULL)
        return 0;
    fprintf(stderr, "manta %s: %s; see manta %s --help\n", command, wrong, command);
    return -1;
}

/* Which ranks: those that mantarun has started, unless -n says how many are meant. */
static int count_ranks(struct call_options *options, const char *command)
{
    uint64_t ranks = 0;
    struct mt_error error;
    const char *wrong = NULL;
    if (options->ranks != 0 && options->measure)
        wrong = "--measure takes the ranks that mantarun starts: leave out -n";
    else if (options->ranks != 0 || (!options->measure && !mt_config_is_set(MT_VAR(SIZE))))
        return 0;
    else if (mt_config_count(MT_VAR(SIZE), &ranks, &error) != 0 || ranks < 1 || ranks > 65536)
        wrong = "--measure needs ranks that measure: start it with mantarun";
    else if (options->collective == MANTA_SEND || options->collective == MANTA_RECV)
        wrong = "of send and recv it tells with -n only";
    else if (options->nodes != 1)
        wrong = "--nodes goes with -n; the ranks of mantarun know their nodes";
    options->ranks = (uint32_t)ranks;
    options->running = 1;
    if (wrong == NULL)
        return 0;
    fprintf(stderr, "manta %s: %s\n", command, wrong);
    return -1;
}

/* 1 if the blank-separated list of names has this one. */
static int is_allowed(const char *allowed, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = allowed; (at = strstr(at, name)) != NULL; at += length)
        if ((at == allowed || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
            return 1;
    return 0;
}

static const char *long_name(int option)
{
    const struct option *entry = longs;
    while (entry->name != NULL && entry->val != option)
        entry++;
    return entry->name;
}

int command_usage(const char *command, const char *help, int option)
{
    if (option == 'h') {
        fputs(help, stdout);
        return 0;
    }
    fprintf(stderr, "See manta %s --help\n", command); /* getopt has said what is wrong */
    return EXIT_USAGE;
}

int command_refuse(const char *command, const char *argument)
{
    fprintf(stderr, "manta %s: what is '%s'? See manta %s --help\n", command, argument, command);
    return EXIT_USAGE;
}

int call_options_parse(struct call_options *options, const char *command, const char *allowed,
                       const char *help, int argc, char **argv)
{
    *options = (struct call_options){.collective = -1,
                                     .dtype = MANTA_FLOAT32,
                                     .op = MANTA_SUM,
                                     .bytes = 1 << 20,
                                     .nodes = 1,
                                     .rank = -1,
                                     .peer = -1};
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "n:h", longs, NULL)) != -1) {
        if (option == 'h' || option == '?')
            return command_usage(command, help, option) == 0 ? 1 : -1;
        if (!is_allowed(allowed, long_name(option))) {
            fprintf(stderr, "manta %s: has no option --%s\n", command, long_name(option));
            return -1;
        }
        if (apply(options, command, option) != 0)
            return -1;
    }
    if (optind < argc) {
        command_refuse(command, argv[optind]);
        return -1;
    }
    if (is_allowed(allowed, "measure") && count_ranks(options, command) != 0)
        return -1;
    if (options->topology == NULL && is_allowed(allowed, "topology")) {
        fprintf(stderr, "manta %s: --topology is missing; see manta %s --help\n", command, command);
        return -1;
    }
    if (options->topology != NULL && options->ranks == 0)
        return 0; /* the topology tells; then they are checked */
    return call_options_check(options, command);
}

uint32_t call_options_root(const struct call_options *options)
{
    switch (options->collective) {
    case MANTA_BROADCAST:
    case MANTA_REDUCE:
        return (uint32_t)options->root;
    case MANTA_SEND:
    case MANTA_RECV:
        if (options->peer >= 0)
            return (uint32_t)options->peer;
        return options->rank <= 0 ? 1 : 0;
    default:
        return MANTA_PLAN_NONE;
    }
}

void format_bytes(uint64_t bytes, char *text, size_t text_bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    snprintf(text, text_bytes, "%.4g %s", value, units[unit]);
}

uint64_t *call_options_nodes(const struct call_options *options)
{
    uint64_t *nodes = calloc(options->ranks, sizeof *nodes);
    const char *sizes = options->node_sizes;
    long times, size;
    uint32_t rank = 0;
    for (uint64_t r = 0; nodes != NULL && sizes == NULL && r < options->ranks; r++)
        nodes[r] = r * options->nodes / options->ranks;
    for (; nodes != NULL && sizes != NULL && is_letter(*sizes) && rank < options->ranks; sizes++)
        nodes[rank++] = (uint64_t)(*sizes - 'a');
    for (uint64_t node = 0; nodes != NULL && sizes != NULL && rank < options->ranks;) {
        sizes = next_size(sizes, &times, &size);
        for (; times > 0; times--, node++)
            for (long i = 0; i < size; i++)
                nodes[rank++] = node;
    }
    return nodes;
}
