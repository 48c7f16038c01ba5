/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/answer.h"

#include <stdio.h>
#include <string.h>

enum { OFFER_BYTES = 4 };

int mt_transport_refuse(struct manta_transport_error *error, int code, int system_errno,
                        const char *what)
{
    error->code = code;
    error->peer = MANTA_PLAN_NONE;
    error->system_errno = system_errno;
    snprintf(error->sentence, sizeof(error->sentence), "%s%s%s", what, system_errno ? ": " : "",
             system_errno ? strerror(system_errno) : "");
    return code;
}

int mt_transport_write_offer(const char offer[4], void *blob, size_t blob_bytes, size_t *bytes_out)
{
    if (blob_bytes < OFFER_BYTES)
        return MANTA_EINVAL;
    memcpy(blob, offer, OFFER_BYTES);
    *bytes_out = OFFER_BYTES;
    return 0;
}

int mt_transport_is_offer(const char offer[4], const void *address, size_t address_bytes)
{
    return address_bytes == OFFER_BYTES && memcmp(address, offer, OFFER_BYTES) == 0;
}

void mt_transport_export(const void *from, size_t from_bytes, void *to)
{
    size_t to_bytes;
    memcpy(&to_bytes, to, sizeof(to_bytes));
    size_t bytes = to_bytes < from_bytes ? to_bytes : from_bytes;
    if (bytes > sizeof(to_bytes))
        memcpy((char *)to + sizeof(to_bytes), (const char *)from + sizeof(to_bytes),
               bytes - sizeof(to_bytes));
}
