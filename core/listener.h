/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process's listener: TCP on IPv4 and IPv6 and an abstract unix socket, and the accepting side
 * of the handshake. Every session that this process takes part in puts up a door; who names none
 * of them is refused.
 */
#ifndef MT_CORE_LISTENER_H
#define MT_CORE_LISTENER_H

#include <stdint.h>

#include "core/address.h"
#include "core/auth.h"
#include "core/error.h"
#include "core/group.h"
#include "core/service.h"
#include "core/wire.h"

/* A rank of a session in this process. Owned by who puts it up; guarded by the service's lock. */
struct mt_door {
    uint8_t session_id[MT_ID_BYTES];
    uint8_t secret[MT_AUTH_KEY_BYTES];
    uint32_t rank;
    uint64_t patience_ns; /* streams that come early wait this long for who listens for them */
    struct mt_door *next;
};

/* A listening socket. */
struct mt_port {
    struct mt_service_source source;
    struct mt_address address;
    int is_unix;
    struct mt_port *next;
};

/* Open the listener, or count one more user. Starts the service thread. Any thread, no lock held.
 */
int mt_listener_acquire(struct mt_error *error);
void mt_listener_release(void);

/* The rest under the service's lock. */
void mt_door_open(struct mt_door *door);
void mt_door_close(struct mt_door *door);
/* Where this hello wants to go, or NULL. */
struct mt_door *mt_door_for(const struct mt_hello *hello);

/* net_namespace, unix_name and addresses of the listener. */
void mt_listener_describe(struct mt_member *member);
/* Addresses, best first; returns how many. */
uint32_t mt_listener_addresses(struct mt_address *addresses, uint32_t room);
/* A connection has been closed: take its descriptor for the next time that there is none. 1 if
 * there is one now. */
int mt_listener_refill(void);
/* 1 if this is an address of this process's listener. */
int mt_listener_has(const struct mt_address *address);
/* One more listening socket, at a given address (a prepared session). 0 or an errno. */
int mt_port_open(const struct mt_address *address, struct mt_port **port_out);
void mt_port_close(struct mt_port *port);

/* Room for a stream that may have to wait, or NULL: to be had before the stream is accepted. Who
 * does not deliver a stream frees it. */
struct mt_parked *mt_stream_room(void);
/* A stream that has proved itself (core/stream.c). Takes over fd and room. peer_uid: of a unix
 * socket's other end, else -1. */
void mt_stream_deliver(int fd, const struct mt_hello *hello, int64_t peer_uid,
                       struct mt_parked *room);

/* A stream that has proved itself, and for which there is no descriptor: its group fails. */
void mt_stream_refuse(const struct mt_hello *hello);

#endif
