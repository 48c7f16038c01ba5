/* SPDX-License-Identifier: Apache-2.0 */
/* Every algorithm over every transport with awkward counts, dtypes and ops in turn (sweep_test.c
 * has each with each), ranks as threads, against sums computed from the ranks' inputs by plain
 * integer arithmetic. */
#include <math.h>
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
#include "core/dtype.h"
#include "tests/support/calls.h"
#include "tests/support/ranks.h"
#include "tests/support/values.h"

enum { GUARD = 64, GUARD_BYTE = 0x5a };

/* The value of element i on a rank: small, so that every dtype holds every partial result exactly.
 */
static int input(int dtype, int op, int rank, uint64_t i)
{
    int is_unsigned = dtype == MANTA_UINT8 || dtype == MANTA_UINT16 || dtype == MANTA_UINT32 ||
                      dtype == MANTA_UINT64;
    int value = (int)((i * 7 + (uint64_t)rank * 3 + i / 5) % 3); /* 0, 1, 2 */
    if (op == MANTA_PROD)
        return rank < 3 ? value : 1;
    if (op == MANTA_SUM || op == MANTA_AVG)
        value = value == 2 ? (rank % 2 ? 0 : 1) : value;
    return is_unsigned || op == MANTA_AVG ? value : value - 1;
}

static double expected(int dtype, int op, int ranks, uint64_t i)
{
    int value = input(dtype, op, 0, i);
    for (int r = 1; r < ranks; r++)
        value = value_combine(op == MANTA_AVG ? MANTA_SUM : op, value, input(dtype, op, r, i));
    if (op != MANTA_AVG)
        return value;
    if (dtype <= MANTA_UINT64)
        return value / ranks;
    return (double)value / ranks;
}

/* A buffer with guards on both sides; the payload starts unaligned when `skew` says so. */
struct guarded {
    char *memory, *data;
    uint64_t bytes;
};

static struct guarded guarded_new(uint64_t bytes, int skew)
{
    struct guarded g = {.bytes = bytes};
    g.memory = malloc(bytes + 2 * GUARD + 8);
    assert_non_null(g.memory);
    memset(g.memory, GUARD_BYTE, bytes + 2 * GUARD + 8);
    g.data = g.memory + GUARD + skew;
    return g;
}

static int guarded_damaged(const struct guarded *g)
{
    for (int i = 0; i < GUARD - 8; i++) {
        if (g->data[-1 - i] != GUARD_BYTE || g->data[g->bytes + (uint64_t)i] != GUARD_BYTE)
            return 1;
    }
    return 0;
}

struct run {
    int collective, dtype, op, root, in_place, posted;
    uint64_t count;
};

static int finish(int rc, struct manta_request *request, const struct run *run)
{
    if (rc || !run->posted)
        return rc;
    do
        rc = manta_test(request);
    while (rc == MANTA_INPROGRESS && (rc = manta_wait(request, 1000000)) == MANTA_INPROGRESS);
    return rc;
}

static int launch(struct manta_comm *comm, const struct run *r, const void *src, void *dst)
{
    const struct test_call call = {.collective = r->collective,
                                   .dtype = r->dtype,
                                   .op = r->op,
                                   .root = r->root,
                                   .count = r->count};
    struct manta_request *request = NULL;
    int rc = r->posted ? test_call_post(comm, &call, src, dst, &request)
                       : test_call_block(comm, &call, src, dst);
    return finish(rc, request, r);
}

/* Exact, but for the one rounding of AVG's division. */
static int same(const struct run *r, double got, double want)
{
    if (r->op != MANTA_AVG)
        return got == want;
    return fabs(got - want) <= fabs(want) * value_epsilon(r->dtype);
}

/* Elements of SRC and DST on a rank, and where they lie in the whole vector. */
static uint64_t src_elements(const struct run *r, int ranks)
{
    return r->collective == MANTA_REDUCE_SCATTER ? r->count * (uint64_t)ranks : r->count;
}

static uint64_t dst_elements(const struct run *r, int ranks)
{
    return r->collective == MANTA_ALLGATHER ? r->count * (uint64_t)ranks : r->count;
}

