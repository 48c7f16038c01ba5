/* SPDX-License-Identifier: Apache-2.0 */
#include "core/session.h"

#include <stdio.h>
#include <string.h>

#include "core/address.h"
#include "core/auth.h"

static const char prefix[] = "manta1:";
static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
enum { PREFIX_COUNT = sizeof prefix - 1, SECRET_TEXT = 43 };

static int digit(char c)
{
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

/* base64url without padding (RFC 4648, section 5); the unused bits of the last digit must be 0. */
static int decode_secret(const char *text, uint8_t secret[MT_SESSION_SECRET_BYTES])
{
    uint32_t bits = 0, bit_count = 0, done = 0;
    for (int i = 0; i < SECRET_TEXT; i++) {
        int value = digit(text[i]);
        if (value < 0)
            return MANTA_EINVAL;
        bits = (bits << 6 | (uint32_t)value) & 0xffff;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            secret[done++] = (uint8_t)(bits >> bit_count);
        }
    }
    return (bits & ((1U << bit_count) - 1)) == 0 ? 0 : MANTA_EINVAL;
}

static void encode_secret(const uint8_t secret[MT_SESSION_SECRET_BYTES], char *text)
{
    uint32_t bits = 0, bit_count = 0, done = 0;
    for (int i = 0; i < MT_SESSION_SECRET_BYTES; i++) {
        bits = (bits << 8 | secret[i]) & 0xffff;
        for (bit_count += 8; bit_count >= 6; bit_count -= 6)
            text[done++] = alphabet[bits >> (bit_count - 6) & 63];
    }
    text[done++] = alphabet[bits << (6 - bit_count) & 63];
    text[done] = 0;
}

static int parse_addresses(const char *at, struct mt_session *session, struct mt_error *error)
{
    for (;;) {
        struct mt_address address;
        size_t count = strcspn(at, ",");
        if (session->address_count == MT_SESSION_ADDRESSES)
            return mt_error_set(error, MANTA_EINVAL, "the session has more than %d addresses",
                                MT_SESSION_ADDRESSES);
        if (count >= sizeof session->addresses[0] || mt_address_parse(at, count, &address))
            return mt_error_set(
                error, MANTA_EINVAL,
                "address %u of the session is not a.b.c.d:port or [v6]:port; "
                "pass the string of `manta session` or manta_session_create() unchanged",
                session->address_count + 1);
        memcpy(session->addresses[session->address_count], at, count);
        session->addresses[session->address_count++][count] = 0;
        if (at[count] == 0)
            return 0;
        at += count + 1;
    }
}

int mt_session_parse(const char *text, struct mt_session *session_out, struct mt_error *error)
{
    memset(session_out, 0, sizeof *session_out);
    if (!text)
        return mt_error_set(error, MANTA_EINVAL,
                            "the session is NULL; pass the string of "
                            "manta_session_create");
    if (strncmp(text, prefix, PREFIX_COUNT) != 0)
        return mt_error_set(error, MANTA_EINVAL,
                            "the session does not begin with \"%s\"; pass the string of "
                            "`manta session` or manta_session_create() unchanged",
                            prefix);
    text += PREFIX_COUNT;
    if (strnlen(text, SECRET_TEXT + 1) <= SECRET_TEXT || text[SECRET_TEXT] != '@' ||
        decode_secret(text, session_out->secret)) {
        mt_auth_wipe(session_out->secret, sizeof session_out->secret);
        return mt_error_set(
            error, MANTA_EINVAL,
            "the session's secret is not 43 characters of base64url before an @; "
            "pass the string of `manta session` or manta_session_create() unchanged");
    }
    return parse_addresses(text + SECRET_TEXT + 1, session_out, error);
}

int mt_session_format(const struct mt_session *session, char *text, size_t text_bytes)
{
    char whole[PREFIX_COUNT + SECRET_TEXT + 1 + MT_SESSION_ADDRESSES * 65 + 1];
    size_t used = PREFIX_COUNT + SECRET_TEXT;
    memcpy(whole, prefix, PREFIX_COUNT);
    encode_secret(session->secret, whole + PREFIX_COUNT);
    for (uint32_t i = 0; i < session->address_count && i < MT_SESSION_ADDRESSES; i++)
        used += (size_t)snprintf(whole + used, sizeof whole - used, "%c%s", i == 0 ? '@' : ',',
                                 session->addresses[i]);
    if (session->address_count == 0 || used >= text_bytes) {
        mt_auth_wipe(whole, sizeof whole);
        return MANTA_EINVAL;
    }
    memcpy(text, whole, used + 1);
    mt_auth_wipe(whole, sizeof whole);
    return 0;
}
