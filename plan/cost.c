/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plans of all ranks as discrete events: a lane issues in order, each step when those it
 * depends on are complete; the messages that a rank sends share its way out, those it receives its
 * way in, its reductions and copies its core, and all that a node moves its memory. A long vector
 * is priced by its first segment and the rate at which the others follow: that of the busiest
 * resource, with MT_PLAN_DEPTH under way.
 */
#include "plan/cost.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "plan/match.h"
#include "plan/verify.h"

#define UNKNOWN UINT64_MAX

/* When a rank's resources become free, and for how long they were used. */
struct resources {
    uint64_t out_free, in_free, core_free;
    uint64_t out_busy, in_busy, core_busy;
};

struct pricing {
    const struct mt_cost_model *model;
    const struct manta_plan *const *plans;
    uint32_t ranks, lanes;
    uint64_t segment_bytes; /* of the vector, or of one rank's part */
    struct mt_plan_match match;
    uint64_t *issued, *complete; /* [step of all ranks], UNKNOWN at first */
    uint32_t *heads;             /* [rank][lane]: index from which the next step is looked for */
    uint64_t *lane_time;         /* [rank][lane]: when its last step was issued */
    struct resources *resources; /* [ranks] */
    uint32_t *queue;             /* ranks to look at, each at most once */
    uint8_t *queued;
    uint32_t queue_first, queue_count;
    uint32_t *leader;  /* lowest rank of each rank's node */
    uint64_t *traffic; /* [leader]: bytes read and written in its node's memory */
    uint64_t fused_busy, done, end_ns;
};

void mt_cost_defaults(struct mt_cost_model *model, uint32_t ranks, const uint64_t *nodes,
                      uint64_t segment_bytes)
{
    *model = (struct mt_cost_model){
        .levels = {[MT_COST_NODE] = {.alpha_ns = 400, .core_ns = 300, .beta_ps_per_byte = 100},
                   [MT_COST_NETWORK] = {.alpha_ns = 14000,
                                        .core_ns = 3000,
                                        .beta_ps_per_byte = 800}},
        .gamma_ps_per_byte = 50,
        .memory_ps_per_byte = 20,
        .fused_alpha_ns = 300,
        .crowd = 1,
        .turn_ns = 1200,
        .ranks = ranks,
        .nodes = nodes,
        .segment_bytes = segment_bytes ? segment_bytes : UINT64_MAX,
    };
}

static uint64_t later(uint64_t x, uint64_t y)
{
    return x > y ? x : y;
}

static uint64_t times(uint64_t x, uint64_t y)
{
    return y && x > UINT64_MAX / 2 / y ? UINT64_MAX / 2 : x * y;
}

/* Long times saturate below UINT64_MAX / 2, so that sums of two do not wrap. */
static uint64_t plus(uint64_t x, uint64_t y)
{
    uint64_t sum = x + y;
    return sum < x || sum > UINT64_MAX / 2 ? UINT64_MAX / 2 : sum;
}

static uint64_t duration(uint64_t bytes, uint64_t ps_per_byte)
{
    return times(bytes, ps_per_byte) / 1000;
}

static uint64_t part(uint64_t bytes, uint64_t index, uint64_t parts)
{
    return bytes / parts * index + bytes % parts * index / parts;
}

static uint64_t interval_bytes(const struct pricing *c, const struct manta_plan *plan,
                               uint32_t first, uint32_t count)
{
    uint64_t parts = plan->blocks, whole = c->segment_bytes;
    if (plan->layout == MANTA_PLAN_VECTOR)
        return part(whole, first + (uint64_t)count, parts) - part(whole, first, parts);
    return times(count, whole) / (parts / plan->ranks);
}

static uint64_t step_bytes(const struct pricing *c, const struct manta_plan *plan,
                           const struct manta_plan_step *step)
{
    uint32_t locations = step->location_count;
    uint64_t bytes = 0;
    if (step->kind == MANTA_PLAN_COPY || step->kind == MANTA_PLAN_REDUCE)
        locations = 1;
    for (uint32_t i = 0; i < locations; i++) {
        const struct manta_plan_location *at = &plan->locations[step->location_first + i];
        bytes = plus(bytes, interval_bytes(c, plan, at->first, at->count));
    }
    return bytes;
}

