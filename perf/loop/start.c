/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/loop/perf.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <manta/manta.h>

#include "core/clock.h"

enum { LINE = 64, SPINS = 2000, ROUNDS = 1000, BATCHES = 8 };

/* Each field on a cache line of its own. */
struct page {
    _Alignas(LINE) uint64_t nonce;
    _Alignas(LINE) _Atomic uint32_t arrived;
    _Alignas(LINE) _Atomic uint32_t generation;
    _Alignas(LINE) _Atomic uint32_t ball;
};

struct perf_start {
    const struct perf_backend *backend;
    int rank, ranks;
    int spins;         /* looks before the CPU is given to another rank */
    struct page *page; /* NULL: not one host */
    unsigned line_ns;
};

/* How the others find rank 0's page: through its descriptor, so nothing has a name in the file
 * system and nothing stays behind. */
struct invitation {
    uint64_t nonce;
    int64_t pid, fd;
};

static struct page *map_page(int fd)
{
    void *page = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return page != MAP_FAILED ? page : NULL;
}

static struct page *make_page(struct invitation *invitation)
{
    int fd = memfd_create("perf-start", MFD_CLOEXEC);
    if (fd < 0)
        return NULL;
    struct page *page = NULL;
    if (ftruncate(fd, sizeof *page) == 0 &&
        getrandom(&invitation->nonce, sizeof invitation->nonce, 0) > 0)
        page = map_page(fd);
    if (page == NULL) {
        close(fd);
        return NULL;
    }
    page->nonce = invitation->nonce;
    invitation->pid = getpid();
    invitation->fd = fd;
    return page;
}

/* On another host, or in another pid namespace, the path leads nowhere or to another nonce. */
static struct page *find_page(const struct invitation *invitation)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)invitation->pid,
             (long long)invitation->fd);
    int fd = invitation->pid > 0 ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return NULL;
    struct page *page = NULL;
    if (lseek(fd, 0, SEEK_END) >= (off_t)sizeof *page)
        page = map_page(fd);
    close(fd);
    if (page != NULL && page->nonce != invitation->nonce) {
        munmap(page, sizeof *page);
        page = NULL;
    }
    return page;
}

static void look_again(const struct perf_start *start, int *looks)
{
    if (++*looks % start->spins == 0)
        sched_yield();
    else
        atomic_signal_fence(memory_order_seq_cst); /* just look again */
}

static void meet(const struct perf_start *start)
{
    struct page *page = start->page;
    int looks = 0;
    uint32_t generation = atomic_load_explicit(&page->generation, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&page->arrived, 1, memory_order_acq_rel) + 1 ==
        (uint32_t)start->ranks) {
        atomic_store_explicit(&page->arrived, 0, memory_order_relaxed);
        /* Pairs with the load below: who sees it sees `arrived` at 0. */
        atomic_store_explicit(&page->generation, generation + 1, memory_order_release);
        return;
    }
    while (atomic_load_explicit(&page->generation, memory_order_acquire) == generation)
        look_again(start, &looks);
}

/* The ball goes to and fro between ranks 0 and 1; half a round is one line from core to core. */
static void measure_line(struct perf_start *start)
{
    uint64_t best = UINT64_MAX;
    for (int batch = 0; batch < BATCHES; batch++) {
        meet(start);
        uint64_t begin = mt_clock_now_ns();
        uint32_t base = (uint32_t)batch * 2 * ROUNDS;
        for (uint32_t i = 0; start->rank < 2 && i < ROUNDS; i++) {
            int looks = 0;
            uint32_t mine = base + 2 * i + (uint32_t)start->rank;
            while (atomic_load_explicit(&start->page->ball, memory_order_acquire) != mine)
                look_again(start, &looks);
            atomic_store_explicit(&start->page->ball, mine + 1, memory_order_release);
        }
        uint64_t took = mt_clock_now_ns() - begin;
        best = took < best ? took : best;
    }
    start->line_ns = (unsigned)(best / (2 * ROUNDS));
}

int perf_start_open(const struct perf_backend *backend, const struct perf_world *world,
                    struct perf_start **start_out)
{
    struct perf_start *start = calloc(1, sizeof *start);
    struct invitation invitation = {0};
    if (start == NULL)
        return -1;
    start->backend = backend;
    start->rank = world->rank;
    start->ranks = world->ranks;
    start->spins = world->ranks <= sysconf(_SC_NPROCESSORS_ONLN) ? SPINS : 1;
    if (world->rank == 0)
        start->page = make_page(&invitation);
    if (backend->share(&invitation, sizeof invitation) != 0)
        goto err_close;
    if (world->rank != 0)
        start->page = find_page(&invitation);
    uint64_t lost = start->page == NULL; /* one without it: nobody uses it */
    if (backend->maximum(&lost, 1) != 0)
        goto err_close;
    if (world->rank == 0 && invitation.pid > 0)
        close((int)invitation.fd);
    if (lost && start->page != NULL) {
        munmap(start->page, sizeof *start->page);
        start->page = NULL;
    }
    if (start->page != NULL && world->ranks > 1 && start->spins > 1)
        measure_line(start);
    *start_out = start;
    return 0;
err_close:
    perf_start_close(start);
    return -1;
}

int perf_start_together(struct perf_start *start)
{
    struct perf_call barrier = {.collective = MANTA_BARRIER};
    if (start->page == NULL)
        return start->backend->run(&barrier, NULL, NULL);
    meet(start);
    return 0;
}

unsigned perf_start_line_ns(const struct perf_start *start)
{
    return start->line_ns;
}

int perf_start_is_shared(const struct perf_start *start)
{
    return start->page != NULL;
}

void perf_start_close(struct perf_start *start)
{
    if (start->page != NULL)
        munmap(start->page, sizeof *start->page);
    free(start);
}
