/* SPDX-License-Identifier: Apache-2.0 */
/* From an algorithm to a plan: the passes in their order, and the packing into one allocation. */
#include "plan/building.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

static uint32_t owner(const struct manta_plan *plan, uint32_t block)
{
    return block / (plan->blocks / plan->ranks);
}

int mt_plan_owns_src(const struct manta_plan *plan, uint32_t block)
{
    switch (plan->collective) {
    case MANTA_BROADCAST: /* its one buffer is DST */
    case MANTA_RECV:
        return 0;
    case MANTA_ALLGATHER:
        return owner(plan, block) == plan->rank;
    default:
        return 1;
    }
}

int mt_plan_owns_dst(const struct manta_plan *plan, uint32_t block)
{
    switch (plan->collective) {
    case MANTA_SEND:
        return 0;
    case MANTA_REDUCE:
        return plan->rank == plan->root;
    case MANTA_REDUCE_SCATTER:
        return owner(plan, block) == plan->rank;
    default:
        return 1;
    }
}

static int has_gaps(const struct manta_plan_location *at)
{
    return at->count > 1 || (at->buffer == MANTA_PLAN_SCRATCH && at->origin != at->first);
}

int mt_plan_needs_whole(const struct manta_plan *plan)
{
    if (plan->fused_count || plan->layout != MANTA_PLAN_RANKS)
        return plan->fused_count > 0;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct manta_plan_step *step = &plan->steps[i];
        /* The other end of a message may have as one what lies in several places here. */
        if (step->kind <= MANTA_PLAN_RECV && step->location_count > 1)
            return 1;
        for (uint32_t k = 0; k < step->location_count; k++)
            if (has_gaps(&plan->locations[step->location_first + k]))
                return 1;
    }
    return 0;
}

static int takes_root(uint32_t collective)
{
    return collective == MANTA_BROADCAST || collective == MANTA_REDUCE ||
           collective == MANTA_SEND || collective == MANTA_RECV;
}

/* SRC and DST are two buffers, or one, only where a rank has both. */
static int may_be_in_place(const struct mt_plan_request *request)
{
    switch (request->collective) {
    case MANTA_BROADCAST:
    case MANTA_SEND:
    case MANTA_RECV:
        return 0;
    case MANTA_REDUCE:
        return request->rank == request->root;
    default:
        return 1;
    }
}

static int check_request(const struct mt_algorithm *algorithm,
                         const struct mt_plan_request *request, struct mt_error *error)
{
    uint32_t least = algorithm->ranks_min, most = algorithm->ranks_max;
    if (request->collective != algorithm->collective)
        return mt_error_set(error, MANTA_EALGORITHM, "algorithm %s is one of another collective",
                            algorithm->name);
    if (!request->ranks || request->rank >= request->ranks ||
        (takes_root(request->collective) && request->root >= request->ranks))
        return mt_error_set(error, MANTA_EINVAL, "no plan for rank %u of %u with root or peer %u",
                            request->rank, request->ranks, request->root);
    if (request->ranks < least || (most && request->ranks > most))
        return mt_error_set(error, MANTA_EALGORITHM,
                            "algorithm %s does not run on %u ranks; see manta explain for others",
                            algorithm->name, request->ranks);
    return 0;
}

/* Running numbers of the messages to and from each peer: both ends count alike. */
static void number_messages(struct mt_plan_builder *b)
{
    uint32_t *numbers = calloc(b->plan.ranks, 2 * sizeof(*numbers));
    if (!numbers) {
        mt_error_set(b->error, MANTA_ENOMEM, "no memory for a plan of %u ranks; free some",
                     b->plan.ranks);
        return;
    }
    for (uint32_t i = 0; i < b->record_count; i++) {
        struct manta_plan_step *step = &b->records[i].step;
        if (step->kind == MANTA_PLAN_SEND || step->kind == MANTA_PLAN_RECV)
            step->number = numbers[step->peer * 2 + step->kind]++;
    }
    free(numbers);
}

/* The arrays of a packed plan; each starts where the one before ends, widest items first. */
struct packed {
    struct manta_plan head;
    struct manta_plan_fused fused;
    char arrays[];
};

static void pack_steps(const struct mt_plan_builder *b, struct manta_plan_step *steps,
                       struct manta_plan_location *locations)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < b->record_count; i++) {
        const struct mt_plan_record *record = &b->records[i];
        steps[i] = record->step;
        steps[i].location_first = used;
        for (uint32_t k = 0; k < record->step.location_count; k++)
            locations[used++] = record->at[k];
    }
}

