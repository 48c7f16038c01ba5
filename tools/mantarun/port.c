/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/mantarun/port.h"

#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/session.h"

enum { ATTEMPTS = 16 };

static uint16_t port_of(const char *address)
{
    const char *colon = strrchr(address, ':');
    return colon != NULL ? (uint16_t)strtoul(colon + 1, NULL, 10) : 0;
}

/* Two sockets may be bound to a port if both set SO_REUSEADDR and neither listens yet; rank 0 then
 * listens beside this one, and the kernel gives the port to nobody who asks for any free one. */
static int hold_port(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

int port_session(char *text, size_t text_bytes, int *hold_fd_out)
{
    struct mt_error error;
    struct mt_session session;
    for (int i = 0; i < ATTEMPTS; i++) {
        int rc = mt_session_prepare("127.0.0.1", 0, text, text_bytes, &error);
        if (rc == 0)
            rc = mt_session_parse(text, &session, &error);
        if (rc != 0) {
            fprintf(stderr, "mantarun: cannot make a session: %s\n", error.sentence);
            return -1;
        }
        *hold_fd_out = hold_port(port_of(session.addresses[0]));
        explicit_bzero(&session, sizeof session);
        if (*hold_fd_out >= 0)
            return 0;
    }
    fprintf(stderr, "mantarun: found no free port for the session on 127.0.0.1\n");
    return -1;
}
