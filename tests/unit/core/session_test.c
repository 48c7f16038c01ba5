/* SPDX-License-Identifier: Apache-2.0 */
/* Session strings are taken whole and exact, or refused without a word of the secret. */
#include <errno.h>
#include <netinet/in.h>
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
#include "core/auth.h"
#include "core/session.h"

#define SECRET "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

static int parse(const char *text, struct mt_session *session)
{
    struct mt_error error = {.code = 0};
    int rc = mt_session_parse(text, session, &error);
    assert_int_equal(rc, error.code);
    if (rc) {
        assert_int_equal(rc, MANTA_EINVAL);
        assert_true(strlen(error.sentence) > 20);
        assert_null(strstr(error.sentence, "AAECAwQF"));
    }
    return rc;
}

static void good_sessions_are_read(void **state)
{
    (void)state;
    struct mt_session session;
    assert_int_equal(parse("manta1:" SECRET "@10.0.0.1:4000", &session), 0);
    for (int i = 0; i < MT_SESSION_SECRET_BYTES; i++)
        assert_int_equal(session.secret[i], i);
    assert_int_equal(session.address_count, 1);
    assert_string_equal(session.addresses[0], "10.0.0.1:4000");
    assert_int_equal(
        parse("manta1:" SECRET "@1.2.3.4:1,[fd00::1]:65535,[::ffff:1.2.3.4]:9", &session), 0);
    assert_int_equal(session.address_count, 3);
    assert_string_equal(session.addresses[1], "[fd00::1]:65535");
}

static void bad_sessions_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "manta1",
        "manta1:",
        "manta2:" SECRET "@1.2.3.4:1",
        "MANTA1:" SECRET "@1.2.3.4:1",
        " manta1:" SECRET "@1.2.3.4:1",
        "manta1:" SECRET,
        "manta1:" SECRET "@",
        "manta1:" SECRET "@1.2.3.4",
        "manta1:" SECRET "@1.2.3.4:",
        "manta1:" SECRET "@1.2.3.4:0",
        "manta1:" SECRET "@1.2.3.4:01",
        "manta1:" SECRET "@1.2.3.4:65536",
        "manta1:" SECRET "@1.2.3.4:123456",
        "manta1:" SECRET "@1.2.3.4:-1",
        "manta1:" SECRET "@1.2.3.4:+1",
        "manta1:" SECRET "@1.2.3.4: 1",
        "manta1:" SECRET "@1.2.3.4:1 ",
        "manta1:" SECRET "@1.2.3.4:1\n",
        "manta1:" SECRET "@1.2.3.4:1,",
        "manta1:" SECRET "@,1.2.3.4:1",
        "manta1:" SECRET "@1.2.3.4:1,,1.2.3.4:2",
        "manta1:" SECRET "@1.2.3:1",
        "manta1:" SECRET "@1.2.3.256:1",
        "manta1:" SECRET "@host:1",
        "manta1:" SECRET "@:1",
        "manta1:" SECRET "@::1:1",
        "manta1:" SECRET "@[::1]",
        "manta1:" SECRET "@[::1:1",
        "manta1:" SECRET "@[]:1",
        "manta1:" SECRET "@[1.2.3.4]:1",
        "manta1:" SECRET "@[fe80::1%lo]:1",
        "manta1:" SECRET "@[::1]]:1",
        "manta1:" SECRET "=@1.2.3.4:1",
        "manta1:" SECRET "A@1.2.3.4:1",
        "manta1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh@1.2.3.4:1",
        /* the two unused bits of the last digit are set */
        "manta1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9@1.2.3.4:1",
        "manta1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdH+8@1.2.3.4:1",
        "manta1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdH/8@1.2.3.4:1",
        "manta1:@1.2.3.4:1",
        "manta1:" SECRET "@@1.2.3.4:1",
        "manta1:" SECRET "@0000000000000000000000000000000000000000000000000000000000000000.1:1",
    };
    struct mt_session session;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (parse(bad[i], &session) == 0)
            fail_msg("taken: %s", bad[i]);
    assert_int_equal(parse(NULL, &session), MANTA_EINVAL);
}

static void address_count_is_limited(void **state)
{
    (void)state;
    struct mt_session session;
    char text[2000] = "manta1:" SECRET "@1.2.3.4:1";
    for (int i = 1; i < MT_SESSION_ADDRESSES; i++)
        strcat(text, ",1.2.3.4:1");
    assert_int_equal(parse(text, &session), 0);
    assert_int_equal(session.address_count, MT_SESSION_ADDRESSES);
    strcat(text, ",1.2.3.4:1");
    assert_int_equal(parse(text, &session), MANTA_EINVAL);
}

/* Every byte changed to every other, and every truncation: taken only if it is still exact. */
static void changes_are_refused_or_exact(void **state)
{
    (void)state;
    const char good[] = "manta1:" SECRET "@10.0.0.1:4000,[fd00::1]:5";
    struct mt_session session;
    char text[sizeof good], again[1200];
    for (size_t i = 0; i < sizeof good - 1; i++)
        for (int c = 0; c < 256; c++) {
            memcpy(text, good, sizeof good);
            text[i] = (char)c;
            if (parse(text, &session))
                continue;
            assert_int_equal(mt_session_format(&session, again, sizeof again), 0);
            assert_string_equal(again, text);
        }
}

