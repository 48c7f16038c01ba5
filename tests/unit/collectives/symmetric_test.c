/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that peers read in place, as a program sees it: the calls about it, and every collective
 * on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <manta/manta.h>

static void assert_says(const struct manta_comm *comm, int code, const char *words)
{
    struct manta_error_info info = {.size = sizeof(info)};
    assert_int_equal(manta_comm_error(comm, &info), 0);
    assert_int_equal(info.code, code);
    assert_non_null(strstr(info.sentence, words));
}

static void test_calls(void **state)
{
    (void)state;
    struct manta_mem_info info = {.size = sizeof(info)};
    void *memory = &info;
    assert_int_equal(manta_mem_alloc(NULL, 100, NULL), MANTA_EINVAL);
    assert_says(NULL, MANTA_EINVAL, "ptr_out");
    assert_int_equal(manta_mem_alloc(NULL, 0, &memory), MANTA_EINVAL);
    assert_says(NULL, MANTA_EINVAL, "bytes");
    assert_null(memory);
    assert_int_equal(manta_mem_alloc(NULL, 10000, &memory), 0);
    assert_int_equal(manta_mem_query((char *)memory + 9999, &info), 0);
    assert_ptr_equal(info.start, memory);
    assert_int_equal(info.bytes, 10000);
    assert_int_equal(info.in_place, 1);
    assert_non_null(strstr(info.reason, "manta_mem_alloc()"));
    assert_int_equal(manta_mem_register(memory, 10000, 0), 0);
    assert_int_equal(manta_mem_unregister(memory), 0);
    assert_int_equal(manta_mem_free((char *)memory + 1), MANTA_EINVAL);
    assert_says(NULL, MANTA_EINVAL, "manta_mem_alloc()");
    assert_int_equal(manta_mem_free(memory), 0);
    assert_int_equal(manta_mem_free(NULL), 0);
    assert_int_equal(manta_mem_query(memory, &info), 0);
    assert_null(info.start);
    assert_int_equal(info.in_place, 0);
    assert_int_equal(info.bytes, 0);
}

static void test_registered(void **state)
{
    (void)state;
    struct manta_mem_info info = {.size = sizeof(info)};
    enum { BYTES = 300000 };
    char *memory = malloc(BYTES);
    memset(memory, 3, BYTES);
    assert_int_equal(manta_mem_register(memory, BYTES, 2), MANTA_EINVAL);
    assert_says(NULL, MANTA_EINVAL, "MANTA_MEM_REMAP");
    assert_int_equal(manta_mem_register(memory, BYTES, 0), 0);
    assert_int_equal(manta_mem_query(memory, &info), 0);
    assert_int_equal(info.in_place, 0);
    assert_int_equal(info.bytes, BYTES);
    assert_non_null(strstr(info.reason, "private"));
    assert_int_equal(manta_mem_unregister(memory), 0);
    assert_int_equal(manta_mem_register(memory, BYTES, MANTA_MEM_REMAP), 0);
    assert_int_equal(manta_mem_query(memory + 7, &info), 0);
    assert_int_equal(info.in_place, 1);
    assert_int_equal(memory[BYTES - 1], 3);
    assert_int_equal(manta_mem_unregister(memory), 0);
    assert_int_equal(manta_mem_unregister(memory), MANTA_EINVAL);
    assert_says(NULL, MANTA_EINVAL, "registered");
    free(memory);
}

/* Compiled with another length of the struct. */
static void test_info_size(void **state)
{
    (void)state;
    static struct manta_mem_info info;
    assert_int_equal(manta_mem_query(&info, NULL), MANTA_EINVAL);
    memset(&info, 0x5a, sizeof(info));
    info.size = offsetof(struct manta_mem_info, reason) - 1;
    assert_int_equal(manta_mem_query(&info, &info), MANTA_EINVAL);
    info.size = offsetof(struct manta_mem_info, reason);
    assert_int_equal(manta_mem_query(&info, &info), 0);
    assert_null(info.start);
    for (size_t i = 0; i < sizeof(info.reason); i++)
        assert_int_equal(info.reason[i], 0x5a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_registered),
        cmocka_unit_test(test_info_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
