/* SPDX-License-Identifier: Apache-2.0 */
/* Declared steps -> operations of a team, and their queue. */
#include <string.h>

#include "transport/shm/group.h"
#include "transport/shm/lend.h"

enum {
    COMPARE_EACH = 8,          /* looks in vain */
    STEPS = 16,                /* steps of a kernel in one progress: a few chunks */
    CLAIM_WAITING_BYTES = 512, /* of the next payload's place, at each look in vain */
    CLAIM_BYTES = 4096,        /* the same at the end: no more than comes while this rank goes on */
    CLAIM_ROOT_BYTES = 16384   /* who only publishes has the time in which the others read */
};

/* What the members must agree on: the arguments, and that it is the same step of the same call. */
static uint32_t hash_of(const struct manta_transport_id *id)
{
    uint64_t mixed = id->hash;
    mixed = (mixed ^ id->call) * UINT64_C(0x9e3779b97f4a7c15);
    mixed ^= mixed >> 32;
    mixed = (mixed ^ id->segment ^ (uint64_t)id->number << 32) * UINT64_C(0xd6e8feb86659fd93);
    return (uint32_t)(mixed >> 32);
}

/* op->elements are those of all parts. If they lie side by side, they may differ in length; else
 * each of them is as long as the others. */
static void find_parts(const struct mt_shm_team *team, struct mt_shm_op *op)
{
    uint64_t all = op->elements, longest = 0;
    op->elements /= team->count;
    if (mt_shm_part(op, team->count) - mt_shm_part(op, 0) != all * op->size)
        return;
    for (uint32_t i = 0; i < team->count; i++) {
        uint64_t length = (mt_shm_part(op, i + 1) - mt_shm_part(op, i)) / op->size;
        op->uneven |= length != op->elements;
        longest = length > longest ? length : longest;
    }
    op->elements = longest;
}

/* Where the operation's data begin, and how much of it there is. */
static int place(const struct mt_shm_team *team, const struct manta_transport_fused_call *call,
                 struct mt_shm_op *op)
{
    const struct manta_plan_fused *fused = call->fused;
    const struct manta_plan_fused_member *head = &fused->members[0];
    op->elements = call->count;
    switch (fused->collective) {
    case MANTA_BARRIER:
        op->elements = 0;
        return 0;
    case MANTA_ALLGATHER:
        op->offsets = call->block_offsets + head->read_first;
        op->stride = head->read_count;
        break;
    case MANTA_REDUCE_SCATTER:
        op->offsets = call->block_offsets + head->write_first;
        op->stride = head->write_count;
        break;
    default: {
        uint32_t reader = fused->collective == MANTA_BROADCAST ? op->root : 0;
        op->at = call->block_offsets[fused->members[reader].read_first];
        return 0;
    }
    }
    find_parts(team, op);
    return op->uneven || op->elements * team->count == call->count ? 0 : MANTA_EINVAL;
}

/* What the call's private words hold from its first post on. */
struct prepared {
    struct mt_shm_team *team;
    struct mt_shm_op op; /* but for request and hash; src and dst count from the call's */
} __attribute__((may_alias));

_Static_assert(sizeof(struct prepared) <=
                   sizeof((struct manta_transport_fused_call *)0)->transport_private,
               "a call has room for what is prepared");

static int prepare(struct mt_shm_endpoint *endpoint, const struct manta_transport_fused_call *call,
                   struct prepared *prepared)
{
    uint32_t collective = call->fused->collective;
    struct mt_shm_op *op = &prepared->op;
    struct mt_shm_team *team;
    int code = mt_shm_team_get(endpoint, call->fused, &team);
    if (code != 0)
        return code;
    memset(op, 0, sizeof(*op));
    op->collective = (uint8_t)collective;
    op->dtype = (uint8_t)call->dtype;
    op->op = (uint8_t)call->op;
    if (call->memory != MANTA_MEMORY_HOST)
        return mt_shm_fail(endpoint, MANTA_ENOTSUP, MANTA_PLAN_NONE, 0,
                           "shared memory works on host memory only: copy it there first");
    op->size = collective == MANTA_BARRIER ? 1 : (uint8_t)manta_dtype_size((int)call->dtype);
    op->root = MT_SHM_NOBODY;
    if (collective == MANTA_BROADCAST || collective == MANTA_REDUCE)
        op->root = mt_shm_member_index(call->fused, call->fused->root);
    if (op->size == 0 || place(team, call, op) != 0)
        return mt_shm_fail(endpoint, MANTA_EINVAL, MANTA_PLAN_NONE, 0,
                           "a fused step was posted with an unknown dtype, or with parts of "
                           "different length");
    op->crowded = call->crowd > 1;
    mt_shm_op_shape(endpoint, team, op);
    /* Each level costs ranks that share CPUs a turn of all, so they do without, unless asked. */
    op->grouped = team->group != NULL && (!op->crowded || endpoint->groups_asked) &&
                  mt_shm_group_takes(team, op);
    op->line &= !op->grouped;
    mt_shm_op_lends(team, op);
    prepared->team = team;
    return 0;
}

