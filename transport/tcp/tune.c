/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel is asked to do with a connection. Buffers are left to it: it grows them as far as
 * net.ipv4.tcp_rmem and tcp_wmem allow, and SO_SNDBUF or SO_RCVBUF would end that.
 *
 * Congestion control is not: cubic and bbr are made for long paths. On a link of microseconds bbr
 * hands packets to a timer, and cubic leaves slow start far too early; both took two to four times
 * as long as reno for 1 MiB to 16 MiB between two hosts joined by veth. So on a short path reno,
 * which every user may choose, takes their place; what else a host was set up with stays.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "transport/tcp/tcp.h"

enum { SHORT_PATH_US = 1000, NAME_BYTES = 16 };

static const char automatic[] = "auto", kept[] = "system", short_path[] = "reno";

static int is_for_long_paths(const char *name)
{
    return strncmp(name, "bbr", 3) == 0 || strcmp(name, "cubic") == 0;
}

/* The name that suits this connection; NULL: it has it. */
static const char *suitable(int fd)
{
    struct tcp_info info = {0};
    char name[NAME_BYTES + 1] = "";
    socklen_t info_bytes = sizeof(info), name_bytes = NAME_BYTES;
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &name_bytes) != 0 ||
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_bytes) != 0)
        return NULL;
    return is_for_long_paths(name) && info.tcpi_rtt < SHORT_PATH_US ? short_path : NULL;
}

static void choose_congestion_control(const struct mt_tcp_endpoint *endpoint, int fd)
{
    const char *wanted = endpoint->host->config("TCP_CONGESTION");
    if (wanted == NULL || strcmp(wanted, automatic) == 0)
        wanted = suitable(fd);
    else if (strcmp(wanted, kept) == 0)
        wanted = NULL;
    if (wanted != NULL)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, wanted, (socklen_t)strlen(wanted));
}

/* Not a TCP socket in some tests; then there is nothing to tune. */
void mt_tcp_tune(const struct mt_tcp_endpoint *endpoint, int fd)
{
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    choose_congestion_control(endpoint, fd);
}
