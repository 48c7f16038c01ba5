/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a lane's two queue pairs, and whose work their completions are. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "transport/verbs/verbs.h"

enum {
    RNR_FOREVER = 7,  /* a peer that computes takes no frames: no error */
    FAILURES_MOST = 4 /* each doubles the time before it is made again */
};

static int fail_make(struct mt_verbs_lane *lane, const char *what, int error)
{
    snprintf(lane->refused, sizeof(lane->refused), "%s: %s", what, strerror(error));
    return -1;
}

int mt_verbs_lane_make(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    struct mt_verbs_rail *rail = &endpoint->rails[lane->rail];
    for (uint32_t q = 0; q < MT_VERBS_QUEUES; q++) {
        struct ibv_qp_init_attr attr = {
            .send_cq = rail->cq,
            .recv_cq = rail->cq,
            .srq = rail->srq,
            .qp_type = IBV_QPT_RC,
            .cap = {.max_send_wr = MT_VERBS_DEPTH, .max_send_sge = MT_VERBS_GATHER}};
        if (q == MT_VERBS_FRAME_QUEUE)
            attr.cap.max_inline_data = MT_VERBS_INLINE_BYTES;
        struct mt_verbs_queue *queue = &lane->queues[q];
        memset(queue, 0, sizeof(*queue));
        errno = 0;
        queue->qp = endpoint->library->create_qp(rail->pd, &attr);
        if (queue->qp == NULL)
            return fail_make(lane, "no queue pair could be made", errno);
        queue->inline_bytes = attr.cap.max_inline_data;
    }
    return 0;
}

int mt_verbs_to_init(struct mt_verbs_endpoint *endpoint, const struct mt_verbs_rail *rail,
                     struct ibv_qp *qp)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT,
                               .pkey_index = (uint16_t)endpoint->settings.pkey_index,
                               .port_num = rail->number,
                               .qp_access_flags = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                                                  IBV_ACCESS_REMOTE_READ};
    return endpoint->library->modify_qp(
        qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

static int to_receive(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane,
                      const struct mt_verbs_port *there, const struct mt_verbs_queue *queue)
{
    const struct mt_verbs_rail *rail = &endpoint->rails[lane->rail];
    uint32_t pair = lane->generation % lane->pair_count;
    const struct mt_verbs_gid *local = &rail->port.gids[lane->pairs[pair].local];
    const struct mt_verbs_gid *remote = &there->gids[lane->pairs[pair].remote];
    int is_subnet = local->kind == MT_VERBS_INFINIBAND && memcmp(local->raw, remote->raw, 8) == 0;
    struct ibv_qp_attr attr = {
        .qp_state = IBV_QPS_RTR,
        .path_mtu = rail->port.mtu < there->mtu ? rail->port.mtu : there->mtu,
        .dest_qp_num = queue->remote,
        .rq_psn = MT_VERBS_FIRST_NUMBER,
        .max_dest_rd_atomic = MT_VERBS_READS,
        .min_rnr_timer = MT_VERBS_RNR_TIMER,
        .ah_attr = {.dlid = there->lid,
                    .sl = (uint8_t)endpoint->settings.service_level,
                    .is_global = !is_subnet,
                    .port_num = rail->number,
                    .grh = {.sgid_index = local->index,
                            .hop_limit = MT_VERBS_HOPS,
                            .traffic_class = (uint8_t)endpoint->settings.traffic_class}}};
    memcpy(attr.ah_attr.grh.dgid.raw, remote->raw, sizeof(remote->raw));
    return endpoint->library->modify_qp(queue->qp, &attr,
                                        IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
                                            IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                                            IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
}

int mt_verbs_to_send(struct mt_verbs_endpoint *endpoint, struct ibv_qp *qp)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS,
                               .timeout = (uint8_t)endpoint->settings.timeout,
                               .retry_cnt = (uint8_t)endpoint->settings.retries,
                               .rnr_retry = RNR_FOREVER,
                               .sq_psn = MT_VERBS_FIRST_NUMBER,
                               .max_rd_atomic = MT_VERBS_READS};
    return endpoint->library->modify_qp(qp, &attr,
                                        IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                                            IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                                            IBV_QP_MAX_QP_RD_ATOMIC);
}

