/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that peers read in place, as a program sees it: the calls about it, and every collective
 * on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <manta/manta.h>
#include <stdio.h>

#include "tests/support/calls.h"
#include "tests/support/descriptors.h"
#include "tests/support/rank_processes.h"
#include "tests/support/ranks.h"

enum { RANKS_MAX = 4, COUNT_MAX = 100003, TURNS = 3, SPACE = (RANKS_MAX * COUNT_MAX + 100) * 4 };

/* Buffers of a rank, at odd places in what was allocated: whole pages, so that no page belongs to
 * two of them. */
struct buffers {
    int32_t *src, *dst;
    void *memory[2];
    int is_symmetric;
};

static void assert_says(const struct manta_comm *comm, int code, const char *words)
{
    struct manta_error_info info = {.size = sizeof(info)};
    assert_int_equal(manta_comm_error(comm, &info), 0);
    assert_int_equal(info.code, code);
    assert_non_null(strstr(info.sentence, words));
}

static void test_calls(void **state)
{
    (void)state;
    struct manta_mem_info info = {.size = sizeof(info)};
    void *memory = &info;
    assert_int_equal(manta_mem_alloc(NULL, 100, NULL), MANTA_EINVAL);
    assert_says(NULL, MANTA_EINVAL, "ptr_out");
    assert_int_equal(manta_mem_alloc(NULL, 0, &memory), MANTA_EINVAL);
    assert_says(NULL, MANTA_EINVAL, "bytes");
    assert_null(memory);
    assert_int_equal(manta_mem_alloc(NULL, 10000, &memory), 0);
    assert_int_equal(manta_mem_query((char *)memory + 9999, &info), 0);
    assert_ptr_equal(info.start, memory);
    assert_int_equal(info.bytes, 10000);
    assert_int_equal(info.in_place, 1);
    assert_non_null(strstr(info.reason, "manta_mem_alloc()"));
    assert_int_equal(manta_mem_register(memory, 10000, 0), 0);
    assert_int_equal(manta_mem_unregister(memory), 0);
    assert_int_equal(manta_mem_free((char *)memory + 1), MANTA_EINVAL);
    assert_says(NULL, MANTA_EINVAL, "manta_mem_alloc()");
    assert_int_equal(manta_mem_free(memory), 0);
    assert_int_equal(manta_mem_free(NULL), 0);
    assert_int_equal(manta_mem_query(memory, &info), 0);
    assert_null(info.start);
    assert_int_equal(info.in_place, 0);
    assert_int_equal(info.bytes, 0);
}

static void test_registered(void **state)
{
    (void)state;
    struct manta_mem_info info = {.size = sizeof(info)};
    enum { BYTES = 300000 };
    char *memory = malloc(BYTES);
    memset(memory, 3, BYTES);
    assert_int_equal(manta_mem_register(memory, BYTES, 2), MANTA_EINVAL);
    assert_says(NULL, MANTA_EINVAL, "MANTA_MEM_REMAP");
    assert_int_equal(manta_mem_register(memory, BYTES, 0), 0);
    assert_int_equal(manta_mem_query(memory, &info), 0);
    assert_int_equal(info.in_place, 0);
    assert_int_equal(info.bytes, BYTES);
    assert_non_null(strstr(info.reason, "private"));
    assert_int_equal(manta_mem_unregister(memory), 0);
    assert_int_equal(manta_mem_register(memory, BYTES, MANTA_MEM_REMAP), 0);
    assert_int_equal(manta_mem_query(memory + 7, &info), 0);
    assert_int_equal(info.in_place, 1);
    assert_int_equal(memory[BYTES - 1], 3);
    assert_int_equal(manta_mem_unregister(memory), 0);
    assert_int_equal(manta_mem_unregister(memory), MANTA_EINVAL);
    assert_says(NULL, MANTA_EINVAL, "registered");
    free(memory);
}

