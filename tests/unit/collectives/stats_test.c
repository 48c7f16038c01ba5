/* SPDX-License-Identifier: Apache-2.0 */
/* manta_comm_stats: what the communicator counts and what its transports count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collectives/comm.h"

static void write_counters(const struct manta_transport_counters *mine,
                           struct manta_transport_counters *counters_out)
{
    size_t size = counters_out->size;
    memcpy(counters_out, mine, size < mine->size ? size : mine->size);
    counters_out->size = size;
}

static void count(void *endpoint, struct manta_transport_counters *counters_out)
{
    write_counters(endpoint, counters_out);
}

static const struct manta_transport counting = {
    .size = sizeof(counting), .name = "counting", .counters = count};
static const struct manta_transport silent = {.size = sizeof(silent), .name = "silent"};

static void transports_are_summed(void **state)
{
    (void)state;
    struct manta_transport_counters one = {
        .size = sizeof(one), .copied_bytes = 100, .registrations = 3};
    struct manta_transport_counters two = {
        .size = sizeof(two), .copied_bytes = 20, .registrations = 4};
    struct manta_transport_counters older = {
        .size = offsetof(struct manta_transport_counters, registrations), .copied_bytes = 3};
    struct manta_stats stats = {.size = sizeof(stats)};
    static struct manta_comm comm = {.endpoint_count = 4};
    comm.endpoints[0] = (struct mt_endpoint){&counting, &one};
    comm.endpoints[1] = (struct mt_endpoint){&silent, NULL};
    comm.endpoints[2] = (struct mt_endpoint){&counting, &older};
    comm.endpoints[3] = (struct mt_endpoint){&counting, &two};
    atomic_store(&comm.counters.copied_bytes, 4000);
    assert_int_equal(manta_comm_stats(&comm, &stats), 0);
    assert_int_equal(stats.copied_bytes, 4123);
    assert_int_equal(stats.registrations, 7);
}

static void fields_beyond_the_size_are_left_alone(void **state)
{
    (void)state;
    struct manta_stats stats = {.size = offsetof(struct manta_stats, registrations),
                                .registrations = 77,
                                .plans_compiled = 78};
    static struct manta_comm comm;
    atomic_store(&comm.counters.copied_bytes, 5);
    atomic_store(&comm.counters.plans_compiled, 6);
    assert_int_equal(manta_comm_stats(&comm, &stats), 0);
    assert_int_equal(stats.size, offsetof(struct manta_stats, registrations));
    assert_int_equal(stats.copied_bytes, 5);
    assert_int_equal(stats.registrations, 77);
    assert_int_equal(stats.plans_compiled, 78);
    stats.size = sizeof(stats.size) - 1;
    assert_int_equal(manta_comm_stats(&comm, &stats), MANTA_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transports_are_summed),
        cmocka_unit_test(fields_beyond_the_size_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
