/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/cells.h"

#include <stdio.h>
#include <string.h>

int cell_number(const struct cell *cell)
{
    return CELL_CALLS_BEFORE + (cell->collective == MANTA_SEND ? 1 : 2);
}

int cell_is_mismatch(const struct cell *cell)
{
    return cell->fault >= CELL_OTHER_COUNT;
}

int cell_makes_sense(const struct cell *cell)
{
    int c = cell->collective;
    if (cell->transport == CELL_HIERARCHICAL && c == MANTA_SEND)
        return 0;
    if (cell->small && (!cell_is_mismatch(cell) || c == MANTA_BARRIER))
        return 0;
    switch (cell->fault) {
    case CELL_OTHER_COUNT:
    case CELL_OTHER_DTYPE:
        return c != MANTA_BARRIER;
    case CELL_OTHER_OP:
        return c == MANTA_ALLREDUCE || c == MANTA_REDUCE || c == MANTA_REDUCE_SCATTER;
    case CELL_OTHER_ROOT:
        return c == MANTA_BROADCAST || c == MANTA_REDUCE;
    case CELL_OTHER_COLLECTIVE: /* instead of a receive it is no mismatch: both may come later */
        return c != MANTA_SEND;
    default:
        return 1;
    }
}

static int other_collective(int collective)
{
    static const int others[MANTA_COLLECTIVE_COUNT] = {
        [MANTA_ALLREDUCE] = MANTA_BROADCAST,      [MANTA_BROADCAST] = MANTA_ALLREDUCE,
        [MANTA_REDUCE] = MANTA_BROADCAST,         [MANTA_ALLGATHER] = MANTA_REDUCE_SCATTER,
        [MANTA_REDUCE_SCATTER] = MANTA_ALLGATHER, [MANTA_BARRIER] = MANTA_REDUCE,
    };
    return others[collective];
}

static void change(const struct cell *cell, struct test_call *call)
{
    switch (cell->fault) {
    case CELL_OTHER_COUNT:
        call->count--;
        break;
    case CELL_OTHER_DTYPE:
        call->dtype = MANTA_INT32; /* as long: nothing but its name tells */
        break;
    case CELL_OTHER_OP:
        call->op = MANTA_MAX;
        break;
    case CELL_OTHER_ROOT:
        call->root = cell->victim ? cell->victim : 1;
        break;
    case CELL_OTHER_COLLECTIVE:
        call->collective = other_collective(call->collective);
        break;
    default:
        break;
    }
}

void cell_calls(const struct cell *cell, int rank, int wrong, struct test_call calls[2])
{
    int is_part = cell->collective == MANTA_ALLGATHER || cell->collective == MANTA_REDUCE_SCATTER;
    uint64_t count = cell->small ? CELL_COUNT_SMALL : CELL_COUNT;
    calls[0] = (struct test_call){.collective = cell->collective,
                                  .dtype = MANTA_FLOAT32,
                                  .op = MANTA_SUM,
                                  .count = is_part ? count / CELL_RANKS : count};
    if (wrong)
        change(cell, &calls[0]);
    calls[1] = calls[0];
    if (cell->collective != MANTA_SEND)
        return;
    calls[1].collective = MANTA_RECV;
    calls[0].root = (rank + 1) % CELL_RANKS;
    calls[1].root = (rank + CELL_RANKS - 1) % CELL_RANKS;
}

/* The calls of two ranks that should fit, worded by either of them. */
static int words(const char *sentence, int number, int a, const struct test_call *call_of_a, int b,
                 const struct test_call *call_of_b)
{
    char one[128], two[128], wanted[400];
    test_call_word(call_of_a, one, sizeof one);
    test_call_word(call_of_b, two, sizeof two);
    snprintf(wanted, sizeof wanted, "rank %d called %s as #%d, rank %d called %s", a, one, number,
             b, two);
    if (strcmp(sentence, wanted) == 0)
        return 1;
    snprintf(wanted, sizeof wanted, "rank %d called %s as #%d, rank %d called %s", b, two, number,
             a, one);
    return strcmp(sentence, wanted) == 0;
}

int cell_words_both_calls(const struct cell *cell, const char *sentence)
{
    struct test_call wrong[2], right[2];
    cell_calls(cell, cell->victim, 1, wrong);
    for (int r = 0; r < CELL_RANKS; r++) {
        cell_calls(cell, r, 0, right);
        int takes_mine = cell->collective != MANTA_SEND || right[1].root == cell->victim;
        int gives_mine = cell->collective == MANTA_SEND && right[0].root == cell->victim;
        if (r == cell->victim)
            continue;
        if (takes_mine && words(sentence, cell_number(cell), cell->victim, &wrong[0], r, &right[1]))
            return 1;
        if (gives_mine && words(sentence, cell_number(cell), cell->victim, &wrong[1], r, &right[0]))
            return 1;
    }
    return 0;
}
