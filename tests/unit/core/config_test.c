/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/config.h"
#include "core/log.h"

static int clear_environment(void **state)
{
    (void)state;
    for (int i = 0; i < MT_CONFIG_VARIABLE_COUNT; i++)
        unsetenv(mt_config_entry(i)->variable);
    unsetenv("MANTA_TYPO");
    return 0;
}

static void bytes_parse(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"1", 1},
                {"4096", 4096},
                {"4k", 4096},
                {"4K", 4096},
                {"4KiB", 4096},
                {"3M", 3145728},
                {"3MiB", 3145728},
                {"2G", UINT64_C(2147483648)},
                {"1T", UINT64_C(1099511627776)},
                {"18446744073709551615", UINT64_MAX},
                {"17179869183G", UINT64_C(17179869183) << 30}};
    static const char *const bad[] = {"",
                                      " ",
                                      "k",
                                      "-1",
                                      "+1",
                                      "1.5k",
                                      "4kk",
                                      "4kB",
                                      "4Ki",
                                      "4iB",
                                      "4KiB ",
                                      "4KKiB",
                                      "4 k",
                                      " 4",
                                      "4 ",
                                      "0x10",
                                      "4e3",
                                      "1m",
                                      "18446744073709551616",
                                      "17179869184G",
                                      "99999999999999999999999",
                                      "1\n"};
    uint64_t bytes = 77;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(mt_parse_bytes(good[i].text, &bytes), 0);
        assert_true(bytes == good[i].bytes);
    }
    bytes = 77;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(mt_parse_bytes(bad[i], &bytes), MANTA_EINVAL);
    assert_true(bytes == 77);
}

static void times_parse(void **state)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {{"0", 0},
                {"2", UINT64_C(2000000000)},
                {"2s", UINT64_C(2000000000)},
                {"0.5", 500000000},
                {"250ms", 250000000},
                {"50us", 50000},
                {"7ns", 7},
                {"1.25ms", 1250000},
                {"0.000000001", 1},
                {"0.0000000019", 1},
                {"1.000000000000000000000000", UINT64_C(1000000000)},
                {"18446744073", UINT64_C(18446744073000000000)},
                {"18446744073.709551615", UINT64_MAX}};
    static const char *const bad[] = {"",
                                      ".5",
                                      "1.",
                                      "-1",
                                      "1e3",
                                      "1 s",
                                      " 1",
                                      "1m",
                                      "ms",
                                      "1.s",
                                      "1.2.3",
                                      "inf",
                                      "nan",
                                      "1,5",
                                      "1sec",
                                      "18446744074",
                                      "18446744073.709551616",
                                      "99999999999999999999"};
    uint64_t ns = 77;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(mt_parse_ns(good[i].text, &ns), 0);
        assert_true(ns == good[i].ns);
    }
    ns = 77;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(mt_parse_ns(bad[i], &ns), MANTA_EINVAL);
    assert_true(ns == 77);
}

static void entries_are_complete_and_defaults_parse(void **state)
{
    struct mt_error error = {0};
    uint64_t number;
    int flag;
    (void)state;
    for (int i = 0; i < MT_CONFIG_VARIABLE_COUNT; i++) {
        const struct mt_config_entry *entry = mt_config_entry(i);
        assert_memory_equal(entry->variable, "MANTA_", 6);
        assert_true(strlen(entry->meaning) > 10);
        assert_false(mt_config_is_set(i));
        assert_string_equal(mt_config_string(i), entry->fallback);
        if (!*entry->fallback)
            continue;
        if (entry->kind == MT_CONFIG_BYTES)
            assert_int_equal(mt_config_bytes(i, &number, &error), 0);
        if (entry->kind == MT_CONFIG_COUNT)
            assert_int_equal(mt_config_count(i, &number, &error), 0);
        if (entry->kind == MT_CONFIG_SECONDS)
            assert_int_equal(mt_config_ns(i, &number, &error), 0);
        if (entry->kind == MT_CONFIG_FLAG)
            assert_int_equal(mt_config_flag(i, &flag, &error), 0);
    }
    assert_null(mt_config_entry(-1));
    assert_null(mt_config_entry(MT_CONFIG_VARIABLE_COUNT));
}

static void the_environment_overrides_unless_empty(void **state)
{
    struct mt_error error = {0};
    uint64_t number;
    int flag;
    (void)state;
    setenv("MANTA_TIMEOUT", "1.5", 1);
    assert_int_equal(mt_config_ns(MT_VAR(TIMEOUT), &number, &error), 0);
    assert_true(number == 1500000000);
    assert_true(mt_config_is_set(MT_VAR(TIMEOUT)));
    setenv("MANTA_TIMEOUT", "", 1);
    assert_int_equal(mt_config_ns(MT_VAR(TIMEOUT), &number, &error), 0);
    assert_true(number == UINT64_C(600000000000));
    assert_false(mt_config_is_set(MT_VAR(TIMEOUT)));
    setenv("MANTA_REPRODUCIBLE", "1", 1);
    assert_int_equal(mt_config_flag(MT_VAR(REPRODUCIBLE), &flag, &error), 0);
    assert_int_equal(flag, 1);
    setenv("MANTA_RANK", "12", 1);
    assert_int_equal(mt_config_count(MT_VAR(RANK), &number, &error), 0);
    assert_true(number == 12);
}

