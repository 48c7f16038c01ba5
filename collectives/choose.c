/* SPDX-License-Identifier: Apache-2.0 */
/* Which algorithm runs a call: the user's override, else the cost model's best for the size class,
 * looked up once and remembered. Only what all ranks pass alike takes part. */
#include "collectives/catalogue.h"
#include "collectives/comm.h"
#include "core/dtype.h"

uint64_t mt_arguments_bytes(const struct mt_arguments *arguments)
{
    return arguments->count * manta_dtype_size((int)arguments->dtype);
}

static uint32_t size_class(uint64_t bytes)
{
    return bytes ? 64 - (uint32_t)__builtin_clzll(bytes) : 0;
}

int mt_choose_candidates(struct manta_comm *comm, const struct mt_arguments *arguments,
                         struct mt_select_candidate *candidates, uint32_t capacity,
                         uint32_t *count_out, const char **forced_out, struct mt_error *error)
{
    const struct mt_select_context context = {
        .ranks = comm->ranks,
        .fused_available = comm->fused_endpoint != MT_ROUTE_NONE,
        .reproducible = (uint32_t)comm->settings.reproducible,
        .cost = &comm->cost,
        .catalogue = mt_catalogue,
    };
    const struct mt_plan_request request = {
        .collective = arguments->collective,
        .rank = comm->rank,
        .ranks = comm->ranks,
        .root = arguments->root,
    };
    uint64_t bytes = mt_arguments_bytes(arguments);
    *forced_out = mt_select_forced(&comm->settings.overrides[arguments->collective], bytes);
    return mt_select(&context, &request, bytes, candidates, capacity, count_out, error);
}

static int choose_among(struct manta_comm *comm, const struct mt_arguments *arguments,
                        const struct mt_algorithm **algorithm_out, struct mt_error *error)
{
    struct mt_select_candidate candidates[16];
    uint32_t count;
    const char *forced;
    int rc = mt_choose_candidates(comm, arguments, candidates, 16, &count, &forced, error);
    if (rc)
        return rc;
    const struct mt_algorithm *wanted =
        forced ? mt_catalogue_find(arguments->collective, forced) : NULL;
    const char *collective = mt_collective_name((int)arguments->collective);
    if (forced && !wanted)
        return mt_error_set(error, MANTA_EALGORITHM,
                            "%s has no algorithm '%s'; see manta explain --coll %s", collective,
                            forced, collective);
    for (uint32_t i = 0; i < count; i++) {
        const struct mt_select_candidate *candidate = &candidates[i];
        if (wanted && candidate->algorithm != wanted)
            continue;
        if (wanted && candidate->excluded)
            return mt_error_set(error, MANTA_EALGORITHM, "%s cannot run %s here: %s", forced,
                                collective, candidate->excluded);
        if (candidate->excluded)
            continue;
        *algorithm_out = candidate->algorithm;
        return 0;
    }
    return mt_error_set(error, MANTA_EALGORITHM, "no algorithm can run %s over %u ranks here",
                        collective, comm->ranks);
}

int mt_choose(struct manta_comm *comm, const struct mt_arguments *arguments,
              const struct mt_algorithm **algorithm_out, struct mt_error *error)
{
    /* An override's limits need not be powers of two: with one, the size class does not decide
     * alone. */
    if (comm->settings.overrides[arguments->collective].count > 0) {
        const char *forced = mt_select_forced(&comm->settings.overrides[arguments->collective],
                                              mt_arguments_bytes(arguments));
        const struct mt_algorithm *wanted =
            forced ? mt_catalogue_find(arguments->collective, forced) : NULL;
        if (!wanted || comm->choices[arguments->collective][0].algorithm != wanted) {
            int rc = choose_among(comm, arguments, algorithm_out, error);
            if (rc == 0)
                comm->choices[arguments->collective][0].algorithm = *algorithm_out;
            return rc;
        }
        *algorithm_out = wanted;
        return 0;
    }
    struct mt_choice *choice =
        &comm->choices[arguments->collective][size_class(mt_arguments_bytes(arguments))];
    if (!choice->algorithm) {
        int rc = choose_among(comm, arguments, &choice->algorithm, error);
        if (rc)
            return rc;
    }
    *algorithm_out = choice->algorithm;
    return 0;
}
