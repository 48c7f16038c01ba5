/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The communicator and what hangs on it. Files of this folder, in reading order:
 *   api.c     the public calls: check the arguments, make a struct mt_call, hand it to call.c
 *   call.c    a call's life: number it, choose its plan, start it, finish it
 *   shape.c   calls that were made before: what is the same each time, ready for use
 *   choose.c  which algorithm, remembered per size class;  feedback.c  as measured
 *   cache.c   compiled plans and what one execution of a plan needs;  scratch.c  its memory
 *   bind.c    blocks of a plan -> bytes of a buffer
 *   engine.c  executes the records of a plan
 *   wait.c    spin, yield, sleep; deadlines; failures; other communicators' progress
 *   stuck.c   says on whom a wait waits that is long
 *   comm.c    create, destroy, abort;  routes.c  which transport reaches which rank, of those that
 *             the ranks tell each other of (offer.c)
 *   paths.c   the same in words; explain.c  what a call would do, in words
 *   memory.c  memory that peers read in place, for the caller
 *   trace.c   what a communicator that failed leaves behind for its reader
 */
#ifndef MT_COLLECTIVES_COMM_H
#define MT_COLLECTIVES_COMM_H

#include <manta/manta.h>
#include <manta/plan.h>
#include <manta/transport.h>
#include <stdatomic.h>

#include "core/control.h"
#include "core/counter.h"
#include "core/error.h"
#include "core/group.h"
#include "core/notice.h"
#include "core/quick_clock.h"
#include "core/record.h"
#include "core/service.h"
#include "plan/builder.h"
#include "plan/cost.h"
#include "plan/select.h"
#include "plan/tuning.h"
#include "plan/verify.h"
#include "topology/topology.h"

enum {
    MT_ENDPOINTS = 6,     /* transports of one communicator, at most */
    MT_PLANS = 256,       /* compiled plans kept, at least: large groups keep more (cache.c) */
    MT_SIZE_CLASSES = 65, /* of mt_select_class() */
    MT_SHAPES = 128,      /* calls remembered; a power of two */
    MT_ROUTE_NONE = 0xff,
};

struct mt_endpoint {
    const struct manta_transport *transport;
    void *handle;
};

/* The caller's buffers and arguments of one call. */
struct mt_arguments {
    uint32_t collective;
    uint32_t root; /* or peer; MANTA_PLAN_NONE */
    const void *src;
    void *dst;
    uint64_t count;
    uint32_t dtype, op;
    uint64_t element_bytes; /* set by mt_arguments_check() or mt_shape_find() */
};

/* The call that these arguments make: not numbered, and of no algorithm yet. */
static inline struct mt_call mt_arguments_call(const struct mt_arguments *arguments)
{
    return (struct mt_call){.collective = arguments->collective,
                            .count = arguments->count,
                            .dtype = arguments->dtype,
                            .op = arguments->op,
                            .root = arguments->root};
}

/* What a lane has still to hand over: positions in entry->lane_steps. */
struct mt_cursor {
    uint32_t next, end;
};

/* Segment k of a call runs in slot k mod MT_PLAN_DEPTH. */
struct mt_slot {
    uint64_t segment;
    uint32_t running;    /* 1 while a segment is under way */
    uint32_t done_count; /* steps complete */
    uint32_t outstanding_count;
    uint32_t retry;          /* 1: a step may be ready that was not handed over yet */
    uint32_t lanes_left;     /* that have steps to hand over */
    struct mt_cursor *lanes; /* [lanes] in their order */
    uint32_t *outstanding;   /* [steps] indices of steps handed to a transport */
    uint8_t *done;           /* [steps] */
    uint64_t *block_start;   /* [blocks + 1] bytes from the buffers' base */
    uint64_t *block_bytes;   /* [blocks] */
    uint64_t stride_bytes;   /* of a scratch block */
    char *scratch;           /* of this segment; NULL: the plan needs none */
    uint64_t bound_count; /* what the blocks are those of: a call of one segment; 0: of another */
    uint64_t bound_element_bytes;
    struct manta_transport_request *requests; /* [steps] */
};

