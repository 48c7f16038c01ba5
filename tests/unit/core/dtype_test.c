/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/dtype.h"

static const struct {
    int dtype;
    const char *name;
    size_t size;
    int bitwise;
} dtypes[] = {
    {MANTA_INT8, "int8", 1, 1},
    {MANTA_UINT8, "uint8", 1, 1},
    {MANTA_INT16, "int16", 2, 1},
    {MANTA_UINT16, "uint16", 2, 1},
    {MANTA_INT32, "int32", 4, 1},
    {MANTA_UINT32, "uint32", 4, 1},
    {MANTA_INT64, "int64", 8, 1},
    {MANTA_UINT64, "uint64", 8, 1},
    {MANTA_FLOAT16, "float16", 2, 0},
    {MANTA_BFLOAT16, "bfloat16", 2, 0},
    {MANTA_FLOAT32, "float32", 4, 0},
    {MANTA_FLOAT64, "float64", 8, 0},
    {MANTA_FLOAT8_E4M3, "float8_e4m3", 1, 0},
    {MANTA_FLOAT8_E5M2, "float8_e5m2", 1, 0},
};

static void dtypes_have_names_sizes_and_ops(void **state)
{
    (void)state;
    assert_int_equal(sizeof dtypes / sizeof *dtypes, MANTA_DTYPE_COUNT);
    for (int i = 0; i < MANTA_DTYPE_COUNT; i++) {
        int dtype = dtypes[i].dtype;
        assert_string_equal(mt_dtype_name(dtype), dtypes[i].name);
        assert_int_equal(mt_dtype_parse(dtypes[i].name), dtype);
        assert_int_equal(manta_dtype_size(dtype), dtypes[i].size);
        for (int op = 0; op < MANTA_OP_COUNT; op++) {
            int is_bitwise = op == MANTA_BAND || op == MANTA_BOR || op == MANTA_BXOR;
            assert_int_equal(mt_op_allowed(op, dtype), !is_bitwise || dtypes[i].bitwise);
        }
    }
}

static void names_of_ops_and_collectives_parse_back(void **state)
{
    (void)state;
    for (int op = 0; op < MANTA_OP_COUNT; op++) {
        assert_string_not_equal(mt_op_name(op), "unknown");
        assert_int_equal(mt_op_parse(mt_op_name(op)), op);
    }
    for (int collective = 0; collective < MANTA_COLLECTIVE_COUNT; collective++) {
        assert_string_not_equal(mt_collective_name(collective), "unknown");
        assert_int_equal(mt_collective_parse(mt_collective_name(collective)), collective);
    }
    assert_int_equal(mt_op_parse("bxor"), MANTA_BXOR);
    assert_int_equal(mt_collective_parse("reduce_scatter"), MANTA_REDUCE_SCATTER);
}

static void others_are_unknown(void **state)
{
    static const int others[] = {-1, 14, 255, 256, INT_MAX, INT_MIN};
    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_string_equal(mt_dtype_name(others[i]), "unknown");
        assert_string_equal(mt_op_name(others[i]), "unknown");
        assert_string_equal(mt_collective_name(others[i]), "unknown");
        assert_int_equal(manta_dtype_size(others[i]), 0);
        assert_int_equal(mt_op_allowed(MANTA_SUM, others[i]), 0);
        assert_int_equal(mt_op_allowed(others[i], MANTA_INT8), 0);
    }
    assert_int_equal(mt_dtype_parse("unknown"), -1);
    assert_int_equal(mt_dtype_parse("Float32"), -1);
    assert_int_equal(mt_dtype_parse("float"), -1);
    assert_int_equal(mt_op_parse(""), -1);
    assert_int_equal(mt_collective_parse("allreduce "), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dtypes_have_names_sizes_and_ops),
        cmocka_unit_test(names_of_ops_and_collectives_parse_back),
        cmocka_unit_test(others_are_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
