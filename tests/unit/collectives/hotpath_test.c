/* SPDX-License-Identifier: Apache-2.0 */
/* From the second call of a shape on: no allocation, no lock, no system call. The malloc family and
 * whatever may lock or wait is interposed, system calls trap (PR_SET_SYSCALL_USER_DISPATCH). Two
 * processes on shared memory; waits spin here, since yielding and sleeping are system calls that
 * the waiting policy may make. Over tcp there is I/O, but no allocation and no lock either. */
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <malloc.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>
#include <manta/manta.h>
#include <pthread.h>
#include <sched.h>

#include "tests/support/job_session.h"
#include "tests/support/ranks.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF 0
#define PR_SYS_DISPATCH_ON 1
#endif

enum { ALLOW = 0, BLOCK = 1, CALLS = 10000, CALLS_TCP = 1000, WARM = 64 };

static _Thread_local int counting;
static _Thread_local long allocations, frees, locks;
static _Thread_local volatile long system_calls, last_call; /* set by a signal handler */
static _Thread_local volatile char selector;

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *memory);

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

void *reallocarray(void *memory, size_t count, size_t bytes)
{
    size_t whole;
    allocations += counting;
    return __builtin_mul_overflow(count, bytes, &whole) ? NULL : __libc_realloc(memory, whole);
}

void *memalign(size_t alignment, size_t bytes)
{
    allocations += counting;
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    allocations += counting;
    return __libc_memalign(alignment, bytes);
}

void *valloc(size_t bytes)
{
    allocations += counting;
    return __libc_memalign(4096, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    allocations += counting;
    *out = __libc_memalign(alignment, bytes);
    return *out ? 0 : ENOMEM;
}

void free(void *memory)
{
    frees += counting;
    __libc_free(memory);
}

typedef const struct timespec *moment;

/* LOCK(name, parameters, arguments): whatever may lock, wait or wake. */
#define LOCKS                                                                                      \
    LOCK(pthread_mutex_lock, (pthread_mutex_t * m), (m))                                           \
    LOCK(pthread_mutex_trylock, (pthread_mutex_t * m), (m))                                        \
    LOCK(pthread_mutex_timedlock, (pthread_mutex_t * m, moment t), (m, t))                         \
    LOCK(pthread_mutex_clocklock, (pthread_mutex_t * m, clockid_t c, moment t), (m, c, t))         \
    LOCK(pthread_rwlock_rdlock, (pthread_rwlock_t * l), (l))                                       \
    LOCK(pthread_rwlock_tryrdlock, (pthread_rwlock_t * l), (l))                                    \
    LOCK(pthread_rwlock_timedrdlock, (pthread_rwlock_t * l, moment t), (l, t))                     \
    LOCK(pthread_rwlock_clockrdlock, (pthread_rwlock_t * l, clockid_t c, moment t), (l, c, t))     \
    LOCK(pthread_rwlock_wrlock, (pthread_rwlock_t * l), (l))                                       \
    LOCK(pthread_rwlock_trywrlock, (pthread_rwlock_t * l), (l))                                    \
    LOCK(pthread_rwlock_timedwrlock, (pthread_rwlock_t * l, moment t), (l, t))                     \
    LOCK(pthread_rwlock_clockwrlock, (pthread_rwlock_t * l, clockid_t c, moment t), (l, c, t))     \
    LOCK(pthread_cond_wait, (pthread_cond_t * v, pthread_mutex_t * m), (v, m))                     \
    LOCK(pthread_cond_timedwait, (pthread_cond_t * v, pthread_mutex_t * m, moment t), (v, m, t))   \
    LOCK(pthread_cond_clockwait, (pthread_cond_t * v, pthread_mutex_t * m, clockid_t c, moment t), \
         (v, m, c, t))                                                                             \
    LOCK(pthread_cond_signal, (pthread_cond_t * v), (v))                                           \
    LOCK(pthread_cond_broadcast, (pthread_cond_t * v), (v))                                        \
    LOCK(pthread_spin_lock, (pthread_spinlock_t * l), (l))                                         \
    LOCK(pthread_spin_trylock, (pthread_spinlock_t * l), (l))                                      \
    LOCK(pthread_barrier_wait, (pthread_barrier_t * b), (b))                                       \
    LOCK(sem_wait, (sem_t * s), (s))                                                               \
    LOCK(sem_trywait, (sem_t * s), (s))                                                            \
    LOCK(sem_timedwait, (sem_t * s, moment t), (s, t))                                             \
    LOCK(sem_clockwait, (sem_t * s, clockid_t c, moment t), (s, c, t))                             \
    LOCK(sem_post, (sem_t * s), (s))                                                               \
    LOCK(mtx_lock, (mtx_t * m), (m))                                                               \
    LOCK(mtx_trylock, (mtx_t * m), (m))                                                            \
    LOCK(mtx_timedlock, (mtx_t * m, moment t), (m, t))                                             \
    LOCK(cnd_wait, (cnd_t * v, mtx_t * m), (v, m))                                                 \
    LOCK(cnd_timedwait, (cnd_t * v, mtx_t * m, moment t), (v, m, t))                               \
    LOCK(cnd_signal, (cnd_t * v), (v))                                                             \
    LOCK(cnd_broadcast, (cnd_t * v), (v))

/* Condition variables have an old version, which must not be found. */
static void *find_real(const char *name)
{
    void *found = NULL;
    if (strncmp(name, "pthread_cond_", 13) == 0)
        found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    return found ? found : dlsym(RTLD_NEXT, name);
}

#define LOCK(name, parameters, arguments)                                                          \
    int name parameters                                                                            \
    {                                                                                              \
        static int(*real) parameters;                                                              \
        locks += counting;                                                                         \
        if (!real)                                                                                 \
            *(void **)&real = find_real(#name);                                                    \
        return real arguments;                                                                     \
    }
LOCKS
#undef LOCK

#define LOCK(name, parameters, arguments) +1
enum { LOCK_KINDS = LOCKS };
#undef LOCK

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

static void trap_on(void)
{
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector) == 0)
        selector = BLOCK;
}

