/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/fabric.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct stand_in stand_in;

struct inbox {
    void *bytes;
    size_t room;
    void *context;
};

struct queue {
    struct fid_cq public;
    struct fi_cq_data_entry entries[STAND_IN_QUEUE];
    int errors[STAND_IN_QUEUE]; /* of each; 0: none */
    uint32_t count;
    int fd;
};

struct end {
    struct fid_ep public;
    struct queue *queue;
    struct inbox inboxes[STAND_IN_QUEUE];
    uint32_t inbox_count, bound;
    int is_open;
};

struct halted {
    struct queue *queue;
    void *context;
};

static struct end *ends[STAND_IN_ENDS];
static uint32_t end_count;
static struct stand_in_region regions[STAND_IN_REGIONS];
static struct halted halted[STAND_IN_QUEUE];
static uint32_t halted_count;

static int fails_at(const char *what)
{
    return stand_in.fails_at != NULL && strcmp(stand_in.fails_at, what) == 0;
}

static int close_object(struct fid *fid)
{
    stand_in.objects_open--;
    free(fid);
    return 0;
}
static int bind_nothing(struct fid *fid, struct fid *other, uint64_t flags)
{
    (void)fid;
    (void)other;
    (void)flags;
    return 0;
}
static struct fi_ops object_ops = {
    .size = sizeof(struct fi_ops), .close = close_object, .bind = bind_nothing};

/* Queues. */
static void queue_add(struct queue *queue, void *context, uint64_t flags, size_t length,
                      uint64_t data, int error)
{
    const uint64_t one = 1;
    if (queue->count == STAND_IN_QUEUE)
        abort();
    queue->entries[queue->count] = (struct fi_cq_data_entry){
        .op_context = context, .flags = flags, .len = length, .data = data};
    queue->errors[queue->count++] = error;
    if (queue->fd >= 0 && write(queue->fd, &one, sizeof(one)) != sizeof(one))
        abort();
}

static uint32_t queue_next(const struct queue *queue)
{
    return stand_in.is_backwards ? queue->count - 1 : 0;
}

static void queue_drop(struct queue *queue, uint32_t at)
{
    uint32_t behind = --queue->count - at;
    memmove(&queue->entries[at], &queue->entries[at + 1], behind * sizeof(queue->entries[0]));
    memmove(&queue->errors[at], &queue->errors[at + 1], behind * sizeof(queue->errors[0]));
}

static ssize_t queue_read(struct fid_cq *cq, void *entries, size_t count)
{
    struct queue *queue = (struct queue *)cq;
    struct fi_cq_data_entry *to = entries;
    size_t got = 0;
    uint64_t value;
    if (queue->fd >= 0 && read(queue->fd, &value, sizeof(value)) < 0)
        value = 0;
    while (got < count && queue->count > 0) {
        uint32_t at = queue_next(queue);
        if (queue->errors[at] != 0)
            return got > 0 ? (ssize_t)got : -FI_EAVAIL;
        to[got++] = queue->entries[at];
        queue_drop(queue, at);
    }
    return got > 0 ? (ssize_t)got : -FI_EAGAIN;
}

static ssize_t queue_read_error(struct fid_cq *cq, struct fi_cq_err_entry *entry, uint64_t flags)
{
    struct queue *queue = (struct queue *)cq;
    uint32_t at = queue_next(queue);
    (void)flags;
    *entry = (struct fi_cq_err_entry){.op_context = queue->entries[at].op_context,
                                      .flags = queue->entries[at].flags,
                                      .err = queue->errors[at],
                                      .prov_errno = 42};
    queue_drop(queue, at);
    return 1;
}

static const char *queue_word(struct fid_cq *cq, int error, const void *data, char *text,
                              size_t bytes)
{
    (void)cq;
    (void)data;
    snprintf(text, bytes, "the card says %d", error);
    return text;
}

static int queue_close(struct fid *fid)
{
    struct queue *queue = (struct queue *)fid;
    if (queue->fd >= 0)
        close(queue->fd);
    return close_object(fid);
}

