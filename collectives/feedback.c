/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MANTA_FEEDBACK: the first calls of each size class try the algorithms that are predicted to be
 * the best, in turn; then all ranks agree, by an allreduce of their own, which was the fastest for
 * its slowest rank, and that one stays. Only algorithms that give the same bits are tried: what is
 * measured must not change a result. Ranks count calls alike, so they try and agree in the same
 * calls.
 *
 * While a class is tried its calls make no shapes (shape.c), which would pass by the counting; with
 * shapes come the calls that must be short, and they know nothing of this.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "collectives/comm.h"
#include "core/dtype.h"
#include "core/log.h"

enum {
    TRIED = 4,   /* algorithms, at most */
    COLD = 3,    /* calls of each that do not count: they connect, and touch memory */
    CALLS = 12,  /* of each */
    ENOUGH = 4,  /* that were timed: those that the caller posted tell nothing */
    FACTOR = 4,  /* of the best price: what is predicted to be slower is not tried */
    BETTER = 20, /* a difference under one in so many is noise: the model's best stays */
};
#define UNKNOWN UINT64_MAX

struct mt_trial {
    const struct mt_algorithm *algorithms[TRIED]; /* the model's best is the first */
    uint32_t count, calls, decided;
    uint32_t sample_count[TRIED];
    uint64_t samples[TRIED][CALLS];
    uint64_t slowest_ns[TRIED]; /* agreed: of each one, the slowest rank's median */
};

struct mt_feedback {
    int agreeing; /* a call of our own is under way */
    struct mt_trial *trials[MANTA_COLLECTIVE_COUNT][MT_SIZE_CLASSES];
};

int mt_feedback_open(struct manta_comm *comm)
{
    if (!comm->settings.feedback)
        return 0;
    comm->feedback = calloc(1, sizeof(*comm->feedback));
    return comm->feedback ? 0 : MANTA_ENOMEM;
}

void mt_feedback_close(struct manta_comm *comm)
{
    for (int c = 0; comm->feedback && c < MANTA_COLLECTIVE_COUNT; c++)
        for (int k = 0; k < MT_SIZE_CLASSES; k++)
            free(comm->feedback->trials[c][k]);
    free(comm->feedback);
}

static struct mt_trial **trial_of(const struct manta_comm *comm, uint32_t collective,
                                  uint64_t bytes)
{
    return &comm->feedback->trials[collective][mt_select_class(bytes)];
}

int mt_feedback_is_trying(const struct manta_comm *comm, uint32_t collective, uint64_t bytes)
{
    if (!comm->feedback)
        return 0;
    const struct mt_trial *trial = *trial_of(comm, collective, bytes);
    return comm->feedback->agreeing || (trial && !trial->decided);
}

static int reduces(uint32_t collective)
{
    return collective == MANTA_ALLREDUCE || collective == MANTA_REDUCE ||
           collective == MANTA_REDUCE_SCATTER;
}

/* Does it give the bits of the model's best, so that what is measured may prefer it? The class of a
 * sum that is not of the binary order is its own. */
static int is_alike(const struct mt_algorithm *best, const struct mt_algorithm *other)
{
    return !reduces(best->collective) || (best->order != 0 && best->order == other->order);
}

/* A trial of what is worth it. *trial_out is NULL if that is one algorithm: the model's best. */
static int make_trial(const struct mt_select_candidate *candidates, uint32_t count,
                      struct mt_trial **trial_out, struct mt_error *error)
{
    struct mt_trial *trial = calloc(1, sizeof(*trial));
    *trial_out = NULL;
    if (!trial)
        return mt_error_set(error, MANTA_ENOMEM, "no memory to try algorithms; free some");
    for (uint32_t i = 0; i < count && trial->count < TRIED; i++) {
        const struct mt_select_candidate *one = &candidates[i];
        if (!one->excluded && one->score_ns / FACTOR <= candidates[0].score_ns &&
            is_alike(candidates[0].algorithm, one->algorithm))
            trial->algorithms[trial->count++] = one->algorithm;
    }
    if (trial->count < 2)
        free(trial);
    else
        *trial_out = trial;
    return 0;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The fastest; the model's best unless one is clearly better, and all are known. */
static uint32_t fastest(const struct mt_trial *trial)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < trial->count; i++) {
        if (trial->slowest_ns[i] == UNKNOWN)
            return 0;
        if (trial->slowest_ns[i] < trial->slowest_ns[best])
            best = i;
    }
    uint64_t first = trial->slowest_ns[0];
    return trial->slowest_ns[best] < first - first / BETTER ? best : 0;
}