static void trap_off(void)
{
    selector = ALLOW;
    prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
}

static void count_on(int traps)
{
    allocations = frees = locks = system_calls = 0;
    counting = 1;
    if (traps)
        trap_on();
}

static int count_off(struct manta_comm *comm, const char *what)
{
    trap_off();
    counting = 0;
    if (allocations || frees || locks || system_calls)
        return rank_fail(comm,
                         "%s: %ld allocations, %ld frees, %ld locks, %ld system calls (the first "
                         "is number %ld)",
                         what, allocations, frees, locks, system_calls, last_call);
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

static int larger_in(struct manta_comm *comm, int calls, float *in, float *out)
{
    for (int i = 0; i < calls / 20; i++) {
        in[777] = (float)i;
        if (manta_allreduce(comm, in, out, 20000, MANTA_FLOAT32, MANTA_SUM) ||
            out[777] != 2 * (float)i || manta_broadcast(comm, out, 20000, MANTA_FLOAT32, i % 2) ||
            manta_reduce(comm, in, out, 20000, MANTA_FLOAT32, MANTA_SUM, i % 2) ||
            manta_allgather(comm, in, out, 5000, MANTA_FLOAT32) ||
            manta_reduce_scatter(comm, in, out, 5000, MANTA_FLOAT32, MANTA_SUM) ||
            manta_barrier(comm))
            return 1;
    }
    return 0;
}

static int larger(struct manta_comm *comm, int calls)
{
    static _Thread_local float in[20000], out[20000];
    return larger_in(comm, calls, in, out);
}

/* Allocated and lent while warming up. */
static int symmetric(struct manta_comm *comm, int calls)
{
    static _Thread_local void *in, *out;
    if ((!in && manta_mem_alloc(comm, 80000, &in)) || (!out && manta_mem_alloc(comm, 80000, &out)))
        return 1;
    return larger_in(comm, calls, in, out);
}

enum { AT_ONCE = 4 };

static int post_several(struct manta_comm *comm, const int32_t *in, int32_t *out,
                        struct manta_request **requests)
{
    for (int k = 0; k < AT_ONCE; k++)
        if (manta_allreduce_post(comm, &in[k], &out[k], 1, MANTA_INT32, MANTA_SUM, &requests[k]))
            return 1;
    return 0;
}

static int wait_for_several(const int32_t *in, const int32_t *out, struct manta_request **requests)
{
    for (int k = AT_ONCE - 1; k >= 0; k--)
        if (manta_wait(requests[k], UINT64_MAX) || out[k] != 2 * in[k])
            return 1;
    return 0;
}

static int several(struct manta_comm *comm, int calls)
{
    const int32_t in[AT_ONCE] = {1, 2, 3, 4};
    int32_t out[AT_ONCE];
    struct manta_request *requests[AT_ONCE];
    for (int i = 0; i < calls / AT_ONCE; i++)
        if (post_several(comm, in, out, requests) || wait_for_several(in, out, requests))
            return 1;
    return 0;
}

/* Each rank in turn has them all under way at once before the other comes: whatever a call needs
 * while it is under way has then been made that often. */
static int fill_pools(struct manta_comm *comm)
{
    const int32_t in[AT_ONCE] = {1, 2, 3, 4};
    int32_t out[AT_ONCE], word = 0;
    struct manta_request *requests[AT_ONCE];
    int rank = manta_comm_rank(comm);
    for (int turn = 0; turn < 4; turn++) {
        if (turn % 2 != rank && manta_recv(comm, &word, 1, MANTA_INT32, 1 - rank))
            return 1;
        if (post_several(comm, in, out, requests))
            return 1;
        if (turn % 2 == rank && manta_send(comm, &word, 1, MANTA_INT32, 1 - rank))
            return 1;
        if (wait_for_several(in, out, requests))
            return 1;
    }
    return 0;
}

static int pairs(struct manta_comm *comm, int calls)
{
    int peer = 1 - manta_comm_rank(comm);
    for (int i = 0; i < calls; i++) {
        int32_t in = i, out = -1;
        struct manta_request *send;
        if (manta_send_post(comm, &in, 1, MANTA_INT32, peer, &send) ||
            manta_recv(comm, &out, 1, MANTA_INT32, peer) || manta_wait(send, UINT64_MAX) ||
            out != i)
            return 1;
    }
    return 0;
}

static int measure(struct manta_comm *comm, int calls, int traps)
{
    static int (*const shapes[])(struct manta_comm *, int) = {blocking,  posted,  rotating, larger,
                                                              symmetric, several, pairs};
    static const char *const names[] = {
        "blocking",         "posted",          "rotating root",   "larger, all collectives",
        "symmetric memory", "several at once", "send and receive"};
    if (fill_pools(comm))
        return rank_fail(comm, "wrong result or error while filling the pools");
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        if (shapes[s](comm, WARM) || manta_barrier(comm))
            return rank_fail(comm, "%s: wrong result or error while warming up", names[s]);
        count_on(traps);
        int wrong = shapes[s](comm, calls);
        if (count_off(comm, names[s]) || wrong)
            return rank_fail(comm, "%s: over %d calls", names[s], calls);
    }
    return 0;
}

