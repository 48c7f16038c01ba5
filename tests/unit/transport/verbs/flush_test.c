/* SPDX-License-Identifier: Apache-2.0 */
/* Reads that flush what a card has written, here of host memory that says that it needs them: so
 * they cross a card that has no memory of devices. Over cards in memory; over real ones where
 * MANTA_VERBS_DEVICE names some. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/fake_verbs.h"
#include "tests/support/traffic.h"
#include "transport/verbs/verbs.h"

enum { LONG = 100000, CALLS = 20, SENDER = 0, RECEIVER = 1 };

static int (*post_send)(struct ibv_qp *qp, struct ibv_send_wr *work, struct ibv_send_wr **bad);
static _Atomic uint32_t reads;

static int count_reads(struct ibv_qp *qp, struct ibv_send_wr *work, struct ibv_send_wr **bad)
{
    for (const struct ibv_send_wr *one = work; one != NULL; one = one->next)
        atomic_fetch_add(&reads, one->opcode == IBV_WR_RDMA_READ);
    return post_send(qp, work, bad);
}

/* The receiver's memory, which has to be flushed; its cards' work is looked at. */
static int enter(struct endpoints_rank *self, uint8_t *memory, void **registration_out)
{
    struct mt_verbs_endpoint *endpoint = self->endpoint;
    const struct manta_transport_buffer buffer = {
        .address = memory, .bytes = LONG + 1, .flags = MANTA_BUFFER_FLUSH};
    post_send = endpoint->rails[0].context->ops.post_send;
    for (uint32_t i = 0; i < endpoint->rail_count; i++)
        endpoint->rails[i].context->ops.post_send = count_reads;
    int code = self->transport->mem_register(endpoint, &buffer, -1, 0, registration_out);
    return code == 0 ? 0 : endpoints_fail(self, "mem_register: %d", code);
}

static int receive(struct endpoints_rank *self, uint64_t call, uint8_t *memory)
{
    struct manta_transport_request request;
    uint32_t before = atomic_load(&reads);
    memset(memory, 0xee, LONG + 1);
    int failed = endpoints_recv(self, SENDER, call, 0, memory, LONG, &request) ||
                 endpoints_wait(self, &request, 1);
    if (!failed && (request.status != 0 || atomic_load(&reads) == before))
        failed = endpoints_fail(self, "status %d, %u reads", request.status,
                                atomic_load(&reads) - before);
    return failed || traffic_differs(memory, LONG, SENDER, 1);
}

static int flush(struct endpoints_rank *self)
{
    uint8_t *memory = self->rank == SENDER ? traffic_filled(LONG, SENDER, 1) : malloc(LONG + 1);
    struct manta_transport_request request;
    void *registration = NULL;
    int failed = self->rank == RECEIVER && enter(self, memory, &registration);
    for (uint64_t call = 1; call <= CALLS && !failed; call++) {
        if (self->rank == RECEIVER)
            failed = receive(self, call, memory);
        else
            failed = endpoints_send(self, RECEIVER, call, 0, memory, LONG, &request) ||
                     endpoints_wait(self, &request, 1) || request.status != 0;
    }
    failed |= endpoints_part(self);
    if (registration != NULL)
        self->transport->mem_deregister(self->endpoint, registration);
    free(memory);
    return failed;
}

static void test_reads_cross_the_card(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, flush, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_cross_the_card, fake_verbs_unless_named,
                                        fake_verbs_teardown_unless_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