static int queue_control(struct fid *fid, int command, void *arg)
{
    if (command != FI_GETWAIT)
        return -FI_ENOSYS;
    *(int *)arg = ((struct queue *)fid)->fd;
    return 0;
}

static struct fi_ops queue_object_ops = {
    .size = sizeof(struct fi_ops), .close = queue_close, .control = queue_control};
static struct fi_ops_cq queue_ops = {.size = sizeof(queue_ops),
                                     .read = queue_read,
                                     .readerr = queue_read_error,
                                     .strerror = queue_word};

static int queue_open(struct fid_domain *domain, struct fi_cq_attr *attributes,
                      struct fid_cq **cq_out, void *context)
{
    (void)domain;
    (void)context;
    if (fails_at("queue") || (attributes->wait_obj == FI_WAIT_FD && stand_in.has_no_descriptor))
        return -FI_ENOSYS;
    struct queue *queue = calloc(1, sizeof(*queue));
    queue->fd = attributes->wait_obj == FI_WAIT_FD ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1;
    queue->public.fid.ops = &queue_object_ops;
    queue->public.ops = &queue_ops;
    stand_in.objects_open++;
    *cq_out = &queue->public;
    return 0;
}

/* Tables of addresses: an address is the number of an endpoint. */
static int table_insert(struct fid_av *table, const void *address, size_t count, fi_addr_t *to,
                        uint64_t flags, void *context)
{
    uint32_t number;
    (void)table;
    (void)count;
    (void)flags;
    (void)context;
    memcpy(&number, address, sizeof(number));
    if (number >= end_count)
        return -FI_EINVAL;
    *to = number;
    return 1;
}

static const char *table_word(struct fid_av *table, const void *address, char *text, size_t *bytes)
{
    uint32_t number;
    (void)table;
    memcpy(&number, address, sizeof(number));
    snprintf(text, *bytes, "end %u", number);
    return text;
}

static struct fi_ops_av table_ops = {
    .size = sizeof(table_ops), .insert = table_insert, .straddr = table_word};

static int table_open(struct fid_domain *domain, struct fi_av_attr *attributes,
                      struct fid_av **table_out, void *context)
{
    (void)domain;
    (void)attributes;
    (void)context;
    if (fails_at("table"))
        return -FI_ENOMEM;
    struct fid_av *table = calloc(1, sizeof(*table));
    table->fid.ops = &object_ops;
    table->ops = &table_ops;
    stand_in.objects_open++;
    *table_out = table;
    return 0;
}

/* Endpoints. */
static ssize_t end_recv(struct fid_ep *ep, void *bytes, size_t room, void *desc, fi_addr_t from,
                        void *context)
{
    struct end *end = (struct end *)ep;
    (void)from;
    if ((stand_in.mr_mode & FI_MR_LOCAL) && desc == NULL)
        return -FI_EINVAL;
    if (end->inbox_count == STAND_IN_QUEUE)
        return -FI_EAGAIN;
    end->inboxes[end->inbox_count++] = (struct inbox){bytes, room, context};
    return 0;
}

static int take_error(int *error)
{
    int taken = *error;
    *error = 0;
    return taken;
}

/* 0, or no inbox is free. */
static int deliver(struct end *end, const void *bytes, size_t count)
{
    if (end->inbox_count == 0)
        return -FI_EAGAIN;
    struct inbox inbox = end->inboxes[0];
    memmove(&end->inboxes[0], &end->inboxes[1], --end->inbox_count * sizeof(inbox));
    memcpy(inbox.bytes, bytes, count < inbox.room ? count : inbox.room);
    int error = take_error(&stand_in.fail_recv);
    queue_add(end->queue, inbox.context, FI_RECV | FI_MSG, count, 0,
              count > inbox.room ? FI_ETRUNC : error);
    return 0;
}

/* Nobody is there, or there is no room: 0 if it can go on. */
static int refuse(fi_addr_t to)
{
    if (stand_in.refuse_sends > 0) {
        stand_in.refuse_sends--;
        return -FI_EAGAIN;
    }
    return ends[to]->is_open ? 0 : -FI_ENOTCONN;
}

