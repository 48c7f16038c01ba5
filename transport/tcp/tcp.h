/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tcp transport. Rank a's messages to rank b, and b's answers to them, use one connection,
 * which a dials when it first sends to b; b's messages to a use another, dialled by b. So there is
 * no race of two dials, and a rank dials only whom it sends to.
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

#include "core/address.h"
#include "core/group.h"
#include "core/stream.h"
#include "transport/message.h"

enum {
    MT_TCP_EAGER_BYTES = 32768,
    MT_TCP_WINDOW_BYTES = 262144,
    MT_TCP_PART_BYTES = 1 << 20,   /* DATA is cut here, so that small messages get between */
    MT_TCP_READ_ROUND = 4 << 20,   /* bytes read from a socket before the others get a turn */
    MT_TCP_READ_BUFFER = 8192,     /* headers and small messages; the rest goes to its place */
    MT_TCP_ANSWER_BUFFER = 8192,   /* room for every answer that can be owed at once */
    MT_TCP_FORWARD_BUFFER = 36864, /* the rest of one eager frame */
    MT_TCP_DIAL_LOOK_NS = 20000,   /* between two looks at dials that are under way */
    MT_TCP_DIAL_SLEEP_NS = 1000000 /* the same while the rank sleeps */
};

enum mt_tcp_state { MT_TCP_NONE, MT_TCP_DIALLING, MT_TCP_OPEN, MT_TCP_LOST };

/* One connection, seen from this rank. */
struct mt_tcp_socket {
    int fd;
    enum mt_tcp_state state;
    uint32_t peer;
    int outgoing;      /* dialled here: forward frames go out, answers come in */
    uint8_t *in, *out; /* bytes read and not used; bytes to write */
    uint32_t in_begin, in_end;
    uint32_t out_begin, out_end, out_room;
    uint64_t part_left; /* of the DATA frame under way: bytes that must be written next */
    int blocked;        /* the kernel took no more; an edge will tell when it does */
    int readable;       /* there may be bytes to read; on the active list */
    int hung_up;        /* the peer has ended its direction: read until the end shows */
    int dirty;          /* has answers to flush; on the dirty list */
    int shut;           /* SHUT_WR was done */
    int broken;         /* errno of a failed write; reading will end it */
    struct mt_tcp_socket *next_active, *next_dirty;
    char address[MT_ADDRESS_TEXT];
};

struct mt_tcp_peer {
    struct mt_tcp_socket out, in;
    struct mt_dial *dial;
    _Atomic int accepted;              /* dialled by it and not taken into use yet, or -1 */
    int offered;                       /* this peer has the transport open */
    char tried_first[MT_ADDRESS_TEXT]; /* of its addresses, when it was dialled */
};

struct mt_tcp_endpoint {
    struct mt_messages *messages;
    const struct manta_transport_host *host;
    const struct mt_group *group;
    uint32_t rank, ranks;
    uint64_t timeout_ns;
    struct mt_tcp_peer *peers; /* [ranks] */
    int epoll_fd, mail_fd, timer_fd;
    uint32_t attached;    /* sockets taken into use so far */
    _Atomic int has_mail; /* a connection was accepted; stays set */
    struct mt_tcp_socket *active, *dirty;
    uint32_t dialling;
    uint64_t dial_looked_ns;
    int aborted;
    int failure; /* code: a connection that no request may be waiting on could not be used */
    struct mt_address local; /* an address of this host, and the interface that has it */
    char local_interface[MT_INTERFACE_NAME];
};

/* socket.c */
extern const struct mt_wire mt_tcp_wire;
/* Take a connected descriptor into use; it is the socket's from now on. */
int mt_tcp_socket_attach(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket, int fd);
void mt_tcp_socket_close(struct mt_tcp_socket *socket);
/* Write what is buffered; 1 if something was written. */
int mt_tcp_socket_flush(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket);
/* Read until there is no more, or a round is over; 1 if something was read. Sets readable. */
int mt_tcp_socket_read(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket);
/* The kernel has room again. */
void mt_tcp_socket_writable(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket);
/* Flush the answers that were put since the last time; 1 if something was written. */
int mt_tcp_flush_answers(struct mt_tcp_endpoint *endpoint);
void mt_tcp_activate(struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *socket);

/* tune.c: what the kernel is asked to do with a connection. */
void mt_tcp_tune(const struct mt_tcp_endpoint *endpoint, int fd);

/* probe.c */
int mt_tcp_probe(void *endpoint, uint32_t peer, struct manta_transport_properties *properties);
/* Fills interface and reason. */
void mt_tcp_describe(struct mt_tcp_endpoint *endpoint, uint32_t peer,
                     struct manta_transport_properties *properties);

/* connect.c */
int mt_tcp_mailbox_open(struct mt_tcp_endpoint *endpoint);
void mt_tcp_mailbox_close(struct mt_tcp_endpoint *endpoint);
/* Take accepted connections into use. */
void mt_tcp_mailbox_read(struct mt_tcp_endpoint *endpoint);
/* Begin to connect to a peer, if that was not done. 0, or the code it failed with. */
int mt_tcp_dial(struct mt_tcp_endpoint *endpoint, uint32_t peer);
/* Look at the dials under way; 1 if one ended. */
int mt_tcp_dial_look(struct mt_tcp_endpoint *endpoint);
void mt_tcp_dial_cancel_all(struct mt_tcp_endpoint *endpoint);

#endif
