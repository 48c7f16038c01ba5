/* SPDX-License-Identifier: Apache-2.0 */
/* Every algorithm of the catalogue is proved for 1..64 ranks, all roots, in place and not, and by
 * fingerprints above; and executed in random orders on integers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <manta/manta.h>

#include "collectives/catalogue.h"
#include "plan/select.h"
#include "plan/verify.h"
#include "tests/support/plans.h"

static uint64_t proofs;

static void prove(const struct plans_case *what)
{
    struct manta_plan **plans = calloc(what->ranks, sizeof(*plans));
    struct mt_verify_result result;
    char name[192];
    plans_name(what, name, sizeof(name));
    plans_compile(what, plans);
    if (mt_plan_verify((const struct manta_plan *const *)plans, what->ranks, &result))
        fail_msg("%s: %s", name, result.fault);
    if (what->algorithm->order && result.order != what->algorithm->order)
        fail_msg("%s is not of the order class that it promises", name);
    if (!what->algorithm->order && what->ranks > 4 && result.order == MANTA_PLAN_ORDER_BINARY)
        fail_msg("%s has the binary order and does not say so", name);
    mt_plan_free_all(plans, what->ranks);
    free(plans);
    proofs++;
}

static void prove_all(uint32_t ranks)
{
    for (uint32_t i = 0; mt_catalogue[i]; i++) {
        struct plans_case what;
        for (uint32_t at = 0; plans_next(mt_catalogue[i], ranks, NULL, &at, &what);)
            prove(&what);
    }
}

static void test_every_algorithm_to_64_ranks(void **state)
{
    (void)state;
    for (uint32_t ranks = 1; ranks <= 64; ranks++)
        prove_all(ranks);
    print_message("%llu sets of plans proved\n", (unsigned long long)proofs);
    assert_true(proofs > 10000);
}

/* Pipelines with few pieces and odd numbers of them; algorithms without pieces ignore it. */
static void test_other_parameters(void **state)
{
    static const uint32_t parameters[] = {1, 2, 3, 7};
    (void)state;
    for (uint32_t ranks = 1; ranks <= 20; ranks++) {
        for (uint32_t i = 0; mt_catalogue[i]; i++) {
            struct plans_case what;
            for (uint32_t at = 0; plans_next(mt_catalogue[i], ranks, NULL, &at, &what);) {
                for (uint32_t k = 0; k < sizeof(parameters) / sizeof(*parameters); k++) {
                    what.parameter = parameters[k];
                    prove(&what);
                }
            }
        }
    }
}

static void test_above_64_ranks(void **state)
{
    static const uint32_t sizes[] = {65, 66, 67, 68, 69, 70, 100, 127, 128, 129};
    (void)state;
    for (uint32_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++) {
        for (uint32_t i = 0; mt_catalogue[i]; i++) {
            struct plans_case what;
            for (uint32_t at = 0; plans_next(mt_catalogue[i], sizes[k], NULL, &at, &what);)
                if (what.root < 2 || what.root == sizes[k] - 1)
                    prove(&what);
        }
    }
}

static void test_in_random_orders(void **state)
{
    char why[128], name[192];
    (void)state;
    for (uint32_t ranks = 1; ranks <= 11; ranks++) {
        for (uint32_t i = 0; mt_catalogue[i]; i++) {
            struct plans_case what;
            for (uint32_t at = 0; plans_next(mt_catalogue[i], ranks, NULL, &at, &what);) {
                struct manta_plan *plans[11];
                plans_compile(&what, plans);
                plans_name(&what, name, sizeof(name));
                for (uint64_t seed = 1; seed <= 5; seed++)
                    if (plans_execute((const struct manta_plan *const *)plans, ranks, seed, why,
                                      sizeof(why)))
                        fail_msg("%s, seed %llu: %s", name, (unsigned long long)seed, why);
                mt_plan_free_all(plans, ranks);
            }
        }
    }
}

/* Every collective can be run by some algorithm on any number of ranks without fused steps, also
 * when results must be reproducible. */
static void test_catalogue_is_complete(void **state)
{
    (void)state;
    for (uint32_t collective = 0; collective < MANTA_COLLECTIVE_COUNT; collective++) {
        uint32_t plain = 0, candidates = 0;
        for (uint32_t i = 0; mt_catalogue[i]; i++) {
            const struct mt_algorithm *algorithm = mt_catalogue[i];
            if (algorithm->collective != collective)
                continue;
            candidates++;
            assert_ptr_equal(mt_catalogue_find(collective, algorithm->name), algorithm);
            assert_true(strlen(algorithm->name) > 0 && strlen(algorithm->name) < 24);
            assert_non_null(algorithm->source);
            uint32_t least = collective >= MANTA_SEND ? 2 : 1;
            plain += !algorithm->fused && algorithm->order == MANTA_PLAN_ORDER_BINARY &&
                     algorithm->ranks_min <= least && !algorithm->ranks_max;
        }
        assert_true(plain > 0);
        assert_true(candidates <= MT_SELECT_CANDIDATES);
    }
    assert_null(mt_catalogue_find(MANTA_ALLREDUCE, "no_such"));
    assert_null(mt_catalogue_find(MANTA_BARRIER, "ring"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_algorithm_to_64_ranks),
        cmocka_unit_test(test_other_parameters),
        cmocka_unit_test(test_above_64_ranks),
        cmocka_unit_test(test_in_random_orders),
        cmocka_unit_test(test_catalogue_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
