/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who listens for which streams of which group. A stream may come before its listener does (a peer
 * that is faster): it waits here, proved but unread, for as long as the group waits for anything;
 * its dialler closing it, or the session's end, takes it away earlier. But a control link is handed
 * out also when it is closed: it says why, or that its rank is dead, and that rank dials no more.
 */
#include "core/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/control.h"
#include "core/dial.h"
#include "core/fork.h"
#include "core/listener.h"
#include "core/log.h"
#include "core/reach.h"
#include "core/stream_inbox.h"

enum { PARKED_MAX = 4096 };
/* In a session that rank 0 has not joined yet; who finds its stream closed dials again. */
#define UNHOSTED_NS (60 * MT_SECOND)

struct mt_parked {
    struct mt_service_source source;
    struct mt_service_timer timer;
    struct mt_hello hello;
    struct mt_parked *next;
};

/* Guarded by the service's lock. */
static struct mt_door *doors;
static struct mt_inbox *inboxes;
static struct mt_parked *parked_first;
static uint32_t parked_count;
static struct mt_service_timer hand_out; /* due when an inbox was opened */

static void reset_in_child(void)
{
    doors = NULL;
    inboxes = NULL;
    parked_first = NULL;
    parked_count = 0;
    memset(&hand_out, 0, sizeof hand_out);
}

static void forget(struct mt_parked *parked)
{
    struct mt_parked **link = &parked_first;
    while (*link != parked)
        link = &(*link)->next;
    *link = parked->next;
    parked_count--;
    mt_service_timer_set(&parked->timer, 0);
    mt_service_unwatch(&parked->source);
    free(parked);
}

static void drop(struct mt_parked *parked)
{
    int fd = parked->source.fd;
    forget(parked);
    mt_fd_close(fd);
}

static void parked_closed(struct mt_service_source *source, uint32_t events)
{
    (void)events;
    drop(source->arg);
}

static void parked_expired(struct mt_service_timer *timer)
{
    drop(timer->arg);
}

static struct mt_inbox *inbox_of(const struct mt_hello *hello)
{
    const uint8_t *uid = hello->kind == MT_STREAM_JOIN ? hello->session_id : hello->uid;
    for (struct mt_inbox *inbox = inboxes; inbox; inbox = inbox->next)
        if (inbox->kind == (int)hello->kind && inbox->rank == hello->to &&
            memcmp(inbox->uid, uid, MT_ID_BYTES) == 0)
            return inbox;
    return NULL;
}

static void hand_over(const struct mt_inbox *inbox, int fd, const struct mt_hello *hello)
{
    if (inbox->group)
        mt_reach_came(inbox->group, hello->from, fd);
    inbox->accept(inbox->arg, fd, hello->from, hello->index);
}

static void hand_out_parked(struct mt_service_timer *timer)
{
    (void)timer;
    for (struct mt_parked *at = parked_first; at;) {
        struct mt_inbox *inbox = inbox_of(&at->hello);
        if (!inbox) {
            at = at->next;
            continue;
        }
        int fd = at->source.fd;
        struct mt_hello hello = at->hello;
        forget(at);
        hand_over(inbox, fd, &hello);
        at = parked_first; /* the callback may have changed the list */
    }
}

struct mt_parked *mt_stream_room(void)
{
    return parked_count < PARKED_MAX ? calloc(1, sizeof(struct mt_parked)) : NULL;
}

static void park(int fd, const struct mt_hello *hello, struct mt_parked *room)
{
    const struct mt_door *door = mt_door_for(hello);
    uint64_t patience_ns = door && door->patience_ns ? door->patience_ns : UNHOSTED_NS;
    room->hello = *hello;
    room->source = (struct mt_service_source){.fd = fd, .ready = parked_closed, .arg = room};
    room->timer = (struct mt_service_timer){.fire = parked_expired, .arg = room};
    if (hello->kind != MT_STREAM_CONTROL && mt_service_watch(&room->source, EPOLLRDHUP)) {
        free(room);
        mt_fd_close(fd);
        return;
    }
    mt_service_timer_set(&room->timer, mt_clock_now_ns() + patience_ns);
    struct mt_parked **link = &parked_first; /* in the order they came */
    while (*link)
        link = &(*link)->next;
    *link = room;
    parked_count++;
}

