/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls about memory. They are local, and belong to the process. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "collectives/comm.h"
#include "transport/memory.h"

static int finish(struct manta_comm *comm, int code, const struct mt_error *error)
{
    if (code != 0)
        mt_comm_set_error(comm, error);
    return code;
}

int manta_mem_alloc(struct manta_comm *comm, uint64_t bytes, void **ptr_out)
{
    struct mt_error error;
    if (!ptr_out) {
        mt_error_set(&error, MANTA_EINVAL, "ptr_out is NULL");
        return finish(comm, error.code, &error);
    }
    return finish(comm, mt_memory_alloc(bytes, ptr_out, &error), &error);
}

int manta_mem_free(void *ptr)
{
    struct mt_error error;
    return ptr ? finish(NULL, mt_memory_free(ptr, &error), &error) : 0;
}

int manta_mem_register(void *addr, uint64_t bytes, int flags)
{
    struct mt_error error;
    if (flags & ~MANTA_MEM_REMAP) {
        mt_error_set(&error, MANTA_EINVAL, "flags is %d: it must be 0 or MANTA_MEM_REMAP", flags);
        return finish(NULL, error.code, &error);
    }
    return finish(NULL, mt_memory_register(addr, bytes, flags & MANTA_MEM_REMAP, &error), &error);
}

int manta_mem_unregister(void *addr)
{
    struct mt_error error;
    return finish(NULL, mt_memory_unregister(addr, &error), &error);
}

int manta_mem_query(const void *addr, struct manta_mem_info *info)
{
    struct mt_memory_view view;
    if (!info || info->size < offsetof(struct manta_mem_info, reason))
        return MANTA_EINVAL;
    mt_memory_describe(addr, &view);
    struct manta_mem_info full = {.size = info->size,
                                  .start = view.start,
                                  .bytes = view.bytes,
                                  .in_place = view.segment != 0};
    snprintf(full.reason, sizeof(full.reason), "%s", view.reason);
    memcpy(info, &full, info->size < sizeof(full) ? info->size : sizeof(full));
    return 0;
}
