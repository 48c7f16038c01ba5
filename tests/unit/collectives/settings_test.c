/* SPDX-License-Identifier: Apache-2.0 */
/* A communicator's settings, and the text by which ranks find that theirs differ. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "collectives/comm.h"
#include "core/bootstrap.h"
#include "core/clock.h"
#include "core/config.h"

static int clear_environment(void **state)
{
    (void)state;
    for (int i = 0; i < MT_CONFIG_VARIABLE_COUNT; i++)
        unsetenv(mt_config_entry(i)->variable);
    return 0;
}

/* The fingerprint of a rank with this config (NULL: none) in the environment as it is. */
static void fingerprint(const struct manta_config *config, char text[8192])
{
    struct mt_settings settings;
    struct mt_error error = {0};
    if (mt_settings_read(config, &settings, &error))
        fail_msg("%s", error.sentence);
    assert_int_equal(mt_settings_fingerprint(&settings, text, 8192), 0);
}

static void expect_difference(const char *rank0, const char *rank1, const char *wanted)
{
    struct mt_error error = {0};
    assert_int_equal(mt_bootstrap_compare((const char *const[]){rank0, rank1}, 2, &error),
                     MANTA_EVERSION);
    assert_string_equal(error.sentence, wanted);
}

static void has_what_ranks_must_share(void **state)
{
    char one[8192], other[8192];
    (void)state;
    setenv("MANTA_SEGMENT", "2M", 1);
    setenv("MANTA_TIMEOUT", "0.25", 1);
    setenv("MANTA_RANK", "1", 1);
    setenv("MANTA_SPIN", "1us", 1);
    setenv("MANTA_ALLREDUCE", "ring", 1);
    fingerprint(NULL, one);
    assert_non_null(strstr(one, "MANTA_ALLREDUCE=ring\n"));
    assert_null(strstr(one, "MANTA_RANK"));
    assert_null(strstr(one, "MANTA_SESSION"));
    setenv("MANTA_SEGMENT", "2048k", 1); /* the same, written in another way */
    setenv("MANTA_TIMEOUT", "250ms", 1);
    setenv("MANTA_RANK", "2", 1);
    setenv("MANTA_SPIN", "2us", 1); /* a rank's own affair */
    fingerprint(NULL, other);
    assert_string_equal(one, other);
}

static void a_difference_names_the_variable(void **state)
{
    char one[8192], other[8192];
    struct manta_config config = MANTA_CONFIG_INIT;
    (void)state;
    fingerprint(NULL, one);
    setenv("MANTA_TIMEOUT", "30", 1);
    fingerprint(NULL, other);
    expect_difference(
        one, other,
        "MANTA_TIMEOUT is \"600s\" on rank 0 and \"30s\" on rank 1; give all ranks the same");
    unsetenv("MANTA_TIMEOUT");
    config.timeout_ns = MT_SECOND / 2;
    fingerprint(&config, other);
    expect_difference(
        one, other,
        "MANTA_TIMEOUT is \"600s\" on rank 0 and \"0.5s\" on rank 1; give all ranks the same");
    config.timeout_ns = 0;
    config.transports = "tcp";
    fingerprint(&config, other);
    expect_difference(one, other,
                      "MANTA_TRANSPORTS is \"shm,ofi,verbs,tcp\" on rank 0 and \"tcp\" on rank 1; "
                      "give all ranks the "
                      "same");
    setenv("MANTA_SEGMENT", "64k", 1);
    fingerprint(NULL, other);
    expect_difference(
        one, other,
        "MANTA_SEGMENT is \"0\" on rank 0 and \"65536\" on rank 1; give all ranks the same");
}

static void a_config_may_say_what_the_environment_says(void **state)
{
    char one[8192], other[8192];
    struct manta_config config = MANTA_CONFIG_INIT;
    (void)state;
    config.timeout_ns = 20 * (uint64_t)MT_SECOND;
    config.transports = "tcp";
    fingerprint(&config, one);
    setenv("MANTA_TIMEOUT", "20s", 1);
    setenv("MANTA_TRANSPORTS", "tcp", 1);
    fingerprint(NULL, other);
    assert_string_equal(one, other);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) < 0, 0);
    assert_int_equal(fclose(file), 0);
}

static void tuning_files_differ_by_what_they_say(void **state)
{
    char one[8192], other[8192], folder[] = "/tmp/manta-settings-XXXXXX", a[64], b[64];
    struct mt_error error = {0};
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(a, sizeof a, "%s/a", folder);
    snprintf(b, sizeof b, "%s/b", folder);
    write_file(a, "manta-tuning 1\nnode core_ns 7\ngamma_ps_per_byte 3\n");
    write_file(b, "manta-tuning 1\n# another place\ngamma_ps_per_byte 3\nnode core_ns 7\n");
    setenv("MANTA_TUNING", a, 1);
    fingerprint(NULL, one);
    setenv("MANTA_TUNING", b, 1);
    fingerprint(NULL, other);
    assert_string_equal(one, other);
    write_file(b, "manta-tuning 1\ngamma_ps_per_byte 3\nnode core_ns 8\n");
    fingerprint(NULL, other);
    assert_int_equal(mt_bootstrap_compare((const char *const[]){one, other}, 2, &error),
                     MANTA_EVERSION);
    assert_non_null(strstr(error.sentence, "MANTA_TUNING is \"a file of values "));
    unsetenv("MANTA_TUNING");
    fingerprint(NULL, other);
    assert_int_equal(mt_bootstrap_compare((const char *const[]){one, other}, 2, &error),
                     MANTA_EVERSION);
    unlink(a);
    unlink(b);
    rmdir(folder);
}

static void needs_room(void **state)
{
    struct mt_settings settings;
    struct mt_error error;
    char text[8192];
    (void)state;
    assert_int_equal(mt_settings_read(NULL, &settings, &error), 0);
    assert_int_equal(mt_settings_fingerprint(&settings, text, sizeof text), 0);
    size_t length = strlen(text);
    assert_int_equal(mt_settings_fingerprint(&settings, text, length + 1), 0);
    assert_int_equal(mt_settings_fingerprint(&settings, text, length), MANTA_EINVAL);
    assert_int_equal(mt_settings_fingerprint(&settings, text, 1), MANTA_EINVAL);
    assert_int_equal(mt_settings_fingerprint(&settings, text, 0), MANTA_EINVAL);
}

#define TEST(function)                                                                             \
    cmocka_unit_test_setup_teardown(function, clear_environment, clear_environment)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(has_what_ranks_must_share),
        TEST(a_difference_names_the_variable),
        TEST(a_config_may_say_what_the_environment_says),
        TEST(tuning_files_differ_by_what_they_say),
        TEST(needs_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
