/* SPDX-License-Identifier: Apache-2.0 */
/* The slots that frames are sent from; see slots.c. */
#ifndef MT_TRANSPORT_VERBS_SLOTS_H
#define MT_TRANSPORT_VERBS_SLOTS_H

#include <stddef.h>
#include <stdint.h>

#include "transport/verbs/library.h"

struct mt_verbs_endpoint;
struct mt_verbs_peer;

enum {
    MT_VERBS_RAILS = 4,
    MT_VERBS_SLOT_BYTES = 8256, /* a frame with its head; multiple of a cache line */
    MT_VERBS_BLOCK_SLOTS = 1024
};

/* Only the first one may have less than MT_VERBS_BLOCK_SLOTS. */
struct mt_verbs_block {
    uint8_t *memory;
    struct ibv_mr *mr[MT_VERBS_RAILS];
};

struct mt_verbs_slots {
    struct mt_verbs_block *blocks;
    uint32_t block_count, count;
    uint32_t *free;
    uint32_t free_count;
    uint32_t share;     /* that each peer finds, whatever others do that take nothing */
    uint32_t promised;  /* that peers have less than their shares, with what is held back */
    uint32_t held_back; /* for shares of peers that are not connected yet */
};

/* How many there are at the beginning: of these, and of those that frames arrive in. */
uint32_t mt_verbs_slots_count(const struct mt_verbs_endpoint *endpoint);
/* 0 or MANTA_E*, with the error set; the rails have been started. */
int mt_verbs_slots_start(struct mt_verbs_endpoint *endpoint);
void mt_verbs_slots_stop(struct mt_verbs_endpoint *endpoint);
/* The peer's share, at the first call. 0 or MANTA_E*, with the error set. */
int mt_verbs_slots_promise(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);

static inline const struct mt_verbs_block *mt_verbs_slot_block(const struct mt_verbs_slots *slots,
                                                               uint32_t slot)
{
    return &slots->blocks[slot / MT_VERBS_BLOCK_SLOTS];
}

static inline uint8_t *mt_verbs_slot(const struct mt_verbs_slots *slots, uint32_t slot)
{
    return mt_verbs_slot_block(slots, slot)->memory +
           (size_t)(slot % MT_VERBS_BLOCK_SLOTS) * MT_VERBS_SLOT_BYTES;
}

#endif
