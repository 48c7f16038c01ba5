/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transports: the table that every transport fills, built in or loaded from a plugin. How to write
 * one, step by step: docs/transport-plugin.md.
 *
 * What is promised. This is version 1 of the ABI, a release candidate: it becomes final when the
 * CUDA transport has been compiled against it. Until then a release of libmanta may change it
 * without another number, and plugins are compiled again; afterwards whatever would break a plugin
 * gets another MANTA_TRANSPORT_ABI. Within one version
 *  - structs that begin with `size` only ever grow, at their end. Who made a struct writes its own
 *    size of it; who reads it reads nothing beyond that, and takes what is missing for 0 or NULL.
 *    Who fills a struct of another's writes nothing beyond that size and leaves `size` alone;
 *  - the structs that are passed for each message (buffer, id, message, request, fused_call) never
 *    change: they have no size to look at;
 *  - no value and no op changes its meaning. What is reserved is 0.
 * So a plugin that was compiled against an older header of this version works with a newer library,
 * and the other way round. A library refuses plugins of another version.
 *
 * Rules for all ops. A NULL op means "not supported"; docs below say which must be there. No op
 * blocks, and none takes longer than it needs to look at everything once: things that take time are
 * posted and tested. An op returns 0, MANTA_INPROGRESS, MANTA_EAGAIN (no room now; try again after
 * progress) or another negative MANTA_E*, as said with each, and after an error, error() tells the
 * sentence. The library checks what plugins return: an answer that is none of these is
 * MANTA_ETRANSPORT to it.
 *
 * Threads. An endpoint belongs to one communicator and is used by one thread at a time, not always
 * the same one; ops marked [service] may be called by other threads at any time besides. Different
 * endpoints are used at the same time, also of the same communicator: ranks may be threads of one
 * process. A plugin does not exit, install signal handlers or write to stdout or stderr; it logs by
 * host->log.
 *
 * Messages are matched by id and may arrive in any order. A receive above the eager limit is posted
 * before its data moves; data below it lands in memory bounded per peer, and a full peer makes the
 * sender wait, never allocate. A send and a receive of one id that are both posted must meet,
 * whatever else is posted and in whatever order. Ids of another epoch are dropped, or refused by
 * send. After abort() or close() no buffer handed to send, recv or fused_post is touched any more.
 *
 * Life of an endpoint: open, address, peers, then probe and connect of some peers, any number of
 * messages, drain, close. abort may come at any time after open, and then nothing but progress,
 * error, counters and close follow. close may come at any time.
 */
#ifndef MANTA_TRANSPORT_H
#define MANTA_TRANSPORT_H

#include <manta/manta.h>
#include <manta/plan.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MANTA_TRANSPORT_ABI = 1, /* release candidate */
    MANTA_TRANSPORT_ADDRESS_MAX = 1024,
    MANTA_TRANSPORT_NAME_MAX = 15,   /* characters */
    MANTA_TRANSPORT_VERSION_MAX = 31 /* characters */
};

/* Memory other than the host's may not be read or written by the CPU: a transport hands its address
 * to hardware, or refuses it with MANTA_ENOTSUP. */
enum manta_memory_kind { MANTA_MEMORY_HOST = 0, MANTA_MEMORY_CUDA = 1 };

/* For mem_register: what a card has written there is in place for the device only when the card has
 * read from there since. A transport that has cards write does that before it completes a receive;
 * the host says so of devices that need it. */
enum { MANTA_BUFFER_FLUSH = 1 };

/* A piece of local memory. */
struct manta_transport_buffer {
    void *address;
    uint64_t bytes;
    uint16_t memory;    /* enum manta_memory_kind */
    uint16_t flags;     /* MANTA_BUFFER_*, of mem_register; else 0 */
    uint32_t device;    /* which of that kind, as its own library counts them; 0 for the host's */
    void *registration; /* from mem_register of this endpoint, and of memory that holds this; NULL
                         * is legal for host memory only */
};

/* What a message is called. Both ends form the same id; a transport matches all fields but hash. */
struct manta_transport_id {
    uint64_t call;    /* sequence number of the call; bit 63: point to point, per-pair sequence */
    uint32_t epoch;   /* of the communicator */
    uint32_t segment; /* of the vector */
    uint32_t number;  /* of the message between this pair of ranks, in this direction */
    uint32_t hash;    /* of the call's arguments; a difference is MANTA_EMISMATCH */
};

/* Of a message: some of it, at either end, is in memory of a device, so nobody may copy it: it is
 * not sent before its receive is posted, and goes from memory to memory. Both ends say so, or
 * neither; a transport that cannot do it answers MANTA_ENOTSUP. */
enum { MANTA_MESSAGE_DIRECT = 1 };

