/* SPDX-License-Identifier: Apache-2.0 */
/* What endpoints of built-in transports do alike when they are made. */
#ifndef MT_TRANSPORT_ENDPOINT_H
#define MT_TRANSPORT_ENDPOINT_H

#include <stddef.h>

#include "transport/message.h"

/* Memory by host->alloc, of cache lines of its own and all 0; NULL: there is none. */
void *mt_endpoint_alloc(const struct manta_transport_host *host, size_t bytes);

/* The settings of its messages, as far as `params` tells them; the rest is 0. */
struct mt_message_settings mt_endpoint_messages(const struct manta_transport_open *params);

#endif
