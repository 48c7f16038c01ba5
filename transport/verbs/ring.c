/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Short frames are written straight into a ring of slots in the memory of a receiver that polls it:
 * no receive is used up there and no completion made, which takes longer than the write itself.
 *
 * A frame lies at the end of its slot, its tail last. A packet's bytes are placed from the first to
 * the last (the ring is registered without relaxed ordering, and a slot is no longer than the
 * shortest packet), so a tail with the number that is expected says that all of the frame is there.
 * Frame N goes to slot N % SLOTS as soon as its receiver has said that it took frame N - SLOTS.
 *
 * No bell rings there. A receiver says in its frames how far it has taken those of the peer, and
 * that it polls, once some have come in a row; where it sends none it writes the same into a line
 * of the peer's memory now and then. Before it sleeps it counts that there, and frames are sent to
 * it again, until it says of the new count that it polls. A write that crosses that word is found
 * by short naps, which grow.
 */
#include <string.h>

#include "core/bytes.h"
#include "transport/verbs/verbs.h"

enum {
    MARK = 'R',
    CALM = 4,
    TELL_EVERY = MT_VERBS_RING_SLOTS / 2,
    SIGNAL_EVERY = MT_VERBS_DEPTH / 4,
    LINE_EVERY = 1 << 16 /* frames: so that nobody takes numbers of the last round for new ones */
};

struct tail {
    struct mt_verbs_credit credit;
    uint8_t mark, zero[3];
    /* Little endian: bytes of the frame | round << 8 | its number + 1 << 32. The round tells how
     * often numbers had begun again: frames that are too long for a slot, or come while their
     * receiver sleeps, may leave it as it is for as long as that takes. */
    _Atomic uint64_t last;
};
_Static_assert(sizeof(struct tail) == MT_VERBS_TAIL_BYTES, "a tail has its length");
_Static_assert(TELL_EVERY <= UINT8_MAX && MT_VERBS_RING_SLOTS <= UINT16_MAX &&
                   (MT_VERBS_RING_SLOTS & (MT_VERBS_RING_SLOTS - 1)) == 0,
               "counts of a ring's frames fit their fields, and slots go round with numbers");
_Static_assert(MT_VERBS_RING_SLOT_BYTES - MT_VERBS_TAIL_BYTES <= UINT8_MAX, "its bytes have room");

/* `last` of this frame, but for its bytes. */
static uint64_t name(uint32_t number, uint32_t round)
{
    return (uint64_t)(number + 1) << 32 | (uint32_t)(round << 8);
}

static uint32_t padded(uint32_t bytes)
{
    return (bytes + 7) / 8 * 8;
}

/* What a card wrote before what was just acquired is seen, too. Where cards are not among those
 * that an acquiring load heeds, it takes more. */
static void from_card(void)
{
#if defined(__aarch64__)
    __asm__ volatile("dmb oshld" ::: "memory");
#endif
}

/* Behind the slots: the same at once, in one word. */
struct word {
    uint8_t taken[4], polls, sleeps, zero[2];
};
struct line {
    _Atomic uint64_t there; /* struct word of the ring's writer, who writes it */
    struct word own;        /* of this rank, to be written there */
};
_Static_assert(sizeof(struct word) == sizeof(uint64_t) &&
                   MT_VERBS_RING_SLOTS * MT_VERBS_RING_SLOT_BYTES + sizeof(struct line) <=
                       MT_VERBS_RING_BYTES,
               "a ring has its length");

static struct line *line_of(const struct mt_verbs_ring *ring)
{
    return (struct line *)(void *)(ring->slots + MT_VERBS_RING_SLOTS * MT_VERBS_RING_SLOT_BYTES);
}

void mt_verbs_ring_assign(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    if (endpoint->ring_count == endpoint->settings.rings)
        return;
    peer->ring.slots = endpoint->ring_memory + (size_t)endpoint->ring_count * MT_VERBS_RING_BYTES;
    endpoint->rings[endpoint->ring_count++] = peer;
}

static struct word read_line(const struct mt_verbs_ring *ring)
{
    struct word word;
    /* Pairs with the peer's card, which writes it when the peer has read what it says it took. */
    uint64_t there = atomic_load_explicit(&line_of(ring)->there, memory_order_acquire);
    memcpy(&word, &there, sizeof(word));
    return word;
}

