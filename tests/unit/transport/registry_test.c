/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/log.h"
#include "transport/ofi/present.h"
#include "transport/registry.h"

static void test_lists(void **state)
{
    struct mt_transport_listed found[3];
    struct mt_error error = {0};
    uint32_t count = 0;
    (void)state;
    assert_int_equal(mt_transport_list("shm,tcp", found, 3, &count, &error), 0);
    assert_int_equal(count, 2);
    assert_ptr_equal(found[0].transport, &mt_transport_shm);
    assert_ptr_equal(found[1].transport, &mt_transport_tcp);
    assert_int_equal(mt_transport_list("sim", found, 3, &count, &error), 0);
    assert_int_equal(count, 1);
    assert_ptr_equal(found[0].transport, &mt_transport_sim);
}

static void test_ways_over_networks(void **state)
{
    (void)state;
    assert_true(mt_transport_is_by_network(&mt_transport_tcp));
    assert_true(mt_transport_is_by_network(&mt_transport_verbs));
    assert_true(mt_transport_is_by_network(&mt_transport_ofi));
    assert_false(mt_transport_is_by_network(&mt_transport_shm));
    assert_false(mt_transport_is_by_network(&mt_transport_sim));
}

static void test_refused_lists(void **state)
{
    static const struct {
        const char *names, *part;
    } bad[] = {
        {"", "empty name"},
        {"shm,", "empty name"},
        {",tcp", "empty name"},
        {"shm,,tcp", "empty name"},
        {"tcp,tcp", "twice"},
        {"tpc", "shm, tcp, verbs, ofi, sim"},
        {"shm tcp", "'shm tcp'"},
        {"TCP", "'TCP'"},
        {"shm,tcp,sim,shm", "at most 3"},
        {"tcpx", "'tcpx'"},
        {"./a.so", "absolute path"},
        {"shm,a/b.so", "absolute path"},
        {"/none.so,/none.so", "twice"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mt_transport_listed found[3];
        struct mt_error error = {0};
        uint32_t count = 0;
        assert_int_equal(mt_transport_list(bad[i].names, found, 3, &count, &error), MANTA_EINVAL);
        if (strstr(error.sentence, bad[i].part) == NULL)
            fail_msg("'%s' gave '%s'", bad[i].names, error.sentence);
    }
}

static void test_tables(void **state)
{
    static const struct manta_transport *const tables[] = {&mt_transport_shm, &mt_transport_tcp,
                                                           &mt_transport_sim};
    (void)state;
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        const struct manta_transport *transport = tables[i];
        assert_int_equal(transport->size, sizeof(*transport));
        assert_int_equal(transport->abi, MANTA_TRANSPORT_ABI);
        assert_ptr_equal(mt_transport_find(transport->name), transport);
        assert_non_null(transport->open);
        assert_non_null(transport->send);
        assert_non_null(transport->abort);
        assert_non_null(transport->error);
        assert_non_null(transport->close);
    }
    assert_null(mt_transport_find("udp"));
    assert_null(mt_transport_find(""));
}

static void test_host(void **state)
{
    const struct manta_transport_host *host = mt_transport_host();
    (void)state;
    assert_int_equal(host->size, sizeof(*host));
    assert_string_equal(host->config("SEED"), "1");
    assert_null(host->config("NO_SUCH_VARIABLE"));
    void *memory = host->alloc(100, 4096);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % 4096, 0);
    host->free(memory);
    assert_true(host->clock_ns() > 0);
}

static void count_line(void *arg, const char *line)
{
    *(int *)arg += strstr(line, "MANTA_OFI_DOMAIN=pigeon is of no use: ofi is not among") != NULL;
}

/* What the user has named is not passed over in silence. */
static void test_what_is_named(void **state)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    const struct manta_transport_open params = {
        .size = sizeof(params), .host = mt_transport_host(), .transport = &mt_transport_tcp};
    struct mt_transport_listed listed[2] = {{.transport = &mt_transport_tcp},
                                            {.transport = &mt_transport_ofi}};
    void *endpoint;
    int warnings = 0;
    (void)state;
    setenv("MANTA_INTERFACE", "pigeon0", 1);
    assert_int_equal(mt_transport_open(&params, &endpoint, &error), MANTA_EINVAL);
    if (strstr(error.sentence, "MANTA_INTERFACE=pigeon0 cannot be used: no interface") == NULL ||
        strstr(error.sentence, "there are lo") == NULL)
        fail_msg("'%s'", error.sentence);
    unsetenv("MANTA_INTERFACE");
    setenv("MANTA_TCP_CONGESTION", "pigeon", 1);
    assert_int_equal(mt_transport_open(&params, &endpoint, &error), MANTA_EINVAL);
    if (strstr(error.sentence, "MANTA_TCP_CONGESTION is 'pigeon', which this kernel") == NULL ||
        strstr(error.sentence, "reno") == NULL)
        fail_msg("'%s'", error.sentence);
    unsetenv("MANTA_TCP_CONGESTION");
    setenv("MANTA_OFI_DOMAIN", "pigeon", 1);
    mt_log_sink(count_line, &warnings);
    mt_transport_warn_of_unused(listed, 2);
    assert_int_equal(warnings, 0);
    mt_transport_warn_of_unused(listed, 1);
    mt_log_sink(NULL, NULL);
    assert_int_equal(warnings, 1);
    assert_int_equal(mt_transport_is_left_out(&mt_transport_ofi, &error), 0); /* it is wanted */
    unsetenv("MANTA_OFI_DOMAIN");
}

/* Without a network of libfabric's others are better, unless it is asked for. */
static void test_what_is_left_out(void **state)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    (void)state;
    assert_int_equal(mt_transport_is_left_out(&mt_transport_tcp, &error), 0);
    assert_int_equal(mt_transport_is_left_out(NULL, &error), 0); /* a plugin that is not there */
    int is_out = mt_transport_is_left_out(&mt_transport_ofi, &error);
    assert_int_equal(is_out, !mt_ofi_is_present(""));
    assert_true(!is_out || strstr(error.sentence, "neither EFA nor Slingshot") != NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_ways_over_networks),
        cmocka_unit_test(test_refused_lists),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_what_is_named),
        cmocka_unit_test(test_what_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
