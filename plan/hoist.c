/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receives move ahead of the reductions, copies and the one send that stand before them, so that a
 * message finds its receive posted.
 *
 * This keeps a plan free of deadlock if it consists of rounds in which each rank sends at most one
 * message and receives at most one, since each record is passed by at most one receive, and a
 * receive passes at most one send and no other receive: in the earliest unfinished round a send
 * then shares its lane's window of two with at most one receive moved ahead of it, and a receive
 * with at most one send. The verifier proves it for every plan anyway.
 */
#include "plan/building.h"

#include <string.h>

static int overlap(const struct mt_plan_access *x, const struct mt_plan_access *y)
{
    const struct manta_plan_location *a = &x->at, *c = &y->at;
    if (a->buffer != c->buffer || a->region != c->region || !(x->write || y->write))
        return 0;
    if (a->buffer == MANTA_PLAN_SCRATCH && a->origin != c->origin)
        return 1;
    return a->first < c->first + c->count && c->first < a->first + a->count;
}

static int conflict(const struct mt_plan_builder *b, const struct mt_plan_record *x,
                    const struct mt_plan_record *y)
{
    struct mt_plan_access mine[MT_PLAN_ACCESSES], theirs[MT_PLAN_ACCESSES];
    uint32_t mine_count = mt_plan_accesses(b, x, mine);
    uint32_t theirs_count = mt_plan_accesses(b, y, theirs);
    for (uint32_t i = 0; i < mine_count; i++)
        for (uint32_t k = 0; k < theirs_count; k++)
            if (overlap(&mine[i], &theirs[k]))
                return 1;
    return 0;
}

/* The position to which the receive at `from` may move. */
static uint32_t earliest(const struct mt_plan_builder *b, uint32_t from)
{
    uint32_t to = from, sends = 0;
    while (to > 0) {
        const struct mt_plan_record *other = &b->records[to - 1];
        int message = other->step.kind == MANTA_PLAN_SEND;
        if (other->step.lane != b->records[from].step.lane || other->passed ||
            other->step.kind == MANTA_PLAN_RECV || other->step.kind == MANTA_PLAN_FUSED ||
            (message && sends) || conflict(b, other, &b->records[from]))
            break;
        sends += (uint32_t)message;
        to--;
    }
    return to;
}

void mt_plan_hoist(struct mt_plan_builder *b)
{
    for (uint32_t i = 0; i < b->record_count; i++) {
        if (b->records[i].step.kind != MANTA_PLAN_RECV)
            continue;
        uint32_t to = earliest(b, i);
        struct mt_plan_record moved = b->records[i];
        memmove(&b->records[to + 1], &b->records[to], (i - to) * sizeof(moved));
        b->records[to] = moved;
        for (uint32_t k = to + 1; k <= i; k++)
            b->records[k].passed = 1;
    }
}
