/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmanta: collective communication between processes and threads, on one node and on many.
 *
 * Every function that returns int returns 0 when it is done, MANTA_INPROGRESS (1) where that is
 * said, or a negative MANTA_E* code. After an error manta_comm_error() tells which rank, transport
 * and cause. A communicator that failed stays failed until it is destroyed, and all its ranks are
 * told.
 *
 * A refusal (MANTA_EINVAL, MANTA_EBUSY, MANTA_EALGORITHM) harms nothing, and the call counts as not
 * made: the others are not told, and the call that this rank makes next takes its place. So make it
 * again as it should have been, or abort. MANTA_EALGORITHM is given on all ranks alike. After any
 * other, a rank that goes on with its next call is one call behind the others: MANTA_EMISMATCH when
 * that call is another one than theirs, else the deadline of their last call, which it never makes.
 *
 * Threads: a communicator is used by one thread at a time (MANTA_EBUSY otherwise), and its ranks
 * call the same collectives in the same order. Different communicators may be used by any threads
 * in any interleaving. Functions that any thread may call at any time say so.
 *
 * Buffers: when a call has returned, with success or with an error, the library neither reads nor
 * writes the caller's buffers any more. Completion says "my buffers are mine again", not "the
 * other ranks are done".
 */
#ifndef MANTA_MANTA_H
#define MANTA_MANTA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MANTA_API __attribute__((visibility("default")))
#else
#define MANTA_API
#endif

#define MANTA_VERSION_MAJOR 0
#define MANTA_VERSION_MINOR 1
#define MANTA_VERSION_PATCH 0
#define MANTA_VERSION                                                                              \
    (MANTA_VERSION_MAJOR * 10000 + MANTA_VERSION_MINOR * 100 + MANTA_VERSION_PATCH)

/* Error codes: errors.def holds name, value and sentence of each. */
enum manta_error {
    MANTA_SUCCESS = 0,
    MANTA_INPROGRESS = 1,
#define MANTA_ERROR(name, value, sentence) MANTA_##name = (value),
#include <manta/errors.def>
#undef MANTA_ERROR
};

/*
 * Element types. FLOAT8_E4M3 (the "fn" form: no infinity, NaN is 0x7f) and FLOAT8_E5M2 are the OCP
 * 8-bit formats; results that are too large saturate to the largest finite value.
 */
enum manta_dtype {
    MANTA_INT8 = 0,
    MANTA_UINT8 = 1,
    MANTA_INT16 = 2,
    MANTA_UINT16 = 3,
    MANTA_INT32 = 4,
    MANTA_UINT32 = 5,
    MANTA_INT64 = 6,
    MANTA_UINT64 = 7,
    MANTA_FLOAT16 = 8,
    MANTA_BFLOAT16 = 9,
    MANTA_FLOAT32 = 10,
    MANTA_FLOAT64 = 11,
    MANTA_FLOAT8_E4M3 = 12,
    MANTA_FLOAT8_E5M2 = 13,
    MANTA_DTYPE_COUNT = 14
};

/*
 * Reduction operations. Every rank gets the same bits. Each pairwise step is rounded to the dtype;
 * NaN results are the canonical quiet NaN; MIN and MAX propagate NaN and order -0 below +0; AVG is
 * SUM and then one division by the size (integers truncate towards zero); integer sums and products
 * wrap around. BAND, BOR and BXOR take integer dtypes only.
 */
enum manta_op {
    MANTA_SUM = 0,
    MANTA_PROD = 1,
    MANTA_MIN = 2,
    MANTA_MAX = 3,
    MANTA_AVG = 4,
    MANTA_BAND = 5,
    MANTA_BOR = 6,
    MANTA_BXOR = 7,
    MANTA_OP_COUNT = 8
};

/* The collectives, for manta_explain(), statistics and plans. */
enum manta_collective {
    MANTA_ALLREDUCE = 0,
    MANTA_BROADCAST = 1,
    MANTA_REDUCE = 2,
    MANTA_ALLGATHER = 3,
    MANTA_REDUCE_SCATTER = 4,
    MANTA_BARRIER = 5,
    MANTA_SEND = 6,
    MANTA_RECV = 7,
    MANTA_COLLECTIVE_COUNT = 8
};