static double want(const struct run *r, int rank, int ranks, uint64_t i)
{
    switch (r->collective) {
    case MANTA_BROADCAST:
        return input(r->dtype, r->op, r->root, i);
    case MANTA_ALLGATHER:
        return input(r->dtype, r->op, (int)(i / r->count), i % r->count);
    case MANTA_REDUCE_SCATTER:
        return expected(r->dtype, r->op, ranks, (uint64_t)rank * r->count + i);
    default:
        return expected(r->dtype, r->op, ranks, i);
    }
}

static int run_once(struct manta_comm *comm, const struct run *r)
{
    int rank = manta_comm_rank(comm), ranks = manta_comm_size(comm);
    size_t size = manta_dtype_size(r->dtype);
    int skew = r->count % 2 ? 0 : (int)(r->count % 8);
    struct guarded src = guarded_new(src_elements(r, ranks) * size, skew);
    struct guarded dst = guarded_new(dst_elements(r, ranks) * size, skew);
    char *from = src.data, *to = dst.data;

    if (r->in_place && r->collective == MANTA_ALLGATHER)
        from = dst.data + (uint64_t)rank * r->count * size;
    else if (r->in_place && r->collective == MANTA_REDUCE_SCATTER)
        to = src.data + (uint64_t)rank * r->count * size;
    else if (r->in_place || r->collective == MANTA_BROADCAST)
        from = dst.data;
    int reads = r->collective != MANTA_BROADCAST || rank == r->root;
    for (uint64_t i = 0; reads && i < src_elements(r, ranks); i++)
        value_put(r->dtype, from, i, input(r->dtype, r->op, rank, i));

    int rc = launch(comm, r, from, to);
    if (rc) {
        struct manta_error_info info = {.size = sizeof(info)};
        manta_comm_error(comm, &info);
        return rank_fail(comm, "%s returned %d: %s", mt_collective_name(r->collective), rc,
                         info.sentence);
    }
    int writes = r->collective == MANTA_REDUCE ? rank == r->root : r->collective != MANTA_BARRIER;
    for (uint64_t i = 0; writes && i < dst_elements(r, ranks); i++) {
        double got = value_get(r->dtype, to, i), wanted = want(r, rank, ranks, i);
        if (!same(r, got, wanted))
            return rank_fail(
                comm, "%s %s %s count %lu root %d in place %d: element %lu is %g, not %g",
                mt_collective_name(r->collective), mt_dtype_name(r->dtype), mt_op_name(r->op),
                (unsigned long)r->count, r->root, r->in_place, (unsigned long)i, got, wanted);
    }
    int keeps_src = !r->in_place && r->collective != MANTA_BROADCAST;
    for (uint64_t i = 0; keeps_src && i < src_elements(r, ranks); i++) {
        if (value_get(r->dtype, from, i) != input(r->dtype, r->op, rank, i))
            return rank_fail(comm, "%s changed its source at %lu",
                             mt_collective_name(r->collective), (unsigned long)i);
    }
    if (guarded_damaged(&src) || guarded_damaged(&dst))
        return rank_fail(comm, "%s wrote outside its buffers", mt_collective_name(r->collective));
    free(src.memory);
    free(dst.memory);
    return 0;
}

static const uint64_t counts[] = {0, 1, 2, 3, 7, 13, 16, 17, 61, 127, 1000, 4099, 70001};

/* The sanitizers' runs (TEST_QUICK) take some of what there is. */
static size_t step_of(size_t quick)
{
    return getenv("TEST_QUICK") ? quick : 1;
}

/* One collective over counts, dtypes, ops, roots, in place and not, blocking and posted. */
static int sweep(struct manta_comm *comm, void *arg)
{
    int collective = *(int *)arg, ranks = manta_comm_size(comm), variant = 0;
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c += step_of(3)) {
        for (int k = 0; k < 6; k++, variant++) {
            struct run r = {.collective = collective,
                            .count = counts[c],
                            .dtype = variant % MANTA_DTYPE_COUNT,
                            .op = variant * 5 % MANTA_OP_COUNT,
                            .root = variant % ranks,
                            .in_place = (k + (int)c) % 2, /* with either parity of a dtype */
                            .posted = k / 2 % 2};
            if (!mt_op_allowed(r.op, r.dtype))
                r.op = MANTA_SUM;
            if (run_once(comm, &r))
                return 1;
        }
    }
    return 0;
}

