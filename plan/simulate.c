/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/simulating.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "plan/verify.h"

/* What happens. Events of one time come in this order, those of one kind by rank. */
enum {
    WORD,  /* a receive is posted: its sender may begin */
    LEAVE, /* a message begins to move: the sender's half */
    ENTER, /* the receiver's half; the value is when the sender's is through */
    ARRIVE,
    COMPLETE
};
enum { KIND_BITS = 3, SEGMENT_BITS = 6, STEP_BITS = 32, RANKS_MOST = 1 << 23 };

static void push(struct mt_simulating *s, uint64_t time_ns, const struct mt_simulate_at *at,
                 uint32_t kind, uint64_t value)
{
    uint64_t key = (uint64_t)kind << (64 - KIND_BITS) |
                   ((uint64_t)at->rank << SEGMENT_BITS | at->segment) << STEP_BITS | at->step;
    if (mt_events_push(&s->events, (struct mt_event){time_ns, key, value}))
        s->code = MANTA_ENOMEM;
}

uint8_t *mt_simulating_flags(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    struct mt_simulate_instance **slot =
        &s->instances[(size_t)at->segment * s->what->ranks + at->rank];
    const struct manta_plan *plan = s->what->plans[at->rank];
    if (*slot)
        return (*slot)->flags + at->step;
    size_t heads = plan->lanes * sizeof(uint32_t);
    struct mt_simulate_instance *made = calloc(1, sizeof(*made) + heads + plan->step_count);
    if (!made) {
        s->code = MANTA_ENOMEM;
        return NULL;
    }
    made->heads = (uint32_t *)(made + 1);
    made->flags = (uint8_t *)made->heads + heads;
    *slot = made;
    return made->flags + at->step;
}

static const struct mt_topology_link *link_of(const struct mt_simulating *s,
                                              const struct mt_links_way *way)
{
    return &s->what->model->topology->links[way->meet];
}

static int waits_for_word(const struct mt_simulating *s, const struct mt_links_way *way)
{
    const struct mt_cost_model *model = s->what->model;
    int is_written = model->is_rdma && way->meet > MT_LEVEL_NODE;
    return way->bytes > (is_written ? model->rdma_eager_bytes : model->eager_bytes);
}

/* Where ranks share CPUs, who waits for another waits until all others of its CPU had a turn. */
static uint64_t turns(const struct mt_simulating *s)
{
    const struct mt_cost_model *model = s->what->model;
    return model->crowd > 1 ? mt_links_times(model->crowd - 1, model->turn_ns) : 0;
}

static void watch(struct mt_simulating *s, const struct mt_simulate_at *at, uint64_t begin_ns,
                  uint64_t end_ns)
{
    const struct mt_simulate_watch *w = &s->what->watch;
    struct mt_simulate_slice slice = {at->rank, at->segment, at->step, begin_ns, end_ns};
    if (w->slice)
        w->slice(w->arg, &slice);
}

/* A complete step is an event of its own, so that ranks go on in the order of time. */
static void complete_at(struct mt_simulating *s, const struct mt_simulate_at *at, uint64_t begin_ns,
                        uint64_t end_ns)
{
    watch(s, at, begin_ns, end_ns);
    push(s, end_ns, at, COMPLETE, 0);
}

/* The message may go: it does when the sender's core has done its part. */
static void start_message(struct mt_simulating *s, const struct mt_simulate_at *at,
                          const struct mt_links_way *way)
{
    uint64_t core_ns = link_of(s, way)->core_ns;
    push(s, mt_links_spend(&s->links, at->rank, core_ns, s->now_ns), at, LEAVE, 0);
}

static void issue_send(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    struct mt_links_way way = mt_transfers_way(s, at, 1);
    const uint8_t *flags = mt_simulating_flags(s, at);
    if (flags && (!waits_for_word(s, &way) || (*flags & MT_SIMULATE_WORD)))
        start_message(s, at, &way);
}

