/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A card tells the host that a message is there by another way than the message goes to a device's
 * memory, so what was told may not be visible to the device yet. A read by the same card from that
 * memory cannot overtake the writes before it: when it has returned, they are in place. So, of
 * memory that was registered with MANTA_BUFFER_FLUSH, a byte of each piece is read over each rail
 * that the message came over, through a queue pair that is connected to itself, and the receive is
 * complete after that.
 */
#include <errno.h>
#include <string.h>

#include "transport/verbs/verbs.h"

/* rail (8) at 40, its generation (8) at 32, the offer's generation (8) at 16, its place (16) */
#define FLUSH_ID (UINT64_C(1) << 62)

static void make(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail)
{
    struct ibv_qp_init_attr attr = {
        .send_cq = rail->cq,
        .recv_cq = rail->cq,
        .srq = rail->srq,
        .qp_type = IBV_QPT_RC,
        .cap = {.max_send_wr = MT_VERBS_FLUSH_DEPTH, .max_send_sge = 1}};
    errno = 0;
    rail->flush_qp = endpoint->library->create_qp(rail->pd, &attr);
}

static int to_receive(struct mt_verbs_endpoint *endpoint, const struct mt_verbs_rail *rail,
                      struct ibv_qp *qp)
{
    const struct mt_verbs_gid *gid = &rail->port.gids[0];
    struct ibv_qp_attr attr = {
        .qp_state = IBV_QPS_RTR,
        .path_mtu = rail->port.mtu,
        .dest_qp_num = qp->qp_num,
        .rq_psn = MT_VERBS_FIRST_NUMBER,
        .max_dest_rd_atomic = MT_VERBS_READS,
        .min_rnr_timer = MT_VERBS_RNR_TIMER,
        .ah_attr = {.dlid = rail->port.lid,
                    .is_global = gid->kind != MT_VERBS_INFINIBAND,
                    .port_num = rail->number,
                    .grh = {.sgid_index = gid->index, .hop_limit = MT_VERBS_HOPS}}};
    memcpy(attr.ah_attr.grh.dgid.raw, gid->raw, sizeof(gid->raw));
    return endpoint->library->modify_qp(qp, &attr,
                                        IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
                                            IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                                            IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
}

static int open_rail(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail)
{
    if (rail->flush_qp != NULL)
        return 0;
    make(endpoint, rail);
    int error = rail->flush_qp == NULL ? errno : 0;
    if (error == 0)
        error = mt_verbs_to_init(endpoint, rail, rail->flush_qp);
    if (error == 0)
        error = to_receive(endpoint, rail, rail->flush_qp);
    if (error == 0)
        error = mt_verbs_to_send(endpoint, rail->flush_qp);
    if (error == 0)
        return 0;
    mt_verbs_flush_close(endpoint, rail);
    return mt_messages_error_set(
        endpoint->messages, MANTA_ENOTSUP, MANTA_PLAN_NONE, error,
        "%s gives no queue pair to itself, which memory of this device needs: %s", rail->name,
        strerror(error));
}

int mt_verbs_flush_open(struct mt_verbs_endpoint *endpoint)
{
    int code = 0;
    for (uint32_t i = 0; i < endpoint->rail_count && code == 0; i++)
        code = open_rail(endpoint, &endpoint->rails[i]);
    return code;
}

void mt_verbs_flush_close(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail)
{
    if (rail->flush_qp != NULL && endpoint->library->destroy_qp(rail->flush_qp) != 0)
        endpoint->could_not_stop = 1;
    rail->flush_qp = NULL;
    rail->flush_posted = 0;
    rail->flush_generation++;
}

static int needs_flush(const struct mt_verbs_offer *offer, uint32_t piece)
{
    const struct mt_registration *registration = offer->registrations[piece];
    return registration != NULL && (registration->flags & MANTA_BUFFER_FLUSH);
}

/* 0 or errno. */
static int post_read(struct mt_verbs_endpoint *endpoint, uint32_t index,
                     struct mt_verbs_offer *offer, uint32_t piece)
{
    struct mt_verbs_rail *rail = &endpoint->rails[index];
    const struct mt_registration *registration = offer->registrations[piece];
    const struct mt_verbs_memory *memory = registration->handle;
    uint8_t *to = rail->memory + (size_t)endpoint->recv_slots * MT_VERBS_SLOT_BYTES;
    struct ibv_sge place = {(uint64_t)(uintptr_t)to, 1, rail->recv_mr->lkey};
    struct ibv_send_wr *bad, work = {.sg_list = &place,
                                     .num_sge = 1,
                                     .opcode = IBV_WR_RDMA_READ,
                                     .send_flags = IBV_SEND_SIGNALED};
    work.wr_id = FLUSH_ID | (uint64_t)index << 40 | (uint64_t)rail->flush_generation << 32 |
                 (uint64_t)offer->generation << 16 | (uint64_t)(offer - endpoint->offers);
    work.wr.rdma.remote_addr = registration->start; /* any byte of that device serves */
    work.wr.rdma.rkey = memory->mr[index]->rkey;
    int error = ibv_post_send(rail->flush_qp, &work, &bad);
    rail->flush_posted += error == 0;
    offer->flushes += error == 0;
    return error;
}

static int has_room(const struct mt_verbs_endpoint *endpoint, const struct mt_verbs_offer *offer,
                    uint32_t reads)
{
    for (uint32_t i = 0; i < endpoint->rail_count; i++) {
        if ((offer->rails & 1u << i) &&
            endpoint->rails[i].flush_posted + reads > MT_VERBS_FLUSH_DEPTH)
            return 0;
    }
    return 1;
}

static void fail(struct mt_verbs_endpoint *endpoint, const struct mt_verbs_rail *rail,
                 const char *why)
{
    endpoint->failure = mt_messages_error_set(
        endpoint->messages, MANTA_ETRANSPORT, MANTA_PLAN_NONE, 0,
        "%s cannot read from memory of the device that it has written to, so nobody knows whether "
        "a message is in place: %s",
        rail->name, why);
}

static void post_reads(struct mt_verbs_endpoint *endpoint, struct mt_verbs_offer *offer)
{
    for (uint32_t i = 0; i < endpoint->rail_count; i++) {
        for (uint32_t piece = 0; (offer->rails & 1u << i) && piece < offer->count; piece++) {
            int error = needs_flush(offer, piece) ? post_read(endpoint, i, offer, piece) : 0;
            if (error != 0)
                fail(endpoint, &endpoint->rails[i], strerror(error));
        }
    }
}

static void begin(struct mt_verbs_endpoint *endpoint, struct mt_verbs_offer *offer, uint32_t reads)
{
    int waits = !has_room(endpoint, offer, reads);
    endpoint->flush_waits += (uint32_t)waits - offer->waits_to_flush;
    offer->waits_to_flush = (uint8_t)waits;
    if (!waits)
        post_reads(endpoint, offer);
}

static uint32_t count_reads(const struct mt_verbs_offer *offer)
{
    uint32_t reads = 0;
    for (uint32_t piece = 0; piece < offer->count; piece++)
        reads += (uint32_t)needs_flush(offer, piece);
    return reads;
}

int mt_verbs_flush(struct mt_verbs_endpoint *endpoint, struct mt_verbs_offer *offer)
{
    uint32_t reads = count_reads(offer);
    if (reads > 0)
        begin(endpoint, offer, reads);
    return reads > 0;
}

static void begin_waiting(struct mt_verbs_endpoint *endpoint)
{
    for (uint32_t i = 0; i < MT_VERBS_OFFERS && endpoint->flush_waits > 0; i++) {
        struct mt_verbs_offer *offer = &endpoint->offers[i];
        if (offer->waits_to_flush)
            begin(endpoint, offer, count_reads(offer));
    }
}

int mt_verbs_flush_completed(struct mt_verbs_endpoint *endpoint, const struct ibv_wc *wc)
{
    if (!(wc->wr_id & FLUSH_ID))
        return 0;
    struct mt_verbs_rail *rail = &endpoint->rails[wc->wr_id >> 40 & 0xff];
    struct mt_verbs_offer *offer = &endpoint->offers[wc->wr_id & 0xffff];
    if (rail->flush_generation != (uint8_t)(wc->wr_id >> 32))
        return 1;
    rail->flush_posted--;
    if (wc->status != IBV_WC_SUCCESS)
        fail(endpoint, rail, mt_verbs_status_words(wc->status));
    else if (offer->request != NULL && offer->generation == (uint8_t)(wc->wr_id >> 16) &&
             offer->flushes > 0 && --offer->flushes == 0)
        mt_verbs_offer_done(endpoint, offer);
    if (endpoint->flush_waits > 0 && endpoint->failure == 0)
        begin_waiting(endpoint);
    return 1;
}

static int is_flushing(const struct mt_verbs_offer *offer)
{
    return offer->request != NULL && offer->flushes > 0;
}

int mt_verbs_flushing(const struct mt_verbs_endpoint *endpoint, uint32_t peer)
{
    int any = 0;
    for (uint32_t i = 0; endpoint->offers != NULL && i < MT_VERBS_OFFERS; i++) {
        const struct mt_verbs_offer *offer = &endpoint->offers[i];
        any |= offer->peer == peer && (is_flushing(offer) || offer->waits_to_flush);
    }
    return any;
}

/* Only the end of its queue pair ends a read for certain; those of other peers are done again. */
void mt_verbs_flush_cease(struct mt_verbs_endpoint *endpoint, uint32_t peer)
{
    if (!mt_verbs_flushing(endpoint, peer))
        return;
    for (uint32_t i = 0; i < endpoint->rail_count; i++)
        mt_verbs_flush_close(endpoint, &endpoint->rails[i]);
    int code = endpoint->aborted ? 0 : mt_verbs_flush_open(endpoint);
    if (code != 0)
        endpoint->failure = code;
    for (uint32_t i = 0; i < MT_VERBS_OFFERS; i++) {
        struct mt_verbs_offer *offer = &endpoint->offers[i];
        int again = is_flushing(offer) && offer->peer != peer && !endpoint->aborted && code == 0;
        offer->flushes = 0;
        if (offer->peer == peer) { /* it is released next */
            endpoint->flush_waits -= offer->waits_to_flush;
            offer->waits_to_flush = 0;
        }
        if (again)
            begin(endpoint, offer, count_reads(offer));
    }
    if (!endpoint->aborted && code == 0) /* no read of before tells that there is room */
        begin_waiting(endpoint);
}
