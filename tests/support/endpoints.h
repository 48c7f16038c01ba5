/* SPDX-License-Identifier: Apache-2.0 */
/* Transport tests run ranks as threads: each joins a group, opens an endpoint of one transport and
 * runs the same function. */
#ifndef TESTS_SUPPORT_ENDPOINTS_H
#define TESTS_SUPPORT_ENDPOINTS_H

#include <pthread.h>
#include <stdint.h>

#include <manta/transport.h>

#include "core/group.h"

struct endpoints_shared;

struct endpoints_rank {
    uint32_t rank, ranks;
    struct mt_group *group;
    const struct manta_transport *transport;
    void *endpoint;
    void *arg;
    struct endpoints_shared *shared;
    int closed; /* the function closed the endpoint itself */
};

/* What a rank does; 0 for success. Say why with endpoints_fail. */
typedef int endpoints_fn(struct endpoints_rank *self);

/* 0 if all ranks succeeded, else how many failed. Every rank reaches every endpoints_barrier. */
int endpoints_run(const char *transport, uint32_t ranks, endpoints_fn *fn, void *arg);

/* stderr, one line; returns 1. */
int endpoints_fail(const struct endpoints_rank *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* All ranks; only where none of them can have returned before. */
void endpoints_barrier(struct endpoints_rank *self);

/* A barrier in which ranks look after what others still wait for, at most 60 s. 0 when all are
 * there. */
int endpoints_meet(struct endpoints_rank *self);
/* The same, when each has word of all that it sent. */
int endpoints_part(struct endpoints_rank *self);

/* Progress, and sleep on wait_fd now and then, until none of the requests is under way or 60 s have
 * passed. 0 when none is. */
int endpoints_wait(struct endpoints_rank *self, struct manta_transport_request *requests,
                   uint32_t count);
/* Progress until *flag is nonzero (set by another thread), at most 60 s. */
int endpoints_until(struct endpoints_rank *self, _Atomic int *flag);

/* Dial a tcp stream of this index to a peer, with the group's key; -1: it failed. */
int endpoints_dial(struct endpoints_rank *self, uint32_t peer, uint32_t index);

/* A message of one piece. */
int endpoints_send(struct endpoints_rank *self, uint32_t peer, uint64_t call, uint32_t number,
                   const void *memory, uint64_t bytes, struct manta_transport_request *request);
int endpoints_recv(struct endpoints_rank *self, uint32_t peer, uint64_t call, uint32_t number,
                   void *memory, uint64_t bytes, struct manta_transport_request *request);

#endif
