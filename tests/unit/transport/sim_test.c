/* SPDX-License-Identifier: Apache-2.0 */
/* The sim transport over tcp: what MANTA_FAULT may say, and that each fault happens as it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "tests/support/endpoints.h"
#include "tests/support/ranks.h"
#include "tests/support/traffic.h"
#include "transport/registry.h"
#include "transport/sim/sim.h"

static void test_good_faults(void **state)
{
    struct mt_faults faults;
    struct mt_error error = {0};
    (void)state;
    assert_int_equal(mt_faults_parse("", &faults, &error), 0);
    assert_int_equal(faults.count, 0);
    assert_int_equal(
        mt_faults_parse("corrupt,delay=5ms,loss=0.25@rank=1,reorder,duplicate=0", &faults, &error),
        0);
    assert_int_equal(faults.count, 5);
    assert_int_equal(faults.faults[0].kind, MT_FAULT_CORRUPT);
    assert_int_equal(faults.faults[0].probability, MT_FAULT_CERTAIN);
    assert_true(faults.faults[0].rank == MT_FAULT_ANY);
    assert_int_equal(faults.faults[1].time_ns, 5000000);
    assert_int_equal(faults.faults[2].probability, MT_FAULT_CERTAIN / 4);
    assert_int_equal(faults.faults[2].rank, 1);
    assert_int_equal(faults.faults[4].probability, 0);
    assert_int_equal(mt_faults_parse("kill@rank=2:call=3:step=1", &faults, &error), 0);
    assert_int_equal(faults.faults[0].call, 3);
    assert_int_equal(mt_faults_parse("late=1500ms@rank=0:middle=7", &faults, &error), 0);
    assert_int_equal(faults.faults[0].step, 1);
    assert_int_equal(faults.faults[0].middle, 7);
    assert_int_equal(mt_faults_parse("unsafe@rank=3", &faults, &error), 0);
    assert_int_equal(faults.faults[0].kind, MT_FAULT_UNSAFE);
    assert_int_equal(faults.faults[0].rank, 3);
}

static void test_bad_faults(void **state)
{
    static const char *const bad[] = {"corupt",
                                      "corrupt,",
                                      ",corrupt",
                                      "corrupt=2",
                                      "corrupt=-0.1",
                                      "corrupt=0.",
                                      "corrupt=.5",
                                      "corrupt=0,5x",
                                      "loss",
                                      "loss=",
                                      "loss=a",
                                      "delay",
                                      "delay=",
                                      "delay=5 parsecs",
                                      "reorder=1",
                                      "kill",
                                      "kill@",
                                      "kill@rank=",
                                      "kill@rank=-1",
                                      "kill@rank=1:",
                                      "kill@rank=1 ",
                                      "kill@rank=1:foo=2",
                                      "kill@call=1",
                                      "stop=1@rank=1",
                                      "late@rank=1",
                                      "kill@rank=1:step=0",
                                      "corrupt@middle=3",
                                      "mismatch=1",
                                      "kill@rank=99999999999999999999999"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mt_faults faults;
        struct mt_error error = {0};
        if (mt_faults_parse(bad[i], &faults, &error) != MANTA_EINVAL)
            fail_msg("'%s' was accepted", bad[i]);
        assert_non_null(strstr(error.sentence, "MANTA_FAULT"));
    }
}

static void set_fault(const char *text)
{
    setenv("MANTA_FAULT", text, 1);
    setenv("MANTA_SIM_INNER", "tcp", 1);
    setenv("MANTA_SEED", "7", 1);
}

static void test_harmless_faults(void **state)
{
    static const char *const texts[] = {"",
                                        "delay=3ms",
                                        "reorder",
                                        "duplicate",
                                        "duplicate=0.5,reorder,delay=500us",
                                        "corrupt=0,loss=0"};
    static const uint64_t sizes[] = {0, 1, 4096, 32768, 32769, 150000};
    struct traffic traffic = {sizes, 6, 4};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        set_fault(texts[i]);
        assert_int_equal(endpoints_run("sim", 2, traffic_run, &traffic), 0);
        assert_int_equal(endpoints_run("sim", 4, traffic_run, &traffic), 0);
    }
}

/* The log is the list of operations, one for one. */
static int keep_log(struct endpoints_rank *self)
{
    enum { COUNT = 50 };
    struct manta_transport_request requests[2 * COUNT];
    uint8_t out[COUNT], in[COUNT];
    unsigned seen[2][COUNT] = {{0}};
    int failed = mt_sim_log_start(self->endpoint);
    for (uint32_t i = 0; i < COUNT && !failed; i++)
        failed = endpoints_send(self, !self->rank, 1, i, &out[i], 1, &requests[2 * i]) ||
                 endpoints_recv(self, !self->rank, 1, i, &in[i], 1, &requests[2 * i + 1]);
    failed = failed || endpoints_wait(self, requests, 2 * COUNT);
    size_t count;
    const struct mt_sim_event *events = mt_sim_log(self->endpoint, &count);
    if (!failed && count != 2 * COUNT)
        failed = endpoints_fail(self, "%zu events", count);
    for (size_t i = 0; i < count && !failed; i++) {
        if (events[i].status != 0 || events[i].bytes != 1 || events[i].peer != !self->rank ||
            events[i].id.call != 1 || events[i].id.number >= COUNT)
            failed = endpoints_fail(self, "event %zu is wrong", i);
        else
            seen[events[i].operation == MT_SIM_RECV][events[i].id.number]++;
    }
    for (uint32_t i = 0; i < COUNT && !failed; i++) {
        if (seen[0][i] != 1 || seen[1][i] != 1)
            failed = endpoints_fail(self, "message %u was seen %u and %u times", i, seen[0][i],
                                    seen[1][i]);
    }
    endpoints_barrier(self);
    return failed;
}

