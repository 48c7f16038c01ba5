/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting. A wait moves its communicator on and, when nothing happens, first spins, then yields,
 * then sleeps in one epoll on everything that can end it. It ends with the call's completion, the
 * caller's own time limit, or a failure that the control plane words. While it waits it also moves
 * on the process's other communicators that have calls posted and no thread inside.
 */
#include <pthread.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#include "collectives/comm.h"
#include "core/clock.h"
#include "core/fork.h"
#include "core/log.h"

enum {
    LOOKS_PER_CLOCK = 32,        /* progress calls between two looks at the clock */
    SLEEP_MS_MAX = 100,          /* longest sleep between two looks at the deadlines */
    PAIR_GRACE_NS = 200 * MT_MS, /* a rank has left: its last messages may be on their way */
    SPIN_NS_MIN = 500,           /* spinning never becomes shorter than this */
    STUCK_NS = MT_MS,            /* nothing has moved for so long: look whether the wait is long */
    ERRAND_MS = 1,               /* between two looks while an errand runs and nothing moves */
    /* The same while other communicators want help: a 64th of the time in which nothing has moved,
     * within these bounds, so that looking costs little and what is seen late is not very late. */
    OTHERS_SHARE = 64,
    SLEEP_MS_OTHERS = 1,
    SLEEP_MS_OTHERS_MAX = 16,
};

/* The communicators of this process, so that a wait can help the others. */
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct manta_comm *registry;
static _Atomic uint32_t registered; /* how many there are */
enum { NONE_POSTED = 0, SOME_POSTED = 1, BEING_COUNTED = 2 };
static _Atomic uint32_t is_posted; /* Set with each post, and cleared by who looks and finds none: a
                                    * post costs a store */

/* A forked child starts without communicators: those it inherited are the parent's. */
static void reset_in_child(void)
{
    registry = NULL;
    registry_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    atomic_store(&registered, 0);
    atomic_store(&is_posted, 0);
}

__attribute__((constructor)) static void install_reset(void)
{
    mt_fork_on_child(reset_in_child);
}

/* Whoever is in the communicator is the only one to count its calls. */
void mt_wait_posted(struct manta_comm *comm, int change)
{
    uint32_t posted = atomic_load_explicit(&comm->posted, memory_order_relaxed);
    atomic_store_explicit(&comm->posted, posted + (uint32_t)change, memory_order_relaxed);
    if (change > 0) /* pairs with the exchange in find_posted() */
        atomic_store_explicit(&is_posted, SOME_POSTED, memory_order_release);
}

void mt_registry_add(struct manta_comm *comm)
{
    pthread_mutex_lock(&registry_lock);
    comm->registry_next = registry;
    if (registry)
        registry->registry_previous = comm;
    registry = comm;
    atomic_fetch_add_explicit(&registered, 1, memory_order_relaxed);
    pthread_mutex_unlock(&registry_lock);
}

void mt_registry_remove(struct manta_comm *comm)
{
    pthread_mutex_lock(&registry_lock);
    if (comm->registry_previous)
        comm->registry_previous->registry_next = comm->registry_next;
    else if (registry == comm)
        registry = comm->registry_next;
    if (comm->registry_next)
        comm->registry_next->registry_previous = comm->registry_previous;
    comm->registry_next = comm->registry_previous = NULL;
    atomic_fetch_sub_explicit(&registered, 1, memory_order_relaxed);
    pthread_mutex_unlock(&registry_lock);
}

/* Lock held. 1 if a communicator but `self` has calls posted. */
static int find_posted(const struct manta_comm *self)
{
    int found = 0, found_others = 0;
    uint32_t counted =
        BEING_COUNTED; /* who meets it meanwhile finds the lock taken, and asks again */
    if (atomic_load_explicit(&is_posted, memory_order_relaxed) == NONE_POSTED)
        return 0;
    /* Reads what the last post has stored, so that its count is seen below; a later one sets it
     * again. */
    (void)atomic_exchange_explicit(&is_posted, BEING_COUNTED, memory_order_acq_rel);
    for (const struct manta_comm *comm = registry; comm; comm = comm->registry_next)
        if (atomic_load_explicit(&comm->posted, memory_order_relaxed) != 0) {
            found = 1;
            found_others |= comm != self;
        }
    if (found)
        atomic_store_explicit(&is_posted, SOME_POSTED, memory_order_relaxed);
    else
        (void)atomic_compare_exchange_strong_explicit(&is_posted, &counted, NONE_POSTED,
                                                      memory_order_relaxed, memory_order_relaxed);
    return found_others;
}

/* Are there communicators but `self` that may have calls posted? */
static int may_be_posted(const struct manta_comm *self)
{
    return atomic_load_explicit(&is_posted, memory_order_relaxed) &&
           atomic_load_explicit(&registered, memory_order_relaxed) > (self != NULL);
}