struct manta_comm;    /* a communicator */
struct manta_request; /* a posted call */

/* How a rank joins a communicator. Initialise with MANTA_CONFIG_INIT. */
struct manta_config {
    size_t size;         /* sizeof(struct manta_config), filled by MANTA_CONFIG_INIT */
    int rank;            /* this rank, 0 .. ranks - 1; -1: ask the scheduler */
    int ranks;           /* number of ranks; -1: ask the scheduler */
    const char *session; /* from manta_session_create() on rank 0; NULL: ask the scheduler */
    uint64_t timeout_ns; /* deadline of each call; 0: MANTA_TIMEOUT (default 600 s) */
    const char
        *transports;  /* comma-separated list in order of preference; NULL: MANTA_TRANSPORTS */
    const char *node; /* name of the node this rank is on; NULL: MANTA_NODE, else the boot id */
    const volatile int *cancel; /* creation is given up when this is not 0: stored atomically by
                                 * another thread, or by a signal handler; NULL: never */
};
/* clang-format off */
#define MANTA_CONFIG_INIT { sizeof(struct manta_config), -1, -1, NULL, 0, NULL, NULL, NULL }
/* clang-format on */

/* What a communicator has done so far. Set `size` before the call; see manta_comm_stats(). */
struct manta_stats {
    size_t size;                            /* sizeof(struct manta_stats), filled by the caller */
    uint64_t calls[MANTA_COLLECTIVE_COUNT]; /* completed calls of each collective */
    uint64_t bytes[MANTA_COLLECTIVE_COUNT]; /* payload of these calls: count * size of the dtype */
    uint64_t sent_bytes;                    /* payload handed to transports */
    uint64_t received_bytes;                /* payload taken from transports */
    uint64_t copied_bytes;                  /* bytes copied on this rank: staging, packing, self */
    uint64_t registrations;                 /* pieces of memory made known to a peer or a NIC */
    uint64_t plans_compiled;                /* plans compiled; constant once shapes repeat */
};

/* The detail of a communicator's last error. Set `size` before the call; see manta_comm_error(). */
struct manta_error_info {
    size_t size;        /* sizeof(struct manta_error_info), filled by the caller */
    int code;           /* MANTA_E*, or 0 */
    int rank;           /* the rank at fault, or -1 when no single rank is */
    int system_errno;   /* errno of the cause, or 0 */
    char transport[16]; /* name of the transport, or "" */
    char sentence[512]; /* what happened and what to do, as one sentence */
};

/* For manta_mem_register(). */
enum manta_mem_flag {
    MANTA_MEM_REMAP = 1 /* move private memory into shared memory, at the same address */
};

/* What is known of a piece of memory. Set `size` before the call; see manta_mem_query(). */
struct manta_mem_info {
    size_t size;      /* sizeof(struct manta_mem_info), filled by the caller */
    void *start;      /* of the registered or allocated memory; NULL: it is neither */
    uint64_t bytes;   /* its length; 0: it is neither */
    int in_place;     /* 1: ranks of this node can read it in place; 0: it is copied for them */
    char reason[160]; /* why it can or cannot, in words */
};

/*
 * The version of the library that is loaded, as major * 10000 + minor * 100 + patch.
 * Returns: the version, always positive.
 * Thread: any, at any time. Blocks: never. Since: 0.1.
 */
MANTA_API int manta_version(void);

/*
 * The sentence of an error code; for any other number a sentence that says so.
 * code: what a function of this library returned.
 * Returns: a string constant, never NULL.
 * Thread: any, at any time. Blocks: never. Since: 0.1.
 */
MANTA_API const char *manta_strerror(int code);

/*
 * Size of one element in bytes.
 * dtype: enum manta_dtype.
 * Returns: 1, 2, 4 or 8; 0 for an unknown dtype.
 * Thread: any, at any time. Blocks: never. Since: 0.1.
 */
MANTA_API size_t manta_dtype_size(int dtype);

/*
 * Make a session: open a listening socket in this process and draw a secret. The rank 0 of the
 * communicator must be created in this process; the string is given to the others by any means.
 * Who knows the string may join, so treat it as a password.
 * text: receives the session as a NUL-terminated string; not NULL.
 * text_bytes: room at text; 512 suffices.
 * Returns: 0, MANTA_EINVAL (text too small), MANTA_ESYSTEM, MANTA_ENOMEM.
 * Thread: any, at any time. Blocks: never. Since: 0.1.
 */
