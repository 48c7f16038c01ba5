/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames out. On a link, the first frame of a burst leaves at once, and those that follow it before
 * the next progress leave together. On a bulk stream, DATA leaves from the caller's memory, in
 * rounds, so that reading gets its turn.
 */
#include <errno.h>
#include <string.h>

#include "transport/tcp/tcp.h"

enum {
    COPIED_BYTES = 1024, /* header and payload are put together: one buffer is sent faster */
    FIRST_BYTES = 32768  /* first write of a round to a bulk stream */
};

static void make_dirty(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    if (sock->dirty)
        return;
    sock->dirty = 1;
    sock->next_dirty = endpoint->dirty;
    endpoint->dirty = sock;
}

/* A failed system call: no room, or broken. */
static void note_error(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        sock->blocked = 1;
        return;
    }
    sock->broken = errno;
    mt_tcp_activate(endpoint, sock);
}

static int can_write(const struct mt_tcp_socket *sock)
{
    return sock->state == MT_TCP_OPEN && !sock->blocked && !sock->broken && !sock->shut;
}

void mt_tcp_gather_drop(struct mt_tcp_socket *sock)
{
    if (sock->gather != NULL)
        sock->gather->frames = sock->gather->pieces = sock->gather->bytes = 0;
}

/* Keep what a short write left of these pieces behind what is buffered. */
static void keep_rest(struct mt_tcp_socket *sock, const struct iovec *pieces, uint32_t count,
                      uint64_t sent)
{
    for (uint32_t i = 0; i < count; i++) {
        if (sent >= pieces[i].iov_len) {
            sent -= pieces[i].iov_len;
            continue;
        }
        uint64_t left = pieces[i].iov_len - sent;
        memcpy(sock->out + sock->out_end, (const uint8_t *)pieces[i].iov_base + sent, left);
        sock->out_end += (uint32_t)left;
        sent = 0;
    }
}

/* What earlier writes left. 1 if something was written. */
static int write_rest(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    int moved = 0;
    while (sock->out_begin < sock->out_end && can_write(sock)) {
        struct iovec rest = {sock->out + sock->out_begin, sock->out_end - sock->out_begin};
        ssize_t sent = mt_tcp_bytes_send(sock->fd, &rest, 1);
        if (sent < 0) {
            note_error(endpoint, sock);
            break;
        }
        sock->out_begin += (uint32_t)sent;
        moved = 1;
    }
    if (sock->out_begin == sock->out_end)
        sock->out_begin = sock->out_end = 0;
    return moved;
}

/* What was gathered, when nothing is left of what was before it. What remains is buffered. */
static int write_gathered(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    struct mt_tcp_gather *gather = sock->gather;
    if (gather == NULL || gather->frames == 0 || !can_write(sock))
        return 0;
    ssize_t sent = mt_tcp_bytes_send(sock->fd, gather->piece, gather->pieces);
    if (sent < 0) {
        note_error(endpoint, sock);
        if (!sock->blocked)
            return 0;
        sent = 0;
    }
    if ((uint64_t)sent < gather->bytes) {
        sock->blocked = 1;
        keep_rest(sock, gather->piece, gather->pieces, (uint64_t)sent);
    }
    mt_tcp_gather_drop(sock);
    return sent > 0;
}

static int write_out(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    int moved = write_rest(endpoint, sock);
    return sock->out_end == 0 ? moved | write_gathered(endpoint, sock) : moved;
}

int mt_tcp_socket_flush(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    if (sock->gather == NULL) /* a bulk stream's header goes with its payload */
        return 0;
    int moved = write_out(endpoint, sock);
    if (sock->out_end == 0 && sock->gather->frames == 0)
        mt_messages_flushed(endpoint->messages, sock->peer);
    return moved;
}

void mt_tcp_socket_writable(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    sock->blocked = 0;
    mt_tcp_socket_flush(endpoint, sock);
    if (sock->writes && can_write(sock))
        mt_messages_writable(endpoint->messages, sock->peer);
}

