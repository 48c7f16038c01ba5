/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "plan/match.h"

static struct manta_plan_step message(uint16_t kind, uint32_t peer, uint32_t number)
{
    return (struct manta_plan_step){.kind = kind, .peer = peer, .number = number};
}

static void test_pairs(void **state)
{
    const struct manta_plan_step zero[] = {message(MANTA_PLAN_SEND, 2, 1),
                                           message(MANTA_PLAN_SEND, 2, 0),
                                           {.kind = MANTA_PLAN_COPY, .peer = MANTA_PLAN_NONE},
                                           message(MANTA_PLAN_SEND, 2, 7)};
    const struct manta_plan_step two[] = {
        message(MANTA_PLAN_RECV, 0, 0), message(MANTA_PLAN_RECV, 0, 1),
        message(MANTA_PLAN_RECV, 0, 1), message(MANTA_PLAN_RECV, 1, 0)};
    const struct manta_plan first = {.steps = zero, .step_count = 4};
    const struct manta_plan last = {.steps = two, .step_count = 4};
    const struct manta_plan *plans[3] = {&first, NULL, &last};
    const uint32_t expected[] = {1, 0, MANTA_PLAN_NONE, MANTA_PLAN_NONE,
                                 1, 0, MANTA_PLAN_NONE, MANTA_PLAN_NONE};
    struct mt_plan_match match;
    (void)state;
    assert_int_equal(mt_plan_match_open(&match, plans, 3), 0);
    assert_int_equal(match.first[1], 4);
    assert_int_equal(match.first[2], 4);
    assert_int_equal(match.first[3], 8);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(match.partner[i], expected[i]);
    mt_plan_match_close(&match);
}

/* Two sends of one number: only the first meets the receive. */
static void test_double_send(void **state)
{
    const struct manta_plan_step zero[] = {message(MANTA_PLAN_SEND, 1, 0),
                                           message(MANTA_PLAN_SEND, 1, 0)};
    const struct manta_plan_step one[] = {message(MANTA_PLAN_RECV, 0, 0)};
    const struct manta_plan first = {.steps = zero, .step_count = 2};
    const struct manta_plan second = {.steps = one, .step_count = 1};
    const struct manta_plan *plans[2] = {&first, &second};
    struct mt_plan_match match;
    (void)state;
    assert_int_equal(mt_plan_match_open(&match, plans, 2), 0);
    assert_int_equal(match.partner[0], 0);
    assert_int_equal(match.partner[1], MANTA_PLAN_NONE);
    assert_int_equal(match.partner[2], 0);
    mt_plan_match_close(&match);
}

static void test_many(void **state)
{
    enum { RANKS = 40 };
    struct manta_plan_step *steps = calloc(RANKS * RANKS * 2, sizeof(*steps));
    struct manta_plan plans[RANKS];
    const struct manta_plan *all[RANKS];
    struct mt_plan_match match;
    (void)state;
    for (uint32_t r = 0; r < RANKS; r++) {
        struct manta_plan_step *mine = steps + r * RANKS * 2;
        uint32_t used = 0;
        for (uint32_t peer = 0; peer < RANKS; peer++) {
            mine[used++] = message(MANTA_PLAN_SEND, peer, 0);
            mine[used++] = message(MANTA_PLAN_RECV, peer, 0);
        }
        plans[r] = (struct manta_plan){.steps = mine, .step_count = used};
        all[r] = &plans[r];
    }
    assert_int_equal(mt_plan_match_open(&match, all, RANKS), 0);
    for (uint32_t r = 0; r < RANKS; r++) {
        for (uint32_t peer = 0; peer < RANKS; peer++) {
            assert_int_equal(match.partner[match.first[r] + peer * 2], r * 2 + 1);
            assert_int_equal(match.partner[match.first[r] + peer * 2 + 1], r * 2);
        }
    }
    mt_plan_match_close(&match);
    free(steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_double_send),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
