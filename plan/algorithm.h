/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs algorithms are written in. Included by collectives/<name>/<algorithm>.c only. */
#ifndef MT_PLAN_ALGORITHM_H
#define MT_PLAN_ALGORITHM_H

#include "plan/builder.h"

/* Consecutive blocks. */
struct plan_interval {
    uint32_t first, count;
    uint32_t around; /* 1: behind the last block come block 0 and on */
};

/* What the plan is for. */
uint32_t plan_rank(const struct mt_plan_builder *p);
uint32_t plan_ranks(const struct mt_plan_builder *p);
uint32_t plan_root(const struct mt_plan_builder *p);
/* The rank at this distance from the root, which is 0. */
uint32_t plan_from_root(const struct mt_plan_builder *p, uint32_t distance);
uint32_t plan_parameter(const struct mt_plan_builder *p, uint32_t fallback);
uint32_t plan_collective(const struct mt_plan_builder *p);

/* The partition: must be called first. layout: enum manta_plan_layout. */
void plan_blocks(struct mt_plan_builder *p, uint32_t blocks, uint32_t layout);
/* Steps that follow go to this lane (default 0). */
void plan_lane(struct mt_plan_builder *p, uint32_t lane);

struct plan_interval plan_block(const struct mt_plan_builder *p,
                                int64_t index); /* one block, index modulo P */
struct plan_interval plan_range(uint32_t first, uint32_t count);
/* count blocks from this one on (index modulo P), and around the end; not for explicit scratch. */
struct plan_interval plan_around(const struct mt_plan_builder *p, int64_t index, uint32_t count);
/* What is left of the vector after so many halvings: in the t'th the upper half if bit t of
 * `halves` is set. P is a multiple of 2^halvings. */
struct plan_interval plan_halved(const struct mt_plan_builder *p, uint32_t halves,
                                 uint32_t halvings);
struct plan_interval plan_all(const struct mt_plan_builder *p);

void plan_send(struct mt_plan_builder *p, uint32_t peer, struct plan_interval blocks);
void plan_recv(struct mt_plan_builder *p, uint32_t peer, struct plan_interval blocks);
/* current = current op received; _left: current = received op current (the peer's ranks are lower).
 */
void plan_recv_reduce(struct mt_plan_builder *p, uint32_t peer, struct plan_interval blocks);
void plan_recv_reduce_left(struct mt_plan_builder *p, uint32_t peer, struct plan_interval blocks);

/* Explicit scratch, for algorithms that combine several received values in an order of their own.
 */
uint32_t plan_scratch(struct mt_plan_builder *p, uint32_t blocks); /* a region */
void plan_recv_scratch(struct mt_plan_builder *p, uint32_t peer, struct plan_interval blocks,
                       uint32_t region);
void plan_send_scratch(struct mt_plan_builder *p, uint32_t peer, struct plan_interval blocks,
                       uint32_t region);
/* region_target = region_left op region_right on these blocks; PLAN_WORKING names the working
 * vector. */
enum { PLAN_WORKING = 0xffffffff };
void plan_reduce(struct mt_plan_builder *p, uint32_t target, uint32_t left, uint32_t right,
                 struct plan_interval blocks);

/* A step that all ranks carry out together; the builder declares it for the collective at hand. */
void plan_fused(struct mt_plan_builder *p);

/* Compositions. Some of the ranks, and the blocks that they work on, stand for the whole: within a
 * view an algorithm is built as it is, and takes the view's members for its ranks, 0 .. count - 1,
 * and what it gets for the partition that it asks for. */
struct plan_view {
    const uint32_t *ranks; /* of the plan; in any order, but ascending where the step is fused */
    uint32_t count;
    uint32_t root;                     /* index into ranks; broadcast, reduce */
    uint32_t parameter;                /* of the algorithm; 0: its default */
    struct plan_interval blocks;       /* cut evenly into the partition's blocks */
    const struct plan_interval *parts; /* [count] instead of `blocks`: a part for each member */
};
/* Build the algorithm within the view. Nothing, where this rank is no member, or the only one.
 * Views do not nest. */
void plan_within(struct mt_plan_builder *p, const struct plan_view *view,
                 const struct mt_algorithm *algorithm);
/* The blocks that an algorithm asks for on so many ranks. */
uint32_t plan_blocks_of(const struct mt_algorithm *algorithm, uint32_t ranks);
/* The plan runs as one segment on all ranks, whether the steps of this one need it or not. */
void plan_as_one(struct mt_plan_builder *p);
/* Where the ranks sit; NULL: nobody knows. */
const struct mt_topology *plan_topology(const struct mt_plan_builder *p);
/* The composition has no memory for its lists. */
void plan_no_memory(struct mt_plan_builder *p);
/* 1 if steps among the ranks of a node can be fused. */
uint32_t plan_fuses(const struct mt_plan_builder *p);

#endif
