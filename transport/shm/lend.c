/* SPDX-License-Identifier: Apache-2.0 */
/* Lending memory: the records, and what they lead to on both sides. */
#include "transport/shm/lend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/service.h"
#include "transport/shm/pass.h"
#include "transport/shm/team.h"

enum {
    LEND = 1,
    FORGET = 2,
    RETRY = 3, /* its sender has seen the refusal, and counts nothing as lent that came after it */
    WARN = 1,
    HOLD_LEAST = 256, /* looks until a peer that has refused is asked again, twice as many each time
                       * but for */
    HOLD_MOST = 1 << 16
};
#define REFUSED (UINT64_C(1) << 63) /* in a credit line: the peer maps nothing at present */
#define POPULATE_MAX (UINT64_C(1) << 30)

struct record {
    uint64_t kind;
    uint64_t segment;
    uint64_t file_offset, bytes; /* LEND: whole pages of the descriptor that comes with it */
};

_Static_assert(sizeof(struct record) == sizeof(((struct mt_shm_lending *)0)->bytes),
               "a record has room");

static struct mt_shm_lending *lending_of(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    if (peer->lending == NULL) {
        peer->lending = endpoint->host->alloc(sizeof(*peer->lending), 64);
        if (peer->lending != NULL) {
            memset(peer->lending, 0, sizeof(*peer->lending));
            peer->lending->passed = -1;
        }
    }
    return peer->lending;
}

static void close_stream(struct mt_shm_peer *peer)
{
    mt_fd_close(peer->stream);
    peer->stream = -1;
}

/* 1 if the peer will find it in its socket; 0: not now, or never again. */
static int send_record(struct mt_shm_peer *peer, const struct record *record, int fd)
{
    ssize_t sent = mt_shm_pass_send(peer->stream, record, sizeof(*record), &fd, fd >= 0);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR || mt_error_is_lack(errno)))
        return 0;
    if (sent != sizeof(*record)) {
        close_stream(peer);
        return 0;
    }
    peer->lending->sent++;
    /* Pairs with the acquire load in mt_shm_lend_look(). */
    atomic_store_explicit(&peer->channel->credit->lent, peer->lending->sent, memory_order_release);
    return 1;
}

static void send_segment(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer,
                         uint64_t segment)
{
    struct mt_memory_file file;
    if (mt_memory_file(segment, &file) != 0)
        return;
    const struct record record = {
        .kind = LEND, .segment = segment, .file_offset = file.file_offset, .bytes = file.bytes};
    if (send_record(peer, &record, file.fd)) {
        peer->lending->lent[mt_memory_slot(segment)] = segment;
        peer->lending->record[mt_memory_slot(segment)] = peer->lending->sent;
        mt_count(&endpoint->registrations, 1);
    }
    mt_fd_close(file.fd);
}

/* The peer lacks something, perhaps not for long: after some looks it is asked whether it does
 * still. It has mapped the first `mapped` records. */
static void hold(struct mt_shm_peer *peer, uint64_t mapped)
{
    struct mt_shm_lending *lending = peer->lending;
    const struct record record = {.kind = RETRY};
    if (lending->asked)
        return;
    if (lending->hold == 0) {
        for (uint32_t slot = 0; slot < MT_MEMORY_SLOTS; slot++)
            if (lending->record[slot] > mapped)
                lending->lent[slot] = 0;
        lending->hold_next = lending->hold_next == 0 ? HOLD_LEAST : lending->hold_next;
        lending->hold = lending->hold_next;
        lending->hold_next *= lending->hold_next < HOLD_MOST ? 2 : 1;
    }
    if (lending->hold > 1)
        lending->hold--;
    else if (peer->stream >= 0 && send_record(peer, &record, -1))
        lending->asked = 1;
}

/* Has the peer mapped the segment? If it was not sent yet, it is now. */
static int has_mapped(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer, uint64_t segment)
{
    uint32_t slot = mt_memory_slot(segment);
    if (peer->borrowed)
        return 1;
    struct mt_shm_lending *lending = lending_of(endpoint, peer);
    if (lending == NULL)
        return 0;
    if (lending->lent[slot] == segment && lending->record[slot] <= lending->mapped)
        return 1;
    /* Pairs with the release store in count_record(). */
    uint64_t mapped =
        atomic_load_explicit(&peer->channel->peer_credit->mapped, memory_order_acquire);
    if ((mapped & ~REFUSED) <= lending->sent)
        lending->mapped = mapped & ~REFUSED;
    if ((mapped & REFUSED) != 0) {
        hold(peer, lending->mapped);
        return lending->lent[slot] == segment && lending->record[slot] <= lending->mapped;
    }
    lending->hold = lending->asked = 0;
    if (lending->lent[slot] == segment)
        return lending->record[slot] <= lending->mapped;
    if (peer->stream >= 0)
        send_segment(endpoint, peer, segment);
    return 0;
}

