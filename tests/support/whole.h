/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes over a socket of a test, all of them or a failed assertion. */
#ifndef TESTS_SUPPORT_WHOLE_H
#define TESTS_SUPPORT_WHOLE_H

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <cmocka.h>

static inline void receive_all(int fd, void *bytes, size_t count)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    for (size_t have = 0; have < count;) {
        assert_int_equal(poll(&ready, 1, 10000), 1);
        ssize_t got = recv(fd, (char *)bytes + have, count - have, 0);
        assert_true(got > 0);
        have += (size_t)got;
    }
}

static inline void send_all(int fd, const void *bytes, size_t count)
{
    assert_int_equal(send(fd, bytes, count, MSG_NOSIGNAL), (ssize_t)count);
}

#endif
