/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A group: the ranks that joined one session, and what this process knows of each. Made by
 * mt_group_join() (bootstrap), owned by the communicator, read-only afterwards, shared with its
 * transports. Joining also brings up the control plane (core/control.h), which lives in the group.
 */
#ifndef MT_CORE_GROUP_H
#define MT_CORE_GROUP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/error.h"
#include "core/place.h"

enum { MT_GROUP_KEY_BYTES = 32, MT_GROUP_ADDRESSES = 16 };

/* One rank as it described itself when it joined. */
struct mt_member {
    uint32_t rank;
    uint64_t node;          /* hash of the node's name: equal on ranks of one node */
    uint64_t boot;          /* hash of the real boot id: shared memory needs it equal */
    uint64_t pid_namespace; /* inode of /proc/self/ns/pid */
    uint64_t net_namespace; /* of its listener: a number of this host's kernel; 0: not known */
    pid_t pid;
    uint64_t process_start; /* start time of that pid, /proc/<pid>/stat field 22: pids are reused */
    uint32_t uid;
    char unix_name[64];    /* abstract unix socket of its listener, without the leading NUL */
    char addresses[768];   /* "10.0.0.1:4000 [fd00::1]:4000 ...": its listener, best first */
    struct mt_place place; /* zone and rack are those of the lowest rank of its node */
};

struct mt_control;
struct mt_reach;

struct mt_group {
    uint32_t rank, ranks;
    uint32_t epoch;                  /* random, never 0; ids of messages carry it */
    uint8_t uid[16];                 /* of this communicator, random */
    uint8_t key[MT_GROUP_KEY_BYTES]; /* secret of the group's streams */
    struct mt_member *members;       /* [ranks] */
    uint64_t timeout_ns;
    uint64_t warn_ns;       /* a wait tells on whom after this; 0: never */
    int has_tcp;            /* its transports include tcp, which may carry what others cannot */
    uint8_t session_id[16]; /* what its session is called in the open */
    uint32_t generation;    /* mt_fork_generation() when it was made */
    struct mt_control *control;
    struct mt_reach *reach; /* [ranks] core/reach.h; under the service's lock. NULL: not kept */
};

struct mt_group_join {
    const char *session; /* as from manta_session_create(). Rank 0 must own it (created in this
                          * process), or be able to listen on its address. */
    uint32_t rank, ranks;
    const char *node;             /* name of the node; NULL: the default */
    const struct mt_place *place; /* where this rank sits; NULL: not known */
    const char *fingerprint; /* lines "NAME=value" (configuration, versions, plugins) that must be
                              * equal on all ranks: a difference is MANTA_EVERSION and names the
                              * first differing line and rank. NULL: nothing to compare */
    uint64_t timeout_ns;
    uint64_t deadline_ns;       /* of the joining: timeout_ns from its begin; 0: from now */
    uint64_t warn_ns;           /* a rank that waits for others says so after this; 0: never */
    const volatile int *cancel; /* see core/cancel.h; NULL: cannot be given up */
    struct mt_group *parent; /* the group it is split from, or NULL. While the new one is being made
                              * it fails when the parent does; later only when it aborts. */
};

/* Join. Collective over `ranks` ranks; blocks until all have joined and every control link stands.
 */
int mt_group_join(const struct mt_group_join *join, struct mt_group **group_out,
                  struct mt_error *error);
/* The communicator is whole: from now on the parent's failure is not its own. */
void mt_group_made(struct mt_group *group);
/* Say goodbye on the control links, unless that was done or the group has failed: this rank makes
 * no call any more. Bounded by half a second. */
void mt_group_goodbye(struct mt_group *group);
/* The same, close the links, free. Bounded by about a second. */
void mt_group_leave(struct mt_group *group);

/* 1 if both ranks are on one node (equal node and boot). */
int mt_group_same_node(const struct mt_group *group, uint32_t a, uint32_t b);
/* 1 if loopback and abstract unix sockets of one are the other's (equal boot and net_namespace). */
int mt_group_same_network(const struct mt_group *group, uint32_t a, uint32_t b);

#endif
