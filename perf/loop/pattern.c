/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contents of element i in turn t depend on k = (7 i + t) mod period only: rank r puts in
 * value(k, r), and the result is the combination of value(k, 0 .. ranks - 1). So one table of
 * inputs for each rank and one of results tell everything. The period is odd, hence data shifted
 * by a power of two is seen; the turn is in it, hence data of the turn before is seen.
 */
#include "perf/loop/perf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

enum { STEP = 7, SPREAD = 3, PERIOD_MAX = 4093 };

struct perf_pattern {
    int collective, dtype, op, ranks;
    int sparse; /* too many ranks for the dtype: one of them puts in 1, the others 0 */
    uint64_t period, size;
    unsigned char *results; /* [period][size] */
    unsigned char *inputs;  /* [ranks][period][size] */
};

/* Sign, exponent and mantissa bits of the dtypes that C has no type for; also float32. */
struct format {
    int exponent_bits, mantissa_bits;
};

static struct format format_of(int dtype)
{
    switch (dtype) {
    case MANTA_FLOAT16:
        return (struct format){5, 10};
    case MANTA_BFLOAT16:
        return (struct format){8, 7};
    case MANTA_FLOAT8_E4M3:
        return (struct format){4, 3};
    case MANTA_FLOAT8_E5M2:
        return (struct format){5, 2};
    case MANTA_FLOAT32:
        return (struct format){8, 23};
    default:
        return (struct format){11, 52};
    }
}

static int is_float(int dtype)
{
    return dtype >= MANTA_FLOAT16;
}

static int is_signed(int dtype)
{
    return is_float(dtype) || dtype == MANTA_INT8 || dtype == MANTA_INT16 || dtype == MANTA_INT32 ||
           dtype == MANTA_INT64;
}

static uint64_t size_of(int dtype)
{
    static const uint64_t sizes[MANTA_DTYPE_COUNT] = {1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8, 1, 1};
    return sizes[dtype];
}

/* Round a finite number to the format, to nearest, ties to even. It is never too large here. */
static uint64_t encode_float(double value, struct format format)
{
    int bias = (1 << (format.exponent_bits - 1)) - 1;
    uint64_t sign = signbit(value) ? 1 : 0;
    int exponent;
    uint64_t code = 0;
    if (value != 0) {
        frexp(fabs(value), &exponent);
        exponent -= 1;
        if (exponent < 1 - bias)
            exponent = 1 - bias; /* subnormal */
        uint64_t mantissa = (uint64_t)rint(ldexp(fabs(value), format.mantissa_bits - exponent));
        code = ((uint64_t)(exponent + bias) << format.mantissa_bits) + mantissa -
               (UINT64_C(1) << format.mantissa_bits);
    }
    return code | sign << (format.exponent_bits + format.mantissa_bits);
}

/* Little endian, as every machine Manta runs on. */
static void store(const struct perf_pattern *pattern, unsigned char *target, double real,
                  uint64_t whole)
{
    uint64_t bits =
        is_float(pattern->dtype) ? encode_float(real, format_of(pattern->dtype)) : whole;
    memcpy(target, &bits, pattern->size);
}

/* Largest n such that all whole numbers up to n are exact. */
static uint64_t exact_limit(int dtype)
{
    if (is_float(dtype))
        return UINT64_C(1) << (format_of(dtype).mantissa_bits + 1);
    uint64_t bits = 8 * size_of(dtype) - (is_signed(dtype) ? 1 : 0);
    return bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}

static int combines(const struct perf_pattern *pattern)
{
    return pattern->collective == MANTA_ALLREDUCE || pattern->collective == MANTA_REDUCE ||
           pattern->collective == MANTA_REDUCE_SCATTER;
}

static void choose_period(struct perf_pattern *pattern)
{
    uint64_t limit = exact_limit(pattern->dtype);
    /* Integer sums may wrap around; an average must not. */
    int adds = pattern->op == MANTA_AVG || (pattern->op == MANTA_SUM && is_float(pattern->dtype));
    if (combines(pattern) && adds)
        limit /= (uint64_t)pattern->ranks;
    pattern->period = limit < PERIOD_MAX ? limit : PERIOD_MAX;
    if (pattern->period % 2 == 0)
        pattern->period--;
    pattern->sparse = limit < 3;
    if (pattern->sparse)
        pattern->period = (uint64_t)pattern->ranks + 1 + (uint64_t)(pattern->ranks % 2);
}

