/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/match.h"

#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

/* Receives by (source, destination, number), in a table with open addressing. */
struct entry {
    uint32_t source, destination, number, step; /* step NONE: free */
};
struct table {
    struct entry *entries;
    uint64_t mask;
};

static uint64_t hash(uint32_t source, uint32_t destination, uint32_t number)
{
    uint64_t x = ((uint64_t)source << 32 | destination) * UINT64_C(0x9e3779b97f4a7c15);
    x ^= (number + (x >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ x >> 31;
}

/* The entry of this message, or the free one where it belongs. */
static struct entry *find(const struct table *table, uint32_t source, uint32_t destination,
                          uint32_t number)
{
    for (uint64_t at = hash(source, destination, number);; at++) {
        struct entry *entry = &table->entries[at & table->mask];
        if (entry->step == MANTA_PLAN_NONE ||
            (entry->source == source && entry->destination == destination &&
             entry->number == number))
            return entry;
    }
}

static int open_table(struct table *table, const struct manta_plan *const *plans, uint32_t ranks)
{
    uint64_t receives = 0, size = 2;
    for (uint32_t r = 0; r < ranks; r++)
        for (uint32_t s = 0; plans[r] && s < plans[r]->step_count; s++)
            receives += plans[r]->steps[s].kind == MANTA_PLAN_RECV;
    while (size < receives * 2)
        size *= 2;
    table->mask = size - 1;
    table->entries = malloc(size * sizeof(*table->entries));
    if (!table->entries)
        return MANTA_ENOMEM;
    memset(table->entries, 0xff, size * sizeof(*table->entries));
    for (uint32_t r = 0; r < ranks; r++) {
        for (uint32_t s = 0; plans[r] && s < plans[r]->step_count; s++) {
            const struct manta_plan_step *step = &plans[r]->steps[s];
            if (step->kind != MANTA_PLAN_RECV)
                continue;
            struct entry *entry = find(table, step->peer, r, step->number);
            if (entry->step == MANTA_PLAN_NONE)
                *entry = (struct entry){step->peer, r, step->number, s};
        }
    }
    return 0;
}

int mt_plan_match_open(struct mt_plan_match *match, const struct manta_plan *const *plans,
                       uint32_t ranks)
{
    struct table table;
    uint64_t total = 0;
    match->partner = NULL;
    match->first = malloc(((size_t)ranks + 1) * sizeof(*match->first));
    if (!match->first || open_table(&table, plans, ranks))
        return MANTA_ENOMEM;
    for (uint32_t r = 0; r < ranks; r++) {
        match->first[r] = total;
        total += plans[r] ? plans[r]->step_count : 0;
    }
    match->first[ranks] = total;
    match->partner = malloc((total + 1) * sizeof(*match->partner));
    if (match->partner)
        memset(match->partner, 0xff, (total + 1) * sizeof(*match->partner));
    for (uint32_t r = 0; match->partner && r < ranks; r++) {
        for (uint32_t s = 0; plans[r] && s < plans[r]->step_count; s++) {
            const struct manta_plan_step *step = &plans[r]->steps[s];
            if (step->kind != MANTA_PLAN_SEND)
                continue;
            struct entry *entry = find(&table, r, step->peer, step->number);
            if (entry->step == MANTA_PLAN_NONE)
                continue;
            uint32_t *theirs = &match->partner[match->first[step->peer] + entry->step];
            if (*theirs != MANTA_PLAN_NONE) /* a second send of that number */
                continue;
            match->partner[match->first[r] + s] = entry->step;
            *theirs = s;
        }
    }
    free(table.entries);
    return match->partner ? 0 : MANTA_ENOMEM;
}

void mt_plan_match_close(struct mt_plan_match *match)
{
    free(match->partner);
    free(match->first);
}

uint32_t mt_plan_find_fused(const struct manta_plan *plan, uint32_t number)
{
    for (uint32_t s = 0; plan && s < plan->step_count; s++)
        if (plan->steps[s].kind == MANTA_PLAN_FUSED && plan->steps[s].number == number)
            return s;
    return MANTA_PLAN_NONE;
}

const struct manta_plan_location *mt_plan_fused_place(const struct manta_plan *plan, uint32_t step,
                                                      int write)
{
    const struct manta_plan_step *at = &plan->steps[step];
    const struct manta_plan_fused *fused = &plan->fused[at->number];
    uint32_t i = 0;
    while (fused->members[i].rank != plan->rank)
        i++;
    uint32_t index = write && fused->members[i].read_count > 0;
    uint32_t count = write ? fused->members[i].write_count : fused->members[i].read_count;
    return count ? &plan->locations[at->location_first + index] : NULL;
}
