/* SPDX-License-Identifier: Apache-2.0 */
/* Which send meets which receive, across the plans of all ranks. */
#ifndef MT_PLAN_MATCH_H
#define MT_PLAN_MATCH_H

#include <stdint.h>

#include <manta/plan.h>

/* partner[first[r] + s] is the step of the peer's plan that step s of rank r meets; NONE if there
 * is none, and for steps that are no messages. */
struct mt_plan_match {
    uint32_t *partner;
    uint64_t *first; /* [ranks + 1] */
};

/* Plans may be NULL (a rank without steps); their peers must be valid ranks with a plan or without.
 * 0 or MANTA_ENOMEM. Close it in either case. */
int mt_plan_match_open(struct mt_plan_match *match, const struct manta_plan *const *plans,
                       uint32_t ranks);
void mt_plan_match_close(struct mt_plan_match *match);

/* The step of a plan that is the fused step of this number; NONE if there is none. */
uint32_t mt_plan_find_fused(const struct manta_plan *plan, uint32_t number);
/* Where the plan's rank has what it reads, or writes, in a fused step; NULL: it does not. */
const struct manta_plan_location *mt_plan_fused_place(const struct manta_plan *plan, uint32_t step,
                                                      int write);

#endif