static int64_t value_of(const struct perf_pattern *pattern, uint64_t k, int rank)
{
    uint64_t at = (k + (uint64_t)rank * SPREAD) % pattern->period;
    if (pattern->sparse)
        return k == (uint64_t)rank;
    if (pattern->op == MANTA_PROD && combines(pattern) && is_float(pattern->dtype))
        return rank < 3 && at % 5 == 0 ? 2 : 1; /* at most 8: exact in every format */
    return is_signed(pattern->dtype) ? (int64_t)at - (int64_t)(pattern->period / 2) : (int64_t)at;
}

static int64_t combine(int op, int64_t a, int64_t b)
{
    switch (op) {
    case MANTA_PROD:
        return (int64_t)((uint64_t)a * (uint64_t)b);
    case MANTA_MIN:
        return a < b ? a : b;
    case MANTA_MAX:
        return a > b ? a : b;
    case MANTA_BAND:
        return a & b;
    case MANTA_BOR:
        return a | b;
    case MANTA_BXOR:
        return a ^ b;
    default:
        return (int64_t)((uint64_t)a + (uint64_t)b);
    }
}

static void fill_result(const struct perf_pattern *pattern, uint64_t k)
{
    int64_t total = value_of(pattern, k, 0);
    for (int r = 1; r < pattern->ranks; r++)
        total = combine(pattern->op, total, value_of(pattern, k, r));
    double real = (double)total;
    if (pattern->op == MANTA_AVG) {
        real /= pattern->ranks;
        total /= pattern->ranks;
    }
    store(pattern, pattern->results + k * pattern->size, real, (uint64_t)total);
}

struct perf_pattern *perf_pattern_create(const struct perf_call *call, int ranks)
{
    struct perf_pattern *pattern = calloc(1, sizeof *pattern);
    if (pattern == NULL)
        return NULL;
    pattern->collective = call->collective;
    pattern->dtype = call->dtype;
    pattern->op = call->op;
    pattern->ranks = ranks;
    pattern->size = size_of(call->dtype);
    choose_period(pattern);
    pattern->results = calloc(pattern->period, pattern->size);
    pattern->inputs = calloc((uint64_t)ranks * pattern->period, pattern->size);
    if (pattern->results == NULL || pattern->inputs == NULL) {
        perf_pattern_destroy(pattern);
        return NULL;
    }
    for (uint64_t k = 0; k < pattern->period; k++) {
        fill_result(pattern, k);
        for (int r = 0; r < ranks; r++) {
            int64_t value = value_of(pattern, k, r);
            store(pattern, pattern->inputs + ((uint64_t)r * pattern->period + k) * pattern->size,
                  (double)value, (uint64_t)value);
        }
    }
    return pattern;
}

void perf_pattern_destroy(struct perf_pattern *pattern)
{
    if (pattern == NULL)
        return;
    free(pattern->results);
    free(pattern->inputs);
    free(pattern);
}

static const unsigned char *table_of(const struct perf_pattern *pattern, int rank)
{
    return rank < 0 ? pattern->results
                    : pattern->inputs + (uint64_t)rank * pattern->period * pattern->size;
}

static uint64_t first_k(const struct perf_pattern *pattern, uint64_t turn, uint64_t first)
{
    return (first % pattern->period * STEP + turn) % pattern->period;
}

void perf_pattern_fill(const struct perf_pattern *pattern, int rank, uint64_t turn, uint64_t first,
                       void *buffer, uint64_t count)
{
    const unsigned char *table = table_of(pattern, rank);
    unsigned char *target = buffer;
    uint64_t k = first_k(pattern, turn, first);
    for (uint64_t i = 0; i < count; i++, target += pattern->size) {
        memcpy(target, table + k * pattern->size, pattern->size);
        k = (k + STEP) % pattern->period;
    }
}

uint64_t perf_pattern_wrong(const struct perf_pattern *pattern, int rank, uint64_t turn,
                            uint64_t first, const void *buffer, uint64_t count)
{
    const unsigned char *table = table_of(pattern, rank), *at = buffer;
    uint64_t k = first_k(pattern, turn, first), wrong = 0;
    for (uint64_t i = 0; i < count; i++, at += pattern->size) {
        wrong += memcmp(at, table + k * pattern->size, pattern->size) != 0;
        k = (k + STEP) % pattern->period;
    }
    return wrong;
}
