/* SPDX-License-Identifier: Apache-2.0 */
/* Who is here while rank 0 waits for its group: what core/bootstrap_host.c and bootstrap_joiners.c
 * share. All under the service's lock. */
#ifndef MT_CORE_BOOTSTRAP_HOST_H
#define MT_CORE_BOOTSTRAP_HOST_H

#include "core/bootstrap.h"
#include "core/link.h"
#include "core/listener.h"
#include "core/stream_inbox.h"

struct mt_joiner {
    struct mt_link link;
    struct mt_join_host *host;
    struct mt_join join;
    int has_joined;  /* its message is here; it may have gone since */
    int is_welcomed; /* the answer is on its way */
    struct mt_joiner *next;
};

struct mt_join_host {
    const struct mt_bootstrap *bootstrap;
    struct mt_inbox inbox;
    struct mt_port *ports[MT_SESSION_ADDRESSES];
    uint32_t port_count;
    struct mt_joiner *joiners;
    struct mt_joiner **by_rank; /* [ranks], NULL: not here */
    uint8_t *welcomed;          /* [ranks] was sent the answer, by which it leaves */
    uint8_t *answer;            /* lent to the links; NULL: none yet */
    uint32_t here;              /* ranks that are here, rank 0 included */
    struct mt_error refusal;    /* code 0: none */
};

/* Let ranks join; the caller has set bootstrap and the arrays. Close in any case. */
int mt_bootstrap_open_host(struct mt_join_host *host, struct mt_error *error);
/* Closes all links, and frees the arrays too. */
void mt_bootstrap_close_host(struct mt_join_host *host);
/* Tell host->refusal to all that have joined: the whole group cannot come about. */
void mt_bootstrap_refuse_all(struct mt_join_host *host);

#endif
