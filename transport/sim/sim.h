/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sim transport: another transport (MANTA_SIM_INNER; a list means the first that reaches the
 * peer), with the faults of MANTA_FAULT. It is for tests and allocates as it likes. This header is
 * also for tests that compare the messages seen with those of a plan.
 */
#ifndef MT_TRANSPORT_SIM_H
#define MT_TRANSPORT_SIM_H

#include <stddef.h>
#include <stdint.h>

#include <manta/transport.h>

#include "transport/sim/fault.h"

enum mt_sim_operation { MT_SIM_SEND, MT_SIM_RECV, MT_SIM_FUSED };

struct mt_sim_event {
    enum mt_sim_operation operation;
    uint32_t peer; /* MANTA_PLAN_NONE for a fused step */
    struct manta_transport_id id;
    uint64_t bytes; /* fused: elements */
    int status;     /* 0: completed; else how it ended */
};

/* Keep a log of all operations that end from now on. The endpoint is one of mt_transport_sim. */
int mt_sim_log_start(void *endpoint);
/* The events so far, in the order in which they ended; valid until the next operation ends. */
const struct mt_sim_event *mt_sim_log(const void *endpoint, size_t *count_out);
/* How many times a fault of this kind was injected. */
uint64_t mt_sim_injected(const void *endpoint, enum mt_fault_kind kind);

#endif
