/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf-limits: what this machine allows, measured without any library, on two CPUs that this
 * process may use. Prints one JSON object:
 *
 *   clock_ns     reading the clock
 *   line_ns      a cache line from one core to the other
 *   yield_ns     handing a CPU over by sched_yield between two threads
 *   write_GBs    copying into a ring that the other core reads, until the ring starts again
 *   read_GBs     copying out of that ring
 *   dram_GBs     bytes read and written a second by all CPUs together, streaming past the caches
 *   llc_bytes    last-level cache
 *
 * Each figure is the best of some rounds: a limit, not an average. 0: there is only one CPU.
 */
#include <errno.h>
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/clock.h"

enum {
    LINE = 64,
    ROUNDS = 12,
    BALLS = 1000,
    RING = 2 << 20,
    CHUNK = 64 << 10,
    CHUNKS = 256,      /* handed over in a round */
    STREAM = 64 << 20, /* bytes that a thread copies in a round */
    CPUS_MOST = 64,    /* threads that stream */
    LLC_UNKNOWN = 32 << 20
};

struct figures {
    double clock_ns, line_ns, yield_ns, write_gbs, read_gbs, dram_gbs;
    uint64_t llc_bytes;
};

/* What two threads share; each field on a line of its own. */
struct table {
    _Alignas(LINE) _Atomic uint32_t ball;
    _Alignas(LINE) _Atomic uint32_t written; /* chunks */
    _Alignas(LINE) _Atomic uint32_t read;
    unsigned char *ring;
    int cpus[CPUS_MOST], cpu_count;
    pthread_barrier_t start;
    uint64_t took_ns[CPUS_MOST];
};

struct seat {
    struct table *table;
    int number, cpu;
};

static void keep_to(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void *map_touched(size_t bytes)
{
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        perror("perf-limits: no memory");
        exit(1);
    }
    memset(map, 1, bytes);
    return map;
}

static double lowest(double a, double b)
{
    return a == 0 || (b > 0 && b < a) ? b : a;
}

static double highest(double a, double b)
{
    return b > a ? b : a;
}

/* One thread for each seat; their functions return when the round is over. */
static void seat_threads(struct table *table, int count, const int *cpus, void *(*play)(void *))
{
    pthread_t threads[CPUS_MOST];
    struct seat seats[CPUS_MOST];
    pthread_barrier_init(&table->start, NULL, (unsigned)count);
    for (int i = 0; i < count; i++) {
        seats[i] = (struct seat){table, i, cpus[i]};
        errno = pthread_create(&threads[i], NULL, play, &seats[i]);
        if (errno != 0) {
            perror("perf-limits: no thread");
            exit(1);
        }
    }
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&table->start);
}

/* The ball goes to and fro; on one CPU it can only do so by yielding. */
static void *play_ball(void *argument)
{
    const struct seat *seat = argument;
    struct table *table = seat->table;
    int alone = table->cpu_count == 1;
    keep_to(seat->cpu);
    pthread_barrier_wait(&table->start);
    uint64_t begin = mt_clock_now_ns();
    uint32_t mine = (uint32_t)seat->number;
    for (int i = 0; i < BALLS; i++, mine += 2) {
        /* Pairs with the other thread's store. */
        while (atomic_load_explicit(&table->ball, memory_order_acquire) != mine)
            if (alone)
                sched_yield();
        atomic_store_explicit(&table->ball, mine + 1, memory_order_release);
    }
    table->took_ns[seat->number] = mt_clock_now_ns() - begin;
    return NULL;
}

static double measure_ball(struct table *table, int cpu, int other)
{
    int cpus[2] = {cpu, other}, kept = table->cpu_count;
    double best = 0;
    table->cpu_count = cpu == other ? 1 : 2;
    for (int round = 0; round < ROUNDS; round++) {
        atomic_store(&table->ball, 0);
        seat_threads(table, 2, cpus, play_ball);
        best = lowest(best, (double)table->took_ns[1] / (2 * BALLS));
    }
    table->cpu_count = kept;
    return best;
}

/* As wide as the core has it: memcpy may choose `rep movsb`, which is slower between cores. */
__attribute__((target("avx512f"))) static void copy_avx512(void *target, const void *source)
{
    for (size_t i = 0; i < CHUNK; i += 64)
        _mm512_store_si512((char *)target + i, _mm512_load_si512((const char *)source + i));
}

__attribute__((target("avx2"))) static void copy_avx2(void *target, const void *source)
{
    for (size_t i = 0; i < CHUNK; i += 32)
        _mm256_store_si256((__m256i *)((char *)target + i),
                           _mm256_load_si256((const __m256i *)((const char *)source + i)));
}

static void copy_chunk(void *target, const void *source)
{
    if (__builtin_cpu_supports("avx512f"))
        copy_avx512(target, source);
    else if (__builtin_cpu_supports("avx2"))
        copy_avx2(target, source);
    else
        memcpy(target, source, CHUNK);
}

/* Seat 0 copies chunks into the ring, seat 1 out of it; each counts its own copying only. The
 * writer stays less than half a ring ahead: it overwrites what the reader has left long ago. */
