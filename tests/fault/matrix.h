/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The failure matrix: {each collective} x {shm, tcp, mixed} x {kill, stop, late, mismatch} x
 * {before, middle} x {victim is root, is not}. Each cell is a job of four processes: matrix_test.c
 * drives them, matrix_rank.c is one of them.
 */
#ifndef TESTS_FAULT_MATRIX_H
#define TESTS_FAULT_MATRIX_H

#include <stdint.h>

enum { CELL_RANKS = 4, CELL_CALLS_BEFORE = 3, CELL_COUNT = 300001 };

enum cell_transport { CELL_SHM, CELL_TCP, CELL_MIXED, CELL_TRANSPORTS };
enum cell_fault { CELL_KILL, CELL_STOP, CELL_LATE, CELL_MISMATCH, CELL_FAULTS };

struct cell {
    int collective; /* enum manta_collective; MANTA_SEND: a ring of sends and receives */
    int transport, fault;
    int middle; /* 1: while the call is under way (a hook in the sim transport), 0: before it */
    int victim; /* root is rank 0 */
};

/* What a rank tells the driver, one line on its standard output. */
struct outcome {
    int code;       /* of the call that failed, or 0 when all succeeded */
    int named_rank; /* manta_error_info.rank */
    uint64_t at_ns; /* CLOCK_MONOTONIC when the error was returned */
    int leaked;     /* descriptors, threads and mappings left after destroy */
    char sentence[544];
};

#endif
