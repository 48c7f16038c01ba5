/* SPDX-License-Identifier: Apache-2.0 */
/* Rank 0's side of the bootstrap. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bootstrap.h"
#include "core/clock.h"
#include "core/link.h"
#include "core/listener.h"
#include "core/log.h"
#include "core/ranks.h"
#include "core/stream_inbox.h"
#include "core/wire_places.h"

/* After a refusal rank 0 stays this long, so that those still to come are told why; but not when it
 * has waited for them until its deadline. */
#define LINGER_NS MT_SECOND
/* Until a welcome for which there was no memory is tried again. */
#define AGAIN_NS (10 * (uint64_t)MT_MS)

struct joiner {
    struct mt_link link;
    struct host *host;
    struct mt_join join;
    int has_joined;  /* its message is here; it may have gone since */
    int is_welcomed; /* the answer is on its way */
    struct joiner *next;
};

struct host {
    const struct mt_bootstrap *bootstrap;
    struct mt_inbox inbox;
    struct mt_port *ports[MT_SESSION_ADDRESSES];
    uint32_t port_count;
    struct joiner *joiners;
    struct joiner **by_rank; /* [ranks], NULL: not here */
    uint8_t *welcomed;       /* [ranks] was sent the answer, by which it leaves */
    uint8_t *answer;         /* lent to the links; NULL: none yet */
    uint32_t here;           /* ranks that are here, rank 0 included */
    struct mt_error refusal; /* code 0: none */
};

static void send_failure(struct joiner *joiner, const struct mt_error *error)
{
    uint8_t bytes[1024];
    struct mt_wire_frame frame = {.type = MT_WIRE_REFUSAL};
    frame.bytes = (uint32_t)mt_failure_encode(error, bytes, sizeof bytes);
    mt_link_send(&joiner->link, &frame, bytes);
}

/* Who joined before learns it too: the whole group cannot come about. */
static void refuse_all(struct host *host)
{
    for (struct joiner *at = host->joiners; at; at = at->next)
        if (at->has_joined && mt_link_is_open(&at->link))
            send_failure(at, &host->refusal);
    mt_service_signal();
}

static void forget_joiner(struct joiner *joiner)
{
    struct host *host = joiner->host;
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

static int check_ranks(struct host *host, const struct mt_join *join)
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
static int check_twin(struct host *host, const struct mt_join *join)
{
    struct joiner *twin = host->by_rank[join->member.rank];
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
    struct joiner *joiner = link->arg;
    struct host *host = joiner->host;
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
        refuse_all(host);
        return;
    }
    host->by_rank[joiner->join.member.rank] = joiner;
    host->here++;
    mt_service_signal();
}

static void accept_joiner(void *arg, int fd, uint32_t from, uint32_t index)
{
    struct host *host = arg;
    struct joiner *joiner = calloc(1, sizeof *joiner);
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
static int open_ports(struct host *host, struct mt_error *error)
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
                      "host, or in the process, that made the session",
                      session->addresses[0], strerror(failed));
    error->system_errno = failed;
    return MANTA_ESYSTEM;
}

/* "ranks 1, 3-5", and the lowest of them; -1 without memory. */
static int find_missing(const struct host *host, char *who, size_t who_bytes)
{
    uint32_t ranks = host->bootstrap->ranks;
    uint8_t *missing = calloc(ranks, 1);
    snprintf(who, who_bytes, "other ranks");
    if (!missing)
        return -1;
    for (uint32_t r = 1; r < ranks; r++)
        missing[r] = host->by_rank[r] == NULL;
    int lowest = mt_ranks_describe(missing, ranks, who, who_bytes);
    free(missing);
    return lowest;
}

static void word_missing(struct host *host)
{
    const struct mt_bootstrap *bootstrap = host->bootstrap;
    char who[160];
    int lowest = find_missing(host, who, sizeof who);
    mt_error_set_rank(&host->refusal, MANTA_ETIMEOUT, lowest,
                      "%s of %u did not join within %.1f s; start them with the same session, or "
                      "raise MANTA_TIMEOUT",
                      who, bootstrap->ranks,
                      (double)(bootstrap->deadline_ns - bootstrap->start_ns) / 1e9);
}

static void warn_missing(const struct host *host)
{
    char who[160], whom[192];
    find_missing(host, who, sizeof who);
    snprintf(whom, sizeof whom, "%s of %u", who, host->bootstrap->ranks);
    mt_bootstrap_notice_log(host->bootstrap, whom,
                            "start them with the same session, on hosts that reach this one");
}

