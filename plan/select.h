/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing an algorithm: override string, else the cost model. */
#ifndef MT_PLAN_SELECT_H
#define MT_PLAN_SELECT_H

#include <stdint.h>

#include "plan/builder.h"
#include "plan/cost.h"

/* Room for the candidates of one collective; a test counts the catalogue. */
enum { MT_SELECT_RANGES = 16, MT_SELECT_CANDIDATES = 32 };

/* A parsed override: MANTA_ALLREDUCE=0-4k:recursive_doubling,4k-:ring */
struct mt_select_range {
    uint64_t from_bytes, to_bytes; /* to is exclusive; UINT64_MAX: open */
    char algorithm[32];
};
struct mt_select_override {
    uint32_t count;
    struct mt_select_range ranges[MT_SELECT_RANGES];
};
/* Strict; errors name the part that is wrong. "ring" alone means all sizes. "" means none. */
int mt_select_parse(const char *text, struct mt_select_override *override_out,
                    struct mt_error *error);
/* The algorithm an override names for this size, or NULL. */
const char *mt_select_forced(const struct mt_select_override *override, uint64_t bytes);

struct mt_select_candidate {
    const struct mt_algorithm *algorithm;
    uint64_t predicted_ns;
    uint64_t slow_ns;     /* the same on the slow network of the model; 0: not priced */
    uint64_t score_ns;    /* the least is best */
    const char *excluded; /* NULL, or why it cannot be used */
    uint64_t messages;    /* of all ranks */
    uint64_t combined;    /* by all ranks, in 1,024ths of a vector */
    uint32_t place;       /* in the catalogue */
};
/* Which of the candidates runs: the one an override names (forced), else the best. -1: that one
 * cannot be used, or none can. */
int mt_select_pick(const struct mt_select_candidate *candidates, uint32_t count,
                   const char *forced);

/* What is known alike on all ranks. */
struct mt_select_context {
    uint32_t ranks;
    uint32_t fused_available; /* a transport carries out flat fused steps over all ranks */
    uint32_t reproducible;
    const struct mt_cost_model *cost;
    const struct mt_algorithm *const *catalogue;
};
/* The size class of a call: 0 .. 64. */
static inline uint32_t mt_select_class(uint64_t bytes)
{
    return bytes ? 64 - (uint32_t)__builtin_clzll(bytes) : 0;
}
/* The smallest size of its class; the largest is one less than twice that. */
static inline uint64_t mt_select_class_least(uint64_t bytes)
{
    return bytes ? UINT64_C(1) << (mt_select_class(bytes) - 1) : 0;
}
/* Price all algorithms of the collective for calls of this size class, whatever the root; best
 * first, the excluded last. Where nobody knows the network's speed, the best is the one that takes
 * the least times longer than the fastest, be the network as fast as is assumed or slow. Of those
 * within a twentieth of the best, for prices are not as exact as that, the one of the fewest
 * messages comes first, of long ones of the most; on such a network the one that is best if it is
 * slow, and, of long ones within a tenth, one that goes one way. Where cards move the bytes, those
 * within an eighth are as good, as what a message costs is known the least there; of long ones that
 * in which cores combine the least comes first, and of all others that of the fewest messages. */
int mt_select(const struct mt_select_context *context, const struct mt_plan_request *request,
              uint64_t bytes, struct mt_select_candidate *candidates, uint32_t capacity,
              uint32_t *count_out, struct mt_error *error);

#endif
