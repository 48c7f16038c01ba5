/* SPDX-License-Identifier: Apache-2.0 */
/* Watching over running ranks: output, input, signals, deadlines, ends. */
#include "tools/mantarun/mantarun.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"

enum { STOP_AFTER_S = 2, KILL_AFTER_S = 2, REPORTS = 4 /* of ranks that end at once */ };

/* To the process groups of all ranks, also of those that ended: they stay unreaped until
 * job_free(), so that their process group ids stay theirs. */
static void signal_all(struct job *job, int signal)
{
    for (int r = 0; r < job->options->ranks; r++)
        if (job->ranks[r].pid > 0)
            kill(-job->ranks[r].pid, signal);
}

static void stop(struct job *job, int exit_code)
{
    if (job->exit_code == 0)
        job->exit_code = exit_code;
    if (job->stopping)
        return;
    job->stopping = 1;
    job->kill_ns = mt_clock_now_ns() + KILL_AFTER_S * MT_SECOND;
    signal_all(job, SIGTERM);
    signal_all(job, SIGCONT); /* a stopped process cannot act on TERM */
}

static void report(const struct job *job, int number, const siginfo_t *info)
{
    const struct rank *rank = &job->ranks[number];
    if (info->si_code == CLD_EXITED)
        fprintf(stderr, "mantarun: rank %d (pid %d) ended with exit code %d\n", number, rank->pid,
                info->si_status);
    else
        fprintf(stderr, "mantarun: rank %d (pid %d) was killed by signal %d (%s)\n", number,
                rank->pid, info->si_status, strsignal(info->si_status));
}

