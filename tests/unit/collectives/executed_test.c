/* SPDX-License-Identifier: Apache-2.0 */
/* The engine executes the very records that the verifier proves: under random delay and reordering
 * the messages that each rank sends and receives are those of its plan, one for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "collectives/comm.h"
#include "core/dtype.h"
#include "plan/verify.h"
#include "tests/support/ranks.h"
#include "transport/sim/sim.h"

enum { COUNT = 20011, ROOT = 1, SEGMENTS = 5 }; /* of a vector */

static const uint64_t element_bytes = sizeof(int32_t);

/* A message, or a fused step, as a rank sees it. */
struct seen {
    uint32_t kind, peer, number; /* kind: of the step */
    uint64_t segment;
};

static int compare_seen(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct seen));
}

static int call(struct manta_comm *comm, uint32_t collective, const int32_t *src, int32_t *dst)
{
    switch (collective) {
    case MANTA_ALLREDUCE:
        return manta_allreduce(comm, src, dst, COUNT, MANTA_INT32, MANTA_SUM);
    case MANTA_BROADCAST:
        return manta_broadcast(comm, dst, COUNT, MANTA_INT32, ROOT);
    case MANTA_REDUCE:
        return manta_reduce(comm, src, dst, COUNT, MANTA_INT32, MANTA_SUM, ROOT);
    case MANTA_ALLGATHER:
        return manta_allgather(comm, src, dst, COUNT, MANTA_INT32);
    case MANTA_REDUCE_SCATTER:
        return manta_reduce_scatter(comm, src, dst, COUNT, MANTA_INT32, MANTA_SUM);
    default:
        return manta_barrier(comm);
    }
}

/* Every send, receive and fused step of the plan, in every segment; none of these is empty. */
static size_t list_expected(const struct mt_entry *entry, uint64_t segments, struct seen *out)
{
    const struct manta_plan *plan = entry->plan;
    size_t count = 0;
    for (uint64_t k = 0; k < segments; k++) {
        for (uint32_t i = 0; i < plan->step_count; i++) {
            const struct manta_plan_step *step = &plan->steps[i];
            if (step->kind == MANTA_PLAN_COPY || step->kind == MANTA_PLAN_REDUCE)
                continue;
            memset(&out[count], 0, sizeof(out[count]));
            out[count].kind = step->kind;
            out[count].peer = step->peer;
            out[count].number = step->number;
            out[count++].segment = k;
        }
    }
    return count;
}

static uint32_t kind_of(enum mt_sim_operation operation)
{
    if (operation == MT_SIM_FUSED)
        return MANTA_PLAN_FUSED;
    return operation == MT_SIM_SEND ? MANTA_PLAN_SEND : MANTA_PLAN_RECV;
}

static size_t list_seen(const struct manta_comm *comm, struct seen *out, size_t room, int *bad_out)
{
    size_t events, count = 0;
    const struct mt_sim_event *log = mt_sim_log(comm->endpoints[0].handle, &events);
    *bad_out = 0;
    for (size_t i = 0; i < events && count < room; i++) {
        if (log[i].id.call != comm->sequence || log[i].id.epoch != comm->group->epoch)
            continue;
        *bad_out |= log[i].status != 0 || log[i].bytes == 0;
        memset(&out[count], 0, sizeof(out[count]));
        out[count].kind = kind_of(log[i].operation);
        out[count].peer = log[i].peer;
        out[count].number = log[i].id.number;
        out[count++].segment = log[i].id.segment;
    }
    return count;
}

static uint64_t segments_of(const struct manta_comm *comm, const struct mt_entry *entry,
                            uint32_t collective)
{
    uint64_t count = collective == MANTA_BARRIER ? 1 : COUNT;
    uint64_t bytes = comm->cost.segment_bytes;
    if (entry->plan->layout == MANTA_PLAN_RANKS)
        bytes /= comm->ranks;
    uint64_t elements = bytes / element_bytes / 64 * 64;
    if (entry->plan->whole || count <= elements)
        return 1;
    return (count + elements - 1) / elements;
}

/* Does a node go on with a segment only when the one before it has come back from the network? Of
 * an allreduce, the steps on the node are two. */
static int levels_wait(const struct manta_plan *plan, const struct seen *seen, size_t count)
{
    uint64_t begun = 0, ended = 0;
    int is_one = plan->collective == MANTA_ALLREDUCE && plan->fused_count == 2;
    for (size_t i = 0; is_one && i < count; i++) {
        if (seen[i].kind != MANTA_PLAN_FUSED)
            continue;
        begun += seen[i].number == 0;
        ended += seen[i].number == 1;
        /* the last segment has none after it */
        if (seen[i].number == 1 && begun < ended + 1 && seen[i].segment + 1 < SEGMENTS)
            return 1;
    }
    return 0;
}

