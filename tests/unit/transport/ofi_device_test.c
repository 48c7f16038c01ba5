/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of devices over the stand-in for libfabric. */
#include "tests/unit/transport/fabric_world.h"

/* Device memory by the device's own addresses, or by dma-buf; and all that can be refused. */
static void test_device_memory(void **state)
{
    const struct manta_transport_buffer device = {.address = (void *)0x700000000000,
                                                  .bytes = 1 << 20,
                                                  .memory = MANTA_MEMORY_CUDA,
                                                  .device = 3};
    struct world world;
    void *registration;
    (void)state;
    begin(WRITES);
    open_world(&world);
    assert_int_equal(mt_transport_ofi.mem_register(world.ends[0], &device, -1, 0, &registration),
                     MANTA_ENOTSUP);
    assert_non_null(strstr(error_of(world.ends[0]).sentence, "efa does not reach memory"));
    world.ends[0]->info->caps |= FI_HMEM; /* as on a host that has devices */

    assert_int_equal(mt_transport_ofi.mem_register(world.ends[0], &device, -1, 0, &registration),
                     0);
    assert_int_equal(stand_in.region.iface, FI_HMEM_CUDA);
    assert_int_equal(stand_in.region.device.cuda, 3);
    assert_int_equal(stand_in.region_flags, 0);
    assert_int_equal(mt_transport_ofi.mem_deregister(world.ends[0], registration), 0);
    assert_int_equal(stand_in.regions_open, 0);

    struct {
        int fd;
        uint64_t offset;
        size_t length;
        void *base;
    } told;
    assert_int_equal(mt_transport_ofi.mem_register(world.ends[0], &device, 17, 4096, &registration),
                     0);
    assert_true(stand_in.region_flags == 1ULL << 40);
    memcpy(&told, stand_in.region_extra, sizeof(told));
    assert_true(told.fd == 17 && told.offset == 4096 && told.length == device.bytes &&
                told.base == device.address);
    assert_int_equal(mt_transport_ofi.mem_deregister(world.ends[0], registration), 0);

    static const struct {
        int error, code;
    } refusals[] = {{FI_ENOMEM, MANTA_ENOMEM},
                    {FI_ENOSYS, MANTA_ENOTSUP},
                    {FI_EOPNOTSUPP, MANTA_ENOTSUP},
                    {FI_EBADF, MANTA_ETRANSPORT}};
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        stand_in.fail_region = refusals[i].error;
        assert_int_equal(
            mt_transport_ofi.mem_register(world.ends[0], &device, 17, 0, &registration),
            refusals[i].code);
        assert_null(registration);
        assert_non_null(strstr(error_of(world.ends[0]).sentence, "1048576 bytes of a dma-buf"));
    }
    stand_in.version = FI_VERSION(1, 19);
    assert_int_equal(mt_transport_ofi.mem_register(world.ends[0], &device, 17, 0, &registration),
                     MANTA_ENOTSUP);
    assert_non_null(strstr(error_of(world.ends[0]).sentence, "libfabric 1.19 takes no dma-buf"));
    close_world(&world);
}

