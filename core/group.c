/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "core/bootstrap.h"
#include "core/cancel.h"
#include "core/clock.h"
#include "core/control_impl.h"
#include "core/group.h"
#include "core/host.h"
#include "core/listener.h"
#include "core/reach.h"
#include "core/session.h"
#include "core/session_own.h"

/* So that a time plus a timeout never wraps around. */
#define TIMEOUT_NS_MAX (UINT64_MAX / 4)
/* A death is known to all within this time. */
#define NEWS_NS MT_SECOND

/* A group with its door, through which its streams come. */
struct housed_group {
    struct mt_group group;
    struct mt_door door;
    struct mt_cancel cancel;
};

static int check(const struct mt_group_join *join, struct mt_error *error)
{
    if (join->ranks == 0 || join->ranks > MT_RANKS_MAX)
        return mt_error_set(error, MANTA_EINVAL, "the size is %u; it must be 1 to %d", join->ranks,
                            MT_RANKS_MAX);
    if (join->rank >= join->ranks)
        return mt_error_set(error, MANTA_EINVAL, "the rank is %u; it must be 0 to %u", join->rank,
                            join->ranks - 1);
    if (join->fingerprint && strlen(join->fingerprint) >= MT_FINGERPRINT_MAX)
        return mt_error_set(error, MANTA_EINVAL,
                            "the configuration is longer than %d bytes; shorten MANTA_* variables",
                            MT_FINGERPRINT_MAX);
    return 0;
}

static void open_door(struct housed_group *housed, const struct mt_session *session)
{
    struct mt_door *door = &housed->door;
    memcpy(door->secret, session->secret, sizeof door->secret);
    memcpy(door->session_id, housed->group.session_id, MT_ID_BYTES);
    door->rank = housed->group.rank;
    door->patience_ns = housed->group.timeout_ns;
    mt_service_lock();
    mt_door_open(door);
    mt_service_unlock();
}

static void stop_looking(struct housed_group *housed)
{
    mt_service_lock();
    mt_cancel_unwatch(&housed->cancel);
    mt_service_unlock();
}

static void free_group(struct housed_group *housed)
{
    stop_looking(housed);
    mt_service_lock();
    mt_door_close(&housed->door);
    mt_service_unlock();
    mt_listener_release();
    free(housed->group.members);
    free(housed->group.reach);
    mt_auth_wipe(housed, sizeof *housed);
    free(housed);
}

static int bootstrap(struct housed_group *housed, const struct mt_group_join *join,
                     const struct mt_session *session, uint64_t deadline_ns, struct mt_error *error)
{
    struct mt_group *group = &housed->group;
    struct mt_welcome welcome;
    struct mt_bootstrap params = {.session = session,
                                  .session_id = group->session_id,
                                  .rank = group->rank,
                                  .ranks = group->ranks,
                                  .fingerprint = join->fingerprint ? join->fingerprint : "",
                                  .parent = join->parent ? join->parent->control : NULL,
                                  .cancel = &housed->cancel,
                                  .start_ns = deadline_ns - group->timeout_ns,
                                  .patience_ns = group->warn_ns,
                                  .deadline_ns = deadline_ns};
    mt_host_describe(join->node, &params.member);
    params.member.rank = group->rank;
    params.member.place = join->place ? *join->place : (struct mt_place)MT_PLACE_UNKNOWN;
    mt_service_lock();
    mt_listener_describe(&params.member);
    mt_service_unlock();
    int rc = group->rank == 0 ? mt_bootstrap_host(&params, &welcome, error)
                              : mt_bootstrap_join(&params, &welcome, error);
    if (rc)
        return rc;
    group->members = welcome.members;
    group->epoch = welcome.epoch;
    memcpy(group->uid, welcome.uid, MT_ID_BYTES);
    rc = mt_auth_group_key(session->secret, group->uid, group->key);
    return rc ? mt_error_set(error, rc, "libcrypto cannot compute HMAC-SHA256") : 0;
}

/* The child's first rank gives up when the parent fails, and may have heard of that before this
 * rank, which only sees that the session is gone: then the parent's failure is the reason. */
