/* SPDX-License-Identifier: Apache-2.0 */
#include "core/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/service.h"

/* An address that swallows packets is left after this time in the first sweep; each further sweep
 * gives twice as much, up to the 2 s that whoever answers there has for its challenge. */
#define CONNECT_NS (300 * (uint64_t)MT_MS)
#define HANDSHAKE_NS (2 * MT_SECOND)
#define PAUSE_MAX_NS (100 * (uint64_t)MT_MS)
/* A refused session is final when it is all that was heard for this long: one of the addresses
 * may belong to somebody else while the right listener is not up yet. */
#define REFUSED_NS MT_SECOND

enum dial_state { WAITING, CONNECTING, CHALLENGED, PROVING, FINISHED };

struct mt_dial {
    struct mt_service_source source; /* fd -1: none */
    struct mt_service_timer timer;
    struct mt_dial_plan plan;
    enum dial_state state;
    uint32_t next, sweep;
    uint32_t refusals, silences; /* in this sweep: refused the session; may still come up */
    uint64_t refused_since_ns, start_ns;
    size_t have;
    uint8_t hello[MT_HELLO_BYTES], bytes[MT_CHALLENGE_BYTES];
    char last_failure[160];
    int fd; /* the result */
    struct mt_error error;
    struct mt_address addresses[];
};

static void try_next(struct mt_dial *dial);

static void close_attempt(struct mt_dial *dial)
{
    if (dial->source.fd < 0)
        return;
    mt_service_unwatch(&dial->source);
    mt_fd_close(dial->source.fd);
    dial->source.fd = -1;
}

