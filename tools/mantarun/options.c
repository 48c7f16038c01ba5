/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/mantarun/mantarun.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "core/config.h"

static const char help[] =
    "usage: mantarun -n RANKS [options] PROGRAM [arguments]\n"
    "Start RANKS processes of PROGRAM on this host as the ranks of one job: each finds "
    "MANTA_RANK,\n"
    "MANTA_SIZE and MANTA_SESSION in its environment, and manta_comm_create(NULL, ...) does the "
    "rest.\n\n"
    "  -n, --ranks N      number of ranks; -np N is understood too\n"
    "      --nodes N      let the ranks count as being on N nodes (MANTA_NODE=node0, node1, ...),\n"
    "                     so that they speak over the network transport between them\n"
    "      --bind WHAT    none (default), or core: pin each rank to one CPU, a core for each rank\n"
    "                     while there are enough; more ranks than CPUs are spread evenly, and\n"
    "                     short calls take less time\n"
    "      --timeout TIME stop the job after this long (10, 0.5, 250ms) with exit code 124\n"
    "  -x VARIABLE=VALUE  set a variable for the ranks; may be repeated\n"
    "      --no-prefix    do not put \"[rank] \" before each line of output\n"
    "      --keep-going   let the others run on when a rank fails\n"
    "  -h, --help         this text\n"
    "  -V, --version      the version of the library\n\n"
    "Standard input goes to rank 0. SIGINT, SIGTERM and SIGHUP are passed on to all ranks. When a\n"
    "rank fails, the others have two seconds to end by themselves and say why; then they get\n"
    "SIGTERM, and two seconds later SIGKILL, whole process groups. The exit code is that of the\n"
    "first failure (128 + signal for a signal), 124 after --timeout, 2 for wrong usage, 126 for a\n"
    "program that cannot be run, 127 for one that is not there. What the ranks left running is\n"
    "killed when the job ends.\n";

enum { OPTION_NODES = 256, OPTION_BIND, OPTION_TIMEOUT, OPTION_NO_PREFIX, OPTION_KEEP };

static const struct option longs[] = {
    {"ranks", required_argument, NULL, 'n'},
    {"np", required_argument, NULL, 'n'},
    {"nodes", required_argument, NULL, OPTION_NODES},
    {"bind", required_argument, NULL, OPTION_BIND},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"no-prefix", no_argument, NULL, OPTION_NO_PREFIX},
    {"keep-going", no_argument, NULL, OPTION_KEEP},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void usage_error(const char *what, const char *value)
{
    fprintf(stderr, "mantarun: %s%s%s; see mantarun --help\n", what, value ? ": " : "",
            value ? value : "");
    exit(EXIT_USAGE);
}

static int parse_count(const char *text, const char *what)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || value < 1 || value > 65536)
        usage_error(what, text);
    return (int)value;
}

static void parse_set(struct options *options, const char *text)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text)
        usage_error("-x needs VARIABLE=VALUE, not", text);
    options->sets[options->set_count++] = text;
}

static void parse_bind(struct options *options, const char *text)
{
    if (strcmp(text, "core") == 0)
        options->bind = BIND_CORE;
    else if (strcmp(text, "none") != 0)
        usage_error("--bind must be none or core, not", text);
}

/* What the launchers of MPI have; -host begins with what is -h to getopt. */
static int is_about_hosts(const char *word)
{
    return word != NULL && (strncmp(word, "-host", 5) == 0 || strncmp(word, "--host", 6) == 0 ||
                            strncmp(word, "-H", 2) == 0);
}

/* words: of the option, and the one behind it. getopt has said what is wrong, but of -host. */
static void refuse(char *const words[2])
{
    if (is_about_hosts(words[0]) || is_about_hosts(words[1]))
        fputs("mantarun starts ranks on this host only; for others see manta session --help\n",
              stderr);
    else
        fputs("See mantarun --help\n", stderr);
    exit(EXIT_USAGE);
}

static void apply(struct options *options, int option)
{
    switch (option) {
    case 'n':
        options->ranks = parse_count(optarg, "the number of ranks must be 1 .. 65536, not");
        break;
    case OPTION_NODES:
        options->nodes = parse_count(optarg, "the number of nodes must be 1 .. 65536, not");
        break;
    case OPTION_BIND:
        parse_bind(options, optarg);
        break;
    case OPTION_TIMEOUT:
        if (mt_parse_ns(optarg, &options->timeout_ns) != 0 || options->timeout_ns == 0)
            usage_error("--timeout must be a time such as 10 or 250ms, not", optarg);
        break;
    case 'x':
        parse_set(options, optarg);
        break;
    case OPTION_NO_PREFIX:
        options->prefix = 0;
        break;
    case OPTION_KEEP:
        options->keep_going = 1;
        break;
    case 'V':
        printf("mantarun %d.%d.%d\n", MANTA_VERSION_MAJOR, MANTA_VERSION_MINOR,
               MANTA_VERSION_PATCH);
        exit(0);
    case 'h':
        fputs(help, stdout);
        exit(0);
    }
}

/* -np N, as the launchers of MPI have it: to getopt that is -n with the argument "p". */
static void take_np(int option, char **argv)
{
    if (option != 'n' || optarg != argv[optind - 1] + 2 || strcmp(optarg, "p") != 0)
        return;
    if (argv[optind] == NULL)
        usage_error("-np needs the number of ranks", NULL);
    optarg = argv[optind++];
}

void options_parse(struct options *options, int argc, char **argv)
{
    int option;
    memset(options, 0, sizeof *options);
    options->prefix = 1;
    options->sets = calloc((size_t)argc + 1, sizeof *options->sets);
    if (options->sets == NULL)
        usage_error("out of memory", NULL);
    while ((option = getopt_long(argc, argv, "+n:x:hV", longs, NULL)) != -1) {
        take_np(option, argv);
        if (option == '?' || (option == 'h' && is_about_hosts(argv[optind])))
            refuse(argv + optind - 1);
        apply(options, option);
    }
    options->program = argv + optind;
    if (options->ranks == 0)
        usage_error("-n is missing", NULL);
    if (options->nodes > options->ranks)
        usage_error("there are more nodes than ranks", NULL);
    if (*options->program == NULL)
        usage_error("the program is missing", NULL);
}