/* Compiled with another length of the struct. */
static void test_info_size(void **state)
{
    (void)state;
    static struct manta_mem_info info;
    assert_int_equal(manta_mem_query(&info, NULL), MANTA_EINVAL);
    memset(&info, 0x5a, sizeof(info));
    info.size = offsetof(struct manta_mem_info, reason) - 1;
    assert_int_equal(manta_mem_query(&info, &info), MANTA_EINVAL);
    info.size = offsetof(struct manta_mem_info, reason);
    assert_int_equal(manta_mem_query(&info, &info), 0);
    assert_null(info.start);
    for (size_t i = 0; i < sizeof(info.reason); i++)
        assert_int_equal(info.reason[i], 0x5a);
}

static int take_buffers(struct buffers *buffers, int is_symmetric)
{
    buffers->is_symmetric = is_symmetric;
    for (int i = 0; i < 2; i++) {
        if (!is_symmetric)
            buffers->memory[i] = aligned_alloc(4096, (SPACE + 4095) / 4096 * 4096);
        else if (manta_mem_alloc(NULL, SPACE, &buffers->memory[i]) != 0)
            return 1;
    }
    buffers->src = (int32_t *)buffers->memory[0] + 3;
    buffers->dst = (int32_t *)buffers->memory[1] + 13;
    return 0;
}

static void give_buffers(struct buffers *buffers)
{
    for (int i = 0; i < 2; i++) {
        if (buffers->is_symmetric)
            manta_mem_free(buffers->memory[i]);
        else
            free(buffers->memory[i]);
    }
}

static int32_t put_in(int rank, uint64_t index, int turn)
{
    return (int32_t)((uint64_t)(rank + 1) * (index % 1013 + 1)) + turn;
}

static int32_t sum_of(int ranks, uint64_t index, int turn)
{
    return ranks * (ranks + 1) / 2 * (int32_t)(index % 1013 + 1) + ranks * turn;
}

/* What must be in dst after the call, at this index of it. */
static int32_t wanted(const struct test_call *call, int rank, int ranks, uint64_t index, int turn)
{
    switch (call->collective) {
    case MANTA_BROADCAST:
        return put_in(call->root, index, turn);
    case MANTA_ALLGATHER:
        return put_in((int)(index / call->count), index % call->count, turn);
    case MANTA_REDUCE_SCATTER:
        return sum_of(ranks, (uint64_t)rank * call->count + index, turn);
    default:
        return sum_of(ranks, index, turn);
    }
}

static int one_call(struct manta_comm *comm, const struct test_call *call, struct buffers *buffers,
                    int in_place, int turn)
{
    int rank = manta_comm_rank(comm), ranks = manta_comm_size(comm);
    uint64_t part = (uint64_t)rank * call->count, whole = (uint64_t)ranks * call->count;
    uint64_t in = call->collective == MANTA_REDUCE_SCATTER ? whole : call->count;
    uint64_t out = call->collective == MANTA_ALLGATHER ? whole : call->count;
    int32_t *src = buffers->src, *dst = buffers->dst;
    if (call->collective == MANTA_BROADCAST || (in_place && call->collective < MANTA_ALLGATHER))
        src = dst;
    else if (in_place && call->collective == MANTA_ALLGATHER)
        src = dst + part;
    else if (in_place)
        dst = src + part;
    for (uint64_t i = 0; i < in; i++)
        src[i] = put_in(rank, i, turn);
    int rc = test_call_block(comm, call, src, dst);
    if (rc != 0)
        return rank_fail(comm, "collective %d gives %d", call->collective, rc);
    for (uint64_t i = 0; i < out && (call->collective != MANTA_REDUCE || rank == call->root); i++)
        if (dst[i] != wanted(call, rank, ranks, i, turn))
            return rank_fail(comm, "collective %d of %llu, in place %d, turn %d: [%llu] is %d",
                             call->collective, (unsigned long long)call->count, in_place, turn,
                             (unsigned long long)i, dst[i]);
    /* They are the caller's again: whoever still reads them gets this. */
    memset(src, 0xee, in * sizeof(*src));
    memset(dst, 0xee, out * sizeof(*dst));
    return 0;
}

