/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/price.h"

#include <stdlib.h>

#include <manta/manta.h>

/* Groups up to PRICED_RANKS, and larger ones of at most PRICED_WORK steps and blocks (or up to
 * PRICED_WORK_MOST where smaller ones cannot stand for them), are priced exactly. */
enum { PRICED_RANKS = 64, PRICED_WORK = 60000, PRICED_WORK_MOST = 1000000 };
enum { SAMPLED_RANKS = 256 };

static uint64_t count_messages(struct manta_plan *const *plans, uint32_t ranks)
{
    uint64_t messages = 0;
    for (uint32_t r = 0; r < ranks; r++)
        for (uint32_t i = 0; plans[r] && i < plans[r]->step_count; i++)
            messages += plans[r]->steps[i].kind == MANTA_PLAN_SEND;
    return messages;
}

static uint64_t count_combined(struct manta_plan *const *plans, uint32_t ranks)
{
    uint64_t combined = 0;
    for (uint32_t r = 0; r < ranks; r++)
        for (uint32_t i = 0; plans[r] && i < plans[r]->step_count; i++) {
            const struct manta_plan_step *step = &plans[r]->steps[i];
            if (step->kind == MANTA_PLAN_REDUCE)
                combined += UINT64_C(1024) * plans[r]->locations[step->location_first].count /
                            plans[r]->blocks;
        }
    return combined;
}

/* Price one algorithm on the first `ranks` ranks. */
static int price_exactly(const struct mt_cost_model *cost, const struct mt_plan_request *request,
                         uint64_t bytes, struct mt_select_candidate *candidate,
                         struct mt_error *error)
{
    const struct mt_algorithm *algorithm = candidate->algorithm;
    struct manta_plan **plans = calloc(request->ranks, sizeof(*plans));
    if (!plans)
        return mt_error_set(error, MANTA_ENOMEM, "no memory to price %s; free some",
                            algorithm->name);
    int rc = mt_plan_compile_all(algorithm, request, plans, error);
    if (rc == 0) {
        rc = mt_plan_cost(cost, (const struct manta_plan *const *)plans, request->ranks, bytes,
                          &candidate->predicted_ns, error);
        candidate->messages = count_messages(plans, request->ranks);
        candidate->combined = count_combined(plans, request->ranks);
        mt_plan_free_all(plans, request->ranks);
    }
    free(plans);
    return rc;
}

/* How long the plan of rank 0 is in a group of this size, and how much work those of all are. */
static int measure(const struct mt_algorithm *algorithm, const struct mt_plan_request *request,
                   uint32_t ranks, uint64_t *steps_out, uint64_t *work_out, struct mt_error *error)
{
    struct mt_plan_request first = *request;
    struct manta_plan *plan;
    first.rank = 0;
    first.ranks = ranks;
    if (mt_plan_compile(algorithm, &first, &plan, error))
        return error->code;
    *steps_out = plan->step_count;
    *work_out = ((uint64_t)plan->step_count + plan->blocks) * ranks;
    mt_plan_free(plan);
    return 0;
}

/* Prices of the first ranks, of twice and of four times as many, and how long rank 0's plan is for
 * the last and for all ranks. */
struct sample {
    uint64_t prices[3];
    uint32_t ranks; /* the last group */
    uint64_t steps, steps_of_all;
};

/* By how many 1024ths of what a doubling of the ranks has added the next one adds: as much where
 * plans grow with the logarithm, twice as much where they grow with the ranks. Plans of a fixed
 * length may be of trees or of chains: their prices tell. */
static uint64_t growth_of(const struct sample *sample, uint32_t ranks)
{
    uint64_t before = sample->prices[1] - sample->prices[0];
    uint64_t added = sample->prices[2] - sample->prices[1];
    if (sample->steps_of_all > sample->steps)
        return sample->steps_of_all > sample->steps * (ranks / sample->ranks) / 2 ? 2048 : 1024;
    if (sample->prices[1] <= sample->prices[0] || sample->prices[2] <= sample->prices[1])
        return 1024;
    uint64_t growth = added < UINT64_MAX / 1024 ? added * 1024 / before : 2048;
    return growth < 1024 ? 1024 : growth > 2048 ? 2048 : growth;
}

