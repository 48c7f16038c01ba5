/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks of one host that are kept apart: by network namespaces, users, user and pid namespaces, all
 * made here. They share memory where they can, talk over tcp where they cannot, and say why. */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/log.h"
#include "tests/support/comm_processes.h"
#include "tests/support/shell.h"

enum { NOBODY = 65534, NOT_PERMITTED = 77, HERE = 1, LINKED = 2, ALL_DONE = 3 };

static int call(struct manta_comm *comm, struct comm_process *self)
{
    return comm_process_allreduce(comm, self);
}

/* What rank `self` logged of how it reaches `peer`. */
static int is_logged(const struct comm_process *self, const char *format, int peer)
{
    char wanted[128];
    char *log = comm_process_log(self);
    snprintf(wanted, sizeof(wanted), format, peer);
    int found = log && strstr(log, wanted);
    if (!found)
        print_error("\"%s\" is not in the log of rank %d:\n%s\n", wanted, self->rank,
                    log ? log : "");
    free(log);
    return found;
}

static int is_quiet(const struct comm_process *self)
{
    char *log = comm_process_log(self);
    int found = log && (strstr(log, " warn: ") || strstr(log, " error: "));
    if (found)
        print_error("rank %d warns:\n%s\n", self->rank, log);
    free(log);
    return !found;
}

/* 1 if every pair talks by shm where domain[] is equal and by tcp, for this reason, where not. */
static int judge(const struct comm_process *list, int count, const int *domain, const char *reason)
{
    int good = 1;
    for (int r = 0; r < count; r++) {
        if (list[r].result)
            print_error("rank %d: %d %s\n", r, list[r].result, list[r].error.sentence);
        good &= list[r].result == 0 && is_quiet(&list[r]);
        for (int peer = 0; peer < count; peer++) {
            if (peer == r)
                continue;
            int together = domain[peer] == domain[r];
            good &= is_logged(&list[r],
                              together ? "rank %d is reached by shm" : "rank %d is reached by tcp",
                              peer);
            good &= together || is_logged(&list[r], reason, peer);
        }
    }
    return good;
}

/* Run a part of a test in a process of its own; skip the test when it is not permitted here. */
static void apart(int (*part)(void))
{
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(part());
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NOT_PERMITTED)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Ranks 0 and 1 are in one network namespace, 2 and 3 in another; a cable joins the two. */
static void enter_network(struct comm_process *self)
{
    if (self->rank < 2)
        return;
    if (self->rank == 2) {
        if (unshare(CLONE_NEWNET))
            _exit(1);
        atomic_store(&self->stage, HERE);
        comm_process_await(self, LINKED);
        if (shell("ip link set lo up; ip addr add 10.77.1.2/24 dev manta1; ip link set manta1 up"))
            _exit(1);
        atomic_store(&self->stage, ALL_DONE);
        return;
    }
    char path[64];
    comm_process_await(&self->all[2], ALL_DONE);
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)self->all[2].pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET))
        _exit(1);
    close(fd);
}

static void link_networks(struct comm_process *list)
{
    comm_process_await(&list[2], HERE);
    if (shell("ip link set manta1 netns %d", (int)list[2].pid))
        print_error("the cable cannot be laid\n");
    atomic_store(&list[2].stage, LINKED);
}

static int two_networks(void)
{
    static const int domain[] = {0, 0, 1, 1};
    const struct comm_job job = {.ranks = 4,
                                 .host = "10.77.1.1",
                                 .log_level = MT_LOG_DEBUG,
                                 .enter = enter_network,
                                 .started = link_networks,
                                 .body = call};
    if (unshare(CLONE_NEWNET) ||
        shell("ip link set lo up && ip link add manta0 type veth peer name manta1 2>/dev/null && "
              "ip addr add 10.77.1.1/24 dev manta0 && ip link set manta0 up"))
        return NOT_PERMITTED;
    struct comm_process *list = comm_processes_start(&job);
    int killed = comm_processes_wait(list, 4);
    int good = judge(list, 4, domain, "rank %d is in another network namespace");
    comm_processes_free(list, 4);
    return killed || !good;
}

static void ranks_of_two_networks_talk_over_tcp(void **state)
{
    (void)state;
    apart(two_networks);
}

