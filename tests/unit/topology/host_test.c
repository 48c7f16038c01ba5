/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/host.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void agrees_with_the_kernel(void **state)
{
    (void)state;
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    const struct mt_host *host = mt_host();
    assert_int_equal(host->affinity_cpus, CPU_COUNT(&set));
    assert_true(host->cpus >= 1 && host->cpus <= host->affinity_cpus);
    if (host->quota_millicpus >= 1000)
        assert_true(host->cpus * UINT64_C(1000) <= host->quota_millicpus);
    assert_true(host->numa_nodes >= 1);
    assert_true(host->l3_sharers >= 1);
}

static void caches_grow_with_their_level(void **state)
{
    (void)state;
    const struct mt_host *host = mt_host();
    long l1d = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    if (l1d > 0 && host->l1d_bytes > 0)
        assert_int_equal(host->l1d_bytes, l1d);
    if (host->l1d_bytes > 0 && host->l2_bytes > 0)
        assert_true(host->l1d_bytes < host->l2_bytes);
    if (host->l2_bytes > 0 && host->l3_bytes > 0)
        assert_true(host->l2_bytes < host->l3_bytes);
}

static void *ask(void *arg)
{
    (void)arg;
    return (void *)mt_host();
}

static void threads_see_one_host(void **state)
{
    (void)state;
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask, NULL), 0);
    for (int i = 0; i < 8; i++) {
        void *seen;
        assert_int_equal(pthread_join(threads[i], &seen), 0);
        assert_ptr_equal(seen, mt_host());
    }
}

/* CPUs of one L3 have its number, alone and together; no CPU has none. */
static void caches_have_numbers(void **state)
{
    (void)state;
    struct mt_cpus none = {{0}}, all, one;
    assert_int_equal(mt_host_unit(MT_LEVEL_L3, &none), UINT32_MAX);
    mt_cpus_of_thread(&all);
    uint32_t together = mt_host_unit(MT_LEVEL_L3, &all), alone = UINT32_MAX, differ = 0;
    for (uint32_t c = 0; c < 64 * MT_CPUS_WORDS; c++) {
        if (!(all.words[c / 64] >> c % 64 & 1))
            continue;
        one = none;
        one.words[c / 64] = UINT64_C(1) << c % 64;
        differ |= alone != UINT32_MAX && alone != mt_host_unit(MT_LEVEL_L3, &one);
        alone = mt_host_unit(MT_LEVEL_L3, &one);
        assert_true(together == UINT32_MAX || alone == together);
    }
    assert_int_equal(alone == UINT32_MAX || differ, together == UINT32_MAX);
}

/* A process pinned to one CPU may use one. Runs first, before this process has asked. */
static void pinned_child_counts_one(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        cpu_set_t set, one;
        int cpu = 0;
        CPU_ZERO(&one);
        sched_getaffinity(0, sizeof set, &set);
        while (!CPU_ISSET(cpu, &set))
            cpu++;
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        _exit(mt_host()->affinity_cpus == 1 && mt_host()->cpus == 1 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pinned_child_counts_one), cmocka_unit_test(threads_see_one_host),
        cmocka_unit_test(agrees_with_the_kernel),  cmocka_unit_test(caches_grow_with_their_level),
        cmocka_unit_test(caches_have_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
