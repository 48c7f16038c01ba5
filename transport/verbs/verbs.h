/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verbs transport: RDMA over InfiniBand and RoCE. A *rail* is a port of a card of this rank.
 * Two ranks are connected by *lanes*, each from a rail of one to a rail of the other: a queue pair
 * for frames and one for bulk, so that what is short never waits behind what is long.
 *
 * Queue pairs are made by notes over a stream of the group's listener, which whoever first sends
 * dials (as transport/tcp does), and which stays: its end is the sign that the peer has gone, for a
 * card tells the passive side nothing. A lane is used when a message has crossed it both ways
 * (link.c); which GIDs lead there is found out like that.
 *
 * Frames are numbered for each peer, and kept until the card has word that they arrived. They go
 * over one lane, in order. When that dies they go again, over another one, and the receiver drops
 * what it has. Short ones are written into memory that a receiver polls (ring.c). Long messages are
 * written into the memory that their receiver offers, in parts over all lanes; the last write of
 * each part carries the offer's number. A lane that died is made again now and then. While there is
 * none, frames go over the stream, if the communicator's transports include tcp (stream.c), and
 * long messages are cut into frames.
 *
 * Everything happens in the endpoint's thread, but for accepted streams, which the service thread
 * leaves at the door.
 */
#ifndef MT_TRANSPORT_VERBS_VERBS_H
#define MT_TRANSPORT_VERBS_VERBS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "core/group.h"
#include "core/stream.h"
#include "transport/message.h"
#include "transport/registration.h"
#include "transport/verbs/connect.h"
#include "transport/verbs/flush.h"
#include "transport/verbs/library.h"
#include "transport/verbs/ring.h"
#include "transport/verbs/slots.h"

enum {
    MT_VERBS_LANES = 4, /* between two ranks */
    MT_VERBS_GIDS = 3,  /* of a rail that are offered to peers */
    MT_VERBS_NAME = 64,
    MT_VERBS_HEAD_BYTES = 16,
    MT_VERBS_EAGER_BYTES = 8192,
    MT_VERBS_WINDOW_BYTES = 131072,
    MT_VERBS_FRAMES = 32, /* to a peer that it is not known to have */
    /* Frames that came over one rail while those before them lie in another's queue, untaken: a
     * card has said that it has them, so the peer goes on. Of slots, two rails have so many at
     * most. */
    MT_VERBS_HELD = 2048,
    MT_VERBS_DEPTH = 64, /* of a queue pair; a power of two */
    MT_VERBS_SIGNAL_EVERY = 8,
    MT_VERBS_PIECES = MANTA_PLAN_LOCATIONS,
    MT_VERBS_GATHER = 4,           /* pieces that one work request takes together */
    MT_VERBS_STRIPE = 65536,       /* least bytes of a part of a message */
    MT_VERBS_WRITE_MOST = 1 << 20, /* bytes of one work request */
    MT_VERBS_INLINE_BYTES = 220,
    MT_VERBS_OFFERS = 512,
    MT_VERBS_WRITES = 256,
    MT_VERBS_POLL = 16,
    MT_VERBS_READS = 1, /* of a queue pair that are under way */
    MT_VERBS_HOPS = 64,
    MT_VERBS_FIRST_NUMBER = 0, /* of packets */
    MT_VERBS_RNR_TIMER = 12,   /* 0.64 ms */
    MT_VERBS_FLUSH_DEPTH = 64,
    MT_VERBS_FLUSH_BYTES = 64 /* of a rail's own, that reads go to */
};
#define MT_VERBS_DIAL_LOOK_NS UINT64_C(20000)
#define MT_VERBS_SLEEP_NS UINT64_C(1000000)        /* between looks at what is being made */
#define MT_VERBS_NAP_NS UINT64_C(50000000)         /* the same of what is only dead */
#define MT_VERBS_LANE_NS UINT64_C(5000000000)      /* a lane that is not made by then is none */
#define MT_VERBS_AGAIN_NS UINT64_C(250000000)      /* before a dead lane is made again */
#define MT_VERBS_PATIENCE_NS UINT64_C(10000000000) /* without a lane, before the peer is lost */
#define MT_VERBS_DRAIN_NS UINT64_C(1000000000)     /* for a dead lane's completions */

enum mt_verbs_gid_kind {
    MT_VERBS_INFINIBAND, /* by LID, within a subnet */
    MT_VERBS_IPV4,
    MT_VERBS_IPV6,
    MT_VERBS_LINK_LOCAL
};

