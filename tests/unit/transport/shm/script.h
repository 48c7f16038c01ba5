/* SPDX-License-Identifier: Apache-2.0 */
/* Scripts of fused steps: many calls of all collectives, made by ranks that are threads, several
 * posted at once, by subsets of ranks, with delays at every flag; results are compared bit for bit
 * with the canonical tree, and buffers are written again as soon as they are the caller's. */
#ifndef TESTS_UNIT_TRANSPORT_SHM_SCRIPT_H
#define TESTS_UNIT_TRANSPORT_SHM_SCRIPT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>

#include "core/clock.h"
#include "core/dtype.h"
#include "core/reduce.h"
#include "tests/support/meeting.h"
#include "tests/unit/transport/shm/arena.h"
#include "tests/unit/transport/shm/world.h"
#include "transport/shm/team.h"

#if defined(__SANITIZE_THREAD__)
#define SLOW 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif
#ifndef SLOW
#define SLOW 0
#endif

enum { GUARD = 64, GUARD_BYTE = 0xa5, OUTSTANDING_MAX = 4 };

/* One collective call among some of the ranks. */
struct call {
    struct manta_plan_fused fused;
    struct manta_plan_fused_member members[WORLD_RANKS];
    uint64_t offsets[4 * WORLD_RANKS + 1];
    uint32_t blocks;
    uint64_t elements; /* of the vector, or of one member's part */
    uint64_t uneven;   /* parts cut a vector of so many elements; 0: each is as long */
    uint32_t dtype, op, size, in_place, crowd;
    uint64_t src_bytes, dst_bytes;
    uint8_t *src[WORLD_RANKS], *dst[WORLD_RANKS]; /* by member; dst with guards */
    uint8_t *result; /* what the vector's dst is; the concatenation for parts */
};

struct script {
    struct world world;
    struct call *calls;
    uint32_t count;
    uint64_t seed;
    int delays, sleeps, past_caches;
    struct meeting barrier;
};

struct runner {
    struct script *script;
    uint32_t rank;
    uint64_t random;
    int failed;
    pthread_t thread;
};

static inline int has_parts(const struct call *call)
{
    return call->fused.collective == MANTA_ALLGATHER ||
           call->fused.collective == MANTA_REDUCE_SCATTER;
}

static inline int combines(const struct call *call)
{
    return call->fused.collective == MANTA_ALLREDUCE || call->fused.collective == MANTA_REDUCE ||
           call->fused.collective == MANTA_REDUCE_SCATTER;
}

static inline uint32_t member_of(const struct call *call, uint32_t rank)
{
    for (uint32_t i = 0; i < call->fused.member_count; i++)
        if (call->members[i].rank == rank)
            return i;
    return UINT32_MAX;
}

/* The canonical tree over whole vectors. */
static inline void tree(const struct call *call, uint32_t first, uint32_t count, uint64_t elements,
                        uint8_t *out)
{
    uint64_t bytes = elements * call->size;
    uint32_t half = 1;
    if (count == 1) {
        memcpy(out, call->src[first], bytes);
        return;
    }
    while (half * 2 < count)
        half *= 2;
    uint8_t *right = malloc(bytes + 1);
    tree(call, first, half, elements, out);
    tree(call, first + half, count - half, elements, right);
    mt_reduce((int)call->dtype, (int)call->op, out, out, right, elements);
    free(right);
}

static inline uint64_t part_bytes(const struct call *call, uint32_t i)
{
    uint32_t cut = call->blocks / call->fused.member_count;
    return call->uneven ? call->offsets[(i + 1) * cut] - call->offsets[i * cut]
                        : call->elements * call->size;
}

