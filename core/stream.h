/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Authenticated streams between ranks of a group. The process has one listener (TCP on IPv4 and
 * IPv6, and an abstract unix socket), owned by the service thread; it carries out the handshake
 * (HMAC-SHA256 challenge with the group's key, both ways, 2 s, at most 64 unauthenticated
 * connections) and hands the connected descriptor, non-blocking and close-on-exec, to who
 * registered for (group, kind). Dialling runs in the service thread too: post and test.
 */
#ifndef MT_CORE_STREAM_H
#define MT_CORE_STREAM_H

#include <stdint.h>

#include "core/address.h"
#include "core/group.h"

enum mt_stream_kind {
    MT_STREAM_JOIN = 1, /* bootstrap, keyed by the session's secret */
    MT_STREAM_CONTROL = 2,
    MT_STREAM_TCP = 3, /* TCP, data */
    MT_STREAM_SHM = 4, /* unix socket, passes descriptors; SO_PEERCRED of the same uid is checked */
    MT_STREAM_VERBS = 5, /* what queue pairs are made with, and the sign that a peer has gone */
};

/* Called in the service thread; takes over fd. `from` is the authenticated rank of the dialler,
 * index what it gave to mt_stream_dial(). Must not block. */
typedef void mt_stream_accept_fn(void *arg, int fd, uint32_t from, uint32_t index);

/* Called there, too, when there is no descriptor for a stream: 0 if `accept` would not have taken
 * it, so that nothing is lost. */
typedef int mt_stream_misses_fn(void *arg, uint32_t from, uint32_t index);

/* Accept streams of this kind for this group from now on. Streams that came early wait (bounded).
 * misses: NULL: `accept` takes all. 0; or MANTA_ENOMEM, and none has come. */
int mt_stream_listen(const struct mt_group *group, int kind, mt_stream_accept_fn *accept,
                     mt_stream_misses_fn *misses, void *arg);
/* Stop; after the return the callback is not running and will not be called again. */
void mt_stream_unlisten(const struct mt_group *group, int kind);

struct mt_dial;
/* Connect to a rank's listener; all its addresses are tried, best first. Any thread. */
int mt_stream_dial(const struct mt_group *group, uint32_t peer, int kind, uint32_t index,
                   uint64_t deadline_ns, struct mt_dial **dial_out);
/* The same; `finished` is called once, in the service thread, when mt_stream_dial_test() has
 * something else to say than INPROGRESS (a doorbell instead of polling; it may be NULL). */
int mt_stream_dial_notify(const struct mt_group *group, uint32_t peer, int kind, uint32_t index,
                          uint64_t deadline_ns, void (*finished)(void *arg), void *arg,
                          struct mt_dial **dial_out);
/* A further stream to a rank that is reached already: tries the address with the host of `first`
 * first (NULL: the best), and core/reach.h does not hear of it. */
int mt_stream_dial_beside(const struct mt_group *group, uint32_t peer, int kind, uint32_t index,
                          const struct mt_address *first, uint64_t deadline_ns,
                          struct mt_dial **dial_out);
/* 0: *fd_out is the stream, the dial is freed. MANTA_INPROGRESS. Error: *error filled, dial freed.
 */
int mt_stream_dial_test(struct mt_dial *dial, int *fd_out, struct mt_error *error);
/* Give up and free; closes what was connected. */
void mt_stream_dial_cancel(struct mt_dial *dial);

#endif