/* Memory for intermediate values of one call. */
struct mt_scratch {
    struct mt_scratch *next; /* free ones */
    void *memory;
    uint64_t bytes;
};

/* What one execution of a plan needs; kept with the plan and used again. */
struct mt_instance {
    struct mt_instance *next;
    struct mt_slot slots[MT_PLAN_DEPTH];
    struct mt_scratch *held; /* while a call is under way; NULL: it needs none */
    void *scratch;           /* held->memory */
};

/* A compiled plan. */
struct mt_entry {
    const struct mt_algorithm *algorithm;
    uint32_t root, in_place;
    struct manta_plan *plan;
    uint32_t *lane_first;    /* [lanes + 1] into lane_steps */
    uint32_t *lane_steps;    /* [steps] */
    uint32_t scratch_blocks; /* of all regions together */
    uint32_t *region_first;  /* [regions] first block of each */
    uint32_t users;          /* calls under way */
    uint32_t connected;      /* all peers are */
    uint32_t direct;         /* enum mt_direct: what a call of one segment is */
    uint32_t peer_count;
    uint32_t *peers; /* ranks that the plan names */
    struct mt_instance *idle;
    struct mt_entry *next;          /* in its bucket */
    struct mt_entry *newer, *older; /* by their last use */
};

/* Compiled plans by what they were compiled for. */
struct mt_cache {
    struct mt_entry **buckets; /* [bucket_count], a power of two; NULL: no plan was wanted yet */
    uint32_t bucket_count, count, capacity;
    struct mt_entry *newest, *oldest;
};

/* Plans of which one operation of a transport is all: such a call needs no slot (shape.c). */
enum mt_direct { MT_DIRECT_NOT, MT_DIRECT_MESSAGE, MT_DIRECT_FUSED };

/* A call that was made before and may be made again with other buffers: which plan, what it is
 * called, and, where it is direct, all but buffers and number. */
struct mt_shape {
    struct mt_entry *entry; /* NULL: the place is free */
    uint32_t users;         /* calls under way */
    uint64_t count, key;    /* what the arguments must be: see key_of() */
    uint64_t element_bytes;
    uint32_t in_place;
    uint32_t call_hash;
    uint32_t direct;     /* enum mt_direct */
    struct mt_call call; /* but for sequence, history and time */
    struct manta_transport_fused_call fused;
    uint64_t *offsets; /* FUSED: [blocks + 1] of the blocks; room for ranks + 1 */
};

struct manta_request {
    struct manta_comm *comm;
    struct manta_request *next; /* in comm->active, or in the pool */
    struct manta_request *made; /* in comm->requests */
    struct mt_entry *entry;     /* NULL: nothing to move */
    struct mt_shape *shape; /* direct: `transfer` is all there is to the call; or NULL: instance */
    struct mt_instance *instance;
    const char *src; /* bases: block b lies at base + block_start[b] */
    char *dst;
    uint64_t count;
    uint32_t dtype, op; /* op as the caller gave it */
    uint64_t element_bytes;
    uint64_t segment_elements, segments, next_segment, done_segments;
    uint64_t deadline_ns;
    struct manta_transport_id id;
    struct mt_call call;
    uint32_t record_slot;
    int32_t result;          /* MANTA_INPROGRESS until finished */
    uint32_t posted;         /* the caller went on: waits on other communicators may help */
    uint32_t queued;         /* it has a fused step that its transport has not been given yet */
    uint64_t token;          /* the barrier's one byte lives here */
    const uint64_t *awaited; /* set when it was posted: will be that value soon; NULL: unknown */
    uint64_t awaited_value;
    struct manta_transport_request transfer;
    struct mt_plan_turn fused_turn; /* of its fused steps, where there is more than one */
};

/* One fused step is all there is to the call. */
static inline int mt_request_is_fused(const struct manta_request *request)
{
    return request->shape && request->shape->direct == MT_DIRECT_FUSED;
}

struct mt_settings {
    uint64_t timeout_ns, warn_ns, segment_bytes, spin_ns, yield_ns, shm_max_bytes;
    int reproducible;
    int feedback;              /* measure before an algorithm is chosen for good */
    int oversubscribed;        /* more ranks than cores on this node */
    int transports_by_default; /* nobody has named any */
    char transports[512];
    char trace_dir[256];
    struct mt_select_override overrides[MANTA_COLLECTIVE_COUNT];
    struct mt_tuning tuning;
};

