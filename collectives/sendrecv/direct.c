/* SPDX-License-Identifier: Apache-2.0 */
/* Send and receive: one message between two ranks; the root of the plan is the peer. */
#include "collectives/algorithms.h"
#include "plan/algorithm.h"

static void build(struct mt_plan_builder *p)
{
    plan_blocks(p, 1, MANTA_PLAN_VECTOR);
    if (plan_collective(p) == MANTA_SEND)
        plan_send(p, plan_root(p), plan_all(p));
    else
        plan_recv(p, plan_root(p), plan_all(p));
}

const struct mt_algorithm mt_send_direct = {
    .name = "direct",
    .collective = MANTA_SEND,
    .ranks_min = 2,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "one message",
    .build = build,
};

const struct mt_algorithm mt_recv_direct = {
    .name = "direct",
    .collective = MANTA_RECV,
    .ranks_min = 2,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "one message",
    .build = build,
};