/* Parts lie `gap` bytes apart, each cut into `cut` blocks; or they cut a vector as it falls. */
static inline void declare(struct call *call, uint32_t cut, uint64_t gap)
{
    uint32_t members = call->fused.member_count;
    uint64_t bytes = call->elements * call->size;
    uint32_t vectors = has_parts(call) ? members : 1;
    call->blocks = vectors * cut;
    for (uint32_t b = 0; b < call->blocks; b++)
        call->offsets[b] =
            b / cut * (bytes + gap) + bytes / call->size * (b % cut) / cut * call->size;
    call->offsets[call->blocks] = vectors * (bytes + gap) - gap;
    for (uint32_t b = 0; call->uneven && b <= call->blocks; b++)
        call->offsets[b] = call->uneven * b / call->blocks * call->size;
    for (uint32_t i = 0; i < members; i++) {
        struct manta_plan_fused_member *m = &call->members[i];
        m->read_count = m->write_count = call->blocks;
        if (call->fused.collective == MANTA_ALLGATHER) {
            m->read_first = i * cut;
            m->read_count = cut;
        } else if (call->fused.collective == MANTA_REDUCE_SCATTER) {
            m->write_first = i * cut;
            m->write_count = cut;
        } else if (call->fused.collective == MANTA_BROADCAST && m->rank != call->fused.root) {
            m->read_count = 0;
        } else if (call->fused.collective == MANTA_BROADCAST) {
            m->write_count = 0;
        } else if (call->fused.collective == MANTA_REDUCE && m->rank != call->fused.root) {
            m->write_count = 0;
        }
    }
}

static inline void fill(struct call *call, uint64_t *random)
{
    uint64_t span = call->offsets[call->blocks];
    call->src_bytes = call->dst_bytes = span;
    for (uint32_t i = 0; i < call->fused.member_count; i++) {
        call->src[i] = arena_take(span + 8, random);
        call->dst[i] = arena_take(span + 2 * GUARD, random);
        memset(call->dst[i], GUARD_BYTE, span + 2 * GUARD);
        for (uint64_t at = 0; at < span; at += 8) {
            uint64_t value = world_random(random);
            memcpy(call->src[i] + at, &value, 8);
        }
    }
    call->result = malloc(span + 8);
    memset(call->result, GUARD_BYTE, span);
    if (combines(call)) {
        tree(call, 0, call->fused.member_count, span / call->size, call->result);
        return;
    }
    uint64_t bytes = call->elements * call->size;
    if (call->fused.collective == MANTA_BROADCAST)
        memcpy(call->result, call->src[member_of(call, call->fused.root)], bytes);
    for (uint32_t i = 0; call->fused.collective == MANTA_ALLGATHER && i < call->fused.member_count;
         i++)
        memcpy(call->result + call->offsets[i * call->blocks / call->fused.member_count],
               call->src[i] + call->offsets[i * call->blocks / call->fused.member_count],
               part_bytes(call, i));
}

static inline void make_call(struct call *call, uint32_t collective, uint64_t elements,
                             uint32_t dtype, uint32_t op, uint32_t root, uint64_t members_mask,
                             uint64_t *random)
{
    memset(call, 0, sizeof(*call));
    call->fused.collective = collective;
    call->fused.order = MANTA_PLAN_ORDER_BINARY;
    call->fused.members = call->members;
    for (uint32_t r = 0; r < WORLD_RANKS; r++)
        if (members_mask >> r & 1)
            call->members[call->fused.member_count++].rank = r;
    int rooted = collective == MANTA_BROADCAST || collective == MANTA_REDUCE;
    call->fused.root =
        rooted ? call->members[root % call->fused.member_count].rank : MANTA_PLAN_NONE;
    call->elements = collective == MANTA_BARRIER ? 0 : elements;
    call->dtype = dtype;
    call->op = op;
    call->size = (uint32_t)manta_dtype_size((int)dtype);
    call->in_place = (uint32_t)world_random(random) & 1;
    call->crowd = 1 + (uint32_t)(world_random(random) % 2);
    uint64_t gap = world_random(random) % 3 * call->size;
    if (has_parts(call) && elements > 0 && world_random(random) % 2)
        call->uneven =
            elements * call->fused.member_count - world_random(random) % call->fused.member_count;
    declare(call, 1 + (uint32_t)(world_random(random) % 3), has_parts(call) ? gap : 0);
    fill(call, random);
}

static inline void free_call(struct call *call)
{
    for (uint32_t i = 0; i < call->fused.member_count; i++) {
        arena_give(call->src[i]);
        arena_give(call->dst[i]);
    }
    free(call->result);
}

