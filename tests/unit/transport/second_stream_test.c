/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that dials a second stream of a kind of which there is one already: the second is closed,
 * and the first, looked at or not, goes on. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/control.h"
#include "core/service.h"
#include "core/stream.h"
#include "tests/support/group_ranks.h"
#include "tests/support/meeting.h"
#include "transport/registry.h"

static struct meeting phase;

struct second {
    const char *transport; /* NULL: the control plane */
    int kind;
};

static int dial(struct group_rank *rank, int kind)
{
    struct mt_dial *dialling;
    int fd = -1, rc;
    if (mt_stream_dial(rank->group, 1, kind, 0, mt_clock_now_ns() + 20 * MT_SECOND, &dialling))
        return -1;
    while ((rc = mt_stream_dial_test(dialling, &fd, &rank->error)) == MANTA_INPROGRESS)
        sched_yield();
    return rc ? -1 : fd;
}

static int closes(int fd)
{
    char bytes[256];
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    while (poll(&ready, 1, 10000) == 1)
        if (recv(fd, bytes, sizeof bytes, 0) <= 0)
            return 1;
    return 0;
}

static int is_open(int fd)
{
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    return got > 0 || (got < 0 && errno == EAGAIN);
}

static void dial_twice(struct group_rank *rank)
{
    const struct second *second = rank->arg;
    int fds[3] = {-1, -1, -1};
    meeting_wait(&phase); /* rank 1 listens, and does not look */
    for (int i = second->transport == NULL; i < 2; i++)
        fds[i] = dial(rank, second->kind);
    if (!closes(fds[1]))
        rank->result = -100;
    meeting_wait(&phase);
    meeting_wait(&phase); /* rank 1 has looked */
    fds[2] = dial(rank, second->kind);
    meeting_wait(&phase);
    meeting_wait(&phase);
    if (!closes(fds[2]) || (second->transport && !is_open(fds[0])))
        rank->result = -101;
    for (int i = 0; i < 3; i++)
        mt_fd_close(fds[i]);
}

static void look(const struct manta_transport *transport, void *endpoint)
{
    for (int i = 0; i < 100 && transport; i++)
        transport->progress(endpoint);
}

static void be_dialled(struct group_rank *rank)
{
    const struct second *second = rank->arg;
    const struct manta_transport *transport =
        second->transport ? mt_transport_find(second->transport) : NULL;
    const struct manta_transport_open params = {.size = sizeof(params),
                                                .host = mt_transport_host(),
                                                .rank = rank->rank,
                                                .ranks = rank->ranks,
                                                .epoch = rank->group->epoch,
                                                .local_ranks = rank->ranks,
                                                .timeout_ns = 20 * MT_SECOND,
                                                .group = rank->group};
    struct manta_transport_error error = {.size = sizeof(error)};
    void *endpoint = NULL;
    if (transport)
        rank->result = transport->open(&params, &endpoint, &error);
    meeting_wait(&phase);
    meeting_wait(&phase);
    look(transport, endpoint);
    meeting_wait(&phase);
    meeting_wait(&phase);
    look(transport, endpoint);
    meeting_wait(&phase);
    meeting_wait(&phase);
    if (transport && endpoint)
        transport->close(endpoint);
}

static void run_rank(struct group_rank *rank)
{
    if (rank->rank == 0)
        dial_twice(rank);
    else
        be_dialled(rank);
    if (rank->rank == 0)
        meeting_wait(&phase); /* rank 1 closes only now */
    if (mt_control_failed(rank->group->control)) {
        mt_control_failure(rank->group->control, &rank->error);
        rank->result = rank->error.code;
    }
}

static void the_first_stream_stays(void **state)
{
    struct second seconds[] = {
        {"tcp", MT_STREAM_TCP}, {"shm", MT_STREAM_SHM}, {NULL, MT_STREAM_CONTROL}};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct group_rank rank[2];
        char session[512];
        assert_int_equal(manta_session_create(session, sizeof session), 0);
        group_ranks_init(rank, 2, session);
        rank[0].arg = rank[1].arg = &seconds[i];
        meeting_begin(&phase, 2);
        group_ranks_run(rank, 2, run_rank);
        meeting_end(&phase);
        for (int r = 0; r < 2; r++) {
            if (rank[r].result)
                print_error("kind %d, rank %d: %d %s\n", seconds[i].kind, r, rank[r].result,
                            rank[r].error.sentence);
            assert_int_equal(rank[r].result, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_stream_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