/* Memory of devices is written whatever the length, and read back where it has to be. */
static void test_direct(void **state)
{
    static const uint64_t sizes[] = {1, 100, LONG};
    (void)state;
    for (int i = 0; i < 8; i++) {
        struct manta_transport_request sent, received;
        struct world world;
        void *registrations[2];
        uint8_t *memory[2] = {traffic_filled(LONG, 0, 1), malloc(LONG + 1)};
        struct manta_transport_buffer buffers[2];
        begin(WRITES | FI_READ | FI_REMOTE_READ | FI_HMEM);
        stand_in.mr_mode = (i & 1 ? FI_MR_LOCAL : 0) | (i & 2 ? FI_MR_VIRT_ADDR : 0);
        open_world(&world);
        for (uint32_t r = 0; r < 2; r++) {
            world.ends[r]->info->caps |= FI_HMEM | FI_READ | FI_REMOTE_READ;
            buffers[r] = (struct manta_transport_buffer){.address = memory[r],
                                                         .bytes = LONG,
                                                         .memory = MANTA_MEMORY_CUDA,
                                                         .flags = MANTA_BUFFER_FLUSH};
            assert_int_equal(
                mt_transport_ofi.mem_register(world.ends[r], &buffers[r], -1, 0, &registrations[r]),
                0);
            buffers[r].registration = registrations[r];
        }
        for (uint64_t call = 1; call <= 6; call++) {
            for (uint32_t r = 0; r < 2; r++)
                buffers[r].bytes = sizes[call % 3];
            struct manta_transport_message send = message_of(1, call, &buffers[0], 1);
            struct manta_transport_message recv = message_of(0, call, &buffers[1], 1);
            send.flags = recv.flags = MANTA_MESSAGE_DIRECT;
            memset(memory[1], 0xee, LONG + 1);
            stand_in.refuse_reads = call == 5 ? 3 : 0;
            stand_in.fail_read = call == 6 && (i & 4) ? FI_EIO : 0;
            assert_int_equal(mt_transport_ofi.recv(world.ends[1], &recv, &received), 0);
            assert_int_equal(mt_transport_ofi.send(world.ends[0], &send, &sent), 0);
            if (stand_in.fail_read == 0) {
                assert_true(run(&world, &sent, &received));
                assert_memory_equal(memory[0], memory[1], sizes[call % 3]);
                continue;
            }
            int code = 0;
            for (int tries = 0; tries < 100 && code >= 0; tries++) {
                (void)mt_transport_ofi.progress(world.ends[0]);
                code = mt_transport_ofi.progress(world.ends[1]);
            }
            assert_int_equal(code, MANTA_ETRANSPORT);
            assert_int_equal(received.status, MANTA_INPROGRESS);
            assert_non_null(strstr(error_of(world.ends[1]).sentence, "nobody knows whether"));
        }
        assert_int_equal(stand_in.reads, 6);
        close_world(&world);
        free(memory[0]);
        free(memory[1]);
    }
}

/* A provider that refuses to write leaves no way from memory to memory. */
static void test_direct_refused(void **state)
{
    (void)state;
    for (uint32_t kind = 0; kind < 2; kind++) {
        struct manta_transport_request sent, received;
        struct world world;
        void *registrations[2];
        uint8_t *memory[2] = {traffic_filled(LONG, 0, 1), malloc(LONG + 1)};
        struct manta_transport_buffer buffers[2];
        begin(WRITES | FI_HMEM);
        stand_in.refuse_data = FI_EBADFLAGS;
        stand_in.refuse_writes = kind;
        open_world(&world);
        for (uint32_t r = 0; r < 2; r++) {
            world.ends[r]->info->caps |= FI_HMEM;
            buffers[r] = (struct manta_transport_buffer){
                .address = memory[r], .bytes = LONG, .memory = MANTA_MEMORY_CUDA};
            assert_int_equal(
                mt_transport_ofi.mem_register(world.ends[r], &buffers[r], -1, 0, &registrations[r]),
                0);
            buffers[r].registration = registrations[r];
        }
        struct manta_transport_message send = message_of(1, 1, &buffers[0], 1);
        struct manta_transport_message recv = message_of(0, 1, &buffers[1], 1);
        send.flags = recv.flags = MANTA_MESSAGE_DIRECT;
        assert_int_equal(mt_transport_ofi.recv(world.ends[1], &recv, &received), 0);
        assert_int_equal(mt_transport_ofi.send(world.ends[0], &send, &sent), 0);
        for (uint32_t i = 0; i < 40; i++)
            mt_transport_ofi.progress(world.ends[i % 2]);
        assert_int_equal(sent.status, MANTA_ENOTSUP);
        assert_non_null(strstr(error_of(world.ends[0]).sentence, "finds no way to write"));
        close_world(&world);
        free(memory[0]);
        free(memory[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device_memory),
        cmocka_unit_test(test_direct),
        cmocka_unit_test(test_direct_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