/* The message is there and wanted: the receiver's core does its part. */
static void take_in(struct mt_simulating *s, const struct mt_simulate_at *at,
                    const struct mt_links_way *way)
{
    uint64_t core_ns = link_of(s, way)->core_ns;
    complete_at(s, at, s->now_ns, mt_links_spend(&s->links, at->rank, core_ns, s->now_ns));
}

static void issue_recv(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    struct mt_simulate_at from = mt_transfers_partner(s, at);
    const uint8_t *flags = mt_simulating_flags(s, at);
    if (!flags || from.step == MANTA_PLAN_NONE)
        return;
    struct mt_links_way way = mt_transfers_way(s, at, 0);
    if (*flags & MT_SIMULATE_ARRIVED)
        take_in(s, at, &way);
    else if (waits_for_word(s, &way))
        push(s, mt_links_plus(s->now_ns, link_of(s, &way)->alpha_ns), &from, WORD, 0);
}

static void issue_local(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    uint64_t done = mt_links_work(&s->links, at->rank, mt_transfers_bytes(s, at), s->now_ns);
    complete_at(s, at, s->now_ns, done);
}

int mt_simulating_issued(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    if (at->step == MANTA_PLAN_NONE || s->dead[at->rank])
        return 0;
    const uint8_t *flags = mt_simulating_flags(s, at);
    return flags && (*flags & MT_SIMULATE_ISSUED);
}

/* A fused step begins with its last member: a fixed part for each member, on its core, and the
 * traffic of all in the memory of the node. */
static void issue_fused(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    const struct manta_plan *plan = s->what->plans[at->rank];
    const struct mt_cost_model *model = s->what->model;
    uint32_t number = plan->steps[at->step].number;
    const struct manta_plan_fused *fused = &plan->fused[number];
    uint64_t bytes = 0;
    struct mt_simulate_at member = *at;
    for (uint32_t i = 0; i < fused->member_count; i++) {
        const struct manta_plan_fused_member *m = &fused->members[i];
        member.rank = m->rank;
        member.step = mt_plan_find_fused(s->what->plans[m->rank], number);
        if (!mt_simulating_issued(s, &member))
            return;
        bytes = mt_links_plus(
            bytes, mt_transfers_interval(s, plan, at->segment, m->read_first, m->read_count));
        bytes = mt_links_plus(
            bytes, mt_transfers_interval(s, plan, at->segment, m->write_first, m->write_count));
    }
    uint64_t each = mt_links_times(fused->member_count, model->fused_alpha_ns);
    uint64_t moved = mt_links_duration(bytes, model->memory_ps_per_byte);
    uint64_t end = mt_links_plus(mt_links_share(&s->links, at->rank, moved, s->now_ns), each);
    for (uint32_t i = 0; i < fused->member_count; i++)
        end =
            mt_links_later(end, mt_links_spend(&s->links, fused->members[i].rank, each, s->now_ns));
    end = mt_links_plus(end, turns(s));
    if (s->contents && at->segment == 0)
        s->code = mt_contents_run(s->contents, at->rank, at->step, s->error);
    for (uint32_t i = 0; i < fused->member_count; i++) {
        member.rank = fused->members[i].rank;
        member.step = mt_plan_find_fused(s->what->plans[member.rank], number);
        complete_at(s, &member, s->now_ns, end);
    }
}

static void issue(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    uint8_t *flags = mt_simulating_flags(s, at);
    if (!flags)
        return;
    *flags |= MT_SIMULATE_ISSUED;
    switch (mt_simulating_step(s, at)->kind) {
    case MANTA_PLAN_SEND:
        issue_send(s, at);
        break;
    case MANTA_PLAN_RECV:
        issue_recv(s, at);
        break;
    case MANTA_PLAN_FUSED:
        issue_fused(s, at);
        break;
    default:
        issue_local(s, at);
    }
}

