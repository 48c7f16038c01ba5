/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/mantarun/mantarun.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int write_all(int fd, struct iovec *pieces, int count)
{
    while (count > 0) {
        ssize_t done = writev(fd, pieces, count);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno == EAGAIN) {
            struct pollfd room = {.fd = fd,
                                  .events = POLLOUT}; /* whoever shares it set O_NONBLOCK */
            poll(&room, 1, -1);
            continue;
        }
        if (done < 0)
            return -1;
        while (count > 0 && (size_t)done >= pieces->iov_len) {
            done -= (ssize_t)pieces->iov_len;
            pieces++;
            count--;
        }
        if (count > 0) {
            pieces->iov_base = (char *)pieces->iov_base + done;
            pieces->iov_len -= (size_t)done;
        }
    }
    return 0;
}

/* Write a piece of at most one line, with the prefix if it begins a line. */
static int write_line(struct output *output, const char *text, size_t bytes)
{
    char prefix[24];
    struct iovec pieces[2];
    int count = 0;
    if (output->rank >= 0 && !output->inside_line) {
        pieces[count].iov_len = (size_t)snprintf(prefix, sizeof prefix, "[%d] ", output->rank);
        pieces[count++].iov_base = prefix;
    }
    pieces[count].iov_base = (char *)text;
    pieces[count++].iov_len = bytes;
    output->inside_line = text[bytes - 1] != '\n';
    return write_all(output->to, pieces, count);
}

/* Write the whole lines of the buffer; when it is full, or flush, also the rest. */
static int write_lines(struct output *output, int flush)
{
    const char *at = output->bytes, *end = output->bytes + output->used;
    const char *newline;
    while (at < end && (newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        if (write_line(output, at, (size_t)(newline + 1 - at)) != 0)
            return -1;
        at = newline + 1;
    }
    size_t rest = (size_t)(end - at);
    if (rest > 0 && (flush || rest == sizeof output->bytes)) {
        if (write_line(output, at, rest) != 0)
            return -1;
        rest = 0;
    }
    memmove(output->bytes, at, rest);
    output->used = rest;
    return 0;
}

int output_close(struct output *output)
{
    if (output->from < 0)
        return 0;
    close(output->from);
    output->from = -1;
    if (write_lines(output, 1) != 0)
        return -1;
    return output->inside_line ? write_line(output, "\n", 1) : 0;
}

int output_forward(struct output *output)
{
    /* Twice what a pipe holds, so that a rank that never stops writing cannot keep the others out.
     */
    for (int i = 0; i < 8 && output->from >= 0; i++) {
        ssize_t got =
            read(output->from, output->bytes + output->used, sizeof output->bytes - output->used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return 0;
        if (got <= 0)
            return output_close(output);
        output->used += (size_t)got;
        if (write_lines(output, 0) != 0)
            return -1;
    }
    return 0;
}