static void *hand_over(void *argument)
{
    const struct seat *seat = argument;
    struct table *table = seat->table;
    _Alignas(LINE) static _Thread_local unsigned char private[CHUNK];
    _Atomic uint32_t *mine = seat->number == 0 ? &table->written : &table->read;
    uint64_t copying = 0;
    keep_to(seat->cpu);
    memset(private, 1, sizeof private);
    pthread_barrier_wait(&table->start);
    for (uint32_t i = 0; i < CHUNKS; i++) {
        unsigned char *slot = table->ring + (size_t)i * CHUNK % RING;
        /* Pairs with the other thread's store below. */
        while (seat->number == 0 ? i - atomic_load_explicit(&table->read, memory_order_acquire) >=
                                       RING / CHUNK / 2
                                 : atomic_load_explicit(&table->written, memory_order_acquire) == i)
            _mm_pause();
        uint64_t begin = mt_clock_now_ns();
        copy_chunk(seat->number == 0 ? slot : private, seat->number == 0 ? private : slot);
        copying += mt_clock_now_ns() - begin;
        atomic_store_explicit(mine, i + 1, memory_order_release);
    }
    table->took_ns[seat->number] = copying;
    return NULL;
}

static void measure_hand_over(struct table *table, struct figures *figures)
{
    for (int round = 0; round < ROUNDS; round++) {
        atomic_store(&table->written, 0);
        atomic_store(&table->read, 0);
        seat_threads(table, 2, table->cpus, hand_over);
        double bytes = (double)CHUNK * CHUNKS;
        figures->write_gbs = highest(figures->write_gbs, bytes / (double)table->took_ns[0]);
        figures->read_gbs = highest(figures->read_gbs, bytes / (double)table->took_ns[1]);
    }
}

/* SSE2 is part of x86-64; non-temporal stores of it reach the memory's speed. */
static void *stream(void *argument)
{
    const struct seat *seat = argument;
    keep_to(seat->cpu);
    const __m128i *source = map_touched(STREAM);
    __m128i *target = map_touched(STREAM);
    pthread_barrier_wait(&seat->table->start);
    uint64_t begin = mt_clock_now_ns();
    for (size_t i = 0; i < STREAM / sizeof *source; i++)
        _mm_stream_si128(&target[i], _mm_load_si128(&source[i]));
    _mm_sfence();
    seat->table->took_ns[seat->number] = mt_clock_now_ns() - begin;
    munmap((void *)source, STREAM);
    munmap(target, STREAM);
    return NULL;
}

static double measure_stream(struct table *table)
{
    double best = 0;
    for (int round = 0; round < 3; round++) {
        uint64_t longest = 1;
        seat_threads(table, table->cpu_count, table->cpus, stream);
        for (int i = 0; i < table->cpu_count; i++)
            longest = table->took_ns[i] > longest ? table->took_ns[i] : longest;
        best = highest(best, 2.0 * STREAM * table->cpu_count / (double)longest);
    }
    return best;
}

static double measure_clock(void)
{
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t begin = mt_clock_now_ns(), now = begin;
        for (int i = 0; i < BALLS; i++)
            now = mt_clock_now_ns();
        best = lowest(best, (double)(now - begin) / BALLS);
    }
    return best;
}

static const char help[] =
    "usage: perf-limits\n"
    "Print what this machine allows, as a line of JSON: times in ns, GB/s, and the last cache.\n"
    "Exit code 1 for a failure, 2 for wrong usage.\n";

int main(int argc, char **argv)
{
    static struct table table;
    struct figures figures = {0};
    cpu_set_t allowed;
    if (argc > 1) {
        int is_asked = argc == 2 && strcmp(argv[1], "--help") == 0;
        fputs(help, is_asked ? stdout : stderr);
        return is_asked ? 0 : 2;
    }
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        perror("perf-limits");
        return 1;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE && table.cpu_count < CPUS_MOST; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            table.cpus[table.cpu_count++] = cpu;
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    figures.llc_bytes = cache > 0 ? (uint64_t)cache : LLC_UNKNOWN;
    figures.clock_ns = measure_clock();
    figures.yield_ns = measure_ball(&table, table.cpus[0], table.cpus[0]);
    if (table.cpu_count > 1) {
        table.ring = map_touched(RING);
        figures.line_ns = measure_ball(&table, table.cpus[0], table.cpus[1]);
        measure_hand_over(&table, &figures);
    }
    figures.dram_gbs = measure_stream(&table);
    printf("{\"cpus\": %d, \"clock_ns\": %.1f, \"line_ns\": %.1f, \"yield_ns\": %.1f, "
           "\"write_GBs\": %.2f, \"read_GBs\": %.2f, \"dram_GBs\": %.2f, \"llc_bytes\": %llu}\n",
           table.cpu_count, figures.clock_ns, figures.line_ns, figures.yield_ns, figures.write_gbs,
           figures.read_gbs, figures.dram_gbs, (unsigned long long)figures.llc_bytes);
    return 0;
}
