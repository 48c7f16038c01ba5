/* SPDX-License-Identifier: Apache-2.0 */
/* New communicators out of an old one: each colour's ranks meet at a session that the first of them
 * makes and all learn of in the old one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/comm.h"
#include "core/session_own.h"
#include "scheduler/scheduler.h"

/* What each rank tells about itself in a split, and the session of a group's first rank. */
struct split_entry {
    uint64_t sequence;
    int32_t colour, key;
    uint32_t rank, history;
};

static int compare_entries(const void *a, const void *b)
{
    const struct split_entry *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* Of all steps together. */
static uint64_t deadline_of(const struct manta_comm *comm, const struct mt_call *call)
{
    return call->posted_ns + comm->settings.timeout_ns;
}

static int gather(struct manta_comm *comm, const struct mt_call *call, const void *mine,
                  size_t bytes, size_t each_bytes_max, char *all, struct mt_error *error)
{
    const void **parts = calloc(comm->ranks, sizeof(*parts));
    size_t *lengths = calloc(comm->ranks, sizeof(*lengths));
    struct mt_exchange exchange = {.call = call,
                                   .mine = mine,
                                   .mine_bytes = bytes,
                                   .deadline_ns = deadline_of(comm, call),
                                   .parts = parts,
                                   .part_bytes = lengths};
    int rc = parts && lengths
                 ? 0
                 : mt_error_set(error, MANTA_ENOMEM, "no memory to split %u ranks", comm->ranks);
    if (!rc)
        rc = mt_control_allgather(comm->control, &exchange, error);
    for (uint32_t r = 0; !rc && r < comm->ranks; r++) {
        if (lengths[r] > each_bytes_max)
            rc = mt_error_set_rank(error, MANTA_EMISMATCH, (int)r,
                                   "rank %u did not call manta_comm_split", r);
        else
            memcpy(all + r * each_bytes_max, parts[r], lengths[r]);
    }
    free(exchange.storage);
    free(lengths);
    free(parts);
    return rc;
}

/* My rank and the size of my colour; *first_out: the old rank of its rank 0. */
static void place(struct split_entry *entries, uint32_t ranks, const struct split_entry *mine,
                  struct mt_scheduler_job *job, uint32_t *first_out)
{
    qsort(entries, ranks, sizeof(*entries), compare_entries);
    job->ranks = 0;
    for (uint32_t i = 0; i < ranks; i++) {
        if (entries[i].colour != mine->colour)
            continue;
        if (job->ranks == 0)
            *first_out = entries[i].rank;
        if (entries[i].rank == mine->rank)
            job->rank = job->ranks;
        job->ranks++;
    }
}

/* All have come to a split; it must be the same one, after the same calls. */
static int compare(struct manta_comm *comm, const struct mt_call *call,
                   const struct split_entry *entries, struct mt_error *error)
{
    for (uint32_t r = 0; r < comm->ranks; r++) {
        if (entries[r].sequence == call->sequence && entries[r].history == call->history)
            continue;
        mt_control_mismatch(comm->control, call, r);
        mt_control_failure(comm->control, error);
        return error->code;
    }
    return 0;
}

static int split(struct manta_comm *comm, const struct mt_call *call, int colour, int key,
                 struct manta_comm **comm_out, struct mt_error *error)
{
    enum { SESSION_BYTES = 1024 };
    struct mt_scheduler_job job = {0};
    const struct split_entry mine = {.sequence = call->sequence,
                                     .colour = colour,
                                     .key = key,
                                     .rank = comm->rank,
                                     .history = call->history};
    uint32_t first = comm->rank;
    struct split_entry *entries = calloc(comm->ranks, sizeof(*entries));
    char *sessions = calloc(comm->ranks, SESSION_BYTES);
    int rc = entries && sessions ? 0 : mt_error_set(error, MANTA_ENOMEM, "no memory to split");
    if (!rc)
        rc = gather(comm, call, &mine, sizeof(mine), sizeof(mine), (char *)entries, error);
    if (!rc)
        rc = compare(comm, call, entries, error);
    if (!rc && colour >= 0)
        place(entries, comm->ranks, &mine, &job, &first);
    if (!rc && colour >= 0 && first == comm->rank &&
        manta_session_create(job.session, sizeof(job.session)))
        rc = mt_error_set(error, MANTA_ESYSTEM, "no listener for the new communicator");
    if (!rc)
        rc = gather(comm, call, job.session, strlen(job.session) + 1, SESSION_BYTES, sessions,
                    error);
    if (!rc && colour >= 0) {
        memcpy(job.session, sessions + (size_t)first * SESSION_BYTES, SESSION_BYTES - 1);
        snprintf(job.node, sizeof(job.node), "#%016llx",
                 (unsigned long long)comm->group->members[comm->rank].node);
        const struct mt_creation how = {.job = &job,
                                        .settings = &comm->settings,
                                        .parent = comm,
                                        .deadline_ns = deadline_of(comm, call)};
        rc = mt_comm_make(&how, comm_out, error);
    }
    if (rc && first == comm->rank)
        mt_session_forget(job.session);
    free(sessions);
    free(entries);
    return rc;
}

/* Splitting blocks; calls that were posted before must go on meanwhile. */
struct splitting {
    struct manta_comm *parent;
    const struct mt_call *call;
    int colour, key, result;
    struct manta_comm **comm_out;
    struct mt_error *error;
};

/* The other ranks wait for this one: a split that fails on one rank fails the communicator, so that
 * they know. When that is why it failed, its error names ranks as the caller knows them. */
static void run_split(void *arg)
{
    struct splitting *c = arg;
    struct mt_control *control = c->parent->control;
    c->result = split(c->parent, c->call, c->colour, c->key, c->comm_out, c->error);
    if (c->result && !mt_control_failed(control)) {
        struct mt_error error = *c->error;
        mt_error_set_rank(&error, c->result, (int)c->parent->rank,
                          "rank %u could not make the communicator of a split: %.400s",
                          c->parent->rank, c->error->sentence);
        mt_control_fail(control, &error);
    }
    if (c->result) {
        mt_control_failure(control, c->error);
        c->result = c->error->code;
    }
}

static int refuse(struct manta_comm *comm, const char *why)
{
    struct mt_error error;
    mt_error_set(&error, MANTA_EINVAL, "split(): %s", why);
    mt_comm_set_error(comm, &error);
    return MANTA_EINVAL;
}

int manta_comm_split(struct manta_comm *comm, int colour, int key, struct manta_comm **comm_out)
{
    struct mt_error error;
    if (comm_out)
        *comm_out = NULL;
    if (!comm || !comm_out || colour < -1)
        return refuse(comm, !comm       ? "comm is NULL"
                            : !comm_out ? "comm_out is NULL"
                                        : "colour must be 0 or more, or -1 to be in none");
    int rc = mt_comm_enter(comm);
    if (rc)
        return rc;
    rc = mt_call_failed_before(comm);
    if (!rc) {
        struct mt_call call;
        uint32_t slot = mt_call_begin_split(comm, &call);
        struct splitting splitting = {.parent = comm,
                                      .call = &call,
                                      .colour = colour,
                                      .key = key,
                                      .comm_out = comm_out,
                                      .error = &error};
        mt_wait_beside(comm, run_split, &splitting);
        rc = splitting.result;
        mt_call_end_split(comm, slot, rc);
        if (rc)
            mt_comm_set_error(comm, &error);
    }
    mt_comm_leave(comm);
    return rc;
}