struct mt_verbs_gid {
    uint8_t kind; /* enum mt_verbs_gid_kind */
    uint8_t index;
    uint8_t raw[16];
};

/* What ranks tell each other of a rail. */
struct mt_verbs_port {
    uint16_t lid;
    uint8_t mtu; /* enum ibv_mtu */
    uint8_t gid_count;
    struct mt_verbs_gid gids[MT_VERBS_GIDS]; /* best first */
};

struct mt_verbs_ports {
    uint32_t count;
    struct mt_verbs_port ports[MT_VERBS_RAILS];
};

/* MANTA_VERBS_*, read at open. */
struct mt_verbs_settings {
    const char *devices; /* "": all */
    const char *gid;     /* "": the best */
    uint32_t timeout, retries, traffic_class, service_level, pkey_index, mtu, rings;
};

struct mt_verbs_rail {
    char name[MT_VERBS_NAME]; /* "mlx5_0:1" */
    uint8_t number;           /* of the port */
    uint8_t is_near;          /* no other one is nearer to this rank's cores */
    uint32_t message_bytes_max;
    uint64_t bytes_per_s;
    struct mt_verbs_port port;
    struct ibv_context *context;
    struct ibv_pd *pd;
    struct ibv_comp_channel *channel;
    struct ibv_cq *cq;
    struct ibv_srq *srq;
    uint8_t *memory; /* slots that frames arrive in */
    struct ibv_mr *recv_mr, *ring_mr;
    uint32_t *free_slots; /* that the card has to be given */
    uint32_t free_count;
    int armed;               /* the next completion makes the channel readable */
    struct ibv_qp *flush_qp; /* to itself; NULL: no memory that needs it was registered */
    uint32_t flush_posted;   /* reads without completion */
    uint8_t flush_generation;
};

/* One of a lane's two queue pairs. */
struct mt_verbs_queue {
    struct ibv_qp *qp;
    uint32_t remote;       /* its number there */
    uint32_t inline_bytes; /* that it takes without a registration */
    uint16_t posted, done; /* work requests, ever */
    uint32_t unsignalled;
    uint64_t what[MT_VERBS_DEPTH]; /* of each: a frame's number; or a write and its part */
};
#define MT_VERBS_WHAT_TRY (UINT64_C(1) << 32)
#define MT_VERBS_WHAT_LINE (UINT64_C(2) << 32) /* of the peer's ring */

enum mt_verbs_lane_state {
    MT_VERBS_LANE_NONE,
    MT_VERBS_LANE_MADE,       /* its numbers are told; the peer's are not here */
    MT_VERBS_LANE_WAITING,    /* they are; all connectors are at work for others */
    MT_VERBS_LANE_CONNECTING, /* a thread of its own connects it: the kernel looks for the way */
    MT_VERBS_LANE_READY,      /* it can send; the peer may not be able to receive */
    MT_VERBS_LANE_TRYING,     /* a message is on its way */
    MT_VERBS_LANE_WORKS,      /* that arrived; the peer's may not have */
    MT_VERBS_LANE_OPEN,       /* both did */
    MT_VERBS_LANE_DRAINING,   /* dead; completions are still to come */
    MT_VERBS_LANE_DEAD
};

enum { MT_VERBS_FRAME_QUEUE = 0, MT_VERBS_BULK_QUEUE = 1, MT_VERBS_QUEUES = 2 };

/* Of a write that a lane has not posted wholly. */
struct mt_verbs_turn {
    uint16_t write;
    uint8_t part;
};

