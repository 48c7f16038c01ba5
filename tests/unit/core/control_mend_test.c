/* SPDX-License-Identifier: Apache-2.0 */
/* A link that is made because others left, with a rank that is slow: the test plays its listener.
 * Time is moved on, not waited for. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "core/address.h"
#include "core/control.h"
#include "core/wire.h"
#include "tests/support/clock_shift.h"
#include "tests/support/group_ranks.h"
#include "tests/support/meeting.h"

static struct meeting all, four, three; /* ranks that are there */

static int listen_as(struct mt_member *member)
{
    struct mt_address address;
    snprintf(member->unix_name, sizeof member->unix_name, "manta-mend-test-%d", (int)getpid());
    member->addresses[0] = 0;
    mt_address_abstract(member->unix_name, &address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (const struct sockaddr *)&address.socket, address.bytes) || listen(fd, 4))
        return -1;
    return fd;
}

static int is_readable(int fd, int milliseconds)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    return poll(&ready, 1, milliseconds) == 1;
}

static int receive_all(int fd, void *bytes, size_t count)
{
    for (size_t have = 0; have < count;) {
        ssize_t got = is_readable(fd, 10000) ? recv(fd, (char *)bytes + have, count - have, 0) : -1;
        if (got <= 0)
            return -1;
        have += (size_t)got;
    }
    return 0;
}

/* Take the dialler's proof, and leave it without an answer. */
static int take_proof(int listener, const struct mt_group *group)
{
    uint8_t hello[MT_HELLO_BYTES], bytes[MT_CHALLENGE_BYTES], proof[MT_AUTH_MAC_BYTES];
    struct mt_challenge challenge = {.status = MT_CHALLENGE_GO, .protocol = MT_WIRE_PROTOCOL};
    int fd = is_readable(listener, 10000) ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
    if (fd < 0 || receive_all(fd, hello, sizeof hello))
        return -1;
    mt_auth_random(challenge.nonce, sizeof challenge.nonce);
    mt_proof_acceptor(group->key, hello, challenge.nonce, challenge.mac);
    mt_challenge_encode(&challenge, bytes);
    if (send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) != (ssize_t)sizeof bytes ||
        receive_all(fd, proof, sizeof proof))
        return -1;
    return fd;
}

/* Ranks 0 and 3 have no link until 1 and 2 have left; then rank 0 dials rank 3. */
static void mend_slowly(struct group_rank *rank)
{
    int listener = -1, fd = -1;
    char byte;
    if (rank->rank == 0)
        listener = listen_as(&rank->group->members[3]);
    meeting_wait(&all);
    if (rank->rank == 1 || rank->rank == 2)
        return;
    if (rank->rank == 0) {
        fd = take_proof(listener, rank->group);
        clock_shift(15 * MT_SECOND);
        clock_shift_settle();
        if (fd < 0 || is_readable(fd, 0) || is_readable(listener, 0))
            rank->result = -100;
    }
    meeting_wait(&four);
    if (rank->rank == 3)
        return;
    if (rank->rank == 0) {
        if (!is_readable(fd, 10000) || recv(fd, &byte, 1, 0) != 0)
            rank->result = -101; /* it has left, and is dialled all the same */
        close(fd);
        close(listener);
    }
    if (mt_control_failed(rank->group->control))
        rank->result = -102;
    meeting_wait(&three);
}

static void a_slow_rank_is_dialled_once(void **state)
{
    struct group_rank rank[6];
    char session[512];
    (void)state;
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    group_ranks_init(rank, 6, session);
    meeting_begin(&all, 6);
    meeting_begin(&four, 4);
    meeting_begin(&three, 3);
    group_ranks_run(rank, 6, mend_slowly);
    meeting_end(&three);
    meeting_end(&four);
    meeting_end(&all);
    for (int r = 0; r < 6; r++)
        assert_int_equal(rank[r].result, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_rank_is_dialled_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
