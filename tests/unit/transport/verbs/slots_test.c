/* SPDX-License-Identifier: Apache-2.0 */
/* The slots that frames are sent from: how many a peer finds, in jobs of any size. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/fake_verbs.h"
#include "tests/support/traffic.h"
#include "transport/registry.h"
#include "transport/verbs/verbs.h"

enum { LARGE = 2000 };

/* An endpoint of so many ranks, without rails: nothing leaves it. */
static struct mt_verbs_endpoint *started(uint32_t ranks)
{
    struct mt_verbs_endpoint *endpoint = calloc(1, sizeof(*endpoint));
    assert_non_null(endpoint);
    endpoint->host = mt_transport_host();
    endpoint->ranks = ranks;
    assert_int_equal(mt_verbs_start(endpoint), 0);
    return endpoint;
}

static void ended(struct mt_verbs_endpoint *endpoint)
{
    mt_verbs_stop(endpoint);
    free(endpoint);
}

static struct mt_verbs_peer *connected(struct mt_verbs_endpoint *endpoint)
{
    struct mt_verbs_peer *peer = calloc(1, sizeof(*peer));
    assert_non_null(peer);
    peer->link = MT_VERBS_LINK_OPEN;
    peer->current = -1;
    assert_int_equal(mt_verbs_slots_promise(endpoint, peer), 0);
    return peer;
}

/* How many frames it can have under way, as things are. */
static uint32_t fill(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    uint32_t count = 0;
    while (mt_verbs_put_own(endpoint, peer, MT_VERBS_NOTHING, 0, 0) == 0)
        count++;
    return count;
}

/* It has taken all of them. */
static void empty(struct mt_verbs_endpoint *endpoint, struct mt_verbs_peer *peer)
{
    peer->link = MT_VERBS_LINK_LOST;
    mt_verbs_frames_acked(endpoint, peer, peer->next - 1);
    free(peer);
}

static void test_few_of_many(void **state)
{
    struct mt_verbs_endpoint *endpoint = started(LARGE);
    struct mt_verbs_peer *peers[2] = {connected(endpoint), connected(endpoint)};
    (void)state;
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(fill(endpoint, peers[i]), MT_VERBS_FRAMES);
    for (uint32_t i = 0; i < 2; i++)
        empty(endpoint, peers[i]);
    ended(endpoint);
}

/* All ranks are connected, one after the other, and each takes what it finds and never gives
 * anything back: the last one has its share, too, and half a block is for who is first. */
static void connect_all(uint32_t ranks)
{
    struct mt_verbs_endpoint *endpoint = started(ranks);
    static struct mt_verbs_peer *peers[LARGE];
    uint32_t at_first = endpoint->sends.count, filled = 0;
    for (uint32_t i = 0; i + 1 < ranks; i++) {
        peers[i] = connected(endpoint);
        uint32_t count = fill(endpoint, peers[i]);
        assert_in_range(count, endpoint->sends.share, MT_VERBS_FRAMES);
        filled += count;
    }
    uint32_t shares = (ranks - 1) * endpoint->sends.share;
    assert_true(filled >= shares + at_first / 2 || filled == (ranks - 1) * MT_VERBS_FRAMES);
    assert_true(ranks > MT_VERBS_BLOCK_SLOTS / 2 + 1 || endpoint->sends.count == at_first);
    assert_true(endpoint->sends.count < shares + at_first / 2 + MT_VERBS_BLOCK_SLOTS);
    for (uint32_t i = 0; i + 1 < ranks; i++)
        empty(endpoint, peers[i]);
    assert_int_equal(endpoint->sends.free_count, endpoint->sends.count);
    assert_int_equal(endpoint->sends.promised, endpoint->sends.held_back + shares);
    ended(endpoint);
}

static void test_all_of_any(void **state)
{
    static const uint32_t ranks[] = {2, 3, 64, 300, 512, 513, 514, 1025, LARGE};
    (void)state;
    for (size_t i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++)
        connect_all(ranks[i]);
}

/* The cards read what is sent from a further block, too; one that cannot be had is told. */
static int add_block(struct endpoints_rank *self, struct mt_verbs_peer *peer)
{
    struct mt_verbs_endpoint *endpoint = self->endpoint;
    struct manta_transport_error error = {.size = sizeof(error)};
    endpoint->sends.promised -= endpoint->sends.held_back;
    endpoint->sends.held_back = 0;
    for (int after = 0; after < 2; after++) {
        peer->has_share = 0;
        fake_verbs_refuse((struct fake_refusal){"reg_mr", after, ENOMEM});
        int code = mt_verbs_slots_promise(endpoint, peer);
        self->transport->error(self->endpoint, &error);
        fake_verbs_refuse((struct fake_refusal){NULL, 0, 0});
        if (code != MANTA_ENOMEM || endpoint->sends.block_count != 1 ||
            strstr(error.sentence, "ulimit -l") == NULL)
            return endpoints_fail(self, "%d: '%s'", code, error.sentence);
    }
    return mt_verbs_slots_promise(endpoint, peer) != 0 || endpoint->sends.block_count != 2;
}

static int send_from_two_blocks(struct endpoints_rank *self)
{
    static const uint64_t sizes[] = {0, 1, 200, 4096, 8192};
    struct traffic traffic = {sizes, 5, 6};
    struct mt_verbs_endpoint *endpoint = self->endpoint;
    struct manta_transport_request requests[2];
    uint8_t out = 1, in = 0;
    int failed = endpoints_recv(self, !self->rank, 1000, 0, &in, 1, &requests[0]) ||
                 endpoints_send(self, !self->rank, 1000, 0, &out, 1, &requests[1]) ||
                 endpoints_wait(self, requests, 2) || endpoints_part(self);
    struct mt_verbs_peer *peer = endpoint->peers[!self->rank];
    for (uint32_t rank = 0; rank < self->ranks; rank++) {
        if (rank == self->rank)
            failed = failed || add_block(self, peer);
        endpoints_barrier(self);
    }
    self->arg = &traffic;
    failed = failed || traffic_rounds(self);
    uint32_t last = (peer->next - 1) % MT_VERBS_FRAMES;
    if (!failed && peer->sent[last].slot < MT_VERBS_BLOCK_SLOTS)
        failed = endpoints_fail(self, "the second block was not used");
    return endpoints_part(self) || failed;
}

static void test_two_blocks(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, send_from_two_blocks, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few_of_many),
        cmocka_unit_test(test_all_of_any),
        cmocka_unit_test_setup_teardown(test_two_blocks, fake_verbs_setup, fake_verbs_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