struct mt_verbs_lane {
    uint32_t peer;
    uint8_t index, generation; /* each time it is made it has another one */
    enum mt_verbs_lane_state state;
    uint8_t rail, remote_rail;
    uint8_t pair_count; /* of GIDs that may lead there */
    struct {
        uint8_t local, remote; /* places in the ports' lists */
    } pairs[MT_VERBS_GIDS];
    struct mt_verbs_queue queues[MT_VERBS_QUEUES];
    int ready_there, works_there, tries; /* tries: completions to come */
    int was_open;                        /* in this generation */
    int worked;                          /* the last pair of GIDs that was tried led there */
    uint32_t failures;                   /* since it was open */
    int is_remade; /* the peer has made the next generation: so must this rank */
    uint8_t next_generation, dead_generation;
    uint32_t next_remotes[MT_VERBS_QUEUES];
    uint32_t ring_key;                  /* of the peer's ring, for this lane's writes */
    struct mt_verbs_lane *next_waiting; /* for a connector */
    pthread_t connector;
    _Atomic int connected; /* 0: the connector is at work; 1: it has ended; pairs with its end */
    int connect_result;    /* the connector's, until it is joined; as queues and refused are */
    char refused[160];     /* what could not be made or connected */
    int given_up;          /* it is dead, which the connector does not know */
    struct mt_verbs_endpoint *endpoint; /* for the connector */
    uint64_t until_ns;                  /* deadline of the state; DEAD: when it is made again */
    uint64_t lost_ns; /* when it was open for the last time, or might have been for the first */
    struct mt_verbs_turn turns[MT_MESSAGE_WRITES];
    uint32_t turn_first, turn_count;
    char why[160]; /* it died */
};

struct mt_verbs_sent {
    uint32_t slot, bytes;
};

/* A frame that came before its turn: it keeps its slot. */
struct mt_verbs_held {
    uint32_t slot, bytes;
    uint8_t rail, is_held;
};

enum mt_verbs_link_state {
    MT_VERBS_LINK_NONE,
    MT_VERBS_LINK_DIALLING,
    MT_VERBS_LINK_GREETING, /* dialled; nothing has come */
    MT_VERBS_LINK_REFUSED,  /* the lower rank's own dial takes its place */
    MT_VERBS_LINK_OPEN,
    MT_VERBS_LINK_LOST
};

enum {
    MT_VERBS_NOTE_BYTES = 32,
    MT_VERBS_NOTES_OUT = 32, /* that wait for the stream to take them */
    MT_VERBS_IN_BYTES = MT_VERBS_NOTE_BYTES + MT_VERBS_SLOT_BYTES,
    MT_VERBS_OUT_BYTES = MT_VERBS_NOTES_OUT * MT_VERBS_NOTE_BYTES + MT_VERBS_IN_BYTES
};

/* What the stream with a peer has for frames. */
enum mt_verbs_stream_state {
    MT_VERBS_STREAM_IDLE,
    MT_VERBS_STREAM_CARRIES, /* no rail leads there, and tcp may be used */
    MT_VERBS_STREAM_ENDS     /* a rail does again: as soon as all that it carries has arrived */
};

/* A peer that there was something to do with. */
struct mt_verbs_peer {
    uint32_t rank;
    enum mt_verbs_link_state link;
    int fd;
    struct mt_dial *dial;
    int hung_up;    /* the stream has ended: take what the cards have, then it is lost */
    int was_open;   /* a lane was open, ever */
    uint32_t downs; /* bit of each lane whose death is still to be told */
    int cut;        /* cease() was called: no lane is made any more */
    uint32_t lane_count;
    int current; /* the lane that frames go over; -1: none */
    struct mt_verbs_lane lanes[MT_VERBS_LANES];
    uint32_t next, posted, acked; /* numbers of frames */
    struct mt_verbs_sent sent[MT_VERBS_FRAMES];
    int has_share;    /* of the endpoint's sends */
    uint32_t drained; /* `next` when word of all was last asked for */
    uint32_t expected;
    struct mt_verbs_ring ring;
    struct mt_verbs_held held[MT_VERBS_HELD];
    uint64_t without_lane_ns; /* since when */
    int starved;              /* it waits for a slot, or for a place among the writes */
    uint32_t waiting_rails;   /* direct messages wait for a lane to one of so many; 0: none do */
    struct mt_verbs_peer *next_open;
    enum mt_verbs_stream_state stream;
    uint32_t in_bytes, out_at, out_end;
    int is_kept;        /* the frame in `in` waits for its turn */
    int out_watched;    /* epoll tells when the stream takes more */
    uint32_t unthanked; /* frames that the stream has brought, and the peer has no word of */
    uint8_t in[MT_VERBS_IN_BYTES], out[MT_VERBS_OUT_BYTES];
};

enum mt_verbs_origin { MT_VERBS_NOWHERE, MT_VERBS_HERE, MT_VERBS_THERE };

/* What is kept of every rank. */
struct mt_verbs_door {
    _Atomic int accepted; /* dialled by it and not taken into use yet, or -1 */
    _Atomic int origin;   /* enum mt_verbs_origin: what the lower rank decided */
    int came;             /* the service thread's */
    uint32_t address_bytes;
    uint8_t *address;
};

