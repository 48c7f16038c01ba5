/* SPDX-License-Identifier: Apache-2.0 */
/* Queue pairs that go into error by themselves, at the active or at the passive end of messages
 * that all go one way. Over cards in memory; over real ones where MANTA_VERBS_DEVICE names some. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/clock.h"
#include "tests/support/fake_verbs.h"
#include "tests/support/traffic.h"
#include "transport/verbs/verbs.h"

enum { LONG = 1 << 20, SENDER = 0, RECEIVER = 1 };

static struct mt_verbs_peer *other(const struct endpoints_rank *self)
{
    return ((struct mt_verbs_endpoint *)self->endpoint)->peers[!self->rank];
}

/* A long message, and one that is a frame. */
static int one_way(struct endpoints_rank *self, uint64_t call, uint8_t *memory)
{
    struct manta_transport_request requests[2];
    int failed = 0;
    for (uint32_t i = 0; i < 2 && !failed; i++) {
        uint64_t bytes = i == 0 ? LONG : 1000;
        failed = self->rank == SENDER
                     ? endpoints_send(self, RECEIVER, call, i, memory, bytes, &requests[i])
                     : endpoints_recv(self, SENDER, call, i, memory + i * (LONG + 1), bytes,
                                      &requests[i]);
    }
    failed = failed || endpoints_wait(self, requests, 2);
    if (!failed && (requests[0].status != 0 || requests[1].status != 0))
        failed = endpoints_fail(self, "%d, %d", requests[0].status, requests[1].status);
    if (failed || self->rank == SENDER)
        return failed;
    failed = traffic_differs(memory, LONG, SENDER, 1) ||
             traffic_differs(memory + LONG + 1, 1000, SENDER, 1);
    return failed ? endpoints_fail(self, "call %u: wrong bytes", (unsigned)call) : 0;
}

/* Messages until this rank's lane is another one, and open: it has learned that the one before is
 * dead. Rank 0 counts for both. */
static int until_remade(struct endpoints_rank *self, uint32_t index, uint8_t generation,
                        uint64_t *call, uint8_t *memory)
{
    static _Atomic uint32_t known[2];
    const struct mt_verbs_lane *lane = &other(self)->lanes[index];
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    int failed = 0, over = 0;
    while (!failed && !over) {
        failed = one_way(self, (*call)++, memory);
        atomic_store(&known[self->rank], failed || (lane->generation != generation &&
                                                    lane->state == MT_VERBS_LANE_OPEN));
        failed |= endpoints_meet(self);
        over = atomic_load(&known[0]) && atomic_load(&known[1]);
        if (mt_clock_now_ns() > until_ns)
            failed = endpoints_fail(self, "lane %u does not come back", index);
        failed |= endpoints_meet(self);
    }
    return failed;
}

static int break_queue(const struct endpoints_rank *self, uint32_t index, uint32_t queue)
{
    const struct mt_verbs_endpoint *endpoint = self->endpoint;
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
    return endpoint->library->modify_qp(other(self)->lanes[index].queues[queue].qp, &attr,
                                        IBV_QP_STATE);
}

static int errors(struct endpoints_rank *self)
{
    static _Atomic uint32_t current; /* the sender's lane of frames */
    uint8_t *memory =
        self->rank == SENDER ? traffic_filled(LONG, SENDER, 1) : malloc(LONG + 1 + 1001);
    uint64_t call = 1;
    int failed = 0;
    for (uint32_t round = 0; round < 4 && !failed; round++) {
        uint32_t victim = round / 2, queue = round % 2; /* MT_VERBS_FRAME_QUEUE, ... */
        if (self->rank == RECEIVER)
            for (uint32_t i = 0; i < LONG + 1 + 1001; i++)
                memory[i] = 0xee;
        failed = one_way(self, call++, memory);
        if (self->rank == SENDER)
            atomic_store(&current, (uint32_t)other(self)->current);
        failed |= endpoints_meet(self);
        uint32_t index = atomic_load(&current) % MT_VERBS_LANES;
        uint8_t generation = other(self)->lanes[index].generation;
        failed |= endpoints_meet(self);
        if (self->rank == victim)
            failed |= break_queue(self, index, queue);
        failed = failed || until_remade(self, index, generation, &call, memory);
    }
    failed |= endpoints_part(self);
    free(memory);
    return failed;
}

static void test_queue_pair_in_error(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, errors, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_queue_pair_in_error, fake_verbs_unless_named,
                                        fake_verbs_teardown_unless_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
