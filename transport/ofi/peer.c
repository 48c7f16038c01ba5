/* SPDX-License-Identifier: Apache-2.0 */
/* The other ranks: their addresses, what proves that a frame is theirs, what is kept for each. */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "core/auth.h"
#include "transport/endpoint.h"
#include "transport/ofi/ofi.h"

/* "ofi1", the form of the address, the provider's name with its NUL, the address. */
enum { MAGIC_BYTES = 4, FORM_BYTES = 4, NAME_AT = MAGIC_BYTES + FORM_BYTES };
static const char magic[MAGIC_BYTES] = {'o', 'f', 'i', '1'};

int mt_ofi_blob_write(struct mt_ofi_endpoint *endpoint, void *blob, size_t blob_bytes,
                      size_t *bytes_out)
{
    uint8_t *to = blob;
    size_t name_bytes = strlen(endpoint->provider) + 1;
    if (blob_bytes <= NAME_AT + name_bytes)
        return MANTA_EINVAL;
    memcpy(to, magic, MAGIC_BYTES);
    memcpy(to + MAGIC_BYTES, &endpoint->info->addr_format, FORM_BYTES);
    memcpy(to + NAME_AT, endpoint->provider, name_bytes);
    size_t room = blob_bytes - NAME_AT - name_bytes;
    int code = fi_getname(&endpoint->endpoint->fid, to + NAME_AT + name_bytes, &room);
    if (code != 0)
        return MANTA_EINVAL;
    *bytes_out = NAME_AT + name_bytes + room;
    return 0;
}

/* What a peer has told. */
struct told {
    const char *provider;
    const uint8_t *address;
    uint32_t form;
    size_t bytes; /* of the address */
};

/* 0, or -1: it has told nothing, or something else. */
static int told_read(const struct mt_ofi_peer *peer, struct told *told_out)
{
    const uint8_t *blob = peer->blob;
    memset(told_out, 0, sizeof(*told_out));
    if (blob == NULL || peer->blob_bytes <= NAME_AT || memcmp(blob, magic, MAGIC_BYTES) != 0)
        return -1;
    const uint8_t *end = memchr(blob + NAME_AT, '\0', peer->blob_bytes - NAME_AT);
    if (end == NULL || end + 1 == blob + peer->blob_bytes)
        return -1;
    memcpy(&told_out->form, blob + MAGIC_BYTES, FORM_BYTES);
    told_out->provider = (const char *)(blob + NAME_AT);
    told_out->address = end + 1;
    told_out->bytes = (size_t)(blob + peer->blob_bytes - told_out->address);
    return 0;
}

/* Who knows the communicator's key can say that a frame comes from `from` and is for `to`. */
static int make_proof(const struct mt_ofi_endpoint *endpoint, uint32_t from, uint32_t to,
                      uint8_t proof_out[MT_OFI_PROOF_BYTES])
{
    uint8_t mac[MT_AUTH_MAC_BYTES];
    const uint32_t pair[2] = {from, to};
    int code =
        mt_auth_mac(endpoint->group->key, "manta ofi frame", pair, sizeof(pair), NULL, 0, mac);
    memcpy(proof_out, mac, MT_OFI_PROOF_BYTES);
    return code;
}

int mt_ofi_peers_keep(struct mt_ofi_endpoint *endpoint, const void *const *blobs,
                      const size_t *blob_bytes)
{
    int code = 0;
    for (uint32_t r = 0; r < endpoint->ranks && code == 0; r++) {
        struct mt_ofi_peer *peer = &endpoint->peers[r];
        if (blob_bytes[r] == 0 || r == endpoint->rank)
            continue;
        peer->blob = endpoint->host->alloc(blob_bytes[r], 1);
        if (peer->blob == NULL)
            return MANTA_ENOMEM;
        memcpy(peer->blob, blobs[r], blob_bytes[r]);
        peer->blob_bytes = blob_bytes[r];
        code = make_proof(endpoint, endpoint->rank, r, peer->proof_out);
        if (code == 0)
            code = make_proof(endpoint, r, endpoint->rank, peer->proof_in);
    }
    return code;
}