enum mt_owner { MT_OWNER_NONE = 0, MT_OWNER_CALLER = 1, MT_OWNER_HELPER = 2 };

struct mt_counters {
    _Atomic uint64_t calls[MANTA_COLLECTIVE_COUNT], bytes[MANTA_COLLECTIVE_COUNT];
    _Atomic uint64_t sent_bytes, received_bytes, copied_bytes, plans_compiled;
};

struct manta_comm {
    struct mt_group *group;
    struct mt_control *control;
    uint32_t rank, ranks;
    uint32_t number; /* of this process's communicators, from 1 */
    uint32_t fork_generation;
    _Atomic uint32_t owner; /* enum mt_owner */
    _Atomic int failed;     /* code once the communicator has failed */
    struct mt_settings settings;

    uint32_t endpoint_count;
    struct mt_endpoint endpoints[MT_ENDPOINTS];
    uint8_t *route;          /* [ranks] index of the endpoint that reaches a rank */
    uint32_t fused_endpoint; /* carries out fused steps over the ranks of this node; or
                              * MT_ROUTE_NONE on all ranks, where some node has none */
    int sleep_fd;            /* epoll over the endpoints' wait_fds and the control plane's */

    uint64_t sequence;                           /* of the last collective */
    uint64_t history;                            /* of all of them: mt_call_history() */
    uint64_t *sent_sequence, *received_sequence; /* [ranks] of the last send to, recv from each */
    struct manta_request *active, **active_tail; /* posted, in order */
    uint32_t queued; /* of them: members post fused steps in one order, so none may overtake */
    struct manta_request *request_pool;
    struct manta_request *requests; /* all that were ever made, chained by `made` */
    struct mt_quick_clock clock;
    uint32_t sweep;                 /* looks until each peer of the node has been seen */
    uint32_t looks;                 /* for the others, by a blocking call before it waits */
    const _Atomic int *failed_flag; /* of the control plane */
    uint64_t quiet_since_ns; /* when waits saw something move for the last time; 0: just now */
    uint64_t departed_ns;    /* when a rank was seen to have left that had not before */
    uint32_t departures;     /* and how many have */
    struct mt_notice stuck;  /* when to say on whom a wait waits, in which nothing moves */
    uint64_t stuck_quiet_ns, stuck_looked_ns; /* quiet_since_ns of it; the last look at it */
    uint64_t spin_ns; /* how long waits spin at present: adapts, at most settings.spin_ns */
    struct mt_record *record;
    struct mt_counters counters;

    struct mt_cost_model cost;
    struct mt_topology *topology; /* where all ranks sit, the same on each of them */
    uint64_t *nodes;              /* [ranks] its groups of level node */
    /* What was chosen, by size class and, where an override rules, by its range; NULL: not yet. */
    const struct mt_algorithm *chosen[MANTA_COLLECTIVE_COUNT][MT_SIZE_CLASSES];
    const struct mt_algorithm *forced[MANTA_COLLECTIVE_COUNT][MT_SELECT_RANGES];
    struct mt_feedback *feedback;                   /* NULL: nothing is tried */
    struct mt_shape shapes[MT_SHAPES], *shape_last; /* found last, or any */
    uint32_t shape_turn;                            /* where the next one goes */
    struct mt_cache cache;
    struct mt_scratch *scratch; /* free */

    struct mt_error error; /* guarded by error_lock: read by any thread */
    _Atomic uint32_t error_lock;

    struct manta_comm *registry_next, *registry_previous; /* all of this process */
    _Atomic uint32_t posted;                              /* requests under way: others may help */
};

