/* SPDX-License-Identifier: Apache-2.0 */
/* Joining and leaving: ranks as threads and as processes, and everything that can be wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/control.h"
#include "core/session.h"
#include "tests/support/group_ranks.h"

static void join_exchange_leave(struct group_rank *rank)
{
    const void *out[64];
    size_t out_bytes[64];
    void *storage;
    char mine[200];
    struct mt_error error;
    assert_int_equal(rank->group->ranks, rank->ranks);
    for (int round = 0; round < 3; round++) {
        size_t bytes = (rank->rank * 7 + (uint32_t)round) % sizeof mine;
        memset(mine, (int)('a' + rank->rank), sizeof mine);
        rank->result = mt_control_allgather(rank->group->control, mine, bytes, out, out_bytes,
                                            &storage, mt_clock_now_ns() + 20 * MT_SECOND, &error);
        if (rank->result) {
            rank->error = error;
            return;
        }
        for (uint32_t r = 0; r < rank->ranks; r++) {
            if (out_bytes[r] != (r * 7 + (uint32_t)round) % sizeof mine)
                rank->result = -100;
            for (size_t i = 0; i < out_bytes[r]; i++)
                if (((const char *)out[r])[i] != (char)('a' + r))
                    rank->result = -101;
        }
        free(storage);
    }
}

static void all_sizes_join_and_exchange(void **state)
{
    (void)state;
    for (uint32_t ranks = 1; ranks <= 16; ranks++) {
        char session[512];
        struct group_rank rank[16];
        assert_int_equal(manta_session_create(session, sizeof session), 0);
        group_ranks_init(rank, ranks, session);
        group_ranks_run(rank, ranks, join_exchange_leave);
        for (uint32_t r = 0; r < ranks; r++) {
            if (rank[r].result)
                print_error("rank %u of %u: %s\n", r, ranks, rank[r].error.sentence);
            assert_int_equal(rank[r].result, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_sizes_join_and_exchange)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
