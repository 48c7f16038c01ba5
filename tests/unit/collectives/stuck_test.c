/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that waits long for others says for whom, and the call ends as it would have. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/log.h"
#include "tests/support/comm_processes.h"

enum { RANKS = 3, LATE = 2, WAIT_S = 30, HERE = 1, GO_ON = 2, MESSAGES = 3000 };

static const char *const transports[] = {"shm", "tcp"};

static void warn_soon(struct comm_process *self)
{
    (void)self;
    setenv("MANTA_WARN", "100ms", 1);
}

static void warn_late(struct comm_process *self)
{
    (void)self;
    setenv("MANTA_WARN", "3600", 1);
}

static void never_warn(struct comm_process *self)
{
    (void)self;
    setenv("MANTA_WARN", "0", 1);
}

/* Until one of these ranks has logged a line with these words: whichever speaks for all. */
static void await_words(const struct comm_process *list, int ranks, const char *words)
{
    const struct timespec pause = {0, 5000000};
    uint64_t until_ns = mt_clock_now_ns() + WAIT_S * MT_SECOND;
    int found = 0;
    while (!found) {
        for (int r = 0; r < ranks; r++) {
            char *log = comm_process_log(&list[r]);
            found |= log && strstr(log, words);
            free(log);
        }
        if (!found && mt_clock_now_ns() > until_ns)
            fail_msg("no rank said '%s'", words);
        nanosleep(&pause, NULL);
    }
}

static struct comm_process *start(const char *transport,
                                  int (*body)(struct manta_comm *comm, struct comm_process *self))
{
    return comm_processes_start(&(struct comm_job){.ranks = RANKS,
                                                   .transports = transport,
                                                   .log_level = MT_LOG_WARN,
                                                   .enter = warn_soon,
                                                   .body = body});
}

static void end(struct comm_process *list)
{
    assert_int_equal(comm_processes_wait(list, RANKS), 0);
    for (int r = 0; r < RANKS; r++)
        if (list[r].result)
            fail_msg("rank %d: %d %s", r, list[r].result, list[r].error.sentence);
}

/* The late rank is in no call until the test says so. */
static int come_late(struct manta_comm *comm, struct comm_process *self)
{
    int rc = comm_process_allreduce(comm, self);
    if (self->rank == LATE) {
        atomic_store(&self->stage, HERE);
        comm_process_await(self, GO_ON);
    }
    for (int i = 0; rc == 0 && i < 10; i++)
        rc = comm_process_allreduce(comm, self);
    return rc;
}

static void a_late_rank_is_named(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct comm_process *list = start(transports[t], come_late);
        await_words(list, RANKS,
                    "rank 2 has not called it and is outside any call (its last call, #1 "
                    "allreduce(100 float64, sum), ended ");
        atomic_store(&list[LATE].stage, GO_ON);
        end(list);
        comm_processes_free(list, RANKS);
    }
}

/* A posted call is waited for in slices, as programs do that look for signals meanwhile. */
static int wait_in_slices(struct manta_comm *comm, struct comm_process *self)
{
    float mine = 1, sum = 0;
    struct manta_request *request;
    if (self->rank == LATE)
        comm_process_await(self, GO_ON);
    int rc = manta_allreduce_post(comm, &mine, &sum, 1, MANTA_FLOAT32, MANTA_SUM, &request);
    if (rc == 0)
        do
            rc = manta_wait(request, 20 * (uint64_t)MT_MS);
        while (rc == MANTA_INPROGRESS);
    return rc || sum != RANKS;
}

static void a_wait_in_slices_is_one(void **state)
{
    (void)state;
    struct comm_process *list = start("shm", wait_in_slices);
    await_words(list, RANKS,
                "rank 2 has not called it and is outside any call (it has made no call yet)");
    atomic_store(&list[LATE].stage, GO_ON);
    end(list);
    comm_processes_free(list, RANKS);
}

/* The late rank stops its own process, between two calls. */
static int stop(struct manta_comm *comm, struct comm_process *self)
{
    int rc = comm_process_allreduce(comm, self);
    if (self->rank == LATE)
        raise(SIGSTOP);
    for (int i = 0; rc == 0 && i < 10; i++)
        rc = comm_process_allreduce(comm, self);
    return rc;
}

static void a_stopped_process_is_named(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct comm_process *list = start(transports[t], stop);
        siginfo_t stopped = {0};
        assert_int_equal(waitid(P_PID, (id_t)list[LATE].pid, &stopped, WSTOPPED | WEXITED), 0);
        assert_int_equal(stopped.si_code, CLD_STOPPED);
        await_words(list, RANKS,
                    "rank 2 does not answer: its process is stopped or its host is silent");
        kill(list[LATE].pid, SIGCONT);
        end(list);
        comm_processes_free(list, RANKS);
    }
}

