/* SPDX-License-Identifier: Apache-2.0 */
/* A process whose threads are the ranks of a topic, and what their messages are. */
#include "tools/manta/plugin_world.h"

#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/clock.h"
#include "transport/registry.h"

enum { ARENA_BYTES = 192 << 20, GAP_BYTES = 3, GAP = 0x5c };

static _Atomic uint64_t allocations;

static void *count_alloc(size_t bytes, size_t alignment)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return mt_transport_host()->alloc(bytes, alignment);
}

uint64_t check_allocations(const struct check_rank *self)
{
    (void)self;
    return atomic_load_explicit(&allocations, memory_order_relaxed);
}

/* The first to end the topic words it. */
static void __attribute__((noreturn))
end(const struct check_world *world, int outcome, const char *sentence)
{
    struct check_shared *shared = world->shared;
    while (atomic_exchange(&shared->claimed, 1))
        pause(); /* the process is about to end */
    snprintf(shared->sentence, sizeof shared->sentence, "%s", sentence);
    atomic_store(&shared->outcome, outcome);
    _exit(0);
}

void check_fail(const struct check_rank *self, const char *format, ...)
{
    va_list arguments;
    char text[640], sentence[704];
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    snprintf(sentence, sizeof sentence, "rank %u of %u: %s", self->rank, self->ranks, text);
    end(self->world, CHECK_FAILED, sentence);
}

static void __attribute__((noreturn)) skip_here(const struct check_world *world, const char *why)
{
    char sentence[320];
    snprintf(sentence, sizeof sentence, "it cannot be used on this host: %s", why);
    end(world, CHECK_SKIPPED, sentence);
}

void check_skip(const struct check_rank *self, const char *sentence)
{
    end(self->world, CHECK_SKIPPED, sentence);
}

/* Who waits moves things on: others may need it. */
void check_barrier(struct check_rank *self)
{
    struct check_world *world = self->world;
    uint32_t before = atomic_load(&world->barriers);
    if (atomic_fetch_add(&world->arrived, 1) + 1 == self->ranks) {
        atomic_store(&world->arrived, 0);
        atomic_fetch_add(&world->barriers, 1);
        return;
    }
    while (atomic_load(&world->barriers) == before) {
        if (self->endpoint != NULL)
            (void)check_progress(self);
        sched_yield();
    }
}

_Atomic int *check_flag(struct check_rank *self, uint32_t index)
{
    return &self->world->flags[index];
}

void check_forbid(struct check_rank *self)
{
    if (mprotect(self->arena, self->arena_bytes, PROT_NONE) != 0)
        check_fail(self, "the check cannot protect memory");
    atomic_store(&self->world->shared->forbidden, 1);
}

uint64_t check_random(struct check_rank *self, uint64_t below)
{
    self->random ^= self->random << 13; /* Marsaglia: Xorshift RNGs */
    self->random ^= self->random >> 7;
    self->random ^= self->random << 17;
    return self->random % below;
}

void *check_memory(struct check_rank *self, size_t bytes)
{
    size_t used = (bytes + 63) / 64 * 64;
    if (used > self->arena_bytes - self->arena_used)
        check_fail(self, "the topic has no memory for %zu bytes more", bytes);
    void *memory = self->arena + self->arena_used;
    self->arena_used += used;
    return memory;
}

static const char *code_name(int code)
{
    switch (code) {
#define MANTA_ERROR(name, value, sentence)                                                         \
    case value:                                                                                    \
        return "MANTA_" #name;
#include <manta/errors.def>
#undef MANTA_ERROR
    default:
        return "no error";
    }
}

void check_answer(struct check_rank *self, int op, int answer, int expected)
{
    struct manta_transport_error why = {.size = sizeof why};
    if (answer == expected)
        return;
    if (self->endpoint != NULL)
        check_error(self, &why);
    check_fail(self, "%s answered %d (%s), not %d%s%s", check_op_name(op), answer,
               code_name(answer), expected, why.sentence[0] ? ": " : "", why.sentence);
}

/* Each piece has a gap behind it, which nobody may write. */
uint32_t check_pieces(const struct check_message *message, struct manta_transport_buffer *buffers)
{
    uint64_t from = 0;
    for (uint32_t i = 0; i < message->pieces; i++) {
        uint64_t to = message->bytes * (i + 1) / message->pieces;
        buffers[i] = (struct manta_transport_buffer){
            .address = message->memory + from + (size_t)i * GAP_BYTES, .bytes = to - from};
        from = to;
    }
    return message->pieces;
}

static unsigned char byte_at(const struct check_message *message, uint64_t at)
{
    return (unsigned char)(message->seed * 37 + at * 131 + (at >> 8) * 7 + (at >> 16));
}

