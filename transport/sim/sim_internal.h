/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MT_TRANSPORT_SIM_INTERNAL_H
#define MT_TRANSPORT_SIM_INTERNAL_H

#include "transport/sim/sim.h"

enum { MT_SIM_INNERS = 3, MT_SIM_NO_ROUTE = 255, MT_SIM_CALLS = 64 };

/* An operation that the caller has posted. */
struct mt_sim_work {
    struct mt_sim_work *next;
    enum mt_sim_operation operation;
    uint32_t inner;                        /* index of the transport that carries it out */
    struct manta_transport_request *outer; /* NULL: a duplicate, nobody waits for it */
    struct manta_transport_request request;
    struct manta_transport_message message;
    struct manta_transport_buffer buffers[MANTA_PLAN_LOCATIONS];
    struct manta_transport_fused_call call;
    void *copy;      /* payload of its own: corrupted, or to be sent again */
    int posted;      /* the inner transport has it */
    int corrupt;     /* fused: flip a bit of the result */
    int duplicate;   /* send again when done */
    uint64_t due_ns; /* held back until then, */
    uint64_t looks;  /* and for so many looks */
};

struct mt_sim_inner {
    const struct manta_transport *transport;
    void *endpoint;
};

/* How many operations this rank has posted in a call; calls that are posted at the same time have
 * different places. */
struct mt_sim_count {
    uint64_t call, steps;
};

struct mt_sim {
    const struct manta_transport_host *host;
    uint32_t rank, ranks;
    struct mt_faults faults;
    uint64_t seed;
    uint32_t inner_count;
    struct mt_sim_inner inners[MT_SIM_INNERS];
    uint8_t *routes; /* [ranks] index of the inner transport */
    int epoll_fd;
    int aborted;
    struct mt_sim_work *work, **work_end; /* in order of posting */
    struct mt_sim_count counts[MT_SIM_CALLS];
    struct mt_fault *middle; /* fires after middle_looks more looks */
    uint64_t middle_looks;
    struct manta_transport_error error;
    uint64_t injected[MT_FAULT_KINDS];
    struct mt_sim_event *log; /* NULL: none is kept */
    size_t log_count, log_room;
};

/* open.c: ops of the transport. */
int mt_sim_query(const struct manta_transport_host *host, struct manta_transport_error *error);
int mt_sim_open(const struct manta_transport_open *params, void **endpoint_out,
                struct manta_transport_error *error);
void mt_sim_close(void *handle);
int mt_sim_address(void *handle, void *blob, size_t blob_bytes, size_t *bytes_out);
int mt_sim_peers(void *handle, const void *const *addresses, const size_t *address_bytes);

/* work.c: operations on their way. */
int mt_sim_send(void *handle, const struct manta_transport_message *message,
                struct manta_transport_request *request);
int mt_sim_recv(void *handle, const struct manta_transport_message *message,
                struct manta_transport_request *request);
int mt_sim_fused_post(void *handle, struct manta_transport_fused_call *call,
                      struct manta_transport_request *request);
/* Post what was held back long enough, pass on what has ended; 1 if anything happened. */
int mt_sim_look(struct mt_sim *sim);
/* 1 if something is held back. */
int mt_sim_holds(const struct mt_sim *sim);
/* Everything ends with this code; the inner transports were aborted. */
void mt_sim_drop(struct mt_sim *sim, int code);

/* hook.c: kill, stop, late. */
/* 1 if this rank is to say that its buffers are not safe. */
int mt_sim_is_unsafe(struct mt_sim *sim);
void mt_sim_hooks_before(struct mt_sim *sim, uint32_t peer, const struct manta_transport_id *id,
                         uint64_t step);
void mt_sim_hooks_look(struct mt_sim *sim);
/* The number of the operation that is about to be posted in this call, from 1. */
uint64_t mt_sim_step_next(struct mt_sim *sim, uint64_t call);
/* It was posted. */
void mt_sim_step_done(struct mt_sim *sim, uint64_t call);
/* 1 if a fault of this kind hits the operation; *fault_out: which. */
int mt_sim_hit(struct mt_sim *sim, enum mt_fault_kind kind, uint32_t peer,
               const struct manta_transport_id *id, uint64_t step,
               const struct mt_fault **fault_out);

#endif
