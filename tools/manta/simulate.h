/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of manta simulate. */
#ifndef MT_TOOLS_MANTA_SIMULATE_H
#define MT_TOOLS_MANTA_SIMULATE_H

#include "plan/bound.h"
#include "plan/builder.h"
#include "plan/simulate.h"
#include "tools/manta/manta.h"

enum { SIMULATED_MOST = 64, FAULTS_MOST = 64, STUCK_SHOWN = 8 };

/* One rank that waits for ever, in words. */
struct stuck_rank {
    uint32_t rank, on;
    char step[112];
};

/* An algorithm, and what came of it. */
struct simulated {
    const struct mt_algorithm *algorithm;
    char excluded[160]; /* "", or why there is no result */
    int is_wrong;       /* excluded because its blocks hold what they should not */
    struct mt_simulate_result result;
    double efficiency, wall_s;
    struct stuck_rank stuck[STUCK_SHOWN];   /* the first of them */
    uint32_t stuck_count, on_dead, in_turn; /* ranks that wait: for dead ones, for other waiting */
};

struct simulation {
    const struct call_options *options;
    const struct mt_topology *topology;
    struct mt_cost_model model;
    struct mt_simulate_fault faults[FAULTS_MOST];
    uint32_t fault_count;
    struct mt_bound bound;
    struct simulated list[SIMULATED_MOST]; /* best first */
    uint32_t count;
};

/* "slow=rank:5x0.01,dead=node:3": 0, or -1 after a message. */
int faults_parse(const char *text, struct simulation *simulation);
int fault_is_dead(const struct simulation *simulation, uint32_t rank);

/* "node 3's uplink, out" */
void link_describe(const struct mt_link_name *name, char *text, size_t text_bytes);
void report_text(const struct simulation *simulation);
/* 0, or -1 after a message. */
int report_json(const struct simulation *simulation);

/* A trace for chrome://tracing and Perfetto. 0, or -1 after a message. */
struct trace;
int trace_open(const char *path, const struct mt_topology *topology,
               const struct manta_plan *const *plans, struct trace **trace_out);
void trace_slice(struct trace *trace, const struct mt_simulate_slice *slice);
int trace_close(struct trace *trace);

#endif
