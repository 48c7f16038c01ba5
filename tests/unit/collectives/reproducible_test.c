/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MANTA_REPRODUCIBLE=1: the bits of a reduction are those of the binary tree over ranks, split at
 * the largest power of two below the size, whatever the transport and the nodes. Also without it,
 * every rank gets the same bits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "core/dtype.h"
#include "core/reduce.h"
#include "tests/support/ranks.h"

enum { COUNT = 12347, RANKS_MAX = 8, PART = COUNT / RANKS_MAX };

static const int dtypes[] = {MANTA_FLOAT32, MANTA_BFLOAT16, MANTA_FLOAT16, MANTA_FLOAT8_E4M3};

/* Finite numbers of very different size, so that another order of adding gives other bits. */
static void fill(int dtype, int rank, void *buffer)
{
    uint64_t state = 88172645463325252u + (uint64_t)rank * 7919 + (uint64_t)dtype;
    for (uint64_t i = 0; i < COUNT; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        uint32_t bits = (uint32_t)state;
        switch (dtype) {
        case MANTA_FLOAT32:
            bits = (bits & 0x807fffff) | (110 + bits / 0x01000000 % 30) << 23;
            memcpy((char *)buffer + 4 * i, &bits, 4);
            break;
        case MANTA_BFLOAT16:
            bits = (bits & 0x807f) | (120 + bits / 0x01000000 % 14) << 7;
            memcpy((char *)buffer + 2 * i, &bits, 2);
            break;
        case MANTA_FLOAT16:
            bits = (bits & 0x83ff) | (8 + bits / 0x01000000 % 14) << 10;
            memcpy((char *)buffer + 2 * i, &bits, 2);
            break;
        default:
            bits = (bits & 0x87) | (3 + bits / 0x01000000 % 8) << 3;
            memcpy((char *)buffer + i, &bits, 1);
        }
    }
}

/* The value of the tree over ranks first .. first + ranks - 1. */
static void tree(int dtype, int first, int ranks, char *out)
{
    if (ranks == 1) {
        fill(dtype, first, out);
        return;
    }
    int left = 1;
    while (left * 2 < ranks)
        left *= 2;
    char *right = malloc(COUNT * manta_dtype_size(dtype));
    assert_non_null(right);
    tree(dtype, first, left, out);
    tree(dtype, first + left, ranks - left, right);
    mt_reduce(dtype, MANTA_SUM, out, out, right, COUNT);
    free(right);
}

struct job {
    char *wanted[4]; /* by dtype; NULL: compare the ranks with each other only */
    char *seen[RANKS_MAX][4];
};

static int reduce_all(struct manta_comm *comm, void *arg)
{
    struct job *job = arg;
    int rank = manta_comm_rank(comm);
    for (int d = 0; d < 4; d++) {
        size_t size = manta_dtype_size(dtypes[d]);
        char *src = malloc(COUNT * size), *dst = malloc(COUNT * size);
        fill(dtypes[d], rank, src);
        if (manta_allreduce(comm, src, dst, COUNT, dtypes[d], MANTA_SUM))
            return rank_fail(comm, "allreduce");
        if (job->wanted[d] && memcmp(dst, job->wanted[d], COUNT * size) != 0)
            return rank_fail(comm, "allreduce of %s is not the tree's", mt_dtype_name(dtypes[d]));
        job->seen[rank][d] = dst;
        char *other = malloc(COUNT * size);
        if (manta_reduce(comm, src, other, COUNT, dtypes[d], MANTA_SUM, 1))
            return rank_fail(comm, "reduce");
        if (job->wanted[d] && rank == 1 && memcmp(other, job->wanted[d], COUNT * size) != 0)
            return rank_fail(comm, "reduce of %s is not the tree's", mt_dtype_name(dtypes[d]));
        if (manta_reduce_scatter(comm, src, other, PART, dtypes[d], MANTA_SUM))
            return rank_fail(comm, "reduce_scatter");
        if (job->wanted[d] &&
            memcmp(other, job->wanted[d] + (size_t)rank * PART * size, PART * size) != 0)
            return rank_fail(comm, "reduce_scatter of %s is not the tree's",
                             mt_dtype_name(dtypes[d]));
        free(other);
        free(src);
    }
    return 0;
}

static void compare_ranks(struct job *job, int ranks)
{
    for (int r = 0; r < ranks; r++) {
        for (int d = 0; d < 4; d++) {
            if (memcmp(job->seen[r][d], job->seen[0][d], COUNT * manta_dtype_size(dtypes[d])) != 0)
                fail_msg("rank %d has other bits than rank 0", r);
        }
    }
    for (int r = 0; r < ranks; r++) {
        for (int d = 0; d < 4; d++)
            free(job->seen[r][d]);
    }
}

static void run_everywhere(const char *reproducible)
{
    static const struct ranks_options places[] = {
        {.transports = "shm"}, {.transports = "tcp"}, {.transports = "shm,tcp", .nodes = 2}};
    setenv("MANTA_REPRODUCIBLE", reproducible, 1);
    setenv("MANTA_SEGMENT", "8k", 1);
    for (int ranks = 2; ranks <= RANKS_MAX; ranks++) {
        struct job job = {.wanted = {NULL}};
        for (int d = 0; d < 4 && reproducible[0] == '1'; d++) {
            job.wanted[d] = malloc(COUNT * manta_dtype_size(dtypes[d]));
            tree(dtypes[d], 0, ranks, job.wanted[d]);
        }
        for (int p = 0; p < 3; p++) {
            struct ranks_options options = places[p];
            options.ranks = ranks;
            assert_int_equal(ranks_run(&options, reduce_all, &job), 0);
            compare_ranks(&job, ranks);
        }
        for (int d = 0; d < 4; d++)
            free(job.wanted[d]);
    }
    unsetenv("MANTA_SEGMENT");
    unsetenv("MANTA_REPRODUCIBLE");
}

static void test_tree_everywhere(void **state)
{
    (void)state;
    run_everywhere("1");
}

static void test_ranks_agree(void **state)
{
    (void)state;
    run_everywhere("0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tree_everywhere),
                                       cmocka_unit_test(test_ranks_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
