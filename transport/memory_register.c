/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of the caller. What the kernel has mapped there stands in /proc/self/maps; a memfd is
 * reached by a descriptor of the same file, which this process must have open. Private memory is
 * moved into a memfd if the caller wants that: copied, and the memfd mapped over it.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/service.h"
#include "transport/memory_table.h"

/* What a range lies in. */
struct mapping {
    uintptr_t start, end;
    uint64_t file_offset; /* of start */
    dev_t device;
    ino_t inode; /* 0: anonymous */
    int is_shared, is_plain /* rw-: readable and writable */, is_stack;
};

/* "7f..-7f.. rw-s 00000000 00:01 1234 /memfd:x (deleted)" */
static int read_mapping(const char *line, struct mapping *mapping_out)
{
    unsigned long start, end, offset, inode;
    unsigned major, minor;
    char access[5];
    int name = 0;
    if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %n", &start, &end, access, &offset, &major, &minor,
               &inode, &name) != 7)
        return -1;
    *mapping_out = (struct mapping){.start = start,
                                    .end = end,
                                    .file_offset = offset,
                                    .device = makedev(major, minor),
                                    .inode = inode,
                                    .is_shared = access[3] == 's',
                                    .is_plain = memcmp(access, "rw-", 3) == 0,
                                    .is_stack = line[name] == '[' && strstr(line + name, "stack")};
    return 0;
}

/* One mapping that holds the range from its first page to its last, or several private anonymous
 * ones that follow each other: then the last one is told, from the first one's start on. */
static int find_mapping(uintptr_t first, uintptr_t end, struct mapping *mapping_out)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char *line = NULL;
    size_t room = 0;
    uintptr_t reached = first;
    if (maps == NULL)
        return -1;
    while (reached < end && getline(&line, &room, maps) > 0) {
        struct mapping next;
        if (read_mapping(line, &next) != 0 || next.end <= reached)
            continue;
        int follows = reached > first && mapping_out->inode == 0 && next.inode == 0 &&
                      mapping_out->is_shared == next.is_shared &&
                      mapping_out->is_plain == next.is_plain && !next.is_stack;
        if (next.start > reached || (reached > first && !follows))
            break;
        if (reached > first)
            next.start = mapping_out->start;
        *mapping_out = next;
        reached = next.end;
    }
    free(line);
    fclose(maps);
    return reached >= end ? 0 : -1;
}

/* A copy of a descriptor of this process that leads to the file, or -1. */
static int find_descriptor(const struct mapping *mapping)
{
    DIR *folder = opendir("/proc/self/fd");
    int found = -1;
    struct dirent *entry;
    while (folder != NULL && found < 0 && (entry = readdir(folder)) != NULL) {
        struct stat status;
        int fd = isdigit((unsigned char)entry->d_name[0]) ? atoi(entry->d_name) : -1;
        if (fd < 0 || fd == dirfd(folder) || fstat(fd, &status) != 0 ||
            status.st_ino != mapping->inode || status.st_dev != mapping->device)
            continue;
        found = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    }
    if (folder != NULL)
        closedir(folder);
    if (found >= 0)
        mt_fd_enter(found);
    return found;
}

/* 0, or why peers cannot have the file. */
static const char *seal(int fd)
{
    struct statfs system;
    int seals = fcntl(fd, F_GET_SEALS);
    if (fstatfs(fd, &system) == 0 && system.f_type == HUGETLBFS_MAGIC)
        return "it consists of huge pages of hugetlbfs";
    if (seals < 0)
        return "it is a mapping of a file that is no memfd, which could be cut while peers read it";
    if ((seals & F_SEAL_SHRINK) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0)
        return "its memfd cannot be sealed against shrinking; make it with MFD_ALLOW_SEALING";
    return NULL;
}

/* Holding the lock. Pages that are private again as soon as another piece is unregistered. */
static int is_beside_moved(uintptr_t first, uintptr_t end)
{
    const struct mt_memory_piece *other;
    for (uintptr_t at = first; at < end; at = other->start + other->bytes) {
        other = mt_memory_overlap(at, end - at);
        if (other == NULL)
            return 0;
        if (other->kind == MT_MEMORY_REMAPPED)
            return 1;
    }
    return 0;
}

