/* SPDX-License-Identifier: Apache-2.0 */
/* What the library refuses: the reason is told, nothing is left behind, and what can go on does. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/log.h"
#include "tests/support/fake_verbs.h"
#include "tests/support/traffic.h"
#include "transport/registry.h"
#include "transport/verbs/verbs.h"

enum { DOWN = 1, ACTIVE = 4 /* enum ibv_port_state */ };

static void assert_refused(const char *part)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    assert_int_equal(mt_transport_verbs.query(mt_transport_host(), &error), MANTA_ENOTSUP);
    if (strstr(error.sentence, part) == NULL)
        fail_msg("'%s' lacks '%s'", error.sentence, part);
}

static void test_why_not(void **state)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    (void)state;
    fake_verbs_port(1, DOWN, 1, 1);
    assert_int_equal(mt_transport_verbs.query(mt_transport_host(), &error), 0);
    fake_verbs_port(0, DOWN, 1, 1);
    assert_refused("no port of the RDMA devices is active");
    fake_verbs_port(0, ACTIVE, 1, 1);
    fake_verbs_language(IBV_TRANSPORT_UNSPECIFIED); /* as EFA's */
    assert_refused("speak neither InfiniBand nor RoCE; ofi may reach them");
    fake_verbs_language(IBV_TRANSPORT_IB);
    fake_verbs_refuse((struct fake_refusal){"open_device", 0, EACCES});
    assert_refused("Permission denied");
    fake_verbs_refuse((struct fake_refusal){"get_device_list", 0, ENOSYS});
    assert_refused("RDMA device");
}

static void keep_line(void *arg, const char *line)
{
    snprintf(arg, 400, "%s", line);
}

/* What the user has named, and cannot be had, ends it, and the sentence says what there is instead;
 * one of several is left out with a warning. */
static int open_as_named(struct endpoints_rank *self)
{
    static const struct {
        const char *variable, *value, *sentence, *line; /* sentence, or line of the log */
    } cases[] = {
        {"MANTA_VERBS_DEVICE", "mlx5_0", "MANTA_VERBS_DEVICE=mlx5_0 cannot be used: no RDMA", NULL},
        {"MANTA_VERBS_DEVICE", "fake_0:2", "; there are fake_0, fake_1", NULL},
        {"MANTA_VERBS_DEVICE", "fake_1", "no port of the RDMA devices of that name is", NULL},
        {"MANTA_VERBS_GID", "99", "MANTA_VERBS_GID=99 cannot be used: no active port", NULL},
        {"MANTA_VERBS_GID", "10.9.9.9", "has that GID; there are 10.", NULL},
        {"MANTA_VERBS_DEVICE", "mlx5_0,fake_0", NULL, "'mlx5_0', and no RDMA device has"},
        {"MANTA_VERBS_DEVICE", "fake_0,fake_1", NULL, "'fake_1', which has no active port"},
    };
    const struct manta_transport_open params = {.size = sizeof(params),
                                                .host = mt_transport_host(),
                                                .transport = &mt_transport_verbs,
                                                .ranks = 1,
                                                .epoch = self->group->epoch,
                                                .group = self->group};
    int failed = 0;
    self->transport->close(self->endpoint);
    self->closed = 1;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct manta_transport_error error = {.size = sizeof(error)};
        char line[400] = "";
        void *endpoint = NULL;
        setenv(cases[i].variable, cases[i].value, 1);
        mt_log_sink(keep_line, line);
        int code = mt_transport_open(&params, &endpoint, &error);
        mt_log_sink(NULL, NULL);
        unsetenv(cases[i].variable);
        if (endpoint != NULL)
            self->transport->close(endpoint);
        if (cases[i].line != NULL
                ? code != 0 || strstr(line, cases[i].line) == NULL
                : code != MANTA_EINVAL || strstr(error.sentence, cases[i].sentence) == NULL)
            failed = endpoints_fail(self, "%s: %d '%s' '%s'", cases[i].value, code, error.sentence,
                                    line);
    }
    return failed;
}

static void test_what_is_named(void **state)
{
    (void)state;
    fake_verbs_port(1, DOWN, 1, 1);
    assert_int_equal(endpoints_run("verbs", 1, open_as_named, NULL), 0);
}

/* One message each way, or the words for why not. */
static int exchange_or_say(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2];
    struct manta_transport_error error = {.size = sizeof(error)};
    uint8_t out[100] = {0}, in[100];
    int code = endpoints_recv(self, !self->rank, 1, 0, in, sizeof(in), &requests[0]);
    if (code == 0)
        code = endpoints_send(self, !self->rank, 1, 0, out, sizeof(out), &requests[1]);
    uint64_t until_ns = mt_clock_now_ns() + 20 * MT_SECOND;
    while (code == 0 && mt_clock_now_ns() < until_ns &&
           (requests[0].status == MANTA_INPROGRESS || requests[1].status == MANTA_INPROGRESS)) {
        int moved = self->transport->progress(self->endpoint);
        code = moved < 0 ? moved : 0;
    }
    if (code == 0 && requests[0].status != 0)
        code = requests[0].status;
    self->transport->error(self->endpoint, &error);
    if (code == 0 || code == MANTA_EPEER) /* the other rank was refused */
        return 0;
    const char *part = self->arg;
    if (strstr(error.sentence, part) == NULL)
        return endpoints_fail(self, "%d: '%s' lacks '%s'", code, error.sentence, part);
    return 0;
}

