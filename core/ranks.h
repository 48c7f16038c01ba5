/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of ranks in words. */
#ifndef MT_CORE_RANKS_H
#define MT_CORE_RANKS_H

#include <stddef.h>
#include <stdint.h>

/* "rank 3", "ranks 1, 3-5", "ranks 1, 3-5 and 40 more": those with marked[r] not 0. Returns the
 * lowest, or -1 if there is none. */
int mt_ranks_describe(const uint8_t *marked, uint32_t ranks, char *text, size_t text_bytes);

#endif
