/* SPDX-License-Identifier: Apache-2.0 */
/* Streams between ranks, and strangers at the listener: garbage, silence, floods, replays. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/address.h"
#include "core/clock.h"
#include "core/control.h"
#include "core/service.h"
#include "core/session.h"
#include "core/stream.h"
#include "core/wire.h"
#include "tests/support/group_ranks.h"
#include "tests/support/meeting.h"

static struct meeting phase;

static void run(uint32_t ranks, struct group_rank *rank, void (*body)(struct group_rank *rank),
                void *arg)
{
    char session[512];
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    group_ranks_init(rank, ranks, session);
    for (uint32_t r = 0; r < ranks; r++)
        rank[r].arg = arg;
    meeting_begin(&phase, ranks);
    group_ranks_run(rank, ranks, body);
    meeting_end(&phase);
    for (uint32_t r = 0; r < ranks; r++) {
        if (rank[r].result)
            print_error("rank %u: %d %s\n", r, rank[r].result, rank[r].error.sentence);
        assert_int_equal(rank[r].result, 0);
    }
}

struct inbox {
    _Atomic int fd, from, index, count;
};

static void take(void *arg, int fd, uint32_t from, uint32_t index)
{
    struct inbox *inbox = arg;
    atomic_store(&inbox->from, (int)from);
    atomic_store(&inbox->index, (int)index);
    atomic_store(&inbox->fd, fd);
    atomic_fetch_add(&inbox->count, 1);
}

static int dial(struct group_rank *rank, uint32_t peer, int kind, uint32_t index, int *fd_out)
{
    struct mt_dial *dialling;
    int rc = mt_stream_dial(rank->group, peer, kind, index, mt_clock_now_ns() + 10 * MT_SECOND,
                            &dialling);
    if (rc)
        return rc;
    while ((rc = mt_stream_dial_test(dialling, fd_out, &rank->error)) == MANTA_INPROGRESS)
        sched_yield();
    return rc;
}

static int await_stream(struct inbox *inbox)
{
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    while (atomic_load(&inbox->count) == 0 && mt_clock_now_ns() < until_ns)
        sched_yield();
    return atomic_load(&inbox->count) == 1 ? 0 : -100;
}

static int carries_bytes(int from_fd, int to_fd)
{
    char byte = 0;
    struct pollfd ready = {.fd = to_fd, .events = POLLIN};
    return send(from_fd, "x", 1, MSG_NOSIGNAL) == 1 && poll(&ready, 1, 5000) == 1 &&
           recv(to_fd, &byte, 1, 0) == 1 && byte == 'x';
}

struct both_ends {
    int kind, early;
    int dialled_fd;
    struct inbox inbox;
};

/* Rank 0 dials rank 1; the listener is there before, or comes after the dialling has ended. */
static void connect_0_to_1(struct group_rank *rank)
{
    struct both_ends *ends = rank->arg;
    if (rank->rank == 1 && !ends->early)
        rank->result = mt_stream_listen(rank->group, ends->kind, take, NULL, &ends->inbox);
    meeting_wait(&phase);
    if (rank->rank == 0)
        rank->result = dial(rank, 1, ends->kind, 7, &ends->dialled_fd);
    meeting_wait(&phase);
    if (rank->rank == 1 && ends->early)
        rank->result = mt_stream_listen(rank->group, ends->kind, take, NULL, &ends->inbox);
    if (rank->rank == 1 && rank->result == 0)
        rank->result = await_stream(&ends->inbox);
    if (rank->rank == 1) {
        int fd = atomic_load(&ends->inbox.fd);
        if (atomic_load(&ends->inbox.from) != 0 || atomic_load(&ends->inbox.index) != 7 ||
            !carries_bytes(fd, ends->dialled_fd) || !carries_bytes(ends->dialled_fd, fd) ||
            !(fcntl(fd, F_GETFL) & O_NONBLOCK) || !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
            rank->result = -101;
        mt_stream_unlisten(rank->group, ends->kind);
        mt_fd_close(fd);
        mt_fd_close(ends->dialled_fd);
    }
    meeting_wait(&phase);
}

static void streams_connect(void **state)
{
    (void)state;
    for (int kind = MT_STREAM_TCP; kind <= MT_STREAM_SHM; kind++)
        for (int early = 0; early <= 1; early++) {
            struct group_rank rank[2];
            struct both_ends ends = {.kind = kind, .early = early, .dialled_fd = -1};
            run(2, rank, connect_0_to_1, &ends);
        }
}

/* Rank 0 says what it has to say on a control link, and closes it, before rank 1 listens; a second
 * stream shows that all this has arrived. */
static void say_early_and_close(struct group_rank *rank)
{
    struct both_ends *ends = rank->arg;
    char bytes[8] = "";
    int fd = -1, second_fd = -1;
    if (rank->rank == 1)
        mt_stream_unlisten(rank->group, MT_STREAM_CONTROL);
    meeting_wait(&phase);
    if (rank->rank == 0) {
        rank->result = dial(rank, 1, MT_STREAM_CONTROL, 7, &fd);
        if (rank->result == 0 && send(fd, "failed", 6, MSG_NOSIGNAL) != 6)
            rank->result = -100;
        mt_fd_close(fd);
        if (rank->result == 0)
            rank->result = dial(rank, 1, MT_STREAM_TCP, 0, &second_fd);
        mt_fd_close(second_fd);
    }
    meeting_wait(&phase);
    if (rank->rank == 1) {
        rank->result = mt_stream_listen(rank->group, MT_STREAM_CONTROL, take, NULL, &ends->inbox);
        if (rank->result == 0)
            rank->result = await_stream(&ends->inbox);
        fd = atomic_load(&ends->inbox.fd);
        if (rank->result == 0 && (recv(fd, bytes, sizeof bytes, 0) != 6 ||
                                  strcmp(bytes, "failed") != 0 || recv(fd, bytes, 1, 0) != 0))
            rank->result = -101;
        mt_fd_close(fd);
    }
    meeting_wait(&phase);
}

static void a_control_link_is_heard_after_its_end(void **state)
{
    struct group_rank rank[2];
    struct both_ends ends = {.dialled_fd = -1};
    (void)state;
    run(2, rank, say_early_and_close, &ends);
}

/* For many streams: only their number counts. */
static void take_and_close(void *arg, int fd, uint32_t from, uint32_t index)
{
    struct inbox *inbox = arg;
    (void)from;
    (void)index;
    mt_fd_close(fd);
    atomic_fetch_add(&inbox->count, 1);
}

static void connect_all_and_close(struct group_rank *rank)
{
    struct inbox inbox = {0};
    rank->result = mt_stream_listen(rank->group, MT_STREAM_SHM, take_and_close, NULL, &inbox);
    meeting_wait(&phase);
    for (uint32_t i = 0; i < 2 * rank->ranks && rank->result == 0; i++) {
        int fd;
        rank->result = dial(rank, i % rank->ranks, MT_STREAM_SHM, i, &fd);
        mt_fd_close(fd);
    }
    meeting_wait(&phase);
    uint64_t until_ns = mt_clock_now_ns() + 10 * MT_SECOND;
    while (atomic_load(&inbox.count) < 2 * (int)rank->ranks && mt_clock_now_ns() < until_ns)
        sched_yield();
    if (atomic_load(&inbox.count) != 2 * (int)rank->ranks)
        rank->result = -100;
    mt_stream_unlisten(rank->group, MT_STREAM_SHM);
}

static void many_streams_connect(void **state)
{
    (void)state;
    struct group_rank rank[4];
    run(4, rank, connect_all_and_close, NULL);
}

static void cancel_and_expire(struct group_rank *rank)
{
    struct mt_dial *dialling;
    struct mt_member *peer = &rank->group->members[1];
    int fd;
    if (rank->rank == 0) {
        /* Nobody listens there: the discard port of an address of loopback. */
        strcpy(peer->addresses, "127.0.0.1:9 [::1]:9");
        rank->result = mt_stream_dial(rank->group, 1, MT_STREAM_TCP, 0,
                                      mt_clock_now_ns() + 10 * MT_SECOND, &dialling);
        if (rank->result == 0)
            mt_stream_dial_cancel(dialling);
        rank->result = mt_stream_dial(rank->group, 1, MT_STREAM_TCP, 0,
                                      mt_clock_now_ns() + 100 * (uint64_t)MT_MS, &dialling);
        while ((rank->result = mt_stream_dial_test(dialling, &fd, &rank->error)) ==
               MANTA_INPROGRESS)
            sched_yield();
        rank->result = rank->result == MANTA_ETIMEOUT && rank->error.rank == 1 && fd == -1 ? 0 : -1;
        peer->unix_name[0] = 0; /* and no way at all for shared memory: no need to wait */
        if (rank->result == 0 && dial(rank, 1, MT_STREAM_SHM, 0, &fd) != MANTA_ETIMEOUT)
            rank->result = -2;
    }
    meeting_wait(&phase);
}

static void dialling_ends(void **state)
{
    (void)state;
    struct group_rank rank[2];
    run(2, rank, cancel_and_expire, NULL);
}

/* Strangers. */
static int connect_stranger(const struct mt_group *group)
{
    struct mt_address address;
    mt_address_abstract(group->members[0].unix_name, &address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address.socket, address.bytes) == 0)
        return fd;
    close(fd);
    return -1;
}