/* Move on the other communicators with posted calls that no thread is in. 1 if anything happened;
 * *posted_out: there are such communicators, or may be. */
static int help_others(const struct manta_comm *self, int *posted_out)
{
    int moved = 0;
    *posted_out = 0;
    if (!may_be_posted(self))
        return 0;
    if (pthread_mutex_trylock(&registry_lock)) {
        *posted_out = 1; /* whoever holds it may be gone before they are done: look again soon */
        return 0;
    }
    for (struct manta_comm *other = find_posted(self) ? registry : NULL; other;
         other = other->registry_next) {
        uint32_t none = MT_OWNER_NONE;
        if (other == self || atomic_load_explicit(&other->posted, memory_order_relaxed) == 0)
            continue;
        if (!atomic_compare_exchange_strong_explicit(&other->owner, &none, MT_OWNER_HELPER,
                                                     memory_order_acquire, memory_order_relaxed))
            continue;
        *posted_out = 1;
        moved |= mt_engine_progress(other) > 0;
        atomic_store_explicit(&other->owner, MT_OWNER_NONE, memory_order_release);
    }
    pthread_mutex_unlock(&registry_lock);
    return moved;
}

static int is_anything_posted(void)
{
    pthread_mutex_lock(&registry_lock);
    int found = find_posted(NULL);
    pthread_mutex_unlock(&registry_lock);
    return found;
}

struct errand {
    void (*run)(void *arg);
    void *arg;
    _Atomic int done;
};

static void *run_errand(void *arg)
{
    struct errand *errand = arg;
    errand->run(errand->arg);
    atomic_store_explicit(&errand->done, 1, memory_order_release);
    return NULL;
}

static int start_errand(struct errand *errand, pthread_t *thread_out)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(thread_out, NULL, run_errand, errand);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

void mt_wait_beside(struct manta_comm *self, void (*run)(void *arg), void *arg)
{
    struct errand errand = {.run = run, .arg = arg};
    pthread_t thread;
    int others;
    if (!is_anything_posted() || start_errand(&errand, &thread)) {
        run(arg);
        return;
    }
    while (!atomic_load_explicit(&errand.done, memory_order_acquire)) {
        int moved = self ? mt_engine_progress(self) : 0;
        if (!help_others(self, &others) && moved <= 0)
            (void)poll(NULL, 0, ERRAND_MS);
    }
    pthread_join(thread, NULL);
}

void mt_wait_fail(struct manta_comm *comm)
{
    struct mt_error error;
    mt_control_failure(comm->control, &error);
    int code = error.code;
    for (uint32_t i = 0; i < comm->endpoint_count; i++) {
        if (comm->endpoints[i].transport->abort(comm->endpoints[i].handle, error.code))
            code = MANTA_EBUFFER;
    }
    if (atomic_exchange(&comm->failed, error.code) == 0) {
        mt_comm_set_error(comm, &error);
        mt_log(MT_LOG_ERROR, (int)comm->rank, "%s", error.sentence);
        mt_trace_failure(comm);
    }
    while (comm->active)
        mt_call_complete(comm->active, code, 0);
}

int mt_wait_transport_error(struct manta_comm *comm, uint32_t endpoint_index, int code,
                            uint32_t peer, const struct manta_request *request)
{
    struct manta_transport_error detail = {.size = sizeof(detail), .peer = MANTA_PLAN_NONE};
    struct mt_call last;
    if (mt_control_failed(comm->control))
        return code;
    /* A helper does not wait for a verdict: the communicator's own thread meets the error again. */
    if (atomic_load_explicit(&comm->owner, memory_order_relaxed) == MT_OWNER_HELPER)
        return code;
    if (peer >= comm->ranks) /* also what a transport says in error */
        peer = MANTA_PLAN_NONE;
    if (endpoint_index == MT_ROUTE_NONE)
        endpoint_index = peer == MANTA_PLAN_NONE ? comm->fused_endpoint : comm->route[peer];
    if (endpoint_index >= comm->endpoint_count)
        endpoint_index = 0;
    const struct mt_endpoint *endpoint = &comm->endpoints[endpoint_index];
    endpoint->transport->error(endpoint->handle, &detail);
    if (peer == MANTA_PLAN_NONE && detail.peer < comm->ranks)
        peer = detail.peer;
    if (code == MANTA_EMISMATCH && peer != MANTA_PLAN_NONE &&
        (request || mt_record_find(comm->record, comm->sequence, &last))) {
        mt_control_mismatch(comm->control, request ? &request->call : &last, peer);
        return code;
    }

    struct mt_error cause;
    /* What this rank lacks is not its peer's fault, and nobody knows it better. */
    int is_own = code == MANTA_ESYSTEM || code == MANTA_ENOMEM;
    const char *sentence = detail.sentence[0] ? detail.sentence : manta_strerror(code);
    if (is_own)
        mt_error_set_rank(&cause, code, (int)comm->rank, "rank %u: %s: %s", comm->rank,
                          endpoint->transport->name, sentence);
    else
        mt_error_set_rank(&cause, code, peer == MANTA_PLAN_NONE ? -1 : (int)peer, "%s: %s",
                          endpoint->transport->name, sentence);
    cause.system_errno = detail.system_errno;
    strncpy(cause.transport, endpoint->transport->name, sizeof(cause.transport) - 1);
    if (is_own)
        mt_control_fail(comm->control, &cause);
    else
        mt_control_suspect(comm->control, &cause);
    return code;
}

