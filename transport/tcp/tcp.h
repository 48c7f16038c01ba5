/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tcp transport. Two ranks have one connection, their *link*, for everything that is short, in
 * both directions: an acknowledgement then travels with the next message instead of alone. Who
 * first sends to the other dials it. When both do at once, the lower rank decides: it takes the
 * first that comes to be, its own dial or that of the other, and says so with a byte of welcome.
 *
 * DATA of long messages has connections of its own, *bulk* streams, one way, dialled by the sender
 * at the first long message, so that what is short never waits behind what is long. There are
 * several where both ends have several interfaces (rails), or where MANTA_TCP_SOCKETS says so. Here
 * the welcome comes from the receiver's endpoint: what is written lies where that will read it.
 *
 * The protocol is that of transport/message.h. Payload of long messages goes from the caller's
 * memory to the socket and from the socket to the caller's memory. Everything happens in the
 * endpoint's thread, but for accepted connections, which the service thread leaves with the peer.
 * Sockets are registered edge-triggered for both directions, so a warm call makes no epoll_ctl.
 */
#ifndef MT_TRANSPORT_TCP_H
#define MT_TRANSPORT_TCP_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/address.h"
#include "core/group.h"
#include "core/stream.h"
#include "transport/message.h"

enum {
    MT_TCP_EAGER_BYTES = 32768,
    MT_TCP_WINDOW_BYTES = 262144,
    MT_TCP_STRETCH_BYTES = 131072, /* of a long message, for one of several streams */
    MT_TCP_PART_BYTES = 1 << 20,   /* DATA is cut here */
    MT_TCP_WRITE_ROUND = 1 << 20,  /* bytes written to a bulk stream before others get a turn */
    MT_TCP_READ_ROUND = 524288,    /* the same of bytes read */
    MT_TCP_READ_BUFFER = 8192,     /* headers and small messages; the rest goes to its place */
    MT_TCP_OUT_BUFFER = 45056,     /* the rest of an eager frame, and all answers owed at once */
    MT_TCP_GATHER_BYTES = 32768,   /* what is gathered is written from here on */
    MT_TCP_GATHER_FRAMES = 32,
    MT_TCP_GATHER_PIECES = 96,
    MT_TCP_STREAMS = MT_MESSAGE_STREAMS, /* the link, and at most so many minus one for bulk */
    MT_TCP_TUNE_BYTES = 4 << 20,         /* enough to tell how fast they flow */
    MT_TCP_DIAL_LOOK_NS = 20000,         /* between two looks at dials that are under way */
    MT_TCP_DIAL_SLEEP_NS = 1000000       /* the same while the rank sleeps */
};

enum mt_tcp_state {
    MT_TCP_NONE,
    MT_TCP_DIALLING,
    MT_TCP_GREETING, /* dialled; the peer has not said yet that it takes it */
    MT_TCP_REFUSED,  /* the link: the lower rank's own dial takes its place */
    MT_TCP_OPEN,
    MT_TCP_LOST
};

/* Frames of the link that wait for the end of the caller's burst, to be written together. */
struct mt_tcp_gather {
    uint32_t frames, pieces;
    uint64_t bytes;
    uint8_t heads[MT_TCP_GATHER_FRAMES][MT_FRAME_BYTES];
    struct iovec piece[MT_TCP_GATHER_PIECES]; /* of heads and of callers' memory */
};

/* One connection, seen from this rank. */
struct mt_tcp_socket {
    int fd;
    enum mt_tcp_state state;
    uint32_t peer, stream; /* stream 0: the link */
    int writes, reads;     /* frames go out, come in; the link does both */
    uint8_t *in, *out;     /* bytes read and not used; bytes to write */
    uint32_t in_begin, in_end;
    uint32_t out_begin, out_end;
    struct mt_tcp_gather *gather; /* link */
    uint64_t part_left; /* bulk: of the DATA frame under way, bytes that must be written next */
    uint64_t budget;    /* bulk: bytes that may still be written in this round */
    int wrote;          /* link: in this round; what follows is gathered */
    int blocked;        /* the kernel took no more; an edge will tell when it does */
    int readable;       /* there may be bytes to read */
    int listed;         /* on the active list */
    int hung_up;        /* the peer has ended its direction: read until the end shows */
    int dirty;          /* on the list of those that get a new round */
    int shut;           /* SHUT_WR was done */
    int broken;         /* errno of a failed write; reading will end it */
    uint64_t untuned;   /* bulk: bytes written since the last look at how they flow */
    uint64_t acked, busy_us; /* what the kernel had counted then */
    int looks, is_tuned;
    uint64_t silent_since_ns; /* what was sent again then was not acknowledged at the last look */
    struct mt_tcp_socket *next_active, *next_dirty;
    struct mt_dial *dial;
    char address[MT_ADDRESS_TEXT];
};

enum mt_tcp_origin { MT_TCP_NOWHERE, MT_TCP_HERE, MT_TCP_THERE };

struct mt_tcp_peer {
    struct mt_tcp_socket link;
    struct mt_tcp_socket *out[MT_TCP_STREAMS], *in[MT_TCP_STREAMS]; /* [0] is not used */
    _Atomic int accepted[MT_TCP_STREAMS]; /* dialled by it and not taken into use yet, or -1 */
    _Atomic int origin; /* enum mt_tcp_origin, of the link: what the lower rank decided */
    uint32_t came;      /* bit of each stream it has dialled; the service thread's */
    uint32_t wanted;    /* bit of each bulk stream that has to be dialled */
    uint32_t streams;   /* the link and bulk streams to it; 0: not known yet */
    int offered;        /* this peer has the transport open */
    char tried_first[MT_ADDRESS_TEXT]; /* of its addresses, when it was dialled */
};