static uint64_t extrapolate(const struct sample *sample, uint32_t ranks)
{
    uint64_t price = sample->prices[2], growth = growth_of(sample, ranks);
    uint64_t added = price > sample->prices[1] ? price - sample->prices[1] : 0;
    for (uint64_t reached = sample->ranks; reached < ranks; reached *= 2) {
        added = added / 1024 * growth + added % 1024 * growth / 1024;
        if (added > UINT64_MAX / 4 || price > UINT64_MAX / 4)
            return UINT64_MAX / 2;
        uint64_t more = ranks - reached < reached ? ranks - reached : reached;
        price += added / reached * more + added % reached * more / reached;
    }
    return price;
}

/* How many ranks eight nodes have, as many as the first one; 0: nobody knows, or there are fewer.
 * */
static uint32_t ranks_of_eight_nodes(const struct mt_plan_request *request)
{
    const struct mt_topology *topology = request->topology;
    uint64_t on_node = 0;
    for (uint32_t r = 0; topology && r < request->ranks; r++)
        on_node += topology->group[MT_LEVEL_NODE][r] == topology->group[MT_LEVEL_NODE][0];
    return 8 * on_node < request->ranks ? (uint32_t)(8 * on_node) : 0;
}

/* The request for group i of the three, of which the largest has so many ranks. */
static struct mt_plan_request first_of(const struct mt_plan_request *request, uint32_t largest,
                                       uint32_t i)
{
    struct mt_plan_request smaller = *request;
    smaller.rank = 0;
    smaller.root = 0;
    smaller.ranks = largest >> (2 - i);
    return smaller;
}

static int fits(const struct mt_algorithm *algorithm, const struct mt_plan_request *request,
                uint32_t largest)
{
    for (uint32_t i = 0; i < 3; i++) {
        const struct mt_plan_request smaller = first_of(request, largest, i);
        if (algorithm->unfit && algorithm->unfit(&smaller))
            return 0;
    }
    return 1;
}

/* The largest of the three groups: best whole nodes, since plans through leaders need some, and
 * since all three then cross nodes; but not too many ranks, if fewer do. 0: none fits. */
static uint32_t sampled_ranks(const struct mt_algorithm *algorithm,
                              const struct mt_plan_request *request)
{
    uint32_t whole = ranks_of_eight_nodes(request);
    while (whole && whole < PRICED_RANKS)
        whole *= 2;
    if (whole >= request->ranks || (whole && !fits(algorithm, request, whole)))
        whole = 0;
    if (whole && whole <= SAMPLED_RANKS)
        return whole;
    return fits(algorithm, request, PRICED_RANKS) ? PRICED_RANKS : whole;
}

int mt_price(const struct mt_cost_model *cost, const struct mt_plan_request *request,
             uint64_t bytes, struct mt_select_candidate *candidate, struct mt_error *error)
{
    struct sample sample = {.ranks = 0};
    uint64_t work = 0;
    int small = request->ranks <= PRICED_RANKS || request->collective >= MANTA_SEND;
    if (!small &&
        measure(candidate->algorithm, request, request->ranks, &sample.steps_of_all, &work, error))
        return error->code;
    if (!small && work > PRICED_WORK)
        sample.ranks = sampled_ranks(candidate->algorithm, request);
    if (!sample.ranks && work > PRICED_WORK_MOST) { /* nobody waits for that: run it by override */
        candidate->predicted_ns = UINT64_MAX / 2;
        return 0;
    }
    if (!sample.ranks)
        return price_exactly(cost, request, bytes, candidate, error);
    for (uint32_t i = 0; i < 3; i++) {
        const struct mt_plan_request smaller = first_of(request, sample.ranks, i);
        if (price_exactly(cost, &smaller, bytes, candidate, error))
            return error->code;
        sample.prices[i] = candidate->predicted_ns;
    }
    if (measure(candidate->algorithm, request, sample.ranks, &sample.steps, &work, error))
        return error->code;
    candidate->predicted_ns = extrapolate(&sample, request->ranks);
    candidate->messages = candidate->messages * request->ranks / sample.ranks;
    candidate->combined = candidate->combined * request->ranks / sample.ranks;
    return 0;
}