static int executed(struct manta_comm *comm, void *arg)
{
    const struct mt_algorithm *algorithm = arg;
    uint64_t whole = (uint64_t)COUNT * comm->ranks;
    int32_t *src = calloc(whole, element_bytes), *dst = calloc(whole, element_bytes);
    int bad;
    if (mt_sim_log_start(comm->endpoints[0].handle))
        return rank_fail(comm, "no log");
    int rc = call(comm, algorithm->collective, src, dst);
    if (rc)
        return rank_fail(comm, "%s: %d", algorithm->name, rc);
    const struct mt_entry *entry = comm->cache.count == 1 ? comm->cache.newest : NULL;
    if (!entry || entry->algorithm != algorithm)
        return rank_fail(comm, "another algorithm than %s ran", algorithm->name);
    uint64_t segments = segments_of(comm, entry, algorithm->collective);
    size_t room = 4 * segments * entry->plan->step_count + 16;
    struct seen *want = calloc(room, sizeof(*want)), *got = calloc(room, sizeof(*got));
    size_t wanted = list_expected(entry, segments, want), found = list_seen(comm, got, room, &bad);
    if (levels_wait(entry->plan, got, found))
        return rank_fail(comm, "%s: a segment's first step waits for the last one before it",
                         algorithm->name);
    qsort(want, wanted, sizeof(*want), compare_seen);
    qsort(got, found, sizeof(*got), compare_seen);
    if (bad || wanted != found || memcmp(want, got, wanted * sizeof(*want)) != 0)
        return rank_fail(comm, "%s %s: %zu messages in the plan, %zu seen, or they differ",
                         mt_collective_name((int)algorithm->collective), algorithm->name, wanted,
                         found);
    if (comm->ranks > 1 && wanted == 0 && comm->rank == ROOT)
        return rank_fail(comm, "%s has no message to compare", algorithm->name);
    free(want);
    free(got);
    free(src);
    free(dst);
    return manta_barrier(comm);
}

static void force(const struct mt_algorithm *algorithm, int on)
{
    char name[64];
    const char *collective = mt_collective_name((int)algorithm->collective);
    size_t used = (size_t)snprintf(name, sizeof(name), "MANTA_");
    for (; *collective; collective++)
        name[used++] = (char)(*collective >= 'a' ? *collective - 'a' + 'A' : *collective);
    name[used] = '\0';
    if (on)
        setenv(name, algorithm->name, 1);
    else
        unsetenv(name);
}

static void run_all(const char *inner)
{
    static const int sizes[] = {2, 3, 4, 5, 7, 8};
    setenv("MANTA_SIM_INNER", inner, 1);
    setenv("MANTA_FAULT", "delay=100us,reorder", 1);
    setenv("MANTA_SEGMENT", "16k", 1);
    for (int i = 0; mt_catalogue[i]; i++) {
        if (mt_catalogue[i]->fused || mt_catalogue[i]->unfit ||
            mt_catalogue[i]->collective >= MANTA_SEND)
            continue;
        for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
            const struct ranks_options options = {.ranks = sizes[s], .transports = "sim"};
            force(mt_catalogue[i], 1);
            int failed = ranks_run(&options, executed, (void *)(uintptr_t)mt_catalogue[i]);
            force(mt_catalogue[i], 0);
            assert_int_equal(failed, 0);
        }
    }
    unsetenv("MANTA_SEGMENT");
    unsetenv("MANTA_FAULT");
    unsetenv("MANTA_SIM_INNER");
}

/* Hierarchical plans: nodes side by side, in turn, of two sizes; with fused steps and without. */
static void run_seats(const char *inner)
{
    static const char *const seats[] = {"aabb", "abab", "aaabb"};
    setenv("MANTA_SIM_INNER", inner, 1);
    setenv("MANTA_FAULT", "delay=100us,reorder", 1);
    setenv("MANTA_SEGMENT", "16k", 1);
    for (int i = 0; mt_catalogue[i]; i++) {
        for (size_t s = 0; s < sizeof(seats) / sizeof(seats[0]) && mt_catalogue[i]->unfit; s++) {
            const struct ranks_options options = {
                .ranks = (int)strlen(seats[s]), .transports = "sim", .seats = seats[s]};
            struct mt_topology *topology = ranks_topology(&options);
            const struct mt_plan_request request = {.ranks = (uint32_t)options.ranks,
                                                    .topology = topology};
            int fits = !mt_catalogue[i]->unfit(&request), failed = 0;
            mt_topology_free(topology);
            force(mt_catalogue[i], 1);
            if (fits)
                failed = ranks_run(&options, executed, (void *)(uintptr_t)mt_catalogue[i]);
            force(mt_catalogue[i], 0);
            assert_int_equal(failed, 0);
        }
    }
    unsetenv("MANTA_SEGMENT");
    unsetenv("MANTA_FAULT");
    unsetenv("MANTA_SIM_INNER");
}

static void test_on_nodes(void **state)
{
    (void)state;
    run_seats("shm,tcp");
    run_seats("tcp");
}

static void test_tcp(void **state)
{
    (void)state;
    run_all("tcp");
}

static void test_shm(void **state)
{
    (void)state;
    run_all("shm");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tcp), cmocka_unit_test(test_shm),
                                       cmocka_unit_test(test_on_nodes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
