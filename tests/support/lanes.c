/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lanes.h"

#include "core/clock.h"
#include "transport/verbs/verbs.h"

int lanes_open(struct endpoints_rank *self, uint32_t rank)
{
    const struct mt_verbs_endpoint *endpoint = self->endpoint;
    const struct mt_verbs_peer *peer = endpoint->peers[rank];
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    for (uint32_t i = 0; i < peer->lane_count;) {
        self->transport->progress(self->endpoint);
        if (mt_clock_now_ns() > until_ns)
            return endpoints_fail(self, "lane %u to rank %u does not open", i, rank);
        i += peer->lanes[i].state == MT_VERBS_LANE_OPEN;
    }
    return 0;
}
