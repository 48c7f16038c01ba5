/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in's objects, and the table that takes the library's place. */
#include "tests/support/fake_verbs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/support/fake_verbs_impl.h"
#include "transport/verbs/library.h"

#undef ibv_query_port
#undef ibv_reg_mr

struct fake_world fake_world = {.lock = PTHREAD_MUTEX_INITIALIZER};

enum { WAY_MS_MOST = 60000 };
static _Atomic int ways_held;    /* pairs with fake_verbs_ways() */
static _Atomic uint32_t looking; /* pairs with fake_verbs_counts() */

static void lock(void)
{
    pthread_mutex_lock(&fake_world.lock);
}

static void unlock(void)
{
    pthread_mutex_unlock(&fake_world.lock);
}

int fake_refused(const char *function)
{
    struct fake_refusal *refusal = &fake_world.refusal;
    if (refusal->function == NULL || strcmp(refusal->function, function) != 0 ||
        refusal->after-- > 0)
        return 0;
    errno = refusal->error;
    return 1;
}

/* Takes the lock; NULL when the call has to fail. */
static void *create(const char *function, size_t bytes, uint32_t *count)
{
    lock();
    void *object = fake_refused(function) ? NULL : calloc(1, bytes);
    if (object != NULL && count != NULL)
        ++*count;
    unlock();
    return object;
}

static int destroy(void *object, uint32_t *count)
{
    lock();
    --*count;
    unlock();
    free(object);
    return 0;
}

static struct ibv_device **get_device_list(int *count)
{
    struct ibv_device **list = create("get_device_list", (FAKE_DEVICES + 1) * sizeof(*list), NULL);
    *count = list != NULL ? (int)fake_world.device_count : 0;
    for (int i = 0; i < *count; i++)
        list[i] = &fake_world.devices[i].base;
    return list;
}

static void free_device_list(struct ibv_device **list)
{
    free(list);
}

static const char *get_device_name(struct ibv_device *device)
{
    return device->name;
}

static struct ibv_context *open_device(struct ibv_device *device)
{
    struct fake_context *context =
        create("open_device", sizeof(*context), &fake_world.counts.devices_open);
    if (context == NULL)
        return NULL;
    context->device = (struct fake_device *)device;
    context->base.device = device;
    context->base.async_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    context->base.cmd_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    context->base.ops.poll_cq = fake_poll_cq;
    context->base.ops.req_notify_cq = fake_req_notify_cq;
    context->base.ops.post_srq_recv = fake_post_srq_recv;
    context->base.ops.post_send = fake_post_send;
    return &context->base;
}

static int close_device(struct ibv_context *context)
{
    close(context->async_fd);
    close(context->cmd_fd);
    return destroy(context, &fake_world.counts.devices_open);
}

static int query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
    (void)context;
    memset(attr, 0, sizeof(*attr));
    attr->phys_port_cnt = 1;
    return 0;
}

static int query_port(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr)
{
    (void)port;
    memset(attr, 0, sizeof(*attr));
    lock();
    attr->state = (enum ibv_port_state)((struct fake_context *)context)->device->state;
    unlock();
    attr->active_mtu = IBV_MTU_1024;
    attr->gid_tbl_len = FAKE_GIDS;
    attr->max_msg_sz = 1 << 16;
    attr->link_layer = IBV_LINK_LAYER_ETHERNET;
    attr->active_speed = 32;
    attr->active_width = 2;
    return 0;
}

