/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/group_ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

void group_ranks_init(struct group_rank *list, uint32_t ranks, const char *session)
{
    memset(list, 0, ranks * sizeof *list);
    for (uint32_t r = 0; r < ranks; r++) {
        list[r].rank = r;
        list[r].ranks = ranks;
        list[r].session = session;
        list[r].fingerprint = "";
        list[r].timeout_ns = 20 * MT_SECOND;
    }
}

static void *run_rank(void *arg)
{
    struct group_rank *rank = arg;
    rank->result = mt_group_join(&(struct mt_group_join){.session = rank->session,
                                                         .rank = rank->rank,
                                                         .ranks = rank->ranks,
                                                         .node = rank->node,
                                                         .fingerprint = rank->fingerprint,
                                                         .timeout_ns = rank->timeout_ns,
                                                         .warn_ns = rank->warn_ns,
                                                         .cancel = rank->cancel},
                                 &rank->group, &rank->error);
    if (rank->result == 0 && rank->body)
        rank->body(rank);
    mt_group_leave(rank->group);
    rank->group = NULL;
    return NULL;
}

void group_ranks_run(struct group_rank *list, uint32_t ranks, void (*body)(struct group_rank *rank))
{
    for (uint32_t r = ranks; r-- > 0;) { /* rank 0 comes last: the others wait for it */
        list[r].body = body;
        if (pthread_create(&list[r].thread, NULL, run_rank, &list[r])) {
            fprintf(stderr, "cannot start a thread\n");
            exit(1);
        }
    }
    for (uint32_t r = 0; r < ranks; r++)
        pthread_join(list[r].thread, NULL);
}

int group_rank_exchange(struct group_rank *rank, const void *mine, size_t mine_bytes,
                        uint64_t timeout_ns, struct group_parts *out)
{
    struct mt_exchange exchange = {.mine = mine,
                                   .mine_bytes = mine_bytes,
                                   .deadline_ns = mt_clock_now_ns() + timeout_ns,
                                   .parts = out->parts,
                                   .part_bytes = out->part_bytes};
    int rc = mt_control_allgather(rank->group->control, &exchange, &rank->error);
    out->storage = exchange.storage;
    return rc;
}
