/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/frame.h"

#include "core/bytes.h"

/*
 * offset  0 type   1 mark 'M'   2-3 zero   4 hash   8 call   16 epoch   20 segment   24 number
 *        28 part  32 bytes
 */
enum { MARK = 'M' };

void mt_frame_encode(const struct mt_frame *frame, uint8_t *wire)
{
    wire[0] = (uint8_t)frame->type;
    wire[1] = MARK;
    wire[2] = 0;
    wire[3] = 0;
    mt_bytes_put32(wire + 4, frame->id.hash);
    mt_bytes_put64(wire + 8, frame->id.call);
    mt_bytes_put32(wire + 16, frame->id.epoch);
    mt_bytes_put32(wire + 20, frame->id.segment);
    mt_bytes_put32(wire + 24, frame->id.number);
    mt_bytes_put32(wire + 28, frame->part);
    mt_bytes_put64(wire + 32, frame->bytes);
}

static int part_fits(const struct mt_frame *frame)
{
    switch (frame->type) {
    case MT_FRAME_EAGER:
        return frame->part == frame->bytes;
    case MT_FRAME_DATA:
        return frame->part <= frame->bytes && (frame->part > 0 || frame->bytes == 0);
    case MT_FRAME_RTR:
        return frame->part <= MT_FRAME_OFFER_BYTES;
    default:
        return frame->part == 0;
    }
}

int mt_frame_decode(const uint8_t *wire, struct mt_frame *frame_out)
{
    struct mt_frame frame = {
        .type = wire[0],
        .part = mt_bytes_get32(wire + 28),
        .bytes = mt_bytes_get64(wire + 32),
        .id = {.call = mt_bytes_get64(wire + 8),
               .epoch = mt_bytes_get32(wire + 16),
               .segment = mt_bytes_get32(wire + 20),
               .number = mt_bytes_get32(wire + 24),
               .hash = mt_bytes_get32(wire + 4)},
    };
    if (wire[1] != MARK || wire[2] != 0 || wire[3] != 0)
        return MANTA_ETRANSPORT;
    if (frame.type < MT_FRAME_EAGER || frame.type > MT_FRAME_AGAIN || !part_fits(&frame))
        return MANTA_ETRANSPORT;
    *frame_out = frame;
    return 0;
}
