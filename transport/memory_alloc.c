/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is made to be read in place: a memfd, mapped for writing here. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/service.h"
#include "topology/host.h"
#include "transport/memory_table.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define HUGE_PAGE (UINT64_C(2) << 20)

/* The kernel promises a file of any length, and kills a process when it is filled. */
static int is_too_much(uint64_t bytes)
{
    uint64_t obtainable = mt_host_obtainable_bytes();
    return obtainable > 0 && bytes > obtainable;
}

int mt_memory_create_file(uint64_t bytes)
{
    if (is_too_much(bytes)) {
        errno = ENOMEM;
        return -1;
    }
    int fd = memfd_create("manta-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    mt_fd_enter(fd);
    if (ftruncate(fd, (off_t)bytes) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return fd;
    int saved = errno;
    mt_fd_close(fd);
    errno = saved;
    return -1;
}

int mt_memory_read_only(int fd)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int other = open(path, O_RDONLY | O_CLOEXEC);
    if (other < 0)
        return fd;
    mt_fd_enter(other);
    mt_fd_close(fd);
    return other;
}

/* Room with the right place in a huge page, in which the file is then mapped. */
uint8_t *mt_memory_map(int fd, uint64_t file_offset, uint64_t bytes, int for_writing)
{
    int access = for_writing ? PROT_READ | PROT_WRITE : PROT_READ;
    uint64_t slack = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    uint8_t *room =
        mmap(NULL, bytes + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return NULL;
    uint64_t before = slack == 0 ? 0 : (file_offset - (uintptr_t)room) % HUGE_PAGE;
    uint8_t *base = room + before;
    if (mmap(base, bytes, access, MAP_SHARED | MAP_FIXED, fd, (off_t)file_offset) == MAP_FAILED) {
        int saved = errno;
        munmap(room, bytes + slack);
        errno = saved;
        return NULL;
    }
    if (before != 0)
        munmap(room, before);
    if (slack > before)
        munmap(base + bytes, slack - before);
    int saved = errno;
    if (slack != 0)
        madvise(base, bytes, MADV_HUGEPAGE);
    errno = saved;
    return base;
}

/* Kernels before 5.14 cannot; they bring pages in as they are touched. */
int mt_memory_populate(void *start, uint64_t bytes)
{
    if (madvise(start, bytes, MADV_POPULATE_WRITE) == 0 || errno == EINVAL)
        return 0;
    return MANTA_ENOMEM;
}

static int refuse(struct mt_error *error, uint64_t bytes)
{
    const char *why = strerror(errno); /* before the host is asked, which has errors of its own */
    if (errno == ENOMEM || errno == ENOSPC || errno == EFBIG)
        return mt_error_set(error, MANTA_ENOMEM,
                            "no %llu bytes of shared memory to be had: %s; ask for less, this host "
                            "and this process's control groups leave it %llu",
                            (unsigned long long)bytes, why,
                            (unsigned long long)mt_host_obtainable_bytes());
    return mt_error_set(error, MANTA_ESYSTEM,
                        "no shared memory: memfd_create or mmap fails (%s); raise the limit of "
                        "open files (ulimit -n) if that is the reason",
                        why);
}

/* The piece, mapped and in memory. 0, or -1 with errno. */
static int make(uint64_t bytes, struct mt_memory_piece *piece_out)
{
    uint64_t whole = mt_memory_page_up(bytes);
    int fd = mt_memory_create_file(whole);
    uint8_t *base = fd < 0 ? NULL : mt_memory_map(fd, 0, whole, 1);
    if (base != NULL && mt_memory_populate(base, whole) != 0) {
        munmap(base, whole);
        errno = ENOMEM;
        base = NULL;
    }
    if (base == NULL) {
        int saved = errno;
        mt_fd_close(fd);
        errno = saved;
        return -1;
    }
    *piece_out = (struct mt_memory_piece){.start = (uintptr_t)base,
                                          .bytes = bytes,
                                          .kind = MT_MEMORY_ALLOCATED,
                                          .fd = mt_memory_read_only(fd)};
    return 0;
}

int mt_memory_alloc(uint64_t bytes, void **start_out, struct mt_error *error)
{
    struct mt_memory_piece piece;
    *start_out = NULL;
    if (bytes == 0 || bytes > MT_MEMORY_MOST)
        return mt_error_set(error, MANTA_EINVAL, "bytes is %llu: it must be 1 .. 2^62",
                            (unsigned long long)bytes);
    if (make(bytes, &piece) != 0)
        return refuse(error, bytes);
    mt_memory_lock();
    int code = mt_memory_enter(&piece);
    mt_memory_unlock();
    if (code != 0) {
        munmap((void *)piece.start, mt_memory_page_up(bytes));
        mt_fd_close(piece.fd);
        return mt_error_set(error, code, "no memory to remember a piece of memory");
    }
    *start_out = (void *)piece.start;
    return 0;
}

int mt_memory_free(void *start, struct mt_error *error)
{
    uint64_t whole = 0;
    mt_memory_lock();
    struct mt_memory_piece *piece = mt_memory_at((uintptr_t)start);
    if (piece != NULL && piece->kind == MT_MEMORY_ALLOCATED) {
        whole = mt_memory_page_up(piece->bytes);
        mt_memory_leave(piece);
    }
    mt_memory_unlock();
    if (whole == 0)
        return mt_error_set(error, MANTA_EINVAL,
                            "ptr is not memory that manta_mem_alloc() gave to this process, or it "
                            "was freed before; pass the address that it gave");
    /* Peers have it mapped until they hear of it: without its pages. */
    madvise(start, whole, MADV_REMOVE);
    munmap(start, whole);
    return 0;
}
