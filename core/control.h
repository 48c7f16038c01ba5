/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control plane of a group: links to ranks at distance 1, 2, 4, ... on the ring of ranks, kept
 * for the group's life and served by the service thread. It floods failure, abort and goodbye,
 * gathers call records to word errors, carries small all-to-all exchanges at creation, and watches
 * pidfds of ranks in this pid namespace. On links between hosts the kernel sends the heartbeats
 * (TCP keepalive each second, 10 s): a host that is silent is dead, a process that is stopped not.
 */
#ifndef MT_CORE_CONTROL_H
#define MT_CORE_CONTROL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/group.h"
#include "core/record.h"

/* The group has failed (dead, abort, timeout, mismatch). One relaxed load: for wait loops. */
int mt_control_failed(const struct mt_control *control);
/* What mt_control_failed() reads, for callers in a hurry. */
const _Atomic int *mt_control_flag(const struct mt_control *control);
/* The failure in words, with the rank at fault; code 0 if none. Any thread. */
void mt_control_failure(const struct mt_control *control, struct mt_error *error_out);
/* Readable when the group has failed: for sleepers' epoll sets. Never read from it. */
int mt_control_wake_fd(const struct mt_control *control);

/* The recorder to answer other ranks' questions from, and to watch for calls whose deadline passes
 * while no thread waits in them. Set once, before the first call; it outlives the group. */
void mt_control_set_record(struct mt_control *control, const struct mt_record *record);

/* Fail the group with this error on all ranks. The first failure wins; later ones are ignored. */
void mt_control_fail(struct mt_control *control, const struct mt_error *error);
/* manta_comm_abort: any thread, never blocks. */
void mt_control_abort(struct mt_control *control, const char *reason);

/* A transport lost its peer. Waits up to a grace period (3 s: a busy host may keep a rank from its
 * CPU) for the control plane's own verdict (who died first, or has left), else declares `peer` dead
 * with this cause. Afterwards the group has failed. */
void mt_control_suspect(struct mt_control *control, const struct mt_error *cause);
/* The deadline of `call` passed on this rank. Asks all ranks what they are doing (at most 500 ms),
 * words who is late (or stopped: does not answer) and fails the group. */
void mt_control_timeout(struct mt_control *control, const struct mt_call *call);
/* A message of `peer` did not fit `call`: asks the peer for its call of that sequence, words both,
 * and fails the group with MANTA_EMISMATCH. */
void mt_control_mismatch(struct mt_control *control, const struct mt_call *call, uint32_t peer);

enum { MT_WHOM_TEXT = 768 };
/* `call` has waited long: find out on whom, unless another rank's question has told since from_ns.
 * Never blocks; nothing else comes of it. */
void mt_control_stuck(struct mt_control *control, const struct mt_call *call, uint64_t from_ns);
/* 1 once it has been found out for this call: a sentence, which is told once. What was found out
 * about another is forgotten. One relaxed load until then. */
int mt_control_whom(struct mt_control *control, const struct mt_call *call,
                    char text[MT_WHOM_TEXT]);

/* `rank` has left before `call`, which needs it. */
void mt_control_departed(struct mt_control *control, const struct mt_call *call, uint32_t rank);

/* How many ranks have said goodbye. One relaxed load: for wait loops. */
uint32_t mt_control_departures(const struct mt_control *control);
/* 1 if this rank has said goodbye; *sequence_out (unless NULL) is that of its last collective. */
int mt_control_left(const struct mt_control *control, uint32_t rank, uint64_t *sequence_out);

struct mt_exchange {
    const struct mt_call
        *call; /* what it belongs to, for errors; NULL: the creation of the group */
    const void *mine;
    size_t mine_bytes; /* <= 64 KiB, may differ between ranks */
    uint64_t deadline_ns;
    /* Set by it, in arrays [ranks] of the caller's: what each rank gave. */
    const void **parts;
    size_t *part_bytes;
    void *storage; /* where the parts are: the caller frees it, after an error too */
};

/* Every rank gives bytes, all get all. Collective; blocking, with deadline and failure checks. */
int mt_control_allgather(struct mt_control *control, struct mt_exchange *exchange,
                         struct mt_error *error);

#endif
