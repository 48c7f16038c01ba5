/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a builder, shared by the passes that turn verbs into a plan:
 *   builder.c  records the verbs of the algorithm as ops;
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
    uint32_t peer;
    struct plan_interval blocks;
    uint32_t target, left, right;
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

struct mt_plan_builder {
    struct manta_plan plan; /* the head; arrays are filled at the end */
    uint32_t parameter, lane;
    struct mt_plan_op *ops;
    uint32_t op_count, op_capacity;
    struct mt_plan_record *records;
    uint32_t record_count, record_capacity;
    struct mt_plan_scratch *regions;
    uint32_t region_count, region_capacity;
    uint32_t *depends; /* record i depends on depends[step.depend_first ...] */
    uint32_t depend_count, depend_capacity;
    struct manta_plan_fused fused; /* the one declaration, if plan.fused_count is 1 */
    struct manta_plan_fused_member *members;
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