/* Where ranks share CPUs, who waits for another waits until all others of its CPU had a turn. */
static uint64_t turns(const struct pricing *c)
{
    return c->model->crowd > 1 ? times(c->model->crowd - 1, c->model->turn_ns) : 0;
}

static void enqueue(struct pricing *c, uint32_t rank)
{
    if (c->queued[rank])
        return;
    c->queued[rank] = 1;
    c->queue[(c->queue_first + c->queue_count++) % c->ranks] = rank;
}

static void finish(struct pricing *c, uint32_t rank, uint32_t step, uint64_t at_ns)
{
    c->complete[c->match.first[rank] + step] = at_ns;
    c->end_ns = later(c->end_ns, at_ns);
    c->done++;
    enqueue(c, rank);
}

static const struct mt_cost_link *link_of(const struct pricing *c, uint32_t from, uint32_t to)
{
    int near = c->leader[from] == c->leader[to];
    return &c->model->levels[near ? MT_COST_NODE : MT_COST_NETWORK];
}

/* The sender's half, when it is issued: receives are posted ahead, so it waits for none. Through
 * the memory of a node a message is copied in and out. */
static void run_send(struct pricing *c, uint32_t rank, uint32_t step)
{
    const struct manta_plan_step *at = &c->plans[rank]->steps[step];
    const struct mt_cost_link *link = link_of(c, rank, at->peer);
    uint64_t bytes = step_bytes(c, c->plans[rank], at);
    uint64_t wire = duration(bytes, link->beta_ps_per_byte);
    struct resources *out = &c->resources[rank];
    out->core_free =
        plus(later(c->issued[c->match.first[rank] + step], out->core_free), link->core_ns);
    out->core_busy = plus(out->core_busy, link->core_ns);
    out->out_free = plus(later(out->core_free, out->out_free), wire);
    out->out_busy = plus(out->out_busy, wire);
    if (c->leader[rank] == c->leader[at->peer])
        c->traffic[c->leader[rank]] = plus(c->traffic[c->leader[rank]], times(bytes, 2));
    finish(c, rank, step, out->out_free);
}

/* The receiver's half, when the message is sent and the receive is issued. */
static void run_recv(struct pricing *c, uint32_t rank, uint32_t step, uint64_t sent)
{
    const struct manta_plan_step *at = &c->plans[rank]->steps[step];
    const struct mt_cost_link *link = link_of(c, rank, at->peer);
    uint64_t wire = duration(step_bytes(c, c->plans[rank], at), link->beta_ps_per_byte);
    struct resources *in = &c->resources[rank];
    uint64_t seen = plus(plus(sent, link->alpha_ns), turns(c));
    uint64_t arrival = later(seen, plus(in->in_free, wire));
    in->in_free = later(arrival, c->issued[c->match.first[rank] + step]);
    in->in_busy = plus(in->in_busy, wire);
    in->core_busy = plus(in->core_busy, link->core_ns);
    finish(c, rank, step, plus(in->in_free, link->core_ns));
}

static void run_local(struct pricing *c, uint32_t rank, uint32_t step)
{
    struct resources *mine = &c->resources[rank];
    uint64_t bytes = step_bytes(c, c->plans[rank], &c->plans[rank]->steps[step]);
    uint64_t work = duration(bytes, c->model->gamma_ps_per_byte);
    uint64_t *traffic = &c->traffic[c->leader[rank]];
    mine->core_free = plus(later(c->issued[c->match.first[rank] + step], mine->core_free), work);
    mine->core_busy = plus(mine->core_busy, work);
    *traffic = plus(*traffic, times(bytes, 2));
    finish(c, rank, step, mine->core_free);
}

static uint32_t find_fused(const struct pricing *c, uint32_t rank, uint32_t number)
{
    const struct manta_plan *plan = c->plans[rank];
    for (uint32_t s = 0; plan && s < plan->step_count; s++)
        if (plan->steps[s].kind == MANTA_PLAN_FUSED && plan->steps[s].number == number)
            return s;
    return MANTA_PLAN_NONE;
}