/* 1 if the other side closes within 10 s (having sent at most `bytes_max`). */
static int is_closed_by_peer(int fd, size_t bytes_max)
{
    uint8_t bytes[256];
    size_t total = 0;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    while (poll(&ready, 1, 10000) == 1) {
        ssize_t got = recv(fd, bytes, sizeof bytes, 0);
        if (got <= 0)
            return total <= bytes_max;
        total += (size_t)got;
    }
    return 0;
}

static struct mt_hello hello_to(const struct mt_group *group, uint32_t to)
{
    struct mt_hello hello = {.protocol = MT_WIRE_PROTOCOL, .kind = MT_STREAM_TCP, .from = 1};
    hello.to = to;
    memcpy(hello.session_id, group->session_id, MT_ID_BYTES);
    memcpy(hello.uid, group->uid, MT_ID_BYTES);
    mt_auth_random(hello.nonce, sizeof hello.nonce);
    return hello;
}

static int send_all(int fd, const void *bytes, size_t count)
{
    return send(fd, bytes, count, MSG_NOSIGNAL) == (ssize_t)count ? 0 : -1;
}

static int receive_all(int fd, void *bytes, size_t count)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    for (size_t have = 0; have < count;) {
        ssize_t got =
            poll(&ready, 1, 5000) == 1 ? recv(fd, (char *)bytes + have, count - have, 0) : -1;
        if (got <= 0)
            return -1;
        have += (size_t)got;
    }
    return 0;
}

