/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/descriptors.h"

#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "core/service.h"

static int watch(int epoll_fd, int *fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = fd};
    if (*fd < 0)
        return -1;
    mt_fd_enter(*fd);
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, *fd, &event);
}

int mt_descriptors_open(int *epoll_fd, int *mail_fd, int *timer_fd, uint32_t events)
{
    *epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (*epoll_fd < 0)
        return -1;
    mt_fd_enter(*epoll_fd);
    *mail_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watch(*epoll_fd, mail_fd, events) != 0)
        return -1;
    *timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return watch(*epoll_fd, timer_fd, events);
}

void mt_descriptors_close(int epoll_fd, int mail_fd, int timer_fd)
{
    const int fds[] = {timer_fd, mail_fd, epoll_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0)
            mt_fd_close(fds[i]);
    }
}
