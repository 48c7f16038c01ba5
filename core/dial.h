/* SPDX-License-Identifier: Apache-2.0 */
/* The dialling side of the handshake (core/stream.h has the rest of its interface). Under the
 * service's lock. */
#ifndef MT_CORE_DIAL_H
#define MT_CORE_DIAL_H

#include <stdint.h>

#include "core/address.h"
#include "core/reach.h"
#include "core/stream.h"
#include "core/wire.h"

struct mt_dial_plan {
    struct mt_hello hello; /* but for protocol and nonce */
    uint8_t key[MT_AUTH_KEY_BYTES];
    const struct mt_address *addresses; /* copied */
    uint32_t address_count;
    struct mt_reach *reach; /* is told which address answered; may be NULL */
    int is_told;            /* reach tells already, and the first address is what it says */
    uint64_t deadline_ns;
    /* Called once, in the service thread, when mt_stream_dial_test() will not say INPROGRESS; may
     * be NULL. */
    void (*finished)(void *arg);
    void *arg;
};

/* 0 or MANTA_ENOMEM. All addresses are tried in turn, again and again until the deadline; only the
 * answer that no address knows the session ends it early (MANTA_EAUTH, and MANTA_EPEER from a rank
 * that did). A listener that has proved itself and got
 * the proof of this side is waited for until the deadline, or until it closes. */
int mt_dial_start(const struct mt_dial_plan *plan, struct mt_dial **dial_out);

#endif