/* A fused step: a fixed part for each member, and the memory traffic of all. */
static void run_fused(struct pricing *c, uint32_t rank, uint32_t step)
{
    const struct manta_plan *plan = c->plans[rank];
    uint32_t number = plan->steps[step].number;
    const struct manta_plan_fused *fused = &plan->fused[number];
    uint64_t start = 0, bytes = 0;
    for (uint32_t i = 0; i < fused->member_count; i++) {
        const struct manta_plan_fused_member *member = &fused->members[i];
        uint32_t theirs = find_fused(c, member->rank, number);
        uint64_t issued =
            theirs == MANTA_PLAN_NONE ? UNKNOWN : c->issued[c->match.first[member->rank] + theirs];
        if (issued == UNKNOWN)
            return;
        start = later(start, issued);
        bytes = plus(bytes, interval_bytes(c, plan, member->read_first, member->read_count));
        bytes = plus(bytes, interval_bytes(c, plan, member->write_first, member->write_count));
    }
    uint64_t work = plus(times(fused->member_count, c->model->fused_alpha_ns),
                         duration(bytes, c->model->memory_ps_per_byte));
    c->fused_busy = plus(c->fused_busy, work);
    for (uint32_t i = 0; i < fused->member_count; i++)
        finish(c, fused->members[i].rank, find_fused(c, fused->members[i].rank, number),
               plus(plus(start, work), turns(c)));
}

static void issue(struct pricing *c, uint32_t rank, uint32_t step, uint64_t at_ns)
{
    const struct manta_plan_step *at = &c->plans[rank]->steps[step];
    uint32_t partner = c->match.partner[c->match.first[rank] + step];
    c->issued[c->match.first[rank] + step] = at_ns;
    if (at->kind == MANTA_PLAN_SEND) {
        run_send(c, rank, step);
        if (partner != MANTA_PLAN_NONE && c->issued[c->match.first[at->peer] + partner] != UNKNOWN)
            run_recv(c, at->peer, partner, c->complete[c->match.first[rank] + step]);
    } else if (at->kind == MANTA_PLAN_RECV) {
        if (partner != MANTA_PLAN_NONE &&
            c->complete[c->match.first[at->peer] + partner] != UNKNOWN)
            run_recv(c, rank, step, c->complete[c->match.first[at->peer] + partner]);
    } else if (at->kind == MANTA_PLAN_FUSED) {
        run_fused(c, rank, step);
    } else {
        run_local(c, rank, step);
    }
}

/* When the step may be issued as far as its dependencies go, or UNKNOWN. */
static uint64_t ready_at(const struct pricing *c, uint32_t rank, uint32_t step)
{
    const struct manta_plan *plan = c->plans[rank];
    const struct manta_plan_step *at = &plan->steps[step];
    uint64_t time = 0;
    for (uint32_t i = 0; i < at->depend_count; i++) {
        uint32_t on = plan->depends[at->depend_first + i];
        time = later(time, c->complete[c->match.first[rank] + on]);
    }
    return time;
}

static void advance(struct pricing *c, uint32_t rank)
{
    const struct manta_plan *plan = c->plans[rank];
    for (uint32_t lane = 0; plan && lane < plan->lanes; lane++) {
        uint32_t *head = &c->heads[(size_t)rank * c->lanes + lane];
        uint64_t *time = &c->lane_time[(size_t)rank * c->lanes + lane];
        for (; *head < plan->step_count; ++*head) {
            if (plan->steps[*head].lane != lane)
                continue;
            uint64_t ready = ready_at(c, rank, *head);
            if (ready == UNKNOWN)
                break;
            *time = later(*time, ready);
            issue(c, rank, *head, *time);
        }
    }
}

/* The lowest rank of each rank's node; ranks of a node mostly stand side by side. */
static void find_leaders(struct pricing *c)
{
    const uint64_t *nodes = c->model->nodes;
    for (uint32_t r = 0; r < c->ranks; r++) {
        uint32_t leader = r && nodes && nodes[r] == nodes[r - 1] ? c->leader[r - 1] : 0;
        while (nodes && nodes[leader] != nodes[r])
            leader++;
        c->leader[r] = leader;
    }
}

