/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The accepting side of the handshake:
 *   dialler -> hello (who, whom, what for, nonce)
 *   acceptor -> challenge (status, nonce, proof over hello and nonce)
 *   dialler -> proof
 *   acceptor -> accepted
 *
 * At most 64 connections are in this state. When one more comes, the oldest that has not named a
 * session of this process is closed. So a flood of strangers never stops the accepting (refusing
 * newcomers instead would let 64 silent connections shut everybody out for 2 s), and a rank is safe
 * from being displaced by them as soon as its hello is there. When all 64 have named one, newcomers
 * wait in the kernel's queue: honest ranks are through after one round trip. Who has not sent its
 * proof 100 ms after its challenge then gives way, and dials again if it is in earnest.
 *
 * A hello and a proof may take 2 s each, counted from when this side did its part, so that a
 * process that is starved of CPU does not lay that to the other's charge. Nothing is closed once
 * it is accepted: the dialler holds one stream, and would take the end of it for a death.
 */
#include "core/accept.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "core/clock.h"
#include "core/listener.h"
#include "core/log.h"
#include "core/stream.h"

#define PENDING_NS (2 * MT_SECOND)
#define KNOWN_NS (100 * (uint64_t)MT_MS)

struct pending {
    struct mt_service_source source;
    struct mt_service_timer timer;
    uint64_t since_ns; /* came, or was sent its challenge */
    int is_unix;
    int is_last;  /* there was no other descriptor */
    int is_known; /* its hello names a session of this process */
    size_t have;
    uint8_t bytes[MT_HELLO_BYTES]; /* being read: the hello, then the proof */
    uint8_t wanted_proof[MT_AUTH_MAC_BYTES];
    struct mt_hello hello;
    struct pending *next;
};

/* Oldest first. */
static struct pending *first;
static int count;

void mt_accept_reset(void)
{
    first = NULL;
    count = 0;
}

static void forget(struct pending *pending)
{
    struct pending **link = &first;
    while (*link != pending)
        link = &(*link)->next;
    *link = pending->next;
    count--;
    mt_service_timer_set(&pending->timer, 0);
    mt_service_unwatch(&pending->source);
    mt_auth_wipe(pending->wanted_proof, sizeof pending->wanted_proof);
    free(pending);
}

/* why NULL: nothing that has to be told. */
static void drop(struct pending *pending, const char *why)
{
    int fd = pending->source.fd, is_last = pending->is_last;
    if (why)
        mt_log(MT_LOG_DEBUG, -1, "closed a connection that did not prove itself: %s", why);
    forget(pending);
    mt_fd_close(fd);
    if (is_last)
        mt_listener_refill();
}

static int drop_one(void)
{
    struct pending *victim = first, *longest = first;
    for (struct pending *at = first; at; at = at->next)
        if (at->since_ns < longest->since_ns)
            longest = at;
    while (victim && victim->is_known)
        victim = victim->next;
    if (!victim && longest && mt_clock_now_ns() - longest->since_ns > KNOWN_NS)
        victim = longest;
    if (victim)
        drop(victim, "too many at once");
    return victim != NULL;
}

int mt_accept_is_full(void)
{
    return count >= MT_ACCEPT_PENDING_MAX;
}

int mt_accept_make_room(void)
{
    return !mt_accept_is_full() || drop_one();
}

void mt_accept_drop_all(void)
{
    while (first)
        drop(first, "the listener is closed");
}

static void expired(struct mt_service_timer *timer)
{
    drop(timer->arg, "it said nothing for 2 s");
}

static void wait_for_more(struct pending *pending)
{
    pending->since_ns = mt_clock_now_ns();
    mt_service_timer_set(&pending->timer, pending->since_ns + PENDING_NS);
}

