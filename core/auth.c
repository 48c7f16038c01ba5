/* SPDX-License-Identifier: Apache-2.0 */
#include "core/auth.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/random.h>

#include "core/error.h"

enum { MESSAGE_BYTES = 512 };

int mt_auth_random(void *bytes, size_t count)
{
    uint8_t *at = bytes;
    while (count) {
        ssize_t got = getrandom(at, count, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return MANTA_ESYSTEM;
        at += got;
        count -= (size_t)got;
    }
    return 0;
}

int mt_auth_mac(const uint8_t key[MT_AUTH_KEY_BYTES], const char *label, const void *first,
                size_t first_count, const void *second, size_t second_count,
                uint8_t mac_out[MT_AUTH_MAC_BYTES])
{
    uint8_t message[MESSAGE_BYTES];
    size_t label_count = strlen(label) + 1;
    unsigned int mac_count = 0;
    if (label_count + first_count + second_count > sizeof message)
        return MANTA_EINTERNAL;
    memcpy(message, label, label_count);
    if (first_count)
        memcpy(message + label_count, first, first_count);
    if (second_count)
        memcpy(message + label_count + first_count, second, second_count);
    const uint8_t *made = HMAC(EVP_sha256(), key, MT_AUTH_KEY_BYTES, message,
                               label_count + first_count + second_count, mac_out, &mac_count);
    return made && mac_count == MT_AUTH_MAC_BYTES ? 0 : MANTA_EINTERNAL;
}

int mt_auth_equal(const void *a, const void *b, size_t count)
{
    return CRYPTO_memcmp(a, b, count) == 0;
}

void mt_auth_wipe(void *bytes, size_t count)
{
    OPENSSL_cleanse(bytes, count);
}

int mt_auth_session_id(const uint8_t secret[MT_AUTH_KEY_BYTES], uint8_t id_out[MT_ID_BYTES])
{
    uint8_t mac[MT_AUTH_MAC_BYTES];
    int rc = mt_auth_mac(secret, "manta session id", NULL, 0, NULL, 0, mac);
    memcpy(id_out, mac, MT_ID_BYTES);
    return rc;
}

int mt_auth_join_key(const uint8_t secret[MT_AUTH_KEY_BYTES], uint8_t key_out[MT_AUTH_KEY_BYTES])
{
    return mt_auth_mac(secret, "manta join key", NULL, 0, NULL, 0, key_out);
}

int mt_auth_group_key(const uint8_t secret[MT_AUTH_KEY_BYTES], const uint8_t uid[MT_ID_BYTES],
                      uint8_t key_out[MT_AUTH_KEY_BYTES])
{
    return mt_auth_mac(secret, "manta group key", uid, MT_ID_BYTES, NULL, 0, key_out);
}
