/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the simulator:
 *   links.c     what carries bytes and does work;
 *   events.c    what happens, in the order of time;
 *   contents.c  what the blocks hold;
 *   simulate.c  the steps;
 *   stuck.c     who waits for whom, when nothing happens any more.
 */
#ifndef MT_PLAN_SIMULATING_H
#define MT_PLAN_SIMULATING_H

#include "plan/contents.h"
#include "plan/events.h"
#include "plan/simulate.h"

/* Of a step. */
enum {
    MT_SIMULATE_ISSUED = 1,
    MT_SIMULATE_WORD = 2,    /* send: its receive is posted */
    MT_SIMULATE_ARRIVED = 4, /* receive: its message is there */
    MT_SIMULATE_COMPLETE = 8
};

/* A step of a segment. */
struct mt_simulate_at {
    uint32_t rank, segment, step;
};

/* A segment of a rank that is under way; it exists from the first event that concerns it. */
struct mt_simulate_instance {
    uint32_t complete; /* steps */
    uint32_t *heads;   /* [lanes]: index from which the next step is looked for */
    uint8_t *flags;    /* [steps] */
};

struct mt_simulating {
    const struct mt_simulate *what;
    const struct mt_plan_match *match;
    struct mt_plan_match own_match;
    uint64_t segments, segment_bytes, last_bytes;
    uint32_t simulated; /* segments; the last one of them has last_bytes */
    struct mt_links links;
    struct mt_events events;
    struct mt_contents *contents;            /* or NULL */
    struct mt_simulate_instance **instances; /* [segment][rank] */
    uint64_t *done;                          /* [ranks]: a bit for each segment that is complete */
    uint8_t *dead;                           /* [ranks] */
    uint64_t end_ns[MT_SIMULATE_SEGMENTS];   /* of each segment */
    uint64_t now_ns, steps, steps_expected;
    uint64_t finished, expected; /* segments of ranks */
    struct mt_error *error;
    int code;
};

static inline const struct manta_plan_step *mt_simulating_step(const struct mt_simulating *s,
                                                               const struct mt_simulate_at *at)
{
    return &s->what->plans[at->rank]->steps[at->step];
}
/* The flags of a step; NULL (and the code kept) when out of memory. */
uint8_t *mt_simulating_flags(struct mt_simulating *s, const struct mt_simulate_at *at);
/* The step of a rank that is the fused step of this number, or MANTA_PLAN_NONE. */
uint32_t mt_simulating_fused(const struct mt_simulating *s, uint32_t rank, uint32_t number);
/* Has it been issued? Not if it is NONE, or its rank dead. */
int mt_simulating_issued(struct mt_simulating *s, const struct mt_simulate_at *at);
/* Count the ranks that wait for ever, and tell the watcher of each. */
void mt_simulating_report_stuck(struct mt_simulating *s, uint32_t *stuck_out);

#endif
