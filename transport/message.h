/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message protocol that transports share: matching by id, bounded eager data, rendezvous. A
 * transport gives the *wire* (how frames get to a peer) and feeds arriving frames in; this layer
 * owns the requests. It is used by the endpoint's thread only, allocates at create and at
 * mt_messages_open, and never afterwards.
 *
 * Per peer and direction:
 *  - A message up to eager_bytes, while credit lasts, goes as EAGER and is complete when handed to
 *    the wire. What comes before its receive is posted lies in the peer's window (window_bytes,
 *    in chunks of MT_MESSAGE_CHUNK) and costs the sender that many chunks of credit until read.
 *  - A larger one waits for RTR, which the receiver sends when the receive is posted, then goes as
 *    DATA straight into the posted pieces.
 *  - A small one without credit is announced by RTS; the receiver answers RTR once it is posted.
 *  - At most MT_MESSAGE_ANNOUNCED RTS, and as many unasked RTR of long and of small messages, are
 *    open per peer; the oldest receives ask first. When one side's are all in use, the other
 *    announces what it would otherwise not: so a send and a receive that are both posted always
 *    meet, in whatever order ids were posted. That is rendezvous as plans assume it. (Both would
 *    have to be full with messages that the other side never posts.) An EAGER that crosses its RTR
 *    is answered by HAVE, so that the sender forgets that it was asked.
 *  - A wire may have several streams to a peer. Stream 0 takes every frame; if there are others,
 *    DATA of long messages goes over those, each message in stretches that whichever stream has
 *    room takes. A DATA frame says where it belongs, so streams owe each other no order.
 *  - A wire that can write into a peer's memory (RDMA) has the receiver offer its pieces in the RTR
 *    of a long message, and the sender write them there: no DATA, and no copy on either side. A
 *    write that may not have arrived, for its path died, is never done twice: the sender says
 *    AGAIN, and the receiver answers with a new RTR, or with HAVE if it did arrive.
 *  - A direct message (MANTA_MESSAGE_DIRECT) is a long one, whatever its bytes, that is written or
 *    not moved at all: this layer never reads or writes its memory. It is announced at once, for
 *    its receiver may not have room to offer all that it has posted. One that is asked for when
 *    there is no room is asked for with a byte instead of an offer: its sender says AGAIN.
 *  - Matching: (epoch, call, segment, number). Another hash or length, or another hash for the same
 *    call, fails the receive (or the send that an RTR does not fit) with MANTA_EMISMATCH.
 *  - Ids of other epochs are refused by send, and dropped where they arrive all the same; so are
 *    duplicates of what has arrived. (A duplicate may only be sent after the first was complete at
 *    the sender.)
 *  - Whatever a peer sends is checked; a violation is MANTA_ETRANSPORT for that peer.
 */
#ifndef MT_TRANSPORT_MESSAGE_H
#define MT_TRANSPORT_MESSAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <manta/transport.h>

#include "transport/frame.h"

enum {
    MT_MESSAGE_CHUNK = 512,      /* unit of the eager window and of its credit */
    MT_MESSAGE_ANNOUNCED = 64,   /* open announcements per peer and kind */
    MT_MESSAGE_SINK_PIECES = 64, /* a sink never has more pieces than this */
    MT_MESSAGE_WRITES = 64,      /* long messages that are written to a peer at a time */
    MT_MESSAGE_STREAMS = 9       /* most streams to a peer: stream 0 and those for bulk */
};

/* A long message's place in memory, for a wire that writes. */
struct mt_wire_place {
    struct manta_transport_request *request;
    const struct iovec *pieces; /* valid during the call only, as offer is */
    uint32_t count;
    uint32_t offer_bytes;
    uint64_t bytes;   /* of all pieces */
    uint8_t *offer;   /* what the receiver tells: MT_FRAME_OFFER_BYTES of room, or offer_bytes */
    uint32_t devices; /* bit of each piece that is in memory of a device: it was registered */
    int is_direct;    /* it must be written */
    int is_unasked; /* receiver: the peer may not have it yet, so half of all room is left to those
                       * that it has: direct messages that are posted at both ends always meet */
    int code;       /* receiver: why a direct message is not offered; MANTA_EAGAIN: no room now */
};

/*
 * What the transport provides. Frames to one peer arrive in the order in which they were handed
 * over, separately for forward frames (mt_frame_is_forward) of each stream and for answers. The
 * callbacks never call back into this layer. When a peer cannot take anything now (not connected
 * yet, no room, broken) they return MANTA_EAGAIN, and the transport calls mt_messages_writable()
 * once there is room, or mt_messages_fail() from its progress.
 */
