/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/ranks.h"

static void check(const char *marks, int lowest, const char *wanted)
{
    uint8_t marked[64] = {0};
    char text[160], cut[9];
    uint32_t ranks = (uint32_t)strlen(marks);
    for (uint32_t r = 0; r < ranks; r++)
        marked[r] = marks[r] == 'x';
    assert_int_equal(mt_ranks_describe(marked, ranks, text, sizeof text), lowest);
    assert_string_equal(text, wanted);
    mt_ranks_describe(marked, ranks, cut, sizeof cut);
    assert_int_equal(strncmp(cut, wanted, sizeof cut - 1), 0);
}

static void sets_are_worded(void **state)
{
    (void)state;
    check("x", 0, "rank 0");
    check("...x....", 3, "rank 3");
    check("xx", 0, "ranks 0-1");
    check(".x.xxx.x", 1, "ranks 1, 3-5, 7");
    check("x.x.x.x.x.x.x.x.", 0, "ranks 0, 2, 4, 6, 8, 10, 12, 14");
    check("x.x.x.x.x.x.x.x.xxx.x", 0, "ranks 0, 2, 4, 6, 8, 10, 12, 14 and 4 more");
    check("....", -1, "ranks ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sets_are_worded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
