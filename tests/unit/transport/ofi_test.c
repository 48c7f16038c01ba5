/* SPDX-License-Identifier: Apache-2.0 */
/* ofi between threads of this process, over libfabric's providers that need no hardware. What
 * becomes of a peer that is gone is not among it: a send to it may fail, or wait for a connection,
 * until the control plane knows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/manners.h"
#include "tests/support/ranks.h"
#include "tests/support/traffic.h"
#include "transport/ofi/ofi.h"

#ifdef __SANITIZE_ADDRESS__
/* The net provider of libfabric 1.17 does not free what it knows of its endpoints. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfabric.so.1";
}
#endif

enum { EAGER = MT_OFI_EAGER_BYTES, LONG = 3 << 20 };

static void test_random_exchange(void **state)
{
    static const uint64_t sizes[] = {0, 1, 39, 4096, EAGER - 1, EAGER, EAGER + 1, 200000};
    struct traffic traffic = {sizes, 8, 5};
    static const uint32_t ranks[] = {2, 3, 5};
    (void)state;
    for (size_t i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++)
        assert_int_equal(endpoints_run("ofi", ranks[i], traffic_run, &traffic), 0);
}

static void test_long_messages(void **state)
{
    static const uint64_t sizes[] = {LONG, 5, LONG + 1, EAGER};
    struct traffic traffic = {sizes, 4, 2};
    (void)state;
    assert_int_equal(endpoints_run("ofi", 2, traffic_run, &traffic), 0);
}

static void test_flood(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("ofi", 2, manners_flood, NULL), 0);
}

static void test_nothing_is_lost_on_leaving(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct manners manners = {.eager_bytes = EAGER, .is_connectionless = 1};
        assert_int_equal(endpoints_run("ofi", 2, manners_leave, &manners), 0);
    }
}

static void test_abort_leaves_buffers(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct manners manners = {.eager_bytes = EAGER};
        assert_int_equal(endpoints_run("ofi", 2, manners_give_up, &manners), 0);
    }
}

static void test_sleeper_is_woken(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("ofi", 2, manners_sleep, NULL), 0);
}

static void test_counters(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("ofi", 2, manners_count, NULL), 0);
}

/* For each provider all tests; or for one, whichever: PROVIDER=verbs build/tests/.../ofi_test. */
int main(void)
{
    const char *providers[] = {"tcp", "net", "sockets"};
    const char *only = getenv("PROVIDER");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_random_exchange),
        cmocka_unit_test(test_long_messages),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_sleeper_is_woken),
        cmocka_unit_test(test_nothing_is_lost_on_leaving),
        cmocka_unit_test(test_abort_leaves_buffers),
    };
    int failed = 0;
    size_t count = getenv("TEST_QUICK") != NULL ? 1 : sizeof(providers) / sizeof(providers[0]);
    if (only != NULL) {
        providers[0] = only;
        count = 1;
    }
    for (size_t i = 0; i < count; i++) {
        setenv("MANTA_OFI_PROVIDER", providers[i], 1);
        failed += cmocka_run_group_tests_name(providers[i], tests, NULL, NULL);
    }
    return failed;
}
