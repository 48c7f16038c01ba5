/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/cpus.h"

#include <sched.h>
#include <string.h>

void mt_cpus_of_thread(struct mt_cpus *cpus_out)
{
    memset(cpus_out, 0, sizeof(*cpus_out));
    if (sched_getaffinity(0, sizeof(cpus_out->words), (cpu_set_t *)(void *)cpus_out->words) != 0)
        memset(cpus_out, 0, sizeof(*cpus_out)); /* a kernel for more CPUs */
}

static int overlap(const struct mt_cpus *a, const struct mt_cpus *b)
{
    for (int w = 0; w < MT_CPUS_WORDS; w++)
        if (a->words[w] & b->words[w])
            return 1;
    return 0;
}

static int is_within(const struct mt_cpus *inner, const struct mt_cpus *outer)
{
    for (int w = 0; w < MT_CPUS_WORDS; w++)
        if (inner->words[w] & ~outer->words[w])
            return 0;
    return 1;
}

static uint32_t size_of(const struct mt_cpus *cpus)
{
    uint32_t size = 0;
    for (int w = 0; w < MT_CPUS_WORDS; w++)
        size += (uint32_t)__builtin_popcountll(cpus->words[w]);
    return size;
}

int mt_cpus_are_shared(const struct mt_cpus *const *ranks, uint32_t count, uint32_t me)
{
    struct mt_cpus reach = *ranks[me];
    uint32_t own = 0, inside = 0;
    int grown = 1;
    if (size_of(&reach) == 0)
        return 0;
    /* More ranks than CPUs inside this rank's own set: they share it wherever others may go. */
    for (uint32_t r = 0; r < count; r++)
        own += size_of(ranks[r]) > 0 && is_within(ranks[r], ranks[me]);
    while (grown) {
        grown = 0;
        for (uint32_t r = 0; r < count; r++) {
            if (!overlap(ranks[r], &reach) || is_within(ranks[r], &reach))
                continue;
            for (int w = 0; w < MT_CPUS_WORDS; w++)
                reach.words[w] |= ranks[r]->words[w];
            grown = 1;
        }
    }
    for (uint32_t r = 0; r < count; r++)
        inside += size_of(ranks[r]) > 0 && is_within(ranks[r], &reach);
    return own > size_of(ranks[me]) || inside > size_of(&reach);
}

uint32_t mt_cpus_crowd(const struct mt_cpus *const *ranks, uint32_t count, uint64_t quota_millicpus)
{
    struct mt_cpus all;
    memset(&all, 0, sizeof(all));
    for (uint32_t r = 0; r < count; r++) {
        for (int w = 0; w < MT_CPUS_WORDS; w++)
            all.words[w] |= ranks[r]->words[w];
    }
    uint64_t millicpus = size_of(&all) * UINT64_C(1000);
    if (quota_millicpus > 0 && (quota_millicpus < millicpus || millicpus == 0))
        millicpus = quota_millicpus;
    uint64_t needed = count * UINT64_C(1000);
    return millicpus == 0 || needed <= millicpus ? 1 : (uint32_t)((needed - 1) / millicpus + 1);
}

static int has(const struct mt_cpus *cpus, uint32_t cpu)
{
    return (int)(cpus->words[cpu / 64] >> cpu % 64 & 1);
}

/* How many lower CPUs of the set are of the same core. */
static uint32_t lower_siblings(const struct mt_cpus *cpus, const uint32_t *core_of, uint32_t cpu)
{
    uint32_t lower = 0;
    for (uint32_t other = 0; other < cpu; other++)
        lower += has(cpus, other) && core_of[other] == core_of[cpu];
    return lower;
}

int mt_cpus_turn(const struct mt_cpus *cpus, const uint32_t core_of[MT_CPUS_MOST], uint32_t rank)
{
    uint32_t size = size_of(cpus), before = 0;
    if (size == 0)
        return -1;
    for (uint32_t round = 0;; round++) {
        for (uint32_t cpu = 0; cpu < MT_CPUS_MOST; cpu++) {
            if (!has(cpus, cpu) || lower_siblings(cpus, core_of, cpu) != round)
                continue;
            if (before++ == rank % size)
                return (int)cpu;
        }
    }
}
