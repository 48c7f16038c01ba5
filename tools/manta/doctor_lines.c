/* SPDX-License-Identifier: Apache-2.0 */
/* How far CPUs are from each other, found as ranks find it. */
#include "tools/manta/doctor.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "core/clock.h"
#include "topology/cpus.h"
#include "transport/registry.h"
#include "transport/shm/distance.h"

/* Lines far apart, each once in an order that is not guessed (x -> FACTOR x + 7 modulo LINES):
 * nothing is fetched before it is asked for. */
enum { LINES = 256, LINE_WORDS = 40, FACTOR = 13 };
#define PATIENCE_NS (100 * (uint64_t)MT_MS)
#define CALIBRATION_NS (25 * (uint64_t)MT_MS)

struct board {
    _Alignas(64) _Atomic uint64_t words[LINES][LINE_WORDS];
    _Alignas(64) _Atomic int is_written;
};

struct classes {
    uint32_t count[2], least_ns[2], most_ns[2]; /* near, far */
};

static void keep_to(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

struct writer {
    struct board *board;
    int cpu;
};

static void *write_board(void *arg)
{
    struct writer *writer = arg;
    keep_to(writer->cpu);
    for (int i = 0; i < LINES; i++)
        atomic_store_explicit(&writer->board->words[i][0], (uint64_t)writer->cpu + 2,
                              memory_order_relaxed);
    /* Pairs with the load in measure(). */
    atomic_store_explicit(&writer->board->is_written, 1, memory_order_release);
    return NULL;
}

/* What this thread finds about a CPU: 0 if it did not come to write in time. */
static int measure(struct mt_shm_ruler *ruler, struct board *board, int cpu,
                   struct mt_shm_distance *distance)
{
    struct writer writer = {board, cpu};
    uint64_t until_ns = mt_clock_now_ns() + PATIENCE_NS;
    pthread_t thread;
    mt_shm_distance_open(ruler, distance);
    atomic_store(&board->is_written, 0);
    if (pthread_create(&thread, NULL, write_board, &writer) != 0)
        return 0;
    /* Pairs with the store in write_board(). */
    while (!atomic_load_explicit(&board->is_written, memory_order_acquire) &&
           mt_clock_now_ns() < until_ns)
        ;
    int is_written = atomic_load(&board->is_written);
    for (int i = 0, line = 0; i < LINES && is_written; i++) {
        uint64_t ticks;
        line = (line * FACTOR + 7) % LINES;
        mt_shm_distance_load(&board->words[line][0], &ticks);
        mt_shm_distance_note(ruler, distance, ticks);
    }
    pthread_join(thread, NULL);
    return is_written && distance->line_ns != 0;
}

static void add(struct classes *classes, const struct mt_shm_distance *distance)
{
    uint32_t class = distance->is_far, ns = distance->line_ns;
    if (classes->count[class] == 0 || ns < classes->least_ns[class])
        classes->least_ns[class] = ns;
    if (ns > classes->most_ns[class])
        classes->most_ns[class] = ns;
    classes->count[class]++;
}

static void say_class(const struct classes *classes, int class, char *text, size_t room)
{
    uint32_t count = classes->count[class], least = classes->least_ns[class];
    char range[32] = "", most[16] = "";
    if (least < classes->most_ns[class])
        snprintf(most, sizeof most, "-%u", classes->most_ns[class]);
    if (count > 0)
        snprintf(range, sizeof range, "%u%s ns to ", least, most);
    snprintf(text, room, "%s%u %s CPU%s", range, count, class ? "far" : "near",
             count == 1 ? "" : "s");
}

/* From the first CPU to all others that this process may use. */
static void look_from(int first, const struct mt_cpus *cpus, struct mt_shm_ruler *ruler)
{
    static struct board board;
    struct classes classes = {{0}, {0}, {0}};
    char near[64], far[64];
    for (int cpu = first + 1; cpu < 64 * MT_CPUS_WORDS && cpu < CPU_SETSIZE; cpu++) {
        struct mt_shm_distance distance;
        if ((cpus->words[cpu / 64] >> cpu % 64 & 1) && measure(ruler, &board, cpu, &distance))
            add(&classes, &distance);
    }
    say_class(&classes, 0, near, sizeof near);
    say_class(&classes, 1, far, sizeof far);
    if (classes.count[0] + classes.count[1] > 0)
        doctor_say(DOCTOR_OK, "cache lines",
                   "from CPU %d %s, %s (ranks copy past the caches for far ones; "
                   "MANTA_SHM_DISTANCE)",
                   first, near, far);
}

void doctor_cache_lines(void)
{
    const struct timespec calibration = {0, (long)CALIBRATION_NS};
    struct mt_shm_ruler ruler;
    struct mt_cpus cpus;
    cpu_set_t before;
    int first = 0;
    mt_cpus_of_thread(&cpus);
    while (first < 64 * MT_CPUS_WORDS && !(cpus.words[first / 64] >> first % 64 & 1))
        first++;
    if (first >= CPU_SETSIZE || sched_getaffinity(0, sizeof before, &before) != 0)
        return;
    if (mt_shm_ruler_open(mt_transport_host(), &ruler) != 0)
        return;                    /* the configuration is complained of */
    nanosleep(&calibration, NULL); /* the rate of the counter */
    keep_to(first);
    look_from(first, &cpus, &ruler);
    sched_setaffinity(0, sizeof before, &before);
}