/* Pages behind the end of a file kill who touches them. */
static int holds_pages(int fd, uint64_t offset, uint64_t bytes)
{
    struct stat status;
    return fstat(fd, &status) == 0 &&
           offset + bytes <= mt_memory_page_up((uintptr_t)status.st_size);
}

/* Shared memory: find its file. */
static void take_file(const struct mapping *mapping, struct mt_memory_piece *piece)
{
    uintptr_t first = mt_memory_page_down(piece->start);
    uint64_t bytes = mt_memory_page_up(piece->start + piece->bytes) - first;
    uint64_t offset = mapping->file_offset + (first - mapping->start);
    int fd = find_descriptor(mapping);
    piece->why = fd < 0 ? "this process has no descriptor of its file open, by which peers could "
                          "map it"
                        : seal(fd);
    if (piece->why == NULL && !holds_pages(fd, offset, bytes))
        piece->why = "its file ends before it";
    if (piece->why != NULL) {
        mt_fd_close(fd);
        return;
    }
    piece->fd = mt_memory_read_only(fd);
    piece->offset = offset;
}

/* Of this thread: the kernel does not tell which memory is another thread's. */
static int is_stack(uintptr_t first, uintptr_t end)
{
    pthread_attr_t attributes;
    void *stack = NULL;
    size_t bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0)
        return 0;
    pthread_attr_getstack(&attributes, &stack, &bytes);
    pthread_attr_destroy(&attributes);
    return first < (uintptr_t)stack + bytes && (uintptr_t)stack < end;
}

static int refuse_remap(const struct mapping *mapping, uintptr_t first, uintptr_t end,
                        struct mt_error *error)
{
    const char *why = NULL;
    if (mapping->is_shared)
        why = "it is shared memory already; register it without the flag";
    else if (mapping->inode != 0)
        why = "it is a mapping of a file, or of huge pages";
    else if (mapping->is_stack || is_stack(first, end))
        why = "it is a stack";
    else if (!mapping->is_plain)
        why = "it is not mapped for reading and writing, or it is code";
    if (why == NULL)
        return 0;
    return mt_error_set(error, MANTA_EINVAL,
                        "MANTA_MEM_REMAP cannot move this memory: %s. Pass memory of malloc(), or "
                        "of mmap(), MAP_PRIVATE and MAP_ANONYMOUS",
                        why);
}

/* The pages hold more than the caller's range, which is why no function copies them that a
 * sanitizer watches. */
static int write_pages(int fd, uintptr_t first, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes;) {
        long written = syscall(SYS_pwrite64, fd, first + at, bytes - at, at);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return -1;
        at += (uint64_t)written;
    }
    return 0;
}

/* Write the pages into a file, and have the file in their place. */
static int move(uintptr_t first, uint64_t bytes, int *fd_out, struct mt_error *error)
{
    int fd = mt_memory_create_file(bytes);
    if (fd >= 0 && write_pages(fd, first, bytes) == 0 &&
        mmap((void *)first, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
            MAP_FAILED) {
        mt_memory_populate((void *)first, bytes);
        *fd_out = mt_memory_read_only(fd);
        return 0;
    }
    int saved = errno, is_memory = saved == ENOMEM || saved == ENOSPC;
    mt_fd_close(fd);
    errno = saved;
    return mt_error_set(error, is_memory ? MANTA_ENOMEM : MANTA_ESYSTEM,
                        "the memory could not be moved into shared memory: %s", strerror(saved));
}

static int read_pages(int fd, uint8_t *to, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes;) {
        ssize_t got = pread(fd, to + at, bytes - at, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -1;
        at += (uint64_t)got;
    }
    return 0;
}

/* Private pages with the same contents, in the place of the file: whoever maps this memory next, or
 * is forked, has nothing to do with peers. */
static int move_back(const struct mt_memory_piece *piece, struct mt_error *error)
{
    uintptr_t first = mt_memory_page_down(piece->start);
    uint64_t bytes = mt_memory_page_up(piece->start + piece->bytes) - first;
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages != MAP_FAILED && read_pages(piece->fd, pages, bytes) == 0 &&
        mremap(pages, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)first) != MAP_FAILED)
        return 0;
    int saved = errno;
    if (pages != MAP_FAILED)
        munmap(pages, bytes);
    return mt_error_set(error, saved == ENOMEM ? MANTA_ENOMEM : MANTA_ESYSTEM,
                        "the memory could not be moved back out of shared memory: %s; it stays "
                        "registered",
                        strerror(saved));
}