/* A split waits for all, too; and what is split off has a name for the reader. */
static int split_late(struct manta_comm *comm, struct comm_process *self)
{
    struct manta_comm *part;
    if (self->rank == LATE)
        comm_process_await(self, HERE);
    int rc = manta_comm_split(comm, 0, self->rank, &part);
    if (rc == 0 && self->rank == LATE)
        comm_process_await(self, GO_ON);
    rc = rc ? rc : comm_process_allreduce(part, self);
    return rc ? rc : manta_comm_destroy(part);
}

static void a_rank_late_for_a_split_is_named(void **state)
{
    (void)state;
    struct comm_process *list = start("shm", split_late);
    await_words(list, RANKS, "waiting in #1 split(), ");
    await_words(list, RANKS,
                "rank 2 has not called it and is outside any call (it has made no call yet)");
    atomic_store(&list[LATE].stage, HERE);
    await_words(list, RANKS,
                "warn: communicator 2 of this process: waiting in #1 allreduce(100 float64");
    atomic_store(&list[LATE].stage, GO_ON);
    end(list);
    comm_processes_free(list, RANKS);
}

/* Until the test has heard of it, the late rank of one communicator sends over another, a message
 * each 10 ms; 1 if that was not before the last. */
static int send_meanwhile(struct manta_comm *comm, struct comm_process *self)
{
    const struct timespec pause = {0, 10000000};
    int rc = 0, was_heard = 0;
    float word = 1;
    for (int i = 0; rc == 0 && i < MESSAGES; i++) {
        rc = manta_send(comm, &word, 1, MANTA_FLOAT32, 0);
        if (atomic_load(&self->stage) != GO_ON)
            nanosleep(&pause, NULL);
        else
            was_heard = 1;
    }
    return rc || !was_heard;
}

static int receive_meanwhile(struct manta_comm *comm, struct manta_comm *busy,
                             struct comm_process *self)
{
    static float words[MESSAGES];
    static struct manta_request *requests[MESSAGES];
    int rc = 0;
    for (int i = 0; rc == 0 && i < MESSAGES; i++)
        rc = manta_recv_post(busy, &words[i], 1, MANTA_FLOAT32, LATE, &requests[i]);
    rc = rc ? rc : comm_process_allreduce(comm, self);
    for (int i = 0; rc == 0 && i < MESSAGES; i++)
        rc = manta_wait(requests[i], WAIT_S * MT_SECOND);
    return rc;
}

static int move_meanwhile(struct manta_comm *comm, struct comm_process *self)
{
    struct manta_comm *busy;
    int late = 0, rc = manta_comm_split(comm, 0, self->rank, &busy);
    if (rc)
        return rc;
    if (self->rank == 0) {
        rc = receive_meanwhile(comm, busy, self);
    } else {
        if (self->rank == LATE)
            late = send_meanwhile(busy, self);
        else
            comm_process_await(self, GO_ON); /* or it would speak for rank 0 */
        rc = comm_process_allreduce(comm, self);
    }
    rc = rc ? rc : manta_comm_destroy(busy);
    return rc ? rc : late;
}

static void what_else_moves_is_no_news(void **state)
{
    (void)state;
    struct comm_process *list = start("shm", move_meanwhile);
    await_words(&list[0], 1, "waiting in #2 allreduce(");
    atomic_store(&list[1].stage, GO_ON);
    atomic_store(&list[LATE].stage, GO_ON);
    end(list);
    comm_processes_free(list, RANKS);
}

/* Nothing is said of waits that are usual, or where nobody wants to hear it. */
static void others_say_nothing(void **state)
{
    const struct timespec moment = {0, 100000000};
    static void (*const enter[])(struct comm_process * self) = {warn_late, never_warn};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct comm_process *list = comm_processes_start(&(struct comm_job){
            .ranks = RANKS, .log_level = MT_LOG_WARN, .enter = enter[i], .body = come_late});
        comm_process_await(&list[LATE], HERE);
        nanosleep(&moment, NULL);
        atomic_store(&list[LATE].stage, GO_ON);
        end(list);
        for (int r = 0; r < RANKS; r++) {
            char *log = comm_process_log(&list[r]);
            assert_null(strstr(log, "waiting"));
            free(log);
        }
        comm_processes_free(list, RANKS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_rank_is_named),
        cmocka_unit_test(a_wait_in_slices_is_one),
        cmocka_unit_test(a_stopped_process_is_named),
        cmocka_unit_test(a_rank_late_for_a_split_is_named),
        cmocka_unit_test(what_else_moves_is_no_news),
        cmocka_unit_test(others_say_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
