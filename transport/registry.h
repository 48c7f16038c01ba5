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
extern const struct manta_transport mt_transport_sim;

/* NULL if there is none of that name. */
const struct manta_transport *mt_transport_find(const char *name);

/* Parse a list of preference such as MANTA_TRANSPORTS ("shm,tcp"). 0, or MANTA_EINVAL with a
 * sentence: an unknown name (and those there are), one named twice, an empty place, too many. */
int mt_transport_list(const char *names, const struct manta_transport **transports,
                      uint32_t capacity, uint32_t *count_out, struct mt_error *error);

/* The host table of this library. */
const struct manta_transport_host *mt_transport_host(void);

#endif
