/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/runs.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

static int reserve(struct mt_runs *runs, uint32_t count)
{
    if (count <= runs->capacity)
        return 0;
    uint32_t capacity = runs->capacity ? runs->capacity : 4;
    while (capacity < count)
        capacity *= 2;
    struct mt_run *larger = realloc(runs->at, capacity * sizeof(*larger));
    if (!larger)
        return MANTA_ENOMEM;
    runs->at = larger;
    runs->capacity = capacity;
    return 0;
}

static int equal(const struct mt_run *x, const struct mt_run *y)
{
    return x->written == y->written && x->mask == y->mask;
}

int mt_runs_append(struct mt_runs *runs, struct mt_run run)
{
    if (run.count && runs->count && equal(&runs->at[runs->count - 1], &run)) {
        runs->at[runs->count - 1].count += run.count;
        return 0;
    }
    if (!run.count)
        return 0;
    if (reserve(runs, runs->count + 1))
        return MANTA_ENOMEM;
    runs->at[runs->count++] = run;
    return 0;
}

/* The run that holds a block, or the last one; accesses are mostly near to each other. */
static uint32_t find(struct mt_runs *runs, uint32_t block)
{
    while (runs->near > 0 && runs->near_begin > block)
        runs->near_begin -= runs->at[--runs->near].count;
    while (runs->near + 1 < runs->count && block - runs->near_begin >= runs->at[runs->near].count)
        runs->near_begin += runs->at[runs->near++].count;
    return runs->near;
}

int mt_runs_read(struct mt_runs *from, uint32_t first, uint32_t count, struct mt_runs *to)
{
    if (!from->count)
        return 0;
    uint32_t i = find(from, first);
    uint64_t begin = from->near_begin, end = (uint64_t)first + count;
    for (; i < from->count && begin < end; i++) {
        struct mt_run run = from->at[i];
        uint64_t next = begin + run.count;
        uint64_t low = begin > first ? begin : first, high = next < end ? next : end;
        begin = next;
        if (low >= high)
            continue;
        run.count = (uint32_t)(high - low);
        if (mt_runs_append(to, run))
            return MANTA_ENOMEM;
    }
    return 0;
}

void mt_runs_clear(struct mt_runs *runs)
{
    runs->count = runs->near = runs->near_begin = 0;
}

uint32_t mt_runs_blocks(const struct mt_runs *runs)
{
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < runs->count; i++)
        blocks += runs->at[i].count;
    return blocks;
}

int mt_runs_write(struct mt_runs *runs, uint32_t first, const struct mt_runs *values)
{
    uint32_t count = mt_runs_blocks(values);
    if (!count)
        return 0;
    uint32_t right = find(runs, first + count - 1);
    uint32_t right_end = runs->near_begin + runs->at[right].count;
    uint32_t left = find(runs, first), left_begin = runs->near_begin;
    struct mt_runs middle = {0};
    struct mt_run before = runs->at[left], after = runs->at[right];
    before.count = first - left_begin;
    after.count = right_end - first - count;
    if (before.count == 0 && left > 0) { /* so that equal neighbours join */
        before = runs->at[--left];
        left_begin -= before.count;
    }
    if (after.count == 0 && right + 1 < runs->count)
        after = runs->at[++right];
    int rc = mt_runs_append(&middle, before);
    for (uint32_t i = 0; i < values->count && !rc; i++)
        rc = mt_runs_append(&middle, values->at[i]);
    if (!rc)
        rc = mt_runs_append(&middle, after);
    uint32_t tail = runs->count - right - 1;
    if (!rc)
        rc = reserve(runs, left + middle.count + tail);
    if (!rc) {
        memmove(&runs->at[left + middle.count], &runs->at[right + 1], tail * sizeof(*runs->at));
        memcpy(&runs->at[left], middle.at, middle.count * sizeof(*middle.at));
        runs->count = left + middle.count + tail;
        runs->near = left;
        runs->near_begin = left_begin;
    }
    free(middle.at);
    return rc;
}
