/* SPDX-License-Identifier: Apache-2.0 */
/* What can be said of a peer: is it there, and by which address. Connections are made when they are
 * needed, so before the first message only the control plane may have been in touch. */
#include <stdio.h>
#include <string.h>

#include "core/reach.h"
#include "transport/answer.h"
#include "transport/tcp/tcp.h"

enum { LATENCY_LOCAL_NS = 12000, LATENCY_REMOTE_NS = 30000 };
#define BANDWIDTH_LOCAL UINT64_C(2500000000)
#define BANDWIDTH_REMOTE UINT64_C(1200000000)
#define MESSAGE_BYTES_MAX (UINT64_C(1) << 62)

/* "eth0 10.0.0.1". Most peers are reached from one address, so the last answer is kept. */
static void name_interface(struct mt_tcp_endpoint *endpoint, const struct mt_address *local,
                           char *text, size_t text_bytes)
{
    char host[MT_ADDRESS_TEXT];
    if (!mt_address_equal_host(local, &endpoint->local)) {
        endpoint->local = *local;
        mt_address_interface(local, endpoint->local_interface);
    }
    mt_address_format_host(local, host);
    snprintf(text, text_bytes, "%s%s%.46s", endpoint->local_interface,
             endpoint->local_interface[0] ? " " : "", host);
}

/* Nobody has been in touch: the first address that a route leads to will be the first to answer, if
 * it answers. */
static void predict(const struct mt_tcp_endpoint *endpoint, uint32_t peer, struct mt_reach *reach)
{
    struct mt_address addresses[MT_GROUP_ADDRESSES];
    int is_told;
    reach->count = mt_reach_addresses(endpoint->group, peer, addresses, &is_told);
    while (reach->place < reach->count &&
           mt_address_route(&addresses[reach->place], &reach->local) != 0)
        reach->place++;
    if (reach->place < reach->count)
        reach->peer = addresses[reach->place];
}

static void word_reason(const struct mt_reach *reach, int is_open, char *text, size_t text_bytes)
{
    char host[MT_ADDRESS_TEXT], which[64] = "its only address";
    const char *since = "";
    if (reach->how == MT_REACH_NOT_YET && reach->place == reach->count) {
        snprintf(text, text_bytes, "no route leads to any of its %u addresses", reach->count);
        return;
    }
    mt_address_format_host(&reach->peer, host);
    if (reach->how == MT_REACH_CAME || reach->is_told)
        snprintf(which, sizeof(which), "from where it dialled this rank");
    else if (reach->count > 1)
        snprintf(which, sizeof(which), "first %s of its %u addresses",
                 reach->how == MT_REACH_DIALLED ? "that answered" : "to try", reach->count);
    if (!is_open)
        since = reach->how == MT_REACH_DIALLED ? ", dialled by the control plane so far"
                                               : ", not dialled yet";
    snprintf(text, text_bytes, "at %.46s, %s%s", host, which, since);
}

void mt_tcp_describe(struct mt_tcp_endpoint *endpoint, uint32_t peer,
                     struct manta_transport_properties *properties)
{
    struct mt_reach reach;
    mt_reach_look(endpoint->group, peer, &reach);
    if (reach.how == MT_REACH_NOT_YET)
        predict(endpoint, peer, &reach);
    if (reach.how != MT_REACH_NOT_YET || reach.place < reach.count)
        name_interface(endpoint, &reach.local, properties->interface,
                       sizeof(properties->interface));
    else
        snprintf(properties->interface, sizeof(properties->interface), "no interface");
    word_reason(&reach, endpoint->peers[peer].link.state == MT_TCP_OPEN, properties->reason,
                sizeof(properties->reason));
}

int mt_tcp_probe(void *handle, uint32_t peer, struct manta_transport_properties *properties)
{
    struct mt_tcp_endpoint *endpoint = handle;
    if (peer >= endpoint->ranks || peer == endpoint->rank)
        return mt_messages_error_set(endpoint->messages, MANTA_EINVAL, peer, 0,
                                     "tcp has no peer %u", peer);
    const struct mt_member *member = &endpoint->group->members[peer];
    if (!endpoint->peers[peer].offered || member->addresses[0] == '\0')
        return mt_messages_error_set(endpoint->messages, MANTA_ENOTSUP, peer, 0,
                                     endpoint->peers[peer].offered
                                         ? "rank %u listens on no internet address"
                                         : "rank %u does not offer tcp",
                                     peer);
    int local = mt_group_same_node(endpoint->group, endpoint->rank, peer);
    struct manta_transport_properties found = {
        .latency_ns = local ? LATENCY_LOCAL_NS : LATENCY_REMOTE_NS,
        .bandwidth_bytes_per_s = local ? BANDWIDTH_LOCAL : BANDWIDTH_REMOTE,
        .eager_bytes = MT_TCP_EAGER_BYTES,
        .message_bytes_max = MESSAGE_BYTES_MAX,
    };
    mt_tcp_describe(endpoint, peer, &found);
    mt_transport_export(&found, sizeof(found), properties);
    return 0;
}
