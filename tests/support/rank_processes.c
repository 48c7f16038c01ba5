/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/rank_processes.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "tests/support/job_session.h"

enum { LIMIT_S = 60, STAGE_LIMIT_S = 20 };

int rank_process_end(pid_t pid, uint64_t until_ns)
{
    uint64_t now_ns = mt_clock_now_ns();
    int status = -1, fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd ended = {.fd = fd, .events = POLLIN};
    if (poll(&ended, 1, now_ns < until_ns ? (int)((until_ns - now_ns) / MT_MS) : 0) != 1) {
        fprintf(stderr, "a rank (pid %d) did not end\n", (int)pid);
        kill(pid, SIGKILL);
    }
    close(fd);
    waitpid(pid, &status, 0);
    return status;
}

int rank_processes_run(const struct ranks_options *options, rank_fn *fn, void *arg)
{
    char session[1024];
    pid_t pids[64];
    uint64_t until_ns = mt_clock_now_ns() + LIMIT_S * MT_SECOND;
    int failed = 0;
    job_session_prepare(session, sizeof session);
    fflush(NULL);
    for (int r = 0; r < options->ranks; r++) {
        pids[r] = fork();
        if (pids[r] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(rank_run(options, session, r, fn, arg));
        }
    }
    for (int r = 0; r < options->ranks; r++)
        failed += rank_process_end(pids[r], until_ns) != 0;
    return failed;
}

void *shared_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    return memory;
}

void await_stage(const _Atomic int *stage, int wanted)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    uint64_t until_ns = mt_clock_now_ns() + STAGE_LIMIT_S * MT_SECOND;
    while (atomic_load(stage) < wanted) {
        if (mt_clock_now_ns() > until_ns) {
            fprintf(stderr, "stage %d was not reached\n", wanted);
            _exit(1);
        }
        nanosleep(&pause, NULL);
    }
}
