/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/auth.h"
#include "core/error.h"

/* HMAC-SHA256 of "label", NUL, "first" and "second" under the key 0, 1, ... 31, computed with
 * Python's hmac and hashlib. */
static void mac_is_hmac_sha256(void **state)
{
    (void)state;
    static const uint8_t wanted[MT_AUTH_MAC_BYTES] = {
        0xc8, 0xa1, 0xac, 0xf5, 0xeb, 0x8d, 0xa1, 0x43, 0xe4, 0x3f, 0xad,
        0xb5, 0x90, 0x97, 0xe5, 0x8b, 0x35, 0x70, 0xc5, 0xad, 0x92, 0xe7,
        0x13, 0x08, 0x77, 0x58, 0x88, 0xc5, 0x21, 0x25, 0x53, 0x37};
    uint8_t key[MT_AUTH_KEY_BYTES], mac[MT_AUTH_MAC_BYTES];
    for (int i = 0; i < MT_AUTH_KEY_BYTES; i++)
        key[i] = (uint8_t)i;
    assert_int_equal(mt_auth_mac(key, "label", "first", 5, "second", 6, mac), 0);
    assert_memory_equal(mac, wanted, sizeof mac);
}

static void labels_and_keys_matter(void **state)
{
    (void)state;
    uint8_t secret[MT_AUTH_KEY_BYTES] = {1}, uid[MT_ID_BYTES] = {2};
    uint8_t id[MT_ID_BYTES], outputs[6][32];
    assert_int_equal(mt_auth_session_id(secret, id), 0);
    assert_int_equal(mt_auth_join_key(secret, outputs[0]), 0);
    assert_int_equal(mt_auth_group_key(secret, uid, outputs[1]), 0);
    uid[15] ^= 1;
    assert_int_equal(mt_auth_group_key(secret, uid, outputs[2]), 0);
    secret[31] ^= 1;
    assert_int_equal(mt_auth_group_key(secret, uid, outputs[3]), 0);
    assert_int_equal(mt_auth_mac(secret, "a", "bc", 2, NULL, 0, outputs[4]), 0);
    assert_int_equal(mt_auth_mac(secret, "ab", "c", 1, NULL, 0, outputs[5]), 0);
    for (int i = 0; i < 6; i++) {
        assert_memory_not_equal(outputs[i], id, MT_ID_BYTES);
        for (int k = 0; k < i; k++)
            assert_memory_not_equal(outputs[i], outputs[k], 32);
    }
}

static void long_messages_are_refused(void **state)
{
    (void)state;
    uint8_t key[MT_AUTH_KEY_BYTES] = {0}, mac[MT_AUTH_MAC_BYTES], large[600] = {0};
    assert_int_equal(mt_auth_mac(key, "x", large, sizeof large, NULL, 0, mac), MANTA_EINTERNAL);
    assert_int_equal(mt_auth_mac(key, "x", large, 510, NULL, 0, mac), 0);
    assert_int_equal(mt_auth_mac(key, "x", large, 510, large, 1, mac), MANTA_EINTERNAL);
}

static void equality_sees_each_byte(void **state)
{
    (void)state;
    uint8_t a[32], b[32];
    assert_int_equal(mt_auth_random(a, sizeof a), 0);
    memcpy(b, a, sizeof b);
    assert_true(mt_auth_equal(a, b, sizeof a));
    for (size_t i = 0; i < sizeof a; i++) {
        b[i] ^= 0x80;
        assert_false(mt_auth_equal(a, b, sizeof a));
        b[i] ^= 0x80;
    }
    mt_auth_wipe(a, sizeof a);
    for (size_t i = 0; i < sizeof a; i++)
        assert_int_equal(a[i], 0);
}

static void random_bytes_differ(void **state)
{
    (void)state;
    uint8_t a[4096] = {0}, b[4096] = {0};
    assert_int_equal(mt_auth_random(a, sizeof a), 0);
    assert_int_equal(mt_auth_random(b, sizeof b), 0);
    assert_memory_not_equal(a, b, 16);
    assert_memory_not_equal(a + 4080, b + 4080, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mac_is_hmac_sha256),        cmocka_unit_test(labels_and_keys_matter),
        cmocka_unit_test(long_messages_are_refused), cmocka_unit_test(equality_sees_each_byte),
        cmocka_unit_test(random_bytes_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
