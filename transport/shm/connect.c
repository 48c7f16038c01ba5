/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connecting two ranks of a node. The lower rank dials an authenticated unix stream. Each side
 * sends a hello with its segment and its doorbell, maps what it gets, and then says "ready"; a peer
 * is connected when both are ready, so that what is published from then on reaches it even if the
 * publisher closes its endpoint at once. The stream stays, for records of lend.h; nothing with a
 * name stays behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/service.h"
#include "core/stream.h"
#include "transport/shm/channel.h"
#include "transport/shm/lend.h"
#include "transport/shm/pass.h"
#include "transport/shm/shm.h"

static const char hello_magic[8] = {'m', 'a', 'n', 't', 'a', 's', 'h', 'm'};

struct hello {
    char magic[8];
    uint32_t version;
    uint32_t rank;
    uint32_t bounded_sleep; /* the sender's stores are not reached by membarriers */
    uint32_t reserved;
};

_Static_assert(sizeof(struct hello) <= sizeof(((struct mt_shm_peer *)0)->hello), "hello has room");

static const char ready_byte = 'R';

static void close_descriptor(int *fd)
{
    if (*fd >= 0)
        mt_fd_close(*fd);
    *fd = -1;
}

static void end_connecting(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer,
                           enum mt_shm_peer_state state)
{
    if (peer->dial != NULL)
        mt_stream_dial_cancel(peer->dial);
    peer->dial = NULL;
    if (state == MT_SHM_CONNECTED)
        epoll_ctl(endpoint->wait_fd, EPOLL_CTL_DEL, peer->stream, NULL);
    else
        close_descriptor(&peer->stream);
    close_descriptor(&peer->passed[0]);
    close_descriptor(&peer->passed[1]);
    if (peer->state == MT_SHM_DIALLING || peer->state == MT_SHM_EXCHANGING)
        endpoint->connecting--;
    peer->state = state;
}

static int lose(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer, int code,
                const char *what, const char *why)
{
    peer->failure = code;
    end_connecting(endpoint, peer, MT_SHM_LOST);
    mt_messages_fail(endpoint->messages, peer->rank, MT_MESSAGE_BOTH, code, errno,
                     "no shared memory with rank %u: %s%s%s", peer->rank, what,
                     why != NULL ? ": " : "", why != NULL ? why : "");
    return code;
}

/* There is no descriptor to be had, or too many are on their way between processes. */
static int lose_for_lack(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer, int failed)
{
    errno = failed;
    return lose(endpoint, peer, MANTA_ESYSTEM, strerror(failed),
                "raise the limit of open files (ulimit -n) or free memory");
}

static int send_hello(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    struct hello hello = {.version = MT_SHM_VERSION,
                          .rank = endpoint->rank,
                          .bounded_sleep = (uint32_t)endpoint->bounded_sleep};
    memcpy(hello.magic, hello_magic, sizeof(hello.magic));
    const int descriptors[2] = {endpoint->segment_fd, endpoint->doorbell};
    ssize_t sent = mt_shm_pass_send(peer->stream, &hello, sizeof(hello), descriptors, 2);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return MANTA_INPROGRESS;
    if (sent < 0 && mt_error_is_lack(errno))
        return lose_for_lack(endpoint, peer, errno);
    if (sent != sizeof(hello))
        return lose(endpoint, peer, MANTA_EPEER, "its stream broke", strerror(errno));
    peer->hello_sent = 1;
    return 0;
}

/* Read at most `bytes`. 0: read some; MANTA_INPROGRESS; or the peer is lost. */
static int receive(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer, void *buffer,
                   size_t bytes, uint32_t *received)
{
    ssize_t got = mt_shm_pass_receive(peer->stream, buffer, bytes, peer->passed, 2, &peer->is_cut);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return MANTA_INPROGRESS;
    if (got < 0)
        return lose(endpoint, peer, MANTA_EPEER, "its stream broke", strerror(errno));
    errno = 0;
    if (got == 0)
        return lose(endpoint, peer, MANTA_EPEER, "it closed its stream", NULL);
    *received += (uint32_t)got;
    return 0;
}