/* 0: link-local, 1: IPv4 */
static int query_gid(struct ibv_context *context, uint8_t port, int index, union ibv_gid *gid)
{
    const struct fake_device *device = ((struct fake_context *)context)->device;
    uint8_t number = (uint8_t)(device - fake_world.devices);
    (void)port;
    memset(gid, 0, sizeof(*gid));
    if (index >= FAKE_GIDS || !device->has[index])
        return 0;
    if (index == 0) {
        gid->raw[0] = 0xfe;
        gid->raw[1] = 0x80;
        gid->raw[15] = (uint8_t)(1 + number);
    } else {
        memcpy(gid->raw, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\1", 16);
        gid->raw[14] = number;
    }
    return 0;
}

static int query_pkey(struct ibv_context *context, uint8_t port, int index, __be16 *pkey)
{
    (void)context;
    (void)port;
    (void)index;
    *pkey = 0xffff;
    return 0;
}

static struct ibv_pd *alloc_pd(struct ibv_context *context)
{
    struct ibv_pd *pd = create("alloc_pd", sizeof(*pd), &fake_world.counts.pds);
    if (pd != NULL)
        pd->context = context;
    return pd;
}

static int dealloc_pd(struct ibv_pd *pd)
{
    return destroy(pd, &fake_world.counts.pds);
}

static struct ibv_mr *add_mr(struct fake_mr *mr, struct ibv_pd *pd, void *start, size_t bytes,
                             int access)
{
    if (mr == NULL)
        return NULL;
    lock();
    mr->base = (struct ibv_mr){.context = pd->context, .pd = pd, .addr = start, .length = bytes};
    mr->base.lkey = mr->base.rkey = ++fake_world.next_key * 16;
    mr->access = access;
    mr->next = fake_world.mrs;
    fake_world.mrs = mr;
    fake_world.counts.registrations++;
    unlock();
    return &mr->base;
}

static struct ibv_mr *reg_mr_iova2(struct ibv_pd *pd, void *start, size_t bytes, uint64_t iova,
                                   unsigned int access)
{
    assert_int_equal(iova, (uintptr_t)start);
    struct fake_mr *mr = create("reg_mr", sizeof(*mr), &fake_world.counts.mrs);
    return add_mr(mr, pd, start, bytes, (int)access);
}

static struct ibv_mr *reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t bytes, uint64_t iova,
                                    int fd, int access)
{
    struct fake_mr *mr = create("reg_dmabuf_mr", sizeof(*mr), &fake_world.counts.mrs);
    assert_true(fd >= 0);
    if (mr == NULL)
        return NULL;
    int error = fake_device_map(mr, fd, offset, bytes);
    if (error != 0) {
        destroy(mr, &fake_world.counts.mrs);
        errno = error;
        return NULL;
    }
    lock();
    fake_world.counts.dmabufs++;
    unlock();
    return add_mr(mr, pd, (void *)(uintptr_t)iova, bytes, access);
}

static int dereg_mr(struct ibv_mr *base)
{
    lock();
    struct fake_mr **link = &fake_world.mrs;
    while (*link != (struct fake_mr *)base)
        link = &(*link)->next;
    *link = (*link)->next;
    unlock();
    fake_device_unmap((struct fake_mr *)base);
    return destroy(base, &fake_world.counts.mrs);
}

static struct ibv_comp_channel *create_comp_channel(struct ibv_context *context)
{
    struct ibv_comp_channel *channel =
        create("create_comp_channel", sizeof(*channel), &fake_world.counts.channels);
    if (channel == NULL)
        return NULL;
    channel->context = context;
    channel->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    return channel;
}

static int destroy_comp_channel(struct ibv_comp_channel *channel)
{
    close(channel->fd);
    return destroy(channel, &fake_world.counts.channels);
}

static struct ibv_cq *create_cq(struct ibv_context *context, int entries, void *cq_context,
                                struct ibv_comp_channel *channel, int vector)
{
    struct fake_cq *cq = create("create_cq", sizeof(*cq), &fake_world.counts.cqs);
    (void)vector;
    if (cq == NULL)
        return NULL;
    cq->base.context = context;
    cq->base.channel = channel;
    cq->base.cq_context = cq_context;
    cq->room = (uint32_t)entries;
    cq->ring = calloc(cq->room, sizeof(*cq->ring));
    return &cq->base;
}

static int destroy_cq(struct ibv_cq *cq)
{
    free(((struct fake_cq *)cq)->ring);
    return destroy(cq, &fake_world.counts.cqs);
}

