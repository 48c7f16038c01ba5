/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/dtype.h"
#include "core/reduce.h"
#include "perf/kernels/kernels.h"

/* One kernel at one size, with its results. */
struct cell {
    int dtype, op;
    const char *variant;
    int size;                        /* which of the options */
    uint64_t calls, reference_calls; /* in one measurement */
    double *rates, *ratios;          /* one of each round */
};

/* The processor's time that this thread had: others may run on this machine too. */
static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * MT_SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t time_calls(int dtype, int op, const struct kernels_operands *on, uint64_t calls)
{
    uint64_t count = on->bytes / manta_dtype_size(dtype);
    uint64_t begin = now_ns();
    for (uint64_t i = 0; i < calls; i++)
        if (op == MANTA_AVG)
            mt_reduce_divide(dtype, on->dst, count, 1);
        else
            mt_reduce(dtype, op, on->dst, on->left, on->right, count);
    return now_ns() - begin;
}

/* So many that the clock does not matter and an interrupt rarely falls in. */
static uint64_t calibrate(int dtype, int op, const struct kernels_operands *on)
{
    enum { ENOUGH_NS = 150 * MT_US };
    uint64_t calls = 1;
    while (time_calls(dtype, op, on, calls) < ENOUGH_NS)
        calls *= 2;
    return calls;
}

/* GB/s. Calls before put the operands where they are in the calls that follow, and the processor at
 * the speed it has for these instructions. */
static double rate(int dtype, int op, const struct kernels_operands *on, uint64_t calls)
{
    time_calls(dtype, op, on, 1 + calls / 2);
    uint64_t ns = time_calls(dtype, op, on, calls);
    return (double)on->bytes * (double)calls / (double)(ns ? ns : 1);
}

/* Of each dtype; the integers share theirs. */
typedef struct kernels_operands operands_table[MANTA_DTYPE_COUNT][KERNELS_SIZES];

static int content(int dtype)
{
    return dtype < MANTA_FLOAT16 ? MANTA_UINT64 : dtype;
}

/* The sum of float32 works on the same memory, whatever it holds, so that both find the caches
 * alike. A division needs numbers in dst. */
static void measure(struct cell *cell, operands_table operands, int round)
{
    const struct kernels_operands *on = &operands[content(cell->dtype)][cell->size];

    mt_reduce_select(cell->variant);
    if (round == 0) {
        cell->reference_calls = calibrate(MANTA_FLOAT32, MANTA_SUM, on);
        memcpy(on->dst, on->left, on->bytes);
        cell->calls = calibrate(cell->dtype, cell->op, on);
    }
    double sum = rate(MANTA_FLOAT32, MANTA_SUM, on, cell->reference_calls);
    if (cell->op == MANTA_AVG)
        memcpy(on->dst, on->left, on->bytes);
    cell->rates[round] = rate(cell->dtype, cell->op, on, cell->calls);
    cell->ratios[round] = cell->rates[round] / sum;
}

static int by_value(const void *left, const void *right)
{
    const double *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return count & 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void print(const struct kernels_options *options, struct cell *cells, int cell_count)
{
    printf("# GB/s (ratio to the sum of float32), medians of %d rounds%s\n", options->repeats,
           options->any_bits ? ", any bits" : "");
    printf("# %-14s %-5s %-12s", "dtype", "op", "simd");
    for (int i = 0; i < options->size_count; i++)
        printf(" %13llu B", (unsigned long long)options->sizes[i]);
    for (int i = 0; i < cell_count; i++) {
        struct cell *cell = &cells[i];
        if (i % options->size_count == 0)
            printf("\n  %-14s %-5s %-12s", mt_dtype_name(cell->dtype), mt_op_name(cell->op),
                   cell->variant);
        printf("  %7.2f (%4.2f)", median(cell->rates, options->repeats),
               median(cell->ratios, options->repeats));
    }
    printf("\n");
}

/* Cells in the order of the table; NULL without memory. */
static struct cell *make_cells(const struct kernels_options *options, int *count_out)
{
    int most = options->variant_count * options->dtype_count * options->op_count;
    size_t room = (size_t)most * (size_t)options->size_count;
    struct cell *cells = calloc(room, sizeof *cells);
    double *numbers = calloc(room * 2 * (size_t)options->repeats, sizeof *numbers);
    int count = 0;

    if (cells == NULL || numbers == NULL)
        return NULL;
    for (int row = 0; row < most; row++) {
        int dtype = options->dtypes[row / options->op_count % options->dtype_count];
        int op = options->ops[row % options->op_count];
        const char *variant = options->variants[row / options->op_count / options->dtype_count];
        for (int s = 0; s < options->size_count && mt_op_allowed(op, dtype); s++) {
            double *rates = numbers + (size_t)count * 2 * (size_t)options->repeats;
            cells[count++] = (struct cell){.dtype = dtype,
                                           .op = op,
                                           .variant = variant,
                                           .size = s,
                                           .rates = rates,
                                           .ratios = rates + options->repeats};
        }
    }
    *count_out = count;
    return cells;
}

static int make_operands(const struct kernels_options *options, operands_table operands)
{
    int wanted[MANTA_DTYPE_COUNT] = {0};
    for (int i = 0; i < options->dtype_count; i++)
        wanted[content(options->dtypes[i])] = 1;
    for (int dtype = 0; dtype < MANTA_DTYPE_COUNT; dtype++)
        for (int s = 0; s < options->size_count && wanted[dtype]; s++)
            if (kernels_operands_make(&operands[dtype][s], options->sizes[s], dtype, options) != 0)
                return -1;
    return 0;
}

int main(int argc, char **argv)
{
    static operands_table operands;
    struct kernels_options options;
    int cell_count = 0;

    kernels_options_parse(&options, argc, argv);
    struct cell *cells = make_cells(&options, &cell_count);
    if (cells == NULL || make_operands(&options, operands) != 0) {
        fprintf(stderr, "kernel-perf: there is not enough memory; try smaller --bytes\n");
        return 1;
    }
    for (int round = 0; round < options.repeats; round++)
        for (int i = 0; i < cell_count; i++)
            measure(&cells[i], operands, round);
    print(&options, cells, cell_count);
    return 0;
}
