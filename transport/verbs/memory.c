/* SPDX-License-Identifier: Apache-2.0 */
/* What cards are shown: memory of the program, on all rails at once; of devices by dma-buf. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "transport/verbs/verbs.h"

enum { ENTRIES = 1024 };
#define IDLE_BYTES (UINT64_C(1) << 36)
#define REMOTE (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ)

static void end(void *arg, void *handle)
{
    struct mt_verbs_endpoint *endpoint = arg;
    struct mt_verbs_memory *memory = handle;
    for (uint32_t rail = 0; rail < endpoint->rail_count; rail++) {
        if (memory->mr[rail] != NULL)
            endpoint->library->dereg_mr(memory->mr[rail]);
    }
    endpoint->host->free(memory);
}

static int refuse(struct mt_verbs_endpoint *endpoint, uint32_t rail, uint64_t bytes, int error)
{
    struct rlimit limit = {0};
    int code = error == ENOMEM || error == EAGAIN ? MANTA_ENOMEM : MANTA_ENOTSUP;
    getrlimit(RLIMIT_MEMLOCK, &limit);
    return mt_messages_error_set(
        endpoint->messages, code, MANTA_PLAN_NONE, error,
        "%s cannot register %llu bytes of memory: %s%s", endpoint->rails[rail].name,
        (unsigned long long)bytes, strerror(error),
        code == MANTA_ENOMEM && limit.rlim_cur != RLIM_INFINITY
            ? "; raise the limit of locked memory (ulimit -l unlimited), or give CAP_IPC_LOCK"
            : "");
}

/* Source buffers may be read only. */
static struct ibv_mr *show(const struct mt_verbs_endpoint *endpoint, uint32_t rail, void *start,
                           uint64_t bytes)
{
    struct ibv_pd *pd = endpoint->rails[rail].pd;
    struct ibv_mr *mr =
        endpoint->library->reg_mr_iova2(pd, start, bytes, (uint64_t)(uintptr_t)start, REMOTE);
    if (mr == NULL && (errno == EFAULT || errno == EACCES))
        mr = endpoint->library->reg_mr_iova2(pd, start, bytes, (uint64_t)(uintptr_t)start, 0);
    return mr;
}

static struct mt_verbs_memory *memory_create(struct mt_verbs_endpoint *endpoint)
{
    struct mt_verbs_memory *memory = endpoint->host->alloc(sizeof(*memory), 64);
    if (memory == NULL)
        mt_messages_error_set(endpoint->messages, MANTA_ENOMEM, MANTA_PLAN_NONE, 0,
                              "no memory to note a registration");
    else
        memset(memory, 0, sizeof(*memory));
    return memory;
}

static int make(void *arg, void *start, uint64_t bytes, void **handle_out)
{
    struct mt_verbs_endpoint *endpoint = arg;
    struct mt_verbs_memory *memory = memory_create(endpoint);
    if (memory == NULL)
        return MANTA_ENOMEM;
    for (uint32_t rail = 0; rail < endpoint->rail_count; rail++) {
        errno = 0;
        memory->mr[rail] = show(endpoint, rail, start, bytes);
        if (memory->mr[rail] == NULL) {
            int code = refuse(endpoint, rail, bytes, errno);
            end(endpoint, memory);
            return code;
        }
    }
    *handle_out = memory;
    return 0;
}

int mt_verbs_memory_open(struct mt_verbs_endpoint *endpoint)
{
    const struct mt_registration_settings settings = {.host = endpoint->host,
                                                      .most = ENTRIES,
                                                      .most_bytes = IDLE_BYTES,
                                                      .make = make,
                                                      .end = end,
                                                      .arg = endpoint};
    return mt_registrations_create(&settings, &endpoint->registrations);
}

/* Memory of a device, by the dma-buf that its driver exports. */
static int make_of_dmabuf(struct mt_verbs_endpoint *endpoint,
                          const struct manta_transport_buffer *buffer, int fd, uint64_t offset,
                          struct mt_verbs_memory **memory_out)
{
    struct mt_verbs_memory *memory = memory_create(endpoint);
    *memory_out = NULL;
    if (memory == NULL)
        return MANTA_ENOMEM;
    for (uint32_t rail = 0; rail < endpoint->rail_count; rail++) {
        errno = 0;
        memory->mr[rail] =
            endpoint->library->reg_dmabuf_mr(endpoint->rails[rail].pd, offset, buffer->bytes,
                                             (uint64_t)(uintptr_t)buffer->address, fd, REMOTE);
        if (memory->mr[rail] == NULL) {
            int code = refuse(endpoint, rail, buffer->bytes, errno);
            end(endpoint, memory);
            return code;
        }
    }
    *memory_out = memory;
    return 0;
}

