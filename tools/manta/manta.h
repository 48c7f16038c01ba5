/* SPDX-License-Identifier: Apache-2.0 */
/* manta: looks at the library and at this host. One subcommand, one file. */
#ifndef MT_TOOLS_MANTA_H
#define MT_TOOLS_MANTA_H

#include <stddef.h>
#include <stdint.h>

/* Exit codes: 0 fine, 1 the answer is bad news, 2 wrong usage, 77 there was nothing to check, which
 * automake, too, takes for a test that was skipped. */
enum { EXIT_PROBLEM = 1, EXIT_USAGE = 2, EXIT_UNCHECKED = 77 };

/* Plans of more steps in all would need more than some 4 GB. */
enum { PLAN_STEPS_MOST = 30000000 };

/* argv[0] is "manta" and the subcommand, for messages. Each returns the exit code. */
int command_info(int argc, char **argv);
int command_explain(int argc, char **argv);
int command_plan(int argc, char **argv);
int command_topo(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_tune(int argc, char **argv);
int command_session(int argc, char **argv);
int command_simulate(int argc, char **argv);
int command_placement(int argc, char **argv);
int command_plugin(int argc, char **argv);

/* What --coll, --bytes and so on describe. */
struct call_options {
    int collective; /* -1: not given */
    int dtype, op, root;
    uint64_t bytes;
    uint32_t ranks, nodes;
    const char *node_sizes; /* "2x4", "3+1", "abab", or NULL: as equal as can be */
    uint32_t node_ranks;    /* of all of them */
    int plain;              /* no transport fuses steps */
    const char *algorithm;  /* NULL: not given */
    int rank;               /* -1: all */
    int peer;               /* of send and recv; -1: not given */
    const char *topology;   /* NULL: not given, as the following */
    const char *trace, *fail, *candidates;
    int json;
    int running; /* they are those that mantarun has started */
    int measure; /* on a communicator of the ranks that mantarun has started */
};

/* getopt's 'h': print the help; else it has said what is wrong. Returns the exit code. */
int command_usage(const char *command, const char *help, int option);
/* There is an argument too many. Returns the exit code. */
int command_refuse(const char *command, const char *argument);

/* What a plan calls its root: the root of broadcast and reduce, the peer of send and recv (by
 * default 1, or 0 of the others), MANTA_PLAN_NONE for the rest. */
uint32_t call_options_root(const struct call_options *options);
/* The node of each rank; NULL: no memory. Free it. */
uint64_t *call_options_nodes(const struct call_options *options);

/* What must be checked again when the number of ranks has come from elsewhere: 0, or -1 after a
 * message. */
int call_options_check(const struct call_options *options, const char *command);

/* Parse the options that describe a call; 0, 1 after --help, or -1 after a message. allowed: their
 * names without dashes, separated by blanks. */
int call_options_parse(struct call_options *options, const char *command, const char *allowed,
                       const char *help, int argc, char **argv);

/* Say what is wrong with each MANTA_* variable of the environment; how many sentences that took. */
int config_problems(void (*say)(const char *sentence));

/* "17 B", "4 KiB", "1.5 MiB". */
void format_bytes(uint64_t bytes, char *text, size_t text_bytes);

#endif