int mt_verbs_lane_connect(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    const struct mt_verbs_door *door = &endpoint->doors[lane->peer];
    struct mt_verbs_ports there;
    if (mt_verbs_ports_decode(door->address, door->address_bytes, &there) != 0)
        return fail_make(lane, "the peer's address is none", EINVAL);
    for (uint32_t q = 0; q < MT_VERBS_QUEUES; q++) {
        struct mt_verbs_queue *queue = &lane->queues[q];
        int error = mt_verbs_to_init(endpoint, &endpoint->rails[lane->rail], queue->qp);
        if (error != 0)
            return fail_make(lane, "the queue pair cannot be initialised", error);
        error = to_receive(endpoint, lane, &there.ports[lane->remote_rail], queue);
        if (error != 0)
            return fail_make(lane, "no way leads to the peer's GID", error);
        error = mt_verbs_to_send(endpoint, queue->qp);
        if (error != 0)
            return fail_make(lane, "the queue pair cannot be made ready to send", error);
    }
    return 0;
}

static void stop(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
    for (uint32_t q = 0; q < MT_VERBS_QUEUES; q++) {
        if (lane->queues[q].qp != NULL)
            (void)endpoint->library->modify_qp(lane->queues[q].qp, &attr, IBV_QP_STATE);
    }
}

/* "rail rxe_0:1 (10.0.0.1) to rank 3 (10.0.0.2)" */
static void name_lane(const struct mt_verbs_endpoint *endpoint, const struct mt_verbs_lane *lane,
                      char *text, size_t text_bytes)
{
    const struct mt_verbs_door *door = &endpoint->doors[lane->peer];
    const struct mt_verbs_rail *rail = &endpoint->rails[lane->rail];
    uint32_t pair = lane->generation % lane->pair_count;
    char local[48], remote[48] = "?";
    struct mt_verbs_ports there;
    mt_verbs_gid_format(&rail->port.gids[lane->pairs[pair].local], local, sizeof(local));
    if (mt_verbs_ports_decode(door->address, door->address_bytes, &there) == 0)
        mt_verbs_gid_format(&there.ports[lane->remote_rail].gids[lane->pairs[pair].remote], remote,
                            sizeof(remote));
    snprintf(text, text_bytes, "rail %s (%s) to rank %u (%s)", rail->name, local, lane->peer,
             remote);
}

void mt_verbs_lane_fail(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane,
                        const char *format, ...)
{
    char name[192], sentence[384];
    va_list arguments;
    if (lane->state == MT_VERBS_LANE_DRAINING || lane->state == MT_VERBS_LANE_DEAD)
        return;
    if (lane->state == MT_VERBS_LANE_CONNECTING) {
        lane->given_up = 1;
        return;
    }
    mt_verbs_lane_end_connect(endpoint, lane);
    va_start(arguments, format);
    vsnprintf(lane->why, sizeof(lane->why), format, arguments);
    va_end(arguments);
    name_lane(endpoint, lane, name, sizeof(name));
    int was_open = lane->state == MT_VERBS_LANE_OPEN;
    if (was_open)
        lane->lost_ns = endpoint->host->clock_ns();
    snprintf(sentence, sizeof(sentence), "%s %s: %s", name, was_open ? "has died" : "does not work",
             lane->why);
    endpoint->host->log(was_open              ? MT_LOG_WARN
                        : lane->failures <= 1 ? MT_LOG_INFO
                                              : MT_LOG_DEBUG,
                        "verbs", sentence);
    stop(endpoint, lane);
    mt_verbs_post_last(lane);
    lane->state = MT_VERBS_LANE_DRAINING;
    lane->until_ns = endpoint->host->clock_ns() + MT_VERBS_DRAIN_NS;
    struct mt_verbs_peer *peer = endpoint->peers[lane->peer];
    if (peer->current == lane->index)
        peer->current = -1;
    mt_verbs_unsettle(endpoint);
    mt_verbs_tell(endpoint, lane, MT_VERBS_NOTE_NO);
}

void mt_verbs_lane_end(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    if (lane->state == MT_VERBS_LANE_CONNECTING && !endpoint->is_closing) {
        lane->given_up = 1; /* nothing can come over it yet, and the kernel may take seconds */
        return;
    }
    mt_verbs_lane_end_connect(endpoint, lane);
    stop(endpoint, lane);
    for (uint32_t q = 0; q < MT_VERBS_QUEUES; q++) {
        struct mt_verbs_queue *queue = &lane->queues[q];
        if (queue->qp != NULL && endpoint->library->destroy_qp(queue->qp) != 0)
            endpoint->could_not_stop = 1; /* close tries once more */
        else
            queue->qp = NULL;
        queue->done = queue->posted;
    }
    lane->state = MT_VERBS_LANE_DEAD;
    lane->turn_count = 0;
    lane->until_ns = endpoint->host->clock_ns() + (MT_VERBS_AGAIN_NS << lane->failures);
    lane->failures += lane->failures < FAILURES_MOST;
}

