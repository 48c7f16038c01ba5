/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are objects of an interpreter. The loop asks for one only when it needs it first, so
 * that what is timed is what a program of that language pays, and not the way from C to it. */
#include "perf/loop/perf.h"

enum { ROOTS = 64 }; /* more roots than this share places */

struct place {
    struct perf_call call;
    const void *src;
    void *dst, *object;
};

static struct perf_caller caller;
static struct place places[ROOTS];

static int holds(const struct place *place, const struct perf_call *call, const void *src,
                 const void *dst)
{
    const struct perf_call *kept = &place->call;
    return place->object && kept->collective == call->collective && kept->count == call->count &&
           kept->dtype == call->dtype && kept->op == call->op && kept->root == call->root &&
           place->src == src && place->dst == dst;
}

void perf_caller_use(const struct perf_caller *chosen)
{
    caller = *chosen;
    for (int i = 0; i < ROOTS; i++)
        places[i].object = NULL;
}

int perf_caller_run(const struct perf_call *call, const void *src, void *dst)
{
    struct place *place = &places[call->root % ROOTS];
    if (!holds(place, call, src, dst))
        *place = (struct place){*call, src, dst, caller.prepare(call, src, dst)};
    void *result = place->object ? caller.invoke(place->object) : NULL;
    if (!result) {
        caller.complain();
        return -1;
    }
    caller.release(result);
    return 0;
}
