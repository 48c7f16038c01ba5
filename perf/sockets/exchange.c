/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/errqueue.h> /* needs struct timespec */

#include "perf/sockets/sockets.h"

enum { EVENTS = 8, FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL };

struct progress {
    size_t sent[SOCKETS_MAX], received[SOCKETS_MAX];
    uint32_t notices; /* zero copies that the kernel has not reported yet */
};

/* 1: all is done; -1: a socket is broken. */
static int move(struct end *end, size_t bytes, struct progress *progress, int flags, int may_read)
{
    int done = 1;
    for (int i = 0; i < end->count; i++) {
        size_t left = bytes - progress->sent[i], room = bytes - progress->received[i];
        if (left > 0) {
            size_t take = left < end->write_bytes ? left : end->write_bytes;
            ssize_t sent =
                send(end->out[i], end->from + (size_t)i * bytes + progress->sent[i], take, flags);
            if (sent < 0 && errno != EAGAIN && errno != ENOBUFS)
                return -1;
            progress->sent[i] += sent > 0 ? (size_t)sent : 0;
            progress->notices += sent > 0;
        }
        if (room > 0 && may_read) {
            ssize_t got = recv(end->in[i], end->to + (size_t)i * bytes + progress->received[i],
                               room, MSG_DONTWAIT);
            if (got == 0 || (got < 0 && errno != EAGAIN))
                return -1;
            progress->received[i] += got > 0 ? (size_t)got : 0;
        }
        done &= progress->sent[i] == bytes && progress->received[i] == bytes;
    }
    return done;
}

int exchange_polling(struct end *end, size_t bytes)
{
    struct progress progress = {0};
    int done;
    do
        done = move(end, bytes, &progress, FLAGS, 1);
    while (done == 0);
    return done > 0 ? 0 : -1;
}

int exchange_by_epoll(struct end *end, size_t bytes)
{
    struct progress progress = {0};
    struct epoll_event events[EVENTS];
    int done = move(end, bytes, &progress, FLAGS, 0);
    while (done == 0) {
        int found = epoll_wait(end->epoll_fd, events, EVENTS, 0);
        done = found < 0 ? -1 : move(end, bytes, &progress, FLAGS, found > 0);
    }
    return done > 0 ? 0 : -1;
}

/* A notice covers a range of sends. */
static void take_notices(const struct end *end, struct progress *progress)
{
    for (int i = 0; i < end->count; i++) {
        char control[128];
        struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
        if (recvmsg(end->out[i], &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            continue;
        const struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        struct sock_extended_err notice;
        if (!head)
            continue;
        memcpy(&notice, CMSG_DATA(head), sizeof notice);
        progress->notices -= notice.ee_data - notice.ee_info + 1;
    }
}

int exchange_zero_copy(struct end *end, size_t bytes)
{
    struct progress progress = {0};
    int done = 0;
    while (done == 0 || progress.notices > 0) {
        if (done == 0)
            done = move(end, bytes, &progress, FLAGS | MSG_ZEROCOPY, 1);
        if (done < 0)
            return -1;
        take_notices(end, &progress);
    }
    return 0;
}
