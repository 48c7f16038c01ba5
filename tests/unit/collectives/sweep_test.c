/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every dtype with every op that it allows, in place and not, by allreduce, reduce and
 * reduce_scatter, on 1..5 ranks, over shm and over tcp, with awkward counts at unaligned addresses:
 * bit for bit what exact arithmetic gives. Where order does not matter values are what they like;
 * sums and products of floats are of small integers, and under MANTA_REPRODUCIBLE of infinities,
 * NaNs and subnormal numbers too, since the order is then known.
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
#include "tests/support/calls.h"
#include "tests/support/exact.h"
#include "tests/support/ranks.h"
#include "tests/support/values.h"

enum { RANKS_MAX = 5, PAIRS = 94, COUNT_MAX = 1009, TOTAL_MAX = RANKS_MAX * COUNT_MAX };
enum { GUARD = 32, GUARD_BYTE = 0x5a };

static const int collectives[] = {MANTA_ALLREDUCE, MANTA_REDUCE, MANTA_REDUCE_SCATTER};
static const uint64_t counts[] = {61, 0, 1, 2, 1009, 3, 128};

struct pair {
    int dtype, op;
    char *inputs[RANKS_MAX]; /* [TOTAL_MAX] elements each */
    char *wanted;            /* of all ranks of the job together */
};

static struct pair pairs[PAIRS];
static _Atomic long calls_made;

static int is_quick(void)
{
    return getenv("TEST_QUICK") != NULL;
}

