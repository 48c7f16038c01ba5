/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared-memory transport, for ranks of one node. Files, in reading order:
 *   segment    the memory that a rank gives its peers to read
 *   doorbell   how a sleeping rank is woken
 *   share      with whom memory can be shared
 *   connect    how descriptors get to a peer, and when a peer counts as connected
 *   lend       memory that peers read in place
 *   pass       descriptors over a stream
 *   team       publications among the members of fused steps: flags, credits, staging ring
 *   distance   how far the members of a team are from each other
 *   combine    the canonical order of reductions;  copy  staging copies
 *   fused      declared steps -> operations of a team;  line, stream and two_phase  the kernels
 *   in_place   which of them publish in memory that is lent
 *   group      the same in two levels, on nodes with several L3 caches
 *   channel    frames from one rank to another;  wire  the message protocol on top of them
 *   shm        the table of ops
 */
#ifndef MT_TRANSPORT_SHM_SHM_H
#define MT_TRANSPORT_SHM_SHM_H

#include <stdatomic.h>
#include <stdint.h>

#include <manta/transport.h>

#include "core/counter.h"
#include "core/error.h"
#include "core/group.h"
#include "transport/message.h"
#include "transport/shm/distance.h"
#include "transport/shm/segment.h"

#define MT_SHM_NOT_LOCAL UINT32_C(0xffffffff)
enum { MT_SHM_EAGER_MAX = 8192 };

enum mt_shm_peer_state {
    MT_SHM_IDLE = 0,
    MT_SHM_DIALLING,
    MT_SHM_EXCHANGING, /* a stream stands; descriptors, then acknowledgements cross */
    MT_SHM_CONNECTED,
    MT_SHM_LOST
};

struct mt_dial;
struct mt_shm_lending;
struct mt_shm_mapping;

/* A rank that may share memory with this one. */
struct mt_shm_peer {
    uint32_t rank;
    uint32_t state;   /* enum mt_shm_peer_state */
    uint32_t offered; /* it has this transport open */
    int out_of_reach; /* errno with which its unix socket could not be reached, or 0 */

    /* Once connected: its segment, read-only, and its doorbell. */
    const uint8_t *base;
    int doorbell;
    int borrowed; /* base and doorbell belong to another endpoint of this process */

    int stream; /* once connected, records of lend.h go over it; -1 when it has ended */
    struct mt_shm_lending *lending; /* NULL: nothing was lent yet */
    uint64_t records_received;

    /* While connecting. */
    struct mt_dial *dial;
    uint32_t hello_sent, hello_bytes, ready_sent, ready_received;
    uint8_t hello[64];
    int passed[2];        /* descriptors received: segment, doorbell */
    int is_cut;           /* the kernel had none to give for some of them */
    _Atomic int accepted; /* stream that the service thread took, or -1 */
    int failure;          /* code, when LOST */

    struct mt_shm_channel *channel; /* see channel.h */
};

struct mt_shm_team;

struct mt_shm_endpoint {
    const struct manta_transport_host *host;
    const struct mt_group *group;
    uint32_t rank, ranks, epoch;
    uint32_t local, local_ranks; /* index among the ranks that may share memory; their number */
    uint64_t timeout_ns;
    int (*call_state)(void *host_arg, const struct manta_transport_id *id); /* of the host */
    void *host_arg;

    struct mt_shm_identity identity;
    uint8_t *base;
    int segment_fd;
    uint32_t *local_of;        /* [ranks], or MT_SHM_NOT_LOCAL */
    struct mt_shm_peer *peers; /* [local_ranks]; the own entry is unused */
    uint8_t *offers;           /* [local_ranks] as long as there are; see share.c */
    int is_partial;            /* some pair of local ranks does not share memory */
    struct mt_shm_channel *channels;

    int doorbell, timer, wait_fd;
    int bounded_sleep; /* no membarrier: sleep in steps of 1 ms */
    int asleep;
    int listening;
    uint32_t connecting;       /* peers that are neither idle, connected nor lost */
    _Atomic uint32_t arrivals; /* streams accepted and not yet looked at */

    uint32_t group_ranks; /* of a group, see group.h; 1: there are none */
    int groups_asked;     /* by MANTA_SHM_GROUPS */
    struct mt_shm_ruler ruler;
    uint64_t past_caches_bytes; /* longer results go past the caches */
    uint64_t cached_bytes;      /* what a core holds for itself */
    struct mt_shm_team *teams[MT_SHM_TEAMS];
    uint32_t team_slots;           /* slots from 0 on that may have a team */
    struct mt_shm_team *team_last; /* of the last fused step */
    uint8_t *scratch;              /* for mt_shm_combine() */

    struct mt_shm_mapping *retired; /* to be unmapped when no operation is under way */
    uint64_t memory_changes;        /* of mt_memory_changes, as the peers know them */

    struct mt_messages *messages;
    uint32_t poll_next; /* the peer whose channel is looked at next */

    int aborted; /* code, or 0 */
    _Atomic uint64_t fused_sent, fused_sent_bytes, fused_received, fused_received_bytes;
    _Atomic uint64_t copied_bytes, registrations;

    /* Tests delay every flag here; NULL otherwise. */
    void (*hook)(void *arg);
    void *hook_arg;
};

static inline void mt_shm_hook(struct mt_shm_endpoint *endpoint)
{
    if (__builtin_expect(endpoint->hook != NULL, 0))
        endpoint->hook(endpoint->hook_arg);
}