static int open_pricing(struct pricing *c)
{
    int rc = mt_plan_match_open(&c->match, c->plans, c->ranks);
    if (rc)
        return rc;
    uint64_t steps = c->match.first[c->ranks];
    c->lanes = 1;
    for (uint32_t r = 0; r < c->ranks; r++)
        if (c->plans[r] && c->plans[r]->lanes > c->lanes)
            c->lanes = c->plans[r]->lanes;
    size_t lanes = (size_t)c->ranks * c->lanes;
    c->issued = malloc((steps + 1) * sizeof(*c->issued));
    c->complete = malloc((steps + 1) * sizeof(*c->complete));
    c->heads = calloc(lanes, sizeof(*c->heads));
    c->lane_time = calloc(lanes, sizeof(*c->lane_time));
    c->resources = calloc(c->ranks, sizeof(*c->resources));
    c->queue = calloc((size_t)c->ranks + 1, sizeof(*c->queue));
    c->queued = calloc(c->ranks, 1);
    c->leader = calloc(c->ranks, sizeof(*c->leader));
    c->traffic = calloc(c->ranks, sizeof(*c->traffic));
    if (!c->issued || !c->complete || !c->heads || !c->lane_time || !c->resources || !c->queue ||
        !c->queued || !c->leader || !c->traffic)
        return MANTA_ENOMEM;
    find_leaders(c);
    memset(c->issued, 0xff, steps * sizeof(*c->issued));     /* UNKNOWN */
    memset(c->complete, 0xff, steps * sizeof(*c->complete)); /* UNKNOWN */
    return 0;
}

static void close_pricing(struct pricing *c)
{
    mt_plan_match_close(&c->match);
    free(c->issued);
    free(c->complete);
    free(c->heads);
    free(c->lane_time);
    free(c->resources);
    free(c->queue);
    free(c->queued);
    free(c->leader);
    free(c->traffic);
}

/* How long the busiest resource works for one segment. */
static uint64_t busy_ns(const struct pricing *c)
{
    uint64_t busiest = c->fused_busy;
    for (uint32_t r = 0; r < c->ranks; r++) {
        const struct resources *mine = &c->resources[r];
        busiest = later(busiest, duration(c->traffic[r], c->model->memory_ps_per_byte));
        busiest = later(busiest, later(mine->core_busy, later(mine->out_busy, mine->in_busy)));
    }
    return busiest;
}

static void run(struct pricing *c)
{
    for (uint32_t r = 0; r < c->ranks; r++)
        enqueue(c, r);
    while (c->queue_count) {
        uint32_t rank = c->queue[c->queue_first];
        c->queue_first = (c->queue_first + 1) % c->ranks;
        c->queue_count--;
        c->queued[rank] = 0;
        advance(c, rank);
    }
}

int mt_plan_cost(const struct mt_cost_model *model, const struct manta_plan *const *plans,
                 uint32_t ranks, uint64_t bytes, uint64_t *ns_out, struct mt_error *error)
{
    struct pricing c = {.model = model, .plans = plans, .ranks = ranks};
    uint64_t segment = model->segment_bytes, segments = 1;
    int rc = open_pricing(&c);
    for (uint32_t r = 0; r < ranks; r++)
        if (plans[r] && plans[r]->layout == MANTA_PLAN_RANKS)
            segment = later(model->segment_bytes / ranks, 1);
    if (segment < bytes)
        segments = bytes / segment + (bytes % segment != 0);
    c.segment_bytes = segments > 1 ? segment : bytes;
    if (!rc)
        run(&c);
    if (!rc && c.done < c.match.first[ranks])
        rc = MANTA_EPLAN;
    if (!rc) {
        uint64_t busy = busy_ns(&c), first = later(c.end_ns, busy);
        *ns_out = plus(first, times(segments - 1, later(busy, first / MT_PLAN_DEPTH)));
    }
    close_pricing(&c);
    if (rc == MANTA_EPLAN)
        mt_error_set(error, rc, "plans of %u ranks cannot be priced: some step waits for ever",
                     ranks);
    else if (rc)
        mt_error_set(error, rc, "no memory to price plans of %u ranks; free some", ranks);
    return rc;
}
