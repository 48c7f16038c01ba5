/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verifier: runs the plans of all ranks symbolically, depth + 2 segments of them, under the
 * weakest engine that the rules of plan.h allow (window MANTA_PLAN_WINDOW, rendezvous sends,
 * completions in any order), and proves result, absence of deadlock, races and scratch bounds, or
 * names the first fault.
 */
#ifndef MT_PLAN_VERIFY_H
#define MT_PLAN_VERIFY_H

#include <manta/plan.h>

enum { MT_PLAN_DEPTH = 2 }; /* segments under way at once; scratch slots */

/* Whose turn it is among the fused steps of a rank, in the order of plan.h. It begins with zeros.
 */
struct mt_plan_turn {
    uint64_t wave;
    uint32_t number;
};
/* Segment whose fused step has its turn, of plans with so many of them; of the first waves it may
 * be none, then UINT64_MAX. */
static inline uint64_t mt_plan_turn_segment(const struct mt_plan_turn *turn, uint32_t fused_count)
{
    uint64_t behind = (uint64_t)turn->number * MT_PLAN_DEPTH / fused_count;
    return turn->wave < behind ? UINT64_MAX : turn->wave - behind;
}
/* That step has been issued: the next one, of so many segments; 0 when there is none. */
int mt_plan_turn_next(struct mt_plan_turn *turn, uint32_t fused_count, uint64_t segments);

struct mt_verify_result {
    uint64_t order; /* MANTA_PLAN_ORDER_BINARY, or a fingerprint of the expression trees */
    uint64_t messages, steps;
    char fault[256]; /* "" when proved: rank, step and reason */
};

/* plans[r] for r in 0 .. ranks - 1; for send and recv, ranks that take no part may have NULL.
 * Ranks may differ in in_place. The plans' arrays must have the lengths that their heads declare;
 * nothing else in them is trusted. 0 or MANTA_EPLAN (result_out->fault tells), MANTA_ENOMEM. */
int mt_plan_verify(const struct manta_plan *const *plans, uint32_t ranks,
                   struct mt_verify_result *result_out);

#endif
