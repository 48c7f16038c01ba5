/* SPDX-License-Identifier: Apache-2.0 */
/* Tests run ranks as threads of one process: each joins a fresh session and runs the same function.
 */
#ifndef TESTS_SUPPORT_RANKS_H
#define TESTS_SUPPORT_RANKS_H

#include <manta/manta.h>

/* What a rank does with its communicator; 0 for success. Failures are reported with rank_fail. */
typedef int rank_fn(struct manta_comm *comm, void *arg);

struct ranks_options {
    int ranks;
    const char *transports;            /* NULL: default */
    int nodes;                         /* > 1: rank r counts as being on node r * nodes / ranks */
    const char *seats;                 /* or a letter for each rank, equal ones of one node */
    uint64_t timeout_ns;               /* 0: 20 s */
    int keep;                          /* 1: fn destroys (or not) the communicator itself */
    int (*enter)(int rank, void *arg); /* before a rank joins; NULL: nothing; not 0: it fails */
};

struct mt_topology;
/* Where these ranks sit, as they will find out themselves; NULL: no memory. Free it. */
struct mt_topology *ranks_topology(const struct ranks_options *options);

/* Run fn on every rank; 0 if all succeeded, else the number of ranks that failed. Bounded by the
 * communicators' deadlines. */
int ranks_run(const struct ranks_options *options, rank_fn *fn, void *arg);

/* One rank of it, in the calling thread: join the session, run fn, leave. 0 if it succeeded. */
int rank_run(const struct ranks_options *options, const char *session, int rank, rank_fn *fn,
             void *arg);

/* A short deadline for the calls of a communicator that has been created with time enough. */
void ranks_hurry(struct manta_comm *comm, uint64_t timeout_ns);

/* A rank whose calls the threads of others watch: it enters its communicator, and is the last to
 * part from it. */
struct ranks_watched {
    struct manta_comm *_Atomic comm;
    _Atomic int parted; /* of the others */
};
/* Until it has begun its nth collective. 0, or 1 after 20 s. */
int ranks_await_call(struct ranks_watched *watched, uint64_t nth);
/* By all ranks, when they watch no more; the watched one waits for the others, at most 60 s. */
void ranks_part(struct ranks_watched *watched, const struct manta_comm *comm);

/* Say why (stderr, one line) and return 1. */
int rank_fail(struct manta_comm *comm, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Number of entries of a folder such as /proc/self/fd. Threads: held_threads(). */
int folder_entries(const char *path);

#endif
