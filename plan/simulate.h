/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plans of all ranks as discrete events over the links of a topology. A lane issues in order,
 * each step when those that it depends on are complete; messages, reductions and fused steps occupy
 * links (plan/links.h). Receives are posted ahead, so a short message waits for nobody; a longer
 * one starts when word of its receive has come. Long vectors run through in segments,
 * MT_PLAN_DEPTH of a rank's at a time; when there are many, the first ones tell the rate at which
 * the others follow. Equal inputs give equal times, event by event.
 */
#ifndef MT_PLAN_SIMULATE_H
#define MT_PLAN_SIMULATE_H

#include "plan/links.h"
#include "plan/match.h"

/* A rank that does nothing, or a link that is slow (mt_links_slow). */
struct mt_simulate_fault {
    int dead;
    enum mt_level level; /* MT_LEVEL_CORE: the rank of this index; else all ranks of the group */
    uint32_t index;
    uint64_t ppm; /* of the speed are left; not of the dead */
};

/* What a step did, for those who watch. A send begins when its message starts to move. */
struct mt_simulate_slice {
    uint32_t rank, segment, step;
    uint64_t begin_ns, end_ns;
};

/* A rank that waits for ever, its first step that does, and for whom (or MANTA_PLAN_NONE). */
struct mt_simulate_stuck {
    uint32_t rank, segment, step, on;
};

struct mt_simulate_watch {
    void *arg;
    void (*slice)(void *arg, const struct mt_simulate_slice *slice); /* these may be NULL */
    void (*stuck)(void *arg, const struct mt_simulate_stuck *stuck);
    void (*progress)(void *arg, uint64_t steps, uint64_t of_steps);
};

struct mt_simulate {
    const struct mt_cost_model *model;
    const struct manta_plan *const *plans; /* [ranks]; NULL for ranks that take no part */
    uint32_t ranks;
    uint64_t bytes;         /* of the vector, or of one rank's part */
    uint32_t segments_most; /* so many are simulated, the rest follow at their rate; 0: all */
    int check;              /* follow what the blocks hold, in the first segment */
    int fold_ranks; /* simulate ranks that do the same at the same times once (plan/symmetry.c);
                       not with `check` or faults */
    const struct mt_simulate_fault *faults;
    uint32_t fault_count;
    struct mt_simulate_watch watch;
};

struct mt_simulate_result {
    uint64_t ns; /* of the whole; without meaning when ranks are stuck */
    uint64_t segments, segments_simulated, simulated_ns;
    uint32_t ranks_simulated;        /* fewer than all when they were folded */
    uint64_t steps, messages;        /* of all ranks, in one segment */
    uint64_t level_bytes[MT_LEVELS]; /* of all messages, by the level at which two ranks meet */
    struct mt_link_name busiest;
    uint64_t busiest_ns; /* for how long it worked, of simulated_ns */
    uint32_t stuck;      /* ranks that wait for ever; the dead are not among them */
};

enum { MT_SIMULATE_SEGMENTS = 62 }; /* the most that can be simulated one by one */

/* 0, MANTA_EPLAN (the contents are wrong: the sentence tells where), MANTA_EINVAL (a fault that
 * names nothing), MANTA_ENOMEM. Ranks that are stuck are no error: see the result. */
int mt_simulate(const struct mt_simulate *what, struct mt_simulate_result *result_out,
                struct mt_error *error);

#endif