/* A long message on its way to a peer. */
struct mt_verbs_part {
    uint64_t at, end; /* bytes of the message: not posted yet */
    uint8_t lane;
    uint8_t done;        /* written, or lost */
    uint16_t unanswered; /* work requests posted without completion */
};
struct mt_verbs_remote {
    uint64_t start, bytes;
    uint32_t keys[MT_VERBS_RAILS];
};
struct mt_verbs_write {
    struct manta_transport_request *request; /* NULL: free */
    uint32_t peer;
    uint32_t count, remote_count, remote_rails, part_count, parts_open;
    int is_lost;
    uint32_t number; /* of the offer, and how often it was made */
    struct iovec pieces[MT_VERBS_PIECES];
    struct mt_registration *registrations[MT_VERBS_PIECES];
    struct mt_verbs_remote remotes[MT_VERBS_PIECES];
    struct mt_verbs_part parts[MT_VERBS_LANES];
};

struct mt_verbs_offer {
    struct manta_transport_request *request; /* NULL: free */
    uint32_t peer, count;
    uint32_t came; /* bit of each part */
    uint8_t generation;
    uint8_t rails;          /* bit of each that parts came over */
    uint8_t waits_to_flush; /* all is written, and some memory needs a read that is not posted */
    uint32_t flushes;       /* reads under way */
    struct mt_registration *registrations[MT_VERBS_PIECES];
};

/* What a peer has exported. */
struct mt_verbs_import {
    uint32_t peer;
    struct mt_verbs_remote remote;
    struct mt_verbs_import *next;
};

struct mt_verbs_endpoint {
    const struct mt_verbs_library *library;
    struct mt_messages *messages;
    struct mt_registrations *registrations;
    const struct manta_transport_host *host;
    const struct mt_group *group;
    struct mt_verbs_settings settings;
    uint32_t rank, ranks;
    uint64_t timeout_ns;
    uint32_t rail_count;
    struct mt_verbs_rail rails[MT_VERBS_RAILS];
    int is_started;               /* rails have queues and memory */
    struct mt_verbs_door *doors;  /* [ranks] */
    struct mt_verbs_peer **peers; /* [ranks], NULL until there is something to do with it */
    struct mt_verbs_peer *open;   /* all that are not NULL */
    struct mt_verbs_connectors connectors;
    uint32_t recv_slots;         /* of each rail */
    struct mt_verbs_slots sends; /* that frames are sent from */
    uint8_t *ring_memory;
    struct mt_verbs_peer *rings[MT_VERBS_RINGS]; /* whose each is */
    uint32_t ring_count, ring_turns;
    uint64_t nap_ns;           /* the next nap; 0: no ring needs any */
    int is_starving, has_room; /* some peer is starved; what it waits for may be there */
    struct mt_verbs_offer *offers;
    struct mt_verbs_write *writes;
    struct mt_verbs_import *imports;
    uint32_t offers_open, offer_hint, write_hint;
    uint32_t flush_waits; /* offers with waits_to_flush */
    int epoll_fd, mail_fd, timer_fd;
    _Atomic int has_mail; /* a stream was accepted; stays set */
    int is_unsettled;     /* some peer has a dial, a lane that is not open, or a busy stream */
    uint64_t looked_ns;
    uint32_t looks; /* progress without a look at the descriptors */
    int aborted, failure;
    int is_closing;     /* what still runs has to be waited for */
    int could_not_stop; /* a queue pair could not be destroyed: memory may still be written */
    _Atomic uint64_t copied_bytes;
};

/* settings.c: 0, or MANTA_EINVAL and what is wrong. */
int mt_verbs_settings_read(struct mt_verbs_endpoint *endpoint, char *why, size_t why_bytes);

/* device.c: which rails there are. */
/* 0, or MANTA_ENOTSUP or MANTA_EINVAL with the reason. why: of at least 192 bytes. */
int mt_verbs_devices_open(struct mt_verbs_endpoint *endpoint, char *why, size_t why_bytes);
void mt_verbs_devices_close(struct mt_verbs_endpoint *endpoint);
/* 0 if some device of this host can be used, else the reason. */
int mt_verbs_devices_query(const struct mt_verbs_library *library, char *why, size_t why_bytes);
void mt_verbs_gid_format(const struct mt_verbs_gid *gid, char *text, size_t text_bytes);
uint8_t mt_verbs_gid_kind(const uint8_t raw[16]);

