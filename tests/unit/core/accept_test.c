/* SPDX-License-Identifier: Apache-2.0 */
/* The accepting side when its own process gets no CPU, and when the other one is slow. The test
 * plays a dialler, step by step. Time is moved on, not waited for. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "core/accept.h"
#include "core/address.h"
#include "core/stream.h"
#include "core/wire.h"
#include "core/control.h"
#include "core/group.h"
#include "core/log.h"
#include "tests/support/clock_shift.h"
#include "tests/support/descriptors.h"
#include "tests/support/whole.h"

/* One dialler's side of the handshake. */
struct guest {
    int fd;
    uint8_t hello[MT_HELLO_BYTES], proof[MT_AUTH_MAC_BYTES];
};

static void make(struct guest *guest)
{
    guest->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(guest->fd >= 0);
}

static void enter(struct guest *guest, const struct mt_group *group)
{
    struct mt_address address;
    struct mt_hello hello = {.protocol = MT_WIRE_PROTOCOL, .kind = MT_STREAM_TCP};
    mt_address_abstract(group->members[0].unix_name, &address);
    const struct sockaddr *name = (const struct sockaddr *)&address.socket;
    assert_int_equal(connect(guest->fd, name, address.bytes), 0);
    memcpy(hello.session_id, group->session_id, MT_ID_BYTES);
    memcpy(hello.uid, group->uid, MT_ID_BYTES);
    mt_auth_random(hello.nonce, sizeof hello.nonce);
    mt_hello_encode(&hello, guest->hello);
}

static void come(struct guest *guest, const struct mt_group *group)
{
    make(guest);
    enter(guest, group);
}

static void say_hello(struct guest *guest)
{
    send_all(guest->fd, guest->hello, sizeof guest->hello);
}

static void read_challenge(struct guest *guest, const struct mt_group *group)
{
    uint8_t bytes[MT_CHALLENGE_BYTES];
    struct mt_challenge challenge;
    receive_all(guest->fd, bytes, sizeof bytes);
    assert_int_equal(mt_challenge_decode(bytes, &challenge), 0);
    assert_int_equal(challenge.status, MT_CHALLENGE_GO);
    mt_proof_dialler(group->key, guest->hello, challenge.nonce, guest->proof);
}

static void say_proof(struct guest *guest)
{
    send_all(guest->fd, guest->proof, sizeof guest->proof);
}

static void be_accepted(struct guest *guest)
{
    uint8_t bytes[MT_ACCEPTED_BYTES];
    receive_all(guest->fd, bytes, sizeof bytes);
    assert_memory_equal(bytes, mt_accepted, sizeof bytes);
}

static void be_closed(struct guest *guest)
{
    char byte;
    struct pollfd ready = {.fd = guest->fd, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, 10000), 1);
    assert_int_equal(recv(guest->fd, &byte, 1, 0), 0);
    close(guest->fd);
}

static void take_and_close(void *arg, int fd, uint32_t from, uint32_t index)
{
    _Atomic int *taken = arg;
    (void)from;
    (void)index;
    atomic_fetch_add(taken, 1);
    mt_fd_close(fd);
}

enum { TIMEOUT_S = 300 };

/* Run `body` with a group of one rank that listens for tcp streams. */
static void with_listener(void (*body)(const struct mt_group *group))
{
    char session[512];
    struct mt_group *group;
    struct mt_error error;
    _Atomic int taken = 0;
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    const struct mt_group_join join = {
        .session = session, .ranks = 1, .timeout_ns = TIMEOUT_S * MT_SECOND};
    assert_int_equal(mt_group_join(&join, &group, &error), 0);
    assert_int_equal(mt_stream_listen(group, MT_STREAM_TCP, take_and_close, NULL, &taken), 0);
    body(group);
    mt_stream_unlisten(group, MT_STREAM_TCP);
    mt_group_leave(group);
}

/* The service thread of the acceptor is held up while `guest` says something and time goes by. */
struct starving {
    struct mt_service_source source;
    struct guest *guest;
    void (*say)(struct guest *guest);
    int is_over;
};

static void starve(struct mt_service_source *source, uint32_t events)
{
    struct starving *starving = source->arg;
    (void)events;
    mt_service_unwatch(source);
    starving->say(starving->guest);
    clock_shift(3 * MT_SECOND);
    starving->is_over = 1;
    mt_service_signal();
}

static void say_while_starved(struct guest *guest, void (*say)(struct guest *guest))
{
    struct starving starving = {
        .source = {.ready = starve, .arg = &starving}, .guest = guest, .say = say};
    starving.source.fd = eventfd(1, EFD_CLOEXEC);
    mt_service_lock();
    assert_int_equal(mt_service_watch(&starving.source, EPOLLIN), 0);
    while (!starving.is_over)
        mt_service_wait(mt_clock_now_ns() + MT_SECOND);
    mt_service_unlock();
    close(starving.source.fd);
}

static void starve_twice(const struct mt_group *group)
{
    struct guest guest;
    come(&guest, group);
    clock_shift_settle();
    say_while_starved(&guest, say_hello);
    read_challenge(&guest, group);
    say_while_starved(&guest, say_proof);
    be_accepted(&guest);
    close(guest.fd);
}

static void a_starved_acceptor_blames_nobody(void **state)
{
    (void)state;
    with_listener(starve_twice);
}