/* comm.c: it is forked, or taken: 0 when it has become free, MANTA_EBUSY or MANTA_EFORK. */
int mt_comm_enter_late(struct manta_comm *comm);
/* Take the communicator for this thread. 0, MANTA_EBUSY or MANTA_EFORK. */
static inline int mt_comm_enter(struct manta_comm *comm)
{
    uint32_t none = MT_OWNER_NONE;
    if (__builtin_expect(
            !mt_fork_happened(comm->fork_generation) &&
                atomic_compare_exchange_strong_explicit(&comm->owner, &none, MT_OWNER_CALLER,
                                                        memory_order_acquire, memory_order_relaxed),
            1))
        return 0;
    return mt_comm_enter_late(comm);
}
static inline void mt_comm_leave(struct manta_comm *comm)
{
    atomic_store_explicit(&comm->owner, MT_OWNER_NONE, memory_order_release);
}
/* How a communicator is made. */
struct mt_creation {
    const struct mt_scheduler_job *job;
    const struct mt_settings *settings;
    const volatile int *cancel;      /* or NULL */
    const struct manta_comm *parent; /* it is split from, or NULL */
    uint64_t deadline_ns;
};
/* comm.c. Blocks. */
int mt_comm_make(const struct mt_creation *how, struct manta_comm **comm_out,
                 struct mt_error *error);
/* NULL: the last error of this thread. */
void mt_comm_set_error(struct manta_comm *comm, const struct mt_error *error);

/* settings.c: from the environment and the caller's config; the text all ranks must agree on. */
int mt_settings_read(const struct manta_config *config, struct mt_settings *settings_out,
                     struct mt_error *error);
/* The override of one collective, from the environment: names and ranges are checked. */
int mt_settings_override(int collective, struct mt_select_override *override_out,
                         struct mt_error *error);
int mt_settings_fingerprint(const struct mt_settings *settings, char *text, size_t text_bytes);

/* api.c: 0, or MANTA_EINVAL and the communicator's error: dtype, op, root or peer, count; not the
 * buffers. */
int mt_arguments_check(struct manta_comm *comm, struct mt_arguments *arguments);
/* trace.c */
/* Warn if MANTA_TRACE_DIR is no folder that can be written. */
void mt_trace_check(const struct mt_settings *settings, int rank);
/* The communicator has failed: leave its trace in MANTA_TRACE_DIR, if there is one. */
void mt_trace_failure(const struct manta_comm *comm);

/* choose.c: what the plan of this call is made for. */
struct mt_plan_request mt_choose_request(const struct manta_comm *comm,
                                         const struct mt_arguments *arguments);
/* routes.c */
int mt_routes_open(struct manta_comm *comm, uint64_t deadline_ns, struct mt_error *error);
void mt_routes_close(struct manta_comm *comm);

struct mt_transport_listed;
struct mt_rank_offer;
/* network.c: correct the costs by what carries messages between nodes. offers: of all ranks. */
void mt_network_learn(struct manta_comm *comm, const struct mt_transport_listed *listed,
                      uint32_t count, const struct mt_rank_offer *offers);

/* paths.c */
enum { MT_PATHS = 8, MT_PATH_TEXT = 512, MT_NODES_TEXT = 96 };
/* The ranks that one transport reaches by one interface, for one reason. */
struct mt_path {
    const char *transport;
    uint32_t peers, first; /* how many, and the lowest of them, which the reasons are about */
    uint32_t others;       /* ranks for which there was no room in the list */
    char interface[64], reason[160];
    const char *better; /* a transport that comes before it in the list and does not reach first */
    char why[160];      /* why it does not */
};
/* paths[MT_PATHS]; returns how many. */
uint32_t mt_paths_find(const struct manta_comm *comm, struct mt_path *paths);
/* "tcp to 2 ranks (eth0 10.0.0.1; rank 1 at 10.0.0.2, its only address; not shm: rank 1 is on
 * another node)" */
void mt_path_describe(const struct mt_path *path, char text[MT_PATH_TEXT]);
/* How many nodes, and how many ranks each of them has, in the order of their first ranks: "3x4+2";
 * cut when it is long. */
uint32_t mt_paths_nodes(const uint64_t *nodes, uint32_t ranks, char text[MT_NODES_TEXT]);
/* Two lines at level info: who we are, and how we talk. */
void mt_paths_announce(const struct manta_comm *comm);
/* A warning, once a process, by the lowest rank with others on its node, if they talk by a slower
 * transport than the list has for them. */
void mt_paths_warn(const struct manta_comm *comm);