/* A message to send or receive: up to MANTA_PLAN_LOCATIONS pieces. The struct and the array of
 * buffers may be reused when send or recv has returned; the memory they name until completion. */
struct manta_transport_message {
    struct manta_transport_id id;
    uint32_t peer;
    uint32_t buffer_count;
    const struct manta_transport_buffer *buffers;
    uint64_t bytes; /* sum of the pieces; 0 is legal */
    uint32_t flags; /* MANTA_MESSAGE_* */
    uint32_t reserved;
};

/* An operation under way. The caller owns it and keeps it at its place until status is not
 * MANTA_INPROGRESS; the transport writes status during send, recv, fused_post, progress or abort,
 * on the thread that is in the op, and does not touch the request after that. What the request
 * holds before is anything. */
struct manta_transport_request {
    int32_t status; /* MANTA_INPROGRESS, 0 or MANTA_E* */
    uint32_t peer;  /* at fault when status is an error; or MANTA_PLAN_NONE */
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
    uint32_t crowd;  /* ranks for each CPU of their node, rounded up; the same on all members */
    uint32_t memory; /* enum manta_memory_kind of src and dst, the same on all members */
    uint32_t flags;  /* 0 */
    uint64_t reserved[2]; /* 0 */
    uint64_t transport_private[24];
};

/* Properties of a transport between this rank and a peer, for explain. The texts end with a NUL. */
struct manta_transport_properties {
    size_t size;
    uint64_t latency_ns; /* one small message, one way */
    uint64_t bandwidth_bytes_per_s;
    uint64_t eager_bytes;       /* messages up to this size need no posted receive */
    uint64_t message_bytes_max; /* longest message, 2^40 or more: limits of what lies below are the
                                 * transport's own, which cuts messages there */
    char interface[64];         /* of this rank, e.g. "eth0 10.0.0.1", "memfd" */
    char reason[160];           /* where it leads and why so, e.g. "at 10.0.0.2, first that
                                 * answered of its 3 addresses"; may be empty */
    uint64_t memory_kinds;      /* bit of each enum manta_memory_kind that this end's messages may
                                 * be in; 0 is read as host memory alone */
};

/* Why an op failed. The sentence says what happened and what to do about it; it ends with a NUL,
 * without a newline or full stop, and needs no name of the transport, which is put before it. */
struct manta_transport_error {
    size_t size;
    int code;
    uint32_t peer;    /* at fault, or MANTA_PLAN_NONE */
    int system_errno; /* or 0 */
    char sentence[256];
};

/* What an endpoint has done so far. */
struct manta_transport_counters {
    size_t size;
    uint64_t sent_messages, sent_bytes, received_messages, received_bytes, copied_bytes;
    uint64_t registrations; /* memory registrations made: mem_register and the transport's own */
};

/* What the host gives to a transport: it lives as long as the process. Any thread may call these at
 * any time; none blocks. */
struct manta_transport_host {
    size_t size;
    uint32_t abi;
    /* level: 0 error .. 3 debug; MANTA_LOG says which are written. The strings are copied. */
    void (*log)(int level, const char *transport, const char *sentence);
    /* Memory, aligned to a power of two; NULL: there is none. Not in send, recv, fused_post or
     * progress once a peer is connected: those never allocate. */
    void *(*alloc)(size_t bytes, size_t alignment);
    void (*free)(void *memory); /* NULL is legal */
    uint64_t (*clock_ns)(void); /* monotonic: that of deadlines */
    /* The value of MANTA_<variable>, e.g. "TIMEOUT": what the environment says, or the default.
     * NULL: there is no such variable. PLUGIN_* are the plugins' own: MANTA_PLUGIN_<NAME>_<WHAT>.
     * */
    const char *(*config)(const char *variable);
    /* A forked child must not hold what its parent's peers watch: descriptors that are entered are
     * closed there. fd_close leaves the set and closes. */
    void (*fd_enter)(int fd);
    void (*fd_close)(int fd);
};

/* How an endpoint is opened. */
struct manta_transport_open {
    size_t size;
    const struct manta_transport_host *host;
    const struct manta_transport *transport; /* the table whose open this is, as it was given */
    uint32_t rank, ranks;
    uint32_t epoch;       /* of the communicator: ids of its messages carry it */
    uint32_t local_ranks; /* on this rank's node, itself included */
    uint64_t timeout_ns;  /* of the communicator's calls; the host keeps those deadlines */
    const void *group;    /* built-in transports: struct mt_group; plugins: NULL */
    /* What the host knows of the collective of a message that no receive was posted for: 0: a
     * receive may still come. 1: it is over, and this is a copy of a message that was taken: drop
     * it. MANTA_EMISMATCH: it is over, and the sender is in another call: progress answers that.
     * NULL: not known. Called within ops only. */
    int (*call_state)(void *host_arg, const struct manta_transport_id *id);
    void *host_arg;
};

