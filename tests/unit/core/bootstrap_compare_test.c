/* SPDX-License-Identifier: Apache-2.0 */
/* Which line differs, and between whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/bootstrap.h"

static void check(uint32_t ranks, const char *const *texts, int rank, const char *wanted)
{
    struct mt_error error = {.rank = -1};
    int rc = mt_bootstrap_compare(texts, ranks, &error);
    assert_int_equal(rc, wanted ? MANTA_EVERSION : 0);
    assert_int_equal(error.rank, rank);
    if (wanted)
        assert_string_equal(error.sentence, wanted);
}

static void equal_texts_agree(void **state)
{
    (void)state;
    check(1, (const char *const[]){"A=1\n"}, -1, NULL);
    check(3, (const char *const[]){"", "", ""}, -1, NULL);
    check(3, (const char *const[]){"A=1\nB=\n", "A=1\nB=\n", "A=1\nB=\n"}, -1, NULL);
    check(2, (const char *const[]){"A=1\nB=2\n", "B=2\nA=1"}, -1, NULL);
}

static void differences_are_named(void **state)
{
    (void)state;
    check(2, (const char *const[]){"A=1\nB=2\n", "A=1\nB=3\n"}, 1,
          "B is \"2\" on rank 0 and \"3\" on rank 1; give all ranks the same");
    check(5, (const char *const[]){"A=1\n", "A=1\n", "A=2\n", "A=3\n", "A=2\n"}, 2,
          "A is \"1\" on rank 0 and \"2\" on ranks 2, 4; give all ranks the same");
    check(2, (const char *const[]){"A=1\n", ""}, 1,
          "A is \"1\" on rank 0 and unset on rank 1; give all ranks the same");
    check(3, (const char *const[]){"A=1\n", "A=1\nPLUGIN=x=y\n", "A=1\n"}, 1,
          "PLUGIN is unset on rank 0 and \"x=y\" on rank 1; give all ranks the same");
    check(2, (const char *const[]){"A=\n", "A=1\n"}, 1,
          "A is \"\" on rank 0 and \"1\" on rank 1; give all ranks the same");
    check(2, (const char *const[]){"AB=1\n", "A=1\n"}, 1,
          "AB is \"1\" on rank 0 and unset on rank 1; give all ranks the same");
}

static void long_values_are_cut(void **state)
{
    (void)state;
    char *texts[2];
    struct mt_error error;
    for (int i = 0; i < 2; i++) {
        texts[i] = calloc(1, 40001);
        memset(texts[i], 'x' + i, 40000);
        memcpy(texts[i], "A=", 2);
    }
    assert_int_equal(mt_bootstrap_compare((const char *const *)texts, 2, &error), MANTA_EVERSION);
    assert_true(strlen(error.sentence) < 400);
    assert_non_null(strstr(error.sentence, "give all ranks the same"));
    free(texts[0]);
    free(texts[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_texts_agree),
        cmocka_unit_test(differences_are_named),
        cmocka_unit_test(long_values_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