static void test_log(void **state)
{
    (void)state;
    set_fault("delay=1ms,reorder,duplicate");
    assert_int_equal(endpoints_run("sim", 2, keep_log, NULL), 0);
}

static uint64_t bits_between(const uint8_t *a, const uint8_t *b, uint64_t bytes)
{
    uint64_t bits = 0;
    for (uint64_t i = 0; i < bytes; i++)
        bits += (uint64_t)__builtin_popcount(a[i] ^ b[i]);
    return bits;
}

/* Messages of call 2 differ by one bit, those of call 1 by none; the sender's memory by none. */
static int be_corrupted(struct endpoints_rank *self)
{
    static const uint64_t sizes[] = {1, 100, 32768, 100000};
    int failed = 0;
    for (uint32_t i = 0; i < 8 && !failed; i++) {
        struct manta_transport_request request;
        uint64_t bytes = sizes[i % 4];
        uint8_t *source = traffic_filled(bytes, 0, i), *memory = traffic_filled(bytes, 0, i);
        if (self->rank == 0)
            failed = endpoints_send(self, 1, 1 + i / 4, i, memory, bytes, &request);
        else
            failed = endpoints_recv(self, 0, 1 + i / 4, i, memory, bytes, &request);
        failed = failed || endpoints_wait(self, &request, 1) || request.status != 0;
        uint64_t bits = bits_between(source, memory, bytes);
        if (!failed && bits != (self->rank == 1 && i >= 4))
            failed = endpoints_fail(self, "message %u: %llu bits", i, (unsigned long long)bits);
        free(source);
        free(memory);
    }
    if (!failed && self->rank == 0 && mt_sim_injected(self->endpoint, MT_FAULT_CORRUPT) != 4)
        failed = endpoints_fail(self, "the faults were not counted");
    endpoints_barrier(self);
    return failed;
}

static void test_corrupt(void **state)
{
    (void)state;
    set_fault("corrupt@call=2");
    assert_int_equal(endpoints_run("sim", 2, be_corrupted, NULL), 0);
}

/* A collective that is one fused step of shared memory: its result is wrong in call 2 only. */
static int sum_up(struct manta_comm *comm, void *arg)
{
    enum { COUNT = 1000 };
    (void)arg;
    for (int call = 1; call <= 3; call++) {
        int32_t source[COUNT], sum[COUNT], wrong = 0;
        for (int i = 0; i < COUNT; i++)
            source[i] = i + manta_comm_rank(comm);
        int code = manta_allreduce(comm, source, sum, COUNT, MANTA_INT32, MANTA_SUM);
        if (code != 0)
            return rank_fail(comm, "allreduce: %s", manta_strerror(code));
        for (int i = 0; i < COUNT; i++)
            wrong += sum[i] != 2 * i + 1;
        if (wrong != (call == 2 && manta_comm_rank(comm) == 1))
            return rank_fail(comm, "call %d: %d elements are wrong", call, wrong);
    }
    return 0;
}

