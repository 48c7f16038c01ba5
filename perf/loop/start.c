/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/loop/perf.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <manta/manta.h>

#include "core/clock.h"

enum {
    LINE = 64,
    SPINS = 2000,       /* looks, where every rank has a CPU */
    LOOKS = 1 << 16,    /* looks before the clock is looked at */
    PATIENCE_S = 600,   /* a call of a slow library may take minutes, not longer */
    ROUNDS = 250,       /* of the ball, in a batch */
    BATCHES = 4,        /* the fastest counts: it was not interrupted */
    NAP_NS = 100 * 1000 /* of ranks that must not disturb those who measure */
};

/* Each field on a cache line of its own. */
struct page {
    _Alignas(LINE) uint64_t nonce;
    _Alignas(LINE) _Atomic uint32_t arrived;
    _Alignas(LINE) _Atomic uint32_t generation;
    _Alignas(LINE) _Atomic uint32_t ball;
    _Alignas(LINE) _Atomic uint32_t measured; /* lines so far */
    _Alignas(LINE) _Atomic uint32_t line_ns;
    _Alignas(LINE) _Atomic int cpu[2]; /* where ranks 0 and 1 measure */
};

struct perf_start {
    const struct perf_backend *backend;
    int rank, ranks;
    unsigned spins;
    struct page *page; /* NULL: not one host */
    uint32_t measured;
    const char *binding;
};

struct patience {
    unsigned looks, spins; /* spins: looks before the CPU is given to another rank */
    uint64_t deadline_ns;  /* 0: the clock has not been looked at yet */
};

/* Nonzero: waited too long, and said so. */
static int look_again(const struct perf_start *start, struct patience *patience)
{
    if (++patience->looks % patience->spins == 0)
        sched_yield();
    else
        atomic_signal_fence(memory_order_seq_cst); /* just look again */
    if (patience->looks % LOOKS != 0)
        return 0;
    uint64_t now = mt_clock_now_ns();
    if (patience->deadline_ns == 0)
        patience->deadline_ns = now + PATIENCE_S * MT_SECOND;
    if (now < patience->deadline_ns)
        return 0;
    fprintf(stderr,
            "%s: rank %d has waited %d s for the other ranks to come to the start; look "
            "whether one has died or hangs\n",
            start->backend->name, start->rank, PATIENCE_S);
    return -1;
}

static int meet(const struct perf_start *start)
{
    struct page *page = start->page;
    struct patience patience = {.spins = start->spins};
    uint32_t generation = atomic_load_explicit(&page->generation, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&page->arrived, 1, memory_order_acq_rel) + 1 ==
        (uint32_t)start->ranks) {
        atomic_store_explicit(&page->arrived, 0, memory_order_relaxed);
        /* Pairs with the load below: who sees it sees `arrived` at 0. */
        atomic_store_explicit(&page->generation, generation + 1, memory_order_release);
        return 0;
    }
    while (atomic_load_explicit(&page->generation, memory_order_acquire) == generation)
        if (look_again(start, &patience) != 0)
            return -1;
    return 0;
}

/* A rank that may run on several CPUs keeps to one of them, rank 0 to the first and rank 1 to the
 * last. */
static void keep_to_one_cpu(const struct perf_start *start, const cpu_set_t *allowed)
{
    cpu_set_t one;
    int chosen = -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, allowed) && (chosen < 0 || start->rank == 1))
            chosen = cpu;
    CPU_ZERO(&one);
    CPU_SET(chosen, &one);
    sched_setaffinity(0, sizeof one, &one);
}

/* The ball goes to and fro between ranks 0 and 1; half a round is one line from core to core. */
static int play(const struct perf_start *start, uint32_t *ns_out)
{
    struct page *page = start->page;
    uint64_t best = UINT64_MAX;
    uint32_t ball = (uint32_t)start->rank;
    for (int batch = 0; batch < BATCHES; batch++) {
        uint64_t begin = mt_clock_now_ns();
        for (int i = 0; i < ROUNDS; i++, ball += 2) {
            struct patience patience = {.spins = SPINS};
            /* Pairs with the store of the other rank. */
            while (atomic_load_explicit(&page->ball, memory_order_acquire) != ball)
                if (look_again(start, &patience) != 0)
                    return -1;
            atomic_store_explicit(&page->ball, ball + 1, memory_order_release);
        }
        uint64_t took = mt_clock_now_ns() - begin;
        best = took < best ? took : best;
    }
    *ns_out = (uint32_t)(best / (2 * ROUNDS));
    return 0;
}

