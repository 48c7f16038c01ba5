/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/shm/pass.h"

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "core/service.h"

ssize_t mt_shm_pass_send(int stream, const void *bytes, size_t count, const int *descriptors,
                         size_t descriptor_count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MT_SHM_PASS_MAX * sizeof(int))];
    } control;
    struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (descriptor_count != 0) {
        size_t length = descriptor_count * sizeof(int);
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(length);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(length);
        memcpy(CMSG_DATA(header), descriptors, length);
    }
    return sendmsg(stream, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void keep(int fd, int *passed, size_t room)
{
    mt_fd_enter(fd);
    for (size_t i = 0; i < room; i++) {
        if (passed[i] < 0) {
            passed[i] = fd;
            return;
        }
    }
    mt_fd_close(fd);
}

static void take_descriptors(struct msghdr *message, int *passed, size_t room)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
            keep(fd, passed, room);
        }
    }
}

ssize_t mt_shm_pass_receive(int stream, void *bytes, size_t count, int *passed, size_t room,
                            int *is_cut_out)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MT_SHM_PASS_MAX * sizeof(int))];
    } control;
    struct iovec piece = {.iov_base = bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t got = recvmsg(stream, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0)
        return got;
    take_descriptors(&message, passed, room);
    if (message.msg_flags & MSG_CTRUNC)
        *is_cut_out = 1;
    return got;
}