static void ack_cq_events(struct ibv_cq *cq, unsigned int count)
{
    (void)cq;
    (void)count;
}

static struct ibv_srq *create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *attr)
{
    struct fake_srq *srq = create("create_srq", sizeof(*srq), &fake_world.counts.srqs);
    if (srq == NULL)
        return NULL;
    srq->base.context = pd->context;
    srq->base.pd = pd;
    srq->room = attr->attr.max_wr;
    srq->ring = calloc(srq->room, sizeof(*srq->ring));
    return &srq->base;
}

static int destroy_srq(struct ibv_srq *srq)
{
    free(((struct fake_srq *)srq)->ring);
    return destroy(srq, &fake_world.counts.srqs);
}

static struct ibv_qp *create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
    struct fake_qp *qp = create("create_qp", sizeof(*qp), &fake_world.counts.qps);
    if (qp == NULL)
        return NULL;
    qp->room = attr->cap.max_send_wr;
    qp->ring = calloc(qp->room, sizeof(*qp->ring));
    attr->cap.max_inline_data = attr->cap.max_inline_data > 0 ? FAKE_INLINE : 0;
    lock();
    qp->base.context = pd->context;
    qp->base.pd = pd;
    qp->base.send_cq = attr->send_cq;
    qp->base.recv_cq = attr->recv_cq;
    qp->base.srq = attr->srq;
    qp->base.state = IBV_QPS_RESET;
    qp->base.qp_num = ++fake_world.next_number;
    qp->next = fake_world.qps;
    fake_world.qps = qp;
    unlock();
    return &qp->base;
}

/* Does this GID lead anywhere? */
static int leads(const uint8_t raw[16])
{
    int is_ipv4 = raw[10] == 0xff;
    return !(fake_world.misled && is_ipv4);
}

/* As the kernel does that looks for a way, without any lock. */
static void look_for_way(void)
{
    atomic_fetch_add(&looking, 1);
    for (int ms = 0; atomic_load(&ways_held); ms++) {
        if (ms == WAY_MS_MOST)
            atomic_store(&ways_held, 0);
        usleep(1000);
    }
    atomic_fetch_sub(&looking, 1);
}

static int modify_qp(struct ibv_qp *base, struct ibv_qp_attr *attr, int mask)
{
    struct fake_qp *qp = (struct fake_qp *)base;
    int error = 0;
    if (attr->qp_state == IBV_QPS_RTR)
        look_for_way();
    lock();
    if (fake_refused("modify_qp"))
        error = errno;
    else if (!(mask & IBV_QP_STATE))
        error = EINVAL;
    else if (attr->qp_state == IBV_QPS_ERR)
        fake_flush(qp);
    else if ((int)attr->qp_state != (int)base->state + 1)
        error = EINVAL;
    else if (attr->qp_state == IBV_QPS_RTR && !leads(attr->ah_attr.grh.dgid.raw) &&
             !fake_world.is_silent)
        error = EHOSTUNREACH;
    if (error == 0 && attr->qp_state == IBV_QPS_RTR) {
        qp->remote = attr->dest_qp_num;
        qp->is_lost = !leads(attr->ah_attr.grh.dgid.raw);
    }
    if (error == 0)
        base->state = attr->qp_state;
    unlock();
    return error;
}

static int destroy_qp(struct ibv_qp *base)
{
    lock();
    int error = fake_refused("destroy_qp") ? errno : 0;
    struct fake_qp **link = &fake_world.qps;
    while (error == 0 && *link != (struct fake_qp *)base)
        link = &(*link)->next;
    if (error == 0)
        *link = (*link)->next;
    unlock();
    if (error != 0)
        return error;
    free(((struct fake_qp *)base)->ring);
    return destroy(base, &fake_world.counts.qps);
}

static int get_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
    uint64_t number;
    if (read(context->async_fd, &number, sizeof(number)) != sizeof(number))
        return -1;
    event->event_type = (enum ibv_event_type)(number - 1);
    return 0;
}

