/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel is asked to do with a connection. Buffers are left to it: it grows them as far as
 * net.ipv4.tcp_rmem and tcp_wmem allow, and SO_SNDBUF or SO_RCVBUF would end that.
 *
 * Congestion control is not: cubic and bbr are made for long paths. On a link of microseconds and
 * gigabytes bbr hands packets to a timer, and cubic leaves slow start far too early; both took two
 * to four times as long as reno for 1 MiB to 16 MiB between two hosts joined by veth. So where
 * bulk is seen to flow fast over a short path, reno, which every user may choose, takes their
 * place. On a slow wire bbr keeps queues short, and stays; so does what else a host was set up
 * with.
 *
 * And what the kernel knows of a connection: whether its path is dead.
 */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "transport/tcp/tcp.h"

enum {
    SHORT_PATH_US = 1000,
    FAST_BYTES_PER_US = 300, /* between 1 Gbit/s and 10 Gbit/s */
    TICK_US = 4000,          /* the kernel's clock for busy times may be as coarse as this */
    NAME_BYTES = 16,
    LOOKS = 16 /* a path that was slow so often is slow */
};
#define SILENT_NS (10 * MT_SECOND) /* as the control plane has it of hosts */
#define SILENCE_LOOK_NS MT_SECOND

static const char automatic[] = "auto", kept[] = "system", short_path[] = "reno";

static int is_automatic(const struct mt_tcp_endpoint *endpoint)
{
    const char *given = endpoint->host->config("TCP_CONGESTION");
    return given == NULL || strcmp(given, automatic) == 0;
}

static int is_for_long_paths(int fd)
{
    char name[NAME_BYTES + 1] = "";
    socklen_t bytes = NAME_BYTES;
    return getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &bytes) == 0 &&
           (strncmp(name, "bbr", 3) == 0 || strcmp(name, "cubic") == 0);
}

static int set(int fd, const char *name)
{
    return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name));
}

/* Those that the kernel has loaded, with blanks between. */
static void list_there(char *text, size_t text_bytes)
{
    FILE *file = fopen("/proc/sys/net/ipv4/tcp_available_congestion_control", "re");
    if (file == NULL || fgets(text, (int)text_bytes, file) == NULL)
        snprintf(text, text_bytes, "those that sysctl net.ipv4 tells");
    text[strcspn(text, "\n")] = '\0';
    if (file != NULL)
        fclose(file);
}

int mt_tcp_congestion_check(const char *name, char *why_out, size_t why_bytes)
{
    char there[128];
    if (name == NULL || name[0] == '\0' || strcmp(name, automatic) == 0 || strcmp(name, kept) == 0)
        return 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0; /* whoever makes connections will say what is wrong */
    int failed = set(fd, name), error = errno;
    close(fd);
    if (failed == 0)
        return 0;
    list_there(there, sizeof(there));
    snprintf(why_out, why_bytes,
             "MANTA_TCP_CONGESTION is '%.32s', which %s; name auto, system, or one that this host "
             "has: %s",
             name, error == EPERM ? "this user may not choose" : "this kernel does not have",
             there);
    return MANTA_EINVAL;
}

/* Not a TCP socket in some tests; then there is nothing to tune. */
void mt_tcp_tune(const struct mt_tcp_endpoint *endpoint, int fd)
{
    int one = 1;
    const char *given = endpoint->host->config("TCP_CONGESTION");
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (!is_automatic(endpoint) && strcmp(given, kept) != 0)
        (void)set(fd, given);
}

void mt_tcp_tune_again(const struct mt_tcp_endpoint *endpoint, struct mt_tcp_socket *sock)
{
    struct tcp_info info = {0};
    socklen_t bytes = sizeof(info);
    sock->untuned = 0;
    if (sock->looks++ == LOOKS || !is_automatic(endpoint) || !is_for_long_paths(sock->fd) ||
        getsockopt(sock->fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) {
        sock->is_tuned = 1;
        return;
    }
    uint64_t moved = info.tcpi_bytes_acked - sock->acked;
    uint64_t took_us = info.tcpi_busy_time - sock->busy_us + TICK_US;
    sock->acked = info.tcpi_bytes_acked;
    sock->busy_us = info.tcpi_busy_time;
    if (info.tcpi_min_rtt >= SHORT_PATH_US || moved / took_us < FAST_BYTES_PER_US)
        return;
    (void)set(sock->fd, short_path);
    if (endpoint->peers[sock->peer].link.fd >= 0)
        (void)set(endpoint->peers[sock->peer].link.fd, short_path);
    sock->is_tuned = 1;
}

/* Bytes are sent again and again, or, where no route is left to send them by, probes are tried; and
 * the peer's kernel, which answers also where its process does not read, has said nothing for long.
 * The control plane, on an interface of its own, need not notice. */
static int is_silent(struct mt_tcp_socket *sock, uint64_t now_ns)
{
    struct tcp_info info = {0};
    socklen_t bytes = sizeof(info);
    if (sock == NULL || sock->state != MT_TCP_OPEN ||
        getsockopt(sock->fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0)
        return 0;
    if (info.tcpi_retransmits == 0 && info.tcpi_probes == 0)
        sock->silent_since_ns = 0;
    else if (info.tcpi_last_ack_recv * (uint64_t)MT_MS < now_ns - sock->silent_since_ns)
        sock->silent_since_ns = now_ns;
    return sock->silent_since_ns != 0 && now_ns - sock->silent_since_ns >= SILENT_NS;
}

int mt_tcp_lose_silent(struct mt_tcp_endpoint *endpoint)
{
    uint64_t now_ns = endpoint->host->clock_ns();
    int lost = 0;
    if (endpoint->aborted || now_ns - endpoint->silence_looked_ns < SILENCE_LOOK_NS)
        return 0;
    endpoint->silence_looked_ns = now_ns;
    for (uint32_t peer = 0; peer < endpoint->ranks; peer++) {
        struct mt_tcp_peer *state = &endpoint->peers[peer];
        for (uint32_t stream = 0; stream < state->streams; stream++) {
            struct mt_tcp_socket *sock = stream == 0 ? &state->link : state->out[stream];
            if (!is_silent(sock, now_ns))
                continue;
            mt_tcp_socket_lose(endpoint, sock, ETIMEDOUT);
            /* Its bytes are in the kernel, and their sends may have ended well long ago. */
            endpoint->failure = MANTA_EPEER;
            lost = 1;
        }
    }
    return lost;
}