struct mt_memory_place mt_shm_lend(struct mt_shm_endpoint *endpoint, const struct mt_shm_team *team,
                                   const void *address, uint64_t bytes)
{
    struct mt_memory_place place = mt_memory_find(address, bytes);
    int all = 1;
    if (place.segment == 0)
        return place;
    for (uint32_t i = 0; i < team->count; i++)
        if (i != team->me)
            all &= has_mapped(endpoint, team->members[i].peer, place.segment);
    return all ? place : (struct mt_memory_place){0, 0};
}

/* 1 if the peer knows all now. */
static int tell_freed(struct mt_shm_peer *peer)
{
    struct mt_shm_lending *lending = peer->lending;
    uint64_t bytes;
    for (uint32_t slot = 0; slot < MT_MEMORY_SLOTS; slot++) {
        const struct record record = {.kind = FORGET, .segment = lending->lent[slot]};
        if (record.segment == 0 || mt_memory_base(record.segment, &bytes) != NULL)
            continue;
        if (peer->stream >= 0 && !send_record(peer, &record, -1) && peer->stream >= 0)
            return 0;
        lending->lent[slot] = 0;
    }
    return 1;
}

void mt_shm_lend_tell(struct mt_shm_endpoint *endpoint)
{
    /* Pairs with the release in mt_memory_leave(). */
    uint64_t changes = atomic_load_explicit(&mt_memory_changes, memory_order_acquire);
    int all = 1;
    for (uint32_t local = 0; local < endpoint->local_ranks; local++)
        if (endpoint->peers[local].lending != NULL)
            all &= tell_freed(&endpoint->peers[local]);
    if (all)
        endpoint->memory_changes = changes;
}

/* Somebody may be reading it in this very operation. */
static void retire(struct mt_shm_endpoint *endpoint, struct mt_shm_lending *lending, uint32_t slot)
{
    struct mt_shm_mapping *mapping = lending->mappings[slot];
    lending->mappings[slot] = NULL;
    if (mapping == NULL)
        return;
    mapping->next = endpoint->retired;
    endpoint->retired = mapping;
}

void mt_shm_lend_settle(struct mt_shm_endpoint *endpoint)
{
    while (endpoint->retired != NULL) {
        struct mt_shm_mapping *mapping = endpoint->retired;
        endpoint->retired = mapping->next;
        if (mapping->bytes != 0)
            munmap((void *)(uintptr_t)mapping->base, mapping->bytes);
        endpoint->host->free(mapping);
    }
}

static const char *find_fault(const struct record *record, int fd)
{
    struct stat status;
    if (fd < 0)
        return "its descriptor did not come; raise the limit of open files (ulimit -n)";
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
        return "it is not sealed against shrinking";
    if (fstat(fd, &status) != 0)
        return "its file cannot be looked at";
    /* The last page is there as a whole. */
    uint64_t there = mt_memory_page_up((uint64_t)status.st_size);
    if (record->bytes == 0 || record->bytes % MT_SHM_PAGE != 0 ||
        record->file_offset % MT_SHM_PAGE != 0 || record->file_offset > there ||
        record->bytes > there - record->file_offset)
        return "its file is shorter than it says";
    return NULL;
}

/* 0, or in words why not. */
static const char *map_segment(struct mt_shm_endpoint *endpoint, struct mt_shm_lending *lending,
                               const struct record *record, int fd)
{
    const char *fault = find_fault(record, fd);
    if (fault != NULL)
        return fault;
    struct mt_shm_mapping *mapping = endpoint->host->alloc(sizeof(*mapping), sizeof(void *));
    const uint8_t *base =
        mapping == NULL ? NULL : mt_memory_map(fd, record->file_offset, record->bytes, 0);
    if (base == NULL) {
        endpoint->host->free(mapping);
        return "it cannot be mapped; there is no room for more mappings in this process";
    }
    madvise((void *)(uintptr_t)base, record->bytes, MADV_DONTFORK);
    mt_shm_populate(base, record->bytes < POPULATE_MAX ? record->bytes : POPULATE_MAX, 0);
    retire(endpoint, lending, mt_memory_slot(record->segment));
    *mapping =
        (struct mt_shm_mapping){.segment = record->segment, .base = base, .bytes = record->bytes};
    lending->mappings[mt_memory_slot(record->segment)] = mapping;
    return NULL;
}

static void refuse(struct mt_shm_endpoint *endpoint, const struct mt_shm_peer *peer,
                   const char *fault)
{
    char sentence[256];
    peer->lending->refuses = 1;
    if (peer->lending->refused++ > 0) /* it was said */
        return;
    snprintf(sentence, sizeof(sentence),
             "rank %u lends memory that rank %u does not read in place: %s. It is copied instead",
             peer->rank, endpoint->rank, fault);
    endpoint->host->log(WARN, "shm", sentence);
}

