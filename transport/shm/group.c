/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/shm/group.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

enum {
    AUTO_RANKS = 32,            /* fewer are as fast in one level */
    PIECE_BYTES = 128 * 1024,   /* of a broadcast or a reduction to one */
    PART_BYTES_MIN = 1024,      /* shorter parts of a piece are not worth a third step */
    PART_BYTES_MAX = 64 * 1024, /* of a piece, for each member of a group */
    PHASES = 3,
    GATHER_BYTES_MAX = 8192 /* of a group's parts: longer ones had better be staged once */
};

struct mt_shm_group {
    struct mt_shm_team *inner, *rail;
    struct mt_shm_team *running; /* the one that carries out `op`; NULL: none does */
    struct mt_shm_op op;
    struct manta_transport_request request; /* of op */
    uint64_t first, length;                 /* the piece under way, in elements */
    uint32_t has_piece, phase;
    uint32_t size;     /* of a group */
    uint8_t *partial;  /* [PIECE_BYTES] a group's part of a reduction to one of another group */
    uint64_t *offsets; /* [size + 1] of the parts of a piece, from the vector's start */
};

int mt_shm_groups_parse(const struct manta_transport_host *host, uint32_t *size_out)
{
    const char *text = host->config("SHM_GROUPS");
    char *end;
    *size_out = 0;
    if (text == NULL || strcmp(text, "auto") == 0)
        return 0;
    unsigned long size = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || size == 0 || size > UINT32_MAX / 2 ||
        (size & (size - 1)) != 0)
        return MANTA_EINVAL;
    *size_out = (uint32_t)size;
    return 0;
}

uint32_t mt_shm_groups_fit(uint32_t size, uint32_t count)
{
    return size > 1 && size < count && count % size == 0 ? size : 1;
}

/* Has every block of this many ranks one cache? */
static int blocks_share(const uint32_t *l3s, uint32_t count, uint32_t size)
{
    for (uint32_t i = 0; i < count; i++)
        if (l3s[i] == UINT32_MAX || l3s[i] != l3s[i / size * size])
            return 0;
    return 1;
}

uint32_t mt_shm_groups_find(const uint32_t *l3s, uint32_t count)
{
    uint32_t size = 1;
    if (count < AUTO_RANKS || blocks_share(l3s, count, count))
        return 1;
    while (count % (2 * size) == 0 && 2 * size < count && blocks_share(l3s, count, 2 * size))
        size *= 2;
    return size;
}

/* The team of `count` members of this one, beginning with `first`, `stride` apart. */
static int open_part(struct mt_shm_endpoint *endpoint, const struct manta_plan_fused *whole,
                     uint32_t first, uint32_t stride, uint32_t slot)
{
    struct manta_plan_fused part = *whole;
    uint32_t count = slot == MT_SHM_SLOT_INNER ? endpoint->group_ranks
                                               : whole->member_count / endpoint->group_ranks;
    struct manta_plan_fused_member *members = calloc(count, sizeof(*members));
    if (members == NULL)
        return MANTA_ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        members[i] = whole->members[first + i * stride];
    part.members = members;
    part.member_count = count;
    struct mt_shm_team *team;
    int code = mt_shm_team_make(endpoint, &part, slot, &team);
    free(members);
    return code;
}

int mt_shm_group_open(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                      const struct manta_plan_fused *fused)
{
    uint32_t size = endpoint->group_ranks;
    struct mt_shm_group *group = calloc(1, sizeof(*group));
    if (group == NULL)
        return MANTA_ENOMEM;
    team->group = group;
    group->size = size;
    group->partial = malloc(PIECE_BYTES);
    group->offsets = calloc(size + 1, sizeof(*group->offsets));
    int code = group->partial != NULL && group->offsets != NULL ? 0 : MANTA_ENOMEM;
    if (code == 0)
        code = open_part(endpoint, fused, team->me / size * size, 1, MT_SHM_SLOT_INNER);
    if (code == 0)
        code = open_part(endpoint, fused, team->me % size, size, MT_SHM_SLOT_RAIL);
    group->inner = endpoint->teams[MT_SHM_SLOT_INNER];
    group->rail = endpoint->teams[MT_SHM_SLOT_RAIL];
    return code;
}

void mt_shm_group_close(struct mt_shm_group *group)
{
    if (group == NULL)
        return;
    free(group->partial);
    free(group->offsets);
    free(group);
}