/* The only member: what it has is the result. */
static void alone(const struct mt_shm_op *op)
{
    uint64_t offset = op->offsets != NULL ? op->offsets[0] : 0;
    uint64_t bytes = op->elements * op->size;
    if (bytes != 0 && op->dst != op->src)
        memmove(op->dst + offset, op->src + offset, bytes);
}

static void end(struct mt_shm_team *team, int status, uint32_t peer)
{
    struct mt_shm_op *op = team->head;
    struct manta_transport_request *request = op->request;
    team->head = op->next;
    if (team->head == NULL)
        team->tail = NULL;
    request->peer = peer;
    request->status = status;
}

/* A team whose order of operations is broken stays broken. */
static void end_all(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, int status,
                    uint32_t peer)
{
    team->failed = status;
    if (team->head != NULL && team->head->lent_end != 0)
        mt_shm_withdraw(endpoint);
    while (team->head != NULL)
        end(team, status, peer);
}

/* One step of the operation at the head, as mt_shm_stream_step(). */
static int step_op(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, struct mt_shm_op *op,
                   uint32_t *peer_out)
{
    int code = 0;
    if (op->finished)
        return mt_shm_op_settle(endpoint, team, op, peer_out);
    if (op->grouped)
        code = mt_shm_group_step(endpoint, team, op, peer_out);
    else if (op->two_phase)
        code = mt_shm_two_phase_step(endpoint, team, op, peer_out);
    else
        code = mt_shm_stream_step(endpoint, team, op, peer_out);
    if (code != 0)
        return code;
    op->finished = 1;
    return mt_shm_op_settle(endpoint, team, op, peer_out);
}

static void unmap_retired(struct mt_shm_endpoint *endpoint)
{
    for (uint32_t slot = 0; slot < endpoint->team_slots; slot++)
        if (endpoint->teams[slot] != NULL && endpoint->teams[slot]->head != NULL)
            return;
    mt_shm_lend_settle(endpoint);
}

/* Nobody waits for ever for who was in another call: MANTA_EAGAIN, or that it was. */
static int compare(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint32_t *peer_out)
{
    int code = mt_shm_team_compare(endpoint, team, peer_out);
    return code != 0 ? code : MANTA_EAGAIN;
}

int mt_shm_team_progress(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team)
{
    uint32_t peer = MANTA_PLAN_NONE;
    int happened = 0;
    if (team->unresolved != 0) {
        int code = mt_shm_team_ready(endpoint, team, &peer);
        if (code < 0)
            end_all(endpoint, team, code, peer);
        if (code != 0)
            return code < 0;
    }
    for (int step = 0; step < STEPS && team->head != NULL; step++) {
        struct mt_shm_op *op = team->head;
        int code = step_op(endpoint, team, op, &peer);
        if (code == MANTA_EAGAIN && !op->crowded)
            mt_shm_team_claim_ring(team, CLAIM_WAITING_BYTES);
        if (code == MANTA_EAGAIN && (op->crowded || team->waits++ % COMPARE_EACH == 0))
            code = compare(endpoint, team, &peer);
        if (code == MANTA_EAGAIN)
            return happened;
        happened = 1;
        if (code == 0) {
            team->tick += mt_shm_op_ticks(op);
            if (!op->line && !op->crowded)
                mt_shm_team_claim_ring(team, op->consumes ? CLAIM_BYTES : CLAIM_ROOT_BYTES);
            if (!op->line && !op->grouped)
                mt_shm_team_measure(endpoint, team, op->elements * op->size);
            end(team, 0, MANTA_PLAN_NONE);
        } else if (code < 0) {
            end_all(endpoint, team, code, peer);
        }
    }
    if (endpoint->retired != NULL)
        unmap_retired(endpoint);
    return happened;
}

static const uint8_t *source_of(const struct mt_shm_op *op,
                                const struct manta_transport_fused_call *call)
{
    return (const uint8_t *)(op->collective == MANTA_BROADCAST ? call->dst : call->src) + op->at;
}

/* The prepared operation, with the buffers and the number of this call. */
static void make_op(const struct prepared *prepared, const struct manta_transport_fused_call *call,
                    struct manta_transport_request *request, struct mt_shm_op *op)
{
    *op = prepared->op;
    op->dst = (uint8_t *)call->dst + op->at;
    op->src = source_of(op, call);
    op->hash = hash_of(&call->id);
    op->request = request;
    request->peer = MANTA_PLAN_NONE;
    request->status = MANTA_INPROGRESS;
}

/* An operation that fits into a line, of a team that has no other: others wait for what is
 * published, so that comes first. */
