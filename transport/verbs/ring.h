/* SPDX-License-Identifier: Apache-2.0 */
/* Short frames, written into memory that their receiver polls; see ring.c. */
#ifndef MT_TRANSPORT_VERBS_RING_H
#define MT_TRANSPORT_VERBS_RING_H

#include <stdint.h>

#include "transport/verbs/library.h"

enum {
    MT_VERBS_RINGS = 64, /* that a rank polls, at most */
    /* Of a ring; a power of two. Who only receives says how far it is once in half of them, which
     * takes it a write. */
    MT_VERBS_RING_SLOTS = 128,
    MT_VERBS_RING_SLOT_BYTES = 256,
    MT_VERBS_RING_BYTES = MT_VERBS_RING_SLOTS * MT_VERBS_RING_SLOT_BYTES + 64,
    MT_VERBS_TAIL_BYTES = 16 /* behind a frame in a slot */
};
#define MT_VERBS_RING_NAP_NS UINT64_C(100000) /* the first nap; each next one is twice as long */

struct mt_verbs_endpoint;
struct mt_verbs_lane;
struct mt_verbs_peer;

/* What a rank says of the ring that a peer writes. */
struct mt_verbs_credit {
    uint8_t taken[2]; /* all frames before this number were; its lower half */
    uint8_t polls;    /* 1: it looks there, unless its line tells of more sleeps than these */
    uint8_t sleeps;
};

/* Short frames are written into the receiver's ring while it polls; see ring.c. */
struct mt_verbs_ring {
    uint8_t *slots;  /* that the peer writes, and its line; NULL: none */
    uint64_t remote; /* the address of the same there, which this rank writes; 0: none */
    uint32_t round, round_there; /* how often numbers of frames in, and out, have begun again */
    uint32_t taken;              /* there: all frames before this one */
    uint32_t after;              /* all before this one have to be: a lane has died */
    uint8_t polls_there, sleeps_there; /* as its last frame said */
    uint8_t sleeps;                    /* of this rank, that the peer was told of */
    uint8_t calm;                      /* frames that came since, up to a few */
    uint8_t is_given;                  /* the peer was told that it is polled, since */
    uint8_t untold;                    /* frames that came since the peer was told of any */
};

/* The next ring, if there is one, is the peer's. */
void mt_verbs_ring_assign(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
/* May frame `number` with `bytes` behind its head go into the peer's ring? */
int mt_verbs_ring_fits(struct mt_verbs_peer *peer, uint32_t number, uint32_t bytes);
/* The write of a frame that fits, whose bytes lie at `start`, with room behind them. */
void mt_verbs_ring_fill(struct mt_verbs_peer *peer, const struct mt_verbs_lane *lane,
                        uint32_t number, uint8_t *start, uint32_t bytes, struct ibv_send_wr *work,
                        struct ibv_sge *place);
/* What this rank says in a frame, and what the peer has said. */
struct mt_verbs_credit mt_verbs_ring_say(struct mt_verbs_peer *peer);
void mt_verbs_ring_hear(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                        const struct mt_verbs_credit *credit);
/* Take frames that have come. 1 if there were any. */
int mt_verbs_ring_take(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
int mt_verbs_rings_take(struct mt_verbs_endpoint *endpoint);
/* This rank polls no more. */
void mt_verbs_rings_sleep(struct mt_verbs_endpoint *endpoint);
/* How long it may sleep for its rings' sake; 0: as long as it likes. */
uint64_t mt_verbs_rings_within_ns(struct mt_verbs_endpoint *endpoint);

#endif
