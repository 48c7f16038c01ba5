/* SPDX-License-Identifier: Apache-2.0 */
/* A rail's queues: one of completions, one of slots that frames of all peers arrive in. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/log.h"
#include "core/service.h"
#include "transport/verbs/verbs.h"

enum {
    REFILL = 16, /* slots given to the card at a time */
    COMPLETIONS_MOST = 32000,
    ROUNDS_MOST = 10000,
    RINGS_ALONE = 8 /* so often rings are looked at before completions are, if these had frames */
};

/* Receives are told apart from work of lanes by this bit. */
#define RECV_ID (UINT64_C(1) << 63)

int mt_verbs_lacks(struct mt_verbs_endpoint *endpoint, const struct mt_verbs_rail *rail,
                   const char *what, int error)
{
    int is_memory = error == ENOMEM;
    return mt_messages_error_set(
        endpoint->messages, is_memory ? MANTA_ENOMEM : MANTA_ETRANSPORT, MANTA_PLAN_NONE, error,
        "%s gives no %s: %s%s", rail->name, what, strerror(error),
        is_memory ? "; raise the limit of locked memory (ulimit -l unlimited), or give CAP_IPC_LOCK"
                  : "");
}

static int watch(struct mt_verbs_endpoint *endpoint, int fd, void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return -1;
    return epoll_ctl(endpoint->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int make_queues(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail)
{
    const struct mt_verbs_library *library = endpoint->library;
    uint64_t entries = endpoint->recv_slots +
                       (uint64_t)endpoint->ranks * MT_VERBS_QUEUES * MT_VERBS_DEPTH +
                       MT_VERBS_FLUSH_DEPTH;
    struct ibv_srq_init_attr attr = {.attr = {.max_wr = endpoint->recv_slots, .max_sge = 1}};
    rail->pd = library->alloc_pd(rail->context);
    if (rail->pd == NULL)
        return mt_verbs_lacks(endpoint, rail, "protection domain", errno);
    rail->channel = library->create_comp_channel(rail->context);
    if (rail->channel == NULL)
        return mt_verbs_lacks(endpoint, rail, "completion channel", errno);
    mt_fd_enter(rail->channel->fd);
    if (watch(endpoint, rail->channel->fd, &rail->channel) != 0 ||
        watch(endpoint, rail->context->async_fd, &rail->context) != 0)
        return mt_verbs_lacks(endpoint, rail, "descriptor to wait on", errno);
    rail->cq = library->create_cq(rail->context,
                                  (int)(entries < COMPLETIONS_MOST ? entries : COMPLETIONS_MOST),
                                  rail, rail->channel, 0);
    if (rail->cq == NULL)
        return mt_verbs_lacks(endpoint, rail, "completion queue", errno);
    rail->srq = library->create_srq(rail->pd, &attr);
    return rail->srq != NULL ? 0 : mt_verbs_lacks(endpoint, rail, "shared receive queue", errno);
}

struct ibv_mr *mt_verbs_show(const struct mt_verbs_endpoint *endpoint,
                             const struct mt_verbs_rail *rail, uint8_t *memory, size_t bytes,
                             int access)
{
    return endpoint->library->reg_mr_iova2(rail->pd, memory, bytes, (uint64_t)(uintptr_t)memory,
                                           IBV_ACCESS_LOCAL_WRITE | access);
}

static size_t ring_bytes(const struct mt_verbs_endpoint *endpoint)
{
    return (size_t)endpoint->settings.rings * MT_VERBS_RING_BYTES;
}

static int start_rail(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail)
{
    const struct manta_transport_host *host = endpoint->host;
    size_t recv_bytes = (size_t)endpoint->recv_slots * MT_VERBS_SLOT_BYTES + MT_VERBS_FLUSH_BYTES;
    int code = make_queues(endpoint, rail);
    if (code != 0)
        return code;
    rail->memory = host->alloc(recv_bytes, 4096);
    rail->free_slots = host->alloc(endpoint->recv_slots * sizeof(uint32_t), 64);
    if (rail->memory == NULL || rail->free_slots == NULL)
        return mt_verbs_lacks(endpoint, rail, "memory", ENOMEM);
    memset(rail->memory, 0, recv_bytes);
    errno = 0;
    rail->recv_mr = mt_verbs_show(endpoint, rail, rail->memory, recv_bytes, 0);
    if (endpoint->settings.rings > 0)
        rail->ring_mr = mt_verbs_show(endpoint, rail, endpoint->ring_memory, ring_bytes(endpoint),
                                      IBV_ACCESS_REMOTE_WRITE);
    if (rail->recv_mr == NULL || (rail->ring_mr == NULL && endpoint->settings.rings > 0))
        return mt_verbs_lacks(endpoint, rail, "registered memory", errno);
    for (uint32_t i = 0; i < endpoint->recv_slots; i++)
        rail->free_slots[i] = i;
    rail->free_count = endpoint->recv_slots;
    mt_verbs_refill(endpoint, rail, 1);
    return 0;
}

static int start_memory(struct mt_verbs_endpoint *endpoint)
{
    const struct manta_transport_host *host = endpoint->host;
    size_t offer_bytes = MT_VERBS_OFFERS * sizeof(struct mt_verbs_offer);
    size_t write_bytes = MT_VERBS_WRITES * sizeof(struct mt_verbs_write);
    endpoint->recv_slots = mt_verbs_slots_count(endpoint);
    endpoint->ring_memory = host->alloc(ring_bytes(endpoint) + 1, 4096);
    endpoint->offers = host->alloc(offer_bytes, 64);
    endpoint->writes = host->alloc(write_bytes, 64);
    if (endpoint->ring_memory == NULL || endpoint->offers == NULL || endpoint->writes == NULL)
        return mt_messages_error_set(endpoint->messages, MANTA_ENOMEM, MANTA_PLAN_NONE, 0,
                                     "no memory for the rings of the verbs transport");
    memset(endpoint->ring_memory, 0, ring_bytes(endpoint));
    memset(endpoint->offers, 0, offer_bytes);
    memset(endpoint->writes, 0, write_bytes);
    return 0;
}

static void stop_rail(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail)
{
    const struct mt_verbs_library *library = endpoint->library;
    const struct manta_transport_host *host = endpoint->host;
    epoll_ctl(endpoint->epoll_fd, EPOLL_CTL_DEL, rail->context->async_fd, NULL);
    mt_verbs_flush_close(endpoint, rail);
    if (rail->srq != NULL)
        library->destroy_srq(rail->srq);
    if (rail->cq != NULL)
        library->destroy_cq(rail->cq);
    if (rail->channel != NULL) {
        mt_fd_leave(rail->channel->fd);
        library->destroy_comp_channel(rail->channel);
    }
    if (rail->recv_mr != NULL)
        library->dereg_mr(rail->recv_mr);
    if (rail->ring_mr != NULL)
        library->dereg_mr(rail->ring_mr);
    if (rail->pd != NULL)
        library->dealloc_pd(rail->pd);
    host->free(rail->memory);
    host->free(rail->free_slots);
    rail->srq = NULL;
    rail->cq = NULL;
    rail->channel = NULL;
    rail->recv_mr = rail->ring_mr = NULL;
    rail->pd = NULL;
    rail->memory = NULL;
    rail->free_slots = NULL;
}

int mt_verbs_start(struct mt_verbs_endpoint *endpoint)
{
    if (endpoint->is_started)
        return 0;
    int code = start_memory(endpoint);
    for (uint32_t i = 0; i < endpoint->rail_count && code == 0; i++)
        code = start_rail(endpoint, &endpoint->rails[i]);
    if (code == 0)
        code = mt_verbs_slots_start(endpoint);
    if (code == 0)
        endpoint->is_started = 1;
    else
        mt_verbs_stop(endpoint);
    return code;
}

void mt_verbs_stop(struct mt_verbs_endpoint *endpoint)
{
    const struct manta_transport_host *host = endpoint->host;
    mt_verbs_slots_stop(endpoint); /* before the domains of rails that it is shown to */
    for (uint32_t i = 0; i < endpoint->rail_count; i++)
        stop_rail(endpoint, &endpoint->rails[i]);
    host->free(endpoint->ring_memory);
    host->free(endpoint->offers);
    host->free(endpoint->writes);
    endpoint->ring_memory = NULL;
    endpoint->ring_count = 0;
    endpoint->offers = NULL;
    endpoint->writes = NULL;
    endpoint->is_started = 0;
}

void mt_verbs_refill(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail, int all)
{
    struct ibv_recv_wr works[REFILL], *bad;
    struct ibv_sge places[REFILL];
    while (rail->free_count >= REFILL || (all && rail->free_count > 0)) {
        uint32_t count = rail->free_count < REFILL ? rail->free_count : REFILL;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t slot = rail->free_slots[--rail->free_count];
            uint8_t *start = rail->memory + (size_t)slot * MT_VERBS_SLOT_BYTES;
            places[i] = (struct ibv_sge){(uint64_t)(uintptr_t)start, MT_VERBS_SLOT_BYTES,
                                         rail->recv_mr->lkey};
            works[i] = (struct ibv_recv_wr){.wr_id = RECV_ID | slot,
                                            .next = i + 1 < count ? &works[i + 1] : NULL,
                                            .sg_list = &places[i],
                                            .num_sge = 1};
        }
        int error = ibv_post_srq_recv(rail->srq, works, &bad);
        if (error != 0) {
            for (; bad != NULL; bad = bad->next)
                rail->free_slots[rail->free_count++] = (uint32_t)(bad->wr_id & ~RECV_ID);
            endpoint->failure = mt_verbs_lacks(endpoint, rail, "room for receives", error);
            return;
        }
    }
}

/* A slot was used: by a frame, or by the number of a write that is over. */
static void received(struct mt_verbs_endpoint *endpoint, uint32_t rail, const struct ibv_wc *wc)
{
    uint32_t slot = (uint32_t)(wc->wr_id & ~RECV_ID);
    if (wc->status != IBV_WC_SUCCESS) {
        mt_verbs_slot_free(endpoint, rail, slot);
    } else if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
        mt_verbs_slot_free(endpoint, rail, slot);
        if (!endpoint->aborted)
            mt_verbs_written(endpoint, rail, be32toh(wc->imm_data));
    } else {
        mt_verbs_frame_came(endpoint, rail, slot, wc->byte_len);
    }
}

