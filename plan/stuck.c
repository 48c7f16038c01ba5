/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits for whom, when nothing happens any more. */
#include "plan/simulating.h"

/* The member of a fused step that has not come. */
static uint32_t missing_member(struct mt_simulating *s, const struct mt_simulate_at *at)
{
    const struct manta_plan *plan = s->what->plans[at->rank];
    uint32_t number = plan->steps[at->step].number;
    const struct manta_plan_fused *fused = &plan->fused[number];
    for (uint32_t i = 0; i < fused->member_count; i++) {
        uint32_t rank = fused->members[i].rank;
        struct mt_simulate_at theirs = {rank, at->segment,
                                        mt_plan_find_fused(s->what->plans[rank], number)};
        if (!mt_simulating_issued(s, &theirs))
            return rank;
    }
    return MANTA_PLAN_NONE;
}

/* An issued step that others hold up comes before those that wait for it. */
static int find_wait(struct mt_simulating *s, uint32_t rank, struct mt_simulate_stuck *stuck)
{
    const struct manta_plan *plan = s->what->plans[rank];
    struct mt_simulate_at at = {rank, (uint32_t)__builtin_ctzll(~s->done[rank]), 0};
    const uint8_t *flags = mt_simulating_flags(s, &at);
    *stuck = (struct mt_simulate_stuck){rank, at.segment, MANTA_PLAN_NONE, MANTA_PLAN_NONE};
    for (; flags && at.step < plan->step_count; at.step++) {
        if (!(flags[at.step] & MT_SIMULATE_ISSUED) || (flags[at.step] & MT_SIMULATE_COMPLETE))
            continue;
        uint32_t kind = plan->steps[at.step].kind;
        stuck->step = at.step;
        stuck->on = kind == MANTA_PLAN_FUSED ? missing_member(s, &at) : plan->steps[at.step].peer;
        return 1;
    }
    return 0;
}

void mt_simulating_report_stuck(struct mt_simulating *s, uint32_t *stuck_out)
{
    const struct mt_simulate_watch *w = &s->what->watch;
    uint64_t all = (UINT64_C(1) << s->simulated) - 1;
    for (uint32_t r = 0; r < s->what->ranks; r++) {
        struct mt_simulate_stuck stuck;
        if (!mt_simulating_has(s, r) || s->dead[r] || !(~s->done[r] & all))
            continue;
        find_wait(s, r, &stuck);
        ++*stuck_out;
        if (w->stuck)
            w->stuck(w->arg, &stuck);
    }
}
