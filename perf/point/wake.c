/* SPDX-License-Identifier: Apache-2.0 */
/* How fast a sleeper wakes: in manta_recv(), and on a completion channel of ibverbs alone. */
#include "perf/point/wake.h"

#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "perf/point/median.h"
#include "transport/verbs/verbs.h"

enum {
    ASLEEP_MS = 60, /* by then the receiver sleeps: it spins and yields for less */
    PATIENCE_MS = 10000,
    GIDS = 16,
    BYTES = sizeof(uint64_t) /* when it was sent */
};

static void report(const char *what, uint64_t *took_ns, int turns)
{
    printf("{\"what\": \"%s\", \"bytes\": %d, \"us\": %.2f}\n", what, BYTES,
           (double)point_median(took_ns, turns) / 1000);
}

static void let_sleep(void)
{
    const struct timespec time = {.tv_nsec = ASLEEP_MS * (long)MT_MS};
    nanosleep(&time, NULL);
}

int wake_manta(struct manta_comm *comm, int turns)
{
    static uint64_t took_ns[WAKE_TURNS_MOST];
    int rc = 0;
    for (int i = 0; i < turns && rc == 0; i++) {
        uint64_t sent_ns = 0;
        if (manta_comm_rank(comm) == 0) {
            let_sleep();
            sent_ns = mt_clock_now_ns();
            rc = manta_send(comm, &sent_ns, BYTES, MANTA_UINT8, 1);
            continue;
        }
        rc = manta_recv(comm, &sent_ns, BYTES, MANTA_UINT8, 0);
        took_ns[i] = mt_clock_now_ns() - sent_ns;
    }
    if (rc == 0 && manta_comm_rank(comm) == 1)
        report("wake", took_ns, turns);
    return rc;
}

struct bare {
    const struct mt_verbs_library *library;
    struct ibv_context *context;
    struct ibv_pd *pd;
    struct ibv_comp_channel *channel;
    struct ibv_cq *cq;
    struct ibv_qp *qp;
    struct ibv_mr *mr;
    enum ibv_mtu mtu;
    uint8_t gid_index;
    uint64_t value; /* what is sent, or has come */
};

/* What the two tell each other. */
struct end {
    uint32_t number;
    uint8_t gid[16];
};

static struct ibv_context *open_named(const struct mt_verbs_library *library)
{
    const char *names = getenv("MANTA_VERBS_DEVICE");
    size_t length = names != NULL ? strcspn(names, ",:") : 0;
    int count = 0;
    struct ibv_context *context = NULL;
    struct ibv_device **list = library->get_device_list(&count);
    for (int i = 0; list != NULL && i < count && context == NULL; i++) {
        const char *name = library->get_device_name(list[i]);
        if (length == 0 || (strlen(name) == length && memcmp(name, names, length) == 0))
            context = library->open_device(list[i]);
    }
    if (list != NULL)
        library->free_device_list(list);
    return context;
}

/* That of an IPv4 address, or the first. */
static void choose_gid(struct bare *bare, struct end *here)
{
    union ibv_gid gid;
    for (int i = 0; i < GIDS; i++) {
        if (bare->library->query_gid(bare->context, 1, i, &gid) != 0 ||
            (i > 0 && mt_verbs_gid_kind(gid.raw) != MT_VERBS_IPV4))
            continue;
        bare->gid_index = (uint8_t)i;
        memcpy(here->gid, gid.raw, sizeof(here->gid));
        if (mt_verbs_gid_kind(gid.raw) == MT_VERBS_IPV4)
            return;
    }
}

static int make(struct bare *bare, struct end *here)
{
    char why[192];
    struct ibv_port_attr port;
    bare->library = mt_verbs_library(why, sizeof(why));
    bare->context = bare->library != NULL ? open_named(bare->library) : NULL;
    if (bare->context == NULL || bare->library->query_port(bare->context, 1, &port) != 0)
        return MANTA_ENOTSUP;
    bare->mtu = port.active_mtu;
    choose_gid(bare, here);
    bare->pd = bare->library->alloc_pd(bare->context);
    bare->channel = bare->library->create_comp_channel(bare->context);
    if (bare->pd == NULL || bare->channel == NULL)
        return MANTA_ENOTSUP;
    bare->cq = bare->library->create_cq(bare->context, 16, NULL, bare->channel, 0);
    bare->mr = bare->library->reg_mr_iova2(
        bare->pd, &bare->value, BYTES, (uint64_t)(uintptr_t)&bare->value, IBV_ACCESS_LOCAL_WRITE);
    struct ibv_qp_init_attr attr = {.send_cq = bare->cq,
                                    .recv_cq = bare->cq,
                                    .qp_type = IBV_QPT_RC,
                                    .cap = {.max_send_wr = 8,
                                            .max_recv_wr = 8,
                                            .max_send_sge = 1,
                                            .max_recv_sge = 1,
                                            .max_inline_data = BYTES}};
    bare->qp = bare->cq != NULL ? bare->library->create_qp(bare->pd, &attr) : NULL;
    if (bare->qp == NULL || bare->mr == NULL)
        return MANTA_ENOTSUP;
    here->number = bare->qp->qp_num;
    return 0;
}

