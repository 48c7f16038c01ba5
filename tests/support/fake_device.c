/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in's memory of devices; see tests/support/fake_verbs.h. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/support/fake_verbs_impl.h"

uint8_t *fake_reach(const struct fake_mr *mr, uint64_t address)
{
    if (mr->device == NULL)
        return (uint8_t *)(uintptr_t)address;
    return mr->device + (address - (uint64_t)(uintptr_t)mr->base.addr);
}

/* From the first to the last, as cards do: who sees the last eight bytes sees all. */
static void place(uint8_t *to, const uint8_t *bytes, uint64_t count)
{
    uint64_t last;
    if (count < sizeof(last) || ((uintptr_t)to + count) % sizeof(last) != 0) {
        memcpy(to, bytes, count);
        return;
    }
    memcpy(to, bytes, count - sizeof(last));
    memcpy(&last, bytes + count - sizeof(last), sizeof(last));
    /* Pairs with the load in who polls this memory. */
    atomic_store_explicit((_Atomic uint64_t *)(void *)(to + count - sizeof(last)), last,
                          memory_order_release);
}

void fake_device_write(struct fake_mr *mr, const struct fake_device *by, uint64_t address,
                       const uint8_t *bytes, uint64_t count)
{
    if (mr->device == NULL) {
        place(fake_reach(mr, address), bytes, count);
        return;
    }
    struct fake_late *late = malloc(sizeof(*late) + count);
    *late = (struct fake_late){address - (uint64_t)(uintptr_t)mr->base.addr, count, by, NULL};
    memcpy(late->data, bytes, count);
    *mr->late_end = late;
    mr->late_end = &late->next;
}

void fake_device_read(struct fake_mr *mr, const struct fake_device *by)
{
    struct fake_late **link = &mr->late;
    while (*link != NULL) {
        struct fake_late *late = *link;
        if (late->by != by) {
            link = &late->next;
            continue;
        }
        memcpy(mr->device + late->offset, late->data, late->bytes);
        *link = late->next;
        free(late);
    }
    mr->late_end = link;
}

int fake_device_map(struct fake_mr *mr, int fd, uint64_t offset, uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    if (memory == MAP_FAILED)
        return errno;
    mr->device = memory;
    mr->late_end = &mr->late;
    return 0;
}

void fake_device_unmap(struct fake_mr *mr)
{
    while (mr->late != NULL) {
        struct fake_late *late = mr->late;
        mr->late = late->next;
        free(late);
    }
    if (mr->device != NULL)
        munmap(mr->device, mr->base.length);
}
