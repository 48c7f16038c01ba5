/* SPDX-License-Identifier: Apache-2.0 */
/* More than 2^32 elements: one allreduce and one broadcast of int8 on each transport. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "tests/support/ranks.h"

#define COUNT ((UINT64_C(1) << 32) + 5)

enum { PERIOD = 251 }; /* prime, so that no power of two hides a shift */

static uint8_t pattern(uint64_t i, int rank)
{
    return (uint8_t)(i % PERIOD + (uint64_t)rank * 7);
}

static void fill(uint8_t *buffer, int rank)
{
    for (uint64_t i = 0; i < PERIOD * 4096u; i++)
        buffer[i] = pattern(i, rank);
    for (uint64_t done = PERIOD * 4096u; done < COUNT;) {
        uint64_t part = COUNT - done < PERIOD * 4096u ? COUNT - done : PERIOD * 4096u;
        memcpy(buffer + done, buffer, part);
        done += part;
    }
}

/* The first element that is not as wanted, or COUNT. */
static uint64_t first_wrong(const uint8_t *buffer, uint8_t (*wanted)(uint64_t i))
{
    static _Thread_local uint8_t page[PERIOD * 4096];
    for (uint64_t i = 0; i < sizeof(page); i++)
        page[i] = wanted(i);
    for (uint64_t done = 0; done < COUNT; done += sizeof(page)) {
        uint64_t part = COUNT - done < sizeof(page) ? COUNT - done : sizeof(page);
        if (memcmp(buffer + done, page, part) == 0)
            continue;
        for (uint64_t i = 0; i < part; i++) {
            if (buffer[done + i] != page[i])
                return done + i;
        }
    }
    return COUNT;
}

static uint8_t sum_of_both(uint64_t i)
{
    return (uint8_t)(pattern(i, 0) + pattern(i, 1));
}

static uint8_t of_rank_one(uint64_t i)
{
    return pattern(i, 1);
}

static int large(struct manta_comm *comm, void *arg)
{
    (void)arg;
    int rank = manta_comm_rank(comm);
    uint8_t *buffer = mmap(NULL, COUNT, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (buffer == MAP_FAILED)
        return rank_fail(comm, "no memory for 4 GiB");
    madvise(buffer, COUNT, MADV_HUGEPAGE);
    fill(buffer, rank);
    int rc = manta_allreduce(comm, buffer, buffer, COUNT, MANTA_INT8, MANTA_SUM);
    uint64_t wrong = first_wrong(buffer, sum_of_both);
    if (rc || wrong != COUNT)
        return rank_fail(comm, "allreduce: %d, element %llu is wrong", rc,
                         (unsigned long long)wrong);
    fill(buffer, rank);
    rc = manta_broadcast(comm, buffer, COUNT, MANTA_INT8, 1);
    wrong = first_wrong(buffer, of_rank_one);
    if (rc || wrong != COUNT)
        return rank_fail(comm, "broadcast: %d, element %llu is wrong", rc,
                         (unsigned long long)wrong);
    return munmap(buffer, COUNT);
}

static void on(const char *transports)
{
    const struct ranks_options options = {
        .ranks = 2, .transports = transports, .timeout_ns = 120000000000u};
    assert_int_equal(ranks_run(&options, large, NULL), 0);
}

static void test_shm(void **state)
{
    (void)state;
    on("shm");
}

static void test_tcp(void **state)
{
    (void)state;
    on("tcp");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shm), cmocka_unit_test(test_tcp)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
