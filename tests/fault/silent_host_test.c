/* SPDX-License-Identifier: Apache-2.0 */
/* A host that falls silent, with nothing that dies and no socket that closes: two network
 * namespaces are two hosts of two ranks each, and the cable between them is unplugged. Every rank
 * is told within some ten seconds, in a call or not, long before its deadline, and names a rank of
 * the other host. */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "core/clock.h"
#include "core/session.h"
#include "tests/support/rank_processes.h"
#include "tests/support/shell.h"

enum { RANKS = 4, HOSTS = 2, NOT_PERMITTED = 77, TOLD_SECONDS = 14, COUNT = 100000 };

struct scene {
    int is_idle;
    _Atomic int ready, told; /* ranks */
    _Atomic uint64_t unplugged_ns;
};

/* A user who is not root becomes it in a user namespace of its own. */
static int become_root(void)
{
    char map[32];
    int uid = (int)geteuid();
    if (uid == 0)
        return 0;
    if (unshare(CLONE_NEWUSER))
        return -1;
    int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    int bytes = snprintf(map, sizeof(map), "0 %d 1", uid);
    int failed = fd < 0 || write(fd, map, (size_t)bytes) != bytes;
    close(fd);
    return failed ? -1 : 0;
}

/* Two hosts joined by a cable, each a namespace of its own; this process ends in the first. */
static int make_hosts(int hosts_out[HOSTS])
{
    for (int host = HOSTS - 1; host >= 0; host--) {
        if (unshare(CLONE_NEWNET) || shell("ip link set lo up 2>/dev/null"))
            return -1;
        hosts_out[host] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    }
    return shell("ip link add cable type veth peer name cable netns /proc/%d/fd/%d 2>/dev/null && "
                 "ip addr add 10.77.3.1/24 dev cable && ip link set cable up",
                 (int)getpid(), hosts_out[1]) ||
           setns(hosts_out[1], CLONE_NEWNET) ||
           shell("ip addr add 10.77.3.2/24 dev cable && ip link set cable up") ||
           setns(hosts_out[0], CLONE_NEWNET);
}

static int unplug(const int hosts[HOSTS], struct scene *scene)
{
    if (setns(hosts[1], CLONE_NEWNET))
        return -1;
    scene->unplugged_ns = mt_clock_now_ns();
    return shell("ip link set cable down");
}

/* Until the communicator has failed, in calls or without one. */
static void await_failure(struct manta_comm *comm, const struct scene *scene,
                          struct manta_error_info *info)
{
    static float in[COUNT], out[COUNT];
    int rc = 0;
    while (rc == 0 && !scene->is_idle)
        rc = manta_allreduce(comm, in, out, COUNT, MANTA_FLOAT32, MANTA_SUM);
    do
        manta_comm_error(comm, info);
    while (info->code == 0 && poll(NULL, 0, 1) == 0);
}

static int call_until_silence(struct manta_comm *comm, void *arg)
{
    struct scene *scene = arg;
    struct manta_error_info info = {.size = sizeof(info)};
    int host = manta_comm_rank(comm) * HOSTS / RANKS;
    float in = 1, out = 0;
    if (manta_allreduce(comm, &in, &out, 1, MANTA_FLOAT32, MANTA_SUM) || out != RANKS)
        return rank_fail(comm, "first call");
    atomic_fetch_add(&scene->ready, 1);
    await_failure(comm, scene, &info);
    double seconds = (double)(mt_clock_now_ns() - scene->unplugged_ns) / 1e9;
    atomic_fetch_add(&scene->told, 1);
    await_stage(&scene->told, RANKS); /* nobody's end is what tells another */
    if (info.code != MANTA_EPEER || info.rank < 0 || info.rank * HOSTS / RANKS == host ||
        !strstr(info.sentence, "its host is silent"))
        return rank_fail(comm, "told %d, rank %d: '%s'", info.code, info.rank, info.sentence);
    if (seconds > TOLD_SECONDS)
        return rank_fail(comm, "told after %.1f s: '%s'", seconds, info.sentence);
    return 0;
}

/* The ranks of a host run in its namespace. */
static pid_t start_rank(int rank, const char *session, const int hosts[HOSTS], struct scene *scene)
{
    const struct ranks_options options = {
        .ranks = RANKS, .nodes = HOSTS, .timeout_ns = 60 * MT_SECOND};
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (setns(hosts[rank * HOSTS / RANKS], CLONE_NEWNET))
        _exit(1);
    _exit(rank_run(&options, session, rank, call_until_silence, scene));
}

static int two_hosts(struct scene *scene)
{
    char session[1024];
    struct mt_error error;
    pid_t pids[RANKS];
    int hosts[HOSTS], failed = 0;
    if (become_root() || make_hosts(hosts))
        return NOT_PERMITTED;
    if (mt_session_prepare("10.77.3.1", 0, session, sizeof(session), &error))
        return 1;
    for (int r = 0; r < RANKS; r++)
        pids[r] = start_rank(r, session, hosts, scene);
    await_stage(&scene->ready, RANKS);
    failed += unplug(hosts, scene) != 0;
    for (int r = 0; r < RANKS; r++)
        failed += rank_process_end(pids[r], mt_clock_now_ns() + 30 * MT_SECOND) != 0;
    return failed;
}

/* In a process of its own, whose namespaces end with it. */
static void run(int is_idle)
{
    int status = 0;
    struct scene *scene = shared_memory(sizeof(*scene));
    scene->is_idle = is_idle;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(two_hosts(scene));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    munmap(scene, sizeof(*scene));
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_PERMITTED)
        skip();
    assert_int_equal(status, 0);
}

static void in_calls(void **state)
{
    (void)state;
    run(0);
}

static void idle(void **state)
{
    (void)state;
    run(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_calls),
        cmocka_unit_test(idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
