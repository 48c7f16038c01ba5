/* SPDX-License-Identifier: Apache-2.0 */
/* The other ranks' side of the bootstrap. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/bootstrap.h"
#include "core/clock.h"
#include "core/dial.h"
#include "core/link.h"
#include "core/notice.h"

/* Rank 0 names the ranks that did not come at its own deadline, which may lie a little later. */
#define ANSWER_GRACE_NS (500 * (uint64_t)MT_MS)
#define REDIAL_PAUSE_NS (20 * (uint64_t)MT_MS)
/* Rank 0 answers at once when a join is taken back, unless it is stopped. */
#define WITHDRAW_NS (300 * (uint64_t)MT_MS)

struct joining {
    const struct mt_bootstrap *bootstrap;
    struct mt_link link;
    struct mt_welcome *welcome;
    struct mt_error error;
    int is_over;    /* welcomed, or refused: error.code */
    int was_closed; /* a connection, by rank 0 without an answer */
    uint8_t nonce[MT_ID_BYTES];
    struct mt_notice notice;
};

static int no_memory(struct joining *joining)
{
    return mt_error_set(&joining->error, MANTA_ENOMEM, "no memory to join %u ranks",
                        joining->bootstrap->ranks);
}

static void host_said(struct mt_link *link, const struct mt_wire_frame *frame,
                      const uint8_t *payload)
{
    struct joining *joining = link->arg;
    const struct mt_bootstrap *bootstrap = joining->bootstrap;
    int rc = MANTA_EINVAL;
    if (frame->type == MT_WIRE_WELCOME)
        rc = mt_welcome_decode(payload, frame->bytes, bootstrap->ranks, joining->welcome);
    else if (frame->type == MT_WIRE_REFUSAL)
        rc = mt_failure_decode(payload, frame->bytes, &joining->error);
    if (rc == MANTA_ENOMEM)
        no_memory(joining);
    else if (rc)
        mt_error_set_rank(&joining->error, MANTA_EVERSION, 0,
                          "the answer of rank 0 could not be read; install the same version "
                          "everywhere");
    joining->is_over = 1;
    mt_link_close(link);
    mt_service_signal();
}

static void host_lost(struct mt_link *link, int errno_or_0)
{
    struct joining *joining = link->arg;
    (void)errno_or_0;
    joining->was_closed = 1;
    mt_service_signal();
}

static int cancel(struct joining *joining)
{
    mt_bootstrap_why_cancelled(joining->bootstrap, &joining->error);
    joining->is_over = 1;
    return joining->error.code;
}

static void warn_of_host(const struct joining *joining, int is_connected)
{
    const struct mt_session *session = joining->bootstrap->session;
    char host[192] = "rank 0 at", advice[300];
    for (uint32_t i = 0; i < session->address_count; i++) {
        size_t used = strlen(host);
        snprintf(host + used, sizeof host - used, " %s", session->addresses[i]);
    }
    if (is_connected)
        snprintf(advice, sizeof advice, "%s has answered; its warnings name those that are missing",
                 host);
    else
        snprintf(advice, sizeof advice,
                 "start it, or find out with manta doctor --session what keeps this host from it");
    mt_bootstrap_notice(joining->bootstrap, is_connected ? "other ranks" : host, advice);
}

/* Lock held. As mt_service_wait, or to say whom we wait for. */
static void wait(struct joining *joining, uint64_t until_ns, int is_connected)
{
    if (mt_notice_is_due(&joining->notice, mt_clock_now_ns()))
        warn_of_host(joining, is_connected);
    else
        mt_service_wait(mt_notice_until(&joining->notice, until_ns));
}

static int dial_host(struct joining *joining, struct mt_dial **dial_out)
{
    const struct mt_session *session = joining->bootstrap->session;
    struct mt_address addresses[MT_SESSION_ADDRESSES];
    struct mt_dial_plan plan = {.addresses = addresses,
                                .deadline_ns = joining->bootstrap->deadline_ns};
    for (uint32_t i = 0; i < session->address_count; i++)
        if (mt_address_parse(session->addresses[i], strlen(session->addresses[i]),
                             &addresses[plan.address_count]) == 0)
            plan.address_count++;
    plan.hello.kind = MT_STREAM_JOIN;
    plan.hello.from = joining->bootstrap->rank;
    memcpy(plan.hello.session_id, joining->bootstrap->session_id, MT_ID_BYTES);
    int rc = mt_auth_join_key(session->secret, plan.key);
    if (rc == 0)
        rc = mt_dial_start(&plan, dial_out);
    mt_auth_wipe(plan.key, sizeof plan.key);
    return rc;
}

/* Lock held. Until connected, or the error is final. */
static int connect_to_host(struct joining *joining, int *fd_out)
{
    struct mt_dial *dial;
    int rc = dial_host(joining, &dial);
    if (rc)
        return rc == MANTA_ENOMEM ? no_memory(joining)
                                  : mt_error_set(&joining->error, rc, "cannot dial rank 0");
    while ((rc = mt_stream_dial_test(dial, fd_out, &joining->error)) == MANTA_INPROGRESS) {
        if (mt_bootstrap_is_cancelled(joining->bootstrap)) {
            mt_stream_dial_cancel(dial);
            return cancel(joining);
        }
        wait(joining, joining->bootstrap->deadline_ns + MT_SECOND, 0);
    }
    return rc;
}

