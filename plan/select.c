/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/select.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "core/config.h"

enum { PART_BYTES = 96 };

/* Groups up to PRICED_RANKS, and larger ones of at most PRICED_WORK steps and blocks (or up to
 * PRICED_WORK_MOST where smaller ones cannot stand for them), are priced exactly. */
enum { PRICED_RANKS = 64, PRICED_WORK = 60000, PRICED_WORK_MOST = 1000000 };
enum { SAMPLED_RANKS = 256 };
enum { TIE = 20 }; /* prices that differ by less than a 20th are equal */

static int refuse(struct mt_error *error, const char *text, size_t length, const char *reason)
{
    return mt_error_set(error, MANTA_EINVAL,
                        "'%.*s' %s; write an algorithm, or ranges such as "
                        "0-4k:recursive_doubling,4k-:ring",
                        length < PART_BYTES ? (int)length : PART_BYTES, text, reason);
}

static int parse_name(const char *text, size_t length, struct mt_select_range *range,
                      struct mt_error *error)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    if (length == 0 || length >= sizeof(range->algorithm))
        return refuse(error, text, length, "is no name of an algorithm");
    memcpy(range->algorithm, text, length);
    range->algorithm[length] = '\0';
    if (strspn(range->algorithm, allowed) != length)
        return refuse(error, text, length, "is no name of an algorithm");
    return 0;
}

static int parse_limit(const char *text, size_t length, uint64_t *bytes_out, struct mt_error *error)
{
    char copy[32];
    if (length == 0 || length >= sizeof(copy))
        return refuse(error, text, length, "is no number of bytes");
    memcpy(copy, text, length);
    copy[length] = '\0';
    if (strspn(copy, "0123456789kKmMgG") != length || mt_parse_bytes(copy, bytes_out))
        return refuse(error, text, length, "is no number of bytes");
    return 0;
}

/* from-[to]:algorithm */
static int parse_range(const char *text, size_t length, struct mt_select_range *range,
                       struct mt_error *error)
{
    const char *end = text + length;
    const char *colon = memchr(text, ':', length);
    const char *dash = colon ? memchr(text, '-', (size_t)(colon - text)) : NULL;
    if (!dash)
        return refuse(error, text, length, "is not from-to:algorithm");
    range->to_bytes = UINT64_MAX;
    if (parse_limit(text, (size_t)(dash - text), &range->from_bytes, error) ||
        (dash + 1 < colon &&
         parse_limit(dash + 1, (size_t)(colon - dash - 1), &range->to_bytes, error)) ||
        parse_name(colon + 1, (size_t)(end - colon - 1), range, error))
        return error->code;
    if (range->from_bytes >= range->to_bytes)
        return refuse(error, text, length, "is an empty range");
    return 0;
}

static int parse_ranges(const char *text, struct mt_select_override *override,
                        struct mt_error *error)
{
    uint64_t reached = 0;
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        struct mt_select_range *range = &override->ranges[override->count];
        if (override->count == MT_SELECT_RANGES)
            return refuse(error, at, length, "is one range too many (16 are allowed)");
        if (parse_range(at, length, range, error))
            return error->code;
        if (range->from_bytes < reached)
            return refuse(error, at, length, "overlaps the range before it, or stands before it");
        reached = range->to_bytes;
        override->count++;
        at += length;
        if (*at == '\0')
            return 0;
    }
}

int mt_select_parse(const char *text, struct mt_select_override *override_out,
                    struct mt_error *error)
{
    struct mt_select_override override;
    memset(&override, 0, sizeof(override));
    int rc = 0;
    error->code = 0;
    if (text[0] != '\0' && !strpbrk(text, ":,-")) {
        override.count = 1;
        override.ranges[0].to_bytes = UINT64_MAX;
        rc = parse_name(text, strlen(text), &override.ranges[0], error);
    } else if (text[0] != '\0') {
        rc = parse_ranges(text, &override, error);
    }
    if (rc)
        memset(&override, 0, sizeof(override));
    *override_out = override;
    return rc;
}

const char *mt_select_forced(const struct mt_select_override *override, uint64_t bytes)
{
    for (uint32_t i = 0; i < override->count; i++) {
        const struct mt_select_range *range = &override->ranges[i];
        int open = range->to_bytes == UINT64_MAX;
        if (bytes >= range->from_bytes && (open || bytes < range->to_bytes))
            return range->algorithm;
    }
    return NULL;
}

int mt_select_pick(const struct mt_select_candidate *candidates, uint32_t count, const char *forced)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!candidates[i].excluded &&
            (!forced || strcmp(candidates[i].algorithm->name, forced) == 0))
            return (int)i;
    }
    return -1;
}

