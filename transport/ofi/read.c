/* SPDX-License-Identifier: Apache-2.0 */
/* Completions, and the frames that come with them. */
#include <stdio.h>
#include <string.h>

#include "core/auth.h"
#include "core/control.h"
#include "core/counter.h"
#include "core/log.h"
#include "transport/endpoint.h"
#include "transport/ofi/ofi.h"

int mt_ofi_inboxes_create(struct mt_ofi_endpoint *endpoint)
{
    const struct manta_transport_host *host = endpoint->host;
    uint32_t count = MT_OFI_FORWARD_SLOTS * endpoint->ranks;
    if (count < MT_OFI_INBOXES_LEAST)
        count = MT_OFI_INBOXES_LEAST;
    if (count > MT_OFI_INBOXES_MOST)
        count = MT_OFI_INBOXES_MOST;
    size_t bytes = (size_t)count * MT_OFI_FRAME_BYTES;
    endpoint->inboxes = mt_endpoint_alloc(host, count * sizeof(*endpoint->inboxes));
    endpoint->inbox_memory = host->alloc(bytes, 4096);
    if (endpoint->inboxes == NULL || endpoint->inbox_memory == NULL)
        return -FI_ENOMEM;
    endpoint->inbox_count = count;
    int code = mt_ofi_local_register(endpoint, endpoint->inbox_memory, bytes, FI_RECV,
                                     &endpoint->inbox_region);
    for (uint32_t i = 0; i < count && code == 0; i++) {
        struct mt_ofi_inbox *inbox = &endpoint->inboxes[i];
        inbox->work.kind = MT_OFI_RECEIVING;
        inbox->bytes = endpoint->inbox_memory + (size_t)i * MT_OFI_FRAME_BYTES;
        inbox->next = endpoint->unposted;
        endpoint->unposted = inbox;
    }
    return code;
}

void mt_ofi_inboxes_post(struct mt_ofi_endpoint *endpoint)
{
    void *region = endpoint->inbox_region != NULL ? fi_mr_desc(endpoint->inbox_region) : NULL;
    while (endpoint->unposted != NULL && endpoint->failure == 0 && endpoint->endpoint != NULL) {
        struct mt_ofi_inbox *inbox = endpoint->unposted;
        ssize_t code = fi_recv(endpoint->endpoint, inbox->bytes, MT_OFI_FRAME_BYTES, region,
                               FI_ADDR_UNSPEC, &inbox->work.context);
        if (code == -FI_EAGAIN)
            return;
        if (code != 0) {
            endpoint->failure = mt_messages_error_set(
                endpoint->messages, MANTA_ETRANSPORT, MANTA_PLAN_NONE, (int)-code,
                "libfabric (provider %s) takes no more memory to receive into: %s",
                endpoint->provider, endpoint->library->strerror((int)-code));
            return;
        }
        endpoint->unposted = inbox->next;
    }
}

static void inbox_free(struct mt_ofi_endpoint *endpoint, struct mt_ofi_inbox *inbox)
{
    inbox->next = endpoint->unposted;
    endpoint->unposted = inbox;
}

static uint32_t sequence_of(const struct mt_ofi_inbox *inbox)
{
    uint32_t sequence;
    memcpy(&sequence, inbox->bytes + MT_OFI_PROOF_BYTES + 4, 4);
    return sequence;
}

/* The frame that comes next from this peer. */
static void take(struct mt_ofi_endpoint *endpoint, uint32_t rank, const struct mt_ofi_inbox *inbox)
{
    struct mt_ofi_peer *peer = &endpoint->peers[rank];
    struct mt_messages *messages = endpoint->messages;
    struct mt_frame frame;
    peer->sequence_in++;
    if (peer->is_lost)
        return;
    if (mt_frame_decode(inbox->bytes + MT_OFI_HEAD_BYTES - MT_FRAME_BYTES, &frame) != 0 ||
        inbox->bytes_in != MT_OFI_HEAD_BYTES + frame.part) {
        peer->is_lost = 1;
        mt_messages_fail(messages, rank, MT_MESSAGE_BOTH, MANTA_ETRANSPORT, 0,
                         "rank %u sent by libfabric what is no frame; the ranks may run different "
                         "builds",
                         rank);
        return;
    }
    const uint8_t *payload = inbox->bytes + MT_OFI_HEAD_BYTES;
    if (frame.type == MT_FRAME_RTR && frame.part > 0) {
        peer->is_lost |= mt_messages_asked(messages, rank, &frame, payload) != 0;
        return;
    }
    if (mt_messages_whole(messages, rank, &frame, payload) != 0)
        peer->is_lost = 1;
    else
        mt_count(&endpoint->copied_bytes, frame.part);
}

