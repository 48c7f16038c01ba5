/* SPDX-License-Identifier: Apache-2.0 */
/* Where the kernel or a sandbox refuses membarrier, on all ranks or on some: a rank that sleeps on
 * shared memory wakes by itself every millisecond, so that nothing is lost. Each rank sleeps in
 * each of its waits here, and is kept waiting in turn. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "collectives/comm.h"
#include "tests/support/rank_processes.h"
#include "transport/shm/shm.h"

enum { RANKS = 3, ROUNDS = 60, LONG = 100003 };

/* From here on this thread's membarrier answers ENOSYS, as an old kernel's would. */
static int refuse_membarrier(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = {.len = sizeof program / sizeof program[0], .filter = program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) ||
           syscall(SYS_membarrier, 0, 0, 0) != -1 || errno != ENOSYS;
}

static int is_without(int rank, const void *arg)
{
    return *(const unsigned *)arg >> rank & 1;
}

static int enter(int rank, void *arg)
{
    setenv("MANTA_SPIN", "0", 1);
    setenv("MANTA_YIELD", "0", 1);
    return is_without(rank, arg) && refuse_membarrier();
}

static int one_round(struct manta_comm *comm, int round, uint64_t count, int32_t *data)
{
    const struct timespec pause = {.tv_nsec = 1500000};
    int rank = manta_comm_rank(comm), next = (rank + 1) % RANKS, previous = (rank + 2) % RANKS;
    struct manta_request *send;
    int32_t given = rank + round, taken = -1;
    for (uint64_t i = 0; i < count; i++)
        data[i] = rank + (int32_t)i;
    if (round % RANKS == rank)
        nanosleep(&pause, NULL);
    if (manta_allreduce(comm, data, data, count, MANTA_INT32, MANTA_SUM) ||
        data[count - 1] != RANKS * (RANKS - 1) / 2 + RANKS * (int32_t)(count - 1))
        return rank_fail(comm, "round %d: allreduce of %d", round, (int)count);
    if (manta_send_post(comm, &given, 1, MANTA_INT32, next, &send) ||
        manta_recv(comm, &taken, 1, MANTA_INT32, previous) || manta_wait(send, UINT64_MAX) ||
        taken != previous + round)
        return rank_fail(comm, "round %d: ring", round);
    if (manta_broadcast(comm, data, count, MANTA_INT32, round % RANKS))
        return rank_fail(comm, "round %d: broadcast", round);
    return 0;
}

static int sleep_in_each_wait(struct manta_comm *comm, void *arg)
{
    static int32_t data[LONG];
    const struct mt_shm_endpoint *endpoint = comm->endpoints[0].handle;
    struct rusage before, after;
    getrusage(RUSAGE_THREAD, &before);
    for (int round = 0; round < ROUNDS; round++)
        if (one_round(comm, round, round % 3 == 2 ? LONG : 1, data))
            return 1;
    getrusage(RUSAGE_THREAD, &after);
    if (after.ru_nvcsw - before.ru_nvcsw < ROUNDS)
        return rank_fail(comm, "slept %ld times only", after.ru_nvcsw - before.ru_nvcsw);
    /* One that no membarrier reaches is enough: all must look by themselves. */
    if (endpoint->bounded_sleep != (*(const unsigned *)arg != 0))
        return rank_fail(comm, "sleeps %s", endpoint->bounded_sleep ? "in steps" : "without bound");
    return 0;
}

static void nothing_is_lost(void **state)
{
    (void)state;
    for (unsigned without = 0; without < 1 << RANKS; without++) {
        const struct ranks_options options = {.ranks = RANKS, .transports = "shm", .enter = enter};
        assert_int_equal(
            rank_processes_run(&options, sleep_in_each_wait, (void *)(uintptr_t)&without), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
