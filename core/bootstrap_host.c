/* SPDX-License-Identifier: Apache-2.0 */
/* Rank 0's side of the bootstrap: it waits until all are here, compares what they say, and answers
 * all of them, or tells them why not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bootstrap_host.h"
#include "core/clock.h"
#include "core/notice.h"
#include "core/ranks.h"
#include "core/wire_places.h"

/* After a refusal rank 0 stays this long, so that those still to come are told why; but not when it
 * has waited for them until its deadline. */
#define LINGER_NS MT_SECOND
/* Until a welcome for which there was no memory is tried again. */
#define AGAIN_NS (10 * (uint64_t)MT_MS)

/* "ranks 1, 3-5", and the lowest of them; -1 without memory. */
static int find_missing(const struct mt_join_host *host, char *who, size_t who_bytes)
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

static void word_missing(struct mt_join_host *host)
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

static void warn_missing(const struct mt_join_host *host)
{
    char who[160], whom[192];
    find_missing(host, who, sizeof who);
    snprintf(whom, sizeof whom, "%s of %u", who, host->bootstrap->ranks);
    mt_bootstrap_notice(host->bootstrap, whom,
                        "start them with the same session, on hosts that reach this one");
}

static int compare_versions(struct mt_join_host *host)
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

static int compare_fingerprints(struct mt_join_host *host)
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

static int make_welcome(struct mt_join_host *host, struct mt_welcome *welcome)
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

static int is_flushed(const struct mt_join_host *host)
{
    for (const struct mt_joiner *at = host->joiners; at; at = at->next)
        if (mt_link_is_open(&at->link) && at->link.first)
            return 0;
    return 1;
}

/* It has its answer: it leaves by it, and comes again if it lost its connection before. */
static int is_answered(const struct mt_join_host *host, uint32_t rank)
{
    const struct mt_joiner *joiner = host->by_rank[rank];
    return host->welcomed[rank] && (!joiner || (joiner->is_welcomed && !joiner->link.first));
}

static void word_unanswered(struct mt_join_host *host)
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
static void welcome_all(struct mt_join_host *host, const struct mt_wire_frame *frame)
{
    const struct mt_bootstrap *bootstrap = host->bootstrap;
    while (!mt_bootstrap_is_orphaned(bootstrap)) {
        uint64_t now_ns = mt_clock_now_ns();
        uint64_t until_ns = mt_cancel_until(bootstrap->cancel, bootstrap->deadline_ns);
        uint64_t again_ns = until_ns;
        uint32_t answered = 1;
        for (uint32_t r = 1; r < bootstrap->ranks; r++) {
            struct mt_joiner *joiner = host->by_rank[r];
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

static void send_welcome(struct mt_join_host *host, const struct mt_welcome *welcome)
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
static void linger(struct mt_join_host *host)
{
    uint64_t until_ns = mt_clock_now_ns() + LINGER_NS;
    uint32_t told = 0;
    int is_known = mt_bootstrap_is_cancelled(host->bootstrap); /* the others learn it there too */
    uint32_t wanted =
        is_known || host->refusal.code == MANTA_ETIMEOUT ? 0 : host->bootstrap->ranks - 1;
    if (mt_cancel_is_set(host->bootstrap->cancel))
        return;
    mt_bootstrap_refuse_all(host);
    while (mt_clock_now_ns() < until_ns && !mt_cancel_is_set(host->bootstrap->cancel)) {
        told = 0;
        for (struct mt_joiner *at = host->joiners; at; at = at->next)
            told += at->has_joined != 0;
        if (told >= wanted && is_flushed(host))
            return;
        mt_service_wait(until_ns);
    }
}

/* Lock held. */
static void collect(struct mt_join_host *host, struct mt_welcome *welcome_out)
{
    const struct mt_bootstrap *bootstrap = host->bootstrap;
    struct mt_notice notice = mt_notice_begin(bootstrap->start_ns, bootstrap->patience_ns);
    while (host->here < bootstrap->ranks && host->refusal.code == 0) {
        if (mt_bootstrap_is_cancelled(bootstrap))
            mt_bootstrap_why_cancelled(bootstrap, &host->refusal);
        else if (mt_clock_now_ns() >= bootstrap->deadline_ns)
            word_missing(host);
        else if (mt_notice_is_due(&notice, mt_clock_now_ns()))
            warn_missing(host);
        else
            mt_service_wait(mt_notice_until(&notice, bootstrap->deadline_ns));
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
    struct mt_join_host host = {.bootstrap = bootstrap, .here = 1};
    memset(welcome_out, 0, sizeof *welcome_out);
    host.by_rank = calloc(bootstrap->ranks, sizeof(struct mt_joiner *));
    host.welcomed = calloc(bootstrap->ranks, 1);
    if (!host.by_rank || !host.welcomed) {
        free(host.by_rank);
        free(host.welcomed);
        return mt_error_set(error, MANTA_ENOMEM, "no memory for %u ranks", bootstrap->ranks);
    }
    mt_service_lock();
    int rc = mt_bootstrap_open_host(&host, error);
    if (rc == 0) {
        collect(&host, welcome_out);
        rc = host.refusal.code;
        if (rc)
            *error = host.refusal;
    }
    mt_bootstrap_close_host(&host);
    mt_service_unlock();
    return rc;
}