static ssize_t end_send(struct fid_ep *ep, const void *bytes, size_t count, void *desc,
                        fi_addr_t to, void *context)
{
    struct end *end = (struct end *)ep;
    int code = stand_in.fail_post ? -take_error(&stand_in.fail_post) : refuse(to);
    if ((stand_in.mr_mode & FI_MR_LOCAL) && desc == NULL)
        return -FI_EINVAL;
    if (code != 0)
        return code;
    int error = take_error(&stand_in.fail_send);
    code = error ? 0 : deliver(ends[to], bytes, count);
    if (code == 0)
        queue_add(end->queue, context, FI_SEND | FI_MSG, count, 0, error);
    return code;
}

/* The memory that a key and an address name, or NULL. */
static uint8_t *resolve(uint64_t address, uint64_t bytes, uint64_t key)
{
    for (uint32_t i = 0; i < STAND_IN_REGIONS; i++) {
        struct stand_in_region *region = &regions[i];
        if (region->start == NULL || region->public.key != key || !region->is_enabled ||
            !(region->access & FI_REMOTE_WRITE))
            continue;
        uint64_t at =
            stand_in.mr_mode & FI_MR_VIRT_ADDR ? address - (uintptr_t)region->start : address;
        if (at <= region->bytes && bytes <= region->bytes - at)
            return (uint8_t *)(uintptr_t)region->start + at;
    }
    return NULL;
}

static ssize_t end_write(struct fid_ep *ep, const struct fi_msg_rma *message, uint64_t flags)
{
    struct end *end = (struct end *)ep;
    const struct iovec *from = message->msg_iov;
    int code = refuse(message->addr);
    if (!(flags & FI_REMOTE_CQ_DATA) || from->iov_len > stand_in.max_msg_size ||
        from->iov_len != message->rma_iov->len ||
        ((stand_in.mr_mode & FI_MR_LOCAL) && message->desc[0] == NULL))
        return -FI_EINVAL;
    if (code == 0 && stand_in.refuse_writes > 0) {
        stand_in.refuse_writes--;
        code = -FI_EAGAIN;
    }
    if (code != 0)
        return code;
    if (stand_in.refuse_data) {
        stand_in.data_refused++;
        return -stand_in.refuse_data;
    }
    stand_in.writes++;
    if (stand_in.is_halted) {
        halted[halted_count++] = (struct halted){end->queue, message->context};
        return 0;
    }
    int error = take_error(&stand_in.fail_write);
    uint8_t *to = resolve(message->rma_iov->addr, from->iov_len, message->rma_iov->key);
    if (to == NULL && !error)
        error = FI_EACCES;
    if (!error) {
        memcpy(to, from->iov_base, from->iov_len);
        queue_add(ends[message->addr]->queue, NULL, FI_RMA | FI_REMOTE_WRITE | FI_REMOTE_CQ_DATA,
                  from->iov_len,
                  stand_in.cq_data_size < 8 ? message->data & 0xffffffff : message->data, 0);
    }
    queue_add(end->queue, message->context, FI_RMA | FI_WRITE, from->iov_len, 0, error);
    return 0;
}

/* From memory that this key names, which nobody but the card may read. */
static ssize_t end_read(struct fid_ep *ep, void *to, size_t bytes, void *desc, fi_addr_t from,
                        uint64_t address, uint64_t key, void *context)
{
    struct end *end = (struct end *)ep;
    (void)to;
    if (((stand_in.mr_mode & FI_MR_LOCAL) && desc == NULL) || ends[from] != end)
        return -FI_EINVAL;
    if (stand_in.refuse_reads > 0) {
        stand_in.refuse_reads--;
        return -FI_EAGAIN;
    }
    stand_in.reads++;
    int error = take_error(&stand_in.fail_read);
    if (resolve(address, bytes, key) == NULL)
        error = FI_EACCES;
    queue_add(end->queue, context, FI_RMA | FI_READ, bytes, 0, error);
    return 0;
}