static void a_bad_value_is_named(void **state)
{
    struct mt_error error = {0};
    uint64_t number;
    int flag;
    (void)state;
    setenv("MANTA_SEGMENT", "12 apples", 1);
    assert_int_equal(mt_config_bytes(MT_VAR(SEGMENT), &number, &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "MANTA_SEGMENT"));
    assert_non_null(strstr(error.sentence, "12 apples"));
    assert_non_null(strstr(error.sentence, "1M"));
    assert_int_equal(mt_config_count(MT_VAR(RANK), &number, &error), MANTA_EINVAL);
    assert_string_equal(error.sentence,
                        "MANTA_RANK is not set; it must be a number of decimal digits");
    setenv("MANTA_REPRODUCIBLE", "yes", 1);
    assert_int_equal(mt_config_flag(MT_VAR(REPRODUCIBLE), &flag, &error), MANTA_EINVAL);
    assert_int_equal(error.code, MANTA_EINVAL);
    setenv("MANTA_REPRODUCIBLE", "10", 1);
    assert_int_equal(mt_config_flag(MT_VAR(REPRODUCIBLE), &flag, &error), MANTA_EINVAL);
    setenv("MANTA_SPIN", "soon", 1);
    assert_int_equal(mt_config_ns(MT_VAR(SPIN), &number, &error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "MANTA_SPIN"));
}

static void keep_line(void *arg, const char *line)
{
    strncat(arg, line, 1000);
}

static void check_warns_of_unknown_variables(void **state)
{
    struct mt_error error = {0};
    char lines[2048] = "";
    (void)state;
    mt_log_set_level(MT_LOG_WARN);
    mt_log_sink(keep_line, lines);
    assert_int_equal(mt_config_check(&error), 0);
    assert_string_equal(lines, "");
    setenv("MANTA_TYPO", "a value", 1);
    assert_int_equal(mt_config_check(&error), 0);
    mt_log_sink(NULL, NULL);
    assert_non_null(strstr(lines, "MANTA_TYPO"));
    assert_null(strstr(lines, "a value"));
}

static void check_refuses_bad_values_and_keeps_the_secret(void **state)
{
    struct mt_error error = {0};
    (void)state;
    setenv("MANTA_SHM_MAX", "lots", 1);
    assert_int_equal(mt_config_check(&error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "MANTA_SHM_MAX"));
    unsetenv("MANTA_SHM_MAX");
    setenv("MANTA_TIMEOUT", "0.0", 1);
    assert_int_equal(mt_config_check(&error), MANTA_EINVAL);
    assert_non_null(
        strstr(error.sentence, "MANTA_TIMEOUT is '0.0'; it must be a time of more than"));
    unsetenv("MANTA_TIMEOUT");
    setenv("MANTA_SESSION", "secret\nstring", 1);
    assert_int_equal(mt_config_check(&error), MANTA_EINVAL);
    assert_non_null(strstr(error.sentence, "MANTA_SESSION"));
    assert_null(strstr(error.sentence, "secret"));
}

static void expect_line(int name, const char *value, const char *wanted)
{
    char text[64];
    size_t length = mt_config_line(name, value, text, sizeof text);
    assert_string_equal(text, wanted);
    assert_int_equal(length, strlen(wanted));
}

static void lines_hold_values_not_their_writing(void **state)
{
    (void)state;
    expect_line(MT_VAR(SEGMENT), "2M", "MANTA_SEGMENT=2097152\n");
    expect_line(MT_VAR(SEGMENT), "2048k", "MANTA_SEGMENT=2097152\n");
    expect_line(MT_VAR(SEGMENT), "2049k", "MANTA_SEGMENT=2098176\n");
    expect_line(MT_VAR(TIMEOUT), "600", "MANTA_TIMEOUT=600s\n");
    expect_line(MT_VAR(TIMEOUT), "0.25", "MANTA_TIMEOUT=0.25s\n");
    expect_line(MT_VAR(TIMEOUT), "250ms", "MANTA_TIMEOUT=0.25s\n");
    expect_line(MT_VAR(WARN), "0", "MANTA_WARN=0s\n");
    expect_line(MT_VAR(TIMEOUT), "18446744073709551615ns",
                "MANTA_TIMEOUT=18446744073.709551615s\n");
    expect_line(MT_VAR(ALLREDUCE), NULL, "MANTA_ALLREDUCE=\n");
    setenv("MANTA_ALLREDUCE", "ring", 1);
    expect_line(MT_VAR(ALLREDUCE), NULL, "MANTA_ALLREDUCE=ring\n");
    setenv("MANTA_SEGMENT", "lots", 1); /* refused elsewhere */
    expect_line(MT_VAR(SEGMENT), NULL, "MANTA_SEGMENT=lots\n");
}

static void a_line_tells_what_room_it_needs(void **state)
{
    char text[16];
    size_t length = strlen("MANTA_REDUCE=ring\n");
    (void)state;
    assert_int_equal(mt_config_line(MT_VAR(REDUCE), "ring", text, sizeof text), length);
    assert_string_equal(text, "MANTA_REDUCE=ri");
    assert_int_equal(mt_config_line(MT_VAR(REDUCE), "ring", NULL, 0), length);
}

#define TEST(function)                                                                             \
    cmocka_unit_test_setup_teardown(function, clear_environment, clear_environment)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_parse),
        TEST(times_parse),
        TEST(entries_are_complete_and_defaults_parse),
        TEST(the_environment_overrides_unless_empty),
        TEST(a_bad_value_is_named),
        TEST(check_warns_of_unknown_variables),
        TEST(check_refuses_bad_values_and_keeps_the_secret),
        TEST(lines_hold_values_not_their_writing),
        TEST(a_line_tells_what_room_it_needs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