static uint64_t mixed(uint64_t value)
{
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

static int is_float(int dtype)
{
    return dtype >= MANTA_FLOAT16;
}

/* 1 if the order of a reduction of any values does not matter. */
static int is_associative(const struct pair *pair)
{
    return !is_float(pair->dtype) || pair->op == MANTA_MIN || pair->op == MANTA_MAX;
}

static void fill(const struct pair *pair, int rank, char *input, int any_value)
{
    uint64_t special[EXACT_SPECIALS];
    size_t specials = exact_specials(pair->dtype, special, EXACT_SPECIALS);
    for (uint64_t i = 0; i < TOTAL_MAX; i++) {
        uint64_t drawn = mixed(i * RANKS_MAX + (uint64_t)rank + 1);
        if (pair->op == MANTA_PROD && !any_value)
            value_put(pair->dtype, input, i, drawn % 7 ? (int)(drawn % 5) - 2 : 1);
        else if (!any_value)
            value_put(pair->dtype, input, i, (int)(drawn % 3) - 1);
        else if (is_float(pair->dtype) || drawn % 4 == 0)
            exact_put(pair->dtype, input, i, special[drawn / 4 % specials]);
        else
            exact_put(pair->dtype, input, i, drawn);
    }
}

/* Ranks first .. first + ranks - 1, split at the largest power of two below their number. */
static uint64_t tree(const struct pair *pair, int op, int first, int ranks, uint64_t i)
{
    int left = 1;
    if (ranks == 1)
        return exact_get(pair->dtype, pair->inputs[first], i);
    while (left * 2 < ranks)
        left *= 2;
    return exact_combine(pair->dtype, op, tree(pair, op, first, left, i),
                         tree(pair, op, first + left, ranks - left, i));
}

static void want(const struct pair *pair, int ranks)
{
    int op = pair->op == MANTA_AVG ? MANTA_SUM : pair->op;
    for (uint64_t i = 0; i < (uint64_t)ranks * COUNT_MAX; i++) {
        uint64_t bits = tree(pair, op, 0, ranks, i);
        if (pair->op == MANTA_AVG)
            bits = exact_divide(pair->dtype, bits, (uint32_t)ranks);
        exact_put(pair->dtype, pair->wanted, i, bits);
    }
}

/* any_value: also where the order matters. */
static void make_pairs(int ranks, int any_value)
{
    int count = 0;
    for (int dtype = 0; dtype < MANTA_DTYPE_COUNT; dtype++) {
        for (int op = 0; op < MANTA_OP_COUNT; op++) {
            struct pair *pair = &pairs[count];
            if (!mt_op_allowed(op, dtype))
                continue;
            assert_true(count < PAIRS);
            *pair = (struct pair){.dtype = dtype, .op = op};
            pair->wanted = calloc(TOTAL_MAX, manta_dtype_size(dtype));
            for (int r = 0; r < ranks; r++) {
                pair->inputs[r] = calloc(TOTAL_MAX, manta_dtype_size(dtype));
                fill(pair, r, pair->inputs[r], any_value || is_associative(pair));
            }
            want(pair, ranks);
            count++;
        }
    }
    assert_int_equal(count, PAIRS);
}

static void free_pairs(void)
{
    for (int p = 0; p < PAIRS; p++) {
        free(pairs[p].wanted);
        for (int r = 0; r < RANKS_MAX; r++)
            free(pairs[p].inputs[r]);
    }
}

/* Memory with guards around `bytes` that begin `skew` bytes behind a multiple of 64. */
static char *guard(char *memory, uint64_t bytes, int skew)
{
    memset(memory, GUARD_BYTE, 2 * GUARD + 64 + bytes);
    return memory + GUARD + skew;
}

static int is_damaged(const char *data, uint64_t bytes)
{
    int damaged = 0;
    for (int i = 1; i <= GUARD; i++)
        damaged |= data[-i] != GUARD_BYTE || data[bytes + (uint64_t)i - 1] != GUARD_BYTE;
    return damaged;
}

/* Each rank's two buffers; the ranks of a job are threads. */
enum { ROOM = 2 * GUARD + 64 + TOTAL_MAX * 8 };
static _Alignas(64) char memory[RANKS_MAX][2][ROOM];

static int fails(struct manta_comm *comm, const struct test_call *call, int in_place,
                 const char *why)
{
    char text[128];
    test_call_word(call, text, sizeof text);
    return rank_fail(comm, "%s%s: %s", text, in_place ? " in place" : "", why);
}

static int run_call(struct manta_comm *comm, const struct pair *pair, const struct test_call *call,
                    int in_place, int skew)
{
    int rank = manta_comm_rank(comm), ranks = manta_comm_size(comm);
    uint64_t size = manta_dtype_size(call->dtype);
    int scatters = call->collective == MANTA_REDUCE_SCATTER;
    uint64_t src_bytes = call->count * size * (scatters ? (uint64_t)ranks : 1);
    uint64_t dst_bytes = call->count * size, part = scatters ? (uint64_t)rank * dst_bytes : 0;
    char *src = guard(memory[rank][0], src_bytes, skew);
    char *apart = guard(memory[rank][1], dst_bytes, skew * 3 % 16);
    char *dst = in_place ? src + part : apart;
    memcpy(src, pair->inputs[rank], src_bytes);

    if (test_call_block(comm, call, src, dst) != 0)
        return fails(comm, call, in_place, "returned an error");
    int has_result = call->collective != MANTA_REDUCE || rank == call->root;
    if (has_result && memcmp(dst, pair->wanted + part, dst_bytes) != 0)
        return fails(comm, call, in_place, "not what exact arithmetic gives");
    if (!in_place && memcmp(src, pair->inputs[rank], src_bytes) != 0)
        return fails(comm, call, in_place, "its source has changed");
    if (is_damaged(src, src_bytes) || is_damaged(apart, dst_bytes))
        return fails(comm, call, in_place, "it wrote outside its buffers");
    calls_made += rank == 0;
    return 0;
}

static int sweep(struct manta_comm *comm, void *arg)
{
    size_t count_kinds = is_quick() ? 3 : sizeof counts / sizeof counts[0];
    int variant = 0;
    (void)arg;
    for (int p = 0; p < PAIRS; p++) {
        for (size_t c = 0; c < 3 * count_kinds; c++) {
            for (int in_place = 0; in_place < 2; in_place++, variant++) {
                struct test_call call = {.collective = collectives[c % 3],
                                         .dtype = pairs[p].dtype,
                                         .op = pairs[p].op,
                                         .root = variant / 7 % manta_comm_size(comm),
                                         .count = counts[c / 3]};
                if (run_call(comm, &pairs[p], &call, in_place, variant % 5))
                    return 1;
            }
        }
    }
    return 0;
}

static void sweep_all(const char *transports, int any_value)
{
    long count_kinds = is_quick() ? 3 : sizeof counts / sizeof counts[0];
    calls_made = 0;
    for (int ranks = 1; ranks <= RANKS_MAX; ranks++) {
        const struct ranks_options options = {.ranks = ranks, .transports = transports};
        make_pairs(ranks, any_value);
        int failed = ranks_run(&options, sweep, NULL);
        free_pairs();
        if (failed)
            fail_msg("%d of %d ranks failed over %s", failed, ranks, transports);
    }
    assert_int_equal(calls_made, RANKS_MAX * PAIRS * 3 * 2 * count_kinds);
}

static void over_shm(void **state)
{
    (void)state;
    sweep_all("shm", 0);
}

static void over_tcp(void **state)
{
    (void)state;
    sweep_all("tcp", 0);
}

/* In segments, too. */
static void any_values_in_a_known_order(void **state)
{
    (void)state;
    setenv("MANTA_REPRODUCIBLE", "1", 1);
    setenv("MANTA_SEGMENT", "512", 1);
    sweep_all("shm", 1);
    sweep_all("tcp", 1);
    unsetenv("MANTA_SEGMENT");
    unsetenv("MANTA_REPRODUCIBLE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_shm),
        cmocka_unit_test(over_tcp),
        cmocka_unit_test(any_values_in_a_known_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
