/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the message protocol; see transport/message.h. Included by transport/message*.c. */
#ifndef MT_TRANSPORT_MESSAGE_INTERNAL_H
#define MT_TRANSPORT_MESSAGE_INTERNAL_H

#include <stdatomic.h>

#include "core/counter.h"
#include "transport/message.h"

enum {
    MT_NO_CHUNK = -1,
    MT_MESSAGE_RECENT = 256,
    /* Written messages that are remembered: all that were begun since the oldest that its sender
     * may still ask about, and as many as were under way then. */
    MT_MESSAGE_SPAN = 192,
    MT_MESSAGE_WRITTEN = MT_MESSAGE_SPAN + MT_MESSAGE_WRITES,
    /* Offers that are kept of a peer; a message without one goes as DATA. */
    MT_MESSAGE_OFFERS = 128,
    /* Offers that a peer can use: those that it keeps, and those that it writes to. It is given no
     * more, for a wire has so much room for all peers, and this one may be slow. */
    MT_MESSAGE_OFFERED = MT_MESSAGE_OFFERS + MT_MESSAGE_WRITES,
    MT_OFFER_LATER_BYTES = 1 /* of what is no offer, but says that there is no room for one now */
};

/* What a posted request is about; lies in its transport_private. */
struct mt_work {
    struct manta_transport_request *next, *previous;
    struct manta_transport_id id;
    uint64_t bytes;
    /* From here to piece: 0 at first. */
    uint64_t done;     /* send: handed over; receive: in place */
    uint64_t taken;    /* send: by streams; receive: by frames that have begun */
    uint8_t pieces;    /* in piece[] */
    uint8_t announced; /* send: RTS is out */
    uint8_t asked;     /* receive: RTR is out */
    uint8_t counted;   /* receive: its RTR counts against MT_MESSAGE_ANNOUNCED */
    uint8_t owed;      /* receive: RTR has to go out when the wire has room */
    uint8_t unasked;   /* receive: long, RTR not sent and not owed */
    uint8_t ahead;     /* receive: small, its RTR counts in `hinted` */
    uint8_t again;     /* send: 1: AGAIN has to go out; 2: it is out */
    uint8_t roomless; /* send: so it has because its offer found no room, and nothing was written */
    uint8_t is_long;  /* goes when it is asked for, and may be written; small ones may be eager */
    uint8_t is_direct; /* is long, and must be written */
    uint8_t devices;   /* bit of each piece that is in memory of a device */
    uint8_t starved;   /* direct receive: the peer has it, and the wire had no room to offer it */
    uint32_t offer;    /* receive: what the wire calls it; send: 1 + index of the peer's offer */
    int32_t refusal;   /* direct receive: it cannot be offered, and will end with this; or 0 */
    uint32_t write;    /* send: which of the peer's writes it is */
    struct iovec piece[MANTA_PLAN_LOCATIONS];
} __attribute__((may_alias));

_Static_assert(MANTA_PLAN_LOCATIONS <= 8, "a bit for each piece");
_Static_assert(sizeof(struct mt_work) <=
                   sizeof((struct manta_transport_request *)0)->transport_private,
               "a request has room for the protocol's work");

static inline struct mt_work *mt_work_of(struct manta_transport_request *request)
{
    return (struct mt_work *)(void *)request->transport_private;
}

struct mt_request_list {
    struct manta_transport_request *first, *last;
};

/* A message in the window; its index is that of its first chunk. */
struct mt_arrival {
    struct mt_frame frame;
    uint64_t received;
    struct manta_transport_request *claimed; /* receive that was posted while it arrived */
    int32_t next, previous;                  /* in order of arrival */
};

enum mt_have { MT_HAVE_NOT, MT_HAVE_RTS, MT_HAVE_AGAIN };

/* An RTS without its receive (or a duplicate of that, or AGAIN, whose answer HAVE is owed). */
struct mt_offer {
    struct mt_frame frame;
    uint32_t have; /* enum mt_have */
};

/* An RTR without its send. */
struct mt_asked {
    struct mt_frame frame;
    uint32_t offer; /* 1 + index of the peer's offer; 0: none */
};

/* Where a peer would have its message written: what it said in RTR. */
struct mt_kept_offer {
    uint32_t bytes;
    uint32_t next; /* 1 + index of the next free one; 0: none */
    uint8_t offer[MT_FRAME_OFFER_BYTES];
};

