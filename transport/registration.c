/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/registration.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "core/counter.h"
#include "transport/endpoint.h"
#include "transport/memory.h"
#include "transport/unmapped.h"

enum kind {
    KIND_NONE,
    KIND_ONCE,    /* ends with its last user */
    KIND_WATCHED, /* right until its watch says otherwise */
    KIND_SEGMENT, /* symmetric memory: right while that number is its segment's */
    KIND_ENTERED  /* by hand */
};

struct entry {
    struct mt_registration public; /* first: the caller's view */
    enum kind kind;
    uint32_t users;
    uint64_t used_at; /* turn of its last use */
    uint64_t segment;
    struct mt_watch watch;
};

struct mt_registrations {
    struct mt_registration_settings settings;
    int watches;          /* the host tells what is unmapped */
    uint32_t count, last; /* entries ever in use; the last one found */
    uint32_t entered;     /* entries of KIND_ENTERED */
    uint64_t turn, idle_bytes;
    _Atomic uint64_t made;
    struct entry entries[];
};

static void end_handle(struct mt_registrations *cache, struct entry *entry)
{
    if (entry->public.handle != NULL)
        cache->settings.end(cache->settings.arg, entry->public.handle);
    entry->public.handle = NULL;
}

static void end(struct mt_registrations *cache, struct entry *entry)
{
    if (entry->kind == KIND_WATCHED)
        mt_watch_end(&entry->watch);
    end_handle(cache, entry);
    entry->kind = KIND_NONE;
}

int mt_registrations_create(const struct mt_registration_settings *settings,
                            struct mt_registrations **out)
{
    size_t bytes = sizeof(struct mt_registrations) + settings->most * sizeof(struct entry);
    *out = NULL;
    if (settings->most == 0 || settings->most > MT_REGISTRATIONS)
        return MANTA_EINVAL;
    struct mt_registrations *cache = mt_endpoint_alloc(settings->host, bytes);
    if (cache == NULL)
        return MANTA_ENOMEM;
    cache->settings = *settings;
    cache->watches = mt_unmapped_acquire() == 0;
    *out = cache;
    return 0;
}

void mt_registrations_end_all(struct mt_registrations *cache)
{
    for (uint32_t i = 0; cache != NULL && i < cache->count; i++) {
        if (cache->entries[i].kind != KIND_NONE)
            end_handle(cache, &cache->entries[i]);
    }
}

void mt_registrations_destroy(struct mt_registrations *cache)
{
    if (cache == NULL)
        return;
    for (uint32_t i = 0; i < cache->count; i++) {
        if (cache->entries[i].kind != KIND_NONE)
            end(cache, &cache->entries[i]);
    }
    if (cache->watches)
        mt_unmapped_release();
    cache->settings.host->free(cache);
}

static int is_right(const struct entry *entry)
{
    switch (entry->kind) {
    case KIND_WATCHED:
        return !mt_watch_is_gone(&entry->watch);
    case KIND_SEGMENT: /* its number is never used again */
        return mt_memory_find((const void *)entry->public.start, entry->public.bytes).segment ==
               entry->segment;
    default:
        return entry->kind == KIND_ENTERED;
    }
}

static int covers(const struct entry *entry, uintptr_t start, uint64_t bytes)
{
    return entry->kind != KIND_NONE && entry->kind != KIND_ONCE && entry->public.start <= start &&
           start - entry->public.start <= entry->public.bytes &&
           bytes <= entry->public.bytes - (start - entry->public.start);
}

/* What is no longer right serves those who have it, and nobody else. */
static void retire(struct mt_registrations *cache, struct entry *entry)
{
    if (entry->users == 0) {
        cache->idle_bytes -= entry->public.bytes;
        end(cache, entry);
        return;
    }
    if (entry->kind == KIND_WATCHED)
        mt_watch_end(&entry->watch);
    entry->kind = KIND_ONCE;
}