static void test_corrupt_fused(void **state)
{
    struct ranks_options options = {.ranks = 2, .transports = "sim"};
    (void)state;
    set_fault("corrupt@call=2:rank=1");
    setenv("MANTA_SIM_INNER", "shm", 1);
    setenv("MANTA_ALLREDUCE", "fused", 1);
    assert_int_equal(ranks_run(&options, sum_up, NULL), 0);
    unsetenv("MANTA_ALLREDUCE");
}

/* Several fused steps are under way at once: all ranks must carry them out in the same order. */
static int sum_up_at_once(struct manta_comm *comm, void *arg)
{
    enum { ROUNDS = 20, AT_ONCE = 8 };
    (void)arg;
    for (int32_t round = 0; round < ROUNDS; round++) {
        int32_t source[AT_ONCE], sum[AT_ONCE];
        struct manta_request *requests[AT_ONCE];
        for (int32_t i = 0; i < AT_ONCE; i++) {
            source[i] = round * AT_ONCE + i + (int32_t)manta_comm_rank(comm);
            int code = manta_allreduce_post(comm, &source[i], &sum[i], 1, MANTA_INT32, MANTA_SUM,
                                            &requests[i]);
            if (code != 0)
                return rank_fail(comm, "post: %s", manta_strerror(code));
        }
        for (int32_t i = 0; i < AT_ONCE; i++) {
            int code = manta_wait(requests[i], UINT64_MAX);
            if (code != 0 || sum[i] != 3 * (round * AT_ONCE + i + 1))
                return rank_fail(comm, "round %d, sum %d: %s", round, i, manta_strerror(code));
        }
    }
    return 0;
}

static void test_fused_order(void **state)
{
    static const char *const texts[] = {"reorder", "delay=500us", "reorder,delay=200us@rank=1"};
    struct ranks_options options = {.ranks = 3, .transports = "sim"};
    (void)state;
    setenv("MANTA_ALLREDUCE", "fused", 1);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        set_fault(texts[i]);
        setenv("MANTA_SIM_INNER", "shm", 1);
        assert_int_equal(ranks_run(&options, sum_up_at_once, NULL), 0);
    }
    unsetenv("MANTA_ALLREDUCE");
}

/* Call 1 gets lost; call 2 arrives; the sender notices nothing. */
static int lose_message(struct endpoints_rank *self)
{
    struct manta_transport_request lost, arrived;
    uint8_t byte = 1;
    int failed;
    if (self->rank == 0) {
        failed = endpoints_send(self, 1, 1, 0, &byte, 1, &lost) || lost.status != 0 ||
                 endpoints_send(self, 1, 2, 0, &byte, 1, &arrived) ||
                 endpoints_wait(self, &arrived, 1);
        endpoints_barrier(self);
        return failed;
    }
    failed = endpoints_recv(self, 0, 1, 0, &byte, 1, &lost) ||
             endpoints_recv(self, 0, 2, 0, &byte, 1, &arrived) ||
             endpoints_wait(self, &arrived, 1) || arrived.status != 0 ||
             lost.status != MANTA_INPROGRESS;
    self->transport->abort(self->endpoint, MANTA_ETIMEOUT);
    failed = failed || lost.status != MANTA_ETIMEOUT;
    endpoints_barrier(self);
    return failed ? endpoints_fail(self, "lost %d, arrived %d", lost.status, arrived.status) : 0;
}

static void test_loss(void **state)
{
    (void)state;
    set_fault("loss=1@call=1");
    assert_int_equal(endpoints_run("sim", 2, lose_message, NULL), 0);
}

