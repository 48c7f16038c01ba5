/* SPDX-License-Identifier: Apache-2.0 */
/* Deaths and stops of processes, as the other ranks see them. */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <manta/plan.h>

#include "core/clock.h"
#include "core/control_impl.h"
#include "tests/support/core_processes.h"

enum { READY = 1, GO_ON = 2 };

static void await_failure(struct mt_group *group, struct process_rank *self)
{
    struct pollfd wake = {.fd = mt_control_wake_fd(group->control), .events = POLLIN};
    if (poll(&wake, 1, 15000) != 1)
        self->result = -100;
    mt_control_failure(group->control, &self->error);
}

static void wait_for_death(struct mt_group *group, struct process_rank *self,
                           struct process_rank *all)
{
    (void)all;
    atomic_store(&self->stage, READY);
    await_failure(group, self);
}

static void await_all(struct process_rank *list, uint32_t ranks)
{
    for (uint32_t r = 0; r < ranks; r++)
        process_await(&list[r], READY);
}

static void check_dead(struct process_rank *list, uint32_t ranks, uint32_t dead)
{
    assert_int_equal(processes_wait(list, ranks), 0);
    for (uint32_t r = 0; r < ranks; r++) {
        if (r == dead)
            continue;
        assert_int_equal(list[r].result, 0);
        assert_int_equal(list[r].error.code, MANTA_EPEER);
        assert_int_equal(list[r].error.rank, (int)dead);
        assert_non_null(strstr(list[r].error.sentence, "its process ended"));
    }
    processes_free(list);
}

static void killed_rank_is_named(void **state)
{
    (void)state;
    const uint32_t sizes[] = {2, 3, 8, 11};
    for (int i = 0; i < 4; i++) {
        uint32_t ranks = sizes[i], dead = ranks / 2;
        struct process_rank *list =
            processes_start(ranks, i % 2 ? "::1" : "127.0.0.1", wait_for_death);
        await_all(list, ranks);
        kill(list[dead].pid, SIGKILL);
        check_dead(list, ranks, dead);
    }
}

/* The child holds copies of all sockets: by fork() they are closed in it, by the bare system call
 * not, and then the pidfd tells. */
static void fork_and_wait(struct mt_group *group, struct process_rank *self, int bare)
{
    if (self->rank == 1) {
        pid_t pid = bare ? (pid_t)syscall(SYS_fork) : fork();
        if (pid == 0) {
            alarm(60);
            for (;;)
                pause();
        }
        self->helper = pid;
    }
    atomic_store(&self->stage, READY);
    await_failure(group, self);
}

static void fork_by_library(struct mt_group *group, struct process_rank *self,
                            struct process_rank *all)
{
    (void)all;
    fork_and_wait(group, self, 0);
}

static void fork_by_system_call(struct mt_group *group, struct process_rank *self,
                                struct process_rank *all)
{
    (void)all;
    fork_and_wait(group, self, 1);
}

static void forked_child_does_not_hide_a_death(void **state)
{
    (void)state;
    for (int bare = 0; bare <= 1; bare++) {
        struct process_rank *list =
            processes_start(4, "127.0.0.1", bare ? fork_by_system_call : fork_by_library);
        await_all(list, 4);
        pid_t helper = list[1].helper;
        assert_true(helper > 0);
        kill(list[1].pid, SIGKILL);
        check_dead(list, 4, 1);
        kill(helper, SIGKILL);
    }
}

static void exit_without_leaving(struct mt_group *group, struct process_rank *self,
                                 struct process_rank *all)
{
    if (self->rank != 2) {
        wait_for_death(group, self, all);
        return;
    }
    atomic_store(&self->stage, READY);
    for (uint32_t r = 0; r < self->ranks; r++)
        process_await(&all[r], READY);
    _exit(0);
}

static void exit_without_destroy_is_a_death(void **state)
{
    (void)state;
    struct process_rank *list = processes_start(5, "127.0.0.1", exit_without_leaving);
    check_dead(list, 5, 2);
}

/* Rank 0 hears nothing from rank 1 any more, and closes their link, as the kernel does then. */
static void give_one_up(struct mt_group *group, struct process_rank *self, struct process_rank *all)
{
    struct mt_control *control = group->control;
    struct mt_error error;
    mt_family_made(control);
    atomic_store(&self->stage, READY);
    for (uint32_t r = 0; r < self->ranks; r++)
        process_await(&all[r], READY);
    if (self->rank == 0) {
        mt_error_set_rank(&error, MANTA_EPEER, 1, "rank 1 is dead: its host is silent");
        mt_service_lock();
        mt_link_break(&control->neighbours[control->neighbour_of[1]].link);
        mt_service_unlock();
        mt_control_fail(control, &error);
    }
    await_failure(group, self);
    atomic_store(&self->stage, GO_ON); /* alive so long */
    for (uint32_t r = 0; r < self->ranks; r++)
        process_await(&all[r], GO_ON);
}