/* Ranks 0 and 1 measure, the others sleep. */
static int measure_line(struct perf_start *start)
{
    struct page *page = start->page;
    uint32_t ns = 0;
    if (start->rank >= 2) {
        const struct timespec nap = {.tv_nsec = NAP_NS};
        uint64_t deadline = mt_clock_now_ns() + PATIENCE_S * MT_SECOND;
        if (meet(start) != 0)
            return -1;
        /* Pairs with rank 0's store. */
        while (atomic_load_explicit(&page->measured, memory_order_acquire) != start->measured)
            if (mt_clock_now_ns() > deadline)
                return -1;
            else
                nanosleep(&nap, NULL);
        return 0;
    }
    if (start->rank == 0)
        atomic_store_explicit(&page->ball, 0, memory_order_relaxed);
    atomic_store_explicit(&page->cpu[start->rank], sched_getcpu(), memory_order_relaxed);
    int rc = meet(start); /* orders both stores before the loads below */
    if (rc == 0 && atomic_load_explicit(&page->cpu[0], memory_order_relaxed) !=
                       atomic_load_explicit(&page->cpu[1], memory_order_relaxed))
        rc = play(start, &ns);
    if (start->rank == 0) {
        atomic_store_explicit(&page->line_ns, ns, memory_order_relaxed);
        atomic_store_explicit(&page->measured, start->measured, memory_order_release);
    }
    return rc;
}

int perf_start_line(struct perf_start *start, unsigned *ns_out)
{
    cpu_set_t allowed;
    *ns_out = 0;
    if (start->page == NULL || start->ranks < 2)
        return 0;
    start->measured++;
    int bound = start->rank >= 2 || sched_getaffinity(0, sizeof allowed, &allowed) != 0 ||
                CPU_COUNT(&allowed) == 1;
    if (!bound)
        keep_to_one_cpu(start, &allowed);
    int rc = measure_line(start);
    if (!bound)
        sched_setaffinity(0, sizeof allowed, &allowed);
    if (rc == 0)
        rc = meet(start);
    *ns_out = atomic_load_explicit(&start->page->line_ns, memory_order_relaxed);
    return rc;
}

/* Each rank tells the one CPU that it is bound to. */
static int compare_bindings(struct perf_start *start)
{
    cpu_set_t allowed;
    uint64_t *cpus = calloc((size_t)start->ranks, sizeof *cpus);
    int bound = 0, apart = 1;
    if (cpus == NULL)
        return -1;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) == 1)
        while (!CPU_ISSET((int)cpus[start->rank]++, &allowed))
            ; /* the number of the CPU and one */
    int rc = start->backend->maximum(cpus, (size_t)start->ranks);
    for (int r = 0; r < start->ranks; r++) {
        bound += cpus[r] > 0;
        for (int other = 0; other < r; other++)
            apart &= cpus[r] != cpus[other];
    }
    start->binding = bound == 0 ? "none" : bound == start->ranks && apart ? "core" : "mixed";
    free(cpus);
    return rc;
}

int perf_start_open(const struct perf_backend *backend, const struct perf_world *world,
                    struct perf_start **start_out)
{
    struct perf_start *start = calloc(1, sizeof *start);
    void *page;
    if (start == NULL)
        return -1;
    start->backend = backend;
    start->rank = world->rank;
    start->ranks = world->ranks;
    start->spins = world->ranks <= sysconf(_SC_NPROCESSORS_ONLN) ? SPINS : 1;
    if (perf_shared_open(backend, world->rank, sizeof *start->page, &page) != 0)
        goto err_free;
    start->page = page;
    if (compare_bindings(start) != 0)
        goto err_close;
    *start_out = start;
    return 0;
err_close:
    perf_shared_close(start->page, sizeof *start->page);
err_free:
    free(start);
    return -1;
}

int perf_start_together(struct perf_start *start)
{
    struct perf_call barrier = {.collective = MANTA_BARRIER};
    return start->page != NULL ? meet(start) : start->backend->run(&barrier, NULL, NULL);
}

const char *perf_start_binding(const struct perf_start *start)
{
    return start->binding;
}

int perf_start_is_shared(const struct perf_start *start)
{
    return start->page != NULL;
}

void perf_start_close(struct perf_start *start)
{
    if (start == NULL)
        return;
    perf_shared_close(start->page, sizeof *start->page);
    free(start);
}