/* Ops must be there unless they are said to be optional. */
struct manta_transport {
    size_t size;
    uint32_t abi;   /* MANTA_TRANSPORT_ABI */
    uint32_t flags; /* 0 */
    /* Lower-case letters, digits and '_', a letter first, at most MANTA_TRANSPORT_NAME_MAX. */
    const char *name;
    /* The transport's own version, printable, at most MANTA_TRANSPORT_VERSION_MAX characters. Ranks
     * use a plugin with each other only if its name and version are the same on both, so change it
     * whenever address blobs or what goes over the wire change. NULL: the library's own. */
    const char *version;

    /* Optional. Can it be used on this host? 0; MANTA_ENOTSUP: no, and error says why: the
     * communicator is made with the other transports of the list; MANTA_EINVAL: what the user has
     * set is wrong: it is not made. Any other error is like MANTA_ENOTSUP. Any thread. */
    int (*query)(const struct manta_transport_host *host, struct manta_transport_error *error);

    /* Make an endpoint. It must be able to accept peers from now on. 0 and *endpoint_out, which is
     * not NULL; errors as for query, and nothing is left behind. params, and what it points to but
     * host and transport, may be gone when it returns. Any thread. */
    int (*open)(const struct manta_transport_open *params, void **endpoint_out,
                struct manta_transport_error *error);
    /* This endpoint's address for its peers, exchanged over authenticated connections when the
     * communicator is created: it may hold a secret. *bytes_out: 1 to blob_bytes, which is
     * MANTA_TRANSPORT_ADDRESS_MAX or more. Called once. An error: peers cannot use it. */
    int (*address)(void *endpoint, void *blob, size_t blob_bytes, size_t *bytes_out);
    /* All ranks' addresses: addresses[r] of address_bytes[r], 0 bytes when r does not offer this
     * transport, or another version of it. Copied by the endpoint. Called once, before any probe.
     * What an address says is to be checked. An error ends the making of the communicator. */
    int (*peers)(void *endpoint, const void *const *addresses, const size_t *address_bytes);
    /* Can this peer be reached at all, as far as can be told at once? 0 and properties, or
     * MANTA_ENOTSUP with a reason by error(). The host may ask several times, at any time, and
     * takes a plugin for a pair of ranks only if both say yes. */
    int (*probe)(void *endpoint, uint32_t peer, struct manta_transport_properties *properties);
    /* Connect, so that send, recv and fused steps with this peer may follow. Posted: 0 when they
     * may, MANTA_INPROGRESS while under way (call again after progress), or an error: the peer is
     * lost. Both ranks of a pair call it, in no particular order. deadline_ns, by host->clock_ns():
     * when the host gives up; what is begun for it is over by then, with MANTA_ETIMEOUT. For a peer
     * that does not call, a transport may say MANTA_INPROGRESS even then: the host finds out why it
     * does not. */
    int (*connect)(void *endpoint, uint32_t peer, uint64_t deadline_ns);

    /* Optional, the first two together and the last two, and not called by this version of the
     * library but by manta plugin check: make memory known to the hardware, and name it to peers.
     * May take its time: it makes system calls, and is not for the path of each message.
     * buffer->registration is NULL. dmabuf_fd: the memory as a dma-buf from dmabuf_offset on; -1:
     * it is none; it may be closed afterwards. The caller keeps the memory mapped until
     * mem_deregister, which it calls when no message is in it any more. MANTA_ENOTSUP: not memory
     * of this kind. export: *bytes_out, 1 to blob_bytes, which is MANTA_TRANSPORT_ADDRESS_MAX or
     * more. import: *remote_out is good until close; the blob is to be checked. */
    int (*mem_register)(void *endpoint, const struct manta_transport_buffer *buffer, int dmabuf_fd,
                        uint64_t dmabuf_offset, void **registration_out);
    int (*mem_deregister)(void *endpoint, void *registration);
    int (*mem_export)(void *endpoint, void *registration, void *blob, size_t blob_bytes,
                      size_t *bytes_out);
    int (*mem_import)(void *endpoint, uint32_t peer, const void *blob, size_t bytes,
                      void **remote_out);

