/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a builder, shared by the passes that turn verbs into a plan:
 *   builder.c  records the verbs of the algorithm as ops;  view.c  those of a part of the ranks;
 *   place.c    gives every value a place and lowers ops to records (the steps of the plan);
 *   hazards.c  orders records that touch the same blocks.
 */
#ifndef MT_PLAN_BUILDING_H
#define MT_PLAN_BUILDING_H

#include "plan/algorithm.h"

enum mt_plan_verb {
    MT_VERB_SEND,        /* `left` names what is sent */
    MT_VERB_RECV,        /* `target` names where it goes */
    MT_VERB_RECV_REDUCE, /* left or right is MT_OPERAND_RECEIVED */
    MT_VERB_REDUCE,
    MT_VERB_FUSED
};
/* Operands are explicit scratch regions, PLAN_WORKING, or the value just received. */
enum { MT_OPERAND_RECEIVED = 0xfffffffe };

/* One verb of the algorithm. */
struct mt_plan_op {
    uint16_t verb, lane;
    uint32_t peer; /* fused: index of the declaration */
    struct plan_interval blocks;
    uint32_t target, left, right;
    uint32_t begin, end; /* of what the algorithm works on: blocks around the end go on at begin */
};

/* A step with its locations, before the arrays are packed. */
struct mt_plan_record {
    struct manta_plan_step step;
    struct manta_plan_location at[MANTA_PLAN_LOCATIONS];
    uint32_t passed; /* a receive was moved ahead of it */
};

/* A scratch region while the plan is built. */
struct mt_plan_scratch {
    uint32_t blocks;
    uint32_t pooled;  /* made by the builder, which may reuse it; else the algorithm's own */
    uint32_t live;    /* blocks whose current value lives here */
    uint32_t used_at; /* op that used it last */
    uint32_t origin;  /* of an explicit region, once it has been written */
};

/* What the algorithm at work takes for the whole: the plan, or a view (algorithm.h). */
struct mt_plan_frame {
    uint32_t collective, rank, ranks, root, parameter;
    uint32_t blocks;                   /* of its partition; 0: not set yet */
    const uint32_t *members;           /* [ranks] of the plan; NULL: the plan's own */
    struct plan_interval within;       /* of the plan's blocks; is cut into the partition */
    const struct plan_interval *parts; /* or its blocks are these */
};

/* A declared step. */
struct mt_plan_declared {
    struct manta_plan_fused head; /* but for `members` */
    uint32_t first, me;           /* of its members, in those of all; the own one */
};

struct mt_plan_builder {
    struct manta_plan plan; /* the head; arrays are filled at the end */
    const struct mt_topology *topology;
    uint32_t fuses, lane;
    uint32_t only_measures; /* nothing is wanted but the partition */
    struct mt_plan_frame frame;
    struct mt_plan_op *ops;
    uint32_t op_count, op_capacity;
    struct mt_plan_record *records;
    uint32_t record_count, record_capacity;
    struct mt_plan_scratch *regions;
    uint32_t region_count, region_capacity;
    uint32_t *depends; /* record i depends on depends[step.depend_first ...] */
    uint32_t depend_count, depend_capacity;
    struct mt_plan_declared *fused; /* [plan.fused_count] */
    uint32_t fused_capacity;
    struct manta_plan_fused_member *members; /* of all of them */
    uint32_t member_count, member_capacity;
    struct mt_error *error; /* the first one is kept */
};

/* What one access touches, in spaces where equal blocks are equal memory. */
struct mt_plan_access {
    struct manta_plan_location at;
    int write;
};
enum { MT_PLAN_ACCESSES = MANTA_PLAN_LOCATIONS };

/* 0 when the builder has failed already. */
int mt_plan_going(const struct mt_plan_builder *b);
/* Does the collective have a root, or a peer? */
int mt_plan_takes_root(uint32_t collective);
/* The algorithm is at fault; the first reason is kept. */
void mt_plan_refuse(struct mt_plan_builder *b, const char *reason);
/* Where blocks of the frame's partition are in the plan's; there may be none. */
struct plan_interval mt_plan_place_of(struct mt_plan_builder *b, struct plan_interval blocks);
/* Blocks of the plan that so many of the frame's may be, at most. */
uint32_t mt_plan_room_for(const struct mt_plan_builder *b, uint32_t blocks);
/* The rank of the plan that a rank of the frame is. */
static inline uint32_t mt_plan_member(const struct mt_plan_builder *b, uint32_t rank)
{
    return b->frame.members ? b->frame.members[rank] : rank;
}
/* The own entry in a declaration. */
static inline const struct manta_plan_fused_member *
mt_plan_own_member(const struct mt_plan_builder *b, uint32_t number)
{
    return &b->members[b->fused[number].me];
}
/* Make room for one more item of an array; NULL (and the error kept) when out of memory. */
void *mt_plan_append(struct mt_plan_builder *b, void *array, uint32_t *count, uint32_t *capacity,
                     size_t item_bytes);
/* Lower ops to records. */
void mt_plan_place(struct mt_plan_builder *b);
/* Move receives ahead, so that they are posted before their message comes. */
void mt_plan_hoist(struct mt_plan_builder *b);
/* Infer dependencies. */
void mt_plan_hazards(struct mt_plan_builder *b);
/* The accesses of a record; returns their number. Reads come before writes. */
uint32_t mt_plan_accesses(const struct mt_plan_builder *b, const struct mt_plan_record *record,
                          struct mt_plan_access accesses[MT_PLAN_ACCESSES]);

#endif
