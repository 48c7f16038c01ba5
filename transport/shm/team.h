/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A team: the members of fused steps, as one of them sees them. Each member holds the team in a
 * slot of its segment. The operations of a team follow each other in one order on all members, so
 * that *ticks* number what is published: at tick t each publisher of that tick writes entry
 * t mod MT_SHM_TICKS of its own segment (payload first, then the flag: tick and hash), and `done`
 * in a member's segment says up to which tick that member has consumed everything.
 *
 *  - Entry t may be overwritten at tick t + MT_SHM_TICKS, when all others are done with t. Where
 *    data depends both ways (all publish, all read) reading the others' first tick of an operation
 *    proves that they are done with all earlier ones, and `done` is not looked at.
 *  - Payloads longer than MT_SHM_INLINE lie in the publisher's staging ring, handed out in a circle
 *    and released by *marks*: (tick, end). A longest payload is a chunk, 1/MT_SHM_CHUNKS of the
 *    ring. Two-phase kernels have two chunks in flight and release one late; a piece skipped at the
 *    ring's end and credit not yet reported make up to one more each: MT_SHM_WINDOW in all.
 *  - A payload in memory that is lent to all members (lend.h) is published in place. Members report
 *    what they have read there as soon as the operation is over, and it is over for the publisher
 *    when all have.
 *  - `done` is stored when a quarter of the ticks or a chunk of payload has not been reported yet,
 *    which is less than what makes a writer wait.
 */
#ifndef MT_TRANSPORT_SHM_TEAM_H
#define MT_TRANSPORT_SHM_TEAM_H

#include <string.h>

#include "transport/memory.h"
#include "transport/shm/shm.h"

enum {
    MT_SHM_HISTORY = 2 * MT_SHM_TICKS, /* ticks whose operations are remembered */
    MT_SHM_HASH_BITS = 20
};
#define MT_SHM_HASH_MASK ((UINT64_C(1) << MT_SHM_HASH_BITS) - 1)

/* A flag: 44 bits of tick + 1, 20 bits of hash. */
static inline uint64_t mt_shm_flag(uint64_t tick, uint32_t hash)
{
    return (tick + 1) << MT_SHM_HASH_BITS | ((hash ^ hash >> MT_SHM_HASH_BITS) & MT_SHM_HASH_MASK);
}

/* Where the entry of a tick is. Later ones lie lower: a core that reads upwards fetches what lies
 * ahead, too, and would take the next entry from who writes it. */
static inline uint64_t mt_shm_entry_at(uint64_t tick)
{
    return (MT_SHM_TICKS - 1 - tick % MT_SHM_TICKS) * MT_SHM_ENTRY;
}

#define MT_SHM_NOBODY UINT32_C(0xffffffff)  /* no member index */
#define MT_SHM_IN_PLACE (UINT64_C(1) << 63) /* in the first word of a payload's place */

struct mt_shm_op;
struct mt_shm_group;

/* Beside the flag, where the payload is not. */
struct mt_shm_where {
    uint64_t at;      /* in the publisher's ring; or MT_SHM_IN_PLACE and the place in a segment */
    uint64_t segment; /* of transport/memory.h */
};

struct mt_shm_member {
    uint32_t rank;
    uint32_t resolved;        /* the fields below are set */
    struct mt_shm_peer *peer; /* NULL: this rank */
    const uint8_t *entries, *ring;
    const _Atomic uint64_t *done;
    uint64_t done_seen; /* when it was last loaded */
};

struct mt_shm_team {
    uint64_t key;
    uint32_t slot, count, me;
    uint32_t is_part;    /* of a grouped one: no plan names it */
    int failed;          /* code of the first failure, or 0; then nothing is posted any more */
    uint32_t unresolved; /* members whose team slot is not known yet */

    uint64_t tick;       /* first one of the operation at the head */
    uint64_t consumed;   /* this rank is done with all ticks below */
    uint64_t reported;   /* what the others were told of that */
    uint64_t known_done; /* all others are done with all ticks below */
    uint64_t unreported_bytes;
    uint32_t owes_report; /* something was read in place in the operation at the head */
    uint32_t waits;       /* looks for others that were in vain */
    uint32_t last_root;   /* of a broadcast that did not fit into a line, or MT_SHM_NOBODY */