/* Look. Who is through has seen the word that it was to wait for. */
static inline int look(struct mt_shm_endpoint *endpoint, struct manta_transport_fused_call *call,
                       struct manta_transport_request *request, uint32_t looks)
{
    uint64_t value;
    const uint64_t *word = NULL;
    if (request->status == MANTA_INPROGRESS)
        word = mt_transport_shm.fused_awaits(endpoint, call, request, &value);
    mt_transport_shm.fused_look(endpoint, call, request, looks);
    if (word == NULL || request->status != 0)
        return 0;
    /* Its writer may have written it again. */
    uint64_t now = atomic_load((const _Atomic uint64_t *)(const void *)word);
    return now >> MT_SHM_HASH_BITS < value >> MT_SHM_HASH_BITS ? MANTA_ETRANSPORT : 0;
}

/* Where member i's call reads and writes: in place, everything happens in its dst. */
static inline int post(struct runner *self, struct call *call, uint32_t index,
                       struct manta_transport_request *request)
{
    uint32_t i = member_of(call, self->rank);
    uint8_t *dst = call->dst[i] + GUARD;
    const uint8_t *src = call->src[i];
    uint32_t collective = call->fused.collective;
    int is_root = call->fused.root == self->rank;
    if (collective == MANTA_BROADCAST) {
        src = NULL;
        if (is_root)
            memcpy(dst, call->src[i], call->src_bytes);
    } else if (collective == MANTA_REDUCE && !is_root) {
        dst = NULL;
    } else if (call->in_place && collective != MANTA_BARRIER) {
        memcpy(dst, src, call->src_bytes);
        src = dst;
    }
    struct manta_transport_fused_call posted = {
        .id = {.call = index + 1, .epoch = 7, .hash = 1234 + index},
        .fused = &call->fused,
        .src = src,
        .dst = dst,
        .count = call->uneven ? call->uneven
                              : call->elements * (has_parts(call) ? call->fused.member_count : 1),
        .dtype = call->dtype,
        .op = call->op,
        .block_offsets = call->offsets,
        .blocks = call->blocks,
        .crowd = call->crowd};
    struct mt_shm_endpoint *endpoint = self->script->world.endpoints[self->rank];
    int code = mt_transport_shm.fused_query(endpoint, &call->fused);
    if (code == 0)
        code = mt_transport_shm.fused_post(endpoint, &posted, request);
    if (code == 0 && world_random(&self->random) % 3 == 0)
        code = look(endpoint, &posted, request, world_random(&self->random) % 50);
    if (code != 0)
        fprintf(stderr, "rank %u call %u: query, post or look gives %d\n", self->rank, index, code);
    return code;
}

static inline int same(const uint8_t *a, const uint8_t *b, uint64_t bytes)
{
    return bytes == 0 || memcmp(a, b, bytes) == 0;
}

/* Does the member's dst hold what the declaration says, and nothing else? */
static inline int is_right(const struct call *call, uint32_t i)
{
    const uint8_t *dst = call->dst[i] + GUARD;
    uint64_t bytes = call->elements * call->size;
    for (uint32_t g = 0; g < GUARD; g++)
        if (call->dst[i][g] != GUARD_BYTE || dst[call->dst_bytes + g] != GUARD_BYTE)
            return 0;
    int is_root = call->members[i].rank == call->fused.root;
    switch (call->fused.collective) {
    case MANTA_REDUCE:
        return !is_root || same(dst, call->result, bytes);
    case MANTA_REDUCE_SCATTER: {
        uint64_t at = call->offsets[call->members[i].write_first];
        uint64_t after = at + part_bytes(call, i);
        const uint8_t *rest = call->in_place ? call->src[i] : NULL;
        uint8_t untouched = GUARD_BYTE;
        for (uint64_t b = 0; b < call->dst_bytes; b++)
            if ((b < at || b >= after) && dst[b] != (rest != NULL ? rest[b] : untouched))
                return 0;
        return same(dst + at, call->result + at, after - at);
    }
    case MANTA_ALLGATHER:
        for (uint32_t m = 0; m < call->fused.member_count; m++) {
            uint64_t at = call->offsets[call->members[m].read_first];
            if (!same(dst + at, call->result + at, part_bytes(call, m)))
                return 0;
        }
        return 1;
    case MANTA_BARRIER:
        return 1;
    default:
        return same(dst, call->result, bytes);
    }
}

static inline void delay(void *arg)
{
    struct runner *self = arg;
    uint64_t value = world_random(&self->random);
    if (value % 8 == 0)
        sched_yield();
    for (uint64_t spins = value >> 8 & 0xff; spins > 0; spins--)
        __asm__ volatile("");
}

