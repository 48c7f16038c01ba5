/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The failure matrix: {each collective} x {shm, tcp, mixed, hierarchical} x {fault} x {before,
 * middle} x {victim is root, is not}, where mixed is two nodes and a flat algorithm, and a fault is
 * to be killed, stopped, late, or to call something else: each argument that the collective takes,
 * and another collective, with many elements and with a few (those go out at once, and nobody need
 * wait). Each cell is a job of four processes:
 * tests/fault/matrix_test.c drives them, matrix_rank.c is one of them.
 */
#ifndef TESTS_SUPPORT_CELLS_H
#define TESTS_SUPPORT_CELLS_H

#include <stdint.h>

#include "tests/support/calls.h"
#include "tests/support/held.h"

enum { CELL_RANKS = 4, CELL_CALLS_BEFORE = 3, CELL_COUNT = 300001, CELL_COUNT_SMALL = 9 };

enum cell_transport { CELL_SHM, CELL_TCP, CELL_MIXED, CELL_HIERARCHICAL, CELL_TRANSPORTS };
enum cell_fault {
    CELL_KILL,
    CELL_STOP,
    CELL_LATE,
    CELL_OTHER_COUNT,
    CELL_OTHER_DTYPE,
    CELL_OTHER_OP,
    CELL_OTHER_ROOT,
    CELL_OTHER_COLLECTIVE,
    CELL_FAULTS
};

struct cell {
    int collective; /* enum manta_collective; MANTA_SEND: a ring of sends and receives */
    int transport, fault;
    /* Killed, stopped, late: 1 while the call is under way (a hook in the sim transport), 0 before
     * it. Something else: 1 when the others are in the call, 0 when the victim is first. */
    int middle;
    int victim; /* root is rank 0 */
    int small;  /* CELL_COUNT_SMALL elements */
};

/* What a rank tells the driver, one line on its standard output. */
struct outcome {
    int code;         /* of the call that failed, or 0 when all succeeded */
    int named_rank;   /* manta_error_info.rank */
    uint64_t at_ns;   /* CLOCK_MONOTONIC when the error was returned */
    struct held left; /* after destroy */
    char sentence[544];
};

/* The number of the faulty call: a barrier comes first, but sends and receives have numbers of
 * their own. */
int cell_number(const struct cell *cell);
int cell_is_mismatch(const struct cell *cell);
/* Does the collective take what the fault changes? */
int cell_makes_sense(const struct cell *cell);
/* What a rank calls as rightly as can be, or what the victim calls. In a ring of sends and receives
 * [0] is the send and [1] the receive. */
void cell_calls(const struct cell *cell, int rank, int wrong, struct test_call calls[2]);
/* The sentences that name the victim's call and another rank's; 1 if `sentence` is one. */
int cell_words_both_calls(const struct cell *cell, const char *sentence);

#endif
