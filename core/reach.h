/* SPDX-License-Identifier: Apache-2.0 */
/*
 * By which address each peer was reached. Every stream that comes about leaves it here: later dials
 * begin with an address that is known to work, and what is reported is what happened. Unix sockets
 * leave nothing.
 */
#ifndef MT_CORE_REACH_H
#define MT_CORE_REACH_H

#include <stdint.h>

#include "core/address.h"
#include "core/group.h"

enum mt_reach_how {
    MT_REACH_NOT_YET = 0,
    MT_REACH_CAME = 1,    /* a stream of the peer's came from this address, which it listens on */
    MT_REACH_DIALLED = 2, /* this address of the peer's answered */
};

struct mt_reach {
    enum mt_reach_how how;
    uint32_t place;   /* dialled: how many addresses were tried before this one */
    uint32_t count;   /* how many there are to try */
    uint32_t is_told; /* dialled: tried first because an earlier stream had used it */
    struct mt_address local, peer;
};

/* The internet addresses by which a peer's listener is dialled, in the order in which they are
 * tried: one that is known to work comes first (*is_told_out 1), then the peer's order; its
 * loopback only where it is this rank's too. Any thread. */
uint32_t mt_reach_addresses(const struct mt_group *group, uint32_t peer,
                            struct mt_address addresses[MT_GROUP_ADDRESSES], int *is_told_out);
/* What is known of this peer. Any thread. */
void mt_reach_look(const struct mt_group *group, uint32_t peer, struct mt_reach *reach_out);

/* Under the service's lock: a stream stands on `fd`. */
/* This rank dialled it; note has place, count and is_told. reach may be NULL: nothing is kept. */
void mt_reach_dialled(struct mt_reach *reach, int fd, const struct mt_reach *note);
/* `from` dialled it. */
void mt_reach_came(const struct mt_group *group, uint32_t from, int fd);

#endif