MANTA_API int manta_session_create(char *text, size_t text_bytes);

/*
 * Join a communicator. All ranks must call it; it returns when all have joined.
 * config: how to join; NULL, or fields left at MANTA_CONFIG_INIT, ask the environment that
 *   mantarun (or the user) prepared: MANTA_RANK, MANTA_SIZE, MANTA_SESSION. config->cancel lets
 *   another thread or a signal handler end the wait: until all ranks have come, who gives up is to
 *   the others as though it had not come yet, and may come again with the same session; when they
 *   have, the communicator fails on all of them. A flag set too late does nothing.
 * comm_out: receives the communicator; not NULL; set to NULL on error.
 * Returns: 0, MANTA_EINVAL, MANTA_ENOMEM, MANTA_ETIMEOUT (names the ranks that did not come),
 *   MANTA_EAUTH, MANTA_EVERSION, MANTA_ETRANSPORT, MANTA_ESCHEDULER, MANTA_ESYSTEM, MANTA_EPEER or
 *   MANTA_ELEFT (a rank died, or left at once, while this one was still at it), MANTA_EABORTED
 *   (config->cancel, of this rank or of the one that the detail names). The detail is logged at
 *   level error (info when this rank's own config->cancel is the reason), and
 *   manta_comm_error(NULL, ...) returns the calling thread's last one.
 * Thread: any. Blocks: until all ranks have joined, at most the timeout; less than a second once
 *   config->cancel is set. Since: 0.1.
 */
MANTA_API int manta_comm_create(const struct manta_config *config, struct manta_comm **comm_out);

/*
 * Divide a communicator: ranks of equal colour form a new one, ordered by key, then by old rank.
 * All ranks of comm call it. A split that fails on one rank (dead, late, out of memory) fails comm
 * on all. The new communicators are independent of comm, but for manta_comm_abort(comm), which
 * aborts them too, also those that the aborting rank is not in.
 * comm: not NULL. colour: >= 0, or -1 to be in none (comm_out receives NULL). key: any.
 * comm_out: receives the new communicator; not NULL.
 * Returns: 0, MANTA_EINVAL, MANTA_EBUSY, MANTA_EFORK and all of manta_comm_create().
 * Thread: one at a time per communicator. Blocks: until all ranks came, at most the timeout.
 * Since: 0.1.
 */
MANTA_API int manta_comm_split(struct manta_comm *comm, int colour, int key,
                               struct manta_comm **comm_out);

/*
 * Leave and free a communicator. Not collective: it says goodbye to the other ranks, hands over
 * what is still on its way and returns. A rank that then calls a collective which needs this rank
 * gets MANTA_ELEFT. Posted requests for which all has arrived are done first. If any are not, the
 * communicator fails on all ranks with MANTA_ELEFT, naming this rank; those split from it go on
 * where they are whole on all ranks.
 * comm: NULL does nothing. Its requests, tested or not, are freed with it: forget their handles.
 *   Their buffers are the caller's again when it returns, not before.
 * Returns: 0; MANTA_EBUSY (another thread is in a call; nothing is freed).
 * Thread: one at a time per communicator; nobody may use comm afterwards.
 * Blocks: at most about two seconds. Since: 0.1.
 */
MANTA_API int manta_comm_destroy(struct manta_comm *comm);

/*
 * Give up: all calls of all ranks on this communicator and those split from it return
 * MANTA_EABORTED within a second. The communicator must still be destroyed.
 * comm: not NULL. reason: a sentence for the other ranks' errors; NULL: none.
 * Returns: 0, MANTA_EINVAL, MANTA_EFORK.
 * Thread: any, at any time before destroy, also while another thread is in a call.
 * Blocks: never. Since: 0.1.
 */
MANTA_API int manta_comm_abort(struct manta_comm *comm, const char *reason);

/*
 * This process's rank in the communicator.
 * comm: not NULL. Returns: 0 .. size - 1; MANTA_EINVAL for NULL.
 * Thread: any, at any time. Blocks: never. Since: 0.1.
 */