/* That the counters count: each function once. */
static void allocations_are_counted(void **state)
{
    (void)state;
    void *aligned = NULL;
    count_on(0);
    void *volatile list[] = {malloc(10),
                             calloc(2, 5),
                             realloc(NULL, 10),
                             memalign(64, 10),
                             aligned_alloc(64, 64),
                             valloc(10),
                             reallocarray(NULL, 2, 5)};
    (void)!posix_memalign(&aligned, 64, 10);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        free(list[i]);
    free(aligned);
    counting = 0;
    assert_int_equal(allocations, 8);
    assert_int_equal(frees, 8);
}

static _Atomic int woken;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static mtx_t c11_mutex;
static cnd_t c11_condition;

/* Wakes whoever waits, again and again. */
static void *wake(void *arg)
{
    (void)arg;
    while (woken < 2) {
        (void)(woken == 0 ? pthread_cond_signal(&condition) : cnd_signal(&c11_condition));
        (void)sched_yield();
    }
    return NULL;
}

/* 7 locks of POSIX mutexes, 4 of C11's. */
static void take_mutexes(void)
{
    const struct timespec past = {0};
    pthread_mutex_lock(&mutex);
    pthread_cond_wait(&condition, &mutex);
    woken = 1;
    pthread_cond_timedwait(&condition, &mutex, &past);
    pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, &past);
    (void)pthread_mutex_trylock(&mutex);
    (void)pthread_mutex_timedlock(&mutex, &past);
    (void)pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &past);
    pthread_mutex_unlock(&mutex);
    mtx_lock(&c11_mutex);
    cnd_wait(&c11_condition, &c11_mutex);
    woken = 2;
    cnd_timedwait(&c11_condition, &c11_mutex, &past);
    (void)mtx_trylock(&c11_mutex);
    (void)mtx_timedlock(&c11_mutex, &past);
    mtx_unlock(&c11_mutex);
    pthread_cond_signal(&condition);
    pthread_cond_broadcast(&condition);
    cnd_signal(&c11_condition);
    cnd_broadcast(&c11_condition);
}

