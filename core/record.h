/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flight recorder: a rank's last 1,024 calls on one communicator. Written by the calling thread
 * without locks, read by the service thread and mt_record_dump at any time (a torn entry is
 * detected by its sequence number and skipped).
 */
#ifndef MT_CORE_RECORD_H
#define MT_CORE_RECORD_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include <manta/manta.h>

enum { MT_RECORD_CALLS = 1024 };

/* The arguments of a call, as told to other ranks in error messages. */
struct mt_call {
    uint64_t sequence; /* per communicator for collectives; per peer and direction for send, recv */
    uint64_t count;
    uint32_t collective;
    uint32_t dtype, op;
    uint32_t root;                /* or peer, or MANTA_PLAN_NONE */
    uint64_t posted_ns, ended_ns; /* CLOCK_MONOTONIC of that rank; 0: not ended; equal: within
                                   * microseconds */
    int32_t result;
    uint32_t history;      /* of all collectives up to this one: see mt_call_history() */
    const char *algorithm; /* text that outlives the recorder, or NULL */
};

/* What a call of manta_comm_split() stands as among the collectives. */
enum { MT_CALL_SPLIT = 0xf0 };

/* A send or receive: it has a sequence of its own with its peer, and is no collective. */
static inline int mt_call_is_pair(const struct mt_call *call)
{
    return call->collective == MANTA_SEND || call->collective == MANTA_RECV;
}

struct mt_record;
struct mt_record *mt_record_create(void);
void mt_record_destroy(struct mt_record *record);
/* Returns the slot to end the call with. Wait-free, one writer at a time. */
uint32_t mt_record_begin(struct mt_record *record, const struct mt_call *call);
/* When it was posted, if mt_record_begin() was told 0: not known yet. */
void mt_record_posted(struct mt_record *record, uint32_t slot, uint64_t posted_ns);
void mt_record_end(struct mt_record *record, uint32_t slot, int result, uint64_t now_ns);
/* The last call begun; the last and the first that have not ended; the collective with this
 * sequence. 1 if there is one. */
int mt_record_last(const struct mt_record *record, struct mt_call *call_out);
int mt_record_open(const struct mt_record *record, struct mt_call *call_out);
int mt_record_oldest_open(const struct mt_record *record, struct mt_call *call_out);
int mt_record_find(const struct mt_record *record, uint64_t sequence, struct mt_call *call_out);
/* The sequence of the last collective begun, however many sends have followed; 0: none. */
uint64_t mt_record_last_collective(const struct mt_record *record);
/* 1 if more calls have begun than are kept. */
int mt_record_has_forgotten(const struct mt_record *record);
/* The send to or recv from `peer` with this sequence. */
int mt_record_find_pair(const struct mt_record *record, uint32_t collective, uint32_t peer,
                        uint64_t sequence, struct mt_call *call_out);
/* "allreduce(512 float32, sum)"; "broadcast(1024 float32, root 2)"; "send(4 int32, to 3)". */
void mt_call_describe(const struct mt_call *call, char *text, size_t text_bytes);
/* Hash of what all ranks must pass alike; never 0. What the collective does not take (the op of a
 * broadcast, the root of an allreduce, the peer of a send) does not count. */
uint32_t mt_call_hash(const struct mt_call *call);
/* The history after a call with this hash: ranks whose histories differ have made different calls,
 * now or before. The upper 32 bits stand for it in messages. */
static inline uint64_t mt_call_history(uint64_t history, uint32_t call_hash)
{
    history = (history ^ call_hash) * UINT64_C(0x9e3779b97f4a7c15);
    return history ^ history >> 29;
}
/* JSON to a stream. */
int mt_record_dump(const struct mt_record *record, uint32_t rank, uint32_t ranks, FILE *stream);

#endif