static void check_deadlines(struct manta_comm *comm, uint64_t now_ns)
{
    for (const struct manta_request *request = comm->active; request; request = request->next) {
        if (now_ns > request->deadline_ns) {
            mt_control_timeout(comm->control, &request->call);
            return;
        }
    }
}

/* The first call that cannot end because a rank has left, and that rank. Sends and receives may
 * still get what it sent, so they are given a moment in which nothing moves. */
static const struct manta_request *find_forsaken(const struct manta_comm *comm, uint64_t quiet_ns,
                                                 uint32_t *rank_out)
{
    for (const struct manta_request *request = comm->active; request; request = request->next) {
        const struct mt_call *call = &request->call;
        int pair = mt_call_is_pair(call);
        for (uint32_t r = 0; r < comm->ranks; r++) {
            uint64_t last;
            if (!mt_control_left(comm->control, r, &last))
                continue;
            if (pair ? r != call->root || quiet_ns < PAIR_GRACE_NS : last >= call->sequence)
                continue;
            *rank_out = r;
            return request;
        }
    }
    return NULL;
}

static void check_departures(struct manta_comm *comm, uint64_t now_ns)
{
    uint32_t departures = mt_control_departures(comm->control), rank = 0;
    if (departures == 0)
        return;
    if (departures != comm->departures)
        comm->departed_ns = now_ns;
    comm->departures = departures;
    /* What was sent before the goodbye may come after a long silence, and since the last look; the
     * moment begins again with each that leaves. */
    uint64_t from_ns =
        comm->quiet_since_ns > comm->departed_ns ? comm->quiet_since_ns : comm->departed_ns;
    uint64_t quiet_ns = comm->quiet_since_ns == 0 ? 0 : now_ns - from_ns;
    const struct manta_request *request = find_forsaken(comm, quiet_ns, &rank);
    if (request == NULL)
        return;
    int moved = 0;
    for (uint32_t i = 0; i < comm->sweep; i++)
        moved |= mt_engine_progress(comm) > 0;
    if (moved)
        comm->quiet_since_ns = 0;
    else
        mt_control_departed(comm->control, &request->call, rank);
}

/* How long to sleep where nothing wakes. */
static uint64_t doze_ms(uint64_t idle_ns)
{
    uint64_t ms = idle_ns / OTHERS_SHARE / MT_MS;
    if (ms < SLEEP_MS_OTHERS)
        return SLEEP_MS_OTHERS;
    return ms < SLEEP_MS_OTHERS_MAX ? ms : SLEEP_MS_OTHERS_MAX;
}

/* Sleep until something may have happened, at most until_ns. */
static void sleep_until(struct manta_comm *comm, uint64_t idle_ns, uint64_t now_ns,
                        uint64_t until_ns, int others)
{
    struct epoll_event event;
    uint32_t armed = 0;
    int work = 0;
    uint64_t limit_ms = others ? doze_ms(idle_ns) : SLEEP_MS_MAX;
    for (const struct manta_request *request = comm->active; request; request = request->next) {
        if (request->deadline_ns < until_ns)
            until_ns = request->deadline_ns;
    }
    if (until_ns > now_ns && (until_ns - now_ns) / MT_MS < limit_ms)
        limit_ms = (until_ns - now_ns) / MT_MS + 1;

    for (; armed < comm->endpoint_count && !work; armed++) {
        const struct mt_endpoint *endpoint = &comm->endpoints[armed];
        work = endpoint->transport->arm ? endpoint->transport->arm(endpoint->handle) : 0;
        if (!endpoint->transport->wait_fd || endpoint->transport->wait_fd(endpoint->handle) < 0)
            limit_ms = limit_ms < doze_ms(idle_ns) ? limit_ms : doze_ms(idle_ns);
    }
    if (!work)
        (void)epoll_wait(comm->sleep_fd, &event, 1, (int)limit_ms);
    for (uint32_t i = 0; i < armed; i++) {
        if (comm->endpoints[i].transport->disarm)
            comm->endpoints[i].transport->disarm(comm->endpoints[i].handle);
    }
}