struct mt_tcp_endpoint {
    struct mt_messages *messages;
    const struct manta_transport_host *host;
    const struct mt_group *group;
    uint32_t rank, ranks;
    uint32_t sockets; /* bulk streams to each peer; 0: one for each rail */
    uint64_t timeout_ns;
    struct mt_tcp_peer *peers; /* [ranks] */
    int epoll_fd, mail_fd, timer_fd;
    uint32_t attached;    /* sockets taken into use so far */
    _Atomic int has_mail; /* a connection was accepted; stays set */
    struct mt_tcp_socket *active, *dirty;
    uint32_t dialling;
    int is_wanted; /* some peer's `wanted` is not 0 */
    uint64_t dial_looked_ns, silence_looked_ns;
    int aborted;
    int failure; /* code: a connection that no request may be waiting on could not be used */
    struct mt_address local; /* an address of this host, and the interface that has it */
    char local_interface[MT_INTERFACE_NAME];
};

/* socket.c: the life of a connection, and the one place where bytes leave for the kernel and come
 * from it (mt_tcp_bytes_*): encryption would stand there. */
void mt_tcp_socket_init(struct mt_tcp_socket *socket, uint32_t peer, uint32_t stream, int writes,
                        int reads);
/* Take a connected descriptor into use, in this state; it is the socket's from now on. */
int mt_tcp_socket_attach(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket, int fd,
                         enum mt_tcp_state state);
void mt_tcp_socket_close(struct mt_tcp_socket *socket);
void mt_tcp_socket_free(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket);
/* A connection that is over; error 0: the peer closed it. */
void mt_tcp_socket_lose(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket, int error);
/* All connections with this peer. */
void mt_tcp_peer_close(struct mt_tcp_peer *peer);
void mt_tcp_activate(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket);
/* As sendmsg and recvmsg do, never blocking or interrupted. */
ssize_t mt_tcp_bytes_send(int fd, struct iovec *pieces, uint32_t count);
ssize_t mt_tcp_bytes_receive(int fd, struct iovec *pieces, uint32_t count);

/* write.c */
extern const struct mt_wire mt_tcp_wire;
/* Write what is buffered and gathered; 1 if something was written. */
int mt_tcp_socket_flush(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket);
/* The kernel has room again. */
void mt_tcp_socket_writable(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket);
/* Begin a round: write what was gathered; who has used up its turn goes on. 1 if something was
 * written. */
int mt_tcp_next_round(struct mt_tcp_endpoint *endpoint);
/* Forget what was gathered: its memory is the callers' again, once their sends have failed. */
void mt_tcp_gather_drop(struct mt_tcp_socket *socket);

/* read.c */
/* Read until there is no more, or a round is over; 1 if something was read. Sets readable. */
int mt_tcp_socket_read(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket);

/* tune.c: what the kernel is asked to do with a connection: at its beginning, and when another
 * MT_TCP_TUNE_BYTES of bulk were written and it is not tuned yet. */
void mt_tcp_tune(const struct mt_tcp_endpoint *endpoint, int fd);
void mt_tcp_tune_again(const struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket);
/* What MANTA_TCP_CONGESTION says: 0, or MANTA_EINVAL and why the kernel does not take it. */
int mt_tcp_congestion_check(const char *name, char *why_out, size_t why_bytes);

/* Lose connections whose path is dead, though the host may be reached on another one; 1 if there
 * was one. Looks now and then only: called by who goes to sleep. */
int mt_tcp_lose_silent(struct mt_tcp_endpoint *endpoint);

/* probe.c */
int mt_tcp_probe(void *endpoint, uint32_t peer, struct manta_transport_properties *properties);
/* Fills interface and reason. */
void mt_tcp_describe(struct mt_tcp_endpoint *endpoint, uint32_t peer,
                     struct manta_transport_properties *properties);

/* rail.c */
/* MANTA_TCP_SOCKETS: 0 and how many bulk streams, 0 for auto; or MANTA_EINVAL. */
int mt_tcp_sockets_parse(const char *text, uint32_t *count_out);
/* How many bulk streams to this peer, at least 1. */
uint32_t mt_tcp_rails_count(const struct mt_tcp_endpoint *endpoint, uint32_t peer);
/* The peer's address that a bulk stream tries first: 1, or 0: any. */
int mt_tcp_rail_address(const struct mt_tcp_endpoint *endpoint, uint32_t peer, uint32_t stream,
                        struct mt_address *address_out);

/* connect.c */
int mt_tcp_mailbox_open(struct mt_tcp_endpoint *endpoint);
void mt_tcp_mailbox_close(struct mt_tcp_endpoint *endpoint);
/* Take accepted connections into use. */
void mt_tcp_mailbox_read(struct mt_tcp_endpoint *endpoint);
/* The greeting of a link that was dialled here. 1: go on reading, 0: it is refused or lost. */
int mt_tcp_greeted(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket, uint8_t byte);
/* A dialled link ended without a welcome. */
void mt_tcp_refused(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket, int error);
/* Begin to connect to a peer, if that was not done. 0, or the code it failed with. */
int mt_tcp_dial(struct mt_tcp_endpoint *endpoint, uint32_t peer);
/* Dial the bulk streams that were found lacking. */
void mt_tcp_dial_wanted(struct mt_tcp_endpoint *endpoint);
/* Look at the dials under way; 1 if one ended. */
int mt_tcp_dial_look(struct mt_tcp_endpoint *endpoint);
void mt_tcp_dial_cancel_all(struct mt_tcp_endpoint *endpoint);

#endif
