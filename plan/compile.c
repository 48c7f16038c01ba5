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

/* The parts of a fused step, one block each, are as good as one piece: they are looked for where
 * they lie. Other blocks are not, in a layout with gaps. */
static int in_single_parts(const struct manta_plan *plan, const struct manta_plan_step *step)
{
    if (step->kind != MANTA_PLAN_FUSED)
        return 0;
    const struct manta_plan_fused *fused = &plan->fused[step->number];
    return (fused->collective == MANTA_ALLGATHER && fused->members[0].read_count == 1) ||
           (fused->collective == MANTA_REDUCE_SCATTER && fused->members[0].write_count == 1);
}

static int has_gaps(const struct manta_plan_location *at, int in_parts)
{
    if (at->buffer == MANTA_PLAN_SCRATCH)
        return at->count > 1 || at->origin != at->first;
    return at->count > 1 && !in_parts;
}

int mt_plan_needs_whole(const struct manta_plan *plan)
{
    /* A transport cuts the whole vector as it likes. */
    if (plan->step_count == 1 && plan->steps[0].kind == MANTA_PLAN_FUSED &&
        plan->fused[0].member_count == plan->ranks)
        return 1;
    if (plan->layout != MANTA_PLAN_RANKS)
        return 0;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct manta_plan_step *step = &plan->steps[i];
        /* The other end of a message may have as one what lies in several places here. */
        if (step->kind <= MANTA_PLAN_RECV && step->location_count > 1)
            return 1;
        for (uint32_t k = 0; k < step->location_count; k++)
            if (has_gaps(&plan->locations[step->location_first + k], in_single_parts(plan, step)))
                return 1;
    }
    return 0;
}

int mt_plan_takes_root(uint32_t collective)
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
        (mt_plan_takes_root(request->collective) && request->root >= request->ranks))
        return mt_error_set(error, MANTA_EINVAL, "no plan for rank %u of %u with root or peer %u",
                            request->rank, request->ranks, request->root);
    if (request->ranks < least || (most && request->ranks > most))
        return mt_error_set(error, MANTA_EALGORITHM,
                            "algorithm %s does not run on %u ranks; see manta explain for others",
                            algorithm->name, request->ranks);
    const char *reason = algorithm->unfit ? algorithm->unfit(request) : NULL;
    if (reason)
        return mt_error_set(error, MANTA_EALGORITHM, "algorithm %s does not run here: %s",
                            algorithm->name, reason);
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

static void pack_fused(const struct mt_plan_builder *b, struct manta_plan_fused *fused,
                       struct manta_plan_fused_member *members)
{
    if (b->member_count)
        memcpy(members, b->members, b->member_count * sizeof(*members));
    for (uint32_t i = 0; i < b->plan.fused_count; i++) {
        fused[i] = b->fused[i].head;
        fused[i].members = members + b->fused[i].first;
    }
}

static struct manta_plan *pack(const struct mt_plan_builder *b)
{
    uint32_t locations = 0;
    for (uint32_t i = 0; i < b->record_count; i++)
        locations += b->records[i].step.location_count;
    struct manta_plan_step *steps;
    struct manta_plan_location *places;
    struct manta_plan_region *regions;
    struct manta_plan_fused *fused;
    struct manta_plan_fused_member *member;
    uint32_t *depends;
    struct packed *packed = malloc(
        sizeof(*packed) + b->plan.fused_count * sizeof(*fused) + b->record_count * sizeof(*steps) +
        locations * sizeof(*places) + b->region_count * sizeof(*regions) +
        b->member_count * sizeof(*member) + b->depend_count * sizeof(*depends));
    if (!packed)
        return NULL;
    fused = (void *)packed->arrays;
    steps = (void *)(fused + b->plan.fused_count);
    places = (void *)(steps + b->record_count);
    member = (void *)(places + locations);
    regions = (void *)(member + b->member_count);
    depends = (void *)(regions + b->region_count);
    pack_steps(b, steps, places);
    pack_fused(b, fused, member);
    for (uint32_t i = 0; i < b->region_count; i++)
        regions[i].block_count = b->regions[i].blocks;
    if (b->depend_count)
        memcpy(depends, b->depends, b->depend_count * sizeof(*depends));
    packed->head = b->plan;
    packed->head.step_count = b->record_count;
    packed->head.location_count = locations;
    packed->head.depend_count = b->depend_count;
    packed->head.region_count = b->region_count;
    packed->head.steps = steps;
    packed->head.locations = places;
    packed->head.depends = depends;
    packed->head.regions = regions;
    packed->head.fused = fused;
    packed->head.whole |= (uint32_t)mt_plan_needs_whole(&packed->head);
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
    uint32_t root = mt_plan_takes_root(request->collective) ? request->root : MANTA_PLAN_NONE;
    struct mt_plan_builder b = {.plan = {.size = sizeof(struct manta_plan),
                                         .algorithm = algorithm->name,
                                         .collective = request->collective,
                                         .rank = request->rank,
                                         .ranks = request->ranks,
                                         .root = root,
                                         .in_place = request->in_place && may_be_in_place(request),
                                         .lanes = 1},
                                .topology = request->topology,
                                .fuses = request->fuses,
                                .frame = {.collective = request->collective,
                                          .rank = request->rank,
                                          .ranks = request->ranks,
                                          .root = root,
                                          .parameter = request->parameter},
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
    free(b.fused);
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