static void finish(struct mt_dial *dial)
{
    dial->state = FINISHED;
    mt_service_timer_set(&dial->timer, 0);
    mt_auth_wipe(dial->plan.key, sizeof dial->plan.key);
    mt_service_signal();
    if (dial->plan.finished)
        dial->plan.finished(dial->plan.arg);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void fail_attempt(struct mt_dial *dial, const char *why)
{
    char address[MT_ADDRESS_TEXT];
    mt_address_format(&dial->addresses[dial->next - 1], address);
    snprintf(dial->last_failure, sizeof dial->last_failure, "%s: %s", address, why);
    if (dial->sweep == 0)
        mt_log(MT_LOG_DEBUG, (int)dial->plan.hello.from, "rank %u is not reached at %s",
               dial->plan.hello.to, dial->last_failure);
    close_attempt(dial);
}

static void give_up(struct mt_dial *dial)
{
    double waited = (double)(mt_clock_now_ns() - dial->start_ns) / 1e9;
    close_attempt(dial);
    const char *last = dial->plan.address_count ? "no time was left to try" : "no address to try";
    const char *advice = dial->plan.hello.kind == MT_STREAM_JOIN
                             ? "; was it started, with this session? `manta doctor --session` here "
                               "tells whether it can be reached"
                             : "";
    mt_error_set_rank(&dial->error, MANTA_ETIMEOUT, (int)dial->plan.hello.to,
                      "rank %u could not be reached within %.1f s (%s)%s", dial->plan.hello.to,
                      waited, dial->last_failure[0] ? dial->last_failure : last, advice);
    finish(dial);
}

static void give_up_refused(struct mt_dial *dial)
{
    if (dial->plan.hello.kind != MT_STREAM_JOIN) /* they have joined the same session */
        mt_error_set_rank(&dial->error, MANTA_EPEER, (int)dial->plan.hello.to,
                          "rank %u has closed its communicator, or gave up while it was made and "
                          "says why (%s)",
                          dial->plan.hello.to, dial->last_failure);
    else
        mt_error_set_rank(
            &dial->error, MANTA_EAUTH, (int)dial->plan.hello.to,
            "rank %u's listener does not know this session (%s): its secret is another "
            "one, or its communicator has ended; give every rank the same session string",
            dial->plan.hello.to, dial->last_failure);
    finish(dial);
}

static void give_up_own_lack(struct mt_dial *dial, int failed)
{
    close_attempt(dial);
    errno = failed;
    mt_error_set_rank(&dial->error, MANTA_ESYSTEM, (int)dial->plan.hello.from,
                      "rank %u cannot connect to rank %u: %s; raise its limit of open files "
                      "(ulimit -n) or free memory",
                      dial->plan.hello.from, dial->plan.hello.to, strerror(failed));
    finish(dial);
}

static void end_sweep(struct mt_dial *dial)
{
    uint64_t now_ns = mt_clock_now_ns();
    uint64_t pause_ns = (uint64_t)MT_MS << (dial->sweep < 7 ? dial->sweep : 7);
    if (dial->refusals == 0)
        dial->refused_since_ns = 0;
    else if (dial->refused_since_ns == 0)
        dial->refused_since_ns = now_ns;
    if (dial->refusals && (dial->silences == 0 || now_ns - dial->refused_since_ns > REFUSED_NS)) {
        give_up_refused(dial);
        return;
    }
    dial->sweep++;
    dial->next = 0;
    dial->refusals = dial->silences = 0;
    dial->state = WAITING;
    mt_service_timer_set(&dial->timer,
                         sooner(now_ns + sooner(pause_ns, PAUSE_MAX_NS), dial->plan.deadline_ns));
}

static void send_bytes(struct mt_dial *dial, const void *bytes, size_t count, enum dial_state then)
{
    if (send(dial->source.fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)count) {
        dial->silences++;
        fail_attempt(dial, strerror(errno));
        try_next(dial);
        return;
    }
    dial->state = then;
    dial->have = 0;
    mt_service_rewatch(&dial->source, EPOLLIN);
    /* Who has the proof may have taken the stream into use. To leave it because it is slow would
     * look to it like a death, and a second stream would come too late: it has until the end. */
    uint64_t patience_ns = mt_clock_now_ns() + HANDSHAKE_NS;
    mt_service_timer_set(&dial->timer, then == PROVING
                                           ? dial->plan.deadline_ns
                                           : sooner(patience_ns, dial->plan.deadline_ns));
}

/* A TCP socket can connect to itself when the port it dials is not listening but free. */
static int is_connected_to_itself(int fd)
{
    struct sockaddr_storage here, there;
    socklen_t here_bytes = sizeof here, there_bytes = sizeof there;
    memset(&here, 0, sizeof here);
    memset(&there, 0, sizeof there);
    if (getsockname(fd, (struct sockaddr *)&here, &here_bytes) ||
        getpeername(fd, (struct sockaddr *)&there, &there_bytes))
        return 0;
    return here.ss_family != AF_UNIX && here_bytes == there_bytes &&
           memcmp(&here, &there, here_bytes) == 0;
}

static void connected(struct mt_dial *dial)
{
    int failed = 0, one = 1;
    socklen_t bytes = sizeof failed;
    getsockopt(dial->source.fd, SOL_SOCKET, SO_ERROR, &failed, &bytes);
    if (failed == 0 && is_connected_to_itself(dial->source.fd)) {
        struct linger at_once = {.l_onoff = 1, .l_linger = 0};
        setsockopt(dial->source.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        failed = ECONNREFUSED;
    }
    if (failed) {
        if (mt_error_is_lack(failed)) {
            give_up_own_lack(dial, failed);
            return;
        }
        dial->silences++;
        fail_attempt(dial, strerror(failed));
        try_next(dial);
        return;
    }
    if (dial->addresses[dial->next - 1].socket.ss_family != AF_UNIX)
        setsockopt(dial->source.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    mt_hello_encode(&dial->plan.hello, dial->hello);
    send_bytes(dial, dial->hello, sizeof dial->hello, CHALLENGED);
}

static void answer_version(struct mt_dial *dial, uint32_t protocol)
{
    close_attempt(dial);
    mt_error_set_rank(&dial->error, MANTA_EVERSION, (int)dial->plan.hello.to,
                      "rank %u's libmanta speaks protocol %u, this one %d; install the same "
                      "version everywhere",
                      dial->plan.hello.to, protocol, MT_WIRE_PROTOCOL);
    finish(dial);
}

static void answer_challenge(struct mt_dial *dial)
{
    struct mt_challenge challenge;
    uint8_t mac[MT_AUTH_MAC_BYTES];
    if (mt_challenge_decode(dial->bytes, &challenge)) {
        dial->silences++;
        fail_attempt(dial, "it is not a listener of libmanta");
        try_next(dial);
        return;
    }
    if (challenge.status == MT_CHALLENGE_VERSION) {
        answer_version(dial, challenge.protocol);
        return;
    }
    int is_known = challenge.status == MT_CHALLENGE_GO;
    if (is_known && mt_proof_acceptor(dial->plan.key, dial->hello, challenge.nonce, mac) == 0)
        is_known = mt_auth_equal(mac, challenge.mac, sizeof mac);
    if (!is_known || mt_proof_dialler(dial->plan.key, dial->hello, challenge.nonce, mac)) {
        dial->refusals++;
        fail_attempt(dial, "it refused the session");
        try_next(dial);
        return;
    }
    send_bytes(dial, mac, sizeof mac, PROVING);
}

static int peer_is_other_user(const struct mt_dial *dial)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    if (dial->plan.hello.kind != MT_STREAM_SHM)
        return 0;
    return getsockopt(dial->source.fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) ||
           peer.uid != geteuid();
}

/* Unix sockets, which come first, are not counted. */
static void note_reach(const struct mt_dial *dial)
{
    struct mt_reach note = {.place = 0};
    for (uint32_t i = 0; i < dial->plan.address_count; i++) {
        int is_internet = dial->addresses[i].socket.ss_family != AF_UNIX;
        note.count += is_internet;
        note.place += is_internet && i + 1 < dial->next;
    }
    note.is_told = dial->plan.is_told && note.place == 0;
    mt_reach_dialled(dial->plan.reach, dial->source.fd, &note);
}

static void accepted(struct mt_dial *dial)
{
    if (memcmp(dial->bytes, mt_accepted, MT_ACCEPTED_BYTES) != 0 || peer_is_other_user(dial)) {
        dial->silences++;
        fail_attempt(dial, "it is not a listener of libmanta of this user");
        try_next(dial);
        return;
    }
    note_reach(dial);
    mt_service_unwatch(&dial->source);
    dial->fd = dial->source.fd;
    dial->source.fd = -1;
    finish(dial);
}

static void read_answer(struct mt_dial *dial)
{
    size_t wanted = dial->state == CHALLENGED ? MT_CHALLENGE_BYTES : MT_ACCEPTED_BYTES;
    ssize_t got = recv(dial->source.fd, dial->bytes + dial->have, wanted - dial->have, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        dial->silences++;
        fail_attempt(dial, got < 0 ? strerror(errno) : "it closed the connection");
        try_next(dial);
        return;
    }
    dial->have += (size_t)got;
    if (dial->have < wanted)
        return;
    if (dial->state == CHALLENGED)
        answer_challenge(dial);
    else
        accepted(dial);
}

static void ready(struct mt_service_source *source, uint32_t events)
{
    struct mt_dial *dial = source->arg;
    (void)events;
    if (dial->state == CONNECTING)
        connected(dial);
    else
        read_answer(dial);
}

static void expired(struct mt_service_timer *timer)
{
    struct mt_dial *dial = timer->arg;
    if (mt_clock_now_ns() >= dial->plan.deadline_ns) {
        if (dial->state != WAITING)
            fail_attempt(dial, "no answer");
        give_up(dial);
        return;
    }
    if (dial->state != WAITING) {
        dial->silences++;
        fail_attempt(dial, "no answer");
    }
    if (dial->plan.address_count)
        try_next(dial);
    else
        give_up(dial);
}

/* 0: under way. */
static int begin_attempt(struct mt_dial *dial, const struct mt_address *address)
{
    int fd = socket(address->socket.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    mt_fd_enter(fd);
    dial->source.fd = fd;
    if (connect(fd, (const struct sockaddr *)&address->socket, address->bytes) &&
        errno != EINPROGRESS)
        return errno;
    if (mt_service_watch(&dial->source, EPOLLIN | EPOLLOUT))
        return ENOMEM;
    uint64_t limit_ns = CONNECT_NS << (dial->sweep < 3 ? dial->sweep : 3);
    dial->state = CONNECTING;
    mt_service_timer_set(&dial->timer,
                         sooner(mt_clock_now_ns() + limit_ns, dial->plan.deadline_ns));
    return 0;
}

static void try_next(struct mt_dial *dial)
{
    while (dial->next < dial->plan.address_count) {
        int failed = begin_attempt(dial, &dial->addresses[dial->next++]);
        if (failed == 0)
            return;
        if (mt_error_is_lack(failed)) {
            give_up_own_lack(dial, failed);
            return;
        }
        dial->silences++;
        fail_attempt(dial, strerror(failed));
    }
    end_sweep(dial);
}

int mt_dial_start(const struct mt_dial_plan *plan, struct mt_dial **dial_out)
{
    size_t list_bytes = plan->address_count * sizeof(struct mt_address);
    struct mt_dial *dial = calloc(1, sizeof *dial + list_bytes);
    *dial_out = NULL;
    if (!dial)
        return MANTA_ENOMEM;
    dial->plan = *plan;
    memcpy(dial->addresses, plan->addresses, list_bytes);
    dial->plan.addresses = dial->addresses;
    dial->plan.hello.protocol = MT_WIRE_PROTOCOL;
    if (mt_auth_random(dial->plan.hello.nonce, sizeof dial->plan.hello.nonce)) {
        free(dial);
        return MANTA_ESYSTEM;
    }
    dial->fd = -1;
    dial->start_ns = mt_clock_now_ns();
    dial->source = (struct mt_service_source){.fd = -1, .ready = ready, .arg = dial};
    dial->timer = (struct mt_service_timer){.fire = expired, .arg = dial};
    dial->state = WAITING;
    /* The first attempt is made by the service thread too, so that `finished` runs there. */
    mt_service_timer_set(&dial->timer, dial->start_ns);
    *dial_out = dial;
    return 0;
}

int mt_stream_dial_test(struct mt_dial *dial, int *fd_out, struct mt_error *error)
{
    *fd_out = -1;
    mt_service_lock();
    int is_finished = dial->state == FINISHED;
    mt_service_unlock();
    if (!is_finished)
        return MANTA_INPROGRESS;
    int fd = dial->fd;
    if (fd < 0)
        *error = dial->error;
    dial->fd = -1;
    free(dial);
    *fd_out = fd;
    return fd < 0 ? error->code : 0;
}

void mt_stream_dial_cancel(struct mt_dial *dial)
{
    if (!dial)
        return;
    mt_service_lock();
    close_attempt(dial);
    mt_service_timer_set(&dial->timer, 0);
    mt_fd_close(dial->fd);
    mt_auth_wipe(dial->plan.key, sizeof dial->plan.key);
    mt_service_unlock();
    free(dial);
}
