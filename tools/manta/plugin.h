/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta plugin: what a transport must do, checked. plugin.c is the command; plugin_child.c runs
 * each topic in a process of its own; plugin_world.c makes ranks of its threads, and plugin_ops.c
 * their calls; the topics themselves are in plugin_messages.c, plugin_stop.c, plugin_bounds.c,
 * plugin_tables.c and plugin_random.c.
 */
#ifndef MT_TOOLS_PLUGIN_H
#define MT_TOOLS_PLUGIN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <manta/transport.h>

#include "core/error.h"
#include "core/group.h"
#include "transport/guard.h"

enum { CHECK_RANKS = 3, CHECK_WAIT_S = 10 };

/* The op that a rank is in. */
enum check_op {
    CHECK_NONE,
    CHECK_LOAD,
    CHECK_QUERY,
    CHECK_OPEN,
    CHECK_ADDRESS,
    CHECK_PEERS,
    CHECK_PROBE,
    CHECK_CONNECT,
    CHECK_REGISTER,
    CHECK_DEREGISTER,
    CHECK_EXPORT,
    CHECK_IMPORT,
    CHECK_SEND,
    CHECK_RECV,
    CHECK_PROGRESS,
    CHECK_WAIT_FD,
    CHECK_ARM,
    CHECK_DISARM,
    CHECK_PEER_STATUS,
    CHECK_ERROR,
    CHECK_ABORT,
    CHECK_DRAIN,
    CHECK_CLOSE,
    CHECK_COUNTERS,
    CHECK_OPS
};
const char *check_op_name(int op);

enum check_outcome { CHECK_RUNNING, CHECK_PASSED, CHECK_FAILED, CHECK_SKIPPED };

/* What the child process leaves for its parent, in memory that they share. */
struct check_shared {
    _Atomic int op[CHECK_RANKS]; /* enum check_op, while a rank is in it */
    _Atomic int claimed;         /* somebody words the outcome */
    _Atomic int outcome;         /* enum check_outcome */
    _Atomic int forbidden;       /* memory of messages that are over may not be touched now */
    char sentence[768];
};

struct check_world;

/* One rank: a thread of the child. */
struct check_rank {
    uint32_t rank, ranks;
    struct check_world *world;
    const struct manta_transport *transport;
    struct mt_group *group;
    uint32_t epoch;
    void *endpoint;
    unsigned char *arena; /* what its messages lie in: whole pages */
    size_t arena_bytes, arena_used;
    uint64_t random;
    pthread_t thread;
};

struct check_topic {
    const char *name, *meaning;
    uint32_t ranks;
    int connected; /* peers are, when it begins */
    void (*run)(struct check_rank *self);
};
extern const struct check_topic check_topics[];
extern const uint32_t check_topic_count;

struct check_result {
    enum check_outcome outcome;
    int signal;   /* that ended the child; 0: none */
    int hung;     /* it was killed after its time */
    uint32_t ops; /* that ranks were in then: bit i: enum check_op */
    char sentence[768];
};

/* Run a topic on a transport (a name or a path), for so many seconds at most. 0, or -1: no child.
 * */
int check_run(const struct check_topic *topic, const char *target, uint32_t limit_s,
              struct check_result *result_out);

/* In the child: the ranks of a topic. Does not return. */
void check_world_run(const struct check_topic *topic, const char *target,
                     struct check_shared *shared) __attribute__((noreturn));
/* The outcome of the topic; the process ends here. */
void check_fail(const struct check_rank *self, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));
void check_skip(const struct check_rank *self, const char *sentence) __attribute__((noreturn));
void check_barrier(struct check_rank *self);
/* A number that any rank may set and read; index below 4. */
_Atomic int *check_flag(struct check_rank *self, uint32_t index);
/* How often a transport has asked the host for memory so far. */
uint64_t check_allocations(const struct check_rank *self);
/* From now on, touching the arena is a crash. */
void check_forbid(struct check_rank *self);
/* From the arena, which fails the topic when it is used up. */
void *check_memory(struct check_rank *self, size_t bytes);
uint64_t check_random(struct check_rank *self, uint64_t below);