static const char *why_excluded(const struct mt_select_context *context,
                                const struct mt_plan_request *request,
                                const struct mt_algorithm *algorithm)
{
    if (context->ranks < algorithm->ranks_min)
        return "it needs more ranks";
    if (algorithm->ranks_max && context->ranks > algorithm->ranks_max)
        return "it is for fewer ranks";
    if (algorithm->fused && !context->fused_available)
        return "no transport carries out one fused step for all these ranks";
    if (context->reproducible && algorithm->order != MANTA_PLAN_ORDER_BINARY)
        return "MANTA_REPRODUCIBLE=1 allows the binary order only";
    return algorithm->unfit ? algorithm->unfit(request) : NULL;
}

static uint64_t count_messages(struct manta_plan *const *plans, uint32_t ranks)
{
    uint64_t messages = 0;
    for (uint32_t r = 0; r < ranks; r++)
        for (uint32_t i = 0; plans[r] && i < plans[r]->step_count; i++)
            messages += plans[r]->steps[i].kind == MANTA_PLAN_SEND;
    return messages;
}

/* Price one algorithm on the first `ranks` ranks. */
static int price_exactly(const struct mt_select_context *context,
                         const struct mt_plan_request *request, uint64_t bytes,
                         struct mt_select_candidate *candidate, struct mt_error *error)
{
    const struct mt_algorithm *algorithm = candidate->algorithm;
    struct manta_plan **plans = calloc(request->ranks, sizeof(*plans));
    if (!plans)
        return mt_error_set(error, MANTA_ENOMEM, "no memory to price %s; free some",
                            algorithm->name);
    int rc = mt_plan_compile_all(algorithm, request, plans, error);
    if (rc == 0) {
        rc = mt_plan_cost(context->cost, (const struct manta_plan *const *)plans, request->ranks,
                          bytes, &candidate->predicted_ns, error);
        candidate->messages = count_messages(plans, request->ranks);
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

static int price(const struct mt_select_context *context, const struct mt_plan_request *request,
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
        return price_exactly(context, request, bytes, candidate, error);
    for (uint32_t i = 0; i < 3; i++) {
        const struct mt_plan_request smaller = first_of(request, sample.ranks, i);
        if (price_exactly(context, &smaller, bytes, candidate, error))
            return error->code;
        sample.prices[i] = candidate->predicted_ns;
    }
    if (measure(candidate->algorithm, request, sample.ranks, &sample.steps, &work, error))
        return error->code;
    candidate->predicted_ns = extrapolate(&sample, request->ranks);
    candidate->messages = candidate->messages * request->ranks / sample.ranks;
    return 0;
}

/* Best first, the excluded last; equals in the order of the catalogue, alike on all ranks. */
static int before(const struct mt_select_candidate *x, const struct mt_select_candidate *y)
{
    if (!x->excluded != !y->excluded)
        return !x->excluded;
    return !x->excluded && x->predicted_ns < y->predicted_ns;
}

/* Of the candidates that are as good as the first, the one of the fewest messages becomes the
 * first, or, where even a rank's part is long, the one of the most: the shorter ones are better
 * spread over time, and stay in caches. */
static void break_tie(struct mt_select_candidate *candidates, uint32_t count, int are_long)
{
    uint32_t best = 0;
    if (count == 0)
        return;
    for (uint32_t i = 1; i < count && !candidates[i].excluded; i++) {
        uint64_t messages = candidates[i].messages, least = candidates[0].predicted_ns;
        if (candidates[i].predicted_ns - least <= least / TIE &&
            (are_long ? messages > candidates[best].messages
                      : messages < candidates[best].messages))
            best = i;
    }
    struct mt_select_candidate first = candidates[best];
    memmove(candidates + 1, candidates, best * sizeof(*candidates));
    candidates[0] = first;
}

/* One price for a size class and for all roots: the first call of a class must not decide with its
 * own size for the others, or results would depend on the history of calls. */
static uint64_t price_as_class(struct mt_plan_request *request, uint64_t bytes)
{
    if (request->collective == MANTA_BROADCAST || request->collective == MANTA_REDUCE)
        request->root = 0;
    return mt_select_class_least(bytes);
}

int mt_select(const struct mt_select_context *context, const struct mt_plan_request *request,
              uint64_t bytes, struct mt_select_candidate *candidates, uint32_t capacity,
              uint32_t *count_out, struct mt_error *error)
{
    uint32_t count = 0;
    struct mt_plan_request priced = *request;
    uint64_t priced_bytes = price_as_class(&priced, bytes);
    *count_out = 0;
    error->code = 0;
    for (uint32_t i = 0; context->catalogue[i] && count < capacity; i++) {
        struct mt_select_candidate candidate = {.algorithm = context->catalogue[i]};
        if (candidate.algorithm->collective != priced.collective)
            continue;
        candidate.excluded = why_excluded(context, &priced, candidate.algorithm);
        if (!candidate.excluded && price(context, &priced, priced_bytes, &candidate, error))
            return error->code;
        uint32_t at = count++;
        for (; at > 0 && before(&candidate, &candidates[at - 1]); at--)
            candidates[at] = candidates[at - 1];
        candidates[at] = candidate;
    }
    break_tie(candidates, count, priced_bytes / request->ranks >= context->cost->eager_bytes);
    *count_out = count;
    return 0;
}
