/* SPDX-License-Identifier: Apache-2.0 */
/* One of two ranks that tell what they spend, as `name number` on lines of their own.
 * copies [BYTES]: in allreduces after the first, in memory that the library gave and in the
 * program's own: bytes that the library has copied, and registrations.
 * idle SECONDS: rank 0's CPU time in a receive for which nothing comes, in 1/1000 of a core, how
 * often in a second its threads went to sleep, which those who look now and then do often, and the
 * median time from a send to the return of a receive that has slept for it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <manta/manta.h>

enum { CALLS = 5, WAKES = 21, SLEPT_NS = 50000000 };

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int spend(struct manta_comm *comm, float *src, float *dst, uint64_t count, const char *whose)
{
    struct manta_stats before = {.size = sizeof(before)}, after = {.size = sizeof(after)};
    for (uint64_t i = 0; i < count; i++)
        src[i] = (float)(i % 100);
    int rc = manta_allreduce(comm, src, dst, count, MANTA_FLOAT32, MANTA_SUM);
    rc = rc ? rc : manta_comm_stats(comm, &before);
    for (int i = 1; i < CALLS && rc == 0; i++)
        rc = manta_allreduce(comm, src, dst, count, MANTA_FLOAT32, MANTA_SUM);
    rc = rc ? rc : manta_comm_stats(comm, &after);
    for (uint64_t i = 0; i < count && rc == 0; i++)
        rc = dst[i] == (float)(2 * (i % 100)) ? 0 : MANTA_ETRANSPORT;
    printf("%s sent %" PRIu64 "\n", whose, after.sent_bytes - before.sent_bytes);
    printf("%s copied %" PRIu64 "\n", whose, after.copied_bytes - before.copied_bytes);
    printf("%s registrations %" PRIu64 "\n", whose, after.registrations - before.registrations);
    return rc;
}

static int tell_copies(struct manta_comm *comm, uint64_t bytes)
{
    uint64_t count = bytes / sizeof(float);
    void *given[2] = {NULL, NULL}, *own[2] = {malloc(bytes), malloc(bytes)};
    int rc = own[0] && own[1] ? 0 : MANTA_ENOMEM;
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = manta_mem_alloc(comm, bytes, &given[i]);
    rc = rc ? rc : spend(comm, given[0], given[1], count, "given");
    rc = rc ? rc : spend(comm, own[0], own[1], count, "own");
    for (int i = 0; i < 2; i++) {
        if (given[i])
            manta_mem_free(given[i]);
        free(own[i]);
    }
    return rc;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Both ranks are on one host, so that their clocks are one. */
static int tell_wakes(struct manta_comm *comm)
{
    uint64_t took_ns[WAKES] = {0}, sent_ns = 0;
    int rank = manta_comm_rank(comm), rc = 0;
    for (int i = 0; i < WAKES && rc == 0; i++) {
        uint64_t until_ns = now_ns(CLOCK_MONOTONIC) + SLEPT_NS;
        while (rank == 1 && now_ns(CLOCK_MONOTONIC) < until_ns) {
        } /* who sends is awake: it is not measured how it wakes up */
        sent_ns = now_ns(CLOCK_MONOTONIC);
        rc = rank == 1 ? manta_send(comm, &sent_ns, 1, MANTA_UINT64, 0)
                       : manta_recv(comm, &sent_ns, 1, MANTA_UINT64, 1);
        took_ns[i] = now_ns(CLOCK_MONOTONIC) - sent_ns;
        rc = rc ? rc : manta_barrier(comm);
    }
    qsort(took_ns, WAKES, sizeof(took_ns[0]), ascending);
    if (rank == 0)
        printf("wake_us %" PRIu64 "\n", took_ns[WAKES / 2] / 1000);
    return rc;
}

/* Of all threads. A host that is busy does not make them more, as it does CPU time in a guest. */
static uint64_t sleeps(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_nvcsw;
}

static int tell_idle(struct manta_comm *comm, unsigned seconds)
{
    uint8_t byte = 0;
    int rank = manta_comm_rank(comm);
    int rc = manta_barrier(comm);
    uint64_t began_ns = now_ns(CLOCK_MONOTONIC), used_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t slept = sleeps();
    if (rank == 1)
        sleep(seconds);
    if (rc == 0)
        rc = rank == 1 ? manta_send(comm, &byte, 1, MANTA_UINT8, 0)
                       : manta_recv(comm, &byte, 1, MANTA_UINT8, 1);
    used_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID) - used_ns;
    if (rank == 0) {
        uint64_t took_ns = now_ns(CLOCK_MONOTONIC) - began_ns;
        printf("idle_permille %" PRIu64 "\n", used_ns * 1000 / took_ns);
        printf("idle_sleeps %" PRIu64 "\n", (sleeps() - slept) * 1000000000 / took_ns);
    }
    return rc ? rc : tell_wakes(comm);
}

int main(int argc, char **argv)
{
    struct manta_comm *comm;
    struct manta_error_info info = {.size = sizeof(info)};
    if (argc != 3 || manta_comm_create(NULL, &comm) != 0)
        return 2;
    int rc = strcmp(argv[1], "copies") == 0 ? tell_copies(comm, strtoull(argv[2], NULL, 10))
                                            : tell_idle(comm, (unsigned)atoi(argv[2]));
    if (rc && manta_comm_error(comm, &info) == 0)
        fprintf(stderr, "thrift_rank: %d: %s\n", rc, info.sentence);
    manta_comm_destroy(comm);
    return rc != 0;
}
