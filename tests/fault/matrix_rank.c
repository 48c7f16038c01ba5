/* SPDX-License-Identifier: Apache-2.0 */
/* One rank of a cell: some good calls, then the one with the fault, then calls until an error or,
 * where none is expected, a few more. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <manta/manta.h>

#include "core/clock.h"
#include "tests/fault/matrix.h"
#include "tests/support/ranks.h"

enum { CALLS_AFTER = 400, CHILD_LIFE_S = 6, LATE_MS = 1500 };

static float *src, *dst;

/* A barrier has no arguments to get wrong: its mismatch is another collective. */
static int call(struct manta_comm *comm, int collective, uint64_t count)
{
    int rank = manta_comm_rank(comm), ranks = manta_comm_size(comm), rc;
    struct manta_request *send;
    switch (collective) {
    case MANTA_ALLREDUCE:
        return manta_allreduce(comm, src, dst, count, MANTA_FLOAT32, MANTA_SUM);
    case MANTA_BROADCAST:
        return manta_broadcast(comm, dst, count, MANTA_FLOAT32, 0);
    case MANTA_REDUCE:
        return manta_reduce(comm, src, dst, count, MANTA_FLOAT32, MANTA_SUM, 0);
    case MANTA_ALLGATHER:
        return manta_allgather(comm, src, dst, count / (uint64_t)ranks, MANTA_FLOAT32);
    case MANTA_REDUCE_SCATTER:
        return manta_reduce_scatter(comm, src, dst, count / (uint64_t)ranks, MANTA_FLOAT32,
                                    MANTA_SUM);
    case MANTA_BARRIER:
        return manta_barrier(comm);
    default:
        rc = manta_send_post(comm, src, count, MANTA_FLOAT32, (rank + 1) % ranks, &send);
        if (rc)
            return rc;
        rc = manta_recv(comm, dst, count, MANTA_FLOAT32, (rank + ranks - 1) % ranks);
        int sent = manta_wait(send, UINT64_MAX);
        return rc ? rc : sent;
    }
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

static int faulty_call(struct manta_comm *comm, const struct cell *cell)
{
    int other = cell->collective == MANTA_BARRIER ? MANTA_ALLREDUCE : MANTA_BARRIER;
    struct timespec late = {.tv_sec = LATE_MS / 1000, .tv_nsec = LATE_MS % 1000 * 1000000L};
    int victim = manta_comm_rank(comm) == cell->victim;

    if (victim && cell->fault == CELL_KILL)
        leave_child_behind();
    if (victim)
        tell_time("fault");
    if (victim && cell->fault == CELL_MISMATCH) {
        int point_to_point = cell->collective == MANTA_SEND;
        if ((cell->middle || point_to_point) && cell->collective != MANTA_BARRIER)
            return call(comm, cell->collective, CELL_COUNT - 4);
        return call(comm, other, CELL_COUNT);
    }
    if (victim && !cell->middle) {
        if (cell->fault == CELL_LATE)
            nanosleep(&late, NULL);
        else
            raise(cell->fault == CELL_KILL ? SIGKILL : SIGSTOP);
    }
    return call(comm, cell->collective, CELL_COUNT);
}

static int count_mappings(void)
{
    char line[512];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof(line), maps))
        count += strstr(line, "memfd:") != NULL;
    if (maps)
        fclose(maps);
    return count;
}

static int held(void)
{
    return folder_entries("/proc/self/fd") + folder_entries("/proc/self/task") + count_mappings();
}

/* A thread that was joined may stay in /proc for a moment longer. */
static int left_over(int before)
{
    struct timespec moment = {.tv_nsec = 2000000};
    for (int looks = 0; looks < 100 && held() != before; looks++)
        nanosleep(&moment, NULL);
    return held() - before;
}

static void run(const struct cell *cell, struct outcome *out)
{
    struct manta_comm *comm;
    struct manta_error_info info = {.size = sizeof(info)};
    int before = held();
    out->code = manta_comm_create(NULL, &comm);
    if (out->code) {
        manta_comm_error(NULL, &info);
        snprintf(out->sentence, sizeof(out->sentence), "create: %s", info.sentence);
        return;
    }
    for (int i = 0; i < CELL_CALLS_BEFORE && !out->code; i++)
        out->code = call(comm, cell->collective, CELL_COUNT);
    if (!out->code)
        out->code = faulty_call(comm, cell);
    for (int i = 0; i < CALLS_AFTER && !out->code; i++) {
        if (cell->fault == CELL_LATE && i == 3)
            break;
        out->code = call(comm, cell->collective, CELL_COUNT);
    }
    out->at_ns = mt_clock_now_ns();
    manta_comm_error(comm, &info);
    out->named_rank = info.rank;
    if (out->code)
        snprintf(out->sentence, sizeof(out->sentence), "%s", info.sentence);
    manta_comm_destroy(comm);
    out->leaked = left_over(before);
}

int main(int argc, char **argv)
{
    struct cell cell;
    struct outcome out = {.named_rank = -1};
    char line[1024];
    if (argc != 6)
        return 2;
    cell = (struct cell){.collective = atoi(argv[1]),
                         .transport = atoi(argv[2]),
                         .fault = atoi(argv[3]),
                         .middle = atoi(argv[4]),
                         .victim = atoi(argv[5])};
    src = calloc(CELL_COUNT, sizeof(*src));
    dst = calloc(CELL_COUNT, sizeof(*dst));
    if (!src || !dst)
        return 3;
    run(&cell, &out);
    int length = snprintf(line, sizeof(line), "outcome %d %d %llu %d %s\n", out.code,
                          out.named_rank, (unsigned long long)out.at_ns, out.leaked, out.sentence);
    return write(STDOUT_FILENO, line, (size_t)length) == length ? 0 : 4;
}
