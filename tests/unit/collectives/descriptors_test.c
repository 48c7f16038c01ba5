/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that runs out of descriptors when connections are made: the call succeeds with those that
 * are left, or every rank is told at once whose limit has to be raised. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/log.h"
#include "tests/support/comm_processes.h"
#include "tests/support/descriptors.h"

/* FREE_MAX: as many as every connection of two ranks can need. ATTEMPTS: with none, a call succeeds
 * only where the service thread has given one back at the last moment. */
enum { FREE_MAX = 6, ATTEMPTS = 100, TAKEN = 1 };

static struct {
    int victim, free;
} plan;

/* The other rank makes no connection before. */
static int call_without(struct manta_comm *comm, struct comm_process *self)
{
    int failed = self->rank == plan.victim && descriptors_leave(plan.free);
    if (self->rank == plan.victim)
        atomic_store(&self->stage, TAKEN);
    else
        comm_process_await(&self->all[plan.victim], TAKEN);
    return failed ? -100 : comm_process_allreduce(comm, self);
}

static void judge(const struct comm_process *rank, const char *transports)
{
    char name[32];
    snprintf(name, sizeof(name), "rank %d", plan.victim);
    if (rank->result == 0)
        return;
    int is_told = rank->result == MANTA_ESYSTEM && rank->error.rank == plan.victim &&
                  strstr(rank->error.sentence, name) && strstr(rank->error.sentence, "ulimit -n");
    if (!is_told)
        print_error("%s, rank %d has %d descriptors: rank %d: %d %s\n", transports, plan.victim,
                    plan.free, rank->rank, rank->result, rank->error.sentence);
    assert_true(is_told);
}

/* Whether all succeeded. */
static int run(const char *transports, int victim, int free)
{
    const struct comm_job job = {
        .ranks = 2, .transports = transports, .log_level = MT_LOG_WARN, .body = call_without};
    plan.victim = victim;
    plan.free = free;
    struct comm_process *list = comm_processes_start(&job);
    assert_int_equal(comm_processes_wait(list, 2), 0);
    int failed = list[0].result != 0;
    assert_int_equal(list[1].result != 0, failed);
    for (int r = 0; r < 2; r++)
        judge(&list[r], transports);
    comm_processes_free(list, 2);
    return !failed;
}

static void a_rank_without_descriptors_is_named(void **state)
{
    static const char *const transports[] = {"shm", "tcp"};
    (void)state;
    for (int t = 0; t < 2; t++)
        for (int victim = 0; victim < 2; victim++) {
            int attempts = ATTEMPTS;
            while (run(transports[t], victim, 0))
                assert_true(--attempts > 0);
            for (int free = 1; free < FREE_MAX; free++)
                run(transports[t], victim, free);
            assert_true(run(transports[t], victim, FREE_MAX));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_without_descriptors_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