void check_prepare(struct check_rank *self, struct check_message *message, uint32_t from,
                   uint32_t to, uint32_t index, uint64_t bytes)
{
    uint32_t pieces = 1 + index % MANTA_PLAN_LOCATIONS;
    struct manta_transport_buffer buffers[MANTA_PLAN_LOCATIONS];
    *message = (struct check_message){
        .id = {.call = 1 + index / 16,
               .epoch = self->epoch,
               .segment = index / 4 % 4,
               .number = index,
               .hash = 0x1234},
        .peer = self->rank == from ? to : from,
        .pieces = bytes < pieces ? bytes > 0 : pieces,
        .seed = from * 64 + to * 8 + index,
        .bytes = bytes,
    };
    memset(&message->request, 0xa5, sizeof message->request);
    size_t room = bytes + (size_t)MANTA_PLAN_LOCATIONS * GAP_BYTES;
    message->memory = check_memory(self, room);
    memset(message->memory, GAP, room);
    uint64_t at = 0;
    for (uint32_t i = 0, count = check_pieces(message, buffers); i < count; i++)
        for (uint64_t b = 0; b < buffers[i].bytes; b++, at++)
            ((unsigned char *)buffers[i].address)[b] =
                self->rank == from ? byte_at(message, at) : 0xee;
}

void check_content(struct check_rank *self, const struct check_message *message)
{
    struct manta_transport_buffer buffers[MANTA_PLAN_LOCATIONS];
    uint64_t at = 0;
    for (uint32_t i = 0, count = check_pieces(message, buffers); i < count; i++) {
        const unsigned char *piece = buffers[i].address;
        for (uint64_t b = 0; b < buffers[i].bytes; b++, at++)
            if (piece[b] != byte_at(message, at))
                check_fail(self,
                           "byte %" PRIu64 " of %" PRIu64 " of message %u from rank %u is wrong",
                           at, message->bytes, message->id.number, message->peer);
        for (uint32_t g = 0; g < GAP_BYTES; g++)
            if (piece[buffers[i].bytes + g] != GAP)
                check_fail(self, "behind piece %u of message %u from rank %u something was written",
                           i, message->id.number, message->peer);
    }
}

static void look(struct check_rank *self)
{
    int moved = check_progress(self);
    if (moved < 0)
        check_answer(self, CHECK_PROGRESS, moved, 0);
    if (moved == 0)
        sched_yield();
}

void check_pass_time(struct check_rank *self, const _Atomic int *flag, uint64_t ns)
{
    uint64_t until_ns = mt_clock_now_ns() + (flag ? CHECK_WAIT_S * MT_SECOND : ns);
    while (!flag || !atomic_load(flag)) {
        look(self);
        if (mt_clock_now_ns() > until_ns && flag)
            check_fail(self, "the other ranks did not come so far in %d s", CHECK_WAIT_S);
        if (mt_clock_now_ns() > until_ns)
            return;
    }
}

static void post(struct check_rank *self, struct check_message *message, int is_send)
{
    uint64_t until_ns = mt_clock_now_ns() + CHECK_WAIT_S * MT_SECOND;
    int code;
    while ((code = check_post(self, message, is_send)) == MANTA_EAGAIN) {
        look(self);
        if (mt_clock_now_ns() > until_ns)
            check_fail(self, "%s answers MANTA_EAGAIN for %d s", is_send ? "send" : "recv",
                       CHECK_WAIT_S);
    }
    check_answer(self, is_send ? CHECK_SEND : CHECK_RECV, code, 0);
}

void check_send(struct check_rank *self, struct check_message *message)
{
    post(self, message, 1);
}

void check_recv(struct check_rank *self, struct check_message *message)
{
    post(self, message, 0);
}

void check_wait(struct check_rank *self, struct check_message *messages, uint32_t count)
{
    uint64_t until_ns = mt_clock_now_ns() + CHECK_WAIT_S * MT_SECOND;
    for (uint32_t i = 0; i < count;) {
        struct check_message *message = &messages[i];
        int status = message->request.status;
        if (status != MANTA_INPROGRESS) {
            if (status != 0)
                check_answer(self, CHECK_PROGRESS, status, 0);
            until_ns = mt_clock_now_ns() + CHECK_WAIT_S * MT_SECOND;
            i++;
            continue;
        }
        look(self);
        if (mt_clock_now_ns() > until_ns)
            check_fail(self,
                       "message %u of %u, of %" PRIu64 " bytes, with rank %u is not complete "
                       "after %d s, though both ends have posted it",
                       i, count, message->bytes, message->peer, CHECK_WAIT_S);
    }
}

uint64_t check_eager_bytes(struct check_rank *self)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t peer = 0; peer < self->ranks; peer++) {
        struct manta_transport_properties properties = {.size = sizeof properties};
        if (peer == self->rank)
            continue;
        check_answer(self, CHECK_PROBE, check_probe(self, peer, &properties), 0);
        least = properties.eager_bytes < least ? properties.eager_bytes : least;
    }
    return least;
}

