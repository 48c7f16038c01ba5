/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that has no memory to begin a call: the others, who wait for it, learn why, and nobody's
 * next call is taken for the one that was not made. posix_memalign, which gives scratch, fails
 * where it is told to. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <manta/manta.h>

#include "tests/support/ranks.h"

enum { RANKS = 3, COUNT = 1000 };

static _Thread_local int is_exhausted;

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    *out =
        is_exhausted ? NULL : aligned_alloc(alignment, (bytes + alignment - 1) & ~(alignment - 1));
    return *out ? 0 : ENOMEM;
}

static int expect_failure(struct manta_comm *comm, int rc, const char *of)
{
    struct manta_error_info info = {.size = sizeof(info)};
    manta_comm_error(comm, &info);
    if (rc != MANTA_ENOMEM || info.code != MANTA_ENOMEM || info.rank != 1 ||
        !strstr(info.sentence, "rank 1 could not begin allreduce(1000 float32") ||
        !strstr(info.sentence, "no memory for the scratch of recursive_doubling"))
        return rank_fail(comm, "%s: %d, '%s'", of, rc, info.sentence);
    return 0;
}

/* Rank 1 goes on as if nothing had happened. */
static int rank_1_has_no_memory(struct manta_comm *comm, void *arg)
{
    float a[COUNT] = {1}, b[COUNT];
    struct manta_request *request;
    const int *posted = arg;
    int rc;
    is_exhausted = manta_comm_rank(comm) == 1;
    if (*posted) {
        rc = manta_allreduce_post(comm, a, b, COUNT, MANTA_FLOAT32, MANTA_SUM, &request);
        if (manta_comm_rank(comm) == 1 && request)
            return rank_fail(comm, "a request of a call that was not made");
        if (rc == 0)
            rc = manta_wait(request, UINT64_MAX);
    } else {
        rc = manta_allreduce(comm, a, b, COUNT, MANTA_FLOAT32, MANTA_SUM);
    }
    is_exhausted = 0;
    int failed = expect_failure(comm, rc, "the call");
    rc = manta_allreduce(comm, a, b, COUNT, MANTA_FLOAT32, MANTA_SUM);
    return failed + expect_failure(comm, rc, "the next one");
}

static void all_ranks_are_told(void **state)
{
    const struct ranks_options options = {.ranks = RANKS, .transports = "tcp"};
    (void)state;
    setenv("MANTA_ALLREDUCE", "recursive_doubling", 1);
    for (int posted = 0; posted < 2; posted++)
        assert_int_equal(ranks_run(&options, rank_1_has_no_memory, &posted), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_ranks_are_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
