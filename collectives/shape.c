/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shapes: calls that were made before. A program makes the same few calls again and again, with the
 * same arguments and perhaps other buffers. Checking, choice and plan are then the same too, and
 * are kept here. Where the plan is one fused step or one message, so are binding and what the
 * transport prepares; such a call costs a look into this table, a number and a line in the
 * recorder.
 */
#include <stdlib.h>
#include <string.h>

#include "collectives/comm.h"

enum { WAYS = 4 }; /* places in which a shape may be */

int mt_is_in_place(const struct manta_comm *comm, const struct mt_arguments *arguments)
{
    uint64_t part = arguments->count * arguments->element_bytes;
    uintptr_t src = (uintptr_t)arguments->src, dst = (uintptr_t)arguments->dst;
    switch (arguments->collective) {
    case MANTA_ALLREDUCE:
        return src == dst;
    case MANTA_REDUCE:
        return src == dst && comm->rank == arguments->root;
    case MANTA_ALLGATHER:
        return src == dst + comm->rank * part;
    case MANTA_REDUCE_SCATTER:
        return dst == src + comm->rank * part;
    case MANTA_BARRIER:
        return 1;
    default:
        return 0;
    }
}

/* What all ranks pass alike, but for the count, in a word. */
static uint64_t key_of(const struct mt_arguments *arguments)
{
    return arguments->collective | (uint64_t)arguments->dtype << 8 | (uint64_t)arguments->op << 16 |
           (uint64_t)arguments->root << 32;
}

/* Nonsense must not look like something else. */
static int has_key(const struct mt_arguments *arguments)
{
    return (arguments->dtype >> 8 | arguments->op >> 16) == 0;
}

static uint32_t first_place(uint64_t count, uint64_t key)
{
    uint64_t mixed = (count ^ key * UINT64_C(0xd6e8feb86659fd93)) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(mixed >> 32) / (UINT32_MAX / MT_SHAPES + 1);
}

static int fits(const struct manta_comm *comm, const struct mt_shape *shape,
                struct mt_arguments *arguments, uint64_t key)
{
    if (shape->count != arguments->count || shape->key != key || !shape->entry)
        return 0;
    arguments->element_bytes = shape->element_bytes;
    return shape->in_place == (uint32_t)mt_is_in_place(comm, arguments);
}

struct mt_shape *mt_shape_find(struct manta_comm *comm, struct mt_arguments *arguments)
{
    uint64_t key = key_of(arguments);
    if (!has_key(arguments))
        return NULL;
    if (fits(comm, comm->shape_last, arguments, key))
        return comm->shape_last;
    uint32_t place = first_place(arguments->count, key);
    for (uint32_t way = 0; way < WAYS; way++) {
        struct mt_shape *shape = &comm->shapes[(place + way) % MT_SHAPES];
        if (fits(comm, shape, arguments, key))
            return comm->shape_last = shape;
    }
    return NULL;
}

/* A free place, else one that no call is using: another one each time, so that calls in turn which
 * may be in the same places do not drive each other out for ever. Who gains less from its place
 * does not take that of one who gains more. */
static struct mt_shape *place_for(struct manta_comm *comm, const struct mt_arguments *arguments,
                                  enum mt_direct direct)
{
    uint32_t place = first_place(arguments->count, key_of(arguments)), turn = comm->shape_turn++;
    struct mt_shape *found = NULL;
    for (uint32_t way = 0; way < WAYS; way++) {
        struct mt_shape *shape = &comm->shapes[(place + (turn + way) % WAYS) % MT_SHAPES];
        if (!shape->entry)
            return shape;
        if (shape->users == 0 && shape->direct <= (uint32_t)direct && !found)
            found = shape;
    }
    return found;
}

struct manta_transport_fused_call mt_shape_fused(const struct manta_request *request,
                                                 uint64_t *offsets)
{
    const struct manta_plan *plan = request->entry->plan;
    mt_bind_blocks(request, 0, request->count, offsets, NULL);
    return (struct manta_transport_fused_call){
        .fused = &plan->fused[plan->steps[0].number],
        .count = (offsets[plan->blocks] - offsets[0]) / request->element_bytes,
        .dtype = request->dtype,
        .op = request->op == MANTA_AVG ? MANTA_SUM : request->op,
        .block_offsets = offsets,
        .blocks = plan->blocks,
        .crowd = request->comm->cost.crowd,
    };
}

/* A message of several segments is several messages. */
static enum mt_direct direct_of(struct manta_request *request)
{
    enum mt_direct direct = (enum mt_direct)request->entry->direct;
    if (direct == MT_DIRECT_MESSAGE)
        mt_bind_segments(request->comm, request);
    return direct == MT_DIRECT_MESSAGE && request->segments > 1 ? MT_DIRECT_NOT : direct;
}

struct mt_shape *mt_shape_make(struct manta_request *request, const struct mt_arguments *arguments)
{
    struct manta_comm *comm = request->comm;
    struct mt_entry *entry = request->entry;
    const struct manta_plan *plan = entry->plan;
    enum mt_direct direct = direct_of(request);
    if (direct == MT_DIRECT_FUSED && plan->blocks > comm->ranks)
        return NULL;
    struct mt_shape *shape = place_for(comm, arguments, direct);
    uint64_t *offsets = shape ? shape->offsets : NULL;
    if (direct == MT_DIRECT_FUSED && shape && !offsets)
        offsets = malloc(((size_t)comm->ranks + 1) * sizeof(*offsets));
    if (!shape || (direct == MT_DIRECT_FUSED && !offsets))
        return NULL;
    memset(shape, 0, sizeof(*shape));
    shape->entry = entry;
    shape->count = arguments->count;
    shape->key = key_of(arguments);
    shape->element_bytes = arguments->element_bytes;
    shape->in_place = entry->in_place;
    shape->offsets = offsets;
    shape->call = request->call;
    shape->call_hash = mt_call_hash(&shape->call);
    shape->direct = direct;
    if (direct == MT_DIRECT_FUSED)
        shape->fused = mt_shape_fused(request, offsets);
    return shape;
}

void mt_shapes_forget(struct manta_comm *comm, const struct mt_entry *entry)
{
    for (uint32_t i = 0; i < MT_SHAPES; i++) {
        struct mt_shape *shape = &comm->shapes[i];
        if (!entry)
            free(shape->offsets);
        if (!entry || shape->entry == entry)
            shape->entry = NULL;
    }
}
