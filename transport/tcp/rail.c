/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rails: the interfaces of this host over which a peer is reached, each at an address of its own.
 * The routing table tells: an address of the peer's that the kernel would send to from another
 * address of this host than those before is another rail. Slow interfaces, such as the one for
 * administration, would hold the others back, and are left out. Two interfaces of one subnet are
 * one rail, since the kernel routes over one of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/reach.h"
#include "transport/tcp/tcp.h"

enum { RAILS = MT_TCP_STREAMS - 1, MANY_TIMES_SLOWER = 2 };

struct rail {
    struct mt_address local, peer;
    long speed; /* Mbit/s; 0: not known */
};

static long speed_of(const struct mt_address *local)
{
    char name[MT_INTERFACE_NAME], path[64 + MT_INTERFACE_NAME];
    long speed = 0;
    mt_address_interface(local, name);
    snprintf(path, sizeof(path), "/sys/class/net/%s/speed", name);
    FILE *file = name[0] != '\0' ? fopen(path, "re") : NULL;
    if (file == NULL)
        return 0;
    if (fscanf(file, "%ld", &speed) != 1 || speed < 0)
        speed = 0;
    fclose(file);
    return speed;
}

/* MANTA_INTERFACE has limited what a rank says of itself. */
static int is_own(const struct mt_group *group, const struct mt_address *address)
{
    char host[MT_ADDRESS_TEXT];
    const char *own = group->members[group->rank].addresses;
    mt_address_format_host(address, host);
    size_t length = strlen(host);
    for (const char *at = strstr(own, host); at != NULL; at = strstr(at + 1, host))
        if ((at == own || at[-1] == ' ' || at[-1] == '[') &&
            (at[length] == ':' || at[length] == ']'))
            return 1;
    return 0;
}

static int is_new(const struct rail *rails, uint32_t count, const struct mt_address *local)
{
    for (uint32_t i = 0; i < count; i++)
        if (mt_address_equal_host(&rails[i].local, local))
            return 0;
    return 1;
}

static uint32_t keep_fast(struct rail *rails, uint32_t count)
{
    uint32_t kept = 1; /* the one that is known to work */
    long best = 0;
    for (uint32_t i = 0; count > 1 && i < count; i++) {
        rails[i].speed = speed_of(&rails[i].local);
        best = rails[i].speed > best ? rails[i].speed : best;
    }
    for (uint32_t i = 1; i < count; i++)
        if (rails[i].speed == 0 || rails[i].speed * MANY_TIMES_SLOWER > best)
            rails[kept++] = rails[i];
    return kept;
}

/* The rails to a peer, that of its link first. Of one family: the other leads over the same
 * interfaces. 0: no address leads there. */
static uint32_t find_rails(const struct mt_tcp_endpoint *endpoint, uint32_t peer,
                           struct rail rails[RAILS])
{
    struct mt_address addresses[MT_GROUP_ADDRESSES];
    const struct mt_group *group = endpoint->group;
    uint32_t count = 0;
    int is_told;
    uint32_t there = mt_reach_addresses(group, peer, addresses, &is_told);
    int is_near = mt_group_same_network(group, group->rank, peer);
    for (uint32_t i = 0; i < there && count < RAILS; i++) {
        struct rail *rail = &rails[count];
        *rail = (struct rail){.peer = addresses[i]};
        if (addresses[i].socket.ss_family != addresses[0].socket.ss_family ||
            mt_address_route(&addresses[i], &rail->local) != 0)
            continue;
        if (count == 0 || (!is_near && is_own(group, &rail->local) && !is_own(group, &rail->peer) &&
                           is_new(rails, count, &rail->local)))
            count++;
    }
    return count > 0 ? keep_fast(rails, count) : 0;
}

int mt_tcp_sockets_parse(const char *text, uint32_t *count_out)
{
    char *end;
    *count_out = 0;
    if (text == NULL || text[0] == '\0' || strcmp(text, "auto") == 0)
        return 0;
    long count = strtol(text, &end, 10);
    if (*end != '\0' || count < 1 || count > RAILS)
        return MANTA_EINVAL;
    *count_out = (uint32_t)count;
    return 0;
}

uint32_t mt_tcp_rails_count(const struct mt_tcp_endpoint *endpoint, uint32_t peer)
{
    struct rail rails[RAILS];
    uint32_t count = endpoint->sockets;
    if (count == 0)
        count = find_rails(endpoint, peer, rails);
    return count > 0 ? count : 1;
}

int mt_tcp_rail_address(const struct mt_tcp_endpoint *endpoint, uint32_t peer, uint32_t stream,
                        struct mt_address *address_out)
{
    struct rail rails[RAILS];
    uint32_t count = find_rails(endpoint, peer, rails);
    if (count == 0)
        return 0;
    *address_out = rails[(stream - 1) % count].peer;
    return 1;
}