/* The entry at this place, if it covers the memory and is right. */
static struct entry *look(struct mt_registrations *cache, uint32_t at, uintptr_t start,
                          uint64_t bytes)
{
    struct entry *entry = &cache->entries[at];
    if (!covers(entry, start, bytes))
        return NULL;
    if (is_right(entry))
        return entry;
    retire(cache, entry);
    return NULL;
}

/* Vectors are used segment by segment, in the same order each time: the next is often the next. Of
 * several, what was entered by hand, which knows more of the memory. */
static struct entry *find(struct mt_registrations *cache, uintptr_t start, uint64_t bytes)
{
    struct entry *found = NULL;
    for (uint32_t i = 0; i < cache->count; i++) {
        struct entry *entry = look(cache, (cache->last + i) % cache->count, start, bytes);
        if (entry == NULL || (found != NULL && entry->kind != KIND_ENTERED))
            continue;
        found = entry;
        if (cache->entered == 0 || entry->kind == KIND_ENTERED)
            break;
    }
    if (found != NULL)
        cache->last = (uint32_t)(found - cache->entries);
    return found;
}

static struct entry *oldest_idle(struct mt_registrations *cache)
{
    struct entry *oldest = NULL;
    for (uint32_t i = 0; i < cache->count; i++) {
        struct entry *entry = &cache->entries[i];
        if (entry->users == 0 && entry->kind != KIND_NONE && entry->kind != KIND_ENTERED &&
            (oldest == NULL || entry->used_at < oldest->used_at))
            oldest = entry;
    }
    return oldest;
}

/* 1 if something was given up. */
static int give_up_oldest(struct mt_registrations *cache)
{
    struct entry *oldest = oldest_idle(cache);
    if (oldest != NULL)
        retire(cache, oldest);
    return oldest != NULL;
}

static struct entry *free_entry(struct mt_registrations *cache)
{
    for (uint32_t i = 0; i < cache->count; i++) {
        if (cache->entries[i].kind == KIND_NONE)
            return &cache->entries[i];
    }
    if (cache->count < cache->settings.most)
        return &cache->entries[cache->count++];
    struct entry *oldest = oldest_idle(cache);
    if (oldest != NULL)
        retire(cache, oldest);
    return oldest;
}

/* What will be registered, and why it may be kept. Watched from before it is registered. */
static void classify(const struct mt_registrations *cache, struct entry *entry, uintptr_t start,
                     uint64_t bytes)
{
    struct mt_memory_place place = mt_memory_find((const void *)start, bytes);
    uint64_t whole_bytes;
    entry->public.flags = 0;
    const uint8_t *base = place.segment != 0 ? mt_memory_base(place.segment, &whole_bytes) : NULL;
    if (base != NULL) {
        entry->public.start = (uintptr_t)base;
        entry->public.bytes = whole_bytes;
        entry->segment = place.segment;
        entry->kind = KIND_SEGMENT;
        return;
    }
    entry->public.start = mt_memory_page_down(start);
    entry->public.bytes = mt_memory_page_up(start + bytes) - entry->public.start;
    entry->kind = cache->watches && mt_watch_begin(&entry->watch, start, bytes) == 0 ? KIND_WATCHED
                                                                                     : KIND_ONCE;
}

/* The host may have no more memory, or no more registrations, for us: then without what is idle. */
static int make(struct mt_registrations *cache, struct entry *entry)
{
    const struct mt_registration_settings *settings = &cache->settings;
    int code;
    do {
        code = settings->make(settings->arg, (void *)entry->public.start, entry->public.bytes,
                              &entry->public.handle);
    } while (code == MANTA_ENOMEM && give_up_oldest(cache));
    if (code == 0)
        mt_count(&cache->made, 1);
    return code;
}

