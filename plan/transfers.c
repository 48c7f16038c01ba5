/* SPDX-License-Identifier: Apache-2.0 */
/* Who sends how much to whom: looked up once for each step, since plans of many ranks are more than
 * a cache holds. */
#include "plan/simulating.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

/* How many segments there are, and which of them are simulated. */
void mt_transfers_cut(struct mt_simulating *s)
{
    const struct mt_simulate *what = s->what;
    uint64_t segment = what->model->segment_bytes, most = what->segments_most;
    for (uint32_t r = 0; r < what->ranks; r++)
        if (what->plans[r] && what->plans[r]->whole)
            segment = UINT64_MAX;
        else if (what->plans[r] && what->plans[r]->layout == MANTA_PLAN_RANKS)
            segment = mt_links_later(what->model->segment_bytes / what->ranks, 1);
    s->segments = 1;
    if (segment < what->bytes)
        s->segments = what->bytes / segment + (what->bytes % segment != 0);
    if (!most || most > MT_SIMULATE_SEGMENTS)
        most = MT_SIMULATE_SEGMENTS;
    s->simulated = (uint32_t)(s->segments < most ? s->segments : most);
    s->segment_bytes = s->segments > 1 ? segment : what->bytes;
    s->last_bytes = s->segments > 1 ? what->bytes - segment * (s->segments - 1) : what->bytes;
    if (s->simulated < s->segments && s->simulated < 4 * MT_SIMULATE_SETTLE)
        s->last_bytes = segment;
}

static uint64_t part(uint64_t bytes, uint64_t index, uint64_t parts)
{
    return bytes / parts * index + bytes % parts * index / parts;
}

uint64_t mt_transfers_interval(const struct mt_simulating *s, const struct manta_plan *plan,
                               uint32_t segment, uint32_t first, uint32_t count)
{
    uint64_t whole = segment + 1 == s->simulated ? s->last_bytes : s->segment_bytes;
    uint64_t parts = plan->blocks;
    if (plan->layout == MANTA_PLAN_VECTOR)
        return part(whole, first + (uint64_t)count, parts) - part(whole, first, parts);
    return mt_links_times(count, whole) / (parts / plan->ranks);
}

static uint64_t add_up(const struct mt_simulating *s, const struct mt_simulate_at *at)
{
    const struct manta_plan *plan = s->what->plans[at->rank];
    const struct manta_plan_step *step = &plan->steps[at->step];
    uint32_t locations = step->location_count;
    uint64_t bytes = 0;
    if (step->kind == MANTA_PLAN_COPY || step->kind == MANTA_PLAN_REDUCE)
        locations = 1;
    for (uint32_t i = 0; i < locations; i++) {
        const struct manta_plan_location *to = &plan->locations[step->location_first + i];
        bytes =
            mt_links_plus(bytes, mt_transfers_interval(s, plan, at->segment, to->first, to->count));
    }
    return bytes;
}

static struct mt_transfer *transfer_of(const struct mt_simulating *s,
                                       const struct mt_simulate_at *at)
{
    return &s->transfers[s->match.first[at->rank] + at->step];
}

static void fill(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    static const uint64_t most = (UINT64_C(1) << 56) - 1;
    const struct manta_plan_step *step = mt_simulating_step(s, at);
    struct mt_transfer *mine = transfer_of(s, at);
    int sends = step->kind == MANTA_PLAN_SEND;
    mine->partner = s->match.partner[s->match.first[at->rank] + at->step];
    if (sends || step->kind == MANTA_PLAN_RECV)
        mine->peer = step->peer;
    if (step->kind == MANTA_PLAN_RECV)
        return; /* the send says the rest */
    uint64_t bytes = step->kind == MANTA_PLAN_FUSED ? 0 : add_up(s, at);
    mine->bytes = bytes < most ? bytes : most;
    if (sends)
        mine->meet = mt_topology_meet(s->what->model->topology, at->rank, step->peer);
    if (!sends || mine->partner == MANTA_PLAN_NONE)
        return;
    struct mt_simulate_at to = mt_transfers_partner(s, at);
    transfer_of(s, &to)->bytes = mine->bytes;
    transfer_of(s, &to)->meet = mine->meet;
}

