/* SPDX-License-Identifier: Apache-2.0 */
/* Communicators: joining, leaving, giving up, and who may use one. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collectives/comm.h"
#include "core/cancel.h"
#include "core/clock.h"
#include "core/config.h"
#include "core/log.h"
#include "core/service.h"
#include "core/session_own.h"
#include "scheduler/scheduler.h"
#include "topology/place.h"

enum {
    FINGERPRINT_BYTES = 8192,
    DRAIN_MS = 1000,
    TAKE_IN_NS = 2 * MT_MS,
    LOOKS = 500 /* some microseconds, after which the clock is worth reading */
};

/* Last error of this thread without a communicator. */
static _Thread_local struct mt_error thread_error;

/* The error is read by any thread: a few words under a spin lock that nobody holds for long. */
static void error_lock(struct manta_comm *comm)
{
    while (atomic_exchange_explicit(&comm->error_lock, 1, memory_order_acquire))
        sched_yield();
}

static void error_unlock(struct manta_comm *comm)
{
    atomic_store_explicit(&comm->error_lock, 0, memory_order_release);
}

void mt_comm_set_error(struct manta_comm *comm, const struct mt_error *error)
{
    if (!comm) {
        thread_error = *error;
        return;
    }
    error_lock(comm);
    comm->error = *error;
    error_unlock(comm);
}

int mt_comm_enter_late(struct manta_comm *comm)
{
    uint32_t owner = MT_OWNER_NONE;
    if (mt_fork_happened(comm->fork_generation))
        return MANTA_EFORK;
    while (!atomic_compare_exchange_weak_explicit(&comm->owner, &owner, MT_OWNER_CALLER,
                                                  memory_order_acquire, memory_order_relaxed)) {
        if (owner == MT_OWNER_CALLER)
            return MANTA_EBUSY;
        if (owner == MT_OWNER_HELPER)
            sched_yield(); /* another communicator's wait is moving this one on; it leaves soon */
        owner = MT_OWNER_NONE;
    }
    return 0;
}

/* A communicator of one rank needs nobody's word, and makes a session of its own. */
static int is_alone(const struct manta_config *config)
{
    return config->ranks == 1 && config->rank < 1 && !config->session;
}

/* Who was compiled with an older manta.h gives a shorter struct; NULL is the default of each. */
static int read_config(const struct manta_config *given, struct manta_config *config_out,
                       struct mt_error *error)
{
    enum { FIRST_VERSION_BYTES = offsetof(struct manta_config, cancel) };
    const struct manta_config defaults = MANTA_CONFIG_INIT;
    *config_out = defaults;
    if (!given)
        return 0;
    if (given->size < FIRST_VERSION_BYTES)
        return mt_error_set(error, MANTA_EINVAL,
                            "config->size is %zu: initialise it with MANTA_CONFIG_INIT",
                            given->size);
    memcpy(config_out, given, given->size < sizeof(*given) ? given->size : sizeof(*given));
    return 0;
}

/* NULL is an empty text. */
static int copy_text(char *target, size_t room, const char *text, const char *what,
                     struct mt_error *error)
{
    if (snprintf(target, room, "%s", text ? text : "") < (int)room)
        return 0;
    return mt_error_set(error, MANTA_EINVAL, "%s is longer than %zu characters; shorten it", what,
                        room - 1);
}

/* Those that are known: -1 is not. */
static int check_numbers(int rank, int ranks, struct mt_error *error)
{
    if (ranks != -1 && ranks < 1)
        return mt_error_set(error, MANTA_EINVAL,
                            "the size is %d; it must be the number of ranks, at least 1", ranks);
    if (rank != -1 && ranks != -1 && (rank < 0 || rank >= ranks))
        return mt_error_set(error, MANTA_EINVAL, "rank %d of %d: rank must be 0 .. size - 1", rank,
                            ranks);
    return 0;
}

