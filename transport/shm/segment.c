/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: their geometry, creation, sealing, and what is checked before a peer's is mapped. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/service.h"
#include "transport/shm/segment.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

enum { RING_MAX = 2 << 20, SLICE_MAX = 1 << 20, SLICE_MIN = 1024, FRAMES_MIN = 8, TEAMS_MIN = 3 };

_Static_assert(sizeof(struct mt_shm_header) <= MT_SHM_PAGE, "the header fits its page");
_Static_assert((int)TEAMS_MIN >= (int)MT_SHM_SLOT_SUBSETS, "groups have their slots");
_Static_assert((int)MT_SHM_WINDOW < (int)MT_SHM_CHUNKS, "the window is smaller than the ring");

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static uint64_t round_down(uint64_t value, uint64_t unit)
{
    return value / unit * unit;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void place(struct mt_shm_geometry *g)
{
    g->channel_at = g->team_at + g->teams * g->team_stride;
    g->channel_stride = (1 + (uint64_t)g->frames) * MT_SHM_LINE;
    g->slice_at = round_up(g->channel_at + g->local_ranks * g->channel_stride, MT_SHM_PAGE);
    g->ring_at = round_up(g->slice_at + g->local_ranks * g->slice_bytes, MT_SHM_PAGE);
    g->subset_ring_at = g->ring_at + g->ring_bytes;
    g->segment_bytes =
        round_up(g->subset_ring_at + (g->teams - 1) * g->subset_ring_bytes, MT_SHM_PAGE);
}

/* The least of everything. The more ranks, the fewer frames each channel has, and the fewer subsets
 * a rank may be in. */
static void place_least(struct mt_shm_geometry *g, uint64_t ring_min, uint64_t budget_bytes)
{
    g->teams = MT_SHM_TEAMS;
    g->frames = MT_SHM_FRAMES;
    g->slice_bytes = SLICE_MIN;
    g->ring_bytes = g->subset_ring_bytes = ring_min;
    for (place(g); g->segment_bytes > budget_bytes / 2; place(g)) {
        if (g->frames > FRAMES_MIN)
            g->frames /= 2;
        else if (g->teams > TEAMS_MIN)
            g->teams--;
        else
            return;
    }
}

/* Everything gets what it needs; of the rest, the ring gets half, slices a quarter, and the rings
 * of subsets an eighth. */
int mt_shm_geometry(uint32_t local_ranks, uint64_t budget_bytes, struct mt_shm_geometry *out)
{
    struct mt_shm_geometry g = {.local_ranks = local_ranks, .team_at = MT_SHM_PAGE};
    /* A chunk holds a line for every rank, whatever the budget. */
    const uint64_t unit = (uint64_t)MT_SHM_CHUNKS * MT_SHM_LINE;
    const uint64_t ring_min = round_up(unit * (local_ranks > 16 ? local_ranks : 16), MT_SHM_PAGE);

    g.team_stride = MT_SHM_LINE + (uint64_t)MT_SHM_TICKS * MT_SHM_ENTRY;
    place_least(&g, ring_min, budget_bytes);
    *out = g;
    if (g.segment_bytes > budget_bytes)
        return MANTA_ENOMEM;
    uint64_t rest = budget_bytes - g.segment_bytes;
    uint64_t subsets = g.teams - 1;
    g.ring_bytes += round_down(min_u64(RING_MAX - ring_min, rest / 2), MT_SHM_PAGE);
    g.slice_bytes +=
        round_down(min_u64(SLICE_MAX - SLICE_MIN, rest / 4 / local_ranks), MT_SHM_LINE);
    g.subset_ring_bytes +=
        round_down(min_u64(g.ring_bytes - ring_min, rest / 8 / subsets), MT_SHM_PAGE);
    place(&g);
    *out = g;
    return 0;
}

void mt_shm_populate(const uint8_t *start, uint64_t bytes, int for_writing)
{
    uintptr_t from = (uintptr_t)start / MT_SHM_PAGE * MT_SHM_PAGE;
    uintptr_t to = round_up((uintptr_t)start + bytes, MT_SHM_PAGE);
    int saved = errno;
    madvise((void *)from, to - from, for_writing ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
    errno = saved;
}

/* Nobody can shrink it (which would kill readers), grow it, or map it for writing from now on. */
static int seal(int fd)
{
    const int always = F_SEAL_SHRINK | F_SEAL_GROW;
    if (fcntl(fd, F_ADD_SEALS, always | F_SEAL_FUTURE_WRITE) != 0 &&
        fcntl(fd, F_ADD_SEALS, always) != 0)
        return -1;
    return fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL);
}

int mt_shm_segment_create(const struct mt_shm_identity *identity, uint8_t **base_out, int *fd_out,
                          const char **call_out)
{
    const struct mt_shm_geometry *g = &identity->geometry;
    *call_out = "memfd_create";
    int fd = memfd_create("manta", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return MANTA_ESYSTEM;
    mt_fd_enter(fd);
    *call_out = "ftruncate";
    if (ftruncate(fd, (off_t)g->segment_bytes) != 0)
        goto err_close;
    *call_out = "mmap";
    uint8_t *base = mmap(NULL, g->segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        goto err_close;
    *call_out = "fcntl(F_ADD_SEALS)";
    if (seal(fd) != 0)
        goto err_unmap;
    /* A forked child must not keep the memory alive. */
    madvise(base, g->segment_bytes, MADV_DONTFORK);
    mt_shm_populate(base, g->team_at + g->team_stride, 1);
    mt_shm_populate(base + g->ring_at, g->ring_bytes, 1);
    memcpy(base, identity, sizeof(*identity));
    *base_out = base;
    *fd_out = fd;
    return 0;

err_unmap:
    munmap(base, g->segment_bytes);
err_close:;
    int saved = errno;
    mt_fd_close(fd);
    errno = saved;
    return saved == ENOMEM ? MANTA_ENOMEM : MANTA_ESYSTEM;
}

static const char *find_fault(int fd, const struct mt_shm_identity *expected)
{
    const int always = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return "what it passed is not a memfd";
    if ((seals & always) != always)
        return "its segment is not sealed";
    if (fstat(fd, &status) != 0 || (uint64_t)status.st_size != expected->geometry.segment_bytes)
        return "its segment has another size";
    return NULL;
}

int mt_shm_segment_map(int fd, const struct mt_shm_identity *expected, const uint8_t **base_out,
                       const char **call_out)
{
    const struct mt_shm_geometry *g = &expected->geometry;
    *call_out = find_fault(fd, expected);
    if (*call_out != NULL)
        return MANTA_ETRANSPORT;
    *call_out = "mmap";
    const uint8_t *base = mmap(NULL, g->segment_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return MANTA_ESYSTEM;
    struct mt_shm_identity identity;
    memcpy(&identity, base, sizeof(identity));
    if (memcmp(&identity, expected, sizeof(identity)) != 0) {
        *call_out = "its segment has another owner or geometry";
        munmap((void *)(uintptr_t)base, g->segment_bytes);
        return MANTA_ETRANSPORT;
    }
    madvise((void *)(uintptr_t)base, g->segment_bytes, MADV_DONTFORK);
    mt_shm_populate(base, g->team_at + g->team_stride, 0);
    mt_shm_populate(base + g->ring_at, g->ring_bytes, 0);
    *base_out = base;
    return 0;
}

void mt_shm_segment_unmap(const uint8_t *base, uint64_t bytes)
{
    munmap((void *)(uintptr_t)base, bytes);
}