static void become_nobody(struct comm_process *self)
{
    if (self->rank == 1 && (setgid(NOBODY) || setuid(NOBODY)))
        _exit(1);
}

static int two_users(void)
{
    static const int domain[] = {0, 1, 0};
    const struct comm_job job = {
        .ranks = 3, .log_level = MT_LOG_DEBUG, .enter = become_nobody, .body = call};
    if (geteuid() != 0)
        return NOT_PERMITTED;
    struct comm_process *list = comm_processes_start(&job);
    int killed = comm_processes_wait(list, 3);
    int good = judge(list, 3, domain, "rank %d runs as another user");
    comm_processes_free(list, 3);
    return killed || !good;
}

static void ranks_of_two_users_talk_over_tcp(void **state)
{
    (void)state;
    apart(two_users);
}

/* A user namespace in which this user is called 0, as the other rank's is. */
static int become_another_zero(void)
{
    char map[32];
    if (setgid(NOBODY) || setuid(NOBODY) || prctl(PR_SET_DUMPABLE, 1) || unshare(CLONE_NEWUSER))
        return -1;
    int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    int bytes = snprintf(map, sizeof(map), "0 %d 1", NOBODY);
    int failed = fd < 0 || write(fd, map, (size_t)bytes) != bytes || geteuid() != 0;
    close(fd);
    return failed ? -1 : 0;
}

static void enter_user(struct comm_process *self)
{
    if (self->rank == 1 && become_another_zero())
        _exit(1);
}

static int two_zeros(void)
{
    static const int domain[] = {0, 1, 0};
    const struct comm_job job = {
        .ranks = 3, .log_level = MT_LOG_DEBUG, .enter = enter_user, .body = call};
    int status = 0;
    pid_t pid = geteuid() == 0 ? fork() : -1;
    if (pid == 0)
        _exit(become_another_zero() != 0);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return NOT_PERMITTED;
    struct comm_process *list = comm_processes_start(&job);
    int killed = comm_processes_wait(list, 3);
    /* Equal by number: only who looks at the socket sees that they are not. */
    int good = judge(list, 3, domain, "out of reach");
    comm_processes_free(list, 3);
    return killed || !good;
}

static void ranks_of_two_user_namespaces_talk_over_tcp(void **state)
{
    (void)state;
    apart(two_zeros);
}

/* Rank 1 is the first process of a pid namespace of its own. */
static void enter_pid(struct comm_process *self)
{
    int status;
    if (self->rank != 1)
        return;
    if (unshare(CLONE_NEWPID))
        _exit(1);
    pid_t pid = fork();
    if (pid != 0) {
        waitpid(pid, &status, 0);
        _exit(0);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* Its death is seen, too. */
static int call_and_die(struct manta_comm *comm, struct comm_process *self)
{
    int rc = comm_process_allreduce(comm, self);
    self->result = rc;
    if (self->rank == 1)
        _exit(0);
    if (rc == 0 && comm_process_allreduce(comm, self) != MANTA_EPEER)
        rc = -100;
    return self->error.rank == 1 ? rc : -101;
}

static int two_pid_namespaces(void)
{
    const struct comm_job job = {
        .ranks = 3, .log_level = MT_LOG_DEBUG, .enter = enter_pid, .body = call_and_die};
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(unshare(CLONE_NEWPID) != 0);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return NOT_PERMITTED;
    struct comm_process *list = comm_processes_start(&job);
    int killed = comm_processes_wait(list, 3);
    int good = 1;
    for (int r = 0; r < 3; r++) {
        if (list[r].result)
            print_error("rank %d: %d %s\n", r, list[r].result, list[r].error.sentence);
        good &= list[r].result == 0;
        for (int peer = 0; peer < 3; peer++)
            good &= peer == r || is_logged(&list[r], "rank %d is reached by shm", peer);
    }
    comm_processes_free(list, 3);
    return killed || !good;
}

static void ranks_of_two_pid_namespaces_share_memory(void **state)
{
    (void)state;
    apart(two_pid_namespaces);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_of_two_networks_talk_over_tcp),
        cmocka_unit_test(ranks_of_two_users_talk_over_tcp),
        cmocka_unit_test(ranks_of_two_user_namespaces_talk_over_tcp),
        cmocka_unit_test(ranks_of_two_pid_namespaces_share_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
