/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that libfabric is shown: of the endpoint itself, of callers who send and receive long
 * messages, and of devices. */
#include <errno.h>
#include <string.h>

#include "core/auth.h"
#include "transport/ofi/ofi.h"

enum { REGISTRATIONS = 512, KEY_TRIES = 8 };
#define IDLE_BYTES (UINT64_C(1) << 32)

/* libfabric 1.20 and newer take dma-bufs; these are its names for it. */
#define DMABUF_VERSION FI_VERSION(1, 20)
#define DMABUF_FLAG (1ULL << 40)
struct dmabuf {
    int fd;
    uint64_t offset;
    size_t length;
    void *base;
};

/* fi_mr_attr grows at its end; what is not known here is 0. */
union attributes {
    struct fi_mr_attr known;
    uint8_t room[256];
};

uint64_t mt_ofi_random(struct mt_ofi_endpoint *endpoint)
{
    uint64_t x = endpoint->random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Where the provider leaves keys to us, nobody shall guess one. */
static uint64_t new_key(struct mt_ofi_endpoint *endpoint)
{
    uint64_t bytes = endpoint->info->domain_attr->mr_key_size;
    uint64_t key = mt_ofi_random(endpoint);
    return bytes < sizeof(key) && bytes > 0 ? key & ((UINT64_C(1) << (8 * bytes)) - 1) : key;
}

static int bind_region(struct mt_ofi_endpoint *endpoint, struct fid_mr **region)
{
    if (!(endpoint->info->domain_attr->mr_mode & FI_MR_ENDPOINT))
        return 0;
    int code = fi_mr_bind(*region, &endpoint->endpoint->fid, 0);
    if (code == 0)
        code = fi_mr_enable(*region);
    if (code != 0)
        mt_ofi_region_close(region);
    return code;
}

static int open_region(struct mt_ofi_endpoint *endpoint, union attributes *attributes,
                       uint64_t flags, struct fid_mr **region_out)
{
    int code = -FI_EINVAL;
    *region_out = NULL;
    if (endpoint->endpoint == NULL)
        return -FI_ENOTCONN;
    for (int i = 0; i < KEY_TRIES; i++) {
        attributes->known.requested_key = new_key(endpoint);
        code = fi_mr_regattr(endpoint->domain, &attributes->known, flags, region_out);
        if (code != -FI_ENOKEY)
            break;
    }
    return code == 0 ? bind_region(endpoint, region_out) : code;
}

void mt_ofi_region_close(struct fid_mr **region)
{
    if (*region != NULL)
        fi_close(&(*region)->fid);
    *region = NULL;
}

static int register_host(struct mt_ofi_endpoint *endpoint, void *memory, size_t bytes,
                         uint64_t access, struct fid_mr **region_out)
{
    const struct iovec piece = {memory, bytes};
    union attributes attributes = {
        .known = {.mr_iov = &piece, .iov_count = 1, .access = access, .iface = FI_HMEM_SYSTEM}};
    return open_region(endpoint, &attributes, 0, region_out);
}

int mt_ofi_local_register(struct mt_ofi_endpoint *endpoint, void *memory, size_t bytes,
                          uint64_t access, struct fid_mr **region_out)
{
    *region_out = NULL;
    if (!(endpoint->info->domain_attr->mr_mode & FI_MR_LOCAL))
        return 0;
    return register_host(endpoint, memory, bytes, access, region_out);
}

static int to_code(struct mt_ofi_endpoint *endpoint, int error, uint64_t bytes, const char *what)
{
    int code = error == -FI_ENOMEM || error == -FI_ENOSPC       ? MANTA_ENOMEM
               : error == -FI_ENOSYS || error == -FI_EOPNOTSUPP ? MANTA_ENOTSUP
                                                                : MANTA_ETRANSPORT;
    return mt_messages_error_set(endpoint->messages, code, MANTA_PLAN_NONE, -error,
                                 "libfabric (provider %s) cannot register %llu bytes of %s: %s%s",
                                 endpoint->provider, (unsigned long long)bytes, what,
                                 endpoint->library->strerror(-error),
                                 code == MANTA_ENOMEM ? "; `ulimit -l unlimited` may help" : "");
}

/* For the cache: memory of callers, that is written from here and by peers. */
static int make(void *arg, void *start, uint64_t bytes, void **handle_out)
{
    struct mt_ofi_endpoint *endpoint = arg;
    struct fid_mr *region;
    int code = register_host(endpoint, start, bytes, FI_WRITE | FI_REMOTE_WRITE, &region);
    *handle_out = region;
    return code == 0 ? 0 : to_code(endpoint, code, bytes, "memory");
}

static void end(void *arg, void *handle)
{
    struct fid_mr *region = handle;
    (void)arg;
    mt_ofi_region_close(&region);
}

int mt_ofi_registrations_create(struct mt_ofi_endpoint *endpoint)
{
    const struct mt_registration_settings settings = {.host = endpoint->host,
                                                      .most = REGISTRATIONS,
                                                      .most_bytes = IDLE_BYTES,
                                                      .make = make,
                                                      .end = end,
                                                      .arg = endpoint};
    if (mt_auth_random(&endpoint->random, sizeof(endpoint->random)) != 0)
        return MANTA_ESYSTEM;
    return mt_registrations_create(&settings, &endpoint->registrations);
}

/* Written from here and by peers; and read from here, where that flushes it. */
static uint64_t access_of(const struct manta_transport_buffer *buffer)
{
    uint64_t access = FI_WRITE | FI_REMOTE_WRITE;
    return buffer->flags & MANTA_BUFFER_FLUSH ? access | FI_REMOTE_READ : access;
}

/* A dma-buf says where device memory is; else the provider must know the device's own addresses. */
static int register_device(struct mt_ofi_endpoint *endpoint,
                           const struct manta_transport_buffer *buffer, int dmabuf_fd,
                           uint64_t dmabuf_offset, struct fid_mr **region_out)
{
    const struct iovec piece = {buffer->address, buffer->bytes};
    const struct dmabuf exported = {dmabuf_fd, dmabuf_offset, buffer->bytes, buffer->address};
    union attributes attributes = {
        .known = {.mr_iov = &piece,
                  .iov_count = 1,
                  .access = access_of(buffer),
                  .iface = buffer->memory == MANTA_MEMORY_CUDA ? FI_HMEM_CUDA : FI_HMEM_SYSTEM}};
    if (buffer->memory == MANTA_MEMORY_CUDA)
        attributes.known.device.cuda = (int)buffer->device;
    if (dmabuf_fd < 0)
        return open_region(endpoint, &attributes, 0, region_out);
    const void *at = &exported;
    memcpy(attributes.room, &at, sizeof(at)); /* in the place of mr_iov */
    return open_region(endpoint, &attributes, DMABUF_FLAG, region_out);
}

int mt_ofi_mem_register(void *handle, const struct manta_transport_buffer *buffer, int dmabuf_fd,
                        uint64_t dmabuf_offset, void **registration_out)
{
    struct mt_ofi_endpoint *endpoint = handle;
    struct mt_registration *registration = NULL;
    struct fid_mr *region = NULL;
    int is_device = buffer->memory != MANTA_MEMORY_HOST;
    int is_flushed = buffer->flags & MANTA_BUFFER_FLUSH;
    *registration_out = NULL;
    if (is_device && !(endpoint->info->caps & FI_HMEM))
        return mt_messages_error_set(
            endpoint->messages, MANTA_ENOTSUP, MANTA_PLAN_NONE, 0,
            "libfabric's provider %s does not reach memory of devices here", endpoint->provider);
    if (dmabuf_fd >= 0 && endpoint->library->version() < DMABUF_VERSION)
        return mt_messages_error_set(endpoint->messages, MANTA_ENOTSUP, MANTA_PLAN_NONE, 0,
                                     "libfabric %u.%u takes no dma-buf; 1.20 and newer do",
                                     FI_MAJOR(endpoint->library->version()),
                                     FI_MINOR(endpoint->library->version()));
    if (is_flushed) {
        int code = mt_ofi_flush_open(endpoint);
        if (code != 0)
            return code;
    }
    if (is_device || dmabuf_fd >= 0 || is_flushed) {
        int error = register_device(endpoint, buffer, dmabuf_fd, dmabuf_offset, &region);
        if (error != 0)
            return to_code(endpoint, error, buffer->bytes,
                           dmabuf_fd >= 0 ? "a dma-buf"
                           : is_device    ? "device memory"
                                          : "memory");
    }
    int code = mt_registrations_enter(endpoint->registrations, buffer, region, &registration);
    if (code != 0)
        mt_ofi_region_close(&region);
    *registration_out = registration;
    return code;
}

int mt_ofi_mem_deregister(void *handle, void *registration)
{
    struct mt_ofi_endpoint *endpoint = handle;
    mt_registrations_remove(endpoint->registrations, registration);
    return 0;
}

/* What names memory to a peer. */
struct blob {
    char magic[8];
    uint64_t address, bytes, key;
};
static const char magic[8] = {'m', 'a', 'n', 't', 'a', 'o', 'f', 'i'};

struct mt_ofi_remote {
    struct mt_ofi_remote *next;
    uint32_t peer;
    struct blob place;
};

int mt_ofi_mem_export(void *handle, void *registration, void *blob, size_t blob_bytes,
                      size_t *bytes_out)
{
    struct mt_ofi_endpoint *endpoint = handle;
    const struct mt_registration *memory = registration;
    int is_virtual = (endpoint->info->domain_attr->mr_mode & FI_MR_VIRT_ADDR) != 0;
    if (memory->handle == NULL)
        return mt_messages_error_set(endpoint->messages, MANTA_ETRANSPORT, MANTA_PLAN_NONE, 0,
                                     "memory is registered no more: libfabric's endpoint was "
                                     "closed when requests failed");
    struct blob place = {.address = is_virtual ? memory->start : 0,
                         .bytes = memory->bytes,
                         .key = fi_mr_key((struct fid_mr *)memory->handle)};
    if (blob_bytes < sizeof(place))
        return MANTA_EINVAL;
    memcpy(place.magic, magic, sizeof(magic));
    memcpy(blob, &place, sizeof(place));
    *bytes_out = sizeof(place);
    return 0;
}

int mt_ofi_mem_import(void *handle, uint32_t peer, const void *blob, size_t bytes,
                      void **remote_out)
{
    struct mt_ofi_endpoint *endpoint = handle;
    struct blob place;
    *remote_out = NULL;
    if (peer < endpoint->ranks && bytes == sizeof(place))
        memcpy(&place, blob, sizeof(place));
    if (peer >= endpoint->ranks || bytes != sizeof(place) ||
        memcmp(place.magic, magic, sizeof(magic)) != 0)
        return mt_messages_error_set(endpoint->messages, MANTA_EINVAL, peer, 0,
                                     "what rank %u calls its memory is no name that ofi gives",
                                     peer);
    struct mt_ofi_remote *remote = endpoint->host->alloc(sizeof(*remote), 8);
    if (remote == NULL)
        return mt_messages_error_set(endpoint->messages, MANTA_ENOMEM, peer, 0,
                                     "no memory for the name of memory of rank %u", peer);
    *remote = (struct mt_ofi_remote){endpoint->remotes, peer, place};
    endpoint->remotes = remote;
    *remote_out = remote;
    return 0;
}

void mt_ofi_remotes_free(struct mt_ofi_endpoint *endpoint)
{
    while (endpoint->remotes != NULL) {
        struct mt_ofi_remote *next = endpoint->remotes->next;
        endpoint->host->free(endpoint->remotes);
        endpoint->remotes = next;
    }
}
