/* SPDX-License-Identifier: Apache-2.0 */
/* How the control plane comes up and goes away. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "core/clock.h"
#include "core/control_impl.h"
#include "core/notice.h"
#include "core/ranks.h"

/* A goodbye is answered at once by ranks that run; a stopped one is not waited for longer. */
#define GOODBYE_NS (500 * (uint64_t)MT_MS)
/* Heartbeats are a second apart. */
enum { PAYLOAD_MAX = MT_PIECE_MAX + 64, SILENT_SECONDS = 10, HEARTBEAT_MS_MAX = 2000 };

void mt_control_set_neighbour(struct mt_control *control, uint32_t index, uint32_t rank)
{
    struct mt_neighbour *neighbour = &control->neighbours[index];
    memset(neighbour, 0, sizeof *neighbour);
    neighbour->rank = rank;
    neighbour->control = control;
    neighbour->link.source.fd = -1;
    neighbour->link.is_expected = 1;
    neighbour->link.payload_max = PAYLOAD_MAX;
    neighbour->link.received = mt_control_received;
    neighbour->link.lost = mt_control_lost;
    neighbour->link.arg = neighbour;
    control->neighbour_of[rank] = (int32_t)index;
    if (index == control->neighbour_count)
        control->neighbour_count++;
}

static void add_neighbour(struct mt_control *control, uint32_t rank)
{
    if (rank != control->group->rank && control->neighbour_of[rank] == MT_NOBODY)
        mt_control_set_neighbour(control, control->neighbour_count, rank);
}

static void find_neighbours(struct mt_control *control)
{
    uint32_t rank = control->group->rank, ranks = control->group->ranks;
    for (uint32_t distance = 1; distance < ranks; distance *= 2) {
        add_neighbour(control, (rank + distance) % ranks);
        add_neighbour(control, (rank + ranks - distance) % ranks);
    }
}

static void free_control(struct mt_control *control)
{
    mt_gather_clear(control);
    mt_fd_close(control->wake_fd);
    free(control->left);
    free(control->left_after);
    free(control->seen);
    free(control->way_back);
    free(control->neighbour_of);
    free(control->neighbours);
    free(control->watches);
    free(control->marked);
    free(control->inquiry.asked);
    free(control->inquiry.answered);
    free(control->inquiry.answers);
    free(control);
}

static int allocate(struct mt_control *control, uint32_t ranks)
{
    control->left = calloc(ranks, sizeof *control->left);
    control->left_after = calloc(ranks, sizeof *control->left_after);
    control->seen = calloc(ranks, sizeof *control->seen);
    control->way_back = malloc(ranks * sizeof *control->way_back);
    control->neighbour_of = malloc(ranks * sizeof *control->neighbour_of);
    control->neighbours = calloc(MT_NEIGHBOURS_MAX, sizeof *control->neighbours);
    control->watches = calloc(ranks, sizeof *control->watches);
    control->marked = calloc(ranks, 1);
    control->inquiry.asked = calloc(ranks, 1);
    control->inquiry.answered = calloc(ranks, 1);
    control->inquiry.answers = calloc(ranks, sizeof *control->inquiry.answers);
    if (!control->left || !control->left_after || !control->seen || !control->way_back ||
        !control->neighbour_of || !control->neighbours || !control->watches || !control->marked ||
        !control->inquiry.asked || !control->inquiry.answered || !control->inquiry.answers ||
        mt_gather_init(control))
        return MANTA_ENOMEM;
    for (uint32_t r = 0; r < ranks; r++) {
        control->way_back[r] = control->neighbour_of[r] = MT_NOBODY;
        control->watches[r].source.fd = -1;
    }
    control->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (control->wake_fd < 0)
        return MANTA_ESYSTEM;
    mt_fd_enter(control->wake_fd);
    return 0;
}

/* The kernel tells whether the other *host* still lives, whatever its processes do: one that is
 * stopped or starved of CPU is not taken for dead. */
static void watch_host(int fd)
{
    int one = 1, probes = SILENT_SECONDS, milliseconds = SILENT_SECONDS * 1000;
    if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one))
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
}