static void take_others(void)
{
    const struct timespec past = {0};
    pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
    pthread_spinlock_t spin;
    pthread_barrier_t barrier;
    sem_t semaphore;
    pthread_spin_init(&spin, 0);
    pthread_barrier_init(&barrier, NULL, 1);
    sem_init(&semaphore, 0, 1);
    pthread_rwlock_rdlock(&lock);
    pthread_rwlock_tryrdlock(&lock);
    pthread_rwlock_timedrdlock(&lock, &past);
    pthread_rwlock_clockrdlock(&lock, CLOCK_MONOTONIC, &past);
    for (int i = 0; i < 4; i++)
        pthread_rwlock_unlock(&lock);
    pthread_rwlock_wrlock(&lock);
    (void)pthread_rwlock_trywrlock(&lock);
    (void)pthread_rwlock_timedwrlock(&lock, &past);
    (void)pthread_rwlock_clockwrlock(&lock, CLOCK_MONOTONIC, &past);
    pthread_rwlock_unlock(&lock);
    pthread_spin_lock(&spin);
    (void)pthread_spin_trylock(&spin);
    pthread_spin_unlock(&spin);
    pthread_barrier_wait(&barrier);
    sem_wait(&semaphore);
    (void)sem_trywait(&semaphore);
    (void)sem_timedwait(&semaphore, &past);
    (void)sem_clockwait(&semaphore, CLOCK_MONOTONIC, &past);
    sem_post(&semaphore);
}

static void locks_are_counted(void **state)
{
    (void)state;
    pthread_t waker;
    mtx_init(&c11_mutex, mtx_timed);
    cnd_init(&c11_condition);
    assert_int_equal(pthread_create(&waker, NULL, wake, NULL), 0);
    count_on(0);
    take_mutexes();
    take_others();
    counting = 0;
    pthread_join(waker, NULL);
    assert_int_equal(locks, LOCK_KINDS);
}

static void expect_call(long number)
{
    selector = ALLOW;
    if (system_calls != 1 || last_call != number)
        fail_msg("system call %ld: %ld counted, the last is %ld", number, system_calls, last_call);
    system_calls = 0;
    selector = BLOCK;
}

static void system_calls_are_counted(void **state)
{
    (void)state;
    const struct timespec moment_long = {.tv_nsec = 1};
    uint32_t word = 1;
    catch_system_calls();
    count_on(1);
    (void)sched_yield();
    expect_call(SYS_sched_yield);
    void *memory = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect_call(SYS_mmap);
    (void)munmap(memory, 4096);
    expect_call(SYS_munmap);
    (void)syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    expect_call(SYS_futex);
    (void)syscall(SYS_brk, 0);
    expect_call(SYS_brk);
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &moment_long, NULL);
    expect_call(SYS_clock_nanosleep);
    trap_off();
    counting = 0;
}

static int run_rank(int rank, const char *session, int over_tcp)
{
    struct manta_config config = MANTA_CONFIG_INIT;
    struct manta_comm *comm;
    config.rank = rank;
    config.ranks = 2;
    config.session = session;
    config.transports = over_tcp ? "tcp" : "shm";
    config.timeout_ns = 60000000000u;
    catch_system_calls();
    if (manta_comm_create(&config, &comm))
        return 1;
    return measure(comm, over_tcp ? CALLS_TCP : CALLS, !over_tcp) || manta_comm_destroy(comm);
}

static void run(int over_tcp)
{
    char session[1024];
    pid_t pids[2];
    job_session_prepare(session, sizeof(session));
    if (!over_tcp)
        setenv("MANTA_SPIN", "1000", 1);
    for (int r = 0; r < 2; r++) {
        pids[r] = fork();
        if (pids[r] == 0)
            _exit(run_rank(r, session, over_tcp));
    }
    unsetenv("MANTA_SPIN");
    for (int r = 0; r < 2; r++) {
        int status = -1;
        assert_int_equal(waitpid(pids[r], &status, 0), pids[r]);
        assert_int_equal(status, 0);
    }
}

static void nothing_on_warm_calls(void **state)
{
    (void)state;
    run(0);
}

static void nothing_but_io_over_tcp(void **state)
{
    (void)state;
    run(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_are_counted),  cmocka_unit_test(locks_are_counted),
        cmocka_unit_test(system_calls_are_counted), cmocka_unit_test(nothing_on_warm_calls),
        cmocka_unit_test(nothing_but_io_over_tcp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
