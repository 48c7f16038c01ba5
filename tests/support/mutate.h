/* SPDX-License-Identifier: Apache-2.0 */
/* Plans with one fault: every single fault of every kind, one after the other. */
#ifndef TESTS_SUPPORT_MUTATE_H
#define TESTS_SUPPORT_MUTATE_H

#include <stdint.h>

#include <manta/plan.h>

enum mutant_kind {
    MUTANT_DROPPED_STEP,       /* a step is left out; who depended on it takes its dependencies */
    MUTANT_DROPPED_MESSAGE,    /* a message is left out on both ends, the others renumbered */
    MUTANT_SWAPPED_PEERS,      /* two sends, or two receives, of a rank change their peers */
    MUTANT_SHIFTED_STEP,       /* a step works on the next block */
    MUTANT_SHIFTED_MESSAGE,    /* both ends of a message work on the next block */
    MUTANT_DOUBLED_REDUCE,     /* a reduction is done twice */
    MUTANT_REMOVED_DEPENDENCY, /* one dependency is forgotten */
    MUTANT_SMALLER_SCRATCH,    /* a scratch region has one block less */
    MUTANT_MERGED_SCRATCH,     /* two scratch regions are one */
    MUTANT_KINDS
};

struct mutant {
    uint32_t kind, rank;
    uint32_t step;  /* in the plan as it was; NONE for scratch */
    uint32_t other; /* the second step, dependency or region, where there is one */
};

const char *mutant_kind_name(uint32_t kind);
/* Can such a mutant be executed without leaving its memory? */
int mutant_executable(uint32_t kind);

/* Call judge with each mutant of the plans; the mutated plans are its own during the call. */
void mutate_all(struct manta_plan *const *plans, uint32_t ranks,
                void (*judge)(const struct mutant *, struct manta_plan *const *, void *arg),
                void *arg);

/* Do two locations of a plan overlap in memory? Do two steps have equal locations? Are the blocks
 * of two receives the operands of one reduction? */
int mutate_same_memory(const struct manta_plan *plan, const struct manta_plan_location *x,
                       const struct manta_plan_location *y);
int mutate_same_locations(const struct manta_plan *plan, uint32_t x, uint32_t y);
int mutate_operands_of_one(const struct manta_plan *plan, uint32_t x, uint32_t y);

#endif