static int end_name(fid_t fid, void *address, size_t *bytes)
{
    for (uint32_t i = 0; i < end_count; i++) {
        if (&ends[i]->public.fid == fid && *bytes >= sizeof(i)) {
            memcpy(address, &i, sizeof(i));
            *bytes = sizeof(i);
            return 0;
        }
    }
    return -FI_ETOOSMALL;
}

static int end_close(struct fid *fid)
{
    struct end *end = (struct end *)fid;
    if (stand_in.is_stuck)
        return -FI_EBUSY;
    if (stand_in.fail_close)
        return -take_error(&stand_in.fail_close);
    if (end->bound > 0)
        return -FI_EBUSY;
    end->is_open = 0; /* kept until stand_in_end(): others may still send to it */
    stand_in.objects_open--;
    stand_in.ends_open--;
    return 0;
}

static int end_bind(struct fid *fid, struct fid *other, uint64_t flags)
{
    if (flags & FI_RECV)
        ((struct end *)fid)->queue = (struct queue *)other;
    return 0;
}

static int end_control(struct fid *fid, int command, void *arg)
{
    (void)fid;
    (void)arg;
    return command == FI_ENABLE && !fails_at("enable") ? 0 : -FI_ENOSPC;
}

static struct fi_ops end_object_ops = {
    .size = sizeof(struct fi_ops), .close = end_close, .bind = end_bind, .control = end_control};
static struct fi_ops_msg end_msg_ops = {
    .size = sizeof(end_msg_ops), .recv = end_recv, .send = end_send};
static struct fi_ops_rma end_rma_ops = {
    .size = sizeof(end_rma_ops), .read = end_read, .writemsg = end_write};
static struct fi_ops_cm end_cm_ops = {.size = sizeof(end_cm_ops), .getname = end_name};

static int end_open(struct fid_domain *domain, struct fi_info *info, struct fid_ep **ep_out,
                    void *context)
{
    (void)domain;
    (void)info;
    (void)context;
    if (fails_at("endpoint") || end_count == STAND_IN_ENDS)
        return -FI_EINVAL;
    struct end *end = calloc(1, sizeof(*end));
    end->public.fid.ops = &end_object_ops;
    end->public.msg = &end_msg_ops;
    end->public.rma = &end_rma_ops;
    end->public.cm = &end_cm_ops;
    end->is_open = 1;
    ends[end_count++] = end;
    stand_in.objects_open++;
    stand_in.ends_open++;
    *ep_out = &end->public;
    return 0;
}

/* Regions. */
static int region_close(struct fid *fid)
{
    struct stand_in_region *region = (struct stand_in_region *)fid;
    if (region->start == NULL)
        abort();
    if (region->bound_to != NULL)
        ((struct end *)region->bound_to)->bound--;
    region->start = NULL;
    region->bound_to = NULL;
    stand_in.regions_open--;
    return 0;
}

static int region_bind(struct fid *fid, struct fid *end, uint64_t flags)
{
    (void)flags;
    ((struct stand_in_region *)fid)->bound_to = end;
    ((struct end *)end)->bound++;
    return 0;
}

static int region_control(struct fid *fid, int command, void *arg)
{
    (void)arg;
    ((struct stand_in_region *)fid)->is_enabled |= command == FI_ENABLE;
    return 0;
}

static struct fi_ops region_ops = {.size = sizeof(struct fi_ops),
                                   .close = region_close,
                                   .bind = region_bind,
                                   .control = region_control};

static int is_taken(uint64_t key)
{
    for (uint32_t i = 0; i < STAND_IN_REGIONS; i++) {
        if (regions[i].start != NULL && regions[i].public.key == key)
            return 1;
    }
    return 0;
}

