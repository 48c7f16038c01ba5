/* SPDX-License-Identifier: Apache-2.0 */
/* A table before the table of a plugin: it checks what the plugin's ops answer, so that nothing
 * behind it has to. What is wrong becomes MANTA_ETRANSPORT with a sentence. The plugin's code is
 * trusted; that it is right is not. */
#ifndef MT_TRANSPORT_GUARD_H
#define MT_TRANSPORT_GUARD_H

#include <manta/transport.h>

struct mt_guard {
    struct manta_transport table; /* first: open finds the rest by it */
    const struct manta_transport *inner;
    int gives_group; /* the inner one is built in */
};

/* The inner table stays where it is; endpoints are opened with params->transport == &guard->table.
 */
void mt_guard_init(struct mt_guard *guard, const struct manta_transport *inner, int gives_group);

/* A code of a failed request, as it may be: MANTA_ETRANSPORT if it is no code of an error. */
int mt_guard_status(int status);

#endif