/* address.c: what ranks tell each other, and which rails lead to a peer. */
size_t mt_verbs_ports_encode(const struct mt_verbs_ports *ports, uint8_t *blob, size_t blob_bytes);
int mt_verbs_ports_decode(const uint8_t *blob, size_t bytes, struct mt_verbs_ports *ports_out);
/* The lanes between two ranks, as seen from the first; both find the same, in the same order. */
uint32_t mt_verbs_lanes_pair(const struct mt_verbs_ports *here, const struct mt_verbs_ports *there,
                             int is_lower, struct mt_verbs_lane lanes[MT_VERBS_LANES]);

/* rail.c */
/* Queues and memory of all rails. 0 or MANTA_E*, with the error set. */
int mt_verbs_start(struct mt_verbs_endpoint *endpoint);
void mt_verbs_stop(struct mt_verbs_endpoint *endpoint);
/* Says so, with what to do where it is memory. Returns MANTA_E*. */
int mt_verbs_lacks(struct mt_verbs_endpoint *endpoint, const struct mt_verbs_rail *rail,
                   const char *what, int error);
/* Memory of this rank that the rail's card may read, and write as far as access says. NULL with
 * errno. */
struct ibv_mr *mt_verbs_show(const struct mt_verbs_endpoint *endpoint,
                             const struct mt_verbs_rail *rail, uint8_t *memory, size_t bytes,
                             int access);
/* Give the card the slots that are free. */
void mt_verbs_refill(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail, int all);
static inline void mt_verbs_slot_free(struct mt_verbs_endpoint *endpoint, uint32_t rail,
                                      uint32_t slot)
{
    endpoint->rails[rail].free_slots[endpoint->rails[rail].free_count++] = slot;
}
/* Take completions; 1 if there were any. */
int mt_verbs_poll(struct mt_verbs_endpoint *endpoint);
/* All that there are, within bounds. */
void mt_verbs_poll_all(struct mt_verbs_endpoint *endpoint);
/* 1: there were completions before the rails could be armed. */
int mt_verbs_arm(struct mt_verbs_endpoint *endpoint);
void mt_verbs_channel_read(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail);
void mt_verbs_async_read(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail);

/* lane.c: the life of queue pairs. */
/* Make its queue pairs. 0 or -1 with lane->refused. */
int mt_verbs_lane_make(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane);
/* The peer's are known: make them able to receive and send. 0 or -1 with lane->refused. The kernel
 * may look for the way to the peer for seconds (ARP). */
int mt_verbs_lane_connect(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane);
/* Two of a queue pair's states: what they need is the same of all. 0 or errno. */
int mt_verbs_to_init(struct mt_verbs_endpoint *endpoint, const struct mt_verbs_rail *rail,
                     struct ibv_qp *qp);
int mt_verbs_to_send(struct mt_verbs_endpoint *endpoint, struct ibv_qp *qp);
/* No message goes or comes over it from now on. Its completions are still to be taken. */
void mt_verbs_lane_fail(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane,
                        const char *format, ...) __attribute__((format(printf, 3, 4)));
/* End it at once: no memory is touched after that. One that is being connected is given up, and
 * ends with its connector, which is waited for when the endpoint is closed. */
void mt_verbs_lane_end(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane);
/* Is all of a dead lane's work told of? Then it is ended, and its work begins again. */
void mt_verbs_lane_drain(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane);
/* A work request of its queue has completed. */
void mt_verbs_lane_completed(struct mt_verbs_endpoint *endpoint, const struct ibv_wc *wc);
static inline uint32_t mt_verbs_queue_room(const struct mt_verbs_queue *queue)
{
    return MT_VERBS_DEPTH - (uint16_t)(queue->posted - queue->done);
}
/* Names a work request that will be the next of this queue: peer | lane | queue, position,
 * generation. */
static inline uint64_t mt_verbs_work_id(const struct mt_verbs_lane *lane, uint32_t queue,
                                        uint32_t ahead)
{
    uint64_t place = (uint64_t)lane->peer * (MT_VERBS_LANES * MT_VERBS_QUEUES) +
                     (uint64_t)lane->index * MT_VERBS_QUEUES + queue;
    return place | (uint64_t)(uint16_t)(lane->queues[queue].posted + ahead) << 32 |
           (uint64_t)lane->generation << 48;
}

