/* SPDX-License-Identifier: Apache-2.0 */
/* Values of consecutive blocks, kept as runs of equal ones. */
#ifndef MT_PLAN_RUNS_H
#define MT_PLAN_RUNS_H

#include <stdint.h>

/* Blocks that hold the same. */
struct mt_run {
    uint32_t count;
    uint32_t written; /* 0: nothing has been written here */
    uint64_t mask;    /* plan/contribution.h */
};

/* Begin with zeros; free `at` in the end. */
struct mt_runs {
    struct mt_run *at;
    uint32_t count, capacity;
    uint32_t near, near_begin; /* a run that was looked at, and its first block */
};

/* All 0 or MANTA_ENOMEM. Append a run; one that equals the last is joined to it. */
int mt_runs_append(struct mt_runs *runs, struct mt_run run);
/* Append what `from` holds in the blocks first .. first + count - 1. */
int mt_runs_read(struct mt_runs *from, uint32_t first, uint32_t count, struct mt_runs *to);
/* Put `values`, as many blocks as they are, in the place of the blocks from `first` on. */
int mt_runs_write(struct mt_runs *runs, uint32_t first, const struct mt_runs *values);
/* Hold nothing, but keep the memory. */
void mt_runs_clear(struct mt_runs *runs);
uint32_t mt_runs_blocks(const struct mt_runs *runs);

#endif
