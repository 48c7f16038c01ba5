/* SPDX-License-Identifier: Apache-2.0 */
/* Hierarchical plans are proved wherever ranks may sit: nodes of one size and of several, one after
 * the other, in turn and at random, in one rack and in several, with fused steps and without; and
 * executed in random orders on integers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "plan/verify.h"
#include "tests/support/plans.h"

enum { RANKS = 64, ALL_ROOTS = 12 };

static uint64_t proofs, executions, binary;

/* Who sits where, as plans_seat_open() takes it. */
struct text {
    char nodes[RANKS + 1], racks[RANKS + 1];
};

static char letter(uint32_t number)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@#$%&*";
    return letters[number];
}

static void prove(const struct plans_case *what)
{
    struct manta_plan *plans[RANKS];
    struct mt_verify_result result;
    char name[192], why[128];
    plans_name(what, name, sizeof(name));
    plans_compile(what, plans);
    const struct manta_plan *const *all = (const struct manta_plan *const *)plans;
    if (mt_plan_verify(all, what->ranks, &result))
        fail_msg("%s: %s", name, result.fault);
    if (what->algorithm->order && result.order != what->algorithm->order)
        fail_msg("%s is not of the order class that it promises", name);
    binary += !what->algorithm->order && result.order == MANTA_PLAN_ORDER_BINARY;
    for (uint64_t seed = 1; what->ranks <= 9 && seed <= 2; seed++, executions++)
        if (plans_execute(all, what->ranks, seed, why, sizeof(why)))
            fail_msg("%s, seed %llu: %s", name, (unsigned long long)seed, why);
    mt_plan_free_all(plans, what->ranks);
    proofs++;
}

static void prove_seat(const char *text, uint32_t ranks)
{
    for (uint32_t fuses = 0; fuses < 2; fuses++) {
        struct plans_seat seat;
        plans_seat_open(&seat, text, fuses);
        for (uint32_t i = 0; mt_catalogue[i]; i++) {
            struct plans_case what;
            for (uint32_t at = 0;
                 mt_catalogue[i]->unfit && plans_next(mt_catalogue[i], ranks, &seat, &at, &what);)
                if (ranks <= ALL_ROOTS || what.root < 2 || what.root == ranks - 1)
                    prove(&what);
        }
        plans_seat_close(&seat);
    }
}

static void test_written_seats(void **state)
{
    static const char *const texts[] = {"ab",
                                        "aab",
                                        "aba",
                                        "abb",
                                        "aabb",
                                        "abab",
                                        "abba",
                                        "aaab",
                                        "abbb",
                                        "aabc",
                                        "abca",
                                        "abcc",
                                        "aaaabbc",
                                        "abbcccc",
                                        "aaabbb",
                                        "ababab",
                                        "aabbcc",
                                        "abcabc",
                                        "aaabbcc",
                                        "aaaabbbb",
                                        "aabbccdd",
                                        "abcdabcd",
                                        "aaaaabbb",
                                        "aabbbbbb",
                                        "abcd/0011",
                                        "aabbccdd/00001111",
                                        "aabbccdd/00110011",
                                        "aabbccdd/00000011",
                                        "aabbccddee/0000001111",
                                        "abcdabcd/01010101",
                                        "aaabbbccc/000000111",
                                        "aabbccddeeffgghh/0000111122223333",
                                        "aaaabbccdddd/000000111111",
                                        "abc/001",
                                        "aabc/0001"};
    (void)state;
    for (uint32_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        prove_seat(texts[i], (uint32_t)strcspn(texts[i], "/"));
}

/* Equal nodes, side by side and in turn, up to 64 ranks. */
static void test_equal_nodes(void **state)
{
    static const uint32_t sizes[][2] = {{2, 5},  {5, 2}, {3, 4},  {4, 4},  {2, 8},
                                        {8, 2},  {6, 3}, {5, 5},  {4, 8},  {7, 4},
                                        {2, 32}, {8, 8}, {16, 4}, {21, 3}, {32, 2}};
    (void)state;
    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        uint32_t nodes = sizes[i][0], ranks = nodes * sizes[i][1];
        for (uint32_t in_turn = 0; in_turn < 2; in_turn++) {
            char text[RANKS + 1] = "";
            for (uint32_t r = 0; r < ranks; r++)
                text[r] = letter(in_turn ? r % nodes : r / sizes[i][1]);
            prove_seat(text, ranks);
        }
    }
}

static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33) % below;
}

