/* SPDX-License-Identifier: Apache-2.0 */
/* Which algorithm runs a call: the user's override, else what feedback finds, else the cost model's
 * best for the size class, looked up once and remembered. Only what all ranks pass alike, and what
 * they have agreed on, takes part. */
#include <string.h>

#include "collectives/catalogue.h"
#include "collectives/comm.h"
#include "core/dtype.h"

static uint64_t bytes_of(const struct mt_arguments *arguments)
{
    return arguments->count * manta_dtype_size((int)arguments->dtype);
}

struct mt_plan_request mt_choose_request(const struct manta_comm *comm,
                                         const struct mt_arguments *arguments)
{
    return (struct mt_plan_request){.collective = arguments->collective,
                                    .rank = comm->rank,
                                    .ranks = comm->ranks,
                                    .root = arguments->root,
                                    .topology = comm->topology,
                                    .fuses = comm->fused_endpoint != MT_ROUTE_NONE};
}

int mt_choose_candidates(struct manta_comm *comm, const struct mt_arguments *arguments,
                         struct mt_select_candidate *candidates, uint32_t capacity,
                         uint32_t *count_out, const char **forced_out, struct mt_error *error)
{
    const struct mt_select_context context = {
        .ranks = comm->ranks,
        .fused_available =
            comm->fused_endpoint != MT_ROUTE_NONE && comm->topology->groups[MT_LEVEL_NODE] == 1,
        .reproducible = (uint32_t)comm->settings.reproducible,
        .cost = &comm->cost,
        .catalogue = mt_catalogue,
    };
    const struct mt_plan_request request = mt_choose_request(comm, arguments);
    uint64_t bytes = bytes_of(arguments);
    *forced_out = mt_select_forced(&comm->settings.overrides[arguments->collective], bytes);
    return mt_select(&context, &request, bytes, candidates, capacity, count_out, error);
}

static int choose_among(struct manta_comm *comm, const struct mt_arguments *arguments,
                        const struct mt_algorithm **algorithm_out, struct mt_error *error)
{
    struct mt_select_candidate candidates[MT_SELECT_CANDIDATES];
    uint32_t count;
    const char *forced;
    int rc = mt_choose_candidates(comm, arguments, candidates, MT_SELECT_CANDIDATES, &count,
                                  &forced, error);
    if (rc)
        return rc;
    int chosen = mt_select_pick(candidates, count, forced);
    if (chosen >= 0) {
        *algorithm_out = candidates[chosen].algorithm;
        return 0;
    }
    const char *collective = mt_collective_name((int)arguments->collective);
    for (uint32_t i = 0; forced && i < count; i++) {
        if (strcmp(candidates[i].algorithm->name, forced) == 0)
            return mt_error_set(error, MANTA_EALGORITHM, "%s cannot run %s here: %s", forced,
                                collective, candidates[i].excluded);
    }
    return mt_error_set(error, MANTA_EALGORITHM, "no algorithm can run %s over %u ranks here",
                        collective, comm->ranks);
}

/* The override's range that holds this size, or -1. */
static int forced_range(const struct mt_select_override *override, uint64_t bytes)
{
    for (uint32_t i = 0; i < override->count; i++) {
        if (bytes >= override->ranges[i].from_bytes && bytes < override->ranges[i].to_bytes)
            return (int)i;
    }
    return -1;
}

int mt_choose(struct manta_comm *comm, const struct mt_arguments *arguments,
              const struct mt_algorithm **algorithm_out, struct mt_error *error)
{
    uint32_t collective = arguments->collective;
    uint64_t bytes = bytes_of(arguments);
    int range = forced_range(&comm->settings.overrides[collective], bytes);
    const struct mt_algorithm **choice = range >= 0
                                             ? &comm->forced[collective][range]
                                             : &comm->chosen[collective][mt_select_class(bytes)];
    *algorithm_out = NULL;
    if (!*choice && comm->feedback && range < 0) {
        int rc = mt_feedback_choose(comm, arguments, bytes, choice, algorithm_out, error);
        if (rc || *algorithm_out)
            return rc;
    }
    if (!*choice) {
        int rc = choose_among(comm, arguments, choice, error);
        if (rc)
            return rc;
    }
    *algorithm_out = *choice;
    return 0;
}
