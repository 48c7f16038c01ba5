/* SPDX-License-Identifier: Apache-2.0 */
/* The frames that the message protocol (transport/message.h) exchanges, and their form on a byte
 * stream. A wire may carry a frame in another form of its own, as long as it carries every field.
 */
#ifndef MT_TRANSPORT_FRAME_H
#define MT_TRANSPORT_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include <manta/transport.h>

enum mt_frame_type {
    MT_FRAME_EAGER = 1,  /* sender: the whole message, unasked */
    MT_FRAME_RTS = 2,    /* sender: I have this message (ready to send) */
    MT_FRAME_DATA = 3,   /* sender: `part` bytes of a message that was asked for */
    MT_FRAME_RTR = 4,    /* receiver: I have posted this receive (ready to receive) */
    MT_FRAME_CREDIT = 5, /* receiver: `bytes` chunks of the eager window are free again */
    MT_FRAME_HAVE = 6,   /* receiver: that RTS is a duplicate, the message is here already */
    MT_FRAME_AGAIN = 7   /* sender: what I was writing was lost on its way; ask me again */
};

struct mt_frame {
    uint32_t type;                /* enum mt_frame_type */
    uint32_t part;                /* bytes that follow this header; 0 but for EAGER, DATA, and RTR
                                   * with an offer (mt_wire.offer) */
    uint64_t bytes;               /* of the whole message; DATA: of it, from this part on; CREDIT:
                                   * chunks */
    struct manta_transport_id id; /* CREDIT: only the epoch */
};

enum { MT_FRAME_BYTES = 40, MT_FRAME_OFFER_BYTES = 256 };

/* 1 if this frame goes from the sender of a message to its receiver, 0 if it answers. */
static inline int mt_frame_is_forward(uint32_t type)
{
    return type <= MT_FRAME_DATA || type == MT_FRAME_AGAIN;
}

/* To MT_FRAME_BYTES bytes, little endian. */
void mt_frame_encode(const struct mt_frame *frame, uint8_t *wire);
/* Pure: 0, or MANTA_ETRANSPORT when the bytes are no frame (type, marks, part against bytes). */
int mt_frame_decode(const uint8_t *wire, struct mt_frame *frame_out);

#endif
