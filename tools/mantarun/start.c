/* SPDX-License-Identifier: Apache-2.0 */
/* Starting the ranks: session, environment, descriptors, fork and exec. */
#include "tools/mantarun/mantarun.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/session.h"
#include "topology/host.h"

static int complain(const char *what)
{
    fprintf(stderr, "mantarun: %s: %s\n", what, strerror(errno));
    return -1;
}

static void set_number(const char *name, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

static void set_environment(const struct options *options, const char *session, int rank)
{
    set_number("MANTA_RANK", rank);
    set_number("MANTA_SIZE", options->ranks);
    setenv("MANTA_SESSION", session, 1);
    if (options->nodes > 0) {
        char node[24];
        snprintf(node, sizeof node, "node%d",
                 (int)((long long)rank * options->nodes / options->ranks));
        setenv("MANTA_NODE", node, 1);
    }
    for (int i = 0; i < options->set_count; i++)
        putenv((char *)options->sets[i]);
}

static void bind_core(int rank)
{
    static uint32_t core_of[MT_CPUS_MOST];
    struct mt_cpus all, one;
    mt_cpus_of_thread(&all);
    for (uint32_t cpu = 0; cpu < MT_CPUS_MOST; cpu++) {
        memset(&one, 0, sizeof one);
        one.words[cpu / 64] = all.words[cpu / 64] & UINT64_C(1) << cpu % 64;
        if (one.words[cpu / 64] != 0)
            core_of[cpu] = mt_host_unit(MT_LEVEL_CORE, &one);
    }
    int cpu = mt_cpus_turn(&all, core_of, (uint32_t)rank);
    if (cpu < 0)
        return;
    memset(&one, 0, sizeof one);
    one.words[cpu / 64] = UINT64_C(1) << cpu % 64;
    sched_setaffinity(0, sizeof one.words, (const cpu_set_t *)(const void *)one.words);
}

/* Exit codes as shells have them. What is wrong with the program itself, rank 0 tells for all. */
static _Noreturn void fail_to_run(const char *program, int rank, int error)
{
    int is_known = error == ENOENT || error == EACCES || error == ENOTDIR || error == ENOEXEC;
    int is_half = error == ENOENT && strchr(program, '/') != NULL && access(program, F_OK) == 0;
    if (rank == 0 || !is_known)
        fprintf(stderr, "mantarun: cannot run '%s': %s%s\n", program, strerror(error),
                is_half ? ": the interpreter that it names" : "");
    _exit(error == ENOENT ? 127 : 126);
}

/* The child becomes the rank. Descriptors above 2 are close-on-exec. */
static void become_rank(const struct options *options, const char *session, int rank, pid_t parent,
                        const int descriptors[3])
{
    sigset_t none;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_SIGNAL + SIGKILL); /* mantarun died before the line above */
    setpgid(0, 0);
    for (int i = 0; i < 3; i++)
        if (dup2(descriptors[i], i) < 0)
            _exit(126);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGTTIN, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    set_environment(options, session, rank);
    if (options->bind == BIND_CORE)
        bind_core(rank);
    execvp(options->program[0], options->program);
    fail_to_run(options->program[0], rank, errno);
}

static void close_pair(const int pair[2])
{
    if (pair[0] >= 0)
        close(pair[0]);
    if (pair[1] >= 0)
        close(pair[1]);
}

static void open_output(struct output *output, int from, int to, int rank, int prefix)
{
    fcntl(from, F_SETFL, fcntl(from, F_GETFL) | O_NONBLOCK);
    output->from = from;
    output->to = to;
    output->rank = prefix ? rank : -1;
}

static int start_rank(struct job *job, const char *session, int number)
{
    struct rank *rank = &job->ranks[number];
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
    pid_t parent = getpid();
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
        goto err_close;
    if (number == 0 ? pipe2(in, O_CLOEXEC) != 0
                    : (in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
        goto err_close;
    rank->pid = fork();
    if (rank->pid < 0)
        goto err_close;
    if (rank->pid == 0)
        become_rank(job->options, session, number, parent, (int[3]){in[0], out[1], err[1]});
    setpgid(rank->pid, rank->pid); /* here too: whoever comes first */
    close(in[0]);
    close(out[1]);
    close(err[1]);
    if (number == 0) {
        fcntl(in[1], F_SETFL, fcntl(in[1], F_GETFL) | O_NONBLOCK);
        job->input_to = in[1];
    }
    open_output(&rank->output[0], out[0], 1, number, job->options->prefix);
    open_output(&rank->output[1], err[0], 2, number, job->options->prefix);
    job->running++;
    return 0;
err_close:
    complain("cannot start a rank");
    rank->pid = 0;
    close_pair(in);
    close_pair(out);
    close_pair(err);
    return -1;
}

/* Each rank takes two descriptors here. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* What was ignored when we were started (nohup, a shell's background) stays ignored. */
static void add_unless_ignored(sigset_t *set, int number)
{
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
        sigaddset(set, number);
}

static int watch_signals(struct job *job)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    add_unless_ignored(&set, SIGINT);
    add_unless_ignored(&set, SIGTERM);
    add_unless_ignored(&set, SIGHUP);
    signal(SIGCHLD, SIG_DFL); /* ignored, it would reap the ranks behind our back */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTTIN, SIG_IGN); /* in the background, reading the terminal is an end of input */
    sigprocmask(SIG_BLOCK, &set, NULL);
    job->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return job->signal_fd < 0 ? complain("cannot watch signals") : 0;
}

int job_start(struct job *job, const struct options *options)
{
    char session[1024];
    struct mt_error error;
    memset(job, 0, sizeof *job);
    job->options = options;
    job->signal_fd = job->input_to = -1;
    job->ranks = calloc((size_t)options->ranks, sizeof *job->ranks);
    if (job->ranks == NULL)
        return complain("cannot start the ranks");
    for (int r = 0; r < options->ranks; r++)
        job->ranks[r].output[0].from = job->ranks[r].output[1].from = -1;
    raise_descriptor_limit();
    if (watch_signals(job) != 0)
        return -1;
    if (mt_session_prepare("127.0.0.1", 0, session, sizeof session, &error) != 0) {
        fprintf(stderr, "mantarun: cannot make a session: %s\n", error.sentence);
        return -1;
    }
    if (options->bind == BIND_CORE)
        mt_host(); /* for all ranks, which are forked */
    if (options->timeout_ns > 0)
        job->end_ns = mt_clock_now_ns() + options->timeout_ns;
    for (int r = 0; r < options->ranks; r++)
        if (start_rank(job, session, r) != 0)
            return -1;
    return 0;
}
