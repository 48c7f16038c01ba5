/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/job_session.h"

#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/session.h"

enum { ATTEMPTS = 16 };

/* Two sockets may have a port if both set SO_REUSEADDR and neither listens yet: rank 0 listens
 * beside this one. */
static int hold(const char *session)
{
    const char *colon = strrchr(session, ':');
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(colon + 1)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

int job_session_hold(char *text, size_t text_bytes)
{
    struct mt_error error = {.sentence = "no port could be held"};
    for (int i = 0; i < ATTEMPTS; i++) {
        if (mt_session_prepare("127.0.0.1", 0, text, text_bytes, &error))
            break;
        int fd = hold(text);
        if (fd >= 0)
            return fd;
    }
    fprintf(stderr, "cannot prepare a session: %s\n", error.sentence);
    exit(1);
}
