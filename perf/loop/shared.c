/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/loop/perf.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

/* How the others find rank 0's memory: through its descriptor, so nothing has a name in the file
 * system and nothing stays behind. The memory begins with the nonce. */
struct invitation {
    uint64_t nonce;
    int64_t pid, fd;
};

static void *map(int fd, size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

static void *make(struct invitation *invitation, size_t bytes)
{
    int fd = memfd_create("perf-start", MFD_CLOEXEC);
    if (fd < 0)
        return NULL;
    uint64_t *memory = NULL;
    if (ftruncate(fd, (off_t)bytes) == 0 &&
        getrandom(&invitation->nonce, sizeof invitation->nonce, 0) > 0)
        memory = map(fd, bytes);
    if (memory == NULL) {
        close(fd);
        return NULL;
    }
    *memory = invitation->nonce;
    invitation->pid = getpid();
    invitation->fd = fd;
    return memory;
}

/* On another host, or in another pid namespace, the path leads nowhere or to another nonce. */
static void *find(const struct invitation *invitation, size_t bytes)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)invitation->pid,
             (long long)invitation->fd);
    int fd = invitation->pid > 0 ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return NULL;
    uint64_t *memory = NULL;
    if (lseek(fd, 0, SEEK_END) >= (off_t)bytes)
        memory = map(fd, bytes);
    close(fd);
    if (memory != NULL && *memory != invitation->nonce) {
        munmap(memory, bytes);
        memory = NULL;
    }
    return memory;
}

int perf_shared_open(const struct perf_backend *backend, int rank, size_t bytes, void **memory_out)
{
    struct invitation invitation = {0};
    void *memory = NULL;
    if (rank == 0)
        memory = make(&invitation, bytes);
    if (backend->share(&invitation, sizeof invitation) == 0) {
        if (rank != 0)
            memory = find(&invitation, bytes);
        uint64_t lost = memory == NULL; /* one without it: nobody uses it */
        *memory_out = memory;
        if (backend->maximum(&lost, 1) == 0) {
            if (rank == 0 && invitation.pid > 0)
                close((int)invitation.fd);
            if (lost)
                perf_shared_close(memory, bytes);
            *memory_out = lost ? NULL : memory;
            return 0;
        }
    }
    perf_shared_close(memory, bytes);
    return -1;
}

void perf_shared_close(void *memory, size_t bytes)
{
    if (memory != NULL)
        munmap(memory, bytes);
}