static int is_ready(const struct mt_simulate_instance *instance, const struct manta_plan *plan,
                    uint32_t step)
{
    const struct manta_plan_step *at = &plan->steps[step];
    for (uint32_t i = 0; i < at->depend_count; i++)
        if (!(instance->flags[plan->depends[at->depend_first + i]] & MT_SIMULATE_COMPLETE))
            return 0;
    return 1;
}

static void advance(struct mt_simulating *s, uint32_t rank, uint32_t segment)
{
    const struct manta_plan *plan = s->what->plans[rank];
    struct mt_simulate_at at = {rank, segment, 0};
    if (!mt_simulating_flags(s, &at))
        return;
    struct mt_simulate_instance *instance = s->instances[(size_t)segment * s->what->ranks + rank];
    for (uint32_t lane = 0; lane < plan->lanes; lane++) {
        uint32_t *head = &instance->heads[lane];
        for (; *head < plan->step_count && !s->code; ++*head) {
            if (plan->steps[*head].lane != lane)
                continue;
            if (!is_ready(instance, plan, *head))
                break;
            at.step = *head;
            issue(s, &at);
        }
    }
}

/* All steps of a rank's segment are complete: another may begin. */
static void finish(struct mt_simulating *s, uint32_t rank, uint32_t segment)
{
    struct mt_simulate_instance **slot = &s->instances[(size_t)segment * s->what->ranks + rank];
    s->end_ns[segment] = mt_links_later(s->end_ns[segment], s->now_ns);
    s->done[rank] |= UINT64_C(1) << segment;
    s->finished++;
    if (s->contents && segment == 0)
        s->code = mt_contents_finish(s->contents, rank, s->error);
    free(*slot);
    *slot = NULL;
    if (segment + MT_PLAN_DEPTH < s->simulated) {
        if (s->what->plans[rank]->step_count)
            advance(s, rank, segment + MT_PLAN_DEPTH);
        else
            finish(s, rank, segment + MT_PLAN_DEPTH);
    }
}

static void complete(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    uint8_t *flags = mt_simulating_flags(s, at);
    const struct manta_plan *plan = s->what->plans[at->rank];
    uint32_t kind = plan->steps[at->step].kind;
    if (!flags)
        return;
    *flags |= MT_SIMULATE_COMPLETE;
    if (s->contents && at->segment == 0 && kind != MANTA_PLAN_SEND && kind != MANTA_PLAN_FUSED)
        s->code = mt_contents_run(s->contents, at->rank, at->step, s->error);
    s->steps++;
    struct mt_simulate_instance *instance =
        s->instances[(size_t)at->segment * s->what->ranks + at->rank];
    if (++instance->complete == plan->step_count)
        finish(s, at->rank, at->segment);
    else
        advance(s, at->rank, at->segment);
}

static void leave(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    struct mt_simulate_at to = mt_transfers_partner(s, at);
    struct mt_links_way way = mt_transfers_way(s, at, 1);
    uint64_t through = mt_links_leave(&s->links, &way, s->now_ns);
    if (s->contents && at->segment == 0)
        s->code = mt_contents_send(s->contents, at->rank, at->step, s->error);
    if (to.step == MANTA_PLAN_NONE || !waits_for_word(s, &way))
        complete_at(s, at, s->now_ns, through);
    if (to.step != MANTA_PLAN_NONE && !s->dead[to.rank])
        push(s, s->now_ns, &to, ENTER, through);
}

static void enter(struct mt_simulating *s, const struct mt_simulate_at *at, uint64_t left_ns)
{
    struct mt_simulate_at from = mt_transfers_partner(s, at);
    struct mt_links_way way = mt_transfers_way(s, at, 0);
    uint64_t through = mt_links_later(left_ns, mt_links_enter(&s->links, &way, s->now_ns));
    uint64_t alpha_ns = mt_links_plus(link_of(s, &way)->alpha_ns, turns(s));
    push(s, mt_links_plus(through, alpha_ns), at, ARRIVE, 0);
    if (waits_for_word(s, &way))
        complete_at(s, &from, s->now_ns, through);
}

