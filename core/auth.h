/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets, random bytes and the proofs of the handshake: HMAC-SHA256 (RFC 2104, FIPS 180-4). */
#ifndef MT_CORE_AUTH_H
#define MT_CORE_AUTH_H

#include <stddef.h>
#include <stdint.h>

enum { MT_AUTH_KEY_BYTES = 32, MT_AUTH_MAC_BYTES = 32, MT_AUTH_NONCE_BYTES = 32, MT_ID_BYTES = 16 };

/* From the kernel's generator; 0 or MANTA_ESYSTEM. */
int mt_auth_random(void *bytes, size_t count);

/* HMAC-SHA256 over `label` with its NUL, then the two parts in order (a part may be NULL when its
 * count is 0). The label keeps the uses of one key apart. 0 or MANTA_EINTERNAL. */
int mt_auth_mac(const uint8_t key[MT_AUTH_KEY_BYTES], const char *label, const void *first,
                size_t first_count, const void *second, size_t second_count,
                uint8_t mac_out[MT_AUTH_MAC_BYTES]);
/* 1 if equal, in time that does not depend on the bytes. */
int mt_auth_equal(const void *a, const void *b, size_t count);
/* Overwrite a secret; the compiler cannot leave it out. */
void mt_auth_wipe(void *bytes, size_t count);

/* What a session may be called in the open: who does not know the secret cannot make it up. */
int mt_auth_session_id(const uint8_t secret[MT_AUTH_KEY_BYTES], uint8_t id_out[MT_ID_BYTES]);
/* Key of the bootstrap's streams. */
int mt_auth_join_key(const uint8_t secret[MT_AUTH_KEY_BYTES], uint8_t key_out[MT_AUTH_KEY_BYTES]);
/* Key of one group's streams. */
int mt_auth_group_key(const uint8_t secret[MT_AUTH_KEY_BYTES], const uint8_t uid[MT_ID_BYTES],
                      uint8_t key_out[MT_AUTH_KEY_BYTES]);

#endif
