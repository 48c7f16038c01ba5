/* SPDX-License-Identifier: Apache-2.0 */
/* What two ranks exchange over bare sockets, in ways that a transport could use. */
#ifndef MT_PERF_SOCKETS_H
#define MT_PERF_SOCKETS_H

#include <stddef.h>
#include <stdint.h>

enum { SOCKETS_MAX = 4 };

/* One end: it writes to `out`, all sockets of it, and reads from `in`. */
struct end {
    int out[SOCKETS_MAX], in[SOCKETS_MAX], count;
    int epoll_fd;
    size_t write_bytes; /* most of one call */
    uint8_t *from, *to; /* SOCKETS_MAX times the message's length */
    void *ring;         /* of io_uring */
};

/* Send `bytes` over each socket and receive as much over each: 0. */
typedef int exchange_fn(struct end *end, size_t bytes);

int exchange_polling(struct end *end, size_t bytes);   /* recv() again and again */
int exchange_by_epoll(struct end *end, size_t bytes);  /* recv() when epoll tells */
int exchange_by_ring(struct end *end, size_t bytes);   /* io_uring: one submission for both */
int exchange_zero_copy(struct end *end, size_t bytes); /* MSG_ZEROCOPY, and its completions */

/* -1: this kernel or container has no io_uring. */
int ring_open(struct end *end);
void ring_close(struct end *end);

#endif