/* 1 when a doorbell was missed: something has come, and nobody has rung for it. Who has it come may
 * be stopped before it rings, but not for so long. */
static inline int sleep_once(struct mt_shm_endpoint *endpoint)
{
    if (mt_transport_shm.arm(endpoint) != 0)
        return 0;
    struct pollfd waiting = {.fd = mt_transport_shm.wait_fd(endpoint), .events = POLLIN};
    int is_missed = poll(&waiting, 1, 20000) == 0 && mt_transport_shm.progress(endpoint) != 0 &&
                    poll(&waiting, 1, 0) == 0;
    mt_transport_shm.disarm(endpoint);
    return is_missed;
}

static inline int wait_for(struct runner *self, const struct manta_transport_request *request)
{
    struct mt_shm_endpoint *endpoint = self->script->world.endpoints[self->rank];
    uint64_t until_ns = mt_clock_now_ns() + 60 * MT_SECOND;
    while (request->status == MANTA_INPROGRESS) {
        if (mt_transport_shm.progress(endpoint) != 0)
            continue;
        if (mt_clock_now_ns() > until_ns) {
            fprintf(stderr, "rank %u waits for ever\n", self->rank);
            return 1;
        }
        if (self->script->sleeps && world_random(&self->random) % 4 == 0 && sleep_once(endpoint)) {
            fprintf(stderr, "rank %u was not woken\n", self->rank);
            return 1;
        }
        sched_yield();
    }
    return request->status != 0;
}

static inline int finish(struct runner *self, uint32_t index,
                         const struct manta_transport_request *request)
{
    struct call *call = &self->script->calls[index];
    if (wait_for(self, request) != 0) {
        fprintf(stderr, "rank %u call %u (%s) ends with %d\n", self->rank, index,
                mt_collective_name((int)call->fused.collective), request->status);
        return 1;
    }
    uint32_t i = member_of(call, self->rank);
    if (is_right(call, i)) {
        /* They are this rank's again: whoever still reads them gets this. */
        memset(call->src[i], 0xee, call->src_bytes);
        memset(call->dst[i] + GUARD, 0xee, call->dst_bytes);
        return 0;
    }
    fprintf(stderr, "rank %u call %u: wrong %s of %llu %s, %s, %u members, root %d, in place %u\n",
            self->rank, index, mt_collective_name((int)call->fused.collective),
            (unsigned long long)call->elements, mt_dtype_name((int)call->dtype),
            mt_op_name((int)call->op), call->fused.member_count, (int)call->fused.root,
            call->in_place);
    return 1;
}

static inline void *run_rank(void *arg)
{
    struct runner *self = arg;
    struct script *script = self->script;
    struct manta_transport_request requests[OUTSTANDING_MAX];
    uint32_t index_of[OUTSTANDING_MAX];
    uint32_t posted = 0, done = 0;
    uint32_t window = 1 + (uint32_t)(world_random(&self->random) % OUTSTANDING_MAX);
    if (script->delays) {
        script->world.endpoints[self->rank]->hook_arg = self;
        script->world.endpoints[self->rank]->hook = delay;
    }
    for (uint32_t index = 0; index < script->count && !self->failed; index++) {
        struct call *call = &script->calls[index];
        if (member_of(call, self->rank) == UINT32_MAX)
            continue;
        if (posted - done == window) {
            self->failed = finish(self, index_of[done % window], &requests[done % window]);
            done++;
        }
        index_of[posted % window] = index;
        self->failed |= post(self, call, index, &requests[posted % window]) != 0;
        posted++;
    }
    for (; done < posted && !self->failed; done++)
        self->failed = finish(self, index_of[done % window], &requests[done % window]);
    if (self->failed)
        mt_transport_shm.abort(script->world.endpoints[self->rank], MANTA_EABORTED);
    /* A wired-up segment is read at the owner's address: nobody closes before all are done. */
    meeting_wait(&script->barrier);
    return NULL;
}

