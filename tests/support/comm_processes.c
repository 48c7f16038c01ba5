/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/comm_processes.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/session.h"

enum { LIMIT_SECONDS = 60, NO_RESULT = -1000 };

static void run_rank(const struct comm_job *job, const char *session, struct comm_process *self)
{
    struct manta_config config = MANTA_CONFIG_INIT;
    struct manta_comm *comm = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(self->log_fd, STDERR_FILENO);
    mt_log_set_level(job->log_level);
    if (job->enter)
        job->enter(self);
    config.rank = self->rank;
    config.ranks = job->ranks;
    config.session = session;
    config.transports = job->transports;
    config.timeout_ns = 20 * MT_SECOND;
    self->error.size = sizeof self->error;
    self->result = manta_comm_create(&config, &comm);
    if (self->result)
        manta_comm_error(NULL, &self->error);
    else
        self->result = job->body(comm, self);
    manta_comm_destroy(comm);
    _exit(0);
}

struct comm_process *comm_processes_start(const struct comm_job *job)
{
    struct mt_error error;
    char session[512];
    struct comm_process *list = mmap(NULL, COMM_PROCESSES_MAX * sizeof *list,
                                     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (list == MAP_FAILED || mt_session_prepare(job->host ? job->host : "127.0.0.1", 0, session,
                                                 sizeof session, &error)) {
        fprintf(stderr, "cannot prepare processes\n");
        exit(1);
    }
    fflush(NULL);
    for (int r = 0; r < job->ranks; r++) {
        list[r].rank = r;
        list[r].all = list;
        list[r].result = NO_RESULT;
        list[r].log_fd = memfd_create("log", MFD_CLOEXEC);
        pid_t pid = fork();
        if (pid == 0)
            run_rank(job, session, &list[r]);
        list[r].pid = pid;
    }
    if (job->started)
        job->started(list);
    return list;
}

int comm_processes_wait(struct comm_process *list, int ranks)
{
    uint64_t until_ns = mt_clock_now_ns() + LIMIT_SECONDS * MT_SECOND;
    int killed = 0;
    for (int r = 0; r < ranks; r++) {
        uint64_t now_ns = mt_clock_now_ns();
        struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, list[r].pid, 0),
                               .events = POLLIN};
        int left_ms = now_ns < until_ns ? (int)((until_ns - now_ns) / MT_MS) : 0;
        if (poll(&ended, 1, left_ms) != 1) {
            kill(list[r].pid, SIGKILL);
            killed++;
        }
        close(ended.fd);
        waitpid(list[r].pid, NULL, 0);
    }
    return killed;
}

void comm_process_await(const struct comm_process *process, int stage)
{
    const struct timespec pause = {0, 1000000};
    uint64_t until_ns = mt_clock_now_ns() + LIMIT_SECONDS * MT_SECOND;
    while (atomic_load(&process->stage) < stage) {
        if (mt_clock_now_ns() > until_ns) {
            fprintf(stderr, "rank %d did not reach stage %d\n", process->rank, stage);
            exit(1);
        }
        nanosleep(&pause, NULL);
    }
}

char *comm_process_log(const struct comm_process *process)
{
    struct stat status;
    if (fstat(process->log_fd, &status))
        return NULL;
    char *text = calloc(1, (size_t)status.st_size + 1);
    ssize_t got = text ? pread(process->log_fd, text, (size_t)status.st_size, 0) : -1;
    if (got < 0) {
        free(text);
        return NULL;
    }
    return text;
}

void comm_processes_free(struct comm_process *list, int ranks)
{
    for (int r = 0; r < ranks; r++)
        close(list[r].log_fd);
    munmap(list, COMM_PROCESSES_MAX * sizeof *list);
}

int comm_process_allreduce(struct manta_comm *comm, struct comm_process *self)
{
    double mine[100], sum[100];
    int ranks = manta_comm_size(comm);
    for (int i = 0; i < 100; i++)
        mine[i] = self->rank + i;
    int rc = manta_allreduce(comm, mine, sum, 100, MANTA_FLOAT64, MANTA_SUM);
    if (rc)
        manta_comm_error(comm, &self->error);
    for (int i = 0; i < 100 && rc == 0; i++)
        if (sum[i] != ranks * (ranks - 1) / 2 + ranks * i)
            rc = NO_RESULT;
    return rc;
}