/* A wrong proof, a replayed one, an unknown rank: none gets in. proof_out receives a good one. */
static int try_proof(const struct mt_group *group, const uint8_t hello[MT_HELLO_BYTES],
                     const uint8_t *proof_or_null, uint8_t *proof_out)
{
    uint8_t bytes[MT_CHALLENGE_BYTES], proof[MT_AUTH_MAC_BYTES] = {0};
    struct mt_challenge challenge;
    int fd = connect_stranger(group), result = -1;
    if (send_all(fd, hello, MT_HELLO_BYTES) == 0 && receive_all(fd, bytes, sizeof bytes) == 0 &&
        mt_challenge_decode(bytes, &challenge) == 0) {
        if (proof_out)
            mt_proof_dialler(group->key, hello, challenge.nonce, proof_out);
        if (proof_or_null)
            memcpy(proof, proof_or_null, sizeof proof);
        send_all(fd, proof_out ? proof_out : proof, sizeof proof);
        result = receive_all(fd, bytes, MT_ACCEPTED_BYTES);
    }
    close(fd);
    return result;
}

static void present_bad_proofs(struct group_rank *rank)
{
    struct inbox inbox = {0};
    uint8_t bytes[MT_HELLO_BYTES], proof[MT_AUTH_MAC_BYTES], challenge[MT_CHALLENGE_BYTES];
    struct mt_hello hello = hello_to(rank->group, 0);
    rank->result = mt_stream_listen(rank->group, MT_STREAM_TCP, take_and_close, NULL, &inbox);
    mt_hello_encode(&hello, bytes);
    if (try_proof(rank->group, bytes, NULL, proof) != 0)
        rank->result = -1; /* the honest one */
    if (try_proof(rank->group, bytes, NULL, NULL) == 0)
        rank->result = -2;
    if (try_proof(rank->group, bytes, proof, NULL) == 0)
        rank->result = -3; /* replayed */
    hello.to = 9;
    mt_hello_encode(&hello, bytes);
    int fd = connect_stranger(rank->group);
    if (send_all(fd, bytes, sizeof bytes) || receive_all(fd, challenge, sizeof challenge) ||
        challenge[0] != MT_CHALLENGE_UNKNOWN || !is_closed_by_peer(fd, 0))
        rank->result = -4;
    close(fd);
    mt_stream_unlisten(rank->group, MT_STREAM_TCP);
    if (atomic_load(&inbox.count) != 1)
        rank->result = -5;
}