/* The peer may use it, and all before it, as soon as it sees the count. */
static void count_record(const struct mt_shm_peer *peer)
{
    const struct mt_shm_lending *lending = peer->lending;
    _Atomic uint64_t *mapped = &peer->channel->credit->mapped;
    uint64_t before = atomic_load_explicit(mapped, memory_order_relaxed);
    uint64_t now = lending->refuses ? before | REFUSED : lending->received;
    /* Pairs with the acquire load in has_mapped(). */
    atomic_store_explicit(mapped, now, memory_order_release);
}

static void take_record(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    struct mt_shm_lending *lending = peer->lending;
    struct record record;
    const char *fault = NULL;
    memcpy(&record, lending->bytes, sizeof(record));
    uint32_t slot = mt_memory_slot(record.segment);
    const struct mt_shm_mapping *old = lending->mappings[slot];
    if (record.kind == LEND && !lending->refuses)
        fault = map_segment(endpoint, lending, &record, lending->passed);
    else if (record.kind == RETRY)
        lending->refuses = 0;
    else if (record.kind != LEND && record.kind != FORGET)
        fault = "its record is nonsense";
    else if (old != NULL && (record.kind == LEND || old->segment == record.segment))
        retire(endpoint, lending, slot);
    mt_fd_close(lending->passed);
    lending->passed = -1;
    lending->partial = 0;
    peer->records_received = ++lending->received;
    if (fault != NULL && !lending->refuses)
        refuse(endpoint, peer, fault);
    count_record(peer);
}

/* 1 if something came. A stream that ends says nothing: a peer that dies is found out elsewhere. */
static int receive(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    struct mt_shm_lending *lending = peer->lending;
    int is_cut = 0; /* then the descriptor is missing */
    ssize_t got = mt_shm_pass_receive(peer->stream, lending->bytes + lending->partial,
                                      sizeof(lending->bytes) - lending->partial, &lending->passed,
                                      1, &is_cut);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0) {
        close_stream(peer);
        return 0;
    }
    lending->partial += (uint32_t)got;
    if (lending->partial == sizeof(lending->bytes))
        take_record(endpoint, peer);
    return 1;
}

void mt_shm_lend_receive(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    if (peer->state != MT_SHM_CONNECTED || lending_of(endpoint, peer) == NULL)
        return;
    for (int i = 0; i < 2 * MT_MEMORY_SLOTS && peer->stream >= 0; i++)
        if (!receive(endpoint, peer))
            return;
}

void mt_shm_lend_look_all(struct mt_shm_endpoint *endpoint)
{
    for (uint32_t local = 0; local < endpoint->local_ranks; local++)
        if (endpoint->peers[local].state == MT_SHM_CONNECTED)
            mt_shm_lend_look(endpoint, &endpoint->peers[local]);
}

/* A thread of this process that was wired up: its memory is here. */
static struct mt_shm_mapping *find_here(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer,
                                        uint64_t segment)
{
    struct mt_shm_lending *lending = lending_of(endpoint, peer);
    uint64_t bytes;
    const uint8_t *base = mt_memory_base(segment, &bytes);
    if (base == NULL || lending == NULL)
        return NULL;
    struct mt_shm_mapping **mapping = &lending->mappings[mt_memory_slot(segment)];
    if (*mapping == NULL)
        *mapping = endpoint->host->alloc(sizeof(**mapping), sizeof(void *));
    if (*mapping != NULL)
        **mapping = (struct mt_shm_mapping){.segment = segment, .base = base, .bytes = bytes};
    return *mapping;
}

int mt_shm_lend_find(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer,
                     const struct mt_memory_place *place, uint64_t bytes, const uint8_t **bytes_out)
{
    uint32_t slot = mt_memory_slot(place->segment);
    const struct mt_shm_mapping *mapping =
        peer->lending != NULL ? peer->lending->mappings[slot] : NULL;
    if (peer->borrowed && (mapping == NULL || mapping->segment != place->segment))
        mapping = find_here(endpoint, peer, place->segment);
    if (mapping == NULL || mapping->segment != place->segment || place->offset > mapping->bytes ||
        bytes > mapping->bytes - place->offset)
        return MANTA_ETRANSPORT;
    *bytes_out = mapping->base + place->offset;
    return 0;
}

void mt_shm_lend_close(struct mt_shm_endpoint *endpoint, struct mt_shm_peer *peer)
{
    struct mt_shm_lending *lending = peer->lending;
    if (lending == NULL)
        return;
    for (uint32_t slot = 0; slot < MT_MEMORY_SLOTS; slot++) {
        if (peer->borrowed && lending->mappings[slot] != NULL)
            lending->mappings[slot]->bytes = 0;
        retire(endpoint, lending, slot);
    }
    mt_shm_lend_settle(endpoint);
    mt_fd_close(lending->passed);
    endpoint->host->free(lending);
    peer->lending = NULL;
}

void mt_shm_withdraw(struct mt_shm_endpoint *endpoint)
{
    atomic_store_explicit(&mt_shm_header_of(endpoint->base)->withdrawn, 1, memory_order_seq_cst);
    mt_shm_write_fence();
}
