/* SPDX-License-Identifier: Apache-2.0 */
/* The transports there are, by name, and what the library gives to each. */
#ifndef MT_TRANSPORT_REGISTRY_H
#define MT_TRANSPORT_REGISTRY_H

#include <stdint.h>

#include <manta/transport.h>

#include "core/error.h"

/* The tables of the built-in transports; each is defined in its own folder. */
extern const struct manta_transport mt_transport_shm;
extern const struct manta_transport mt_transport_tcp;
extern const struct manta_transport mt_transport_verbs;
extern const struct manta_transport mt_transport_ofi;
extern const struct manta_transport mt_transport_sim;

/* A built-in one; NULL if there is none of that name, or of that index. */
const struct manta_transport *mt_transport_find(const char *name);
const struct manta_transport *mt_transport_built_in(uint32_t index);

/* What a list of preference names: a built-in transport or a plugin. */
struct mt_transport_listed {
    const struct manta_transport *transport; /* NULL: a plugin that cannot be had here: see why */
    const char *name;                        /* in the list that was parsed */
    size_t name_length;
    int is_plugin;
    struct mt_error why;
};

/* Parse a list of preference such as MANTA_TRANSPORTS ("shm,tcp,/path/plugin.so"), and load the
 * plugins that it names. 0, or MANTA_EINVAL with a sentence: an unknown name (and those there are),
 * one named twice, an empty place, too many, a plugin without its whole path. */
int mt_transport_list(const char *names, struct mt_transport_listed *listed, uint32_t capacity,
                      uint32_t *count_out, struct mt_error *error);

/* 1: a built-in one that is slower between ranks of one node than shm. */
int mt_transport_is_by_network(const struct manta_transport *transport);

/* Its query: 0, MANTA_ENOTSUP or MANTA_EINVAL, the latter two with a sentence. */
int mt_transport_query(const struct manta_transport *transport,
                       struct manta_transport_error *error);

/* 1: a transport of the list that counts where the user gives none is not for this host, and why.
 * Cheap. What the user has named something for is for every host. */
int mt_transport_is_left_out(const struct manta_transport *transport,
                             struct manta_transport_error *why);

/* Query and open params->transport: what open answers. Where the user has named what it is to use
 * (MANTA_INTERFACE, MANTA_VERBS_DEVICE, ...) and it cannot be used, that is MANTA_EINVAL, and the
 * sentence says so: a communicator without it is not what was asked for. */
int mt_transport_open(const struct manta_transport_open *params, void **endpoint_out,
                      struct manta_transport_error *error);
/* Warn of such variables of transports that are not listed. */
void mt_transport_warn_of_unused(const struct mt_transport_listed *listed, uint32_t count);

/* The host table of this library. */
const struct manta_transport_host *mt_transport_host(void);

#endif