static void come_late(const struct mt_group *group)
{
    struct guest silent, unproved, late;
    come(&silent, group);
    come(&unproved, group);
    say_hello(&unproved);
    read_challenge(&unproved, group);
    clock_shift_settle();
    clock_shift(3 * MT_SECOND);
    clock_shift_settle();
    be_closed(&silent);
    be_closed(&unproved);
    come(&late, group); /* almost 2 s for the hello, and then for the proof */
    clock_shift_settle();
    clock_shift(1500 * (uint64_t)MT_MS);
    clock_shift_settle();
    say_hello(&late);
    read_challenge(&late, group);
    clock_shift(1500 * (uint64_t)MT_MS);
    clock_shift_settle();
    say_proof(&late);
    be_accepted(&late);
    close(late.fd);
}

static void who_is_silent_is_closed(void **state)
{
    (void)state;
    with_listener(come_late);
}

/* All places are taken by ranks that have waited long for a starved acceptor: they are through with
 * their next word, however many come behind them. */
static void come_in_crowds(const struct mt_group *group)
{
    enum { CROWD = MT_ACCEPT_PENDING_MAX };
    struct guest *guest = calloc(2 * CROWD, sizeof *guest);
    come(&guest[0], group);
    clock_shift_settle();
    mt_service_lock();
    for (int i = 1; i < CROWD; i++)
        come(&guest[i], group);
    mt_service_unlock();
    clock_shift_settle(); /* all are in, and none has given way to nobody */
    mt_service_lock();    /* the service thread gets nowhere */
    for (int i = 0; i < CROWD; i++)
        say_hello(&guest[i]);
    for (int i = CROWD; i < 2 * CROWD; i++) {
        come(&guest[i], group);
        say_hello(&guest[i]);
    }
    clock_shift(MT_SECOND);
    mt_service_unlock();
    for (int i = 0; i < CROWD; i++) {
        read_challenge(&guest[i], group);
        say_proof(&guest[i]);
    }
    for (int i = 0; i < CROWD; i++) {
        be_accepted(&guest[i]);
        close(guest[i].fd);
    }
    for (int i = CROWD; i < 2 * CROWD; i++) {
        read_challenge(&guest[i], group);
        say_proof(&guest[i]);
        be_accepted(&guest[i]);
        close(guest[i].fd);
    }
    free(guest);
}

static void a_crowd_gets_through(void **state)
{
    (void)state;
    with_listener(come_in_crowds);
}

/* What is accepted before anybody listens for it waits as long as the group waits for anything. */
static void come_early(const struct mt_group *group)
{
    struct guest early, closed, too_early;
    _Atomic int taken = 0;
    mt_stream_unlisten(group, MT_STREAM_TCP);
    struct guest *guests[] = {&closed, &too_early, &early};
    for (int i = 0; i < 3; i++) {
        come(guests[i], group);
        say_hello(guests[i]);
        read_challenge(guests[i], group);
        say_proof(guests[i]);
        be_accepted(guests[i]);
        clock_shift_settle();
        clock_shift(i == 1 ? 2 * MT_SECOND : 0);
    }
    close(closed.fd);
    clock_shift((TIMEOUT_S - 1) * MT_SECOND);
    clock_shift_settle();
    be_closed(&too_early);
    assert_int_equal(mt_stream_listen(group, MT_STREAM_TCP, take_and_close, NULL, &taken), 0);
    be_closed(&early); /* by who took it */
    assert_int_equal(taken, 1);
}

static void who_is_early_waits(void **state)
{
    (void)state;
    with_listener(come_early);
}

static void count_warnings(void *arg, const char *line)
{
    *(_Atomic int *)arg += strstr(line, "warn") && strstr(line, "ulimit -n");
}

/* A stranger on the last descriptor harms nobody; a rank on it is kept if another descriptor is to
 * be had by then, else its group learns why not. */
static void come_without_descriptors(const struct mt_group *group)
{
    struct guest stranger, kept, lost;
    struct mt_error error;
    _Atomic int warnings = 0;
    mt_log_sink(count_warnings, &warnings);
    make(&stranger);
    make(&kept);
    make(&lost);
    assert_int_equal(descriptors_leave(0), 0);
    enter(&stranger, group);
    clock_shift_settle();
    enter(&kept, group); /* waits until the stranger's time is over */
    say_hello(&kept);
    clock_shift_settle();
    clock_shift(3 * MT_SECOND);
    clock_shift_settle();
    be_closed(&stranger);
    read_challenge(&kept, group);
    descriptors_free();
    say_proof(&kept);
    be_accepted(&kept);
    clock_shift_settle();
    assert_false(mt_control_failed(group->control));
    assert_int_equal(descriptors_leave(0), 0);
    enter(&lost, group);
    say_hello(&lost);
    read_challenge(&lost, group);
    say_proof(&lost);
    be_closed(&lost);
    descriptors_free();
    assert_true(mt_control_failed(group->control));
    mt_control_failure(group->control, &error);
    assert_int_equal(error.code, MANTA_ESYSTEM);
    assert_non_null(strstr(error.sentence, "ulimit -n"));
    assert_int_equal(warnings, 1);
    mt_log_sink(NULL, NULL);
    close(kept.fd);
}

static void a_lack_of_descriptors_is_told(void **state)
{
    (void)state;
    with_listener(come_without_descriptors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_starved_acceptor_blames_nobody),
        cmocka_unit_test(who_is_silent_is_closed),
        cmocka_unit_test(a_crowd_gets_through),
        cmocka_unit_test(who_is_early_waits),
        cmocka_unit_test(a_lack_of_descriptors_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
