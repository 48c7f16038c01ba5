/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints that cannot be opened, or that nobody connects to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/transport/shm/world.h"

static unsigned allocations_left;

/* Memory that is not zero, until there is none. */
static void *scarce_alloc(size_t bytes, size_t alignment)
{
    if (allocations_left == 0)
        return NULL;
    allocations_left--;
    size_t whole = (bytes + alignment - 1) / alignment * alignment;
    void *memory = aligned_alloc(alignment, whole);
    if (memory != NULL)
        memset(memory, 0xa5, whole);
    return memory;
}

/* Whichever allocation fails, what was there before is closed in good order. */
static void test_scarce_memory(void **state)
{
    struct manta_transport_host host = *mt_transport_host();
    struct mt_member members[2] = {{.rank = 0, .node = 1, .boot = 1},
                                   {.rank = 1, .node = 1, .boot = 1}};
    struct mt_group group = {.ranks = 2, .epoch = 7, .members = members};
    const struct manta_transport_open params = {.size = sizeof(params),
                                                .host = &host,
                                                .ranks = 2,
                                                .epoch = 7,
                                                .local_ranks = 2,
                                                .timeout_ns = UINT64_C(20000000000),
                                                .group = &group};
    void *endpoint = NULL;
    int code = MANTA_ENOMEM;
    unsigned allowed = 0;
    (void)state;
    host.config = world_config;
    host.alloc = scarce_alloc;
    host.free = free;
    for (; code == MANTA_ENOMEM && allowed < 100; allowed++) {
        struct manta_transport_error error = {.size = sizeof(error)};
        allocations_left = allowed;
        code = mt_shm_open(&params, 0, &endpoint, &error);
    }
    assert_int_equal(code, 0);
    assert_true(allowed > 5);
    mt_transport_shm.close(endpoint);
}

/* A peer that is late is for the owner of the deadline to report: it knows more about it. */
static void test_late_peer(void **state)
{
    struct world world = {.ranks = 2};
    (void)state;
    assert_int_equal(world_open(&world, 2), 0);
    struct mt_shm_endpoint *self = world.endpoints[1];
    struct mt_shm_peer *peer = mt_shm_peer_of(self, 0);
    assert_int_equal(mt_transport_shm.connect(self, 0, 1), 0);
    uint32_t connected = peer->state;
    peer->state = MT_SHM_IDLE;
    assert_int_equal(mt_transport_shm.connect(self, 0, 1), MANTA_INPROGRESS);
    peer->state = connected;
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scarce_memory),
        cmocka_unit_test(test_late_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
