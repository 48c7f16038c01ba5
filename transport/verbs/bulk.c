/* SPDX-License-Identifier: Apache-2.0 */
/* Work requests of writes: each gathers pieces of the sender's memory into one of the
 * receiver's. */
#include <string.h>

#include "transport/verbs/verbs.h"

enum { BATCH = 8 };

/* The piece that byte `at` of the message is in, and where in it. */
static uint32_t find_local(const struct mt_verbs_write *write, uint64_t at, uint64_t *offset_out)
{
    uint32_t i = 0;
    while (i < write->count && at >= write->pieces[i].iov_len)
        at -= write->pieces[i++].iov_len;
    *offset_out = at;
    return i;
}

static uint32_t find_remote(const struct mt_verbs_write *write, uint64_t at, uint64_t *offset_out)
{
    uint32_t i = 0;
    while (i < write->remote_count && at >= write->remotes[i].bytes)
        at -= write->remotes[i++].bytes;
    *offset_out = at;
    return i;
}

/* The pieces of the next `bytes` from `at` on; how many bytes they are: no more than GATHER pieces
 * go into one request. */
static uint64_t gather(const struct mt_verbs_write *write, uint32_t rail, uint64_t at,
                       uint64_t bytes, struct ibv_sge *places, int *count_out)
{
    uint64_t offset, taken = 0;
    uint32_t i = find_local(write, at, &offset);
    int count = 0;
    for (; i < write->count && taken < bytes && count < MT_VERBS_GATHER; i++, offset = 0) {
        uint64_t take = write->pieces[i].iov_len - offset;
        if (take == 0)
            continue;
        take = take < bytes - taken ? take : bytes - taken;
        const struct mt_verbs_memory *memory = write->registrations[i]->handle;
        places[count++] = (struct ibv_sge){(uint64_t)(uintptr_t)write->pieces[i].iov_base + offset,
                                           (uint32_t)take, memory->mr[rail]->lkey};
        taken += take;
    }
    *count_out = count;
    return taken;
}

/* The next request of a part. The last one is told to the receiver, and to this rank. */
static void fill(const struct mt_verbs_endpoint *endpoint, const struct mt_verbs_lane *lane,
                 const struct mt_verbs_write *write, struct mt_verbs_turn turn,
                 struct ibv_send_wr *work, struct ibv_sge *places)
{
    const struct mt_verbs_rail *rail = &endpoint->rails[lane->rail];
    const struct mt_verbs_part *part = &write->parts[turn.part];
    uint64_t most = rail->message_bytes_max < MT_VERBS_WRITE_MOST ? rail->message_bytes_max
                                                                  : MT_VERBS_WRITE_MOST;
    uint64_t offset, bytes = part->end - part->at;
    const struct mt_verbs_remote *remote = &write->remotes[find_remote(write, part->at, &offset)];
    bytes = bytes < most ? bytes : most;
    bytes = bytes < remote->bytes - offset ? bytes : remote->bytes - offset;
    memset(work, 0, sizeof(*work));
    bytes = gather(write, lane->rail, part->at, bytes, places, &work->num_sge);
    work->sg_list = places;
    work->wr.rdma.remote_addr = remote->start + offset;
    work->wr.rdma.rkey = remote->keys[lane->remote_rail];
    work->opcode = IBV_WR_RDMA_WRITE;
    if (part->at + bytes == part->end) {
        work->opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
        work->imm_data = htobe32(write->number | (uint32_t)turn.part << 4 | write->part_count);
        work->send_flags = IBV_SEND_SIGNALED;
    }
}

static uint64_t bytes_of(const struct ibv_send_wr *work)
{
    uint64_t bytes = 0;
    for (int i = 0; i < work->num_sge; i++)
        bytes += work->sg_list[i].length;
    return bytes;
}

/* The request is the queue's next but `ahead`. */
static void add(struct mt_verbs_lane *lane, struct mt_verbs_write *write, struct ibv_send_wr *work,
                uint32_t ahead)
{
    struct mt_verbs_queue *queue = &lane->queues[MT_VERBS_BULK_QUEUE];
    struct mt_verbs_turn turn = lane->turns[lane->turn_first];
    struct mt_verbs_part *part = &write->parts[turn.part];
    work->wr_id = mt_verbs_work_id(lane, MT_VERBS_BULK_QUEUE, ahead);
    if (++queue->unsignalled >= MT_VERBS_SIGNAL_EVERY)
        work->send_flags |= IBV_SEND_SIGNALED;
    if (work->send_flags & IBV_SEND_SIGNALED)
        queue->unsignalled = 0;
    queue->what[(uint16_t)(queue->posted + ahead) % MT_VERBS_DEPTH] =
        (uint64_t)turn.write << 8 | turn.part;
    part->at += bytes_of(work);
    part->unanswered++;
    if (part->at < part->end)
        return;
    lane->turn_first = (lane->turn_first + 1) % MT_MESSAGE_WRITES;
    lane->turn_count--;
}

/* Several requests with one doorbell. One place in the queue is left for the last request. */
static uint32_t post_batch(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    struct mt_verbs_queue *queue = &lane->queues[MT_VERBS_BULK_QUEUE];
    struct ibv_send_wr works[BATCH], *bad;
    struct ibv_sge places[BATCH][MT_VERBS_GATHER];
    uint32_t count = 0;
    while (count < BATCH && lane->turn_count > 0 && mt_verbs_queue_room(queue) > count + 1) {
        struct mt_verbs_turn turn = lane->turns[lane->turn_first];
        struct mt_verbs_write *write = &endpoint->writes[turn.write];
        fill(endpoint, lane, write, turn, &works[count], places[count]);
        add(lane, write, &works[count], count);
        if (count > 0)
            works[count - 1].next = &works[count];
        count++;
    }
    if (count == 0)
        return 0;
    int error = ibv_post_send(queue->qp, works, &bad);
    queue->posted = (uint16_t)(queue->posted + count);
    if (error == 0)
        return count;
    /* What was posted of them completes; the others will not, and the lane's writes are lost. */
    for (; bad != NULL; bad = bad->next)
        queue->posted--;
    mt_verbs_lane_fail(endpoint, lane, "a write cannot be posted: %s", strerror(error));
    return 0;
}

void mt_verbs_post_writes(struct mt_verbs_endpoint *endpoint, struct mt_verbs_lane *lane)
{
    while (lane->state == MT_VERBS_LANE_OPEN && lane->turn_count > 0 &&
           post_batch(endpoint, lane) > 0) {
    }
}