    /* Post. 0: accepted: request->status tells the rest, and may be final at once. MANTA_EAGAIN:
     * nothing happened; try again after progress. Another error: not accepted, and the caller
     * fails; MANTA_EINVAL: no such peer, too many pieces, pieces that do not sum up; MANTA_ENOTSUP:
     * memory of this kind. A send is complete when its memory is not needed any more, be the
     * message taken or not; a receive when all its bytes are in place. Errors of requests:
     * MANTA_EMISMATCH (hash or bytes of the two ends differ), MANTA_EPEER (the peer is gone),
     * MANTA_ETRANSPORT, ... */
    int (*send)(void *endpoint, const struct manta_transport_message *message,
                struct manta_transport_request *request);
    int (*recv)(void *endpoint, const struct manta_transport_message *message,
                struct manta_transport_request *request);
    /* Optional, and not called by this version of the library: write into memory that a peer has
     * exported, and complete the receive that the peer has posted for the message's id, of 0 bytes,
     * once all is in place there. */
    int (*put_signal)(void *endpoint, const struct manta_transport_message *message, void *remote,
                      uint64_t remote_offset, struct manta_transport_request *request);
    /* Optional, likewise: complete when everything that was put to the peer before is in place. */
    int (*flush)(void *endpoint, uint32_t peer, struct manta_transport_request *request);

    /* Move things on; 1 if anything happened, 0 if not, or an error that no request carries: the
     * communicator fails. */
    int (*progress)(void *endpoint);
    /* Optional, as are arm and disarm; without it ranks that wait look every few milliseconds.
     * A descriptor to sleep on (readable when progress may have work), or -1; always the same. */
    int (*wait_fd)(void *endpoint);
    /* Optional. Prepare to sleep: 0: sleep on wait_fd; 1: there is work, do not sleep. What comes
     * after arm has looked makes wait_fd readable, whether it had been readable before or not. */
    int (*arm)(void *endpoint);
    /* Optional. The sleep is over, or there was none: follows each arm, whatever it answered. */
    void (*disarm)(void *endpoint);

    /* 0 connected, MANTA_INPROGRESS connecting or not connected yet, error: lost. */
    int (*peer_status)(void *endpoint, uint32_t peer);
    /* The last error in words; code 0: there was none. */
    void (*error)(void *endpoint, struct manta_transport_error *error_out);
    /* Drop all requests under way (status becomes `code`) so that no buffer is touched any more:
     * not by this rank, nor by peers or hardware. 0, or MANTA_EBUFFER if that could not be reached
     * within a bound of its own, well under a second. Later posts are refused with `code`. This is
     * the only way to cancel anything. */
    int (*abort)(void *endpoint, int code);
    /* Optional: hand over what is complete for the caller but still on its way (1: more to do, call
     * again after progress; 0: done), so that close loses nothing. */
    int (*drain)(void *endpoint);
    /* Nothing of the endpoint is there any more when it returns: no descriptor, thread or memory;
     * but memory that hardware may still write to, for it cannot be stopped, is never given back.
     * What was under way is dropped as by abort. */
    void (*close)(void *endpoint);

    /* Optional. [service] */
    void (*counters)(void *endpoint, struct manta_transport_counters *counters_out);

    /* Optional: fused steps, fused_query and fused_post together.
     * Can the members carry out this declared step? 0, MANTA_ENOTSUP. Same answer on all members.
     */
    int (*fused_query)(void *endpoint, const struct manta_plan_fused *fused);
    /* Post it, as send does. */
    int (*fused_post)(void *endpoint, struct manta_transport_fused_call *call,
                      struct manta_transport_request *request);
    /* Optional. For a caller that can only wait: look for the other members of a posted step, at
     * most so many times, some ns each, and at nothing else. request->status tells; progress does
     * the same. */
    void (*fused_look)(void *endpoint, struct manta_transport_fused_call *call,
                       struct manta_transport_request *request, uint32_t looks);
    /* Optional. Of a posted step that only waits for others: a word that will be *value_out when
     * the first of them has come, readable until close; or NULL. It is for a thread that looks
     * while it is not in the endpoint, which can only gain time by it. */
    const uint64_t *(*fused_awaits)(void *endpoint, const struct manta_transport_fused_call *call,
                                    const struct manta_transport_request *request,
                                    uint64_t *value_out);
    /* Optional. In words, for explain: whether members of such a fused step would read each other's
     * buffers in place, ordinary memory and such as they map. The call's src and dst do not count,
     * and nothing is posted. 0 or an error. */
    int (*fused_memory)(void *endpoint, const struct manta_transport_fused_call *call, char *text,
                        size_t text_bytes);
};

/* The one symbol of a plugin: returns its table, which lives as long as the process, or NULL if
 * host->abi does not suit it. Called once, any thread, before anything else of the plugin. Compile
 * it with default visibility. */
typedef const struct manta_transport *
manta_transport_plugin_fn(const struct manta_transport_host *host);
manta_transport_plugin_fn manta_transport_plugin;

#ifdef __cplusplus
}
#endif

#endif