/* choose.c */
int mt_choose(struct manta_comm *comm, const struct mt_arguments *arguments,
              const struct mt_algorithm **algorithm_out, struct mt_error *error);
/* What was chosen for this size class where no override rules; NULL: nothing yet. */
static inline const struct mt_algorithm *mt_choose_known(const struct manta_comm *comm,
                                                         uint32_t collective, uint64_t bytes)
{
    return comm->chosen[collective][mt_select_class(bytes)];
}
int mt_choose_candidates(struct manta_comm *comm, const struct mt_arguments *arguments,
                         struct mt_select_candidate *candidates, uint32_t capacity,
                         uint32_t *count_out, const char **forced_out, struct mt_error *error);

/* feedback.c */
/* If settings ask for it. 0 or MANTA_ENOMEM. */
int mt_feedback_open(struct manta_comm *comm);
void mt_feedback_close(struct manta_comm *comm);
/* The algorithm of a call whose size class has none yet: one that is tried, or what the ranks agree
 * on now, which is put into *choice. NULL: nothing is to be tried. Every rank asks in the same
 * calls. */
int mt_feedback_choose(struct manta_comm *comm, const struct mt_arguments *arguments,
                       uint64_t bytes, const struct mt_algorithm **choice,
                       const struct mt_algorithm **algorithm_out, struct mt_error *error);
/* 1 while calls of this size class must pass through mt_choose(). */
int mt_feedback_is_trying(const struct manta_comm *comm, uint32_t collective, uint64_t bytes);
/* A call with a plan of its own is over. */
void mt_feedback_measure(const struct manta_request *request, uint64_t now_ns);
/* What the ranks agreed an algorithm took; 0: they have not, or not of this one. */
uint64_t mt_feedback_ns(const struct manta_comm *comm, const struct mt_algorithm *algorithm,
                        uint64_t bytes);

/* cache.c */
int mt_cache_get(struct manta_comm *comm, const struct mt_algorithm *algorithm,
                 const struct mt_arguments *arguments, int in_place, struct mt_entry **entry_out,
                 struct mt_error *error);
/* The plan is used again, found by a shape. */
void mt_cache_touch(struct manta_comm *comm, struct mt_entry *entry);
/* scratch_bytes: of all slots that the call uses. */
int mt_cache_instance(struct manta_comm *comm, struct mt_entry *entry, uint64_t scratch_bytes,
                      struct mt_instance **instance_out);
void mt_cache_release(struct manta_comm *comm, struct mt_entry *entry,
                      struct mt_instance *instance);
void mt_cache_clear(struct manta_comm *comm);

/* scratch.c */
/* At least so many bytes, not 0, aligned to a page; NULL: no memory. */
struct mt_scratch *mt_scratch_take(struct manta_comm *comm, uint64_t bytes);
void mt_scratch_give(struct manta_comm *comm, struct mt_scratch *scratch);
void mt_scratch_clear(struct manta_comm *comm);

/* shape.c */
/* The same call was made before, or NULL. */
struct mt_shape *mt_shape_find(struct manta_comm *comm, struct mt_arguments *arguments);
/* Remember the call of this request. NULL: no place or no memory for it. */
struct mt_shape *mt_shape_make(struct manta_request *request, const struct mt_arguments *arguments);
/* The fused step of such a plan, without buffers; offsets: [blocks + 1], which it uses. */
struct manta_transport_fused_call mt_shape_fused(const struct manta_request *request,
                                                 uint64_t *offsets);
/* The plan will not be there any more; NULL: none will. */
void mt_shapes_forget(struct manta_comm *comm, const struct mt_entry *entry);
int mt_is_in_place(const struct manta_comm *comm, const struct mt_arguments *arguments);

/* bind.c */
/* Where the blocks of a segment lie: `length` elements (of a rank's part) from `first` on. */
void mt_bind_blocks(const struct manta_request *request, uint64_t first, uint64_t length,
                    uint64_t *start_out, uint64_t *bytes_out);
