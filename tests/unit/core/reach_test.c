/* SPDX-License-Identifier: Apache-2.0 */
/* Which of a peer's addresses is used, and what is known of it afterwards. All on loopback, where
 * every address of 127/8 is this host. */
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

#include "core/clock.h"
#include "core/reach.h"
#include "core/service.h"
#include "core/stream.h"
#include "tests/support/group_ranks.h"
#include "tests/support/meeting.h"

static struct meeting phase;

static void take_and_close(void *arg, int fd, uint32_t from, uint32_t index)
{
    (void)arg;
    (void)from;
    (void)index;
    mt_fd_close(fd);
}

static int dial(struct group_rank *rank)
{
    struct mt_dial *dialling;
    int fd = -1;
    int rc = mt_stream_dial(rank->group, 1, MT_STREAM_TCP, 0, mt_clock_now_ns() + 20 * MT_SECOND,
                            &dialling);
    while (rc == 0 && (rc = mt_stream_dial_test(dialling, &fd, &rank->error)) == MANTA_INPROGRESS) {
        rc = 0;
        sched_yield();
    }
    mt_fd_close(fd);
    return rc;
}

static int is_at(const struct mt_address *address, const char *host)
{
    char text[MT_ADDRESS_TEXT];
    mt_address_format_host(address, text);
    return strcmp(text, host) == 0;
}

/* A port of loopback where nobody listens, for as long as the descriptor is open. */
static int closed_port(uint16_t *port_out)
{
    struct mt_address address;
    mt_address_from_host("127.0.0.1", 0, &address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&address.socket, address.bytes) ||
        getsockname(fd, (struct sockaddr *)&address.socket, &address.bytes))
        return -1;
    *port_out = mt_address_port(&address);
    return fd;
}

static int port_of(const struct mt_member *member)
{
    const char *colon = strchr(member->addresses, ':');
    return member->addresses[0] == '[' || !colon ? 0 : atoi(colon + 1);
}

static int dial_the_second(struct group_rank *rank)
{
    struct mt_member *peer = &rank->group->members[1];
    struct mt_address addresses[MT_GROUP_ADDRESSES];
    struct mt_reach reach;
    uint16_t closed;
    int is_told, port = port_of(peer), fd = closed_port(&closed);
    mt_reach_look(rank->group, 1, &reach);
    if (fd < 0 || port == 0 || reach.how != MT_REACH_NOT_YET) /* a unix socket tells nothing */
        return -100;
    snprintf(peer->addresses, sizeof peer->addresses,
             "127.0.0.1:%u 127.0.0.2:%d 127.0.0.3:%d [::1]:%u", closed, port, port, closed);
    if (mt_reach_addresses(rank->group, 1, addresses, &is_told) != 4 || is_told ||
        !is_at(&addresses[0], "127.0.0.1"))
        return -101;
    for (int i = 0; i < 2; i++) { /* the second time it is the first, and the reason stays */
        if (dial(rank))
            return -102;
        mt_reach_look(rank->group, 1, &reach);
        if (reach.how != MT_REACH_DIALLED || reach.place != 1 || reach.count != 4 ||
            reach.is_told || !is_at(&reach.peer, "127.0.0.2") || !is_at(&reach.local, "127.0.0.1"))
            return -103;
        if (mt_reach_addresses(rank->group, 1, addresses, &is_told) != 4 || !is_told ||
            !is_at(&addresses[0], "127.0.0.2") || !is_at(&addresses[1], "127.0.0.1") ||
            !is_at(&addresses[2], "127.0.0.3"))
            return -104;
    }
    close(fd);
    return 0;
}

static void reach_one_another(struct group_rank *rank)
{
    struct mt_reach reach;
    rank->result = mt_stream_listen(rank->group, MT_STREAM_TCP, take_and_close, NULL, NULL);
    meeting_wait(&phase);
    if (rank->rank == 0 && rank->result == 0)
        rank->result = dial_the_second(rank);
    meeting_wait(&phase);
    mt_reach_look(rank->group, 0, &reach);
    if (rank->rank == 1 && (reach.how != MT_REACH_CAME || !is_at(&reach.peer, "127.0.0.1")))
        rank->result = -105;
    mt_stream_unlisten(rank->group, MT_STREAM_TCP);
}

static void what_answered_is_known(void **state)
{
    char session[512];
    struct group_rank rank[2];
    (void)state;
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    group_ranks_init(rank, 2, session);
    meeting_begin(&phase, 2);
    group_ranks_run(rank, 2, reach_one_another);
    meeting_end(&phase);
    for (int r = 0; r < 2; r++) {
        if (rank[r].result)
            print_error("rank %d: %d %s\n", r, rank[r].result, rank[r].error.sentence);
        assert_int_equal(rank[r].result, 0);
    }
}

static void routes_and_interfaces_are_named(void **state)
{
    struct mt_address peer, local;
    char name[MT_INTERFACE_NAME];
    (void)state;
    assert_int_equal(mt_address_from_host("127.0.0.9", 1, &peer), 0);
    assert_int_equal(mt_address_route(&peer, &local), 0);
    assert_true(is_at(&local, "127.0.0.1") || is_at(&local, "127.0.0.9"));
    assert_int_equal(mt_address_from_host("127.0.0.1", 1, &local), 0);
    mt_address_interface(&local, name);
    assert_string_equal(name, "lo");
    assert_int_equal(mt_address_from_host("0.0.0.1", 1, &local), 0); /* nobody has it */
    mt_address_interface(&local, name);
    assert_string_equal(name, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_answered_is_known),
        cmocka_unit_test(routes_and_interfaces_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
