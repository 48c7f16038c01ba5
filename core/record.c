/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flight recorder: a ring of slots, a cache line each, guarded by a version (a seqlock): odd
 * while its writer fills it. Calls are kept as atomic words, so that a reader that comes at a bad
 * time reads a torn entry, sees the version change, and no rule of the language is broken. The end
 * of a call needs no new version: `ended` is written after the result, and read before it.
 */
#include "core/record.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>
#include <manta/plan.h>

#include "core/dtype.h"

enum { READ_TRIES = 8 };

struct slot {
    _Alignas(64) _Atomic uint64_t version; /* 2 * number of the call + 2, less 1 while filled */
    _Atomic uint64_t sequence, count;
    _Atomic uint64_t kind; /* collective, dtype: 8 bits each; op: 16; root: 32 */
    _Atomic uint64_t posted_ns, ended_ns;
    _Atomic uint64_t outcome; /* result; upper 32 bits: history */
    const char *_Atomic algorithm;
};
_Static_assert(sizeof(struct slot) == 64, "a slot is a cache line");

struct mt_record {
    _Atomic uint64_t begun; /* calls so far; call number i is in slot i % MT_RECORD_CALLS */
    _Atomic uint64_t last_collective; /* its sequence */
    struct slot slots[MT_RECORD_CALLS];
};

struct mt_record *mt_record_create(void)
{
    struct mt_record *record = aligned_alloc(_Alignof(struct mt_record), sizeof *record);
    if (record)
        memset(record, 0, sizeof *record);
    return record;
}

void mt_record_destroy(struct mt_record *record)
{
    free(record);
}

static void put(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
}

