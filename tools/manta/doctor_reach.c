/* SPDX-License-Identifier: Apache-2.0 */
/* Other hosts: does a listener of libmanta answer there? The first half of its handshake is enough
 * to know, and leaves no trace there. */
#include "tools/manta/doctor.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <manta/manta.h>

#include "core/address.h"
#include "core/clock.h"
#include "core/session.h"
#include "core/stream.h"
#include "core/wire.h"
#include "tools/manta/manta.h"

enum answer {
    KNOWS_SESSION,
    OTHER_SESSION,
    CANNOT_PROVE,
    OTHER_VERSION,
    NOT_MANTA,   /* something else listens */
    SILENT,      /* connected, and no answer */
    NOT_REACHED, /* errno in `failed` */
};

struct visit {
    enum answer answer;
    int failed;
    uint32_t protocol;
    double took_ms;
    struct mt_address here; /* where the connection left this host */
};

/* Until the events or the time; 0 or an errno. */
static int await(int fd, short events, uint64_t until_ns)
{
    struct pollfd wait = {.fd = fd, .events = events};
    uint64_t now_ns = mt_clock_now_ns();
    int left_ms = now_ns < until_ns ? (int)((until_ns - now_ns) / MT_MS) + 1 : 0;
    int ready = poll(&wait, 1, left_ms);
    if (ready < 0)
        return errno;
    return ready == 0 ? ETIMEDOUT : 0;
}

static int connect_to(const struct mt_address *address, uint64_t until_ns, struct visit *visit,
                      int *fd_out)
{
    int failed = 0;
    socklen_t bytes = sizeof failed;
    int fd = socket(address->socket.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    *fd_out = fd;
    if (fd < 0)
        return errno;
    if (connect(fd, (const struct sockaddr *)&address->socket, address->bytes) != 0) {
        if (errno != EINPROGRESS)
            return errno;
        failed = await(fd, POLLOUT, until_ns);
        if (failed == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &bytes) != 0)
            failed = errno;
    }
    visit->here.bytes = sizeof visit->here.socket;
    if (failed == 0 &&
        getsockname(fd, (struct sockaddr *)&visit->here.socket, &visit->here.bytes) != 0)
        failed = errno;
    return failed;
}

/* What was said, and what comes back. KNOWS_SESSION: a challenge. */
static enum answer ask(int fd, const uint8_t said[MT_HELLO_BYTES], uint64_t until_ns,
                       struct mt_challenge *challenge_out)
{
    uint8_t bytes[MT_CHALLENGE_BYTES];
    size_t have = 0;
    if (send(fd, said, MT_HELLO_BYTES, MSG_NOSIGNAL) != MT_HELLO_BYTES)
        return NOT_MANTA;
    while (have < sizeof bytes) {
        if (await(fd, POLLIN, until_ns) != 0)
            return SILENT;
        ssize_t got = recv(fd, bytes + have, sizeof bytes - have, 0);
        if (got <= 0)
            return NOT_MANTA;
        have += (size_t)got;
    }
    return mt_challenge_decode(bytes, challenge_out) == 0 ? KNOWS_SESSION : NOT_MANTA;
}

static enum answer judge(const struct mt_challenge *challenge, const uint8_t said[MT_HELLO_BYTES],
                         const struct mt_session *session)
{
    uint8_t key[MT_AUTH_KEY_BYTES], mac[MT_AUTH_MAC_BYTES];
    if (challenge->status == MT_CHALLENGE_VERSION)
        return OTHER_VERSION;
    if (challenge->status == MT_CHALLENGE_UNKNOWN || session == NULL)
        return OTHER_SESSION;
    int proves = mt_auth_join_key(session->secret, key) == 0 &&
                 mt_proof_acceptor(key, said, challenge->nonce, mac) == 0 &&
                 mt_auth_equal(mac, challenge->mac, sizeof mac);
    mt_auth_wipe(key, sizeof key);
    return proves ? KNOWS_SESSION : CANNOT_PROVE;
}

/* session NULL: one that nobody knows. */
static void pay_visit(const struct mt_address *address, const struct mt_session *session,
                      struct visit *visit)
{
    struct mt_hello hello = {.protocol = MT_WIRE_PROTOCOL, .kind = MT_STREAM_JOIN, .from = 1};
    struct mt_challenge challenge = {0};
    uint8_t said[MT_HELLO_BYTES];
    uint64_t begin_ns = mt_clock_now_ns(), until_ns = begin_ns + DOCTOR_REACH_MS * (uint64_t)MT_MS;
    int fd;
    memset(visit, 0, sizeof *visit);
    visit->answer = NOT_REACHED;
    visit->failed = connect_to(address, until_ns, visit, &fd);
    if (visit->failed == 0 && (mt_auth_random(hello.nonce, sizeof hello.nonce) != 0 ||
                               mt_auth_random(hello.session_id, sizeof hello.session_id) != 0))
        visit->failed = EIO;
    if (visit->failed == 0) {
        if (session != NULL)
            mt_auth_session_id(session->secret, hello.session_id);
        mt_hello_encode(&hello, said);
        visit->answer = ask(fd, said, until_ns, &challenge);
        visit->took_ms = (double)(mt_clock_now_ns() - begin_ns) / 1e6;
    }
    if (visit->answer == KNOWS_SESSION) {
        visit->answer = judge(&challenge, said, session);
        visit->protocol = challenge.protocol;
    }
    if (fd >= 0)
        close(fd);
}