static void random_texts_are_refused(void **state)
{
    (void)state;
    static const char alphabet[] = "manta1:@,.[]:0123456789abcdefAZ_-=\n %";
    struct mt_session session;
    char text[64];
    for (int i = 0; i < 20000; i++) {
        uint8_t random[64];
        assert_int_equal(mt_auth_random(random, sizeof random), 0);
        size_t length = random[0] % sizeof text, prefix = random[1] % 8;
        for (size_t k = 0; k < length; k++)
            text[k] = alphabet[random[k] % (sizeof alphabet - 1)];
        memcpy(text, "manta1:", prefix < length ? prefix : length);
        text[length < sizeof text ? length : sizeof text - 1] = 0;
        assert_int_equal(parse(text, &session), MANTA_EINVAL);
    }
}

static void format_respects_room(void **state)
{
    (void)state;
    struct mt_session session, back;
    char text[512];
    for (int i = 0; i < 200; i++) {
        assert_int_equal(mt_auth_random(session.secret, sizeof session.secret), 0);
        session.address_count = 2;
        strcpy(session.addresses[0], "10.1.2.3:40000");
        strcpy(session.addresses[1], "[fd00::1]:40000");
        assert_int_equal(mt_session_format(&session, text, sizeof text), 0);
        assert_int_equal(parse(text, &back), 0);
        assert_memory_equal(session.secret, back.secret, sizeof session.secret);
        assert_int_equal(mt_session_format(&session, text, strlen(text) + 1), 0);
        assert_int_equal(mt_session_format(&session, text, strlen(text)), MANTA_EINVAL);
    }
    session.address_count = 0;
    assert_int_equal(mt_session_format(&session, text, sizeof text), MANTA_EINVAL);
}

/* Linux 6.3; older headers lack it. */
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

/* A socket to which the kernel may give this port and no other; -1 where it knows no such thing. */
static int confined(const struct mt_address *address)
{
    uint32_t port = mt_address_port(address), range = port | port << 16;
    int fd = socket(address->socket.ss_family, SOCK_STREAM, 0);
    if (setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, sizeof range) == 0)
        return fd;
    close(fd);
    return -1;
}

static void assert_not_given(const struct mt_address *reserved, int reuse)
{
    struct mt_address any = *reserved;
    int fd = confined(reserved);
    if (fd < 0)
        return;
    mt_address_set_port(&any, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    assert_int_equal(bind(fd, (struct sockaddr *)&any.socket, any.bytes), -1);
    assert_int_equal(errno, EADDRINUSE);
    close(fd);
}

/* To who connects elsewhere. */
static void assert_not_lent(const struct mt_address *reserved)
{
    struct mt_address other = *reserved;
    int fd = confined(reserved), listener = socket(reserved->socket.ss_family, SOCK_STREAM, 0);
    mt_address_set_port(&other, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&other.socket, other.bytes), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&other.socket, &other.bytes), 0);
    if (fd >= 0) {
        assert_int_equal(connect(fd, (struct sockaddr *)&other.socket, other.bytes), -1);
        assert_int_equal(errno, EADDRNOTAVAIL);
        close(fd);
    }
    close(listener);
}

static void assert_rank_0_can_listen(const struct mt_address *address)
{
    int fd = socket(address->socket.ss_family, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address->socket, address->bytes), 0);
    assert_int_equal(listen(fd, 1), 0);
    close(fd);
}

static void prepared_ports_are_kept_for_rank_0(void **state)
{
    (void)state;
    struct mt_session session;
    struct mt_error error;
    char text[512];
    const char *const hosts[] = {"127.0.0.1", "::1", NULL};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mt_session_prepare(hosts[i], 0, text, sizeof text, &error), 0);
        assert_int_equal(parse(text, &session), 0);
        for (uint32_t a = 0; a < session.address_count; a++) {
            struct mt_address address;
            const char *at = session.addresses[a];
            assert_int_equal(mt_address_parse(at, strlen(at), &address), 0);
            assert_not_given(&address, 0);
            assert_not_given(&address, 1);
            assert_not_lent(&address);
            assert_rank_0_can_listen(&address);
        }
    }
    assert_int_equal(mt_session_prepare("localhost", 0, text, sizeof text, &error), MANTA_EINVAL);
    assert_int_equal(mt_session_prepare("192.0.2.1", 0, text, sizeof text, &error), MANTA_ESYSTEM);
    assert_int_equal(mt_session_prepare("127.0.0.1", 0, text, 20, &error), MANTA_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_sessions_are_read),
        cmocka_unit_test(bad_sessions_are_refused),
        cmocka_unit_test(address_count_is_limited),
        cmocka_unit_test(changes_are_refused_or_exact),
        cmocka_unit_test(random_texts_are_refused),
        cmocka_unit_test(format_respects_room),
        cmocka_unit_test(prepared_ports_are_kept_for_rank_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
