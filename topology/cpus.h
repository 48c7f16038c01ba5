/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of CPUs that ranks may run on, and whether ranks of a node have to share CPUs. */
#ifndef MT_TOPOLOGY_CPUS_H
#define MT_TOPOLOGY_CPUS_H

#include <stdint.h>

/* CPUs from 4,096 on are not looked at. */
enum { MT_CPUS_WORDS = 64, MT_CPUS_MOST = 64 * MT_CPUS_WORDS };

struct mt_cpus {
    uint64_t words[MT_CPUS_WORDS]; /* bit c % 64 of word c / 64: CPU c */
};

/* What the calling thread may run on; all 0 if that cannot be read. */
void mt_cpus_of_thread(struct mt_cpus *cpus_out);

/*
 * 1 if rank `me` of the `count` ranks of a node must share CPUs: some set of ranks that can get
 * into each other's way (their sets overlap, directly or through others) is larger than the number
 * of its CPUs. Ranks whose set is empty (unknown) stay out of it. Pure; count^2 work at most.
 */
int mt_cpus_are_shared(const struct mt_cpus *const *ranks, uint32_t count, uint32_t me);

/* How many of the `count` ranks of a node there are for each of the CPUs that they may run on, all
 * together, and of which they may use quota_millicpus / 1000 at a time (0: all); rounded up. Unlike
 * the above it is the same for all of them. 1 if it is not known. Pure. */
uint32_t mt_cpus_crowd(const struct mt_cpus *const *ranks, uint32_t count,
                       uint64_t quota_millicpus);

/* The CPU of `cpus` for rank `rank`, where ranks take them in turn: one of each core before a
 * second one of any. core_of: by CPU, a number of its core. -1: there is no CPU. Pure; as much work
 * as the square of the CPUs times the threads of a core. */
int mt_cpus_turn(const struct mt_cpus *cpus, const uint32_t core_of[MT_CPUS_MOST], uint32_t rank);

#endif
