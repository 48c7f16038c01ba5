/* SPDX-License-Identifier: Apache-2.0 */
/* The dialling side against a listener that is slow, which the test plays. Time is moved on, not
 * waited for. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "core/dial.h"
#include "tests/support/clock_shift.h"
#include "tests/support/descriptors.h"
#include "tests/support/whole.h"

#define PATIENCE_NS (600 * MT_SECOND)

struct play {
    int listener;
    struct mt_dial_plan plan;
    struct mt_address address;
    struct mt_dial *dial;
};

static void prepare(struct play *play, int kind)
{
    struct mt_error error;
    char name[64];
    memset(play, 0, sizeof *play);
    assert_int_equal(mt_service_acquire(&error), 0);
    snprintf(name, sizeof name, "manta-dial-test-%d", (int)getpid());
    mt_address_abstract(name, &play->address);
    play->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr *bound = (const struct sockaddr *)&play->address.socket;
    assert_int_equal(bind(play->listener, bound, play->address.bytes), 0);
    assert_int_equal(listen(play->listener, 16), 0);
    assert_int_equal(mt_auth_random(play->plan.key, sizeof play->plan.key), 0);
    play->plan.hello.kind = (uint32_t)kind;
    play->plan.hello.from = 1;
    play->plan.addresses = &play->address;
    play->plan.address_count = 1;
    play->plan.deadline_ns = mt_clock_now_ns() + PATIENCE_NS;
}

static void begin_as(struct play *play, int kind)
{
    prepare(play, kind);
    mt_service_lock();
    assert_int_equal(mt_dial_start(&play->plan, &play->dial), 0);
    mt_service_unlock();
}

static void begin(struct play *play)
{
    begin_as(play, MT_STREAM_CONTROL);
}

static void end(struct play *play)
{
    close(play->listener);
    mt_service_release();
}

/* The next connection of the dialler. */
static int take(struct play *play)
{
    struct pollfd ready = {.fd = play->listener, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, 10000), 1);
    int fd = accept4(play->listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* Take a connection as far as its proof, which is checked. */
static int take_proof(struct play *play)
{
    uint8_t hello[MT_HELLO_BYTES], bytes[MT_CHALLENGE_BYTES];
    uint8_t proof[MT_AUTH_MAC_BYTES], wanted[MT_AUTH_MAC_BYTES];
    struct mt_challenge challenge = {.status = MT_CHALLENGE_GO, .protocol = MT_WIRE_PROTOCOL};
    int fd = take(play);
    receive_all(fd, hello, sizeof hello);
    mt_auth_random(challenge.nonce, sizeof challenge.nonce);
    mt_proof_acceptor(play->plan.key, hello, challenge.nonce, challenge.mac);
    mt_challenge_encode(&challenge, bytes);
    send_all(fd, bytes, sizeof bytes);
    receive_all(fd, proof, sizeof proof);
    mt_proof_dialler(play->plan.key, hello, challenge.nonce, wanted);
    assert_memory_equal(proof, wanted, sizeof wanted);
    return fd;
}

static int is_open(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static int is_dialled_again(const struct play *play)
{
    struct pollfd ready = {.fd = play->listener, .events = POLLIN};
    return poll(&ready, 1, 0) == 1;
}

/* How the dial ends. */
static int await_end(struct play *play, int *fd_out, struct mt_error *error)
{
    int rc;
    mt_service_lock();
    while ((rc = mt_stream_dial_test(play->dial, fd_out, error)) == MANTA_INPROGRESS)
        mt_service_wait(mt_clock_now_ns() + MT_SECOND);
    mt_service_unlock();
    return rc;
}

/* Accept on `fd`, and see that this is the stream that the dialler has. */
static void accept_on(struct play *play, int fd)
{
    struct mt_error error;
    char byte = 0;
    int dialled;
    send_all(fd, mt_accepted, MT_ACCEPTED_BYTES);
    assert_int_equal(await_end(play, &dialled, &error), 0);
    send_all(fd, "x", 1);
    receive_all(dialled, &byte, 1);
    assert_int_equal(byte, 'x');
    mt_fd_close(dialled);
}

static void who_has_the_proof_is_waited_for(void **state)
{
    struct play play;
    (void)state;
    begin(&play);
    int fd = take_proof(&play);
    for (int i = 0; i < 5; i++) {
        clock_shift(100 * MT_SECOND);
        clock_shift_settle();
        assert_true(is_open(fd));
        assert_false(is_dialled_again(&play));
    }
    accept_on(&play, fd);
    close(fd);
    end(&play);
}

static void who_has_not_is_left(void **state)
{
    struct play play;
    char byte;
    (void)state;
    begin(&play);
    int silent = take(&play); /* it may be anybody */
    uint8_t hello[MT_HELLO_BYTES];
    receive_all(silent, hello, sizeof hello);
    clock_shift(3 * MT_SECOND);
    clock_shift_settle();
    assert_int_equal(recv(silent, &byte, 1, 0), 0);
    int fd = take_proof(&play);
    accept_on(&play, fd);
    close(silent);
    close(fd);
    end(&play);
}

static void who_closes_is_dialled_again(void **state)
{
    struct play play;
    (void)state;
    begin(&play);
    for (int i = 0; i < 3; i++)
        close(take_proof(&play));
    int fd = take_proof(&play);
    accept_on(&play, fd);
    close(fd);
    end(&play);
}

static void the_deadline_ends_it(void **state)
{
    struct play play;
    struct mt_error error;
    int dialled;
    (void)state;
    begin(&play);
    int fd = take_proof(&play);
    clock_shift(PATIENCE_NS);
    clock_shift_settle();
    assert_int_equal(await_end(&play, &dialled, &error), MANTA_ETIMEOUT);
    assert_int_equal(dialled, -1);
    assert_non_null(strstr(error.sentence, "no answer"));
    close(fd);
    end(&play);
}

/* Who joins has the wrong session; who has joined meets a rank that has closed. */
static void a_refusal_tells_why(void **state)
{
    static const int kinds[] = {MT_STREAM_JOIN, MT_STREAM_TCP};
    static const int codes[] = {MANTA_EAUTH, MANTA_EPEER};
    static const char *const words[] = {"its secret is another one", "has closed its communicator"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct play play;
        struct mt_error error;
        struct mt_challenge challenge = {.status = MT_CHALLENGE_UNKNOWN,
                                         .protocol = MT_WIRE_PROTOCOL};
        uint8_t hello[MT_HELLO_BYTES], bytes[MT_CHALLENGE_BYTES];
        int dialled;
        begin_as(&play, kinds[i]);
        int fd = take(&play);
        receive_all(fd, hello, sizeof hello);
        mt_challenge_encode(&challenge, bytes);
        send_all(fd, bytes, sizeof bytes);
        assert_int_equal(await_end(&play, &dialled, &error), codes[i]);
        assert_non_null(strstr(error.sentence, words[i]));
        close(fd);
        end(&play);
    }
}

/* The answer came in time, but the service thread got no CPU until the deadline had passed. */
struct answering {
    struct mt_service_source source;
    int fd;
};

static void answer_late(struct mt_service_source *source, uint32_t events)
{
    struct answering *answering = source->arg;
    (void)events;
    mt_service_unwatch(source);
    send_all(answering->fd, mt_accepted, MT_ACCEPTED_BYTES);
    clock_shift(PATIENCE_NS);
}

static void a_starved_dialler_finds_the_answer(void **state)
{
    struct play play;
    struct mt_error error;
    int dialled;
    (void)state;
    begin(&play);
    struct answering answering = {.source = {.ready = answer_late, .arg = &answering}};
    answering.fd = take_proof(&play);
    answering.source.fd = eventfd(1, EFD_CLOEXEC);
    mt_service_lock();
    assert_int_equal(mt_service_watch(&answering.source, EPOLLIN), 0);
    mt_service_unlock();
    assert_int_equal(await_end(&play, &dialled, &error), 0);
    mt_fd_close(dialled);
    close(answering.source.fd);
    close(answering.fd);
    end(&play);
}

/* What this process lacks does not come by waiting. */
static void who_has_no_descriptor_gives_up(void **state)
{
    struct play play;
    struct mt_error error;
    int dialled;
    (void)state;
    prepare(&play, MT_STREAM_CONTROL);
    mt_service_lock();
    assert_int_equal(descriptors_leave(0), 0);
    assert_int_equal(mt_dial_start(&play.plan, &play.dial), 0);
    mt_service_unlock();
    assert_int_equal(await_end(&play, &dialled, &error), MANTA_ESYSTEM);
    descriptors_free();
    assert_int_equal(error.rank, 1);
    assert_non_null(strstr(error.sentence, "ulimit -n"));
    end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_has_the_proof_is_waited_for),
        cmocka_unit_test(who_has_not_is_left),
        cmocka_unit_test(who_closes_is_dialled_again),
        cmocka_unit_test(the_deadline_ends_it),
        cmocka_unit_test(a_refusal_tells_why),
        cmocka_unit_test(a_starved_dialler_finds_the_answer),
        cmocka_unit_test(who_has_no_descriptor_gives_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