MANTA_API int manta_comm_rank(const struct manta_comm *comm);

/*
 * The number of ranks in the communicator.
 * comm: not NULL. Returns: >= 1; MANTA_EINVAL for NULL.
 * Thread: any, at any time. Blocks: never. Since: 0.1.
 */
MANTA_API int manta_comm_size(const struct manta_comm *comm);

/*
 * Read the counters of this rank.
 * comm: not NULL. stats: not NULL, its `size` set; fields beyond that size are left alone.
 * Returns: 0, MANTA_EINVAL.
 * Thread: any, at any time; counters of a running call may be half-way. Blocks: never. Since: 0.1.
 */
MANTA_API int manta_comm_stats(const struct manta_comm *comm, struct manta_stats *stats);

/*
 * Read the detail of the communicator's last error.
 * comm: NULL for the last error of this thread that had no communicator (manta_comm_create).
 * info: not NULL, its `size` set.
 * Returns: 0 (info->code is 0 when there was no error), MANTA_EINVAL.
 * Thread: any, at any time. Blocks: never. Since: 0.1.
 */
MANTA_API int manta_comm_error(const struct manta_comm *comm, struct manta_error_info *info);

/*
 * Write the flight recorder (the last 1,024 calls of this rank, with sequence numbers, times,
 * algorithms and states) as JSON.
 * comm: not NULL. path: file to create or replace; NULL: manta-<rank>-<pid>-<number>.json in
 *   MANTA_TRACE_DIR or the current folder, where number counts the process's communicators from 1.
 * Returns: 0, MANTA_EINVAL, MANTA_ESYSTEM.
 * Thread: any, at any time. Blocks: for the file's I/O. Since: 0.1.
 */
MANTA_API int manta_comm_dump(const struct manta_comm *comm, const char *path);

/*
 * Allocate symmetric memory: ranks of this node read it in place, where other buffers are copied
 * for them. They do so in fused collectives (see manta_explain()) of more than 64 KiB that go in
 * one group; elsewhere, in a send for instance, it is as good as any other memory. It serves every
 * communicator of the process, is zeroed, in memory at once, and aligned to a page (2 MiB when it
 * is that long). A forked child sees the same memory, not a copy, and must not use it for calls. A
 * call that fails may leave others reading its buffers for a moment: they drop what they read.
 * comm: only where an error's detail goes, see manta_comm_error(); NULL: to the calling thread.
 * bytes: at least 1. ptr_out: receives the memory; not NULL; set to NULL on error.
 * Returns: 0, MANTA_EINVAL, MANTA_ENOMEM (the host has not that much available), MANTA_ESYSTEM (no
 *   descriptor to be had, or no memfd).
 * Thread: any, at any time. Blocks: while the kernel clears the memory.
 * Lifetime: until manta_mem_free(), also beyond the communicator. Since: 0.1.
 */
MANTA_API int manta_mem_alloc(struct manta_comm *comm, uint64_t bytes, void **ptr_out);

/*
 * Free memory of manta_mem_alloc(). The kernel has it back at once; peers forget it after a few of
 * this rank's next calls.
 * ptr: what manta_mem_alloc() gave, in no call that is under way; NULL does nothing.
 * Returns: 0; MANTA_EINVAL (not such memory, or allocated before a fork()).
 * Thread: any, at any time. Blocks: never. Since: 0.1.
 */
MANTA_API int manta_mem_free(void *ptr);