void check_reach(struct check_rank *self, uint32_t peer,
                 struct manta_transport_properties *properties)
{
    struct manta_transport_error why = {.size = sizeof why};
    char sentence[400];
    int code = check_probe(self, peer, properties);
    if (code != MANTA_ENOTSUP) {
        check_answer(self, CHECK_PROBE, code, 0);
        return;
    }
    check_error(self, &why);
    why.sentence[sizeof why.sentence - 1] = '\0';
    snprintf(
        sentence, sizeof sentence,
        "it does not reach the other ranks of the check, which are threads of this process: %s",
        why.sentence);
    check_skip(self, sentence);
}

static void join(struct check_rank *self)
{
    struct mt_error error = {0};
    const struct mt_group_join join = {.session = self->world->session,
                                       .rank = self->rank,
                                       .ranks = self->ranks,
                                       .timeout_ns = CHECK_WAIT_S * MT_SECOND};
    if (mt_group_join(&join, &self->group, &error) != 0)
        check_fail(self, "the ranks of the check cannot join: %s", error.sentence);
    self->epoch = self->group->epoch;
}

/* As routes.c does it: open, exchange addresses, tell the peers. */
static void open_endpoint(struct check_rank *self)
{
    struct check_world *world = self->world;
    struct manta_transport_error error = {.size = sizeof error};
    const void *addresses[CHECK_RANKS];
    int code = check_open(self, &error);
    if (code == MANTA_ENOTSUP)
        skip_here(self->world, error.sentence);
    if (code != 0)
        check_fail(self, "open answered %d: %s", code, error.sentence);
    check_answer(self, CHECK_ADDRESS,
                 check_address(self, world->addresses[self->rank], MANTA_TRANSPORT_ADDRESS_MAX,
                               &world->address_bytes[self->rank]),
                 0);
    check_barrier(self);
    for (uint32_t r = 0; r < self->ranks; r++)
        addresses[r] = world->addresses[r];
    check_answer(self, CHECK_PEERS, check_peers(self, addresses, world->address_bytes), 0);
    check_barrier(self);
}

static void connect_all(struct check_rank *self)
{
    uint64_t until_ns = mt_clock_now_ns() + CHECK_WAIT_S * MT_SECOND;
    for (uint32_t peer = 0; peer < self->ranks; peer++) {
        int code = 0;
        struct manta_transport_properties properties = {.size = sizeof properties};
        if (peer == self->rank)
            continue;
        check_reach(self, peer, &properties);
        while ((code = check_connect(self, peer, until_ns)) == MANTA_INPROGRESS &&
               mt_clock_now_ns() < until_ns)
            look(self);
        check_answer(self, CHECK_CONNECT, code, 0);
    }
}

static void *rank_main(void *arg)
{
    struct check_rank *self = arg;
    if (self->world->guard.gives_group)
        join(self);
    check_barrier(self);
    open_endpoint(self);
    if (self->world->topic->connected)
        connect_all(self);
    self->world->topic->run(self);
    check_barrier(self);
    if (self->endpoint != NULL)
        check_close(self);
    return NULL;
}

static void find_transport(struct check_world *world, const char *target)
{
    struct mt_transport_listed listed;
    struct manta_transport_error reason = {.size = sizeof reason};
    struct mt_error error = {0};
    uint32_t count;
    atomic_store(&world->shared->op[0], CHECK_LOAD);
    if (mt_transport_list(target, &listed, 1, &count, &error) != 0)
        end(world, CHECK_FAILED, error.sentence);
    if (listed.transport == NULL)
        end(world, CHECK_FAILED, listed.why.sentence);
    world->transport = listed.transport;
    if (!listed.is_plugin) {
        mt_guard_init(&world->guard, listed.transport, 1);
        world->transport = &world->guard.table;
    }
    atomic_store(&world->shared->op[0], CHECK_QUERY);
    if (mt_transport_query(world->transport, &reason) != 0)
        skip_here(world, reason.sentence);
    atomic_store(&world->shared->op[0], CHECK_NONE);
}

static void start_rank(struct check_world *world, uint32_t rank)
{
    struct check_rank *self = &world->ranks[rank];
    *self = (struct check_rank){.rank = rank,
                                .ranks = world->topic->ranks,
                                .world = world,
                                .transport = world->transport,
                                .epoch = 0x600d,
                                .arena_bytes = ARENA_BYTES,
                                .random = 88172645463325252 + rank};
    self->arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (self->arena == MAP_FAILED || pthread_create(&self->thread, NULL, rank_main, self) != 0)
        check_fail(self, "the check has no memory, or can start no thread, for a rank");
}

void check_world_run(const struct check_topic *topic, const char *target,
                     struct check_shared *shared)
{
    static struct check_world world;
    world.topic = topic;
    world.shared = shared;
    world.host = *mt_transport_host();
    world.host.alloc = count_alloc;
    find_transport(&world, target);
    if (manta_session_create(world.session, sizeof world.session) != 0)
        end(&world, CHECK_FAILED, "the check can make no session: see manta doctor");
    for (uint32_t r = 0; r < topic->ranks; r++)
        start_rank(&world, r);
    for (uint32_t r = 0; r < topic->ranks; r++)
        pthread_join(world.ranks[r].thread, NULL);
    end(&world, CHECK_PASSED, "");
}
