/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of a team: declared steps that were posted, executed one after the other in the order
 * of posting, which is the same on all members. Each is a state machine that is moved by progress
 * and never waits. Three kernels:
 *
 *  line       what fits beside a flag, published at once when it is posted
 *  stream     one tick per chunk: publishers publish, consumers copy or combine. Broadcast,
 *             allgather, reduce_scatter, barrier; allreduce and reduce of short vectors.
 *  two-phase  allreduce and reduce of long vectors: of each chunk a member combines its own block
 *             from everybody's staging (first tick), publishes it (second), and copies the others'.
 */
#ifndef MT_TRANSPORT_SHM_FUSED_H
#define MT_TRANSPORT_SHM_FUSED_H

#include "transport/memory.h"
#include "transport/shm/team.h"

/* Lies in the request's transport_private. */
struct mt_shm_op {
    struct mt_shm_op *next;
    struct manta_transport_request *request;
    const uint8_t *src;
    uint8_t *dst;
    const uint64_t
        *offsets;      /* of the members' parts (allgather, reduce_scatter), every stride-th */
    uint64_t at;       /* where the vector begins, from the call's src and dst */
    uint64_t elements; /* of the vector, or of one member's part; of the longest if they differ */
    uint64_t chunk_elements;
    struct mt_memory_place lent_src; /* what is published of src lies there, from its first byte */
    struct mt_memory_place lent_dst; /* the same of results */
    uint64_t lent_end;  /* others may be reading in place until they are done with it */
    uint8_t *region[2]; /* two-phase: where chunk c lies in the own ring, [c mod 2]; or NULL */
    uint64_t region_end[2];
    uint32_t stride;
    uint32_t chunks;
    uint32_t chunk;     /* under way */
    uint32_t published; /* chunks */
    uint32_t member;    /* members seen in the present state */
    uint32_t root;      /* its member index, or MT_SHM_NOBODY */
    uint32_t hash;
    uint8_t collective, dtype, op, size;
    uint8_t two_phase, line, state, publishes, consumes;
    uint8_t crowded;              /* ranks take turns on CPUs: the same on all members */
    uint8_t past_caches;          /* the result is longer than the caches */
    uint8_t grouped;              /* in two levels, see group.h */
    uint8_t lends_src, lends_dst; /* what is published of them may be read in place */
    uint8_t finished;             /* but for what others read in place */
    uint8_t uneven;               /* parts differ in length; then they lie side by side */
} __attribute__((may_alias));

_Static_assert(sizeof(struct mt_shm_op) <=
                   sizeof((struct manta_transport_request *)0)->transport_private,
               "a request has room for an operation");

/* Elements before this chunk, and in it. */
static inline uint64_t mt_shm_chunk_first(const struct mt_shm_op *op, uint32_t chunk)
{
    return chunk * op->chunk_elements;
}

static inline uint64_t mt_shm_chunk_length(const struct mt_shm_op *op, uint32_t chunk)
{
    uint64_t left = op->elements - mt_shm_chunk_first(op, chunk);
    return left < op->chunk_elements ? left : op->chunk_elements;
}

/* Where the part of a member begins. */
static inline uint64_t mt_shm_part(const struct mt_shm_op *op, uint32_t member)
{
    return op->offsets[(uint64_t)member * op->stride];
}

/* Elements of a member's part; and of this chunk of it. */
static inline uint64_t mt_shm_part_length(const struct mt_shm_op *op, uint32_t member)
{
    return op->uneven ? (mt_shm_part(op, member + 1) - mt_shm_part(op, member)) / op->size
                      : op->elements;
}

static inline uint64_t mt_shm_part_chunk(const struct mt_shm_op *op, uint32_t member,
                                         uint32_t chunk)
{
    uint64_t length = mt_shm_part_length(op, member), first = mt_shm_chunk_first(op, chunk);
    uint64_t left = length > first ? length - first : 0;
    return left < op->chunk_elements ? left : op->chunk_elements;
}

/* Does the member contribute to the operation? */
static inline int mt_shm_publishes(const struct mt_shm_op *op, uint32_t member)
{
    if (op->collective == MANTA_BROADCAST)
        return member == op->root;
    return op->collective != MANTA_REDUCE || member != op->root;
}

/* At this tick something is published in place: `offset` bytes into what is lent. */
static inline void mt_shm_op_place(const struct mt_shm_team *team, struct mt_shm_op *op,
                                   uint64_t tick, const struct mt_memory_place *lent,
                                   uint64_t offset)
{
    const struct mt_memory_place place = {lent->segment, lent->offset + offset};
    mt_shm_team_place(team, tick, &place);
    op->lent_end = tick + 1;
}

/* Ticks that the operation takes, the same on all members. */
static inline uint64_t mt_shm_op_ticks(const struct mt_shm_op *op)
{
    if (op->grouped) /* those of the teams that carry it out */
        return 0;
    return op->two_phase ? 2 * (uint64_t)op->chunks : op->chunks;
}

/* Move the operation at the team's head on, for a bounded amount of work. 0: complete;
 * MANTA_INPROGRESS: something happened; MANTA_EAGAIN: it waits for others; an error with *peer_out.
 */
int mt_shm_stream_step(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                       struct mt_shm_op *op, uint32_t *peer_out);
/* Publish what this rank contributes to an operation with `line` set, whose team has none yet: it
 * need not be made for that. 1, or 0 if there is nothing, or no room: then the stream kernel will.
 */
int mt_shm_line_publish(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                        const struct mt_shm_op *op, const uint8_t *src, uint32_t hash);
/* That was all of it. */
void mt_shm_line_end(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint32_t hash);
/* Look for the others' parts, once the own one is published, of an operation that consumes. 0:
 * complete; MANTA_INPROGRESS: they did not come within so many looks; an error with *peer_out. */
int mt_shm_line_look(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                     struct mt_shm_op *op, uint32_t looks, uint32_t *peer_out);
int mt_shm_two_phase_step(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                          struct mt_shm_op *op, uint32_t *peer_out);

/* Set whether it publishes in place what is lent to all members; then lend them its buffers. */
void mt_shm_op_lends(const struct mt_shm_team *team, struct mt_shm_op *op);
void mt_shm_op_lend(struct mt_shm_endpoint *endpoint, const struct mt_shm_team *team,
                    struct mt_shm_op *op);
/* In words, what these two make of memory that is lent, and of other memory. */
void mt_shm_op_describe(const struct mt_shm_endpoint *endpoint, const struct mt_shm_team *team,
                        const struct mt_shm_op *op, char *text, size_t text_bytes);
/* The kernel has nothing more to do. Others learn that this rank has read what they lent; and what
 * it has lent itself is its own again when they have. 0, MANTA_EAGAIN, or an error. */
int mt_shm_op_settle(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                     const struct mt_shm_op *op, uint32_t *peer_out);

/* Which of the declared members the rank is; MT_SHM_NOBODY: none. */
uint32_t mt_shm_member_index(const struct manta_plan_fused *fused, uint32_t rank);
/* How the team carries out an operation whose collective, size, elements and root are set. */
void mt_shm_op_shape(const struct mt_shm_endpoint *endpoint, const struct mt_shm_team *team,
                     struct mt_shm_op *op);
/* Move the team's operations on; 1 if anything happened. */
int mt_shm_team_progress(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team);

#endif