int mt_tcp_next_round(struct mt_tcp_endpoint *endpoint)
{
    int moved = 0;
    struct mt_tcp_socket *sock = endpoint->dirty;
    endpoint->dirty = NULL;
    while (sock != NULL) {
        struct mt_tcp_socket *next = sock->next_dirty;
        int had_turn = sock->budget == 0;
        sock->dirty = sock->wrote = 0;
        sock->budget = MT_TCP_WRITE_ROUND;
        moved |= mt_tcp_socket_flush(endpoint, sock);
        if (had_turn && can_write(sock))
            moved |= mt_messages_writable(endpoint->messages, sock->peer);
        sock = next;
    }
    return moved;
}

/* Alone, now. */
static int put_at_once(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock,
                       struct iovec *vector, uint32_t count, uint64_t bytes)
{
    uint8_t together[COPIED_BYTES];
    struct iovec copy = {together, bytes};
    sock->wrote = 1;
    make_dirty(endpoint, sock);
    if (bytes <= sizeof(together)) {
        uint64_t used = 0;
        for (uint32_t i = 0; i < count; i++) {
            memcpy(together + used, vector[i].iov_base, vector[i].iov_len);
            used += vector[i].iov_len;
        }
        vector = &copy;
        count = 1;
    }
    ssize_t sent = mt_tcp_bytes_send(sock->fd, vector, count);
    if (sent < 0) {
        note_error(endpoint, sock);
        return MANTA_EAGAIN;
    }
    if ((uint64_t)sent == bytes)
        return 0;
    keep_rest(sock, vector, count, (uint64_t)sent);
    sock->blocked = 1;
    return MANTA_INPROGRESS;
}

static int has_room(const struct mt_tcp_gather *gather, uint32_t pieces, uint64_t bytes)
{
    return gather->frames == 0 || (gather->frames < MT_TCP_GATHER_FRAMES &&
                                   gather->pieces + pieces <= MT_TCP_GATHER_PIECES &&
                                   gather->bytes + bytes <= MT_TCP_GATHER_BYTES);
}

static void gather_add(struct mt_tcp_gather *gather, const struct iovec *vector, uint32_t count,
                       uint64_t bytes)
{
    uint8_t *head = gather->heads[gather->frames++];
    memcpy(head, vector[0].iov_base, MT_FRAME_BYTES);
    gather->piece[gather->pieces++] = (struct iovec){head, MT_FRAME_BYTES};
    for (uint32_t i = 1; i < count; i++)
        gather->piece[gather->pieces++] = vector[i];
    gather->bytes += bytes;
}

/* An answer is taken while there is room, whatever waits before it. */
static int put_behind(struct mt_tcp_socket *sock, const struct iovec *head)
{
    if (sock->out_begin > 0) {
        memmove(sock->out, sock->out + sock->out_begin, sock->out_end - sock->out_begin);
        sock->out_end -= sock->out_begin;
        sock->out_begin = 0;
    }
    if (MT_TCP_OUT_BUFFER - sock->out_end < MT_FRAME_BYTES)
        return MANTA_EAGAIN;
    keep_rest(sock, head, 1, 0);
    return 0;
}

static int wire_put(void *wire, uint32_t peer, const struct mt_frame *frame,
                    const struct iovec *payload, uint32_t pieces)
{
    struct mt_tcp_endpoint *endpoint = wire;
    struct mt_tcp_socket *sock = &endpoint->peers[peer].link;
    uint8_t header[MT_FRAME_BYTES];
    struct iovec vector[MANTA_PLAN_LOCATIONS + 1] = {{header, sizeof(header)}};
    uint64_t bytes = MT_FRAME_BYTES + (uint64_t)frame->part;
    int is_forward = mt_frame_is_forward(frame->type);
    if (sock->state != MT_TCP_OPEN || sock->broken || sock->shut)
        return MANTA_EAGAIN;
    mt_frame_encode(frame, header);
    for (uint32_t i = 0; i < pieces; i++)
        vector[i + 1] = payload[i];
    if (can_write(sock) && sock->out_end == 0) {
        if (is_forward && !sock->wrote && sock->gather->frames == 0)
            return put_at_once(endpoint, sock, vector, pieces + 1, bytes);
        if (!has_room(sock->gather, pieces + 1, bytes))
            write_gathered(endpoint, sock);
    }
    if (!can_write(sock) || sock->out_end > 0)
        return is_forward ? MANTA_EAGAIN : put_behind(sock, vector);
    gather_add(sock->gather, vector, pieces + 1, bytes);
    make_dirty(endpoint, sock);
    return is_forward ? MANTA_INPROGRESS : 0;
}