/*
 * Tell the library of memory that calls will use again and again. Not collective, and never needed:
 * calls take any memory. Memory of manta_mem_alloc() is registered already. A mapping of a memfd
 * (MAP_SHARED, with a descriptor of it still open) is then read in place by the ranks of this node,
 * and its file is sealed against shrinking. Other memory is still copied for ranks of this node, as
 * manta_mem_query() says; network cards are shown it when it is used, registered or not.
 * MANTA_MEM_REMAP moves private memory into shared memory at the same address, so that it, too,
 * is read in place: all pages that the range touches are copied and mapped anew. Until it returns,
 * no other thread may write to these pages: not to what else malloc() has put there either, which
 * may belong to the library's own thread, so pass whole pages. They must not be locked or
 * registered elsewhere (RDMA, CUDA), and a child that is forked before they are unregistered shares
 * them. The stack, files, huge pages, memory that is shared already, and ranges with holes are
 * refused.
 * addr: not NULL. bytes: at least 1. flags: 0 or MANTA_MEM_REMAP.
 * Returns: 0, MANTA_EINVAL (overlaps what is registered; refused for MANTA_MEM_REMAP; the detail
 *   says why), MANTA_ENOMEM, MANTA_ESYSTEM. The detail is the calling thread's, see
 *   manta_comm_error(NULL, ...).
 * Thread: any, at any time. Blocks: never, but for the copy. Lifetime: unregister it before it is
 *   unmapped or freed. Since: 0.1.
 */
MANTA_API int manta_mem_register(void *addr, uint64_t bytes, int flags);

/*
 * Forget what manta_mem_register() was told. Contents stay as they are; what MANTA_MEM_REMAP has
 * moved becomes private memory again, during which no other thread may write to these pages. Peers
 * forget it after a few of this rank's next calls; until then a memfd keeps its memory.
 * addr: what was registered, in no call that is under way; memory of manta_mem_alloc() stays
 *   registered.
 * Returns: 0; MANTA_EINVAL (not registered, or only before a fork()); MANTA_ENOMEM, MANTA_ESYSTEM
 *   (it could not be moved back, and stays registered).
 * Thread: any, at any time. Blocks: never, but for the copy. Since: 0.1.
 */
MANTA_API int manta_mem_unregister(void *addr);

/*
 * Tell whether ranks of this node can read a piece of memory in place, and why or why not.
 * addr: any address. info: not NULL, its `size` set; fields beyond that size are left alone.
 * Returns: 0, MANTA_EINVAL.
 * Thread: any, at any time. Blocks: never. Since: 0.1.
 */
MANTA_API int manta_mem_query(const void *addr, struct manta_mem_info *info);

/*
 * Tell in words how a call would run: algorithm, predicted time, and the runners-up, or that it
 * would be refused because the override in force, or every algorithm, cannot run it; then, for each
 * transport and interface, how many ranks are reached by it, at which address and why; then whether
 * symmetric memory (see manta_mem_alloc()) would be read in place, or copied like any other.
 * comm: not NULL. collective: enum manta_collective. count, dtype, op, root: as in the call; those
 *   the collective does not take are ignored.
 * text: receives a NUL-terminated text, cut to text_bytes; not NULL.
 * Returns: 0; MANTA_EINVAL (also where the call itself would refuse its arguments), MANTA_EBUSY,
 *   MANTA_EFORK, MANTA_ENOMEM.
 * Thread: one at a time per communicator. Blocks: never. Since: 0.1.
 */
MANTA_API int manta_explain(struct manta_comm *comm, int collective, uint64_t count, int dtype,
                            int op, int root, char *text, size_t text_bytes);

/*
 * Combine the ranks' vectors element by element; every rank gets the result.
 * comm: not NULL. src: count elements; NULL only when count is 0. dst: count elements; dst == src
 *   is in place; any other overlap is refused. count: elements, 0 is legal. dtype, op: the enums.
 * Returns: 0, MANTA_EINVAL, MANTA_EBUSY, MANTA_EFORK, MANTA_ETIMEOUT, MANTA_EPEER,
 *   MANTA_EMISMATCH, MANTA_EABORTED, MANTA_ELEFT, MANTA_ETRANSPORT, MANTA_EALGORITHM,
 *   MANTA_EBUFFER, MANTA_ENOMEM (first use of a shape, on this rank or on the one that the detail
 *   names; the communicator has failed), MANTA_ESYSTEM (a rank ran out of descriptors).
 * Thread: one at a time per communicator. Blocks: until done, at most the deadline.
 * Lifetime: src and dst until the call returns. Since: 0.1.
 * Source: Thakur, Rabenseifner, Gropp, "Optimization of collective communication operations in
 *   MPICH", 2005; Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", 2009.
 */
MANTA_API int manta_allreduce(struct manta_comm *comm, const void *src, void *dst, uint64_t count,
                              int dtype, int op);