int mt_transfers_open(struct mt_simulating *s)
{
    s->transfers = calloc(s->match.first[s->what->ranks] + 1, sizeof(*s->transfers));
    if (!s->transfers)
        return MANTA_ENOMEM;
    /* Segment 0 has the length of all but the last; alone, it is the last. */
    for (uint32_t r = 0; r < s->what->ranks; r++) {
        struct mt_simulate_at at = {r, 0, 0};
        uint32_t steps = s->what->plans[r] ? s->what->plans[r]->step_count : 0;
        for (; at.step < steps; at.step++)
            fill(s, &at);
    }
    return 0;
}

void mt_transfers_fold(struct mt_simulating *s)
{
    for (uint32_t r = 0; s->as && r < s->what->ranks; r++) {
        const struct manta_plan *plan = s->what->plans[r];
        struct mt_transfer *moves = &s->transfers[s->match.first[r]];
        for (uint32_t i = 0; plan && i < plan->step_count; i++)
            if (plan->steps[i].kind == MANTA_PLAN_SEND || plan->steps[i].kind == MANTA_PLAN_RECV)
                moves[i].peer = s->as[moves[i].peer];
    }
}

struct mt_simulate_at mt_transfers_partner(const struct mt_simulating *s,
                                           const struct mt_simulate_at *at)
{
    const struct mt_transfer *mine = transfer_of(s, at);
    return (struct mt_simulate_at){mine->peer, at->segment, mine->partner};
}

static int is_shorter(const struct mt_simulating *s, uint32_t segment)
{
    return segment + 1 == s->simulated && s->last_bytes != s->segment_bytes;
}

uint64_t mt_transfers_bytes(const struct mt_simulating *s, const struct mt_simulate_at *at)
{
    return is_shorter(s, at->segment) ? add_up(s, at) : transfer_of(s, at)->bytes;
}

struct mt_links_way mt_transfers_way(const struct mt_simulating *s, const struct mt_simulate_at *at,
                                     int sends)
{
    const struct mt_transfer *mine = transfer_of(s, at);
    struct mt_simulate_at other = mt_transfers_partner(s, at);
    uint64_t bytes = is_shorter(s, at->segment) ? add_up(s, sends ? at : &other) : mine->bytes;
    return (struct mt_links_way){.from = sends ? at->rank : other.rank,
                                 .to = sends ? other.rank : at->rank,
                                 .meet = (enum mt_level)mine->meet,
                                 .bytes = bytes};
}

static void count_steps(const struct mt_simulating *s, uint32_t rank,
                        struct mt_simulate_result *result)
{
    const struct manta_plan *plan = s->what->plans[rank];
    struct mt_simulate_at at = {rank, s->simulated - 1, 0};
    result->steps += plan->step_count;
    for (; at.step < plan->step_count; at.step++) {
        const struct mt_transfer *sent = transfer_of(s, &at);
        if (plan->steps[at.step].kind != MANTA_PLAN_SEND)
            continue;
        uint64_t all = mt_links_times(s->segments - 1, sent->bytes);
        all = mt_links_plus(all, mt_transfers_bytes(s, &at));
        result->level_bytes[sent->meet] = mt_links_plus(result->level_bytes[sent->meet], all);
        result->messages++;
    }
}

void mt_transfers_count(const struct mt_simulating *s, struct mt_simulate_result *result)
{
    for (uint32_t r = 0; r < s->what->ranks; r++) {
        uint32_t as = s->as ? s->as[r] : r;
        result->ranks_simulated += (uint32_t)mt_simulating_has(s, r);
        if (s->what->plans[as])
            count_steps(s, as, result);
    }
}
