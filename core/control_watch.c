/* SPDX-License-Identifier: Apache-2.0 */
/* pidfds of the ranks of this host and pid namespace: a process that ends is seen at once, also
 * when a child that it forked keeps its sockets open. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/control_impl.h"
#include "core/host.h"

/* A goodbye on a link of its own is there before the process can end; one that other ranks pass on
 * may take a little longer, and so may the end of a process whose link is closed already. */
#define NEIGHBOUR_GRACE_NS (20 * (uint64_t)MT_MS)
#define OTHER_GRACE_NS (300 * (uint64_t)MT_MS)

static void declare_dead(struct mt_service_timer *timer)
{
    struct mt_watch *watch = timer->arg;
    struct mt_error error;
    if (mt_control_has_left(watch->control, watch->rank) || watch->control->is_leaving)
        return;
    mt_error_set_rank(&error, MANTA_EPEER, (int)watch->rank,
                      "rank %u is dead: its process ended%s (pid %d)", watch->rank,
                      watch->has_ended ? "" : ", or it heard nothing from here and gave up",
                      (int)watch->control->group->members[watch->rank].pid);
    error.system_errno = watch->system_errno;
    mt_control_fail_locked(watch->control, &error);
}

static void begin_grace(struct mt_watch *watch)
{
    struct mt_control *control = watch->control;
    int32_t index = control->neighbour_of[watch->rank];
    watch->has_ended = 1;
    if (index != MT_NOBODY)
        mt_link_read_now(&control->neighbours[index].link);
    uint64_t grace_ns = index == MT_NOBODY ? OTHER_GRACE_NS : NEIGHBOUR_GRACE_NS;
    mt_service_timer_set(&watch->grace, mt_clock_now_ns() + grace_ns);
}

void mt_watch_doubt(struct mt_control *control, uint32_t rank, int errno_or_0)
{
    struct mt_watch *watch = &control->watches[rank];
    watch->system_errno = errno_or_0;
    if (!watch->has_ended) /* else it is under way */
        mt_service_timer_set(&watch->grace, mt_clock_now_ns() + OTHER_GRACE_NS);
}

static void process_ended(struct mt_service_source *source, uint32_t events)
{
    struct mt_watch *watch = source->arg;
    (void)events;
    mt_service_unwatch(source);
    mt_fd_close(source->fd);
    source->fd = -1;
    begin_grace(watch);
}

/* Pids are reused: the process that has it now must be the one that joined. */
static int is_same_process(const struct mt_member *member)
{
    uint64_t start = mt_host_process_start(member->pid);
    return member->process_start == 0 || start == 0 || start == member->process_start;
}

static int watch_rank(struct mt_watch *watch, const struct mt_member *member)
{
    int fd = (int)syscall(SYS_pidfd_open, member->pid, 0);
    if (fd < 0 && errno == ESRCH) {
        begin_grace(watch);
        return 0;
    }
    if (fd < 0) /* an old kernel or a sandbox: the links tell */
        return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? MANTA_ESYSTEM : 0;
    mt_fd_enter(fd);
    if (!is_same_process(member)) {
        mt_fd_close(fd);
        begin_grace(watch);
        return 0;
    }
    watch->source = (struct mt_service_source){.fd = fd, .ready = process_ended, .arg = watch};
    if (mt_service_watch(&watch->source, EPOLLIN) == 0)
        return 0;
    mt_fd_close(fd);
    watch->source.fd = -1;
    return MANTA_ENOMEM;
}

int mt_watch_open(struct mt_control *control)
{
    const struct mt_group *group = control->group;
    const struct mt_member *me = &group->members[group->rank];
    int rc = 0;
    for (uint32_t r = 0; r < group->ranks && rc == 0; r++) {
        const struct mt_member *member = &group->members[r];
        struct mt_watch *watch = &control->watches[r];
        watch->control = control;
        watch->rank = r;
        watch->grace = (struct mt_service_timer){.fire = declare_dead, .arg = watch};
        if (member->boot == me->boot && member->pid_namespace == me->pid_namespace &&
            member->pid_namespace != 0 && member->pid != me->pid)
            rc = watch_rank(watch, member);
    }
    return rc;
}

void mt_watch_close(struct mt_control *control)
{
    for (uint32_t r = 0; r < control->group->ranks; r++) {
        struct mt_watch *watch = &control->watches[r];
        mt_service_timer_set(&watch->grace, 0);
        mt_service_unwatch(&watch->source);
        mt_fd_close(watch->source.fd);
        watch->source.fd = -1;
    }
}
