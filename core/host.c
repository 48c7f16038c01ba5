/* SPDX-License-Identifier: Apache-2.0 */
#include "core/host.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

uint64_t mt_host_hash(const char *name, size_t bytes)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
    return hash ? hash : 1;
}

/* The file's beginning as text without the newline at its end; "" if it cannot be read. */
static void read_text(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? 0 : read(fd, text, room - 1);
    if (fd >= 0)
        close(fd);
    text[count > 0 ? count : 0] = 0;
    text[strcspn(text, "\n")] = 0;
}

/* Fields of /proc/<pid>/stat from the third on: the second may hold spaces and parentheses. */
static const char *stat_fields(pid_t pid, char *text, size_t room)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    read_text(path, text, room);
    const char *end = strrchr(text, ')');
    return end && end[1] == ' ' ? end + 2 : NULL;
}

uint64_t mt_host_process_start(pid_t pid)
{
    char text[1024];
    const char *field = stat_fields(pid, text, sizeof text);
    for (int i = 3; field && i < 22; i++) {
        field = strchr(field, ' ');
        field = field ? field + 1 : NULL;
    }
    return field ? strtoull(field, NULL, 10) : 0;
}

uint64_t mt_host_net_namespace(int fd)
{
    uint64_t cookie;
    socklen_t bytes = sizeof cookie;
    struct stat namespace;
    if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &bytes) == 0)
        return cookie;
    /* Before Linux 5.14: that of this thread, as the socket's. */
    return stat("/proc/thread-self/ns/net", &namespace) == 0 ? namespace.st_ino : 0;
}

void mt_host_describe(const char *node, struct mt_member *member_out)
{
    char boot[128];
    struct stat namespace;
    memset(member_out, 0, sizeof *member_out);
    read_text("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    if (boot[0] == 0 && gethostname(boot, sizeof boot - 1) == 0)
        boot[sizeof boot - 1] = 0;
    if (!node || !node[0])
        node = mt_config_string(MT_VAR(NODE));
    if (!node[0])
        node = boot;
    member_out->boot = mt_host_hash(boot, strlen(boot));
    member_out->node = mt_host_hash(node, strlen(node));
    if (stat("/proc/self/ns/pid", &namespace) == 0)
        member_out->pid_namespace = namespace.st_ino;
    member_out->pid = getpid();
    member_out->process_start = mt_host_process_start(member_out->pid);
    member_out->uid = (uint32_t)geteuid();
}