int mt_shm_group_takes(const struct mt_shm_team *team, const struct mt_shm_op *op)
{
    uint64_t bytes = op->elements * op->size;
    if (op->collective != MANTA_ALLGATHER)
        return op->collective != MANTA_REDUCE_SCATTER;
    if (op->uneven)
        return 0;
    for (uint32_t i = 1; i < team->count; i++)
        if (mt_shm_part(op, i) != mt_shm_part(op, 0) + i * bytes)
            return 0;
    return bytes <= GATHER_BYTES_MAX / team->group->size;
}

/* The next piece. A long vector is cut so that the parts of a group's members are equal, and begin
 * on cache lines if the vector does; what is left over is a short piece. */
static void cut_piece(struct mt_shm_group *group, const struct mt_shm_op *op)
{
    uint64_t left = op->elements - group->first;
    uint64_t unit = (uint64_t)group->size * (MT_SHM_LINE / op->size);
    uint64_t most = PIECE_BYTES / op->size;
    if (op->collective == MANTA_ALLREDUCE)
        most = group->size * (uint64_t)PART_BYTES_MAX / op->size;
    if (op->collective == MANTA_ALLGATHER)
        most = left;
    group->length = left < most ? left : most;
    if (op->collective == MANTA_ALLREDUCE &&
        group->length * op->size >= (uint64_t)group->size * PART_BYTES_MIN)
        group->length -= group->length % unit;
}

static int in_parts(const struct mt_shm_group *group, const struct mt_shm_op *op)
{
    return op->collective == MANTA_ALLREDUCE &&
           group->length * op->size >= (uint64_t)group->size * PART_BYTES_MIN;
}

/* Begin a step among a team's members; memory of the whole vector, or of one part of it. */
static void begin(struct mt_shm_endpoint *endpoint, struct mt_shm_group *group,
                  const struct mt_shm_op *whole, struct mt_shm_team *team, struct mt_shm_op step)
{
    step.dtype = whole->dtype;
    step.op = whole->op;
    step.size = whole->size;
    step.hash = whole->hash;
    step.crowded = whole->crowded;
    step.request = &group->request;
    if (step.collective != MANTA_BROADCAST && step.collective != MANTA_REDUCE)
        step.root = MT_SHM_NOBODY;
    if (step.collective == MANTA_BROADCAST)
        step.src = step.dst;
    mt_shm_op_shape(endpoint, team, &step);
    /* Of a long result, what this member does not pass on. */
    step.past_caches = whole->past_caches && team == group->inner &&
                       (step.collective == MANTA_ALLGATHER || step.collective == MANTA_BROADCAST);
    group->op = step;
    group->request.status = MANTA_INPROGRESS;
    group->running = team;
    team->head = team->tail = &group->op;
}

/* A long allreduce: the member's part of what its group has, of what all have, to its group. */
static void begin_part(struct mt_shm_endpoint *endpoint, struct mt_shm_group *group,
                       const struct mt_shm_op *op)
{
    uint64_t each = group->length / group->size;
    uint8_t *own = op->dst + (group->first + each * group->inner->me) * op->size;
    for (uint32_t i = 0; i <= group->size; i++)
        group->offsets[i] = (group->first + each * i) * op->size;
    if (group->phase == 1) {
        begin(endpoint, group, op, group->rail,
              (struct mt_shm_op){
                  .collective = MANTA_ALLREDUCE, .elements = each, .src = own, .dst = own});
        return;
    }
    int is_first = group->phase == 0;
    begin(endpoint, group, op, group->inner,
          (struct mt_shm_op){.collective = is_first ? MANTA_REDUCE_SCATTER : MANTA_ALLGATHER,
                             .elements = each,
                             .offsets = group->offsets,
                             .stride = 1,
                             .src = is_first ? op->src : op->dst,
                             .dst = op->dst});
}

/* Barriers, and allreduce of short vectors: among the group, then along the rail. */
static void begin_short(struct mt_shm_endpoint *endpoint, struct mt_shm_group *group,
                        const struct mt_shm_op *op)
{
    uint64_t at = group->first * op->size;
    struct mt_shm_op step = {.collective = op->collective, .elements = group->length};
    if (op->collective == MANTA_ALLREDUCE) {
        step.dst = op->dst + at;
        step.src = group->phase == 0 ? op->src + at : step.dst;
    }
    begin(endpoint, group, op, group->phase == 0 ? group->inner : group->rail, step);
}