static void taken_there(struct mt_verbs_ring *ring, uint32_t taken, uint32_t next)
{
    if ((int32_t)(taken - ring->taken) > 0 && (int32_t)(next - taken) >= 0)
        ring->taken = taken;
    if ((int32_t)(ring->taken - ring->after) > 0)
        ring->after = ring->taken;
}

int mt_verbs_ring_fits(struct mt_verbs_peer *peer, uint32_t number, uint32_t bytes)
{
    struct mt_verbs_ring *ring = &peer->ring;
    if (ring->slots == NULL || ring->remote == 0 || peer->downs != 0 ||
        padded(bytes) + MT_VERBS_TAIL_BYTES > MT_VERBS_RING_SLOT_BYTES)
        return 0;
    struct word word = read_line(ring);
    ring->polls_there &= ring->sleeps_there == word.sleeps; /* the count comes around */
    if (!word.polls && !ring->polls_there)
        return 0;
    if (number - ring->taken >= MT_VERBS_RING_SLOTS)
        taken_there(ring, mt_bytes_get32(word.taken), peer->next);
    return number - ring->taken < MT_VERBS_RING_SLOTS && ring->taken == ring->after;
}

void mt_verbs_ring_fill(struct mt_verbs_peer *peer, const struct mt_verbs_lane *lane,
                        uint32_t number, uint8_t *start, uint32_t bytes, struct ibv_send_wr *work,
                        struct ibv_sge *place)
{
    uint32_t all = padded(bytes) + MT_VERBS_TAIL_BYTES;
    uint64_t slot = number % MT_VERBS_RING_SLOTS + 1;
    struct tail *tail = (struct tail *)(void *)(start + padded(bytes));
    tail->credit = mt_verbs_ring_say(peer);
    memset(&tail->mark, 0, 4);
    tail->mark = MARK;
    uint32_t round = peer->ring.round_there - (number > peer->next);
    atomic_store_explicit(&tail->last, htole64(name(number, round) | bytes),
                          memory_order_relaxed); /* nobody reads it here */
    place->addr = (uint64_t)(uintptr_t)start;
    place->length = all;
    work->opcode = IBV_WR_RDMA_WRITE;
    work->wr.rdma.remote_addr = peer->ring.remote + slot * MT_VERBS_RING_SLOT_BYTES - all;
    work->wr.rdma.rkey = lane->ring_key;
}

struct mt_verbs_credit mt_verbs_ring_say(struct mt_verbs_peer *peer)
{
    struct mt_verbs_ring *ring = &peer->ring;
    struct mt_verbs_credit credit = {
        .taken = {(uint8_t)peer->expected, (uint8_t)(peer->expected >> 8)},
        .polls = ring->calm == CALM,
        .sleeps = ring->sleeps};
    ring->is_given |= credit.polls;
    ring->untold = 0;
    return credit;
}

/* Write it into the peer's line. 0, or -1: there is no lane or no room. */
static int write_line(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                      const struct mt_verbs_credit *credit)
{
    struct line *line = line_of(&peer->ring);
    if (peer->current < 0)
        return -1;
    struct mt_verbs_lane *lane = &peer->lanes[peer->current];
    struct mt_verbs_queue *queue = &lane->queues[MT_VERBS_FRAME_QUEUE];
    struct ibv_sge place = {(uint64_t)(uintptr_t)&line->own, sizeof(line->there),
                            endpoint->rails[lane->rail].ring_mr->lkey};
    struct ibv_send_wr *bad, work = {.wr_id = mt_verbs_work_id(lane, MT_VERBS_FRAME_QUEUE, 0),
                                     .sg_list = &place,
                                     .num_sge = 1,
                                     .opcode = IBV_WR_RDMA_WRITE};
    struct word word = {.polls = credit->polls, .sleeps = credit->sleeps};
    mt_bytes_put32(word.taken, peer->expected);
    line->own = word; /* at once: a card may still read the last one */
    if (queue->inline_bytes >= place.length)
        work.send_flags |= IBV_SEND_INLINE;
    /* Seldom: its completion would wake who is about to sleep. */
    int is_signalled = queue->unsignalled + 1 >= SIGNAL_EVERY;
    if (is_signalled)
        work.send_flags |= IBV_SEND_SIGNALED;
    work.wr.rdma.remote_addr = peer->ring.remote + MT_VERBS_RING_SLOTS * MT_VERBS_RING_SLOT_BYTES;
    work.wr.rdma.rkey = lane->ring_key;
    if (mt_verbs_queue_room(queue) == 0 || ibv_post_send(queue->qp, &work, &bad) != 0)
        return -1;
    queue->what[queue->posted++ % MT_VERBS_DEPTH] = MT_VERBS_WHAT_LINE;
    queue->unsignalled = is_signalled ? 0 : queue->unsignalled + 1;
    return 0;
}

