/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"

static const struct {
    const char *name;
    int value;
} codes[] = {
#define MANTA_ERROR(name, value, sentence) {#name, value},
#include <manta/errors.def>
#undef MANTA_ERROR
};
enum { CODES = sizeof codes / sizeof *codes };

static void every_code_has_its_own_value_and_sentence(void **state)
{
    (void)state;
    for (int i = 0; i < CODES; i++) {
        const char *sentence = manta_strerror(codes[i].value);
        assert_true(codes[i].value < 0);
        assert_int_equal(codes[i].name[0], 'E');
        assert_true(strlen(sentence) > 10);
        assert_string_not_equal(sentence, manta_strerror(-9999));
        for (int k = 0; k < i; k++) {
            assert_int_not_equal(codes[i].value, codes[k].value);
            assert_string_not_equal(codes[i].name, codes[k].name);
            assert_string_not_equal(sentence, manta_strerror(codes[k].value));
        }
    }
}

static void values_are_part_of_the_abi(void **state)
{
    (void)state;
    assert_int_equal(MANTA_SUCCESS, 0);
    assert_int_equal(MANTA_INPROGRESS, 1);
    assert_int_equal(MANTA_EINVAL, -1);
    assert_int_equal(MANTA_EPEER, -4);
    assert_int_equal(MANTA_EMISMATCH, -5);
    assert_int_equal(MANTA_EINTERNAL, -20);
}

static void strerror_answers_any_number(void **state)
{
    static const int others[] = {0, 1, 2, 12345, -9999, INT32_MAX, INT32_MIN};
    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_non_null(manta_strerror(others[i]));
        assert_true(manta_strerror(others[i])[0] != 0);
    }
    assert_string_equal(manta_strerror(2), manta_strerror(-9999));
    assert_string_not_equal(manta_strerror(0), manta_strerror(1));
}

static void version_is_that_of_the_header(void **state)
{
    (void)state;
    assert_int_equal(manta_version(), MANTA_VERSION);
    assert_true(manta_version() > 0);
}

static void set_fills_all_fields(void **state)
{
    struct mt_error error;
    (void)state;
    memset(&error, 0x55, sizeof error);
    assert_int_equal(mt_error_set(&error, MANTA_EINVAL, "count is %d", 7), MANTA_EINVAL);
    assert_int_equal(error.code, MANTA_EINVAL);
    assert_int_equal(error.rank, -1);
    assert_int_equal(error.system_errno, 0);
    assert_string_equal(error.transport, "");
    assert_string_equal(error.sentence, "count is 7");
    assert_int_equal(mt_error_set_rank(&error, MANTA_EPEER, 3, "rank %d died", 3), MANTA_EPEER);
    assert_int_equal(error.rank, 3);
    assert_string_equal(error.sentence, "rank 3 died");
}

static void system_errors_keep_errno(void **state)
{
    struct mt_error error;
    (void)state;
    errno = ENOSPC;
    mt_error_set(&error, MANTA_ESYSTEM, "write: %s", strerror(errno));
    assert_int_equal(error.system_errno, ENOSPC);
    assert_int_equal(errno, ENOSPC);
    mt_error_set(&error, MANTA_EINVAL, "no system call");
    assert_int_equal(error.system_errno, 0);
}

static void a_sentence_may_wrap_itself_and_is_cut(void **state)
{
    struct mt_error error;
    (void)state;
    mt_error_set(&error, MANTA_EINVAL, "the cause");
    mt_error_set(&error, MANTA_ETRANSPORT, "wrapped: %s", error.sentence);
    assert_string_equal(error.sentence, "wrapped: the cause");
    for (int i = 0; i < 100; i++)
        mt_error_set(&error, MANTA_ETRANSPORT, "wrapped: %s", error.sentence);
    assert_int_equal(strlen(error.sentence), sizeof error.sentence - 1);
}

static void export_honours_the_callers_size(void **state)
{
    struct {
        struct manta_error_info info;
        char behind[32];
    } room;
    struct mt_error error;
    (void)state;
    mt_error_set_rank(&error, MANTA_EPEER, 5, "rank 5 died");
    strcpy(error.transport, "tcp");

    memset(&room, 0x55, sizeof room);
    room.info.size = sizeof room; /* a caller newer than the library */
    mt_error_export(&error, &room.info);
    assert_int_equal(room.info.size, sizeof room);
    assert_int_equal(room.info.code, MANTA_EPEER);
    assert_int_equal(room.info.rank, 5);
    assert_string_equal(room.info.transport, "tcp");
    assert_string_equal(room.info.sentence, "rank 5 died");
    assert_int_equal(room.behind[0], 0x55);

    memset(&room, 0x55, sizeof room);
    room.info.size = offsetof(struct manta_error_info, rank); /* an older one */
    mt_error_export(&error, &room.info);
    assert_int_equal(room.info.size, offsetof(struct manta_error_info, rank));
    assert_int_equal(room.info.code, MANTA_EPEER);
    assert_int_equal(room.info.rank, 0x55555555);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_own_value_and_sentence),
        cmocka_unit_test(values_are_part_of_the_abi),
        cmocka_unit_test(strerror_answers_any_number),
        cmocka_unit_test(version_is_that_of_the_header),
        cmocka_unit_test(set_fills_all_fields),
        cmocka_unit_test(system_errors_keep_errno),
        cmocka_unit_test(a_sentence_may_wrap_itself_and_is_cut),
        cmocka_unit_test(export_honours_the_callers_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
