/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in's data path: what is posted is carried out at once, in the order of its queue. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/fake_verbs_impl.h"

static struct fake_mr *find_mr(uint32_t key, const struct ibv_pd *pd, uint64_t start,
                               uint64_t bytes, int access)
{
    for (struct fake_mr *mr = fake_world.mrs; mr != NULL; mr = mr->next) {
        uint64_t from = (uint64_t)(uintptr_t)mr->base.addr;
        if (mr->base.lkey == key && mr->base.pd == pd && (mr->access & access) == access &&
            start >= from && start - from <= mr->base.length &&
            bytes <= mr->base.length - (start - from))
            return mr;
    }
    return NULL;
}

static void complete(struct ibv_cq *base, const struct ibv_wc *completion)
{
    struct fake_cq *cq = (struct fake_cq *)base;
    uint64_t one = 1;
    if (cq->count == cq->room)
        _exit(99); /* an overrun completion queue is the end of everything */
    cq->ring[(cq->begin + cq->count++) % cq->room] = *completion;
    if (!cq->armed)
        return;
    cq->armed = 0;
    cq->events++;
    ssize_t written = write(base->channel->fd, &one, sizeof(one));
    (void)written;
}

static void end_work(struct fake_qp *qp, const struct fake_work *work, enum ibv_wc_status status)
{
    struct ibv_wc completion = {.wr_id = work->id, .status = status, .qp_num = qp->base.qp_num};
    qp->begin = (qp->begin + 1) % qp->room;
    qp->count--;
    if (status == IBV_WC_SUCCESS && !(work->flags & IBV_SEND_SIGNALED))
        return; /* its place is free when a later one is told of */
    complete(qp->base.send_cq, &completion);
    qp->used = qp->count;
}

void fake_flush(struct fake_qp *qp)
{
    qp->base.state = IBV_QPS_ERR;
    while (qp->count > 0)
        end_work(qp, &qp->ring[qp->begin], IBV_WC_WR_FLUSH_ERR);
}

static struct fake_qp *find_qp(uint32_t number)
{
    struct fake_qp *qp = fake_world.qps;
    while (qp != NULL && qp->base.qp_num != number)
        qp = qp->next;
    return qp;
}

static uint64_t bytes_of(const struct fake_work *work)
{
    uint64_t bytes = work->copied_bytes;
    for (uint32_t i = 0; i < work->places; i++)
        bytes += work->place[i].length;
    return bytes;
}

/* Gather the work's memory to one place; the memory was checked. */
static void copy_to(const struct fake_qp *qp, const struct fake_work *work, uint8_t *to)
{
    if (work->copied_bytes > 0)
        memcpy(to, work->copied, work->copied_bytes);
    for (uint32_t i = 0; i < work->places; i++) {
        const struct ibv_sge *place = &work->place[i];
        if (place->length > 0)
            memcpy(to,
                   fake_reach(find_mr(place->lkey, qp->base.pd, place->addr, place->length, 0),
                              place->addr),
                   place->length);
        to += place->length;
    }
}

static const struct fake_device *device_of(const struct fake_qp *qp)
{
    return ((const struct fake_context *)qp->base.context)->device;
}

/* A byte of memory of a device, whose value nobody looks at. */
static enum ibv_wc_status read_back(const struct fake_qp *there, const struct fake_work *work,
                                    uint64_t bytes)
{
    struct fake_mr *mr =
        find_mr(work->key, there->base.pd, work->remote, bytes, IBV_ACCESS_REMOTE_READ);
    if (mr == NULL || fake_world.reads < 0)
        return IBV_WC_REM_ACCESS_ERR;
    fake_world.counts.reads++;
    fake_device_read(mr, device_of(there));
    return IBV_WC_SUCCESS;
}

static void write_to(const struct fake_qp *qp, const struct fake_qp *there,
                     const struct fake_work *work, struct fake_mr *mr, uint64_t bytes)
{
    uint8_t *all = malloc(bytes);
    copy_to(qp, work, all);
    fake_device_write(mr, device_of(there), work->remote, all, bytes);
    free(all);
}