static void post_line(struct mt_shm_endpoint *endpoint, const struct prepared *prepared,
                      const struct manta_transport_fused_call *call,
                      struct manta_transport_request *request)
{
    struct mt_shm_team *team = prepared->team;
    struct mt_shm_op *op = (struct mt_shm_op *)(void *)request->transport_private;
    uint32_t hash = hash_of(&call->id);
    int is_published =
        mt_shm_line_publish(endpoint, team, &prepared->op, source_of(&prepared->op, call), hash);
    mt_shm_team_claim_next(team, team->tick, prepared->op.elements * prepared->op.size);
    if (is_published && !prepared->op.consumes) {
        mt_shm_line_end(endpoint, team, hash);
        request->peer = MANTA_PLAN_NONE;
        request->status = 0;
        return;
    }
    make_op(prepared, call, request, op);
    op->published = (uint32_t)is_published;
    team->head = team->tail = op;
    if (op->publishes && !is_published)
        mt_shm_team_progress(endpoint, team); /* there is no room: look for some */
}

static void look_for_line(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                          struct mt_shm_op *op, uint32_t looks)
{
    uint32_t peer = MANTA_PLAN_NONE;
    int code = mt_shm_line_look(endpoint, team, op, looks, &peer);
    if (code == 0)
        end(team, 0, MANTA_PLAN_NONE);
    else if (code < 0)
        end_all(endpoint, team, code, peer);
}

int mt_shm_fused_post(void *handle, struct manta_transport_fused_call *call,
                      struct manta_transport_request *request)
{
    struct mt_shm_endpoint *endpoint = handle;
    struct prepared *prepared = (struct prepared *)(void *)call->transport_private;
    struct mt_shm_op *op = (struct mt_shm_op *)(void *)request->transport_private;
    int code = endpoint->aborted;
    if (code == 0 && prepared->team == NULL)
        code = prepare(endpoint, call, prepared);
    struct mt_shm_team *team = prepared->team;
    if (code == 0)
        code = team->failed;
    if (code != 0)
        return code;
    if (__builtin_expect(endpoint->retired != NULL, 0))
        unmap_retired(endpoint);
    if (prepared->op.line && team->head == NULL && team->unresolved == 0 && team->count > 1) {
        post_line(endpoint, prepared, call, request);
        return 0;
    }
    make_op(prepared, call, request, op);
    if (team->count == 1) {
        alone(op);
        request->status = 0;
        return 0;
    }
    if (op->lends_src && team->unresolved == 0)
        mt_shm_op_lend(endpoint, team, op);
    if (team->tail != NULL) {
        team->tail->next = op;
        team->tail = op;
        return 0;
    }
    team->head = team->tail = op;
    mt_shm_team_progress(endpoint, team);
    return 0;
}

int mt_shm_fused_memory(void *handle, const struct manta_transport_fused_call *call, char *text,
                        size_t text_bytes)
{
    struct prepared prepared;
    int code = prepare(handle, call, &prepared);
    if (code == 0)
        mt_shm_op_describe(handle, prepared.team, &prepared.op, text, text_bytes);
    return code;
}

void mt_shm_fused_look(void *handle, struct manta_transport_fused_call *call,
                       struct manta_transport_request *request, uint32_t looks)
{
    struct mt_shm_endpoint *endpoint = handle;
    const struct prepared *prepared = (const struct prepared *)(void *)call->transport_private;
    struct mt_shm_team *team = prepared->team;
    struct mt_shm_op *op = team->head;
    if (op != NULL && op->request == request && op->line && op->published == op->publishes &&
        team->unresolved == 0) {
        look_for_line(endpoint, team, op, looks);
        return;
    }
    while (looks-- > 0 && request->status == MANTA_INPROGRESS)
        mt_shm_team_progress(endpoint, team);
}

const uint64_t *mt_shm_fused_awaits(void *handle, const struct manta_transport_fused_call *call,
                                    const struct manta_transport_request *request,
                                    uint64_t *value_out)
{
    const struct prepared *prepared =
        (const struct prepared *)(const void *)call->transport_private;
    const struct mt_shm_team *team = prepared->team;
    const struct mt_shm_op *op = team->head;
    (void)handle;
    if (op == NULL || op->request != request || !op->line || !op->consumes || team->unresolved != 0)
        return NULL;
    uint32_t first = op->collective == MANTA_BROADCAST ? op->root : team->me == 0;
    *value_out = mt_shm_flag(team->tick, op->hash);
    return (const uint64_t *)(const void *)mt_shm_team_entry(&team->members[first], team->tick);
}

int mt_shm_fused_progress(struct mt_shm_endpoint *endpoint)
{
    int happened = 0;
    for (uint32_t slot = 0; slot < endpoint->team_slots; slot++) {
        struct mt_shm_team *team = endpoint->teams[slot];
        if (team != NULL && team->head != NULL)
            happened |= mt_shm_team_progress(endpoint, team);
    }
    return happened;
}

void mt_shm_fused_abort(struct mt_shm_endpoint *endpoint, int code)
{
    for (uint32_t slot = 0; slot < endpoint->team_slots; slot++)
        if (endpoint->teams[slot] != NULL)
            end_all(endpoint, endpoint->teams[slot], code, MANTA_PLAN_NONE);
}

void mt_shm_fused_close(struct mt_shm_endpoint *endpoint)
{
    for (uint32_t slot = 0; slot < endpoint->team_slots; slot++) {
        mt_shm_team_free(endpoint->teams[slot]);
        endpoint->teams[slot] = NULL;
    }
    endpoint->team_last = NULL;
}
