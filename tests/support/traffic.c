/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/traffic.h"

#include <stdlib.h>
#include <string.h>

static uint8_t pattern(uint64_t i, uint32_t from, uint32_t number)
{
    return (uint8_t)(i * 13 + i / 4096 + from * 101 + number * 7);
}

uint8_t *traffic_filled(uint64_t bytes, uint32_t from, uint32_t number)
{
    uint8_t *memory = malloc(bytes + 1);
    for (uint64_t i = 0; i < bytes; i++)
        memory[i] = pattern(i, from, number);
    return memory;
}

int traffic_differs(const uint8_t *memory, uint64_t bytes, uint32_t from, uint32_t number)
{
    for (uint64_t i = 0; i < bytes; i++) {
        if (memory[i] != pattern(i, from, number))
            return 1;
    }
    return memory[bytes] != 0xee;
}

static uint32_t draw(uint64_t *random, uint32_t below)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*random >> 33) % below;
}

struct item {
    uint32_t peer, number, receive;
    uint8_t *memory;
};

static uint32_t make_items(const struct endpoints_rank *self, const struct traffic *traffic,
                           struct item *items)
{
    uint32_t count = 0;
    for (uint32_t peer = 0; peer < self->ranks; peer++) {
        for (uint32_t n = 0; peer != self->rank && n < traffic->size_count; n++) {
            uint8_t *target = malloc(traffic->sizes[n] + 1);
            memset(target, 0xee, traffic->sizes[n] + 1);
            items[count++] =
                (struct item){peer, n, 0, traffic_filled(traffic->sizes[n], self->rank, n)};
            items[count++] = (struct item){peer, n, 1, target};
        }
    }
    return count;
}

static int run_round(struct endpoints_rank *self, const struct traffic *traffic, uint64_t call,
                     uint64_t *random)
{
    uint32_t most = 2 * traffic->size_count * self->ranks;
    struct item *items = calloc(most, sizeof(*items));
    struct manta_transport_request *requests = calloc(most, sizeof(*requests));
    uint32_t count = make_items(self, traffic, items);
    int failed = 0;
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t j = draw(random, i + 1);
        struct item keep = items[i];
        items[i] = items[j];
        items[j] = keep;
    }
    for (uint32_t i = 0; i < count && !failed; i++) {
        uint64_t bytes = traffic->sizes[items[i].number];
        int code = items[i].receive ? endpoints_recv(self, items[i].peer, call, items[i].number,
                                                     items[i].memory, bytes, &requests[i])
                                    : endpoints_send(self, items[i].peer, call, items[i].number,
                                                     items[i].memory, bytes, &requests[i]);
        if (code != 0)
            failed = endpoints_fail(self, "post: %d", code);
        if (draw(random, 4) == 0)
            self->transport->progress(self->endpoint);
    }
    failed = failed || endpoints_wait(self, requests, count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t bytes = traffic->sizes[items[i].number];
        if (!failed && requests[i].status != 0)
            failed = endpoints_fail(self, "status %d", requests[i].status);
        if (!failed && items[i].receive &&
            traffic_differs(items[i].memory, bytes, items[i].peer, items[i].number))
            failed = endpoints_fail(self, "wrong bytes from %u, size %llu", items[i].peer,
                                    (unsigned long long)bytes);
        free(items[i].memory);
    }
    free(items);
    free(requests);
    return failed;
}

int traffic_rounds(struct endpoints_rank *self)
{
    const struct traffic *traffic = self->arg;
    uint64_t random = self->rank * 77 + 5;
    int failed = 0;
    for (uint32_t round = 0; round < traffic->rounds && !failed; round++)
        failed = run_round(self, traffic, round + 1, &random);
    return failed;
}

int traffic_run(struct endpoints_rank *self)
{
    int failed = traffic_rounds(self);
    endpoints_barrier(self); /* who leaves early would have to drain */
    return failed;
}