/* 1: a receive was there, and is used up. */
static int use_receive(const struct fake_qp *qp, struct fake_qp *there,
                       const struct fake_work *work, uint64_t bytes)
{
    struct fake_srq *srq = (struct fake_srq *)there->base.srq;
    struct ibv_wc completion = {.byte_len = (uint32_t)bytes, .qp_num = there->base.qp_num};
    if (srq->count == 0)
        return 0;
    const struct fake_recv *recv = &srq->ring[srq->begin];
    completion.wr_id = recv->id;
    if (work->opcode == IBV_WR_SEND) {
        completion.opcode = IBV_WC_RECV;
        if (bytes > recv->place.length)
            _exit(98); /* it does not fit: both queue pairs would be in error */
        copy_to(qp, work, (uint8_t *)(uintptr_t)recv->place.addr);
    } else {
        completion.opcode = IBV_WC_RECV_RDMA_WITH_IMM;
        completion.imm_data = work->imm;
        completion.wc_flags = IBV_WC_WITH_IMM;
    }
    srq->begin = (srq->begin + 1) % srq->room;
    srq->count--;
    complete(there->base.recv_cq, &completion);
    return 1;
}

static enum ibv_wc_status check_memory(const struct fake_qp *qp, const struct fake_work *work)
{
    for (uint32_t i = 0; i < work->places; i++) {
        if (work->place[i].length > 0 &&
            find_mr(work->place[i].lkey, qp->base.pd, work->place[i].addr, work->place[i].length,
                    0) == NULL)
            return IBV_WC_LOC_PROT_ERR;
    }
    return IBV_WC_SUCCESS;
}

/* 0: done, with *status_out; 1: the receiver is not ready, or it is held. */
static int carry_out(struct fake_qp *qp, const struct fake_work *work,
                     enum ibv_wc_status *status_out)
{
    struct fake_qp *there = find_qp(qp->remote);
    uint64_t bytes = bytes_of(work);
    *status_out = check_memory(qp, work);
    if (*status_out != IBV_WC_SUCCESS)
        return 0;
    if (there == NULL || there->remote != qp->base.qp_num ||
        (there->base.state != IBV_QPS_RTR && there->base.state != IBV_QPS_RTS)) {
        *status_out = IBV_WC_RETRY_EXC_ERR;
        return 0;
    }
    if (work->opcode == IBV_WR_SEND)
        return !use_receive(qp, there, work, bytes);
    if (work->opcode == IBV_WR_RDMA_READ) {
        *status_out = read_back(there, work, bytes);
        return fake_world.reads > 0;
    }
    struct fake_srq *srq = (struct fake_srq *)there->base.srq;
    if ((bytes > 0 && fake_world.writes_stay) ||
        (work->opcode == IBV_WR_RDMA_WRITE_WITH_IMM && srq->count == 0))
        return 1;
    struct fake_mr *mr = bytes == 0 ? NULL
                                    : find_mr(work->key, there->base.pd, work->remote, bytes,
                                              IBV_ACCESS_REMOTE_WRITE);
    if (bytes > 0 && mr == NULL) {
        *status_out = IBV_WC_REM_ACCESS_ERR;
        return 0;
    }
    if (bytes > 0)
        write_to(qp, there, work, mr, bytes);
    fake_world.counts.writes++;
    fake_world.counts.write_bytes += bytes;
    if (work->opcode == IBV_WR_RDMA_WRITE_WITH_IMM)
        use_receive(qp, there, work, bytes);
    return 0;
}

/* Does this request get through? A cut that lets the first arrive loses the word of it. */
static int is_cut(struct fake_qp *qp, const struct fake_work *work)
{
    struct fake_device *device = ((struct fake_context *)qp->base.context)->device;
    enum ibv_wc_status ignored;
    if (qp->remote == qp->base.qp_num) /* it does not leave the card */
        return 0;
    if (qp->is_lost)
        return 1;
    if (device->until_cut != UINT64_MAX && device->until_cut-- == 0) {
        device->until_cut = UINT64_MAX;
        device->is_cut = 1;
    }
    if (!device->is_cut)
        return 0;
    if (device->arrives)
        (void)carry_out(qp, work, &ignored);
    return 1;
}

static void run(struct fake_qp *qp)
{
    while (qp->count > 0 && qp->base.state == IBV_QPS_RTS) {
        struct fake_work work = qp->ring[qp->begin];
        enum ibv_wc_status status = IBV_WC_RETRY_EXC_ERR;
        if (!is_cut(qp, &work) && carry_out(qp, &work, &status))
            return;
        end_work(qp, &work, status);
        if (status != IBV_WC_SUCCESS)
            fake_flush(qp);
    }
}