int mt_control_is_silent(const struct mt_neighbour *neighbour)
{
    struct tcp_info info;
    socklen_t bytes = sizeof info;
    return mt_link_is_open(&neighbour->link) &&
           getsockopt(neighbour->link.source.fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 &&
           info.tcpi_last_ack_recv > HEARTBEAT_MS_MAX;
}

void mt_control_start_link(struct mt_neighbour *neighbour, int fd)
{
    if (neighbour->is_linked || mt_link_open(&neighbour->link, fd)) {
        mt_fd_close(fd); /* a second one, or no memory: the first, or the deadline, decides */
        return;
    }
    struct sockaddr_storage peer;
    socklen_t bytes = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &bytes) == 0 && peer.ss_family != AF_UNIX)
        watch_host(fd);
    neighbour->is_linked = 1;
    if (neighbour->is_mend)
        mt_mend_tell(neighbour);
    mt_service_signal();
}

static void accept_link(void *arg, int fd, uint32_t from, uint32_t index)
{
    struct mt_control *control = arg;
    struct mt_neighbour *neighbour = NULL;
    (void)index;
    if (from < control->group->ranks && from != control->group->rank)
        neighbour = control->neighbour_of[from] == MT_NOBODY
                        ? mt_mend_add(control, from)
                        : &control->neighbours[control->neighbour_of[from]];
    if (neighbour)
        mt_control_start_link(neighbour, fd);
    else
        mt_fd_close(fd);
}

static void dialled(void *arg)
{
    struct mt_neighbour *neighbour = arg;
    struct mt_error error;
    int fd, rc = mt_stream_dial_test(neighbour->dial, &fd, &error);
    neighbour->dial = NULL;
    if (rc == 0)
        mt_control_start_link(neighbour, fd);
    else
        mt_control_fail_locked(neighbour->control, &error);
}

/* Of each pair the lower rank dials. */
static int dial_neighbours(struct mt_control *control, uint64_t deadline_ns)
{
    int rc = 0;
    mt_service_lock();
    for (uint32_t i = 0; i < control->neighbour_count && rc == 0; i++) {
        struct mt_neighbour *neighbour = &control->neighbours[i];
        if (neighbour->rank > control->group->rank)
            rc = mt_stream_dial_notify(control->group, neighbour->rank, MT_STREAM_CONTROL, 0,
                                       deadline_ns, dialled, neighbour, &neighbour->dial);
    }
    mt_service_unlock();
    return rc;
}

static uint32_t mark_unlinked(const struct mt_control *control, uint8_t *marked)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < control->neighbour_count; i++) {
        const struct mt_neighbour *neighbour = &control->neighbours[i];
        marked[neighbour->rank] = !neighbour->is_linked;
        count += !neighbour->is_linked;
    }
    return count;
}

/* Lock held; it is given up to log. */
static void warn_of_unlinked(struct mt_control *control, const struct mt_notice *notice)
{
    char who[160], whom[192];
    mark_unlinked(control, control->marked);
    mt_ranks_describe(control->marked, control->group->ranks, who, sizeof who);
    snprintf(whom, sizeof whom, "the control link to %s", who);
    mt_notice_log(control->group->rank, whom, notice->last_ns - notice->since_ns,
                  control->group->timeout_ns,
                  "check that the ranks' hosts reach each other (manta doctor --host)");
}

/* Lock held. */
static int wait_for_links(struct mt_control *control, const struct mt_cancel *cancel,
                          uint64_t deadline_ns, struct mt_error *error)
{
    uint8_t *marked = control->marked;
    char who[160];
    struct mt_notice notice = mt_notice_begin(mt_clock_now_ns(), control->group->warn_ns);
    while (mark_unlinked(control, marked) && !mt_control_failed(control) &&
           mt_clock_now_ns() < mt_cancel_until(cancel, deadline_ns)) {
        if (mt_notice_is_due(&notice, mt_clock_now_ns()))
            warn_of_unlinked(control, &notice);
        else
            mt_service_wait(mt_notice_until(&notice, mt_cancel_until(cancel, deadline_ns)));
    }
    if (mt_cancel_is_set(cancel)) {
        mt_cancel_word(cancel, error);
        mt_control_fail_locked(control, error);
    }
    if (mark_unlinked(control, marked) && !mt_control_failed(control)) {
        int lowest = mt_ranks_describe(marked, control->group->ranks, who, sizeof who);
        mt_error_set_rank(
            error, MANTA_ETIMEOUT, lowest,
            "no control link to %s came up in time; check that the ranks' hosts reach "
            "each other (manta doctor --host), or set MANTA_INTERFACE",
            who);
        mt_control_fail_locked(control, error);
    }
    memset(marked, 0, control->group->ranks);
    if (mt_control_failed(control))
        mt_control_failure(control, error);
    return mt_control_failed(control);
}

