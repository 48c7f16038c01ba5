/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why one run proves all runs.
 *
 * Deadlock. Whether a step may be issued depends on the steps before it in its lane, on its
 * dependencies and on a free place in the window; whether it may complete, on its counterpart
 * having been issued. Nothing that happens can take such a permission away again: completions only
 * free places, and the places of a lane are taken by its own next step alone. So enabled steps
 * never disable one another, all maximal runs end in the same state (Keller, A fundamental theorem
 * of asynchronous parallel computation, 1975), and if one run ends with everything complete, every
 * run does. A wider window, or sends that complete early, only permit more.
 *
 * Values. If any two accesses to the same memory of a rank, one of them a write, are ordered by the
 * dependencies alone (verify_races.c, without help from lanes or windows), then every read sees the
 * same write in every run, and the values of one run are those of all.
 *
 * Segments. They touch disjoint elements of SRC and DST, their messages differ in the segment's
 * number, each issues its lanes for itself, and a scratch slot is used by segment k only after
 * segment k - depth is complete on that rank. The run covers depth + 2 of them.
 */
#include "plan/verifying.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "plan/print.h"

void mt_verify_fault(struct mt_verify *v, uint32_t rank, uint32_t step, const char *format, ...)
{
    char where[112] = "", reason[128];
    va_list arguments;
    if (v->code)
        return;
    v->code = MANTA_EPLAN;
    va_start(arguments, format);
    vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    if (step != MANTA_PLAN_NONE && v->plans[rank])
        mt_plan_describe(v->plans[rank], step, where, sizeof(where));
    snprintf(v->result->fault, sizeof(v->result->fault), "rank %u%s%s: %s", rank,
             where[0] ? ", step" : "", where, reason);
}

void mt_verify_no_memory(struct mt_verify *v)
{
    if (v->code)
        return;
    v->code = MANTA_ENOMEM;
    snprintf(v->result->fault, sizeof(v->result->fault), "no memory to verify %u plans", v->ranks);
}

const struct manta_plan_fused_member *mt_verify_member(const struct manta_plan_fused *fused,
                                                       uint32_t rank)
{
    for (uint32_t i = 0; i < fused->member_count; i++)
        if (fused->members[i].rank == rank)
            return &fused->members[i];
    return NULL;
}

uint32_t mt_verify_accesses(const struct manta_plan *plan, const struct manta_plan_step *step,
                            struct mt_verify_access accesses[MT_VERIFY_ACCESSES])
{
    const struct manta_plan_location *at = plan->locations + step->location_first;
    uint32_t count = 0;
    if (step->kind == MANTA_PLAN_FUSED) {
        uint32_t reads = mt_verify_member(&plan->fused[step->number], plan->rank)->read_count > 0;
        for (; count < step->location_count; count++)
            accesses[count] = (struct mt_verify_access){at[count], count >= reads};
    } else if (step->kind == MANTA_PLAN_SEND || step->kind == MANTA_PLAN_RECV) {
        for (; count < step->location_count; count++)
            accesses[count] = (struct mt_verify_access){at[count], step->kind == MANTA_PLAN_RECV};
    } else {
        for (; count + 1 < step->location_count; count++)
            accesses[count] = (struct mt_verify_access){at[count + 1], 0};
        accesses[count++] = (struct mt_verify_access){at[0], 1};
    }
    for (uint32_t i = 0; plan->in_place && i < count; i++)
        if (accesses[i].at.buffer == MANTA_PLAN_SRC)
            accesses[i].at.buffer = MANTA_PLAN_DST;
    return count;
}

int mt_plan_turn_next(struct mt_plan_turn *turn, uint32_t fused_count, uint64_t segments)
{
    while (turn->wave < segments + MT_PLAN_DEPTH) {
        turn->number++;
        if (turn->number == fused_count) {
            turn->number = 0;
            turn->wave++;
        }
        if (mt_plan_turn_segment(turn, fused_count) < segments)
            return 1;
    }
    return 0;
}

static void count_steps(struct mt_verify *v)
{
    for (uint32_t r = 0; r < v->ranks; r++) {
        for (uint32_t s = 0; v->plans[r] && s < v->plans[r]->step_count; s++) {
            v->result->steps++;
            v->result->messages += v->plans[r]->steps[s].kind == MANTA_PLAN_SEND;
        }
    }
}

int mt_plan_verify(const struct manta_plan *const *plans, uint32_t ranks,
                   struct mt_verify_result *result_out)
{
    struct mt_verify v = {.plans = plans, .ranks = ranks, .result = result_out};
    memset(result_out, 0, sizeof(*result_out));
    mt_verify_form(&v);
    if (!v.code) {
        count_steps(&v);
        if (mt_plan_match_open(&v.match, plans, ranks))
            mt_verify_no_memory(&v);
    }
    if (!v.code)
        mt_verify_messages(&v);
    if (!v.code)
        mt_verify_races(&v);
    if (!v.code)
        mt_verify_run(&v);
    if (!v.code)
        mt_verify_values(&v);
    mt_plan_match_close(&v.match);
    free(v.events);
    return v.code;
}