static int send_whole(int fd, const void *bytes, size_t byte_count)
{
    ssize_t sent = send(fd, bytes, byte_count, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent == (ssize_t)byte_count ? 0 : MANTA_EPEER;
}

static int make_challenge(struct pending *pending, struct mt_challenge *challenge)
{
    uint8_t key[MT_AUTH_KEY_BYTES];
    struct mt_door *door = mt_door_for(&pending->hello);
    if (!door) {
        challenge->status = MT_CHALLENGE_UNKNOWN;
        return 0;
    }
    pending->is_known = 1;
    int rc = pending->hello.kind == MT_STREAM_JOIN
                 ? mt_auth_join_key(door->secret, key)
                 : mt_auth_group_key(door->secret, pending->hello.uid, key);
    if (rc == 0)
        rc = mt_auth_random(challenge->nonce, sizeof challenge->nonce);
    if (rc == 0)
        rc = mt_proof_acceptor(key, pending->bytes, challenge->nonce, challenge->mac);
    if (rc == 0)
        rc = mt_proof_dialler(key, pending->bytes, challenge->nonce, pending->wanted_proof);
    mt_auth_wipe(key, sizeof key);
    return rc;
}

static void answer_hello(struct pending *pending)
{
    struct mt_challenge challenge = {.status = MT_CHALLENGE_GO, .protocol = MT_WIRE_PROTOCOL};
    uint8_t bytes[MT_CHALLENGE_BYTES];
    int rc = mt_hello_decode(pending->bytes, &pending->hello);
    if (rc == MANTA_EVERSION)
        challenge.status = MT_CHALLENGE_VERSION;
    else if (rc || make_challenge(pending, &challenge)) {
        drop(pending, "it sent garbage");
        return;
    }
    mt_challenge_encode(&challenge, bytes);
    if (send_whole(pending->source.fd, bytes, sizeof bytes))
        drop(pending, "it was closed");
    else if (challenge.status == MT_CHALLENGE_VERSION)
        drop(pending, "it speaks another version of the protocol");
    else if (challenge.status == MT_CHALLENGE_UNKNOWN)
        drop(pending, "it named a session that is not of this process");
    else
        wait_for_more(pending);
}

static int64_t uid_of_peer(int fd)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) ? -1 : (int64_t)peer.uid;
}

static void check_proof(struct pending *pending)
{
    struct mt_hello hello = pending->hello;
    int fd = pending->source.fd, is_unix = pending->is_unix;
    if (!mt_auth_equal(pending->bytes, pending->wanted_proof, MT_AUTH_MAC_BYTES)) {
        drop(pending, "its proof is wrong");
        return;
    }
    if (pending->is_last && !mt_listener_refill()) {
        mt_stream_refuse(&hello);
        drop(pending, "there is no descriptor to keep it");
        return;
    }
    struct mt_parked *room = mt_stream_room();
    if (!room || send_whole(fd, mt_accepted, sizeof mt_accepted)) {
        free(room);
        drop(pending, room ? "it was closed" : "there is no room for its stream");
        return;
    }
    forget(pending);
    mt_stream_deliver(fd, &hello, is_unix ? uid_of_peer(fd) : -1, room);
}

static void ready(struct mt_service_source *source, uint32_t events)
{
    struct pending *pending = source->arg;
    int is_proof = pending->is_known;
    size_t wanted = is_proof ? MT_AUTH_MAC_BYTES : MT_HELLO_BYTES;
    (void)events;
    ssize_t got = recv(source->fd, pending->bytes + pending->have, wanted - pending->have, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) { /* who says nothing wanted to know whether a listener is here */
        drop(pending, is_proof || pending->have ? "it was closed" : NULL);
        return;
    }
    pending->have += (size_t)got;
    if (pending->have < wanted)
        return;
    pending->have = 0;
    if (is_proof)
        check_proof(pending);
    else
        answer_hello(pending);
}

void mt_accept_catch_up(void)
{
    if (!mt_accept_is_full())
        return;
    for (struct pending *at = first, *next; at; at = next) {
        next = at->next; /* `ready` takes away none but its own */
        ready(&at->source, EPOLLIN);
    }
}

void mt_accept_begin(int fd, int is_unix, int is_last)
{
    int one = 1;
    struct pending *pending = calloc(1, sizeof *pending);
    if (!pending) {
        mt_fd_close(fd);
        mt_listener_refill();
        return;
    }
    if (!is_unix)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    pending->is_unix = is_unix;
    pending->is_last = is_last;
    pending->source = (struct mt_service_source){.fd = fd, .ready = ready, .arg = pending};
    pending->timer = (struct mt_service_timer){.fire = expired, .arg = pending};
    if (mt_service_watch(&pending->source, EPOLLIN)) {
        free(pending);
        mt_fd_close(fd);
        mt_listener_refill();
        return;
    }
    wait_for_more(pending);
    struct pending **link = &first;
    while (*link)
        link = &(*link)->next;
    *link = pending;
    count++;
    ready(&pending->source, EPOLLIN); /* before the next of its batch can displace it */
}