static int find_reason(struct mt_control *parent, int rc, struct mt_error *error)
{
    uint64_t until_ns = mt_clock_now_ns() + NEWS_NS;
    mt_service_lock();
    while (!mt_control_failed(parent) && mt_clock_now_ns() < until_ns)
        mt_service_wait(until_ns);
    int failed = mt_control_failed(parent);
    mt_service_unlock();
    if (!failed)
        return rc;
    mt_control_failure(parent, error);
    return error->code;
}

/* From the first contact until the links stand. */
static int meet(struct housed_group *housed, const struct mt_group_join *join,
                const struct mt_session *session, uint64_t deadline_ns, struct mt_error *error)
{
    struct mt_group *group = &housed->group;
    int rc = mt_auth_session_id(session->secret, group->session_id);
    if (rc)
        return mt_error_set(error, rc, "libcrypto cannot compute HMAC-SHA256");
    group->reach = calloc(group->ranks, sizeof *group->reach);
    if (!group->reach)
        return mt_error_set(error, MANTA_ENOMEM, "no memory for a group of %u ranks", group->ranks);
    open_door(housed, session);
    mt_service_lock();
    mt_cancel_watch(&housed->cancel, join->cancel, group->rank);
    mt_service_unlock();
    rc = bootstrap(housed, join, session, deadline_ns, error);
    mt_service_lock();
    int may_come_again = rc && mt_cancel_is_set(&housed->cancel);
    mt_service_unlock();
    if (group->rank == 0 && !may_come_again) /* the group has a door of its own now */
        mt_session_disown(group->session_id);
    if (rc == MANTA_EAUTH && join->parent)
        return find_reason(join->parent->control, rc, error);
    if (rc)
        return rc;
    rc = mt_control_open(group, join->parent ? join->parent->control : NULL, &housed->cancel,
                         deadline_ns, error);
    if (rc)
        return rc;
    mt_service_lock();
    mt_cancel_fails(&housed->cancel, group->control);
    mt_service_unlock();
    return 0;
}

static int join_session(const struct mt_group_join *join, const struct mt_session *session,
                        struct mt_group **group_out, struct mt_error *error)
{
    uint64_t start_ns = mt_clock_now_ns();
    int rc = mt_listener_acquire(error);
    if (rc)
        return rc;
    struct housed_group *housed = calloc(1, sizeof *housed);
    if (!housed) {
        mt_listener_release();
        return mt_error_set(error, MANTA_ENOMEM, "no memory for a group");
    }
    struct mt_group *group = &housed->group;
    group->rank = join->rank;
    group->ranks = join->ranks;
    group->timeout_ns = join->timeout_ns < TIMEOUT_NS_MAX ? join->timeout_ns : TIMEOUT_NS_MAX;
    group->warn_ns = join->warn_ns;
    group->generation = mt_fork_generation();
    uint64_t deadline_ns = join->deadline_ns ? join->deadline_ns : start_ns + group->timeout_ns;
    rc = meet(housed, join, session, deadline_ns, error);
    if (rc) {
        free_group(housed);
        return rc;
    }
    *group_out = group;
    return 0;
}

int mt_group_join(const struct mt_group_join *join, struct mt_group **group_out,
                  struct mt_error *error)
{
    struct mt_session session;
    *group_out = NULL;
    int rc = mt_session_parse(join->session, &session, error);
    if (rc == 0)
        rc = check(join, error);
    if (rc == 0)
        rc = join_session(join, &session, group_out, error);
    mt_auth_wipe(&session, sizeof session);
    return rc;
}

void mt_group_made(struct mt_group *group)
{
    stop_looking((struct housed_group *)group);
    mt_family_made(group->control);
}

void mt_group_goodbye(struct mt_group *group)
{
    if (!mt_fork_happened(group->generation))
        mt_control_goodbye(group->control);
}

void mt_group_leave(struct mt_group *group)
{
    if (!group || mt_fork_happened(group->generation))
        return; /* in a forked child everything belongs to the parent */
    stop_looking((struct housed_group *)group);
    mt_control_close(group->control);
    free_group((struct housed_group *)group);
}

int mt_group_same_node(const struct mt_group *group, uint32_t a, uint32_t b)
{
    const struct mt_member *first = &group->members[a], *second = &group->members[b];
    return first->node == second->node && first->boot == second->boot;
}

int mt_group_same_network(const struct mt_group *group, uint32_t a, uint32_t b)
{
    const struct mt_member *first = &group->members[a], *second = &group->members[b];
    return first->boot == second->boot && first->net_namespace == second->net_namespace;
}