static int every_call(struct manta_comm *comm, struct buffers *buffers)
{
    static const uint64_t counts[] = {1500, 20011, COUNT_MAX};
    for (int turn = 0; turn < 5 * 3 * 2 * TURNS; turn++) {
        const struct test_call call = {.collective = turn / TURNS % 5,
                                       .dtype = MANTA_INT32,
                                       .op = MANTA_SUM,
                                       .root = turn % manta_comm_size(comm),
                                       .count = counts[turn / TURNS / 5 % 3]};
        if (one_call(comm, &call, buffers, turn / TURNS / 15, turn))
            return 1;
    }
    return 0;
}

/* Each subset of the ranks has memory that is read in place. */
static int subsets(struct manta_comm *comm, void *arg)
{
    int failed = 0;
    (void)arg;
    for (int subset = 0; subset < 1 << manta_comm_size(comm) && !failed; subset++) {
        struct buffers buffers;
        if (getenv("TEST_QUICK") && subset % 3 != 1)
            continue;
        if (take_buffers(&buffers, subset >> manta_comm_rank(comm) & 1))
            return rank_fail(comm, "no memory");
        failed = every_call(comm, &buffers);
        give_buffers(&buffers);
    }
    return failed;
}

static void test_subsets(void **state)
{
    (void)state;
    for (int ranks = 2; ranks <= 3; ranks++) {
        const struct ranks_options options = {.ranks = ranks, .transports = "shm"};
        assert_int_equal(rank_processes_run(&options, subsets, NULL), 0);
        assert_int_equal(ranks_run(&options, subsets, NULL), 0);
    }
}

static int count_mappings(void)
{
    char line[512];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof(line), maps))
        count += strstr(line, "manta-memory") != NULL;
    if (maps)
        fclose(maps);
    return count;
}

/* Memory comes and goes, in two communicators: peers read what it is now, and keep nothing. */
static int come_and_go(struct manta_comm *comm, void *arg)
{
    const struct test_call call = {MANTA_ALLREDUCE, MANTA_INT32, MANTA_SUM, 0, 50021};
    struct manta_comm *other;
    (void)arg;
    if (manta_comm_split(comm, 0, 0, &other) != 0)
        return rank_fail(comm, "no split");
    for (int turn = 0; turn < 60; turn++) {
        struct buffers buffers;
        if (take_buffers(&buffers, 1))
            return rank_fail(comm, "no memory");
        for (int i = 0; i < TURNS; i++)
            if (one_call(comm, &call, &buffers, 0, turn + i) ||
                one_call(other, &call, &buffers, 1, turn + i))
                return 1;
        give_buffers(&buffers);
        /* Of each peer and communicator: what it had last, and perhaps what came before. */
        if (count_mappings() > 2 * 2 * 2 * (manta_comm_size(comm) - 1))
            return rank_fail(comm, "turn %d: %d mappings are left", turn, count_mappings());
    }
    manta_comm_destroy(other);
    return 0;
}

static void test_come_and_go(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 3, .transports = "shm"};
    assert_int_equal(rank_processes_run(&options, come_and_go, NULL), 0);
}

/* More pieces of memory than can be lent. */
static int many(struct manta_comm *comm, void *arg)
{
    enum { PIECES = 300, COUNT = 17000 };
    static int32_t *pieces[PIECES]; /* of a process */
    (void)arg;
    for (int i = 0; i < PIECES; i++)
        if (manta_mem_alloc(comm, COUNT * sizeof(int32_t), (void **)&pieces[i]) != 0)
            return rank_fail(comm, "no memory");
    for (int i = 0; i < 4 * PIECES; i++) {
        struct buffers buffers = {.src = pieces[i % PIECES], .dst = pieces[(i + 7) % PIECES]};
        const struct test_call call = {i % 2 ? MANTA_ALLREDUCE : MANTA_BROADCAST, MANTA_INT32,
                                       MANTA_SUM, i % manta_comm_size(comm), COUNT};
        if (one_call(comm, &call, &buffers, 0, i))
            return 1;
    }
    for (int i = 0; i < PIECES; i++)
        manta_mem_free(pieces[i]);
    return 0;
}