static int poll_rail(struct mt_verbs_endpoint *endpoint, uint32_t index)
{
    struct mt_verbs_rail *rail = &endpoint->rails[index];
    struct ibv_wc completions[MT_VERBS_POLL];
    int count = ibv_poll_cq(rail->cq, MT_VERBS_POLL, completions);
    for (int i = 0; i < count; i++) {
        if (completions[i].wr_id & RECV_ID)
            received(endpoint, index, &completions[i]);
        else if (!mt_verbs_flush_completed(endpoint, &completions[i]))
            mt_verbs_lane_completed(endpoint, &completions[i]);
    }
    if (rail->free_count >= REFILL)
        mt_verbs_refill(endpoint, rail, 0);
    if (count < 0)
        endpoint->failure = mt_verbs_lacks(endpoint, rail, "completions", EIO);
    return count > 0;
}

int mt_verbs_poll(struct mt_verbs_endpoint *endpoint)
{
    int moved = mt_verbs_rings_take(endpoint);
    if (moved && ++endpoint->ring_turns % RINGS_ALONE != 0)
        return 1;
    for (uint32_t i = 0; i < endpoint->rail_count; i++)
        moved |= poll_rail(endpoint, i);
    return moved;
}

void mt_verbs_poll_all(struct mt_verbs_endpoint *endpoint)
{
    for (int round = 0; round < ROUNDS_MOST && mt_verbs_poll(endpoint); round++) {
    }
}

