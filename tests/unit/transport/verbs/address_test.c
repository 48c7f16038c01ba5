/* SPDX-License-Identifier: Apache-2.0 */
/* What ranks tell each other of their ports, and which of them belong together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "transport/verbs/verbs.h"

static void add(struct mt_verbs_ports *ports, const char *ipv4, int link_local)
{
    struct mt_verbs_port *port = &ports->ports[ports->count++];
    *port = (struct mt_verbs_port){.lid = 0x1234, .mtu = IBV_MTU_2048};
    if (ipv4 != NULL) {
        struct mt_verbs_gid *gid = &port->gids[port->gid_count++];
        gid->kind = MT_VERBS_IPV4;
        gid->index = 3;
        gid->raw[10] = gid->raw[11] = 0xff;
        memcpy(gid->raw + 12, ipv4, 4);
    }
    if (link_local) {
        struct mt_verbs_gid *gid = &port->gids[port->gid_count++];
        gid->kind = MT_VERBS_LINK_LOCAL;
        gid->raw[0] = 0xfe;
        gid->raw[1] = 0x80;
        gid->raw[15] = (uint8_t)link_local;
    }
}

static void test_told_and_read(void **state)
{
    struct mt_verbs_ports ports = {0}, read;
    uint8_t blob[512];
    (void)state;
    add(&ports, "\x0a\0\0\1", 1);
    add(&ports, "\x0a\0\1\1", 0);
    size_t bytes = mt_verbs_ports_encode(&ports, blob, sizeof(blob));
    assert_true(bytes > 0);
    assert_int_equal(mt_verbs_ports_decode(blob, bytes, &read), 0);
    assert_memory_equal(&read, &ports, sizeof(ports));
    assert_int_equal(mt_verbs_ports_encode(&ports, blob, 20), 0);
    for (size_t cut = 0; cut < bytes; cut++)
        assert_int_equal(mt_verbs_ports_decode(blob, cut, &read), MANTA_ETRANSPORT);
    assert_int_equal(mt_verbs_ports_decode(blob, bytes + 1, &read), MANTA_ETRANSPORT);
}

/* Whatever a peer tells, it is read within its bounds and either refused or usable. */
static void test_garbage(void **state)
{
    struct mt_verbs_ports ports = {0}, read;
    uint8_t blob[512];
    uint32_t random = 1;
    (void)state;
    add(&ports, "\x0a\0\0\1", 1);
    add(&ports, "\x0a\0\1\1", 2);
    size_t bytes = mt_verbs_ports_encode(&ports, blob, sizeof(blob));
    for (int round = 0; round < 20000; round++) {
        uint8_t changed[512];
        memcpy(changed, blob, bytes);
        for (int i = 0; i < 3; i++) {
            random = random * 1664525 + 1013904223;
            changed[(random >> 8) % bytes] = (uint8_t)(random >> 24);
        }
        if (mt_verbs_ports_decode(changed, bytes, &read) != 0)
            continue;
        struct mt_verbs_lane lanes[MT_VERBS_LANES];
        uint32_t count = mt_verbs_lanes_pair(&ports, &read, 1, lanes);
        for (uint32_t i = 0; i < count; i++) {
            assert_true(lanes[i].pair_count > 0);
            assert_true(lanes[i].remote_rail < read.count);
        }
    }
}

/* Both find the same lanes in the same order, each with ports of one network. */
static void test_ports_of_one_network(void **state)
{
    struct mt_verbs_ports low = {0}, high = {0};
    struct mt_verbs_lane here[MT_VERBS_LANES], there[MT_VERBS_LANES];
    (void)state;
    add(&low, "\x0a\0\0\1", 1);
    add(&low, "\x0a\0\1\1", 2);
    add(&high, "\x0a\0\1\2", 3);
    add(&high, "\x0a\0\2\2", 4);
    add(&high, "\x0a\0\0\2", 0);
    assert_int_equal(mt_verbs_lanes_pair(&low, &high, 1, here), 2);
    assert_int_equal(mt_verbs_lanes_pair(&high, &low, 0, there), 2);
    assert_int_equal(here[0].remote_rail, 2);
    assert_int_equal(here[1].remote_rail, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(here[i].rail, there[i].remote_rail);
        assert_int_equal(here[i].remote_rail, there[i].rail);
        assert_int_equal(here[i].pair_count, there[i].pair_count);
        for (uint32_t p = 0; p < here[i].pair_count; p++) {
            assert_int_equal(here[i].pairs[p].local, there[i].pairs[p].remote);
            assert_int_equal(here[i].pairs[p].remote, there[i].pairs[p].local);
        }
    }
    assert_int_equal(here[0].pair_count, 1);
    assert_int_equal(here[1].pair_count, 2);
}

/* The first port must not take what belongs to the second. */
static void test_one_port_there(void **state)
{
    struct mt_verbs_ports low = {0}, high = {0};
    struct mt_verbs_lane lanes[MT_VERBS_LANES];
    (void)state;
    add(&low, "\x0a\0\0\1", 1);
    add(&low, "\x0a\0\1\1", 2);
    add(&high, "\x0a\0\1\2", 3);
    assert_int_equal(mt_verbs_lanes_pair(&low, &high, 1, lanes), 1);
    assert_int_equal(lanes[0].rail, 1);
    assert_int_equal(lanes[0].remote_rail, 0);
}

static void test_nothing_in_common(void **state)
{
    struct mt_verbs_ports low = {0}, high = {0};
    struct mt_verbs_lane lanes[MT_VERBS_LANES];
    (void)state;
    add(&low, "\x0a\0\0\1", 0);
    add(&high, NULL, 1);
    assert_int_equal(mt_verbs_lanes_pair(&low, &high, 1, lanes), 0);
    assert_int_equal(mt_verbs_lanes_pair(&low, &(struct mt_verbs_ports){0}, 1, lanes), 0);
}

/* No status is without words, and those that users meet say what to look at. */
static void test_words(void **state)
{
    (void)state;
    for (int status = 0; status < 30; status++)
        assert_true(strlen(mt_verbs_status_words(status)) > 10);
    assert_non_null(strstr(mt_verbs_status_words(IBV_WC_RETRY_EXC_ERR), "retry exceeded"));
    assert_non_null(strstr(mt_verbs_status_words(IBV_WC_REM_ACCESS_ERR), "remote access"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_told_and_read),        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_ports_of_one_network), cmocka_unit_test(test_nothing_in_common),
        cmocka_unit_test(test_one_port_there),       cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