/* Nothing happened: pass the time. */
static void idle(struct manta_comm *comm, uint64_t idle_ns, uint64_t now_ns, uint64_t until_ns,
                 int others)
{
    if (idle_ns < comm->spin_ns)
        return;
    if (idle_ns < comm->settings.yield_ns)
        sched_yield();
    else
        sleep_until(comm, idle_ns, now_ns, until_ns, others);
}

/* Spinning pays while the awaited comes within it. When it does not, somebody else wants this core
 * (or the peer is far behind), and the next wait gives way sooner. */
static void adapt_spin(struct manta_comm *comm, uint64_t longest_idle_ns)
{
    uint64_t limit_ns = comm->settings.oversubscribed ? 0 : comm->settings.spin_ns;
    if (longest_idle_ns >= comm->spin_ns && comm->spin_ns > SPIN_NS_MIN)
        comm->spin_ns /= 2;
    else if (longest_idle_ns < comm->spin_ns && comm->spin_ns < limit_ns)
        comm->spin_ns = comm->spin_ns * 2 < limit_ns ? comm->spin_ns * 2 : limit_ns;
}

static void pause_core(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* A direct call has one transport to look at; that takes a fraction of a look at everything. */
static int look_directly(struct manta_request *request, uint64_t now_ns)
{
    mt_engine_look(request, request->comm->looks);
    if (request->done_segments == 0)
        return MANTA_INPROGRESS;
    mt_call_complete(request, 0, now_ns);
    return 0;
}

void mt_wait_outside(const struct manta_request *request)
{
    const struct manta_comm *comm = request->comm;
    if (mt_fork_happened(comm->fork_generation)) /* the word is not in a child's memory */
        return;
    /* Pairs with nothing: who has taken the communicator looks again. */
    for (uint32_t i = 0; i < comm->looks; i++)
        if (atomic_load_explicit((const _Atomic uint64_t *)(const void *)request->awaited,
                                 memory_order_relaxed) == request->awaited_value)
            return;
}

int mt_wait(struct manta_request *request, uint64_t timeout_ns)
{
    struct manta_comm *comm = request->comm;
    uint64_t idle_since_ns = 0, longest_idle_ns = 0;
    uint64_t begun_ns = timeout_ns ? mt_quick_now_ns(&comm->clock) : 0;
    uint64_t until_ns = timeout_ns < UINT64_MAX - begun_ns ? begun_ns + timeout_ns : UINT64_MAX;
    uint32_t looks_between = LOOKS_PER_CLOCK;
    int has_moved = 0; /* since the last look at the clock */

    /* Who gives the core away gets it back late: look at all peers before. */
    int is_fused = mt_request_is_fused(request);
    if (comm->settings.oversubscribed)
        looks_between = is_fused ? 1 : comm->sweep;
    if (is_fused && request->posted && timeout_ns > 0 && request->result == MANTA_INPROGRESS &&
        look_directly(request, begun_ns) == 0)
        return 0;
    for (uint32_t looks = 1; request->result == MANTA_INPROGRESS; looks++) {
        int moved = mt_engine_progress(comm);
        if (mt_control_failed(comm->control) && request->result == MANTA_INPROGRESS)
            mt_wait_fail(comm);
        if (request->result != MANTA_INPROGRESS)
            break;
        if (moved > 0) {
            idle_since_ns = 0;
            has_moved = 1;
        }
        if (looks % looks_between && timeout_ns > 0) {
            pause_core();
            continue;
        }
        int others = 0;
        uint64_t now_ns = mt_clock_now_ns();
        int helped = idle_since_ns != 0 && help_others(comm, &others);
        check_deadlines(comm, now_ns);
        if (has_moved)
            comm->quiet_since_ns = 0;
        else if (comm->quiet_since_ns == 0)
            comm->quiet_since_ns = now_ns;
        has_moved = 0;
        check_departures(comm, now_ns);
        if (now_ns >= until_ns)
            return MANTA_INPROGRESS;
        if (idle_since_ns == 0)
            idle_since_ns = now_ns;
        if (now_ns - idle_since_ns > longest_idle_ns)
            longest_idle_ns = now_ns - idle_since_ns;
        if (now_ns - idle_since_ns >= STUCK_NS)
            mt_wait_warn(request, now_ns);
        if (!helped && now_ns > idle_since_ns)
            idle(comm, now_ns - idle_since_ns, now_ns, until_ns, others);
    }
    adapt_spin(comm, longest_idle_ns);
    return request->result;
}