void mt_verbs_lane_drain(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    struct mt_verbs_peer *peer = endpoint->peers[lane->peer];
    for (uint32_t q = 0; q < MT_VERBS_QUEUES; q++) {
        if (lane->queues[q].posted != lane->queues[q].done &&
            endpoint->host->clock_ns() < lane->until_ns)
            return;
    }
    /* What had come before it stopped is taken before what follows on other lanes. */
    mt_verbs_poll_all(endpoint);
    if (lane->state != MT_VERBS_LANE_DRAINING)
        return;
    mt_verbs_lane_end(endpoint, lane);
    if (endpoint->could_not_stop) {
        mt_verbs_peer_lose(endpoint, peer, MANTA_EBUFFER, 0,
                           "a queue pair of rank %u cannot be destroyed: its card may still write "
                           "the buffers of this call",
                           peer->rank);
        return;
    }
    lane->dead_generation = lane->generation;
    if (lane->was_open)
        peer->downs |= 1u << lane->index;
    peer->ring.is_given |= peer->ring.sleeps > 0; /* what its line was told may be lost */
    lane->was_open = 0;
    mt_verbs_choose_lane(endpoint, peer);
    mt_verbs_put_downs(endpoint, peer);
    mt_verbs_writes_lost(endpoint, lane);
    mt_verbs_post_frames(endpoint, peer);
}

/* The lane and queue that a work request was of, if it is still that lane. */
static struct mt_verbs_lane *lane_of(struct mt_verbs_endpoint *endpoint, uint64_t id,
                                     uint32_t *queue_out)
{
    uint32_t place = (uint32_t)id;
    uint32_t rank = place / (MT_VERBS_LANES * MT_VERBS_QUEUES);
    struct mt_verbs_peer *peer = rank < endpoint->ranks ? endpoint->peers[rank] : NULL;
    if (peer == NULL)
        return NULL;
    struct mt_verbs_lane *lane = &peer->lanes[place / MT_VERBS_QUEUES % MT_VERBS_LANES];
    *queue_out = place % MT_VERBS_QUEUES;
    return lane->generation == (uint8_t)(id >> 48) && lane->queues[*queue_out].qp != NULL ? lane
                                                                                          : NULL;
}

/* 1: a frame, which is the caller's to say. */
static int succeeded(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane, uint32_t queue,
                     uint64_t what)
{
    if (what == MT_VERBS_WHAT_TRY)
        mt_verbs_lane_tried(endpoint, lane);
    else if (what == MT_VERBS_WHAT_LINE)
        return 0;
    else if (queue == MT_VERBS_FRAME_QUEUE)
        return 1;
    else
        mt_verbs_write_done(endpoint, (uint32_t)(what >> 8), what & 0xff);
    return 0;
}

/* Work of a queue is done in its order: what was posted before what completes is done, too; of
 * frames, the last says it of all. */
void mt_verbs_lane_completed(struct mt_verbs_endpoint *endpoint, const struct ibv_wc *wc)
{
    uint32_t q = 0;
    struct mt_verbs_lane *lane = lane_of(endpoint, wc->wr_id, &q);
    if (lane == NULL)
        return;
    struct mt_verbs_queue *queue = &lane->queues[q];
    uint16_t position = (uint16_t)(wc->wr_id >> 32);
    int is_good = wc->status == IBV_WC_SUCCESS;
    uint16_t after = (uint16_t)(position + 1);
    if ((uint16_t)(after - queue->done) > MT_VERBS_DEPTH)
        return;
    int has_frame = 0;
    uint32_t frame = 0;
    while (queue->done != after && queue->qp != NULL) {
        uint64_t what = queue->what[queue->done++ % MT_VERBS_DEPTH];
        if ((is_good || queue->done != after) && succeeded(endpoint, lane, q, what)) {
            has_frame = 1;
            frame = (uint32_t)what;
        }
    }
    if (has_frame)
        mt_verbs_frames_acked(endpoint, endpoint->peers[lane->peer], frame);
    if (!is_good)
        mt_verbs_lane_fail(endpoint, lane, "%s", mt_verbs_status_words(wc->status));
    else if (q == MT_VERBS_BULK_QUEUE && lane->state == MT_VERBS_LANE_OPEN)
        mt_verbs_post_writes(endpoint, lane);
}
