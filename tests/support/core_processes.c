/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/core_processes.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/session.h"

enum { LIMIT_SECONDS = 30 };

static void run_rank(struct process_rank *self, struct process_rank *all,
                     void (*body)(struct mt_group *group, struct process_rank *self,
                                  struct process_rank *all))
{
    struct mt_group *group = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    self->result = mt_group_join(&(struct mt_group_join){.session = self->session,
                                                         .rank = self->rank,
                                                         .ranks = self->ranks,
                                                         .timeout_ns = 20 * MT_SECOND},
                                 &group, &self->error);
    if (self->result == 0)
        body(group, self, all);
    mt_group_leave(group);
    _exit(0);
}

struct process_rank *processes_start(uint32_t ranks, const char *host,
                                     void (*body)(struct mt_group *group, struct process_rank *self,
                                                  struct process_rank *all))
{
    struct mt_error error;
    char session[512];
    struct process_rank *list = mmap(NULL, PROCESS_RANKS_MAX * sizeof *list, PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (list == MAP_FAILED || mt_session_prepare(host, 0, session, sizeof session, &error)) {
        fprintf(stderr, "cannot prepare processes\n");
        exit(1);
    }
    for (uint32_t r = 0; r < ranks; r++) {
        list[r].rank = r;
        list[r].ranks = ranks;
        list[r].result = -1000;
        snprintf(list[r].session, sizeof list[r].session, "%s", session);
    }
    fflush(NULL);
    for (uint32_t r = 0; r < ranks; r++) {
        pid_t pid = fork();
        if (pid == 0)
            run_rank(&list[r], list, body);
        list[r].pid = pid;
    }
    return list;
}

void process_await(const struct process_rank *rank, int stage)
{
    const struct timespec pause = {0, 1000000};
    uint64_t until_ns = mt_clock_now_ns() + LIMIT_SECONDS * MT_SECOND;
    while (atomic_load(&rank->stage) < stage) {
        if (mt_clock_now_ns() > until_ns) {
            fprintf(stderr, "rank %u did not reach stage %d (result %d: %s)\n", rank->rank, stage,
                    rank->result, rank->error.sentence);
            exit(1);
        }
        nanosleep(&pause, NULL);
    }
}

int processes_wait(struct process_rank *list, uint32_t ranks)
{
    uint64_t until_ns = mt_clock_now_ns() + LIMIT_SECONDS * MT_SECOND;
    int killed = 0;
    for (uint32_t r = 0; r < ranks; r++) {
        uint64_t now_ns = mt_clock_now_ns();
        int fd = (int)syscall(SYS_pidfd_open, list[r].pid, 0);
        struct pollfd ended = {.fd = fd, .events = POLLIN};
        int left_ms = now_ns < until_ns ? (int)((until_ns - now_ns) / MT_MS) : 0;
        if (poll(&ended, 1, left_ms) != 1) {
            kill(list[r].pid, SIGKILL);
            killed++;
        }
        close(fd);
        waitpid(list[r].pid, NULL, 0);
    }
    return killed;
}

void processes_free(struct process_rank *list)
{
    munmap(list, PROCESS_RANKS_MAX * sizeof *list);
}