enum mt_sink_mode { MT_SINK_NONE, MT_SINK_DISCARD, MT_SINK_REQUEST, MT_SINK_WINDOW };

/* The forward frame under way on a stream. */
struct mt_sink {
    enum mt_sink_mode mode;
    struct mt_frame frame;
    uint64_t lacking;
    uint64_t at;      /* where the next byte goes in the request's message */
    uint32_t charged; /* chunks of credit that the frame used */
    struct manta_transport_request *request;
    int32_t arrival;
    int32_t chunk; /* where the next byte goes in the window, with `offset` in it */
    uint32_t offset;
};

/* The stretch of a long message that a stream has taken. */
struct mt_lane {
    struct manta_transport_request *request; /* NULL: none */
    uint64_t at, end;
};

struct mt_peer {
    uint32_t rank;
    /* Sending. */
    struct mt_request_list queued;  /* small: EAGER or RTS has to go out */
    struct mt_request_list waiting; /* for RTR: announced, or long */
    struct mt_request_list ready;   /* RTR is here: DATA has to go out, or is under way */
    struct mt_request_list handed;  /* with the wire, which needs progress to get them out */
    struct mt_request_list placed;  /* RTR is here, with an offer: has to be written */
    struct mt_request_list writing; /* the wire writes it */
    uint32_t writes;                /* being written, or lost, and AGAIN is under way */
    uint32_t again;                 /* AGAIN has to go out */
    uint32_t write_next;            /* writes begun, ever */
    uint32_t write_oldest;          /* no write before this one is under way */
    struct mt_kept_offer *kept;     /* [MT_MESSAGE_OFFERS], or NULL: the wire does not write */
    uint32_t kept_free;             /* 1 + index; 0: none */
    uint32_t kept_left;             /* how many are free */
    uint32_t roomless;              /* AGAIN is out: they may come back with offers to keep */
    uint32_t credit;                /* chunks of the peer's window that are ours to use */
    uint32_t announced;             /* RTS without answer */
    int is_silent;                  /* direct messages that wait may not be announced yet */
    struct mt_asked asked[MT_MESSAGE_ANNOUNCED]; /* RTR of long messages not posted here yet */
    uint32_t asked_count;
    struct mt_frame hints[MT_MESSAGE_ANNOUNCED]; /* the same of small messages */
    uint32_t hint_count;
    int sends_blocked; /* the wire refused a forward frame */
    uint32_t streams;
    uint32_t turn; /* which stream is the first to take a stretch: they do in turn */
    struct mt_lane lanes[MT_MESSAGE_STREAMS];

    /* Receiving. */
    struct mt_request_list recvs;
    uint32_t asking;  /* receives that are counted */
    uint32_t unasked; /* long receives whose RTR has to wait until fewer are counted */
    uint32_t hinted;  /* small messages asked for ahead: no more than the peer keeps hints */
    uint32_t owing;   /* receives, offers and stale hints that owe an answer */
    struct manta_transport_id stale[MT_MESSAGE_ANNOUNCED]; /* hinted, but crossed by the message */
    uint32_t stale_count;
    struct mt_offer offers[MT_MESSAGE_ANNOUNCED + MT_MESSAGE_WRITES];
    uint32_t offer_count;
    uint32_t again_count; /* offers that are answers to AGAIN */
    uint32_t offered;     /* receives whose memory the peer may write */
    uint32_t granted;     /* chunks of our window that the peer may still use */
    uint32_t credit_due;  /* chunks to give back */
    int answers_blocked;  /* the wire refused an answer */
    int is_starved;       /* direct receives could not be offered */

    /* The window. */
    uint8_t *window;
    int32_t *chunk_next; /* of the same message, or of the free list */
    int32_t chunk_free;
    struct mt_arrival *arrivals;
    int32_t arrival_first, arrival_last;
    struct manta_transport_id recent[MT_MESSAGE_RECENT]; /* arrived: call != 0 or epoch != 0 */
    struct manta_transport_id *written; /* [MT_MESSAGE_WRITTEN] the last that came so; or NULL */
    uint32_t written_count;

    struct mt_sink sinks[MT_MESSAGE_STREAMS];

    struct manta_transport_error sends_failure, recvs_failure; /* code 0: none */
};