int mt_verbs_arm(struct mt_verbs_endpoint *endpoint)
{
    int moved = 0;
    mt_verbs_rings_sleep(endpoint);
    for (uint32_t i = 0; i < endpoint->rail_count; i++) {
        struct mt_verbs_rail *rail = &endpoint->rails[i];
        mt_verbs_refill(endpoint, rail, 1);
        if (!rail->armed && ibv_req_notify_cq(rail->cq, 0) == 0)
            rail->armed = 1;
        moved |= poll_rail(endpoint, i); /* what came before it was armed rings no bell */
    }
    return mt_verbs_rings_take(endpoint) || moved;
}

void mt_verbs_channel_read(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail)
{
    struct ibv_cq *cq;
    void *context;
    while (endpoint->library->get_cq_event(rail->channel, &cq, &context) == 0) {
        endpoint->library->ack_cq_events(cq, 1);
        rail->armed = 0;
    }
}

/* A card that is broken owes nobody completions any more. */
static int is_end(enum ibv_event_type event)
{
    return event == IBV_EVENT_DEVICE_FATAL || event == IBV_EVENT_CQ_ERR ||
           event == IBV_EVENT_SRQ_ERR;
}

static void fail_lanes(struct mt_verbs_endpoint *endpoint, const struct mt_verbs_rail *rail,
                       const char *why)
{
    for (struct mt_verbs_peer *peer = endpoint->open; peer != NULL; peer = peer->next_open) {
        for (uint32_t i = 0; i < peer->lane_count && peer->link == MT_VERBS_LINK_OPEN; i++) {
            struct mt_verbs_lane *lane = &peer->lanes[i];
            if (&endpoint->rails[lane->rail] == rail && lane->state != MT_VERBS_LANE_NONE)
                mt_verbs_lane_fail(endpoint, lane, "the card has failed: %s", why);
        }
    }
}

/* What the card says of itself. A lane that has died with its port is found by its completions. */
void mt_verbs_async_read(struct mt_verbs_endpoint *endpoint, struct mt_verbs_rail *rail)
{
    struct ibv_async_event event;
    char sentence[160];
    while (endpoint->library->get_async_event(rail->context, &event) == 0) {
        const char *what = endpoint->library->event_type_str(event.event_type);
        snprintf(sentence, sizeof(sentence), "%s: %s", rail->name, what);
        endpoint->host->log(event.event_type == IBV_EVENT_COMM_EST ? MT_LOG_DEBUG : MT_LOG_INFO,
                            "verbs", sentence);
        if (is_end(event.event_type))
            fail_lanes(endpoint, rail, what);
        endpoint->library->ack_async_event(&event);
    }
}
