/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: "manta1:<secret, 43 characters base64url>@<address>[,<address>...]" where an address is
 * a.b.c.d:port or [v6]:port. */
#ifndef MT_CORE_SESSION_H
#define MT_CORE_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

enum { MT_SESSION_ADDRESSES = 16, MT_SESSION_SECRET_BYTES = 32 };

struct mt_session {
    uint8_t secret[MT_SESSION_SECRET_BYTES];
    uint32_t address_count;
    char addresses[MT_SESSION_ADDRESSES][64];
};

/* Strict: anything that is not exactly a session is MANTA_EINVAL with a sentence (without secret).
 */
int mt_session_parse(const char *text, struct mt_session *session_out, struct mt_error *error);
int mt_session_format(const struct mt_session *session, char *text, size_t text_bytes);
/* A session for a rank 0 that will listen later on host:port (mantarun, `manta session`). host
 * NULL: every address of this host; port 0: one that is free now, and that for a minute the kernel
 * gives to nobody who asks for any free one. */
int mt_session_prepare(const char *host, uint16_t port, char *text, size_t text_bytes,
                       struct mt_error *error);

#endif