    uint8_t *entries, *ring; /* of this rank */
    _Atomic uint64_t *done;
    uint64_t ring_bytes, chunk_bytes;
    uint64_t ring_head, ring_tail;    /* ever handed out, ever released */
    uint64_t ring_last, ring_claimed; /* bytes of the last piece; claimed for the next one */
    uint64_t mark_tick[MT_SHM_TICKS], mark_end[MT_SHM_TICKS]; /* tick + 1, or 0 */

    struct mt_shm_distance distance;
    uint32_t hashes[MT_SHM_HISTORY]; /* by tick, of what was consumed */

    struct mt_shm_op *head, *tail;
    struct mt_shm_group *group; /* NULL: it has none */
    const void **sources;       /* [count] room for mt_shm_combine() */
    struct mt_shm_member members[];
};

/* The team of these members, made at its first use. 0, MANTA_ENOMEM, or MANTA_ENOTSUP when this
 * rank is in too many different ones. */
int mt_shm_team_get(struct mt_shm_endpoint *endpoint, const struct manta_plan_fused *fused,
                    struct mt_shm_team **team_out);
/* One for a slot of its own that is the same on all members. 0 or MANTA_ENOMEM. */
int mt_shm_team_make(struct mt_shm_endpoint *endpoint, const struct manta_plan_fused *fused,
                     uint32_t slot, struct mt_shm_team **team_out);
void mt_shm_team_free(struct mt_shm_team *team);
/* Of how many subsets of the node's ranks this rank can be in teams at a time. */
uint32_t mt_shm_team_subsets(const struct mt_shm_endpoint *endpoint);
/* 0 when every member is connected and has made the team, too; else MANTA_INPROGRESS or an error
 * with *peer_out. */
int mt_shm_team_ready(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                      uint32_t *peer_out);

/* A long payload has gone: see how far the next member is, if it is time to. */
void mt_shm_team_measure(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                         uint64_t bytes);

/* Room for a publication at this tick: 0, MANTA_EAGAIN, or an error with *peer_out. Where its
 * payload goes: into the entry, or into a piece of the ring that stays taken until `mark`. */
int mt_shm_team_room(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint64_t tick,
                     uint32_t *peer_out);
int mt_shm_team_ring(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint64_t bytes,
                     uint8_t **payload_out, uint32_t *peer_out);
static inline uint8_t *mt_shm_team_inline(const struct mt_shm_team *team, uint64_t tick)
{
    return team->entries + mt_shm_entry_at(tick) + sizeof(uint64_t);
}
/* The next piece will be like the last one: claim up to `most` more bytes of it. */
void mt_shm_team_claim_ring(struct mt_shm_team *team, uint64_t most);
/* Ring memory up to here (ring_head after it was taken) is free when all are done with `tick`. */
void mt_shm_team_mark(struct mt_shm_team *team, uint64_t tick, uint64_t ring_end);
/* Wake those members who may wait for what was just stored. */
static inline void mt_shm_team_wake(struct mt_shm_endpoint *endpoint,
                                    const struct mt_shm_team *team)
{
    for (uint32_t i = 0; i < team->count; i++)
        if (i != team->me && team->members[i].peer->base != NULL)
            mt_shm_ring(endpoint, team->members[i].peer);
}

/* Make the payload visible to all members; NULL: it lies in place, and mt_shm_team_place() was
 * called. */
static inline void mt_shm_team_publish(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                                       uint64_t tick, uint32_t hash, const uint8_t *payload)
{
    uint8_t *beside = mt_shm_team_inline(team, tick);
    uint8_t *entry = beside - sizeof(uint64_t);
    if (payload != NULL && payload != beside) {
        uint64_t at = (uint64_t)(payload - team->ring);
        memcpy(beside, &at, sizeof(at));
    }
    mt_shm_hook(endpoint);
    /* Pairs with the acquire load in mt_shm_team_look(). */
    atomic_store_explicit((_Atomic uint64_t *)(void *)entry, mt_shm_flag(tick, hash),
                          memory_order_release);
    mt_shm_team_wake(endpoint, team);
}

