/* SPDX-License-Identifier: Apache-2.0 */
#include "core/reach.h"

#include <string.h>

#include "core/service.h"

/* In the peer's order. */
static uint32_t listed(const struct mt_group *group, uint32_t peer, struct mt_address *addresses)
{
    const struct mt_member *member = &group->members[peer];
    int is_near = mt_group_same_network(group, group->rank, peer);
    uint32_t count = 0;
    for (const char *at = member->addresses; *at;) {
        size_t length = strcspn(at, " ");
        if (count < MT_GROUP_ADDRESSES && mt_address_parse(at, length, &addresses[count]) == 0 &&
            (is_near || !mt_address_is_loopback(&addresses[count])))
            count++;
        at += length + (at[length] == ' ');
    }
    return count;
}

static uint32_t find(const struct mt_address *addresses, uint32_t count,
                     const struct mt_address *wanted)
{
    uint32_t place = 0;
    while (place < count && !mt_address_equal_host(&addresses[place], wanted))
        place++;
    return place;
}

uint32_t mt_reach_addresses(const struct mt_group *group, uint32_t peer,
                            struct mt_address addresses[MT_GROUP_ADDRESSES], int *is_told_out)
{
    struct mt_reach known;
    uint32_t count = listed(group, peer, addresses);
    mt_reach_look(group, peer, &known);
    uint32_t place = known.how == MT_REACH_NOT_YET ? count : find(addresses, count, &known.peer);
    *is_told_out = place < count;
    if (place < count) {
        struct mt_address first = addresses[place];
        memmove(addresses + 1, addresses, place * sizeof *addresses);
        addresses[0] = first;
    }
    return count;
}

void mt_reach_look(const struct mt_group *group, uint32_t peer, struct mt_reach *reach_out)
{
    memset(reach_out, 0, sizeof *reach_out);
    mt_service_lock();
    if (group->reach)
        *reach_out = group->reach[peer];
    mt_service_unlock();
}

/* Both ends of the stream; 0 if they are internet addresses. */
static int ends_of(int fd, struct mt_reach *reach)
{
    reach->local.bytes = reach->peer.bytes = sizeof reach->local.socket;
    return getsockname(fd, (struct sockaddr *)&reach->local.socket, &reach->local.bytes) ||
           getpeername(fd, (struct sockaddr *)&reach->peer.socket, &reach->peer.bytes) ||
           reach->peer.socket.ss_family == AF_UNIX;
}

void mt_reach_dialled(struct mt_reach *reach, int fd, const struct mt_reach *note)
{
    struct mt_reach found = *note;
    found.how = MT_REACH_DIALLED;
    if (!reach || ends_of(fd, &found))
        return;
    /* Tried first since this very address had answered before: why it was chosen then, counts. */
    if (note->is_told && reach->how == MT_REACH_DIALLED &&
        mt_address_equal_host(&reach->peer, &found.peer))
        return;
    *reach = found;
}

void mt_reach_came(const struct mt_group *group, uint32_t from, int fd)
{
    struct mt_address addresses[MT_GROUP_ADDRESSES];
    struct mt_reach found = {.how = MT_REACH_CAME};
    if (!group->reach || from >= group->ranks || group->reach[from].how != MT_REACH_NOT_YET ||
        ends_of(fd, &found))
        return;
    found.count = listed(group, from, addresses);
    if (find(addresses, found.count, &found.peer) < found.count)
        group->reach[from] = found;
}