static int compare_versions(struct host *host)
{
    const uint32_t mine = (uint32_t)manta_version();
    for (uint32_t r = 1; r < host->bootstrap->ranks; r++) {
        uint32_t theirs = host->by_rank[r]->join.version;
        if (theirs != mine)
            return mt_error_set_rank(&host->refusal, MANTA_EVERSION, (int)r,
                                     "rank %u runs libmanta %u.%u.%u, rank 0 %u.%u.%u; install the "
                                     "same version everywhere",
                                     r, theirs / 10000, theirs / 100 % 100, theirs % 100,
                                     mine / 10000, mine / 100 % 100, mine % 100);
    }
    return 0;
}

static int compare_fingerprints(struct host *host)
{
    uint32_t ranks = host->bootstrap->ranks;
    const char **texts = calloc(ranks, sizeof *texts);
    if (!texts)
        return mt_error_set(&host->refusal, MANTA_ENOMEM, "no memory to compare configurations");
    texts[0] = host->bootstrap->fingerprint;
    for (uint32_t r = 1; r < ranks; r++)
        texts[r] = host->by_rank[r]->join.fingerprint;
    int rc = mt_bootstrap_compare(texts, ranks, &host->refusal);
    free(texts);
    return rc;
}

static int make_welcome(struct host *host, struct mt_welcome *welcome)
{
    uint32_t ranks = host->bootstrap->ranks;
    welcome->ranks = ranks;
    welcome->members = calloc(ranks, sizeof *welcome->members);
    if (!welcome->members)
        return mt_error_set(&host->refusal, MANTA_ENOMEM, "no memory for %u ranks", ranks);
    welcome->members[0] = host->bootstrap->member;
    for (uint32_t r = 1; r < ranks; r++)
        welcome->members[r] = host->by_rank[r]->join.member;
    if (mt_places_settle(welcome->members, ranks))
        return mt_error_set(&host->refusal, MANTA_ENOMEM, "no memory for %u ranks", ranks);
    while (welcome->epoch == 0)
        if (mt_auth_random(welcome->uid, MT_ID_BYTES) ||
            mt_auth_random(&welcome->epoch, sizeof welcome->epoch))
            return mt_error_set(&host->refusal, MANTA_ESYSTEM, "no random bytes from the kernel");
    return 0;
}

static int is_flushed(const struct host *host)
{
    for (const struct joiner *at = host->joiners; at; at = at->next)
        if (mt_link_is_open(&at->link) && at->link.first)
            return 0;
    return 1;
}

/* It has its answer: it leaves by it, and comes again if it lost its connection before. */
static int is_answered(const struct host *host, uint32_t rank)
{
    const struct joiner *joiner = host->by_rank[rank];
    return host->welcomed[rank] && (!joiner || (joiner->is_welcomed && !joiner->link.first));
}

static void word_unanswered(struct host *host)
{
    uint32_t ranks = host->bootstrap->ranks;
    char who[160];
    uint8_t *missing = host->welcomed; /* not needed any more */
    for (uint32_t r = 1; r < ranks; r++)
        missing[r] = !is_answered(host, r);
    int lowest = mt_ranks_describe(missing, ranks, who, sizeof who);
    mt_error_set_rank(&host->refusal, MANTA_ETIMEOUT, lowest,
                      "%s of %u did not take rank 0's answer in time: stopped, gone, or rank 0 has "
                      "no memory to send it",
                      who, ranks);
}

/* Lock held. Until every answer has reached the kernel: who is slow to read it is waited for. Those
 * that have theirs count on this rank, which cannot go back now: they learn over the links that it
 * has given up. */
static void welcome_all(struct host *host, const struct mt_wire_frame *frame)
{
    const struct mt_bootstrap *bootstrap = host->bootstrap;
    while (!mt_bootstrap_is_orphaned(bootstrap)) {
        uint64_t now_ns = mt_clock_now_ns();
        uint64_t until_ns = mt_cancel_until(bootstrap->cancel, bootstrap->deadline_ns);
        uint64_t again_ns = until_ns;
        uint32_t answered = 1;
        for (uint32_t r = 1; r < bootstrap->ranks; r++) {
            struct joiner *joiner = host->by_rank[r];
            if (joiner && !joiner->is_welcomed) {
                int rc = mt_link_send_lent(&joiner->link, frame, host->answer);
                joiner->is_welcomed = rc == 0;
                host->welcomed[r] |= rc == 0;
                again_ns = rc == MANTA_ENOMEM ? now_ns + AGAIN_NS : again_ns;
            }
            answered += (uint32_t)is_answered(host, r);
        }
        if (answered == bootstrap->ranks)
            return;
        if (now_ns >= until_ns) {
            if (!mt_cancel_is_set(bootstrap->cancel))
                word_unanswered(host);
            return;
        }
        mt_service_wait(again_ns);
    }
}

