/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sleeping and waking. A sleeper sets `sleeping` in its own segment, issues a membarrier on all
 * CPUs and looks once more; a peer stores its flag, then loads `sleeping`. The membarrier takes the
 * place of the fence between the peer's store and load, so that publishing costs none.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/service.h"
#include "transport/shm/lend.h"

enum { STEP_NS = 1000000 };

static int membarrier(int command)
{
    return (int)syscall(SYS_membarrier, command, 0, 0);
}

static int watch(int wait_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(wait_fd, EPOLL_CTL_ADD, fd, &event);
}

int mt_shm_doorbell_open(struct mt_shm_endpoint *endpoint)
{
    endpoint->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (endpoint->doorbell >= 0)
        mt_fd_enter(endpoint->doorbell);
    endpoint->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (endpoint->timer >= 0)
        mt_fd_enter(endpoint->timer);
    endpoint->wait_fd = epoll_create1(EPOLL_CLOEXEC);
    if (endpoint->wait_fd >= 0)
        mt_fd_enter(endpoint->wait_fd);
    if (endpoint->doorbell < 0 || endpoint->timer < 0 || endpoint->wait_fd < 0 ||
        watch(endpoint->wait_fd, endpoint->doorbell) != 0 ||
        watch(endpoint->wait_fd, endpoint->timer) != 0)
        return MANTA_ESYSTEM;
    /* The sleeper's barrier reaches only processes that registered for it. */
    endpoint->bounded_sleep = membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) != 0;
    return 0;
}

void mt_shm_doorbell_close(struct mt_shm_endpoint *endpoint)
{
    int *descriptors[] = {&endpoint->wait_fd, &endpoint->timer, &endpoint->doorbell};
    for (size_t i = 0; i < sizeof(descriptors) / sizeof(descriptors[0]); i++) {
        if (*descriptors[i] >= 0)
            mt_fd_close(*descriptors[i]);
        *descriptors[i] = -1;
    }
}

static void ring(int doorbell)
{
    const uint64_t one = 1;
    /* It can only fail when the counter is full, and then it is readable. */
    ssize_t written = write(doorbell, &one, sizeof(one));
    (void)written;
}

void mt_shm_ring_bell(const struct mt_shm_peer *peer)
{
    ring(peer->doorbell);
}

void mt_shm_ring_self(struct mt_shm_endpoint *endpoint)
{
    ring(endpoint->doorbell);
}

static void set_timer(struct mt_shm_endpoint *endpoint, long step_ns)
{
    struct itimerspec spec = {.it_value.tv_nsec = step_ns, .it_interval.tv_nsec = step_ns};
    timerfd_settime(endpoint->timer, 0, &spec, NULL);
}

/* 0: sleep; 1: there is work. */
int mt_shm_arm(void *handle)
{
    struct mt_shm_endpoint *endpoint = handle;
    struct mt_shm_header *header = mt_shm_header_of(endpoint->base);
    endpoint->asleep = 1;
    atomic_store_explicit(&header->sleeping, 1, memory_order_seq_cst);
    if (!endpoint->bounded_sleep && membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) != 0)
        endpoint->bounded_sleep = 1;
    mt_shm_lend_forget(endpoint);
    mt_shm_lend_look_all(endpoint);
    if (mt_shm_progress_all(endpoint) != 0) {
        mt_shm_disarm(endpoint);
        return 1;
    }
    if (endpoint->bounded_sleep) {
        set_timer(endpoint, STEP_NS);
        endpoint->asleep = 2;
    }
    return 0;
}

void mt_shm_disarm(void *handle)
{
    struct mt_shm_endpoint *endpoint = handle;
    struct mt_shm_header *header = mt_shm_header_of(endpoint->base);
    atomic_store_explicit(&header->sleeping, 0, memory_order_relaxed);
    if (endpoint->asleep == 2)
        set_timer(endpoint, 0);
    endpoint->asleep = 0;
    uint64_t count;
    ssize_t bytes = read(endpoint->doorbell, &count, sizeof(count));
    (void)bytes;
}

int mt_shm_wait_fd(void *handle)
{
    return ((struct mt_shm_endpoint *)handle)->wait_fd;
}
