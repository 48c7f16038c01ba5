/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the simulator:
 *   links.c     what carries bytes and does work;
 *   events.c    what happens, in the order of time;
 *   contents.c  what the blocks hold;
 *   transfers.c who sends how much to whom;
 *   simulate.c  the steps;
 *   symmetry.c  which ranks do the same at the same times;
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

/* Before the rate of the segments is taken, it settles for so many. */
enum { MT_SIMULATE_SETTLE = 4 };

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

/* What a step moves. A receive moves what its send does. */
struct mt_transfer {
    uint32_t peer, partner; /* of a message: the other rank, as simulated, and its step, or NONE */
    uint64_t bytes : 56;    /* of a segment that is not the last */
    uint64_t meet : 8;      /* enum mt_level */
};

struct mt_simulating {
    const struct mt_simulate *what;
    struct mt_plan_match match;
    uint32_t *as; /* [ranks]: the rank that each one is simulated as; NULL: itself */
    uint64_t segments, segment_bytes, last_bytes;
    struct mt_transfer *transfers; /* [step of all ranks], as in the match */
    uint32_t simulated;            /* segments; the last one of them has last_bytes */
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
/* Cut the vector into segments. */
void mt_transfers_cut(struct mt_simulating *s);
/* 0 or MANTA_ENOMEM. */
int mt_transfers_open(struct mt_simulating *s);
/* The other end of a message; its step may be NONE. */
struct mt_simulate_at mt_transfers_partner(const struct mt_simulating *s,
                                           const struct mt_simulate_at *at);
/* The way of a message, from the step that sends it or the one that receives it. */
struct mt_links_way mt_transfers_way(const struct mt_simulating *s, const struct mt_simulate_at *at,
                                     int sends);
uint64_t mt_transfers_bytes(const struct mt_simulating *s, const struct mt_simulate_at *at);
/* The bytes of an interval of blocks in a segment. */
uint64_t mt_transfers_interval(const struct mt_simulating *s, const struct manta_plan *plan,
                               uint32_t segment, uint32_t first, uint32_t count);
/* From now on, ranks are simulated as s->as says. */
void mt_transfers_fold(struct mt_simulating *s);
/* Steps, messages and bytes of all ranks. */
void mt_transfers_count(const struct mt_simulating *s, struct mt_simulate_result *result);
/* The flags of a step; NULL (and the code kept) when out of memory. */
uint8_t *mt_simulating_flags(struct mt_simulating *s, const struct mt_simulate_at *at);
/* Has it been issued? Not if it is NONE, or its rank dead. */
int mt_simulating_issued(struct mt_simulating *s, const struct mt_simulate_at *at);
/* Fill s->as where ranks do the same. 0 or MANTA_ENOMEM. */
int mt_symmetry_find(struct mt_simulating *s);
/* Is it simulated? Not if it has no plan, or is simulated as another. */
static inline int mt_simulating_has(const struct mt_simulating *s, uint32_t rank)
{
    return s->what->plans[rank] && (!s->as || s->as[rank] == rank);
}
/* Count the ranks that wait for ever, and tell the watcher of each. */
void mt_simulating_report_stuck(struct mt_simulating *s, uint32_t *stuck_out);

#endif
