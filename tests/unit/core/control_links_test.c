/* SPDX-License-Identifier: Apache-2.0 */
/* A link that another rank makes while this one leaves. The test comes in between at two places:
 * when the goodbye has been said, and at the last moment in which a stream can come. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/control_impl.h"
#include "core/listener.h"
#include "core/stream.h"
#include "tests/support/group_ranks.h"
#include "tests/support/meeting.h"

enum { RANKS = 6, FAR = 0, LEAVING = 3 }; /* ranks 0 and 3 of 6 are no neighbours */

static struct meeting phase;
static int far_end = -1; /* rank 0's end of the stream */
static int comes_late;   /* 1: at the last moment */
static _Thread_local const struct mt_group *leaving;

/* A stream of rank 0 that has proved itself, whose first bytes say that it saw the goodbye. */
static void stream_comes(const struct mt_group *group)
{
    struct mt_hello hello = {.kind = MT_STREAM_CONTROL, .from = FAR, .to = group->rank};
    const struct mt_wire_frame seen = {.type = MT_WIRE_SEEN, .origin = FAR};
    uint8_t bytes[MT_WIRE_FRAME_BYTES];
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends))
        return;
    mt_wire_frame_encode(&seen, bytes);
    far_end = send(ends[0], bytes, sizeof bytes, 0) == sizeof bytes ? ends[0] : -1;
    memcpy(hello.uid, group->uid, sizeof hello.uid);
    memcpy(hello.session_id, group->session_id, sizeof hello.session_id);
    mt_service_lock();
    mt_fd_enter(ends[1]);
    mt_stream_deliver(ends[1], &hello, -1, mt_stream_room());
    mt_service_unlock();
}

/* The goodbye has been said, and is waited for. */
static int wait_with_stream(uint64_t until_ns)
{
    if (leaving && !comes_late)
        stream_comes(leaving);
    leaving = NULL;
    return mt_service_wait(until_ns);
}

static void unlisten_after_stream(const struct mt_group *group, int kind)
{
    if (comes_late && group->rank == LEAVING)
        stream_comes(group);
    mt_stream_unlisten(group, kind);
}

#define mt_service_wait wait_with_stream
#define mt_stream_unlisten unlisten_after_stream
#include "core/control_links.c"
#undef mt_service_wait
#undef mt_stream_unlisten

static void leave_alone(struct group_rank *rank)
{
    meeting_wait(&phase);
    if (rank->rank == LEAVING) {
        leaving = rank->group;
        mt_group_leave(rank->group);
        rank->group = NULL;
    }
    meeting_wait(&phase);
}

static void leave(int late)
{
    struct group_rank rank[RANKS];
    char session[512];
    comes_late = late;
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    group_ranks_init(rank, RANKS, session);
    meeting_begin(&phase, RANKS);
    group_ranks_run(rank, RANKS, leave_alone);
    meeting_end(&phase);
    for (int r = 0; r < RANKS; r++)
        assert_int_equal(rank[r].result, 0);
    assert_true(far_end >= 0);
}

static void a_link_of_the_last_moment_is_closed(void **state)
{
    uint8_t bytes[1024];
    (void)state;
    leave(1);
    do
        errno = 0;
    while (recv(far_end, bytes, sizeof bytes, 0) > 0);
    assert_int_not_equal(errno, EAGAIN); /* open: nobody would ever close it */
    close(far_end);
}

static void a_link_made_meanwhile_gets_the_goodbye(void **state)
{
    uint8_t bytes[1024];
    struct mt_wire_frame frame;
    (void)state;
    leave(0);
    assert_true(recv(far_end, bytes, sizeof bytes, 0) >= MT_WIRE_FRAME_BYTES);
    assert_int_equal(mt_wire_frame_decode(bytes, &frame), 0);
    assert_int_equal(frame.type, MT_WIRE_GOODBYE);
    assert_int_equal(frame.origin, LEAVING);
    close(far_end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_link_of_the_last_moment_is_closed),
        cmocka_unit_test(a_link_made_meanwhile_gets_the_goodbye),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