/* The pieces cut to `limit` bytes, behind what is buffered. Returns their number. */
static uint32_t part_vector(const struct mt_tcp_socket *sock, const struct iovec *payload,
                            uint32_t pieces, uint64_t limit, struct iovec *vector)
{
    uint32_t count = 0;
    if (sock->out_end > sock->out_begin)
        vector[count++] =
            (struct iovec){sock->out + sock->out_begin, sock->out_end - sock->out_begin};
    for (uint32_t i = 0; i < pieces && limit > 0; i++) {
        uint64_t take = payload[i].iov_len < limit ? payload[i].iov_len : limit;
        vector[count++] = (struct iovec){payload[i].iov_base, take};
        limit -= take;
    }
    return count;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void begin_part(struct mt_tcp_socket *sock, const struct mt_frame *frame, uint64_t limit)
{
    struct mt_frame part = *frame;
    part.part = (uint32_t)least(limit, MT_TCP_PART_BYTES);
    sock->part_left = part.part;
    mt_frame_encode(&part, sock->out);
    sock->out_begin = 0;
    sock->out_end = MT_FRAME_BYTES;
}

/* The stream to write to now, or NULL. One that is lacking is dialled by the next progress. */
static struct mt_tcp_socket *bulk_ready(struct mt_tcp_endpoint *endpoint, uint32_t peer,
                                        uint32_t stream)
{
    struct mt_tcp_peer *state = &endpoint->peers[peer];
    struct mt_tcp_socket *sock = state->out[stream];
    if (sock == NULL || sock->state == MT_TCP_NONE) {
        state->wanted |= 1u << stream;
        endpoint->is_wanted = 1;
        return NULL;
    }
    if (!can_write(sock))
        return NULL;
    if (sock->budget == 0)
        make_dirty(endpoint, sock);
    return sock->budget > 0 ? sock : NULL;
}

static int wire_data(void *wire, uint32_t peer, uint32_t stream, const struct mt_frame *frame,
                     const struct iovec *payload, uint32_t pieces, uint64_t limit,
                     uint64_t *accepted_out)
{
    struct mt_tcp_endpoint *endpoint = wire;
    struct mt_tcp_socket *sock = bulk_ready(endpoint, peer, stream);
    struct iovec vector[MANTA_PLAN_LOCATIONS + 1];
    if (sock == NULL)
        return MANTA_EAGAIN;
    int is_new = sock->part_left == 0;
    if (is_new)
        begin_part(sock, frame, limit);
    /* The receiver copies the first bytes while more are copied here: begin with few. */
    uint64_t used = MT_TCP_WRITE_ROUND - sock->budget;
    uint64_t most =
        least(least(sock->part_left, sock->budget), used > FIRST_BYTES ? used : FIRST_BYTES);
    uint64_t buffered = sock->out_end - sock->out_begin;
    ssize_t sent =
        mt_tcp_bytes_send(sock->fd, vector, part_vector(sock, payload, pieces, most, vector));
    if (sent < 0) {
        note_error(endpoint, sock);
        if (is_new)
            sock->part_left = sock->out_end = 0;
        return MANTA_EAGAIN;
    }
    if ((uint64_t)sent < buffered + most)
        sock->blocked = 1;
    uint64_t headed = least((uint64_t)sent, buffered);
    sock->out_begin += (uint32_t)headed;
    if (sock->out_begin == sock->out_end)
        sock->out_begin = sock->out_end = 0;
    *accepted_out = (uint64_t)sent - headed;
    sock->part_left -= *accepted_out;
    sock->budget -= *accepted_out;
    sock->untuned += *accepted_out;
    if (sock->untuned >= MT_TCP_TUNE_BYTES && !sock->is_tuned)
        mt_tcp_tune_again(endpoint, sock);
    make_dirty(endpoint, sock);
    return 0;
}

const struct mt_wire mt_tcp_wire = {.put = wire_put, .data = wire_data};
