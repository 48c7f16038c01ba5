/* SPDX-License-Identifier: Apache-2.0 */
/* The accepting side of the handshake. Under the service's lock. */
#ifndef MT_CORE_ACCEPT_H
#define MT_CORE_ACCEPT_H

enum { MT_ACCEPT_PENDING_MAX = 64 };

/* Before a batch of connections is accepted: read what the waiting ones have sent by now, so that
 * those that are in earnest are known. */
void mt_accept_catch_up(void);
int mt_accept_is_full(void);
/* Make room for one more that waits; 0: none is to be had at the moment. */
int mt_accept_make_room(void);
/* A connection came in: takes over fd. is_last: there is no other descriptor, so it can be heard
 * out, but not kept unless one is to be had by then. */
void mt_accept_begin(int fd, int is_unix, int is_last);
void mt_accept_drop_all(void);
/* Forget everything (in a forked child). */
void mt_accept_reset(void);

#endif