/* The parts of the group; then those of all groups, each of which is one part of the rail's. */
static void begin_gather(struct mt_shm_endpoint *endpoint, struct mt_shm_group *group,
                         const struct mt_shm_op *op)
{
    uint64_t before = (uint64_t)group->rail->me * group->size;
    struct mt_shm_op step = {.collective = MANTA_ALLGATHER, .dst = op->dst};
    step.elements = group->phase == 0 ? op->elements : op->elements * group->size;
    step.offsets = group->phase == 0 ? op->offsets + before * op->stride : op->offsets;
    step.stride = group->phase == 0 ? op->stride : op->stride * group->size;
    step.src = group->phase == 0 ? op->src : op->dst;
    begin(endpoint, group, op, group->phase == 0 ? group->inner : group->rail, step);
}

/* Along the root's rail, then from its members to their groups. */
static void begin_broadcast(struct mt_shm_endpoint *endpoint, struct mt_shm_group *group,
                            const struct mt_shm_op *op)
{
    struct mt_shm_op step = {.collective = MANTA_BROADCAST,
                             .elements = group->length,
                             .dst = op->dst + group->first * op->size};
    step.root = group->phase == 0 ? op->root / group->size : op->root % group->size;
    begin(endpoint, group, op, group->phase == 0 ? group->rail : group->inner, step);
}

/* To the members of the root's rail, then along that. */
static void begin_reduce(struct mt_shm_endpoint *endpoint, struct mt_shm_group *group,
                         const struct mt_shm_op *op)
{
    uint64_t at = group->first * op->size;
    int is_root =
        group->rail->me == op->root / group->size && group->inner->me == op->root % group->size;
    uint8_t *sum = is_root ? op->dst + at : group->partial;
    struct mt_shm_op step = {.collective = MANTA_REDUCE, .elements = group->length, .dst = sum};
    step.root = group->phase == 0 ? op->root % group->size : op->root / group->size;
    step.src = group->phase == 0 ? op->src + at : sum;
    begin(endpoint, group, op, group->phase == 0 ? group->inner : group->rail, step);
}

/* The next step of the piece; 0 when it has none left. */
static int begin_next(struct mt_shm_endpoint *endpoint, struct mt_shm_group *group,
                      const struct mt_shm_op *op)
{
    int is_rooted = op->collective == MANTA_BROADCAST || op->collective == MANTA_REDUCE;
    uint32_t rail_phase = op->collective == MANTA_BROADCAST ? 0 : 1;
    /* Of rooted ones, the other rails have nothing to do. */
    if (is_rooted && group->phase == rail_phase && group->inner->me != op->root % group->size)
        group->phase++;
    if (group->phase >= (in_parts(group, op) ? PHASES : PHASES - 1))
        return 0;
    if (op->collective == MANTA_BROADCAST)
        begin_broadcast(endpoint, group, op);
    else if (op->collective == MANTA_REDUCE)
        begin_reduce(endpoint, group, op);
    else if (op->collective == MANTA_ALLGATHER)
        begin_gather(endpoint, group, op);
    else if (in_parts(group, op))
        begin_part(endpoint, group, op);
    else
        begin_short(endpoint, group, op);
    group->phase++;
    return 1;
}

/* The next step of the operation; 0 when it is complete. */
static int begin_any(struct mt_shm_endpoint *endpoint, struct mt_shm_group *group,
                     const struct mt_shm_op *op)
{
    for (;;) {
        if (!group->has_piece) {
            cut_piece(group, op);
            group->phase = 0;
            group->has_piece = 1;
        }
        if (begin_next(endpoint, group, op))
            return 1;
        group->first += group->length;
        group->has_piece = 0;
        if (group->first >= op->elements)
            break;
    }
    group->first = 0;
    return 0;
}

int mt_shm_group_step(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                      struct mt_shm_op *op, uint32_t *peer_out)
{
    struct mt_shm_group *group = team->group;
    if (group->running == NULL)
        return begin_any(endpoint, group, op) ? MANTA_INPROGRESS : 0;
    /* A step of progress elsewhere may have completed it already. */
    int happened = group->request.status == MANTA_INPROGRESS
                       ? mt_shm_team_progress(endpoint, group->running)
                       : 1;
    int status = group->request.status;
    if (status == MANTA_INPROGRESS)
        return happened ? MANTA_INPROGRESS : MANTA_EAGAIN;
    *peer_out = group->request.peer;
    group->running = NULL;
    return status != 0 ? status : MANTA_INPROGRESS;
}
