/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who can share memory with whom. Abstract unix sockets end at a network namespace, and SO_PEERCRED
 * must say the same user; those facts every rank knows of every other. But user namespaces give
 * equal numbers to different users, and sandboxes forbid what the facts allow. So each rank also
 * tries the sockets of those with which the facts let it share memory, and tells all in its offer
 * which it reached: a pair shares memory if each reached the other, which both know.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/address.h"
#include "core/service.h"
#include "topology/cpus.h"
#include "topology/host.h"
#include "transport/shm/group.h"

static const char magic[4] = {'s', 'h', 'm', '3'};

/* An offer: the magic, a bit for each rank that `local` counts, and the number of the rank's L3. */
static size_t reach_bytes(const struct mt_shm_endpoint *endpoint)
{
    return (endpoint->local_ranks + 7) / 8;
}

static size_t offer_bytes(const struct mt_shm_endpoint *endpoint)
{
    return sizeof(magic) + reach_bytes(endpoint) + sizeof(uint32_t);
}

static uint8_t *offer_of(const struct mt_shm_endpoint *endpoint, uint32_t local)
{
    return endpoint->offers + local * offer_bytes(endpoint);
}

static int has_reached(const struct mt_shm_endpoint *endpoint, uint32_t local, uint32_t other)
{
    return offer_of(endpoint, local)[sizeof(magic) + other / 8] >> other % 8 & 1;
}

static uint8_t *l3_of(const struct mt_shm_endpoint *endpoint, uint32_t local)
{
    return offer_of(endpoint, local) + sizeof(magic) + reach_bytes(endpoint);
}

int mt_shm_may_share(const struct mt_group *group, uint32_t a, uint32_t b)
{
    return mt_group_same_node(group, a, b) && mt_group_same_network(group, a, b) &&
           group->members[a].uid == group->members[b].uid;
}

/* 0, or the errno that keeps this rank from a listener's socket. */
static int try_socket(const struct mt_member *member)
{
    struct mt_address address;
    struct ucred peer;
    socklen_t bytes = sizeof(peer);
    mt_address_abstract(member->unix_name, &address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    mt_fd_enter(fd);
    int failed = 0;
    if (connect(fd, (const struct sockaddr *)&address.socket, address.bytes) != 0)
        failed = errno == EAGAIN ? 0 : errno; /* EAGAIN: it is there, and has much to do */
    else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0 || peer.uid != geteuid())
        failed = EPERM;
    mt_fd_close(fd);
    return failed;
}

int mt_shm_share_open(struct mt_shm_endpoint *endpoint, int is_listening)
{
    const struct mt_member *members = endpoint->group->members;
    size_t bytes = offer_bytes(endpoint);
    errno = 0;
    if (bytes > MANTA_TRANSPORT_ADDRESS_MAX)
        return MANTA_ENOTSUP;
    endpoint->offers = endpoint->host->alloc(endpoint->local_ranks * bytes, 64);
    if (endpoint->offers == NULL)
        return MANTA_ENOMEM;
    memset(endpoint->offers, 0, endpoint->local_ranks * bytes);
    uint8_t *mine = offer_of(endpoint, endpoint->local);
    memcpy(mine, magic, sizeof(magic));
    struct mt_cpus cpus;
    mt_cpus_of_thread(&cpus);
    uint32_t l3 = mt_host_unit(MT_LEVEL_L3, &cpus);
    memcpy(l3_of(endpoint, endpoint->local), &l3, sizeof(l3));
    for (uint32_t local = 0; local < endpoint->local_ranks; local++) {
        struct mt_shm_peer *peer = &endpoint->peers[local];
        const struct mt_member *member = &members[peer->rank];
        int is_own = strcmp(member->unix_name, members[endpoint->rank].unix_name) == 0;
        if (is_listening && !is_own) /* ranks that are threads have one listener */
            peer->out_of_reach = try_socket(member);
        errno = peer->out_of_reach;
        if (mt_error_is_lack(errno))
            return MANTA_ESYSTEM;
        if (peer->out_of_reach == 0)
            mine[sizeof(magic) + local / 8] |= (uint8_t)(1 << local % 8);
    }
    return 0;
}