/*
 * Copy root's vector to every rank.
 * comm: not NULL. buf: count elements, read at root, written elsewhere; NULL only when count is 0.
 * count: elements, 0 is legal. dtype: enum manta_dtype. root: 0 .. size - 1.
 * Returns: as manta_allreduce().
 * Thread: one at a time per communicator. Blocks: until buf is this rank's again (root may return
 *   before the others have the data, or have called it: that they named another root, or made
 *   another call, it learns in a later one), at most the deadline. Lifetime: buf until the call
 *   returns. Since: 0.1. Source: Johnsson and Ho, "Optimum broadcasting in hypercubes", 1989
 *   (binomial tree); van de Geijn et al. for the pipelined chain.
 */
MANTA_API int manta_broadcast(struct manta_comm *comm, void *buf, uint64_t count, int dtype,
                              int root);

/*
 * Combine the ranks' vectors element by element; root gets the result.
 * comm: not NULL. src: count elements. dst: count elements at root, dst == src is in place; ignored
 *   elsewhere and may be NULL there. count, dtype, op: as manta_allreduce(). root: 0 .. size - 1.
 * Returns: as manta_allreduce().
 * Thread: one at a time per communicator. Blocks: until this rank's part is done, at most the
 *   deadline. Lifetime: src and dst until the call returns. Since: 0.1. Source: Thakur et al. 2005.
 */
MANTA_API int manta_reduce(struct manta_comm *comm, const void *src, void *dst, uint64_t count,
                           int dtype, int op, int root);

/*
 * Concatenate the ranks' vectors, in rank order, on every rank.
 * comm: not NULL. src: count elements. dst: size * count elements; src == dst + rank * count is in
 *   place; any other overlap is refused. count: elements per rank, 0 is legal. dtype: enum
 *   manta_dtype.
 * Returns: as manta_allreduce().
 * Thread: one at a time per communicator. Blocks: until done, at most the deadline.
 * Lifetime: src and dst until the call returns. Since: 0.1. Source: Thakur et al. 2005 (ring).
 */
MANTA_API int manta_allgather(struct manta_comm *comm, const void *src, void *dst, uint64_t count,
                              int dtype);

/*
 * Combine the ranks' vectors of size * count elements; rank r gets elements r * count ...
 * (r + 1) * count of the result.
 * comm: not NULL. src: size * count elements. dst: count elements; dst == src + rank * count is in
 *   place; any other overlap is refused. count: elements per rank, 0 is legal. dtype, op: as in
 *   manta_allreduce(). In place, only dst's part of src is overwritten.
 * Returns: as manta_allreduce().
 * Thread: one at a time per communicator. Blocks: until done, at most the deadline.
 * Lifetime: src and dst until the call returns. Since: 0.1. Source: Thakur et al. 2005.
 */
MANTA_API int manta_reduce_scatter(struct manta_comm *comm, const void *src, void *dst,
                                   uint64_t count, int dtype, int op);

/*
 * Return when every rank has called it.
 * comm: not NULL.
 * Returns: as manta_allreduce().
 * Thread: one at a time per communicator. Blocks: until all have called, at most the deadline.
 * Since: 0.1. Source: Hensgen, Finkel, Manber, "Two algorithms for barrier synchronization", 1988.
 */
MANTA_API int manta_barrier(struct manta_comm *comm);

/*
 * Send a vector to one rank, which must call manta_recv() with the same count and dtype. Sends to
 * one peer are matched in order. send and recv are ordered among themselves per peer and not
 * against collectives.
 * comm: not NULL. buf: count elements, read. count: 0 is legal. peer: another rank.
 * Returns: as manta_allreduce().
 * Thread: one at a time per communicator. Blocks: until buf may be reused, at most the deadline;
 *   large messages wait for the receiver. Lifetime: buf until the call returns. Since: 0.1.
 */
MANTA_API int manta_send(struct manta_comm *comm, const void *buf, uint64_t count, int dtype,
                         int peer);

/*
 * Receive a vector from one rank, which must call manta_send() with the same count and dtype.
 * comm: not NULL. buf: count elements, written. count: 0 is legal. peer: another rank.
 * Returns: as manta_allreduce().
 * Thread: one at a time per communicator. Blocks: until the data is there, at most the deadline.
 * Lifetime: buf until the call returns. Since: 0.1.
 */
