/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hazards: two records that touch the same memory, one of them writing, are ordered by a
 * dependency of the later on the earlier (read after write, write after read, write after write).
 * A dependency that others imply is left out, as far as the last WINDOW records tell, so that long
 * plans take time and memory in proportion to their length; the completion order of a lane implies
 * none.
 */
#include "plan/building.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

enum { WINDOW_WORDS = 64, WINDOW = WINDOW_WORDS * 64 };

/* A block of a buffer, or of a scratch region. */
struct cell {
    uint32_t writer;  /* last record that wrote it, or NONE */
    uint32_t readers; /* head of the list of records that have read it since, or NONE */
};
struct reader {
    uint32_t record, next;
};

struct hazards {
    struct mt_plan_builder *b;
    struct cell *cells;     /* SRC blocks, DST blocks, then the slots of each region */
    uint32_t *region_cells; /* first cell of each region */
    uint32_t *origins;      /* of each region's last access, or NONE */
    struct reader *readers;
    uint32_t reader_count, reader_capacity;
    /* For each of the last records (row i mod rows), a bit for each record that must be complete
     * before it is issued: word w of those is at w mod words. */
    uint64_t *before;
    uint32_t rows, words;
    uint32_t *wanted; /* records that the current one conflicts with */
    uint32_t wanted_count, wanted_capacity;
};

uint32_t mt_plan_accesses(const struct mt_plan_builder *b, const struct mt_plan_record *record,
                          struct mt_plan_access accesses[MT_PLAN_ACCESSES])
{
    uint32_t count = 0;
    if (record->step.kind == MANTA_PLAN_FUSED) {
        uint32_t reads = mt_plan_own_member(b, record->step.number)->read_count > 0;
        for (; count < record->step.location_count; count++)
            accesses[count] = (struct mt_plan_access){record->at[count], count >= reads};
    } else {
        int target_first =
            record->step.kind == MANTA_PLAN_COPY || record->step.kind == MANTA_PLAN_REDUCE;
        for (uint32_t i = target_first; i < record->step.location_count; i++)
            accesses[count++] =
                (struct mt_plan_access){record->at[i], record->step.kind == MANTA_PLAN_RECV};
        if (target_first)
            accesses[count++] = (struct mt_plan_access){record->at[0], 1};
    }
    for (uint32_t i = 0; i < count; i++)
        if (b->plan.in_place && accesses[i].at.buffer == MANTA_PLAN_SRC)
            accesses[i].at.buffer = MANTA_PLAN_DST;
    return count;
}

static void want(struct hazards *h, uint32_t on, uint32_t record)
{
    if (on == record || (h->wanted_count && h->wanted[h->wanted_count - 1] == on))
        return;
    uint32_t *slot =
        mt_plan_append(h->b, &h->wanted, &h->wanted_count, &h->wanted_capacity, sizeof(*h->wanted));
    if (slot)
        *slot = on;
}

static void touch(struct hazards *h, struct cell *cell, uint32_t record, int write)
{
    if (cell->writer != MANTA_PLAN_NONE)
        want(h, cell->writer, record);
    if (write) {
        for (uint32_t r = cell->readers; r != MANTA_PLAN_NONE; r = h->readers[r].next)
            want(h, h->readers[r].record, record);
        *cell = (struct cell){record, MANTA_PLAN_NONE};
        return;
    }
    struct reader *reader = mt_plan_append(h->b, &h->readers, &h->reader_count, &h->reader_capacity,
                                           sizeof(*h->readers));
    if (!reader)
        return;
    *reader = (struct reader){record, cell->readers};
    cell->readers = h->reader_count - 1;
}

static void touch_access(struct hazards *h, const struct mt_plan_access *access, uint32_t record)
{
    const struct manta_plan_location *at = &access->at;
    uint32_t first = at->first + (at->buffer == MANTA_PLAN_DST ? h->b->plan.blocks : 0);
    uint32_t count = at->count;
    int write = access->write;
    if (at->buffer == MANTA_PLAN_SCRATCH) {
        first = h->region_cells[at->region] + at->first - at->origin;
        /* Blocks differ in length, so those of another origin may overlap any slot. */
        if (h->origins[at->region] != MANTA_PLAN_NONE && h->origins[at->region] != at->origin) {
            first = h->region_cells[at->region];
            count = h->b->regions[at->region].blocks;
            write = 1;
        }
        h->origins[at->region] = at->origin;
    }
    for (uint32_t i = 0; i < count && mt_plan_going(h->b); i++)
        touch(h, &h->cells[first + i], record, write);
}