static inline void run(struct script *script, uint32_t ranks)
{
    struct runner runners[WORLD_RANKS];
    int failed = 0;
    assert_int_equal(world_open(&script->world, ranks), 0);
    meeting_begin(&script->barrier, ranks);
    for (uint32_t r = 0; r < ranks && script->past_caches; r++)
        script->world.endpoints[r]->past_caches_bytes = 0;
    for (uint32_t r = 0; r < ranks; r++) {
        runners[r] = (struct runner){.script = script, .rank = r, .random = script->seed * 97 + r};
        pthread_create(&runners[r].thread, NULL, run_rank, &runners[r]);
    }
    for (uint32_t r = 0; r < ranks; r++) {
        pthread_join(runners[r].thread, NULL);
        failed |= runners[r].failed;
    }
    meeting_end(&script->barrier);
    /* Are there groups where there should be? */
    uint32_t size = (uint32_t)atoi(world_shm_groups);
    for (uint32_t r = 0; r < ranks; r++) {
        const struct mt_shm_team *team = script->world.endpoints[r]->teams[0];
        int is_cut = size > 1 && size < ranks && ranks % size == 0;
        failed |= team != NULL && (team->group != NULL) != is_cut;
    }
    world_close(&script->world);
    for (uint32_t i = 0; i < script->count; i++)
        free_call(&script->calls[i]);
    free(script->calls);
    arena_clear();
    assert_int_equal(failed, 0);
}

static inline uint64_t all_of(uint32_t ranks)
{
    return ranks == 64 ? UINT64_MAX : (UINT64_C(1) << ranks) - 1;
}

/* A pair that goes together. */
static inline void draw_type(uint64_t *random, uint32_t *dtype, uint32_t *op)
{
    do {
        *dtype = (uint32_t)(world_random(random) % MANTA_DTYPE_COUNT);
        *op = (uint32_t)(world_random(random) % MANTA_OP_COUNT);
    } while (*op == MANTA_AVG || !mt_op_allowed((int)*op, (int)*dtype));
}

/* Byte lengths near the limits of lines, entries, tiles and chunks, and awkward ones. */
static inline uint64_t draw_bytes(uint64_t *random, uint64_t most)
{
    static const uint64_t near[] = {
        0,    1,    4,    8,    56,    57,    63,    64,    65,     997,    1079,   1080,   1081,
        4095, 4096, 4097, 8191, 16384, 16385, 65521, 32767, 262143, 262144, 262145, 524288, 786433};
    uint64_t bytes;
    do {
        uint64_t which = world_random(random);
        bytes = which % 4 == 0 ? world_random(random) % (most + 1)
                               : near[(which >> 8) % (sizeof(near) / sizeof(near[0]))];
    } while (bytes > most);
    return bytes;
}

static inline void draw_calls(struct script *script, uint32_t ranks, uint32_t count, uint64_t most,
                              int subsets)
{
    uint64_t random = script->seed;
    script->count = count;
    script->calls = calloc(count, sizeof(*script->calls));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t dtype, op;
        uint32_t collective = (uint32_t)(world_random(&random) % 6);
        uint64_t mask = all_of(ranks);
        draw_type(&random, &dtype, &op);
        /* Few different subsets: a rank has a limited number of slots. */
        if (subsets && world_random(&random) % 2)
            mask = (world_random(&random) % 2 ? UINT64_C(0x5555555555555555)
                                              : UINT64_C(0x3333333333333337)) &
                   mask;
        uint64_t bytes = draw_bytes(&random, most);
        make_call(&script->calls[i], collective, bytes / manta_dtype_size((int)dtype), dtype, op,
                  (uint32_t)world_random(&random), mask, &random);
    }
}

static inline void mixed(uint32_t ranks, uint32_t count, uint64_t most, int delays, int sleeps,
                         int subsets)
{
    struct script script = {.seed = ranks * 1000003 + count, .delays = delays, .sleeps = sleeps};
    draw_calls(&script, ranks, count, most, subsets);
    run(&script, ranks);
}

static inline void one_kind(uint32_t collective, uint32_t ranks, uint32_t count, uint64_t bytes)
{
    struct script script = {.seed = collective + bytes, .delays = 1};
    uint64_t random = script.seed;
    script.count = count;
    script.calls = calloc(count, sizeof(*script.calls));
    for (uint32_t i = 0; i < count; i++)
        make_call(&script.calls[i], collective, bytes / 4, MANTA_FLOAT32, MANTA_SUM, i,
                  all_of(ranks), &random);
    run(&script, ranks);
}

#endif