/* Rank, size, session and node: from the caller where given, else from the scheduler. */
static int resolve(const struct manta_config *config, struct mt_scheduler_job *job,
                   struct mt_error *error)
{
    *job = MT_SCHEDULER_JOB_UNKNOWN;
    job->rank = config->rank;
    job->ranks = config->ranks;
    if (copy_text(job->session, sizeof(job->session), config->session, "the session", error) ||
        copy_text(job->node, sizeof(job->node), config->node, "the node's name", error))
        return MANTA_EINVAL;
    if (is_alone(config)) {
        job->rank = 0;
        if (manta_session_create(job->session, sizeof(job->session)))
            return mt_error_set(error, MANTA_ESYSTEM, "no listener for a communicator of one rank");
    }
    int rc = check_numbers(job->rank, job->ranks, error);
    if (rc == 0)
        rc = mt_scheduler_detect(job, error);
    return rc ? rc : check_numbers(job->rank, job->ranks, error);
}

static _Atomic uint32_t communicators_made; /* by this process */

/* After an error, too, *comm_out is to be freed: NULL, or a part of one. */
static int comm_allocate(struct manta_comm **comm_out, uint32_t rank, uint32_t ranks,
                         struct mt_error *error)
{
    struct manta_comm *comm = calloc(1, sizeof(*comm));
    *comm_out = comm;
    if (comm) {
        comm->number = atomic_fetch_add(&communicators_made, 1) + 1;
        comm->rank = rank;
        comm->ranks = ranks;
        comm->sleep_fd = -1;
        comm->fused_endpoint = MT_ROUTE_NONE;
        comm->active_tail = &comm->active;
        comm->nodes = calloc(ranks, sizeof(*comm->nodes));
        comm->sent_sequence = calloc(2 * (size_t)ranks, sizeof(*comm->sent_sequence));
        comm->record = mt_record_create();
    }
    if (!comm || !comm->nodes || !comm->sent_sequence || !comm->record)
        return mt_error_set(error, MANTA_ENOMEM, "no memory for a communicator of %u ranks", ranks);
    comm->received_sequence = comm->sent_sequence + ranks;
    return 0;
}

static void comm_free(struct manta_comm *comm)
{
    mt_feedback_close(comm);
    mt_cache_clear(comm);
    /* First, so that peers that see a way close know why: what they still send on it, say
     * acknowledgements that were lost, nobody needs. */
    if (comm->group)
        mt_group_goodbye(comm->group);
    mt_routes_close(comm);
    if (comm->group)
        mt_group_leave(comm->group);
    while (comm->requests) {
        struct manta_request *made = comm->requests->made;
        free(comm->requests);
        comm->requests = made;
    }
    if (comm->record)
        mt_record_destroy(comm->record);
    free(comm->sent_sequence);
    mt_topology_free(comm->topology);
    free(comm->nodes);
    free(comm);
}

/* Where this rank sits; a part of a communicator sits where its ranks did when that was made. */
static int find_place(const struct manta_comm *parent, struct mt_place *place_out,
                      struct mt_error *error)
{
    if (!parent)
        return mt_place_of_thread(place_out, error);
    *place_out = parent->group->members[parent->rank].place;
    return 0;
}

static int make_topology(struct manta_comm *comm, const struct mt_place *place,
                         struct mt_error *error)
{
    const struct mt_place *taken = &comm->group->members[comm->rank].place;
    if (mt_topology_of_members(comm->group->members, comm->ranks, &comm->topology))
        return mt_error_set(error, MANTA_ENOMEM, "no memory for a topology of %u ranks",
                            comm->ranks);
    if (taken->zone != place->zone || taken->rack != place->rack)
        mt_log(MT_LOG_WARN, (int)comm->rank,
               "MANTA_PLACEMENT is \"%s\", but the lowest rank of this node says another zone or "
               "rack, and that counts; give all ranks of a node the same",
               mt_config_string(MT_VAR(PLACEMENT)));
    for (uint32_t r = 0; r < comm->ranks; r++)
        comm->nodes[r] = comm->topology->group[MT_LEVEL_NODE][r];
    return 0;
}

