/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transports: the table that every transport fills, built in or loaded.
 *
 * Rules. Every struct begins with `size`, the table also with `abi`; fields are only ever appended.
 * A NULL op means "not supported". No op blocks: things that take time are posted and tested. An op
 * returns 0, MANTA_INPROGRESS, MANTA_EAGAIN (no room now; try again after progress) or another
 * negative MANTA_E*, and then error() tells the sentence. An endpoint belongs to one communicator
 * and is used by one thread at a time; ops marked [service] may be called by the service thread at
 * any time besides.
 *
 * Messages are matched by id and may arrive in any order. A receive above the eager limit is posted
 * before its data moves; data below it lands in memory bounded per peer, and a full peer makes the
 * sender wait, never allocate. Ids of another epoch are dropped. After abort() or close() no buffer
 * handed to send, recv or fused_post is touched any more.
 */
#ifndef MANTA_TRANSPORT_H
#define MANTA_TRANSPORT_H

#include <manta/manta.h>
#include <manta/plan.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MANTA_TRANSPORT_ABI = 0, /* 0: not frozen yet */
    MANTA_TRANSPORT_ADDRESS_MAX = 1024
};

enum manta_memory_kind { MANTA_MEMORY_HOST = 0, MANTA_MEMORY_CUDA = 1 };

/* A piece of local memory. */
struct manta_transport_buffer {
    void *address;
    uint64_t bytes;
    uint32_t memory;    /* enum manta_memory_kind */
    uint32_t reserved;  /* 0 */
    void *registration; /* from mem_register, or NULL */
};

/* What a message is called. Both ends form the same id; a transport matches all fields but hash. */
struct manta_transport_id {
    uint64_t call;    /* sequence number of the call; bit 63: point to point, per-pair sequence */
    uint32_t epoch;   /* of the communicator */
    uint32_t segment; /* of the vector */
    uint32_t number;  /* of the message between this pair of ranks, in this direction */
    uint32_t hash;    /* of the call's arguments; a difference is MANTA_EMISMATCH */
};

/* A message to send or receive: up to MANTA_PLAN_LOCATIONS pieces. The struct and the array of
 * buffers may be reused when send or recv has returned; the memory they name until completion. */
struct manta_transport_message {
    struct manta_transport_id id;
    uint32_t peer;
    uint32_t buffer_count;
    const struct manta_transport_buffer *buffers;
    uint64_t bytes; /* sum of the pieces; 0 is legal */
};

/* An operation under way. The caller owns it and keeps it at its place until status is not
 * MANTA_INPROGRESS; the transport writes status during send, recv, fused_post, progress or abort.
 */
struct manta_transport_request {
    int32_t status; /* MANTA_INPROGRESS, 0 or MANTA_E* */
    uint32_t peer;  /* at fault when status is an error */
    uint64_t transport_private[32];
};

/* What a fused step works on: bases such that block b of the segment begins at
 * base + offset(b), where offset is block_offsets[b] bytes; block_offsets has blocks + 1 entries.
 * All members post the steps that they share in the same order. The struct may be reused when
 * fused_post has returned; fused, block_offsets and the memory stay until completion. In allgather
 * and reduce_scatter the members' parts are equally long, and each is contiguous.
 *
 * What does not depend on id, src and dst may be prepared once: transport_private is all 0 at the
 * first post of such a call, and what the transport leaves there is there at its next. It owns
 * nothing, for nobody tells when the call is forgotten.
 */
struct manta_transport_fused_call {
    struct manta_transport_id id;
    const struct manta_plan_fused *fused;
    const void *src;
    void *dst;
    uint64_t count;     /* elements of the whole step: sum over all its blocks */
    uint32_t dtype, op; /* AVG is given as SUM; the engine divides */
    const uint64_t *block_offsets;
    uint32_t blocks;
    uint32_t crowd; /* ranks for each CPU of their node, rounded up; the same on all members */
    uint64_t transport_private[24];
};

/* Properties of a transport between this rank and a peer, for cost model and explain. */
struct manta_transport_properties {
    size_t size;
    uint64_t latency_ns; /* one small message, one way */
    uint64_t bandwidth_bytes_per_s;
    uint64_t eager_bytes;       /* messages up to this size need no posted receive */
    uint64_t message_bytes_max; /* longest message; the engine never exceeds it */
    char interface[64];         /* of this rank, e.g. "eth0 10.0.0.1", "memfd" */
    char reason[160];           /* where it leads and why so, e.g. "at 10.0.0.2, first that
                                 * answered of its 3 addresses"; may be empty */
};

/* Why an op failed. */
struct manta_transport_error {
    size_t size;
    int code;
    uint32_t peer; /* or MANTA_PLAN_NONE */
    int system_errno;
    char sentence[256];
};

struct manta_transport_counters {
    size_t size;
    uint64_t sent_messages, sent_bytes, received_messages, received_bytes, copied_bytes;
    uint64_t registrations; /* memory registrations made: mem_register and the transport's own */
};

/* What the host gives to a transport. */
struct manta_transport_host {
    size_t size;
    uint32_t abi;
    void (*log)(int level, const char *transport, const char *sentence); /* 0 error .. 3 debug */
    void *(*alloc)(size_t bytes, size_t alignment);                      /* NULL: no memory */
    void (*free)(void *memory);
    uint64_t (*clock_ns)(void);
    const char *(*config)(const char *variable); /* value of MANTA_<variable>, or NULL */
};