/* door.c: streams, dialled and accepted. */
int mt_verbs_mailbox_open(struct mt_verbs_endpoint *endpoint);
void mt_verbs_mailbox_close(struct mt_verbs_endpoint *endpoint);
void mt_verbs_mailbox_read(struct mt_verbs_endpoint *endpoint);
/* The peer, made at the first call. NULL with the code in *code_out. */
struct mt_verbs_peer *mt_verbs_peer_open(struct mt_verbs_endpoint *endpoint, uint32_t rank,
                                         int *code_out);
/* Begin to connect, if that was not done. 0, or the code it failed with. */
int mt_verbs_dial(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
/* 1 if a dial under way has ended. */
int mt_verbs_dial_look(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
void mt_verbs_dial_cancel(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
void mt_verbs_link_close(struct mt_verbs_peer *peer);
/* The peer is lost: its requests fail with code. */
void mt_verbs_peer_lose(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer, int code,
                        int error, const char *format, ...) __attribute__((format(printf, 5, 6)));
/* End all lanes and writes of the peer. 0 or MANTA_EBUFFER. */
int mt_verbs_peer_cease(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);

/* stream.c: notes out and in; and frames, each behind a note, while no rail leads to the peer. */
enum mt_verbs_note_kind {
    MT_VERBS_NOTE_MADE = 1, /* I have made its queue pairs: their numbers */
    MT_VERBS_NOTE_READY,    /* they receive and send */
    MT_VERBS_NOTE_WORKS,    /* a message of mine has crossed it */
    MT_VERBS_NOTE_NO,       /* it is dead */
    MT_VERBS_NOTE_FRAME,    /* a frame follows: how many bytes */
    MT_VERBS_NOTE_TOOK,     /* I have taken all frames up to this number */
    MT_VERBS_NOTE_LOST      /* no rail leads to you, and I end this */
};
struct mt_verbs_note {
    uint8_t mark[4];
    uint8_t kind, lane, generation, zero;
    uint8_t numbers[MT_VERBS_QUEUES][4];
    uint8_t ring[8], ring_key[4]; /* MADE: the peer may write there */
    uint8_t rest[MT_VERBS_NOTE_BYTES - 20 - MT_VERBS_QUEUES * 4];
};
void mt_verbs_stream_read(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
/* What waits for it, and then frames, if it carries them. */
void mt_verbs_stream_write(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
void mt_verbs_tell(struct mt_verbs_endpoint *endpoint, const struct mt_verbs_lane *lane,
                   enum mt_verbs_note_kind kind);
/* Does the stream take notes? A peer that computes takes nothing for as long as it likes. */
int mt_verbs_takes_notes(const struct mt_verbs_peer *peer);
/* A note that is of no lane. */
void mt_verbs_tell_number(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                          enum mt_verbs_note_kind kind, uint32_t number);
/* No rail leads to the peer: its frames go over the stream, if they may, from the first that it is
 * not known to have. */
void mt_verbs_stream_begin(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
/* No rail has ever led there, as far as is known: the stream has to do from the beginning. */
void mt_verbs_stream_open(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);

/* link.c: how lanes come about. */
/* A note about a lane; -1: it is none. */
int mt_verbs_take_note(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                       const struct mt_verbs_note *note);
/* The stream stands: make the lanes. */
void mt_verbs_link_opened(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
/* Its connector has ended. */
void mt_verbs_lane_ready(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane,
                         int failed);
/* A message has crossed this lane. */
void mt_verbs_lane_tried(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane);
/* The lane that frames go over from now on, if there is one. */
void mt_verbs_choose_lane(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
/* Make a dead lane once more. */
void mt_verbs_lane_remake(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane);

/* settle.c: what time has to do with. */
/* There is something to settle with this peer. */
void mt_verbs_unsettle(struct mt_verbs_endpoint *endpoint);
/* Dials, deadlines of lanes, lanes that are made again. 1 if anything happened. */
int mt_verbs_settle(struct mt_verbs_endpoint *endpoint);
/* The peer is lost, for no rail leads there. */
void mt_verbs_no_rail(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
/* 1: a message that only lanes to the peer's first rails can carry may find one: it is open, or was
 * not long ago. */
int mt_verbs_may_come(const struct mt_verbs_peer *peer, uint32_t remote_rails, uint64_t now_ns);
/* How long a rank may sleep before it must look again; 0: as long as it likes. */
uint64_t mt_verbs_settle_within_ns(const struct mt_verbs_endpoint *endpoint);

/* frame.c: frames out and in. */
enum mt_verbs_frame_kind {
    MT_VERBS_FRAME = 1,
    MT_VERBS_NOTHING = 2, /* asks for word that what was before it has arrived */
    MT_VERBS_DOWN = 3     /* this lane is dead: what was written over it may be lost */
};
int mt_verbs_put(void *wire, uint32_t peer, const struct mt_frame *frame,
                 const struct iovec *payload, uint32_t pieces);
int mt_verbs_data(void *wire, uint32_t peer, uint32_t stream, const struct mt_frame *frame,
                  const struct iovec *payload, uint32_t pieces, uint64_t limit,
                  uint64_t *accepted_out);
/* A frame that is none of the message protocol's. 0 or MANTA_EAGAIN. */
int mt_verbs_put_own(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer, uint32_t kind,
                     uint8_t lane, uint8_t generation);
/* Tell of lanes that have died, before anything else. */
void mt_verbs_put_downs(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
/* Does this lane work? Its completions tell. 0, or -1 with errno. */
int mt_verbs_try(struct mt_verbs_lane *lane);
/* Its queues are stopped: a last request, whose completion tells that all were told of. */
void mt_verbs_post_last(struct mt_verbs_lane *lane);
/* Post what is not posted yet on the current lane, after one was chosen. */
void mt_verbs_post_frames(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer);
/* There is room again: peers that were starved go on. */
void mt_verbs_feed(struct mt_verbs_endpoint *endpoint);
/* Frames up to this number have arrived. */
void mt_verbs_frames_acked(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                           uint32_t number);
/* A frame that the stream has brought. 1: what is before it is still in a queue of a rail. */
int mt_verbs_frame_streamed(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                            const uint8_t *start, uint32_t bytes);
/* A slot is full. */
void mt_verbs_frame_came(struct mt_verbs_endpoint *endpoint, uint32_t rail, uint32_t slot,
                         uint32_t bytes);

/* A ring has the frame that is expected: `bytes` at `start`. */
void mt_verbs_frame_written(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer,
                            const struct mt_verbs_credit *credit, const uint8_t *start,
                            uint32_t bytes);

/* write.c: long messages. */
uint32_t mt_verbs_offer(void *wire, uint32_t peer, struct mt_wire_place *place);
void mt_verbs_release(void *wire, uint32_t peer, uint32_t offer);
int mt_verbs_write(void *wire, uint32_t peer, const struct mt_wire_place *place);
int mt_verbs_cease(void *wire, uint32_t peer);
/* bulk.c: post what a lane's turns have, as far as there is room. */
void mt_verbs_post_writes(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane);
/* Work requests of a write's part have arrived. */
void mt_verbs_write_done(struct mt_verbs_endpoint *endpoint, uint32_t write, uint32_t part);
/* What is not done over this lane is lost. */
void mt_verbs_writes_lost(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane);
/* Forget the peer's writes. */
void mt_verbs_writes_drop(struct mt_verbs_endpoint *endpoint, uint32_t peer);
/* A part of an offer was written, over this rail. */
void mt_verbs_written(struct mt_verbs_endpoint *endpoint, uint32_t rail, uint32_t number);
/* All of an offer is in place. */
void mt_verbs_offer_done(struct mt_verbs_endpoint *endpoint, struct mt_verbs_offer *offer);
extern const struct mt_wire mt_verbs_wire;

/* memory.c: what cards are shown. */
struct mt_verbs_memory {
    struct ibv_mr *mr[MT_VERBS_RAILS];
};
int mt_verbs_memory_open(struct mt_verbs_endpoint *endpoint);
int mt_verbs_mem_register(void *endpoint, const struct manta_transport_buffer *buffer,
                          int dmabuf_fd, uint64_t dmabuf_offset, void **registration_out);
int mt_verbs_mem_deregister(void *endpoint, void *registration);
int mt_verbs_mem_export(void *endpoint, void *registration, void *blob, size_t blob_bytes,
                        size_t *bytes_out);
int mt_verbs_mem_import(void *endpoint, uint32_t peer, const void *blob, size_t bytes,
                        void **remote_out);
void mt_verbs_imports_free(struct mt_verbs_endpoint *endpoint);

/* words.c */
/* What a completion's status means, and what to look at. */
const char *mt_verbs_status_words(int status);

/* probe.c */
int mt_verbs_probe(void *endpoint, uint32_t peer, struct manta_transport_properties *properties);

#endif