static int comm_join(struct manta_comm *comm, const struct mt_creation *how, struct mt_error *error)
{
    char fingerprint[FINGERPRINT_BYTES];
    struct mt_place place;
    const struct mt_scheduler_job *job = how->job;
    if (mt_settings_fingerprint(&comm->settings, fingerprint, sizeof(fingerprint)))
        return mt_error_set(error, MANTA_EINVAL, "the configuration is longer than %d characters",
                            FINGERPRINT_BYTES);
    int rc = find_place(how->parent, &place, error);
    if (rc)
        return rc;
    const struct mt_group_join join = {.session = job->session,
                                       .rank = comm->rank,
                                       .ranks = comm->ranks,
                                       .node = job->node[0] ? job->node : NULL,
                                       .place = &place,
                                       .fingerprint = fingerprint,
                                       .timeout_ns = comm->settings.timeout_ns,
                                       .deadline_ns = how->deadline_ns,
                                       .warn_ns = comm->settings.warn_ns,
                                       .cancel = how->cancel,
                                       .parent = how->parent ? how->parent->group : NULL};
    rc = mt_group_join(&join, &comm->group, error);
    if (rc)
        return rc;
    comm->control = comm->group->control;
    mt_control_set_record(comm->control, comm->record);
    comm->failed_flag = mt_control_flag(comm->control);
    rc = make_topology(comm, &place, error);
    if (rc)
        return rc;
    mt_cost_defaults(&comm->cost, comm->topology, comm->settings.segment_bytes);
    mt_tuning_apply(&comm->settings.tuning, comm->topology, &comm->cost);
    if (mt_feedback_open(comm))
        return mt_error_set(error, MANTA_ENOMEM, "no memory to try algorithms; free some");
    rc = mt_routes_open(comm, how->deadline_ns, error);
    comm->spin_ns = comm->settings.oversubscribed ? 0 : comm->settings.spin_ns;
    comm->looks = comm->settings.oversubscribed ? 1 : LOOKS;
    comm->shape_last = comm->shapes;
    return rc;
}

int mt_comm_make(const struct mt_creation *how, struct manta_comm **comm_out,
                 struct mt_error *error)
{
    struct manta_comm *comm = NULL;
    int rc = comm_allocate(&comm, (uint32_t)how->job->rank, (uint32_t)how->job->ranks, error);
    if (rc) {
        if (comm)
            comm_free(comm);
        return rc;
    }
    comm->settings = *how->settings;
    comm->fork_generation = mt_fork_generation();
    rc = comm_join(comm, how, error);
    if (rc) {
        /* A failure that the control plane knows better than the step that tripped over it. */
        if (comm->control && mt_control_failed(comm->control))
            mt_control_failure(comm->control, error);
        else if (comm->control)
            mt_control_fail(comm->control, error);
        comm_free(comm);
        return rc;
    }
    mt_group_made(comm->group);
    mt_paths_announce(comm);
    mt_paths_warn(comm);
    mt_registry_add(comm);
    *comm_out = comm;
    return 0;
}

/* Creating blocks; calls that were posted before must go on meanwhile. */
struct creating {
    struct mt_creation how;
    int result;
    struct manta_comm **comm_out;
    struct mt_error *error;
};

static void run_create(void *arg)
{
    struct creating *c = arg;
    c->result = mt_comm_make(&c->how, c->comm_out, c->error);
}

int manta_comm_create(const struct manta_config *config, struct manta_comm **comm_out)
{
    struct manta_config full;
    struct mt_scheduler_job job = {.rank = -1};
    struct mt_settings settings;
    if (!comm_out)
        return mt_error_set(&thread_error, MANTA_EINVAL, "comm_out is NULL");
    *comm_out = NULL;
    thread_error.code = 0;
    int rc = read_config(config, &full, &thread_error);
    if (!rc)
        rc = resolve(&full, &job, &thread_error);
    if (!rc)
        rc = mt_settings_read(&full, &settings, &thread_error);
    if (!rc) {
        mt_trace_check(&settings, job.rank);
        struct creating creating = {.how = {.job = &job,
                                            .settings = &settings,
                                            .cancel = full.cancel,
                                            .deadline_ns = mt_clock_now_ns() + settings.timeout_ns},
                                    .comm_out = comm_out,
                                    .error = &thread_error};
        mt_wait_beside(NULL, run_create, &creating);
        rc = creating.result;
    }
    if (rc && is_alone(&full))
        mt_session_forget(job.session);
    int is_wanted = rc == MANTA_EABORTED && mt_cancel_is_wanted(full.cancel);
    if (rc)
        mt_log(is_wanted ? MT_LOG_INFO : MT_LOG_ERROR, rc == MANTA_ESCHEDULER ? -1 : job.rank, "%s",
               thread_error.sentence);
    return rc;
}

