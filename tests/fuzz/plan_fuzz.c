/* SPDX-License-Identifier: Apache-2.0 */
/* Plans as a plugin or a file might give them: words of a sound set of plans are overwritten, and
 * the verifier must answer without leaving its memory. What it accepts must price and print. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/catalogue.h"
#include "plan/cost.h"
#include "plan/print.h"
#include "plan/verify.h"

enum { RANKS_MAX = 6, EDIT_BYTES = 8 };

/* The array and its length in words that an edit goes to. */
static uint32_t *choose_words(struct manta_plan *plan, uint8_t which, size_t *words_out)
{
    switch (which % 6) {
    case 0:
        *words_out = plan->step_count * sizeof(*plan->steps) / 4;
        return (uint32_t *)(uintptr_t)plan->steps;
    case 1:
        *words_out = plan->location_count * sizeof(*plan->locations) / 4;
        return (uint32_t *)(uintptr_t)plan->locations;
    case 2:
        *words_out = plan->depend_count;
        return (uint32_t *)(uintptr_t)plan->depends;
    case 3:
        *words_out = plan->region_count;
        return (uint32_t *)(uintptr_t)plan->regions;
    case 4:
        *words_out = plan->fused_count ? plan->fused->member_count * 5 : 0;
        return (uint32_t *)(uintptr_t)(plan->fused_count ? plan->fused->members : NULL);
    default: /* collective .. blocks, lanes, whole; the counts describe the arrays and are true */
        *words_out = 9;
        return &plan->collective;
    }
}

/* plan, array, index, value: two bytes of index, four of value */
static void edit(struct manta_plan **plans, uint32_t ranks, const uint8_t *bytes)
{
    struct manta_plan *plan = plans[bytes[0] % ranks];
    uint32_t value;
    size_t words;
    if (!plan)
        return;
    uint32_t *array = choose_words(plan, bytes[1], &words);
    memcpy(&value, bytes + 4, sizeof(value));
    if (words)
        array[(bytes[2] | (size_t)bytes[3] << 8) % words] = value;
}

static void use(const struct manta_plan *const *plans, uint32_t ranks)
{
    static char text[4096];
    struct mt_topology *topology;
    struct mt_cost_model model;
    struct mt_error error;
    uint64_t ns;
    if (mt_topology_of_nodes(ranks, NULL, &topology))
        abort();
    mt_cost_defaults(&model, topology, 1 << 16);
    if (mt_plan_cost(&model, plans, ranks, 1 << 20, &ns, &error))
        abort();
    mt_topology_free(topology);
    for (uint32_t r = 0; r < ranks; r++)
        for (uint32_t s = 0; plans[r] && s < plans[r]->step_count; s++)
            mt_plan_describe(plans[r], s, text, sizeof(text));
}

/* Plans of all ranks by one algorithm, on nodes of two; 0: it does not fit these ranks. */
static int compile(uint8_t which, uint8_t shape, struct manta_plan **plans, uint32_t *ranks_out)
{
    static const uint64_t nodes[RANKS_MAX] = {0, 0, 1, 1, 2, 2};
    struct mt_topology *topology;
    struct mt_error error;
    uint32_t algorithms = 0, ranks = 2 + shape % (RANKS_MAX - 1);
    while (mt_catalogue[algorithms])
        algorithms++;
    if (mt_topology_of_nodes(ranks, nodes, &topology))
        abort();
    const struct mt_algorithm *algorithm = mt_catalogue[which % algorithms];
    struct mt_plan_request request = {.collective = algorithm->collective,
                                      .ranks = ranks,
                                      .root = 1,
                                      .in_place = shape >> 7,
                                      .topology = topology,
                                      .fuses = shape >> 6 & 1};
    int fits = !algorithm->unfit || !algorithm->unfit(&request);
    if (fits && mt_plan_compile_all(algorithm, &request, plans, &error))
        abort();
    mt_topology_free(topology);
    *ranks_out = ranks;
    return fits;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct manta_plan *plans[RANKS_MAX];
    struct mt_verify_result result;
    uint32_t ranks;
    if (count < 2 || !compile(bytes[0], bytes[1], plans, &ranks))
        return 0;
    for (size_t at = 2; at + EDIT_BYTES <= count; at += EDIT_BYTES)
        edit(plans, ranks, bytes + at);
    const struct manta_plan *const *fixed = (const struct manta_plan *const *)plans;
    int rc = mt_plan_verify(fixed, ranks, &result);
    if ((rc != 0 && rc != MANTA_EPLAN) || (rc != 0) != (result.fault[0] != '\0'))
        abort();
    if (rc == 0)
        use(fixed, ranks);
    mt_plan_free_all(plans, ranks);
    return 0;
}
