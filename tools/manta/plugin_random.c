/* SPDX-License-Identifier: Apache-2.0 */
/* The topic of many random operations. */
#include <string.h>

#include "tools/manta/plugin.h"

enum { OPERATIONS = 10000, BATCH = 50 };

/* A size, mostly short; the same at both ends. */
static uint64_t size_of(uint32_t index)
{
    uint64_t random = index * UINT64_C(0x9e3779b97f4a7c15);
    random ^= random >> 29;
    uint64_t limit = random % 16 == 0 ? 200000 : random % 4 == 0 ? 9000 : 600;
    return random / 64 % limit;
}

/* Each batch: messages between all pairs, posted by each rank in an order of its own, with looks,
 * sleeps that are begun and broken off, and status asked in between. */
static void run_batch(struct check_rank *self, struct check_message *messages, uint32_t first)
{
    uint32_t own[BATCH], count = 0;
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t index = first + i, from = index % self->ranks;
        uint32_t to = (from + 1 + index / self->ranks % (self->ranks - 1)) % self->ranks;
        if (self->rank != from && self->rank != to)
            continue;
        check_prepare(self, &messages[count], from, to, index, size_of(index));
        own[count++] = from == self->rank;
    }
    for (uint32_t left = count; left > 0; left--) {
        uint32_t pick = (uint32_t)check_random(self, left);
        struct check_message message = messages[pick];
        uint32_t is_send = own[pick];
        messages[pick] = messages[left - 1];
        own[pick] = own[left - 1];
        messages[left - 1] = message;
        own[left - 1] = is_send;
        is_send ? check_send(self, &messages[left - 1]) : check_recv(self, &messages[left - 1]);
        if (check_random(self, 3) == 0)
            (void)check_peer_status(self, messages[left - 1].peer);
        if (check_random(self, 5) == 0) {
            (void)check_arm(self);
            check_disarm(self);
        }
        for (uint64_t looks = check_random(self, 4); looks > 0; looks--)
            (void)check_progress(self);
    }
    check_wait(self, messages, count);
    for (uint32_t i = 0; i < count; i++)
        if (!own[i])
            check_content(self, &messages[i]);
}

void topic_random(struct check_rank *self)
{
    struct check_message messages[BATCH];
    size_t used = self->arena_used;
    for (uint32_t first = 0; first < OPERATIONS; first += BATCH) {
        self->arena_used = used;
        run_batch(self, messages, first);
    }
    check_barrier(self);
}