struct mt_wire {
    /* One frame with its payload (frame->part bytes, at most eager_bytes), whole or not at all. 0:
     * it is on its way and needs neither memory nor progress any more; MANTA_INPROGRESS: the wire
     * has copied it, but needs progress to get it out, then calls mt_messages_flushed() (so that a
     * rank does not leave a call with its message stuck); MANTA_EAGAIN: nothing happened. */
    int (*put)(void *wire, uint32_t peer, const struct mt_frame *frame, const struct iovec *payload,
               uint32_t pieces);
    /* A long message: payload (of `pieces` pieces) is what remains of it, frame->bytes bytes, from
     * here on; frame is its DATA frame with part 0. The wire cuts the first `limit` of them into
     * DATA frames with parts of its choice (`bytes` of each: what remains where it begins), hands
     * over as many bytes as it can and says how many: their memory is not needed any more. Until
     * it has taken them all, it is called for no other message on this stream; put may be, on
     * stream 0: so a wire that leaves DATA frames half written has other streams for data. Returns
     * 0 when it has begun, be it with *accepted_out == 0, or MANTA_EAGAIN: nothing happened. */
    int (*data)(void *wire, uint32_t peer, uint32_t stream, const struct mt_frame *frame,
                const struct iovec *payload, uint32_t pieces, uint64_t limit,
                uint64_t *accepted_out);

    /* All four, or NULL: the wire writes long messages into memory that the receiver offers. */

    /* Receiver: let the peer write into these pieces. Fills offer and offer_bytes (2 or more),
     * which the RTR carries (put gets them as its payload), and returns what the wire calls it, not
     * 0; or 0: it cannot be offered, so DATA will come. The wire keeps it until release; when all
     * has been written it calls mt_messages_written(). */
    uint32_t (*offer)(void *wire, uint32_t peer, struct mt_wire_place *place);
    /* The receive has ended, or the RTR did not go out. If it ended for a reason other than its
     * message, cease was called before. */
    void (*release)(void *wire, uint32_t peer, uint32_t offer);
    /* Sender: write the pieces to what the peer offers. 0: begun, the memory is the wire's until it
     * calls mt_messages_wrote() or mt_messages_again(); MANTA_EAGAIN: no room now, or, if it is
     * direct, no path, which others may do without, so that they are tried; another error:
     * cannot be written there: it goes as DATA, or, if it is direct, ends with this error. */
    int (*write)(void *wire, uint32_t peer, const struct mt_wire_place *place);
    /* Requests with this peer are about to fail, though memory of theirs is being written or
     * offered: stop all of that, and the connection with it. 0: none of it is touched any more;
     * MANTA_EBUFFER: that could not be reached in time, and becomes the status of the requests. */
    int (*cease)(void *wire, uint32_t peer);
};

struct mt_message_settings {
    const char *transport; /* name, for errors */
    const struct manta_transport_host *host;
    uint32_t rank, ranks, epoch;
    uint64_t eager_bytes;   /* at most MT_MESSAGE_CHUNK * MT_MESSAGE_SINK_PIECES */
    uint64_t window_bytes;  /* memory for eager data per peer, >= eager_bytes; equal on all ranks */
    uint64_t stretch_bytes; /* of a long message for one of several bulk streams; > 0 if any */
    int (*call_state)(void *host_arg, const struct manta_transport_id *id); /* of the host */
    void *host_arg;
    const struct mt_wire *wire;
    void *wire_arg;
};

enum mt_message_direction { MT_MESSAGE_SENDS = 1, MT_MESSAGE_RECVS = 2, MT_MESSAGE_BOTH = 3 };

struct mt_messages;

int mt_messages_create(const struct mt_message_settings *settings, struct mt_messages **out);
void mt_messages_destroy(struct mt_messages *messages);

/* Make room for a peer: before its first request and its first frame. Again does nothing.
 * 0, MANTA_EINVAL (no such peer, or this rank itself), MANTA_ENOMEM. */
int mt_messages_open(struct mt_messages *messages, uint32_t peer);

/* The send and recv ops. The peer is opened if it was not. 0 (see request->status), MANTA_EINVAL
 * (also: a send of another epoch), MANTA_ENOTSUP (memory kind), MANTA_ENOMEM, or the code that the
 * peer failed with; a receive from a failed peer still gets what had arrived. Messages up to
 * eager_bytes go out at once if the wire has room, else from mt_messages_writable(). */
int mt_messages_send(struct mt_messages *messages, const struct manta_transport_message *message,
                     struct manta_transport_request *request);
int mt_messages_recv(struct mt_messages *messages, const struct manta_transport_message *message,
                     struct manta_transport_request *request);

