/* SPDX-License-Identifier: Apache-2.0 */
/* libfabric's objects of an endpoint: made in this order, closed in the reverse one. */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

#include "core/service.h"
#include "transport/ofi/ofi.h"

/* How long nothing must come before an endpoint over ofi_rxm is closed, and how long that is waited
 * for at most. */
enum { QUIET_LOOKS = 10, QUIET_LOOKS_MOST = 200, QUIET_LOOK_NS = 500000 };

static int fail(const struct mt_ofi_endpoint *endpoint, const char *what, int error, char *reason,
                size_t reason_bytes)
{
    int is_verbs = strncmp(endpoint->provider, "verbs", 5) == 0;
    int is_small = strstr(what, "queue") != NULL || strstr(what, "endpoint") != NULL;
    const char *hint = !is_verbs  ? ""
                       : is_small ? "; try FI_UNIVERSE_SIZE=16 and `ulimit -l unlimited`"
                                  : "; the card's address must be one of this network namespace";
    snprintf(reason, reason_bytes, "libfabric (provider %s, domain %s) cannot %s: %s%s",
             endpoint->provider, endpoint->domain_name, what, endpoint->library->strerror(-error),
             hint);
    return error == -FI_ENOMEM ? MANTA_ENOMEM : MANTA_ENOTSUP;
}

static int open_queue(struct mt_ofi_endpoint *endpoint)
{
    uint64_t slots = (uint64_t)(MT_OFI_FORWARD_SLOTS + MT_OFI_ANSWER_SLOTS) * endpoint->ranks;
    struct fi_cq_attr attributes = {
        .size = slots + MT_OFI_INBOXES_MOST,
        .format = FI_CQ_FORMAT_DATA,
        .wait_obj = FI_WAIT_FD,
    };
    int code = -FI_ENOSYS;
    if (mt_ofi_can_wake(endpoint->provider))
        code = fi_cq_open(endpoint->domain, &attributes, &endpoint->queue, NULL);
    if (code == 0)
        return fi_control(&endpoint->queue->fid, FI_GETWAIT, &endpoint->queue_fd);
    /* Not all providers can wake: then a rank that sleeps looks now and then. */
    attributes.wait_obj = FI_WAIT_NONE;
    endpoint->queue_fd = -1;
    return fi_cq_open(endpoint->domain, &attributes, &endpoint->queue, NULL);
}

static int open_table(struct mt_ofi_endpoint *endpoint)
{
    struct fi_av_attr attributes = {.type = endpoint->info->domain_attr->av_type,
                                    .count = endpoint->ranks};
    if (attributes.type == FI_AV_UNSPEC)
        attributes.type = FI_AV_TABLE;
    return fi_av_open(endpoint->domain, &attributes, &endpoint->table, NULL);
}

/* What wakes a rank that sleeps. */
static int open_sleep(struct mt_ofi_endpoint *endpoint)
{
    struct epoll_event event = {.events = EPOLLIN};
    if (endpoint->queue_fd < 0)
        return 0;
    endpoint->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (endpoint->epoll_fd < 0)
        return -1;
    mt_fd_enter(endpoint->epoll_fd);
    endpoint->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (endpoint->timer_fd < 0)
        return -1;
    mt_fd_enter(endpoint->timer_fd);
    event.data.fd = endpoint->timer_fd;
    if (epoll_ctl(endpoint->epoll_fd, EPOLL_CTL_ADD, endpoint->timer_fd, &event) != 0)
        return -1;
    event.data.fd = endpoint->queue_fd;
    return epoll_ctl(endpoint->epoll_fd, EPOLL_CTL_ADD, endpoint->queue_fd, &event);
}

static int open_endpoint(struct mt_ofi_endpoint *endpoint)
{
    int code = fi_endpoint(endpoint->domain, endpoint->info, &endpoint->endpoint, NULL);
    if (code == 0)
        code = fi_ep_bind(endpoint->endpoint, &endpoint->table->fid, 0);
    if (code == 0)
        code = fi_ep_bind(endpoint->endpoint, &endpoint->queue->fid, FI_TRANSMIT | FI_RECV);
    return code == 0 ? fi_enable(endpoint->endpoint) : code;
}