static void proofs_are_needed(void **state)
{
    (void)state;
    struct group_rank rank[1];
    run(1, rank, present_bad_proofs, NULL);
}

static void present_garbage(struct group_rank *rank)
{
    uint8_t bytes[MT_HELLO_BYTES], noise[4096];
    struct mt_hello hello = hello_to(rank->group, 0);
    mt_hello_encode(&hello, bytes);
    for (size_t cut = 0; cut < MT_HELLO_BYTES && rank->result == 0; cut += 5) {
        int fd = connect_stranger(rank->group);
        send_all(fd, bytes, cut);
        shutdown(fd, SHUT_WR);
        rank->result = is_closed_by_peer(fd, 0) ? 0 : -1;
        close(fd);
    }
    for (int i = 0; i < 50 && rank->result == 0; i++) {
        int fd = connect_stranger(rank->group);
        mt_auth_random(noise, sizeof noise);
        send_all(fd, noise, sizeof noise);
        rank->result = is_closed_by_peer(fd, 0) ? 0 : -2;
        close(fd);
    }
    int silent = connect_stranger(rank->group); /* closed when its 2 s are over */
    if (rank->result == 0)
        rank->result = is_closed_by_peer(silent, 0) ? 0 : -3;
    close(silent);
}

static void garbage_is_closed(void **state)
{
    (void)state;
    struct group_rank rank[1];
    run(1, rank, present_garbage, NULL);
}

/* 10,000 connections without a secret, most of them silent, while ranks join and exchange over the
 * control plane; tests/fault/flood_test.c has a whole job. */
struct flood {
    struct mt_address address;
    _Atomic int stop, made;
};

static void *pour(void *arg)
{
    enum { AT_ONCE = 256, TOTAL = 10000 };
    struct flood *flood = arg;
    int fds[AT_ONCE];
    memset(fds, -1, sizeof fds);
    for (int i = 0; i < TOTAL && !atomic_load(&flood->stop); i++) {
        int fd =
            socket(flood->address.socket.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int rc = connect(fd, (struct sockaddr *)&flood->address.socket, flood->address.bytes);
        if (rc == 0 && i % 3 == 0)
            send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
        if (fds[i % AT_ONCE] >= 0)
            close(fds[i % AT_ONCE]);
        fds[i % AT_ONCE] = fd;
        atomic_fetch_add(&flood->made, 1);
    }
    for (int i = 0; i < AT_ONCE; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return NULL;
}

static void exchange_until_flooded(struct group_rank *rank)
{
    struct flood *flood = rank->arg;
    struct group_parts out;
    char go_on = 1;
    while (go_on && rank->result == 0) {
        char mine = atomic_load(&flood->made) < 10000;
        rank->result = group_rank_exchange(rank, &mine, 1, 20 * MT_SECOND, &out);
        if (rank->result)
            return;
        go_on = *(const char *)out.parts[0];
        free(out.storage);
    }
}

static void a_flood_stops_nobody(void **state)
{
    (void)state;
    struct mt_error error;
    struct mt_session session;
    struct group_rank rank[4];
    struct flood flood = {.stop = 0};
    char text[512];
    pthread_t thread;
    assert_int_equal(manta_session_create(text, sizeof text), 0);
    assert_int_equal(mt_session_parse(text, &session, &error), 0);
    mt_address_parse(session.addresses[0], strlen(session.addresses[0]), &flood.address);
    assert_int_equal(pthread_create(&thread, NULL, pour, &flood), 0);
    while (atomic_load(&flood.made) < 500)
        sched_yield();
    group_ranks_init(rank, 4, text);
    for (int r = 0; r < 4; r++)
        rank[r].arg = &flood;
    group_ranks_run(rank, 4, exchange_until_flooded);
    atomic_store(&flood.stop, 1);
    pthread_join(thread, NULL);
    for (int r = 0; r < 4; r++) {
        if (rank[r].result)
            print_error("rank %d: %s\n", r, rank[r].error.sentence);
        assert_int_equal(rank[r].result, 0);
    }
    assert_int_equal(atomic_load(&flood.made), 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_connect),
        cmocka_unit_test(a_control_link_is_heard_after_its_end),
        cmocka_unit_test(many_streams_connect),
        cmocka_unit_test(dialling_ends),
        cmocka_unit_test(proofs_are_needed),
        cmocka_unit_test(garbage_is_closed),
        cmocka_unit_test(a_flood_stops_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