static void test_many(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 2, .transports = "shm"};
    assert_int_equal(rank_processes_run(&options, many, NULL), 0);
}

/* Nothing is copied but by who wants the data. */
static int copies(struct manta_comm *comm, void *arg)
{
    struct manta_stats before = {.size = sizeof(before)}, after = {.size = sizeof(after)};
    const struct test_call call = {MANTA_BROADCAST, MANTA_INT32, MANTA_SUM, 0, 100003};
    struct buffers buffers;
    (void)arg;
    if (take_buffers(&buffers, 1))
        return rank_fail(comm, "no memory");
    for (int turn = 0; turn < 20; turn++) {
        if (turn == 10)
            manta_comm_stats(comm, &before);
        if (one_call(comm, &call, &buffers, 0, turn) || manta_barrier(comm))
            return 1;
    }
    manta_comm_stats(comm, &after);
    give_buffers(&buffers);
    uint64_t bytes = manta_comm_rank(comm) == 0 ? 0 : 10 * call.count * sizeof(int32_t);
    uint64_t copied = after.copied_bytes - before.copied_bytes;
    uint64_t peers = manta_comm_rank(comm) == 0 ? (uint64_t)manta_comm_size(comm) - 1 : 0;
    if (copied < bytes || copied > bytes + 10000 || after.registrations != peers)
        return rank_fail(comm, "%llu bytes copied, %llu registrations", (unsigned long long)copied,
                         (unsigned long long)after.registrations);
    return 0;
}

static void test_copies(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 3, .transports = "shm"};
    assert_int_equal(rank_processes_run(&options, copies, NULL), 0);
}

/* Bytes that all ranks copy in a few such calls, once their memory is known. */
static int bytes_copied(struct manta_comm *comm, const struct test_call *call, int is_symmetric,
                        uint64_t *bytes_out)
{
    struct manta_stats before = {.size = sizeof(before)}, after = {.size = sizeof(after)};
    struct buffers buffers;
    if (take_buffers(&buffers, is_symmetric))
        return rank_fail(comm, "no memory");
    for (int turn = 0; turn < 12; turn++) {
        if (turn == 8)
            manta_comm_stats(comm, &before);
        if (one_call(comm, call, &buffers, 0, turn) || manta_barrier(comm))
            return 1;
    }
    manta_comm_stats(comm, &after);
    give_buffers(&buffers);
    *bytes_out = after.copied_bytes - before.copied_bytes;
    return manta_allreduce(comm, bytes_out, bytes_out, 1, MANTA_UINT64, MANTA_SUM);
}

/* manta_explain() says of memory what the calls do. */
static int explained(struct manta_comm *comm, void *arg)
{
    static const uint64_t counts[] = {900, 1500, 20011, COUNT_MAX};
    uint64_t other = 0, symmetric = 0;
    char text[4096];
    (void)arg;
    for (int i = 0; i < 5 * 4; i++) {
        const struct test_call call = {
            .collective = i % 5, .dtype = MANTA_INT32, .op = MANTA_SUM, .count = counts[i / 5]};
        if (manta_explain(comm, call.collective, call.count, call.dtype, call.op, call.root, text,
                          sizeof(text)) ||
            bytes_copied(comm, &call, 0, &other) || bytes_copied(comm, &call, 1, &symmetric))
            return 1;
        int in_place = strstr(text, "symmetric memory is read in place ") != NULL;
        int is_copied = strstr(text, "symmetric memory is copied ") != NULL;
        /* Messages are copied or not as they happen to meet their receive. */
        int is_sent = strstr(text, "symmetric memory is as good as any other") != NULL;
        if (in_place + is_copied + is_sent != 1 || (in_place && symmetric >= other) ||
            (is_copied && symmetric != other))
            return rank_fail(comm, "collective %d of %llu copies %llu bytes, symmetric %llu: %s",
                             call.collective, (unsigned long long)call.count,
                             (unsigned long long)other, (unsigned long long)symmetric, text);
    }
    return 0;
}