static void say_not_reached(enum verdict verdict, const char *address, int failed)
{
    if (failed == ECONNREFUSED)
        doctor_say(verdict, "reach",
                   "%s: nothing listens there; rank 0 listens from when it creates its "
                   "communicator: start it, then try again",
                   address);
    else if (failed == ETIMEDOUT)
        doctor_say(verdict, "reach",
                   "%s: no answer within %d s, so packets are lost on the way: let the port "
                   "through the firewalls, or leave that interface out with MANTA_INTERFACE where "
                   "the session is made",
                   address, DOCTOR_REACH_MS / 1000);
    else
        doctor_say(verdict, "reach",
                   "%s: %s; look at this host's routes (ip route get), or leave that interface out "
                   "with MANTA_INTERFACE where the session is made",
                   address, strerror(failed));
}

/* 1 if it is as it should be; otherwise the line is of this verdict. */
static int say_visit(const char *address, const struct visit *visit, int has_session,
                     enum verdict verdict)
{
    char here[MT_ADDRESS_TEXT] = "", interface[MT_INTERFACE_NAME] = "";
    if (visit->answer == KNOWS_SESSION || (visit->answer == OTHER_SESSION && !has_session)) {
        mt_address_format_host(&visit->here, here);
        mt_address_interface(&visit->here, interface);
        doctor_say(DOCTOR_OK, "reach",
                   "%s: a listener of libmanta%s answers within %.1f ms, to %s (%s)", address,
                   has_session ? " that knows the session" : "", visit->took_ms, here,
                   interface[0] != '\0' ? interface : "unknown interface");
        return 1;
    }
    if (visit->answer == OTHER_SESSION)
        doctor_say(verdict, "reach",
                   "%s: a listener of libmanta answers, but does not know this session: rank 0 has "
                   "not come yet, its communicator has ended, or the string is another one",
                   address);
    else if (visit->answer == CANNOT_PROVE)
        doctor_say(verdict, "reach",
                   "%s: it claims to know the session and cannot prove it; who listens there is "
                   "not to be trusted",
                   address);
    else if (visit->answer == OTHER_VERSION)
        doctor_say(verdict, "reach",
                   "%s: its libmanta speaks protocol %u, this one %d; install the same version "
                   "everywhere",
                   address, visit->protocol, MT_WIRE_PROTOCOL);
    else if (visit->answer == NOT_MANTA)
        doctor_say(verdict, "reach",
                   "%s: something listens there that is not libmanta; give rank 0 a port of its "
                   "own (manta session --port)",
                   address);
    else if (visit->answer == SILENT)
        doctor_say(verdict, "reach",
                   "%s: it takes connections and says nothing for %d s: a process that is stopped, "
                   "or not libmanta; look at what runs there",
                   address, DOCTOR_REACH_MS / 1000);
    else
        say_not_reached(verdict, address, visit->failed);
    return 0;
}

/* Ranks try the addresses one after the other, so one that works is enough. */
static void reach_session(const struct mt_session *session)
{
    uint32_t reached = 0;
    for (uint32_t i = 0; i < session->address_count; i++) {
        const char *text = session->addresses[i];
        struct mt_address address;
        struct visit visit;
        if (mt_address_parse(text, strlen(text), &address) != 0)
            continue;
        pay_visit(&address, session, &visit);
        reached += (uint32_t)say_visit(text, &visit, 1, DOCTOR_WARNING);
        fflush(stdout);
    }
    if (reached == 0)
        doctor_say(DOCTOR_PROBLEM, "reach",
                   "rank 0 answers at none of the session's %u addresses: a rank of this host "
                   "cannot join",
                   session->address_count);
}

int doctor_reach(const char *session_text, const char *host)
{
    struct mt_session session;
    struct mt_address address;
    struct visit visit;
    struct mt_error error;
    if (host == NULL && mt_session_parse(session_text, &session, &error) != 0) {
        fprintf(stderr, "manta doctor: --session: %s\n", error.sentence);
        return -1;
    }
    if (host == NULL) {
        reach_session(&session);
        mt_auth_wipe(&session, sizeof session);
        return 0;
    }
    if (mt_address_parse(host, strlen(host), &address) != 0) {
        fprintf(stderr,
                "manta doctor: --host must be a numeric address and a port, such as "
                "10.0.0.1:4000 or [fd00::1]:4000, not '%.80s'\n",
                host);
        return -1;
    }
    pay_visit(&address, NULL, &visit);
    say_visit(host, &visit, 0, DOCTOR_PROBLEM);
    return 0;
}
