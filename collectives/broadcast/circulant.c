/* SPDX-License-Identifier: Apache-2.0 */
/* Broadcast of pieces in the least number of rounds, pieces - 1 + ceil(log2 n), for any n: in each
 * round all ranks send one piece they have, and receive one that is new, over one skip of a
 * circulant graph. The parameter is the number of pieces.
 * Träff: Optimal Broadcast Schedules in Logarithmic Time, arXiv 2407.18004. */
#include "collectives/algorithms.h"
#include "collectives/circulant.h"
#include "plan/algorithm.h"

enum { PIECES = 8 };

static void build(struct mt_plan_builder *p)
{
    const uint32_t n = plan_ranks(p), root = plan_root(p), v = (plan_rank(p) + n - root) % n;
    struct mt_circulant c;

    plan_blocks(p, plan_parameter(p, PIECES), MANTA_PLAN_VECTOR);
    mt_circulant_schedule(n, v, plan_all(p).count, &c);
    for (uint32_t round = c.first; round < c.end; round++) {
        uint32_t skip = c.skip[round % c.q];
        int64_t given = mt_circulant_piece(&c, c.next, round);
        int64_t got = mt_circulant_piece(&c, c.mine, round);
        if (given >= 0)
            plan_send(p, (plan_rank(p) + skip) % n, plan_block(p, given));
        if (got >= 0)
            plan_recv(p, (plan_rank(p) + n - skip) % n, plan_block(p, got));
    }
}

const struct mt_algorithm mt_broadcast_circulant = {
    .name = "circulant",
    .collective = MANTA_BROADCAST,
    .order = MANTA_PLAN_ORDER_BINARY,
    .source = "Träff 2024",
    .build = build,
};
