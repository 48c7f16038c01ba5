/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that network cards were shown (registered), kept by address range, so that a buffer which
 * is used again is not registered again. An endpoint has a cache, used by its thread only.
 *
 * What is kept is right to use: symmetric memory until it is freed; private memory without a file
 * as long as nothing of it was unmapped, moved or given back (transport/unmapped.h); what was
 * entered by hand (mem_register) until it is taken out. All other memory, and all where the host
 * does not tell what is unmapped, is registered for each use.
 */
#ifndef MT_TRANSPORT_REGISTRATION_H
#define MT_TRANSPORT_REGISTRATION_H

#include <stdint.h>
#include <sys/uio.h>

#include <manta/transport.h>

enum { MT_REGISTRATIONS = 1024 };

struct mt_registration {
    uintptr_t start;
    uint64_t bytes;
    void *handle;   /* what make() gave */
    uint32_t flags; /* MANTA_BUFFER_*, of what was entered */
};

struct mt_registration_settings {
    const struct manta_transport_host *host;
    uint32_t most;       /* entries at a time, at most MT_REGISTRATIONS */
    uint64_t most_bytes; /* that are kept without a user */
    /* Register, with system calls. 0, or MANTA_E* with the sentence kept by the maker. */
    int (*make)(void *arg, void *start, uint64_t bytes, void **handle_out);
    void (*end)(void *arg, void *handle);
    void *arg;
};

struct mt_registrations;

int mt_registrations_create(const struct mt_registration_settings *settings,
                            struct mt_registrations **out);
/* End all, though they may be in use; their handles become NULL. Nothing may be taken any more, but
 * who has one gives it back or removes it as ever. */
void mt_registrations_end_all(struct mt_registrations *cache);
/* Ends all that are left. */
void mt_registrations_destroy(struct mt_registrations *cache);

/* The registration that covers this memory; give it back when the card is done with it. 0,
 * MANTA_EAGAIN: too many are in use; or what make() returned. */
int mt_registrations_take(struct mt_registrations *cache, const void *start, uint64_t bytes,
                          struct mt_registration **out);
void mt_registrations_give(struct mt_registrations *cache, struct mt_registration *registration);

/* The same of `count` pieces; those of nothing get NULL. Where one fails, none is taken. devices:
 * bit of each piece that must have been entered by hand, or it is MANTA_EINVAL. */
int mt_registrations_take_all(struct mt_registrations *cache, const struct iovec *pieces,
                              uint32_t count, uint32_t devices, struct mt_registration **out);
/* And back; all become NULL. */
void mt_registrations_give_all(struct mt_registrations *cache,
                               struct mt_registration **registrations, uint32_t count);

/* By hand, for mem_register: with a handle that the caller has made, or NULL: make it. It stays
 * until it is removed, and ends then, or when its last user gives it back. 0 or MANTA_E*: then the
 * handle is still the caller's. */
int mt_registrations_enter(struct mt_registrations *cache,
                           const struct manta_transport_buffer *buffer, void *handle,
                           struct mt_registration **out);
void mt_registrations_remove(struct mt_registrations *cache, struct mt_registration *registration);

/* How many were made so far. Any thread. */
uint64_t mt_registrations_made(const struct mt_registrations *cache);

#endif
