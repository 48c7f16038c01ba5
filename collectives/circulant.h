/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The circulant graph of Träff's algorithms: ranks v and v + skip are neighbours, for skips that
 * halve, rounded up, from the number of ranks down to 1. And the schedule by which rank 0 sends
 * pieces to all others in the least number of rounds: pieces - 1 + ceil(log2 n).
 */
#ifndef MT_COLLECTIVES_CIRCULANT_H
#define MT_COLLECTIVES_CIRCULANT_H

#include <stdint.h>

#include "plan/algorithm.h"

enum { MT_CIRCULANT_SKIPS = 33 };

/* 1 = skip[0] < ... < skip[q] = n, each half of the next, rounded up. Returns q = ceil(log2 n). */
uint32_t mt_circulant_skips(uint32_t n, uint32_t skip[MT_CIRCULANT_SKIPS]);

/* With as many blocks as ranks, in ceil(log2 n) rounds. A rank that has sums for skip[k + 1] ranks,
 * itself and the following, hands those of the farther half to the rank skip[k] ahead; and back:
 * one that has the blocks of skip[k] ranks gets the next ones from the rank that far ahead. */
void mt_circulant_reduce_scatter(struct mt_plan_builder *p);
void mt_circulant_allgather(struct mt_plan_builder *p);

/* What a rank receives in rounds k, k + q, k + 2q, ...: piece base, base + q, base + 2q, ...; none
 * while that is negative, and the last piece instead of all beyond it, but in one round only. */
struct mt_circulant_row {
    int64_t base;
    uint64_t last_round; /* in which it receives the last piece */
};
struct mt_circulant {
    uint32_t q, pieces;
    uint32_t first, end; /* rounds are first .. end - 1 */
    uint32_t skip[MT_CIRCULANT_SKIPS];
    struct mt_circulant_row mine[MT_CIRCULANT_SKIPS]; /* from v - skip[k] */
    struct mt_circulant_row next[MT_CIRCULANT_SKIPS]; /* what v + skip[k] receives from v */
};

/* For rank v of n, with 0 as the root: skip[k] is the distance in rounds k, k + q, ... */
void mt_circulant_schedule(uint32_t n, uint32_t v, uint32_t pieces, struct mt_circulant *out);
/* The piece that is sent along a row in this round, or -1. */
int64_t mt_circulant_piece(const struct mt_circulant *schedule, const struct mt_circulant_row *rows,
                           uint32_t round);

#endif
