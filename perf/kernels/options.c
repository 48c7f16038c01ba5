/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/kernels/kernels.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/dtype.h"
#include "core/reduce.h"

enum { USAGE = 2 };

static const char help[] =
    "usage: kernel-perf [options]\n"
    "Time the reduction kernels on one core: dst = left op right, and for avg the division that\n"
    "is its last step. Prints GB/s of the vector (each byte of the result counts once) and, in\n"
    "parentheses, the ratio to the sum of float32 by the same instructions in the same memory,\n"
    "timed just before and after. Times are the thread's own on its processor; figures are medians "
    "over\n"
    "the rounds, each of which times everything once.\n"
    "  --dtype LIST    such as float16,int8 (default all)\n"
    "  --op LIST       such as sum,max (default all that the dtype has)\n"
    "  --simd LIST     instruction sets, as for MANTA_SIMD (default all that this CPU has)\n"
    "  --bytes LIST    sizes of the vector, up to 8 (default 8k,256k,16M: mostly in the first\n"
    "                  cache, in the second, and in memory)\n"
    "  --repeats N     rounds (default 9)\n"
    "  --stream        write past the caches where a kernel can; the reference does not\n"
    "  --any-bits      floats of all bits, NaN and infinity too, not numbers between -2 and 2\n"
    "Exit code 1 without memory, 2 for wrong usage.\n";

static const struct option longs[] = {
    {"dtype", required_argument, NULL, 'd'},
    {"op", required_argument, NULL, 'o'},
    {"simd", required_argument, NULL, 's'},
    {"bytes", required_argument, NULL, 'b'},
    {"repeats", required_argument, NULL, 'r'},
    {"stream", no_argument, NULL, 't'},
    {"any-bits", no_argument, NULL, 'a'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void refuse(const char *what, const char *got)
{
    fprintf(stderr, "kernel-perf: %s, not '%s'; see kernel-perf --help\n", what, got);
    exit(USAGE);
}

static void add_dtype(struct kernels_options *options, const char *name)
{
    int dtype = mt_dtype_parse(name);
    if (dtype < 0 || options->dtype_count == MANTA_DTYPE_COUNT)
        refuse("--dtype must name dtypes such as float32, each once", name);
    options->dtypes[options->dtype_count++] = dtype;
}

static void add_op(struct kernels_options *options, const char *name)
{
    int op = mt_op_parse(name);
    if (op < 0 || options->op_count == MANTA_OP_COUNT)
        refuse("--op must name operations such as sum, each once", name);
    options->ops[options->op_count++] = op;
}

static void add_variant(struct kernels_options *options, const char *name)
{
    if (options->variant_count == KERNELS_VARIANTS || mt_reduce_select(name) != 0)
        refuse("--simd must name instruction sets that this CPU and library have", name);
    options->variants[options->variant_count++] = name;
}

static void add_size(struct kernels_options *options, const char *text)
{
    enum { MOST = 256 << 20, MULTIPLE = 8 };
    uint64_t bytes = 0;
    int wrong = mt_parse_bytes(text, &bytes) != 0;
    if (wrong || bytes == 0 || bytes > MOST || bytes % MULTIPLE != 0 ||
        options->size_count == KERNELS_SIZES)
        refuse("--bytes must name up to 8 multiples of 8 up to 256M", text);
    options->sizes[options->size_count++] = bytes;
}

/* Names in the list stay where they are: the argument outlives the options. */
static void each(struct kernels_options *options, char *list,
                 void (*add)(struct kernels_options *, const char *))
{
    char *name;
    while ((name = strsep(&list, ",")) != NULL)
        add(options, name);
}

static void set_repeats(struct kernels_options *options)
{
    char *end;
    long repeats = strtol(optarg, &end, 10);
    if (*end != '\0' || repeats < 1 || repeats > KERNELS_REPEATS)
        refuse("--repeats must be a number from 1 to 99", optarg);
    options->repeats = (int)repeats;
}

static void apply(struct kernels_options *options, int option)
{
    switch (option) {
    case 'd':
        each(options, optarg, add_dtype);
        break;
    case 'o':
        each(options, optarg, add_op);
        break;
    case 's':
        each(options, optarg, add_variant);
        break;
    case 'b':
        each(options, optarg, add_size);
        break;
    case 'r':
        set_repeats(options);
        break;
    case 't':
        options->stream = 1;
        break;
    case 'a':
        options->any_bits = 1;
        break;
    case 'h':
        fputs(help, stdout);
        exit(0);
    default:
        exit(USAGE); /* getopt has said what is wrong */
    }
}

static void fill_in_defaults(struct kernels_options *options)
{
    static const uint64_t sizes[] = {8 << 10, 256 << 10, 16 << 20};

    if (options->dtype_count == 0)
        for (int dtype = 0; dtype < MANTA_DTYPE_COUNT; dtype++)
            options->dtypes[options->dtype_count++] = dtype;
    if (options->op_count == 0)
        for (int op = 0; op < MANTA_OP_COUNT; op++)
            options->ops[options->op_count++] = op;
    if (options->variant_count == 0)
        for (int i = 0; mt_reduce_variant_name(i) != NULL; i++)
            if (mt_reduce_select(mt_reduce_variant_name(i)) == 0)
                options->variants[options->variant_count++] = mt_reduce_variant_name(i);
    if (options->size_count == 0)
        for (int i = 0; i < 3; i++)
            options->sizes[options->size_count++] = sizes[i];
}

void kernels_options_parse(struct kernels_options *options, int argc, char **argv)
{
    int option;
    *options = (struct kernels_options){.repeats = 9};
    while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1)
        apply(options, option);
    if (argv[optind] != NULL)
        refuse("takes options only", argv[optind]);
    fill_in_defaults(options);
}