/* Claim the entry of the next tick, up to where such a payload ends. */
static inline void mt_shm_team_claim_next(const struct mt_shm_team *team, uint64_t tick,
                                          uint64_t bytes)
{
    mt_shm_claim(team->entries + mt_shm_entry_at(tick + 1), sizeof(uint64_t) + bytes);
}

/* The payload of this tick lies there. */
static inline void mt_shm_team_place(const struct mt_shm_team *team, uint64_t tick,
                                     const struct mt_memory_place *place)
{
    const struct mt_shm_where where = {MT_SHM_IN_PLACE | place->offset, place->segment};
    memcpy(mt_shm_team_inline(team, tick), &where, sizeof(where));
}

/* The flag is not the expected one: MANTA_INPROGRESS, MANTA_EMISMATCH or MANTA_ETRANSPORT. */
int mt_shm_team_other(struct mt_shm_endpoint *endpoint, const struct mt_shm_member *from,
                      uint64_t flag, uint64_t expected);
/* Where the flag of a member's publication at this tick is. */
static inline const uint8_t *mt_shm_team_entry(const struct mt_shm_member *member, uint64_t tick)
{
    return member->entries + mt_shm_entry_at(tick);
}
/* Has the member published at this tick? 0 and the entry's payload, MANTA_INPROGRESS,
 * MANTA_EMISMATCH or MANTA_ETRANSPORT. */
static inline int mt_shm_team_look(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                                   uint32_t member, uint64_t tick, uint32_t hash,
                                   const uint8_t **entry_out)
{
    const struct mt_shm_member *from = &team->members[member];
    const uint8_t *entry = mt_shm_team_entry(from, tick);
    /* Pairs with the release store in mt_shm_team_publish(). */
    uint64_t flag =
        atomic_load_explicit((const _Atomic uint64_t *)(const void *)entry, memory_order_acquire);
    uint64_t expected = mt_shm_flag(tick, hash);
    *entry_out = entry + sizeof(flag);
    if (flag != expected)
        return mt_shm_team_other(endpoint, from, flag, expected);
    mt_shm_hook(endpoint);
    return 0;
}
/* A piece of a payload: how far from where the entry points to, if that is staged or in place. */
struct mt_shm_want {
    uint64_t staged_at, in_place_at;
    uint64_t bytes;
};
/* Where that piece of the member's payload is: 0 or MANTA_ETRANSPORT. */
int mt_shm_team_locate(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint32_t member,
                       const uint8_t *entry, const struct mt_shm_want *want,
                       const uint8_t **payload_out);
/* While this rank waits for others: have they published, at the last tick before its operation,
 * what it has not read there? Who only publishes goes on, and would else wait for ever for a member
 * that was in another call. 0, or MANTA_EMISMATCH with *peer_out. */
int mt_shm_team_compare(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                        uint32_t *peer_out);
/* Has a member given up the call whose memory was read in place? Then nothing comes of it, and the
 * news of that is on its way. */
int mt_shm_team_withdrawn(const struct mt_shm_team *team);
/* Are all others done with all ticks below? 0, MANTA_EAGAIN, or an error with *peer_out. */
int mt_shm_team_done(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint64_t tick,
                     uint32_t *peer_out);
/* Tell the others up to where this rank is done. */
void mt_shm_team_report(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team, uint32_t hash);
/* This rank is done with all ticks below, the last of which took this much of a ring; those not yet
 * consumed were of the operation with this hash. */
static inline void mt_shm_team_consumed(struct mt_shm_endpoint *endpoint, struct mt_shm_team *team,
                                        uint64_t tick, uint64_t ring_bytes, uint32_t hash)
{
    for (; team->consumed < tick; team->consumed++)
        team->hashes[team->consumed % MT_SHM_HISTORY] = hash;
    team->unreported_bytes += ring_bytes;
    if (tick - team->reported >= MT_SHM_TICKS / 4 || team->unreported_bytes >= team->chunk_bytes)
        mt_shm_team_report(endpoint, team, hash);
}

/* All others are known to be done with all ticks below. */
static inline void mt_shm_team_known(struct mt_shm_team *team, uint64_t tick)
{
    if (tick > team->known_done)
        team->known_done = tick;
}

#endif