int mt_control_open(struct mt_group *group, struct mt_control *parent,
                    const struct mt_cancel *cancel, uint64_t deadline_ns, struct mt_error *error)
{
    struct mt_control *control = calloc(1, sizeof *control);
    if (!control)
        return mt_error_set(error, MANTA_ENOMEM, "no memory for the control plane");
    control->group = group;
    control->wake_fd = -1;
    int rc = allocate(control, group->ranks);
    if (rc) {
        free_control(control);
        return mt_error_set(error, rc, "no memory or descriptor for the control plane");
    }
    group->control = control;
    find_neighbours(control);
    mt_family_enter(control, parent);
    mt_service_lock();
    rc = mt_watch_open(control);
    mt_service_unlock();
    if (rc == 0)
        rc = mt_stream_listen(group, MT_STREAM_CONTROL, accept_link, NULL, control);
    if (rc == 0)
        rc = dial_neighbours(control, deadline_ns);
    if (rc)
        mt_error_set(error, rc, "no memory or descriptor for the control plane");
    mt_service_lock();
    if (rc)
        mt_control_fail_locked(control, error);
    else
        rc = wait_for_links(control, cancel, deadline_ns, error);
    mt_service_unlock();
    if (rc) {
        mt_control_close(control);
        group->control = NULL;
    }
    return rc;
}

static int is_goodbye_seen(const struct mt_control *control)
{
    for (uint32_t i = 0; i < control->neighbour_count; i++) {
        const struct mt_neighbour *neighbour = &control->neighbours[i];
        if (mt_link_is_open(&neighbour->link) && !neighbour->has_seen_goodbye &&
            !mt_control_failed(control))
            return 0;
    }
    return 1;
}

/* Neighbours say that they have seen the goodbye, so that closing the links, which may throw away
 * what is on its way, is not taken for a death. */
static void say_goodbye(struct mt_control *control)
{
    uint64_t until_ns = mt_clock_now_ns() + GOODBYE_NS;
    uint32_t rank = control->group->rank;
    uint8_t bytes[16];
    if (control->is_leaving || mt_control_failed(control))
        return;
    control->is_leaving = 1;
    uint64_t last = control->record ? mt_record_last_collective(control->record) : 0;
    size_t count = mt_goodbye_encode(last, bytes, sizeof bytes);
    mt_control_flood(control, MT_WIRE_GOODBYE, bytes, (uint32_t)count);
    /* For links that are made meanwhile: mt_mend_tell() tells who has left. */
    control->left_after[rank] = last;
    control->seen[rank] = control->serial;
    atomic_store_explicit(&control->left[rank], 1, memory_order_release);
    while (!is_goodbye_seen(control) && mt_clock_now_ns() < until_ns)
        mt_service_wait(until_ns);
}

void mt_control_goodbye(struct mt_control *control)
{
    mt_service_lock();
    mt_family_leave(control); /* what fails from now on is not this rank's to tell */
    say_goodbye(control);
    mt_service_unlock();
}

void mt_control_close(struct mt_control *control)
{
    mt_control_goodbye(control);
    mt_service_lock();
    control->is_leaving = 1; /* also where there was nothing to say */
    mt_watch_close(control);
    mt_deadlines_close(control);
    mt_stuck_close(control);
    mt_service_timer_set(&control->mend, 0);
    /* First, so that no stream comes for a link that is closed already. */
    mt_stream_unlisten(control->group, MT_STREAM_CONTROL);
    for (uint32_t i = 0; i < control->neighbour_count; i++) {
        mt_stream_dial_cancel(control->neighbours[i].dial);
        mt_link_close(&control->neighbours[i].link);
    }
    mt_service_unlock();
    free_control(control);
}
