/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: geometry for any number of ranks, seals, and what a mapper refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/service.h"
#include "transport/shm/segment.h"

#define MIB (UINT64_C(1) << 20)

static void check_geometry(const struct mt_shm_geometry *g, uint32_t ranks, uint64_t budget)
{
    assert_true(g->segment_bytes <= budget);
    assert_true(g->team_at >= sizeof(struct mt_shm_header));
    assert_in_range(g->teams, 3, MT_SHM_TEAMS);
    assert_in_range(g->frames, 8, MT_SHM_FRAMES);
    assert_int_equal(g->frames & (g->frames - 1), 0);
    assert_true(g->channel_at >= g->team_at + g->teams * g->team_stride);
    assert_true(g->channel_stride >= (1 + g->frames) * (uint64_t)MT_SHM_LINE);
    assert_true(g->slice_at >= g->channel_at + ranks * g->channel_stride);
    assert_true(g->ring_at >= g->slice_at + ranks * g->slice_bytes);
    assert_true(g->subset_ring_at >= g->ring_at + g->ring_bytes);
    assert_true(g->segment_bytes >= g->subset_ring_at + (g->teams - 1) * g->subset_ring_bytes);
    assert_int_equal(g->team_stride % MT_SHM_LINE, 0);
    assert_int_equal(g->channel_stride % MT_SHM_LINE, 0);
    assert_int_equal(g->slice_bytes % MT_SHM_LINE, 0);
    for (uint32_t slot = 0; slot < g->teams; slot++) {
        uint64_t chunk = mt_shm_ring_bytes(g, slot) / MT_SHM_CHUNKS / MT_SHM_LINE * MT_SHM_LINE;
        assert_true(chunk >= ranks * (uint64_t)MT_SHM_LINE);
        assert_true(MT_SHM_WINDOW * chunk < mt_shm_ring_bytes(g, slot));
        assert_int_equal(mt_shm_ring_at(g, slot) % MT_SHM_LINE, 0);
    }
}

static void test_geometry(void **state)
{
    (void)state;
    for (uint32_t ranks = 1; ranks <= 600; ranks++) {
        struct mt_shm_geometry g;
        uint64_t budget = 256 * MIB / ranks;
        int code = mt_shm_geometry(ranks, budget, &g);
        if (code == 0)
            check_geometry(&g, ranks, budget);
        else
            assert_true(code == MANTA_ENOMEM && ranks > 256);
    }
    struct mt_shm_geometry two;
    assert_int_equal(mt_shm_geometry(2, 128 * MIB, &two), 0);
    assert_int_equal(two.ring_bytes, 2 * MIB);
    assert_int_equal(mt_shm_geometry(64, 4 * MIB, &two), 0);
    assert_true(two.ring_bytes >= MIB);
    assert_int_equal(mt_shm_geometry(8, 32 * MIB, &two), 0);
    assert_int_equal(two.teams, MT_SHM_TEAMS);
    assert_int_equal(two.frames, MT_SHM_FRAMES);
    for (uint64_t budget = 0; budget < 2 * MIB; budget += 10007) {
        int code = mt_shm_geometry(4, budget, &two);
        assert_true(code == 0 || code == MANTA_ENOMEM);
        if (code == 0)
            check_geometry(&two, 4, budget);
    }
}

/* What it says to be the least is enough, and one byte less is not. */
static void test_least_budget(void **state)
{
    (void)state;
    for (uint32_t ranks = 1; ranks <= 2000; ranks += 1 + ranks / 7) {
        struct mt_shm_geometry least, g;
        assert_int_equal(mt_shm_geometry(ranks, 0, &least), MANTA_ENOMEM);
        assert_int_equal(mt_shm_geometry(ranks, least.segment_bytes - 1, &g), MANTA_ENOMEM);
        assert_int_equal(mt_shm_geometry(ranks, least.segment_bytes, &g), 0);
        check_geometry(&g, ranks, least.segment_bytes);
    }
}

static struct mt_shm_identity identity_of(uint32_t rank)
{
    struct mt_shm_identity identity;
    memset(&identity, 0, sizeof(identity));
    identity.magic = 42;
    identity.version = MT_SHM_VERSION;
    identity.rank = rank;
    assert_int_equal(mt_shm_geometry(2, 4 * MIB, &identity.geometry), 0);
    return identity;
}

static void test_sealed(void **state)
{
    const struct mt_shm_identity identity = identity_of(1);
    uint64_t bytes = identity.geometry.segment_bytes;
    uint8_t *base;
    const uint8_t *seen;
    const char *call;
    int fd;
    (void)state;
    assert_int_equal(mt_shm_segment_create(&identity, &base, &fd, &call), 0);
    assert_int_equal(ftruncate(fd, 4096), -1);
    assert_int_equal(ftruncate(fd, (off_t)bytes + 4096), -1);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    /* Only the owner, who mapped it before it was sealed, can write. */
    assert_ptr_equal(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);

    assert_int_equal(mt_shm_segment_map(fd, &identity, &seen, &call), 0);
    base[bytes - 1] = 77;
    assert_int_equal(seen[bytes - 1], 77);
    assert_int_equal(seen[bytes - 2], 0);
    mt_shm_segment_unmap(seen, bytes);
    mt_shm_segment_unmap(base, bytes);
    mt_fd_close(fd);
}

static void assert_refused(int fd, const struct mt_shm_identity *expected, const char *reason)
{
    const uint8_t *seen = NULL;
    const char *call = NULL;
    assert_int_equal(mt_shm_segment_map(fd, expected, &seen, &call), MANTA_ETRANSPORT);
    assert_non_null(strstr(call, reason));
    assert_null(seen);
}

static void test_refused(void **state)
{
    const struct mt_shm_identity identity = identity_of(1);
    struct mt_shm_identity other = identity_of(2);
    uint8_t *base;
    const char *call;
    int fd;
    (void)state;
    assert_int_equal(mt_shm_segment_create(&identity, &base, &fd, &call), 0);
    assert_refused(fd, &other, "another owner");
    other = identity;
    other.geometry.ring_at += 64;
    assert_refused(fd, &other, "another owner");
    other.geometry.segment_bytes += 4096;
    assert_refused(fd, &other, "another size");
    memset(base, 0xff, sizeof(identity));
    assert_refused(fd, &identity, "another owner");
    mt_shm_segment_unmap(base, identity.geometry.segment_bytes);
    mt_fd_close(fd);

    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_refused(null, &identity, "not a memfd");
    close(null);
    int unsealed = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(unsealed, (off_t)identity.geometry.segment_bytes), 0);
    assert_refused(unsealed, &identity, "not sealed");
    assert_int_equal(fcntl(unsealed, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), 0);
    assert_refused(unsealed, &identity, "not sealed");
    assert_int_equal(fcntl(unsealed, F_ADD_SEALS, F_SEAL_SEAL), 0);
    assert_refused(unsealed, &identity, "another owner");
    close(unsealed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_geometry),
        cmocka_unit_test(test_least_budget),
        cmocka_unit_test(test_sealed),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
