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
    fputs("usage: manta COMMAND [options]\n\n", stream);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(stream, "  %-9s %s\n", commands[i].name, commands[i].meaning);
    fputs("\nmanta COMMAND --help tells more. Exit codes: 0 fine, 1 bad news, 2 wrong usage.\n",
          stream);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("manta %d.%d.%d\n", MANTA_VERSION_MAJOR, MANTA_VERSION_MINOR, MANTA_VERSION_PATCH);
        return 0;
    }
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        char name[32]; /* with which getopt begins its complaints */
        snprintf(name, sizeof name, "manta %s", commands[i].name);
        argv[1] = name;
        int code = commands[i].run(argc - 1, argv + 1);
        if (fflush(stdout) == 0)
            return code;
        perror("manta: cannot write");
        return EXIT_PROBLEM;
    }
    fprintf(stderr, "manta: there is no command '%s'; see manta --help\n", argv[1]);
    return EXIT_USAGE;
}
