/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A channel carries the frames of the message protocol from one rank to one other. It lies in the
 * sender's segment: a circle of lines, each with a flag (the frame's number), the frame's fields
 * and up to MT_SHM_FRAME_INLINE bytes of payload; longer payloads lie in the channel's slice,
 * handed out in a circle. What the receiver has consumed stands in the credit line of its own
 * channel back to the sender.
 */
#ifndef MT_TRANSPORT_SHM_CHANNEL_H
#define MT_TRANSPORT_SHM_CHANNEL_H

#include "transport/message.h"
#include "transport/shm/shm.h"

struct mt_shm_line {
    _Atomic uint64_t flag; /* number of the frame + 1 */
    uint64_t bytes, call;
    uint32_t type, part, segment, number, hash;
    uint8_t payload[20]; /* or its position in the slice, 8 bytes */
};

struct mt_shm_credit {
    _Atomic uint64_t frames; /* consumed */
    _Atomic uint64_t slice;  /* bytes of the slice consumed */
    _Atomic uint64_t lent;   /* records of lend.h sent */
    _Atomic uint64_t mapped; /* records received, and what they lend is mapped */
};

enum { MT_SHM_FRAME_INLINE = sizeof(((struct mt_shm_line *)0)->payload) };

_Static_assert(sizeof(struct mt_shm_line) == MT_SHM_LINE, "a frame is a cache line");

/* Both directions between this rank and a peer. */
struct mt_shm_channel {
    /* Out. */
    struct mt_shm_line *lines;
    uint8_t *slice;
    const struct mt_shm_credit *peer_credit;
    uint64_t sent, slice_head;          /* ever */
    uint64_t known_frames, known_slice; /* the peer's credit as last seen */
    uint64_t frames;                    /* of the geometry, in each direction */
    uint64_t measured_frames;           /* the same, by measure() */
    int blocked;                        /* the message layer was refused */
    /* In. */
    const struct mt_shm_line *peer_lines;
    const uint8_t *peer_slice;
    struct mt_shm_credit *credit;
    uint64_t received, slice_tail;
    uint64_t reported; /* frames */
    struct mt_shm_distance distance;
};

extern const struct mt_wire mt_shm_wire;

/* The peer is mapped: find the channels. The peer has its struct mt_shm_channel from open on. */
void mt_shm_channel_open(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer);
/* Deliver what has arrived from this peer and hand over what waited; 1 if anything happened. */
int mt_shm_channel_progress(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer);

#endif