static int is_loopback(uint32_t form, const void *at, size_t bytes)
{
    struct sockaddr_in address;
    struct sockaddr_in6 address6;
    if (at != NULL && form == FI_SOCKADDR_IN && bytes >= sizeof(address)) {
        memcpy(&address, at, sizeof(address));
        return ntohl(address.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    }
    if (at != NULL && form == FI_SOCKADDR_IN6 && bytes >= sizeof(address6)) {
        memcpy(&address6, at, sizeof(address6));
        return IN6_IS_ADDR_LOOPBACK(&address6.sin6_addr);
    }
    return 0;
}

/* An address that is its host's own leads nowhere else, whichever end has it: both must say the
 * same. */
static int refuse_loopback(struct mt_ofi_endpoint *endpoint, uint32_t rank, const struct told *told)
{
    const struct fi_info *info = endpoint->info;
    int is_theirs = is_loopback(told->form, told->address, told->bytes);
    int is_mine = is_loopback(info->addr_format, info->src_addr, info->src_addrlen);
    if ((!is_theirs && !is_mine) || mt_group_same_network(endpoint->group, endpoint->rank, rank))
        return 0;
    return mt_messages_error_set(
        endpoint->messages, MANTA_ENOTSUP, rank, 0,
        "the address of rank %u (provider %s) is its host's own; MANTA_OFI_DOMAIN may name an "
        "interface that leads to others",
        is_theirs ? rank : endpoint->rank, endpoint->provider);
}

/* A provider that goes through shared memory reaches ranks of one node; and of other processes, for
 * it crashes when one of two endpoints of a process is closed (libfabric 1.17). */
static int refuse_local(struct mt_ofi_endpoint *endpoint, uint32_t rank)
{
    const struct mt_member *mine = &endpoint->group->members[endpoint->rank];
    const struct mt_member *other = &endpoint->group->members[rank];
    int is_near = mt_group_same_node(endpoint->group, endpoint->rank, rank);
    int is_here = is_near && mine->pid == other->pid && mine->pid_namespace == other->pid_namespace;
    if (!mt_ofi_is_local(endpoint->provider) || (is_near && !is_here))
        return 0;
    return mt_messages_error_set(
        endpoint->messages, MANTA_ENOTSUP, rank, 0,
        "libfabric's provider %s reaches other processes of one node only, "
        "and rank %u is %s",
        endpoint->provider, rank, is_here ? "in this process" : "on another node");
}

int mt_ofi_peer_suits(struct mt_ofi_endpoint *endpoint, uint32_t rank)
{
    struct told told;
    if (told_read(&endpoint->peers[rank], &told) != 0)
        return mt_messages_error_set(endpoint->messages, MANTA_ENOTSUP, rank, 0,
                                     "rank %u does not offer ofi", rank);
    if (strcmp(told.provider, endpoint->provider) != 0 || told.form != endpoint->info->addr_format)
        return mt_messages_error_set(
            endpoint->messages, MANTA_ENOTSUP, rank, 0,
            "rank %u has libfabric's provider %.40s (form of address %u), this rank %s (%u); give "
            "all ranks the same MANTA_OFI_PROVIDER",
            rank, told.provider, told.form, endpoint->provider, endpoint->info->addr_format);
    int code = refuse_loopback(endpoint, rank, &told);
    return code != 0 ? code : refuse_local(endpoint, rank);
}

/* Slots are given out from the front. */
static void fill_slots(struct mt_ofi_peer *peer, uint32_t rank)
{
    for (uint32_t i = MT_OFI_FORWARD_SLOTS + MT_OFI_ANSWER_SLOTS; i-- > 0;) {
        struct mt_ofi_slot *slot = &peer->slots[i];
        int is_forward = i < MT_OFI_FORWARD_SLOTS;
        struct mt_ofi_slot **free_slots = is_forward ? &peer->forward_free : &peer->answer_free;
        slot->work.kind = MT_OFI_SENDING;
        slot->peer = rank;
        slot->is_forward = is_forward;
        slot->bytes = peer->memory +
                      (is_forward ? (size_t)i * MT_OFI_FRAME_BYTES
                                  : (size_t)MT_OFI_FORWARD_SLOTS * MT_OFI_FRAME_BYTES +
                                        (size_t)(i - MT_OFI_FORWARD_SLOTS) * MT_OFI_ANSWER_BYTES);
        slot->next = *free_slots;
        *free_slots = slot;
    }
}

static int make_slots(struct mt_ofi_endpoint *endpoint, uint32_t rank)
{
    const size_t bytes = (size_t)MT_OFI_FORWARD_SLOTS * MT_OFI_FRAME_BYTES +
                         (size_t)MT_OFI_ANSWER_SLOTS * MT_OFI_ANSWER_BYTES;
    const size_t slots_bytes =
        (MT_OFI_FORWARD_SLOTS + MT_OFI_ANSWER_SLOTS) * sizeof(struct mt_ofi_slot);
    struct mt_ofi_peer *peer = &endpoint->peers[rank];
    if (peer->memory == NULL)
        peer->memory = endpoint->host->alloc(bytes, 4096);
    struct mt_ofi_slot *slots = mt_endpoint_alloc(endpoint->host, slots_bytes);
    if (peer->memory == NULL || slots == NULL) {
        endpoint->host->free(slots);
        return mt_messages_error_set(endpoint->messages, MANTA_ENOMEM, rank, 0,
                                     "no memory for frames to rank %u", rank);
    }
    int code = mt_ofi_local_register(endpoint, peer->memory, bytes, FI_SEND, &peer->region);
    if (code != 0) {
        endpoint->host->free(slots);
        return mt_messages_error_set(endpoint->messages, MANTA_ENOMEM, rank, 0,
                                     "libfabric cannot register %zu bytes: %s; `ulimit -l "
                                     "unlimited` may help",
                                     bytes, endpoint->library->strerror(-code));
    }
    peer->slots = slots;
    fill_slots(peer, rank);
    return 0;
}

static int make_writes(struct mt_ofi_endpoint *endpoint, uint32_t rank)
{
    const size_t bytes = MT_OFI_WRITES * sizeof(struct mt_ofi_write);
    struct mt_ofi_peer *peer = &endpoint->peers[rank];
    if (peer->writes != NULL)
        return 0;
    peer->writes = mt_endpoint_alloc(endpoint->host, bytes);
    if (peer->writes == NULL)
        return mt_messages_error_set(endpoint->messages, MANTA_ENOMEM, rank, 0,
                                     "no memory for writes to rank %u", rank);
    for (uint32_t i = 0; i < MT_OFI_WRITES; i++) {
        struct mt_ofi_write *write = &peer->writes[i];
        write->peer = rank;
        for (uint32_t k = 0; k < MT_OFI_CHUNKS; k++) {
            write->chunks[k].work.kind = MT_OFI_WRITING;
            write->chunks[k].write = write;
        }
    }
    return 0;
}

static int enter_address(struct mt_ofi_endpoint *endpoint, uint32_t rank)
{
    struct mt_ofi_peer *peer = &endpoint->peers[rank];
    struct told told;
    if (peer->address != FI_ADDR_UNSPEC || told_read(peer, &told) != 0)
        return 0;
    int entered = fi_av_insert(endpoint->table, told.address, 1, &peer->address, 0, NULL);
    if (entered == 1)
        return 0;
    peer->address = FI_ADDR_UNSPEC;
    return mt_messages_error_set(
        endpoint->messages, MANTA_ETRANSPORT, rank, 0,
        "libfabric (provider %s) does not take the address of rank %u: %s", endpoint->provider,
        rank, entered < 0 ? endpoint->library->strerror(-entered) : "no reason given");
}

int mt_ofi_peer_open(struct mt_ofi_endpoint *endpoint, uint32_t rank)
{
    if (endpoint->peers[rank].slots != NULL)
        return 0;
    int code = mt_ofi_peer_suits(endpoint, rank);
    if (code == 0)
        code = mt_messages_open(endpoint->messages, rank);
    if (code == 0)
        code = enter_address(endpoint, rank);
    if (code == 0 && endpoint->offers != NULL)
        code = make_writes(endpoint, rank);
    return code == 0 ? make_slots(endpoint, rank) : code;
}

void mt_ofi_peer_name(const struct mt_ofi_endpoint *endpoint, uint32_t rank, char *text,
                      size_t text_bytes)
{
    struct told told;
    size_t room = text_bytes;
    text[0] = '\0';
    if (told_read(&endpoint->peers[rank], &told) == 0)
        fi_av_straddr(endpoint->table, told.address, text, &room);
    text[text_bytes - 1] = '\0';
}

void mt_ofi_peer_dirty(struct mt_ofi_endpoint *endpoint, struct mt_ofi_peer *peer)
{
    if (peer->is_dirty)
        return;
    peer->is_dirty = 1;
    peer->next_dirty = endpoint->dirty;
    endpoint->dirty = peer;
}

void mt_ofi_peer_fail(struct mt_ofi_endpoint *endpoint, uint32_t rank, int error,
                      const char *detail)
{
    struct mt_ofi_peer *peer = &endpoint->peers[rank];
    char address[64];
    if (peer->is_lost)
        return;
    peer->is_lost = 1;
    mt_ofi_peer_name(endpoint, rank, address, sizeof(address));
    mt_messages_fail(endpoint->messages, rank, MT_MESSAGE_BOTH, MANTA_EPEER, error,
                     "a message to rank %u (%s, provider %s) was not delivered: %s%s%s", rank,
                     address, endpoint->provider, endpoint->library->strerror(error),
                     detail[0] ? "; " : "", detail);
}

void mt_ofi_peers_free(struct mt_ofi_endpoint *endpoint)
{
    for (uint32_t r = 0; r < endpoint->ranks; r++) {
        struct mt_ofi_peer *peer = &endpoint->peers[r];
        endpoint->host->free(peer->slots);
        endpoint->host->free(peer->memory);
        endpoint->host->free(peer->writes);
        endpoint->host->free(peer->blob);
        mt_auth_wipe(peer->proof_in, sizeof(peer->proof_in));
        mt_auth_wipe(peer->proof_out, sizeof(peer->proof_out));
    }
    endpoint->host->free(endpoint->peers);
    endpoint->peers = NULL;
}
