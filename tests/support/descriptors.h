/* SPDX-License-Identifier: Apache-2.0 */
/* A process that has as few descriptors left as a test wants. */
#ifndef MT_TESTS_SUPPORT_DESCRIPTORS_H
#define MT_TESTS_SUPPORT_DESCRIPTORS_H

#include <sys/resource.h>
#include <unistd.h>

enum { DESCRIPTORS_LIMIT = 256 };

static int descriptors_taken[DESCRIPTORS_LIMIT], descriptors_count;

/* Take all but `left` of those that a low limit allows; 0, or -1 if there are not as many. */
static inline int descriptors_leave(int left)
{
    struct rlimit limit;
    int fd;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return -1;
    limit.rlim_cur = DESCRIPTORS_LIMIT;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        return -1;
    while ((fd = dup(STDIN_FILENO)) >= 0)
        descriptors_taken[descriptors_count++] = fd;
    if (descriptors_count < left)
        return -1;
    while (left-- > 0)
        close(descriptors_taken[--descriptors_count]);
    return 0;
}

/* Give them back. */
static inline void descriptors_free(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    while (descriptors_count > 0)
        close(descriptors_taken[--descriptors_count]);
}

#endif