/* The one of those that came early whose turn it is, or NULL. */
static struct mt_ofi_inbox *take_early(struct mt_ofi_endpoint *endpoint, struct mt_ofi_peer *peer)
{
    struct mt_ofi_inbox **at = &peer->early;
    while (*at != NULL && sequence_of(*at) != peer->sequence_in)
        at = &(*at)->next;
    struct mt_ofi_inbox *inbox = *at;
    if (inbox == NULL)
        return NULL;
    *at = inbox->next;
    peer->early_count--;
    endpoint->early_count--;
    return inbox;
}

static void drop_early(struct mt_ofi_endpoint *endpoint, struct mt_ofi_peer *peer)
{
    while (peer->early != NULL) {
        struct mt_ofi_inbox *inbox = peer->early;
        peer->early = inbox->next;
        inbox_free(endpoint, inbox);
    }
    endpoint->early_count -= peer->early_count;
    peer->early_count = 0;
}

static uint32_t who_keeps_most(const struct mt_ofi_endpoint *endpoint)
{
    uint32_t most = 0;
    for (uint32_t rank = 1; rank < endpoint->ranks; rank++) {
        if (endpoint->peers[rank].early_count > endpoint->peers[most].early_count)
            most = rank;
    }
    return most;
}

/* All inboxes are kept for frames that are to come, and nothing can come: some are lost, as when a
 * receive has failed whose frame nobody knows. */
static void end_early(struct mt_ofi_endpoint *endpoint)
{
    uint32_t rank = who_keeps_most(endpoint);
    int error = endpoint->receive_error;
    drop_early(endpoint, &endpoint->peers[rank]);
    endpoint->peers[rank].is_lost = 1;
    mt_messages_fail(endpoint->messages, rank, MT_MESSAGE_BOTH, MANTA_ETRANSPORT, error,
                     "frames of rank %u are missing, and those behind them fill all that libfabric "
                     "(provider %s) can receive into%s%s",
                     rank, endpoint->provider, error ? "; a receive has failed: " : "",
                     error ? endpoint->library->strerror(error) : "");
}

static void keep_early(struct mt_ofi_endpoint *endpoint, struct mt_ofi_peer *peer,
                       struct mt_ofi_inbox *inbox)
{
    inbox->next = peer->early;
    peer->early = inbox;
    peer->early_count++;
    endpoint->early_count++;
    if (endpoint->early_count == endpoint->inbox_count)
        end_early(endpoint);
}

/* 1: a peer of this communicator has sent it. */
static int is_proved(const struct mt_ofi_endpoint *endpoint, const struct mt_ofi_inbox *inbox,
                     uint32_t *rank_out)
{
    if (inbox->bytes_in < MT_OFI_HEAD_BYTES)
        return 0;
    memcpy(rank_out, inbox->bytes + MT_OFI_PROOF_BYTES, 4);
    if (*rank_out >= endpoint->ranks || endpoint->peers[*rank_out].blob == NULL)
        return 0;
    return mt_auth_equal(inbox->bytes, endpoint->peers[*rank_out].proof_in, MT_OFI_PROOF_BYTES);
}

static void receive(struct mt_ofi_endpoint *endpoint, struct mt_ofi_inbox *inbox)
{
    uint32_t rank;
    if (!is_proved(endpoint, inbox, &rank)) {
        if (endpoint->strangers++ == 0)
            endpoint->host->log(1, "ofi", "a message was dropped that no rank has sent");
        inbox_free(endpoint, inbox);
        return;
    }
    struct mt_ofi_peer *peer = &endpoint->peers[rank];
    if (peer->is_lost) {
        drop_early(endpoint, peer);
        inbox_free(endpoint, inbox);
        return;
    }
    if (mt_ofi_peer_open(endpoint, rank) != 0) {
        struct manta_transport_error error = {.size = sizeof(error)};
        mt_messages_error(endpoint->messages, &error);
        endpoint->failure = error.code;
    }
    int32_t ahead = (int32_t)(sequence_of(inbox) - peer->sequence_in);
    if (ahead > 0) {
        keep_early(endpoint, peer, inbox);
        return;
    }
    if (ahead == 0)
        take(endpoint, rank, inbox);
    inbox_free(endpoint, inbox);
    while ((inbox = take_early(endpoint, peer)) != NULL) {
        take(endpoint, rank, inbox);
        inbox_free(endpoint, inbox);
    }
}

