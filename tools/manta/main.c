/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/manta/manta.h"

#include <stdio.h>
#include <string.h>

#include <manta/manta.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *meaning;
} commands[] = {
    {"info", command_info, "version, build and host; --config: every MANTA_* variable"},
    {"explain", command_explain,
     "which algorithm would run a call, and what the others would cost"},
    {"plan", command_plan, "the steps of each rank in an algorithm, and the verifier's verdict"},
    {"simulate", command_simulate, "how long a call takes on a cluster that is made up"},
    {"placement", command_placement, "what candidate nodes would cost a job, for schedulers"},
    {"topo", command_topo, "this host, or a cluster: levels, caches, NICs, GPUs; as JSON or SVG"},
    {"doctor", command_doctor, "is this host fit to run Manta, and what to do if not"},
    {"tune", command_tune, "measure what messages and reductions cost here, for the cost model"},
    {"plugin", command_plugin, "transports that are plugins: list them, check one"},
    {"session", command_session, "make a session string for ranks that start by hand"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *stream)
{
    fputs("usage: manta COMMAND [options]\n"
          "       manta help [COMMAND]\n"
          "       manta version\n\n",
          stream);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(stream, "  %-9s %s\n", commands[i].name, commands[i].meaning);
    fputs("\nmanta COMMAND --help tells more. Exit codes: 0 fine, 1 bad news, 2 wrong usage.\n",
          stream);
}

static int run_command(const char *command, int argc, char **argv)
{
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(command, commands[i].name) != 0)
            continue;
        char name[32]; /* with which getopt begins its complaints */
        snprintf(name, sizeof name, "manta %s", commands[i].name);
        argv[0] = name;
        return commands[i].run(argc, argv);
    }
    fprintf(stderr, "manta: there is no command '%s'; see manta --help\n", command);
    return EXIT_USAGE;
}

static int is_either(const char *text, const char *one, const char *other)
{
    return strcmp(text, one) == 0 || strcmp(text, other) == 0;
}

/* manta help [COMMAND] is manta [COMMAND] --help, as manta version is manta --version. */
static int run(int argc, char **argv)
{
    char option[] = "--help", *help[] = {NULL, option, NULL};
    const char *first = argv[1];
    int is_help = strcmp(first, "help") == 0;
    if (is_help && argc == 3)
        return run_command(argv[2], 2, help);
    if (is_either(first, "--help", "-h") || (is_help && argc == 2)) {
        print_help(stdout);
        return 0;
    }
    if (is_either(first, "--version", "-V") || (strcmp(first, "version") == 0 && argc == 2)) {
        printf("manta %d.%d.%d\n", MANTA_VERSION_MAJOR, MANTA_VERSION_MINOR, MANTA_VERSION_PATCH);
        return 0;
    }
    if (is_help || strcmp(first, "version") == 0) {
        fprintf(stderr, "manta %s: what is '%s'? See manta --help\n", first, argv[argc - 1]);
        return EXIT_USAGE;
    }
    return run_command(first, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    int code = run(argc, argv);
    if (fflush(stdout) == 0)
        return code;
    perror("manta: cannot write");
    return EXIT_PROBLEM;
}