static void send_welcome(struct host *host, const struct mt_welcome *welcome)
{
    size_t capacity = mt_welcome_bytes_max(welcome->ranks);
    struct mt_wire_frame frame = {.type = MT_WIRE_WELCOME};
    host->answer = malloc(capacity);
    if (host->answer)
        frame.bytes = (uint32_t)mt_welcome_encode(welcome, host->answer, capacity);
    if (frame.bytes)
        welcome_all(host, &frame);
    else
        mt_error_set(&host->refusal, MANTA_ENOMEM, "no memory for the ranks' addresses");
}

/* Lock held. Refuse, and tell it also to those that come a little later. When this rank was given
 * up, nobody is refused: those that are here go on waiting for a rank 0. */
static void linger(struct host *host)
{
    uint64_t until_ns = mt_clock_now_ns() + LINGER_NS;
    uint32_t told = 0;
    int is_known = mt_bootstrap_is_cancelled(host->bootstrap); /* the others learn it there too */
    uint32_t wanted =
        is_known || host->refusal.code == MANTA_ETIMEOUT ? 0 : host->bootstrap->ranks - 1;
    if (mt_cancel_is_set(host->bootstrap->cancel))
        return;
    refuse_all(host);
    while (mt_clock_now_ns() < until_ns && !mt_cancel_is_set(host->bootstrap->cancel)) {
        told = 0;
        for (struct joiner *at = host->joiners; at; at = at->next)
            told += at->has_joined != 0;
        if (told >= wanted && is_flushed(host))
            return;
        mt_service_wait(until_ns);
    }
}

static void close_host(struct host *host)
{
    mt_inbox_close(&host->inbox);
    while (host->port_count)
        mt_port_close(host->ports[--host->port_count]);
    while (host->joiners) {
        struct joiner *joiner = host->joiners;
        host->joiners = joiner->next;
        mt_link_close(&joiner->link);
        free(joiner->join.fingerprint);
        free(joiner);
    }
    free(host->by_rank);
    free(host->welcomed);
    free(host->answer);
}

/* Lock held. */
static void collect(struct host *host, struct mt_welcome *welcome_out)
{
    const struct mt_bootstrap *bootstrap = host->bootstrap;
    struct mt_bootstrap_notice notice = {0};
    while (host->here < bootstrap->ranks && host->refusal.code == 0) {
        if (mt_bootstrap_is_cancelled(bootstrap))
            mt_bootstrap_why_cancelled(bootstrap, &host->refusal);
        else if (mt_clock_now_ns() >= bootstrap->deadline_ns)
            word_missing(host);
        else if (mt_bootstrap_notice_is_due(&notice, bootstrap))
            warn_missing(host);
        else
            mt_service_wait(mt_bootstrap_notice_until(&notice, bootstrap->deadline_ns));
    }
    if (host->refusal.code == 0 && compare_versions(host) == 0 && compare_fingerprints(host) == 0 &&
        make_welcome(host, welcome_out) == 0)
        send_welcome(host, welcome_out);
    if (host->refusal.code) {
        free(welcome_out->members);
        welcome_out->members = NULL;
        linger(host);
    }
}

int mt_bootstrap_host(const struct mt_bootstrap *bootstrap, struct mt_welcome *welcome_out,
                      struct mt_error *error)
{
    struct host host = {.bootstrap = bootstrap, .here = 1};
    memset(welcome_out, 0, sizeof *welcome_out);
    host.by_rank = calloc(bootstrap->ranks, sizeof(struct joiner *));
    host.welcomed = calloc(bootstrap->ranks, 1);
    if (!host.by_rank || !host.welcomed) {
        free(host.by_rank);
        free(host.welcomed);
        return mt_error_set(error, MANTA_ENOMEM, "no memory for %u ranks", bootstrap->ranks);
    }
    memcpy(host.inbox.uid, bootstrap->session_id, MT_ID_BYTES);
    host.inbox.kind = MT_STREAM_JOIN;
    host.inbox.accept = accept_joiner;
    host.inbox.arg = &host;
    mt_service_lock();
    int rc = open_ports(&host, error);
    if (rc == 0) {
        mt_inbox_open(&host.inbox);
        collect(&host, welcome_out);
        rc = host.refusal.code;
        if (rc)
            *error = host.refusal;
    }
    close_host(&host);
    mt_service_unlock();
    return rc;
}