/* libfabric gives the address of the context, with which its struct begins. */
static void complete(struct mt_ofi_endpoint *endpoint, const struct fi_cq_data_entry *entry)
{
    struct mt_ofi_work *work = entry->op_context;
    if (entry->flags & FI_REMOTE_WRITE) {
        if (endpoint->offers != NULL)
            mt_ofi_written(endpoint, entry->data);
        return;
    }
    if (work == NULL)
        return;
    if (work->kind == MT_OFI_SENDING) {
        mt_ofi_slot_done(endpoint, (struct mt_ofi_slot *)work);
        return;
    }
    if (work->kind == MT_OFI_WRITING) {
        mt_ofi_chunk_done(endpoint, (struct mt_ofi_chunk *)work);
        return;
    }
    if (work->kind == MT_OFI_FLUSHING) {
        mt_ofi_flush_completed(endpoint, (struct mt_ofi_offer *)work, 0);
        return;
    }
    struct mt_ofi_inbox *inbox = (struct mt_ofi_inbox *)work;
    inbox->bytes_in = entry->len < MT_OFI_FRAME_BYTES ? (uint32_t)entry->len : MT_OFI_FRAME_BYTES;
    receive(endpoint, inbox);
}

/* A peer that has left has all that it needs: that it had this was lost on its way back, and who
 * repeats it finds nobody. */
static int needs_no_more(const struct mt_ofi_endpoint *endpoint, uint32_t peer)
{
    const struct mt_control *control = endpoint->group->control;
    return control != NULL && mt_control_left(control, peer, NULL);
}

static const char *word_error(const struct mt_ofi_endpoint *endpoint,
                              const struct fi_cq_err_entry *entry, char *detail, size_t bytes)
{
    const char *more =
        fi_cq_strerror(endpoint->queue, entry->prov_errno, entry->err_data, detail, bytes);
    return more != NULL ? more : detail;
}

/* What does not fit is a stranger's: no peer sends so much. */
static void receive_failed(struct mt_ofi_endpoint *endpoint, struct mt_ofi_inbox *inbox,
                           const struct fi_cq_err_entry *entry)
{
    char detail[96] = "", sentence[240];
    inbox_free(endpoint, inbox);
    if (entry->err != FI_ETRUNC)
        endpoint->receive_error = entry->err;
    snprintf(sentence, sizeof(sentence), "provider %s has failed to receive: %s; %s",
             endpoint->provider, endpoint->library->strerror(entry->err),
             word_error(endpoint, entry, detail, sizeof(detail)));
    endpoint->host->log(MT_LOG_INFO, "ofi", sentence);
}

/* An operation that failed. What somebody sent who is not of this communicator, or what a peer that
 * is gone did not send to its end, frees its inbox and is no more. */
static int read_error(struct mt_ofi_endpoint *endpoint)
{
    struct fi_cq_err_entry entry = {.err_data_size = 0};
    char detail[96] = "";
    if (fi_cq_readerr(endpoint->queue, &entry, 0) < 1)
        return 0;
    struct mt_ofi_work *work = entry.op_context;
    if (work == NULL)
        return 1;
    if (work->kind == MT_OFI_RECEIVING) {
        receive_failed(endpoint, (struct mt_ofi_inbox *)work, &entry);
        return 1;
    }
    if (work->kind == MT_OFI_FLUSHING) {
        mt_ofi_flush_completed(endpoint, (struct mt_ofi_offer *)work, entry.err);
        return 1;
    }
    uint32_t peer = work->kind == MT_OFI_WRITING ? ((struct mt_ofi_chunk *)work)->write->peer
                                                 : ((struct mt_ofi_slot *)work)->peer;
    const char *more = word_error(endpoint, &entry, detail, sizeof(detail));
    int is_over = needs_no_more(endpoint, peer);
    if (!endpoint->aborted && !is_over)
        mt_ofi_peer_fail(endpoint, peer, entry.err, more);
    if (work->kind == MT_OFI_SENDING)
        mt_ofi_slot_done(endpoint, (struct mt_ofi_slot *)work);
    else if (is_over)
        mt_ofi_chunk_done(endpoint, (struct mt_ofi_chunk *)work);
    return 1;
}

static int is_readable(const struct mt_ofi_endpoint *endpoint, uint32_t seen)
{
    return seen < MT_OFI_ROUND && endpoint->failure == 0 && endpoint->endpoint != NULL;
}

int mt_ofi_read(struct mt_ofi_endpoint *endpoint)
{
    struct fi_cq_data_entry entries[MT_OFI_COMPLETIONS];
    int moved = 0;
    for (uint32_t seen = 0; is_readable(endpoint, seen);) {
        ssize_t count = fi_cq_read(endpoint->queue, entries, MT_OFI_COMPLETIONS);
        if (count == -FI_EAVAIL)
            count = read_error(endpoint);
        else if (count > 0)
            for (ssize_t i = 0; i < count && endpoint->endpoint != NULL; i++)
                complete(endpoint, &entries[i]);
        else if (count != -FI_EAGAIN)
            endpoint->failure = mt_messages_error_set(
                endpoint->messages, MANTA_ETRANSPORT, MANTA_PLAN_NONE, (int)-count,
                "libfabric (provider %s) gives no completions any more: %s", endpoint->provider,
                endpoint->library->strerror((int)-count));
        if (count <= 0)
            break;
        moved = 1;
        seen += (uint32_t)count;
    }
    return moved;
}
