/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans: what one rank does in one collective, as data.
 *
 * A plan is made by an algorithm (a pure function of rank, size, root and parameters), proved by
 * the verifier, priced by the cost model and executed, record by record, by the engine. It knows no
 * byte counts: it speaks of P blocks, and is bound to buffers when a call is posted.
 *
 * Geometry. MANTA_PLAN_VECTOR: the vector of `count` elements is cut into P blocks.
 * MANTA_PLAN_RANKS (allgather, reduce_scatter): P is a multiple f of the number of ranks, and
 * blocks r*f .. r*f + f-1 cut the `count` elements of rank r. Large vectors run through the plan in
 * segments; segment k binds the same blocks to its part of the elements, uses scratch slot k mod
 * depth, and starts when segment k - depth has been completed. A plan that is `whole` runs as one
 * segment: where it names several blocks at once in the layout with gaps, or is one fused step of
 * all ranks.
 *
 * Buffers. SRC and DST are the caller's. A rank owns SRC block b if it has that input, DST block b
 * if it must produce it: that is all blocks; but of SRC only its own part in allgather and none in
 * recv, of DST only its own part in reduce_scatter, none in send, and all at root in reduce.
 * broadcast has one buffer: DST, which at root holds the input. SCRATCH is cut into regions; block
 * b of a location whose origin is o lies at the start of its region plus the distance from block o
 * to block b.
 *
 * Order. The steps of one lane are issued in the order in which they stand, each after the steps it
 * depends on are complete; they complete in any order. A lane has at least MANTA_PLAN_WINDOW steps
 * outstanding. A send may complete only when its receive has been posted (rendezvous). The fused
 * steps of all segments are issued in one order, whatever their lanes: in *waves*, step f of the F
 * of segment k in wave k + floor(f * depth / F), those of one wave by f. So members post alike what
 * they share, and a segment's first steps go before the last ones of the segment before it.
 */
#ifndef MANTA_PLAN_H
#define MANTA_PLAN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MANTA_PLAN_WINDOW = 2,   /* outstanding steps of a lane that a plan may rely on */
    MANTA_PLAN_LOCATIONS = 8 /* intervals in one message, at most */
};
#define MANTA_PLAN_NONE UINT32_C(0xffffffff) /* no rank, no root, no peer */

enum manta_plan_buffer { MANTA_PLAN_SRC = 0, MANTA_PLAN_DST = 1, MANTA_PLAN_SCRATCH = 2 };

enum manta_plan_layout { MANTA_PLAN_VECTOR = 0, MANTA_PLAN_RANKS = 1 };

enum manta_plan_kind {
    MANTA_PLAN_SEND = 0, /* locations: 1..8 sources, packed in this order into one message */
    MANTA_PLAN_RECV = 1, /* locations: 1..8 targets */
    MANTA_PLAN_COPY = 2, /* locations: target, source */
    MANTA_PLAN_REDUCE =
        3, /* locations: target, left, right; target = left op right, may equal either */
    MANTA_PLAN_FUSED =
        4 /* locations: where this member's blocks are that it reads, if it reads any;
                            then of those that it writes; see struct manta_plan_fused */
};

/* An interval of blocks of one buffer. */
struct manta_plan_location {
    uint32_t buffer; /* enum manta_plan_buffer */
    uint32_t region; /* scratch region; 0 for SRC and DST */
    uint32_t first;  /* first block */
    uint32_t count;  /* number of blocks, >= 1 */
    uint32_t
        origin; /* scratch only: the block that lies at the start of the region; else == first */
};

/* One step; the arrays it points into belong to the plan. */
struct manta_plan_step {
    uint16_t kind;           /* enum manta_plan_kind */
    uint16_t lane;           /* lane that issues it */
    uint32_t peer;           /* send, recv: the other rank; else MANTA_PLAN_NONE */
    uint32_t number;         /* send, recv: running number of the message to/from this peer; fused:
                                index into fused[] */
    uint32_t location_first; /* index into locations[] */
    uint32_t location_count;
    uint32_t
        depend_first; /* index into depends[]: steps that must be complete before this is issued */
    uint32_t depend_count;
};

/* Scratch of `block_count` blocks, each as long as the longest block of the segment. */
struct manta_plan_region {
    uint32_t block_count;
};

/*
 * A step that several ranks of one node carry out together over a transport. It is declared data
 * and an axiom for the verifier: every block of the interval becomes, at each writer, the
 * combination of what all readers have of it (allreduce, reduce, reduce_scatter), or the reader's
 * block (broadcast, allgather). Where a member's blocks are, its step says: what it reads may be
 * what it writes. All members hold an equal declaration, and equally many of them. In allgather and
 * reduce_scatter the members have one part each, of equally many blocks, side by side in the order
 * of members.
 */
struct manta_plan_fused_member {
    uint32_t rank;
    uint32_t read_first, read_count;   /* blocks this member contributes */
    uint32_t write_first, write_count; /* blocks this member receives */
};

struct manta_plan_fused {
    uint32_t collective;   /* enum manta_collective: what is done among the members */
    uint32_t root;         /* broadcast, reduce: rank of the root; else MANTA_PLAN_NONE */
    uint32_t member_count; /* >= 1 */
    uint32_t order;        /* enum manta_plan_order of the combination */
    const struct manta_plan_fused_member *members; /* ascending ranks */
};

/* The expression tree of a combination, as far as it has a name; other trees have a fingerprint. */
enum manta_plan_order {
    MANTA_PLAN_ORDER_BINARY =
        1 /* binary tree over ranks, split at the largest power of two below */
};

struct manta_plan {
    size_t size;           /* sizeof(struct manta_plan) */
    const char *algorithm; /* its name */
    uint32_t collective;   /* enum manta_collective */
    uint32_t rank, ranks;
    uint32_t root;     /* or MANTA_PLAN_NONE; send, recv: the peer */
    uint32_t in_place; /* SRC and DST are one buffer */
    uint32_t layout;   /* enum manta_plan_layout */
    uint32_t blocks;   /* P */
    uint32_t lanes;    /* lanes used, >= 1 */
    uint32_t whole;    /* 1: runs as one segment, on all ranks alike */
    uint32_t step_count, location_count, depend_count, region_count, fused_count;
    const struct manta_plan_step *steps;
    const struct manta_plan_location *locations;
    const uint32_t *depends;
    const struct manta_plan_region *regions;
    const struct manta_plan_fused *fused;
};

#ifdef __cplusplus
}
#endif

#endif