static void who_has_closed_a_link_is_not_said_to_have_ended(void **state)
{
    (void)state;
    struct process_rank *list = processes_start(3, "127.0.0.1", give_one_up);
    assert_int_equal(processes_wait(list, 3), 0);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(list[r].result, 0);
        assert_int_equal(list[r].error.code, MANTA_EPEER);
        assert_null(strstr(list[r].error.sentence, "its process ended (pid"));
    }
    /* Rank 2 passes the word on, if it does so in time. */
    assert_true(strstr(list[1].error.sentence, "rank 0 has given this one up") != NULL ||
                strstr(list[1].error.sentence, "or it heard nothing from here and gave up") !=
                    NULL);
    processes_free(list);
}

static void leave_one_after_the_other(struct mt_group *group, struct process_rank *self,
                                      struct process_rank *all)
{
    (void)all;
    struct pollfd wake = {.fd = mt_control_wake_fd(group->control), .events = POLLIN};
    for (uint32_t r = 0; r < self->rank; r++)
        while (!mt_control_left(group->control, r, NULL) && poll(&wake, 1, 1) == 0)
            ;
    mt_control_failure(group->control, &self->error);
}

/* Goodbye and the end of the process race: it must never look like a death. */
static void leaving_and_exiting_is_no_death(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        struct process_rank *list = processes_start(10, "127.0.0.1", leave_one_after_the_other);
        assert_int_equal(processes_wait(list, 10), 0);
        for (int r = 0; r < 10; r++) {
            if (list[r].error.code)
                print_error("rank %d: %s\n", r, list[r].error.sentence);
            assert_int_equal(list[r].result, 0);
            assert_int_equal(list[r].error.code, 0);
        }
        processes_free(list);
    }
}

static void call_and_time_out(struct mt_group *group, struct process_rank *self,
                              struct process_rank *all)
{
    struct mt_record *record = mt_record_create();
    struct mt_call call = {.sequence = 41,
                           .count = 512,
                           .collective = MANTA_ALLREDUCE,
                           .dtype = MANTA_FLOAT32,
                           .root = MANTA_PLAN_NONE,
                           .posted_ns = mt_clock_now_ns()};
    mt_record_begin(record, &call);
    mt_control_set_record(group->control, record);
    atomic_store(&self->stage, READY);
    process_await(&all[0], GO_ON);
    mt_control_timeout(group->control, &call);
    await_failure(group, self);
}

static void stopped_rank_is_named(void **state)
{
    (void)state;
    const uint32_t ranks = 6, stopped = 2;
    struct process_rank *list = processes_start(ranks, "127.0.0.1", call_and_time_out);
    await_all(list, ranks);
    kill(list[stopped].pid, SIGSTOP);
    assert_int_equal(waitpid(list[stopped].pid, NULL, WUNTRACED), list[stopped].pid);
    atomic_store(&list[0].stage, GO_ON);
    for (uint32_t r = 0; r < ranks; r++) {
        struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, list[r].pid, 0),
                               .events = POLLIN};
        if (r != stopped)
            assert_int_equal(poll(&ended, 1, 20000), 1);
        close(ended.fd);
    }
    kill(list[stopped].pid, SIGKILL);
    assert_int_equal(processes_wait(list, ranks), 0);
    for (uint32_t r = 0; r < ranks; r++) {
        if (r == stopped)
            continue;
        assert_int_equal(list[r].result, 0);
        assert_int_equal(list[r].error.code, MANTA_ETIMEOUT);
        assert_int_equal(list[r].error.rank, (int)stopped);
        assert_non_null(strstr(list[r].error.sentence, "rank 2 does not answer: its process is "
                                                       "stopped or its host is silent; rank "));
        assert_non_null(strstr(list[r].error.sentence, " in #41 allreduce(512 float32, sum)"));
    }
    processes_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_rank_is_named),
        cmocka_unit_test(forked_child_does_not_hide_a_death),
        cmocka_unit_test(exit_without_destroy_is_a_death),
        cmocka_unit_test(who_has_closed_a_link_is_not_said_to_have_ended),
        cmocka_unit_test(leaving_and_exiting_is_no_death),
        cmocka_unit_test(stopped_rank_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