static void test_random_seats(void **state)
{
    uint64_t random = 20261127;
    (void)state;
    for (uint32_t turn = 0; turn < 60; turn++) {
        char text[2 * RANKS + 2] = "";
        uint32_t ranks = 2 + draw(&random, turn < 50 ? 10 : 40), nodes = 1 + draw(&random, 6);
        uint32_t racks = 1 + draw(&random, 3);
        for (uint32_t r = 0; r < ranks; r++) {
            uint32_t node = draw(&random, nodes);
            text[r] = letter(node);
            text[ranks + 1 + r] = letter(node % racks);
        }
        text[ranks] = '/';
        prove_seat(text, ranks);
    }
    print_message("%llu sets of plans proved, %llu executed; %llu are binary sums\n",
                  (unsigned long long)proofs, (unsigned long long)executions,
                  (unsigned long long)binary);
    assert_true(proofs > 3000 && binary > 0);
}

static uint64_t order_of(const char *name, const char *text, uint32_t fuses)
{
    struct plans_seat seat;
    struct plans_case what;
    struct manta_plan *plans[RANKS];
    struct mt_verify_result result;
    uint32_t at = 0, ranks = (uint32_t)strlen(text);
    plans_seat_open(&seat, text, fuses);
    assert_true(plans_next(mt_catalogue_find(MANTA_ALLREDUCE, name), ranks, &seat, &at, &what));
    plans_compile(&what, plans);
    assert_int_equal(mt_plan_verify((const struct manta_plan *const *)plans, ranks, &result), 0);
    mt_plan_free_all(plans, ranks);
    plans_seat_close(&seat);
    return result.order;
}

/* Where nodes are aligned blocks of 2^k ranks, the tree over them is that of all ranks; elsewhere
 * it is another, the same one with fused steps and without. */
static void test_order_classes(void **state)
{
    (void)state;
    for (uint32_t fuses = 0; fuses < 2; fuses++) {
        assert_int_equal(order_of("leaders_doubling", "aabbcc", fuses), MANTA_PLAN_ORDER_BINARY);
        assert_int_equal(order_of("leaders_doubling", "aaaabbbb", fuses), MANTA_PLAN_ORDER_BINARY);
        assert_true(order_of("leaders_doubling", "aaabbb", fuses) != MANTA_PLAN_ORDER_BINARY);
        assert_true(order_of("leaders_doubling", "abab", fuses) != MANTA_PLAN_ORDER_BINARY);
    }
    assert_int_equal(order_of("rails_doubling", "aaaabbbb", 1), MANTA_PLAN_ORDER_BINARY);
    assert_true(order_of("leaders_doubling", "aaabbb", 0) ==
                order_of("leaders_doubling", "aaabbb", 1));
}

static const char *why_unfit(uint32_t collective, const char *name, const char *text)
{
    const struct mt_algorithm *algorithm = mt_catalogue_find(collective, name);
    struct plans_seat seat;
    plans_seat_open(&seat, text, 1);
    const struct mt_plan_request request = {.collective = collective,
                                            .ranks = (uint32_t)strlen(text),
                                            .root = 0,
                                            .topology = seat.topology};
    struct mt_error error;
    struct manta_plan *plan;
    const char *why = algorithm->unfit(&request);
    if (why) {
        assert_int_equal(mt_plan_compile(algorithm, &request, &plan, &error), MANTA_EALGORITHM);
        assert_non_null(strstr(error.sentence, why));
    }
    plans_seat_close(&seat);
    return why ? why : "";
}

static void test_where_they_do_not_fit(void **state)
{
    (void)state;
    assert_string_equal(why_unfit(MANTA_ALLREDUCE, "leaders_ring", "aaaa"),
                        "all ranks are on one node");
    assert_string_equal(why_unfit(MANTA_ALLREDUCE, "leaders_ring", "abcd"),
                        "no two ranks are on one node");
    assert_non_null(strstr(why_unfit(MANTA_ALLREDUCE, "rails_ring", "aab"), "one rank only"));
    assert_non_null(strstr(why_unfit(MANTA_ALLGATHER, "rails_ring", "aaabb"), "different numbers"));
    assert_non_null(strstr(why_unfit(MANTA_ALLGATHER, "leaders_ring", "abab"), "side by side"));
    assert_non_null(strstr(why_unfit(MANTA_ALLREDUCE, "ordered_ring", "aabb"), "already"));
    assert_string_equal(why_unfit(MANTA_ALLREDUCE, "ordered_ring", "abab"), "");
    for (uint32_t i = 0; mt_catalogue[i]; i++) {
        const struct mt_plan_request request = {.collective = mt_catalogue[i]->collective,
                                                .ranks = 7};
        if (mt_catalogue[i]->unfit) /* where nobody knows; and 7 is no power of two */
            assert_non_null(mt_catalogue[i]->unfit(&request));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_seats),         cmocka_unit_test(test_equal_nodes),
        cmocka_unit_test(test_random_seats),          cmocka_unit_test(test_order_classes),
        cmocka_unit_test(test_where_they_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
