/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/select.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "core/config.h"
#include "plan/price.h"

enum { PART_BYTES = 96 };

/* Prices that differ by less than a 20th are equal, and of long ones, where the network is not
 * known, by less than a 10th. */
enum { TIE = 20, SLOW_TIE = 10 };
/* Where cards move the bytes: by less than an 8th. Of long ones, a rank's part of which has so many
 * bytes, cores have little else to do than to combine. */
enum { RDMA_TIE = 8, RDMA_LONG_BYTES = 128 << 10 };
/* Where the network's speed is not known: of shorter vectors it does not matter, and an algorithm
 * that takes so many times the least at one speed is not made good by the other. */
enum { SLOW_BYTES = 4096, HOPELESS = 4 };

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
    if (mt_parse_bytes(copy, bytes_out) != 0)
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

/* The best first, the excluded last; equals in the order of the catalogue, alike on all ranks. */
static int before(const struct mt_select_candidate *x, const struct mt_select_candidate *y)
{
    if (!x->excluded != !y->excluded)
        return !x->excluded;
    return !x->excluded && x->score_ns < y->score_ns;
}

static void sort(struct mt_select_candidate *candidates, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        struct mt_select_candidate candidate = candidates[i];
        uint32_t at = i;
        for (; at > 0 && before(&candidate, &candidates[at - 1]); at--)
            candidates[at] = candidates[at - 1];
        candidates[at] = candidate;
    }
}

/* Of two that are as good, which one, where cards move the bytes? */
static int is_preferred_by_cards(const struct mt_select_candidate *x,
                                 const struct mt_select_candidate *y, int are_long)
{
    if (are_long && x->combined != y->combined)
        return x->combined < y->combined;
    return x->messages != y->messages ? x->messages < y->messages : x->place < y->place;
}

/* The same where cores do. Of short ones that of fewer messages; where even a rank's part is long,
 * that of more: the shorter ones are better spread over time, and stay in caches. But
 * on a network that nobody knows, of short ones the one that is faster if it is slow, where there
 * is more time to lose; and of long ones one that goes one way, which suffers the least when
 * acknowledgements wait behind data, or when peers are not in step. */
static int is_preferred(const struct mt_select_candidate *x, const struct mt_select_candidate *y,
                        int are_long)
{
    int is_unknown = x->slow_ns != 0;
    if (is_unknown && are_long && x->algorithm->one_way != y->algorithm->one_way)
        return x->algorithm->one_way != 0;
    if (is_unknown && !are_long && x->slow_ns != y->slow_ns)
        return x->slow_ns < y->slow_ns;
    if (x->messages == y->messages)
        return x->place < y->place;
    return are_long ? x->messages > y->messages : x->messages < y->messages;
}

/* The preferred one of those that are as good as the first becomes the first. */
static void break_tie(struct mt_select_candidate *candidates, uint32_t count, uint64_t tie,
                      int (*is_better)(const struct mt_select_candidate *x,
                                       const struct mt_select_candidate *y, int are_long),
                      int are_long)
{
    uint32_t best = 0;
    if (count == 0)
        return;
    uint64_t least = candidates[0].score_ns;
    for (uint32_t i = 1; i < count && !candidates[i].excluded; i++) {
        if (candidates[i].score_ns - least <= least / tie &&
            is_better(&candidates[i], &candidates[best], are_long))
            best = i;
    }
    struct mt_select_candidate first = candidates[best];
    memmove(candidates + 1, candidates, best * sizeof(*candidates));
    candidates[0] = first;
}

/* x * y / z, with z > 0. */
static uint64_t scale(uint64_t x, uint64_t y, uint64_t z)
{
    unsigned __int128 scaled = (unsigned __int128)x * y / z;
    return scaled > UINT64_MAX / 2 ? UINT64_MAX / 2 : (uint64_t)scaled;
}

/* Nobody knows the network's speed. Price the candidates, sorted by what they take if it is as
 * assumed, on a slow one, too. How many times the least each takes, at worst, is its score. */
static int weigh_slow(const struct mt_cost_model *cost, const struct mt_plan_request *request,
                      uint64_t bytes, struct mt_select_candidate *candidates, uint32_t count,
                      struct mt_error *error)
{
    struct mt_topology topology = *cost->topology;
    struct mt_cost_model model = *cost;
    uint64_t least = candidates[0].predicted_ns, slow_least = UINT64_MAX;
    topology.uplink_ps_per_byte[MT_LEVEL_NODE] = model.slow_ps_per_byte;
    model.topology = &topology;
    for (uint32_t i = 0; i < count && !candidates[i].excluded; i++) {
        struct mt_select_candidate priced = {.algorithm = candidates[i].algorithm};
        if (candidates[i].predicted_ns / HOPELESS > least)
            break;
        if (mt_price(&model, request, bytes, &priced, error))
            return error->code;
        candidates[i].slow_ns = priced.predicted_ns ? priced.predicted_ns : 1;
        slow_least = candidates[i].slow_ns < slow_least ? candidates[i].slow_ns : slow_least;
    }
    for (uint32_t i = 0; i < count && candidates[i].slow_ns; i++) {
        uint64_t score_ns = scale(candidates[i].slow_ns, least, slow_least);
        if (score_ns > candidates[i].score_ns)
            candidates[i].score_ns = score_ns;
    }
    return 0;
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
        struct mt_select_candidate candidate = {.algorithm = context->catalogue[i], .place = i};
        if (candidate.algorithm->collective != priced.collective)
            continue;
        candidate.excluded = why_excluded(context, &priced, candidate.algorithm);
        if (!candidate.excluded &&
            mt_price(context->cost, &priced, priced_bytes, &candidate, error))
            return error->code;
        candidate.score_ns = candidate.predicted_ns;
        candidates[count++] = candidate;
    }
    sort(candidates, count);
    if (context->cost->slow_ps_per_byte && priced_bytes >= SLOW_BYTES && count > 1) {
        if (weigh_slow(context->cost, &priced, priced_bytes, candidates, count, error))
            return error->code;
        sort(candidates, count);
    }
    uint64_t part = priced_bytes / request->ranks;
    int are_long = part >= context->cost->eager_bytes;
    if (context->cost->is_rdma)
        break_tie(candidates, count, RDMA_TIE, is_preferred_by_cards, part >= RDMA_LONG_BYTES);
    else
        break_tie(candidates, count,
                  are_long && count > 0 && candidates[0].slow_ns ? SLOW_TIE : TIE, is_preferred,
                  are_long);
    *count_out = count;
    return 0;
}