void mt_stream_deliver(int fd, const struct mt_hello *hello, int64_t peer_uid,
                       struct mt_parked *room)
{
    struct mt_inbox *inbox = inbox_of(hello);
    int is_foreign = hello->kind == MT_STREAM_SHM && peer_uid != (int64_t)geteuid();
    if (!inbox && !is_foreign) {
        park(fd, hello, room);
        return;
    }
    free(room);
    if (!is_foreign) {
        hand_over(inbox, fd, hello);
        return;
    }
    mt_log(MT_LOG_WARN, (int)hello->to, "refused shared memory of rank %u: it runs as another user",
           hello->from);
    mt_fd_close(fd);
}

/* Links of the control plane are left out: those that are made late are not needed to go on. */
void mt_stream_refuse(const struct mt_hello *hello)
{
    const struct mt_inbox *inbox = inbox_of(hello);
    struct mt_error error;
    if (!inbox || hello->kind == MT_STREAM_JOIN || hello->kind == MT_STREAM_CONTROL)
        return;
    if (inbox->misses && !inbox->misses(inbox->arg, hello->from, hello->index))
        return;
    errno = EMFILE;
    mt_error_set_rank(&error, MANTA_ESYSTEM, (int)hello->to,
                      "rank %u has no descriptor for the connection of rank %u; raise its limit of "
                      "open files (ulimit -n)",
                      hello->to, hello->from);
    mt_control_fail(inbox->group->control, &error);
}

void mt_inbox_open(struct mt_inbox *inbox)
{
    inbox->next = inboxes;
    inboxes = inbox;
    hand_out.fire = hand_out_parked;
    mt_service_timer_set(&hand_out, mt_clock_now_ns());
}

void mt_inbox_close(struct mt_inbox *inbox)
{
    for (struct mt_inbox **link = &inboxes; *link; link = &(*link)->next)
        if (*link == inbox) {
            *link = inbox->next;
            break;
        }
    if (!inboxes)
        mt_service_timer_set(&hand_out, 0);
}

int mt_inbox_is_hosting(const uint8_t session_id[MT_ID_BYTES])
{
    struct mt_hello hello = {.kind = MT_STREAM_JOIN};
    memcpy(hello.session_id, session_id, MT_ID_BYTES);
    return inbox_of(&hello) != NULL;
}

int mt_stream_listen(const struct mt_group *group, int kind, mt_stream_accept_fn *accept,
                     mt_stream_misses_fn *misses, void *arg)
{
    struct mt_inbox *inbox = calloc(1, sizeof *inbox);
    if (!inbox)
        return MANTA_ENOMEM;
    memcpy(inbox->uid, group->uid, MT_ID_BYTES);
    inbox->kind = kind;
    inbox->rank = group->rank;
    inbox->group = group;
    inbox->accept = accept;
    inbox->misses = misses;
    inbox->arg = arg;
    mt_service_lock();
    mt_inbox_open(inbox);
    mt_service_unlock();
    return 0;
}

void mt_stream_unlisten(const struct mt_group *group, int kind)
{
    struct mt_hello hello = {.kind = (uint32_t)kind, .to = group->rank};
    if (mt_fork_happened(group->generation))
        return;
    memcpy(hello.uid, group->uid, MT_ID_BYTES);
    mt_service_lock();
    struct mt_inbox *inbox = inbox_of(&hello);
    if (inbox)
        mt_inbox_close(inbox);
    mt_service_unlock();
    free(inbox);
}

void mt_door_open(struct mt_door *door)
{
    mt_fork_on_child(reset_in_child);
    door->next = doors;
    doors = door;
}

