/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "topology/cpus.h"

enum { RANKS_MAX = 8 };

/* Ranks with these masks of CPUs 0 .. 63; the answer for each, as a mask of ranks. */
static uint32_t shared(const uint64_t *masks, uint32_t count)
{
    struct mt_cpus cpus[RANKS_MAX];
    const struct mt_cpus *ranks[RANKS_MAX];
    uint32_t answers = 0;
    memset(cpus, 0, sizeof(cpus));
    for (uint32_t r = 0; r < count; r++) {
        cpus[r].words[0] = masks[r];
        cpus[r].words[MT_CPUS_WORDS - 1] = masks[r] << 1; /* the last word counts, too */
        ranks[r] = &cpus[r];
    }
    for (uint32_t r = 0; r < count; r++)
        answers |= (uint32_t)mt_cpus_are_shared(ranks, count, r) << r;
    return answers;
}

static uint32_t shared_of(uint32_t count, const uint64_t *masks)
{
    /* shared() doubles every CPU, so double every rank. */
    uint64_t doubled[RANKS_MAX];
    for (uint32_t r = 0; r < 2 * count; r++)
        doubled[r] = masks[r % count];
    uint32_t answers = shared(doubled, 2 * count);
    assert_int_equal(answers >> count, answers & ((1u << count) - 1));
    return answers & ((1u << count) - 1);
}

static void sets_that_suffice(void **state)
{
    (void)state;
    assert_int_equal(shared_of(2, (const uint64_t[]){1, 2}), 0); /* bound to a core each */
    assert_int_equal(shared_of(2, (const uint64_t[]){3, 3}), 0);
    assert_int_equal(shared_of(4, (const uint64_t[]){15, 15, 15, 15}), 0);
    assert_int_equal(shared_of(3, (const uint64_t[]){1, 3, 6}), 0);
    assert_int_equal(shared_of(2, (const uint64_t[]){0, 0}), 0); /* unknown */
}

static void sets_that_do_not(void **state)
{
    (void)state;
    assert_int_equal(shared_of(2, (const uint64_t[]){1, 1}), 3);
    assert_int_equal(shared_of(3, (const uint64_t[]){3, 3, 3}), 7);
    assert_int_equal(shared_of(3, (const uint64_t[]){3, 3, 4}), 0);
    assert_int_equal(shared_of(3, (const uint64_t[]){1, 1, 4}), 3); /* the third has its own */
    assert_int_equal(shared_of(4, (const uint64_t[]){1, 2, 3, 4}), 7);
    /* Two on CPU 0 share it, though CPUs 1 and 2 would be enough for the third. */
    assert_int_equal(shared_of(3, (const uint64_t[]){1, 1, 7}) & 3, 3);
}

static uint32_t crowd_of(uint32_t count, const uint64_t *masks, uint64_t quota_millicpus)
{
    struct mt_cpus cpus[RANKS_MAX];
    const struct mt_cpus *ranks[RANKS_MAX];
    memset(cpus, 0, sizeof(cpus));
    for (uint32_t r = 0; r < count; r++) {
        cpus[r].words[MT_CPUS_WORDS - 1] = masks[r];
        ranks[r] = &cpus[r];
    }
    return mt_cpus_crowd(ranks, count, quota_millicpus);
}

static void ranks_for_each_cpu(void **state)
{
    (void)state;
    assert_int_equal(crowd_of(2, (const uint64_t[]){1, 2}, 0), 1);
    assert_int_equal(crowd_of(2, (const uint64_t[]){3, 3}, 0), 1);
    assert_int_equal(crowd_of(3, (const uint64_t[]){3, 3, 3}, 0), 2);
    assert_int_equal(crowd_of(4, (const uint64_t[]){1, 2, 3, 1}, 0), 2);
    assert_int_equal(crowd_of(5, (const uint64_t[]){1, 2, 3, 1, 2}, 0), 3);
    assert_int_equal(crowd_of(3, (const uint64_t[]){0, 0, 0}, 0), 1); /* unknown */
    assert_int_equal(crowd_of(3, (const uint64_t[]){0, 0, 1}, 0), 3);
    assert_int_equal(crowd_of(2, (const uint64_t[]){255, 255}, 2000), 1);
    assert_int_equal(crowd_of(2, (const uint64_t[]){255, 255}, 1999), 2);
    assert_int_equal(crowd_of(2, (const uint64_t[]){1, 1}, 8000), 2);
    assert_int_equal(crowd_of(3, (const uint64_t[]){0, 0, 0}, 1500), 2);
}

/* The CPUs that ranks 0, 1, ... take, as digits; of a set whose CPU c is of core cores[c]. */
static void check_turns(uint64_t mask, const char *cores, const char *wanted)
{
    static uint32_t core_of[MT_CPUS_MOST];
    struct mt_cpus cpus = {.words = {mask}}, high = {.words = {0}};
    high.words[MT_CPUS_WORDS - 1] = mask;
    for (uint32_t c = 0; cores[c] != 0; c++)
        core_of[c] = core_of[MT_CPUS_MOST - 64 + c] = (uint32_t)cores[c];
    for (uint32_t r = 0; wanted[r] != 0; r++) {
        assert_int_equal(mt_cpus_turn(&cpus, core_of, r), wanted[r] - '0');
        assert_int_equal(mt_cpus_turn(&high, core_of, r), MT_CPUS_MOST - 64 + wanted[r] - '0');
    }
}

static void each_core_before_a_second_thread(void **state)
{
    const struct mt_cpus none = {.words = {0}};
    const uint32_t core_of[MT_CPUS_MOST] = {0};
    (void)state;
    check_turns(15, "aabb", "0213021");    /* threads of a core have neighbouring numbers */
    check_turns(15, "abab", "0123012");    /* or not */
    check_turns(14, "aabb", "12312");      /* the first may not be used */
    check_turns(63, "abcccc", "01234501"); /* cores of one and of four */
    check_turns(32, "aabbcc", "555");
    assert_int_equal(mt_cpus_turn(&none, core_of, 3), -1);
}

static void own_set_is_the_kernel_s(void **state)
{
    (void)state;
    struct mt_cpus cpus;
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
    mt_cpus_of_thread(&cpus);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        assert_int_equal(cpus.words[cpu / 64] >> cpu % 64 & 1, CPU_ISSET(cpu, &set) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_that_suffice),
        cmocka_unit_test(sets_that_do_not),
        cmocka_unit_test(ranks_for_each_cpu),
        cmocka_unit_test(each_core_before_a_second_thread),
        cmocka_unit_test(own_set_is_the_kernel_s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
