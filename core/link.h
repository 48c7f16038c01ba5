/* SPDX-License-Identifier: Apache-2.0 */
/* A stream that carries frames: reads and writes without blocking, in the service thread or under
 * its lock. What cannot be written at once waits in a queue. */
#ifndef MT_CORE_LINK_H
#define MT_CORE_LINK_H

#include <stddef.h>
#include <stdint.h>

#include "core/service.h"
#include "core/wire.h"

struct mt_link_chunk;

struct mt_link {
    struct mt_service_source source; /* fd -1: closed */
    int is_expected;                 /* not open yet: what is sent waits */
    size_t payload_max;              /* longer frames break the link */
    uint8_t header[MT_WIRE_FRAME_BYTES];
    size_t header_have;
    struct mt_wire_frame frame;
    uint8_t *payload;
    size_t payload_have;
    struct mt_link_chunk *first, *last;
    size_t queued_bytes;
    /* A whole frame. May close the link, and send. */
    void (*received)(struct mt_link *link, const struct mt_wire_frame *frame,
                     const uint8_t *payload);
    /* The other side closed (errno_or_0 is 0), the connection broke, or sent garbage (EPROTO). The
     * link is closed already. */
    void (*lost)(struct mt_link *link, int errno_or_0);
    void *arg;
};

/* Takes over fd on success. The callbacks, payload_max and arg are set before, the rest is 0. */
int mt_link_open(struct mt_link *link, int fd);
void mt_link_close(struct mt_link *link);
static inline int mt_link_is_open(const struct mt_link *link)
{
    return link->source.fd >= 0;
}
/* frame->bytes of payload. 0; MANTA_ENOMEM; MANTA_EPEER when closed (and not expected to open). A
 * broken connection is reported by lost(), later. */
int mt_link_send(struct mt_link *link, const struct mt_wire_frame *frame, const void *payload);
/* The same of a payload that is not copied: it stays as it is until the link's queue is empty or
 * the link closed. For what goes to many. */
int mt_link_send_lent(struct mt_link *link, const struct mt_wire_frame *frame, const void *payload);
/* What should have gone could not be queued: let the other side see an end instead of a gap. */
void mt_link_break(struct mt_link *link);
/* Read what is there now, without waiting for epoll to tell. */
void mt_link_read_now(struct mt_link *link);

#endif
