/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that peers read in place. Its owner *lends* a segment (see transport/memory.h) to a peer:
 * sends its descriptor as a record over the stream that connected them. The peer maps it for
 * reading and counts the record in its credit line; only then is it used, so that whatever is
 * published in place can be read. Until then payloads are staged, and while the peer cannot map
 * it: it says so, and is asked again after some calls. A segment that its owner has freed is told
 * by a record, too. The owner counts its records in its credit line; they are read when a payload
 * is looked for, now and then among short ones, and before a sleep.
 *
 * An owner whose call fails with memory lent out withdraws (segment.h): it may write to the memory
 * as soon as the call returns, so whoever is still reading must not take what it read for data.
 */
#ifndef MT_TRANSPORT_SHM_LEND_H
#define MT_TRANSPORT_SHM_LEND_H

#include "transport/memory.h"
#include "transport/shm/channel.h"
#include "transport/shm/shm.h"

struct mt_shm_team;

/* Stores and loads of plain memory stay on their side. ThreadSanitizer knows no fences, and has its
 * own order of such a pair. */
static inline void mt_shm_read_fence(void)
{
#if defined(__SANITIZE_THREAD__)
    atomic_signal_fence(memory_order_acquire);
#else
    atomic_thread_fence(memory_order_acquire);
#endif
}

static inline void mt_shm_write_fence(void)
{
#if defined(__SANITIZE_THREAD__)
    atomic_signal_fence(memory_order_release);
#else
    atomic_thread_fence(memory_order_release);
#endif
}

/* A segment of a peer, as this rank reads it. */
struct mt_shm_mapping {
    struct mt_shm_mapping *next; /* among those that are to be unmapped */
    uint64_t segment;
    const uint8_t *base;
    uint64_t bytes;
};

/* Between this rank and a peer. */
struct mt_shm_lending {
    /* Out. */
    uint64_t lent[MT_MEMORY_SLOTS];   /* segments that were sent */
    uint64_t record[MT_MEMORY_SLOTS]; /* in which record, counted from 1 */
    uint64_t sent, mapped;            /* records; those that the peer is known to have mapped */
    uint32_t hold, hold_next; /* looks until one that refuses is asked; after the next time */
    uint32_t asked;           /* it was, and has not answered yet */
    /* In. */
    struct mt_shm_mapping *mappings[MT_MEMORY_SLOTS];
    uint64_t received;
    uint32_t refuses; /* this rank could not map one of them, and maps none until it is asked */
    uint32_t refused; /* how often */
    uint32_t partial; /* bytes of a record */
    uint8_t bytes[32];
    int passed; /* descriptor that came with them, or -1 */
};

/* Where these bytes lie, if all members of the team have them mapped. Otherwise nowhere, and the
 * segment was sent to those who have not. */
struct mt_memory_place mt_shm_lend(struct mt_shm_endpoint *endpoint, const struct mt_shm_team *team,
                                   const void *address, uint64_t bytes);
/* Tell the peers what was freed since the last time. */
void mt_shm_lend_tell(struct mt_shm_endpoint *endpoint);
static inline void mt_shm_lend_forget(struct mt_shm_endpoint *endpoint)
{
    /* Only a hint, so it pairs with nothing. */
    if (__builtin_expect(atomic_load_explicit(&mt_memory_changes, memory_order_relaxed) !=
                             endpoint->memory_changes,
                         0))
        mt_shm_lend_tell(endpoint);
}

/* Read the peer's records. */
void mt_shm_lend_receive(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer);
static inline void mt_shm_lend_look(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    const struct mt_shm_credit *credit = peer->channel->peer_credit;
    /* Pairs with the release store after a record was sent. */
    if (__builtin_expect(
            atomic_load_explicit(&credit->lent, memory_order_acquire) != peer->records_received, 0))
        mt_shm_lend_receive(endpoint, peer);
}
/* Bytes of a segment of the peer: 0, or MANTA_ETRANSPORT: there are no such. */
int mt_shm_lend_find(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer,
                     const struct mt_memory_place *place, uint64_t bytes,
                     const uint8_t **bytes_out);
/* Before a sleep: look at all peers' records. */
void mt_shm_lend_look_all(struct mt_shm_endpoint *endpoint);
/* No operation is under way: unmap what is not needed any more. */
void mt_shm_lend_settle(struct mt_shm_endpoint *endpoint);
/* Unmap all that is the peer's. */
void mt_shm_lend_close(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer);

/* This rank gives up a call that others may be reading for. */
void mt_shm_withdraw(struct mt_shm_endpoint *endpoint);
/* After something was read in place: has its owner given up the call? */
static inline int mt_shm_is_withdrawn(const struct mt_shm_peer *peer)
{
    /* The reads before stay before. Pairs with the fence in mt_shm_withdraw(). */
    mt_shm_read_fence();
    return atomic_load_explicit(&mt_shm_header_of(peer->base)->withdrawn, memory_order_relaxed) !=
           0;
}

#endif