static int descending(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, c = *(const uint32_t *)y;
    return (a < c) - (a > c);
}

/* The first word of the window of a record. */
static uint32_t window_of(const struct hazards *h, uint32_t record)
{
    return record / 64 < h->words ? 0 : record / 64 - h->words + 1;
}

/* `record` follows `on`, and what that follows. */
static void follow(struct hazards *h, uint32_t record, uint32_t on)
{
    uint64_t *mine = h->before + (size_t)(record % h->rows) * h->words;
    const uint64_t *theirs = h->before + (size_t)(on % h->rows) * h->words;
    for (uint32_t w = window_of(h, record); w <= on / 64; w++)
        mine[w % h->words] |= theirs[w % h->words];
    mine[on / 64 % h->words] |= UINT64_C(1) << (on % 64);
}

/* Latest first: what an already kept dependency implies is dropped. */
static void keep_needed(struct hazards *h, uint32_t record)
{
    struct mt_plan_builder *b = h->b;
    uint64_t *mine = h->before + (size_t)(record % h->rows) * h->words;
    struct manta_plan_step *step = &b->records[record].step;
    step->depend_first = b->depend_count;
    memset(mine, 0, h->words * sizeof(*mine));
    if (h->wanted_count > 1)
        qsort(h->wanted, h->wanted_count, sizeof(*h->wanted), descending);
    for (uint32_t i = 0; i < h->wanted_count; i++) {
        uint32_t on = h->wanted[i];
        int near = on / 64 >= window_of(h, record);
        if (near ? mine[on / 64 % h->words] >> (on % 64) & 1 : i && h->wanted[i - 1] == on)
            continue;
        uint32_t *slot = mt_plan_append(b, &b->depends, &b->depend_count, &b->depend_capacity,
                                        sizeof(*b->depends));
        if (!slot)
            return;
        *slot = on;
        step->depend_count++;
        if (near)
            follow(h, record, on);
    }
    h->wanted_count = 0;
}

static int open_hazards(struct hazards *h)
{
    struct mt_plan_builder *b = h->b;
    size_t cells = (size_t)b->plan.blocks * 2;
    h->rows = b->record_count < WINDOW ? b->record_count + 1 : WINDOW;
    h->words = h->rows < WINDOW ? h->rows / 64 + 1 : WINDOW_WORDS;
    h->region_cells = calloc(b->region_count + 1, sizeof(*h->region_cells));
    h->origins = calloc(b->region_count + 1, sizeof(*h->origins));
    h->before = malloc((size_t)h->rows * h->words * sizeof(*h->before));
    if (!h->region_cells || !h->origins || !h->before)
        return -1;
    for (uint32_t i = 0; i < b->region_count; i++) {
        h->region_cells[i] = (uint32_t)cells;
        h->origins[i] = MANTA_PLAN_NONE;
        cells += b->regions[i].blocks;
    }
    h->cells = malloc(cells * sizeof(*h->cells));
    if (!h->cells)
        return -1;
    memset(h->cells, 0xff, cells * sizeof(*h->cells)); /* MANTA_PLAN_NONE everywhere */
    return 0;
}

void mt_plan_hazards(struct mt_plan_builder *b)
{
    struct hazards h = {.b = b};
    if (open_hazards(&h))
        mt_error_set(b->error, MANTA_ENOMEM, "no memory for a plan of %u steps; free some",
                     b->record_count);
    for (uint32_t i = 0; i < b->record_count && mt_plan_going(b); i++) {
        struct mt_plan_access accesses[MT_PLAN_ACCESSES];
        uint32_t count = mt_plan_accesses(b, &b->records[i], accesses);
        for (uint32_t k = 0; k < count; k++)
            touch_access(&h, &accesses[k], i);
        keep_needed(&h, i);
    }
    free(h.cells);
    free(h.region_cells);
    free(h.origins);
    free(h.readers);
    free(h.before);
    free(h.wanted);
}
