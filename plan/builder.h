/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building plans. An algorithm calls the verbs below with a builder; the builder numbers messages
 * per peer and direction, places intermediate values, infers dependencies from read/write hazards
 * on blocks and keeps its first error, so that no line of an algorithm needs a check.
 *
 * The *working vector*: for every block, the place where this rank's current value of it lives. It
 * begins as SRC (root's DST for broadcast); after the first write it is DST where this rank owns
 * DST block b, else a scratch region that the builder allocates. plan_send(p, peer, interval) sends
 * current values; plan_recv(p, peer, interval) overwrites them; plan_recv_reduce receives into
 * scratch and then combines: new current = current op received. At the end the builder copies
 * values that are wanted in DST and still live in SRC.
 */
#ifndef MT_PLAN_BUILDER_H
#define MT_PLAN_BUILDER_H

#include <manta/plan.h>

#include "core/error.h"
#include "topology/topology.h"

struct mt_plan_builder;

/* The largest partition and the most lanes of a plan. */
enum { MT_PLAN_BLOCKS_MAX = 1 << 20, MT_PLAN_LANES_MAX = 64 };

/* What an algorithm is a function of. */
struct mt_plan_request {
    uint32_t collective;
    uint32_t rank, ranks;
    uint32_t root; /* or peer for send, recv; MANTA_PLAN_NONE where there is none */
    uint32_t in_place;
    uint32_t parameter; /* algorithm's own, e.g. pieces of a pipeline; 0: its default */
    const struct mt_topology *topology; /* where the ranks sit; NULL: nobody knows */
    uint32_t fuses; /* the ranks of each node share a transport that carries out fused steps */
};

struct mt_algorithm {
    const char *name;
    uint32_t collective;
    uint32_t ranks_min, ranks_max; /* 0: any */
    uint32_t order;                /* MANTA_PLAN_ORDER_BINARY if it has that class, else 0 */
    uint32_t fused;                /* needs a transport that carries out the fused step */
    uint32_t one_way;              /* on the network, a rank sends to one other and receives from
                                    * one, all along */
    const char *source;            /* the paper */
    void (*build)(struct mt_plan_builder *p);
    /* Why it does not run where these ranks sit, in a sentence, or NULL; no function: it does. */
    const char *(*unfit)(const struct mt_plan_request *request);
};

/* Compile the plan of one rank. The plan is one allocation; free with mt_plan_free. */
int mt_plan_compile(const struct mt_algorithm *algorithm, const struct mt_plan_request *request,
                    struct manta_plan **plan_out, struct mt_error *error);
void mt_plan_free(struct manta_plan *plan);

/* Compile the plans of all ranks (request->rank counts for send and recv only: there the peer's
 * plan is the other half, and the ranks that take no part get NULL). plans_out: room for
 * request->ranks; all NULL on error. */
int mt_plan_compile_all(const struct mt_algorithm *algorithm, const struct mt_plan_request *request,
                        struct manta_plan **plans_out, struct mt_error *error);
void mt_plan_free_all(struct manta_plan **plans, uint32_t ranks);

/* Which blocks a rank owns: 1 if block b of SRC is an input of this rank, of DST an output. */
int mt_plan_owns_src(const struct manta_plan *plan, uint32_t block);
int mt_plan_owns_dst(const struct manta_plan *plan, uint32_t block);
/* 1 if a vector cannot run through the plan in segments: there are gaps between blocks that it
 * names as one, or a transport cuts the vector as it likes. */
int mt_plan_needs_whole(const struct manta_plan *plan);

#endif
