/* SPDX-License-Identifier: Apache-2.0 */
/* Those that join at rank 0: where it listens for them, what they say first, and which of them it
 * refuses at once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bootstrap_host.h"
#include "core/log.h"

static void send_failure(struct mt_joiner *joiner, const struct mt_error *error)
{
    uint8_t bytes[1024];
    struct mt_wire_frame frame = {.type = MT_WIRE_REFUSAL};
    frame.bytes = (uint32_t)mt_failure_encode(error, bytes, sizeof bytes);
    mt_link_send(&joiner->link, &frame, bytes);
}

void mt_bootstrap_refuse_all(struct mt_join_host *host)
{
    for (struct mt_joiner *at = host->joiners; at; at = at->next)
        if (at->has_joined && mt_link_is_open(&at->link))
            send_failure(at, &host->refusal);
    mt_service_signal();
}

static void forget_joiner(struct mt_joiner *joiner)
{
    struct mt_join_host *host = joiner->host;
    uint32_t rank = joiner->join.member.rank;
    if (joiner->has_joined && rank < host->bootstrap->ranks && host->by_rank[rank] == joiner) {
        host->by_rank[rank] = NULL;
        host->here--;
    }
}

static void joiner_lost(struct mt_link *link, int errno_or_0)
{
    (void)errno_or_0;
    forget_joiner(link->arg);
}

static int check_ranks(struct mt_join_host *host, const struct mt_join *join)
{
    uint32_t rank = join->member.rank, ranks = host->bootstrap->ranks;
    if (join->ranks != ranks)
        return mt_error_set_rank(&host->refusal, MANTA_EINVAL, (int)rank,
                                 "rank %u joined a communicator of %u ranks, but rank 0 one of %u; "
                                 "give all ranks the same size",
                                 rank, join->ranks, ranks);
    if (rank >= ranks)
        return mt_error_set_rank(&host->refusal, MANTA_EINVAL, (int)rank,
                                 "rank %u joined a communicator of %u ranks; ranks are 0 to %u",
                                 rank, ranks, ranks - 1);
    if (rank == 0)
        return mt_error_set_rank(&host->refusal, MANTA_EINVAL, 0,
                                 "two processes joined as rank 0 (process %d is the second); give "
                                 "each its own rank",
                                 (int)join->member.pid);
    return 0;
}

/* A rank that lost its connection comes again: known by its nonce. */
static int check_twin(struct mt_join_host *host, const struct mt_join *join)
{
    struct mt_joiner *twin = host->by_rank[join->member.rank];
    if (!twin)
        return 0;
    if (memcmp(twin->join.nonce, join->nonce, MT_ID_BYTES) == 0) {
        mt_link_close(&twin->link);
        forget_joiner(twin);
        return 0;
    }
    return mt_error_set_rank(&host->refusal, MANTA_EINVAL, (int)join->member.rank,
                             "two processes joined as rank %u (processes %d and %d); give each its "
                             "own rank",
                             join->member.rank, (int)twin->join.member.pid, (int)join->member.pid);
}

static void joiner_said(struct mt_link *link, const struct mt_wire_frame *frame,
                        const uint8_t *payload)
{
    struct mt_joiner *joiner = link->arg;
    struct mt_join_host *host = joiner->host;
    if (frame->type != MT_WIRE_JOIN || joiner->has_joined ||
        mt_join_decode(payload, frame->bytes, &joiner->join)) {
        mt_log(MT_LOG_DEBUG, 0, "closed a join that is not a join message");
        mt_link_close(link);
        forget_joiner(joiner);
        return;
    }
    joiner->has_joined = 1;
    if (host->refusal.code) {
        send_failure(joiner, &host->refusal);
        return;
    }
    if (check_ranks(host, &joiner->join) || check_twin(host, &joiner->join)) {
        mt_bootstrap_refuse_all(host);
        return;
    }
    host->by_rank[joiner->join.member.rank] = joiner;
    host->here++;
    mt_service_signal();
}

static void accept_joiner(void *arg, int fd, uint32_t from, uint32_t index)
{
    struct mt_join_host *host = arg;
    struct mt_joiner *joiner = calloc(1, sizeof *joiner);
    (void)from;
    (void)index;
    if (!joiner) {
        mt_fd_close(fd);
        return;
    }
    joiner->host = host;
    joiner->link.payload_max = MT_JOIN_MAX;
    joiner->link.received = joiner_said;
    joiner->link.lost = joiner_lost;
    joiner->link.arg = joiner;
    if (mt_link_open(&joiner->link, fd)) {
        free(joiner);
        mt_fd_close(fd);
        return;
    }
    joiner->next = host->joiners;
    host->joiners = joiner;
}

/* A session that another process prepared names a port where nobody listens yet. */
static int open_ports(struct mt_join_host *host, struct mt_error *error)
{
    const struct mt_session *session = host->bootstrap->session;
    uint32_t usable = 0;
    int failed = 0;
    if (mt_inbox_is_hosting(host->bootstrap->session_id))
        return mt_error_set_rank(error, MANTA_EINVAL, 0,
                                 "two threads of this process joined as rank 0; give each its own "
                                 "rank");
    for (uint32_t i = 0; i < session->address_count; i++) {
        struct mt_address address;
        struct mt_port *port;
        const char *text = session->addresses[i];
        if (mt_address_parse(text, strlen(text), &address))
            continue;
        if (mt_listener_has(&address)) {
            usable++;
            continue;
        }
        int rc = mt_port_open(&address, &port);
        if (rc) {
            failed = rc == EADDRNOTAVAIL && failed ? failed : rc;
            continue;
        }
        host->ports[host->port_count++] = port;
        usable++;
    }
    if (usable || host->bootstrap->ranks == 1)
        return 0;
    mt_error_set_rank(error, MANTA_ESYSTEM, 0,
                      "rank 0 cannot listen on the session's address %s: %s; run rank 0 on the "
                      "host, or in the process, that made the session%s",
                      session->addresses[0], strerror(failed),
                      failed == EADDRINUSE ? ", and one rank 0 only" : "");
    error->system_errno = failed;
    return MANTA_ESYSTEM;
}

int mt_bootstrap_open_host(struct mt_join_host *host, struct mt_error *error)
{
    memcpy(host->inbox.uid, host->bootstrap->session_id, MT_ID_BYTES);
    host->inbox.kind = MT_STREAM_JOIN;
    host->inbox.accept = accept_joiner;
    host->inbox.arg = host;
    int rc = open_ports(host, error);
    if (rc == 0)
        mt_inbox_open(&host->inbox);
    return rc;
}

void mt_bootstrap_close_host(struct mt_join_host *host)
{
    mt_inbox_close(&host->inbox);
    while (host->port_count)
        mt_port_close(host->ports[--host->port_count]);
    while (host->joiners) {
        struct mt_joiner *joiner = host->joiners;
        host->joiners = joiner->next;
        mt_link_close(&joiner->link);
        free(joiner->join.fingerprint);
        free(joiner);
    }
    free(host->by_rank);
    free(host->welcomed);
    free(host->answer);
}