void mt_bind_segments(const struct manta_comm *comm, struct manta_request *request);
uint64_t mt_bind_scratch_bytes(const struct manta_request *request);
void mt_bind_slot(const struct manta_request *request, struct mt_slot *slot, uint64_t segment);
/* Address and length of a location. Several blocks are one piece of memory: the vector layout has
 * no gaps, and a plan of the RANKS layout that names several blocks at once runs as one segment. */
static inline char *mt_bind_location(const struct manta_request *request,
                                     const struct mt_slot *slot,
                                     const struct manta_plan_location *location,
                                     uint64_t *bytes_out)
{
    uint32_t last = location->first + location->count - 1;
    uint64_t start = slot->block_start[location->first];
    *bytes_out = slot->block_start[last] + slot->block_bytes[last] - start;
    if (location->buffer == MANTA_PLAN_SRC)
        return (char *)(uintptr_t)request->src + start;
    if (location->buffer == MANTA_PLAN_DST)
        return request->dst + start;
    return slot->scratch + request->entry->region_first[location->region] * slot->stride_bytes +
           (start - slot->block_start[location->origin]);
}

/* engine.c: move all calls of the communicator on. 1 if anything happened, 0 if not, or an error
 * that has already failed the communicator. */
int mt_engine_progress(struct manta_comm *comm);
/* The same without a look at the transports: hand over what is ready. */
int mt_engine_issue(struct manta_comm *comm);
/* Its fused step has been posted, or never will be: those behind it may follow. */
void mt_engine_unqueue(struct manta_request *request);
/* Post the one step of a direct call, and look for the others that often. */
void mt_engine_post(struct manta_request *request);
void mt_engine_look(struct manta_request *request, uint32_t looks);
/* It was posted by a caller that goes on: what will it wait for? */
void mt_engine_await(struct manta_request *request);

/* call.c; shape: of these arguments, or NULL */
int mt_call_post(struct manta_comm *comm, const struct mt_arguments *arguments,
                 struct mt_shape *shape, struct manta_request **request_out);
int mt_call_block(struct manta_comm *comm, const struct mt_arguments *arguments,
                  struct mt_shape *shape);
/* 0, or what each further call on a communicator that has failed returns: the failure, which is
 * then the last error again. Takes in a failure that was not known yet. */
int mt_call_failed_before(struct manta_comm *comm);
/* A split takes its place among the collectives. Returns the recorder's slot to end it with. */
uint32_t mt_call_begin_split(struct manta_comm *comm, struct mt_call *call_out);
void mt_call_end_split(struct manta_comm *comm, uint32_t record_slot, int result);
/* The call is over: take it off the communicator's list, give back its instance, record the result.
 * looked_ns: the time shortly before, or 0: not known. */
void mt_call_complete(struct manta_request *request, int result, uint64_t looked_ns);
/* Free a completed request; its result. */
int mt_call_finish(struct manta_request *request);

/* wait.c */
/* Until the request is finished (its result), or for so long (MANTA_INPROGRESS); 0: look once. */
int mt_wait(struct manta_request *request, uint64_t timeout_ns);
/* The communicator is not taken yet: a while for what is awaited. Taking it waits for all that this
 * core has stored to reach the others, which is better done while they do the same. */
void mt_wait_outside(const struct manta_request *request);
/* Fail all requests: the control plane's verdict becomes their result. */
void mt_wait_fail(struct manta_comm *comm);
/* A transport reported an error: ask the control plane whose fault it is, then fail. Returns the
 * code. */
int mt_wait_transport_error(struct manta_comm *comm, uint32_t endpoint, int code, uint32_t peer,
                            const struct manta_request *request);
/* A call was posted (1) or is over (-1): others may help while there are some. */
void mt_wait_posted(struct manta_comm *comm, int change);
/* Run something that blocks (joining, splitting) while calls posted on this communicator (held by
 * the caller; NULL: none) and on the others go on: in a thread of its own if there are any. */
void mt_wait_beside(struct manta_comm *self, void (*run)(void *arg), void *arg);
void mt_registry_add(struct manta_comm *comm);
void mt_registry_remove(struct manta_comm *comm);

/* stuck.c */
/* In a wait in which nothing moves: if that has gone on for long, find out on whom it waits, and
 * log it once it is known. */
void mt_wait_warn(struct manta_request *request, uint64_t now_ns);

#endif
