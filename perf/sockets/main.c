/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket-perf: what an exchange between two processes costs over bare TCP sockets, by the ways in
 * which a transport could do it. Medians in us on loopback, 2 CPUs, reno, chrt -f 10:
 *
 *                                   44      4096     65536   1048576   4194304
 *   epoll, 1 each way              4.5       5.3      14.6     252.2    1054.3
 *   epoll, 1 for both              3.8       4.5      38.2     436.3    2024.2
 *   epoll, 2 each way              8.8       9.7      17.7     268.5    1170.9
 *   io_uring, 1 each way           5.1       5.9      14.8     259.9    1226.5
 *   MSG_ZEROCOPY, 1 each way       5.3       6.4      24.6     328.2    3138.5
 *
 * That decided: one connection for what is short (an acknowledgement travels with the next message,
 * and not alone), others for what is long; one for each interface, since two are no faster where
 * one thread serves them; epoll; and no MSG_ZEROCOPY, whose receiver on this host copies after all.
 *
 * usage: socket-perf [ADDRESS]    this host's address to connect over (default 127.0.0.1)
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "perf/sockets/sockets.h"

enum { ROUNDS_MAX = 4000, BYTES_MAX = 4 << 20, RANKS = 2, CONNECTIONS = 2 * SOCKETS_MAX };

static const size_t sizes[] = {44, 4096, 65536, 1 << 20, BYTES_MAX};

static const struct way {
    const char *name;
    exchange_fn *exchange;
    int sockets; /* each way */
    int shared;  /* both ways over the same */
    size_t write_bytes;
} ways[] = {
    {"recv, 1 each way", exchange_polling, 1, 0, SIZE_MAX},
    {"epoll, 1 each way", exchange_by_epoll, 1, 0, SIZE_MAX},
    {"recv, 1 for both", exchange_polling, 1, 1, SIZE_MAX},
    {"epoll, 1 for both", exchange_by_epoll, 1, 1, SIZE_MAX},
    {"epoll, writes of 32 KiB", exchange_by_epoll, 1, 0, 32768},
    {"epoll, writes of 256 KiB", exchange_by_epoll, 1, 0, 262144},
    {"epoll, 2 each way", exchange_by_epoll, 2, 0, SIZE_MAX},
    {"epoll, 4 each way", exchange_by_epoll, 4, 0, SIZE_MAX},
    {"io_uring, 1 each way", exchange_by_ring, 1, 0, SIZE_MAX},
    {"MSG_ZEROCOPY, 1 each way", exchange_zero_copy, 1, 0, SIZE_MAX},
};

struct page {
    _Atomic uint32_t arrived; /* counts up: both ranks pass when it is even */
    uint16_t port;
};

static int fail(const char *what)
{
    perror(what);
    return -1;
}

static void meet(struct page *page)
{
    uint32_t mine = atomic_fetch_add(&page->arrived, 1) / RANKS * RANKS + RANKS;
    while ((int32_t)(atomic_load(&page->arrived) - mine) < 0)
        sched_yield();
}

static void keep_to_cpu(int rank)
{
    cpu_set_t all, one;
    int wanted = rank;
    if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) < RANKS)
        return;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all) && wanted-- == 0)
            CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static int prepare(int fd)
{
    int one = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one);
    return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* The same connections in the same order at both ends. */
