/* SPDX-License-Identifier: Apache-2.0 */
/* Topics: whose message is whose. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "tools/manta/plugin.h"

enum { SIZES = 16, ORDERED = 96 };

static uint32_t sizes(struct check_rank *self, uint64_t *bytes)
{
    uint64_t eager = check_eager_bytes(self);
    const uint64_t all[SIZES] = {0,    1,    7,     8,     64,      511,      512,   513,
                                 4096, 8191, 32769, 65537, 1 << 20, 0x123457, eager, eager + 1};
    memcpy(bytes, all, sizeof all);
    return eager < 1 << 20 ? SIZES : SIZES - 2;
}

/* All sizes to and from each peer. */
static void exchange(struct check_rank *self, uint32_t round)
{
    int sends_first = round % 2;
    uint64_t bytes[SIZES];
    uint32_t each = sizes(self, bytes), count = 0;
    struct check_message *messages = check_memory(self, sizeof *messages * 2 * SIZES * CHECK_RANKS);
    for (uint32_t peer = 0; peer < self->ranks; peer++) {
        if (peer == self->rank)
            continue;
        for (uint32_t i = 0; i < each; i++) {
            uint32_t index = round * SIZES + i;
            check_prepare(self, &messages[count++], self->rank, peer, index, bytes[i]);
            check_prepare(self, &messages[count++], peer, self->rank, index, bytes[i]);
        }
    }
    check_barrier(self);
    for (uint32_t i = 0; i < count; i += 2)
        sends_first ? check_send(self, &messages[i]) : check_recv(self, &messages[i + 1]);
    check_pass_time(self, NULL, 5 * MT_MS);
    for (uint32_t i = 0; i < count; i += 2)
        sends_first ? check_recv(self, &messages[i + 1]) : check_send(self, &messages[i]);
    check_wait(self, messages, count);
    for (uint32_t i = 1; i < count; i += 2)
        check_content(self, &messages[i]);
    check_barrier(self);
}

void topic_matching(struct check_rank *self)
{
    size_t used = self->arena_used;
    for (uint32_t round = 0; round < 4; round++) {
        exchange(self, round);
        self->arena_used = used;
    }
}

static void shuffle(struct check_rank *self, uint32_t *order, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t other = (uint32_t)check_random(self, i + 1), swap = order[i];
        order[i] = order[other];
        order[other] = swap;
    }
}

/* Short and long messages, posted in an order of its own at each end. */
void topic_ordering(struct check_rank *self)
{
    struct check_message *messages = check_memory(self, sizeof *messages * ORDERED);
    uint32_t order[ORDERED];
    for (uint32_t i = 0; i < ORDERED; i++)
        check_prepare(self, &messages[i], i % 3 == 0, i % 3 != 0, i,
                      i % 5 == 0 ? 100000 + i : i * 11);
    shuffle(self, order, ORDERED);
    check_barrier(self);
    for (uint32_t k = 0; k < ORDERED; k++) {
        uint32_t i = order[k], sender = i % 3 == 0;
        self->rank == sender ? check_send(self, &messages[i]) : check_recv(self, &messages[i]);
    }
    check_wait(self, messages, ORDERED);
    for (uint32_t i = 0; i < ORDERED; i++)
        if (self->rank != (i % 3 == 0))
            check_content(self, &messages[i]);
}

/* Rank 0 sends what rank 1 does not expect: one of them must find out, and rank 1 get no message.
 * */
static void disagree(struct check_rank *self, uint32_t hash, uint64_t bytes)
{
    struct check_message message;
    _Atomic int *found = check_flag(self, 0);
    uint64_t until_ns = mt_clock_now_ns() + CHECK_WAIT_S * MT_SECOND;
    check_prepare(self, &message, 0, 1, 0, self->rank == 0 ? bytes : 64);
    message.id.hash += self->rank == 0 ? hash : 0;
    int code = check_post(self, &message, self->rank == 0);
    if (code == MANTA_EMISMATCH)
        atomic_store(found, 1);
    else
        check_answer(self, CHECK_SEND, code, 0);
    while (!atomic_load(found)) {
        code = check_progress(self);
        int status = message.request.status;
        if (code == MANTA_EMISMATCH || status == MANTA_EMISMATCH)
            atomic_store(found, 1);
        else if (self->rank == 1 && status != MANTA_INPROGRESS)
            check_fail(self, "a message that it did not expect ended its receive with %d", status);
        else if (code < 0)
            check_answer(self, CHECK_PROGRESS, code, 0);
        if (mt_clock_now_ns() > until_ns)
            check_fail(self, "neither end saw in %d s that the other is in another call",
                       CHECK_WAIT_S);
    }
    check_answer(self, CHECK_ABORT, check_abort(self, MANTA_EMISMATCH), 0);
}

void topic_mismatch(struct check_rank *self)
{
    disagree(self, 1, 64);
}

void topic_length(struct check_rank *self)
{
    disagree(self, 0, 65);
}

/* What is left of an older communicator must not be taken for a message of this one. */
void topic_epoch(struct check_rank *self)
{
    static const uint64_t bytes[2] = {64, 100000};
    struct check_message old[2], own[2];
    for (uint32_t i = 0; i < 2; i++) {
        check_prepare(self, &own[i], 0, 1, i, bytes[i]);
        check_prepare(self, &old[i], 0, 1, i, bytes[i]);
        old[i].id.epoch ^= 0x5555;
        if (bytes[i] > 0 && self->rank == 0)
            old[i].memory[0] ^= 0xff;
    }
    for (uint32_t i = 0; i < 2 && self->rank == 0; i++) {
        int code = check_post(self, &old[i], 1);
        if (code != 0 && code != MANTA_EINVAL && code != MANTA_EAGAIN)
            check_answer(self, CHECK_SEND, code, 0);
    }
    check_pass_time(self, NULL, 20 * MT_MS);
    for (uint32_t i = 0; i < 2; i++)
        self->rank == 0 ? check_send(self, &own[i]) : check_recv(self, &own[i]);
    check_wait(self, own, 2);
    for (uint32_t i = 0; i < 2 && self->rank == 1; i++)
        check_content(self, &own[i]);
    check_barrier(self);
    check_answer(self, CHECK_ABORT, check_abort(self, MANTA_EABORTED), 0);
}
