/* SPDX-License-Identifier: Apache-2.0 */
/* The schedule of the circulant broadcast, played round by round for all ranks; the plans made of
 * it are proved in tests/plan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "collectives/circulant.h"

static void test_skips(void **state)
{
    uint32_t skip[MT_CIRCULANT_SKIPS];
    (void)state;
    assert_int_equal(mt_circulant_skips(1, skip), 0);
    assert_int_equal(mt_circulant_skips(18, skip), 5);
    static const uint32_t want[] = {1, 2, 3, 5, 9, 18};
    assert_memory_equal(skip, want, sizeof(want));
    assert_int_equal(mt_circulant_skips(UINT32_MAX, skip), 32);
    assert_int_equal(skip[0], 1);
    assert_int_equal(skip[31], UINT32_C(1) << 31);
}

/* Every rank but the root receives each piece once, from a rank that has had it since an earlier
 * round, and both ends of a link agree on what it carries. */
static void play(uint32_t n, uint32_t pieces)
{
    struct mt_circulant *all = malloc(n * sizeof(*all));
    uint32_t *had_in = malloc((size_t)n * pieces * sizeof(*had_in));
    for (uint32_t v = 0; v < n; v++) {
        mt_circulant_schedule(n, v, pieces, &all[v]);
        for (uint32_t piece = 0; piece < pieces; piece++)
            had_in[(size_t)v * pieces + piece] = v ? UINT32_MAX : 0;
    }
    assert_int_equal(all[0].end - all[0].first, n > 1 ? pieces - 1 + all[0].q : 0);
    for (uint32_t round = all[0].first; round < all[0].end; round++) {
        for (uint32_t v = 0; v < n; v++) {
            uint32_t to = (v + all[v].skip[round % all[v].q]) % n;
            int64_t piece = mt_circulant_piece(&all[v], all[v].next, round);
            assert_int_equal(piece, mt_circulant_piece(&all[to], all[to].mine, round));
            if (piece < 0)
                continue;
            assert_true(piece < pieces);
            uint32_t *theirs = &had_in[(size_t)to * pieces + (size_t)piece];
            assert_true(had_in[(size_t)v * pieces + (size_t)piece] <= round);
            assert_int_equal(*theirs, UINT32_MAX);
            *theirs = round + 1; /* from the next round on */
        }
    }
    for (size_t i = 0; i < (size_t)n * pieces; i++)
        assert_int_not_equal(had_in[i], UINT32_MAX);
    free(all);
    free(had_in);
}

static void test_every_piece_once(void **state)
{
    static const uint32_t pieces[] = {1, 2, 3, 5, 8, 13};
    static const uint32_t large[] = {1000, 1023, 1024, 1025, 4097};
    (void)state;
    for (uint32_t n = 1; n <= 150; n++)
        for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++)
            play(n, pieces[i]);
    for (size_t i = 0; i < sizeof(large) / sizeof(*large); i++)
        play(large[i], 7);
}

/* The largest numbers do not overflow, and both ends still agree. */
static void test_very_many_ranks(void **state)
{
    static const uint32_t ranks[] = {1, 2, 77777, UINT32_C(1) << 31, UINT32_MAX - 1};
    (void)state;
    for (size_t i = 0; i < sizeof(ranks) / sizeof(*ranks); i++) {
        struct mt_circulant mine, theirs;
        mt_circulant_schedule(UINT32_MAX, ranks[i], 100, &mine);
        for (uint32_t round = mine.first; round < mine.end; round++) {
            uint64_t to = ((uint64_t)ranks[i] + mine.skip[round % mine.q]) % UINT32_MAX;
            mt_circulant_schedule(UINT32_MAX, (uint32_t)to, 100, &theirs);
            int64_t piece = mt_circulant_piece(&mine, mine.next, round);
            assert_true(piece >= -1 && piece < 100);
            assert_int_equal(piece, mt_circulant_piece(&theirs, theirs.mine, round));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_skips),
        cmocka_unit_test(test_every_piece_once),
        cmocka_unit_test(test_very_many_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