void fake_run_all(void)
{
    for (struct fake_qp *qp = fake_world.qps; qp != NULL; qp = qp->next)
        run(qp);
}

static int put_work(struct fake_qp *qp, const struct ibv_send_wr *from)
{
    struct fake_work *work = &qp->ring[(qp->begin + qp->count) % qp->room];
    if (qp->used == qp->room || from->num_sge > FAKE_PLACES)
        return ENOMEM;
    if (qp->base.state != IBV_QPS_RTS && qp->base.state != IBV_QPS_ERR)
        return EINVAL;
    memset(work, 0, sizeof(*work));
    work->id = from->wr_id;
    work->opcode = from->opcode;
    work->flags = from->send_flags;
    work->imm = from->imm_data;
    work->remote = from->wr.rdma.remote_addr;
    work->key = from->wr.rdma.rkey;
    for (int i = 0; i < from->num_sge; i++) {
        const struct ibv_sge *place = &from->sg_list[i];
        if (!(from->send_flags & IBV_SEND_INLINE)) {
            work->place[work->places++] = *place;
            continue;
        }
        if (work->copied_bytes + place->length > FAKE_INLINE)
            return EINVAL;
        memcpy(work->copied + work->copied_bytes, (const void *)(uintptr_t)place->addr,
               place->length);
        work->copied_bytes += place->length;
    }
    qp->count++;
    qp->used++;
    return 0;
}

int fake_post_send(struct ibv_qp *base, struct ibv_send_wr *work, struct ibv_send_wr **bad)
{
    struct fake_qp *qp = (struct fake_qp *)base;
    int error = 0;
    pthread_mutex_lock(&fake_world.lock);
    fake_world.counts.posts++;
    if (fake_refused("post_send"))
        error = errno;
    for (; work != NULL && error == 0; work = error == 0 ? work->next : work) {
        fake_world.counts.sends++;
        error = put_work(qp, work);
    }
    *bad = work;
    if (base->state == IBV_QPS_ERR)
        fake_flush(qp);
    run(qp);
    pthread_mutex_unlock(&fake_world.lock);
    return error;
}

int fake_post_srq_recv(struct ibv_srq *base, struct ibv_recv_wr *work, struct ibv_recv_wr **bad)
{
    struct fake_srq *srq = (struct fake_srq *)base;
    int error = 0;
    pthread_mutex_lock(&fake_world.lock);
    if (fake_refused("post_srq_recv"))
        error = errno;
    for (; work != NULL && error == 0; work = work->next) {
        const struct ibv_sge *place = &work->sg_list[0];
        if (srq->count == srq->room || find_mr(place->lkey, base->pd, place->addr, place->length,
                                               IBV_ACCESS_LOCAL_WRITE) == NULL) {
            error = ENOMEM;
            break;
        }
        srq->ring[(srq->begin + srq->count++) % srq->room] =
            (struct fake_recv){work->wr_id, *place};
    }
    *bad = work;
    fake_run_all(); /* who waited for a receive */
    pthread_mutex_unlock(&fake_world.lock);
    return error;
}

int fake_poll_cq(struct ibv_cq *base, int most, struct ibv_wc *completions)
{
    struct fake_cq *cq = (struct fake_cq *)base;
    int count = 0;
    pthread_mutex_lock(&fake_world.lock);
    while (count < most && cq->count > 0) {
        completions[count++] = cq->ring[cq->begin];
        cq->begin = (cq->begin + 1) % cq->room;
        cq->count--;
    }
    fake_world.counts.completions += (uint64_t)count;
    pthread_mutex_unlock(&fake_world.lock);
    return count;
}

int fake_req_notify_cq(struct ibv_cq *base, int solicited)
{
    (void)solicited;
    pthread_mutex_lock(&fake_world.lock);
    ((struct fake_cq *)base)->armed = 1;
    pthread_mutex_unlock(&fake_world.lock);
    return 0;
}

int fake_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **context)
{
    uint64_t count;
    (void)cq;
    (void)context;
    if (read(channel->fd, &count, sizeof(count)) != sizeof(count))
        return -1;
    return 0;
}