/* Posted calls that only nobody has looked at end here: all that has arrived is taken in, until
 * nothing has come for a while and all peers have been looked at. */
static void take_in(struct manta_comm *comm)
{
    uint64_t begun_ns = mt_clock_now_ns(), now_ns = begun_ns, moved_ns = begun_ns;
    uint32_t looks = 0;
    while (comm->active && (looks < comm->sweep || now_ns < moved_ns + TAKE_IN_NS) &&
           !mt_control_failed(comm->control) && now_ns < begun_ns + DRAIN_MS * (uint64_t)MT_MS) {
        int moved = mt_engine_progress(comm) > 0;
        now_ns = mt_clock_now_ns();
        looks = moved ? 0 : looks + 1;
        moved_ns = moved ? now_ns : moved_ns;
    }
}

/* The others may wait for what this rank owes to its calls. Its departure is no abort, which would
 * reach the communicators that were split from this one. */
static void leave_unfinished(struct manta_comm *comm)
{
    struct mt_error error;
    char text[128];
    mt_call_describe(&comm->active->call, text, sizeof(text));
    mt_error_set_rank(&error, MANTA_ELEFT, (int)comm->rank,
                      "rank %u has destroyed its communicator with calls under way, the first of "
                      "them #%llu %s; wait for them before",
                      comm->rank, (unsigned long long)comm->active->call.sequence, text);
    mt_control_fail(comm->control, &error);
}

/* Bytes that calls have left to the transports must reach their peers. */
static void drain(struct manta_comm *comm)
{
    uint64_t until_ns = mt_clock_now_ns() + DRAIN_MS * (uint64_t)MT_MS;
    int pending = 1;
    while (pending && !mt_control_failed(comm->control) && mt_clock_now_ns() < until_ns) {
        pending = 0;
        for (uint32_t i = 0; i < comm->endpoint_count; i++) {
            const struct mt_endpoint *endpoint = &comm->endpoints[i];
            (void)endpoint->transport->progress(endpoint->handle);
            pending |=
                endpoint->transport->drain && endpoint->transport->drain(endpoint->handle) > 0;
        }
        if (pending)
            sched_yield();
    }
}

int manta_comm_destroy(struct manta_comm *comm)
{
    if (!comm)
        return 0;
    int rc = mt_comm_enter(comm);
    if (rc == MANTA_EFORK)
        return 0; /* the parent's: its descriptors are closed already, its threads are not here */
    if (rc)
        return rc;
    mt_registry_remove(comm);
    take_in(comm);
    if (comm->active)
        leave_unfinished(comm);
    if (mt_control_failed(comm->control))
        mt_wait_fail(comm);
    else
        drain(comm);
    comm_free(comm);
    return 0;
}

int manta_comm_abort(struct manta_comm *comm, const char *reason)
{
    if (!comm)
        return MANTA_EINVAL;
    if (mt_fork_happened(comm->fork_generation))
        return MANTA_EFORK;
    mt_control_abort(comm->control, reason);
    return 0;
}

int manta_comm_rank(const struct manta_comm *comm)
{
    return comm ? (int)comm->rank : MANTA_EINVAL;
}

int manta_comm_size(const struct manta_comm *comm)
{
    return comm ? (int)comm->ranks : MANTA_EINVAL;
}

int manta_comm_error(const struct manta_comm *comm, struct manta_error_info *info)
{
    if (!info || info->size < offsetof(struct manta_error_info, sentence))
        return MANTA_EINVAL;
    if (!comm) {
        mt_error_export(&thread_error, info);
        return 0;
    }
    struct manta_comm *locked = (struct manta_comm *)(uintptr_t)comm;
    error_lock(locked);
    struct mt_error error = comm->error;
    error_unlock(locked);
    /* The group has failed, and this rank has made no call since. */
    if (atomic_load(&comm->failed) == 0 && mt_control_failed(comm->control))
        mt_control_failure(comm->control, &error);
    mt_error_export(&error, info);
    return 0;
}