void mt_verbs_ring_hear(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                        const struct mt_verbs_credit *credit)
{
    struct mt_verbs_ring *ring = &peer->ring;
    ring->round += peer->expected == 0;
    if (ring->slots == NULL || ring->remote == 0)
        return;
    uint16_t taken = (uint16_t)(credit->taken[0] | credit->taken[1] << 8);
    taken_there(ring, peer->next - (uint16_t)(peer->next - taken), peer->next);
    ring->polls_there = credit->polls;
    ring->sleeps_there = credit->sleeps;
    ring->calm += ring->calm < CALM;
    if (++ring->untold >= TELL_EVERY || peer->expected % LINE_EVERY == 0) {
        struct mt_verbs_credit own = mt_verbs_ring_say(peer);
        (void)write_line(endpoint, peer, &own);
    }
}

int mt_verbs_ring_take(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    int moved = 0;
    while (peer->link == MT_VERBS_LINK_OPEN && !endpoint->aborted) {
        const uint8_t *end = peer->ring.slots + (size_t)(peer->expected % MT_VERBS_RING_SLOTS + 1) *
                                                    MT_VERBS_RING_SLOT_BYTES;
        const struct tail *tail = (const struct tail *)(const void *)(end - sizeof(*tail));
        /* Pairs with the peer's card, which writes it last. */
        uint64_t last = le64toh(atomic_load_explicit(&tail->last, memory_order_acquire));
        uint32_t bytes = (uint8_t)last;
        if ((last ^ name(peer->expected, peer->ring.round)) > UINT8_MAX || last == 0)
            return moved;
        from_card();
        if (bytes > MT_VERBS_RING_SLOT_BYTES - MT_VERBS_TAIL_BYTES || tail->mark != MARK)
            bytes = 0; /* which is no frame */
        struct mt_verbs_credit credit = tail->credit;
        mt_verbs_frame_written(endpoint, peer, &credit, end - sizeof(*tail) - padded(bytes), bytes);
        moved = 1;
    }
    return moved;
}

int mt_verbs_rings_take(struct mt_verbs_endpoint *endpoint)
{
    int moved = 0;
    for (uint32_t i = 0; i < endpoint->ring_count; i++)
        moved |= mt_verbs_ring_take(endpoint, endpoint->rings[i]);
    return moved;
}

void mt_verbs_rings_sleep(struct mt_verbs_endpoint *endpoint)
{
    for (uint32_t i = 0; i < endpoint->ring_count; i++) {
        struct mt_verbs_peer *peer = endpoint->rings[i];
        peer->ring.calm = 0;
        if (!peer->ring.is_given || peer->link != MT_VERBS_LINK_OPEN)
            continue;
        endpoint->nap_ns = MT_VERBS_RING_NAP_NS;
        struct mt_verbs_credit credit = mt_verbs_ring_say(peer);
        credit.sleeps++;
        if (write_line(endpoint, peer, &credit) != 0)
            continue;
        peer->ring.sleeps++;
        peer->ring.is_given = 0;
    }
}

uint64_t mt_verbs_rings_within_ns(struct mt_verbs_endpoint *endpoint)
{
    uint64_t nap_ns = endpoint->nap_ns;
    endpoint->nap_ns = nap_ns * 2 < MT_VERBS_NAP_NS ? nap_ns * 2 : nap_ns > 0 ? MT_VERBS_NAP_NS : 0;
    return nap_ns;
}