/* 1 if the rank has ended since the last look. *failed: those that failed in this one. */
static int has_ended(struct job *job, int number, int *failed)
{
    struct rank *rank = &job->ranks[number];
    siginfo_t info = {0};
    if (rank->ended || waitid(P_PID, (id_t)rank->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        info.si_pid == 0)
        return 0;
    rank->ended = 1;
    rank->status = info.si_code == CLD_EXITED ? info.si_status : EXIT_SIGNAL + info.si_status;
    job->running--;
    if (rank->status != 0 && !job->stopping && job->stop_ns == 0 && (*failed)++ < REPORTS)
        report(job, number, &info);
    return 1;
}

/* Of several that ended at once, one killed by a signal came first: its peers fail because of it.
 */
static void look_for_ends(struct job *job)
{
    int failure = 0, failed = 0;
    for (int r = 0; r < job->options->ranks; r++) {
        if (!has_ended(job, r, &failed))
            continue;
        int status = job->ranks[r].status;
        if (failure == 0 || (status > EXIT_SIGNAL && failure < EXIT_SIGNAL))
            failure = status;
    }
    if (failed > REPORTS)
        fprintf(stderr, "mantarun: %d more failed at the same time\n", failed - REPORTS);
    if (failure == 0 || job->stopping)
        return;
    if (job->exit_code == 0)
        job->exit_code = failure;
    /* The others may know more about it, and are let tell. */
    if (!job->options->keep_going && job->stop_ns == 0)
        job->stop_ns = mt_clock_now_ns() + STOP_AFTER_S * MT_SECOND;
}

static void take_signals(struct job *job)
{
    struct signalfd_siginfo info;
    while (read(job->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            look_for_ends(job);
        else
            signal_all(job, (int)info.ssi_signo);
    }
}

static void close_input(struct job *job)
{
    close(job->input_to);
    job->input_to = -1;
}

static void move_input(struct job *job, short readable, short writable)
{
    if (job->input_used == 0 && readable) {
        ssize_t got = read(0, job->input, sizeof job->input);
        if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) {
            close_input(job);
            return;
        }
        job->input_used = got > 0 ? (size_t)got : 0;
        job->input_sent = 0;
    }
    if (job->input_used == 0 || !(writable || readable))
        return;
    ssize_t sent =
        write(job->input_to, job->input + job->input_sent, job->input_used - job->input_sent);
    if (sent < 0 && errno != EINTR && errno != EAGAIN) {
        close_input(job); /* the rank closed its end */
        return;
    }
    job->input_sent += sent > 0 ? (size_t)sent : 0;
    if (job->input_sent == job->input_used)
        job->input_used = 0;
}

static void strike_deadlines(struct job *job)
{
    uint64_t now = mt_clock_now_ns();
    if (job->end_ns > 0 && now >= job->end_ns && !job->stopping) {
        fprintf(stderr, "mantarun: the time of --timeout is over; still running:");
        const char *comma = "";
        for (int r = 0; r < job->options->ranks; r++) {
            if (job->ranks[r].ended)
                continue;
            fprintf(stderr, "%s rank %d (pid %d)", comma, r, job->ranks[r].pid);
            comma = ",";
        }
        fputc('\n', stderr);
        stop(job, EXIT_TIMEOUT);
    }
    if (job->stop_ns > 0 && now >= job->stop_ns)
        stop(job, job->exit_code);
    if (job->kill_ns > 0 && now >= job->kill_ns) {
        job->kill_ns = 0;
        signal_all(job, SIGKILL);
    }
}

static int poll_timeout_ms(const struct job *job)
{
    uint64_t due = job->kill_ns;
    if (!job->stopping && job->end_ns > 0)
        due = job->end_ns;
    if (!job->stopping && job->stop_ns > 0 && (due == 0 || job->stop_ns < due))
        due = job->stop_ns;
    if (due == 0)
        return -1;
    uint64_t now = mt_clock_now_ns();
    uint64_t wait_ms = due > now ? (due - now) / MT_MS + 1 : 0;
    return wait_ms < 1000000 ? (int)wait_ms : 1000000;
}

/* The entries are: signals, our stdin, stdin of rank 0, then stdout and stderr of each rank. */
static void fill_poll(const struct job *job, struct pollfd *polls)
{
    int open = job->input_to >= 0;
    polls[0] = (struct pollfd){.fd = job->signal_fd, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = open && job->input_used == 0 ? 0 : -1, .events = POLLIN};
    polls[2] =
        (struct pollfd){.fd = open && job->input_used > 0 ? job->input_to : -1, .events = POLLOUT};
    for (int r = 0; r < job->options->ranks; r++)
        for (int i = 0; i < 2; i++)
            polls[3 + 2 * r + i] =
                (struct pollfd){.fd = job->ranks[r].output[i].from, .events = POLLIN};
}

/* polls NULL: the job is over; what is still in the pipes is forwarded and they are closed. */
static void forward_outputs(struct job *job, const struct pollfd *polls)
{
    for (int r = 0; r < job->options->ranks; r++) {
        for (int i = 0; i < 2; i++) {
            struct output *output = &job->ranks[r].output[i];
            int rc = 0;
            if (polls == NULL || polls[3 + 2 * r + i].revents != 0)
                rc = output_forward(output);
            if (rc == 0 && polls == NULL)
                rc = output_close(output);
            if (rc == 0)
                continue;
            if (output->from >= 0)
                close(output->from);
            output->from = -1;
            stop(job, EXIT_SIGNAL + SIGPIPE); /* nobody reads us any more */
        }
    }
}

int job_watch(struct job *job)
{
    struct pollfd *polls = calloc(3 + 2 * (size_t)job->options->ranks, sizeof *polls);
    if (polls == NULL) {
        fprintf(stderr, "mantarun: out of memory\n");
        return 1;
    }
    while (job->running > 0) {
        fill_poll(job, polls);
        int count = poll(polls, 3 + 2 * (nfds_t)job->options->ranks, poll_timeout_ms(job));
        if (count > 0) {
            forward_outputs(job, polls);
            if (job->input_to >= 0)
                move_input(job, polls[1].revents, polls[2].revents);
            if (polls[0].revents != 0)
                take_signals(job);
        }
        strike_deadlines(job);
    }
    forward_outputs(job, NULL);
    free(polls);
    return job->exit_code;
}

void job_free(struct job *job)
{
    if (job->ranks == NULL)
        return;
    signal_all(job, SIGKILL); /* what ranks left behind */
    for (int r = 0; r < job->options->ranks; r++)
        if (job->ranks[r].pid > 0)
            waitpid(job->ranks[r].pid, NULL, 0);
    free(job->ranks);
    job->ranks = NULL;
}