struct mt_messages {
    struct mt_message_settings settings;
    struct mt_peer **peers; /* [ranks], NULL until opened */
    uint32_t window_chunks;
    int aborted;               /* code, or 0 */
    int stray;                 /* MANTA_EMISMATCH: a message has come that no step will take */
    int is_starved, may_offer; /* some peer is; the wire may have room for offers, or never will */
    struct manta_transport_error error;
    _Atomic uint64_t sent_messages, sent_bytes, received_messages, received_bytes, copied_bytes;
};

static inline uint32_t mt_chunks_of(uint64_t bytes)
{
    return bytes == 0 ? 1 : (uint32_t)((bytes + MT_MESSAGE_CHUNK - 1) / MT_MESSAGE_CHUNK);
}

static inline int mt_id_equal(const struct manta_transport_id *a,
                              const struct manta_transport_id *b)
{
    return a->call == b->call && a->number == b->number && a->segment == b->segment &&
           a->epoch == b->epoch;
}

/* Two messages of one call whose arguments differ. */
static inline int mt_id_conflict(const struct manta_transport_id *a,
                                 const struct manta_transport_id *b)
{
    return a->call == b->call && a->epoch == b->epoch && a->hash != b->hash;
}

static inline void mt_list_append(struct mt_request_list *list,
                                  struct manta_transport_request *request)
{
    struct mt_work *work = mt_work_of(request);
    work->next = NULL;
    work->previous = list->last;
    if (list->last != NULL)
        mt_work_of(list->last)->next = request;
    else
        list->first = request;
    list->last = request;
}

static inline void mt_list_remove(struct mt_request_list *list,
                                  struct manta_transport_request *request)
{
    struct mt_work *work = mt_work_of(request);
    if (work->previous != NULL)
        mt_work_of(work->previous)->next = work->next;
    else
        list->first = work->next;
    if (work->next != NULL)
        mt_work_of(work->next)->previous = work->previous;
    else
        list->last = work->previous;
}

/* Give the request its status; the last thing done to it. */
static inline void mt_request_end(struct manta_transport_request *request, int status)
{
    request->status = status;
}

/* A receive into memory of a device whose sender did not say so: its data may not go there. */
void mt_recv_end_staged(struct mt_messages *messages, struct mt_peer *peer,
                        struct manta_transport_request *request);

/* Fill the request's work from the message. 0, or an error that is set. */
int mt_work_begin(struct mt_messages *messages, const struct manta_transport_message *message,
                  struct manta_transport_request *request);
/* The pieces from byte `offset` on, at most `capacity`; returns how many. */
uint32_t mt_work_pieces(const struct mt_work *work, uint64_t offset, struct iovec *pieces,
                        uint32_t capacity);
/* Copy into the pieces at byte `offset`. */
void mt_work_scatter(const struct mt_work *work, uint64_t offset, const uint8_t *from,
                     uint64_t bytes);

/* The opened peer, or NULL with the code in *code_out. */
struct mt_peer *mt_peer_open(struct mt_messages *messages, uint32_t peer, int *code_out);
static inline struct mt_peer *mt_peer_find(struct mt_messages *messages, uint32_t peer,
                                           int *code_out)
{
    if (__builtin_expect(peer < messages->settings.ranks && messages->peers[peer] != NULL, 1))
        return messages->peers[peer];
    return mt_peer_open(messages, peer, code_out);
}

/* message_send.c: hand over what can go; arriving answers. */
int mt_peer_push(struct mt_messages *messages, struct mt_peer *peer);
int mt_peer_asked(struct mt_messages *messages, struct mt_peer *peer, const struct mt_frame *frame,
                  const uint8_t *offer);
int mt_peer_credited(struct mt_messages *messages, struct mt_peer *peer,
                     const struct mt_frame *frame);
void mt_peer_had(struct mt_messages *messages, struct mt_peer *peer, const struct mt_frame *frame);

/* message_recv.c: what the receiver owes: RTR of posted receives, HAVE, CREDIT. */
int mt_peer_answer(struct mt_messages *messages, struct mt_peer *peer);
/* Send RTR now, or owe it. counted: unasked by the peer, so it counts. */
void mt_recv_ask(struct mt_messages *messages, struct mt_peer *peer,
                 struct manta_transport_request *request, int counted);