/* All ranks come here in the same call, and leave with the same answer. */
static int agree(struct manta_comm *comm, struct mt_trial *trial, struct mt_error *error)
{
    uint64_t mine[TRIED];
    for (uint32_t i = 0; i < trial->count; i++) {
        uint32_t count = trial->sample_count[i];
        mine[i] = UNKNOWN;
        if (count < COLD + ENOUGH)
            continue;
        uint64_t *warm = &trial->samples[i][COLD];
        qsort(warm, count - COLD, sizeof(*warm), compare);
        mine[i] = warm[(count - COLD) / 2];
    }
    const struct mt_arguments arguments = {
        .collective = MANTA_ALLREDUCE,
        .root = MANTA_PLAN_NONE,
        .src = mine,
        .dst = trial->slowest_ns,
        .count = trial->count,
        .dtype = MANTA_UINT64,
        .op = MANTA_MAX,
        .element_bytes = sizeof(uint64_t),
    };
    comm->feedback->agreeing = 1;
    int rc = mt_call_block(comm, &arguments, NULL);
    comm->feedback->agreeing = 0;
    /* Where an override allows no such call, on all ranks alike, nothing is known. */
    if (rc && rc != MANTA_EALGORITHM)
        return mt_error_set(error, rc, "the ranks could not agree on an algorithm: %s",
                            manta_strerror(rc));
    trial->decided = 1;
    return 0;
}

static void log_choice(const struct manta_comm *comm, int collective, uint64_t bytes,
                       const struct mt_trial *trial)
{
    uint64_t least = mt_select_class_least(bytes);
    char sizes[64] = "";
    if (collective != MANTA_BARRIER)
        snprintf(sizes, sizeof sizes, " of %" PRIu64 " to %" PRIu64 " bytes", least,
                 least ? 2 * (least - 1) + 1 : 0);
    mt_log(MT_LOG_INFO, (int)comm->rank, "%s%s: %s stays, of %u algorithms tried",
           mt_collective_name(collective), sizes, trial->algorithms[fastest(trial)]->name,
           trial->count);
}

int mt_feedback_choose(struct manta_comm *comm, const struct mt_arguments *arguments,
                       uint64_t bytes, const struct mt_algorithm **choice,
                       const struct mt_algorithm **algorithm_out, struct mt_error *error)
{
    struct mt_trial **trial = trial_of(comm, arguments->collective, bytes);
    *algorithm_out = NULL;
    if (!*trial) {
        struct mt_select_candidate candidates[MT_SELECT_CANDIDATES];
        uint32_t count;
        const char *forced;
        int rc = mt_choose_candidates(comm, arguments, candidates, MT_SELECT_CANDIDATES, &count,
                                      &forced, error);
        if (!rc)
            rc = make_trial(candidates, count, trial, error);
        if (rc || !*trial)
            return rc;
    }
    if (comm->feedback->agreeing) { /* our own call: it counts for nothing */
        *algorithm_out = (*trial)->algorithms[0];
        return 0;
    }
    if ((*trial)->calls < (*trial)->count * CALLS) {
        *algorithm_out = (*trial)->algorithms[(*trial)->calls++ % (*trial)->count];
        return 0;
    }
    int rc = agree(comm, *trial, error);
    if (rc)
        return rc;
    *choice = *algorithm_out = (*trial)->algorithms[fastest(*trial)];
    log_choice(comm, (int)arguments->collective, bytes, *trial);
    return 0;
}

void mt_feedback_measure(const struct manta_request *request, uint64_t now_ns)
{
    const struct manta_comm *comm = request->comm;
    if (request->posted || comm->feedback->agreeing)
        return;
    struct mt_trial *trial =
        *trial_of(comm, request->call.collective, request->count * request->element_bytes);
    for (uint32_t i = 0; trial && !trial->decided && i < trial->count; i++) {
        if (trial->algorithms[i] == request->entry->algorithm && trial->sample_count[i] < CALLS)
            trial->samples[i][trial->sample_count[i]++] = now_ns - request->call.posted_ns;
    }
}

uint64_t mt_feedback_ns(const struct manta_comm *comm, const struct mt_algorithm *algorithm,
                        uint64_t bytes)
{
    const struct mt_trial *trial =
        comm->feedback ? *trial_of(comm, algorithm->collective, bytes) : NULL;
    for (uint32_t i = 0; trial && trial->decided && i < trial->count; i++)
        if (trial->algorithms[i] == algorithm && trial->slowest_ns[i] != UNKNOWN)
            return trial->slowest_ns[i];
    return 0;
}
