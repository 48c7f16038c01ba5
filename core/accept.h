/* SPDX-License-Identifier: Apache-2.0 */
/* The accepting side of the handshake. Under the service's lock. */
#ifndef MT_CORE_ACCEPT_H
#define MT_CORE_ACCEPT_H

enum { MT_ACCEPT_PENDING_MAX = 64 };

/* A connection came in: takes over fd. */
void mt_accept_begin(int fd, int is_unix);
/* Close the connection that is worth least; 0 if there is none. */
int mt_accept_drop_one(void);
void mt_accept_drop_all(void);
/* Forget everything (in a forked child). */
void mt_accept_reset(void);

#endif
