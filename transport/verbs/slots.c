/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The slots that frames are sent from. They are for all peers: who is first takes what is promised
 * to nobody. Each peer is promised a share when it is connected, and finds that whatever others do
 * that take nothing. So a promise has to be kept before it is made: slots are held back for peers
 * to come, at most half of the first block. When their shares have used that up another block is
 * made, all of it for the next ones. The memory follows the number of peers that are connected, not
 * that of ranks; and however many there are, half a block is for who is first.
 */
#include <errno.h>
#include <string.h>

#include "transport/verbs/verbs.h"

enum {
    SLOTS_LEAST = 128,
    SLOTS_MOST = MT_VERBS_BLOCK_SLOTS, /* of the first block, and of what frames arrive in */
    SLOTS_A_RANK = 16
};

static int no_memory(struct mt_verbs_endpoint *endpoint)
{
    return mt_messages_error_set(endpoint->messages, MANTA_ENOMEM, MANTA_PLAN_NONE, 0,
                                 "no memory for the frames of the verbs transport");
}

static void free_block(struct mt_verbs_endpoint *endpoint, struct mt_verbs_block *block)
{
    for (uint32_t i = 0; i < endpoint->rail_count; i++) {
        if (block->mr[i] != NULL)
            endpoint->library->dereg_mr(block->mr[i]);
    }
    endpoint->host->free(block->memory);
}

static int fill_block(struct mt_verbs_endpoint *endpoint, struct mt_verbs_block *block,
                      size_t bytes)
{
    block->memory = endpoint->host->alloc(bytes, 4096);
    if (block->memory == NULL)
        return no_memory(endpoint);
    memset(block->memory, 0, bytes);
    errno = 0;
    for (uint32_t i = 0; i < endpoint->rail_count; i++) {
        struct mt_verbs_rail *rail = &endpoint->rails[i];
        block->mr[i] = mt_verbs_show(endpoint, rail, block->memory, bytes, 0);
        if (block->mr[i] == NULL)
            return mt_verbs_lacks(endpoint, rail, "registered memory", errno);
    }
    return 0;
}

static int add_block(struct mt_verbs_endpoint *endpoint, uint32_t count)
{
    struct mt_verbs_slots *slots = &endpoint->sends;
    struct mt_verbs_block block = {0};
    uint32_t first = slots->block_count * MT_VERBS_BLOCK_SLOTS;
    int code = fill_block(endpoint, &block, (size_t)count * MT_VERBS_SLOT_BYTES);
    if (code != 0) {
        free_block(endpoint, &block);
        return code;
    }
    slots->blocks[slots->block_count++] = block;
    slots->count += count;
    for (uint32_t i = 0; i < count; i++)
        slots->free[slots->free_count++] = first + i;
    return 0;
}

/* Blocks that all ranks' shares may need. */
static uint32_t blocks_most(const struct mt_verbs_endpoint *endpoint)
{
    return 2 + (uint32_t)((uint64_t)endpoint->ranks * endpoint->sends.share / MT_VERBS_BLOCK_SLOTS);
}

uint32_t mt_verbs_slots_count(const struct mt_verbs_endpoint *endpoint)
{
    uint64_t slots = (uint64_t)endpoint->ranks * SLOTS_A_RANK;
    return slots < SLOTS_LEAST ? SLOTS_LEAST : slots > SLOTS_MOST ? SLOTS_MOST : (uint32_t)slots;
}

int mt_verbs_slots_start(struct mt_verbs_endpoint *endpoint)
{
    const struct manta_transport_host *host = endpoint->host;
    struct mt_verbs_slots *slots = &endpoint->sends;
    uint32_t count = mt_verbs_slots_count(endpoint), share = count / 2 / endpoint->ranks;
    memset(slots, 0, sizeof(*slots));
    slots->share = share < 1 ? 1 : share > MT_VERBS_SIGNAL_EVERY ? MT_VERBS_SIGNAL_EVERY : share;
    uint64_t of_all = (uint64_t)(endpoint->ranks - 1) * slots->share;
    slots->held_back = of_all < count / 2 ? (uint32_t)of_all : count / 2;
    slots->promised = slots->held_back;
    size_t most = blocks_most(endpoint);
    slots->blocks = host->alloc(most * sizeof(*slots->blocks), 64);
    slots->free = host->alloc(most * MT_VERBS_BLOCK_SLOTS * sizeof(*slots->free), 64);
    if (slots->blocks == NULL || slots->free == NULL)
        return no_memory(endpoint);
    return add_block(endpoint, count);
}

int mt_verbs_slots_promise(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    struct mt_verbs_slots *slots = &endpoint->sends;
    if (peer->has_share)
        return 0;
    if (slots->held_back < slots->share) {
        int code = add_block(endpoint, MT_VERBS_BLOCK_SLOTS);
        if (code != 0)
            return code;
        slots->held_back += MT_VERBS_BLOCK_SLOTS;
        slots->promised += MT_VERBS_BLOCK_SLOTS;
    }
    slots->held_back -= slots->share;
    peer->has_share = 1;
    return 0;
}

void mt_verbs_slots_stop(struct mt_verbs_endpoint *endpoint)
{
    struct mt_verbs_slots *slots = &endpoint->sends;
    for (uint32_t i = 0; i < slots->block_count; i++)
        free_block(endpoint, &slots->blocks[i]);
    endpoint->host->free(slots->blocks);
    endpoint->host->free(slots->free);
    memset(slots, 0, sizeof(*slots));
}