int mt_registrations_take(struct mt_registrations *cache, const void *start, uint64_t bytes,
                          struct mt_registration **out)
{
    struct entry *entry = find(cache, (uintptr_t)start, bytes);
    *out = NULL;
    if (entry != NULL) {
        if (entry->users++ == 0 && entry->kind != KIND_ENTERED)
            cache->idle_bytes -= entry->public.bytes;
        entry->used_at = ++cache->turn;
        *out = &entry->public;
        return 0;
    }
    entry = free_entry(cache);
    if (entry == NULL)
        return MANTA_EAGAIN;
    classify(cache, entry, (uintptr_t)start, bytes);
    entry->users = 1; /* it is not idle while others are given up */
    int code = make(cache, entry);
    if (code != 0) {
        if (entry->kind == KIND_WATCHED)
            mt_watch_end(&entry->watch);
        entry->kind = KIND_NONE;
        return code;
    }
    entry->used_at = ++cache->turn;
    *out = &entry->public;
    return 0;
}

void mt_registrations_give(struct mt_registrations *cache, struct mt_registration *registration)
{
    struct entry *entry = (struct entry *)(void *)registration;
    if (--entry->users > 0 || entry->kind == KIND_ENTERED)
        return;
    if (entry->kind == KIND_ONCE) {
        end(cache, entry);
        return;
    }
    cache->idle_bytes += entry->public.bytes;
    while (cache->idle_bytes > cache->settings.most_bytes && give_up_oldest(cache)) {
    }
}

void mt_registrations_give_all(struct mt_registrations *cache,
                               struct mt_registration **registrations, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (registrations[i] != NULL)
            mt_registrations_give(cache, registrations[i]);
        registrations[i] = NULL;
    }
}

/* Memory of devices is never registered by its address: nobody knows whose that is. */
static int take_entered(struct mt_registrations *cache, const struct iovec *piece,
                        struct mt_registration **out)
{
    const struct entry *entry = find(cache, (uintptr_t)piece->iov_base, piece->iov_len);
    if (entry == NULL || entry->kind != KIND_ENTERED)
        return MANTA_EINVAL;
    return mt_registrations_take(cache, piece->iov_base, piece->iov_len, out);
}

int mt_registrations_take_all(struct mt_registrations *cache, const struct iovec *pieces,
                              uint32_t count, uint32_t devices, struct mt_registration **out)
{
    for (uint32_t i = 0; i < count; i++) {
        out[i] = NULL;
        if (pieces[i].iov_len == 0)
            continue;
        int code = devices & 1u << i ? take_entered(cache, &pieces[i], &out[i])
                                     : mt_registrations_take(cache, pieces[i].iov_base,
                                                             pieces[i].iov_len, &out[i]);
        if (code != 0) {
            mt_registrations_give_all(cache, out, i);
            return code;
        }
    }
    return 0;
}

int mt_registrations_enter(struct mt_registrations *cache,
                           const struct manta_transport_buffer *buffer, void *handle,
                           struct mt_registration **out)
{
    struct entry *entry = free_entry(cache);
    *out = NULL;
    if (entry == NULL)
        return MANTA_EAGAIN;
    entry->public =
        (struct mt_registration){(uintptr_t)buffer->address, buffer->bytes, handle, buffer->flags};
    entry->users = 1;
    entry->kind = KIND_ENTERED;
    int code = handle == NULL ? make(cache, entry) : 0;
    entry->users = 0;
    if (handle != NULL)
        mt_count(&cache->made, 1);
    if (code != 0) {
        entry->kind = KIND_NONE;
        return code;
    }
    cache->entered++;
    *out = &entry->public;
    return 0;
}

void mt_registrations_remove(struct mt_registrations *cache, struct mt_registration *registration)
{
    struct entry *entry = (struct entry *)(void *)registration;
    cache->entered--;
    entry->kind = KIND_ONCE;
    if (entry->users == 0)
        end(cache, entry);
}

uint64_t mt_registrations_made(const struct mt_registrations *cache)
{
    return atomic_load_explicit(&cache->made, memory_order_relaxed);
}
