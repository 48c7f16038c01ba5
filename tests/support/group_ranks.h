/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks of one group as threads of the test. */
#ifndef MT_TESTS_SUPPORT_GROUP_RANKS_H
#define MT_TESTS_SUPPORT_GROUP_RANKS_H

#include <pthread.h>
#include <stdint.h>

#include "core/control.h"
#include "core/group.h"

struct group_rank {
    uint32_t rank, ranks;
    const char *session, *node, *fingerprint;
    uint64_t timeout_ns, warn_ns; /* warn_ns 0: it never says on whom it waits */
    const volatile int *cancel;   /* or NULL */
    struct mt_group *group;       /* NULL when the join failed */
    int result;                   /* of the join, then what the body makes of it */
    struct mt_error error;
    void (*body)(struct group_rank *rank);
    void *arg;
    pthread_t thread;
};

/* Rank i of `ranks` with a timeout of 20 s. */
void group_ranks_init(struct group_rank *list, uint32_t ranks, const char *session);
/* Each joins, runs body when that succeeded (NULL: none), and leaves; all have ended on return. */
void group_ranks_run(struct group_rank *list, uint32_t ranks,
                     void (*body)(struct group_rank *rank));

struct group_parts {
    const void *parts[64];
    size_t part_bytes[64];
    void *storage; /* of the parts; to be freed */
};

/* mt_control_allgather() with up to 63 others, and its result. */
int group_rank_exchange(struct group_rank *rank, const void *mine, size_t mine_bytes,
                        uint64_t timeout_ns, struct group_parts *out);

#endif