/* How an endpoint is opened. */
struct manta_transport_open {
    size_t size;
    const struct manta_transport_host *host;
    uint32_t rank, ranks, epoch, local_ranks;
    uint64_t timeout_ns;
    const void *group; /* built-in transports: struct mt_group; plugins: NULL */
    /* What the host knows of the collective of a message that no receive was posted for: 0: a
     * receive may still come. 1: it is over, and this is a copy of a message that was taken: drop
     * it. MANTA_EMISMATCH: it is over, and the sender is in another call. NULL: not known. Called
     * within ops only. */
    int (*call_state)(void *host_arg, const struct manta_transport_id *id);
    void *host_arg;
};

struct manta_transport {
    size_t size;
    uint32_t abi;
    uint32_t flags; /* 0 */
    const char *name;

    /* 0 if usable on this host; else MANTA_ENOTSUP and the reason in error. Any thread. */
    int (*query)(const struct manta_transport_host *host, struct manta_transport_error *error);

    /* Make an endpoint. It must be able to accept peers from now on. */
    int (*open)(const struct manta_transport_open *params, void **endpoint_out,
                struct manta_transport_error *error);
    /* This endpoint's address for its peers, exchanged when the communicator is created. */
    int (*address)(void *endpoint, void *blob, size_t blob_bytes, size_t *bytes_out);
    /* All ranks' addresses: addresses[r] of address_bytes[r], 0 bytes when r does not offer this
     * transport. Copied by the endpoint. Called once, before any connect. */
    int (*peers)(void *endpoint, const void *const *addresses, const size_t *address_bytes);
    /* Can this peer be reached at all? 0 and properties, or MANTA_ENOTSUP with a reason by error().
     */
    int (*probe)(void *endpoint, uint32_t peer, struct manta_transport_properties *properties);
    /* Connect, so that send, recv and fused steps with this peer may follow. Posted: 0 when the
     * peer is connected, MANTA_INPROGRESS while under way (call again after progress). */
    int (*connect)(void *endpoint, uint32_t peer, uint64_t deadline_ns);

    int (*mem_register)(void *endpoint, const struct manta_transport_buffer *buffer, int dmabuf_fd,
                        uint64_t dmabuf_offset, void **registration_out);
    int (*mem_deregister)(void *endpoint, void *registration);
    int (*mem_export)(void *endpoint, void *registration, void *blob, size_t blob_bytes,
                      size_t *bytes_out);
    int (*mem_import)(void *endpoint, uint32_t peer, const void *blob, size_t bytes,
                      void **remote_out);

    /* Post. 0: accepted (it may be complete at once), MANTA_EAGAIN: nothing happened. */
    int (*send)(void *endpoint, const struct manta_transport_message *message,
                struct manta_transport_request *request);
    int (*recv)(void *endpoint, const struct manta_transport_message *message,
                struct manta_transport_request *request);
    int (*put_signal)(void *endpoint, const struct manta_transport_message *message, void *remote,
                      uint64_t remote_offset, struct manta_transport_request *request);
    int (*flush)(void *endpoint, uint32_t peer, struct manta_transport_request *request);

    /* Move things on; 1 if anything happened, 0 if not, or an error that no request carries. */
    int (*progress)(void *endpoint);
    /* A descriptor to sleep on (readable when progress may have work), or -1. */
    int (*wait_fd)(void *endpoint);
    /* Prepare to sleep: 0: sleep on wait_fd; 1: there is work, do not sleep. disarm after waking.
     */
    int (*arm)(void *endpoint);
    void (*disarm)(void *endpoint);

    /* 0 connected, MANTA_INPROGRESS connecting or not connected yet, error: lost. */
    int (*peer_status)(void *endpoint, uint32_t peer);
    /* The last error in words. */
    void (*error)(void *endpoint, struct manta_transport_error *error_out);
    /* Drop all requests under way (status becomes `code`) so that no buffer is touched any more.
     * 0, or MANTA_EBUFFER if that could not be reached within its bound. */
    int (*abort)(void *endpoint, int code);
    /* Hand over what is complete for the caller but still on its way (1: more to do, call again
     * after progress), so that close loses nothing. */
    int (*drain)(void *endpoint);
    void (*close)(void *endpoint);

    /* Can the members carry out this declared step? 0, MANTA_ENOTSUP. Same answer on all members.
     */
    int (*fused_query)(void *endpoint, const struct manta_plan_fused *fused);
    int (*fused_post)(void *endpoint, struct manta_transport_fused_call *call,
                      struct manta_transport_request *request);
    /* For a caller that can only wait: look for the other members of a posted step, at most so many
     * times, some ns each, and at nothing else. request->status tells; progress does the same. */
    void (*fused_look)(void *endpoint, struct manta_transport_fused_call *call,
                       struct manta_transport_request *request, uint32_t looks);

    void (*counters)(void *endpoint, struct manta_transport_counters *counters_out); /* [service] */

    /* In words, for explain: whether members of such a fused step would read each other's buffers
     * in place, ordinary memory and such as they map. The call's src and dst do not count, and
     * nothing is posted. 0 or an error. NULL: it is not told. */
    int (*fused_memory)(void *endpoint, const struct manta_transport_fused_call *call, char *text,
                        size_t text_bytes);
    /* Of a posted step that only waits for others: a word that will be *value_out when the first of
     * them has come, readable until close; or NULL. It is for a thread that looks while it is not
     * in the endpoint, which can only gain time by it. */
    const uint64_t *(*fused_awaits)(void *endpoint, const struct manta_transport_fused_call *call,
                                    const struct manta_transport_request *request,
                                    uint64_t *value_out);
};

/* The one symbol of a plugin: returns its table, or NULL if host->abi does not suit it. */
typedef const struct manta_transport *
manta_transport_plugin_fn(const struct manta_transport_host *host);

#ifdef __cplusplus
}
#endif

#endif