/* Can the algorithm run on these ranks? */
static int fits(const struct mt_algorithm *algorithm, const struct ranks_options *options)
{
    int fused_possible = strcmp(options->transports, "tcp") != 0 && options->nodes < 2 &&
                         !options->seats && options->ranks > 1;
    struct mt_topology *topology = ranks_topology(options);
    const struct mt_plan_request request = {.collective = algorithm->collective,
                                            .ranks = (uint32_t)options->ranks,
                                            .topology = topology};
    assert_non_null(topology);
    int fits =
        (!algorithm->fused || fused_possible) && (!algorithm->unfit || !algorithm->unfit(&request));
    mt_topology_free(topology);
    return fits;
}

/* Every algorithm that can run there; or those only whose plans depend on where ranks sit. */
static int sweep_on(const struct ranks_options *options, int placed_only)
{
    static const char *const variables[] = {
        [MANTA_ALLREDUCE] = "MANTA_ALLREDUCE",
        [MANTA_BROADCAST] = "MANTA_BROADCAST",
        [MANTA_REDUCE] = "MANTA_REDUCE",
        [MANTA_ALLGATHER] = "MANTA_ALLGATHER",
        [MANTA_REDUCE_SCATTER] = "MANTA_REDUCE_SCATTER",
        [MANTA_BARRIER] = "MANTA_BARRIER",
    };
    int ran = 0;
    for (int i = 0; mt_catalogue[i]; i++) {
        int collective = (int)mt_catalogue[i]->collective;
        if (collective >= MANTA_SEND || (placed_only && !mt_catalogue[i]->unfit) ||
            !fits(mt_catalogue[i], options))
            continue;
        setenv(variables[collective], mt_catalogue[i]->name, 1);
        int failed = ranks_run(options, sweep, &collective);
        unsetenv(variables[collective]);
        if (failed)
            fail_msg("%s by %s, %d ranks, %s, %d nodes, %s: %d ranks failed",
                     mt_collective_name(collective), mt_catalogue[i]->name, options->ranks,
                     options->transports, options->nodes, options->seats ? options->seats : "",
                     failed);
        ran++;
    }
    return ran;
}

static void sweep_all(const char *transports, int nodes, int ranks)
{
    const struct ranks_options options = {.ranks = ranks, .transports = transports, .nodes = nodes};
    assert_true(sweep_on(&options, 0) >= 6);
}

/* Eight threads that spin take the sanitizers minutes. */
static void sweep_sizes(const char *transports)
{
    static const int sizes[] = {3, 2, 5, 4, 8, 1};
    size_t count = getenv("TEST_QUICK") ? 4 : sizeof(sizes) / sizeof(sizes[0]);
    for (size_t i = 0; i < count; i += step_of(2))
        sweep_all(transports, 1, sizes[i]);
}

static void test_tcp(void **state)
{
    (void)state;
    sweep_sizes("tcp");
}

static void test_shm(void **state)
{
    (void)state;
    sweep_sizes("shm");
}

static void test_mixed(void **state)
{
    (void)state;
    sweep_all("shm,tcp", 2, 5);
    sweep_all("shm,tcp", 3, 3);
}

/* Hierarchical ones, with fused steps on each node and without, where nodes are alike and not, side
 * by side and in turn; in one segment, and in several that overlap. */
static void test_hierarchical(void **state)
{
    static const char *const seats[] = {"aabb",   "aab",    "abab",  "abbb",
                                        "aaabbc", "aabbcc", "abcabc"};
    static const char *const segments[] = {"1M", "4k"};
    (void)state;
    for (size_t i = 0; i < sizeof(seats) / sizeof(seats[0]); i += step_of(3)) {
        struct ranks_options options = {
            .ranks = (int)strlen(seats[i]), .transports = "shm,tcp", .seats = seats[i]};
        setenv("MANTA_SEGMENT", segments[i % 2], 1);
        assert_true(sweep_on(&options, 1) >= 8);
        options.transports = "tcp";
        if (i % step_of(2) == 0 && i < 3)
            assert_true(sweep_on(&options, 1) >= 8);
        unsetenv("MANTA_SEGMENT");
    }
}