/* What the progress op ends with, and returns: `moved`, or 1 if there was something to do here; or
 * MANTA_EMISMATCH once a message has come that no step will take: no request may carry that. */
int mt_messages_round(struct mt_messages *messages, int moved);

/* How many streams the wire has to this peer, 1 to MT_MESSAGE_STREAMS (1 until this is called); the
 * peer is open and nothing was sent to it yet, or there were several before, and now there are
 * more. */
void mt_messages_streams(struct mt_messages *messages, uint32_t peer, uint32_t streams);

/* The wire has room for frames to this peer: hand over what waits. Returns 1 if frames were handed
 * over. */
int mt_messages_writable(struct mt_messages *messages, uint32_t peer);
/* All forward frames that put took with MANTA_INPROGRESS are on their way: their sends are done. */
void mt_messages_flushed(struct mt_messages *messages, uint32_t peer);
/* 1 if frames to this peer wait for the wire to have room: of forward frames, of answers. */
int mt_messages_waiting(const struct mt_messages *messages, uint32_t peer,
                        enum mt_message_direction direction);

/*
 * An arriving frame: begin with its header, then place frame->part bytes of payload: ask sink for
 * the places of what is still to come, write there, advance. The sink may change between any two
 * calls into this layer (mt_messages_abort): never keep it. Each stream of a peer has two frames
 * under way at most: one forward, one answer (which has no payload).
 */
/* 0; MANTA_ETRANSPORT: a violation; the peer has failed in both directions, close it;
 * MANTA_EMISMATCH: likewise, but nothing is wrong with its stream (mt_messages_round). */
int mt_messages_begin(struct mt_messages *messages, uint32_t peer, uint32_t stream,
                      const struct mt_frame *frame);
/* Payload bytes that this stream's frame still lacks. */
uint64_t mt_messages_lacking(const struct mt_messages *messages, uint32_t peer, uint32_t stream);
/* Where they go: fills up to `capacity` pieces and returns how many; 0: throw them away. */
uint32_t mt_messages_sink(const struct mt_messages *messages, uint32_t peer, uint32_t stream,
                          struct iovec *pieces, uint32_t capacity);
/* `bytes` of them (at most what lacks) are in place. The last completes the frame. */
void mt_messages_advance(struct mt_messages *messages, uint32_t peer, uint32_t stream,
                         uint64_t bytes);
/* sink and advance for payload that is in memory already. */
void mt_messages_deliver(struct mt_messages *messages, uint32_t peer, uint32_t stream,
                         const void *payload, uint64_t bytes);

/* begin and deliver for a frame that has come whole over stream 0. Returns as begin does. */
int mt_messages_whole(struct mt_messages *messages, uint32_t peer, const struct mt_frame *frame,
                      const void *payload);

/* An RTR whose frame->part bytes are in memory: they are an offer. Returns as begin does. */
int mt_messages_asked(struct mt_messages *messages, uint32_t peer, const struct mt_frame *frame,
                      const uint8_t *offer);
/* Receiver: the peer has written all of this request's message to its place. 0, or
 * MANTA_ETRANSPORT: a violation. */
int mt_messages_written(struct mt_messages *messages, uint32_t peer,
                        struct manta_transport_request *request);
/* Sender: the request's message is in the peer's memory. */
void mt_messages_wrote(struct mt_messages *messages, uint32_t peer,
                       struct manta_transport_request *request);
/* Sender: it may be there, or may not, and the wire writes none of it any more: ask. */
void mt_messages_again(struct mt_messages *messages, uint32_t peer,
                       struct manta_transport_request *request);

/* The peer is lost in these directions: its requests fail with code (the error's code and peer are
 * set, too). What had arrived completely can still be received. The first failure counts. */
void mt_messages_fail(struct mt_messages *messages, uint32_t peer,
                      enum mt_message_direction direction, int code, int system_errno,
                      const char *format, ...) __attribute__((format(printf, 6, 7)));
/* All requests get this status; what still arrives is thrown away, nothing is sent any more. */
void mt_messages_abort(struct mt_messages *messages, int code);

/* Keep an error for the error op, without a failing peer (peer may be MANTA_PLAN_NONE). Returns
 * code. */
int mt_messages_error_set(struct mt_messages *messages, int code, uint32_t peer, int system_errno,
                          const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The last error; honours error_out->size. */
void mt_messages_error(const struct mt_messages *messages, struct manta_transport_error *error_out);
/* Any thread. */
void mt_messages_counters(const struct mt_messages *messages,
                          struct manta_transport_counters *counters_out);

#endif
