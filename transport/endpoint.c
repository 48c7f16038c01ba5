/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/endpoint.h"

#include <string.h>

enum { LINE_BYTES = 64 };

void *mt_endpoint_alloc(const struct manta_transport_host *host, size_t bytes)
{
    void *memory = host->alloc(bytes, LINE_BYTES);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

struct mt_message_settings mt_endpoint_messages(const struct manta_transport_open *params)
{
    return (struct mt_message_settings){
        .host = params->host,
        .rank = params->rank,
        .ranks = params->ranks,
        .epoch = params->epoch,
        .call_state = params->call_state,
        .host_arg = params->host_arg,
    };
}