struct mt_door *mt_door_for(const struct mt_hello *hello)
{
    struct mt_door *door = doors;
    while (door && !(mt_auth_equal(door->session_id, hello->session_id, MT_ID_BYTES) &&
                     door->rank == hello->to))
        door = door->next;
    return door;
}

void mt_door_close(struct mt_door *door)
{
    for (struct mt_door **link = &doors; *link; link = &(*link)->next)
        if (*link == door) {
            *link = door->next;
            break;
        }
    for (struct mt_parked *at = parked_first; at;) {
        struct mt_parked *next = at->next;
        if (!mt_door_for(&at->hello))
            drop(at);
        at = next;
    }
}

/* For a stream of this kind, best first: the unix socket if it can be reached, then the others. */
static void add_addresses(const struct mt_group *group, uint32_t peer, int kind,
                          struct mt_address *addresses, struct mt_dial_plan *plan)
{
    const struct mt_member *member = &group->members[peer];
    uint32_t count = 0;
    if (mt_group_same_network(group, group->rank, peer) && member->unix_name[0] &&
        kind != MT_STREAM_TCP)
        mt_address_abstract(member->unix_name, &addresses[count++]);
    if (kind != MT_STREAM_SHM)
        count += mt_reach_addresses(group, peer, addresses + count, &plan->is_told);
    plan->addresses = addresses;
    plan->address_count = count;
    plan->reach = group->reach ? &group->reach[peer] : NULL;
}

int mt_stream_dial(const struct mt_group *group, uint32_t peer, int kind, uint32_t index,
                   uint64_t deadline_ns, struct mt_dial **dial_out)
{
    return mt_stream_dial_notify(group, peer, kind, index, deadline_ns, NULL, NULL, dial_out);
}

static int start_dial(const struct mt_group *group, uint32_t peer, int kind, uint32_t index,
                      struct mt_dial_plan *plan, struct mt_dial **dial_out)
{
    plan->hello.kind = (uint32_t)kind;
    plan->hello.from = group->rank;
    plan->hello.to = peer;
    plan->hello.index = index;
    memcpy(plan->hello.uid, group->uid, MT_ID_BYTES);
    memcpy(plan->hello.session_id, group->session_id, MT_ID_BYTES);
    memcpy(plan->key, group->key, MT_AUTH_KEY_BYTES);
    mt_service_lock();
    int rc = mt_dial_start(plan, dial_out);
    mt_service_unlock();
    mt_auth_wipe(plan->key, sizeof plan->key);
    return rc;
}

int mt_stream_dial_notify(const struct mt_group *group, uint32_t peer, int kind, uint32_t index,
                          uint64_t deadline_ns, void (*finished)(void *arg), void *arg,
                          struct mt_dial **dial_out)
{
    struct mt_address addresses[MT_GROUP_ADDRESSES + 1];
    struct mt_dial_plan plan = {.deadline_ns = deadline_ns, .finished = finished, .arg = arg};
    add_addresses(group, peer, kind, addresses, &plan);
    return start_dial(group, peer, kind, index, &plan, dial_out);
}

int mt_stream_dial_beside(const struct mt_group *group, uint32_t peer, int kind, uint32_t index,
                          const struct mt_address *first, uint64_t deadline_ns,
                          struct mt_dial **dial_out)
{
    struct mt_address addresses[MT_GROUP_ADDRESSES + 1];
    struct mt_dial_plan plan = {.deadline_ns = deadline_ns};
    add_addresses(group, peer, kind, addresses, &plan);
    for (uint32_t i = 0; first && i < plan.address_count; i++) {
        if (!mt_address_equal_host(&addresses[i], first))
            continue;
        struct mt_address chosen = addresses[i];
        memmove(addresses + 1, addresses, i * sizeof *addresses);
        addresses[0] = chosen;
        break;
    }
    plan.reach = NULL;
    return start_dial(group, peer, kind, index, &plan, dial_out);
}
