/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/dtype.h"
#include "core/reduce.h"
#include "perf/kernels/kernels.h"

/* What is timed, and how many calls of it at a time. */
struct work {
    int dtype, op, stream;
    const struct kernels_operands *on;
    uint64_t calls;
};

/* One kernel at one size, with its results. */
struct cell {
    const char *variant;
    struct work kernel, reference;
    double rates[KERNELS_REPEATS], ratios[KERNELS_REPEATS]; /* one of each round */
};

/* The processor's time that this thread had: others may run on this machine too. */
static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * MT_SECOND + (uint64_t)t.tv_nsec;
}

/* Integers are not divided by 1, and floats by nothing else, or they would become subnormal. */
static uint32_t divisor(int dtype)
{
    return dtype < MANTA_FLOAT16 ? 3 : 1;
}

static uint64_t time_calls(const struct work *work, uint64_t calls)
{
    const struct kernels_operands *on = work->on;
    uint64_t count = on->bytes / manta_dtype_size(work->dtype);
    uint64_t begin = now_ns();
    for (uint64_t i = 0; i < calls; i++)
        if (work->op == MANTA_AVG)
            mt_reduce_divide(work->dtype, on->dst, count, divisor(work->dtype));
        else if (work->stream)
            mt_reduce_stream(work->dtype, work->op, on->dst, on->left, on->right, count);
        else
            mt_reduce(work->dtype, work->op, on->dst, on->left, on->right, count);
    return now_ns() - begin;
}

/* A division needs numbers in dst. */
static void prepare(const struct work *work)
{
    if (work->op == MANTA_AVG)
        memcpy(work->on->dst, work->on->left, work->on->bytes);
}

/* So many calls that the clock does not matter and an interrupt rarely falls in. */
static void calibrate(struct work *work)
{
    enum { ENOUGH_NS = 600 * MT_US };
    prepare(work);
    for (work->calls = 1; time_calls(work, work->calls) < ENOUGH_NS;)
        work->calls *= 2;
}

/* GB/s. Calls before put the operands where they are in the calls that follow, and the processor at
 * the speed it has for these instructions. */
static double rate(const struct work *work)
{
    prepare(work);
    time_calls(work, 1 + work->calls / 2);
    uint64_t ns = time_calls(work, work->calls);
    return (double)work->on->bytes * (double)work->calls / (double)(ns ? ns : 1);
}

static void measure(struct cell *cell, int round)
{
    mt_reduce_select(cell->variant);
    if (round == 0) {
        calibrate(&cell->reference);
        calibrate(&cell->kernel);
    }
    /* Between two references: the caches go on filling for a while. */
    double before = rate(&cell->reference);
    cell->rates[round] = rate(&cell->kernel);
    cell->ratios[round] = cell->rates[round] * 2 / (before + rate(&cell->reference));
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
    printf("# GB/s (ratio to the sum of float32), medians of %d rounds%s%s\n", options->repeats,
           options->stream ? ", streaming" : "", options->any_bits ? ", any bits" : "");
    printf("# %-14s %-5s %-12s", "dtype", "op", "simd");
    for (int i = 0; i < options->size_count; i++)
        printf(" %13llu B", (unsigned long long)options->sizes[i]);
    for (int i = 0; i < cell_count; i++) {
        struct cell *cell = &cells[i];
        if (i % options->size_count == 0)
            printf("\n  %-14s %-5s %-12s", mt_dtype_name(cell->kernel.dtype),
                   mt_op_name(cell->kernel.op), cell->variant);
        printf("  %7.2f (%4.2f)", median(cell->rates, options->repeats),
               median(cell->ratios, options->repeats));
    }
    printf("\n");
}

/* Of each dtype; the integers share theirs. */
typedef struct kernels_operands operands_table[MANTA_DTYPE_COUNT][KERNELS_SIZES];

static int content(int dtype)
{
    return dtype < MANTA_FLOAT16 ? MANTA_UINT64 : dtype;
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

/* Cells in the order of the table; NULL without memory. The sum of float32 works on the same
 * memory, so that both find the caches alike. */
static struct cell *make_cells(const struct kernels_options *options, operands_table operands,
                               int *count_out)
{
    int rows = options->variant_count * options->dtype_count * options->op_count;
    struct cell *cells = calloc((size_t)rows * (size_t)options->size_count, sizeof *cells);

    *count_out = 0;
    for (int row = 0; row < rows && cells != NULL; row++) {
        int dtype = options->dtypes[row / options->op_count % options->dtype_count];
        int op = options->ops[row % options->op_count];
        for (int s = 0; s < options->size_count && mt_op_allowed(op, dtype); s++) {
            const struct kernels_operands *on = &operands[content(dtype)][s];
            struct cell *cell = &cells[(*count_out)++];
            cell->variant = options->variants[row / options->op_count / options->dtype_count];
            cell->kernel = (struct work){dtype, op, options->stream, on, 0};
            cell->reference = (struct work){MANTA_FLOAT32, MANTA_SUM, 0, on, 0};
        }
    }
    return cells;
}

int main(int argc, char **argv)
{
    static operands_table operands;
    struct kernels_options options;
    int cell_count = 0;

    kernels_options_parse(&options, argc, argv);
    struct cell *cells = NULL;
    if (make_operands(&options, operands) == 0)
        cells = make_cells(&options, operands, &cell_count);
    if (cells == NULL) {
        fprintf(stderr, "kernel-perf: there is not enough memory; try smaller --bytes\n");
        return 1;
    }
    for (int round = 0; round < options.repeats; round++)
        for (int i = 0; i < cell_count; i++)
            measure(&cells[i], round);
    print(&options, cells, cell_count);
    free(cells);
    for (int dtype = 0; dtype < MANTA_DTYPE_COUNT; dtype++)
        for (int s = 0; s < KERNELS_SIZES; s++)
            kernels_operands_free(&operands[dtype][s]);
    return 0;
}