static int region_open(struct fid *fid, const struct fi_mr_attr *attributes, uint64_t flags,
                       struct fid_mr **region_out)
{
    uint32_t at = 0;
    const int is_dmabuf = flags != 0;
    (void)fid;
    stand_in.region_flags = flags;
    stand_in.region = *attributes;
    if (is_dmabuf)
        memcpy(stand_in.region_extra, attributes->mr_iov, sizeof(stand_in.region_extra));
    if (stand_in.fail_region)
        return -take_error(&stand_in.fail_region);
    if (!(stand_in.mr_mode & FI_MR_PROV_KEY) && is_taken(attributes->requested_key))
        return -FI_ENOKEY;
    while (at < STAND_IN_REGIONS && regions[at].start != NULL)
        at++;
    if (at == STAND_IN_REGIONS)
        return -FI_ENOMEM;
    struct stand_in_region *region = &regions[at];
    region->start = is_dmabuf ? (const void *)region : attributes->mr_iov->iov_base;
    region->bytes = is_dmabuf ? 0 : attributes->mr_iov->iov_len;
    region->access = attributes->access;
    region->is_enabled = !(stand_in.mr_mode & FI_MR_ENDPOINT);
    region->public.fid.ops = &region_ops;
    region->public.mem_desc = region;
    region->public.key = stand_in.mr_mode & FI_MR_PROV_KEY ? 1000 + at : attributes->requested_key;
    stand_in.regions_open++;
    stand_in.regions_made++;
    *region_out = &region->public;
    return 0;
}

static struct fi_ops_mr domain_region_ops = {.size = sizeof(domain_region_ops),
                                             .regattr = region_open};
static struct fi_ops_domain domain_ops = {
    .size = sizeof(domain_ops), .av_open = table_open, .cq_open = queue_open, .endpoint = end_open};

static int domain_open(struct fid_fabric *fabric, struct fi_info *info,
                       struct fid_domain **domain_out, void *context)
{
    (void)fabric;
    (void)info;
    (void)context;
    if (fails_at("domain"))
        return -FI_ENODEV;
    struct fid_domain *domain = calloc(1, sizeof(*domain));
    domain->fid.ops = &object_ops;
    domain->ops = &domain_ops;
    domain->mr = &domain_region_ops;
    stand_in.objects_open++;
    *domain_out = domain;
    return 0;
}

static int fabric_trywait(struct fid_fabric *fabric, struct fid **fids, int count)
{
    (void)fabric;
    (void)count;
    return ((struct queue *)fids[0])->count > 0 ? -FI_EAGAIN : 0;
}

static struct fi_ops_fabric fabric_ops = {
    .size = sizeof(fabric_ops), .domain = domain_open, .trywait = fabric_trywait};

int stand_in_fabric_open(struct fi_fabric_attr *attributes, struct fid_fabric **fabric_out,
                         void *context)
{
    (void)attributes;
    (void)context;
    if (fails_at("fabric"))
        return -FI_ENODEV;
    struct fid_fabric *fabric = calloc(1, sizeof(*fabric));
    fabric->fid.ops = &object_ops;
    fabric->ops = &fabric_ops;
    stand_in.objects_open++;
    *fabric_out = fabric;
    return 0;
}

void stand_in_begin(void)
{
    memset(&stand_in, 0, sizeof(stand_in));
    memset(regions, 0, sizeof(regions));
    end_count = halted_count = 0;
    stand_in.version = FI_VERSION(1, 20);
    stand_in.cq_data_size = stand_in.mr_key_size = 8;
    stand_in.max_msg_size = 1 << 30;
    mt_ofi_library_replace(&stand_in_library);
}

void stand_in_end(void)
{
    for (uint32_t i = 0; i < end_count; i++)
        free(ends[i]);
    end_count = 0;
    mt_ofi_library_replace(NULL);
}

void stand_in_go_on(void)
{
    stand_in.is_halted = 0;
    while (halted_count > 0) {
        const struct halted *write = &halted[--halted_count];
        queue_add(write->queue, write->context, FI_RMA | FI_WRITE, 0, 0, 0);
    }
}

void stand_in_send_stranger(uint32_t nth, const void *bytes, size_t count)
{
    if (deliver(ends[nth], bytes, count) != 0)
        abort();
}

void stand_in_write_stranger(uint32_t nth, uint64_t data)
{
    queue_add(ends[nth]->queue, NULL, FI_RMA | FI_REMOTE_WRITE | FI_REMOTE_CQ_DATA, 0, data, 0);
}