static void test_queues_are_refused(void **state)
{
    static const struct {
        const char *function;
        int after, error;
        const char *part;
    } cases[] = {
        {"alloc_pd", 0, ENOMEM, "protection domain"},
        {"create_comp_channel", 0, EMFILE, "completion channel"},
        {"create_cq", 0, ENOMEM, "locked memory"},
        {"create_srq", 0, EINVAL, "shared receive queue"},
        {"reg_mr", 0, ENOMEM, "CAP_IPC_LOCK"},
        {"reg_mr", 1, ENOMEM, "ulimit -l"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_verbs_refuse((struct fake_refusal){cases[i].function, cases[i].after, cases[i].error});
        assert_int_equal(
            endpoints_run("verbs", 2, exchange_or_say, (void *)(uintptr_t)cases[i].part), 0);
    }
}

/* Memory that cannot be registered is copied instead, by both ends. */
static void test_memory_is_refused(void **state)
{
    static const uint64_t sizes[] = {100, 9000, 300000};
    struct traffic traffic = {sizes, 3, 3};
    struct fake_counts counts;
    (void)state;
    fake_verbs_refuse(
        (struct fake_refusal){"reg_mr", 12, ENOMEM}); /* but for the slots and rings */
    assert_int_equal(endpoints_run("verbs", 2, traffic_run, &traffic), 0);
    fake_verbs_counts(&counts);
    assert_true(counts.write_bytes < 300000);
}

static int register_device_memory(struct endpoints_rank *self)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    struct manta_transport_counters counters = {.size = sizeof(counters)};
    void *memory = mmap(NULL, 1 << 16, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = memfd_create("device", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (1 << 16) + 4096) != 0)
        return endpoints_fail(self, "no file");
    struct manta_transport_buffer buffer = {
        .address = memory, .bytes = 1 << 16, .memory = MANTA_MEMORY_CUDA};
    void *registration, *second;
    struct fake_counts counts;
    int failed = self->transport->mem_register(self->endpoint, &buffer, fd, 4096, &registration);
    fake_verbs_counts(&counts);
    self->transport->counters(self->endpoint, &counters);
    if (failed || counts.dmabufs != 2 || counters.registrations != 1)
        return endpoints_fail(self, "%d: %llu dma-bufs", failed,
                              (unsigned long long)counts.dmabufs);
    for (int rail = 0; rail < 2; rail++) {
        fake_verbs_refuse((struct fake_refusal){"reg_dmabuf_mr", rail, EOPNOTSUPP});
        int code = self->transport->mem_register(self->endpoint, &buffer, fd, 0, &second);
        self->transport->error(self->endpoint, &error);
        if (code != MANTA_ENOTSUP || second != NULL ||
            strstr(error.sentence, "cannot register") == NULL)
            failed = endpoints_fail(self, "rail %d: %d '%s'", rail, code, error.sentence);
        fake_verbs_refuse((struct fake_refusal){"reg_dmabuf_mr", rail, ENOMEM});
        code = self->transport->mem_register(self->endpoint, &buffer, fd, 0, &second);
        if (code != MANTA_ENOMEM || second != NULL)
            failed = endpoints_fail(self, "rail %d: %d", rail, code);
        fake_verbs_refuse((struct fake_refusal){"reg_dmabuf_mr", 0, EBADF});
        code = self->transport->mem_register(self->endpoint, &buffer, fd, 0, &second);
        if (code != MANTA_ENOTSUP)
            failed = endpoints_fail(self, "a descriptor of no dma-buf: %d", code);
    }
    fake_verbs_refuse((struct fake_refusal){NULL, 0, 0});
    buffer.bytes = 0;
    if (self->transport->mem_register(self->endpoint, &buffer, fd, 0, &second) != MANTA_EINVAL)
        failed = endpoints_fail(self, "nothing was registered");
    self->transport->mem_deregister(self->endpoint, registration);
    struct fake_counts after;
    fake_verbs_counts(&after);
    if (after.mrs != counts.mrs - 2)
        failed = endpoints_fail(self, "registrations are left");
    munmap(memory, 1 << 16);
    close(fd);
    return failed;
}

/* A dma-buf is shown to each rail; the real thing waits for hardware. */
static void test_device_memory(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 1, register_device_memory, NULL), 0);
}

/* Queue pairs that cannot be destroyed may still write: the buffers are lost, and that is said. */
static int cannot_stop(struct endpoints_rank *self)
{
    struct manta_transport_request request = {0};
    uint8_t byte = 1;
    uint8_t *memory = malloc(1 << 20);
    int failed = self->rank == 0 ? endpoints_send(self, 1, 1, 0, &byte, 1, &request)
                                 : endpoints_recv(self, 0, 1, 0, &byte, 1, &request);
    failed = failed || endpoints_wait(self, &request, 1);
    endpoints_barrier(self);
    if (self->rank == 1) {
        failed = failed || endpoints_recv(self, 0, 2, 0, memory, 1 << 20, &request);
        fake_verbs_refuse((struct fake_refusal){"destroy_qp", 0, EBUSY});
        int code = self->transport->abort(self->endpoint, MANTA_EABORTED);
        fake_verbs_refuse((struct fake_refusal){NULL, 0, 0});
        if (code != MANTA_EBUFFER || request.status != MANTA_EBUFFER)
            failed = endpoints_fail(self, "abort %d, status %d", code, request.status);
    }
    endpoints_barrier(self);
    free(memory);
    return failed;
}

static void test_what_cannot_be_stopped(void **state)
{
    (void)state;
    assert_int_equal(endpoints_run("verbs", 2, cannot_stop, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_why_not, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_what_is_named, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_queues_are_refused, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_memory_is_refused, fake_verbs_setup,
                                        fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_device_memory, fake_verbs_setup, fake_verbs_teardown),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_stopped, fake_verbs_setup,
                                        fake_verbs_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
