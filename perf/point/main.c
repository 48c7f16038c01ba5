/* SPDX-License-Identifier: Apache-2.0 */
/*
 * point-perf: messages from rank 0 to rank 1, as ib_write_lat and ib_write_bw time writes: half of
 * a round trip (median), and bytes a second of a stream with several messages under way. Ranks
 * beyond these two have nothing to do. Prints a line of JSON for each size. And how fast a sleeper
 * wakes, in Manta and in ibverbs alone (wake.c), on one host.
 *
 * usage: mantarun -n 2 point-perf lat|bw MESSAGES BYTES...
 *        mantarun -n 2 point-perf wake|wake-bare MESSAGES
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "core/clock.h"
#include "perf/point/median.h"
#include "perf/point/wake.h"

enum { WINDOW = 16, WARM_UP = 20, TRIPS_MOST = 100000 };

static int exchange(struct manta_comm *comm, void *buf, uint64_t bytes)
{
    int rank = manta_comm_rank(comm);
    int rc = 0;
    for (int turn = 0; turn < 2 && rc == 0; turn++)
        rc = turn == rank ? manta_send(comm, buf, bytes, MANTA_UINT8, 1 - rank)
                          : manta_recv(comm, buf, bytes, MANTA_UINT8, 1 - rank);
    return rc;
}

static int time_trips(struct manta_comm *comm, void *buf, uint64_t bytes, int trips)
{
    static uint64_t took_ns[TRIPS_MOST];
    uint64_t last_ns = mt_clock_now_ns(), now_ns;
    int rc = 0;
    for (int i = -WARM_UP; i < trips && rc == 0; i++, last_ns = now_ns) {
        rc = exchange(comm, buf, bytes);
        now_ns = mt_clock_now_ns();
        if (i >= 0)
            took_ns[i] = now_ns - last_ns;
    }
    if (rc == 0 && manta_comm_rank(comm) == 0)
        printf("{\"what\": \"lat\", \"bytes\": %" PRIu64 ", \"us\": %.2f}\n", bytes,
               (double)point_median(took_ns, trips) / 2000);
    return rc;
}

/* Each message has a place of its own in the window, so that nothing is written over. */
static int stream(struct manta_comm *comm, uint8_t *buf, uint64_t bytes, int messages)
{
    struct manta_request *requests[WINDOW];
    int rank = manta_comm_rank(comm), rc = 0;
    for (int i = 0; i < messages + WINDOW && rc == 0; i++) {
        int slot = i % WINDOW;
        if (i >= WINDOW)
            rc = manta_wait(requests[slot], UINT64_MAX);
        if (i >= messages || rc != 0)
            continue;
        void *place = buf + (uint64_t)slot * bytes;
        rc = rank == 0 ? manta_send_post(comm, place, bytes, MANTA_UINT8, 1, &requests[slot])
                       : manta_recv_post(comm, place, bytes, MANTA_UINT8, 0, &requests[slot]);
    }
    return rc;
}

static int time_stream(struct manta_comm *comm, uint8_t *buf, uint64_t bytes, int messages)
{
    int rc = stream(comm, buf, bytes, WINDOW);
    rc = rc ? rc : exchange(comm, buf, 1);
    uint64_t begin_ns = mt_clock_now_ns();
    rc = rc ? rc : stream(comm, buf, bytes, messages);
    rc = rc ? rc : exchange(comm, buf, 1); /* it has arrived */
    double took_us = (double)(mt_clock_now_ns() - begin_ns) / 1000;
    if (rc == 0 && manta_comm_rank(comm) == 0)
        printf("{\"what\": \"bw\", \"bytes\": %" PRIu64 ", \"MBs\": %.2f}\n", bytes,
               (double)bytes * messages / took_us);
    return rc;
}

static int time_size(struct manta_comm *comm, int is_stream, int messages, uint64_t bytes)
{
    uint8_t *buf = aligned_alloc(4096, ((uint64_t)WINDOW * bytes + 4095) / 4096 * 4096);
    if (buf == NULL)
        return MANTA_ENOMEM;
    memset(buf, 1, (size_t)(WINDOW * bytes));
    int rc = is_stream ? time_stream(comm, buf, bytes, messages)
                       : time_trips(comm, buf, bytes, messages);
    free(buf);
    return rc;
}

int main(int argc, char **argv)
{
    struct manta_comm *comm;
    struct manta_error_info info = {.size = sizeof(info)};
    int is_wake = argc == 3 && strncmp(argv[1], "wake", 4) == 0;
    int messages = argc > 3 || is_wake ? atoi(argv[2]) : 0;
    if (messages < 1 || messages > TRIPS_MOST) {
        fprintf(
            stderr,
            "usage: mantarun -n 2 point-perf lat|bw MESSAGES BYTES... | wake|wake-bare MESSAGES\n");
        return 2;
    }
    if (manta_comm_create(NULL, &comm) != 0)
        return 1;
    int rc = 0;
    for (int i = 3; i < argc && rc == 0 && manta_comm_rank(comm) < 2; i++)
        rc = time_size(comm, strcmp(argv[1], "bw") == 0, messages, strtoull(argv[i], NULL, 10));
    if (is_wake && manta_comm_size(comm) == 2)
        rc = strcmp(argv[1], "wake") == 0 ? wake_manta(comm, messages) : wake_bare(comm, messages);
    if (rc != 0 && manta_comm_error(comm, &info) == 0)
        fprintf(stderr, "point-perf: %s\n", info.sentence);
    manta_comm_destroy(comm);
    return rc != 0;
}
