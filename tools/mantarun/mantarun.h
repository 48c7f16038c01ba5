/* SPDX-License-Identifier: Apache-2.0 */
/* mantarun: starts the ranks of a job on this host and watches over them. */
#ifndef MT_TOOLS_MANTARUN_H
#define MT_TOOLS_MANTARUN_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Exit codes beside those of the ranks. */
enum { EXIT_USAGE = 2, EXIT_TIMEOUT = 124, EXIT_SIGNAL = 128 };

enum bind_kind { BIND_NONE, BIND_CORE };

struct options {
    int ranks;
    int nodes; /* 0: all ranks on this host's own node */
    enum bind_kind bind;
    uint64_t timeout_ns; /* 0: none */
    int prefix;
    int keep_going;    /* do not stop the others when a rank fails */
    const char **sets; /* VARIABLE=VALUE for the ranks */
    int set_count;
    char **program; /* NULL-terminated */
};

/* What a rank writes to one of its descriptors, on its way to ours. */
struct output {
    int from; /* our end of the pipe; -1: closed */
    int to;   /* 1 or 2 */
    int rank; /* -1: no prefix */
    int inside_line;
    size_t used;
    char bytes[16384];
};

struct rank {
    pid_t pid;
    int ended;
    int status; /* exit code as a shell tells it: 128 + signal when killed */
    struct output output[2];
};

struct job {
    const struct options *options;
    struct rank *ranks;
    int running;
    int exit_code;
    int stopping;     /* TERM has been sent to all */
    uint64_t stop_ns; /* when the others are stopped after a failure; 0: nobody has failed */
    uint64_t kill_ns; /* when KILL follows; 0: not armed */
    uint64_t end_ns;  /* when --timeout strikes; 0: never */
    int signal_fd;
    int input_to; /* stdin of rank 0; -1: closed */
    size_t input_used, input_sent;
    char input[16384];
};

/* Parse; prints what is wrong and exits with EXIT_USAGE, or with 0 after --help. */
void options_parse(struct options *options, int argc, char **argv);

/* Make the session and start all ranks; -1 after printing why not. */
int job_start(struct job *job, const struct options *options);
/* Until all ranks have ended; returns the exit code. */
int job_watch(struct job *job);
void job_free(struct job *job);

/* Forward what can be read, line by line; 0, or -1 when nobody reads our output any more. */
int output_forward(struct output *output);
/* The rank has closed it: complete its last line, so that the next rank's begins a new one. */
int output_close(struct output *output);

#endif