/* Without a dma-buf, device memory is tried as it is: a driver with peer memory takes it. */
int mt_verbs_mem_register(void *handle, const struct manta_transport_buffer *buffer, int dmabuf_fd,
                          uint64_t dmabuf_offset, void **registration_out)
{
    struct mt_verbs_endpoint *endpoint = handle;
    struct mt_verbs_memory *memory = NULL;
    struct mt_registration *registration;
    *registration_out = NULL;
    if (buffer->bytes == 0)
        return mt_messages_error_set(endpoint->messages, MANTA_EINVAL, MANTA_PLAN_NONE, 0,
                                     "no memory of 0 bytes can be registered");
    int code = mt_verbs_start(endpoint);
    if (code == 0 && (buffer->flags & MANTA_BUFFER_FLUSH))
        code = mt_verbs_flush_open(endpoint);
    if (code == 0 && dmabuf_fd >= 0)
        code = make_of_dmabuf(endpoint, buffer, dmabuf_fd, dmabuf_offset, &memory);
    if (code != 0)
        return code;
    code = mt_registrations_enter(endpoint->registrations, buffer, memory, &registration);
    if (code != 0 && memory != NULL)
        end(endpoint, memory);
    *registration_out = registration;
    return code;
}

int mt_verbs_mem_deregister(void *handle, void *registration)
{
    struct mt_verbs_endpoint *endpoint = handle;
    mt_registrations_remove(endpoint->registrations, registration);
    return 0;
}

/* Where it is, and its key for each rail: 8 bytes each, in this host's order of bytes. */
struct exported {
    uint64_t start, bytes, rails;
    uint64_t keys[MT_VERBS_RAILS];
};

int mt_verbs_mem_export(void *handle, void *registration, void *blob, size_t blob_bytes,
                        size_t *bytes_out)
{
    const struct mt_verbs_endpoint *endpoint = handle;
    const struct mt_registration *shown = registration;
    const struct mt_verbs_memory *memory = shown->handle;
    struct exported exported = {
        .start = shown->start, .bytes = shown->bytes, .rails = endpoint->rail_count};
    if (blob_bytes < sizeof(exported))
        return MANTA_EINVAL;
    for (uint32_t rail = 0; rail < endpoint->rail_count; rail++)
        exported.keys[rail] = memory->mr[rail]->rkey;
    memcpy(blob, &exported, sizeof(exported));
    *bytes_out = sizeof(exported);
    return 0;
}

int mt_verbs_mem_import(void *handle, uint32_t peer, const void *blob, size_t bytes,
                        void **remote_out)
{
    struct mt_verbs_endpoint *endpoint = handle;
    struct exported exported;
    *remote_out = NULL;
    if (bytes != sizeof(exported))
        return mt_messages_error_set(endpoint->messages, MANTA_EINVAL, peer, 0,
                                     "what rank %u exported is not of the verbs transport", peer);
    memcpy(&exported, blob, sizeof(exported));
    if (exported.rails > MT_VERBS_RAILS || exported.bytes == 0)
        return mt_messages_error_set(endpoint->messages, MANTA_EINVAL, peer, 0,
                                     "what rank %u exported is damaged", peer);
    struct mt_verbs_import *import = endpoint->host->alloc(sizeof(*import), 64);
    if (import == NULL)
        return mt_messages_error_set(endpoint->messages, MANTA_ENOMEM, peer, 0,
                                     "no memory to note what rank %u exported", peer);
    *import = (struct mt_verbs_import){.peer = peer, .next = endpoint->imports};
    import->remote.start = exported.start;
    import->remote.bytes = exported.bytes;
    for (uint32_t rail = 0; rail < MT_VERBS_RAILS; rail++)
        import->remote.keys[rail] = (uint32_t)exported.keys[rail];
    endpoint->imports = import;
    *remote_out = import;
    return 0;
}

void mt_verbs_imports_free(struct mt_verbs_endpoint *endpoint)
{
    while (endpoint->imports != NULL) {
        struct mt_verbs_import *next = endpoint->imports->next;
        endpoint->host->free(endpoint->imports);
        endpoint->imports = next;
    }
}