static int classify(struct mt_memory_piece *piece, int remap, struct mt_error *error)
{
    uintptr_t first = mt_memory_page_down(piece->start);
    uintptr_t end = mt_memory_page_up(piece->start + piece->bytes);
    struct mapping mapping = {0};
    if (find_mapping(first, end, &mapping) != 0) {
        if (remap)
            return mt_error_set(error, MANTA_EINVAL,
                                "MANTA_MEM_REMAP: the range is not mapped as a whole, or not all "
                                "of it is private memory of one kind");
        piece->why = "the range is not one mapping";
        return 0;
    }
    if (remap) {
        int code = refuse_remap(&mapping, first, end, error);
        piece->kind = MT_MEMORY_REMAPPED;
        return code != 0 ? code : move(first, end - first, &piece->fd, error);
    }
    if (is_beside_moved(first, end))
        piece->why = "it shares a page with memory that was moved by MANTA_MEM_REMAP";
    else if (mapping.is_shared && mapping.inode != 0)
        take_file(&mapping, piece);
    else
        piece->why = "it is private memory, which is copied for peers; allocate it with "
                     "manta_mem_alloc(), or register it with MANTA_MEM_REMAP";
    return 0;
}

/* Holding the lock. */
static int enter(uintptr_t start, uint64_t bytes, int remap, struct mt_error *error)
{
    uintptr_t first = mt_memory_page_down(start), end = mt_memory_page_up(start + bytes);
    const struct mt_memory_piece *other = mt_memory_overlap(start, bytes);
    if (other != NULL && other->kind == MT_MEMORY_ALLOCATED && start >= other->start &&
        bytes <= other->bytes - (start - other->start))
        return 0;
    if (other == NULL && remap)
        other = mt_memory_overlap(first, end - first);
    if (other != NULL)
        return mt_error_set(error, MANTA_EINVAL,
                            "the range overlaps %llu bytes at %p that are registered already; "
                            "unregister those first",
                            (unsigned long long)other->bytes, (void *)other->start);
    struct mt_memory_piece piece = {
        .start = start, .bytes = bytes, .kind = MT_MEMORY_REGISTERED, .fd = -1};
    int code = classify(&piece, remap, error);
    if (code == 0 && mt_memory_enter(&piece) != 0) {
        mt_fd_close(piece.fd);
        code = mt_error_set(error, MANTA_ENOMEM, "no memory to remember a piece of memory");
    }
    return code;
}

int mt_memory_register(void *start, uint64_t bytes, int remap, struct mt_error *error)
{
    uintptr_t at = (uintptr_t)start;
    if (start == NULL || bytes == 0 || bytes > MT_MEMORY_MOST || at + bytes < at ||
        at + bytes > UINTPTR_MAX - MT_MEMORY_PAGE)
        return mt_error_set(error, MANTA_EINVAL,
                            "addr and bytes name no range of memory: addr is %p, bytes is %llu",
                            start, (unsigned long long)bytes);
    mt_memory_lock();
    int code = enter(at, bytes, remap, error);
    mt_memory_unlock();
    return code;
}

int mt_memory_unregister(void *start, struct mt_error *error)
{
    int code = 0;
    mt_memory_lock();
    struct mt_memory_piece *piece = mt_memory_overlap((uintptr_t)start, 1);
    int is_callers = piece != NULL && piece->kind != MT_MEMORY_ALLOCATED;
    if (piece == NULL || (is_callers && piece->start != (uintptr_t)start))
        code = mt_error_set(error, MANTA_EINVAL,
                            "addr is not registered in this process; pass the address that "
                            "manta_mem_register() was given");
    else if (piece->kind == MT_MEMORY_REMAPPED)
        code = move_back(piece, error);
    if (code == 0 && is_callers)
        mt_memory_leave(piece);
    mt_memory_unlock();
    return code;
}