static void arrive(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    struct mt_links_way way = mt_transfers_way(s, at, 0);
    uint8_t *flags = mt_simulating_flags(s, at);
    if (!flags)
        return;
    *flags |= MT_SIMULATE_ARRIVED;
    if (*flags & MT_SIMULATE_ISSUED)
        take_in(s, at, &way);
}

/* Word of a receive has come to the sender. */
static void hear(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    struct mt_links_way way = mt_transfers_way(s, at, 1);
    uint8_t *flags = s->dead[at->rank] ? NULL : mt_simulating_flags(s, at);
    if (!flags)
        return;
    *flags |= MT_SIMULATE_WORD;
    if (*flags & MT_SIMULATE_ISSUED)
        start_message(s, at, &way);
}

static void handle(struct mt_simulating *s, const struct mt_event *event)
{
    uint64_t place = event->key >> STEP_BITS;
    struct mt_simulate_at at = {(uint32_t)(place >> SEGMENT_BITS) & (RANKS_MOST - 1),
                                (uint32_t)place & ((1 << SEGMENT_BITS) - 1), (uint32_t)event->key};
    s->now_ns = event->time_ns;
    switch (event->key >> (64 - KIND_BITS)) {
    case WORD:
        hear(s, &at);
        break;
    case LEAVE:
        leave(s, &at);
        break;
    case ENTER:
        enter(s, &at, event->value);
        break;
    case ARRIVE:
        arrive(s, &at);
        break;
    default:
        complete(s, &at);
    }
}

static void run(struct mt_simulating *s)
{
    const struct mt_simulate_watch *w = &s->what->watch;
    for (uint32_t r = 0; r < s->what->ranks && !s->code; r++) {
        if (!mt_simulating_has(s, r) || s->dead[r])
            continue;
        for (uint32_t segment = 0; segment < MT_PLAN_DEPTH && segment < s->simulated; segment++) {
            if (s->what->plans[r]->step_count)
                advance(s, r, segment);
            else
                finish(s, r, segment);
        }
    }
    for (uint64_t events = 0; s->events.count && !s->code; events++) {
        struct mt_event event = mt_events_pop(&s->events);
        handle(s, &event);
        if (w->progress && events % (1 << 16) == 0)
            w->progress(w->arg, s->steps, s->steps_expected);
    }
}

static int open_simulating(struct mt_simulating *s)
{
    const struct mt_simulate *what = s->what;
    size_t instances = (size_t)s->simulated * what->ranks;
    s->instances = calloc(instances, sizeof(struct mt_simulate_instance *));
    s->done = calloc(what->ranks, sizeof(*s->done));
    s->dead = calloc(what->ranks, 1);
    if (mt_links_open(&s->links, what->model, what->ranks) || !s->instances || !s->dead || !s->done)
        return MANTA_ENOMEM;
    if (mt_plan_match_open(&s->match, what->plans, what->ranks))
        return MANTA_ENOMEM;
    if (mt_transfers_open(s))
        return MANTA_ENOMEM;
    if (what->fold_ranks && what->model->crowd <= 1 && !what->check && !what->fault_count &&
        mt_symmetry_find(s))
        return MANTA_ENOMEM;
    mt_transfers_fold(s);
    if (what->check && mt_contents_open(what->plans, what->ranks, &s->match, &s->contents))
        return MANTA_ENOMEM;
    for (uint32_t r = 0; r < what->ranks; r++) {
        s->expected += mt_simulating_has(s, r) ? s->simulated : 0;
        s->steps_expected +=
            mt_simulating_has(s, r) ? (uint64_t)s->simulated * what->plans[r]->step_count : 0;
    }
    return 0;
}

