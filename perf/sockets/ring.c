/* SPDX-License-Identifier: Apache-2.0 */
/* io_uring without a library: one send and one receive are submitted together, then waited for by
 * looking at the completions, and by entering the kernel, which has to run what completes them. */
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "perf/sockets/sockets.h"

enum { ENTRIES = 16, SEND = 1, RECEIVE = 2 };

struct ring {
    int fd;
    struct io_uring_params params;
    uint8_t *rings;
    struct io_uring_sqe *entries;
    size_t rings_bytes, entries_bytes;
};

static _Atomic uint32_t *at(const struct ring *ring, uint32_t offset)
{
    return (_Atomic uint32_t *)(void *)(ring->rings + offset);
}

int ring_open(struct end *end)
{
    struct ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return -1;
    ring->params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    ring->fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &ring->params);
    if (ring->fd < 0 || !(ring->params.features & IORING_FEAT_SINGLE_MMAP))
        goto err_free;
    ring->rings_bytes =
        ring->params.cq_off.cqes + ring->params.cq_entries * sizeof(struct io_uring_cqe);
    ring->entries_bytes = ring->params.sq_entries * sizeof(struct io_uring_sqe);
    ring->rings = mmap(NULL, ring->rings_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                       ring->fd, IORING_OFF_SQ_RING);
    ring->entries = mmap(NULL, ring->entries_bytes, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
    if ((void *)ring->rings == MAP_FAILED || (void *)ring->entries == MAP_FAILED)
        goto err_free;
    end->ring = ring;
    return 0;
err_free:
    if (ring->fd >= 0)
        close(ring->fd);
    free(ring);
    return -1;
}

void ring_close(struct end *end)
{
    struct ring *ring = end->ring;
    if (!ring)
        return;
    munmap(ring->rings, ring->rings_bytes);
    munmap(ring->entries, ring->entries_bytes);
    close(ring->fd);
    free(ring);
}

static void add(struct ring *ring, int op, int fd, void *memory, size_t bytes)
{
    uint32_t tail = atomic_load_explicit(at(ring, ring->params.sq_off.tail), memory_order_relaxed);
    uint32_t place = tail & (ring->params.sq_entries - 1);
    struct io_uring_sqe *entry = &ring->entries[place];
    memset(entry, 0, sizeof *entry);
    entry->opcode = op == SEND ? IORING_OP_SEND : IORING_OP_RECV;
    entry->fd = fd;
    entry->addr = (uint64_t)(uintptr_t)memory;
    entry->len = (uint32_t)bytes;
    entry->msg_flags = MSG_WAITALL;
    entry->user_data = (uint64_t)op;
    ((uint32_t *)(void *)(ring->rings + ring->params.sq_off.array))[place] = place;
    /* Pairs with the kernel's load when it is entered. */
    atomic_store_explicit(at(ring, ring->params.sq_off.tail), tail + 1, memory_order_release);
}

/* Each completion has to be the whole transfer. How many came, or -1. */
static int reap(struct ring *ring, size_t bytes)
{
    uint32_t head = atomic_load_explicit(at(ring, ring->params.cq_off.head), memory_order_relaxed);
    /* Pairs with the kernel's store of what it has completed. */
    uint32_t tail = atomic_load_explicit(at(ring, ring->params.cq_off.tail), memory_order_acquire);
    const struct io_uring_cqe *all = (const void *)(ring->rings + ring->params.cq_off.cqes);
    int count = 0;
    for (; head != tail; head++, count++)
        if (all[head & (ring->params.cq_entries - 1)].res != (int)bytes)
            return -1;
    atomic_store_explicit(at(ring, ring->params.cq_off.head), head, memory_order_release);
    return count;
}

int exchange_by_ring(struct end *end, size_t bytes)
{
    struct ring *ring = end->ring;
    uint32_t to_submit = 0;
    int left = 2 * end->count;
    for (int i = 0; i < end->count; i++) {
        add(ring, RECEIVE, end->in[i], end->to + (size_t)i * bytes, bytes);
        add(ring, SEND, end->out[i], end->from + (size_t)i * bytes, bytes);
        to_submit += 2;
    }
    while (left > 0) {
        if (syscall(SYS_io_uring_enter, ring->fd, to_submit, 0, IORING_ENTER_GETEVENTS, NULL, 0) <
            0)
            return -1;
        to_submit = 0;
        int count = reap(ring, bytes);
        if (count < 0)
            return -1;
        left -= count;
    }
    return 0;
}