/* The ops, watched: what a rank is in, and that none takes long. plugin_ops.c */
int check_open(struct check_rank *self, struct manta_transport_error *error);
int check_address(struct check_rank *self, void *blob, size_t blob_bytes, size_t *bytes_out);
int check_peers(struct check_rank *self, const void *const *addresses, const size_t *bytes);
int check_probe(struct check_rank *self, uint32_t peer,
                struct manta_transport_properties *properties);
/* The same; a transport that does not reach it cannot be checked. */
void check_reach(struct check_rank *self, uint32_t peer,
                 struct manta_transport_properties *properties);
int check_connect(struct check_rank *self, uint32_t peer, uint64_t deadline_ns);
int check_register(struct check_rank *self, const struct manta_transport_buffer *buffer,
                   void **registration_out);
int check_deregister(struct check_rank *self, void *registration);
int check_export(struct check_rank *self, void *registration, void *blob, size_t blob_bytes,
                 size_t *bytes_out);
int check_import(struct check_rank *self, uint32_t peer, const void *blob, size_t bytes,
                 void **remote_out);
int check_progress(struct check_rank *self);
int check_wait_fd(struct check_rank *self);
int check_arm(struct check_rank *self);
void check_disarm(struct check_rank *self);
int check_peer_status(struct check_rank *self, uint32_t peer);
void check_error(struct check_rank *self, struct manta_transport_error *error_out);
int check_abort(struct check_rank *self, int code);
int check_drain(struct check_rank *self);
void check_close(struct check_rank *self);
void check_counters(struct check_rank *self, struct manta_transport_counters *counters_out);

/* A message that is sent or received, with what it lies in. */
struct check_message {
    struct manta_transport_request request;
    struct manta_transport_id id;
    uint32_t peer, pieces, seed;
    uint64_t bytes;
    unsigned char *memory;
};

/* What message `index` of a pair of ranks is: alike at both ends. Memory is taken for it. */
void check_prepare(struct check_rank *self, struct check_message *message, uint32_t from,
                   uint32_t to, uint32_t index, uint64_t bytes);
/* One try: its answer. What it is given is spoilt when it has returned. */
int check_post(struct check_rank *self, struct check_message *message, int is_send);
/* What may be no message at all. */
int check_post_as(struct check_rank *self, const struct manta_transport_message *posted,
                  struct manta_transport_request *request, int is_send);
/* Until it is accepted, with progress meanwhile. */
void check_send(struct check_rank *self, struct check_message *message);
void check_recv(struct check_rank *self, struct check_message *message);
/* Until all are complete; each in good time after the one before. */
void check_wait(struct check_rank *self, struct check_message *messages, uint32_t count);
void check_content(struct check_rank *self, const struct check_message *message);
/* Progress, until the flag is set or (NULL) for so long. */
void check_pass_time(struct check_rank *self, const _Atomic int *flag, uint64_t ns);
/* The answer must be that. */
void check_answer(struct check_rank *self, int op, int answer, int expected);
/* Least eager limit to a peer. */
uint64_t check_eager_bytes(struct check_rank *self);

/* The topics. */
void topic_open(struct check_rank *self);
void topic_matching(struct check_rank *self);
void topic_ordering(struct check_rank *self);
void topic_mismatch(struct check_rank *self);
void topic_length(struct check_rank *self);
void topic_epoch(struct check_rank *self);
void topic_deadline(struct check_rank *self);
void topic_abort(struct check_rank *self);
void topic_close(struct check_rank *self);
void topic_drain(struct check_rank *self);
void topic_lost(struct check_rank *self);
void topic_eager(struct check_rank *self);
void topic_full(struct check_rank *self);
void topic_sleep(struct check_rank *self);
void topic_errors(struct check_rank *self);
void topic_counters(struct check_rank *self);
void topic_registration(struct check_rank *self);
void topic_random(struct check_rank *self);

#endif
