/* SPDX-License-Identifier: Apache-2.0 */
/* A topic in a process of its own: what it does there, crash or hang, is its result. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "tools/manta/plugin.h"

enum { LOOK_MS = 5 };

static const char *const op_names[CHECK_OPS] = {
    [CHECK_NONE] = "none",
    [CHECK_LOAD] = "the loading of it",
    [CHECK_QUERY] = "query",
    [CHECK_OPEN] = "open",
    [CHECK_ADDRESS] = "address",
    [CHECK_PEERS] = "peers",
    [CHECK_PROBE] = "probe",
    [CHECK_CONNECT] = "connect",
    [CHECK_REGISTER] = "mem_register",
    [CHECK_DEREGISTER] = "mem_deregister",
    [CHECK_EXPORT] = "mem_export",
    [CHECK_IMPORT] = "mem_import",
    [CHECK_SEND] = "send",
    [CHECK_RECV] = "recv",
    [CHECK_PROGRESS] = "progress",
    [CHECK_WAIT_FD] = "wait_fd",
    [CHECK_ARM] = "arm",
    [CHECK_DISARM] = "disarm",
    [CHECK_PEER_STATUS] = "peer_status",
    [CHECK_ERROR] = "error",
    [CHECK_ABORT] = "abort",
    [CHECK_DRAIN] = "drain",
    [CHECK_CLOSE] = "close",
    [CHECK_COUNTERS] = "counters",
};

const char *check_op_name(int op)
{
    return op >= 0 && op < CHECK_OPS ? op_names[op] : "?";
}

static void __attribute__((noreturn)) be_child(const struct check_topic *topic, const char *target,
                                               struct check_shared *shared, pid_t parent)
{
    const struct rlimit none = {0, 0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    setrlimit(RLIMIT_CORE, &none);
    check_world_run(topic, target, shared);
}

/* 1 if it ended in time. */
static int wait_for(pid_t child, uint32_t limit_s)
{
    uint64_t until_ns = mt_clock_now_ns() + limit_s * MT_SECOND;
    do {
        siginfo_t ended = {.si_pid = 0};
        if (waitid(P_PID, (id_t)child, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            ended.si_pid == child)
            return 1;
        (void)poll(NULL, 0, LOOK_MS); /* there are hosts without pidfds */
    } while (mt_clock_now_ns() < until_ns);
    return 0;
}

static void read_result(const struct check_shared *shared, int hung, int status,
                        struct check_result *result)
{
    *result = (struct check_result){.outcome = (enum check_outcome)atomic_load(&shared->outcome),
                                    .hung = hung};
    for (int r = 0; r < CHECK_RANKS; r++)
        result->ops |= UINT32_C(1) << (uint32_t)atomic_load(&shared->op[r]) % CHECK_OPS;
    result->ops &= ~UINT32_C(1);
    if (!hung && WIFSIGNALED(status))
        result->signal = WTERMSIG(status);
    memcpy(result->sentence, shared->sentence, sizeof result->sentence);
    result->sentence[sizeof result->sentence - 1] = '\0';
    if (result->outcome == CHECK_RUNNING || hung || result->signal)
        result->outcome = CHECK_FAILED;
    if (hung)
        snprintf(result->sentence, sizeof result->sentence, "it hung");
    else if (result->signal)
        snprintf(result->sentence, sizeof result->sentence, "it crashed: %s%s",
                 strsignal(result->signal),
                 atomic_load(&shared->forbidden)
                     ? ", maybe since it touched a message after abort or close"
                     : "");
    else if (result->sentence[0] == '\0' && result->outcome == CHECK_FAILED)
        snprintf(result->sentence, sizeof result->sentence,
                 "it ended the process with exit code %d", WEXITSTATUS(status));
}

int check_run(const struct check_topic *topic, const char *target, uint32_t limit_s,
              struct check_result *result_out)
{
    int status = 0;
    pid_t parent = getpid();
    struct check_shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return -1;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        be_child(topic, target, shared, parent);
    if (child > 0) {
        int hung = !wait_for(child, limit_s);
        if (hung)
            kill(child, SIGKILL);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
        read_result(shared, hung, status, result_out);
    }
    munmap(shared, sizeof *shared);
    return child > 0 ? 0 : -1;
}