static void close_simulating(struct mt_simulating *s)
{
    for (size_t i = 0; s->instances && i < (size_t)s->simulated * s->what->ranks; i++)
        free(s->instances[i]);
    mt_contents_close(s->contents);
    mt_plan_match_close(&s->match);
    mt_links_close(&s->links);
    free(s->transfers);
    free(s->as);
    free(s->instances);
    free(s->done);
    free(s->dead);
    free(s->events.at);
}

static int break_things(struct mt_simulating *s)
{
    const struct mt_topology *topology = s->what->model->topology;
    for (uint32_t i = 0; i < s->what->fault_count; i++) {
        const struct mt_simulate_fault *fault = &s->what->faults[i];
        uint32_t most =
            fault->level == MT_LEVEL_CORE ? s->what->ranks : topology->groups[fault->level];
        if (fault->index >= most)
            return mt_error_set(s->error, MANTA_EINVAL,
                                "there is no such rank or group to fail: %u of %u", fault->index,
                                most);
        for (uint32_t r = 0; r < s->what->ranks && fault->dead; r++)
            if (fault->level == MT_LEVEL_CORE ? r == fault->index
                                              : topology->group[fault->level][r] == fault->index)
                s->dead[r] = 1;
        if (!fault->dead && mt_links_slow(&s->links, fault->level, fault->index, fault->ppm))
            return mt_error_set(s->error, MANTA_EINVAL,
                                "the groups of this level have no limit that could be slower; name "
                                "a rank, or give the topology one");
    }
    return 0;
}

/* The end of all segments: of those that were simulated, and the others at their rate. The first
 * ones still fill the links, the last ones have less and less beside them; of those between, the
 * middle of the later half has come after that of the earlier half, for segments may end by turns
 * early and late. */
static uint64_t whole_ns(const struct mt_simulating *s, uint64_t simulated_ns)
{
    if (s->segments == s->simulated || s->simulated < 4 * MT_SIMULATE_SETTLE)
        return simulated_ns;
    uint32_t half = s->simulated / 2 - MT_SIMULATE_SETTLE;
    const uint64_t *earlier = s->end_ns + MT_SIMULATE_SETTLE, *later = earlier + half;
    uint64_t apart = 0;
    for (uint32_t i = 0; i < half; i++)
        apart = mt_links_plus(apart, later[i] > earlier[i] ? later[i] - earlier[i] : 0);
    uint64_t others = s->segments - s->simulated, squared = (uint64_t)half * half;
    uint64_t rest = mt_links_times(apart, others % squared) / squared;
    rest = mt_links_plus(rest, mt_links_times(apart, others / squared));
    return mt_links_plus(simulated_ns, rest);
}

static void report(struct mt_simulating *s, struct mt_simulate_result *result)
{
    for (uint32_t segment = 0; segment < s->simulated; segment++)
        result->simulated_ns = mt_links_later(result->simulated_ns, s->end_ns[segment]);
    result->ns = whole_ns(s, result->simulated_ns);
    result->segments = s->segments;
    result->segments_simulated = s->simulated;
    mt_transfers_count(s, result);
    result->busiest_ns = mt_links_busiest(&s->links, &result->busiest);
    if (s->finished < s->expected)
        mt_simulating_report_stuck(s, &result->stuck);
}

int mt_simulate(const struct mt_simulate *what, struct mt_simulate_result *result_out,
                struct mt_error *error)
{
    struct mt_simulating s = {.what = what, .error = error};
    memset(result_out, 0, sizeof(*result_out));
    error->code = 0;
    if (what->ranks > RANKS_MOST)
        return mt_error_set(error, MANTA_EINVAL, "more than %d ranks cannot be simulated",
                            RANKS_MOST);
    mt_transfers_cut(&s);
    s.code = open_simulating(&s);
    if (!s.code)
        s.code = break_things(&s);
    if (!s.code)
        run(&s);
    if (!s.code)
        report(&s, result_out);
    close_simulating(&s);
    if (s.code && !error->code)
        mt_error_set(error, s.code, "no memory to simulate plans of %u ranks; free some",
                     what->ranks);
    return s.code;
}
