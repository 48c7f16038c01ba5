/* SPDX-License-Identifier: Apache-2.0 */
/* 10,000 connections of a stranger without the secret, to the listeners of all ranks, most of them
 * silent and some with garbage, while a job of four processes goes on making communicators (new
 * control links, data connections and shared memory each time), reducing in them, and destroying
 * them: nobody is kept out, late or given a wrong sum. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "collectives/comm.h"
#include "core/address.h"
#include "core/clock.h"
#include "tests/support/rank_processes.h"

enum { RANKS = 4, TOTAL = 10000, AT_ONCE = 256, COUNT = 50000, ROUNDS = 20 };

struct flood {
    struct mt_address doors[2 * RANKS]; /* of each rank: its address, its unix socket */
    _Atomic int ready;                  /* ranks */
    _Atomic int made, refused;          /* connections */
    _Atomic int begun;                  /* rounds of the job, and with each its share of them */
};

static int knock(const struct mt_address *door, int number)
{
    static const char garbage[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int fd = socket(door->socket.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int rc = connect(fd, (const struct sockaddr *)&door->socket, door->bytes);
    if (rc == 0 && number % 3 == 0)
        (void)send(fd, garbage, sizeof garbage, MSG_NOSIGNAL);
    if (rc == 0 || errno == EINPROGRESS || errno == EAGAIN)
        return fd;
    close(fd);
    return -1;
}

static void pour(struct flood *flood)
{
    int fds[AT_ONCE];
    memset(fds, -1, sizeof fds);
    await_stage(&flood->ready, RANKS);
    for (int i = 0; i < TOTAL; i++) {
        await_stage(&flood->begun, i / (TOTAL / ROUNDS) + 1);
        int *fd = &fds[i % AT_ONCE];
        if (*fd >= 0)
            close(*fd);
        *fd = knock(&flood->doors[i % (2 * RANKS)], i);
        if (*fd < 0)
            atomic_fetch_add(&flood->refused, 1);
        atomic_fetch_add(&flood->made, 1);
    }
    _exit(0); /* the rest is closed then */
}

/* Where this rank listens. */
static int show_doors(struct manta_comm *comm, struct flood *flood)
{
    int rank = manta_comm_rank(comm);
    const struct mt_member *me = &comm->group->members[rank];
    mt_address_abstract(me->unix_name, &flood->doors[2 * rank + 1]);
    return mt_address_parse(me->addresses, strcspn(me->addresses, " "), &flood->doors[2 * rank]);
}

/* Everything of it is new: sessions, links, connections. */
static int one_round(struct manta_comm *comm, int round)
{
    static int32_t data[COUNT];
    struct manta_comm *fresh;
    int rank = manta_comm_rank(comm);
    int rc = manta_comm_split(comm, 0, round % 2 ? rank : -rank, &fresh);
    if (rc)
        return rank_fail(comm, "round %d: split: %d", round, rc);
    for (int i = 0; i < COUNT; i++)
        data[i] = rank + i + round;
    rc = manta_allreduce(fresh, data, data, COUNT, MANTA_INT32, MANTA_SUM);
    for (int i = 0; i < COUNT && rc == 0; i++)
        if (data[i] != RANKS * (RANKS - 1) / 2 + RANKS * (i + round))
            return rank_fail(comm, "round %d: element %d is %d", round, i, data[i]);
    for (int root = 0; root < RANKS && rc == 0; root++)
        rc = manta_broadcast(fresh, data, COUNT, MANTA_INT32, root);
    rc = rc ? rc : manta_barrier(fresh);
    if (rc)
        return rank_fail(fresh, "round %d: %d", round, rc);
    return manta_comm_destroy(fresh);
}

static int work_while_flooded(struct manta_comm *comm, void *arg)
{
    struct flood *flood = arg;
    if (show_doors(comm, flood))
        return rank_fail(comm, "it listens nowhere");
    atomic_fetch_add(&flood->ready, 1);
    for (int round = 0; round < ROUNDS; round++) {
        if (manta_comm_rank(comm) == 0) {
            await_stage(&flood->made, round * (TOTAL / ROUNDS));
            atomic_store(&flood->begun, round + 1);
        }
        if (one_round(comm, round))
            return 1;
    }
    return 0;
}

static void run(const char *transports, int nodes)
{
    const struct ranks_options options = {
        .ranks = RANKS, .transports = transports, .nodes = nodes, .timeout_ns = 20 * MT_SECOND};
    struct flood *flood = shared_memory(sizeof(*flood));
    fflush(NULL);
    pid_t stranger = fork();
    if (stranger == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pour(flood);
    }
    int failed = rank_processes_run(&options, work_while_flooded, flood);
    int status = rank_process_end(stranger, mt_clock_now_ns() + 30 * MT_SECOND);
    print_message("%s: %d connections, %d of them refused\n", transports, flood->made,
                  flood->refused);
    assert_int_equal(failed, 0);
    assert_int_equal(status, 0);
    assert_int_equal(flood->made, TOTAL);
    assert_true(flood->refused < TOTAL / 10); /* it did come to the doors */
    munmap(flood, sizeof(*flood));
}

static void over_tcp(void **state)
{
    (void)state;
    run("tcp", 1);
}

static void over_both(void **state)
{
    (void)state;
    run("shm,tcp", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_tcp),
        cmocka_unit_test(over_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