static struct manta_plan *pack(const struct mt_plan_builder *b)
{
    uint32_t locations = 0, members = b->plan.fused_count ? b->plan.ranks : 0;
    for (uint32_t i = 0; i < b->record_count; i++)
        locations += b->records[i].step.location_count;
    struct manta_plan_step *steps;
    struct manta_plan_location *places;
    struct manta_plan_region *regions;
    struct manta_plan_fused_member *member;
    uint32_t *depends;
    struct packed *packed =
        malloc(sizeof(*packed) + b->record_count * sizeof(*steps) + locations * sizeof(*places) +
               b->region_count * sizeof(*regions) + members * sizeof(*member) +
               b->depend_count * sizeof(*depends));
    if (!packed)
        return NULL;
    steps = (void *)packed->arrays;
    places = (void *)(steps + b->record_count);
    member = (void *)(places + locations);
    regions = (void *)(member + members);
    depends = (void *)(regions + b->region_count);
    pack_steps(b, steps, places);
    if (members)
        memcpy(member, b->members, members * sizeof(*member));
    for (uint32_t i = 0; i < b->region_count; i++)
        regions[i].block_count = b->regions[i].blocks;
    if (b->depend_count)
        memcpy(depends, b->depends, b->depend_count * sizeof(*depends));
    packed->fused = b->fused;
    packed->fused.members = member;
    packed->head = b->plan;
    packed->head.step_count = b->record_count;
    packed->head.location_count = locations;
    packed->head.depend_count = b->depend_count;
    packed->head.region_count = b->region_count;
    packed->head.steps = steps;
    packed->head.locations = places;
    packed->head.depends = depends;
    packed->head.regions = regions;
    packed->head.fused = &packed->fused;
    packed->head.whole = (uint32_t)mt_plan_needs_whole(&packed->head);
    return &packed->head;
}

static void run_passes(struct mt_plan_builder *b, const struct mt_algorithm *algorithm)
{
    algorithm->build(b);
    if (mt_plan_going(b) && !b->plan.blocks)
        mt_error_set(b->error, MANTA_EPLAN, "algorithm %s sets no partition", algorithm->name);
    if (mt_plan_going(b))
        mt_plan_place(b);
    if (mt_plan_going(b))
        mt_plan_hoist(b);
    if (mt_plan_going(b))
        number_messages(b);
    if (mt_plan_going(b))
        mt_plan_hazards(b);
}

int mt_plan_compile(const struct mt_algorithm *algorithm, const struct mt_plan_request *request,
                    struct manta_plan **plan_out, struct mt_error *error)
{
    *plan_out = NULL;
    error->code = 0;
    if (check_request(algorithm, request, error))
        return error->code;
    struct mt_plan_builder b = {
        .plan = {.size = sizeof(struct manta_plan),
                 .algorithm = algorithm->name,
                 .collective = request->collective,
                 .rank = request->rank,
                 .ranks = request->ranks,
                 .root = takes_root(request->collective) ? request->root : MANTA_PLAN_NONE,
                 .in_place = request->in_place && may_be_in_place(request),
                 .lanes = 1},
        .parameter = request->parameter,
        .error = error};
    run_passes(&b, algorithm);
    if (mt_plan_going(&b)) {
        *plan_out = pack(&b);
        if (!*plan_out)
            mt_error_set(error, MANTA_ENOMEM, "no memory for a plan of %u steps; free some",
                         b.record_count);
    }
    free(b.ops);
    free(b.records);
    free(b.regions);
    free(b.depends);
    free(b.members);
    return error->code;
}

void mt_plan_free(struct manta_plan *plan)
{
    free(plan);
}

int mt_plan_compile_all(const struct mt_algorithm *algorithm, const struct mt_plan_request *request,
                        struct manta_plan **plans_out, struct mt_error *error)
{
    int pair = request->collective == MANTA_SEND || request->collective == MANTA_RECV;
    error->code = 0;
    for (uint32_t rank = 0; rank < request->ranks; rank++)
        plans_out[rank] = NULL;
    for (uint32_t rank = 0; rank < request->ranks && !error->code; rank++) {
        struct mt_algorithm as_rank = *algorithm;
        struct mt_plan_request mine = *request;
        if (pair && rank != request->rank && rank != request->root)
            continue;
        if (pair && rank != request->rank) {
            mine.root = request->rank;
            mine.collective = request->collective == MANTA_SEND ? MANTA_RECV : MANTA_SEND;
            as_rank.collective = mine.collective;
        }
        mine.rank = rank;
        mt_plan_compile(&as_rank, &mine, &plans_out[rank], error);
    }
    if (error->code)
        mt_plan_free_all(plans_out, request->ranks);
    return error->code;
}

void mt_plan_free_all(struct manta_plan **plans, uint32_t ranks)
{
    for (uint32_t rank = 0; rank < ranks; rank++) {
        mt_plan_free(plans[rank]);
        plans[rank] = NULL;
    }
}
