/* SPDX-License-Identifier: Apache-2.0 */
#include "core/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* A peer that reads nothing for long is stopped: what is queued for it is bounded. */
enum { QUEUE_MAX = 256 << 20, READS_PER_EVENT = 64, PAYLOAD_STEP = 256 * 1024 };

struct mt_link_chunk {
    struct mt_link_chunk *next;
    size_t bytes, sent;     /* header and payload */
    const uint8_t *payload; /* copy, or what was lent */
    uint8_t header[MT_WIRE_FRAME_BYTES];
    uint8_t copy[];
};

static void lose(struct mt_link *link, int errno_or_0)
{
    mt_link_close(link);
    link->lost(link, errno_or_0);
}

/* 1: go on reading; 0: nothing more now, or the link is closed. */
static int read_header(struct mt_link *link)
{
    ssize_t got = recv(link->source.fd, link->header + link->header_have,
                       MT_WIRE_FRAME_BYTES - link->header_have, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0) {
        lose(link, got < 0 ? errno : link->header_have ? EPROTO : 0);
        return 0;
    }
    link->header_have += (size_t)got;
    if (link->header_have < MT_WIRE_FRAME_BYTES)
        return 1;
    if (mt_wire_frame_decode(link->header, &link->frame) || link->frame.bytes > link->payload_max) {
        lose(link, EPROTO);
        return 0;
    }
    link->payload_have = 0;
    return 1;
}

/* Room grows with what has come, so that a length alone makes nobody allocate much. */
static int grow_payload(struct mt_link *link)
{
    size_t have = link->payload_have, left = link->frame.bytes - have;
    if (have % PAYLOAD_STEP)
        return 0;
    uint8_t *larger = realloc(link->payload, have + (left < PAYLOAD_STEP ? left : PAYLOAD_STEP));
    if (!larger)
        return MANTA_ENOMEM;
    link->payload = larger;
    return 0;
}

static int read_payload(struct mt_link *link)
{
    size_t have = link->payload_have, left = link->frame.bytes - have;
    size_t room = PAYLOAD_STEP - have % PAYLOAD_STEP;
    if (grow_payload(link)) {
        lose(link, ENOMEM);
        return 0;
    }
    ssize_t got = recv(link->source.fd, link->payload + have, left < room ? left : room, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0) {
        lose(link, got < 0 ? errno : EPROTO);
        return 0;
    }
    link->payload_have += (size_t)got;
    return 1;
}

static void hand_over(struct mt_link *link)
{
    struct mt_wire_frame frame = link->frame;
    uint8_t *payload = link->payload;
    link->payload = NULL;
    link->header_have = 0;
    link->received(link, &frame, payload);
    free(payload);
}

void mt_link_read_now(struct mt_link *link)
{
    for (int i = 0; i < READS_PER_EVENT && mt_link_is_open(link); i++) {
        if (link->header_have < MT_WIRE_FRAME_BYTES) {
            if (!read_header(link))
                return;
        } else if (!read_payload(link)) {
            return;
        }
        if (link->header_have == MT_WIRE_FRAME_BYTES && link->payload_have == link->frame.bytes)
            hand_over(link);
    }
}

static ssize_t send_part(const struct mt_link *link, struct mt_link_chunk *chunk)
{
    size_t of_header = chunk->sent < MT_WIRE_FRAME_BYTES ? MT_WIRE_FRAME_BYTES - chunk->sent : 0;
    size_t of_payload = chunk->bytes - chunk->sent - of_header;
    size_t gone = chunk->bytes - MT_WIRE_FRAME_BYTES - of_payload;
    struct iovec parts[2] = {
        {.iov_base = chunk->header + MT_WIRE_FRAME_BYTES - of_header, .iov_len = of_header},
        {.iov_base = (void *)(uintptr_t)(chunk->payload + gone), .iov_len = of_payload}};
    const struct msghdr message = {.msg_iov = of_header ? parts : parts + 1,
                                   .msg_iovlen = (size_t)(of_header > 0) + (of_payload > 0)};
    return sendmsg(link->source.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Send from the queue's head until the socket is full. */
static void flush(struct mt_link *link)
{
    while (link->first) {
        struct mt_link_chunk *chunk = link->first;
        ssize_t sent = send_part(link, chunk);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (sent < 0) /* broken: the reading side will tell; drop what nobody will read */
            sent = (ssize_t)(chunk->bytes - chunk->sent);
        chunk->sent += (size_t)sent;
        link->queued_bytes -= (size_t)sent;
        if (chunk->sent < chunk->bytes)
            continue;
        link->first = chunk->next;
        free(chunk);
    }
    link->last = NULL;
}

static void ready(struct mt_service_source *source, uint32_t events)
{
    struct mt_link *link = source->arg;
    if (events & EPOLLOUT) {
        flush(link);
        if (!link->first) {
            mt_service_rewatch(source, EPOLLIN);
            mt_service_signal();
        }
    }
    if (events & ~(uint32_t)EPOLLOUT)
        mt_link_read_now(link);
}

int mt_link_open(struct mt_link *link, int fd)
{
    link->source.fd = fd;
    link->source.ready = ready;
    link->source.arg = link;
    int rc = mt_service_watch(&link->source, EPOLLIN | (link->first ? EPOLLOUT : 0));
    if (rc)
        link->source.fd = -1;
    else
        link->is_expected = 0;
    return rc;
}

void mt_link_close(struct mt_link *link)
{
    link->is_expected = 0;
    mt_service_unwatch(&link->source);
    mt_fd_close(link->source.fd);
    link->source.fd = -1;
    free(link->payload);
    link->payload = NULL;
    link->header_have = 0;
    while (link->first) {
        struct mt_link_chunk *chunk = link->first;
        link->first = chunk->next;
        free(chunk);
    }
    link->last = NULL;
    link->queued_bytes = 0;
    mt_service_signal();
}

void mt_link_break(struct mt_link *link)
{
    if (mt_link_is_open(link))
        shutdown(link->source.fd, SHUT_RDWR);
}

static int queue(struct mt_link *link, const struct mt_wire_frame *frame, const void *payload,
                 size_t copied_bytes)
{
    size_t bytes = MT_WIRE_FRAME_BYTES + (size_t)frame->bytes;
    if (!mt_link_is_open(link) && !link->is_expected)
        return MANTA_EPEER;
    if (link->queued_bytes + bytes > QUEUE_MAX)
        return MANTA_ENOMEM;
    struct mt_link_chunk *chunk = malloc(sizeof *chunk + copied_bytes);
    if (!chunk)
        return MANTA_ENOMEM;
    *chunk =
        (struct mt_link_chunk){.bytes = bytes, .payload = frame->bytes ? payload : chunk->copy};
    mt_wire_frame_encode(frame, chunk->header);
    if (copied_bytes)
        chunk->payload = memcpy(chunk->copy, payload, copied_bytes);
    int was_empty = !link->first;
    *(link->first ? &link->last->next : &link->first) = chunk;
    link->last = chunk;
    link->queued_bytes += bytes;
    if (!was_empty || !mt_link_is_open(link))
        return 0;
    flush(link);
    return link->first ? mt_service_rewatch(&link->source, EPOLLIN | EPOLLOUT) : 0;
}

int mt_link_send(struct mt_link *link, const struct mt_wire_frame *frame, const void *payload)
{
    return queue(link, frame, payload, frame->bytes);
}

int mt_link_send_lent(struct mt_link *link, const struct mt_wire_frame *frame, const void *payload)
{
    return queue(link, frame, payload, 0);
}