static void test_explained(void **state)
{
    (void)state;
    struct ranks_options options = {.ranks = 4, .transports = "shm"};
    assert_int_equal(rank_processes_run(&options, explained, NULL), 0);
    setenv("MANTA_SHM_GROUPS", "2", 1);
    assert_int_equal(rank_processes_run(&options, explained, NULL), 0);
    unsetenv("MANTA_SHM_GROUPS");
    setenv("MANTA_ALLREDUCE", "ring", 1);
    options.ranks = 3;
    assert_int_equal(rank_processes_run(&options, explained, NULL), 0);
    unsetenv("MANTA_ALLREDUCE");
}

/* A rank that cannot take what is lent, or cannot lend: the calls succeed without. */
static int without_descriptors(struct manta_comm *comm, void *arg)
{
    const struct test_call call = {MANTA_ALLREDUCE, MANTA_INT32, MANTA_SUM, 0, 50021};
    const int *victim = arg;
    struct buffers buffers;
    int failed = 0;
    if (take_buffers(&buffers, 1) || one_call(comm, &call, &buffers, 0, 0) || manta_barrier(comm))
        return rank_fail(comm, "no beginning");
    give_buffers(&buffers);
    if (take_buffers(&buffers, 1))
        return rank_fail(comm, "no memory");
    if (manta_comm_rank(comm) == *victim && descriptors_leave(0) != 0)
        return rank_fail(comm, "no limit of descriptors");
    for (int turn = 0; turn < 10 && !failed; turn++)
        failed = one_call(comm, &call, &buffers, turn % 2, turn);
    if (manta_comm_rank(comm) == *victim)
        descriptors_free();
    for (int turn = 0; turn < 10 && !failed; turn++)
        failed = one_call(comm, &call, &buffers, turn % 2, turn);
    give_buffers(&buffers);
    return failed;
}

static void test_without_descriptors(void **state)
{
    (void)state;
    for (int victim = 0; victim < 3; victim++) {
        const struct ranks_options options = {.ranks = 3, .transports = "shm"};
        assert_int_equal(rank_processes_run(&options, without_descriptors, &victim), 0);
    }
}

/* Memory of malloc() and of the program's own memfd, moved and registered. */
static int registered(struct manta_comm *comm, void *arg)
{
    struct buffers buffers;
    int failed;
    (void)arg;
    if (take_buffers(&buffers, 0))
        return rank_fail(comm, "no memory");
    for (int i = 0; i < 2; i++)
        if (manta_mem_register(buffers.memory[i], SPACE, MANTA_MEM_REMAP) != 0) {
            struct manta_error_info info = {.size = sizeof(info)};
            manta_comm_error(NULL, &info);
            return rank_fail(comm, "not moved: %s", info.sentence);
        }
    failed = every_call(comm, &buffers);
    for (int i = 0; i < 2; i++)
        failed |= manta_mem_unregister(buffers.memory[i]) != 0;
    failed = failed || every_call(comm, &buffers);
    give_buffers(&buffers);
    return failed;
}

static void test_moved(void **state)
{
    (void)state;
    const struct ranks_options options = {.ranks = 2, .transports = "shm"};
    assert_int_equal(rank_processes_run(&options, registered, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subsets),    cmocka_unit_test(test_come_and_go),
        cmocka_unit_test(test_many),       cmocka_unit_test(test_copies),
        cmocka_unit_test(test_explained),  cmocka_unit_test(test_without_descriptors),
        cmocka_unit_test(test_moved),      cmocka_unit_test(test_calls),
        cmocka_unit_test(test_registered), cmocka_unit_test(test_info_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
