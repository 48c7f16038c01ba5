/* SPDX-License-Identifier: Apache-2.0 */
/* One rank of a cell: some good calls, the one with the fault, a barrier; a few good calls more
 * where no error is expected. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <manta/manta.h>

#include "core/clock.h"
#include "tests/support/cells.h"
#include "tests/support/ranks.h"

enum { CALLS_AFTER = 3, CHILD_LIFE_S = 30, LATE_MS = 1500 };
/* Once all are connected, where the deadline is what tells at last: a rank that a busy host stops
 * for some seconds is back before. */
#define TIMEOUT_NS (6 * MT_SECOND)

static float *src, *dst;

static int call(struct manta_comm *comm, const struct test_call calls[2])
{
    struct manta_request *send;
    if (calls[0].collective != MANTA_SEND)
        return test_call_block(comm, &calls[0], src, dst);
    int rc = test_call_post(comm, &calls[0], src, dst, &send);
    if (rc)
        return rc;
    rc = test_call_block(comm, &calls[1], src, dst);
    int sent = manta_wait(send, UINT64_MAX);
    return rc ? rc : sent;
}

/* The gate, a semaphore that all ranks have as standard input. */
static void open_gate(uint64_t ranks)
{
    if (write(STDIN_FILENO, &ranks, sizeof ranks) != sizeof ranks)
        _exit(98);
}

static void pass_gate(void)
{
    uint64_t one;
    if (read(STDIN_FILENO, &one, sizeof one) != sizeof one)
        _exit(97);
}

/* Post it and look once, so that what goes out at once is out; let others come; then wait. */
static int call_and_open_gate(struct manta_comm *comm, const struct test_call calls[2],
                              uint64_t ranks)
{
    struct manta_request *requests[2];
    int count = calls[0].collective == MANTA_SEND ? 2 : 1, posted = 0, rc = 0;
    for (; posted < count && rc == 0; posted += rc == 0)
        rc = test_call_post(comm, &calls[posted], src, dst, &requests[posted]);
    int looked = posted ? manta_wait(requests[0], 0) : 0;
    open_gate(ranks);
    for (int i = 0; i < posted; i++) {
        int ended =
            i == 0 && looked != MANTA_INPROGRESS ? looked : manta_wait(requests[i], UINT64_MAX);
        rc = rc ? rc : ended;
    }
    return rc;
}

/* A child of the victim that outlives it and holds whatever descriptors it inherited. */
static void leave_child_behind(void)
{
    if (fork() == 0) {
        alarm(CHILD_LIFE_S);
        for (;;)
            pause();
    }
}

static void tell_time(const char *what)
{
    char line[64];
    int length =
        snprintf(line, sizeof(line), "%s %llu\n", what, (unsigned long long)mt_clock_now_ns());
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        _exit(99);
}

/* Either the victim is in its call before the others come, or they are in theirs before it
 * comes. */
static int mismatched_call(struct manta_comm *comm, const struct cell *cell)
{
    struct test_call calls[2];
    int rank = manta_comm_rank(comm), is_victim = rank == cell->victim;
    cell_calls(cell, rank, is_victim, calls);
    if (is_victim && !cell->middle)
        return call_and_open_gate(comm, calls, CELL_RANKS - 1);
    if (!is_victim && cell->middle)
        return call_and_open_gate(comm, calls, 1);
    for (int others = is_victim ? CELL_RANKS - 1 : 1; others > 0; others--)
        pass_gate();
    return call(comm, calls);
}

static int faulty_call(struct manta_comm *comm, const struct cell *cell)
{
    struct test_call calls[2];
    struct timespec late = {.tv_sec = LATE_MS / 1000, .tv_nsec = LATE_MS % 1000 * 1000000L};
    int victim = manta_comm_rank(comm) == cell->victim;

    if (victim && cell->fault == CELL_KILL)
        leave_child_behind();
    if (victim)
        tell_time("fault");
    if (cell_is_mismatch(cell))
        return mismatched_call(comm, cell);
    if (victim && !cell->middle) {
        if (cell->fault == CELL_LATE)
            nanosleep(&late, NULL);
        else
            raise(cell->fault == CELL_KILL ? SIGKILL : SIGSTOP);
    }
    cell_calls(cell, manta_comm_rank(comm), 0, calls);
    return call(comm, calls);
}

static void run(const struct cell *cell, struct outcome *out)
{
    struct manta_comm *comm;
    struct manta_error_info info = {.size = sizeof(info)};
    struct test_call calls[2];
    struct held before;
    held_look(&before);
    out->code = manta_comm_create(NULL, &comm);
    if (out->code) {
        manta_comm_error(NULL, &info);
        snprintf(out->sentence, sizeof(out->sentence), "create: %s", info.sentence);
        return;
    }
    cell_calls(cell, manta_comm_rank(comm), 0, calls);
    out->code = manta_barrier(comm); /* all are connected with all that they will need */
    for (int i = 0; i < CELL_CALLS_BEFORE && !out->code; i++)
        out->code = call(comm, calls);
    if (cell->fault == CELL_STOP || cell_is_mismatch(cell))
        ranks_hurry(comm, TIMEOUT_NS);
    if (!out->code)
        out->code = faulty_call(comm, cell);
    /* A call may be over for this rank before anybody can know; what all ranks end together tells
     * at the latest. */
    if (!out->code)
        out->code = manta_barrier(comm);
    for (int i = 0; i < CALLS_AFTER && !out->code; i++)
        out->code = call(comm, calls);
    out->at_ns = mt_clock_now_ns();
    manta_comm_error(comm, &info);
    out->named_rank = info.rank;
    if (out->code)
        snprintf(out->sentence, sizeof(out->sentence), "%s", info.sentence);
    manta_comm_destroy(comm);
    held_as_before(&before, &out->left);
}

/* What the first communicator of a process loads and keeps is not a leak, nor is what malloc keeps
 * for threads. */
static int warm_up(void)
{
    mallopt(M_ARENA_MAX, 1);
    struct manta_comm *comm;
    struct manta_config config = MANTA_CONFIG_INIT;
    config.rank = 0;
    config.ranks = 1;
    return manta_comm_create(&config, &comm) || manta_comm_destroy(comm);
}

static int tell(const struct outcome *out)
{
    char line[1024];
    const int *left = out->left.counts;
    int length = snprintf(line, sizeof(line), "outcome %d %d %llu", out->code, out->named_rank,
                          (unsigned long long)out->at_ns);
    for (int kind = 0; kind < HELD_KINDS; kind++)
        length += snprintf(line + length, sizeof(line) - (size_t)length, " %d", left[kind]);
    length += snprintf(line + length, sizeof(line) - (size_t)length, " %s\n", out->sentence);
    return write(STDOUT_FILENO, line, (size_t)length) == length ? 0 : 4;
}

int main(int argc, char **argv)
{
    struct cell cell;
    struct outcome out = {.named_rank = -1};
    if (argc != 7)
        return 2;
    cell = (struct cell){.collective = atoi(argv[1]),
                         .transport = atoi(argv[2]),
                         .fault = atoi(argv[3]),
                         .middle = atoi(argv[4]),
                         .victim = atoi(argv[5]),
                         .small = atoi(argv[6])};
    src = calloc(CELL_COUNT, sizeof(*src));
    dst = calloc(CELL_COUNT, sizeof(*dst));
    if (!src || !dst || warm_up())
        return 3;
    run(&cell, &out);
    return tell(&out);
}