int mt_ofi_objects_open(struct mt_ofi_endpoint *endpoint, char *reason, size_t reason_bytes)
{
    const char *what = "open a fabric";
    int code = endpoint->library->fabric(endpoint->info->fabric_attr, &endpoint->fabric, NULL);
    if (code == 0) {
        what = "open a domain";
        code = fi_domain(endpoint->fabric, endpoint->info, &endpoint->domain, NULL);
    }
    if (code == 0) {
        what = "open a completion queue";
        code = open_queue(endpoint);
    }
    if (code == 0) {
        what = "open a table of addresses";
        code = open_table(endpoint);
    }
    if (code == 0) {
        what = "open an endpoint";
        code = open_endpoint(endpoint);
    }
    if (code != 0)
        return fail(endpoint, what, code, reason, reason_bytes);
    if (open_sleep(endpoint) == 0)
        return 0;
    snprintf(reason, reason_bytes,
             "epoll or timerfd: %m; raise the limit of open files (ulimit -n)");
    return MANTA_ESYSTEM;
}

static void close_descriptor(int *fd)
{
    if (*fd >= 0)
        mt_fd_close(*fd);
    *fd = -1;
}

/* 1 if something was there. */
static int drop_completions(struct mt_ofi_endpoint *endpoint)
{
    struct fi_cq_data_entry entries[MT_OFI_COMPLETIONS];
    struct fi_cq_err_entry error = {.err_data_size = 0};
    ssize_t count = fi_cq_read(endpoint->queue, entries, MT_OFI_COMPLETIONS);
    return count == -FI_EAVAIL ? fi_cq_readerr(endpoint->queue, &error, 0) > 0 : count > 0;
}

/* ofi_rxm frees a connection and only then looks at what has come over it, for which it posts
 * memory to the connection again (rxm_close_conn, rxm_flush_msg_cq, rxm_post_recv: libfabric's
 * issue 11828). So nothing should be there, or come. Peers that get no answers stop by themselves.
 */
static void wait_for_quiet(struct mt_ofi_endpoint *endpoint)
{
    const struct timespec look = {.tv_nsec = QUIET_LOOK_NS};
    for (int looks = 0, quiet = 0; looks < QUIET_LOOKS_MOST && quiet < QUIET_LOOKS; looks++) {
        for (quiet++; drop_completions(endpoint); quiet = 0) {
        }
        nanosleep(&look, NULL);
    }
}

static void close_regions(struct mt_ofi_endpoint *endpoint)
{
    mt_registrations_end_all(endpoint->registrations);
    mt_ofi_region_close(&endpoint->inbox_region);
    mt_ofi_region_close(&endpoint->flush_region);
    for (uint32_t peer = 0; endpoint->peers != NULL && peer < endpoint->ranks; peer++)
        mt_ofi_region_close(&endpoint->peers[peer].region);
}

/* 0, or -1: it is stuck. */
static int try_close(struct mt_ofi_endpoint *endpoint)
{
    if (endpoint->stuck != NULL && fi_close(&endpoint->stuck->fid) != 0)
        return -1;
    endpoint->stuck = NULL;
    return 0;
}

/* libfabric wants endpoints to be closed before their regions; cxi, which binds these to it
 * (FI_MR_ENDPOINT), does not close it while there are any (FI_EBUSY). */
int mt_ofi_endpoint_close(struct mt_ofi_endpoint *endpoint)
{
    if (endpoint->endpoint != NULL) {
        if (strstr(endpoint->provider, ";ofi_rxm") != NULL)
            wait_for_quiet(endpoint);
        endpoint->stuck = endpoint->endpoint;
        endpoint->endpoint = NULL;
    }
    if (try_close(endpoint) == 0)
        return 0;
    if (!(endpoint->info->domain_attr->mr_mode & FI_MR_ENDPOINT))
        return -1;
    close_regions(endpoint);
    return try_close(endpoint);
}

int mt_ofi_objects_close(struct mt_ofi_endpoint *endpoint)
{
    close_descriptor(&endpoint->epoll_fd);
    close_descriptor(&endpoint->timer_fd);
    (void)mt_ofi_endpoint_close(endpoint);
    close_regions(endpoint);
    mt_registrations_destroy(endpoint->registrations);
    endpoint->registrations = NULL;
    if (mt_ofi_endpoint_close(endpoint) != 0)
        return -1;
    if (endpoint->table != NULL)
        fi_close(&endpoint->table->fid);
    if (endpoint->queue != NULL)
        fi_close(&endpoint->queue->fid);
    if (endpoint->domain != NULL)
        fi_close(&endpoint->domain->fid);
    if (endpoint->fabric != NULL)
        fi_close(&endpoint->fabric->fid);
    endpoint->table = NULL;
    endpoint->queue = NULL;
    endpoint->domain = NULL;
    endpoint->fabric = NULL;
    endpoint->queue_fd = -1;
    return 0;
}
