/* SPDX-License-Identifier: Apache-2.0 */
/* Topics: what is bounded, and how a rank sleeps. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"
#include "tools/manta/plugin.h"

enum {
    FULL = 8192,       /* messages for a peer that takes none */
    FULL_BYTES = 8192, /* of each */
    GROWTH_MOST = 24,  /* MiB that a process may grow by them: 64 MiB together */
    WAKES = 200,
    QUIET_MS = 20,
    QUIET_TRIES = 50,
    WAKE_MS = 8000, /* the rank that sends may be kept from it for some seconds */
};

/* Up to the limit that it names, a message needs no posted receive. */
void topic_eager(struct check_rank *self)
{
    uint64_t eager = check_eager_bytes(self);
    struct check_message message;
    _Atomic int *sent = check_flag(self, 0);
    if (eager == 0)
        check_skip(self, "it has no eager data: every message waits for its receive");
    check_prepare(self, &message, 0, 1, 0, eager < 1 << 26 ? eager : 1 << 26);
    if (self->rank == 0) {
        check_send(self, &message);
        check_wait(self, &message, 1);
        atomic_store(sent, 1);
        return;
    }
    check_pass_time(self, sent, 0);
    check_recv(self, &message);
    check_wait(self, &message, 1);
    check_content(self, &message);
}

static uint64_t resident_mib(void)
{
    unsigned long long pages = 0, all;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL && fscanf(file, "%llu %llu", &all, &pages) != 2)
        pages = 0;
    if (file != NULL)
        fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE) >> 20;
}

/* What a transport keeps for each peer is made by the first messages. */
static void warm_up(struct check_rank *self)
{
    struct check_message messages[4];
    for (uint32_t i = 0; i < 4; i++)
        check_prepare(self, &messages[i], i % 2, 1 - i % 2, 60000 + i,
                      i < 2 ? FULL_BYTES : 1 << 20);
    for (uint32_t i = 0; i < 4; i++)
        self->rank == i % 2 ? check_send(self, &messages[i]) : check_recv(self, &messages[i]);
    check_wait(self, messages, 4);
}

/* As many as rank 0's transport accepts while nobody takes any. */
static uint32_t fill_peer(struct check_rank *self, struct check_message *messages)
{
    uint32_t accepted = 0;
    while (accepted < FULL) {
        int code = check_post(self, &messages[accepted], 1);
        if (code == MANTA_EAGAIN)
            break;
        check_answer(self, CHECK_SEND, code, 0);
        accepted++;
        (void)check_progress(self);
    }
    return accepted;
}

/* Now they are taken, one after the other. */
static void empty_peer(struct check_rank *self, struct check_message *messages, uint32_t accepted)
{
    for (uint32_t i = 0; i < FULL && self->rank == 1; i++) {
        check_recv(self, &messages[i]);
        check_wait(self, &messages[i], 1);
        check_content(self, &messages[i]);
    }
    for (uint32_t i = accepted; i < FULL && self->rank == 0; i++)
        check_send(self, &messages[i]);
    check_wait(self, messages, FULL);
}

/* Rank 0 sends far more than rank 1 takes: it is put off, and nobody allocates. */
void topic_full(struct check_rank *self)
{
    struct check_message *messages = check_memory(self, sizeof *messages * FULL);
    _Atomic int *posted = check_flag(self, 0);
    for (uint32_t i = 0; i < FULL; i++)
        check_prepare(self, &messages[i], 0, 1, i, FULL_BYTES);
    warm_up(self);
    check_barrier(self);
    uint64_t before = resident_mib(), asked = check_allocations(self);
    check_barrier(self);
    uint32_t accepted = self->rank == 0 ? fill_peer(self, messages) : 0;
    if (self->rank == 0)
        atomic_store(posted, (int)accepted + 1);
    check_pass_time(self, posted, 0);
    check_pass_time(self, NULL, 100 * MT_MS);
    check_barrier(self);
    if (check_allocations(self) != asked)
        check_fail(self, "it asked the host for memory in send or progress, of peers that are "
                         "connected");
    if (resident_mib() > before + GROWTH_MOST)
        check_fail(self,
                   "with %d messages of %d bytes that nobody takes the process grew by %" PRIu64
                   " MiB: a full peer must be waited for",
                   atomic_load(posted) - 1, FULL_BYTES, resident_mib() - before);
    check_barrier(self);
    empty_peer(self, messages, accepted);
}

/* Sleep as a waiting rank does: 1 if it was woken, or need not sleep. */
static int sleep_once(struct check_rank *self, int fd, int timeout_ms)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    int work = check_arm(self);
    if (!work)
        work = poll(&ready, 1, timeout_ms) != 0;
    check_disarm(self);
    return work;
}

/* A rank for which nothing comes sleeps. */
static void be_idle(struct check_rank *self, int fd)
{
    for (int i = 0; i < QUIET_TRIES; i++) {
        while (check_progress(self) > 0)
            ;
        if (!sleep_once(self, fd, QUIET_MS))
            return;
    }
    check_fail(self, "nothing is under way, and still it never sleeps: wait_fd stays readable, or "
                     "arm says that there is work");
}

static void wait_asleep(struct check_rank *self, struct check_message *message, int fd)
{
    while (message->request.status == MANTA_INPROGRESS) {
        int moved = check_progress(self);
        if (moved < 0)
            check_answer(self, CHECK_PROGRESS, moved, 0);
        if (moved > 0 || message->request.status != MANTA_INPROGRESS)
            continue;
        if (!sleep_once(self, fd, WAKE_MS))
            check_fail(self, "it slept %d s on wait_fd while a message of %" PRIu64 " bytes came",
                       WAKE_MS / 1000, message->bytes);
    }
    check_wait(self, message, 1);
}

/* Two ranks that answer each other, asleep in between: no wake-up may be lost. */
void topic_sleep(struct check_rank *self)
{
    static const uint64_t bytes[4] = {1, 600, 40000, 300000};
    struct check_message message;
    int fd = check_wait_fd(self);
    if (fd < 0)
        check_skip(self, "it has no wait_fd: ranks that wait for it look every few milliseconds");
    if (fd != check_wait_fd(self))
        check_fail(self, "wait_fd is another one each time");
    size_t used = self->arena_used;
    for (uint32_t i = 0; i < WAKES; i++) {
        uint32_t from = i % 2;
        self->arena_used = used;
        check_prepare(self, &message, from, 1 - from, i, bytes[i / 2 % 4]);
        if (self->rank == from && check_random(self, 4) == 0)
            usleep((useconds_t)check_random(self, 2000));
        self->rank == from ? check_send(self, &message) : check_recv(self, &message);
        wait_asleep(self, &message, fd);
        if (self->rank != from)
            check_content(self, &message);
    }
    check_barrier(self);
    be_idle(self, fd);
    check_barrier(self);
}