static void ack_async_event(struct ibv_async_event *event)
{
    (void)event;
}

static const char *event_type_str(enum ibv_event_type event)
{
    (void)event;
    return "an event";
}

static int get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **context)
{
    return fake_get_cq_event(channel, cq, context);
}

#define MEMBER(result, name, arguments) .name = name,
static const struct mt_verbs_library library = {MT_VERBS_FUNCTIONS(MEMBER).query_port = query_port};
#undef MEMBER

void fake_verbs_begin(uint32_t devices)
{
    memset(&fake_world.devices, 0, sizeof(fake_world.devices));
    memset(&fake_world.counts, 0, sizeof(fake_world.counts));
    fake_world.refusal.function = NULL;
    fake_world.misled = fake_world.is_silent = fake_world.reads = fake_world.writes_stay = 0;
    fake_world.device_count = devices;
    for (uint32_t i = 0; i < devices; i++) {
        struct fake_device *device = &fake_world.devices[i];
        snprintf(device->base.name, sizeof(device->base.name), "fake_%u", i);
        device->state = IBV_PORT_ACTIVE;
        device->has[0] = device->has[1] = 1;
        device->until_cut = UINT64_MAX;
    }
    mt_verbs_library_replace(&library);
}

void fake_verbs_end(void)
{
    const struct fake_counts *counts = &fake_world.counts;
    mt_verbs_library_replace(NULL);
    assert_int_equal(counts->qps, 0);
    assert_int_equal(counts->mrs, 0);
    assert_int_equal(counts->cqs + counts->srqs + counts->channels, 0);
    assert_int_equal(counts->pds + counts->devices_open, 0);
}

int fake_verbs_setup(void **state)
{
    (void)state;
    fake_verbs_begin(2);
    return 0;
}

int fake_verbs_teardown(void **state)
{
    (void)state;
    fake_verbs_end();
    return 0;
}

static int is_named(void)
{
    return getenv("MANTA_VERBS_DEVICE") != NULL;
}

int fake_verbs_unless_named(void **state)
{
    return is_named() ? 0 : fake_verbs_setup(state);
}

int fake_verbs_teardown_unless_named(void **state)
{
    return is_named() ? 0 : fake_verbs_teardown(state);
}

void fake_verbs_refuse(struct fake_refusal refusal)
{
    lock();
    fake_world.refusal = refusal;
    unlock();
}

void fake_verbs_counts(struct fake_counts *counts_out)
{
    lock();
    *counts_out = fake_world.counts;
    unlock();
    counts_out->looking = atomic_load(&looking);
}

void fake_verbs_cut(uint32_t device, uint64_t after, int arrives)
{
    lock();
    fake_world.devices[device].until_cut = after;
    fake_world.devices[device].arrives = arrives;
    unlock();
}

void fake_verbs_mend(uint32_t device)
{
    lock();
    fake_world.devices[device].until_cut = UINT64_MAX;
    fake_world.devices[device].is_cut = 0;
    unlock();
}

void fake_verbs_port(uint32_t device, int state, int has_ipv4, int has_link_local)
{
    fake_world.devices[device].state = state;
    fake_world.devices[device].has[0] = has_link_local;
    fake_world.devices[device].has[1] = has_ipv4;
}

void fake_verbs_language(int transport_type)
{
    for (uint32_t i = 0; i < FAKE_DEVICES; i++)
        fake_world.devices[i].base.transport_type = (enum ibv_transport_type)transport_type;
}

void fake_verbs_mislead(int ipv4, int silent)
{
    fake_world.misled = ipv4;
    fake_world.is_silent = silent;
}

int fake_verbs_ways(int held)
{
    return atomic_exchange(&ways_held, held);
}

void fake_verbs_writes(int stay)
{
    lock();
    fake_world.writes_stay = stay;
    fake_run_all();
    unlock();
}

void fake_verbs_reads(int how)
{
    lock();
    fake_world.reads = how;
    fake_run_all();
    unlock();
}