MANTA_API int manta_recv(struct manta_comm *comm, void *buf, uint64_t count, int dtype, int peer);

/*
 * Posted forms: start the call and return at once; finish with manta_test() or manta_wait().
 * Posted calls of one communicator run in the order of posting as far as their sequence goes; many
 * may be under way.
 * comm, src, dst, count, dtype, op, root: those of the blocking form.
 * request_out: receives the request; not NULL; set to NULL on error. A zero-size call gives a
 *   request like any other.
 * Returns: 0, MANTA_EINVAL, MANTA_EBUSY, MANTA_EFORK, MANTA_ENOMEM, MANTA_EALGORITHM, or the error
 *   the communicator already has.
 * Thread: one at a time per communicator. Blocks: never, but where a failure comes to light, until
 * it is known whose it is: at most about two seconds.
 * Lifetime: the buffers until manta_test() or manta_wait() returned something else than
 *   MANTA_INPROGRESS. Since: 0.1.
 */
MANTA_API int manta_allreduce_post(struct manta_comm *comm, const void *src, void *dst,
                                   uint64_t count, int dtype, int op,
                                   struct manta_request **request_out);
/* Posted manta_broadcast(); Returns, Thread, Blocks, Lifetime, Since: as manta_allreduce_post(). */
MANTA_API int manta_broadcast_post(struct manta_comm *comm, void *buf, uint64_t count, int dtype,
                                   int root, struct manta_request **request_out);
/* Posted manta_reduce(); Returns, Thread, Blocks, Lifetime, Since: as manta_allreduce_post(). */
MANTA_API int manta_reduce_post(struct manta_comm *comm, const void *src, void *dst, uint64_t count,
                                int dtype, int op, int root, struct manta_request **request_out);
/* Posted manta_allgather(); Returns, Thread, Blocks, Lifetime, Since: as manta_allreduce_post(). */
MANTA_API int manta_allgather_post(struct manta_comm *comm, const void *src, void *dst,
                                   uint64_t count, int dtype, struct manta_request **request_out);
/* Posted manta_reduce_scatter(); Returns, Thread, Blocks, Lifetime, Since: as
 * manta_allreduce_post(). */
MANTA_API int manta_reduce_scatter_post(struct manta_comm *comm, const void *src, void *dst,
                                        uint64_t count, int dtype, int op,
                                        struct manta_request **request_out);
/* Posted manta_barrier(); Returns, Thread, Blocks, Lifetime, Since: as manta_allreduce_post(). */
MANTA_API int manta_barrier_post(struct manta_comm *comm, struct manta_request **request_out);
/* Posted manta_send(); Returns, Thread, Blocks, Lifetime, Since: as manta_allreduce_post(). */
MANTA_API int manta_send_post(struct manta_comm *comm, const void *buf, uint64_t count, int dtype,
                              int peer, struct manta_request **request_out);
/* Posted manta_recv(); Returns, Thread, Blocks, Lifetime, Since: as manta_allreduce_post(). */
MANTA_API int manta_recv_post(struct manta_comm *comm, void *buf, uint64_t count, int dtype,
                              int peer, struct manta_request **request_out);

/*
 * Make progress and look whether a request is done. A done request is freed: forget the handle.
 * request: not NULL.
 * Returns: 0 (done, freed); MANTA_INPROGRESS; or the call's error (freed). MANTA_EINVAL,
 * MANTA_EBUSY and MANTA_EFORK free nothing. Thread: one at a time per communicator. Blocks: as the
 * posted forms. Since: 0.1.
 */
MANTA_API int manta_test(struct manta_request *request);

/*
 * Wait for a request. Running out of timeout_ns gives MANTA_INPROGRESS and harms nothing; the
 * communicator's own deadline, counted from the post, is what fails.
 * request: not NULL. timeout_ns: how long to wait, in nanoseconds; UINT64_MAX: until done.
 * Returns: as manta_test().
 * Thread: one at a time per communicator. Blocks: at most timeout_ns or the deadline. Since: 0.1.
 */
MANTA_API int manta_wait(struct manta_request *request, uint64_t timeout_ns);

#ifdef __cplusplus
}
#endif

#endif
