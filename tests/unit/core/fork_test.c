/* SPDX-License-Identifier: Apache-2.0 */
/* A forked child keeps nothing of the library open, and can use it afresh; whoever leaves all
 * groups has as many descriptors and threads as before. */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/control.h"
#include "core/service.h"
#include "tests/support/group_ranks.h"
#include "tests/support/held.h"

/* ThreadSanitizer does not let the child of a process with threads start threads of its own. What
 * AddressSanitizer had locked in another thread at the fork, its allocator among it, stays locked
 * in the child (GCC 12). */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { CHILD_MAY_START_THREADS = 0 };
#else
enum { CHILD_MAY_START_THREADS = 1 };
#endif

static int entries(const char *path)
{
    DIR *folder = opendir(path);
    int count = 0;
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

/* Exit status of a child that runs body, or -1. */
static int in_child(int (*body)(void *arg), void *arg)
{
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(120);
        _exit(body(arg));
    }
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

struct descriptors {
    int entered, removed, strange, high;
};

static int check_descriptors(void *arg)
{
    const struct descriptors *descriptors = arg;
    if (fcntl(descriptors->entered, F_GETFD) >= 0 || fcntl(descriptors->high, F_GETFD) >= 0)
        return 1;
    if (fcntl(descriptors->removed, F_GETFD) < 0 || fcntl(descriptors->strange, F_GETFD) < 0)
        return 2;
    return 0;
}

static void child_closes_what_was_entered(void **state)
{
    (void)state;
    uint32_t generation = mt_fork_generation();
    struct descriptors descriptors;
    descriptors.entered = open("/dev/null", O_RDONLY | O_CLOEXEC);
    descriptors.removed = open("/dev/null", O_RDONLY | O_CLOEXEC);
    descriptors.strange = open("/dev/null", O_RDONLY | O_CLOEXEC);
    descriptors.high = fcntl(descriptors.strange, F_DUPFD_CLOEXEC, 777);
    mt_fd_enter(descriptors.entered);
    mt_fd_enter(descriptors.removed);
    mt_fd_enter(descriptors.high);
    mt_fd_close(descriptors.removed);
    assert_int_equal(dup3(descriptors.strange, descriptors.removed, O_CLOEXEC),
                     descriptors.removed); /* its number, but somebody else's now */
    mt_fd_enter(-1);
    mt_fd_close(-1);
    assert_int_equal(in_child(check_descriptors, &descriptors), 0);
    assert_false(mt_fork_happened(generation));
    mt_fd_close(descriptors.entered);
    mt_fd_close(descriptors.high);
    assert_int_equal(fcntl(descriptors.entered, F_GETFD), -1);
    close(descriptors.removed);
    close(descriptors.strange);
}

static void exchange_once(struct group_rank *rank)
{
    struct group_parts out;
    rank->result = group_rank_exchange(rank, "abc", 3, 20 * MT_SECOND, &out);
    free(out.storage);
}

/* In the child: the parent's group is out of reach, and a new one works. */
static int use_afresh(void *arg)
{
    struct group_rank *parent = arg, rank[3];
    char session[512];
    if (!mt_fork_happened(parent->group->generation))
        return 1;
    mt_group_leave(parent->group); /* does nothing */
    if (fcntl(mt_control_wake_fd(parent->group->control), F_GETFD) >= 0)
        return 2;
    if (!CHILD_MAY_START_THREADS)
        return 0;
    if (manta_session_create(session, sizeof session))
        return 3;
    group_ranks_init(rank, 3, session);
    group_ranks_run(rank, 3, exchange_once);
    for (int r = 0; r < 3; r++)
        if (rank[r].result)
            return 4;
    return held_threads() == 1 ? 0 : 5;
}

static void fork_within(struct group_rank *rank)
{
    if (rank->rank == 1 && in_child(use_afresh, rank) != 0)
        rank->result = -100;
    if (rank->result == 0)
        exchange_once(rank); /* the parent's group goes on */
}

static void child_can_use_the_library_afresh(void **state)
{
    (void)state;
    char session[512];
    struct group_rank rank[4];
    assert_int_equal(manta_session_create(session, sizeof session), 0);
    group_ranks_init(rank, 4, session);
    group_ranks_run(rank, 4, fork_within);
    for (int r = 0; r < 4; r++)
        assert_int_equal(rank[r].result, 0);
}

static int use_once(uint32_t ranks)
{
    char session[512];
    struct group_rank rank[8];
    if (manta_session_create(session, sizeof session))
        return 1;
    group_ranks_init(rank, ranks, session);
    group_ranks_run(rank, ranks, exchange_once);
    for (uint32_t r = 0; r < ranks; r++)
        if (rank[r].result)
            return 1;
    return 0;
}

static void nothing_is_left_behind(void **state)
{
    (void)state;
    assert_int_equal(use_once(2), 0);
    int descriptors = entries("/proc/self/fd"), threads = held_threads();
    for (int round = 0; round < 20; round++)
        assert_int_equal(use_once(1 + (uint32_t)round % 8), 0);
    assert_int_equal(entries("/proc/self/fd"), descriptors);
    assert_int_equal(held_threads(), threads);
}

static void failed_joins_leave_nothing_behind(void **state)
{
    (void)state;
    int descriptors = entries("/proc/self/fd"), threads = held_threads();
    struct group_rank rank[2];
    for (int round = 0; round < 4; round++) {
        char session[512];
        assert_int_equal(manta_session_create(session, sizeof session), 0);
        group_ranks_init(rank, 2, session);
        rank[1].fingerprint = round % 2 ? "A=1\n" : "";
        rank[1].ranks = round % 2 ? 2 : 3;
        group_ranks_run(rank, 2, NULL);
        assert_int_equal(rank[0].result, round % 2 ? MANTA_EVERSION : MANTA_EINVAL);
    }
    assert_int_equal(entries("/proc/self/fd"), descriptors);
    assert_int_equal(held_threads(), threads);
}

/* With ever more descriptors allowed, each step of a join fails once for want of one. */
static int join_with_few(void *arg)
{
    (void)arg;
    int highest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(highest);
    for (int extra = 0; extra < 40; extra++) {
        struct rlimit limit = {(rlim_t)(highest + extra), (rlim_t)(highest + 200)};
        char session[512];
        struct group_rank rank[2];
        setrlimit(RLIMIT_NOFILE, &limit);
        int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
        close(before);
        if (manta_session_create(session, sizeof session) == 0) {
            group_ranks_init(rank, 2, session);
            rank[0].timeout_ns = rank[1].timeout_ns =
                extra == 39 ? 20 * MT_SECOND : 100 * (uint64_t)MT_MS;
            group_ranks_run(rank, 2, NULL);
            if (extra == 39 && (rank[0].result || rank[1].result))
                return 1;
        } else if (extra == 39) {
            return 2;
        }
        int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
        close(after);
        if (before != after)
            return 3;
    }
    return 0;
}

static void want_of_descriptors_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(in_child(join_with_few, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(child_closes_what_was_entered),
        cmocka_unit_test(child_can_use_the_library_afresh),
        cmocka_unit_test(nothing_is_left_behind),
        cmocka_unit_test(failed_joins_leave_nothing_behind),
        cmocka_unit_test(want_of_descriptors_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
