/* SPDX-License-Identifier: Apache-2.0 */
/* From the second call of a shape on: no allocation, no lock, no system call. malloc and the lock
 * calls are interposed, system calls trap (PR_SET_SYSCALL_USER_DISPATCH). Two processes on
 * shared memory; waits spin here, since yielding and sleeping are system calls that the waiting
 * policy may make. */
#include <dlfcn.h>
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
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>
#include <manta/manta.h>
#include <pthread.h>
#include <sched.h>

#include "core/session.h"
#include "tests/support/ranks.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF 0
#define PR_SYS_DISPATCH_ON 1
#endif

enum { ALLOW = 0, BLOCK = 1, CALLS = 10000, WARM = 64 };

static _Thread_local int counting;
static _Thread_local long allocations, locks, system_calls, last_call;
static _Thread_local volatile char selector;

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes)
{
    allocations += counting;
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    allocations += counting;
    return __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    allocations += counting;
    return __libc_realloc(memory, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    allocations += counting;
    *out = __libc_memalign(alignment, bytes);
    return *out ? 0 : 12;
}

typedef int lock_fn(pthread_mutex_t *mutex);
static lock_fn *real_lock, *real_trylock;

static lock_fn *resolve(lock_fn **real, const char *name)
{
    if (!*real)
        *(void **)real = dlsym(RTLD_NEXT, name);
    return *real;
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    locks += counting;
    return resolve(&real_lock, "pthread_mutex_lock")(mutex);
}

int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    locks += counting;
    return resolve(&real_trylock, "pthread_mutex_trylock")(mutex);
}

/* A system call while BLOCK is set: count it, then let it and all later ones through. */
static void trapped(int number, siginfo_t *info, void *context)
{
    (void)number;
    ucontext_t *state = context;
    selector = ALLOW;
    system_calls++;
    last_call = info->si_syscall;
    state->uc_mcontext.gregs[REG_RIP] -= 2; /* run the instruction again */
}

/* cmocka takes SIGSYS for itself before each test. */
static void catch_system_calls(void)
{
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, NULL);
}

static void count_on(void)
{
    allocations = locks = system_calls = 0;
    counting = 1;
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector) == 0)
        selector = BLOCK;
}

static int count_off(struct manta_comm *comm, const char *what)
{
    selector = ALLOW;
    counting = 0;
    prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
    if (allocations || locks || system_calls)
        return rank_fail(
            comm, "%s: %ld allocations, %ld locks, %ld system calls (the first is number %ld)",
            what, allocations, locks, system_calls, last_call);
    return 0;
}

static int blocking(struct manta_comm *comm, int calls)
{
    float in[4] = {1, 2, 3, 4}, out[4];
    for (int i = 0; i < calls; i++) {
        if (manta_allreduce(comm, in, out, 4, MANTA_FLOAT32, MANTA_SUM) || out[3] != 8)
            return 1;
    }
    return 0;
}

static int posted(struct manta_comm *comm, int calls)
{
    int64_t in = 3, out;
    for (int i = 0; i < calls; i++) {
        struct manta_request *request;
        if (manta_allreduce_post(comm, &in, &out, 1, MANTA_INT64, MANTA_MAX, &request) ||
            manta_wait(request, UINT64_MAX) || out != 3)
            return 1;
    }
    return 0;
}

static int rotating(struct manta_comm *comm, int calls)
{
    for (int i = 0; i < calls; i++) {
        int32_t value[16] = {manta_comm_rank(comm) == i % 2 ? i : -1};
        if (manta_broadcast(comm, value, 16, MANTA_INT32, i % 2) || value[0] != i)
            return 1;
    }
    return 0;
}

static int larger(struct manta_comm *comm, int calls)
{
    static _Thread_local float in[20000], out[20000];
    for (int i = 0; i < calls / 20; i++) {
        in[777] = (float)i;
        if (manta_allreduce(comm, in, out, 20000, MANTA_FLOAT32, MANTA_SUM) ||
            out[777] != 2 * (float)i ||
            manta_reduce(comm, in, out, 20000, MANTA_FLOAT32, MANTA_SUM, i % 2) ||
            manta_allgather(comm, in, out, 5000, MANTA_FLOAT32) ||
            manta_reduce_scatter(comm, in, out, 5000, MANTA_FLOAT32, MANTA_SUM) ||
            manta_barrier(comm))
            return 1;
    }
    return 0;
}

static int measure(struct manta_comm *comm, void *arg)
{
    static int (*const shapes[])(struct manta_comm *, int) = {blocking, posted, rotating, larger};
    static const char *const names[] = {"blocking", "posted", "rotating root",
                                        "larger, all collectives"};
    (void)arg;
    for (int s = 0; s < 4; s++) {
        if (shapes[s](comm, WARM) || manta_barrier(comm))
            return rank_fail(comm, "%s: wrong result or error while warming up", names[s]);
        count_on();
        int wrong = shapes[s](comm, CALLS);
        if (count_off(comm, names[s]) || wrong)
            return rank_fail(comm, "%s: over %d calls", names[s], CALLS);
    }
    return 0;
}

/* That the counters count. */
static void test_counters_alive(void **state)
{
    (void)state;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    catch_system_calls();
    count_on();
    void *volatile memory = malloc(10);
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    (void)sched_yield();
    selector = ALLOW;
    counting = 0;
    prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
    free(memory);
    assert_int_equal(allocations, 1);
    assert_int_equal(locks, 1);
    assert_int_equal(system_calls, 1);
}

static int run_rank(int rank, const char *session)
{
    struct manta_config config = MANTA_CONFIG_INIT;
    struct manta_comm *comm;
    config.rank = rank;
    config.ranks = 2;
    config.session = session;
    config.transports = "shm";
    config.timeout_ns = 60000000000u;
    catch_system_calls();
    if (manta_comm_create(&config, &comm))
        return 1;
    return measure(comm, NULL) || manta_comm_destroy(comm);
}

static void test_nothing_on_warm_calls(void **state)
{
    (void)state;
    char session[1024];
    struct mt_error error;
    pid_t pids[2];
    assert_int_equal(mt_session_prepare("127.0.0.1", 0, session, sizeof(session), &error), 0);
    setenv("MANTA_SPIN", "1000", 1);
    for (int r = 0; r < 2; r++) {
        pids[r] = fork();
        if (pids[r] == 0)
            _exit(run_rank(r, session));
    }
    unsetenv("MANTA_SPIN");
    for (int r = 0; r < 2; r++) {
        int status = -1;
        assert_int_equal(waitpid(pids[r], &status, 0), pids[r]);
        assert_int_equal(status, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_alive),
        cmocka_unit_test(test_nothing_on_warm_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