static int disagree(struct endpoints_rank *self)
{
    struct manta_transport_request request;
    uint8_t byte = 1;
    int failed = 0;
    for (uint64_t call = 1; call <= 2 && !failed; call++) {
        failed = self->rank == 0 ? endpoints_send(self, 1, call, 0, &byte, 1, &request)
                                 : endpoints_recv(self, 0, call, 0, &byte, 1, &request);
        failed = failed || endpoints_wait(self, &request, 1);
        int expected = self->rank == 1 && call == 2 ? MANTA_EMISMATCH : 0;
        if (!failed && (request.status != expected || (expected && request.peer != 0)))
            failed =
                endpoints_fail(self, "call %llu: %d", (unsigned long long)call, request.status);
    }
    endpoints_barrier(self);
    return failed;
}

static void test_mismatch(void **state)
{
    (void)state;
    set_fault("mismatch@rank=0:call=2");
    assert_int_equal(endpoints_run("sim", 2, disagree, NULL), 0);
}

/* Rank 0 is late by 200 ms before its second operation of call 3, and only then. */
static int be_late(struct endpoints_rank *self)
{
    struct manta_transport_request requests[2];
    uint8_t bytes[2] = {0, 0};
    int failed = 0;
    for (uint64_t call = 1; call <= 4 && !failed; call++) {
        for (uint32_t step = 0; step < 2 && !failed; step++) {
            uint64_t before_ns = mt_clock_now_ns();
            failed = self->rank == 0
                         ? endpoints_send(self, 1, call, step, bytes, 1, &requests[step])
                         : endpoints_recv(self, 0, call, step, bytes, 1, &requests[step]);
            uint64_t took_ns = mt_clock_now_ns() - before_ns;
            if (self->rank == 0 && call == 3 && step == 1 && took_ns < 200 * (uint64_t)MT_MS)
                failed = endpoints_fail(self, "not late");
        }
        failed = failed || endpoints_wait(self, requests, 2);
    }
    if (self->rank == 0 && mt_sim_injected(self->endpoint, MT_FAULT_LATE) != 1)
        failed = endpoints_fail(self, "late more often than once");
    endpoints_barrier(self);
    return failed;
}

static void test_late(void **state)
{
    (void)state;
    set_fault("late=200ms@rank=0:call=3:step=2");
    assert_int_equal(endpoints_run("sim", 2, be_late, NULL), 0);
}

/* Run some traffic in a process of its own; how that ended, as waitpid tells. */
static int run_child(const char *fault)
{
    struct traffic traffic = {(const uint64_t[]){1, 50000}, 2, 4};
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        set_fault(fault);
        _exit(endpoints_run("sim", 2, traffic_run, &traffic) != 0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    if (WIFSTOPPED(status)) {
        int ended;
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &ended, 0), child);
    }
    return status;
}

static void test_kill_and_stop(void **state)
{
    (void)state;
    int status = run_child("kill@rank=0:call=2");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    /* Two more rounds follow, so that there are three looks however fast this one is. */
    status = run_child("kill@rank=1:call=2:step=2:middle=3");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    status = run_child("stop@rank=1:call=1");
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
}

/* What cannot be opened says why. */
static void test_refusals(void **state)
{
    struct manta_transport_error error = {.size = sizeof(error)};
    (void)state;
    set_fault("explode");
    assert_int_equal(mt_transport_sim.query(mt_transport_host(), &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "explode"));
    set_fault("");
    setenv("MANTA_SIM_INNER", "sim", 1);
    assert_int_equal(mt_transport_sim.query(mt_transport_host(), &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "MANTA_SIM_INNER"));
    setenv("MANTA_SIM_INNER", "carrier_pigeon", 1);
    assert_int_equal(mt_transport_sim.query(mt_transport_host(), &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "carrier_pigeon"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_faults),     cmocka_unit_test(test_bad_faults),
        cmocka_unit_test(test_refusals),        cmocka_unit_test(test_kill_and_stop),
        cmocka_unit_test(test_harmless_faults), cmocka_unit_test(test_log),
        cmocka_unit_test(test_corrupt),         cmocka_unit_test(test_corrupt_fused),
        cmocka_unit_test(test_fused_order),     cmocka_unit_test(test_loss),
        cmocka_unit_test(test_mismatch),        cmocka_unit_test(test_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
