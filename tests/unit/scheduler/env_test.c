/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/session.h"

static char session[512];

static int setup(void **state)
{
    (void)state;
    struct mt_session made = {.address_count = 1, .addresses = {"127.0.0.1:4000"}};
    memset(made.secret, 7, sizeof made.secret);
    assert_int_equal(mt_session_format(&made, session, sizeof session), 0);
    setenv("MANTA_RANK", "2", 1);
    setenv("MANTA_SIZE", "4", 1);
    setenv("MANTA_SESSION", session, 1);
    unsetenv("MANTA_NODE");
    return 0;
}

static void expect_refusal(const char *words)
{
    struct mt_scheduler_job job = MT_SCHEDULER_JOB_UNKNOWN;
    struct mt_error error = {0};
    assert_int_equal(mt_scheduler_detect(&job, &error), MANTA_ESCHEDULER);
    assert_int_equal(error.code, MANTA_ESCHEDULER);
    if (strstr(error.sentence, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.sentence, words);
}

static void reads_all_four(void **state)
{
    (void)state;
    struct mt_scheduler_job job = MT_SCHEDULER_JOB_UNKNOWN;
    struct mt_error error = {0};
    setenv("MANTA_NODE", "node1", 1);
    assert_int_equal(mt_scheduler_detect(&job, &error), 0);
    assert_int_equal(job.rank, 2);
    assert_int_equal(job.ranks, 4);
    assert_string_equal(job.session, session);
    assert_string_equal(job.node, "node1");
}

static void node_may_be_missing(void **state)
{
    (void)state;
    struct mt_scheduler_job job = MT_SCHEDULER_JOB_UNKNOWN;
    struct mt_error error = {0};
    assert_int_equal(mt_scheduler_detect(&job, &error), 0);
    assert_string_equal(job.node, "");
}

static void names_the_missing_variable(void **state)
{
    (void)state;
    static const char *const names[] = {"MANTA_RANK", "MANTA_SIZE", "MANTA_SESSION"};
    for (int i = 0; i < 3; i++) {
        char words[64];
        setup(NULL);
        unsetenv(names[i]);
        snprintf(words, sizeof words, "%s is not set", names[i]);
        expect_refusal(words);
        setenv(names[i], "", 1);
        expect_refusal(words);
    }
}

/* All that are missing in one sentence, and no others before it tells what to do. */
static void names_every_missing_variable(void **state)
{
    (void)state;
    unsetenv("MANTA_SIZE");
    expect_refusal("MANTA_SIZE is not set, but the rest is; start");
    unsetenv("MANTA_SESSION");
    expect_refusal("MANTA_SIZE and MANTA_SESSION are not set, but the rest is; start");
    unsetenv("MANTA_RANK");
    expect_refusal("MANTA_RANK, MANTA_SIZE and MANTA_SESSION are not set; start");
    setenv("MANTA_SIZE", "4", 1);
    expect_refusal("MANTA_RANK and MANTA_SESSION are not set, but the rest is; start");
}

/* What the caller has given is neither asked for nor read. */
static void completes_what_the_caller_gave(void **state)
{
    (void)state;
    struct mt_scheduler_job job = {.rank = 1, .ranks = 9};
    struct mt_error error = {0};
    setenv("MANTA_RANK", "rubbish", 1);
    unsetenv("MANTA_SIZE");
    assert_int_equal(mt_scheduler_detect(&job, &error), 0);
    assert_int_equal(job.rank, 1);
    assert_int_equal(job.ranks, 9);
    assert_string_equal(job.session, session);

    unsetenv("MANTA_SESSION");
    job = (struct mt_scheduler_job){.rank = 1, .ranks = 9};
    assert_int_equal(mt_scheduler_detect(&job, &error), MANTA_ESCHEDULER);
    assert_non_null(strstr(error.sentence, "MANTA_SESSION is not set, but the rest is"));

    job = (struct mt_scheduler_job){.rank = -1, .ranks = 9, .session = "given"};
    setenv("MANTA_RANK", "8", 1);
    assert_int_equal(mt_scheduler_detect(&job, &error), 0);
    assert_int_equal(job.rank, 8);
    assert_string_equal(job.session, "given");
    job.rank = -1;
    setenv("MANTA_RANK", "9", 1);
    assert_int_equal(mt_scheduler_detect(&job, &error), MANTA_ESCHEDULER);
    assert_non_null(strstr(error.sentence, "size - 1, which is 8"));
}

static void names_the_garbled_number(void **state)
{
    (void)state;
    static const char *const garbage[] = {
        "x", "-1", "4", "1.5", "0x1", " 1 2", "99999999999999999999999999", "2147483648", "1k\n"};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        setenv("MANTA_RANK", garbage[i], 1);
        expect_refusal("MANTA_RANK is '");
        expect_refusal("size - 1, which is 3");
    }
    setup(NULL);
    static const char *const sizes[] = {"0", "-4", "four", "2147483648", "18446744073709551617"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        setenv("MANTA_SIZE", sizes[i], 1);
        expect_refusal("MANTA_SIZE is '");
    }
}

static void garbled_session_does_not_leak_the_secret(void **state)
{
    (void)state;
    char broken[600];
    snprintf(broken, sizeof broken, "%s:oops", session);
    setenv("MANTA_SESSION", broken, 1);
    expect_refusal("MANTA_SESSION is garbled");
    char secret[33] = "";
    memcpy(secret, strchr(session, ':') + 1, 32);
    struct mt_scheduler_job job = MT_SCHEDULER_JOB_UNKNOWN;
    struct mt_error error = {0};
    assert_int_equal(mt_scheduler_detect(&job, &error), MANTA_ESCHEDULER);
    assert_null(strstr(error.sentence, secret));
}

static void refuses_a_node_name_without_end(void **state)
{
    (void)state;
    char name[400];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    setenv("MANTA_NODE", name, 1);
    expect_refusal("MANTA_NODE is longer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(reads_all_four, setup),
        cmocka_unit_test_setup(node_may_be_missing, setup),
        cmocka_unit_test_setup(names_the_missing_variable, setup),
        cmocka_unit_test_setup(names_every_missing_variable, setup),
        cmocka_unit_test_setup(completes_what_the_caller_gave, setup),
        cmocka_unit_test_setup(names_the_garbled_number, setup),
        cmocka_unit_test_setup(garbled_session_does_not_leak_the_secret, setup),
        cmocka_unit_test_setup(refuses_a_node_name_without_end, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
