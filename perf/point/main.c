/* SPDX-License-Identifier: Apache-2.0 */
/*
 * point-perf: messages from rank 0 to rank 1, as ib_write_lat and ib_write_bw time writes: half of
 * a round trip (median), and bytes a second of a stream with several messages under way. Ranks
 * beyond these two have nothing to do. Prints a line of JSON for each size. And how fast a sleeper
 * wakes, in Manta and in ibverbs alone (wake.c), on one host.
 *
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

#include "core/clock.h"
#include "core/config.h"
#include "perf/point/median.h"
#include "perf/point/wake.h"

enum { WINDOW = 16, WARM_UP = 20, TRIPS_MOST = 100000, SIZES_MOST = 64, USAGE = 2 };

static const char help[] =
    "usage: mantarun -n 2 point-perf lat|bw MESSAGES SIZE...\n"
    "       mantarun -n 2 point-perf wake|wake-bare MESSAGES\n"
    "Time messages from rank 0 to rank 1; a line of JSON for each size.\n"
    "  lat        half of a round trip, median (us)\n"
    "  bw         bytes a second of a stream with 16 messages under way (MB/s)\n"
    "  wake       how long until a receiver who sleeps is back, median (us), on one host\n"
    "  wake-bare  the same on a completion channel of ibverbs alone, over MANTA_VERBS_DEVICE\n"
    "MESSAGES is 1 to 100000, for wake and wake-bare 1 to 1000 (each takes 60 ms). SIZE is in "
    "bytes,\n"
    "or with k, M, G or T of 1024: 4096, 64k, 1MiB.\n"
    "Exit code 1 for a failure, 2 for wrong usage.\n";

struct wish {
    const char *what;
    int messages, size_count;
    uint64_t sizes[SIZES_MOST];
};

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

static int refuse(const char *what, const char *got)
{
    fprintf(stderr, "point-perf: %s, not '%s'; see point-perf --help\n", what, got);
    return -1;
}

static int parse(struct wish *wish, int argc, char **argv)
{
    char *end;
    wish->what = argc > 1 ? argv[1] : "";
    int is_wake = strcmp(wish->what, "wake") == 0 || strcmp(wish->what, "wake-bare") == 0;
    long most = is_wake ? WAKE_TURNS_MOST : TRIPS_MOST;
    if (!is_wake && strcmp(wish->what, "lat") != 0 && strcmp(wish->what, "bw") != 0)
        return refuse("the first word must be lat, bw, wake or wake-bare", wish->what);
    long messages = argc > 2 ? strtol(argv[2], &end, 10) : 0;
    if (messages < 1 || messages > most || *end != '\0')
        return refuse(is_wake ? "MESSAGES must be 1 to 1000" : "MESSAGES must be 1 to 100000",
                      argc > 2 ? argv[2] : "");
    wish->messages = (int)messages;
    if (is_wake ? argc > 3 : argc == 3)
        return refuse(is_wake ? "wake takes no sizes" : "there must be a size",
                      is_wake ? argv[3] : "");
    for (int i = 3; i < argc; i++)
        if (wish->size_count == SIZES_MOST ||
            mt_parse_bytes(argv[i], &wish->sizes[wish->size_count++]) != 0)
            return refuse("there must be up to 64 sizes such as 4096, 64k or 1MiB", argv[i]);
    return 0;
}

static int run(struct manta_comm *comm, const struct wish *wish)
{
    int rc = 0;
    if (wish->size_count == 0)
        return strcmp(wish->what, "wake") == 0 ? wake_manta(comm, wish->messages)
                                               : wake_bare(comm, wish->messages);
    for (int i = 0; i < wish->size_count && rc == 0; i++)
        rc = time_size(comm, strcmp(wish->what, "bw") == 0, wish->messages, wish->sizes[i]);
    return rc;
}

int main(int argc, char **argv)
{
    struct manta_comm *comm;
    struct wish wish = {0};
    struct manta_error_info info = {.size = sizeof(info)};
    int rc = 0;
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return fputs(help, stdout) < 0;
    if (parse(&wish, argc, argv) != 0)
        return USAGE;
    if (manta_comm_create(NULL, &comm) != 0)
        return 1;
    if (manta_comm_size(comm) < 2 || (wish.size_count == 0 && manta_comm_size(comm) != 2)) {
        fprintf(stderr, "point-perf: it takes two ranks: mantarun -n 2\n");
        rc = 1;
    } else if (manta_comm_rank(comm) < 2) {
        rc = run(comm, &wish);
    }
    if (rc != 0 && manta_comm_error(comm, &info) == 0 && info.code != 0)
        fprintf(stderr, "point-perf: %s\n", info.sentence);
    manta_comm_destroy(comm);
    return rc != 0;
}
