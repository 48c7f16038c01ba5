/* SPDX-License-Identifier: Apache-2.0 */
/* The table of pieces of memory, and the copy of it that the hot path reads. */
#include "transport/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fork.h"
#include "core/service.h"
#include "transport/memory_table.h"

_Atomic uint32_t mt_memory_count;
_Atomic uint64_t mt_memory_changes;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mt_memory_piece *pieces; /* by address */
static uint32_t piece_count, piece_room;
static uint64_t serial;
static uint64_t taken[MT_MEMORY_SLOTS / 64];

/* The copy: segments by address. `version` is odd while it is being written. */
static _Atomic uint64_t version;
static struct {
    _Atomic uintptr_t start, end;
    _Atomic uint64_t segment;
} found[MT_MEMORY_SLOTS];

/* A child has the memory, but it belongs to the parent: nothing of it may be used or freed. */
static void reset_in_child(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    pieces = NULL;
    piece_count = piece_room = 0;
    memset(taken, 0, sizeof(taken));
    atomic_store(&mt_memory_count, 0);
    atomic_store(&version, 0);
}

void mt_memory_lock(void)
{
    mt_fork_on_child(reset_in_child);
    pthread_mutex_lock(&lock);
}

void mt_memory_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

/* The first piece that ends behind this address. */
static uint32_t position(uintptr_t address)
{
    uint32_t low = 0, high = piece_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (pieces[middle].start + pieces[middle].bytes <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct mt_memory_piece *mt_memory_at(uintptr_t start)
{
    uint32_t at = position(start);
    return at < piece_count && pieces[at].start == start ? &pieces[at] : NULL;
}

struct mt_memory_piece *mt_memory_overlap(uintptr_t start, uint64_t bytes)
{
    uint32_t at = position(start);
    return at < piece_count && pieces[at].start < start + bytes ? &pieces[at] : NULL;
}

/* Each store is a release, so that who reads the new value of one also sees that the version is
 * odd, or another one. Pairs with the loads of mt_memory_search(). */
static void publish(void)
{
    uint64_t now = atomic_load_explicit(&version, memory_order_relaxed);
    uint32_t count = 0;
    atomic_store_explicit(&version, now + 1, memory_order_relaxed);
    for (uint32_t i = 0; i < piece_count; i++) {
        const struct mt_memory_piece *piece = &pieces[i];
        if (piece->segment == 0)
            continue;
        atomic_store_explicit(&found[count].start, piece->start, memory_order_release);
        atomic_store_explicit(&found[count].end, piece->start + piece->bytes, memory_order_release);
        atomic_store_explicit(&found[count].segment, piece->segment, memory_order_release);
        count++;
    }
    atomic_store_explicit(&mt_memory_count, count, memory_order_release);
    atomic_store_explicit(&version, now + 2, memory_order_release);
}

struct mt_memory_place mt_memory_search(const void *address, uint64_t bytes)
{
    const struct mt_memory_place none = {0, 0};
    uintptr_t at = (uintptr_t)address;
    uint64_t before = atomic_load_explicit(&version, memory_order_acquire);
    uint32_t low = 0, high = atomic_load_explicit(&mt_memory_count, memory_order_acquire);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (atomic_load_explicit(&found[middle].end, memory_order_acquire) <= at)
            low = middle + 1;
        else
            high = middle;
    }
    if (low >= MT_MEMORY_SLOTS)
        return none;
    uintptr_t start = atomic_load_explicit(&found[low].start, memory_order_acquire);
    uintptr_t end = atomic_load_explicit(&found[low].end, memory_order_acquire);
    uint64_t segment = atomic_load_explicit(&found[low].segment, memory_order_acquire);
    uint32_t count = atomic_load_explicit(&mt_memory_count, memory_order_acquire);
    if (before % 2 != 0 || atomic_load_explicit(&version, memory_order_relaxed) != before)
        return none;
    if (low >= count || at < start || at >= end || bytes > end - at)
        return none;
    return (struct mt_memory_place){segment, at - mt_memory_page_down(start)};
}

static uint64_t new_segment(void)
{
    for (uint32_t slot = 0; slot < MT_MEMORY_SLOTS; slot++) {
        uint64_t bit = UINT64_C(1) << slot % 64;
        if (taken[slot / 64] & bit)
            continue;
        taken[slot / 64] |= bit;
        return ++serial << MT_MEMORY_SLOT_BITS | slot;
    }
    return 0;
}

static int make_room(void)
{
    if (piece_count < piece_room)
        return 0;
    uint32_t room = piece_room == 0 ? 16 : 2 * piece_room;
    struct mt_memory_piece *longer = realloc(pieces, room * sizeof(*pieces));
    if (longer == NULL)
        return MANTA_ENOMEM;
    pieces = longer;
    piece_room = room;
    return 0;
}

int mt_memory_enter(const struct mt_memory_piece *piece)
{
    uint32_t at = position(piece->start);
    if (make_room() != 0)
        return MANTA_ENOMEM;
    memmove(&pieces[at + 1], &pieces[at], (piece_count - at) * sizeof(*pieces));
    piece_count++;
    pieces[at] = *piece;
    pieces[at].segment = piece->fd >= 0 ? new_segment() : 0;
    if (piece->fd >= 0 && pieces[at].segment == 0)
        pieces[at].why = "so many pieces of memory are read in place already that there is no room "
                         "for it; free some";
    if (pieces[at].segment != 0)
        publish();
    return 0;
}

void mt_memory_leave(struct mt_memory_piece *piece)
{
    uint32_t at = (uint32_t)(piece - pieces), slot = mt_memory_slot(piece->segment);
    int was_segment = piece->segment != 0;
    if (was_segment)
        taken[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    mt_fd_close(piece->fd);
    piece_count--;
    memmove(&pieces[at], &pieces[at + 1], (piece_count - at) * sizeof(*pieces));
    if (piece_count == 0) {
        free(pieces);
        pieces = NULL;
        piece_room = 0;
    }
    if (was_segment) {
        publish();
        /* After the copy: who sees the change looks and does not find it. */
        atomic_fetch_add_explicit(&mt_memory_changes, 1, memory_order_release);
    }
}

static const struct mt_memory_piece *piece_of(uint64_t segment)
{
    for (uint32_t i = 0; i < piece_count && segment != 0; i++)
        if (pieces[i].segment == segment)
            return &pieces[i];
    return NULL;
}

static uint64_t whole_pages(const struct mt_memory_piece *piece)
{
    return mt_memory_page_up(piece->start + piece->bytes) - mt_memory_page_down(piece->start);
}

int mt_memory_file(uint64_t segment, struct mt_memory_file *file_out)
{
    int code = MANTA_EINVAL;
    mt_memory_lock();
    const struct mt_memory_piece *piece = piece_of(segment);
    if (piece != NULL) {
        file_out->fd = fcntl(piece->fd, F_DUPFD_CLOEXEC, 0);
        file_out->file_offset = piece->offset;
        file_out->bytes = whole_pages(piece);
        code = file_out->fd < 0 ? MANTA_ESYSTEM : 0;
        if (code == 0)
            mt_fd_enter(file_out->fd);
    }
    mt_memory_unlock();
    return code;
}

const uint8_t *mt_memory_base(uint64_t segment, uint64_t *bytes_out)
{
    const uint8_t *base = NULL;
    mt_memory_lock();
    const struct mt_memory_piece *piece = piece_of(segment);
    if (piece != NULL) {
        base = (const uint8_t *)mt_memory_page_down(piece->start);
        *bytes_out = whole_pages(piece);
    }
    mt_memory_unlock();
    return base;
}

void mt_memory_describe(const void *address, struct mt_memory_view *view_out)
{
    memset(view_out, 0, sizeof(*view_out));
    const char *why = "it was neither allocated with manta_mem_alloc() nor registered";
    mt_memory_lock();
    const struct mt_memory_piece *piece = mt_memory_overlap((uintptr_t)address, 1);
    if (piece != NULL) {
        view_out->start = (void *)piece->start;
        view_out->bytes = piece->bytes;
        view_out->segment = piece->segment;
        why = piece->why;
        if (piece->segment != 0)
            why = piece->kind == MT_MEMORY_ALLOCATED ? "allocated with manta_mem_alloc()"
                                                     : "registered, and it lies in a sealed memfd";
    }
    snprintf(view_out->reason, sizeof(view_out->reason), "%s", why);
    mt_memory_unlock();
}
