/* SPDX-License-Identifier: Apache-2.0 */
/* Inboxes of streams, as core/group.c and core/stream.c share them. Under the service's lock. */
#ifndef MT_CORE_STREAM_INBOX_H
#define MT_CORE_STREAM_INBOX_H

#include "core/auth.h"
#include "core/stream.h"

struct mt_inbox {
    uint8_t uid[MT_ID_BYTES]; /* of the group; for MT_STREAM_JOIN the session's id */
    int kind;
    uint32_t rank;
    const struct mt_group *group; /* NULL for MT_STREAM_JOIN */
    mt_stream_accept_fn *accept;
    mt_stream_misses_fn *misses;
    void *arg;
    struct mt_inbox *next;
};

/* Streams that wait are handed out soon, in the service thread. */
void mt_inbox_open(struct mt_inbox *inbox);
void mt_inbox_close(struct mt_inbox *inbox);
/* 1 if one is open for joins of this session. */
int mt_inbox_is_hosting(const uint8_t session_id[MT_ID_BYTES]);

#endif
