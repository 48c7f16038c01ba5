/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/log.h"

/* Run `body` in a child whose stderr is a pipe; its text in `text`, returns its wait status. */
static int captured(void (*body)(void), char *text, size_t room)
{
    int ends[2], status = 0;
    size_t used = 0;
    ssize_t got;

    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        body();
        _exit(0);
    }
    close(ends[1]);
    while (used + 1 < room && (got = read(ends[0], text + used, room - used - 1)) > 0)
        used += (size_t)got;
    text[used] = 0;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void one_line_of_each_level(void)
{
    mt_log_set_level(-1);
    mt_log(MT_LOG_ERROR, 3, "it %s", "broke");
    mt_log(MT_LOG_WARN, -1, "careful");
    mt_log(MT_LOG_INFO, 0, "by the way");
    mt_log(MT_LOG_DEBUG, 12, "details");
}

static void expect_lines(const char *level, const char *expected)
{
    char text[4096];
    if (level)
        setenv("MANTA_LOG", level, 1);
    else
        unsetenv("MANTA_LOG");
    assert_int_equal(captured(one_line_of_each_level, text, sizeof text), 0);
    assert_string_equal(text, expected);
    unsetenv("MANTA_LOG");
}

static void the_level_comes_from_the_environment(void **state)
{
    static const char upto_warn[] = "manta[3] error: it broke\nmanta warn: careful\n";
    (void)state;
    expect_lines(NULL, upto_warn);
    expect_lines("", upto_warn);
    expect_lines("warn", upto_warn);
    expect_lines("error", "manta[3] error: it broke\n");
    expect_lines("info", "manta[3] error: it broke\nmanta warn: careful\n"
                         "manta[0] info: by the way\n");
    expect_lines("debug", "manta[3] error: it broke\nmanta warn: careful\n"
                          "manta[0] info: by the way\nmanta[12] debug: details\n");
    expect_lines("loud", "manta warn: MANTA_LOG is 'loud'; it must be error, warn, info or debug\n"
                         "manta[3] error: it broke\nmanta warn: careful\n");
}

static void enabled_says_what_would_be_logged(void **state)
{
    (void)state;
    mt_log_set_level(MT_LOG_INFO);
    assert_true(mt_log_enabled(MT_LOG_ERROR));
    assert_true(mt_log_enabled(MT_LOG_INFO));
    assert_false(mt_log_enabled(MT_LOG_DEBUG));
    assert_false(mt_log_enabled(-1));
    mt_log_set_level(99);
    assert_true(mt_log_enabled(MT_LOG_DEBUG));
    assert_false(mt_log_enabled(4));
}

static void one_hard_line(void)
{
    char longer[5000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    mt_log(MT_LOG_ERROR, 1, "two\nlines \033[31m\x7f");
    mt_log(MT_LOG_ERROR, 1, "%s", longer);
}

static void a_line_is_one_line_and_is_cut(void **state)
{
    static const char first[] = "manta[1] error: two lines  [31m \n";
    char text[8192];
    (void)state;
    assert_int_equal(captured(one_hard_line, text, sizeof text), 0);
    assert_memory_equal(text, first, sizeof first - 1);
    assert_int_equal(strlen(text), sizeof first - 1 + 1024);
    assert_ptr_equal(strchr(text + sizeof first - 1, '\n'), text + strlen(text) - 1);
}

/* The reader of stderr is gone: no signal kills the process, errno and the mask stay. */
static void log_to_nobody(void)
{
    int ends[2];
    sigset_t blocked, pending;

    if (pipe(ends) != 0 || dup2(ends[1], STDERR_FILENO) < 0)
        _exit(1);
    close(ends[0]);
    close(ends[1]);
    errno = E2BIG;
    mt_log(MT_LOG_ERROR, 0, "who hears this?");
    if (errno != E2BIG)
        _exit(2);
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    sigpending(&pending);
    if (sigismember(&blocked, SIGPIPE) || sigismember(&pending, SIGPIPE))
        _exit(3);
    close(STDERR_FILENO);
    mt_log(MT_LOG_ERROR, 0, "and this?");
}

static void a_closed_stderr_does_no_harm(void **state)
{
    char text[256];
    (void)state;
    assert_int_equal(captured(log_to_nobody, text, sizeof text), 0);
    assert_string_equal(text, "");
}

static void keep(void *arg, const char *line)
{
    strcpy(arg, line);
}

static void a_sink_replaces_stderr(void **state)
{
    char line[2048] = "", text[256];
    (void)state;
    mt_log_set_level(MT_LOG_WARN);
    mt_log_sink(keep, line);
    mt_log(MT_LOG_WARN, 7, "count %d", 42);
    assert_string_equal(line, "manta[7] warn: count 42");
    mt_log(MT_LOG_INFO, 7, "not this");
    assert_string_equal(line, "manta[7] warn: count 42");
    errno = EDOM;
    mt_log(MT_LOG_WARN, 7, "%m");
    assert_string_equal(line + strlen("manta[7] warn: "), strerror(EDOM));
    assert_int_equal(errno, EDOM);
    mt_log_sink(NULL, NULL);
    captured(one_hard_line, text, sizeof text);
    assert_true(text[0] != 0);
}

struct talker {
    pthread_t thread;
    int number;
};

static void *talk(void *arg)
{
    const struct talker *talker = arg;
    for (int i = 0; i < 200; i++)
        mt_log(MT_LOG_WARN, talker->number, "%04d %0200d", i, i);
    return NULL;
}

static void four_talkers(void)
{
    struct talker talkers[4];
    mt_log_set_level(-1); /* the first lines of all find out the level together */
    for (int i = 0; i < 4; i++) {
        talkers[i].number = i;
        if (pthread_create(&talkers[i].thread, NULL, talk, &talkers[i]) != 0)
            _exit(1);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(talkers[i].thread, NULL);
}

static void lines_of_threads_do_not_mix(void **state)
{
    enum { ROOM = 1 << 20 };
    char *text = malloc(ROOM);
    int lines = 0, next[4] = {0};
    (void)state;
    assert_non_null(text);
    assert_int_equal(captured(four_talkers, text, ROOM), 0);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        int rank, number, again;
        assert_int_equal(sscanf(line, "manta[%d] warn: %d %d", &rank, &number, &again), 3);
        assert_in_range(rank, 0, 3);
        assert_int_equal(number, next[rank]++);
        assert_int_equal(again, number);
        lines++;
    }
    assert_int_equal(lines, 800);
    free(text);
}

static void count_line(void *arg, const char *line)
{
    (void)line;
    ++*(int *)arg; /* under the sink's lock */
}

static void a_sink_is_called_by_one_thread_at_a_time(void **state)
{
    int count = 0;
    (void)state;
    mt_log_sink(count_line, &count);
    four_talkers();
    mt_log_sink(NULL, NULL);
    assert_int_equal(count, 800);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_level_comes_from_the_environment),
        cmocka_unit_test(enabled_says_what_would_be_logged),
        cmocka_unit_test(a_line_is_one_line_and_is_cut),
        cmocka_unit_test(a_closed_stderr_does_no_harm),
        cmocka_unit_test(a_sink_replaces_stderr),
        cmocka_unit_test(lines_of_threads_do_not_mix),
        cmocka_unit_test(a_sink_is_called_by_one_thread_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