int mt_shm_share_offer(void *handle, void *blob, size_t blob_bytes, size_t *bytes_out)
{
    const struct mt_shm_endpoint *endpoint = handle;
    if (blob_bytes < offer_bytes(endpoint))
        return MANTA_EINVAL;
    *bytes_out = offer_bytes(endpoint);
    memcpy(blob, offer_of(endpoint, endpoint->local), *bytes_out);
    return 0;
}

int mt_shm_shares(const struct mt_shm_endpoint *endpoint, uint32_t local, uint32_t other)
{
    return has_reached(endpoint, local, other) && has_reached(endpoint, other, local);
}

/* Groups by what all offer, so that all find the same ones. */
static int find_groups(struct mt_shm_endpoint *endpoint)
{
    uint32_t count = endpoint->local_ranks;
    uint32_t *l3s = calloc(count, sizeof(*l3s));
    if (l3s == NULL)
        return MANTA_ENOMEM;
    for (uint32_t local = 0; local < count; local++) {
        l3s[local] = UINT32_MAX;
        if (endpoint->peers[local].offered)
            memcpy(&l3s[local], l3_of(endpoint, local), sizeof(*l3s));
    }
    endpoint->group_ranks = mt_shm_groups_find(l3s, count);
    free(l3s);
    return 0;
}

int mt_shm_share_peers(void *handle, const void *const *addresses, const size_t *address_bytes)
{
    struct mt_shm_endpoint *endpoint = handle;
    for (uint32_t local = 0; local < endpoint->local_ranks; local++) {
        struct mt_shm_peer *peer = &endpoint->peers[local];
        uint32_t r = peer->rank;
        peer->offered = address_bytes[r] == offer_bytes(endpoint) &&
                        memcmp(addresses[r], magic, sizeof(magic)) == 0;
        memset(offer_of(endpoint, local), 0, offer_bytes(endpoint));
        if (peer->offered)
            memcpy(offer_of(endpoint, local), addresses[r], address_bytes[r]);
    }
    endpoint->is_partial = 0;
    for (uint32_t local = 0; local < endpoint->local_ranks; local++)
        for (uint32_t other = 0; other < local; other++)
            endpoint->is_partial |= !mt_shm_shares(endpoint, local, other);
    return endpoint->groups_asked ? 0 : find_groups(endpoint);
}

/* Why a rank that is not among the local ones is not. */
static int word_apart(struct mt_shm_endpoint *endpoint, uint32_t rank)
{
    const struct mt_group *group = endpoint->group;
    if (rank >= endpoint->ranks || rank == endpoint->rank)
        return mt_shm_fail(endpoint, MANTA_EINVAL, rank, 0, "there is no other rank %u", rank);
    if (!mt_group_same_node(group, endpoint->rank, rank))
        return mt_shm_fail(endpoint, MANTA_ENOTSUP, rank, 0, "rank %u is on another node", rank);
    if (!mt_group_same_network(group, endpoint->rank, rank))
        return mt_shm_fail(endpoint, MANTA_ENOTSUP, rank, 0,
                           "rank %u is in another network namespace", rank);
    return mt_shm_fail(endpoint, MANTA_ENOTSUP, rank, 0,
                       "rank %u runs as another user (%u, this rank as %u)", rank,
                       group->members[rank].uid, group->members[endpoint->rank].uid);
}

int mt_shm_share_check(struct mt_shm_endpoint *endpoint, uint32_t rank)
{
    const struct mt_shm_peer *peer = mt_shm_peer_of(endpoint, rank);
    if (peer == NULL)
        return word_apart(endpoint, rank);
    if (!peer->offered)
        return mt_shm_fail(endpoint, MANTA_ENOTSUP, rank, 0, "rank %u does not offer shared memory",
                           rank);
    if (peer->out_of_reach != 0)
        return mt_shm_fail(endpoint, MANTA_ENOTSUP, rank, peer->out_of_reach,
                           "rank %u's unix socket is out of reach: %s", rank,
                           strerror(peer->out_of_reach));
    if (!mt_shm_shares(endpoint, endpoint->local, endpoint->local_of[rank]))
        return mt_shm_fail(endpoint, MANTA_ENOTSUP, rank, 0,
                           "this rank's unix socket is out of reach of rank %u", rank);
    return 0;
}