static int map_peer(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    struct hello hello;
    memcpy(&hello, peer->hello, sizeof(hello));
    if (peer->is_cut && peer->passed[1] < 0)
        return lose_for_lack(endpoint, peer, EMFILE);
    errno = 0;
    if (memcmp(hello.magic, hello_magic, sizeof(hello_magic)) != 0 ||
        hello.version != MT_SHM_VERSION || hello.rank != peer->rank || peer->passed[1] < 0 ||
        !(fcntl(peer->passed[1], F_GETFL) & O_NONBLOCK))
        return lose(endpoint, peer, MANTA_ETRANSPORT, "its hello is malformed", NULL);
    struct mt_shm_identity expected = endpoint->identity;
    expected.rank = peer->rank;
    const char *what;
    int code = mt_shm_segment_map(peer->passed[0], &expected, &peer->base, &what);
    if (code != 0)
        return lose(endpoint, peer, code, what, errno != 0 ? strerror(errno) : NULL);
    peer->doorbell = peer->passed[1];
    peer->passed[1] = -1;
    if (hello.bounded_sleep != 0)
        endpoint->bounded_sleep = 1;
    code = mt_messages_open(endpoint->messages, peer->rank);
    if (code != 0)
        return lose(endpoint, peer, code, "no memory for its messages", NULL);
    mt_shm_channel_open(endpoint, peer);
    return 0;
}

static int exchange_hello(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    int code = 0;
    if (!peer->hello_sent)
        code = send_hello(endpoint, peer);
    while (code == 0 && peer->hello_bytes < sizeof(struct hello))
        code = receive(endpoint, peer, peer->hello + peer->hello_bytes,
                       sizeof(struct hello) - peer->hello_bytes, &peer->hello_bytes);
    if (code == 0 && peer->base == NULL)
        code = map_peer(endpoint, peer);
    return code;
}

static int exchange_ready(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    if (!peer->ready_sent) {
        ssize_t sent =
            send(peer->stream, &ready_byte, sizeof(ready_byte), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            return MANTA_INPROGRESS;
        if (sent != sizeof(ready_byte))
            return lose(endpoint, peer, MANTA_EPEER, "its stream broke", strerror(errno));
        peer->ready_sent = 1;
    }
    char byte = 0;
    int code = receive(endpoint, peer, &byte, sizeof(byte), &peer->ready_received);
    errno = 0;
    if (code == 0 && byte != ready_byte)
        code = lose(endpoint, peer, MANTA_ETRANSPORT, "its stream carried nonsense", NULL);
    return code;
}

/* 0 when connected. */
static int exchange(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    int code = exchange_hello(endpoint, peer);
    if (code == 0)
        code = exchange_ready(endpoint, peer);
    if (code == 0) {
        end_connecting(endpoint, peer, MT_SHM_CONNECTED);
        mt_messages_writable(endpoint->messages, peer->rank);
    }
    return code;
}

static void begin_exchange(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer, int stream)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = stream};
    if (peer->state != MT_SHM_DIALLING)
        endpoint->connecting++;
    peer->state = MT_SHM_EXCHANGING;
    peer->stream = stream;
    if (epoll_ctl(endpoint->wait_fd, EPOLL_CTL_ADD, stream, &event) != 0)
        lose(endpoint, peer, MANTA_ESYSTEM, "epoll_ctl", strerror(errno));
}

/* In the service thread. */
static void dial_finished(void *arg)
{
    mt_shm_ring_self(arg);
}

/* In the service thread. The lower rank dials, once. */
static void accepted(void *arg, int fd, uint32_t from, uint32_t index)
{
    struct mt_shm_endpoint *endpoint = arg;
    struct mt_shm_peer *peer = mt_shm_peer_of(endpoint, from);
    int none = -1;
    mt_fd_enter(fd);
    /* A second one never takes the place of the first. Pairs with the exchange in
     * take_accepted(). */
    if (peer == NULL || from > endpoint->rank || index != 0 ||
        !atomic_compare_exchange_strong(&peer->accepted, &none, fd)) {
        mt_fd_close(fd);
        return;
    }
    atomic_fetch_add(&endpoint->arrivals, 1);
    mt_shm_ring_self(endpoint);
}

static int dial(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer, uint64_t deadline_ns)
{
    if (deadline_ns == 0)
        deadline_ns = endpoint->host->clock_ns() + endpoint->timeout_ns;
    int code = mt_stream_dial_notify(endpoint->group, peer->rank, MT_STREAM_SHM, 0, deadline_ns,
                                     dial_finished, endpoint, &peer->dial);
    if (code != 0) {
        peer->dial = NULL;
        return lose(endpoint, peer, code, "its unix socket could not be dialled",
                    manta_strerror(code));
    }
    peer->state = MT_SHM_DIALLING;
    endpoint->connecting++;
    return MANTA_INPROGRESS;
}

