/* SPDX-License-Identifier: Apache-2.0 */
/* What the ops of the built-in transports answer, where they answer alike. */
#ifndef MT_TRANSPORT_ANSWER_H
#define MT_TRANSPORT_ANSWER_H

#include <manta/transport.h>

/* Fill the error of query or open, and return code. system_errno, if not 0, is put into words. */
int mt_transport_refuse(struct manta_transport_error *error, int code, int system_errno,
                        const char *what);

/* The address of a transport whose peers are reached through the group's listeners: only its name
 * and version, four characters, to tell who has it open. */
int mt_transport_write_offer(const char offer[4], void *blob, size_t blob_bytes, size_t *bytes_out);
int mt_transport_is_offer(const char offer[4], const void *address, size_t address_bytes);

/* Copy a struct that begins with `size` into the caller's, which may be one of an older or a newer
 * header: the caller's size counts, and stays. */
void mt_transport_export(const void *from, size_t from_bytes, void *to);

#endif