/* The peer has shown that it has the message: its RTR does not count any more. */
void mt_recv_uncount(struct mt_messages *messages, struct mt_peer *peer, struct mt_work *work);
/* The peer has shown that it keeps no hint of this receive. */
void mt_recv_unhint(struct mt_messages *messages, struct mt_peer *peer, struct mt_work *work);
/* Direct receives that could not be offered: once more, or the end of those that never can be. */
int mt_peer_feed(struct mt_messages *messages, struct mt_peer *peer);
/* If the peer's announcements are all in use: ask for small messages, too, the oldest first. */
void mt_peer_ask_small(struct mt_messages *messages, struct mt_peer *peer);
/* Say HAVE, or owe it; which is enum mt_have. */
int mt_peer_have(struct mt_messages *messages, struct mt_peer *peer,
                 const struct manta_transport_id *id, uint32_t which);
/* The end of a receive, however it ends: take it off the list, remember its id, set its status. */
void mt_recv_end(struct mt_messages *messages, struct mt_peer *peer,
                 struct manta_transport_request *request, int status);

/* message_write.c: long messages that are written into the peer's memory. */
/* 1 + index of a free place that now holds this offer; 0: there is none. */
uint32_t mt_offer_keep(struct mt_peer *peer, const uint8_t *offer, uint32_t bytes);
void mt_offer_drop(struct mt_peer *peer, uint32_t place);
/* AGAIN was answered, or the request ends. */
void mt_again_end(struct mt_peer *peer, struct mt_work *work);
/* Write what has an offer, say AGAIN; 1 if something went. */
int mt_peer_write(struct mt_messages *messages, struct mt_peer *peer);
/* Receiver: have the wire offer the request's memory, and forget it. 0, or, of a direct message,
 * why that cannot be (MANTA_EAGAIN: now). */
int mt_recv_offer(struct mt_messages *messages, struct mt_peer *peer,
                  struct manta_transport_request *request, struct mt_frame *frame, uint8_t *offer);
void mt_recv_release(struct mt_messages *messages, struct mt_peer *peer,
                     struct manta_transport_request *request);
/* Before requests end with `code`: memory that is being written or is offered must not be any more.
 * Returns the code that they end with. */
int mt_peer_cease(struct mt_messages *messages, struct mt_peer *peer, int code);
/* A direct message has no way: the words for it. Returns code. */
int mt_peer_refuse(struct mt_messages *messages, const struct mt_peer *peer, int code);
int mt_peer_begin_again(struct mt_messages *messages, struct mt_peer *peer,
                        const struct mt_frame *frame);

/* message_arrive.c: the posted receive that a frame belongs to, or NULL; those that it contradicts
 * end. */
struct manta_transport_request *mt_recv_match(struct mt_messages *messages, struct mt_peer *peer,
                                              const struct mt_frame *frame);
/* RTS, or AGAIN of a message that nobody waits for. */
int mt_peer_begin_rts(struct mt_messages *messages, struct mt_peer *peer,
                      const struct mt_frame *frame, uint32_t which);

/* message_window.c: eager data that came before its receive, and ids that came lately. */
int32_t mt_window_store(struct mt_peer *peer, const struct mt_frame *frame);
/* Frees the chunks and notes the credit to give back. */
void mt_window_release(struct mt_peer *peer, int32_t arrival);
/* The arrival with this id, or MT_NO_CHUNK; *conflict_out: one of the same call has another hash.
 */
int32_t mt_window_find(const struct mt_peer *peer, const struct manta_transport_id *id,
                       int *conflict_out);
/* Copy a whole arrival to the receive's pieces. */
void mt_window_copy(const struct mt_peer *peer, int32_t arrival, const struct mt_work *work);
void mt_recent_add(struct mt_peer *peer, const struct manta_transport_id *id);
int mt_recent_has(const struct mt_peer *peer, const struct manta_transport_id *id);
void mt_written_add(struct mt_peer *peer, const struct manta_transport_id *id);
int mt_written_has(const struct mt_peer *peer, const struct manta_transport_id *id);

/* A violation by the peer: fails it in both directions. Returns MANTA_ETRANSPORT. */
int mt_peer_violation(struct mt_messages *messages, struct mt_peer *peer, const char *what,
                      uint64_t value);

#endif