static int test_dial(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    struct mt_error error = {0};
    int stream = -1;
    int code = mt_stream_dial_test(peer->dial, &stream, &error);
    if (code == MANTA_INPROGRESS)
        return code;
    peer->dial = NULL;
    errno = error.system_errno;
    if (code == MANTA_ESYSTEM)
        return lose_for_lack(endpoint, peer, error.system_errno);
    if (code != 0)
        return lose(endpoint, peer, code == MANTA_ETIMEOUT ? MANTA_ETIMEOUT : MANTA_EPEER,
                    "its unix socket does not answer", error.sentence);
    mt_fd_enter(stream);
    begin_exchange(endpoint, peer, stream);
    return 0;
}

static int take_accepted(struct mt_shm_endpoint *endpoint)
{
    int happened = 0;
    for (uint32_t local = 0; local < endpoint->local_ranks; local++) {
        struct mt_shm_peer *peer = &endpoint->peers[local];
        int stream = atomic_exchange(&peer->accepted, -1);
        if (stream < 0)
            continue;
        happened = 1;
        if (peer->state == MT_SHM_IDLE && endpoint->aborted == 0)
            begin_exchange(endpoint, peer, stream);
        else
            mt_fd_close(stream);
    }
    return happened;
}

int mt_shm_connect_progress(struct mt_shm_endpoint *endpoint)
{
    int happened = 0;
    if (atomic_load_explicit(&endpoint->arrivals, memory_order_relaxed) != 0) {
        atomic_store(&endpoint->arrivals, 0);
        happened |= take_accepted(endpoint);
    }
    for (uint32_t local = 0; local < endpoint->local_ranks && endpoint->connecting != 0; local++) {
        struct mt_shm_peer *peer = &endpoint->peers[local];
        if (peer->state == MT_SHM_DIALLING)
            happened |= test_dial(endpoint, peer) != MANTA_INPROGRESS;
        if (peer->state == MT_SHM_EXCHANGING)
            happened |= exchange(endpoint, peer) != MANTA_INPROGRESS;
    }
    return happened;
}

int mt_shm_connect(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer, uint64_t deadline_ns)
{
    if (peer->state == MT_SHM_CONNECTED)
        return 0;
    if (peer->state == MT_SHM_LOST)
        return peer->failure;
    if (peer->state == MT_SHM_IDLE && endpoint->rank < peer->rank)
        return dial(endpoint, peer, deadline_ns);
    /* A peer that does not call is late; whoever owns the deadline can find out why. */
    return MANTA_INPROGRESS;
}

int mt_shm_listen(struct mt_shm_endpoint *endpoint)
{
    int code = mt_stream_listen(endpoint->group, MT_STREAM_SHM, accepted, NULL, endpoint);
    endpoint->listening = code == 0;
    return code;
}

void mt_shm_disconnect(struct mt_shm_endpoint *endpoint)
{
    if (endpoint->listening)
        mt_stream_unlisten(endpoint->group, MT_STREAM_SHM);
    endpoint->listening = 0;
    for (uint32_t local = 0; local < endpoint->local_ranks; local++) {
        struct mt_shm_peer *peer = &endpoint->peers[local];
        int stream = atomic_exchange(&peer->accepted, -1);
        close_descriptor(&stream);
        end_connecting(endpoint, peer, MT_SHM_LOST);
        mt_shm_lend_close(endpoint, peer);
        if (peer->borrowed)
            continue;
        if (peer->base != NULL)
            mt_shm_segment_unmap(peer->base, endpoint->identity.geometry.segment_bytes);
        peer->base = NULL;
        close_descriptor(&peer->doorbell);
    }
}

static int wire_one(struct mt_shm_endpoint *endpoint, struct mt_shm_endpoint *other)
{
    struct mt_shm_peer *peer = mt_shm_peer_of(endpoint, other->rank);
    peer->base = other->base;
    peer->doorbell = other->doorbell;
    peer->borrowed = 1;
    peer->state = MT_SHM_CONNECTED;
    int code = mt_messages_open(endpoint->messages, peer->rank);
    if (code == 0)
        mt_shm_channel_open(endpoint, peer);
    return code;
}

int mt_shm_wire_up(struct mt_shm_endpoint *a, struct mt_shm_endpoint *b)
{
    int code = wire_one(a, b);
    return code != 0 ? code : wire_one(b, a);
}