static int send_join(struct joining *joining)
{
    const struct mt_bootstrap *bootstrap = joining->bootstrap;
    struct mt_join join = {.version = (uint32_t)manta_version(),
                           .ranks = bootstrap->ranks,
                           .member = bootstrap->member,
                           .fingerprint = (char *)(uintptr_t)bootstrap->fingerprint};
    struct mt_wire_frame frame = {.type = MT_WIRE_JOIN, .origin = bootstrap->rank};
    uint8_t *bytes = malloc(MT_JOIN_MAX);
    memcpy(join.nonce, joining->nonce, MT_ID_BYTES);
    frame.bytes = bytes ? (uint32_t)mt_join_encode(&join, bytes, MT_JOIN_MAX) : 0;
    int rc = frame.bytes ? mt_link_send(&joining->link, &frame, bytes) : MANTA_ENOMEM;
    free(bytes);
    return rc == MANTA_ENOMEM ? no_memory(joining) : 0; /* a lost link is dialled again */
}

static void give_up(struct joining *joining, const char *what)
{
    const struct mt_bootstrap *bootstrap = joining->bootstrap;
    joining->is_over = 1;
    mt_error_set_rank(&joining->error, MANTA_ETIMEOUT, 0,
                      "rank 0 %s within %.1f s: it is stopped, or ranks are missing; see rank 0's "
                      "error",
                      what, (double)(bootstrap->deadline_ns - bootstrap->start_ns) / 1e9);
}

/* Lock held. Take back the join. Rank 0 forgets it and closes, unless its welcome is on the way:
 * then the others count on this rank. */
static void withdraw(struct joining *joining)
{
    uint64_t until_ns = mt_clock_now_ns() + WITHDRAW_NS;
    shutdown(joining->link.source.fd, SHUT_WR);
    while (!joining->is_over && mt_link_is_open(&joining->link) && mt_clock_now_ns() < until_ns)
        mt_service_wait(until_ns);
}

/* Lock held. One connection to rank 0, until it answers or closes. */
static void attempt(struct joining *joining)
{
    const struct mt_bootstrap *bootstrap = joining->bootstrap;
    uint64_t until_ns = bootstrap->deadline_ns + ANSWER_GRACE_NS;
    if (joining->was_closed && mt_clock_now_ns() >= bootstrap->deadline_ns) {
        give_up(joining, "closed each connection and gave no answer");
        return;
    }
    int fd, rc = connect_to_host(joining, &fd);
    if (rc == 0 && mt_link_open(&joining->link, fd)) {
        mt_fd_close(fd);
        rc = no_memory(joining);
    }
    if (rc == 0)
        rc = send_join(joining);
    if (rc) {
        joining->is_over = 1;
        return;
    }
    while (!joining->is_over && mt_link_is_open(&joining->link) &&
           !mt_bootstrap_is_cancelled(bootstrap) && mt_clock_now_ns() < until_ns)
        wait(joining, until_ns, 1);
    if (mt_cancel_is_set(bootstrap->cancel) && mt_link_is_open(&joining->link))
        withdraw(joining);
    if (joining->is_over || mt_bootstrap_is_cancelled(bootstrap) ||
        mt_clock_now_ns() < bootstrap->deadline_ns)
        return; /* an answer; or rank 0 closed, and may listen again */
    give_up(joining, "did not answer");
}

int mt_bootstrap_join(const struct mt_bootstrap *bootstrap, struct mt_welcome *welcome_out,
                      struct mt_error *error)
{
    struct joining joining = {.bootstrap = bootstrap,
                              .welcome = welcome_out,
                              .notice =
                                  mt_notice_begin(bootstrap->start_ns, bootstrap->patience_ns)};
    memset(welcome_out, 0, sizeof *welcome_out);
    joining.link.source.fd = -1;
    joining.link.payload_max = mt_welcome_bytes_max(bootstrap->ranks);
    joining.link.received = host_said;
    joining.link.lost = host_lost;
    joining.link.arg = &joining;
    if (mt_auth_random(joining.nonce, sizeof joining.nonce))
        return mt_error_set(error, MANTA_ESYSTEM, "no random bytes from the kernel");
    mt_service_lock();
    while (!joining.is_over) {
        attempt(&joining);
        if (!joining.is_over && mt_bootstrap_is_cancelled(bootstrap))
            cancel(&joining);
        uint64_t until_ns = mt_clock_now_ns() + REDIAL_PAUSE_NS;
        while (!joining.is_over && mt_clock_now_ns() < until_ns)
            mt_service_wait(until_ns);
    }
    mt_link_close(&joining.link);
    mt_service_unlock();
    if (joining.error.code)
        *error = joining.error;
    return joining.error.code;
}
