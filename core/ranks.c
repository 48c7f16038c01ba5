/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ranks.h"

#include <stdio.h>
#include <string.h>

enum { RUNS_MAX = 8 };

static uint32_t count_from(const uint8_t *marked, uint32_t first, uint32_t ranks)
{
    uint32_t count = 0;
    for (uint32_t r = first; r < ranks; r++)
        count += marked[r] != 0;
    return count;
}

static void append(char *text, size_t text_bytes, const char *piece)
{
    size_t used = strlen(text);
    snprintf(text + used, text_bytes - used, "%s", piece);
}

int mt_ranks_describe(const uint8_t *marked, uint32_t ranks, char *text, size_t text_bytes)
{
    int lowest = -1, runs = 0;
    char piece[48];
    snprintf(text, text_bytes, "%s", count_from(marked, 0, ranks) == 1 ? "rank " : "ranks ");
    for (uint32_t r = 0; r < ranks; r++) {
        if (!marked[r])
            continue;
        if (runs == RUNS_MAX) {
            snprintf(piece, sizeof piece, " and %u more", count_from(marked, r, ranks));
            append(text, text_bytes, piece);
            break;
        }
        uint32_t last = r;
        while (last + 1 < ranks && marked[last + 1])
            last++;
        if (last == r)
            snprintf(piece, sizeof piece, "%s%u", runs ? ", " : "", r);
        else
            snprintf(piece, sizeof piece, "%s%u-%u", runs ? ", " : "", r, last);
        append(text, text_bytes, piece);
        lowest = lowest < 0 ? (int)r : lowest;
        runs++;
        r = last;
    }
    return lowest;
}