/* The chosen algorithm, without override. */
static void test_defaults(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 4};
    for (int collective = MANTA_ALLREDUCE; collective <= MANTA_BARRIER; collective++)
        assert_int_equal(ranks_run(&options, sweep, &collective), 0);
}

static int exchange_pairs(struct manta_comm *comm, void *arg)
{
    (void)arg;
    int rank = manta_comm_rank(comm), ranks = manta_comm_size(comm);
    int next = (rank + 1) % ranks, previous = (rank + ranks - 1) % ranks;
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        uint64_t count = counts[c];
        int32_t *out = malloc((count + 1) * 4), *in = malloc((count + 1) * 4);
        struct manta_request *send, *recv;
        for (uint64_t i = 0; i < count; i++)
            out[i] = rank * 1000003 + (int32_t)i;
        if (manta_send_post(comm, out, count, MANTA_INT32, next, &send) ||
            manta_recv_post(comm, in, count, MANTA_INT32, previous, &recv))
            return rank_fail(comm, "post of send or recv");
        if (manta_wait(recv, UINT64_MAX) || manta_wait(send, UINT64_MAX))
            return rank_fail(comm, "wait for send or recv of %lu", (unsigned long)count);
        for (uint64_t i = 0; i < count; i++) {
            if (in[i] != previous * 1000003 + (int32_t)i)
                return rank_fail(comm, "element %lu of %lu is %d", (unsigned long)i,
                                 (unsigned long)count, in[i]);
        }
        free(out);
        free(in);
    }
    return 0;
}

static void test_send_recv(void **state)
{
    (void)state;
    static const char *const transports[] = {"tcp", "shm", "shm,tcp"};
    for (int t = 0; t < 3; t++) {
        for (int ranks = 2; ranks <= 5; ranks++) {
            const struct ranks_options options = {
                .ranks = ranks, .transports = transports[t], .nodes = t == 2 ? 2 : 1};
            assert_int_equal(ranks_run(&options, exchange_pairs, NULL), 0);
        }
    }
}

/* Many calls of several kinds posted at once, waited for in another order. */
static int posted_at_once(struct manta_comm *comm, void *arg)
{
    (void)arg;
    enum { CALLS = 12, COUNT = 3000 };
    static _Thread_local int32_t src[CALLS][COUNT], dst[CALLS][COUNT];
    struct manta_request *requests[CALLS];
    int rank = manta_comm_rank(comm), ranks = manta_comm_size(comm);
    for (int k = 0; k < CALLS; k++) {
        for (int i = 0; i < COUNT; i++)
            src[k][i] = rank + k * i;
        if (k % 3 == 2)
            memcpy(dst[k], src[k], sizeof(src[k]));
        int rc =
            k % 3 == 2
                ? manta_broadcast_post(comm, dst[k], COUNT, MANTA_INT32, k % ranks, &requests[k])
                : manta_allreduce_post(comm, src[k], dst[k], (uint64_t)(k % 2 ? 5 : COUNT),
                                       MANTA_INT32, MANTA_SUM, &requests[k]);
        if (rc)
            return rank_fail(comm, "post %d: %d", k, rc);
    }
    for (int k = CALLS - 1; k >= 0; k--) {
        int rc = manta_wait(requests[k], UINT64_MAX);
        if (rc)
            return rank_fail(comm, "wait %d: %d", k, rc);
        int count = k % 3 != 2 && k % 2 ? 5 : COUNT;
        for (int i = 0; i < count; i++) {
            int wanted = k % 3 == 2 ? k % ranks + k * i : ranks * (ranks - 1) / 2 + ranks * k * i;
            if (dst[k][i] != wanted)
                return rank_fail(comm, "call %d element %d is %d, not %d", k, i, dst[k][i], wanted);
        }
    }
    return 0;
}

static void test_posted_at_once(void **state)
{
    (void)state;
    static const char *const transports[] = {"tcp", "shm", "shm,tcp"};
    for (int t = 0; t < 3; t++) {
        const struct ranks_options options = {
            .ranks = 4, .transports = transports[t], .nodes = t == 2 ? 2 : 1};
        assert_int_equal(ranks_run(&options, posted_at_once, NULL), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_shm),
        cmocka_unit_test(test_hierarchical),
        cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_send_recv),
        cmocka_unit_test(test_posted_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
