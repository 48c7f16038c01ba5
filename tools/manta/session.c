/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/manta/manta.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/session.h"

static const char help[] =
    "usage: manta session [--host ADDRESS] [--port PORT]\n"
    "Print a session string: the address where rank 0 will listen, and a secret. Give it to every\n"
    "rank in MANTA_SESSION, and to nobody else: who knows it may join. The ranks are started by\n"
    "you or by your scheduler, on any hosts, each with MANTA_RANK (0 to size - 1) and MANTA_SIZE,\n"
    "too.\n"
    "  --host ADDRESS   of the host rank 0 runs on (default: all addresses of this host)\n"
    "  --port PORT      where rank 0 listens (default: one that is free here now)\n"
    "Exit code 1 if none can be made, 2 for wrong usage.\n";

int command_session(int argc, char **argv)
{
    static const struct option longs[] = {{"host", required_argument, NULL, 'H'},
                                          {"port", required_argument, NULL, 'p'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *host = NULL;
    long port = 0;
    char text[1024], *end = NULL;
    struct mt_error error;
    int option;
    while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (option == 'H') {
            host = optarg;
        } else if (option == 'p') {
            port = strtol(optarg, &end, 10);
        } else {
            return command_usage("session", help, option);
        }
    }
    if (optind < argc)
        return command_refuse("session", argv[optind]);
    if (end != NULL && (*end != '\0' || port < 1 || port > 65535)) {
        fprintf(stderr, "manta session: --port must be a number from 1 to 65535\n");
        return EXIT_USAGE;
    }
    if (mt_session_prepare(host, (uint16_t)port, text, sizeof text, &error) != 0) {
        fprintf(stderr, "manta session: %s\n", error.sentence);
        return EXIT_PROBLEM;
    }
    puts(text);
    return 0;
}