static int connect_all(int rank, const char *host, struct page *page, int fds[CONNECTIONS])
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t bytes = sizeof address;
    int listener = rank == 0 ? socket(AF_INET, SOCK_STREAM, 0) : -1;
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        return fail(host);
    if (rank == 0) {
        if (listener < 0 || bind(listener, (struct sockaddr *)&address, bytes) != 0 ||
            listen(listener, CONNECTIONS) != 0 ||
            getsockname(listener, (struct sockaddr *)&address, &bytes) != 0)
            return fail("listen");
        page->port = address.sin_port;
    }
    meet(page);
    address.sin_port = page->port;
    for (int i = 0; i < CONNECTIONS; i++) {
        fds[i] = rank == 0 ? accept(listener, NULL, NULL) : socket(AF_INET, SOCK_STREAM, 0);
        if (fds[i] < 0 || (rank == 1 && connect(fds[i], (struct sockaddr *)&address, bytes) != 0) ||
            prepare(fds[i]) != 0)
            return fail("connect");
    }
    return listener < 0 ? 0 : close(listener);
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Median of one exchange, started together, in microseconds; negative: it failed. */
static double measure(struct end *end, const struct way *way, size_t bytes, struct page *page)
{
    static uint64_t times[ROUNDS_MAX];
    int rounds = bytes < 100000 ? ROUNDS_MAX : 200;
    for (int i = 0; i < rounds; i++) {
        memset(end->from, i, bytes * (size_t)end->count);
        meet(page);
        uint64_t begun_ns = mt_clock_now_ns();
        if (way->exchange(end, bytes) != 0)
            return -1;
        times[i] = mt_clock_now_ns() - begun_ns;
    }
    qsort(times, (size_t)rounds, sizeof *times, by_time);
    return (double)times[rounds / 2] / 1e3;
}

static int run_way(int rank, const struct way *way, struct end *end, const int fds[CONNECTIONS],
                   struct page *page)
{
    end->count = way->sockets;
    end->write_bytes = way->write_bytes;
    for (int i = 0; i < way->sockets; i++) {
        end->out[i] = fds[way->shared ? i : 2 * i + rank];
        end->in[i] = fds[way->shared ? i : 2 * i + !rank];
    }
    if (rank == 0)
        printf("%-26s", way->name);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t bytes = sizes[s] / (size_t)way->sockets;
        double us =
            way->exchange == exchange_by_ring && !end->ring ? 0 : measure(end, way, bytes, page);
        if (us < 0)
            return fail(way->name);
        if (rank == 0)
            printf(" %9.1f", us);
    }
    if (rank == 0)
        printf("\n");
    return fflush(stdout);
}

static int run_rank(int rank, const char *host, struct page *page)
{
    struct end end = {.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    int fds[CONNECTIONS];
    keep_to_cpu(rank);
    end.from = malloc(BYTES_MAX);
    end.to = calloc(1, BYTES_MAX);
    int failed =
        !end.from || !end.to || end.epoll_fd < 0 || connect_all(rank, host, page, fds) != 0;
    for (int i = 0; i < CONNECTIONS && !failed; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET};
        failed = epoll_ctl(end.epoll_fd, EPOLL_CTL_ADD, fds[i], &event) != 0;
    }
    if (!failed && ring_open(&end) != 0 && rank == 0)
        fprintf(stderr, "no io_uring here\n");
    for (size_t w = 0; w < sizeof ways / sizeof *ways && !failed; w++)
        failed = run_way(rank, &ways[w], &end, fds, page) != 0;
    ring_close(&end);
    free(end.from);
    free(end.to);
    return failed;
}

static const char help[] =
    "usage: socket-perf [ADDRESS OF THIS HOST]\n"
    "Time exchanges between two processes over bare sockets, in several ways.\n"
    "Exit code 1 for a failure, 2 for wrong usage.\n";

int main(int argc, char **argv)
{
    const char *host = argc > 1 ? argv[1] : "127.0.0.1";
    struct page *page =
        mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 1;
    if (argc == 2 && strcmp(host, "--help") == 0)
        return fputs(help, stdout) < 0;
    if (argc > 2 || page == MAP_FAILED || host[0] == '-') {
        fputs(help, stderr);
        return 2;
    }
    printf("us to send so many bytes and receive as many:\n%-26s", "");
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        printf(" %9zu", sizes[s]);
    printf("\n");
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(run_rank(1, host, page));
    int failed = pid < 0 || run_rank(0, host, page);
    if (failed && pid > 0)
        kill(pid, SIGKILL);
    if (pid > 0)
        waitpid(pid, &status, 0);
    return failed || status != 0;
}