static int join(const struct bare *bare, const struct end *there)
{
    struct ibv_qp_attr init = {.qp_state = IBV_QPS_INIT, .port_num = 1};
    struct ibv_qp_attr receive = {
        .qp_state = IBV_QPS_RTR,
        .path_mtu = bare->mtu,
        .dest_qp_num = there->number,
        .max_dest_rd_atomic = 1,
        .min_rnr_timer = MT_VERBS_RNR_TIMER,
        .ah_attr = {.is_global = 1,
                    .port_num = 1,
                    .grh = {.sgid_index = bare->gid_index, .hop_limit = MT_VERBS_HOPS}}};
    struct ibv_qp_attr send = {
        .qp_state = IBV_QPS_RTS, .timeout = 16, .retry_cnt = 6, .rnr_retry = 7, .max_rd_atomic = 1};
    memcpy(receive.ah_attr.grh.dgid.raw, there->gid, sizeof(there->gid));
    int failed = bare->library->modify_qp(
        bare->qp, &init, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
    if (!failed)
        failed = bare->library->modify_qp(bare->qp, &receive,
                                          IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
                                              IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                                              IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
    if (!failed)
        failed = bare->library->modify_qp(bare->qp, &send,
                                          IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                                              IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                                              IBV_QP_MAX_QP_RD_ATOMIC);
    return failed ? MANTA_ENOTSUP : 0;
}

/* Asleep until a completion has come; it is taken. */
static int await(const struct bare *bare)
{
    struct pollfd channel = {.fd = bare->channel->fd, .events = POLLIN};
    struct ibv_cq *cq;
    void *context;
    struct ibv_wc completion;
    if (poll(&channel, 1, PATIENCE_MS) != 1 ||
        bare->library->get_cq_event(bare->channel, &cq, &context) != 0)
        return MANTA_ETIMEOUT;
    bare->library->ack_cq_events(cq, 1);
    return ibv_poll_cq(bare->cq, 1, &completion) == 1 && completion.status == IBV_WC_SUCCESS
               ? 0
               : MANTA_ETRANSPORT;
}

/* The sender looks until it has word that the message arrived. */
static int look(const struct bare *bare)
{
    struct ibv_wc completion;
    uint64_t until_ns = mt_clock_now_ns() + PATIENCE_MS * (uint64_t)MT_MS;
    int count = 0;
    while (count == 0 && mt_clock_now_ns() < until_ns)
        count = ibv_poll_cq(bare->cq, 1, &completion);
    return count == 1 && completion.status == IBV_WC_SUCCESS ? 0 : MANTA_ETRANSPORT;
}

/* The receiver is ready when the barrier has ended. */
static int turn(struct manta_comm *comm, struct bare *bare, uint64_t *took_ns)
{
    struct ibv_sge place = {(uint64_t)(uintptr_t)&bare->value, BYTES, bare->mr->lkey};
    struct ibv_recv_wr receive = {.sg_list = &place, .num_sge = 1}, *bad_receive;
    struct ibv_send_wr send = {.sg_list = &place,
                               .num_sge = 1,
                               .opcode = IBV_WR_SEND,
                               .send_flags = IBV_SEND_SIGNALED | IBV_SEND_INLINE},
                       *bad_send;
    int is_receiver = manta_comm_rank(comm) == 1;
    int failed = is_receiver && (ibv_req_notify_cq(bare->cq, 0) != 0 ||
                                 ibv_post_recv(bare->qp, &receive, &bad_receive) != 0);
    int rc = manta_barrier(comm);
    if (rc || failed)
        return rc ? rc : MANTA_ETRANSPORT;
    if (!is_receiver) {
        let_sleep();
        bare->value = mt_clock_now_ns();
        failed = ibv_post_send(bare->qp, &send, &bad_send);
    }
    if (failed)
        return MANTA_ETRANSPORT;
    rc = is_receiver ? await(bare) : look(bare);
    *took_ns = mt_clock_now_ns() - bare->value;
    return rc;
}

static void end(const struct bare *bare)
{
    if (bare->qp != NULL)
        bare->library->destroy_qp(bare->qp);
    if (bare->mr != NULL)
        bare->library->dereg_mr(bare->mr);
    if (bare->cq != NULL)
        bare->library->destroy_cq(bare->cq);
    if (bare->channel != NULL)
        bare->library->destroy_comp_channel(bare->channel);
    if (bare->pd != NULL)
        bare->library->dealloc_pd(bare->pd);
    if (bare->context != NULL)
        bare->library->close_device(bare->context);
}

int wake_bare(struct manta_comm *comm, int turns)
{
    static uint64_t took_ns[WAKE_TURNS_MOST];
    struct bare bare = {0};
    struct end here = {0}, ends[2];
    int rc = make(&bare, &here);
    if (rc == 0)
        rc = manta_allgather(comm, &here, ends, sizeof(here), MANTA_UINT8);
    if (rc == 0)
        rc = join(&bare, &ends[1 - manta_comm_rank(comm)]);
    for (int i = 0; i < turns && rc == 0; i++)
        rc = turn(comm, &bare, &took_ns[i]);
    if (rc == 0 && manta_comm_rank(comm) == 1)
        report("wake", took_ns, turns);
    end(&bare);
    return rc;
}