static uint64_t get(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

static uint64_t kind_of(const struct mt_call *call)
{
    return (call->collective & 0xff) | (call->dtype & 0xff) << 8 | (call->op & 0xffff) << 16 |
           (uint64_t)call->root << 32;
}

static uint64_t outcome_of(int32_t result, uint64_t history)
{
    return (uint32_t)result | history << 32;
}

/* The releases order each word after the odd version (pairs with the acquires in read_slot). */
static void write_slot(struct slot *slot, uint64_t version, const struct mt_call *call)
{
    atomic_store_explicit(&slot->version, version - 1, memory_order_relaxed);
    put(&slot->sequence, call->sequence);
    put(&slot->count, call->count);
    put(&slot->kind, kind_of(call));
    put(&slot->posted_ns, call->posted_ns);
    put(&slot->ended_ns, 0);
    put(&slot->outcome, outcome_of(MANTA_INPROGRESS, call->history));
    atomic_store_explicit(&slot->algorithm, call->algorithm, memory_order_release);
    put(&slot->version, version);
}

/* 1 if the slot holds call `number`, whole. */
static int read_slot(const struct mt_record *record, uint64_t number, struct mt_call *call_out)
{
    const struct slot *slot = &record->slots[number % MT_RECORD_CALLS];
    uint64_t version = 2 * number + 2;
    for (int attempt = 0; attempt < READ_TRIES; attempt++) {
        uint64_t before = get(&slot->version);
        if (before > version)
            return 0;
        uint64_t kind = get(&slot->kind);
        struct mt_call call = {.sequence = get(&slot->sequence),
                               .count = get(&slot->count),
                               .collective = kind & 0xff,
                               .dtype = kind >> 8 & 0xff,
                               .op = kind >> 16 & 0xffff,
                               .root = (uint32_t)(kind >> 32),
                               .posted_ns = get(&slot->posted_ns)};
        call.ended_ns = get(&slot->ended_ns); /* before the result: pairs with mt_record_end() */
        uint64_t outcome = get(&slot->outcome);
        call.result = (int32_t)outcome;
        call.history = (uint32_t)(outcome >> 32);
        call.algorithm = atomic_load_explicit(&slot->algorithm, memory_order_acquire);
        uint64_t after = atomic_load_explicit(&slot->version, memory_order_relaxed);
        if (before == version && after == version) {
            *call_out = call;
            return 1;
        }
    }
    return 0;
}

uint32_t mt_record_begin(struct mt_record *record, const struct mt_call *call)
{
    uint64_t number = atomic_load_explicit(&record->begun, memory_order_relaxed);
    write_slot(&record->slots[number % MT_RECORD_CALLS], 2 * number + 2, call);
    atomic_store_explicit(&record->begun, number + 1, memory_order_release);
    if (!mt_call_is_pair(call))
        atomic_store_explicit(&record->last_collective, call->sequence, memory_order_release);
    return (uint32_t)number;
}

/* The slot of this call, or NULL: 1,024 calls have begun since, and its place is taken. */
static struct slot *slot_of(struct mt_record *record, uint32_t slot_number)
{
    struct slot *slot = &record->slots[slot_number % MT_RECORD_CALLS];
    uint64_t version = atomic_load_explicit(&slot->version, memory_order_relaxed);
    return (uint32_t)(version / 2 - 1) == slot_number && version != 0 ? slot : NULL;
}

void mt_record_posted(struct mt_record *record, uint32_t slot_number, uint64_t posted_ns)
{
    struct slot *slot = slot_of(record, slot_number);
    if (slot)
        put(&slot->posted_ns, posted_ns);
}

void mt_record_end(struct mt_record *record, uint32_t slot_number, int result, uint64_t now_ns)
{
    struct slot *slot = slot_of(record, slot_number);
    if (!slot)
        return;
    put(&slot->outcome, outcome_of(result, get(&slot->outcome) >> 32));
    put(&slot->ended_ns, now_ns ? now_ns : 1);
}

/* Walk back from the newest call. */
static int find_back(const struct mt_record *record, struct mt_call *call_out,
                     int (*fits)(const struct mt_call *call, const struct mt_call *wanted),
                     const struct mt_call *wanted)
{
    uint64_t begun = atomic_load_explicit(&record->begun, memory_order_acquire);
    for (uint64_t back = 1; back <= begun && back <= MT_RECORD_CALLS; back++)
        if (read_slot(record, begun - back, call_out) && fits(call_out, wanted))
            return 1;
    return 0;
}

static int fits_any(const struct mt_call *call, const struct mt_call *wanted)
{
    (void)call;
    (void)wanted;
    return 1;
}

static int fits_open(const struct mt_call *call, const struct mt_call *wanted)
{
    (void)wanted;
    return call->ended_ns == 0;
}

static int fits_sequence(const struct mt_call *call, const struct mt_call *wanted)
{
    return !mt_call_is_pair(call) && call->sequence == wanted->sequence;
}

static int fits_pair(const struct mt_call *call, const struct mt_call *wanted)
{
    return call->collective == wanted->collective && call->root == wanted->root &&
           call->sequence == wanted->sequence;
}

int mt_record_last(const struct mt_record *record, struct mt_call *call_out)
{
    return find_back(record, call_out, fits_any, NULL);
}

int mt_record_open(const struct mt_record *record, struct mt_call *call_out)
{
    return find_back(record, call_out, fits_open, NULL);
}

int mt_record_oldest_open(const struct mt_record *record, struct mt_call *call_out)
{
    uint64_t begun = atomic_load_explicit(&record->begun, memory_order_acquire);
    uint64_t number = begun > MT_RECORD_CALLS ? begun - MT_RECORD_CALLS : 0;
    for (; number < begun; number++)
        if (read_slot(record, number, call_out) && call_out->ended_ns == 0)
            return 1;
    return 0;
}

uint64_t mt_record_last_collective(const struct mt_record *record)
{
    return atomic_load_explicit(&record->last_collective, memory_order_acquire);
}

int mt_record_has_forgotten(const struct mt_record *record)
{
    return atomic_load_explicit(&record->begun, memory_order_relaxed) > MT_RECORD_CALLS;
}

int mt_record_find(const struct mt_record *record, uint64_t sequence, struct mt_call *call_out)
{
    struct mt_call wanted = {.sequence = sequence};
    return find_back(record, call_out, fits_sequence, &wanted);
}

int mt_record_find_pair(const struct mt_record *record, uint32_t collective, uint32_t peer,
                        uint64_t sequence, struct mt_call *call_out)
{
    struct mt_call wanted = {.sequence = sequence, .collective = collective, .root = peer};
    return find_back(record, call_out, fits_pair, &wanted);
}

static int takes_op(uint32_t collective)
{
    return collective == MANTA_ALLREDUCE || collective == MANTA_REDUCE ||
           collective == MANTA_REDUCE_SCATTER;
}

static int takes_root(uint32_t collective)
{
    return collective == MANTA_BROADCAST || collective == MANTA_REDUCE;
}

static const char *name_of(const struct mt_call *call)
{
    return call->collective == MT_CALL_SPLIT ? "split" : mt_collective_name((int)call->collective);
}

void mt_call_describe(const struct mt_call *call, char *text, size_t text_bytes)
{
    char tail[48] = "";
    const char *name = name_of(call);
    if (call->collective == MANTA_BARRIER || call->collective == MT_CALL_SPLIT) {
        snprintf(text, text_bytes, "%s()", name);
        return;
    }
    if (takes_op(call->collective))
        snprintf(tail, sizeof tail, ", %s", mt_op_name((int)call->op));
    size_t used = strlen(tail);
    if (takes_root(call->collective))
        snprintf(tail + used, sizeof tail - used, ", root %d", (int)call->root);
    else if (mt_call_is_pair(call))
        snprintf(tail, sizeof tail, ", %s %d", call->collective == MANTA_SEND ? "to" : "from",
                 (int)call->root);
    snprintf(text, text_bytes, "%s(%llu %s%s)", name, (unsigned long long)call->count,
             mt_dtype_name((int)call->dtype), tail);
}

/* For one hash, each word gives another one. */
static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

/* Over what counts. A send and its recv are one thing. */
uint32_t mt_call_hash(const struct mt_call *call)
{
    uint32_t collective = call->collective == MANTA_RECV ? MANTA_SEND : call->collective;
    uint32_t op = takes_op(collective) ? call->op : 0;
    uint32_t root = takes_root(collective) ? call->root : 0;
    uint64_t hash = mix(collective, (uint64_t)root << 32 | op);
    if (collective != MANTA_BARRIER)
        hash = mix(mix(hash, call->count), call->dtype);
    return (uint32_t)hash ? (uint32_t)hash : 1;
}

static void dump_call(const struct mt_call *call, FILE *stream)
{
    char text[160], algorithm[24] = "";
    mt_call_describe(call, text, sizeof text);
    if (call->algorithm)
        strncpy(algorithm, call->algorithm, sizeof algorithm - 1);
    for (char *at = algorithm; *at; at++)
        if (*at < 0x20 || *at > 0x7e || *at == '"' || *at == '\\')
            *at = '?';
    fprintf(stream,
            "{\"sequence\": %llu, \"call\": \"%s\", \"collective\": \"%s\", \"count\": %llu, "
            "\"dtype\": \"%s\", \"algorithm\": \"%s\", \"posted_ns\": %llu, \"ended_ns\": %llu, "
            "\"state\": \"%s\", \"result\": %d}",
            (unsigned long long)call->sequence, text, name_of(call),
            (unsigned long long)call->count, mt_dtype_name((int)call->dtype), algorithm,
            (unsigned long long)call->posted_ns, (unsigned long long)call->ended_ns,
            call->ended_ns == 0 ? "running"
            : call->result == 0 ? "done"
                                : "failed",
            call->result);
}

int mt_record_dump(const struct mt_record *record, uint32_t rank, uint32_t ranks, FILE *stream)
{
    uint64_t begun = atomic_load_explicit(&record->begun, memory_order_acquire);
    uint64_t first = begun > MT_RECORD_CALLS ? begun - MT_RECORD_CALLS : 0;
    const char *comma = "";
    fprintf(stream, "{\"rank\": %u, \"ranks\": %u, \"calls_begun\": %llu, \"calls\": [", rank,
            ranks, (unsigned long long)begun);
    for (uint64_t number = first; number < begun; number++) {
        struct mt_call call;
        if (!read_slot(record, number, &call))
            continue;
        fprintf(stream, "%s\n  ", comma);
        dump_call(&call, stream);
        comma = ",";
    }
    fprintf(stream, "\n]}\n");
    return ferror(stream) ? MANTA_ESYSTEM : 0;
}