static inline uint64_t mt_shm_eager_bytes(const struct mt_shm_endpoint *endpoint)
{
    uint64_t most = endpoint->identity.geometry.slice_bytes / 4;
    return most < MT_SHM_EAGER_MAX ? most : MT_SHM_EAGER_MAX;
}

static inline struct mt_shm_peer *mt_shm_peer_of(struct mt_shm_endpoint *endpoint, uint32_t rank)
{
    if (rank >= endpoint->ranks || rank == endpoint->rank)
        return NULL;
    uint32_t local = endpoint->local_of[rank];
    return local == MT_SHM_NOT_LOCAL ? NULL : &endpoint->peers[local];
}

/* Keep the error for the error op; returns code. */
int mt_shm_fail(struct mt_shm_endpoint *endpoint, int code, uint32_t peer, int system_errno,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

/* doorbell.c */
int mt_shm_doorbell_open(struct mt_shm_endpoint *endpoint);
void mt_shm_doorbell_close(struct mt_shm_endpoint *endpoint);
void mt_shm_ring_bell(const struct mt_shm_peer *peer);
/* Wake a peer if it sleeps. Call it after the store that it may wait for. */
static inline void mt_shm_ring(struct mt_shm_endpoint *endpoint, const struct mt_shm_peer *peer)
{
    mt_shm_hook(endpoint);
    /* Keeps the compiler from moving the load before the caller's store; mt_shm_arm() pairs. */
    atomic_signal_fence(memory_order_seq_cst);
    const struct mt_shm_header *header = mt_shm_header_of(peer->base);
    if (__builtin_expect(atomic_load_explicit(&header->sleeping, memory_order_relaxed) != 0, 0))
        mt_shm_ring_bell(peer);
}
/* [service] Wake the endpoint itself. */
void mt_shm_ring_self(struct mt_shm_endpoint *endpoint);
int mt_shm_arm(void *endpoint);
void mt_shm_disarm(void *endpoint);
int mt_shm_wait_fd(void *endpoint);

/* share.c */
/* As far as is known without trying. Divides the ranks into groups of those that may. */
int mt_shm_may_share(const struct mt_group *group, uint32_t a, uint32_t b);
/* Try whom this rank reaches (all, if it is not listening). 0; MANTA_ENOMEM; MANTA_ESYSTEM with
 * errno; MANTA_ENOTSUP when there are too many. */
int mt_shm_share_open(struct mt_shm_endpoint *endpoint, int is_listening);
/* The ops address and peers. */
int mt_shm_share_offer(void *endpoint, void *blob, size_t blob_bytes, size_t *bytes_out);
int mt_shm_share_peers(void *endpoint, const void *const *addresses, const size_t *address_bytes);
/* 1 if these two, by their index among the local ranks, share memory. All ranks say the same. */
int mt_shm_shares(const struct mt_shm_endpoint *endpoint, uint32_t local, uint32_t other);
/* 0 if this rank shares memory with that one, else MANTA_ENOTSUP with the reason. */
int mt_shm_share_check(struct mt_shm_endpoint *endpoint, uint32_t rank);

/* connect.c */
int mt_shm_listen(struct mt_shm_endpoint *endpoint);
void mt_shm_disconnect(struct mt_shm_endpoint *endpoint);
/* The connect op, for a peer of this node. */
int mt_shm_connect(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer,
                   uint64_t deadline_ns);
/* Move connections on; 1 if anything happened. */
int mt_shm_connect_progress(struct mt_shm_endpoint *endpoint);
/* Connect two endpoints of one process to each other without a stream. */
int mt_shm_wire_up(struct mt_shm_endpoint *a, struct mt_shm_endpoint *b);

/* fused.c */
int mt_shm_fused_query(void *endpoint, const struct manta_plan_fused *fused);
int mt_shm_fused_post(void *endpoint, struct manta_transport_fused_call *call,
                      struct manta_transport_request *request);
int mt_shm_fused_memory(void *endpoint, const struct manta_transport_fused_call *call, char *text,
                        size_t text_bytes);
void mt_shm_fused_look(void *endpoint, struct manta_transport_fused_call *call,
                       struct manta_transport_request *request, uint32_t looks);
const uint64_t *mt_shm_fused_awaits(void *endpoint, const struct manta_transport_fused_call *call,
                                    const struct manta_transport_request *request,
                                    uint64_t *value_out);
int mt_shm_fused_progress(struct mt_shm_endpoint *endpoint);
void mt_shm_fused_abort(struct mt_shm_endpoint *endpoint, int code);
void mt_shm_fused_close(struct mt_shm_endpoint *endpoint);

/* shm.c */
/* The open op; without `listen` the endpoint is connected by mt_shm_wire_up() only. */
int mt_shm_open(const struct manta_transport_open *params, int listen, void **endpoint_out,
                struct manta_transport_error *error);
/* The progress op, looking at every channel (the op itself looks at a few in turn). */
int mt_shm_progress_all(struct mt_shm_endpoint *endpoint);

/* These bytes are written soon, and others have read them: take their lines back from the others'
 * caches now, while nobody waits for that. */
static inline void mt_shm_claim(const uint8_t *start, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += MT_SHM_LINE) {
#if defined(__x86_64__)
        __asm__ volatile("prefetchw %0" : : "m"(start[at])); /* the built-in one may only read */
#else
        __builtin_prefetch(start + at, 1, 3);
#endif
    }
}

#endif
