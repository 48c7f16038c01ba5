/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the verifier:
 *   verify_form.c    each plan by itself: indices, kinds, ownership, scratch bounds; heads agree;
 *   verify_races.c   accesses to the same memory are ordered by dependencies;
 *   verify_run.c     all plans together, for segments 0 .. depth + 1: nobody waits for ever;
 *   verify_values.c  what the blocks hold at the end.
 */
#ifndef MT_PLAN_VERIFYING_H
#define MT_PLAN_VERIFYING_H

#include "plan/match.h"
#include "plan/verify.h"

/* A completed step of segment 0: a receive stands for its send too, the step of the last member
 * for the fused step of all. */
struct mt_verify_event {
    uint32_t rank, step;
};

struct mt_verify {
    const struct manta_plan *const *plans;
    uint32_t ranks;
    const struct manta_plan *any; /* a plan that is not NULL */
    struct mt_plan_match match;
    struct mt_verify_event *events; /* in the order of completion */
    uint64_t event_count;
    struct mt_verify_result *result;
    int code; /* 0, MANTA_EPLAN, MANTA_ENOMEM: the first */
};

/* What one step reads or writes. In place, SRC is named DST: equal blocks are equal memory. */
struct mt_verify_access {
    struct manta_plan_location at;
    int write;
};
enum { MT_VERIFY_ACCESSES = MANTA_PLAN_LOCATIONS };

/* Keep the first fault. step: MANTA_PLAN_NONE for the plan as a whole. */
void mt_verify_fault(struct mt_verify *v, uint32_t rank, uint32_t step, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void mt_verify_no_memory(struct mt_verify *v);
/* The accesses of a well-formed step, reads first; returns their number. */
uint32_t mt_verify_accesses(const struct manta_plan *plan, const struct manta_plan_step *step,
                            struct mt_verify_access accesses[MT_VERIFY_ACCESSES]);
const struct manta_plan_fused_member *mt_verify_member(const struct manta_plan_fused *fused,
                                                       uint32_t rank);

void mt_verify_form(struct mt_verify *v);
void mt_verify_messages(struct mt_verify *v);
void mt_verify_races(struct mt_verify *v);
void mt_verify_run(struct mt_verify *v);
void mt_verify_values(struct mt_verify *v);

#endif
